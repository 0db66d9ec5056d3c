//! Where status files go: into the repository, or into a directory of their own.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::history::freshness::{FreshnessReport, Question};
use crate::report::{View, status};
use crate::repository::local::StatusDirectory;
use crate::repository::status::{StatusFile, StatusForm, StatusPath};
use crate::repository::{Repository, RepositoryError};

pub enum StatusPlace {
    Repository(Arc<dyn Repository>),
    Directory(StatusDirectory),
}

impl StatusPlace {
    pub fn new(repository: &Arc<dyn Repository>, directory: Option<&Path>) -> Self {
        match directory {
            Some(path) => Self::Directory(StatusDirectory::new(path)),
            None => Self::Repository(Arc::clone(repository)),
        }
    }

    pub async fn list(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        match self {
            Self::Repository(repository) => repository.statuses().await,
            Self::Directory(directory) => {
                let directory = directory.clone();
                blocking(move || directory.list()).await
            }
        }
    }

    /// Writes those of the targets in the report, and removes those of targets that nobody asks for any more.
    pub async fn write(
        &self,
        report: &FreshnessReport,
        known: &[StatusPath],
        question: &Question,
        view: &View,
    ) -> Result<(), RepositoryError> {
        let mut files = Vec::new();
        for project in &report.projects {
            for judged in &project.targets {
                for form in StatusForm::ALL {
                    let bytes = match form {
                        StatusForm::Json => status::json(report, &project.project, judged),
                        StatusForm::Text => status::text(report, &project.project, judged, view),
                    };
                    let path = StatusPath::new(&project.project, &judged.target, form);
                    files.push(StatusFile { path, bytes });
                }
            }
        }
        let written: HashSet<StatusPath> = files.iter().map(|file| file.path.clone()).collect();
        self.put(files).await?;
        let projects = report.projects.iter().map(|it| it.project.as_str());
        let projects: HashSet<&str> = projects.collect();
        let looked_at = |path: &StatusPath| projects.contains(path.project().as_str());
        let retired = |path: &StatusPath| path.target().is_some_and(|it| question.is_retired(&it));
        for path in known.iter().filter(|path| looked_at(path)) {
            let given_up = question.targets.is_empty() || retired(path);
            if given_up && !written.contains(path) {
                self.remove(path).await?;
            }
        }
        Ok(())
    }

    async fn put(&self, files: Vec<StatusFile>) -> Result<(), RepositoryError> {
        // Where nothing was backed up yet, the place need not be a repository.
        if files.is_empty() {
            return Ok(());
        }
        match self {
            Self::Repository(repository) => repository.put_statuses(files).await,
            Self::Directory(directory) => {
                let directory = directory.clone();
                blocking(move || directory.put(&files)).await
            }
        }
    }

    async fn remove(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        match self {
            Self::Repository(repository) => repository.remove_status(path).await,
            Self::Directory(directory) => {
                let (directory, path) = (directory.clone(), path.clone());
                blocking(move || directory.remove(&path)).await
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(lost) => std::panic::resume_unwind(lost.into_panic()),
    }
}
