//! A snapshot, as far as retention is concerned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::manifest::{Manifest, Purpose, Shrunken, TargetRecord};
use crate::target::{RunId, TargetId};

/// What a manifest says that retention asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub id: RunId,
    pub started: Timestamp,
    /// [`Manifest::node`]
    pub node: Option<String>,
    pub series: Series,
    /// When it was finished, if somebody made it by hand.
    pub made_by_hand: Option<Timestamp>,
    /// The name of its pin. No manifest tells it.
    pub pin: Option<String>,
    pub saved: BTreeMap<TargetId, GoodCopy>,
    pub failed: BTreeSet<TargetId>,
    /// [`Manifest::shrunken`]
    pub shrunken: Vec<Shrunken>,
    /// [`Manifest::disturbed`]
    pub disturbed: Vec<String>,
}

/// What a snapshot was meant to save.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    /// Everything that labels asked for.
    Whole,
    /// What these patterns chose of it.
    Selection(Vec<String>),
    /// What a restore was about to replace.
    Safety,
}

/// A good copy of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodCopy {
    /// The label `cofferdam.keep` of its container.
    pub keep: Option<String>,
}

impl From<&Manifest> for Snapshot {
    fn from(manifest: &Manifest) -> Self {
        let series = match (&manifest.purpose, manifest.selection.as_slice()) {
            (Purpose::Safety { .. }, _) => Series::Safety,
            (Purpose::Backup, []) => Series::Whole,
            (Purpose::Backup, selection) => Series::Selection(selection.to_vec()),
        };
        let failed = manifest.failed.iter();
        let saved = manifest.targets.iter();
        Self {
            id: manifest.snapshot.clone(),
            started: manifest.started,
            node: manifest.node.clone(),
            series,
            made_by_hand: manifest.by_hand.then_some(manifest.finished),
            pin: None,
            saved: saved
                .map(|record| (record.target.clone(), GoodCopy::from(record)))
                .collect(),
            failed: failed.map(|failure| failure.target.clone()).collect(),
            shrunken: manifest.shrunken.clone(),
            disturbed: manifest.disturbed.clone(),
        }
    }
}

impl From<&TargetRecord> for GoodCopy {
    fn from(record: &TargetRecord) -> Self {
        Self {
            keep: record.container.keep.clone(),
        }
    }
}

/// What a run came to for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Saved,
    Failed,
    /// It was not there to be saved.
    Absent,
}

impl Snapshot {
    pub(super) fn has_shrunk(&self, target: &TargetId) -> bool {
        self.shrunken.iter().any(|one| one.target == *target)
    }

    pub(super) fn is_backup(&self) -> bool {
        self.series != Series::Safety
    }

    /// A server that let nobody in has not told which databases it has: whatever of its service is missing has failed.
    pub(super) fn standing(&self, target: &TargetId) -> Standing {
        let mut failed = self.failed.iter();
        if self.saved.contains_key(target) {
            Standing::Saved
        } else if failed.any(|failure| failure.service == target.service) {
            Standing::Failed
        } else {
            Standing::Absent
        }
    }
}
