//! What commands share: reaching the engine and the repository, choosing, and printing.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::CommandError;
use crate::agent::inside::Removals;
use crate::config::{Config, LogFormat, Output};
use crate::engine::{Endpoint, Engine};
use crate::history::retention::{Despite, Terms};
use crate::history::select::{self, SelectError};
use crate::history::selectors::SnapshotSelector;
use crate::manifest::Manifest;
use crate::pipe::Progress;
use crate::report::View;
use crate::report::runlog::Runlog;
use crate::repository::url::RepositoryUrl;
use crate::repository::{self, OpenError, Repository, SnapshotRef};
use crate::run::progress::Board;
use crate::run::session::{CopySettings, Session};
use crate::snapshot::SnapshotReader;
use crate::stack::survey::{Survey, SurveyError, survey, survey_each};
use crate::stack::{EachProject, Scope};
use crate::text::printable_lines;

#[derive(Clone)]
pub struct Context {
    pub config: Config,
    pub board: Board,
    pub runlog: Runlog,
    pub interrupt: CancellationToken,
    pub removals: Removals,
}

/// A second place: where it is, and a handle on it.
pub type CopyPlace<'a> = (&'a RepositoryUrl, Arc<dyn Repository>);

impl Context {
    /// The same for one project.
    pub fn of_project(&self, project: &str) -> Self {
        let mut context = self.clone();
        context.config.scope = Scope::Projects(vec![project.to_owned()]);
        context
    }

