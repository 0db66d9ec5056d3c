//! `cofferdam backup`

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::prepare::Prepared;
use crate::backup::{BackupReport, back_up};
use crate::cli::BackupArgs;
use crate::exit::Outcome;
use crate::report;
use crate::target::RunId;

pub async fn run(context: &Context, args: BackupArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let surveys = context.surveys(&engine).await?;
    let session = context.session(&engine).await?;
    let mut plans = Vec::new();
    let mut prepared = Vec::new();
    for survey in &surveys {
        let run = RunId::generate(Timestamp::now());
        let Prepared { drivers, plan } = context
            .prepare_backup(&session, survey, &args.targets, &run)
            .await?;
        plans.push(plan.clone());
        prepared.push((survey, run, drivers, plan));
    }
    if args.dry_run {
        context.print(&plans, || report::plan::backups(&plans, &context.view()))?;
        return Ok(Outcome::Done);
    }
    // With several projects, those without a label of ours are nobody's concern.
    prepared.retain(|(_, _, _, plan)| surveys.len() == 1 || plan.asks_for_something());
    if !prepared
        .iter()
        .any(|(_, _, _, plan)| plan.asks_for_something())
    {
        return Err(CommandError::usage(anyhow!(
            "no label asks for anything to be saved; `cofferdam plan` shows what could be"
        )));
    }

    let mut reports: Vec<BackupReport> = Vec::new();
    let mut failed = None;
    for (survey, run, drivers, plan) in prepared {
        match back_up(&session, survey, &plan, &drivers, run).await {
            Ok(report) => reports.push(report),
            Err(error) => {
                let error = CommandError::from(error);
                if error.outcome() == Outcome::Interrupted {
                    return Err(error);
                }
                // One project is no reason to leave the next one unsaved. The last error is told by main.
                if let Some(earlier) = failed.replace(error) {
                    tracing::error!("{earlier}");
                }
            }
        }
    }
    context.print(&reports, || report::outcome::backups(&reports))?;
    match failed {
        Some(error) if reports.is_empty() => Err(error),
        Some(error) => {
            tracing::error!("{error}");
            Ok(Outcome::Partial)
        }
        None if reports.iter().all(BackupReport::is_complete) => Ok(Outcome::Done),
        None => Ok(Outcome::Partial),
    }
}
