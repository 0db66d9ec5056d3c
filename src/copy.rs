//! Snapshots on their way to a second place.
//!
//! A copy has the same id, the same manifest and the same objects. Objects go first, each checked against the digest in
//! the manifest while it is sent, and the manifest goes last, so that a copy which ends anywhere leaves no snapshot behind
//! but those that are whole. Run again, it goes on where it stopped.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::manifest::{Artifact, Manifest};
use crate::pipe::{Counting, Progress, Verified};
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};

/// What became of one snapshot in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    pub snapshot: SnapshotRef,
    /// How many objects were sent; the others were there.
    pub objects: usize,
    pub bytes: u64,
}

/// The snapshots of `from` that `to` lacks, oldest first.
pub async fn missing(
    from: &[SnapshotRef],
    to: &dyn Repository,
) -> Result<Vec<SnapshotRef>, RepositoryError> {
    let there: BTreeSet<SnapshotRef> = to.list(None).await?.into_iter().collect();
    let lacking = from.iter().filter(|snapshot| !there.contains(snapshot));
    Ok(lacking.cloned().collect())
}

/// Those of `missing` that are newer than everything of their project in `to`: what is older and not there may have been
/// pruned on purpose.
pub async fn newer(
    missing: &[SnapshotRef],
    to: &dyn Repository,
) -> Result<Vec<SnapshotRef>, RepositoryError> {
    let there = to.list(None).await?;
    let newest = |project: &str| {
        let of_project = there.iter().filter(|snapshot| snapshot.project == project);
        of_project.map(|snapshot| snapshot.id.clone()).max()
    };
    let newer = missing
        .iter()
        .filter(|snapshot| newest(&snapshot.project).is_none_or(|newest| newest < snapshot.id));
    Ok(newer.cloned().collect())
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
        snapshot: snapshot.clone(),
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
