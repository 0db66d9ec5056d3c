//! `cofferdam recover`, which the daemon does at its start.

use super::context::Context;
use super::error::CommandError;
use crate::cli::RecoverArgs;
use crate::exit::Outcome;
use crate::hold::{HoldError, Journal, Liveness, Lock, Operation};
use crate::recover::recover;
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
    let Recovered { runs, busy } = recover_all(&session, in_scope, args.force).await?;
    context.print(&runs, || {
        if runs.is_empty() {
            return "Nothing was left unfinished.".to_owned();
        }
        let lines: Vec<String> = runs
            .iter()
            .map(|run| {
                format!(
                    "Recovered {} {} of project {}",
                    run.operation, run.run, run.project
                )
            })
            .collect();
        lines.join("\n")
    })?;
    match busy {
        Some(taken) => Err(CommandError::Busy(taken)),
        None => Ok(Outcome::Done),
    }
}

pub struct Recovered {
    pub runs: Vec<Journal>,
    /// A run that is alive, or may be.
    pub busy: Option<HoldError>,
}

/// Recovers every abandoned run of the projects in scope; `force`: also those that seem to be alive.
pub async fn recover_all(
    session: &Session,
    in_scope: impl Fn(&str) -> bool,
    force: bool,
) -> Result<Recovered, CommandError> {
    let mut recovered = Recovered {
        runs: Vec::new(),
        busy: None,
    };
    let found = Lock::find_all(&session.engine, &session.image, &in_scope).await;
    for lock in found.map_err(CommandError::failed)? {
        let journal = lock.journal().clone();
        match lock.liveness().await.map_err(CommandError::failed)? {
            // The old data of a restore is on its own node.
            Liveness::Dead
                if lock.elsewhere().is_none() || journal.operation == Operation::Backup => {}
            _ if force => {}
            liveness => {
                recovered.busy = Some(lock.taken(liveness));
                continue;
            }
        }
        recover(session, lock).await.map_err(CommandError::failed)?;
        recovered.runs.push(journal);
    }
    Lock::sweep_decisions(&session.engine, in_scope)
        .await
        .map_err(CommandError::failed)?;
    Ok(recovered)
}
