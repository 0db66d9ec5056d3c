//! `cofferdam restore`

use std::io::{IsTerminal as _, Write as _};

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use crate::cli::{RestoreArgs, SnapshotSelector};
use crate::discover::Stack;
use crate::driver::OldDatabase;
use crate::driver::tree::{Moment, Placement, TreeRun};
use crate::exit::Outcome;
use crate::manifest::{Facts, Manifest, TargetRecord};
use crate::plan::PlanError;
use crate::plan::restore::{PlannedRestore, RestorePlan, service_of};
use crate::report;
use crate::restore::{FinalState, Restore, Safety};
use crate::select::{self, Completed};
use crate::target::{RunId, TargetId};
use crate::targets::{Drivers, RunOptions};
use crate::tree::path::TreePath;

pub async fn run(context: &Context, args: RestoreArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let survey = match &args.to_project {
        Some(project) => context.survey_of(&engine, project).await?,
        None => context.only_survey(&engine).await?,
    };
    let session = context.session(&engine).await?;
    let projects = match &args.to_project {
        Some(_) => context.projects().await,
        None => Some(vec![survey.stack.project.clone()]),
    };
    let repository = &*session.repository;
    let named = context
        .manifest_of(repository, projects.as_deref(), &args.snapshot)
        .await?;
    let Completed {
        manifest: saved,
        older,
    } = match args.snapshot {
        SnapshotSelector::Latest => select::completed(repository, named).await?,
        SnapshotSelector::Prefix(_) => Completed::alone(named),
    };
    let (manifest, saved_as) = renamed(chosen(&saved, &args)?, &saved, &args)?;
    let records: Vec<&TargetRecord> = manifest.targets.iter().take(saved_as.len()).collect();

    let run = RunId::generate(Timestamp::now());
    let drivers = Drivers::prepare(&session, &survey, &run, &options(&args)?, &records)
        .await
        .map_err(CommandError::failed)?;
    let targets = records
        .into_iter()
        .zip(saved_as)
        .map(|(record, saved_as)| {
            let older = older.get(&saved_as).cloned();
            let planned = planned(&survey.stack, &drivers, record, saved_as)?;
            Ok(PlannedRestore { older, ..planned })
        })
        .collect::<Result<Vec<_>, CommandError>>()?;
    let plan = RestorePlan::new(&survey.stack, &manifest, targets).map_err(CommandError::usage)?;

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
    restore.ensure_opens().await?;
    if args.dry_run {
        context.print(&plan, || report::plan::restore(&plan, &context.view()))?;
        return Ok(Outcome::Done);
    }
    confirm(context, &plan, &args)?;
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

/// The snapshot with what is restored first, under the names of where it goes, and all else after it; and the names that what is
/// restored was saved by.
fn renamed(
    records: Vec<&TargetRecord>,
    saved: &Manifest,
    args: &RestoreArgs,
) -> Result<(Manifest, Vec<TargetId>), CommandError> {
    let saved_as: Vec<&TargetId> = records.iter().map(|record| &record.target).collect();
    let names = select::renamed(&saved_as, &args.maps)?;
    let saved_as: Vec<TargetId> = saved_as.into_iter().cloned().collect();
    let others = saved
        .targets
        .iter()
        .filter(|record| !saved_as.contains(&record.target) && !names.contains(&record.target));
    let chosen = records.into_iter().zip(&names);
    let targets = chosen
        .map(|(record, target)| TargetRecord {
            target: target.clone(),
            ..record.clone()
        })
        .chain(others.cloned())
        .collect();
    let manifest = Manifest {
        targets,
        ..saved.clone()
    };
    Ok((manifest, saved_as))
}

fn planned(
    stack: &Stack,
    drivers: &Drivers,
    record: &TargetRecord,
    saved_as: TargetId,
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
        saved_as,
        older: None,
        container: service.container.name.clone(),
        what: driver.describe_restore(record),
        way_back: driver.way_back(&record.target),
        closed_path: driver.closed_path(&record.target).map(str::to_owned),
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
