//! `cofferdam backup`, and what the daemon does of it.

use std::collections::BTreeMap;

use anyhow::anyhow;
use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::prepare::{Prepared, Wanted};
use super::tell::{self, RunNotifier};
use crate::cli::BackupArgs;
use crate::exit::Outcome;
use crate::notify::Notice;
use crate::plan::backup::BackupPlan;
use crate::report;
use crate::run::backup::{BackupReport, back_up};
use crate::run::copy::copy_after;
use crate::run::drivers::Drivers;
use crate::run::session::Session;
use crate::stack::survey::Survey;
use crate::target::RunId;

pub async fn run(context: &Context, args: BackupArgs) -> Result<Outcome, CommandError> {
    let notifier = RunNotifier::open(context);
    let is_question = args.dry_run;
    let ended = back_up_and_tell(context, args, &notifier).await;
    match &ended {
        Ok(_) | Err(CommandError::Interrupted) => {}
        Err(_) if is_question => {}
        Err(error) => {
            notifier.send(&tell::no_backup(context, error)).await;
        }
    }
    ended
}

async fn back_up_and_tell(
    context: &Context,
    args: BackupArgs,
    notifier: &RunNotifier<'_>,
) -> Result<Outcome, CommandError> {
    let wanted = Wanted {
        targets: &args.targets,
        services: None,
        may_shrink: &args.may_shrink,
        by_hand: true,
        pin: args.pin.as_ref(),
    };
    let mut runs = match args.dry_run {
        true => Runs::plan(context, wanted).await?,
        false => Runs::prepare(context, wanted).await?,
    };
    if args.new_repository {
        runs.allow_new_repository()?;
    }
    if args.dry_run {
        runs.audit(context).await;
        return runs.show(context);
    }
    runs.drop_idle();
    if !runs.ask_for_something() {
        return Err(CommandError::usage(anyhow!(
            "nothing is labelled for backup; `cofferdam plan` shows what you can label"
        )));
    }
    let projects = runs.projects();
    // A backup does not wait for those who watch it.
    let ((), backups) = tokio::join!(notifier.started(&projects), runs.back_up());
    let backups = backups?;
    let printed = context.print(&backups.reports, || {
        report::outcome::backups(&backups.reports, &context.view())
    });
    let outcome = backups.outcome();
    backups.tell_failures(context);
    notifier.send(&backups.notice(context)).await;
    if let Err(error) = printed {
        // The snapshots are there, and those who were told know it.
        context.tell(&error);
        return Ok(outcome.and(Outcome::Failed));
    }
    Ok(outcome)
}

/// Backups that are about to be made, one of each project.
pub struct Runs {
    session: Session,
    runs: Vec<Run>,
    /// Projects that there can be no backup of.
    failures: Vec<NoSnapshot>,
}

struct Run {
    survey: Survey,
    id: RunId,
    drivers: Drivers,
    plan: BackupPlan,
}

impl Run {
    async fn prepare(
        context: &Context,
        session: &Session,
        survey: Survey,
        wanted: Wanted<'_>,
    ) -> Result<Self, CommandError> {
        let id = RunId::generate(Timestamp::now());
        let Prepared { drivers, plan } = context
            .prepare_backup(session, &survey, wanted, &id)
            .await?;
        Ok(Self {
            survey,
            id,
            drivers,
            plan,
        })
    }
}

/// What they came to.
pub struct Backups {
    pub reports: Vec<BackupReport>,
    pub failures: Vec<NoSnapshot>,
}

/// Why there is none of a project.
#[derive(Debug, thiserror::Error)]
#[error("no snapshot of project {project}: {error}")]
pub struct NoSnapshot {
    pub project: String,
    pub error: CommandError,
}

impl Runs {
    /// Only to be looked at: what a dead run has left stays.
    pub async fn plan(context: &Context, wanted: Wanted<'_>) -> Result<Self, CommandError> {
        let session = context.session(&context.engine().await?).await?;
        Self::of_scope(context, session, wanted, BTreeMap::new()).await
    }

    /// Recovers dead runs first.
    pub async fn prepare(context: &Context, wanted: Wanted<'_>) -> Result<Self, CommandError> {
        let session = context.session(&context.engine().await?).await?;
        // Not even an interruption leaves what they held half released.
        let unrecovered = context.recover_dead_runs(&session).await?;
        let prepared = Self::of_scope(context, session, wanted, unrecovered);
        context.unless_interrupted(prepared).await
    }

