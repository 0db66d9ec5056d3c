//! `cofferdam plan`

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::prepare::{Prepared, Wanted};
use crate::cli::PlanArgs;
use crate::engine::Container;
use crate::exit::Outcome;
use crate::migrate::{Origin, migrate};
use crate::report;
use crate::survey::Survey;
use crate::target::RunId;

pub async fn run(context: &Context, args: PlanArgs) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let mut surveys = context.surveys(&engine).await?;
    if let Some(origin) = args.from_labels {
        for survey in &mut surveys {
            survey.find_stores(&engine).await;
        }
        let containers = engine.containers(&[]).await.map_err(CommandError::failed)?;
        return from_labels(context, &surveys, &containers, origin);
    }
    let session = context.session(&engine).await?;
    let mut plans = Vec::new();
    for survey in &mut surveys {
        let run = RunId::generate(Timestamp::now());
        let Prepared { drivers, mut plan } = context
            .prepare_backup(&session, survey, Wanted::default(), &run)
            .await?;
        if !args.no_audit {
            context.audit(&engine, survey, &drivers, &mut plan).await;
        }
        plans.push(plan);
    }
    context.print(&plans, || report::plan::backups(&plans, &context.view()))?;
    let reachable = plans.iter().all(|plan| plan.unreachable.is_empty());
    Ok(if reachable {
        Outcome::Done
    } else {
        Outcome::Partial
    })
}

fn from_labels(
    context: &Context,
    surveys: &[Survey],
    containers: &[Container],
    origin: Origin,
) -> Result<Outcome, CommandError> {
    let read = |origin| {
        let surveys = surveys.iter();
        surveys.filter_map(move |survey| migrate(survey, containers, origin))
    };
    let migrations: Vec<_> = read(origin).collect();
    if migrations.is_empty() {
        let other = Origin::ALL
            .into_iter()
            .find(|it| read(*it).next().is_some());
        let hint = match other {
            Some(other) => format!("; `--from-labels {}` finds something", other.as_str()),
            None => String::new(),
        };
        return Err(CommandError::usage(anyhow!(
            "no container has labels that begin with `{}`, and none belongs to {origin}{hint}",
            origin.prefix()
        )));
    }
    context.print(&migrations, || {
        report::migration::override_files(&migrations)
    })?;
    Ok(Outcome::Done)
}
