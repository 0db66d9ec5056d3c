//! Why nothing of a project is pruned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::snapshot::Standing;
use super::{Judge, Series, Snapshot};
use crate::history::retention::Despite;
use crate::manifest::Shrunken;
use crate::snapshot::verify::Problem;
use crate::target::{RunId, TargetId};

/// By how much the clocks of two machines may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "doubt", rename_all = "kebab-case")]
pub enum Doubt {
    /// The project's place is empty: perhaps it is not the place that was meant.
    NoSnapshots,
    /// Nobody knows what it holds.
    Unreadable(Unreadable),
    /// Older copies are all there is of the target.
    Damaged(Damaged),
    /// It was taken later than now: one of the clocks is wrong, and ages mean nothing.
    FromTheFuture {
        snapshot: RunId,
        started: Timestamp,
        now: Timestamp,
    },
    /// The newest run that was meant to save the target did not.
    Failed { target: TargetId, snapshot: RunId },
    /// The newest copy of a target is far smaller than the last good one.
    Shrunken {
        snapshot: RunId,
        #[serde(flatten)]
        shrunken: Shrunken,
    },
    /// Somebody has started what was held while the newest copies were taken.
    Disturbed {
        snapshot: RunId,
        services: Vec<String>,
    },
}

/// A snapshot whose manifest is damaged, of a newer format, or cannot be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    pub snapshot: RunId,
    pub why: String,
}

/// A copy of a target of which a look at the repository's listing says that it is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    pub snapshot: RunId,
    pub problem: Problem,
}

impl Judge<'_> {
    pub(super) fn doubts(&self, now: Timestamp) -> Vec<Doubt> {
        let unreadable = self.evidence.unreadable;
        if self.snapshots.is_empty() && unreadable.is_empty() {
            return vec![Doubt::NoSnapshots];
        }
        let mut doubts: Vec<Doubt> = unreadable.iter().cloned().map(Doubt::Unreadable).collect();
        doubts.extend(self.damaged());
        doubts.extend(self.later_than(now));
        if !self.terms.despite.contains(&Despite::Failed) {
            doubts.extend(self.failed());
        }
        if !self.terms.despite.contains(&Despite::Shrunken) {
            doubts.extend(self.shrunken());
        }
        if !self.terms.despite.contains(&Despite::Disturbed) {
            doubts.extend(self.disturbed());
        }
        doubts
    }

    /// What the stack does not have any more is not taken again, and would be a doubt for good.
    fn damaged(&self) -> impl Iterator<Item = Doubt> {
        let newest = self.newest_of(Standing::Saved);
        let is_newest = move |damaged: &&Damaged| {
            newest.iter().any(|(target, snapshot)| {
                damaged.problem.target.as_ref() == Some(target) && damaged.snapshot == snapshot.id
            })
        };
        let damaged = self.evidence.damaged.iter().filter(is_newest);
        damaged.cloned().map(Doubt::Damaged)
    }

    fn later_than(&self, now: Timestamp) -> impl Iterator<Item = Doubt> {
        let is_later = move |snapshot: &&&Snapshot| {
            let lead = snapshot.started.duration_since(now);
            lead.is_positive() && lead.unsigned_abs() > CLOCK_TOLERANCE
        };
        let later = self.snapshots.iter().filter(is_later);
        later.map(move |snapshot| Doubt::FromTheFuture {
            snapshot: snapshot.id.clone(),
            started: snapshot.started,
            now,
        })
    }

    fn failed(&self) -> impl Iterator<Item = Doubt> {
        let failed = self.newest_of(Standing::Failed).into_iter();
        failed.map(|(target, snapshot)| Doubt::Failed {
            target: target.clone(),
            snapshot: snapshot.id.clone(),
        })
    }

    /// The targets with this standing in the newest run that was meant to save them. What the newest run of its series does
    /// not name is gone from the stack, and so is what the newest run of the whole does not: each node of a swarm by itself.
    fn newest_of(&self, wanted: Standing) -> Vec<(&TargetId, &Snapshot)> {
        let mut series = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let mut whole = BTreeSet::new();
        for snapshot in &self.backups {
            if whole.contains(&snapshot.node) || !series.insert((&snapshot.node, &snapshot.series))
            {
                continue;
            }
            let saved = snapshot
                .saved
                .keys()
                .map(|target| (target, Standing::Saved));
            let failed = snapshot.failed.iter();
            let failed = failed.map(|target| (target, Standing::Failed));
            for (target, standing) in saved.chain(failed) {
                if seen.insert(target) && standing == wanted {
                    found.push((target, *snapshot));
                }
            }
            if snapshot.series == Series::Whole {
                whole.insert(&snapshot.node);
            }
        }
        found.sort_by_key(|(target, _)| *target);
        found
    }

    fn disturbed(&self) -> impl Iterator<Item = Doubt> {
        let saved = self.newest_of(Standing::Saved).into_iter();
        let snapshots = saved.map(|(_, snapshot)| snapshot);
        let snapshots: BTreeMap<&RunId, &Snapshot> =
            snapshots.map(|snapshot| (&snapshot.id, snapshot)).collect();
        let disturbed = snapshots.into_values();
        let disturbed = disturbed.filter(|snapshot| !snapshot.disturbed.is_empty());
        disturbed.map(|snapshot| Doubt::Disturbed {
            snapshot: snapshot.id.clone(),
            services: snapshot.disturbed.clone(),
        })
    }

    fn shrunken(&self) -> impl Iterator<Item = Doubt> {
        let saved = self.newest_of(Standing::Saved).into_iter();
        saved.filter_map(|(target, snapshot)| {
            let mut shrunken = snapshot.shrunken.iter();
            let shrunken = shrunken.find(|one| one.target == *target)?;
            Some(Doubt::Shrunken {
                snapshot: snapshot.id.clone(),
                shrunken: shrunken.clone(),
            })
        })
    }
}
