//! Which snapshots of a project stay, which go, and why. Pure: what the manifests say comes in, a [`Pruning`] comes out,
//! which `prune --dry-run` shows and [`crate::run::prune`] carries out.
//!
//! Policies count **copies of a target**, not snapshots: a run in which a target failed is no copy of it, and takes no
//! good one's place. A snapshot stays when the policy of any of its targets keeps it.
//!
//! - A series is what was asked for in the same words: all that labels ask for, or the same selection of it. Runs of the
//!   whole count in every series, since they leave nothing out; a selection never counts as the whole.
//! - In a swarm, a run saves what is on its node. It is counted for a target of another node only if it holds a copy of it.
//! - A target that the stack does not have any more ages with the runs of its series, as if they held it. Its last copy
//!   stays for good.
//! - What somebody has made by hand stays for a day by the clock, and what is pinned until the pin is taken out.
//! - Every policy is measured from the newest snapshots, never from the clock: backups that have stopped take nothing
//!   with them.
//! - What is kept is decided for each rule by itself, so that pruning twice is pruning once, and a newer snapshot never
//!   brings back what an earlier evaluation gave up.
//!
//! When there is a [`Doubt`], nothing of the project goes.

mod doubt;
mod pick;
mod snapshot;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use doubt::{Damaged, Doubt, Unreadable};
pub use snapshot::{GoodCopy, Series, Snapshot};

use self::snapshot::Standing;
use crate::keep::KeepPolicy;
use crate::target::{RunId, TargetId};

/// A doubt that the user may have looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Despite {
    /// A target failed in the newest snapshot: older copies of it stay all the same
    Failed,
    /// A target has become far smaller than its last good copy
    Shrunken,
    /// Somebody has started a service while it was held for the newest snapshot
    Disturbed,
}

/// How long the way back that a restore took for itself stays, measured to the newest backup.
const SAFETY_STAYS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How long a snapshot stays at least that somebody has made by hand: it may be the way back of what they are doing.
const BY_HAND_STAYS: SignedDuration = SignedDuration::from_hours(24);

/// What the user has configured.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Of targets whose container has no `cofferdam.keep`; `None`: all of their copies stay.
    pub keep: Option<KeepPolicy>,
    /// Whose days and weeks are counted.
    pub time_zone: TimeZone,
    /// Doubts that the user has looked into.
    pub despite: Vec<Despite>,
}

/// What is known of a project.
pub struct Evidence<'a> {
    pub project: &'a str,
    /// In any order.
    pub snapshots: &'a [Snapshot],
    pub unreadable: &'a [Unreadable],
    /// Of the newest copies of the targets.
    pub damaged: &'a [Damaged],
    /// What restores are reading, or need for their way back.
    pub in_use: &'a BTreeSet<RunId>,
}

/// What is to be done with the snapshots of a project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pruning {
    pub project: String,
    /// Why nothing goes, whatever the policies say.
    pub doubts: Vec<Doubt>,
    /// Oldest first.
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub snapshot: RunId,
    pub started: Timestamp,
    #[serde(flatten)]
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "fate", rename_all = "lowercase")]
pub enum Fate {
    /// For each of these reasons; there is at least one.
    Stays {
        reasons: Vec<Reason>,
    },
    Goes {
        reason: Parting,
    },
}

/// Why a snapshot stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reason {
    Rule {
        rule: &'static str,
        /// The hour, day, week, month or year that it is the newest of; empty where a rule has none.
        #[serde(skip_serializing_if = "String::is_empty")]
        period: String,
        /// Whose `cofferdam.keep` it is; absent for the setting.
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// No policy speaks of some of its targets.
    NoPolicy,
    /// The `cofferdam.keep` of a target holds rules that this version does not know.
    UnknownPolicy { service: String, keep: String },
    /// There is no newer good copy of the target.
    LastCopy { target: TargetId },
    /// Somebody has made it by hand, less than a day ago.
    ByHand,
    /// Until somebody takes the pin out.
    Pinned { name: String },
    /// A restore's way back, and not old yet.
    Safety,
    /// A restore is under way that needs it.
    InUse,
}

/// Why a snapshot goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Parting {
    /// None of these policies keeps it.
    Policies { policies: Vec<String> },
    /// A restore's way back that nobody needed.
    OldSafety,
}

impl Pruning {
    /// What is to be removed, oldest first: nothing when there is a doubt.
    pub fn going(&self) -> impl Iterator<Item = &RunId> {
        let verdicts = self.verdicts.iter().filter(|_| self.doubts.is_empty());
        verdicts
            .filter(|verdict| matches!(verdict.fate, Fate::Goes { .. }))
            .map(|verdict| &verdict.snapshot)
    }

    /// Whether any policy was there to be asked.
    pub fn has_policy(&self) -> bool {
        self.verdicts.iter().any(|verdict| match &verdict.fate {
            Fate::Goes { .. } => true,
            Fate::Stays { reasons } => reasons.iter().any(|reason| {
                use Reason::{ByHand, NoPolicy, Pinned};
                !matches!(reason, NoPolicy | ByHand | Pinned { .. })
            }),
        })
    }
}

