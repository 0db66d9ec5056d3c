//! A snapshot as drivers see it: a sink for each target while it is written, a source while it is read.
//!
//! [`SnapshotWriter`] names the objects and remembers which target wrote which, so that those of a target that failed can
//! be taken away again before the manifest is written. What it has written when it is dropped stays, and without a
//! manifest it is nothing: a later sweep removes it.

mod artifact;
pub(crate) mod export;
mod name;
pub(crate) mod verify;

pub use artifact::{ArtifactSink, ArtifactSource, NewArtifact, StoreError};

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::BufReader;

use crate::manifest::{
    AgeFile, Artifact, BadObjectPath, Compression, Encryption, ObjectPath, TargetRecord,
};
use crate::pipe::keys::{Identities, Recipients};
use crate::pipe::{
    ByteStream, Counting, Digesting, Progress, decompress, decrypt, encrypt, verified,
};
use crate::repository::{Repository, RepositoryError, SnapshotRef};
use crate::target::{RunId, TargetId};
use crate::tree::{IndexEntry, IndexError, IndexReader};

/// Writes the objects of one snapshot.
pub struct SnapshotWriter {
    inner: Arc<Inner>,
}

struct Inner {
    repository: Arc<dyn Repository>,
    snapshot: SnapshotRef,
    compression: Compression,
    recipients: Option<Recipients>,
    objects: Mutex<BTreeMap<ObjectPath, Slot>>,
}

/// Who has an object's name, and whether the object is there.
struct Slot {
    target: TargetId,
    stored: bool,
}

impl Inner {
    /// Nobody panics while holding the lock.
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectPath, Slot>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(
        self: &Arc<Self>,
        target: &TargetId,
        artifact: &NewArtifact,
    ) -> Result<Reservation, BadObjectPath> {
        let SnapshotRef { project, id } = &self.snapshot;
        let encryption = self.recipients.as_ref().map_or("", |_| AgeFile::EXTENSION);
        let mut objects = self.objects();
        for file in name::candidates(target, artifact, encryption) {
            let object = ObjectPath::new(project, id, &file)?;
            if let Entry::Vacant(free) = objects.entry(object.clone()) {
                free.insert(Slot {
                    target: target.clone(),
                    stored: false,
                });
                return Ok(Reservation {
                    inner: Arc::clone(self),
                    object,
                });
            }
        }
        unreachable!("the candidates do not end")
    }

    async fn remove(&self, objects: Vec<ObjectPath>) {
        if objects.is_empty() {
            return;
        }
        match self.repository.remove(&self.snapshot, &objects).await {
            Ok(()) => {
                let mut slots = self.objects();
                objects.iter().for_each(|object| drop(slots.remove(object)));
            }
            Err(error) => {
                tracing::warn!("objects of a failed run stay until the next sweep: {error}")
            }
        }
    }
}

/// A name that is taken, and given back when nothing was stored under it: a driver may fail, and try another way.
struct Reservation {
    inner: Arc<Inner>,
    object: ObjectPath,
}

impl Reservation {
    fn fulfil(&self) {
        if let Some(slot) = self.inner.objects().get_mut(&self.object) {
            slot.stored = true;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut objects = self.inner.objects();
        if objects.get(&self.object).is_some_and(|slot| !slot.stored) {
            objects.remove(&self.object);
        }
    }
}

impl SnapshotWriter {
    pub fn new(
        repository: Arc<dyn Repository>,
        project: &str,
        id: RunId,
        compression: Compression,
        recipients: Option<Recipients>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                repository,
                snapshot: SnapshotRef::new(project, id),
                compression,
                recipients,
                objects: Mutex::default(),
            }),
        }
    }

    /// Takes the artifacts of one target. `progress` is told of bytes as they are handed over.
    pub fn target(&self, target: &TargetId, progress: Progress) -> TargetSink {
        TargetSink {
            inner: Arc::clone(&self.inner),
            target: target.clone(),
            progress,
        }
    }

    /// Removes what a target has stored, because it failed. Objects that cannot be removed stay for a sweep: without a
    /// manifest that names them they are nothing.
    pub async fn discard(&self, target: &TargetId) {
        self.discard_where(|slot| slot.target == *target).await;
    }

    /// Removes everything: there will be no snapshot.
    pub async fn discard_all(self) {
        self.discard_where(|_| true).await;
    }

    async fn discard_where(&self, chosen: impl Fn(&Slot) -> bool) {
        let stored = self
            .inner
            .objects()
            .iter()
            .filter(|(_, slot)| slot.stored && chosen(slot))
            .map(|(object, _)| object.clone())
            .collect();
        self.inner.remove(stored).await;
    }
}

/// The sink that a driver writes one target to.
pub struct TargetSink {
    inner: Arc<Inner>,
    target: TargetId,
    progress: Progress,
}

