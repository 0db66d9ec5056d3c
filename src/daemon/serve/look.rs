//! Looks at the repository and at what the labels amount to, aside from the daemon's own work.
//!
//! Each project is looked at when its labels were read, after each of its runs, and every hour, since somebody else may make
//! and remove snapshots too. Manifests that are known are not read again.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use tracing::debug;

use super::history::History;
use super::shown::Shown;
use crate::commands::prepare::{Prepared, Wanted};
use crate::commands::{CommandError, Context};
use crate::plan::backup::BackupPlan;
use crate::repository;
use crate::target::RunId;

/// Somebody else may have made a backup, or removed one.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// A container that does not answer must not keep everything else from being looked at.
const LOOK_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Looks until it is dropped.
pub async fn look(context: Context, shown: Shown) {
    let mut hours = tokio::time::interval(EVERY);
    hours.tick().await;
    loop {
        let (unseen, asks_labels) = tokio::select! {
            unseen = shown.unseen() => (unseen, true),
            _ = hours.tick() => (all(&shown), false),
        };
        for project in unseen {
            look_at_repository(&context, &shown, &project).await;
            if asks_labels {
                look_at_labels(&context, &shown, &project).await;
            }
        }
    }
}

fn all(shown: &Shown) -> BTreeSet<String> {
    let overview = shown.overview();
    let projects = overview.projects.iter().flatten();
    projects.map(|(name, _)| name.clone()).collect()
}

async fn look_at_repository(context: &Context, shown: &Shown, project: &str) {
    let overview = shown.overview();
    let known = overview.projects.as_ref().and_then(|it| it.get(project));
    let known = known.and_then(|project| project.history.clone());
    drop(overview);
    let read = in_time(history(context, project, known)).await;
    shown.update(project, |shown| match read {
        Ok(history) => {
            shown.history = Some(Arc::new(history));
            shown.history_trouble = None;
        }
        Err(trouble) => shown.history_trouble = Some(trouble),
    });
}

async fn history(
    context: &Context,
    project: &str,
    known: Option<Arc<History>>,
) -> Result<History, CommandError> {
    let now = Timestamp::now();
    let repository = context.repository()?;
    let listed = repository.list(Some(project)).await?;
    let mut history = known.map(Arc::unwrap_or_clone).unwrap_or_default();
    let missing = history.missing(&listed, now);
    let mut manifests = pin!(repository::manifests(&*repository, missing));
    while let Some((snapshot, manifest)) = manifests.next().await {
        history.take(snapshot, manifest, now)?;
    }
    history.settle();
    Ok(history)
}

/// Not while a backup is running: it stops containers that would have to answer. It is looked at when that has ended.
async fn look_at_labels(context: &Context, shown: &Shown, project: &str) {
    if is_running(shown, project) {
        return;
    }
    let planned = in_time(plan(&context.of_project(project))).await;
    if is_running(shown, project) {
        return;
    }
    if let Err(trouble) = &planned {
        debug!(project, "the backup cannot be planned: {trouble}");
    }
    shown.update(project, |shown| match planned {
        Ok(plan) => {
            shown.plan = plan.map(Arc::new);
            shown.plan_trouble = None;
        }
        Err(trouble) => shown.plan_trouble = Some(trouble),
    });
}

/// `None` when the project is gone.
async fn plan(context: &Context) -> Result<Option<BackupPlan>, CommandError> {
    let engine = context.engine().await?;
    let Some(mut survey) = context.surveys(&engine).await?.pop() else {
        return Ok(None);
    };
    let session = context.session(&engine).await?;
    let run = RunId::generate(Timestamp::now());
    let Prepared { drivers, mut plan } = context
        .prepare_backup(&session, &survey, Wanted::default(), &run)
        .await?;
    context
        .audit(&engine, &mut survey, &drivers, &mut plan)
        .await;
    Ok(Some(plan))
}

fn is_running(shown: &Shown, project: &str) -> bool {
    let overview = shown.overview();
    let shown = overview.projects.as_ref().and_then(|it| it.get(project));
    shown.is_some_and(|project| project.running.is_some())
}

async fn in_time<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, String> {
    match tokio::time::timeout(LOOK_LIMIT, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    }
}
