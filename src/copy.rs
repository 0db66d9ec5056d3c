//! Snapshots on their way to a second place.
//!
//! A copy has the same id, the same manifest and the same objects (others where it is encrypted anew). Objects go first, each checked against the digest in
//! the manifest while it is sent, and the manifest goes last, so that a copy which ends anywhere leaves no snapshot behind
//! but those that are whole. Run again, it goes on where it stopped.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use crate::encryption::{Identities, Recipients};
use crate::manifest::{AgeFile, Artifact, Encryption, ObjectPath};
use crate::pipe::{self, ByteStream, Counting, Progress, Verified};
use crate::prune::{PruneReport, prune_copies};
use crate::report::progress::{Activity, Board};
use crate::repository::url::RepositoryUrl;
use crate::repository::{self, ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::session::Session;

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// How many objects were sent; the others were there.
    pub objects: usize,
    pub bytes: u64,
}

/// What became of the snapshots that one place was to get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyReport {
    /// Where they were to go.
    pub place: String,
    pub snapshots: Vec<SnapshotCopy>,
    /// Why it ended before all were tried.
    pub problem: Option<String>,
    /// What became of older snapshots there; `None` when all stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PruneReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotCopy {
    pub snapshot: SnapshotRef,
    #[serde(flatten)]
    pub outcome: CopyOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum CopyOutcome {
    Copied(Copied),
    Failed { reason: String },
}

impl CopyReport {
    pub fn is_complete(&self) -> bool {
        let pruned = self.pruned.as_ref();
        self.everything_is_there() && pruned.is_none_or(PruneReport::is_as_it_should_be)
    }

    fn everything_is_there(&self) -> bool {
        let failed = |copy: &SnapshotCopy| matches!(copy.outcome, CopyOutcome::Failed { .. });
        self.problem.is_none() && !self.snapshots.iter().any(failed)
    }
}

/// How objects lie in the second place.
#[derive(Clone, Copy)]
pub enum Sealing<'a> {
    /// As here, byte for byte.
    AsStored,
    /// Encrypted to other keys. `identities` open what is encrypted here.
    Anew {
        identities: &'a Identities,
        recipients: &'a Recipients,
    },
}

/// Which of the snapshots that a place lacks it is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    All,
    /// Those that are newer than what it has of their project. What is older may have been pruned there.
    Newer,
}

/// Brings `to` those of `snapshots` that it lacks, oldest first. One that fails does not keep the others away.
pub async fn copy_all(
    from: &dyn Repository,
    to: &dyn Repository,
    snapshots: &[SnapshotRef],
    lacking: Lacking,
    sealing: Sealing<'_>,
    board: &Board,
) -> CopyReport {
    let mut report = CopyReport {
        place: to.location(),
        snapshots: Vec::new(),
        problem: None,
        pruned: None,
    };
    let wanted = match prepared(to, snapshots, lacking).await {
        Ok(wanted) => wanted,
        Err(error) => {
            report.problem = Some(error.to_string());
            return report;
        }
    };
    for snapshot in wanted {
        let track = board.begin(Activity::Copying, &snapshot, None);
        let outcome = match copy(from, to, &snapshot, sealing, &track.counter()).await {
            Ok(copied) => {
                track.done();
                CopyOutcome::Copied(copied)
            }
            Err(error) => {
                let reason = error.to_string();
                track.failed(&reason);
                CopyOutcome::Failed { reason }
            }
        };
        report.snapshots.push(SnapshotCopy { snapshot, outcome });
    }
    report
}

/// After a backup: brings every second place of the session what is newer than what it has of the project, and prunes
/// there. One place that fails does not spoil the others.
pub async fn copy_after(session: &Session, project: &str) -> Vec<CopyReport> {
    let mut reports = Vec::new();
    for url in &session.copies.to {
        let report = copy_to(session, url, project).await;
        reports.push(report.unwrap_or_else(|problem| CopyReport {
            place: url.to_string(),
            snapshots: Vec::new(),
            problem: Some(problem),
            pruned: None,
        }));
    }
    reports
}

async fn copy_to(
    session: &Session,
    url: &RepositoryUrl,
    project: &str,
) -> Result<CopyReport, String> {
    let place = repository::open(url, &session.copies.credentials);
    let place = place.map_err(|error| error.to_string())?;
    let (from, to) = (&*session.repository, &*place);
    let snapshots = from.list(Some(project)).await;
    let snapshots = snapshots.map_err(|error| error.to_string())?;
    let (lacking, sealing) = (Lacking::Newer, Sealing::AsStored);
    let copying = copy_all(from, to, &snapshots, lacking, sealing, &session.board);
    let copied = session.unless_interrupted(copying).await;
    let mut report = copied.map_err(|error| format!("{error}; `cofferdam copy` sends the rest"))?;
    if report.everything_is_there() {
        report.pruned = prune_copies(session, to, project).await;
    }
    Ok(report)
}

async fn prepared(
    to: &dyn Repository,
    snapshots: &[SnapshotRef],
    lacking: Lacking,
) -> Result<Vec<SnapshotRef>, RepositoryError> {
    to.prepare().await?;
    let there = to.list(None).await?;
    let mut wanted: Vec<SnapshotRef> = snapshots.to_vec();
    wanted.retain(|snapshot| match lacking {
        Lacking::All => !there.contains(snapshot),
        Lacking::Newer => {
            let mut others = there
                .iter()
                .filter(|other| other.project == snapshot.project);
            others.all(|other| other.id < snapshot.id)
        }
    });
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(wanted)
}

