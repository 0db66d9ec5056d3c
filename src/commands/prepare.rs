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

impl Context {
    pub async fn prepare_backup(
        &self,
        session: &Session,
        survey: &Survey,
        patterns: &[TargetPattern],
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
        let chosen = select::targets(&all, patterns)?;
        targets.retain(|target| chosen.contains(&&target.id));
        unreachable.retain(|failure| chosen.contains(&&failure.target));
        let plan = BackupPlan::new(survey, targets, unreachable).map_err(CommandError::usage)?;
        Ok(Prepared { drivers, plan })
    }
}
