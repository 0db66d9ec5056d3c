//! Finishing what a dead run began: what it held is released, and a restore is rolled back or, once it was decided,
//! completed.
//!
//! Everything that this needs to know of the run stands in its journal. While the data of a restore is neither all old nor
//! all new, nothing is started on it: the journal stays, and the next recovery goes on from there.

use serde::Serialize;
use tracing::{info, warn};

use crate::agent::helper;
use crate::agent::inside::{VisitError, left};
use crate::driver::{DriverError, WayBack};
use crate::engine::EngineError;
use crate::hold::hooks::{HookOutcome, Hooks};
use crate::hold::journal::{ServiceThen, relabel};
use crate::hold::{Ending, HoldError, Journal, Lock, Mark, Operation, RestoreJournal};
use crate::repository::SnapshotRef;
use crate::run::drivers::{Drivers, Restored, RunOptions};
use crate::run::session::Session;
use crate::run::undo::{commit, roll_back, undo_in_place};
use crate::stack::Scope;
use crate::stack::survey::{Survey, survey_with};
use crate::target::{DriverKind, RunId, TargetId};

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
    #[error("run {run} of project {project} could not be recovered: {}", problems.join("; "))]
    Incomplete {
        run: RunId,
        project: String,
        problems: Vec<String>,
    },
}

/// What to do about data that can be neither put back nor finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Everything stays held, until the cause is fixed.
    Hold,
    /// The data stays as it is, and what was held is released.
    GiveUp,
}

/// A run that is over.
#[derive(Debug, Serialize)]
pub struct Recovery {
    pub run: RunId,
    pub project: String,
    pub operation: Operation,
    pub data: RecoveredData,
    /// Hooks that failed, containers that did not come back as they were.
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveredData {
    /// The run only saved it, or it lies on another node.
    Untouched,
    /// The old data is in place, as it was before the restore.
    Old,
    /// The restored data is in place.
    New,
    /// Neither all old nor all new, and nobody tries any more.
    GivenUp,
}

/// Recovers one abandoned run.
pub async fn recover(
    session: &Session,
    lock: Lock,
    stuck: Stuck,
) -> Result<Recovery, RecoverError> {
    let journal = lock.journal().clone();
    let node = lock.elsewhere().map(str::to_owned);
    let place = node.as_ref().map(|node| format!(" on node {node}"));
    warn!(
        run = %journal.run,
        project = journal.project,
        "recovering a {} that {}{} left unfinished",
        journal.operation,
        journal.owner,
        place.unwrap_or_default()
    );
    if let Some(node) = node {
        return release_elsewhere(session, lock, &node).await;
    }
    // A server on trial may still be at work on what is to be removed.
    helper::sweep(&session.engine, &journal.project).await?;
    let survey = survey_then(session, &journal).await;
    let mut ending = Ending::default();
    let mut data = RecoveredData::Untouched;
    if let Some(restore) = &journal.restore {
        data = settle(session, &lock, &survey, restore, &mut ending).await;
    }
    if ending.is_unfinished() && stuck == Stuck::GiveUp {
        ending.give_up();
        data = RecoveredData::GivenUp;
    }
    if ending.is_unfinished() && !needs_its_tasks(&journal, &survey) {
        ending.keep_held(&lock);
    } else {
        release(session, &lock, survey.as_ref(), data, &mut ending).await;
    }
    forget_dumps(session, &journal, survey.as_ref(), &mut ending).await;
    sweep_scratch(session, &journal, &mut ending).await;
    ending.close(lock).await;
    came_to(journal, data, ending)
}

/// Finishes or undoes a restore, as far as that can be done.
async fn settle(
    session: &Session,
    lock: &Lock,
    survey: &Result<Survey, RecoverError>,
    restore: &RestoreJournal,
    ending: &mut Ending,
) -> RecoveredData {
    let drivers = match survey {
        Ok(survey) => drivers_of(session, survey, &lock.journal().run, restore).await,
        Err(error) => Err(error.to_string()),
    };
    let decided = lock.is_marked(Mark::Decided).await;
    match (drivers, decided) {
        (Ok(drivers), Ok(true)) => {
            finish(&drivers, lock, restore, ending).await;
            tell(&drivers);
            RecoveredData::New
        }
        (Ok(drivers), Ok(false)) => {
            undo(session, &drivers, lock, restore, ending).await;
            tell(&drivers);
            RecoveredData::Old
        }
        (Err(why), _) => {
            ending.leave_unfinished(format!(
                "the restore can be neither finished nor undone: {why}"
            ));
            RecoveredData::Old
        }
        (_, Err(error)) => {
            ending.leave_unfinished(format!(
                "could not ask the engine whether the restored data was accepted: {error}"
            ));
            RecoveredData::Old
        }
    }
}

/// What lies in no volume has gone with the task of a swarm that held it. Only a new task, which the release brings, has
/// anything to undo or to finish.
fn needs_its_tasks(journal: &Journal, survey: &Result<Survey, RecoverError>) -> bool {
    let is_missing = |target: &TargetId| {
        survey.as_ref().is_ok_and(|survey| {
            let mut services = survey.stack.services.iter();
            let service = services.find(|service| service.name == target.service);
            service.is_none_or(|service| service.is_stand_in())
        })
    };
    let mut steps = journal.restore.iter().flat_map(|restore| &restore.targets);
    journal.holds_services() && steps.any(|step| is_missing(&step.target))
}

async fn release(
    session: &Session,
    lock: &Lock,
    survey: Result<&Survey, &RecoverError>,
    data: RecoveredData,
    ending: &mut Ending,
) {
    let journal = lock.journal();
    let outcome = match data {
        RecoveredData::New => HookOutcome::Done,
        _ => HookOutcome::Failed,
    };
    let survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            ending.release(lock, session.patience()).await;
            ending.problem(format!("the hooks of the run did not run: {error}"));
            return;
        }
    };
    let hooks = Hooks::new(
        session.helpers(&journal.run, &journal.project),
        journal.operation,
        &survey.stack.services,
    )
    .assume_begun();
    match journal.operation {
        Operation::Backup => {
            ending.release(lock, session.patience()).await;
            ending.hooks(&hooks, outcome).await;
        }
        Operation::Restore => {
            ending
                .release_with_hooks(lock, session.patience(), &hooks, outcome)
                .await;
        }
    }
}

