//! A repository on a server: an object store, a WebDAV or an SFTP server, each behind [`Storage`].
//!
//! The layout is that of a local repository, with keys instead of paths. An object store shows an object only when it is
//! whole; other servers get it under a hidden name first. What a killed upload leaves behind shows in no listing;
//! [`Repository::sweep`] removes it where the server tells of it.

mod backoff;
pub(crate) mod cloud;
mod directories;
mod fault;
mod http;
pub(crate) mod sftp;
mod storage;
mod sweep;
#[cfg(test)]
mod test_server;
pub(crate) mod webdav;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use self::fault::{Errand, Fault};
use self::storage::Children;
pub(crate) use self::storage::{Item, Storage};
use super::identity::{self, Identity};
use super::pin::Pin;
use super::status::{STATUS, StatusFile, StatusPath};
use super::{
    LARGEST_MANIFEST, LARGEST_PIN, Prepared, Repository, RepositoryError, SnapshotRef,
    StoredObject, ensure_complete,
};
use crate::manifest::{MANIFEST_FILE, Manifest, ObjectPath, PIN_FILE, StreamDigest};
use crate::pipe::ByteStream;
use crate::target::{RunId, decode_component, encode_component};

pub(crate) struct RemoteRepository {
    storage: Arc<dyn Storage>,
    /// Whether the place has shown itself to be a repository.
    identity: OnceCell<()>,
}

/// What `cofferdam.json` may take.
const LARGEST_IDENTITY: u64 = 1024 * 1024;

