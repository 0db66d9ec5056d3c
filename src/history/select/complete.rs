//! The newest snapshot, completed: each target of the project as the newest snapshot has it that has a good copy.
//!
//! - What it was not meant to hold, since it is of a part of the project, comes from older ones, back to the newest that is of
//!   the whole project. What lies before that one is gone from the project on purpose.
//! - What failed when it was taken comes from the newest older one in which it did not fail. What neither failed nor was saved,
//!   though the snapshot was meant to hold it, was gone: a database that somebody dropped does not come back.
//!
//! Snapshots of other nodes, and safety snapshots, never count.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{SelectError, newest_first};
use crate::history::selectors::TargetPattern;
use crate::manifest::{Failure, Manifest, Purpose, TargetRecord};
use crate::repository::{Repository, RepositoryError, SnapshotRef};
use crate::target::{RunId, TargetId};

/// Where a target comes from that the snapshot does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Older {
    #[serde(rename = "older")]
    pub snapshot: RunId,
    /// Why the newest attempt at it failed, when it did.
    #[serde(rename = "newer_failure", skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A manifest with what older snapshots hold of its project. Its failures are what no snapshot has a good copy of.
pub struct Completed {
    pub manifest: Manifest,
    /// Which targets come from older snapshots.
    pub older: BTreeMap<TargetId, Older>,
}

impl Completed {
    pub fn alone(manifest: Manifest) -> Self {
        Self {
            manifest,
            older: BTreeMap::new(),
        }
    }
}

pub async fn completed(
    repository: &dyn Repository,
    newest: Manifest,
) -> Result<Completed, SelectError> {
    let mut search = Search::new(newest);
    if search.is_over() {
        return Ok(search.end());
    }
    let project = search.manifest.project.clone();
    let all = repository.list(Some(&project)).await?;
    let is_older = |snapshot: &&SnapshotRef| snapshot.id < search.manifest.snapshot;
    let older: Vec<&SnapshotRef> = all.iter().filter(is_older).collect();
    for (at, snapshot) in older.iter().enumerate().rev() {
        match repository.manifest(snapshot).await {
            Ok(manifest) => search.look_into(&manifest),
            Err(source) if search.is_of_whole_project => {
                search.cannot_see_beyond(snapshot, &source);
                break;
            }
            Err(source) => {
                return Err(SelectError::LatestUnreadable {
                    source: Box::new(source),
                    older: newest_first(older[..at].iter().copied()),
                });
            }
        }
        if search.is_over() {
            break;
        }
    }
    Ok(search.end())
}

/// Goes from the newest snapshot to older ones.
struct Search {
    manifest: Manifest,
    older: BTreeMap<TargetId, Older>,
    /// What the snapshots up to now were meant to hold. Of that, what they lack has failed, or is gone.
    meant: Vec<TargetPattern>,
    is_of_whole_project: bool,
    /// What failed, and was not found yet.
    missing: Vec<Failure>,
}

impl Search {
    fn new(mut newest: Manifest) -> Self {
        Self {
            older: BTreeMap::new(),
            meant: meant(&newest).collect(),
            is_of_whole_project: newest.selection.is_empty(),
            missing: std::mem::take(&mut newest.failed),
            manifest: newest,
        }
    }

    fn is_over(&self) -> bool {
        self.is_of_whole_project && self.missing.is_empty()
    }

    fn end(self) -> Completed {
        let mut manifest = self.manifest;
        manifest.failed = self.missing;
        if self.is_of_whole_project {
            manifest.selection.clear();
        }
        Completed {
            manifest,
            older: self.older,
        }
    }

    fn look_into(&mut self, older: &Manifest) {
        if older.purpose != Purpose::Backup || older.node != self.manifest.node {
            return;
        }
        self.find_missing(older);
        if !self.is_of_whole_project {
            self.take_unmeant(older);
            self.meant.extend(meant(older));
            self.is_of_whole_project = older.selection.is_empty();
        }
    }

    /// Takes what failed in newer ones. Of a server that was not reached, this one says which databases it had.
    fn find_missing(&mut self, older: &Manifest) {
        for failure in std::mem::take(&mut self.missing) {
            let mut is_found = false;
            for record in &older.targets {
                let is_new = self.manifest.target(&record.target).is_none();
                if failure.is_about(&record.target) {
                    is_found = true;
                    if is_new {
                        self.take(record, older, Some(&failure.reason));
                    }
                }
            }
            if !is_found {
                self.missing.push(failure);
                continue;
            }
            let also_failed = older.failed.iter();
            let also_failed = also_failed.filter(|other| failure.is_about(&other.target));
            self.missing.extend(also_failed.cloned());
        }
    }

    /// Takes what newer ones were not meant to hold.
    fn take_unmeant(&mut self, older: &Manifest) {
        let meant = std::mem::take(&mut self.meant);
        let is_open = |target: &TargetId| !meant.iter().any(|pattern| pattern.matches(target));
        for record in older.targets.iter().filter(|it| is_open(&it.target)) {
            if self.manifest.target(&record.target).is_none() {
                self.take(record, older, None);
            }
        }
        let failed = older.failed.iter();
        let failed = failed.filter(|failure| is_open(&failure.target));
        self.missing.extend(failed.cloned());
        self.meant = meant;
    }

    fn take(&mut self, record: &TargetRecord, older: &Manifest, failure: Option<&str>) {
        let from = Older {
            snapshot: older.snapshot.clone(),
            failure: failure.map(str::to_owned),
        };
        self.older.insert(record.target.clone(), from);
        self.manifest.targets.push(record.clone());
        let shrunken = older.shrunken.iter();
        let shrunken = shrunken.filter(|one| one.target == record.target);
        self.manifest.shrunken.extend(shrunken.cloned());
    }

    fn cannot_see_beyond(&mut self, snapshot: &SnapshotRef, why: &RepositoryError) {
        for failure in &mut self.missing {
            let reason = &failure.reason;
            failure.reason = format!(
                "{reason} (copies older than snapshot {} were not considered, because that cannot be read: {why})",
                snapshot.id
            );
        }
    }
}

/// What a snapshot was meant to hold. It was read from patterns when it was taken.
fn meant(manifest: &Manifest) -> impl Iterator<Item = TargetPattern> {
    let selection = manifest.selection.iter();
    selection.filter_map(|pattern| pattern.parse().ok())
}