fn came_to(
    journal: Journal,
    data: RecoveredData,
    ending: Ending,
) -> Result<Recovery, RecoverError> {
    let Journal {
        run,
        project,
        operation,
        restore,
        ..
    } = journal;
    let is_unfinished = ending.is_unfinished();
    let mut problems = ending.problems;
    if is_unfinished {
        if restore.is_some() {
            problems.push(format!(
                "if its data is lost for good, run cofferdam recover --project {project} --give-up, and restore another snapshot"
            ));
        }
        return Err(RecoverError::Incomplete {
            run,
            project,
            problems,
        });
    }
    info!(%run, "recovered");
    Ok(Recovery {
        run,
        project,
        operation,
        data,
        problems,
    })
}

/// Removes what a backup, or the safety snapshot of a restore, has left outside of scratch directories.
async fn forget_dumps(
    session: &Session,
    journal: &Journal,
    survey: Result<&Survey, &RecoverError>,
    ending: &mut Ending,
) {
    let steps = journal.restore.iter().flat_map(|restore| &restore.targets);
    let written_over = steps.filter(|step| step.way_back == WayBack::SafetySnapshot);
    let dumped = journal.saved.iter();
    let dumped = dumped.chain(written_over.map(|step| &step.target));
    // Other drivers leave nothing that is to be looked for.
    let kinds = [DriverKind::Sqlite, DriverKind::Elasticsearch];
    let mut dumped = dumped
        .filter(|target| kinds.contains(&target.driver))
        .peekable();
    let (Ok(survey), Some(_)) = (survey, dumped.peek()) else {
        return;
    };
    let options = RunOptions::default();
    let drivers = Drivers::prepare(session, survey, &journal.run, &options, &[]).await;
    let drivers = match drivers {
        Ok(drivers) => drivers,
        Err(error) => {
            return ending.problem(format!("could not look for leftover dumps: {error}"));
        }
    };
    for target in dumped {
        let forgotten = async { drivers.of(target)?.forget_dump(target).await };
        if let Err(error) = forgotten.await {
            ending.problem(format!(
                "{target}: what its dump left behind could not be removed and stays until the next backup: {error}"
            ));
        }
    }
}

/// Removes what the run has left in the temporary directories of the project's containers: plain text, perhaps.
async fn sweep_scratch(session: &Session, journal: &Journal, ending: &mut Ending) {
    let containers = match session.engine.containers(&[]).await {
        Ok(containers) => containers,
        Err(error) => return ending.problem(format!("dumps may be left in containers: {error}")),
    };
    for container in &containers {
        if container.project() != journal.project {
            continue;
        }
        let now = ServiceThen::of(container);
        let then = journal.services.iter();
        let then = then.filter(|then| then.service == now.service);
        let scratch: Vec<&str> = then.chain([&now]).flat_map(ServiceThen::scratch).collect();
        match left::sweep(&session.engine, container, &scratch, &journal.run).await {
            Ok(()) | Err(VisitError::Engine(EngineError::NoSuchContainer(_))) => {}
            Err(error) => ending.problem(format!(
                "parts of a dump may be left in container {}: {error}",
                container.name
            )),
        }
    }
}

