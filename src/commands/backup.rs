//! `cofferdam backup`

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::mail;
use super::prepare::{Prepared, Wanted};
use crate::backup::{BackupReport, back_up};
use crate::cli::BackupArgs;
use crate::copy::copy_after;
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
            .prepare_backup(&session, survey, wanted(&args), &run)
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
    let mut failures: Vec<CommandError> = Vec::new();
    for (survey, run, drivers, plan) in prepared {
        match back_up(&session, survey, &plan, &drivers, run).await {
            Ok(report) => reports.push(report),
            // One project that fails is no reason to leave the next one unsaved.
            Err(error) => match CommandError::from(error) {
                CommandError::Interrupted => return Err(CommandError::Interrupted),
                error => failures.push(error),
            },
        }
    }
    // Without locks, and when all is saved: sending takes its time, and neither a restore nor another project need wait for it.
    for report in &mut reports {
        report.copies = copy_after(&session, &report.manifest.project).await;
    }
    let printed = context.print(&reports, || {
        report::outcome::backups(&reports, &context.view())
    });
    let saved = reports.iter().map(outcome);
    let failed = failures.iter().map(CommandError::outcome);
    let whole = saved.chain(failed).reduce(Outcome::and);
    for failure in &failures {
        context.tell(failure);
    }
    mail::about_backups(context, &reports, &failures).await;
    if let Err(error) = printed {
        // The snapshots are there, and the mail has said so.
        context.tell(&error);
        return Ok(whole.unwrap_or(Outcome::Done).and(Outcome::Failed));
    }
    Ok(whole.unwrap_or(Outcome::Done))
}

fn wanted(args: &BackupArgs) -> Wanted<'_> {
    Wanted {
        targets: &args.targets,
        may_shrink: &args.may_shrink,
    }
}

fn outcome(report: &BackupReport) -> Outcome {
    if report.is_complete() {
        Outcome::Done
    } else {
        Outcome::Partial
    }
}
