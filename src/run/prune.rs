//! Removes the snapshots that go.
//!
//! All manifests that go are removed before any object: whoever finds a manifest finds what it names. Then the objects go
//! that no manifest names any more, wherever they lie; a run may refer to those of a young snapshot, and they are left to a
//! later sweep. Interrupted anywhere, it leaves whole snapshots, and objects that the next sweep finds.
//!
//! It takes no lock. Two prunes come to the same verdicts, and neither minds what the other has removed. A backup writes
//! where no manifest lies yet. A restore says in its journal which snapshot it reads, and then looks whether that is still
//! there; a prune removes the manifest, and then reads the journals: one of the two sees the other, so that either the
//! restore ends before it has touched anything, or the prune leaves the objects to it. Where no engine can be asked, a
//! restore may find an object gone: it fails, and what it was to replace stays.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::history::retention::{
    Damaged, Doubt, Evidence, Fate, Pruning, Snapshot, Terms, Unreadable, evaluate,
};
use crate::hold::{HoldError, Lock};
use crate::manifest::{Artifact, Manifest, ObjectPath, Purpose};
use crate::repository::pin::Pin;
use crate::repository::{self, ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::run::session::Session;
use crate::snapshot::verify::{Problem, judge_length};
use crate::target::{RunId, TargetId};

/// The objects of a snapshot that ended this recently stay: a run that is under way may have seen them in its manifest.
const YOUNG: SignedDuration = SignedDuration::from_hours(24);

/// The snapshots of one project, as far as retention is concerned.
#[derive(Debug)]
pub struct Stock {
    project: String,
    snapshots: Vec<Snapshot>,
    contents: BTreeMap<RunId, Contents>,
    unreadable: Vec<Unreadable>,
    damaged: Vec<Damaged>,
}

type Pins = BTreeMap<SnapshotRef, Pin>;

/// The newest copy of each target, and the snapshot that holds it.
type Newest = BTreeMap<TargetId, (RunId, Vec<Artifact>)>;

#[derive(Debug)]
struct Contents {
    finished: Timestamp,
    /// With their stored bytes, wherever they lie.
    objects: BTreeMap<ObjectPath, u64>,
}

impl From<&Manifest> for Contents {
    fn from(manifest: &Manifest) -> Self {
        let objects = manifest.objects();
        Self {
            finished: manifest.finished,
            objects: objects
                .map(|artifact| (artifact.object.clone(), artifact.stored.bytes))
                .collect(),
        }
    }
}

impl Stock {
    pub async fn take(repository: &dyn Repository, project: &str) -> Result<Self, RepositoryError> {
        let mut stock = Self {
            project: project.to_owned(),
            snapshots: Vec::new(),
            contents: BTreeMap::new(),
            unreadable: Vec::new(),
            damaged: Vec::new(),
        };
        let mut newest = Newest::new();
        let listed = repository.list(Some(project)).await?;
        let mut manifests = pin!(repository::manifests(repository, listed));
        while let Some((snapshot, manifest)) = manifests.next().await {
            match manifest {
                Ok(manifest) => {
                    if manifest.purpose == Purpose::Backup {
                        newest.extend(manifest.targets.iter().map(|record| {
                            let copy = (snapshot.id.clone(), record.artifacts.clone());
                            (record.target.clone(), copy)
                        }));
                    }
                    stock.snapshots.push(Snapshot::from(&manifest));
                    stock
                        .contents
                        .insert(snapshot.id, Contents::from(&manifest));
                }
                // Another prune has been faster.
                Err(RepositoryError::Missing(_)) => {}
                Err(error) => stock.unreadable.push(Unreadable {
                    snapshot: snapshot.id,
                    why: error.to_string(),
                }),
            }
        }
        stock.look_at(repository, newest).await?;
        let pins = repository.pins(Some(project)).await?;
        stock.spare(&pins);
        Ok(stock)
    }

    /// These snapshots have pins.
    fn spare(&mut self, pins: &Pins) {
        for (snapshot, pin) in pins {
            let mut snapshots = self.snapshots.iter_mut();
            if let Some(pinned) = snapshots.find(|it| it.id == snapshot.id) {
                pinned.pin = Some(pin.name.clone());
            }
        }
    }

    /// Of the copies that make older ones dispensable, the listing tells at once whether they are whole.
    async fn look_at(
        &mut self,
        repository: &dyn Repository,
        newest: Newest,
    ) -> Result<(), RepositoryError> {
        let mut lengths = ObjectLengths::default();
        for (target, (snapshot, artifacts)) in newest {
            for artifact in artifacts {
                if let Some(fault) = judge_length(&mut lengths, repository, &artifact).await? {
                    let problem = Problem {
                        target: Some(target.clone()),
                        object: Some(artifact.object),
                        fault,
                    };
                    self.damaged.push(Damaged {
                        snapshot: snapshot.clone(),
                        problem,
                    });
                }
            }
        }
        Ok(())
    }

    pub fn judge(&self, in_use: &BTreeSet<SnapshotRef>, terms: &Terms) -> Pruning {
        let of_project = in_use.iter().filter(|one| one.project == self.project);
        let evidence = Evidence {
            project: &self.project,
            snapshots: &self.snapshots,
            unreadable: &self.unreadable,
            damaged: &self.damaged,
            in_use: &of_project.map(|one| one.id.clone()).collect(),
        };
        evaluate(&evidence, terms, Timestamp::now())
    }

    /// What the repository would get back, in bytes, by the manifests' word.
    pub fn freed_by(&self, pruning: &Pruning) -> u64 {
        let going: BTreeSet<&RunId> = pruning.going().collect();
        let contents = self.contents.iter();
        let (going, staying): (Vec<_>, Vec<_>) = contents.partition(|(id, _)| going.contains(id));
        let named: BTreeSet<&ObjectPath> = staying
            .iter()
            .flat_map(|(_, it)| it.objects.keys())
            .collect();
        let freed: BTreeMap<&ObjectPath, u64> = going
            .iter()
            .flat_map(|(_, it)| &it.objects)
            .filter(|(object, _)| !named.contains(object))
            .map(|(object, bytes)| (object, *bytes))
            .collect();
        freed.values().sum()
    }
}

/// What became of a project's snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PruneReport {
    pub project: String,
    /// Oldest first.
    pub removed: Vec<RunId>,
    pub staying: usize,
    /// What the removed objects took in the repository, in bytes.
    pub freed_bytes: u64,
    /// Why nothing was removed.
    pub doubts: Vec<Doubt>,
    /// The repository does not let anything be removed, by design, as one that can only be added to: why it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What ended it early.
    pub problems: Vec<String>,
    pub interrupted: bool,
}

