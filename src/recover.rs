//! Finishing what a dead run began: what it held is released, and a restore is rolled back or, once it was decided,
//! completed.

use tracing::{info, warn};

use crate::agent::helper;
use crate::config::Scope;
use crate::driver::tree::{Moment, TreeRun};
use crate::driver::{DriverError, WayBack};
use crate::engine::EngineError;
use crate::hold::{Ending, HoldError, Journal, Lock, Operation, RestoreJournal};
use crate::hooks::{HookOutcome, Hooks};
use crate::manifest::TargetRecord;
use crate::repository::SnapshotRef;
use crate::restore::{commit, roll_back, undo_in_place};
use crate::session::Session;
use crate::survey::{Survey, survey};
use crate::target::{RunId, TargetId};
use crate::targets::{Drivers, RunOptions};

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("the stack of project {project} cannot be read: {why}")]
    Stack { project: String, why: String },
    #[error("run {run} of project {project} could not be recovered wholly: {}", problems.join("; "))]
    Incomplete {
        run: RunId,
        project: String,
        problems: Vec<String>,
    },
}

/// Recovers one abandoned run.
pub async fn recover(session: &Session, lock: Lock) -> Result<(), RecoverError> {
    let journal = lock.journal().clone();
    warn!(
        run = %journal.run,
        project = journal.project,
        "recovering a {} that {} left unfinished", journal.operation, journal.owner
    );
    if let Some(node) = lock.elsewhere() {
        let node = node.to_owned();
        return release_elsewhere(session, lock, &node).await;
    }
    // A server on trial may still be at work on what is to be removed.
    helper::sweep(&session.engine, &journal.project).await?;
    let mut survey = survey_of(session, &journal.project).await;
    if let Ok(survey) = &mut survey {
        let steps = journal.restore.iter().flat_map(|restore| &restore.targets);
        let targets: Vec<TargetId> = steps.map(|step| step.target.clone()).collect();
        survey.stack.add_held(&journal.run, &targets);
    }
    let mut ending = Ending::default();
    let mut outcome = HookOutcome::Failed;

    if let Some(restore) = &journal.restore {
        match &survey {
            Ok(survey) => {
                match drivers_of(session, survey, &journal.run, restore).await {
                    Ok(drivers) if lock.is_decided().await? => {
                        outcome = HookOutcome::Done;
                        finish(&drivers, restore, &mut ending).await;
                    }
                    Ok(drivers) => {
                        undo(session, &drivers, &journal.project, restore, &mut ending).await;
                    }
                    // What lies in no volume has gone with its task: no later run would fare better.
                    Err(error) if journal.holds_services() => ending.leave_unfinished(format!(
                        "the restore can be neither finished nor undone: {error}"
                    )),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => ending.leave_unfinished(format!(
                "the restore can be neither finished nor undone: {error}"
            )),
        }
    }
    match &survey {
        Ok(Survey { stack, .. }) => {
            let hooks = Hooks::new(
                &session.engine,
                &journal.run,
                &journal.project,
                journal.operation,
                &stack.services,
            )
            .assume_begun();
            match journal.operation {
                Operation::Backup => {
                    ending.release(&lock, session.patience()).await;
                    ending.hooks(&hooks, outcome).await;
                }
                Operation::Restore => {
                    ending
                        .release_with_hooks(&lock, session.patience(), &hooks, outcome)
                        .await;
                }
            }
        }
        Err(error) => {
            ending.release(&lock, session.patience()).await;
            ending.problem(format!("the hooks of the run did not run: {error}"));
        }
    }
    ending.close(lock).await;
    came_to(journal, ending)
}

fn came_to(journal: Journal, ending: Ending) -> Result<(), RecoverError> {
    if ending.problems.is_empty() {
        info!(run = %journal.run, "recovered");
        Ok(())
    } else {
        Err(RecoverError::Incomplete {
            run: journal.run,
            project: journal.project,
            problems: ending.problems,
        })
    }
}

/// Gives back the services that a run of another node holds. Its data is there.
async fn release_elsewhere(session: &Session, lock: Lock, node: &str) -> Result<(), RecoverError> {
    let journal = lock.journal().clone();
    let mut ending = Ending::default();
    ending.release(&lock, session.patience()).await;
    ending.close(lock).await;
    if journal.operation == Operation::Restore {
        warn!(
            "what the restore has done to the data on node {node} is for cofferdam there to finish or to undo, when it starts"
        );
    }
    came_to(journal, ending)
}

/// The drivers as the dead run had them. What it restored without a label is known from the snapshot, where that can be
/// read.
async fn drivers_of(
    session: &Session,
    survey: &Survey,
    run: &RunId,
    restore: &RestoreJournal,
) -> Result<Drivers, RecoverError> {
    let mut records: Vec<TargetRecord> = Vec::new();
    for step in &restore.targets {
        let snapshot = restore.snapshot_of(step);
        let manifest = session.repository.manifest(&snapshot).await.ok();
        let record = manifest.and_then(|manifest| manifest.target(&step.saved_as).cloned());
        records.extend(record.map(|record| TargetRecord {
            target: step.target.clone(),
            ..record
        }));
    }
    let records: Vec<&TargetRecord> = records.iter().collect();
    let options = RunOptions {
        trees: TreeRun {
            moment: Moment::Restore,
            ..TreeRun::default()
        },
        ..RunOptions::default()
    };
    Ok(Drivers::prepare(session, survey, run, &options, &records).await?)
}

async fn survey_of(session: &Session, project: &str) -> Result<Survey, RecoverError> {
    let unreadable = |why: String| RecoverError::Stack {
        project: project.to_owned(),
        why,
    };
    let mut found = survey(&session.engine, &Scope::Projects(vec![project.to_owned()]))
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    found
        .pop()
        .ok_or_else(|| unreadable("it has no containers".to_owned()))
}

async fn finish(drivers: &Drivers, restore: &RestoreJournal, ending: &mut Ending) {
    for step in &restore.targets {
        if let Err(error) = commit(drivers, &step.target).await {
            ending.leave_unfinished(format!("{}: {error}", step.target));
        }
    }
}

async fn undo(
    session: &Session,
    drivers: &Drivers,
    project: &str,
    restore: &RestoreJournal,
    ending: &mut Ending,
) {
    for step in restore.targets.iter().rev() {
        let undone = match step.way_back {
            WayBack::Staged => roll_back(drivers, &step.target).await,
            WayBack::SafetySnapshot => {
                undo_written_over(session, drivers, project, restore, &step.target).await
            }
        };
        if let Err(error) = undone {
            ending.leave_unfinished(format!("{}: {error}", step.target));
        }
    }
}

/// A load in place begins only after its safety snapshot exists, when it has one: before that there is nothing to undo.
async fn undo_written_over(
    session: &Session,
    drivers: &Drivers,
    project: &str,
    restore: &RestoreJournal,
    target: &TargetId,
) -> Result<(), DriverError> {
    if let Some(safety) = &restore.safety {
        if session.repository.location() != restore.repository {
            return Err(DriverError::failed_with_hint(
                format!(
                    "its old data is in snapshot {safety} of {}",
                    restore.repository
                ),
                format!(
                    "run cofferdam recover with --repository {}",
                    restore.repository
                ),
            ));
        }
        let snapshot = SnapshotRef::new(project, safety.clone());
        let exists = session
            .repository
            .list(Some(project))
            .await?
            .contains(&snapshot);
        if !exists {
            return Ok(());
        }
    }
    undo_in_place(session, drivers, project, restore.safety.as_ref(), target).await
}
