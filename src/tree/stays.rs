//! What a restore leaves as it is, wherever the tree around it goes.
//!
//! No snapshot holds it, so nothing that is removed of it could ever come back: what patterns leave out, what is mounted
//! below the tree, and sockets, which are not saved. What the snapshot has under such a name comes back only where there
//! is nothing now; only a socket makes room.

use std::collections::BTreeSet;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::error::TreeError;
use super::exclude::Excludes;
use super::fs::Status;
use super::path::TreePath;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stays {
    /// Those by which the snapshot was made, and those of today.
    pub patterns: Vec<String>,
    /// Where something else is mounted that this process does not see: in containers, relative to the tree.
    pub mounts: Vec<TreePath>,
    /// Directories that are themselves mounted somewhere: they stay the same directories, whatever they hold.
    pub anchors: Vec<TreePath>,
}

/// Why something stays; the later reason is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A program is going to make it anew.
    Socket,
    LeftOut,
    Mounted,
}

pub struct Keeper {
    excludes: Excludes,
    mounts: BTreeSet<TreePath>,
    anchors: BTreeSet<TreePath>,
}

impl Keeper {
    pub fn new(stays: &Stays) -> Result<Self, TreeError> {
        Ok(Self {
            excludes: Excludes::new(&stays.patterns)?,
            mounts: stays.mounts.iter().cloned().collect(),
            anchors: stays.anchors.iter().cloned().collect(),
        })
    }

    /// Why an entry stays; what lies below it stays with it. The caller looks at the directories above it.
    pub fn reason(&self, path: &TreePath, status: &Status, parent: &Status) -> Option<Reason> {
        if self.mounts.contains(path) || status.is_mount(&parent.identity) {
            Some(Reason::Mounted)
        } else if self.excludes.matches(path, status.is_directory()) {
            Some(Reason::LeftOut)
        } else if status.file_type == FileType::Socket {
            Some(Reason::Socket)
        } else {
            None
        }
    }

    /// Whether a directory stays although its content goes.
    pub fn is_anchor(&self, path: &TreePath) -> bool {
        self.anchors.contains(path)
    }

    /// Whether something is mounted here, or above.
    pub fn is_mounted(&self, path: &TreePath) -> bool {
        self.mounts.iter().any(|mount| path.is_within(mount))
    }

    /// Whether something is mounted here or below, or is mounted elsewhere.
    pub fn holds_mount(&self, path: &TreePath) -> bool {
        let mut all = self.mounts.iter().chain(&self.anchors);
        all.any(|mount| mount.is_within(path))
    }

    /// Whether an entry is left out, by itself or by a directory above it.
    pub fn leaves_out(&self, path: &TreePath, is_directory: bool) -> bool {
        !path.is_root() && self.excludes.covers(path, is_directory)
    }
}
