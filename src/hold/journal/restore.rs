//! What is needed to finish or undo a restore whose process died, whatever has become of labels, flags and containers since.

use serde::{Deserialize, Serialize};

use crate::driver::tree::Placement;
use crate::driver::{OldDatabase, WayBack};
use crate::repository::SnapshotRef;
use crate::target::{RunId, TargetId};
use crate::tree::TreePath;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreJournal {
    /// The project that the snapshot is of.
    pub project: String,
    pub snapshot: RunId,
    /// The repository as the user named it, for messages.
    pub repository: String,
    pub targets: Vec<RestoreStep>,
    /// The snapshot that holds the old data of targets that load in place. It may not exist yet: then none was touched.
    pub safety: Option<RunId>,
    pub choices: RestoreChoices,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreStep {
    pub target: TargetId,
    /// Its id in the snapshot.
    pub saved_as: TargetId,
    /// The snapshot, where it is another one than the restore's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RunId>,
    pub way_back: WayBack,
    /// [`crate::run::drivers::Restored::path`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What the command line chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreChoices {
    pub old_database: OldDatabase,
    pub placement: Placement,
    /// Paths in the only tree that is restored; empty for all of it.
    pub paths: Vec<TreePath>,
}

impl RestoreJournal {
    /// Where a target comes from.
    pub fn snapshot_of(&self, step: &RestoreStep) -> SnapshotRef {
        let snapshot = step.snapshot.as_ref().unwrap_or(&self.snapshot);
        SnapshotRef::new(&self.project, snapshot.clone())
    }
}
