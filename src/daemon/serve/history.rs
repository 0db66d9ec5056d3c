//! What a project's snapshots say, boiled down to what is shown. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::amounts::between;
use crate::manifest::{Artifact, Failure, Manifest, ObjectPath, Purpose, Shrunken, TargetRecord};
use crate::repository::{RepositoryError, SnapshotRef};
use crate::target::{RunId, TargetId};

/// How many of a project's snapshots are read.
pub const MAX_SNAPSHOTS: usize = 100;

/// Of how many of them it is kept what they hold.
const MAX_DETAILED: usize = 20;

/// Clocks of two machines differ by less; a snapshot from further ahead does not count.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Debug, Default)]
pub struct History {
    /// How many snapshots there are, read or not.
    pub total: usize,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    pub targets: BTreeMap<TargetId, Copies>,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: RunId,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Read(Box<Facts>),
    /// Its manifest is damaged, or of a newer format.
    Unreadable(String),
}

#[derive(Clone, Debug)]
pub struct Facts {
    pub started: Timestamp,
    pub took: Duration,
    pub is_safety: bool,
    /// Only a part of the project was meant.
    pub is_selection: bool,
    pub is_encrypted: bool,
    /// It was dated by a clock that is ahead of ours.
    pub is_ahead: bool,
    pub plain: u64,
    pub stored: u64,
    pub failed: Vec<Failure>,
    /// Targets that have become far smaller.
    pub shrunken: Vec<Shrunken>,
    /// Services that were started while they were held.
    pub disturbed: Vec<String>,
    /// What is stored, by the hash of its path: snapshots share objects.
    objects: Box<[(u64, u64)]>,
    /// Empty when nobody has to know any more.
    pub targets: Vec<Saved>,
}

#[derive(Clone, Debug)]
pub struct Saved {
    pub target: TargetId,
    pub plain: u64,
    pub artifacts: Vec<Stored>,
}

#[derive(Clone, Debug)]
pub struct Stored {
    /// Within the snapshot's own place; else the whole path, of an object that an earlier one has stored.
    pub path: String,
    pub bytes: u64,
}

/// The newest copy of a target, and the newest attempt at one that failed.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    pub good: Option<Good>,
    pub failed: Option<Failed>,
}

#[derive(Clone, Debug)]
pub struct Good {
    pub snapshot: RunId,
    /// When the backup began: nothing in it is older.
    pub time: Timestamp,
    /// `None` where that is not known any more.
    pub plain: Option<u64>,
    pub stored: u64,
}

#[derive(Clone, Debug)]
pub struct Failed {
    pub time: Timestamp,
    pub reason: String,
}

impl Copies {
    /// Why the newest attempt failed, if it did.
    pub fn failing(&self) -> Option<&Failed> {
        let good = self.good.as_ref().map(|good| good.time);
        let failed = self.failed.as_ref();
        failed.filter(|failed| good.is_none_or(|good| good < failed.time))
    }
}

impl History {
    /// What is to be read so that the history is that of `listed`, which stand oldest first. Where it is not worth
    /// mending, it is begun anew.
    pub fn missing(&mut self, listed: &[SnapshotRef], now: Timestamp) -> Vec<SnapshotRef> {
        self.total = listed.len();
        let newest = &listed[listed.len().saturating_sub(MAX_SNAPSHOTS)..];
        let is_there = |id: &RunId| newest.iter().any(|one| one.id == *id);
        let good = self.targets.values().filter_map(|it| it.good.as_ref());
        let has_come = |snapshot: &Snapshot| {
            snapshot
                .facts()
                .is_some_and(|facts| facts.is_ahead && !is_ahead(facts.started, now))
        };
        // The copy that counts is gone, so an older one may count; or a time has come.
        let is_worthless = good
            .map(|good| &good.snapshot)
            .any(|id| !listed.iter().any(|one| one.id == *id))
            || self.snapshots.iter().any(has_come);
        if is_worthless {
            self.snapshots.clear();
            self.targets.clear();
        }
        self.snapshots.retain(|snapshot| is_there(&snapshot.id));
        let is_known = |id: &RunId| self.snapshots.iter().any(|one| one.id == *id);
        let missing = newest.iter().filter(|one| !is_known(&one.id));
        missing.cloned().collect()
    }

