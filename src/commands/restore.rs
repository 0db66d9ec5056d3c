//! `cofferdam restore`

use std::io::{IsTerminal as _, Write as _};

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use crate::cli::RestoreArgs;
use crate::discover::Stack;
use crate::driver::OldDatabase;
use crate::driver::tree::{Moment, Placement, TreeRun};
use crate::exit::Outcome;
use crate::manifest::{Facts, Manifest, TargetRecord};
use crate::plan::PlanError;
use crate::plan::restore::{PlannedRestore, RestorePlan, service_of};
use crate::report;
use crate::restore::{FinalState, Restore, Safety};
use crate::select;
use crate::target::RunId;
use crate::targets::{Drivers, RunOptions};
use crate::tree::path::TreePath;

pub async fn run(context: &Context, args: RestoreArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let survey = context.only_survey(&engine).await?;
    let session = context.session(&engine).await?;
    let project = [survey.stack.project.clone()];
    let manifest = context
        .manifest_of(&*session.repository, Some(&project), &args.snapshot)
        .await?;
    let records = chosen(&manifest, &args)?;

    let run = RunId::generate(Timestamp::now());
    let drivers = Drivers::prepare(&session, &survey, &run, &options(&args)?, &records)
        .await
        .map_err(CommandError::failed)?;
    let targets = records
        .into_iter()
        .map(|record| planned(&survey.stack, &drivers, record))
        .collect::<Result<Vec<_>, _>>()?;
    let plan = RestorePlan::new(&survey.stack, &manifest, targets).map_err(CommandError::usage)?;

    if args.dry_run {
        context.print(&plan, || report::plan::restore(&plan, &context.view()))?;
        return Ok(Outcome::Done);
    }
    confirm(context, &plan, &args)?;
    let restore = Restore {
        session: &session,
        survey: &survey,
        plan: &plan,
        manifest: &manifest,
        drivers: &drivers,
        run,
        safety: if args.safety_snapshot {
            Safety::Always
        } else {
            Safety::WhereNeeded
        },
    };
    let report = restore.execute().await?;
    context.print(&report, || report::outcome::restore(&plan, &report))?;
    Ok(match report.state {
        FinalState::Restored if report.problems.is_empty() => Outcome::Done,
        FinalState::Restored => Outcome::Partial,
        FinalState::RolledBack if report.interrupted => Outcome::Interrupted,
        FinalState::RolledBack | FinalState::Unfinished => Outcome::Failed,
    })
}

fn options(args: &RestoreArgs) -> Result<RunOptions, CommandError> {
    let paths = args
        .paths
        .iter()
        .map(|path| TreePath::parse(path.as_bytes()));
    Ok(RunOptions {
        old_database: if args.keep_old {
            OldDatabase::Keep
        } else {
            OldDatabase::Drop
        },
        trees: TreeRun {
            placement: if args.in_place {
                Placement::InPlace
            } else {
                Placement::Beside
            },
            paths: paths
                .collect::<Result<_, _>>()
                .map_err(CommandError::usage)?,
            moment: Moment::Restore,
            ..TreeRun::default()
        },
    })
}

/// The records that the arguments choose.
fn chosen<'m>(
    manifest: &'m Manifest,
    args: &RestoreArgs,
) -> Result<Vec<&'m TargetRecord>, CommandError> {
    let available = manifest.targets.iter().map(|record| &record.target);
    let ids = select::targets(available, &args.targets)?;
    let records: Vec<&TargetRecord> = manifest
        .targets
        .iter()
        .filter(|record| ids.contains(&&record.target))
        .collect();
    let is_tree =
        |record: &TargetRecord| matches!(record.facts, Facts::Volume(_) | Facts::Files(_));
    let is_one_tree = records.len() == 1 && records.iter().all(|record| is_tree(record));
    if !(args.paths.is_empty() || is_one_tree) {
        return Err(CommandError::usage(anyhow!(
            "--path chooses files of one volume or directory; name that target too, as in: cofferdam restore {} \
             app/volume/uploads --path {}",
            args.snapshot,
            args.paths[0]
        )));
    }
    Ok(records)
}

fn planned(
    stack: &Stack,
    drivers: &Drivers,
    record: &TargetRecord,
) -> Result<PlannedRestore, CommandError> {
    let service = service_of(stack, record).map_err(CommandError::usage)?;
    let driver = drivers.of(&record.target).map_err(CommandError::usage)?;
    if let Some(reason) = driver.refusal(&record.target) {
        return Err(CommandError::usage(PlanError::Refused {
            target: record.target.clone(),
            reason: reason.to_owned(),
        }));
    }
    Ok(PlannedRestore {
        id: record.target.clone(),
        container: service.container.name.clone(),
        what: driver.describe_restore(record),
        way_back: driver.way_back(&record.target),
        bytes: record
            .artifacts
            .iter()
            .map(|artifact| artifact.plain.bytes)
            .sum(),
    })
}

/// Old data is about to be given up: somebody must have said so.
fn confirm(context: &Context, plan: &RestorePlan, args: &RestoreArgs) -> Result<(), CommandError> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(anyhow!(
            "this replaces data, and there is no terminal to ask on; look at it with --dry-run, then say --yes"
        )));
    }
    let mut error = std::io::stderr().lock();
    let asked = write!(
        error,
        "{}\nType the project's name to go on: ",
        report::plan::restore(plan, &context.view())
    )
    .and_then(|()| error.flush());
    asked.map_err(CommandError::failed)?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(CommandError::failed)?;
    if answer.trim() == plan.project {
        Ok(())
    } else {
        Err(CommandError::failed(anyhow!(
            "not confirmed; nothing was touched"
        )))
    }
}