pub fn evaluate(evidence: &Evidence<'_>, terms: &Terms, now: Timestamp) -> Pruning {
    let mut snapshots: Vec<&Snapshot> = evidence.snapshots.iter().collect();
    snapshots.sort_by_key(|snapshot| Reverse((snapshot.started, &snapshot.id)));
    let judge = Judge {
        evidence,
        terms,
        backups: snapshots
            .iter()
            .copied()
            .filter(|snapshot| snapshot.is_backup())
            .collect(),
        snapshots,
    };
    Pruning {
        project: evidence.project.to_owned(),
        doubts: judge.doubts(now),
        verdicts: judge.verdicts(now),
    }
}

/// Who decides how long the copies of a target stay.
#[derive(Clone, Debug)]
enum Policy<'a> {
    Rules {
        keep: KeepPolicy,
        /// Whose label it is.
        service: Option<&'a str>,
    },
    None,
    Unknown {
        service: &'a str,
        keep: &'a str,
    },
}

struct Judge<'a> {
    evidence: &'a Evidence<'a>,
    terms: &'a Terms,
    /// Newest first.
    snapshots: Vec<&'a Snapshot>,
    /// Those that no restore took, newest first.
    backups: Vec<&'a Snapshot>,
}

type Reasons<'a> = BTreeMap<&'a RunId, BTreeSet<Reason>>;

impl<'a> Judge<'a> {
    fn verdicts(&self, now: Timestamp) -> Vec<Verdict> {
        let policies = self.policies();
        let mut reasons = Reasons::new();
        self.ask_policies(&policies, &mut reasons);
        self.spare_safety(&mut reasons);
        self.spare_what_somebody_wants(now, &mut reasons);
        self.spare_what_is_in_use(&mut reasons);
        self.spare_last_copies(&mut reasons);
        let oldest_first = self.snapshots.iter().rev();
        oldest_first
            .map(|snapshot| Verdict {
                snapshot: snapshot.id.clone(),
                started: snapshot.started,
                fate: match reasons.remove(&snapshot.id) {
                    Some(reasons) => Fate::Stays {
                        reasons: reasons.into_iter().collect(),
                    },
                    None => Fate::Goes {
                        reason: parting(snapshot, &policies),
                    },
                },
            })
            .collect()
    }

    /// The newest copy tells what its container's label says.
    fn policies(&self) -> BTreeMap<&'a TargetId, Policy<'a>> {
        let mut policies = BTreeMap::new();
        for snapshot in &self.backups {
            for (target, copy) in &snapshot.saved {
                policies
                    .entry(target)
                    .or_insert_with(|| self.policy(target, copy));
            }
        }
        policies
    }

