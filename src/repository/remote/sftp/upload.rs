//! A stream on its way into an object: into a hidden file first, which gets its own name when all of it is on the disk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh_sftp::client::fs::File;
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::directories::{Publish, directory_of, partial_key};
use super::super::fault::{Errand, Fault};
use super::connection::Connection;
use super::fault::is_missing;
use super::login::Session;
use crate::manifest::StreamDigest;
use crate::pipe::{ByteStream, Digester};
use crate::repository::RepositoryError;

const CHUNK: usize = 256 * 1024;

/// How often a directory is made that others take away while it is empty.
const TRIES: usize = 10;

/// Below this there is no space.
const NO_SPACE: u64 = 1024 * 1024;

/// How long a server is waited for that has just failed.
const ASKING: Duration = Duration::from_secs(30);

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

pub(super) async fn store(
    connection: &Arc<Connection>,
    key: &str,
    body: ByteStream,
    publish: Publish,
) -> Result<StreamDigest, RepositoryError> {
    let upload = Upload {
        connection,
        publish,
        errand: Errand {
            action: "store",
            key,
        },
        partial: Partial {
            connection: Arc::clone(connection),
            key: Some(partial_key(key)),
        },
    };
    upload.run(body).await
}

struct Upload<'a> {
    connection: &'a Connection,
    publish: Publish,
    errand: Errand<'a>,
    partial: Partial,
}

impl Upload<'_> {
    async fn run(mut self, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        let outcome = match self.send(body).await {
            Ok(digest) => self.publish(digest.bytes).await.map(|()| digest),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(_) => self.partial.key = None,
            Err(_) => self.partial.take_back().await,
        }
        outcome
    }

    async fn send(&self, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        let (session, file) = self.begin().await?;
        let digest = match write(body, file).await {
            Ok(digest) => digest,
            Err(WriteError::Body(error)) => return Err(RepositoryError::Body(error)),
            Err(WriteError::Server(error)) => return Err(self.refused(&session, &error).await),
        };
        let found = self.length_of(self.partial.key()).await?;
        if found != Some(digest.bytes) {
            let found = found.map_or("nothing".to_owned(), |bytes| format!("{bytes} bytes"));
            let why = format!(
                "the server has {found} of it, but {} were sent",
                digest.bytes
            );
            return Err(self.connection.failed(self.errand, Fault::new(why)));
        }
        Ok(digest)
    }

    /// Opens the hidden file, in a directory that is made where it is missing.
    async fn begin(&self) -> Result<(Arc<Session>, File), RepositoryError> {
        let path = self.connection.path(self.partial.key());
        let mut tries = TRIES;
        loop {
            let opening = self.connection.attempt(self.errand, |session| {
                let path = path.clone();
                async move {
                    let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE;
                    let file = session
                        .sftp
                        .open_with_flags_and_attributes(path, flags, mode(FILE_MODE))
                        .await?;
                    Ok((session, file))
                }
            });
            match opening.await? {
                Ok(opened) => return Ok(opened),
                Err(error) if is_missing(&error) && tries > 0 => tries -= 1,
                Err(error) => {
                    return Err(self.connection.failed(self.errand, Fault::from(&error)));
                }
            }
            self.make_directories().await?;
        }
    }

    /// Makes the directory that the object lies in, and those above it, where they are missing.
    async fn make_directories(&self) -> Result<(), RepositoryError> {
        let path = self.connection.path(directory_of(self.errand.key));
        let all = with_those_above(&path);
        let mut there = all.len();
        while there > 0 && !self.is_there(all[there - 1]).await? {
            there -= 1;
        }
        for path in &all[there..] {
            let making = self.connection.attempt(self.errand, |session| {
                let path = (*path).to_owned();
                async move {
                    session.sftp.create_dir(path.as_str()).await?;
                    session.sftp.set_metadata(path, mode(DIRECTORY_MODE)).await
                }
            });
            match making.await? {
                Ok(()) => {}
                // Another run was quicker, or took it away again: opening the file tells.
                Err(error) if is_missing(&error) || self.is_there(path).await? => {}
                Err(error) => {
                    return Err(self.connection.failed(self.errand, Fault::from(&error)));
                }
            }
        }
        Ok(())
    }

    async fn is_there(&self, path: &str) -> Result<bool, RepositoryError> {
        let looking = self.connection.attempt(self.errand, |session| {
            let path = path.to_owned();
            async move { session.sftp.metadata(path).await }
        });
        match looking.await? {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(self.connection.failed(self.errand, Fault::from(&error))),
        }
    }

    async fn length_of(&self, key: &str) -> Result<Option<u64>, RepositoryError> {
        let file = self.connection.look_at(key).await?;
        Ok(file.and_then(|attributes| attributes.size))
    }

    /// Gives the file its name. The protocol's own rename fails when that is taken.
    async fn publish(&self, bytes: u64) -> Result<(), RepositoryError> {
        let from = self.connection.path(self.partial.key());
        let to = self.connection.path(self.errand.key);
        let renaming = self.connection.attempt(self.errand, |session| {
            let (from, to) = (from.clone(), to.clone());
            async move {
                match self.publish {
                    Publish::New => session.sftp.rename(from, to).await,
                    Publish::Over => session.rename_over(from, to).await,
                }
            }
        });
        let Err(error) = renaming.await? else {
            return Ok(());
        };
        let there = self.length_of(self.errand.key).await?;
        let is_gone = self.connection.look_at(self.partial.key()).await?.is_none();
        match there {
            // An answer got lost, and the rename was asked for again: nobody else can have taken the hidden name.
            Some(length) if is_gone && length == bytes => Ok(()),
            Some(_) if matches!(self.publish, Publish::New) => {
                Err(RepositoryError::Exists(self.errand.key.to_owned()))
            }
            _ => Err(self.connection.failed(self.errand, Fault::from(&error))),
        }
    }

    /// A server has no word for a full disk, but may tell how full it is.
    async fn refused(&self, session: &Session, error: &io::Error) -> RepositoryError {
        let mut fault = Fault::from(error);
        let root = self.connection.path("");
        let asking = session.sftp.fs_info(root);
        if let Ok(Ok(Some(disk))) = tokio::time::timeout(ASKING, asking).await
            && disk.blocks_avail.saturating_mul(disk.fragment_size) < NO_SPACE
        {
            fault = Fault::hinting(
                "no space left there",
                "make room there, or name another place",
            );
        }
        self.connection.failed(self.errand, fault)
    }
}