/// Gives back the services that a run of another node holds. Its data is there.
async fn release_elsewhere(
    session: &Session,
    lock: Lock,
    node: &str,
) -> Result<Recovery, RecoverError> {
    let journal = lock.journal().clone();
    let mut ending = Ending::default();
    ending.release(&lock, session.patience()).await;
    ending.close(lock).await;
    if journal.operation == Operation::Restore {
        warn!(
            "Cofferdam on node {node} will finish or undo the restore of the data there when it starts"
        );
    }
    came_to(journal, RecoveredData::Untouched, ending)
}

/// The drivers as the dead run had them.
async fn drivers_of(
    session: &Session,
    survey: &Survey,
    run: &RunId,
    restore: &RestoreJournal,
) -> Result<Drivers, String> {
    let steps = restore.targets.iter();
    let restored: Vec<Restored> = steps
        .map(|step| Restored {
            target: step.target.clone(),
            path: step.path.clone(),
        })
        .collect();
    let options = RunOptions::recovering(restore);
    let drivers = Drivers::prepare(session, survey, run, &options, &restored).await;
    drivers.map_err(|error| error.to_string())
}

/// The project with the labels that it had when the run began.
async fn survey_then(session: &Session, journal: &Journal) -> Result<Survey, RecoverError> {
    let project = &journal.project;
    let unreadable = |why: String| RecoverError::Stack {
        project: project.clone(),
        why,
    };
    let scope = Scope::Projects(vec![project.clone()]);
    let then = |containers: &mut [_]| relabel(&journal.services, project, containers);
    let mut found = survey_with(&session.engine, &scope, &[], then)
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let mut survey = found
        .pop()
        .ok_or_else(|| unreadable("it has no containers".to_owned()))?;
    let steps = journal.restore.iter().flat_map(|restore| &restore.targets);
    let targets: Vec<TargetId> = steps.map(|step| step.target.clone()).collect();
    survey.stack.add_held(&journal.run, &targets);
    Ok(survey)
}

fn tell(drivers: &Drivers) {
    for notice in drivers.take_notices() {
        warn!("{notice}");
    }
}

async fn finish(drivers: &Drivers, lock: &Lock, restore: &RestoreJournal, ending: &mut Ending) {
    let lost = match lock.lost().await {
        Ok(lost) => lost,
        Err(error) => return ending.leave_unfinished(error.to_string()),
    };
    for step in &restore.targets {
        // A driver that finds nothing waiting takes it for done.
        let done = match lost.contains(&step.target) {
            true => Err(DriverError::LoadedIsGone),
            false => commit(drivers, &step.target).await,
        };
        if let Err(error) = done {
            ending.not_committed(&step.target, &error);
        }
    }
}

async fn undo(
    session: &Session,
    drivers: &Drivers,
    lock: &Lock,
    restore: &RestoreJournal,
    ending: &mut Ending,
) {
    let written_over = lock.is_marked(Mark::Overwriting).await;
    for step in restore.targets.iter().rev() {
        let undone = match (step.way_back, &written_over) {
            (WayBack::Staged, _) => roll_back(drivers, &step.target).await,
            (WayBack::SafetySnapshot, Ok(false)) => Ok(()),
            (WayBack::SafetySnapshot, Ok(true)) => {
                let project = &lock.journal().project;
                undo_written_over(session, drivers, project, restore, &step.target).await
            }
            (WayBack::SafetySnapshot, Err(error)) => Err(DriverError::failed(format!(
                "could not ask the engine whether its old data was overwritten: {error}"
            ))),
        };
        if let Err(error) = undone {
            ending.leave_unfinished(format!(
                "{}: the old data could not be restored: {error}",
                step.target
            ));
        }
    }
}

/// From the safety snapshot, which was whole before anything was written over.
async fn undo_written_over(
    session: &Session,
    drivers: &Drivers,
    project: &str,
    restore: &RestoreJournal,
    target: &TargetId,
) -> Result<(), DriverError> {
    if let Some(safety) = &restore.safety {
        ensure_it_is_there(session, project, safety, &restore.repository).await?;
    }
    undo_in_place(session, drivers, project, restore.safety.as_ref(), target).await
}

/// Another process may know the repository by another name, so its name alone says nothing.
async fn ensure_it_is_there(
    session: &Session,
    project: &str,
    safety: &RunId,
    repository: &str,
) -> Result<(), DriverError> {
    let snapshot = SnapshotRef::new(project, safety.clone());
    let here = session.repository.location();
    match session.repository.list(Some(project)).await {
        Ok(present) if present.contains(&snapshot) => Ok(()),
        Ok(_) if here == repository => Err(DriverError::failed(format!(
            "its safety snapshot {safety} is missing in {repository}"
        ))),
        Err(error) if here == repository => Err(error.into()),
        Ok(_) | Err(_) => Err(DriverError::failed_with_hint(
            format!("its safety snapshot {safety} is in {repository}, not in {here}"),
            format!("run cofferdam recover with --repository {repository}"),
        )),
    }
}
