//! `cofferdam restore`

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use anyhow::anyhow;
use jiff::Timestamp;
use tracing::warn;

use super::context::Context;
use super::error::CommandError;
use crate::cli::RestoreArgs;
use crate::driver::tree::Placement;
use crate::driver::{Loss, OldDatabase};
use crate::engine::{Container, Engine};
use crate::exit::Outcome;
use crate::history::select::{self, Chosen, Completed};
use crate::history::selectors::SnapshotSelector;
use crate::hold::journal::RestoreChoices;
use crate::manifest::{Manifest, TargetRecord};
use crate::plan::PlanError;
use crate::plan::apart::{Placed, ensure_none_waits_in_another, ensure_repository_is_apart};
use crate::plan::restore::{PlannedRestore, RestorePlan, is_database, service_of};
use crate::report;
use crate::run::drivers::{Drivers, Restored, RunOptions};
use crate::run::restore::{FinalState, Restore, Safety};
use crate::stack::Stack;
use crate::stack::survey::{self, Survey};
use crate::target::{DriverKind, RunId, TargetId};
use crate::text::printable;
use crate::tree::path::TreePath;

pub async fn run(context: &Context, args: RestoreArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let session = context.session(&engine).await?;
    let mut unrecovered = match &args.to_project {
        _ if args.dry_run => BTreeMap::new(),
        Some(project) => {
            let there = context.of_project(project);
            there.recover_dead_runs(&session).await?
        }
        None => context.recover_dead_runs(&session).await?,
    };
    let mut survey = match &args.to_project {
        Some(project) => context.survey_of(&engine, project).await?,
        None => context.only_survey(&engine).await?,
    };
    if let Some(error) = unrecovered.remove(&survey.stack.project) {
        return Err(error);
    }
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
    let chosen = chosen(&saved, &args)?;
    let missing = chosen.missing.iter().map(|it| (*it).clone()).collect();
    let (manifest, saved_as) = renamed(&chosen, &saved, &args)?;
    let records: Vec<&TargetRecord> = manifest.targets.iter().take(saved_as.len()).collect();

    let caches_unseen = match records.iter().copied().any(is_database) {
        true => survey.find_caches(&engine).await,
        false => None,
    };
    let run = RunId::generate(Timestamp::now());
    let choices = choices(&args)?;
    let options = RunOptions {
        loss: if args.accept_loss {
            Loss::Accepted
        } else {
            Loss::Refused
        },
        ..RunOptions::restoring(&choices)
    };
    let restored: Vec<Restored> = records.iter().map(|record| Restored::of(record)).collect();
    let drivers = Drivers::prepare(&session, &survey, &run, &options, &restored)
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
    let mut plan =
        RestorePlan::new(&survey, &manifest, targets, missing).map_err(CommandError::usage)?;
    ensure_apart(&survey, &drivers, &plan).map_err(CommandError::usage)?;
    ensure_stores_rest(&engine, &survey, &drivers, &plan).await?;
    let unseen = ensure_nobody_writes(&survey, &drivers, &plan).await?;
    plan.warnings
        .extend(caches_unseen.into_iter().chain(unseen));
    for target in &plan.targets {
        let told = foreseen(&drivers, &manifest, target).await?;
        plan.warnings.extend(told);
    }

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
        choices,
    };
    restore.ensure_opens().await?;
    restore.ensure_paths_are_there().await?;
    if args.dry_run {
        context.print(&plan, || report::plan::restore(&plan, &context.view()))?;
        return Ok(Outcome::Done);
    }
    confirm(context, &plan, &args)?;
    let report = restore.execute().await?;
    context.print(&report, || report::outcome::restore(&plan, &report))?;
    Ok(match report.state {
        FinalState::Restored if report.problems.is_empty() && plan.missing.is_empty() => {
            Outcome::Done
        }
        FinalState::Restored => Outcome::Partial,
        FinalState::RolledBack if report.interrupted => Outcome::Interrupted,
        FinalState::RolledBack | FinalState::Unfinished => Outcome::Failed,
    })
}

fn ensure_apart(survey: &Survey, drivers: &Drivers, plan: &RestorePlan) -> Result<(), PlanError> {
    let targets = plan.targets.iter().map(|target| &target.id);
    let placed: Vec<Placed<'_>> = drivers.placed(targets).collect();
    for target in &placed {
        ensure_repository_is_apart(survey, *target)?;
    }
    ensure_none_waits_in_another(survey, &placed)
}

/// The data of a server that runs is put back by its driver, or not at all.
async fn ensure_stores_rest(
    engine: &Engine,
    survey: &Survey,
    drivers: &Drivers,
    plan: &RestorePlan,
) -> Result<(), CommandError> {
    let services = survey.stack.services.iter();
    let services: BTreeMap<&str, &Container> = services
        .map(|service| (service.name.as_str(), &service.container))
        .collect();
    let places = plan.targets.iter().filter_map(|target| {
        let container = services.get(target.id.service.as_str())?;
        let path = drivers.of(&target.id).ok()?.changed_path(&target.id)?;
        Some((target.id.clone(), container.place_of(path)))
    });
    let places: Vec<(TargetId, String)> = places.collect();
    let paths: Vec<String> = places.iter().map(|(_, place)| place.clone()).collect();
    let at_work = survey::at_work(engine, survey, &paths)
        .await
        .map_err(CommandError::failed)?;
    plan.ensure_stores_rest(survey, &places, &at_work)
        .map_err(CommandError::usage)
}