impl PruneReport {
    /// Nothing is to be looked at. That a repository forbids removals is as somebody wanted it.
    pub fn is_as_it_should_be(&self) -> bool {
        self.doubts.is_empty() && self.problems.is_empty() && !self.interrupted
    }

    fn failed(&mut self, error: &RepositoryError) {
        if error.is_refusal() {
            self.refused = Some(error.to_string());
        } else {
            self.problems.push(error.to_string());
        }
    }
}

/// Prunes the project of a backup, when there is a policy to go by.
pub async fn prune_after(session: &Session, manifest: &Manifest) -> Option<PruneReport> {
    let mut records = manifest.targets.iter();
    let has_policy =
        session.retention.keep.is_some() || records.any(|record| record.container.keep.is_some());
    if !has_policy {
        return None;
    }
    let repository = &*session.repository;
    let terms = &session.retention;
    let no_pins = std::future::ready(Ok(Pins::new()));
    Some(prune_place(session, repository, terms, &manifest.project, no_pins).await)
}

/// Those of `lacking` that a prune of the second place would leave there: what its policy removes need not be sent again.
/// Whether there are doubts does not matter for that.
pub async fn worth_sending(
    from: &dyn Repository,
    place: &dyn Repository,
    terms: &Terms,
    project: &str,
    lacking: Vec<SnapshotRef>,
) -> Result<Vec<SnapshotRef>, RepositoryError> {
    if terms.keep.is_none() {
        return Ok(lacking);
    }
    let mut stock = Stock::take(place, project).await?;
    let mut manifests = pin!(repository::manifests(from, lacking.clone()));
    while let Some((_, manifest)) = manifests.next().await {
        // One that cannot be read is told when it is to be sent.
        stock.snapshots.extend(manifest.iter().map(Snapshot::from));
    }
    stock.spare(&from.pins(Some(project)).await?);
    let pruning = stock.judge(&BTreeSet::new(), terms);
    let verdicts = pruning.verdicts.iter();
    let going: BTreeSet<&RunId> = verdicts
        .filter(|verdict| matches!(verdict.fate, Fate::Goes { .. }))
        .map(|verdict| &verdict.snapshot)
        .collect();
    let mut worth = lacking;
    worth.retain(|snapshot| !going.contains(&snapshot.id));
    Ok(worth)
}

