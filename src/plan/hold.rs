//! Which containers a run holds, and why. Pure.
//!
//! - `swarm`: services instead of containers

mod swarm;

use serde::Serialize;

use super::PlanError;
use super::order::start_order;
use crate::discover::Stack;
use crate::hold::{Action, Held, Operation, Subject};
use crate::labels::{ContainerLabels, Moment};
use crate::target::{StateNeeded, TargetId};

/// One container, or service of a swarm, that is going to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHold {
    pub service: String,
    pub action: Action,
    /// The targets that this hold serves.
    pub serves: Vec<TargetId>,
    #[serde(skip)]
    pub subject: Subject,
}

impl PlannedHold {
    pub fn to_held(&self) -> Held {
        Held {
            subject: self.subject.clone(),
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
        // A swarm would replace it: its service is held.
        if service.container.swarm_service().is_some() {
            continue;
        }
        let is_own = |target: &TargetId| target.service == service.name;
        let Some((action, serves)) = hold_of(&service.labels, is_own, operation, targets) else {
            continue;
        };
        if serves.is_empty() || !service.container.is_running() {
            continue;
        }
        ensure_no_database_is_held(&service.name, is_own, action, operation, targets)?;
        holds.push(PlannedHold {
            service: service.name.clone(),
            action,
            serves,
            subject: Subject::Container(service.container.id.clone()),
        });
    }
    holds.extend(swarm::plan_holds(stack, operation, targets)?);
    Ok(holds)
}

/// What labels ask for, and what targets of the service's own need.
fn hold_of(
    labels: &ContainerLabels,
    is_own: impl Fn(&TargetId) -> bool,
    operation: Operation,
    targets: &[TargetId],
) -> Option<(Action, Vec<TargetId>)> {
    let needs_stop = |target: &&TargetId| {
        is_own(target) && target.driver.state_needed(operation.moment()) == StateNeeded::Stopped
    };
    let labelled = action_of(labels, operation);
    let serves = |target: &&TargetId| {
        needs_stop(target) || (labelled.is_some() && serves_target(labels, target))
    };
    let action = if targets.iter().any(|target| needs_stop(&target)) {
        Some(Action::Stop)
    } else {
        labelled
    };
    Some((action?, targets.iter().filter(serves).cloned().collect()))
}

fn action_of(labels: &ContainerLabels, operation: Operation) -> Option<Action> {
    match operation {
        Operation::Backup if labels.stop.contains(&Moment::Backup) => Some(Action::Stop),
        Operation::Backup if labels.pause => Some(Action::Pause),
        Operation::Restore if labels.stop.contains(&Moment::Restore) => Some(Action::Stop),
        Operation::Backup | Operation::Restore => None,
    }
}

fn serves_target(labels: &ContainerLabels, target: &TargetId) -> bool {
    match &labels.hold_for {
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
    service: &str,
    is_own: impl Fn(&TargetId) -> bool,
    action: Action,
    operation: Operation,
    targets: &[TargetId],
) -> Result<(), PlanError> {
    let database = targets.iter().find(|target| {
        is_own(target) && target.driver.state_needed(operation.moment()) == StateNeeded::Running
    });
    match database {
        Some(target) => Err(PlanError::DatabaseHeld {
            service: service.to_owned(),
            action,
            target: target.clone(),
        }),
        None => Ok(()),
    }
}
