//! `cofferdam check`

mod status;

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::tell::RunNotifier;
use crate::cli::CheckArgs;
use crate::exit::Outcome;
use crate::history::freshness::{self, FreshnessError, FreshnessReport, Goals, Question};
use crate::report;
use status::StatusPlace;

pub async fn run(context: &Context, args: CheckArgs) -> Result<Outcome, CommandError> {
    let notifier = RunNotifier::open(context);
    if args.notify_test {
        return test(context, &notifier).await;
    }
    let question = Question {
        now: Timestamp::now(),
        goals: Goals::same(args.max_age),
        targets: args.targets,
        expected: args.expected.into_iter().collect(),
        retired: [args.retired, context.config.retired.clone()].concat(),
        horizon: None,
    };
    let looked = look(context, &question, !args.no_status);
    let Checked { report, trouble } = match context.unless_interrupted(looked).await {
        Ok(checked) => checked,
        Err(error) => {
            if !matches!(error, CommandError::Interrupted) {
                let why = error.to_string();
                let scope = &context.config.scope;
                let notice = report::notice::check_failed(scope, &why, Timestamp::now());
                notifier.send(&notice).await;
            }
            return Err(error);
        }
    };
    let printed = context.print(&report, || {
        report::freshness::page(&report, &context.view())
    });
    for error in &trouble {
        context.tell(error);
    }
    let outcome = match (report.is_in_order(), trouble.is_empty()) {
        (false, _) => Outcome::Found,
        (true, true) if notifier.is_whole => Outcome::Done,
        (true, _) => Outcome::Failed,
    };
    let trouble: Vec<String> = trouble.iter().map(CommandError::to_string).collect();
    let notice = report::notice::check(&report, &trouble, &context.view());
    notifier.send(&notice).await;
    // A full disk under the output is no reason to send nothing.
    printed.map(|()| outcome)
}

pub struct Checked {
    pub report: FreshnessReport,
    /// What could not be done about status files.
    pub trouble: Vec<CommandError>,
}

/// Asks `question` of the projects in scope, and writes status files if `status` says so.
pub async fn look(
    context: &Context,
    question: &Question,
    status: bool,
) -> Result<Checked, CommandError> {
    let repository = context.repository()?;
    let place =
        status.then(|| StatusPlace::new(&repository, context.config.status_directory.as_deref()));
    let mut trouble = Vec::new();
    let known = match &place {
        Some(place) => place.list().await.unwrap_or_else(|error| {
            trouble.push(CommandError::failed(error));
            Vec::new()
        }),
        None => Vec::new(),
    };
    let projects = context.projects().await;
    let report = freshness::check(&*repository, projects.as_deref(), &known, question)
        .await
        .map_err(|error| match error {
            FreshnessError::Repository(_) => CommandError::failed(error),
            FreshnessError::ExpectedWhere { .. } => CommandError::usage(error),
        })?;
    if let Some(place) = &place
        && trouble.is_empty()
        && let Err(error) = place
            .write(&report, &known, question, &context.view())
            .await
    {
        trouble.push(CommandError::failed(anyhow!(
            "cannot update status files: {error}"
        )));
    }
    Ok(Checked { report, trouble })
}

async fn test(context: &Context, notifier: &RunNotifier<'_>) -> Result<Outcome, CommandError> {
    let config = &context.config;
    if config.notify.is_empty() {
        return Err(CommandError::usage(anyhow!(
            "no notification target is configured; set --notify or --mail-to, or COFFERDAM_NOTIFY or COFFERDAM_MAIL_TO"
        )));
    }
    let notice = report::notice::test(&config.scope, Timestamp::now());
    match notifier.send(&notice).await && notifier.is_whole {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::Failed),
    }
}