    /// With several projects, one that cannot be backed up keeps no other from it. `unrecovered` are not to be.
    async fn of_scope(
        context: &Context,
        session: Session,
        wanted: Wanted<'_>,
        mut unrecovered: BTreeMap<String, CommandError>,
    ) -> Result<Self, CommandError> {
        let mut runs = Vec::new();
        let mut failures = Vec::new();
        for (project, survey) in context.surveys_each(&session.engine).await? {
            let prepared = match (unrecovered.remove(&project), survey) {
                (Some(error), _) => Err(error),
                (None, Err(error)) => Err(error.into()),
                (None, Ok(survey)) => Run::prepare(context, &session, survey, wanted).await,
            };
            match prepared {
                Ok(run) => runs.push(run),
                Err(CommandError::Interrupted) => return Err(CommandError::Interrupted),
                Err(error) => failures.push(NoSnapshot { project, error }),
            }
        }
        let is_alone = runs.is_empty() && failures.len() == 1;
        if let Some(only) = failures.pop_if(|_| is_alone) {
            return Err(only.error);
        }
        Ok(Self {
            session,
            runs,
            failures,
        })
    }

    /// Also where one was used before and is missing now.
    fn allow_new_repository(&mut self) -> Result<(), CommandError> {
        self.session
            .place_terms
            .allow_making()
            .map_err(CommandError::usage)
    }

    /// Also where nobody knows what a project asks for.
    pub fn ask_for_something(&self) -> bool {
        let mut runs = self.runs.iter();
        !self.failures.is_empty() || runs.any(|run| run.plan.asks_for_something())
    }

    pub fn projects(&self) -> Vec<String> {
        let projects = self.runs.iter().map(|run| run.plan.project.clone());
        let failed = self.failures.iter().map(|it| it.project.clone());
        projects.chain(failed).collect()
    }

    /// Prints the plans, and says why some could not be made.
    pub fn show(&self, context: &Context) -> Result<Outcome, CommandError> {
        let plans: Vec<BackupPlan> = self.runs.iter().map(|run| run.plan.clone()).collect();
        context.print(&plans, || report::plan::backups(&plans, &context.view()))?;
        tell_failures(&self.failures, context);
        let planned = plans.iter().map(|plan| match plan.unreachable.is_empty() {
            true => Outcome::Done,
            false => Outcome::Partial,
        });
        let failed = self.failures.iter().map(|it| it.error.outcome());
        let whole = planned.chain(failed).reduce(Outcome::and);
        Ok(whole.unwrap_or(Outcome::Done))
    }

    /// Looks for what nothing saves.
    pub async fn audit(&mut self, context: &Context) {
        let engine = &self.session.engine;
        for run in &mut self.runs {
            let Run {
                survey,
                drivers,
                plan,
                ..
            } = run;
            context.audit(engine, survey, drivers, plan).await;
        }
    }

    /// With several projects, those without a label of ours are nobody's concern.
    fn drop_idle(&mut self) {
        let alone = self.runs.len() + self.failures.len() == 1;
        self.runs
            .retain(|run| alone || run.plan.asks_for_something());
    }

    pub async fn back_up(self) -> Result<Backups, CommandError> {
        let Self {
            session,
            runs,
            failures,
        } = self;
        let mut backups = Backups {
            reports: Vec::new(),
            failures,
        };
        for run in runs {
            match back_up(&session, &run.survey, &run.plan, &run.drivers, run.id).await {
                Ok(report) => backups.reports.push(report),
                // One project that fails is no reason to leave the next one unsaved.
                Err(error) => match CommandError::from(error) {
                    CommandError::Interrupted => return Err(CommandError::Interrupted),
                    error => backups.failures.push(NoSnapshot {
                        project: run.plan.project,
                        error,
                    }),
                },
            }
        }
        // Without locks, and when all is saved: sending takes its time, and neither a restore nor another project need wait
        // for it.
        for report in &mut backups.reports {
            report.copies = copy_after(&session, &report.manifest.project).await;
        }
        Ok(backups)
    }
}

impl Backups {
    pub fn outcome(&self) -> Outcome {
        let saved = self.reports.iter().map(outcome);
        let failed = self.failures.iter().map(|failure| failure.error.outcome());
        let whole = saved.chain(failed).reduce(Outcome::and);
        whole.unwrap_or(Outcome::Done)
    }

    /// That another run holds the project, when there is only this one.
    pub fn take_busy(&mut self) -> Option<CommandError> {
        let is_busy = |failure: &mut NoSnapshot| matches!(failure.error, CommandError::Busy(_));
        self.failures.pop_if(is_busy).map(|failure| failure.error)
    }

    /// Says why there is no snapshot of some projects.
    pub fn tell_failures(&self, context: &Context) {
        tell_failures(&self.failures, context);
    }

    /// For those who are to know.
    pub fn notice(&self, context: &Context) -> Notice {
        let failures = self.failures.iter().map(|failure| {
            let (project, why) = (failure.project.clone(), failure.error.to_string());
            report::notice::NotSaved { project, why }
        });
        let failures: Vec<_> = failures.collect();
        report::notice::backups(&self.reports, &failures, &context.view())
    }
}

fn tell_failures(failures: &[NoSnapshot], context: &Context) {
    failures.iter().for_each(|failure| context.tell(failure));
}

fn outcome(report: &BackupReport) -> Outcome {
    if report.is_complete() {
        Outcome::Done
    } else {
        Outcome::Partial
    }
}
