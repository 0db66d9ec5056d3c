//! Whether each target has a recent good backup.
//!
//! A target is known when a backup has saved it or failed to, when a status file of an earlier check names it, or when it
//! is expected. It stays known when newer snapshots do not name it any more: a label that was lost looks just like a target
//! that was removed on purpose. What is gone on purpose is retired by name, or skipped
//! by its service's label.
//!
//! A **copy** counts as good when a backup took it, its manifest can be read, its time has come, and all of its objects are
//! there with their lengths. Whether their content is still whole is for [`crate::snapshot::verify`] to say. Safety snapshots of
//! restores do not count: they hold what somebody wanted to be rid of.

mod goals;
mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::history::selectors::TargetPattern;
use crate::repository::status::StatusPath;
use crate::repository::{self, Repository, RepositoryError, SnapshotRef};
use crate::snapshot::verify::Problem;
use crate::target::{RunId, TargetId};
pub use goals::Goals;
use history::Histories;

/// Clocks of two machines differ by less; a snapshot from further ahead is told.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub now: Timestamp,
    pub goals: Goals,
    /// Only what fits one of these; when empty, everything.
    pub targets: Vec<TargetPattern>,
    /// Targets that must have a backup, whether or not the repository has ever heard of them.
    pub expected: BTreeSet<TargetId>,
    /// What is gone on purpose.
    pub retired: Vec<TargetPattern>,
    /// Where status files tell which targets there are, snapshots from before that are only read for what no newer one has a
    /// good copy of.
    pub horizon: Option<Timestamp>,
}

impl Question {
    fn asks_for(&self, target: &TargetId) -> bool {
        let fits = |patterns: &[TargetPattern]| patterns.iter().any(|it| it.matches(target));
        self.expected.contains(target)
            || ((self.targets.is_empty() || fits(&self.targets)) && !self.is_retired(target))
    }

    pub fn is_retired(&self, target: &TargetId) -> bool {
        let named = self.retired.iter().any(|pattern| pattern.matches(target));
        named && !self.expected.contains(target)
    }

    fn is_in_the_future(&self, time: Timestamp) -> bool {
        time.duration_since(self.now) > CLOCK_TOLERANCE
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FreshnessError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(
        "an expected target belongs to one project, but {projects} are selected; name one with --project"
    )]
    ExpectedWhere { projects: usize },
}

#[derive(Clone, Debug, Serialize)]
pub struct FreshnessReport {
    pub checked: Timestamp,
    /// As the user named it, without secrets.
    pub repository: String,
    pub projects: Vec<ProjectReport>,
    /// What concerns no single target.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProjectReport {
    pub project: String,
    pub targets: Vec<TargetReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetReport {
    pub target: TargetId,
    #[serde(flatten)]
    pub state: State,
    /// How old its last good copy may be; `None`: as old as it likes.
    pub max_age_seconds: Option<u64>,
    pub last_good: Option<GoodCopy>,
    /// Newer ones that do not count, newest first: the first few.
    pub passed_over: Vec<PassedOver>,
    /// How many more of them there are.
    pub passed_over_more: usize,
    /// How many of the newest snapshots name the target neither as saved nor as failed.
    pub absent_from: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    Ok,
    /// The last good copy is too old.
    Stale,
    /// There is no good copy.
    Missing,
    /// Objects of a newer copy than the last good one are missing or cut.
    Damaged,
    /// A label of its service leaves it out on purpose.
    Skipped {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GoodCopy {
    pub snapshot: RunId,
    /// When the backup began: nothing in it is older.
    pub time: Timestamp,
    pub age_seconds: u64,
    pub stored_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    pub snapshot: RunId,
    pub time: Timestamp,
    #[serde(flatten)]
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    Failed { reason: String },
    Damaged { problem: Problem },
    FromTheFuture,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    NothingInRepository,
    NothingOfProject {
        project: String,
        /// Of which there is something: a name may be misspelt.
        others: Vec<String>,
    },
    /// Its manifest is damaged, or of a newer format: what it holds nobody knows.
    Unreadable {
        snapshot: SnapshotRef,
        why: String,
    },
    FromTheFuture {
        snapshot: SnapshotRef,
        time: Timestamp,
    },
    /// A pattern that fits no target.
    NoTarget {
        pattern: String,
    },
}

impl Finding {
    /// The project that it is about, if it is about one.
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::NothingOfProject { project, .. } => Some(project),
            Self::Unreadable { snapshot, .. } | Self::FromTheFuture { snapshot, .. } => {
                Some(&snapshot.project)
            }
            Self::NothingInRepository | Self::NoTarget { .. } => None,
        }
    }

    pub fn is_nothing(&self) -> bool {
        matches!(
            self,
            Self::NothingInRepository | Self::NothingOfProject { .. }
        )
    }
}

impl TargetReport {
    pub fn is_in_order(&self) -> bool {
        matches!(self.state, State::Ok | State::Skipped { .. })
    }
}

impl FreshnessReport {
    pub fn is_in_order(&self) -> bool {
        self.findings.is_empty() && self.targets().all(TargetReport::is_in_order)
    }

