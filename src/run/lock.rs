//! A project is taken for a run: its lock, and what has to be true once that is ours.

use tracing::warn;

use crate::agent::helper;
use crate::engine::{Container, Engine, EngineError, State};
use crate::hold::{Acquired, HoldError, Journal, Lock};
use crate::labels::OptIn;
use crate::run::recover::{RecoverError, Recovery, Stuck, recover};
use crate::run::session::Session;
use crate::stack::Service;
use crate::stack::survey::Survey;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// Takes the project's lock. Dead runs are recovered before a run is planned; one that has died since is recovered here, and
/// the lock is refused: what that run held did not run when this one was planned, so this one would not hold it. It is
/// refused too where another run has ended since, or somebody has started or stopped what `survey` has seen.
pub async fn lock(session: &Session, journal: Journal, survey: &Survey) -> Result<Lock, LockError> {
    match Lock::acquire(&session.engine, &session.image, journal).await? {
        Acquired::Lock(lock) => Ok(swept(&session.engine, lock, survey).await?),
        Acquired::Abandoned(abandoned) => {
            let Recovery { run, project, .. } = recover(session, abandoned, Stuck::Hold).await?;
            Err(HoldError::Recovered { run, project }.into())
        }
    }
}

/// The lock is ours, so what other runs of the project have left is nobody's. On an error the lock is given up again:
/// nothing of the project is held yet.
async fn swept(engine: &Engine, lock: Lock, survey: &Survey) -> Result<Lock, HoldError> {
    let project = lock.journal().project.clone();
    let ready = async {
        Lock::sweep_marks(engine, |other| other == project).await?;
        helper::sweep(engine, &project).await?;
        ensure_as_surveyed(engine, survey).await?;
        // What the nodes of a swarm share comes last.
        lock.claim().await
    };
    let Err(error) = ready.await else {
        return Ok(lock);
    };
    if let Err(error) = lock.close().await {
        warn!(
            "project {project} stays locked while this process runs: {error}; to free it, run `cofferdam recover --project \
             {project} --force`"
        );
    }
    Err(error)
}

/// Whether what labels ask to save or to hold runs, rests or is paused as when it was looked at.
async fn ensure_as_surveyed(engine: &Engine, survey: &Survey) -> Result<(), HoldError> {
    let standing = |it: &Container| (it.is_up(), it.state == State::Paused);
    for Service {
        name,
        container: then,
        labels,
    } in &survey.stack.services
    {
        let is_concerned = labels.opt_in != OptIn::No || !labels.stop.is_empty() || labels.pause;
        // A swarm replaces its tasks as it likes, and its services are held.
        if !is_concerned || then.swarm_service().is_some() {
            continue;
        }
        let is_as_it_was = match engine.inspect(&then.id).await {
            Ok(now) => standing(&now) == standing(then),
            Err(EngineError::NoSuchContainer(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_as_it_was {
            let service = name.clone();
            return Err(HoldError::Changed { service });
        }
    }
    Ok(())
}
