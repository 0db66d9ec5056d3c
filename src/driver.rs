//! What a driver is: the knowledge of one kind of target, and nothing about where snapshots live.
//!
//! A driver is made for one container and one run ([`Driver`]). It takes bytes out of the container and hands them to an
//! [`ArtifactSink`]; it gets them back from an [`ArtifactSource`]. Both hide the repository, encryption and stored digests.
//!
//! A restore of several targets is all or nothing, so loading is split in two: [`Driver::load`] puts the new data beside
//! the old, and only when every target of the run has loaded and passed its check does [`Driver::commit`] give up the
//! old. Until then [`Driver::rollback`] brings everything back. Both must work from nothing but the run's id and the
//! target, since after a crash another process calls them.

pub(crate) mod clients;
pub(crate) mod command;
pub(crate) mod couchdb;
pub(crate) mod elasticsearch;
mod http;
mod loaded;
mod logins;
pub mod mysql;
pub mod postgres;
pub mod sqlite;
pub mod tree;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::engine::Container;
use crate::manifest::{Artifact, Facts, Failure, StreamDigest, TargetRecord, Transfer};
use crate::repository::RepositoryError;
use crate::snapshot::{ArtifactSink, ArtifactSource, StoreError};
use crate::target::{DriverKind, TargetId};

/// What labels ask a driver for.
#[derive(Clone, Debug, Default)]
pub struct FoundTargets {
    pub targets: Vec<FoundTarget>,
    /// What a label names, and is not there or cannot be reached.
    pub missing: Vec<Failure>,
    /// What a label that says "all" does not mean, with the reason.
    pub left_out: Vec<String>,
}

impl FoundTargets {
    /// The one target of a server, which only a running one can give.
    fn of_running(container: &Container, id: TargetId, what: String) -> Self {
        let mut found = Self::default();
        if container.is_running() {
            found.targets.push(FoundTarget { id, what });
        } else {
            let reason = format!(
                "container {} {}; {}",
                container.name,
                container.state.told(),
                container.how_to_start()
            );
            found.missing.push(Failure { target: id, reason });
        }
        found
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTarget {
    pub id: TargetId,
    /// For people: `database clinical`, `volume candigv2_vault-data at /vault`.
    pub what: String,
}

/// What a driver returns when a dump is complete and confirmed by its producer.
#[derive(Clone, Debug)]
pub struct Captured {
    pub transfer: Transfer,
    pub facts: Facts,
    pub artifacts: Vec<Artifact>,
    pub warnings: Vec<String>,
}

/// How a load may be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayBack {
    /// The old data stays beside the new until [`Driver::commit`].
    Staged,
    /// The load writes over the old data: a safety snapshot is the way back.
    SafetySnapshot,
}

/// Who has a file open and can write to it, as far as the file itself tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    pub found: Vec<Writer>,
    /// Why there may be others.
    pub unseen: Option<String>,
    /// One of those that are not seen has locked it.
    pub is_locked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// For people: `process 4242 (python3) of container jobs`.
    pub who: String,
    /// The ids of the containers that it is in, the outermost first; none on the host itself.
    pub containers: Vec<String>,
}