#[async_trait]
impl ArtifactSink for TargetSink {
    async fn store(&self, artifact: NewArtifact, body: ByteStream) -> Result<Artifact, StoreError> {
        let reservation = self
            .inner
            .reserve(&self.target, &artifact)
            .map_err(RepositoryError::from)?;
        let object = &reservation.object;
        let body: ByteStream = Box::pin(Counting::new(body, self.progress.clone()));
        let (body, inside) = match &self.inner.recipients {
            None => (body, None),
            Some(recipients) => {
                let (body, digest) = Digesting::new(body);
                let body = encrypt(Box::pin(body), recipients);
                (body, Some((digest, recipients.told())))
            }
        };
        let stored = match self.inner.repository.put(object, body).await {
            Ok(digest) => digest,
            Err(RepositoryError::Body(error)) => return Err(StoreError::Body(error)),
            Err(error) => return Err(error.into()),
        };
        reservation.fulfil();
        let (plain, encryption) = match inside {
            None => (stored.clone(), Encryption::None),
            Some((digest, to)) => {
                let plain = digest.get().expect("its end is in the repository");
                let compressed_bytes = plain.bytes;
                let file = AgeFile {
                    to,
                    compressed_bytes,
                };
                (plain, Encryption::Age(file))
            }
        };
        Ok(Artifact {
            role: artifact.role,
            object: object.clone(),
            plain,
            stored,
            compression: artifact.compression,
            encryption,
        })
    }

    fn compression(&self) -> Compression {
        self.inner.compression
    }
}

/// Reads the objects of any snapshot.
pub struct SnapshotReader {
    repository: Arc<dyn Repository>,
    identities: Identities,
    progress: Progress,
    /// How much of each object has been read, at the farthest.
    read: Mutex<BTreeMap<ObjectPath, Arc<AtomicU64>>>,
}

impl SnapshotReader {
    /// `progress` is told of bytes as they come out of the repository; of those that are read again, once.
    pub fn new(
        repository: Arc<dyn Repository>,
        identities: Identities,
        progress: Progress,
    ) -> Self {
        Self {
            repository,
            identities,
            progress,
            read: Mutex::default(),
        }
    }

    fn progress_of(&self, object: &ObjectPath) -> Progress {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let farthest = Arc::clone(read.entry(object.clone()).or_default());
        let (progress, position) = (self.progress.clone(), AtomicU64::new(0));
        Progress::new(move |bytes| {
            let position = position.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let before = farthest.fetch_max(position, Ordering::Relaxed);
            progress.advance(position.saturating_sub(before));
        })
    }
}

#[async_trait]
impl ArtifactSource for SnapshotReader {
    async fn open(&self, artifact: &Artifact) -> Result<ByteStream, RepositoryError> {
        let stored = self.repository.open(&artifact.object).await?;
        let progress = self.progress_of(&artifact.object);
        let counted = Box::pin(Counting::new(stored, progress));
        let what = artifact.object.as_str();
        let stored = verified(counted, artifact.stored.clone(), what);
        match &artifact.encryption {
            Encryption::None => Ok(stored),
            Encryption::Age(file) => {
                decrypt(stored, &self.identities, what)
                    .await
                    .map_err(|source| RepositoryError::Closed {
                        object: artifact.object.clone(),
                        to: file.to.clone(),
                        source,
                    })
            }
        }
    }
}

/// Fails unless the keys that are given open everything that is encrypted in `records`. Only headers are read.
pub async fn ensure_opens(
    source: &dyn ArtifactSource,
    records: impl IntoIterator<Item = &TargetRecord>,
) -> Result<(), RepositoryError> {
    let artifacts = records.into_iter().flat_map(|record| &record.artifacts);
    for artifact in artifacts.filter(|artifact| artifact.encryption != Encryption::None) {
        source.open(artifact).await?;
    }
    Ok(())
}

/// The plain content of an artifact. Its end is an error unless the stored and the plain stream are those of the manifest.
pub async fn open_plain(
    source: &dyn ArtifactSource,
    artifact: &Artifact,
) -> Result<ByteStream, RepositoryError> {
    let stored = source.open(artifact).await?;
    let plain = decompress(stored, artifact.compression);
    let what = format!("the content of {}", artifact.object);
    Ok(verified(plain, artifact.plain.clone(), what))
}

#[derive(Debug, thiserror::Error)]
pub enum IndexesError {
    #[error("the snapshot has no index of {0}")]
    NoIndex(ObjectPath),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Gives every entry of a tree's indexes to `take`, a layer after the other: a later one goes before an earlier one.
pub async fn read_indexes(
    source: &dyn ArtifactSource,
    record: &TargetRecord,
    mut take: impl FnMut(IndexEntry),
) -> Result<(), IndexesError> {
    for (layer, index) in record.layers() {
        let index = index.ok_or_else(|| IndexesError::NoIndex(layer.object.clone()))?;
        let plain = open_plain(source, index).await?;
        let mut entries = IndexReader::new(BufReader::new(plain));
        while let Some(entry) = entries.next_entry().await? {
            take(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