/// Prunes a project in a second place, when there is a policy for those. What is pinned in the first place stays in both.
pub async fn prune_copies(
    session: &Session,
    place: &dyn Repository,
    project: &str,
) -> Option<PruneReport> {
    let terms = &session.copies.retention;
    terms.keep.as_ref()?;
    let pinned_here = session.repository.pins(Some(project));
    Some(prune_place(session, place, terms, project, pinned_here).await)
}

async fn prune_place(
    session: &Session,
    repository: &dyn Repository,
    terms: &Terms,
    project: &str,
    pinned_elsewhere: impl Future<Output = Result<Pins, RepositoryError>>,
) -> PruneReport {
    let in_use = || Lock::snapshots_in_use(&session.engine, project);
    let pruned = async {
        let mut stock = Stock::take(repository, project).await?;
        stock.spare(&pinned_elsewhere.await?);
        let pruning = stock.judge(&in_use().await?, terms);
        let prune = Prune {
            repository,
            stock: &stock,
            interrupt: &session.interrupt,
        };
        Ok::<_, PruneError>(prune.execute(&pruning, in_use()).await)
    };
    pruned.await.unwrap_or_else(|error| PruneReport {
        project: project.to_owned(),
        problems: vec![error.to_string()],
        ..PruneReport::default()
    })
}

#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Hold(#[from] HoldError),
}

/// One project's prune, ready to run.
pub struct Prune<'a> {
    pub repository: &'a dyn Repository,
    pub stock: &'a Stock,
    pub interrupt: &'a CancellationToken,
}

