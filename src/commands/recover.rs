//! `cofferdam recover`

use super::context::Context;
use super::error::CommandError;
use crate::cli::RecoverArgs;
use crate::exit::Outcome;
use crate::hold::{Liveness, Lock};
use crate::recover::recover;

pub async fn run(context: &Context, args: RecoverArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let session = context.session(&engine).await?;
    let projects = context.projects().await;
    let in_scope = |project: &str| {
        projects
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == project))
    };

    let mut recovered = Vec::new();
    let mut busy = None;
    let found = Lock::find_all(&engine, &session.image, in_scope).await;
    for lock in found.map_err(CommandError::failed)? {
        let journal = lock.journal().clone();
        match lock.liveness().await.map_err(CommandError::failed)? {
            Liveness::Dead => {}
            Liveness::Alive | Liveness::Unknown if args.force => {}
            liveness => {
                busy = Some(lock.taken(liveness));
                continue;
            }
        }
        recover(&session, lock)
            .await
            .map_err(CommandError::failed)?;
        recovered.push(journal);
    }
    Lock::sweep_decisions(&engine, in_scope)
        .await
        .map_err(CommandError::failed)?;
    context.print(&recovered, || {
        if recovered.is_empty() {
            return "Nothing was left unfinished.".to_owned();
        }
        let lines: Vec<String> = recovered
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
