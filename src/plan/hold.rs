//! Which containers a run holds, and why. Pure.

use serde::Serialize;

use super::PlanError;
use super::order::start_order;
use crate::discover::{Service, Stack};
use crate::hold::{Action, Held, Operation};
use crate::labels::Moment;
use crate::target::{StateNeeded, TargetId};

/// One container that is going to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHold {
    pub service: String,
    pub action: Action,
    /// The targets that this hold serves.
    pub serves: Vec<TargetId>,
    #[serde(skip)]
    pub container: String,
}

impl PlannedHold {
    pub fn to_held(&self) -> Held {
        Held {
            container: self.container.clone(),
            service: self.service.clone(),
            action: self.action,
        }
    }
}

/// The holds that serve `targets`, in the order in which the containers start again. What does not run is not held, so
/// that it is not started afterwards.
pub fn plan_holds(
    stack: &Stack,
    operation: Operation,
    targets: &[TargetId],
) -> Result<Vec<PlannedHold>, PlanError> {
    let mut holds = Vec::new();
    for container in start_order(stack.services.iter().map(|service| &service.container)) {
        let Some(service) = stack
            .services
            .iter()
            .find(|service| service.container.id == container.id)
        else {
            continue;
        };
        let Some((action, serves)) = hold_of(service, operation, targets) else {
            continue;
        };
        if serves.is_empty() || !service.container.is_running() {
            continue;
        }
        ensure_no_database_is_held(service, action, operation, targets)?;
        holds.push(PlannedHold {
            service: service.name.clone(),
            action,
            serves,
            container: service.container.id.clone(),
        });
    }
    Ok(holds)
}

/// What labels ask for, and what targets of the service's own need.
fn hold_of(
    service: &Service,
    operation: Operation,
    targets: &[TargetId],
) -> Option<(Action, Vec<TargetId>)> {
    let needs_stop = |target: &&TargetId| {
        target.service == service.name
            && target.driver.state_needed(operation.moment()) == StateNeeded::Stopped
    };
    let labelled = action_of(service, operation);
    let serves = |target: &&TargetId| {
        needs_stop(target) || (labelled.is_some() && serves_target(service, target))
    };
    let action = if targets.iter().any(|target| needs_stop(&target)) {
        Some(Action::Stop)
    } else {
        labelled
    };
    Some((action?, targets.iter().filter(serves).cloned().collect()))
}

fn action_of(service: &Service, operation: Operation) -> Option<Action> {
    let labels = &service.labels;
    match operation {
        Operation::Backup if labels.stop.contains(&Moment::Backup) => Some(Action::Stop),
        Operation::Backup if labels.pause => Some(Action::Pause),
        Operation::Restore if labels.stop.contains(&Moment::Restore) => Some(Action::Stop),
        Operation::Backup | Operation::Restore => None,
    }
}

fn serves_target(service: &Service, target: &TargetId) -> bool {
    match &service.labels.hold_for {
        Some(services) => services
            .iter()
            .any(|name| is_service(name, &target.service)),
        None => true,
    }
}

/// Whether a target's service is a container of the compose service `name`: further replicas are `name@2`, `name@3`.
fn is_service(name: &str, service: &str) -> bool {
    service
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

/// A database's tools run in its own container, which must therefore run.
fn ensure_no_database_is_held(
    service: &Service,
    action: Action,
    operation: Operation,
    targets: &[TargetId],
) -> Result<(), PlanError> {
    let database = targets.iter().find(|target| {
        target.service == service.name
            && target.driver.state_needed(operation.moment()) == StateNeeded::Running
    });
    match database {
        Some(target) => Err(PlanError::DatabaseHeld {
            service: service.name.clone(),
            action,
            target: target.clone(),
        }),
        None => Ok(()),
    }
}
