//! Which services of a swarm a run holds. Pure.
//!
//! They are held as a whole and through a manager, wherever their tasks run: also those that have none on this node.

use super::{PlannedHold, ensure_no_database_is_held, hold_of, is_service};
use crate::discover::{Service, Stack, StackService};
use crate::engine::swarm::Mode;
use crate::hold::journal::HeldService;
use crate::hold::{Action, Operation, Subject};
use crate::plan::PlanError;
use crate::target::{StateNeeded, TargetId};

pub(super) fn plan_holds(
    stack: &Stack,
    operation: Operation,
    targets: &[TargetId],
) -> Result<Vec<PlannedHold>, PlanError> {
    let Some(swarm) = &stack.swarm else {
        return Ok(Vec::new());
    };
    ensure_none_must_stop_itself(stack, operation, targets)?;
    match &swarm.services {
        Ok(services) => {
            let holds = services
                .iter()
                .map(|service| planned(service, operation, targets));
            holds.filter_map(Result::transpose).collect()
        }
        Err(why) => {
            ensure_nothing_is_to_be_held(stack, operation, targets, why)?;
            Ok(Vec::new())
        }
    }
}

fn planned(
    service: &StackService,
    operation: Operation,
    targets: &[TargetId],
) -> Result<Option<PlannedHold>, PlanError> {
    let is_own = |target: &TargetId| is_service(&service.name, &target.service);
    let Some((action, serves)) = hold_of(&service.labels, is_own, operation, targets) else {
        return Ok(None);
    };
    // What ends by itself is not held, nor what has no tasks, so that it gets none afterwards.
    if serves.is_empty() || !service.is_on || service.mode == Mode::Job {
        return Ok(None);
    }
    ensure_it_is_stopped(&service.name, action)?;
    ensure_no_database_is_held(&service.name, is_own, action, operation, targets)?;
    Ok(Some(PlannedHold {
        service: service.name.clone(),
        action,
        serves,
        subject: Subject::SwarmService(HeldService {
            id: service.id.clone(),
            tasks: service.tasks,
        }),
    }))
}

fn ensure_it_is_stopped(service: &str, action: Action) -> Result<(), PlanError> {
    match action {
        Action::Stop => Ok(()),
        Action::Pause => Err(PlanError::PausedInSwarm {
            service: service.to_owned(),
        }),
    }
}

/// Without a manager, labels are known of tasks on this node only. A backup goes on when none of these is to be held, with
/// a warning; a restore does not, since what it replaces may be in use on another node.
fn ensure_nothing_is_to_be_held(
    stack: &Stack,
    operation: Operation,
    targets: &[TargetId],
    why: &str,
) -> Result<(), PlanError> {
    if operation == Operation::Restore {
        let why = why.to_owned();
        return Err(PlanError::DependentsUnknown { why });
    }
    for service in tasks(stack) {
        let name = service.container.service();
        let is_own = |target: &TargetId| target.service == service.name;
        let hold = hold_of(&service.labels, is_own, operation, targets);
        let Some((action, serves)) = hold else {
            continue;
        };
        ensure_it_is_stopped(name, action)?;
        if !serves.is_empty() {
            return Err(PlanError::NoManager {
                service: name.to_owned(),
                why: why.to_owned(),
            });
        }
    }
    Ok(())
}

/// Some targets are loaded into their stopped container, and here there would be none.
fn ensure_none_must_stop_itself(
    stack: &Stack,
    operation: Operation,
    targets: &[TargetId],
) -> Result<(), PlanError> {
    let must_stop = |target: &&TargetId| {
        target.driver.state_needed(operation.moment()) == StateNeeded::Stopped
            && tasks(stack).any(|service| service.name == target.service)
    };
    match targets.iter().find(must_stop) {
        Some(target) => Err(PlanError::StoppedInSwarm {
            target: target.clone(),
        }),
        None => Ok(()),
    }
}

fn tasks(stack: &Stack) -> impl Iterator<Item = &Service> {
    let services = stack.services.iter();
    services.filter(|service| service.container.swarm_service().is_some())
}
