//! Snapshots on their way to a second place.
//!
//! A copy has the same id, the same manifest and the same objects. Objects go first, each checked against the digest in
//! the manifest while it is sent, and the manifest goes last, so that a copy which ends anywhere leaves no snapshot behind
//! but those that are whole. Run again, it goes on where it stopped.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::manifest::{Artifact, Manifest};
use crate::pipe::{Counting, Progress, Verified};
use crate::prune::{PruneReport, prune_copies};
use crate::report::progress::{Activity, Board};
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};
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
        let outcome = match copy(from, to, &snapshot, &track.counter()).await {
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
    for place in &session.copy_to {
        let mut report = match session.repository.list(Some(project)).await {
            Ok(snapshots) => {
                let from = &*session.repository;
                let copying = copy_all(from, &**place, &snapshots, Lacking::Newer, &session.board);
                session
                    .unless_interrupted(copying)
                    .await
                    .map_err(|interrupted| {
                        format!("{interrupted}; `cofferdam copy` sends the rest")
                    })
            }
            Err(error) => Err(error.to_string()),
        }
        .unwrap_or_else(|problem| CopyReport {
            place: place.location(),
            snapshots: Vec::new(),
            problem: Some(problem),
            pruned: None,
        });
        if report.everything_is_there() {
            report.pruned = prune_copies(session, &**place, project).await;
        }
        reports.push(report);
    }
    reports
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

/// Copies one snapshot into `to`, which is prepared. `progress` is told of stored bytes as they are sent.
///
/// A body error ([`RepositoryError::Body`]) speaks of `from`: what was read there is damaged, and nothing of it was stored.
pub async fn copy(
    from: &dyn Repository,
    to: &dyn Repository,
    snapshot: &SnapshotRef,
    progress: &Progress,
) -> Result<Copied, RepositoryError> {
    let manifest = from.manifest(snapshot).await?;
    let mut copied = Copied {
        objects: 0,
        bytes: 0,
    };
    let mut lengths = ObjectLengths::default();
    for artifact in distinct(&manifest) {
        // Whatever else lies there under this name, `put` refuses to write over it.
        if lengths.of(to, &artifact.object).await? == Some(artifact.stored.bytes) {
            continue;
        }
        send(from, to, artifact, progress).await?;
        copied.objects += 1;
        copied.bytes += artifact.stored.bytes;
    }
    to.commit(&manifest).await?;
    Ok(copied)
}

/// A layer may be named by several targets, and is sent once.
fn distinct(manifest: &Manifest) -> impl Iterator<Item = &Artifact> {
    let mut seen = BTreeSet::new();
    manifest
        .objects()
        .filter(move |artifact| seen.insert(&artifact.object))
}

async fn send(
    from: &dyn Repository,
    to: &dyn Repository,
    artifact: &Artifact,
    progress: &Progress,
) -> Result<(), RepositoryError> {
    let Artifact { object, stored, .. } = artifact;
    let what = format!("{object} in {}", from.location());
    let body = Verified::new(from.open(object).await?, stored.clone(), what);
    let body = Counting::new(body, progress.clone());
    to.put(object, Box::pin(body)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
