//! SFTP servers: version 3 of the protocol, as OpenSSH speaks it.
//!
//! An object is written under a hidden name into the directory that it is to lie in, synced where the server can, and
//! renamed to a name that must be free. Everything goes over one connection, which is made anew when it breaks.

mod connection;
mod fault;
mod host_key;
mod login;
mod upload;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use russh::keys::PrivateKey;
use tokio_util::io::ReaderStream;

use self::connection::Connection;
use self::fault::none_if_missing;
use self::host_key::HostKeys;
use self::login::Account;
use super::directories::{self, Directories, Entry, Kind, Publish, Unfinished, directory_of};
use super::fault::{Errand, Fault};
use super::storage::Children;
use super::{Item, Storage};
use crate::manifest::StreamDigest;
use crate::pipe::{self, ByteStream};
use crate::repository::credentials::Credentials;
use crate::repository::url::StoreUrl;
use crate::repository::{OpenError, RepositoryError};
use crate::secret::Secret;

const DEFAULT_PORT: u16 = 22;

/// How long it is tried to reach a server.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// What is handed on at a time of an object that is read.
const CHUNK: usize = 128 * 1024;

/// How many objects are deleted at a time.
const DELETIONS: usize = 8;

pub(crate) struct SftpStorage {
    connection: Arc<Connection>,
}

/// `credentials` are resolved.
pub(crate) fn open(url: &StoreUrl, credentials: &Credentials) -> Result<SftpStorage, OpenError> {
    open_with_patience(url, credentials, CONNECT_LIMIT)
}

fn open_with_patience(
    url: &StoreUrl,
    credentials: &Credentials,
    patience: Duration,
) -> Result<SftpStorage, OpenError> {
    let wrong = |why: String| OpenError::Settings {
        place: url.to_string(),
        why,
    };
    let Some(user) = url.user.clone() else {
        return Err(wrong(
            "it names no user; write `sftp://user@host/path`".to_owned(),
        ));
    };
    let (host, port) = host_and_port(&url.authority).ok_or_else(|| {
        wrong("it names no host with a port; write `host`, `host:2222` or `[::1]:22`".to_owned())
    })?;
    let key = url.options.key_file.as_deref().map(private_key);
    let key = key.transpose().map_err(wrong)?;
    let password = credentials.get("SFTP_PASSWORD").map(Secret::new);
    if key.is_none() && password.is_none() {
        return Err(wrong(
            "no way to log in is configured; name a private key with `key-file=` in the URL, or set SFTP_PASSWORD or SFTP_PASSWORD_FILE".to_owned(),
        ));
    }
    let account = Account {
        host_keys: Arc::new(HostKeys {
            file: url.options.known_hosts.clone(),
            host,
            port,
        }),
        user,
        key: key.map(Arc::new),
        password,
    };
    let connection = Connection::new(account, root(&url.prefix), url.to_string(), patience);
    Ok(SftpStorage {
        connection: Arc::new(connection),
    })
}