enum WriteError {
    /// The stream itself failed.
    Body(io::Error),
    Server(io::Error),
}

/// Returns when the content will survive a loss of power, where the server can tell.
async fn write(mut body: ByteStream, mut file: File) -> Result<StreamDigest, WriteError> {
    let mut digester = Digester::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = body.read(&mut chunk).await.map_err(WriteError::Body)?;
        if length == 0 {
            break;
        }
        digester.update(&chunk[..length]);
        file.write_all(&chunk[..length])
            .await
            .map_err(WriteError::Server)?;
    }
    // Waits for all answers, and syncs.
    file.flush().await.map_err(WriteError::Server)?;
    file.close().await.map_err(WriteError::Server)?;
    Ok(digester.finish())
}

fn mode(bits: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(bits),
        ..FileAttributes::empty()
    }
}

/// `/a`, `/a/b`, `/a/b/c`; or `a`, `a/b` of a path that begins in the user's home.
fn with_those_above(path: &str) -> Vec<&str> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.chain([path.len()])
        .map(|end| &path[..end])
        .filter(|path| !path.is_empty())
        .collect()
}

/// A hidden file, which is taken away when this is dropped.
struct Partial {
    connection: Arc<Connection>,
    /// `None` when there is nothing to take away any more.
    key: Option<String>,
}

impl Partial {
    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    async fn take_back(&mut self) {
        let deleting = self.connection.delete(self.key());
        if let Ok(Ok(_)) = tokio::time::timeout(ASKING, deleting).await {
            self.key = None;
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let (Some(key), Ok(runtime)) = (self.key.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let connection = Arc::clone(&self.connection);
        runtime.spawn(async move {
            if let Err(error) = connection.delete(&key).await {
                tracing::warn!("the partial upload stays until the next sweep: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_from_the_top() {
        assert_eq!(with_those_above("/srv/a/b"), ["/srv", "/srv/a", "/srv/a/b"]);
        assert_eq!(with_those_above("a/b"), ["a", "a/b"]);
        assert!(with_those_above("/").len() < 2);
    }
}
