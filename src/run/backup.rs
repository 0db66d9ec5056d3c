//! A backup of one project: hold, hooks, capture, release, and the manifest last.
//!
//! Interrupted anywhere, it leaves no snapshot (the manifest is what makes one), and what it held is released: by itself
//! on a signal, by the next run after `kill -9`.

use jiff::Timestamp;
use serde::Serialize;

use crate::hold::hooks::{HookOutcome, Hooks};
use crate::hold::journal::ServiceThen;
use crate::hold::{Ending, Journal, Lock, Operation, Owner, disturbance};
use crate::manifest::Manifest;
use crate::plan::backup::BackupPlan;
use crate::repository::SnapshotRef;
use crate::repository::pin::{self, Pin};
use crate::run::capture::{BackupError, Capture, Comparison};
use crate::run::copy::CopyReport;
use crate::run::drivers::Drivers;
use crate::run::lock::lock;
use crate::run::places::UsedPlace;
use crate::run::prune::{PruneReport, prune_after, sweep};
use crate::run::session::Session;
use crate::stack::survey::Survey;
use crate::target::RunId;

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
    let lock = lock(session, journal, survey).await?;
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
                "{}, so the backup may be inconsistent; find out what starts it, then back up again",
                disturbance(&services)
            ));
            capture.disturbed = services;
        }
        Err(error) => end.problem(format!(
            "could not check whether the held containers stayed held, so nothing is pruned: {error}"
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
                "could not pin the snapshot as {name}: {error}; run `cofferdam pin {} '{name}'`",
                manifest.snapshot
            )
        }));
    }
    let pruned = match &result {
        Ok(_) if !stillness_is_known => None,
        Ok((manifest, Comparison::Made)) => prune_after(session, manifest).await,
        Ok((_, Comparison::Impossible(why))) => {
            end.problems.push(format!(
                "could not check whether a target has shrunk, so nothing is pruned: {why}"
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
