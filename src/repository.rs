//! Where snapshots live. A repository sees named streams, never Docker.
//!
//! The order of writes is the whole of its safety: objects first, the manifest last; what has no manifest does not exist.
//! The order of removals is the reverse.

pub mod local;

use async_trait::async_trait;

use crate::manifest::{Manifest, ManifestError, ObjectPath, StreamDigest};
use crate::pipe::ByteStream;
use crate::target::RunId;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotRef {
    pub project: String,
    pub id: RunId,
}

/// An object as the repository's listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub path: ObjectPath,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("cannot {action} {place}: {source}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Io {
        action: &'static str,
        place: String,
        source: std::io::Error,
        hint: Option<String>,
    },
    /// The stream to be stored failed; the repository itself is well.
    #[error("{0}")]
    Body(std::io::Error),
    #[error("{place} is not a cofferdam repository of a format that this version knows: {why}")]
    Format { place: String, why: String },
    #[error("there is no {0} in the repository")]
    Missing(String),
    #[error("snapshot {project}/{id}: {source}")]
    Manifest {
        project: String,
        id: RunId,
        source: ManifestError,
    },
    #[error("{object} is damaged: {why}")]
    Damaged { object: ObjectPath, why: String },
}

/// A place for snapshots. All methods may be called at the same time from several tasks and processes.
///
/// Implementations retry what is worth retrying; an error that comes out is final for this run.
#[async_trait]
pub trait Repository: Send + Sync {
    /// Makes sure that the place exists and can be written to, creating it (and `cofferdam.json`) when it is new.
    /// Called once before the first [`Repository::put`] of a run.
    async fn prepare(&self) -> Result<(), RepositoryError>;

    /// Stores one object whole, or not at all. Never replaces an object that exists: that is an error.
    async fn put(
        &self,
        path: &ObjectPath,
        body: ByteStream,
    ) -> Result<StreamDigest, RepositoryError>;

    /// Writes the manifest: from here on the snapshot exists. Fails, and leaves the snapshot invisible, when an object
    /// that the manifest names is missing or of another length.
    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError>;

    /// The bytes of an object as stored. A short read ends in an error.
    async fn open(&self, path: &ObjectPath) -> Result<ByteStream, RepositoryError>;

    /// Snapshots that have a manifest, oldest first, of one project or of all.
    async fn list(&self, project: Option<&str>) -> Result<Vec<SnapshotRef>, RepositoryError>;

    async fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError>;

    /// All objects that lie in a snapshot's place, without its manifest. Empty when there is none.
    async fn objects(&self, snapshot: &SnapshotRef) -> Result<Vec<StoredObject>, RepositoryError>;

    /// Removes the snapshot's manifest, then the given objects of its place. Missing ones are no error.
    async fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError>;

    /// Removes the left-overs of runs of this project that never reached their manifest and were last written to more
    /// than a day ago. Returns what was removed.
    async fn sweep(&self, project: &str) -> Result<Vec<String>, RepositoryError>;

    /// For messages: the place as the user named it, without secrets.
    fn location(&self) -> String;
}