impl RemoteRepository {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            identity: OnceCell::new(),
        }
    }

    fn refused(&self, why: impl Into<String>) -> RepositoryError {
        RepositoryError::Format {
            place: self.location(),
            why: why.into(),
        }
    }

    /// The whole of a small object; `None` when it is not there.
    async fn small(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RepositoryError> {
        let Some((length, stream)) = self.storage.open(key).await? else {
            return Ok(None);
        };
        let errand = Errand {
            action: "read",
            key,
        };
        let unreadable = |why: String| Fault::new(why).of(errand, &self.location());
        if length > limit {
            return Err(unreadable(format!("it is too large ({length} bytes)")));
        }
        let mut bytes = Vec::new();
        stream
            .take(limit)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(bytes))
    }

    async fn read_identity(&self) -> Result<Option<Identity>, RepositoryError> {
        match self.small(identity::FILE, LARGEST_IDENTITY).await? {
            Some(bytes) => Identity::parse(&bytes, &self.location()).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the place is a repository; `false` when it is empty and may become one.
    async fn is_prepared(&self) -> Result<bool, RepositoryError> {
        if self.identity.initialized() {
            return Ok(true);
        }
        if self.read_identity().await?.is_some() {
            let _ = self.identity.set(());
            return Ok(true);
        }
        match self.foreign().await? {
            None => Ok(false),
            Some(name) => Err(self.refused(format!(
                "it has no {} but contains other files (`{name}`)",
                identity::FILE
            ))),
        }
    }

    async fn ensure_prepared(&self) -> Result<(), RepositoryError> {
        match self.is_prepared().await? {
            true => Ok(()),
            false => Err(self.refused(format!("it has no {}", identity::FILE))),
        }
    }

    async fn ensure_may_become_one(&self) -> Result<(), RepositoryError> {
        match self.foreign().await? {
            None => Ok(()),
            Some(name) => Err(self.refused(format!(
                "it has no {} but contains other files (`{name}`); name an empty place, or a new prefix in it",
                identity::FILE
            ))),
        }
    }

    async fn make(&self) -> Result<Prepared, RepositoryError> {
        self.ensure_may_become_one().await?;
        let made = Identity::generate();
        let body: ByteStream = Box::pin(std::io::Cursor::new(made.to_bytes()));
        let created = self.storage.create(identity::FILE, body).await;
        // Another run may have been quicker, and an answer may get lost after the server has done what it was asked.
        match (created, self.read_identity().await?) {
            (Ok(_), None) => Ok(Prepared {
                id: made.repository,
                is_new: true,
            }),
            (_, Some(there)) if there.repository == made.repository => Ok(Prepared {
                id: made.repository,
                is_new: true,
            }),
            (Ok(_) | Err(RepositoryError::Exists(_)), Some(there)) => Ok(there.into()),
            (Err(error), _) => Err(error),
        }
    }

    /// Something that lies in the place without being a repository's.
    async fn foreign(&self) -> Result<Option<String>, RepositoryError> {
        let Children { directories, files } = self.storage.children("").await?;
        let directory = directories.into_iter().next();
        let file = files.into_iter().find(|name| name != identity::FILE);
        Ok(directory.or(file))
    }

    /// Creates the manifest. An answer may get lost after the server has done what it was asked: whether the manifest is
    /// ours is then seen by reading it.
    async fn create_manifest(
        &self,
        snapshot: &SnapshotRef,
        bytes: Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let key = manifest_key(snapshot);
        let body: ByteStream = Box::pin(std::io::Cursor::new(bytes.clone()));
        let Err(error) = self.storage.create(&key, body).await else {
            return Ok(());
        };
        match self.small(&key, LARGEST_MANIFEST).await {
            Ok(Some(there)) if there == bytes => Ok(()),
            _ => Err(match error {
                RepositoryError::Exists(_) => {
                    RepositoryError::Exists(format!("the manifest of {snapshot}"))
                }
                other => other,
            }),
        }
    }
}

fn place_key(snapshot: &SnapshotRef) -> String {
    format!("{}/{}/", encode_component(&snapshot.project), snapshot.id)
}

fn manifest_key(snapshot: &SnapshotRef) -> String {
    format!("{}{MANIFEST_FILE}", place_key(snapshot))
}

fn pin_key(snapshot: &SnapshotRef) -> String {
    format!("{}{PIN_FILE}", place_key(snapshot))
}

/// The snapshot in whose place `key` lies, and the name that it has there. `None` for what cofferdam did not write.
fn split(key: &str) -> Option<(SnapshotRef, &str)> {
    let (project, rest) = key.split_once('/')?;
    let (id, name) = rest.split_once('/')?;
    let decoded = decode_component(project);
    let ours = encode_component(&decoded) == project && !name.contains('/');
    let id: RunId = id.parse().ok().filter(|_| ours)?;
    Some((SnapshotRef::new(decoded, id), name))
}

#[async_trait]
impl Repository for RemoteRepository {
    async fn prepare(&self) -> Result<Prepared, RepositoryError> {
        let prepared = match self.read_identity().await? {
            Some(identity) => identity.into(),
            None => self.make().await?,
        };
        let _ = self.identity.set(());
        Ok(prepared)
    }

    async fn prepare_existing(&self) -> Result<Prepared, RepositoryError> {
        let Some(identity) = self.read_identity().await? else {
            self.ensure_may_become_one().await?;
            let place = self.location();
            return Err(RepositoryError::NoRepository { place });
        };
        let _ = self.identity.set(());
        Ok(identity.into())
    }

    async fn put(
        &self,
        path: &ObjectPath,
        body: ByteStream,
    ) -> Result<StreamDigest, RepositoryError> {
        self.ensure_prepared().await?;
        self.storage.create(path.as_str(), body).await
    }

    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        ensure_complete(self, manifest).await?;
        let snapshot = SnapshotRef::new(&manifest.project, manifest.snapshot.clone());
        self.create_manifest(&snapshot, manifest.to_bytes()).await
    }

    async fn open(&self, path: &ObjectPath) -> Result<ByteStream, RepositoryError> {
        self.ensure_prepared().await?;
        match self.storage.open(path.as_str()).await? {
            Some((_, stream)) => Ok(stream),
            None => Err(RepositoryError::Missing(path.to_string())),
        }
    }

    async fn list(&self, project: Option<&str>) -> Result<Vec<SnapshotRef>, RepositoryError> {
        if !self.is_prepared().await? {
            return Ok(Vec::new());
        }
        let prefix = project.map(|project| format!("{}/", encode_component(project)));
        let items = self.storage.list(prefix.as_deref().unwrap_or("")).await?;
        let mut snapshots: Vec<SnapshotRef> = items
            .iter()
            .filter_map(|item| split(&item.key))
            .filter(|(_, name)| *name == MANIFEST_FILE)
            .map(|(snapshot, _)| snapshot)
            .collect();
        snapshots.sort_by(|a, b| (&a.id, &a.project).cmp(&(&b.id, &b.project)));
        Ok(snapshots)
    }

    async fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError> {
        let missing = || RepositoryError::Missing(format!("snapshot {snapshot}"));
        if !self.is_prepared().await? {
            return Err(missing());
        }
        let key = manifest_key(snapshot);
        let bytes = self.small(&key, LARGEST_MANIFEST).await?;
        Manifest::parse(&bytes.ok_or_else(missing)?, &snapshot.project, &snapshot.id).map_err(
            |source| RepositoryError::Manifest {
                snapshot: snapshot.clone(),
                source,
            },
        )
    }

    async fn objects(&self, snapshot: &SnapshotRef) -> Result<Vec<StoredObject>, RepositoryError> {
        if !self.is_prepared().await? {
            return Ok(Vec::new());
        }
        let items = self.storage.list(&place_key(snapshot)).await?;
        let mut objects: Vec<StoredObject> = items
            .iter()
            .filter_map(|item| {
                let (place, name) = split(&item.key).filter(|(place, _)| place == snapshot)?;
                Some(StoredObject {
                    path: ObjectPath::new(&place.project, &place.id, name).ok()?,
                    bytes: item.bytes,
                })
            })
            .collect();
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    async fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError> {
        if let Some(stranger) = objects.iter().find(|object| !snapshot.holds(object)) {
            return Err(RepositoryError::Missing(format!(
                "{stranger} in the place of {snapshot}"
            )));
        }
        if !self.is_prepared().await? {
            return Ok(());
        }
        self.storage.delete(&[manifest_key(snapshot)]).await?;
        let objects = objects.iter().map(ObjectPath::to_string);
        let keys: Vec<String> = std::iter::once(pin_key(snapshot)).chain(objects).collect();
        self.storage.delete(&keys).await
    }

    async fn sweep(&self, project: &str) -> Result<Vec<String>, RepositoryError> {
        if !self.is_prepared().await? {
            return Ok(Vec::new());
        }
        sweep::sweep(self, &*self.storage, project).await
    }

    async fn put_pin(&self, snapshot: &SnapshotRef, pin: &Pin) -> Result<(), RepositoryError> {
        self.ensure_prepared().await?;
        let key = pin_key(snapshot);
        self.storage.replace(&key, &pin.to_bytes()).await
    }

    async fn pins(
        &self,
        project: Option<&str>,
    ) -> Result<BTreeMap<SnapshotRef, Pin>, RepositoryError> {
        let mut pins = BTreeMap::new();
        if !self.is_prepared().await? {
            return Ok(pins);
        }
        let prefix = project.map(|project| format!("{}/", encode_component(project)));
        let items = self.storage.list(prefix.as_deref().unwrap_or("")).await?;
        let found = items.iter().filter_map(|item| split(&item.key));
        for (snapshot, _) in found.filter(|(_, name)| *name == PIN_FILE) {
            let pin = match self.small(&pin_key(&snapshot), LARGEST_PIN).await {
                Ok(Some(bytes)) => Pin::parse(&bytes),
                // Somebody has taken it out since.
                Ok(None) => continue,
                Err(error) => Pin::unreadable(error),
            };
            pins.insert(snapshot, pin);
        }
        Ok(pins)
    }

    async fn remove_pin(&self, snapshot: &SnapshotRef) -> Result<(), RepositoryError> {
        match self.is_prepared().await? {
            true => self.storage.delete(&[pin_key(snapshot)]).await,
            false => Ok(()),
        }
    }

    async fn put_statuses(&self, files: Vec<StatusFile>) -> Result<(), RepositoryError> {
        self.ensure_prepared().await?;
        for StatusFile { path, bytes } in files {
            self.storage.replace(&path.to_string(), &bytes).await?;
        }
        Ok(())
    }

    async fn statuses(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        if !self.is_prepared().await? {
            return Ok(Vec::new());
        }
        let items = self.storage.list(&format!("{STATUS}/")).await?;
        let found = items.iter().filter_map(|item| {
            let (_, below) = item.key.split_once('/')?;
            let (directory, file) = below.split_once('/')?;
            StatusPath::found(directory, file)
        });
        Ok(found.collect())
    }

    async fn remove_status(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        match self.is_prepared().await? {
            true => self.storage.delete(&[path.to_string()]).await,
            false => Ok(()),
        }
    }

    fn location(&self) -> String {
        self.storage.location()
    }
}

/// The items of a project, by the snapshot in whose place they lie.
fn by_place(items: Vec<Item>) -> BTreeMap<SnapshotRef, Vec<Item>> {
    let mut places: BTreeMap<SnapshotRef, Vec<Item>> = BTreeMap::new();
    for item in items {
        if let Some((snapshot, _)) = split(&item.key) {
            places.entry(snapshot).or_default().push(item);
        }
    }
    places
}
