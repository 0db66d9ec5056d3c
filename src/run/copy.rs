//! Snapshots on their way to a second place.
//!
//! A copy has the same id, the same manifest and the same objects (others where it is encrypted anew). Objects go first, each checked against the digest in
//! the manifest while it is sent, and the manifest goes last, so that a copy which ends anywhere leaves no snapshot behind
//! but those that are whole. Run again, it goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;

use crate::hold::Lock;
use crate::manifest::{AgeFile, Artifact, Encryption, ObjectPath};
use crate::pipe::keys::{Identities, Recipients};
use crate::pipe::{self, ByteStream, Counting, Progress, Verified};
use crate::repository::pin::{self, Pin};
use crate::repository::url::RepositoryUrl;
use crate::repository::{self, ObjectLengths, OpenError, Repository, RepositoryError, SnapshotRef};
use crate::run::places::{self, PlaceError, Users};
use crate::run::progress::{Activity, Board};
use crate::run::prune::{PruneReport, prune_copies, sweep, worth_sending};
use crate::run::session::{CopySettings, Session};

type Pins = BTreeMap<SnapshotRef, Pin>;

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
    /// That the place is not as it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub news: Vec<String>,
    /// Its repository is a new one, or another than before.
    #[serde(skip)]
    pub is_remarkable: bool,
    /// What else to look into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
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
    /// Nothing was tried.
    pub fn failed(url: &RepositoryUrl, problem: String) -> Self {
        Self {
            place: url.to_string(),
            news: Vec::new(),
            is_remarkable: false,
            warnings: Vec::new(),
            snapshots: Vec::new(),
            problem: Some(problem),
            pruned: None,
        }
    }

    pub fn is_complete(&self) -> bool {
        let pruned = self.pruned.as_ref();
        self.everything_is_there() && pruned.is_none_or(PruneReport::is_as_it_should_be)
    }

    fn not_sent(&mut self, snapshot: &SnapshotRef, reason: String) {
        self.snapshots.push(SnapshotCopy {
            snapshot: snapshot.clone(),
            outcome: CopyOutcome::Failed { reason },
        });
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

/// Brings `to`, which is prepared, those of `snapshots` that it lacks, oldest first. One that fails does not keep the others away.
pub async fn copy_all(
    from: &dyn Repository,
    to: &dyn Repository,
    snapshots: &[SnapshotRef],
    sealing: Sealing<'_>,
    board: &Board,
) -> CopyReport {
    let mut report = CopyReport {
        place: to.location(),
        news: Vec::new(),
        is_remarkable: false,
        warnings: Vec::new(),
        snapshots: Vec::new(),
        problem: None,
        pruned: None,
    };
    let (there, lacking) = match divided(to, snapshots).await {
        Ok(divided) => divided,
        Err(error) => {
            report.problem = Some(error.to_string());
            return report;
        }
    };
    for snapshot in &there {
        if let Some(reason) = sealed_otherwise(to, snapshot, sealing).await {
            report.not_sent(snapshot, reason);
        }
    }
    let pins = match from.pins(None).await {
        Ok(pins) => pins,
        Err(error) => {
            report.problem = Some(error.to_string());
            return report;
        }
    };
    let (pins, unreadable): (Pins, Pins) = pins
        .into_iter()
        .filter(|(snapshot, _)| snapshots.contains(snapshot))
        .partition(|(_, pin)| pin.unreadable.is_none());
    report.warnings = unreadable.iter().map(without_pin).collect();
    if let Err(error) = send_missing_pins(to, &pins, &there, &mut report).await {
        report.problem = Some(error.to_string());
    }
    for snapshot in lacking {
        let track = board.begin(Activity::Copying, &snapshot, None);
        let counter = track.counter();
        let sent = async {
            let copied = copy(from, to, &snapshot, sealing, &counter).await?;
            // One that does not get there is sent by the next copy.
            if let Some(pin) = pins.get(&snapshot) {
                pin::pin(to, &snapshot, pin).await?;
            }
            Ok::<_, RepositoryError>(copied)
        };
        let outcome = match sent.await {
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

/// Snapshots that are there get the pins that they have here, and not there.
async fn send_missing_pins(
    to: &dyn Repository,
    pins: &Pins,
    there: &[SnapshotRef],
    report: &mut CopyReport,
) -> Result<(), RepositoryError> {
    let pinned: Vec<_> = there
        .iter()
        .filter_map(|snapshot| Some((snapshot, pins.get(snapshot)?)))
        .collect();
    if pinned.is_empty() {
        return Ok(());
    }
    let known = to.pins(None).await?;
    for (snapshot, pin) in pinned {
        if !known.contains_key(snapshot)
            && let Err(error) = pin::pin(to, snapshot, pin).await
        {
            report.not_sent(snapshot, format!("its pin was not sent: {error}"));
        }
    }
    Ok(())
}

fn without_pin((snapshot, pin): (&SnapshotRef, &Pin)) -> String {
    format!(
        "the pin of {snapshot} cannot be read, so its copy has none ({}); pin it again: `cofferdam pin {} NAME`",
        pin.unreadable.as_deref().unwrap_or_default(),
        snapshot.id
    )
}

/// Which of the snapshots are there, and which are not; oldest first.
async fn divided(
    to: &dyn Repository,
    snapshots: &[SnapshotRef],
) -> Result<(Vec<SnapshotRef>, Vec<SnapshotRef>), RepositoryError> {
    let listed: BTreeSet<SnapshotRef> = to.list(None).await?.into_iter().collect();
    let mut snapshots = snapshots.to_vec();
    snapshots.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(snapshots
        .into_iter()
        .partition(|snapshot| listed.contains(snapshot)))
}

/// Why a snapshot that is there is not what was asked for: nothing is ever written over.
async fn sealed_otherwise(
    to: &dyn Repository,
    snapshot: &SnapshotRef,
    sealing: Sealing<'_>,
) -> Option<String> {
    let Sealing::Anew { recipients, .. } = sealing else {
        return None;
    };
    let manifest = match to.manifest(snapshot).await {
        Ok(manifest) => manifest,
        Err(error) => return Some(error.to_string()),
    };
    let told = recipients.told();
    let is_sealed = |artifact: &Artifact| match &artifact.encryption {
        Encryption::Age(file) => file.to == told,
        Encryption::None => false,
    };
    (!manifest.objects().all(is_sealed)).then(|| {
        "it exists there already and is not encrypted to these keys; name an empty place for the new copies".to_owned()
    })
}

/// After a backup: brings every second place of the session what it lacks of the project, but for what its policy would
/// remove, and prunes there. One place that fails does not spoil the others.
pub async fn copy_after(session: &Session, project: &str) -> Vec<CopyReport> {
    let mut reports = Vec::new();
    for url in &session.copies.to {
        let copying = session.unless_interrupted(copy_to(session, url, project));
        let copied = match copying.await {
            Ok(copied) => copied.map_err(|error| error.to_string()),
            Err(error) => Err(format!("{error}; `cofferdam copy` sends the rest")),
        };
        reports.push(copied.unwrap_or_else(|problem| CopyReport::failed(url, problem)));
    }
    reports
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

async fn copy_to(
    session: &Session,
    url: &RepositoryUrl,
    project: &str,
) -> Result<CopyReport, CopyError> {
    let CopySettings {
        credentials,
        retention,
        ..
    } = &session.copies;
    let place = repository::open(url, credentials)?;
    let (from, to) = (&*session.repository, &*place);
    let users = Users {
        projects: &[project.to_owned()],
        command: "copy",
    };
    let terms = session.place_terms.of_second_place();
    let prepared = places::prepare(Some(&session.engine), to, url, users, &terms).await?;
    let snapshots = from.list(Some(project)).await?;
    let (there, lacking) = divided(to, &snapshots).await?;
    let worth = worth_sending(from, to, retention, project, lacking).await?;
    let meant = [there, worth].concat();
    let mut report = copy_all(from, to, &meant, Sealing::AsStored, &session.board).await;
    report.is_remarkable = prepared.is_remarkable();
    report.news = prepared.news();
    if report.everything_is_there() {
        report.pruned = prune_copies(session, to, project).await;
    }
    let in_use = Lock::snapshots_in_use(&session.engine, project);
    sweep(to, project, in_use).await;
    Ok(report)
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
                if !self.is_there(artifact, snapshot).await? {
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

    /// Whether an object lies there as it lies here. A manifest over there vouches for it; of what none names every byte is
    /// looked at, and what an interrupted copy of another kind has left is removed.
    async fn is_there(
        &mut self,
        artifact: &Artifact,
        snapshot: &SnapshotRef,
    ) -> Result<bool, RepositoryError> {
        let object = &artifact.object;
        if self.lengths.of(self.to, object).await?.is_none() {
            return Ok(false);
        }
        if let Some(place) = SnapshotRef::of(object).filter(|place| place != snapshot) {
            let manifest = self.to.manifest(&place).await;
            let vouches = manifest.is_ok_and(|it| it.objects().any(|there| there == artifact));
            if vouches {
                return Ok(true);
            }
        }
        let what = format!("{object} in {}", self.to.location());
        let stored = self.to.open(object).await?;
        let mut body = Verified::new(stored, artifact.stored.clone(), what);
        match tokio::io::copy(&mut body, &mut tokio::io::sink()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.remove_left_over(object, snapshot).await?;
                Ok(false)
            }
            Err(error) => Err(RepositoryError::Body(error)),
        }
    }

    /// Only from the place of a snapshot that is not there: its manifest would go first.
    async fn remove_left_over(
        &self,
        object: &ObjectPath,
        snapshot: &SnapshotRef,
    ) -> Result<(), RepositoryError> {
        match self.to.manifest(snapshot).await {
            Err(RepositoryError::Missing(_)) => {
                let left_over = std::slice::from_ref(object);
                self.to.remove(snapshot, left_over).await
            }
            // Another copy has come to its end meanwhile.
            Ok(_) => Err(RepositoryError::Exists(format!("snapshot {snapshot}"))),
            Err(error) => Err(error),
        }
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
                self.remove_left_over(&object, snapshot).await?;
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
