//! Targets into one snapshot: what a backup saves, and a restore before it writes over old data.
//!
//! Nothing exists until the manifest is written. Dropped before that, it leaves objects that no manifest names, which a later
//! sweep removes.

use jiff::Timestamp;
use tracing::warn;

use crate::driver::{Captured, DriverError, doubts_of};
use crate::engine::EngineError;
use crate::history::shrinkage::{measures, shrunken};
use crate::hold::hooks::HookError;
use crate::manifest::{
    ContainerRecord, FORMAT, Failure, Manifest, Purpose, Shrunken, Skip, TargetRecord,
};
use crate::pipe;
use crate::pipe::keys::Recipients;
use crate::plan::backup::BackupPlan;
use crate::repository::RepositoryError;
use crate::run::drivers::Drivers;
use crate::run::lock::LockError;
use crate::run::places::PlaceError;
use crate::run::progress::Activity;
use crate::run::session::{Interrupted, Session};
use crate::snapshot::SnapshotWriter;
use crate::stack::Service;
use crate::stack::survey::Survey;
use crate::target::{RunId, TargetId};

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("nothing could be saved: {}", list(.0))]
    NothingSaved(Vec<Failure>),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn list(failures: &[Failure]) -> String {
    let lines: Vec<String> = failures
        .iter()
        .map(|failure| format!("{}: {}", failure.target, failure.reason))
        .collect();
    lines.join("; ")
}

/// What a snapshot was asked for, as its manifest tells.
pub(crate) struct Asked {
    pub purpose: Purpose,
    pub by_hand: bool,
    pub selection: Vec<String>,
    pub skipped: Vec<Skip>,
    pub shrunken: Vec<Shrunken>,
    pub disturbed: Vec<String>,
    pub warnings: Vec<String>,
}

/// Whether the sizes could be held against those of earlier snapshots.
pub(crate) enum Comparison {
    Made,
    Impossible(String),
}

/// Captures targets into one snapshot.
pub(crate) struct Capture<'a> {
    survey: &'a Survey,
    drivers: &'a Drivers,
    writer: SnapshotWriter,
    session: &'a Session,
    run: RunId,
    records: Vec<TargetRecord>,
    pub failed: Vec<Failure>,
    /// Services that somebody has started while they were held.
    pub disturbed: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Capture<'a> {
    pub fn new(
        session: &'a Session,
        survey: &'a Survey,
        drivers: &'a Drivers,
        run: &RunId,
        recipients: Option<Recipients>,
    ) -> Self {
        Self {
            survey,
            drivers,
            writer: SnapshotWriter::new(
                session.repository.clone(),
                &survey.stack.project,
                run.clone(),
                session.compression,
                recipients,
            ),
            session,
            run: run.clone(),
            records: Vec::new(),
            failed: Vec::new(),
            disturbed: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Warns of what the snapshot is going to tell of.
    pub fn warn(&mut self, warnings: impl Iterator<Item = String>) {
        for warning in warnings {
            warn!("{warning}");
            self.warnings.push(warning);
        }
    }

    /// Captures one target after the other; one that fails does not keep the next from being saved.
    pub async fn all(&mut self, targets: impl Iterator<Item = &TargetId>) {
        for target in targets {
            let track = self.session.board.begin(Activity::Saving, target, None);
            match self.one(target, track.counter()).await {
                Ok(record) => {
                    track.done();
                    self.records.push(record);
                }
                Err(failure) => {
                    let reason = failure.to_string();
                    track.failed(&reason);
                    self.writer.discard(target).await;
                    self.failed.push(Failure {
                        target: target.clone(),
                        reason,
                    });
                }
            }
        }
    }

    async fn one(
        &self,
        target: &TargetId,
        progress: pipe::Progress,
    ) -> Result<TargetRecord, DriverError> {
        let sink = self.writer.target(target, progress);
        let captured = self.drivers.of(target)?.dump(target, &sink).await?;
        let service = self
            .survey
            .stack
            .services
            .iter()
            .find(|service| service.name == target.service)
            .ok_or_else(|| {
                DriverError::failed(format!(
                    "service {} does not exist (any more)",
                    target.service
                ))
            })?;
        Ok(record(target, service, captured))
    }

    /// Asks whether what is saved could be put back as things are. Nothing is held meanwhile: it may take a while.
    pub async fn doubt(&mut self) {
        for record in &mut self.records {
            let asked = self.drivers.doubts(&record.target);
            let asked = self.session.unless_interrupted(asked).await;
            record.warnings.extend(asked.unwrap_or_else(|interrupted| {
                doubts_of(Err(DriverError::failed(interrupted.to_string())))
            }));
        }
    }

    pub async fn commit(
        self,
        session: &Session,
        plan: &BackupPlan,
        started: Timestamp,
    ) -> Result<(Manifest, Comparison), BackupError> {
        let targets = self.records.iter().map(|record| &record.target);
        let project = &self.survey.stack.project;
        // What cannot be compared is saved all the same.
        let (shrunken, comparison) = match measures(&*session.repository, project, targets).await {
            Ok(measures) => (
                shrunken(&self.records, &measures, &plan.may_shrink),
                Comparison::Made,
            ),
            Err(error) => (Vec::new(), Comparison::Impossible(error.to_string())),
        };
        let asked = Asked {
            purpose: Purpose::Backup,
            by_hand: plan.by_hand,
            selection: plan.selection.clone(),
            skipped: plan.skipped.clone(),
            shrunken,
            disturbed: self.disturbed.clone(),
            warnings: [&plan.warnings[..], &self.warnings].concat(),
        };
        let manifest = self.finish(session, asked, started).await?;
        Ok((manifest, comparison))
    }

    /// Writes the manifest. Without any target there is no snapshot.
    pub async fn finish(
        self,
        session: &Session,
        asked: Asked,
        started: Timestamp,
    ) -> Result<Manifest, BackupError> {
        if self.records.is_empty() {
            return Err(BackupError::NothingSaved(self.failed));
        }
        let manifest = Manifest {
            format: FORMAT,
            tool: concat!("cofferdam ", env!("CARGO_PKG_VERSION")).to_owned(),
            snapshot: self.run,
            project: self.survey.stack.project.clone(),
            node: self.survey.stack.node().map(str::to_owned),
            purpose: asked.purpose,
            by_hand: asked.by_hand,
            selection: asked.selection,
            started,
            finished: Timestamp::now(),
            engine: session.engine.facts().await?,
            targets: self.records,
            failed: self.failed,
            skipped: asked.skipped,
            shrunken: asked.shrunken,
            disturbed: asked.disturbed,
            warnings: asked.warnings,
        };
        session.repository.commit(&manifest).await?;
        Ok(manifest)
    }

    /// Removes what an interrupted run has written so far.
    pub async fn discard(self) {
        self.writer.discard_all().await;
    }
}

fn record(target: &TargetId, service: &Service, captured: Captured) -> TargetRecord {
    let container = &service.container;
    TargetRecord {
        target: target.clone(),
        container: ContainerRecord {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            image_digest: container.image_id.clone(),
            keep: service.labels.keep.as_ref().map(ToString::to_string),
        },
        transfer: captured.transfer,
        facts: captured.facts,
        artifacts: captured.artifacts,
        warnings: captured.warnings,
    }
}
