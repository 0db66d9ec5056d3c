//! Where snapshots live. A repository sees named streams, never Docker.
//!
//! The order of writes is the whole of its safety: objects first, the manifest last; what has no manifest does not exist.
//! The order of removals is the reverse. Runs do not lock each other out here: the hold journal does.

#[cfg(test)]
pub(crate) mod contract;
pub mod credentials;
pub(crate) mod directory;
pub(crate) mod identity;
pub mod local;
pub(crate) mod pin;
mod remote;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod status;
pub(crate) mod stem;
pub mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream};

use self::credentials::{Credentials, CredentialsError};
use self::local::LocalRepository;
use self::pin::Pin;
use self::remote::{RemoteRepository, Storage};
use self::status::{StatusFile, StatusPath};
use self::url::{RepositoryUrl, Scheme};
use crate::manifest::{
    BadObjectPath, EncryptedTo, Manifest, ManifestError, ObjectPath, StreamDigest,
};
use crate::pipe::ByteStream;
use crate::pipe::keys::DecryptionError;
use crate::target::{RunId, decode_component, encode_component};
use crate::trust::TrustError;

/// Beyond this a manifest is no manifest. One artifact takes less than 1 KiB in it.
const LARGEST_MANIFEST: u64 = 64 * 1024 * 1024;

const LARGEST_PIN: u64 = 64 * 1024;

/// How many manifests are fetched at the same time: one after the other, the way to a bucket would be most of the time.
const FETCHES: usize = 16;

/// What a run left behind may belong to one that is under way, perhaps on another host, until it is this old.
const SWEPT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Orders by project, then by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct SnapshotRef {
    pub project: String,
    pub id: RunId,
}

impl SnapshotRef {
    pub fn new(project: impl Into<String>, id: RunId) -> Self {
        Self {
            project: project.into(),
            id,
        }
    }

    /// Where `object` lies.
    pub fn of(object: &ObjectPath) -> Option<Self> {
        let id = object.snapshot().parse().ok()?;
        Some(Self::new(decode_component(object.project()), id))
    }

    fn holds(&self, object: &ObjectPath) -> bool {
        object.project() == encode_component(&self.project) && object.snapshot() == self.id.as_str()
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.project, self.id)
    }
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
    #[error("cannot {action} {place}: {why}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Remote {
        action: &'static str,
        place: String,
        why: String,
        hint: Option<String>,
        /// The server does not let us do this.
        refused: bool,
    },
    /// The stream to be stored failed; the repository itself is well.
    #[error("{0}")]
    Body(std::io::Error),
    #[error("{place} is not a Cofferdam repository in a format that this version knows: {why}")]
    Format { place: String, why: String },
    /// The place is empty, or not there at all.
    #[error("there is no repository at {place}")]
    NoRepository { place: String },
    #[error("{0} is not in the repository")]
    Missing(String),
    #[error("{0} is already in the repository, and nothing there is ever overwritten")]
    Exists(String),
    #[error("snapshot {snapshot}: {source}")]
    Manifest {
        snapshot: SnapshotRef,
        source: ManifestError,
    },
    #[error(transparent)]
    BadPath(#[from] BadObjectPath),
    #[error("{object} is damaged: {why}")]
    Damaged { object: ObjectPath, why: String },
    /// It is there, and no key that is given opens it.
    #[error(
        "{object} cannot be opened: {source} (according to its manifest, it was encrypted {to})"
    )]
    Closed {
        object: ObjectPath,
        to: EncryptedTo,
        source: DecryptionError,
    },
}

impl RepositoryError {
    /// Whether the place itself forbids what was asked, as one that can only be added to forbids a removal.
    pub fn is_refusal(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
            }
            Self::Remote { refused, .. } => *refused,
            _ => false,
        }
    }
}

/// Why a place cannot even be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("cannot use {place}: {why}")]
    Settings { place: String, why: String },
}

/// A handle on the place that `url` names. Reads the files that the URL and the credentials name, and asks no server yet.
pub fn open(
    url: &RepositoryUrl,
    credentials: &Credentials,
) -> Result<Arc<dyn Repository>, OpenError> {
    let url = match url {
        RepositoryUrl::Directory(path) => return Ok(Arc::new(LocalRepository::new(path))),
        RepositoryUrl::Store(url) => url,
    };
    let file = url.options.credentials_file.as_deref();
    let credentials = credentials.resolved(file)?;
    let storage: Arc<dyn Storage> = match url.scheme {
        Scheme::S3 | Scheme::Azure | Scheme::Google => {
            Arc::new(remote::cloud::open(url, &credentials)?)
        }
        Scheme::WebDav { .. } => Arc::new(remote::webdav::open(url, &credentials)?),
        Scheme::Sftp => Arc::new(remote::sftp::open(url, &credentials)?),
    };
    Ok(Arc::new(RemoteRepository::new(storage)))
}

/// A repository that is ready to be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What `cofferdam.json` says. It comes from outside: make it harmless before it is shown.
    pub id: String,
    /// It did not exist before.
    pub is_new: bool,
}

/// A place for snapshots. All methods may be called at the same time from several tasks and processes.
///
/// Implementations retry what is worth retrying; an error that comes out is final for this run.
#[async_trait]
pub trait Repository: Send + Sync {
    /// Makes sure that the place exists and can be written to, creating it (and `cofferdam.json`) when it is new.
    /// Called once before the first [`Repository::put`] of a run, or [`Repository::prepare_existing`] is.
    async fn prepare(&self) -> Result<Prepared, RepositoryError>;

