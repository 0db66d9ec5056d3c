//! What `plan` and `backup` do alike: from a survey to a plan.

use super::context::Context;
use super::error::CommandError;
use crate::cli::TargetPattern;
use crate::plan::backup::BackupPlan;
use crate::select;
use crate::session::Session;
use crate::survey::Survey;
use crate::target::{RunId, TargetId};
use crate::targets::{Drivers, RunOptions};

/// Everything that a backup of one project needs.
pub struct Prepared {
    pub drivers: Drivers,
    pub plan: BackupPlan,
}

/// What the arguments choose.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Empty: all.
    pub targets: &'a [TargetPattern],
    pub may_shrink: &'a [TargetPattern],
}

impl Context {
    pub async fn prepare_backup(
        &self,
        session: &Session,
        survey: &Survey,
        wanted: Wanted<'_>,
        run: &RunId,
    ) -> Result<Prepared, CommandError> {
        let options = RunOptions::default();
        let drivers = Drivers::prepare(session, survey, run, &options, &[])
            .await
            .map_err(CommandError::failed)?;
        let (mut targets, mut unreachable) = drivers.targets(survey).await;
        let all: Vec<TargetId> = targets
            .iter()
            .map(|target| &target.id)
            .chain(unreachable.iter().map(|failure| &failure.target))
            .cloned()
            .collect();
        let chosen = select::targets(&all, wanted.targets)?;
        targets.retain(|target| chosen.contains(&&target.id));
        unreachable.retain(|failure| chosen.contains(&&failure.target));
        let may_shrink = match wanted.may_shrink {
            [] => Vec::new(),
            patterns => select::targets(chosen.iter().copied(), patterns)?,
        };
        let mut plan =
            BackupPlan::new(survey, targets, unreachable).map_err(CommandError::usage)?;
        if chosen.len() < all.len() {
            plan.selection = wanted.targets.iter().map(ToString::to_string).collect();
            plan.selection.sort();
            plan.selection.dedup();
        }
        plan.may_shrink = may_shrink.into_iter().cloned().collect();
        Ok(Prepared { drivers, plan })
    }
}
