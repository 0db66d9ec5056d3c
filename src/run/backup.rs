//! A backup of one project: hold, hooks, capture, release, and the manifest last.
//!
//! Interrupted anywhere, it leaves no snapshot (the manifest is what makes one), and what it held is released: by itself
//! on a signal, by the next run after `kill -9`.

use jiff::Timestamp;
use serde::Serialize;
use tracing::warn;

use crate::driver::{Captured, DriverError, doubts_of};
use crate::engine::EngineError;
use crate::hold::hooks::{HookError, HookOutcome, Hooks};
use crate::hold::journal::ServiceThen;
use crate::hold::{Ending, Journal, Lock, Operation, Owner, disturbance};
use crate::manifest::{
    ContainerRecord, FORMAT, Failure, Manifest, Purpose, Shrunken, Skip, TargetRecord,
};
use crate::pipe;
use crate::pipe::keys::Recipients;
use crate::plan::backup::BackupPlan;
use crate::repository::pin::{self, Pin};
use crate::repository::{RepositoryError, SnapshotRef};
use crate::run::copy::CopyReport;
use crate::run::drivers::Drivers;
use crate::run::places::{PlaceError, UsedPlace};
use crate::run::progress::Activity;
use crate::run::prune::{PruneReport, prune_after, sweep};
use crate::run::session::{Interrupted, LockError, Session};
use crate::shrinkage::{measures, shrunken};
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

/// A snapshot that exists, and what went wrong beside it.
#[derive(Debug, Serialize)]
pub struct BackupReport {
    pub manifest: Manifest,
    /// Where it lies.
    pub repository: UsedPlace,
    /// Hooks that failed after the capture, containers that did not come back as they were.
    pub problems: Vec<String>,
    /// What became of older snapshots; `None` when no policy was there to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PruneReport>,
    /// What each second place has got, once it was sent there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyReport>,
}

impl BackupReport {
    /// That the repository, or that of a second place, is not as it was.
    pub fn news(&self) -> impl Iterator<Item = String> {
        let copies = self.copies.iter().flat_map(|copies| copies.news.clone());
        self.repository.news().into_iter().chain(copies)
    }

    /// Whether one of them is a new one, or another than before.
    pub fn is_remarkable(&self) -> bool {
        self.repository.is_remarkable() || self.copies.iter().any(|copies| copies.is_remarkable)
    }

    /// Every target is saved, everything is as it was, what was to be pruned is, and every second place has it all.
    pub fn is_complete(&self) -> bool {
        let is_pruned = self
            .pruned
            .as_ref()
            .is_none_or(PruneReport::is_as_it_should_be);
        let is_copied = self.copies.iter().all(CopyReport::is_complete);
        self.manifest.failed.is_empty() && self.problems.is_empty() && is_pruned && is_copied
    }
}

/// Executes a plan.
pub async fn back_up(
    session: &Session,
    survey: &Survey,
    plan: &BackupPlan,
    drivers: &Drivers,
    run: RunId,
) -> Result<BackupReport, BackupError> {
    let started = Timestamp::now();
    let repository = session
        .prepare_repository(std::slice::from_ref(&plan.project))
        .await?;
    let owner = Owner::current(&session.engine).await?;
    let held = plan.holds.iter().map(|hold| hold.to_held()).collect();
    let mut journal = Journal::new(
        run.clone(),
        plan.project.clone(),
        Operation::Backup,
        owner,
        held,
    );
    let services = survey.stack.services.iter();
    journal.services = services
        .map(|service| ServiceThen::of(&service.container))
        .collect();
    journal.saved = plan.targets.iter().map(|it| it.id.clone()).collect();
    let lock = session.lock(journal, survey).await?;
    let in_use = Lock::snapshots_in_use(&session.engine, &plan.project);
    sweep(&*session.repository, &plan.project, in_use).await;

    let recipients = session.keys.recipients.clone();
    let mut capture = Capture::new(session, survey, drivers, &run, recipients);
    capture.failed.extend(plan.unreachable.iter().cloned());
    let mut hooks = Hooks::new(
        session.helpers(&run, &plan.project),
        Operation::Backup,
        &survey.stack.services,
    );
    let (held, free) = plan.targets.split_at(plan.held_targets());

    let mut end = Ending::default();
    let mut disturbed = Ok(Vec::new());
    let mut outcome: Result<(), BackupError> = session
        .unless_interrupted(async {
            hooks.before().await?;
            let seals = lock.hold().await?;
            capture.warn(seals.warnings());
            capture.all(held.iter().map(|target| &target.id)).await;
            disturbed = lock.broken(&seals).await;
            Ok(())
        })
        .await
        .unwrap_or_else(|interrupted| Err(interrupted.into()));
    let stillness_is_known = disturbed.is_ok();
    match disturbed {
        Ok(services) if services.is_empty() => {}
        Ok(services) => {
            end.problem(format!(
                "{}, so what is saved may not be of one moment; see what starts it, and back up again",
                disturbance(&services)
            ));
            capture.disturbed = services;
        }
        Err(error) => end.problem(format!(
            "whether what was held has stayed so is not known, so nothing is pruned: {error}"
        )),
    }
    end.release(&lock, session.patience()).await;
    if outcome.is_ok() {
        outcome = session
            .unless_interrupted(capture.all(free.iter().map(|target| &target.id)))
            .await
            .map_err(BackupError::from);
    }
    let hook_outcome = if outcome.is_ok() && capture.failed.is_empty() {
        HookOutcome::Done
    } else {
        HookOutcome::Failed
    };
    end.hooks(&hooks, hook_outcome).await;

    let result = match outcome {
        Ok(()) => {
            capture.doubt().await;
            capture.commit(session, plan, started).await
        }
        Err(error) => {
            capture.discard().await;
            Err(error)
        }
    };
    if let (Ok((manifest, _)), Some(name)) = (&result, &plan.pin) {
        let snapshot = SnapshotRef::new(&manifest.project, manifest.snapshot.clone());
        let pinned = pin::pin(&*session.repository, &snapshot, &Pin::new(name)).await;
        end.problems.extend(pinned.err().map(|error| {
            format!(
                "the snapshot is not pinned as {name}: {error}; run `cofferdam pin {} '{name}'`",
                manifest.snapshot
            )
        }));
    }
    let pruned = match &result {
        Ok(_) if !stillness_is_known => None,
        Ok((manifest, Comparison::Made)) => prune_after(session, manifest).await,
        Ok((_, Comparison::Impossible(why))) => {
            end.problems.push(format!(
                "whether something has shrunk is not known, so nothing is pruned: {why}"
            ));
            None
        }
        Err(_) => None,
    };
    end.close(lock).await;
    Ok(BackupReport {
        manifest: result?.0,
        repository,
        problems: end.problems,
        pruned,
        copies: Vec::new(),
    })
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
enum Comparison {
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
    disturbed: Vec<String>,
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
    fn warn(&mut self, warnings: impl Iterator<Item = String>) {
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
                DriverError::failed(format!("there is no service {} (any more)", target.service))
            })?;
        Ok(record(target, service, captured))
    }

    /// Asks whether what is saved could be put back as things are. Nothing is held meanwhile: it may take a while.
    async fn doubt(&mut self) {
        for record in &mut self.records {
            let asked = self.drivers.doubts(&record.target);
            let asked = self.session.unless_interrupted(asked).await;
            record.warnings.extend(asked.unwrap_or_else(|interrupted| {
                doubts_of(Err(DriverError::failed(interrupted.to_string())))
            }));
        }
    }

    async fn commit(
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