/// Copies one snapshot into `to`, which is prepared. `progress` is told of stored bytes as they are read.
///
/// A body error ([`RepositoryError::Body`]) speaks of `from`: what was read there is damaged, and nothing of it was stored.
pub async fn copy(
    from: &dyn Repository,
    to: &dyn Repository,
    snapshot: &SnapshotRef,
    sealing: Sealing<'_>,
    progress: &Progress,
) -> Result<Copied, RepositoryError> {
    let mut manifest = from.manifest(snapshot).await?;
    let mut copying = Copying {
        from,
        to,
        sealing,
        progress,
        lengths: ObjectLengths::default(),
        copied: Copied {
            objects: 0,
            bytes: 0,
        },
    };
    // A layer may be named by several targets, and is sent once.
    let mut done: BTreeMap<ObjectPath, Artifact> = BTreeMap::new();
    for record in &mut manifest.targets {
        for artifact in &mut record.artifacts {
            let there = match done.get(&artifact.object) {
                Some(there) => there.clone(),
                None => copying.object(artifact, snapshot).await?,
            };
            done.insert(artifact.object.clone(), there.clone());
            *artifact = there;
        }
    }
    to.commit(&manifest).await?;
    Ok(copying.copied)
}

struct Copying<'a> {
    from: &'a dyn Repository,
    to: &'a dyn Repository,
    sealing: Sealing<'a>,
    progress: &'a Progress,
    lengths: ObjectLengths,
    copied: Copied,
}

impl Copying<'_> {
    /// Sends an object, unless it is there. Returns how it lies there.
    async fn object(
        &mut self,
        artifact: &Artifact,
        snapshot: &SnapshotRef,
    ) -> Result<Artifact, RepositoryError> {
        let there = match self.sealing {
            Sealing::AsStored => {
                // Whatever else lies there under this name, `put` refuses to write over it.
                let length = self.lengths.of(self.to, &artifact.object).await?;
                if length != Some(artifact.stored.bytes) {
                    let body = self.read(artifact).await?;
                    self.to.put(&artifact.object, body).await?;
                    self.count(artifact);
                }
                artifact.clone()
            }
            Sealing::Anew {
                identities,
                recipients,
            } => match self.sealed_before(artifact, snapshot).await? {
                Some(there) => there,
                None => self.seal(artifact, identities, recipients).await?,
            },
        };
        Ok(there)
    }

    /// An object of an earlier snapshot, as that one's manifest over there describes it. What was sent of this snapshot and
    /// is in no manifest cannot be told from anything else, and is removed.
    async fn sealed_before(
        &mut self,
        artifact: &Artifact,
        snapshot: &SnapshotRef,
    ) -> Result<Option<Artifact>, RepositoryError> {
        let object = sealed_path(&artifact.object)?;
        let Some(place) = SnapshotRef::of(&object).filter(|place| place != snapshot) else {
            if self.lengths.of(self.to, &object).await?.is_some() {
                let left_over = std::slice::from_ref(&object);
                self.to.remove(snapshot, left_over).await?;
            }
            return Ok(None);
        };
        let manifest = self.to.manifest(&place).await?;
        let mut objects = manifest.objects();
        let there = objects.find(|there| there.object == object && there.plain == artifact.plain);
        match there {
            Some(there) => Ok(Some(there.clone())),
            None => Err(RepositoryError::Missing(object.to_string())),
        }
    }

    async fn seal(
        &mut self,
        artifact: &Artifact,
        identities: &Identities,
        recipients: &Recipients,
    ) -> Result<Artifact, RepositoryError> {
        let what = self.what(artifact);
        let stored = self.read(artifact).await?;
        let (body, compressed_bytes) = match &artifact.encryption {
            Encryption::None => (pipe::encrypt(stored, recipients), artifact.stored.bytes),
            Encryption::Age(file) => {
                let body = pipe::reencrypt(stored, identities, recipients, &what).await;
                let body = body.map_err(|source| {
                    RepositoryError::Body(io::Error::other(format!("{what}: {source}")))
                })?;
                (body, file.compressed_bytes)
            }
        };
        let object = sealed_path(&artifact.object)?;
        let stored = self.to.put(&object, body).await?;
        self.count(artifact);
        Ok(Artifact {
            object,
            stored,
            encryption: Encryption::Age(AgeFile {
                to: recipients.told(),
                compressed_bytes,
            }),
            ..artifact.clone()
        })
    }

    /// The bytes of an object, whose end is an error unless they are those that were stored.
    async fn read(&self, artifact: &Artifact) -> Result<ByteStream, RepositoryError> {
        let stored = self.from.open(&artifact.object).await?;
        let body = Verified::new(stored, artifact.stored.clone(), self.what(artifact));
        Ok(Box::pin(Counting::new(body, self.progress.clone())))
    }

    fn what(&self, artifact: &Artifact) -> String {
        format!("{} in {}", artifact.object, self.from.location())
    }

    fn count(&mut self, artifact: &Artifact) {
        self.copied.objects += 1;
        self.copied.bytes += artifact.stored.bytes;
    }
}

/// The name of an object once it is encrypted.
fn sealed_path(object: &ObjectPath) -> Result<ObjectPath, RepositoryError> {
    if object.as_str().ends_with(AgeFile::EXTENSION) {
        return Ok(object.clone());
    }
    let name = format!("{object}{}", AgeFile::EXTENSION);
    Ok(ObjectPath::try_from(name)?)
}

#[cfg(test)]
mod tests;