    /// Takes what reading a snapshot came to. One that is gone is none.
    pub fn take(
        &mut self,
        snapshot: SnapshotRef,
        manifest: Result<Manifest, RepositoryError>,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        let content = match manifest {
            Ok(manifest) => {
                let facts = Facts::new(&manifest, now);
                if !facts.is_safety && !facts.is_ahead {
                    self.count(&manifest);
                }
                Content::Read(Box::new(facts))
            }
            Err(RepositoryError::Manifest { source, .. }) => {
                Content::Unreadable(source.to_string())
            }
            Err(RepositoryError::Missing(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = snapshot.id;
        let at = self.snapshots.partition_point(|known| known.id < id);
        self.snapshots.insert(at, Snapshot { id, content });
        Ok(())
    }

    /// Nothing more is going to be taken for now.
    pub fn settle(&mut self) {
        let detailed = self.snapshots.len().saturating_sub(MAX_DETAILED);
        for snapshot in &mut self.snapshots[..detailed] {
            if let Content::Read(facts) = &mut snapshot.content {
                facts.targets = Vec::new();
                facts.failed = Vec::new();
                facts.shrunken = Vec::new();
                facts.disturbed = Vec::new();
            }
        }
    }

    fn count(&mut self, manifest: &Manifest) {
        let time = manifest.started;
        for record in &manifest.targets {
            let copies = self.targets.entry(record.target.clone()).or_default();
            if copies.good.as_ref().is_none_or(|good| good.time < time) {
                copies.good = Some(Good {
                    snapshot: manifest.snapshot.clone(),
                    time,
                    plain: Some(record.plain_bytes()),
                    stored: stored_bytes(record),
                });
            }
        }
        for failure in &manifest.failed {
            let copies = self.targets.entry(failure.target.clone()).or_default();
            if copies
                .failed
                .as_ref()
                .is_none_or(|failed| failed.time < time)
            {
                let reason = failure.reason.clone();
                copies.failed = Some(Failed { time, reason });
            }
        }
    }

    /// Of a target, or of everything that its service was to have saved by its driver, when not even that could be told.
    pub fn failing(&self, target: &TargetId) -> Option<&Failed> {
        let of = |target: &TargetId| self.targets.get(target);
        let own = of(target).and_then(Copies::failing);
        own.or_else(|| {
            let everything = TargetId::new(&*target.service, target.driver, EVERYTHING);
            let failed = of(&everything)?.failing()?;
            let good = of(target).and_then(|copies| copies.good.as_ref());
            good.is_none_or(|good| good.time < failed.time)
                .then_some(failed)
        })
    }

    /// The newest backup whose manifest can be read.
    pub fn newest(&self) -> Option<(&Snapshot, &Facts)> {
        self.backups().next_back()
    }

    /// Oldest first; those that were taken by a restore are none.
    pub fn backups(&self) -> impl DoubleEndedIterator<Item = (&Snapshot, &Facts)> {
        self.snapshots
            .iter()
            .filter_map(|snapshot| Some((snapshot, snapshot.facts()?)))
            .filter(|(_, facts)| !facts.is_safety)
    }

    /// What the snapshots that were read take in the repository, in bytes.
    pub fn stored(&self) -> u64 {
        let facts = self.snapshots.iter().filter_map(Snapshot::facts);
        let objects: BTreeMap<u64, u64> = facts.flat_map(|it| it.objects.iter().copied()).collect();
        objects
            .values()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// A backup that could not even find out what a service holds records its failure under this name.
pub const EVERYTHING: &str = "*";

impl Snapshot {
    pub fn facts(&self) -> Option<&Facts> {
        match &self.content {
            Content::Read(facts) => Some(facts),
            Content::Unreadable(_) => None,
        }
    }
}

impl Facts {
    fn new(manifest: &Manifest, now: Timestamp) -> Self {
        let saved = |record: &TargetRecord| Saved {
            target: record.target.clone(),
            plain: record.plain_bytes(),
            artifacts: record
                .artifacts
                .iter()
                .map(|artifact| Stored {
                    path: shortened(&artifact.object, &manifest.snapshot),
                    bytes: artifact.stored.bytes,
                })
                .collect(),
        };
        let object = |artifact: &Artifact| {
            let mut hasher = DefaultHasher::new();
            artifact.object.as_str().hash(&mut hasher);
            (hasher.finish(), artifact.stored.bytes)
        };
        let targets: Vec<Saved> = manifest.targets.iter().map(saved).collect();
        let objects: BTreeMap<u64, u64> = manifest.objects().map(object).collect();
        let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
        Self {
            started: manifest.started,
            took: between(manifest.started, manifest.finished),
            is_safety: manifest.purpose != Purpose::Backup,
            is_selection: !manifest.selection.is_empty(),
            is_encrypted: manifest.is_encrypted(),
            is_ahead: is_ahead(manifest.started, now),
            plain: sum(&mut targets.iter().map(|saved| saved.plain)),
            stored: sum(&mut objects.values().copied()),
            failed: manifest.failed.clone(),
            shrunken: manifest.shrunken.clone(),
            disturbed: manifest.disturbed.clone(),
            objects: objects.into_iter().collect(),
            targets,
        }
    }
}

fn shortened(object: &ObjectPath, snapshot: &RunId) -> String {
    let place = format!("{}/{snapshot}/", object.project());
    let path = object.as_str();
    path.strip_prefix(&place).unwrap_or(path).to_owned()
}

fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > CLOCK_TOLERANCE
}

fn stored_bytes(record: &TargetRecord) -> u64 {
    let stored = record.artifacts.iter().map(|one| one.stored.bytes);
    stored.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::serve::samples::{clinical, history, now, storage, whole};
    use crate::repository::samples::id;

    fn listed(days: impl Iterator<Item = u8>) -> Vec<SnapshotRef> {
        days.map(|day| SnapshotRef::new("candig", id(day)))
            .collect()
    }

    fn days(history: &History) -> Vec<String> {
        let day = |snapshot: &Snapshot| snapshot.id.as_str()[6..8].to_owned();
        history.snapshots.iter().map(day).collect()
    }

    #[test]
    fn only_what_is_new_is_read_and_what_is_gone_is_forgotten() {
        let mut history = history("candig", whole);
        assert_eq!(history.newest().unwrap().0.id, id(21));
        let listed = listed(17..=22);
        assert_eq!(history.missing(&listed, now()), listed[5..]);
        assert_eq!(days(&history), ["17", "18", "19", "20", "21"]);
        assert_eq!(history.total, 6);
    }

    #[test]
    fn without_the_copy_that_counts_everything_is_read_anew() {
        let mut history = history("candig", whole);
        let listed = listed(15..=20);
        assert_eq!(history.missing(&listed, now()), listed);
        assert!(history.targets.is_empty() && history.snapshots.is_empty());
    }

    #[test]
    fn the_newest_copy_counts_in_whatever_order_they_come() {
        let mut history = History::default();
        for day in [20_i8, 18, 21, 19] {
            let snapshot = SnapshotRef::new("candig", id(day.cast_unsigned()));
            let manifest = whole("candig", day).unwrap();
            history.take(snapshot, Ok(manifest), now()).unwrap();
        }
        assert_eq!(days(&history), ["18", "19", "20", "21"]);
        let good = history.targets[&clinical()].good.as_ref().unwrap();
        assert_eq!((&good.snapshot, good.plain), (&id(21), Some(21_000)));
        assert_eq!(
            history.stored(),
            18_000 + 19_000 + 20_000 + 21_000 + 4 * 500
        );
    }

    #[test]
    fn a_snapshot_from_the_future_does_not_count_until_its_time_has_come() {
        let mut history = History::default();
        let snapshot = SnapshotRef::new("candig", id(25));
        let manifest = whole("candig", 25).unwrap();
        history.take(snapshot, Ok(manifest), now()).unwrap();
        assert!(history.targets.is_empty());
        let listed = listed(25..=25);
        assert_eq!(history.missing(&listed, now()), []);
        let then = "2026-11-26T00:00:00Z".parse().unwrap();
        assert_eq!(history.missing(&listed, then), listed);
    }

    #[test]
    fn a_service_that_could_not_even_be_asked_fails_in_all_its_targets() {
        let mut history = history("candig", whole);
        let mut manifest = whole("candig", 22).unwrap();
        manifest.targets.clear();
        manifest.failed.push(Failure {
            target: TargetId::new("db", clinical().driver, EVERYTHING),
            reason: "no route".to_owned(),
        });
        let later = "2026-11-22T07:30:00Z".parse().unwrap();
        let snapshot = SnapshotRef::new("candig", id(22));
        history.take(snapshot, Ok(manifest), later).unwrap();
        assert_eq!(history.failing(&clinical()).unwrap().reason, "no route");
        assert!(history.failing(&storage()).is_none());
    }
}