/// An IPv6 address stands in brackets, and comes out without.
fn host_and_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port? {
        "" => DEFAULT_PORT,
        port => port.parse().ok()?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// A path begins at the server's root, or with `~` in the user's home, where a session begins.
fn root(prefix: &str) -> String {
    match prefix.strip_prefix('~') {
        Some("") => ".".to_owned(),
        Some(rest) if rest.starts_with('/') => rest[1..].to_owned(),
        _ if prefix.is_empty() => String::new(),
        _ => format!("/{prefix}"),
    }
}

/// The error says what to do; it repeats nothing of the file.
fn private_key(path: &Path) -> Result<PrivateKey, String> {
    let told = |why: &str, what: &str| format!("the key in {} {why}; {what}", path.display());
    let new_one = "make one for cofferdam alone: `ssh-keygen -t ed25519 -N '' -f FILE`";
    match russh::keys::load_secret_key(path, None) {
        Ok(key) if key.algorithm().is_rsa() => {
            Err(told("is an RSA key, which is not supported", new_one))
        }
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(told(
            "has a passphrase, which cannot be entered here",
            &format!("remove it with `ssh-keygen -p -N '' -f FILE`, or {new_one}"),
        )),
        Err(russh::keys::Error::IO(error)) => Err(format!(
            "cannot read {}, which `key-file=` names: {error}",
            path.display()
        )),
        Err(_) => Err(told("is not an OpenSSH private key", new_one)),
    }
}

impl SftpStorage {
    async fn open_file(&self, key: &str) -> Result<Option<(u64, ByteStream)>, RepositoryError> {
        let errand = Errand {
            action: "read",
            key,
        };
        let path = self.connection.path(key);
        let opened = self
            .connection
            .run(errand, |session| {
                let path = path.clone();
                async move {
                    let Some(file) = none_if_missing(session.sftp.open(path).await)? else {
                        return Ok(None);
                    };
                    let attributes = file.metadata().await?;
                    Ok(Some((session, file, attributes)))
                }
            })
            .await?;
        let Some((session, file, attributes)) = opened else {
            return Ok(None);
        };
        let (true, Some(length)) = (attributes.is_regular(), attributes.size) else {
            let fault = Fault::new("it is not a regular file");
            return Err(self.connection.failed(errand, fault));
        };
        let connection = Arc::clone(&self.connection);
        let key = key.to_owned();
        let chunks = ReaderStream::with_capacity(file, CHUNK).map_err(move |error| {
            // The session lives as long as the file is read.
            let _ = &session;
            let errand = Errand {
                action: "read",
                key: &key,
            };
            std::io::Error::other(connection.failed(errand, Fault::from(&error)))
        });
        Ok(Some((length, pipe::exactly(length, chunks))))
    }

    /// A directory in which something lies cannot be removed this way.
    async fn remove_directory(&self, key: &str) -> Result<bool, RepositoryError> {
        let errand = Errand {
            action: "delete",
            key,
        };
        let path = self.connection.path(key);
        let removed = self
            .connection
            .attempt(errand, |session| {
                let path = path.clone();
                async move { session.sftp.remove_dir(path).await }
            })
            .await?;
        Ok(removed.is_ok())
    }

    /// Removes directories that have become empty, and those above them, but for the place itself.
    async fn remove_empty_directories(&self, keys: &[String]) -> Result<(), RepositoryError> {
        let directories: BTreeSet<&str> = keys.iter().map(|key| directory_of(key)).collect();
        for mut directory in directories {
            while !directory.is_empty() && self.remove_directory(directory).await? {
                directory = directory_of(directory.trim_end_matches('/'));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Directories for SftpStorage {
    async fn entries(&self, prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError> {
        let errand = Errand {
            action: "list",
            key: prefix,
        };
        let path = self.connection.path(prefix);
        let entries = self
            .connection
            .run(errand, |session| {
                let path = path.clone();
                async move { none_if_missing(session.sftp.read_dir(path).await) }
            })
            .await?;
        let Some(entries) = entries else {
            return Ok(None);
        };
        let entries = entries.filter_map(|entry| {
            let attributes = entry.metadata();
            let kind = match (entry.file_type(), attributes.size) {
                (kind, _) if kind.is_dir() => Kind::Directory,
                (kind, Some(bytes)) if kind.is_file() => Kind::File { bytes },
                // A symbolic link, a device, a socket …
                _ => return None,
            };
            let seconds = attributes.mtime.map(u64::from);
            let modified =
                seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            Some(Entry {
                name: entry.file_name(),
                kind,
                // Unknown is young: nothing is taken for left over on doubt.
                modified: modified.unwrap_or_else(SystemTime::now),
            })
        });
        Ok(Some(entries.collect()))
    }

    fn place(&self) -> String {
        self.connection.location().to_owned()
    }
}

#[async_trait]
impl Storage for SftpStorage {
    async fn create(&self, key: &str, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        if self.connection.look_at(key).await?.is_some() {
            return Err(RepositoryError::Exists(key.to_owned()));
        }
        upload::store(&self.connection, key, body, Publish::New).await
    }

    async fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let body: ByteStream = Box::pin(std::io::Cursor::new(bytes.to_vec()));
        upload::store(&self.connection, key, body, Publish::Over).await?;
        Ok(())
    }

    async fn open(&self, key: &str) -> Result<Option<(u64, ByteStream)>, RepositoryError> {
        self.open_file(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Item>, RepositoryError> {
        directories::walk(self, prefix)
            .await
            .map(directories::items)
    }

    async fn children(&self, prefix: &str) -> Result<Children, RepositoryError> {
        directories::children(self, prefix).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), RepositoryError> {
        stream::iter(keys.to_vec())
            .map(|key| async move { self.connection.delete(&key).await })
            .buffer_unordered(DELETIONS)
            .try_for_each(async |_| Ok(()))
            .await?;
        self.remove_empty_directories(keys).await
    }

    async fn sweep_unfinished(
        &self,
        prefix: &str,
        age: Duration,
    ) -> Result<Vec<String>, RepositoryError> {
        let found = directories::walk(self, prefix).await?;
        let unfinished = Unfinished::among(&found, age);
        let mut removed = Vec::new();
        for file in unfinished.files {
            if self.connection.delete(&file).await? {
                removed.push(file);
            }
        }
        for directory in unfinished.directories {
            if self.remove_directory(&directory).await? {
                removed.push(directory);
            }
        }
        Ok(removed)
    }

    fn location(&self) -> String {
        self.connection.location().to_owned()
    }
}

#[cfg(test)]
mod tests;