    fn policy(&self, target: &'a TargetId, copy: &'a GoodCopy) -> Policy<'a> {
        let service = target.service.as_str();
        match (&copy.keep, &self.terms.keep) {
            (Some(keep), _) => match keep.parse() {
                Ok(rules) => Policy::Rules {
                    keep: rules,
                    service: Some(service),
                },
                Err(_) => Policy::Unknown { service, keep },
            },
            (None, Some(keep)) => Policy::Rules {
                keep: keep.clone(),
                service: None,
            },
            (None, None) => Policy::None,
        }
    }

    fn ask_policies(
        &self,
        policies: &BTreeMap<&'a TargetId, Policy<'a>>,
        reasons: &mut Reasons<'a>,
    ) {
        let series: BTreeSet<&Series> = self.backups.iter().map(|one| &one.series).collect();
        for series in series {
            for (target, policy) in policies {
                let members = self.backups.iter().filter(|one| one.series == *series);
                match policy {
                    Policy::Rules { keep, service } => {
                        let service = service.map(str::to_owned);
                        let counted = self.counted(series, target);
                        for pick in pick::pick(keep, &counted, &self.terms.time_zone) {
                            let snapshot = pick.snapshot;
                            if snapshot.series == *series && snapshot.saved.contains_key(target) {
                                reasons
                                    .entry(&snapshot.id)
                                    .or_default()
                                    .insert(Reason::Rule {
                                        rule: pick.rule,
                                        period: pick.period,
                                        service: service.clone(),
                                    });
                            }
                        }
                    }
                    Policy::None => spare(members, target, reasons, &Reason::NoPolicy),
                    Policy::Unknown { service, keep } => {
                        let reason = Reason::UnknownPolicy {
                            service: (*service).to_owned(),
                            keep: (*keep).to_owned(),
                        };
                        spare(members, target, reasons, &reason);
                    }
                }
            }
        }
    }

    /// The runs, newest first, that a policy of the target counts in a series.
    fn counted(&self, series: &Series, target: &TargetId) -> Vec<&'a Snapshot> {
        let backups = self.backups.iter().copied();
        let home = backups
            .clone()
            .find(|one| one.saved.contains_key(target))
            .map(|newest| &newest.node);
        let could_hold = |one: &&Snapshot| match one.standing(target) {
            Standing::Saved => true,
            Standing::Absent => Some(&one.node) == home,
            Standing::Failed => false,
        };
        backups
            .filter(|one| one.series == *series || one.series == Series::Whole)
            .filter(could_hold)
            .collect()
    }

    fn spare_safety(&self, reasons: &mut Reasons<'a>) {
        let newest = self.backups.first().map(|newest| newest.started);
        let safety = self.snapshots.iter().filter(|one| !one.is_backup());
        for snapshot in safety {
            let is_old = newest.is_some_and(|newest| {
                let age = newest.duration_since(snapshot.started);
                age.is_positive() && age.unsigned_abs() > SAFETY_STAYS
            });
            let reason = match &self.terms.keep {
                None => Reason::NoPolicy,
                Some(_) if is_old => continue,
                Some(_) => Reason::Safety,
            };
            reasons.entry(&snapshot.id).or_default().insert(reason);
        }
    }

    fn spare_what_somebody_wants(&self, now: Timestamp, reasons: &mut Reasons<'a>) {
        for snapshot in &self.snapshots {
            let is_young = |made: Timestamp| now.duration_since(made) < BY_HAND_STAYS;
            let by_hand = snapshot.made_by_hand.is_some_and(is_young);
            let by_hand = by_hand.then_some(Reason::ByHand);
            let pin = snapshot.pin.clone().map(|name| Reason::Pinned { name });
            for reason in by_hand.into_iter().chain(pin) {
                reasons.entry(&snapshot.id).or_default().insert(reason);
            }
        }
    }

    fn spare_what_is_in_use(&self, reasons: &mut Reasons<'a>) {
        let in_use = |snapshot: &&&Snapshot| self.evidence.in_use.contains(&snapshot.id);
        for snapshot in self.snapshots.iter().filter(in_use) {
            let reasons = reasons.entry(&snapshot.id).or_default();
            reasons.insert(Reason::InUse);
        }
    }

    fn is_damaged(&self, snapshot: &Snapshot, target: &TargetId) -> bool {
        let mut damaged = self.evidence.damaged.iter();
        damaged
            .any(|one| one.snapshot == snapshot.id && one.problem.target.as_ref() == Some(target))
    }

    /// Said only where nothing else keeps a snapshot: of every other one it is plain. Where the last copy has shrunk, the
    /// last one that had not stays as well, unless the user has looked into it; where it is damaged, the one before it does.
    fn spare_last_copies(&self, reasons: &mut Reasons<'a>) {
        let may_shrink = self.terms.despite.contains(&Despite::Shrunken);
        let mut last: BTreeMap<&TargetId, &RunId> = BTreeMap::new();
        let mut last_good: BTreeMap<&TargetId, &RunId> = BTreeMap::new();
        let safety = self.snapshots.iter().filter(|one| !one.is_backup());
        for snapshot in self.backups.iter().chain(safety) {
            for target in snapshot.saved.keys() {
                last.entry(target).or_insert(&snapshot.id);
                let is_good = may_shrink || !snapshot.has_shrunk(target);
                if is_good && !self.is_damaged(snapshot, target) {
                    last_good.entry(target).or_insert(&snapshot.id);
                }
            }
        }
        let kept: BTreeSet<&RunId> = reasons.keys().copied().collect();
        for (target, snapshot) in last.into_iter().chain(last_good) {
            if !kept.contains(snapshot) {
                let target = target.clone();
                let reasons = reasons.entry(snapshot).or_default();
                reasons.insert(Reason::LastCopy { target });
            }
        }
    }
}

/// Keeps all of the snapshots that hold a copy of the target.
fn spare<'a: 'b, 'b>(
    snapshots: impl Iterator<Item = &'b &'a Snapshot>,
    target: &TargetId,
    reasons: &mut Reasons<'a>,
    reason: &Reason,
) {
    for snapshot in snapshots.filter(|one| one.saved.contains_key(target)) {
        reasons
            .entry(&snapshot.id)
            .or_default()
            .insert(reason.clone());
    }
}

fn parting(snapshot: &Snapshot, policies: &BTreeMap<&TargetId, Policy<'_>>) -> Parting {
    if !snapshot.is_backup() {
        return Parting::OldSafety;
    }
    let asked = snapshot
        .saved
        .keys()
        .filter_map(|target| policies.get(target));
    let asked: BTreeSet<String> = asked
        .filter_map(|policy| match policy {
            Policy::Rules {
                keep,
                service: None,
            } => Some(keep.to_string()),
            Policy::Rules {
                keep,
                service: Some(service),
            } => Some(format!("{keep} of {service}")),
            Policy::None | Policy::Unknown { .. } => None,
        })
        .collect();
    Parting::Policies {
        policies: asked.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;