/// Knows one kind of target in one container, for the length of one run.
///
/// No method retries by itself: a failed step is reported, and the caller decides.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Whose targets it knows; the first stands for all of them where no target can be told.
    fn kinds(&self) -> &'static [DriverKind];

    /// What the labels ask to save.
    async fn targets(&self) -> Result<FoundTargets, DriverError>;

    /// Why a target cannot be put back now, where that is known beforehand.
    fn refusal(&self, _target: &TargetId) -> Option<&str> {
        None
    }

    /// Why what is saved of a target now could not be put back as things are, each with what to do about it: told while there
    /// is time, in the plan and in the snapshot. Looks only, at what is cheap to see; what passes by itself is no doubt.
    async fn doubts(&self, target: &TargetId) -> Result<Vec<String>, DriverError> {
        let refusal = self.refusal(target);
        Ok(refusal.map(cannot_be_put_back).into_iter().collect())
    }

    /// Looks, before anything is touched, for what forbids a restore of this record, which is an error with its remedy. What an
    /// administrator ought to know before saying yes.
    async fn foresee(&self, _record: &TargetRecord) -> Result<Vec<String>, DriverError> {
        Ok(Vec::new())
    }

    /// What came up since the last call, in loads, commits and rollbacks that succeeded, and that somebody ought to read.
    fn take_notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// The path, as the container sees it, of a file that no program may have open while the old data is given up.
    fn closed_path(&self, _target: &TargetId) -> Option<&str> {
        None
    }

    /// Who could write to the file of [`Self::closed_path`] now.
    async fn writers(&self, _target: &TargetId) -> Result<Writers, DriverError> {
        Ok(Writers::default())
    }

    /// The path, as the container sees it, of the files that a restore lets change under whatever program uses them.
    fn changed_path(&self, _target: &TargetId) -> Option<&str> {
        None
    }

    /// Captures one target completely, or fails. Leaves nothing behind in the container in either case.
    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError>;

    /// Removes what a dump has left in the server, or on a volume, when the process died in it. Idempotent.
    async fn forget_dump(&self, _target: &TargetId) -> Result<(), DriverError> {
        Ok(())
    }

    /// Whether there is anything of this target now, that a safety snapshot could save.
    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError>;

    /// What a restore of this record is going to do, for people: `swap database clinical`.
    fn describe_restore(&self, record: &TargetRecord) -> String;

    /// How a restore of this target is undone, as its labels and the run's options have it.
    fn way_back(&self, target: &TargetId) -> WayBack;

    /// Loads the data: beside the old when [`Driver::way_back`] says `Staged`, else over it.
    ///
    /// Every digest has been verified when this returns. After an error the caller calls [`Driver::rollback`].
    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError>;

    /// Loads the safety snapshot's record of a target that [`Driver::load`] has written over, wherever that had come to,
    /// and looks at it as [`Driver::check`] does. Idempotent.
    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.load(record, source).await?;
        self.check(record).await
    }

    /// Looks at what was loaded with the driver's own means, before the old data is given up.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError>;

    /// Gives up the old data for the new. Idempotent: repeated after a crash, it finishes what was begun.
    async fn commit(&self, target: &TargetId) -> Result<(), DriverError>;

    /// Removes what was loaded and puts the old data back, wherever [`Driver::load`] had come to. Idempotent.
    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError>;
}

/// A doubt about a target whose restore is sure to be refused.
fn cannot_be_put_back(why: impl fmt::Display) -> String {
    format!("a restore would currently be refused: {why}")
}

/// The doubts that a look came to. That it failed is one itself.
pub fn doubts_of(looked: Result<Vec<String>, DriverError>) -> Vec<String> {
    looked.unwrap_or_else(|error| {
        vec![format!(
            "could not check whether it can be restored: {error}"
        )]
    })
}

/// What becomes of the old database after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldDatabase {
    #[default]
    Drop,
    /// It stays, under another name and out of everybody's way.
    Keep,
}

impl OldDatabase {
    pub const ALL: [Self; 2] = [Self::Drop, Self::Keep];
}

/// Whether a restore may bring back less than was saved, as a driver's check finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    #[default]
    Refused,
    /// It is said, and no failure: whoever asks for that has no better copy.
    Accepted,
}

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The database's own client failed: its last words, with secrets redacted.
    #[error("{program} failed with exit code {code}: {message}")]
    Client {
        program: String,
        code: i64,
        message: String,
    },
    /// What came through is not what its producer says it sent.
    #[error("{what} was damaged in transit: expected {expected:?}, got {found:?}")]
    Damaged {
        what: String,
        expected: StreamDigest,
        found: StreamDigest,
    },
    /// What was loaded beside the old data is not there any more.
    #[error(
        "the new data was loaded beside the old, but is gone now; find out what removed it, then restore again"
    )]
    LoadedIsGone,
    #[error("{what}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Failed { what: String, hint: Option<String> },
}

impl DriverError {
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            hint: None,
        }
    }

    /// What a program printed that ended well never arrived. Nothing is not taken for an answer.
    fn lost(program: &str) -> Self {
        Self::failed_with_hint(
            format!("{program} succeeded, but its output did not arrive"),
            "run this again; if it happens often, update the container engine",
        )
    }

    pub fn failed_with_hint(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            hint: Some(hint.into()),
        }
    }
}
