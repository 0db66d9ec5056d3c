//! What every run needs: the engine, the repository, the image of our own containers, and the wish to stop.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::helper::{self, Helpers, Probed};
use crate::agent::inside::Removals;
use crate::engine::{Container, Engine, EngineError, State};
use crate::hold::{Acquired, HoldError, Journal, Lock, Wait};
use crate::labels::OptIn;
use crate::manifest::Compression;
use crate::pipe::keys::Keys;
use crate::repository::Repository;
use crate::repository::credentials::Credentials;
use crate::repository::url::RepositoryUrl;
use crate::retention::Terms;
use crate::run::places::{PlaceError, PlaceTerms, UsedPlace, Users, prepare};
use crate::run::progress::Board;
use crate::run::recover::{RecoverError, Recovery, Stuck, recover};
use crate::stack::Service;
use crate::stack::survey::Survey;
use crate::target::RunId;

/// What a backup does about second places.
#[derive(Clone)]
pub struct CopySettings {
    pub to: Vec<RepositoryUrl>,
    pub credentials: Credentials,
    /// What becomes of older snapshots there.
    pub retention: Terms,
}

#[derive(Clone)]
pub struct Session {
    pub engine: Engine,
    pub repository: Arc<dyn Repository>,
    /// Where that is.
    pub place: RepositoryUrl,
    pub place_terms: PlaceTerms,
    /// What helpers and journals are made of.
    pub image: String,
    pub compression: Compression,
    /// What becomes of older snapshots after a backup.
    pub retention: Terms,
    pub copies: CopySettings,
    pub keys: Keys,
    pub board: Board,
    /// What dropped work still has to remove; to be waited for before the process ends.
    pub removals: Removals,
    /// Cancelled by the first SIGINT or SIGTERM.
    pub interrupt: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

impl Session {
    /// Makes sure that the repository can be written to, and is that which is meant.
    pub async fn prepare_repository(&self, projects: &[String]) -> Result<UsedPlace, PlaceError> {
        let users = Users {
            projects,
            command: "backup",
        };
        let (repository, terms) = (&*self.repository, &self.place_terms);
        prepare(Some(&self.engine), repository, &self.place, users, terms).await
    }

    /// Takes the project's lock. Dead runs are recovered before a run is planned; one that has died since is recovered here, and
    /// the lock is refused: what that run held did not run when this one was planned, so this one would not hold it. It is
    /// refused too where another run has ended since, or somebody has started or stopped what `survey` has seen.
    pub async fn lock(&self, journal: Journal, survey: &Survey) -> Result<Lock, LockError> {
        match Lock::acquire(&self.engine, &self.image, journal).await? {
            Acquired::Lock(lock) => self.swept(lock, survey).await,
            Acquired::Abandoned(abandoned) => {
                let Recovery { run, project, .. } = recover(self, abandoned, Stuck::Hold).await?;
                Err(HoldError::Recovered { run, project }.into())
            }
        }
    }

    /// The lock is ours, so what other runs of the project have left is nobody's. On an error the lock is given up again:
    /// nothing of the project is held yet.
    async fn swept(&self, lock: Lock, survey: &Survey) -> Result<Lock, LockError> {
        let project = lock.journal().project.clone();
        let ready = async {
            Lock::sweep_marks(&self.engine, |other| other == project).await?;
            helper::sweep(&self.engine, &project).await?;
            self.ensure_as_surveyed(survey).await?;
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
        Err(LockError::Hold(error))
    }

    /// Whether what labels ask to save or to hold runs, rests or is paused as when it was looked at.
    async fn ensure_as_surveyed(&self, survey: &Survey) -> Result<(), HoldError> {
        let standing = |it: &Container| (it.is_up(), it.state == State::Paused);
        for Service {
            name,
            container: then,
            labels,
        } in &survey.stack.services
        {
            let is_concerned =
                labels.opt_in != OptIn::No || !labels.stop.is_empty() || labels.pause;
            // A swarm replaces its tasks as it likes, and its services are held.
            if !is_concerned || then.swarm_service().is_some() {
                continue;
            }
            let is_as_it_was = match self.engine.inspect(&then.id).await {
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

    /// What makes helpers for a run of `project`.
    pub fn helpers(&self, run: &RunId, project: &str) -> Helpers {
        Helpers {
            engine: self.engine.clone(),
            image: self.image.clone(),
            run: run.clone(),
            project: project.to_owned(),
            removals: self.removals.clone(),
            probed: Probed::default(),
        }
    }

    /// How long the end of a run may take: nobody waits for health once the user wants to stop.
    pub fn patience(&self) -> Wait {
        if self.interrupt.is_cancelled() {
            Wait::No
        } else {
            Wait::UntilReady
        }
    }

    /// Runs `work` unless the user interrupts it: then it is dropped where it stands.
    pub async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.interrupt.cancelled() => Err(Interrupted),
            done = work => Ok(done),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;
