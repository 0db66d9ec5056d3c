//! `cofferdam recover`, which the daemon does at its start.

use super::context::Context;
use super::error::CommandError;
use crate::cli::RecoverArgs;
use crate::exit::Outcome;
use crate::hold::{Liveness, Lock, Operation};
use crate::recover::{Recovery, Stuck, recover};
use crate::report;
use crate::session::Session;

pub async fn run(context: &Context, args: RecoverArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let session = context.session(&engine).await?;
    let projects = context.projects().await;
    let in_scope = |project: &str| {
        projects
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == project))
    };
    let recovered = recover_all(&session, in_scope, &args.into()).await?;
    context.print(&recovered.runs, || match recovered.failed.as_slice() {
        [] => report::outcome::recover(&recovered.runs),
        _ => report::outcome::recovered(&recovered.runs),
    })?;
    for error in &recovered.failed {
        context.tell(error);
    }
    Ok(recovered.outcome())
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
    /// Runs that could not be recovered, and one that is alive, or may be.
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
    Lock::sweep_marks(&session.engine, in_scope)
        .await
        .map_err(CommandError::failed)?;
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
