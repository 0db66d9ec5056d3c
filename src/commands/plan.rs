//! `cofferdam plan`

use anyhow::anyhow;

use super::backup::Runs;
use super::context::Context;
use super::error::CommandError;
use super::prepare::Wanted;
use crate::cli::PlanArgs;
use crate::engine::Container;
use crate::exit::Outcome;
use crate::migrate::{Origin, migrate};
use crate::report;
use crate::survey::Survey;

pub async fn run(context: &Context, args: PlanArgs) -> Result<Outcome, CommandError> {
    if let Some(origin) = args.from_labels {
        let engine = context.engine().await?;
        let mut surveys = context.surveys(&engine).await?;
        for survey in &mut surveys {
            survey.find_stores(&engine).await;
        }
        let containers = engine.containers(&[]).await.map_err(CommandError::failed)?;
        return from_labels(context, &surveys, &containers, origin);
    }
    let mut runs = Runs::plan(context, Wanted::default()).await?;
    if !args.no_audit {
        runs.audit(context).await;
    }
    runs.show(context)
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
