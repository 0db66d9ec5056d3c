//! `cofferdam prune`

use std::collections::BTreeSet;

use anyhow::anyhow;
use serde::Serialize;
use tracing::info;

use super::context::Context;
use super::error::CommandError;
use crate::cli::PruneArgs;
use crate::engine::Engine;
use crate::exit::Outcome;
use crate::history::retention::Pruning;
use crate::hold::{HoldError, Lock};
use crate::keep::KeepPolicy;
use crate::report;
use crate::repository::SnapshotRef;
use crate::run::prune::{Prune, PruneReport, Stock, sweep};

/// What would be done, for programs.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    pruning: &'a Pruning,
    freed_bytes: u64,
}

pub async fn run(context: &Context, args: PruneArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let engine = context.engine_if_any().await?;
    if engine.is_none() {
        info!("no engine: cofferdam cannot tell which snapshots a restore is reading");
    }
    let engine = engine.as_ref();
    let terms = context.retention(args.despite);
    let mut planned: Vec<(Stock, Pruning)> = Vec::new();
    // A journal that cannot be read keeps no other project from being pruned.
    let mut blocked: Vec<CommandError> = Vec::new();
    for project in context.named_projects(&*repository).await? {
        let stock = Stock::take(&*repository, &project)
            .await
            .map_err(CommandError::failed)?;
        match snapshots_in_use(engine, &project).await {
            Ok(in_use) => {
                let pruning = stock.judge(&in_use, &terms);
                planned.push((stock, pruning));
            }
            Err(error) => blocked.push(CommandError::failed(error)),
        }
    }
    blocked.iter().for_each(|error| context.tell(error));
    if planned.is_empty() && !blocked.is_empty() {
        return Ok(Outcome::Failed);
    }
    ensure_policy(&terms.keep, &planned)?;
    let blocked = blocked.iter().map(CommandError::outcome);

    if args.dry_run {
        let documents: Vec<Planned<'_>> = planned
            .iter()
            .map(|(stock, pruning)| Planned {
                pruning,
                freed_bytes: stock.freed_by(pruning),
            })
            .collect();
        context.print(&documents, || {
            let documents = documents.iter();
            let planned = documents.map(|planned| (planned.pruning, planned.freed_bytes));
            report::prune::planned(planned, &context.view())
        })?;
        return Ok(blocked.fold(Outcome::Done, Outcome::and));
    }

    let mut reports: Vec<PruneReport> = Vec::new();
    for (stock, pruning) in &planned {
        let prune = Prune {
            repository: &*repository,
            stock,
            interrupt: &context.interrupt,
        };
        let report = prune
            .execute(pruning, snapshots_in_use(engine, &pruning.project))
            .await;
        if report.is_as_it_should_be() {
            sweep(
                &*repository,
                &report.project,
                snapshots_in_use(engine, &report.project),
            )
            .await;
        }
        reports.push(report);
    }
    context.print(&reports, || report::prune::done(&reports, &context.view()))?;
    let outcomes = reports.iter().map(outcome).chain(blocked);
    Ok(outcomes.reduce(Outcome::and).unwrap_or(Outcome::Done))
}

async fn snapshots_in_use(
    engine: Option<&Engine>,
    project: &str,
) -> Result<BTreeSet<SnapshotRef>, HoldError> {
    match engine {
        Some(engine) => Lock::snapshots_in_use(engine, project).await,
        None => Ok(BTreeSet::new()),
    }
}

/// Without rules everything stays, and whoever asks to prune has forgotten them.
fn ensure_policy(
    keep: &Option<KeepPolicy>,
    planned: &[(Stock, Pruning)],
) -> Result<(), CommandError> {
    let has_policy = planned.iter().any(|(_, pruning)| pruning.has_policy());
    let is_empty = planned
        .iter()
        .all(|(_, pruning)| pruning.verdicts.is_empty());
    if keep.is_some() || has_policy || is_empty {
        return Ok(());
    }
    Err(CommandError::usage(anyhow!(
        "no retention rules are set, so everything is kept; set --keep within=24h,daily=7,weekly=4 or COFFERDAM_KEEP"
    )))
}

fn outcome(report: &PruneReport) -> Outcome {
    let is_done = report.is_as_it_should_be() && report.refused.is_none();
    match (report.interrupted, is_done, report.removed.is_empty()) {
        (true, _, _) => Outcome::Interrupted,
        (false, true, _) => Outcome::Done,
        (false, false, true) => Outcome::Failed,
        (false, false, false) => Outcome::Partial,
    }
}
