//! What `plan` and `backup` do alike: from a survey to a plan.

use std::collections::BTreeSet;

use super::context::Context;
use super::error::CommandError;
use crate::engine::Engine;
use crate::history::select;
use crate::history::selectors::TargetPattern;
use crate::plan::apart::{Placed, ensure_repository_is_apart};
use crate::plan::audit::{audit, saves_a_database};
use crate::plan::backup::BackupPlan;
use crate::plan::enabled::ensure_enabled_is_served;
use crate::repository::pin::PinName;
use crate::run::drivers::{self, Drivers, RunOptions};
use crate::run::session::Session;
use crate::stack::survey::Survey;
use crate::target::{RunId, TargetId, encode_component};

/// Everything that a backup of one project needs.
pub struct Prepared {
    pub drivers: Drivers,
    pub plan: BackupPlan,
}

/// What is to be saved.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Empty: all.
    pub targets: &'a [TargetPattern],
    /// Of which services; `None`: of all.
    pub services: Option<&'a BTreeSet<String>>,
    pub may_shrink: &'a [TargetPattern],
    /// Somebody asks for it, and no schedule.
    pub by_hand: bool,
    pub pin: Option<&'a PinName>,
}

impl Wanted<'_> {
    /// As the user would write it.
    fn patterns(&self) -> Vec<String> {
        let targets = self.targets.iter().map(ToString::to_string);
        let services = self.services.into_iter().flatten();
        let services = services.map(|service| format!("{}/*", encode_component(service)));
        targets.chain(services).collect()
    }
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
        let drivers::Wanted {
            mut targets,
            mut unreachable,
            left_out,
        } = drivers.targets(survey).await;
        let unserved = ensure_enabled_is_served(survey, &targets, &unreachable);
        let unserved = unserved.map_err(CommandError::usage)?;
        unreachable.extend(unserved.failures);
        let all: Vec<TargetId> = targets
            .iter()
            .map(|target| &target.id)
            .chain(unreachable.iter().map(|failure| &failure.target))
            .cloned()
            .collect();
        let mut chosen = select::targets(&all, wanted.targets)?;
        if let Some(services) = wanted.services {
            chosen.retain(|target| services.contains(&target.service));
        }
        targets.retain(|target| chosen.contains(&&target.id));
        unreachable.retain(|failure| chosen.contains(&&failure.target));
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
        let placed: Vec<Placed<'_>> = drivers.placed(ids.iter()).collect();
        for target in &placed {
            ensure_repository_is_apart(survey, *target).map_err(CommandError::usage)?;
        }
        let mut may_shrink = match wanted.may_shrink {
            [] => Vec::new(),
            patterns => select::targets(chosen.iter().copied(), patterns)?,
        };
        let always = &self.config.may_shrink;
        let fits = |target: &&&TargetId| always.iter().any(|it| it.matches(target));
        may_shrink.extend(chosen.iter().filter(fits));
        let mut plan =
            BackupPlan::new(survey, targets, unreachable, &placed).map_err(CommandError::usage)?;
        if chosen.len() < all.len() {
            plan.selection = wanted.patterns();
            plan.selection.sort();
            plan.selection.dedup();
        }
        plan.by_hand = wanted.by_hand;
        plan.pin = wanted.pin.cloned();
        plan.warnings.extend(left_out);
        plan.warnings.extend(unserved.warnings);
        plan.may_shrink = may_shrink.into_iter().cloned().collect();
        Ok(Prepared { drivers, plan })
    }

    /// Adds to a plan what labels leave unprotected, and what would be saved and could not be put back.
    pub async fn audit(
        &self,
        engine: &Engine,
        survey: &mut Survey,
        drivers: &Drivers,
        plan: &mut BackupPlan,
    ) {
        plan.warnings.extend(survey.find_stores(engine).await);
        for target in &plan.targets {
            let doubts = drivers.doubts(&target.id).await.into_iter();
            plan.warnings
                .extend(doubts.map(|doubt| format!("{}: {doubt}", target.id)));
        }
        if saves_a_database(&plan.targets, &plan.unreachable) {
            plan.warnings.extend(survey.find_caches(engine).await);
        }
        plan.findings = Some(audit(survey, &plan.targets, &plan.unreachable));
    }
}
