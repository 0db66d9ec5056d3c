//! Why nothing of a project is pruned.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{Judge, Series, Snapshot, Standing};
use crate::cli::Despite;
use crate::target::{RunId, TargetId};

/// A copy of less than one part in this many of the last good one's size makes one ask what became of the rest.
const SUSPICIOUS_PART: u64 = 2;

/// Nobody asks after so few bytes: small stores come and go.
const NEGLIGIBLE_LOSS: u64 = 64 * 1024;

/// By how much the clocks of two machines may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "doubt", rename_all = "kebab-case")]
pub enum Doubt {
    /// The project's place is empty: perhaps it is not the place that was meant.
    NoSnapshots,
    /// Nobody knows what it holds.
    Unreadable(Unreadable),
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
        target: TargetId,
        snapshot: RunId,
        bytes: u64,
        before: RunId,
        bytes_before: u64,
    },
}

/// A snapshot whose manifest is damaged, of a newer format, or cannot be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    pub snapshot: RunId,
    pub why: String,
}

impl Judge<'_> {
    pub(super) fn doubts(&self, now: Timestamp) -> Vec<Doubt> {
        let unreadable = self.evidence.unreadable;
        if self.snapshots.is_empty() && unreadable.is_empty() {
            return vec![Doubt::NoSnapshots];
        }
        let mut doubts: Vec<Doubt> = unreadable.iter().cloned().map(Doubt::Unreadable).collect();
        doubts.extend(self.later_than(now));
        if !self.terms.despite.contains(&Despite::Failed) {
            doubts.extend(self.failed());
        }
        if !self.terms.despite.contains(&Despite::Shrunken) {
            let present = self.newest_of(Standing::Saved);
            doubts.extend(
                present
                    .into_iter()
                    .filter_map(|(target, _)| self.shrunken(target)),
            );
        }
        doubts
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

    /// The targets with this standing in the newest run that was meant to save them. After a run of the whole, what it does
    /// not name is gone from the stack.
    fn newest_of(&self, wanted: Standing) -> Vec<(&TargetId, &Snapshot)> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for snapshot in &self.backups {
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
                break;
            }
        }
        found.sort_by_key(|(target, _)| *target);
        found
    }

    /// A copy that shrank is no measure for the next one, or the second night would find nothing to ask: the one before it
    /// stays the measure, until there is as much again or the user says that there will not be.
    fn shrunken(&self, target: &TargetId) -> Option<Doubt> {
        let oldest_first = self.backups.iter().rev();
        let mut good: Option<(&Snapshot, u64)> = None;
        let mut doubt = None;
        for snapshot in oldest_first {
            let Some(copy) = snapshot.saved.get(target) else {
                continue;
            };
            let may_shrink = snapshot.may_shrink.contains(target);
            match good {
                Some((before, bytes_before))
                    if !may_shrink && is_suspicious(bytes_before, copy.bytes) =>
                {
                    doubt = Some(Doubt::Shrunken {
                        target: target.clone(),
                        snapshot: snapshot.id.clone(),
                        bytes: copy.bytes,
                        before: before.id.clone(),
                        bytes_before,
                    });
                }
                _ => {
                    good = Some((snapshot, copy.bytes));
                    doubt = None;
                }
            }
        }
        doubt
    }
}

fn is_suspicious(before: u64, now: u64) -> bool {
    now < before / SUSPICIOUS_PART && before - now > NEGLIGIBLE_LOSS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_half_is_suspicious_unless_it_is_little() {
        const MIB: u64 = 1 << 20;
        for (before, now, expected) in [
            (0, 0, false),
            (0, MIB, false),
            (MIB, MIB, false),
            (MIB, 2 * MIB, false),
            (MIB, MIB / 2, false),
            (MIB, MIB / 2 - 1, true),
            (MIB, 0, true),
            (60 * 1024, 0, false),
            (64 * 1024, 0, false),
            (64 * 1024 + 1, 0, true),
            (u64::MAX, 1, true),
        ] {
            assert_eq!(is_suspicious(before, now), expected, "{before} {now}");
        }
    }
}
