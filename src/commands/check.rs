//! `cofferdam check`

mod status;

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::mail;
use crate::cli::CheckArgs;
use crate::exit::Outcome;
use crate::freshness::{self, FreshnessError, FreshnessReport, Goals, Question};
use crate::report;
use status::StatusPlace;

pub async fn run(context: &Context, args: CheckArgs) -> Result<Outcome, CommandError> {
    if args.mail_test {
        return test_mail(context).await;
    }
    // Known now, and not only on the day on which it is needed.
    let unmailable = mail::mailer(context).err();
    let question = Question {
        now: Timestamp::now(),
        goals: Goals::same(args.max_age),
        targets: args.targets,
        expected: args.expected,
        retired: [args.retired, context.config.retired.clone()].concat(),
        horizon: None,
    };
    let looked = look(context, &question, !args.no_status);
    let Checked { report, trouble } = match context.unless_interrupted(looked).await {
        Ok(checked) => checked,
        Err(error) => {
            if !matches!(error, CommandError::Interrupted) {
                let letter =
                    report::letter::check_failed(&context.config.scope, &error.to_string());
                mail::send(context, &letter).await;
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
    let mut outcome = match (report.is_in_order(), trouble.is_empty()) {
        (false, _) => Outcome::Found,
        (true, false) => Outcome::Failed,
        (true, true) => Outcome::Done,
    };
    if outcome != Outcome::Done {
        let trouble: Vec<String> = trouble.iter().map(CommandError::to_string).collect();
        mail::send(
            context,
            &report::letter::check(&report, &trouble, &context.view()),
        )
        .await;
    } else if let Some(error) = unmailable {
        context.tell(&CommandError::failed(error));
        outcome = Outcome::Failed;
    }
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
        trouble.push(CommandError::failed(anyhow!("no status files: {error}")));
    }
    Ok(Checked { report, trouble })
}

async fn test_mail(context: &Context) -> Result<Outcome, CommandError> {
    let mailer = mail::mailer(context).map_err(CommandError::failed)?;
    let mailer = mailer.ok_or_else(|| {
        CommandError::usage(anyhow!(
            "nobody gets mail; name somebody with --mail-to, or in COFFERDAM_MAIL_TO"
        ))
    })?;
    mailer
        .send(&report::letter::test(&context.config.scope))
        .await
        .map_err(CommandError::failed)?;
    Ok(Outcome::Done)
}
