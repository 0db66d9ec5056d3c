//! `cofferdam recover`, which the daemon does at its start, and every backup and restore before it plans.

use std::collections::BTreeMap;

use tracing::warn;

use super::context::Context;
use super::error::CommandError;
use crate::cli::RecoverArgs;
use crate::engine::{Container, Engine};
use crate::exit::Outcome;
use crate::hold::{HoldError, Journal, Liveness, Lock, Operation};
use crate::report;
use crate::run::recover::{Recovery, Stuck, recover};
use crate::run::session::Session;
use crate::stack::Scope;

pub async fn run(context: &Context, args: RecoverArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let session = context.session(&engine).await?;
    let projects = projects(context, &engine).await?;
    let in_scope = |project: &str| {
        projects
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == project))
    };
    let mut recovered = recover_all(&session, in_scope, &args.into()).await?;
    // Whatever fails from here on, what was recovered is told.
    let others = match unfinished(&session, |project| !in_scope(project)).await {
        Ok(others) => others,
        Err(error) => {
            recovered.failed.push(error);
            Unfinished::default()
        }
    };
    let is_all = recovered.failed.is_empty() && others.is_nothing();
    context.print(&recovered.runs, || match is_all {
        true => report::outcome::recover(&recovered.runs),
        false => report::outcome::recovered(&recovered.runs),
    })?;
    for error in &recovered.failed {
        context.tell(error);
    }
    for error in others.doubtful {
        warn!("another project may have an unfinished run: {error}");
    }
    for Journal { run, project, .. } in others.abandoned {
        warn!(
            "run {run} of project {project} was left unfinished; to recover it, run: cofferdam recover --project {project}"
        );
    }
    Ok(recovered.outcome())
}

/// The projects that are meant; `None`: all. Where no project is our own, whatever was left unfinished is looked for.
async fn projects(context: &Context, engine: &Engine) -> Result<Option<Vec<String>>, CommandError> {
    if context.config.scope != Scope::Own {
        return Ok(context.projects().await);
    }
    let own = engine.own_container().await.map_err(CommandError::failed)?;
    let own = own.filter(Container::has_project);
    Ok(own.map(|own| vec![own.project().to_owned()]))
}

impl Context {
    /// Recovers the dead runs of the projects in scope. What they hold does not run, so a plan that is made before that would
    /// leave it out, and data would be saved or replaced beneath what the recovery starts.
    ///
    /// The projects whose dead runs cannot be recovered come back, each with the reason. A run that is alive, and a journal that
    /// cannot be read, are met when the lock is taken.
    pub async fn recover_dead_runs(
        &self,
        session: &Session,
    ) -> Result<BTreeMap<String, CommandError>, CommandError> {
        let projects = self.projects().await;
        let mut unrecovered = BTreeMap::new();
        if projects.is_none() && self.config.scope == Scope::Own {
            // There is nothing to plan either.
            return Ok(unrecovered);
        }
        let in_scope = |project: &str| {
            let mut names = projects.iter().flatten();
            projects.is_none() || names.any(|name| name == project)
        };
        let found = Lock::find_all(&session.engine, &session.image, in_scope).await;
        let (locks, _) = found.map_err(CommandError::failed)?;
        for lock in locks {
            let project = lock.journal().project.clone();
            match recover_one(session, lock, &Authority::default()).await {
                Ok(_) | Err(CommandError::Busy(_)) => {}
                Err(error) => drop(unrecovered.insert(project, error)),
            }
        }
        Ok(unrecovered)
    }
}

/// What dead runs have left.
#[derive(Default)]
struct Unfinished {
    abandoned: Vec<Journal>,
    /// Of these nobody knows.
    doubtful: Vec<HoldError>,
}

impl Unfinished {
    fn is_nothing(&self) -> bool {
        self.abandoned.is_empty() && self.doubtful.is_empty()
    }
}

/// What dead runs of these projects have left.
async fn unfinished(
    session: &Session,
    in_scope: impl Fn(&str) -> bool,
) -> Result<Unfinished, CommandError> {
    let found = Lock::find_all(&session.engine, &session.image, in_scope).await;
    let (locks, doubtful) = found.map_err(CommandError::failed)?;
    let mut abandoned = Vec::new();
    for lock in locks {
        if lock.liveness().await.map_err(CommandError::failed)? == Liveness::Dead {
            abandoned.push(lock.journal().clone());
        }
    }
    Ok(Unfinished {
        abandoned,
        doubtful,
    })
}

/// How far a recovery may go.
#[derive(Clone, Copy, Debug)]
pub struct Authority {
    /// Runs that seem to be alive are taken over as well.
    pub force: bool,
    pub stuck: Stuck,
}

impl From<RecoverArgs> for Authority {
    fn from(args: RecoverArgs) -> Self {
        Self {
            force: args.force,
            stuck: if args.give_up {
                Stuck::GiveUp
            } else {
                Stuck::Hold
            },
        }
    }
}

/// Of itself, as the daemon goes about it.
impl Default for Authority {
    fn default() -> Self {
        Self {
            force: false,
            stuck: Stuck::Hold,
        }
    }
}

pub struct Recovered {
    pub runs: Vec<Recovery>,
    /// Runs that could not be recovered, and one that is alive, or may be; and why it is not known whether that is all.
    pub failed: Vec<CommandError>,
}

impl Recovered {
    fn outcome(&self) -> Outcome {
        let runs = self.runs.iter().map(|run| match run.problems.as_slice() {
            [] => Outcome::Done,
            _ => Outcome::Partial,
        });
        let all = runs.chain(self.failed.iter().map(CommandError::outcome));
        all.reduce(Outcome::and).unwrap_or(Outcome::Done)
    }
}

/// Recovers every abandoned run of the projects in scope. One that cannot be recovered keeps no other from it.
pub async fn recover_all(
    session: &Session,
    in_scope: impl Fn(&str) -> bool,
    authority: &Authority,
) -> Result<Recovered, CommandError> {
    let found = Lock::find_all(&session.engine, &session.image, &in_scope).await;
    let (locks, unreadable) = found.map_err(CommandError::failed)?;
    let mut recovered = Recovered {
        runs: Vec::new(),
        failed: unreadable.into_iter().map(CommandError::failed).collect(),
    };
    for lock in locks {
        match recover_one(session, lock, authority).await {
            Ok(run) => recovered.runs.push(run),
            Err(error) => recovered.failed.push(error),
        }
    }
    let swept = Lock::sweep_marks(&session.engine, in_scope).await;
    recovered
        .failed
        .extend(swept.err().map(CommandError::failed));
    Ok(recovered)
}

async fn recover_one(
    session: &Session,
    lock: Lock,
    authority: &Authority,
) -> Result<Recovery, CommandError> {
    match lock.liveness().await.map_err(CommandError::failed)? {
        // The old data of a restore is on its own node.
        Liveness::Dead
            if lock.elsewhere().is_none() || lock.journal().operation == Operation::Backup => {}
        _ if authority.force => {}
        liveness => return Err(CommandError::Busy(lock.taken(liveness))),
    }
    recover(session, lock, authority.stuck)
        .await
        .map_err(CommandError::failed)
}