    /// The same where there is a repository already. Else it creates nothing, no directory either, and fails with
    /// [`RepositoryError::NoRepository`].
    async fn prepare_existing(&self) -> Result<Prepared, RepositoryError>;

    /// Stores one object whole, or not at all. Never replaces an object that exists: that is an error.
    ///
    /// Cancel-safe: when the returned future is dropped, the object is not there, or gone within moments.
    async fn put(
        &self,
        path: &ObjectPath,
        body: ByteStream,
    ) -> Result<StreamDigest, RepositoryError>;

    /// Writes the manifest: from here on the snapshot exists. Fails, and leaves the snapshot invisible, when an object
    /// that the manifest names is missing or of another length. Must not be cancelled: nobody could tell on which side it
    /// fell.
    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError>;

    /// The bytes of an object as stored. A short read ends in an error.
    async fn open(&self, path: &ObjectPath) -> Result<ByteStream, RepositoryError>;

    /// Snapshots that have a manifest, oldest first, of one project or of all.
    async fn list(&self, project: Option<&str>) -> Result<Vec<SnapshotRef>, RepositoryError>;

    async fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError>;

    /// All objects that lie in a snapshot's place, without its manifest and its pin. Empty when there is none.
    async fn objects(&self, snapshot: &SnapshotRef) -> Result<Vec<StoredObject>, RepositoryError>;

    /// Removes the snapshot's manifest, then its pin and the given objects, which must lie in its place. Missing ones are no
    /// error.
    ///
    /// Whether another manifest still names one of the objects is the caller's to know: nothing is asked here.
    async fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError>;

    /// Removes the left-overs of runs of this project that never reached their manifest and were last written to more
    /// than a day ago. Returns what was removed.
    ///
    /// Takes only what cofferdam itself could have written, and no object that a manifest of the project names. When one
    /// of those manifests cannot be read, nobody knows what it names, and no object is removed.
    async fn sweep(&self, project: &str) -> Result<Vec<String>, RepositoryError>;

    /// Writes a snapshot's pin whole, or not at all, in place of the one that it has. Whether there is a snapshot is the
    /// caller's to know: see [`pin::pin`].
    async fn put_pin(&self, snapshot: &SnapshotRef, pin: &Pin) -> Result<(), RepositoryError>;

    /// The pins of one project's snapshots, or of all. One that is there and cannot be read pins, and says so
    /// ([`Pin::unreadable`]).
    async fn pins(
        &self,
        project: Option<&str>,
    ) -> Result<BTreeMap<SnapshotRef, Pin>, RepositoryError>;

    /// A missing one is no error.
    async fn remove_pin(&self, snapshot: &SnapshotRef) -> Result<(), RepositoryError>;

    /// Writes status files, each whole or not at all, in place of those that have their names. These and pins are the only files
    /// that are ever replaced. After an error any of them may be the new one. The place must be a repository already.
    async fn put_statuses(&self, files: Vec<StatusFile>) -> Result<(), RepositoryError>;

    /// All status files, of all projects, in no order. What cofferdam could not have written is passed over.
    async fn statuses(&self) -> Result<Vec<StatusPath>, RepositoryError>;

    /// A missing one is no error.
    async fn remove_status(&self, path: &StatusPath) -> Result<(), RepositoryError>;

    /// For messages: the place as the user named it, without secrets.
    fn location(&self) -> String;
}

/// The manifests of `snapshots`, in the same order, several of them on their way at a time. None is fetched any more when
/// the stream is dropped.
pub fn manifests(
    repository: &dyn Repository,
    snapshots: impl IntoIterator<Item = SnapshotRef>,
) -> impl Stream<Item = (SnapshotRef, Result<Manifest, RepositoryError>)> {
    stream::iter(snapshots)
        .map(async |snapshot| {
            let manifest = repository.manifest(&snapshot).await;
            (snapshot, manifest)
        })
        .buffered(FETCHES)
}

/// The lengths of stored objects, listed once for each snapshot's place that is asked for.
#[derive(Default)]
pub struct ObjectLengths(BTreeMap<SnapshotRef, BTreeMap<ObjectPath, u64>>);

impl ObjectLengths {
    /// `None` when the object is not there.
    pub async fn of(
        &mut self,
        repository: &dyn Repository,
        object: &ObjectPath,
    ) -> Result<Option<u64>, RepositoryError> {
        let Some(place) = SnapshotRef::of(object) else {
            return Ok(None);
        };
        if let Some(lengths) = self.0.get(&place) {
            return Ok(lengths.get(object).copied());
        }
        let objects = repository.objects(&place).await?;
        let lengths: BTreeMap<_, _> = objects
            .into_iter()
            .map(|object| (object.path, object.bytes))
            .collect();
        let length = lengths.get(object).copied();
        self.0.insert(place, lengths);
        Ok(length)
    }
}

/// Fails unless every object that `manifest` names is in the repository with its length, whichever snapshot wrote it.
/// For implementations of [`Repository::commit`].
pub async fn ensure_complete(
    repository: &dyn Repository,
    manifest: &Manifest,
) -> Result<(), RepositoryError> {
    let mut lengths = ObjectLengths::default();
    for artifact in manifest.objects() {
        let object = &artifact.object;
        let expected = artifact.stored.bytes;
        match lengths.of(repository, object).await? {
            None => return Err(RepositoryError::Missing(object.to_string())),
            Some(found) if found != expected => {
                return Err(RepositoryError::Damaged {
                    object: object.clone(),
                    why: format!("it has {found} bytes, but {expected} were stored"),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