    pub fn targets(&self) -> impl Iterator<Item = &TargetReport> {
        self.projects.iter().flat_map(|project| &project.targets)
    }
}

/// Looks at the targets of `projects`, or of all when `None`. `known` are the status files of earlier checks.
pub async fn check(
    repository: &dyn Repository,
    projects: Option<&[String]>,
    known: &[StatusPath],
    question: &Question,
) -> Result<FreshnessReport, FreshnessError> {
    let snapshots = repository.list(None).await?;
    let projects: BTreeSet<String> = match projects {
        Some(named) => named.iter().cloned().collect(),
        None => {
            let stored = snapshots.iter().map(|snapshot| snapshot.project.clone());
            stored
                .chain(known.iter().map(StatusPath::project))
                .collect()
        }
    };
    if !question.expected.is_empty() && projects.len() != 1 {
        return Err(FreshnessError::ExpectedWhere {
            projects: projects.len(),
        });
    }
    let mut report = FreshnessReport {
        checked: question.now,
        repository: repository.location(),
        projects: Vec::new(),
        findings: Vec::new(),
    };
    if projects.is_empty() {
        report.findings.push(Finding::NothingInRepository);
    }
    let mut stored: BTreeMap<&str, Vec<&SnapshotRef>> = BTreeMap::new();
    for snapshot in &snapshots {
        stored.entry(&snapshot.project).or_default().push(snapshot);
    }
    let known_projects: Vec<String> = stored.keys().map(|it| (*it).to_owned()).collect();
    let mut remembered: BTreeMap<String, Vec<&StatusPath>> = BTreeMap::new();
    for path in known {
        remembered.entry(path.project()).or_default().push(path);
    }
    for project in projects {
        let own = stored.remove(project.as_str()).unwrap_or_default();
        if own.is_empty() {
            report.findings.push(Finding::NothingOfProject {
                project: project.clone(),
                others: known_projects.clone(),
            });
        }
        let mut histories = Histories::new(question);
        let known = remembered.remove(&project).into_iter().flatten();
        histories.remember(known.filter_map(StatusPath::target));
        read(repository, &own, &mut histories, &mut report.findings).await?;
        report.projects.push(ProjectReport {
            targets: histories.judge(),
            project,
        });
    }
    for pattern in &question.targets {
        if !report
            .targets()
            .any(|judged| pattern.matches(&judged.target))
        {
            let pattern = pattern.to_string();
            report.findings.push(Finding::NoTarget { pattern });
        }
    }
    Ok(report)
}

/// From the newest snapshot to the oldest.
async fn read(
    repository: &dyn Repository,
    snapshots: &[&SnapshotRef],
    histories: &mut Histories<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), RepositoryError> {
    let newest_first = snapshots.iter().rev().copied().cloned();
    let mut manifests = pin!(repository::manifests(repository, newest_first));
    while let Some((snapshot, manifest)) = manifests.next().await {
        match manifest {
            Ok(manifest) => {
                findings.extend(histories.take(repository, &manifest).await?);
                if histories.are_told(manifest.started) {
                    break;
                }
            }
            Err(RepositoryError::Manifest { source, .. }) => findings.push(Finding::Unreadable {
                snapshot,
                why: source.to_string(),
            }),
            // Removed since it was listed.
            Err(RepositoryError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
