//! A repository in a local directory.
//!
//! Every file is written beside its place, synced, and renamed into it (`super::directory`). Backups hold everything, so
//! files are readable by their owner alone. Below the root no symbolic link is followed, and what cofferdam could not
//! have written is left alone.
//!
//! After a crash there may be objects of a snapshot without a manifest, and files under hidden names: neither is ever
//! listed, and [`Repository::sweep`] removes both when they are a day old.

mod pins;
mod root;
mod status;
mod sweep;

pub use status::StatusDirectory;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::directory::{FileError, Published, Sealed};
use root::Root;

use super::pin::Pin;
use super::status::{StatusFile, StatusPath};
use super::{Prepared, Repository, RepositoryError, SnapshotRef, StoredObject, ensure_complete};
use crate::manifest::{Manifest, ObjectPath, StreamDigest};
use crate::pipe::{self, ByteStream};

impl From<FileError> for RepositoryError {
    fn from(error: FileError) -> Self {
        let FileError {
            action,
            path,
            source,
            hint,
        } = error;
        Self::Io {
            action,
            place: path.display().to_string(),
            source,
            hint,
        }
    }
}

#[derive(Clone, Debug)]
pub struct LocalRepository {
    root: PathBuf,
}

impl LocalRepository {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn root(&self) -> Root {
        Root::new(self.root.clone())
    }

    /// Does file work on a thread that may wait for a disk.
    async fn blocking<T, F>(&self, work: F) -> Result<T, RepositoryError>
    where
        F: FnOnce(&Root) -> Result<T, RepositoryError> + Send + 'static,
        T: Send + 'static,
    {
        let root = self.root();
        spawn_blocking(move || work(&root))
            .await
            .unwrap_or_else(|error| Err(self.worker_lost(io::Error::other(error))))
    }

    fn worker_lost(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Io {
            action: "use",
            place: self.location(),
            source,
            hint: None,
        }
    }

    /// The last step of a write: when the caller has gone by now, the file goes too.
    async fn publish(&self, sealed: Sealed, what: String) -> Result<(), RepositoryError> {
        self.blocking(move |_| publish(sealed, what)).await?.keep();
        Ok(())
    }
}

fn publish(sealed: Sealed, what: String) -> Result<Published, RepositoryError> {
    sealed.publish().map_err(|error| match error.source.kind() {
        io::ErrorKind::AlreadyExists => RepositoryError::Exists(what),
        _ => error.into(),
    })
}

#[async_trait]
impl Repository for LocalRepository {
    async fn prepare(&self) -> Result<Prepared, RepositoryError> {
        self.blocking(Root::prepare).await
    }

    async fn prepare_existing(&self) -> Result<Prepared, RepositoryError> {
        self.blocking(Root::prepare_existing).await
    }

    async fn put(
        &self,
        path: &ObjectPath,
        body: ByteStream,
    ) -> Result<StreamDigest, RepositoryError> {
        let root = self.root();
        let object = path.clone();
        let (sealed, digest) =
            pipe::consume(body, move |source| root.write_object(&object, source))
                .await
                .map_err(|error| self.worker_lost(error))??;
        self.publish(sealed, path.to_string()).await?;
        Ok(digest)
    }

    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        ensure_complete(self, manifest).await?;
        let snapshot = SnapshotRef::new(&manifest.project, manifest.snapshot.clone());
        let bytes = manifest.to_bytes();
        let what = format!("the manifest of {snapshot}");
        let sealed = self
            .blocking(move |root| root.write_manifest(&snapshot, &bytes))
            .await?;
        self.publish(sealed, what).await
    }

    async fn open(&self, path: &ObjectPath) -> Result<ByteStream, RepositoryError> {
        let object = path.clone();
        self.blocking(move |root| root.open_object(&object)).await
    }

    async fn list(&self, project: Option<&str>) -> Result<Vec<SnapshotRef>, RepositoryError> {
        let project = project.map(str::to_owned);
        self.blocking(move |root| root.snapshots(project.as_deref()))
            .await
    }

    async fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError> {
        let snapshot = snapshot.clone();
        self.blocking(move |root| root.manifest(&snapshot)).await
    }

    async fn objects(&self, snapshot: &SnapshotRef) -> Result<Vec<StoredObject>, RepositoryError> {
        let snapshot = snapshot.clone();
        self.blocking(move |root| root.objects(&snapshot)).await
    }

    async fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError> {
        let snapshot = snapshot.clone();
        let objects = objects.to_vec();
        self.blocking(move |root| root.remove(&snapshot, &objects))
            .await
    }

    async fn sweep(&self, project: &str) -> Result<Vec<String>, RepositoryError> {
        let project = project.to_owned();
        self.blocking(move |root| sweep::sweep(root, &project))
            .await
    }

    async fn put_pin(&self, snapshot: &SnapshotRef, pin: &Pin) -> Result<(), RepositoryError> {
        let (snapshot, pin) = (snapshot.clone(), pin.clone());
        self.blocking(move |root| pins::put(root, &snapshot, &pin))
            .await
    }

    async fn pins(
        &self,
        project: Option<&str>,
    ) -> Result<BTreeMap<SnapshotRef, Pin>, RepositoryError> {
        let project = project.map(str::to_owned);
        self.blocking(move |root| pins::list(root, project.as_deref()))
            .await
    }

    async fn remove_pin(&self, snapshot: &SnapshotRef) -> Result<(), RepositoryError> {
        let snapshot = snapshot.clone();
        self.blocking(move |root| pins::remove(root, &snapshot))
            .await
    }

    async fn put_statuses(&self, files: Vec<StatusFile>) -> Result<(), RepositoryError> {
        self.blocking(move |root| status::put(root, &files)).await
    }

    async fn statuses(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        self.blocking(status::list).await
    }

    async fn remove_status(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        let path = path.clone();
        self.blocking(move |root| status::remove(root, &path)).await
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests;
