//! Object stores: S3 and what speaks like it, Azure Blob Storage, Google Cloud Storage.

mod fault;
mod open;
mod s3;
mod upload;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

pub(crate) use self::open::open;
use self::s3::Unfinished;
use super::storage::Children;
use super::{Item, Storage};
use crate::manifest::StreamDigest;
use crate::pipe::{self, ByteStream};
use crate::repository::RepositoryError;
use crate::repository::url::StoreUrl;

/// How many parts may be on their way at a time, besides the one that each upload is filling. With four uploads this is
/// 72 MiB.
const PARTS_IN_FLIGHT: usize = 5;

/// Small enough for memory, large enough for speed. The first half of an object's parts have this size.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// An upload is as old as its beginning, and a large one may still go on after a day.
const LONGEST_UPLOAD: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(crate) struct CloudStorage {
    store: Arc<dyn ObjectStore>,
    url: StoreUrl,
    part_size: usize,
    in_flight: Arc<Semaphore>,
    /// Whether the server is thought to know `If-None-Match`.
    conditional_writes: AtomicBool,
    /// Where the server can list uploads that were never finished.
    unfinished: Option<Unfinished>,
}

impl CloudStorage {
    fn path(&self, key: &str) -> Result<Path, RepositoryError> {
        let full = match (self.url.prefix.as_str(), key.trim_end_matches('/')) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}/{key}"),
        };
        Path::parse(&full).map_err(|error| self.fault("name", key, &error.into()))
    }

    /// The key of an object below our prefix.
    fn key(&self, path: &Path) -> Option<String> {
        let below = match self.url.prefix.as_str() {
            "" => path.as_ref(),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Some(below.to_owned())
    }

    fn item(&self, meta: &ObjectMeta) -> Option<Item> {
        Some(Item {
            key: self.key(&meta.location)?,
            bytes: meta.size,
            modified: meta.last_modified.into(),
        })
    }

    fn attributes(&self) -> Attributes {
        let class = self.url.options.storage_class.clone();
        class
            .map(|class| (Attribute::StorageClass, class))
            .into_iter()
            .collect()
    }

    fn fault(
        &self,
        action: &'static str,
        key: &str,
        error: &object_store::Error,
    ) -> RepositoryError {
        let place = match key {
            "" => self.location(),
            key => format!("{key} in {}", self.location()),
        };
        fault::explain(self.url.scheme, action, place, error)
    }
}

#[async_trait]
impl Storage for CloudStorage {
    async fn create(&self, key: &str, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        let path = self.path(key)?;
        match self.store.head(&path).await {
            Ok(_) => return Err(RepositoryError::Exists(key.to_owned())),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.fault("check for", key, &error)),
        }
        let upload = upload::Upload {
            store: &self.store,
            path: &path,
            attributes: self.attributes(),
            part_size: self.part_size,
            in_flight: &self.in_flight,
            conditional_writes: &self.conditional_writes,
        };
        upload.run(body).await.map_err(|error| match error {
            upload::UploadError::Body(error) => RepositoryError::Body(error),
            upload::UploadError::Exists => RepositoryError::Exists(key.to_owned()),
            upload::UploadError::TooLong(limit) => RepositoryError::Remote {
                action: "store",
                place: format!("{key} in {}", self.location()),
                why: format!("it has more than {limit} bytes, the most that fits into the parts of one upload"),
                hint: Some("use larger parts, with `part-size=64MiB` in the URL".to_owned()),
                refused: false,
            },
            upload::UploadError::Store(error) => self.fault("store", key, &error),
        })
    }

    async fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let payload = PutPayload::from(bytes.to_vec());
        let stored = self.store.put(&self.path(key)?, payload).await;
        stored
            .map(drop)
            .map_err(|error| self.fault("store", key, &error))
    }

    async fn open(&self, key: &str) -> Result<Option<(u64, ByteStream)>, RepositoryError> {
        let path = self.path(key)?;
        let got = match self.store.get(&path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault("read", key, &error)),
        };
        let length = got.meta.size;
        let what = format!("{key} in {}", self.location());
        let scheme = self.url.scheme;
        let chunks = got.into_stream().map_err(move |error| {
            std::io::Error::other(fault::explain(scheme, "read", what.clone(), &error))
        });
        Ok(Some((length, pipe::exactly(length, chunks))))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Item>, RepositoryError> {
        let path = self.path(prefix)?;
        self.store
            .list(Some(&path))
            .try_filter_map(async |meta| Ok(self.item(&meta)))
            .try_collect()
            .await
            .map_err(|error| self.fault("list", prefix, &error))
    }

    async fn children(&self, prefix: &str) -> Result<Children, RepositoryError> {
        let path = self.path(prefix)?;
        let listed = self.store.list_with_delimiter(Some(&path)).await;
        let listed = listed.map_err(|error| self.fault("list", prefix, &error))?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        Ok(Children {
            directories: listed.common_prefixes.iter().filter_map(name).collect(),
            files: listed
                .objects
                .iter()
                .filter_map(|meta| name(&meta.location))
                .collect(),
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), RepositoryError> {
        let paths: Vec<_> = keys
            .iter()
            .map(|key| self.path(key))
            .collect::<Result<_, _>>()?;
        let paths = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.fault("delete from", "", &error)),
            }
        }
        Ok(())
    }

    async fn sweep_unfinished(
        &self,
        prefix: &str,
        age: Duration,
    ) -> Result<Vec<String>, RepositoryError> {
        match &self.unfinished {
            Some(unfinished) => {
                let age = age.max(LONGEST_UPLOAD);
                Ok(unfinished.sweep(&self.path(prefix)?, age).await)
            }
            None => Ok(Vec::new()),
        }
    }

    fn location(&self) -> String {
        self.url.to_string()
    }
}

#[cfg(test)]
mod tests;