impl Prune<'_> {
    /// Removes what goes. `in_use` tells which snapshots restores are reading, at the moment when it is polled.
    pub async fn execute(
        &self,
        pruning: &Pruning,
        in_use: impl Future<Output = Result<BTreeSet<SnapshotRef>, HoldError>>,
    ) -> PruneReport {
        let mut report = PruneReport {
            project: pruning.project.clone(),
            doubts: pruning.doubts.clone(),
            ..PruneReport::default()
        };
        if let Err(error) = self.remove_manifests(pruning, &mut report).await {
            report.failed(&error);
        }
        report.staying = pruning.verdicts.len() - report.removed.len();
        if report.removed.is_empty() {
            return report;
        }
        match in_use.await {
            Ok(in_use) => {
                if let Err(error) = self.remove_objects(&in_use, &mut report).await {
                    report.failed(&error);
                }
            }
            Err(error) => report.problems.push(error.to_string()),
        }
        report
    }

    async fn remove_manifests(
        &self,
        pruning: &Pruning,
        report: &mut PruneReport,
    ) -> Result<(), RepositoryError> {
        let project = Some(self.stock.project.as_str());
        let mut pins = Pins::new();
        if pruning.going().next().is_some() {
            // What somebody has pinned since the verdicts stays.
            pins = self.repository.pins(project).await?;
        }
        let is_pinned = |id: &&RunId| pins.keys().any(|pinned| pinned.id == **id);
        for id in pruning.going().filter(|id| !is_pinned(id)) {
            if self.interrupt.is_cancelled() {
                report.interrupted = true;
                break;
            }
            let snapshot = SnapshotRef::new(&self.stock.project, id.clone());
            self.repository.remove(&snapshot, &[]).await?;
            info!(%snapshot, "removed");
            report.removed.push(id.clone());
        }
        Ok(())
    }

    /// The objects of what was removed, as far as nobody needs them now.
    async fn remove_objects(
        &self,
        in_use: &BTreeSet<SnapshotRef>,
        report: &mut PruneReport,
    ) -> Result<(), RepositoryError> {
        let listed = self.repository.list(Some(&self.stock.project)).await?;
        let listed: BTreeSet<SnapshotRef> = listed.into_iter().collect();
        let mut needed = self.named_by(&listed).await?;
        // What a server has left out of its listing, this once, is there all the same.
        let removed: BTreeSet<&RunId> = report.removed.iter().collect();
        let others = self.stock.contents.iter();
        let others = others.filter(|(id, _)| !removed.contains(id));
        needed.extend(others.flat_map(|(_, contents)| contents.objects.keys().cloned()));
        let read = in_use
            .iter()
            .filter(|one| one.project == self.stock.project);
        let read = read.filter_map(|one| self.stock.contents.get(&one.id));
        needed.extend(read.flat_map(|contents| contents.objects.keys().cloned()));

        for (place, objects) in self.unneeded(&report.removed, &needed) {
            // To remove something from the place of a snapshot that is there would be to remove its manifest.
            if listed.contains(&place) {
                continue;
            }
            if self.interrupt.is_cancelled() {
                report.interrupted = true;
                break;
            }
            let paths: Vec<ObjectPath> = objects.keys().cloned().collect();
            self.repository.remove(&place, &paths).await?;
            report.freed_bytes += objects.values().sum::<u64>();
        }
        Ok(())
    }

    /// What the listed snapshots name. Those that came to be since the stock was taken are read; when one cannot be, that
    /// is an error: nobody knows what it names.
    async fn named_by(
        &self,
        listed: &BTreeSet<SnapshotRef>,
    ) -> Result<BTreeSet<ObjectPath>, RepositoryError> {
        let mut named = BTreeSet::new();
        for snapshot in listed {
            match self.stock.contents.get(&snapshot.id) {
                Some(contents) => named.extend(contents.objects.keys().cloned()),
                None => {
                    let manifest = self.repository.manifest(snapshot).await?;
                    named.extend(Contents::from(&manifest).objects.into_keys());
                }
            }
        }
        Ok(named)
    }

    /// The objects of these snapshots that are not needed and old enough, by the place in which they lie, with their bytes.
    fn unneeded(
        &self,
        removed: &[RunId],
        needed: &BTreeSet<ObjectPath>,
    ) -> BTreeMap<SnapshotRef, BTreeMap<ObjectPath, u64>> {
        let now = Timestamp::now();
        let contents = removed.iter().filter_map(|id| self.stock.contents.get(id));
        let old = contents.filter(|one| now.duration_since(one.finished) > YOUNG);
        let mut places: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (object, bytes) in old.flat_map(|one| &one.objects) {
            if let Some(place) = SnapshotRef::of(object)
                && !needed.contains(object)
            {
                let place = places.entry(place).or_default();
                place.insert(object.clone(), *bytes);
            }
        }
        places
    }
}

/// Finishes what killed runs and prunes have left, unless a restore reads a snapshot of the project: its manifest may be gone
/// already, and its objects left to it. That it cannot be done costs space, and nothing else.
pub async fn sweep(
    repository: &dyn Repository,
    project: &str,
    in_use: impl Future<Output = Result<BTreeSet<SnapshotRef>, HoldError>>,
) {
    match in_use.await {
        Ok(in_use) if in_use.iter().all(|one| one.project != project) => {}
        Ok(_) => return,
        Err(error) => return error!("could not remove leftovers of unfinished runs: {error}"),
    }
    match repository.sweep(project).await {
        Ok(removed) => removed
            .iter()
            .for_each(|path| info!(path, "removed a leftover of an unfinished run")),
        Err(error) => error!("could not remove leftovers of unfinished runs: {error}"),
    }
}

#[cfg(test)]
mod tests;