    /// Runs `work` unless the user interrupts it: then it is dropped where it stands.
    pub async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            biased;
            () = self.interrupt.cancelled() => Err(CommandError::Interrupted),
            done = work => done,
        }
    }

    pub async fn engine(&self) -> Result<Engine, CommandError> {
        let endpoint =
            Endpoint::from_env(|name| std::env::var(name).ok()).map_err(CommandError::usage)?;
        let engine = Engine::connect(endpoint).await;
        let engine = engine.map_err(CommandError::failed)?;
        Ok(engine.with_managers(self.config.swarm_managers.clone()))
    }

    /// For commands that work on repositories alone, and ask an engine what of them is in use: `None` where there is none. One
    /// that does not answer may know of a restore.
    pub async fn engine_if_any(&self) -> Result<Option<Engine>, CommandError> {
        let endpoint = Endpoint::if_any(|name| std::env::var(name).ok());
        if endpoint.map_err(CommandError::usage)?.is_none() {
            return Ok(None);
        }
        let engine = self.engine().await.map_err(|error| match error {
            CommandError::Failed(error) => CommandError::Failed(anyhow::anyhow!(
                "{error}; if there is no engine, set DOCKER_HOST=none"
            )),
            other => other,
        });
        engine.map(Some)
    }

    pub fn repository(&self) -> Result<Arc<dyn Repository>, CommandError> {
        repository::open(&self.config.repository, &self.config.credentials)
            .map_err(CommandError::usage)
    }

    /// Reads snapshots with the keys that are given.
    pub fn reader(&self, repository: Arc<dyn Repository>, progress: Progress) -> SnapshotReader {
        let identities = self.config.keys.identities.clone();
        SnapshotReader::new(repository, identities, progress)
    }

    /// The second places.
    pub fn copy_places(&self) -> Result<Vec<CopyPlace<'_>>, CommandError> {
        let Config {
            copy_to,
            credentials,
            ..
        } = &self.config;
        let places = copy_to
            .iter()
            .map(|url| Ok((url, repository::open(url, credentials)?)));
        places
            .collect::<Result<_, OpenError>>()
            .map_err(CommandError::usage)
    }

    pub async fn session(&self, engine: &Engine) -> Result<Session, CommandError> {
        Ok(Session {
            engine: engine.clone(),
            repository: self.repository()?,
            place: self.config.repository.clone(),
            place_terms: self.config.place_terms.clone(),
            image: engine.agent_image().await.map_err(CommandError::failed)?,
            compression: self.config.compression,
            retention: self.retention(Vec::new()),
            copies: CopySettings {
                to: self.config.copy_to.clone(),
                credentials: self.config.credentials.clone(),
                retention: Terms {
                    keep: self.config.copy_keep.clone(),
                    ..self.retention(Vec::new())
                },
            },
            keys: self.config.keys.clone(),
            board: self.board.clone(),
            removals: self.removals.clone(),
            interrupt: self.interrupt.clone(),
        })
    }

    pub fn retention(&self, despite: Vec<Despite>) -> Terms {
        Terms {
            keep: self.config.keep.clone(),
            time_zone: self.config.time_zone.clone(),
            despite,
        }
    }

    /// The repository and the second places, as far as they are directories.
    fn directories(&self) -> Vec<&Path> {
        let places = std::iter::once(&self.config.repository).chain(&self.config.copy_to);
        places.filter_map(RepositoryUrl::directory).collect()
    }

    /// The projects that the command works on, as they are now.
    pub async fn surveys(&self, engine: &Engine) -> Result<Vec<Survey>, CommandError> {
        Ok(survey(engine, &self.config.scope, &self.directories()).await?)
    }

    /// The same, each by itself: what is wrong with one is nothing to another.
    pub async fn surveys_each(
        &self,
        engine: &Engine,
    ) -> Result<EachProject<Survey, SurveyError>, CommandError> {
        Ok(survey_each(engine, &self.config.scope, &self.directories()).await?)
    }

    /// The one project that a restore works on.
    pub async fn only_survey(&self, engine: &Engine) -> Result<Survey, CommandError> {
        let mut surveys = self.surveys(engine).await?;
        match (surveys.pop(), surveys.is_empty()) {
            (Some(survey), true) => Ok(survey),
            _ => Err(CommandError::usage(anyhow::anyhow!(
                "a restore works on one project; name it with --project NAME"
            ))),
        }
    }

    /// One project, whatever the command's scope is.
    pub async fn survey_of(&self, engine: &Engine, project: &str) -> Result<Survey, CommandError> {
        let scope = Scope::Projects(vec![project.to_owned()]);
        let mut surveys = survey(engine, &scope, &self.directories()).await?;
        surveys.pop().ok_or_else(|| {
            CommandError::usage(anyhow::anyhow!("project {project} has no containers"))
        })
    }

    /// The projects whose snapshots a command looks at; `None` means all. Where no project is our own, as outside of a
    /// container or in one that `docker run` made, all are meant unless some are named: looking does no harm.
    pub async fn projects(&self) -> Option<Vec<String>> {
        match &self.config.scope {
            Scope::Projects(names) => Some(names.clone()),
            Scope::All => None,
            Scope::Own => {
                let engine = self.engine().await.ok()?;
                let own = engine.own_container().await.ok()??;
                own.has_project().then(|| vec![own.project().to_owned()])
            }
        }
    }

    /// The node of a swarm that the engine is, if there is an engine to be asked.
    async fn own_node(&self) -> Option<String> {
        let engine = self.engine().await.ok()?;
        let node = engine.node().await.ok()??;
        Some(node.name)
    }

    /// The projects whose snapshots a command changes: unlike for a look, nothing is meant that was not named.
    pub async fn named_projects(
        &self,
        repository: &dyn Repository,
    ) -> Result<Vec<String>, CommandError> {
        match (&self.config.scope, self.projects().await) {
            (_, Some(names)) => Ok(names),
            (Scope::All, None) => {
                let snapshots = repository.list(None).await.map_err(CommandError::failed)?;
                let names: BTreeSet<String> =
                    snapshots.into_iter().map(|one| one.project).collect();
                Ok(names.into_iter().collect())
            }
            (_, None) => Err(CommandError::usage(anyhow::anyhow!(
                "cofferdam is not running in a project; choose one with --project NAME, or all in the repository with \
                 --all-projects"
            ))),
        }
    }

    /// The snapshots in scope, oldest first. That there are none of the projects that are named, but of others, is an error: a name
    /// may be misspelt.
    pub async fn snapshots(
        &self,
        repository: &dyn Repository,
    ) -> Result<Vec<SnapshotRef>, CommandError> {
        let all = repository.list(None).await.map_err(CommandError::failed)?;
        let Some(projects) = self.projects().await else {
            return Ok(all);
        };
        let in_scope = all.iter().filter(|it| projects.contains(&it.project));
        let snapshots: Vec<SnapshotRef> = in_scope.cloned().collect();
        let are_named = matches!(self.config.scope, Scope::Projects(_));
        if are_named && snapshots.is_empty() && !all.is_empty() {
            return Err(SelectError::none_of(repository, Some(&projects), all).into());
        }
        Ok(snapshots)
    }

    /// The manifest of the snapshot that is named, among those in scope.
    pub async fn manifest(
        &self,
        repository: &dyn Repository,
        wanted: &SnapshotSelector,
    ) -> Result<Manifest, CommandError> {
        let projects = self.projects().await;
        self.manifest_of(repository, projects.as_deref(), wanted)
            .await
    }

    pub async fn manifest_of(
        &self,
        repository: &dyn Repository,
        projects: Option<&[String]>,
        wanted: &SnapshotSelector,
    ) -> Result<Manifest, CommandError> {
        let own_node = async || self.own_node().await;
        let snapshot = select::snapshot(repository, projects, wanted, own_node).await?;
        repository
            .manifest(&snapshot)
            .await
            .map_err(CommandError::failed)
    }

    /// The snapshots that are named among those in scope; all of these when none is named. Oldest first.
    pub async fn selected(
        &self,
        repository: &dyn Repository,
        wanted: &[SnapshotSelector],
    ) -> Result<Vec<SnapshotRef>, CommandError> {
        if wanted.is_empty() {
            return self.snapshots(repository).await;
        }
        let projects = self.projects().await;
        let mut named: Vec<SnapshotRef> = Vec::new();
        for wanted in wanted {
            let own_node = async || self.own_node().await;
            let found = select::snapshot(repository, projects.as_deref(), wanted, own_node);
            named.push(found.await?);
        }
        named.sort();
        named.dedup();
        Ok(named)
    }

    pub fn view(&self) -> View {
        View::of_stdout(self.config.time_zone.clone())
    }

    /// Says why something failed, where people and their log collectors look, whatever the log's filter lets through.
    pub fn tell(&self, error: &impl fmt::Display) {
        match self.config.log.format {
            LogFormat::Json => tracing::error!("{error}"),
            LogFormat::Text => {
                let text = printable_lines(&error.to_string());
                self.runlog.note(tracing::Level::ERROR, &text);
                self.board.suspend(|| eprintln!("cofferdam: {text}"));
            }
        }
    }

    /// Prints for programs when `--json` is on, else for people.
    pub fn print(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        let printed = self.board.suspend(|| {
            let mut out = std::io::stdout().lock();
            match self.config.output {
                Output::Json => serde_json::to_writer_pretty(&mut out, document)
                    .map_err(std::io::Error::from)
                    .and_then(|()| writeln!(out)),
                Output::Human => match text().trim_end() {
                    "" => Ok(()),
                    text => writeln!(out, "{text}"),
                },
            }
        });
        match printed {
            // `cofferdam list | head` has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(CommandError::failed),
        }
    }
}
