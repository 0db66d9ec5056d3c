//! What every run needs: the engine, the repository, the image of our own containers, and the wish to stop.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::agent::helper::{Helpers, Probed};
use crate::agent::inside::Removals;
use crate::engine::Engine;
use crate::history::retention::Terms;
use crate::hold::Wait;
use crate::manifest::Compression;
use crate::pipe::keys::Keys;
use crate::repository::Repository;
use crate::repository::credentials::Credentials;
use crate::repository::url::RepositoryUrl;
use crate::run::places::{PlaceError, PlaceTerms, UsedPlace, Users, prepare};
use crate::run::progress::Board;
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