/// A file that is exchanged is asked itself who has it open: not every program is a container of the engine's.
async fn ensure_nobody_writes(
    survey: &Survey,
    drivers: &Drivers,
    plan: &RestorePlan,
) -> Result<Vec<String>, CommandError> {
    let mut told = Vec::new();
    for target in plan.targets.iter().filter(|it| it.closed_path.is_some()) {
        let driver = drivers.of(&target.id).map_err(CommandError::usage)?;
        let writers = driver.writers(&target.id).await.map_err(|error| {
            CommandError::failed(PlanError::Refused {
                target: target.id.clone(),
                reason: error.to_string(),
            })
        })?;
        let unseen = plan.ensure_nobody_writes(survey, &target.id, &writers);
        told.extend(unseen.map_err(CommandError::usage)?);
    }
    Ok(told)
}

fn choices(args: &RestoreArgs) -> Result<RestoreChoices, CommandError> {
    let paths = args
        .paths
        .iter()
        .map(|path| TreePath::parse(path.as_bytes()));
    Ok(RestoreChoices {
        old_database: if args.keep_old {
            OldDatabase::Keep
        } else {
            OldDatabase::Drop
        },
        placement: if args.in_place {
            Placement::InPlace
        } else {
            Placement::Beside
        },
        paths: paths
            .collect::<Result<_, _>>()
            .map_err(CommandError::usage)?,
    })
}

/// What the arguments choose.
fn chosen<'m>(manifest: &'m Manifest, args: &RestoreArgs) -> Result<Chosen<'m>, CommandError> {
    let available = manifest.targets.iter().map(|record| &record.target);
    let chosen = select::restored(available, &manifest.failed, &args.targets)?;
    let is_one_tree = match chosen.targets.as_slice() {
        [only] => matches!(only.driver, DriverKind::Volume | DriverKind::Files),
        _ => false,
    };
    if !(args.paths.is_empty() || is_one_tree) {
        return Err(CommandError::usage(anyhow!(
            "--path selects files of one volume or directory; name that target too, as in: cofferdam restore {} \
             app/volume/uploads --path {}",
            args.snapshot,
            args.paths[0]
        )));
    }
    Ok(chosen)
}

/// The snapshot with what is restored first, under the names of where it goes, and all else after it; and the names that what is
/// restored was saved by.
fn renamed(
    chosen: &Chosen<'_>,
    saved: &Manifest,
    args: &RestoreArgs,
) -> Result<(Manifest, Vec<TargetId>), CommandError> {
    let names = select::renamed(chosen, &args.maps)?;
    let saved_as: Vec<TargetId> = chosen.targets.iter().map(|it| (*it).clone()).collect();
    let others = saved
        .targets
        .iter()
        .filter(|record| !saved_as.contains(&record.target) && !names.contains(&record.target));
    let records = saved_as.iter().filter_map(|target| saved.target(target));
    let targets = records
        .zip(&names)
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
        changed_path: driver.changed_path(&record.target).map(str::to_owned),
        bytes: record
            .artifacts
            .iter()
            .map(|artifact| artifact.plain.bytes)
            .sum(),
    })
}

/// What a driver says of a target before anything is touched.
async fn foreseen(
    drivers: &Drivers,
    manifest: &Manifest,
    target: &PlannedRestore,
) -> Result<Vec<String>, CommandError> {
    let Some(record) = manifest.target(&target.id) else {
        return Ok(Vec::new());
    };
    let driver = drivers.of(&target.id).map_err(CommandError::usage)?;
    let told = driver.foresee(record).await.map_err(|error| {
        CommandError::failed(PlanError::Refused {
            target: target.id.clone(),
            reason: error.to_string(),
        })
    })?;
    let of_target = |told| format!("{}: {told}", target.id);
    Ok(told.into_iter().map(of_target).collect())
}

/// Old data is about to be given up: somebody must have said so.
fn confirm(context: &Context, plan: &RestorePlan, args: &RestoreArgs) -> Result<(), CommandError> {
    if args.yes {
        // Nobody sees the plan, so its warnings go to the log.
        for warning in &plan.warnings {
            warn!("{}", printable(warning));
        }
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(anyhow!(
            "this replaces data, and there is no terminal to ask on; review the plan with --dry-run, then add --yes"
        )));
    }
    let mut error = std::io::stderr().lock();
    let asked = write!(
        error,
        "{}\nType the project name to continue: ",
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
            "not confirmed; nothing was changed"
        )))
    }
}
