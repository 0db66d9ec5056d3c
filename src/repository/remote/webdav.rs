//! WebDAV servers (RFC 4918): Apache's mod_dav, Nextcloud and their like.
//!
//! An object is sent under a hidden name into the collection that it is to lie in, looked at, and renamed to a name that
//! must be free.

mod address;
mod claim;
mod client;
mod fault;
mod listing;
mod upload;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use self::client::Client;
use super::directories::{self, Directories, Entry, Kind, Publish, Unfinished, directory_of};
use super::fault::Errand;
use super::storage::Children;
use super::{Item, Storage};
use crate::manifest::StreamDigest;
use crate::pipe::{self, ByteStream};
use crate::repository::credentials::Credentials;
use crate::repository::url::StoreUrl;
use crate::repository::{OpenError, RepositoryError};
use crate::secret::Secret;
use crate::trust;

/// How long a server may be away or busy.
const OUTAGE_LIMIT: Duration = Duration::from_secs(60);

/// How many objects are deleted at a time.
const DELETIONS: usize = 8;

pub(crate) struct WebDavStorage {
    client: Arc<Client>,
    /// Collections that are known to be there.
    collections: Mutex<HashSet<String>>,
}

/// `credentials` are resolved.
pub(crate) fn open(url: &StoreUrl, credentials: &Credentials) -> Result<WebDavStorage, OpenError> {
    open_with_patience(url, credentials, OUTAGE_LIMIT)
}

fn open_with_patience(
    url: &StoreUrl,
    credentials: &Credentials,
    patience: Duration,
) -> Result<WebDavStorage, OpenError> {
    let wrong = |why: &str| OpenError::Settings {
        place: url.to_string(),
        why: why.to_owned(),
    };
    let user = match (
        credentials.get("WEBDAV_USER"),
        credentials.get("WEBDAV_PASSWORD"),
    ) {
        (Some(name), Some(password)) => Some((name.to_owned(), Secret::new(password))),
        (None, None) => None,
        (Some(_), None) => {
            return Err(wrong(
                "WEBDAV_USER is set without a password; set WEBDAV_PASSWORD or WEBDAV_PASSWORD_FILE too",
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                "WEBDAV_PASSWORD is set without a user; set WEBDAV_USER too",
            ));
        }
    };
    let tls = trust::client_config(url.options.ca_file.as_deref())?;
    Ok(WebDavStorage {
        client: Arc::new(Client::new(url, user, tls, patience)),
        collections: Mutex::default(),
    })
}

impl WebDavStorage {
    /// Makes the collection that `key` lies in, and those above it, where they are missing.
    async fn ensure_collection_of(&self, key: &str) -> Result<(), RepositoryError> {
        let collection = directory_of(key);
        if self.collections().contains(collection) {
            return Ok(());
        }
        let errand = Errand {
            action: "create the collections of",
            key,
        };
        let urls = self.client.address.collections_down_to(collection);
        let mut there = urls.len();
        while there > 0 && self.is_missing(errand, &urls[there - 1]).await? {
            there -= 1;
        }
        for url in &urls[there..] {
            self.client.make_collection(errand, url).await?;
        }
        self.collections().insert(collection.to_owned());
        Ok(())
    }

    async fn is_missing(&self, errand: Errand<'_>, url: &str) -> Result<bool, RepositoryError> {
        Ok(self.client.listing(errand, url, "0").await?.is_none())
    }

    fn collections(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A server deletes a collection with all that lies in it: this one must still be empty.
    async fn delete_if_empty(&self, collection: &str) -> Result<bool, RepositoryError> {
        let is_empty = self
            .entries(collection)
            .await?
            .is_none_or(|it| it.is_empty());
        self.collections().remove(collection);
        Ok(is_empty && self.client.delete(collection).await?)
    }
}

#[async_trait]
impl Directories for WebDavStorage {
    async fn entries(&self, prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError> {
        let errand = Errand {
            action: "list",
            key: prefix,
        };
        let url = self.client.address.of(prefix);
        let listing = self.client.listing(errand, &url, "1").await?;
        Ok(listing.map(|listing| listing.children))
    }

    fn place(&self) -> String {
        self.client.location().to_owned()
    }
}

#[async_trait]
impl Storage for WebDavStorage {
    async fn create(&self, key: &str, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        if self.client.look_at(key).await?.is_some() {
            return Err(RepositoryError::Exists(key.to_owned()));
        }
        self.ensure_collection_of(key).await?;
        upload::store(&self.client, key, body, Publish::New).await
    }

    async fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.ensure_collection_of(key).await?;
        let body: ByteStream = Box::pin(std::io::Cursor::new(bytes.to_vec()));
        upload::store(&self.client, key, body, Publish::Over).await?;
        Ok(())
    }

    async fn open(&self, key: &str) -> Result<Option<(u64, ByteStream)>, RepositoryError> {
        let Some(response) = self.client.get(key).await? else {
            return Ok(None);
        };
        let length = match response.content_length() {
            Some(length) => length,
            None => match self.client.look_at(key).await? {
                Some(Kind::File { bytes }) => bytes,
                _ => return Ok(None),
            },
        };
        let client = Arc::clone(&self.client);
        let key = key.to_owned();
        let chunks = response.bytes_stream().map_err(move |error| {
            let errand = Errand {
                action: "read",
                key: &key,
            };
            std::io::Error::other(client.unanswered(errand, &error))
        });
        Ok(Some((length, pipe::exactly(length, chunks))))
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
            .map(|key| async move { self.client.delete(&key).await })
            .buffer_unordered(DELETIONS)
            .try_for_each(async |_| Ok(()))
            .await
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
            if self.client.delete(&file).await? {
                removed.push(file);
            }
        }
        for collection in unfinished.directories {
            if self.delete_if_empty(&collection).await? {
                removed.push(collection);
            }
        }
        Ok(removed)
    }

    fn location(&self) -> String {
        self.client.location().to_owned()
    }
}

#[cfg(test)]
mod tests;
