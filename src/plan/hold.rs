//! Which containers a run holds, and why. Pure.
//!
//! - `swarm`: services instead of containers

mod swarm;

use std::time::Duration;

use serde::Serialize;

use super::PlanError;
use crate::engine::container::Health;
use crate::engine::{Container, State};
use crate::hold::{Action, Held, Operation, READY_TIMEOUT, Subject};
use crate::labels::ContainerLabels;
use crate::stack::order::start_order;
use crate::stack::survey::Survey;
use crate::target::{Moment, StateNeeded, TargetId};

/// One container, or service of a swarm, that is going to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHold {
    pub service: String,
    pub action: Action,
    /// The targets that this hold serves.
    pub serves: Vec<TargetId>,
    #[serde(skip)]
    pub subject: Subject,
    /// [`Held::ready_within`]
    #[serde(skip)]
    pub ready_within: Option<Duration>,
}

impl PlannedHold {
    pub fn to_held(&self) -> Held {
        Held {
            subject: self.subject.clone(),
            service: self.service.clone(),
            action: self.action,
            ready_within: self.ready_within,
        }
    }
}

/// The holds that serve `targets`, in the order in which the containers start again. What does not run is not held, so
/// that it is not started afterwards.
pub fn plan_holds(
    survey: &Survey,
    operation: Operation,
    targets: &[TargetId],
) -> Result<Vec<PlannedHold>, PlanError> {
    let mut holds = Holds {
        survey,
        operation,
        targets,
        planned: Vec::new(),
    };
    holds.add_labelled()?;
    holds.add_cut_off()?;
    let mut planned = holds.in_starting_order();
    planned.extend(swarm::plan_holds(&survey.stack, operation, targets)?);
    ensure_the_engine_stays_in_reach(survey, &planned)?;
    Ok(planned)
}

/// What carries our calls to the engine goes on doing so, or nothing that was held could be released.
fn ensure_the_engine_stays_in_reach(
    survey: &Survey,
    planned: &[PlannedHold],
) -> Result<(), PlanError> {
    for through in survey.spoken_through.iter() {
        let mut holds = planned.iter();
        let Some(hold) = holds.find(|hold| hold.subject.includes(through)) else {
            continue;
        };
        let mut hosts = survey.containers.iter().filter(|it| through.lives_in(it));
        let host = hosts.find_map(|host| {
            let mut holds = planned.iter();
            holds.find(|hold| hold.subject.includes(host))
        });
        return Err(PlanError::SpokenThrough {
            service: hold.service.clone(),
            container: through.name.clone(),
            action: hold.action,
            host: host.map(|hold| hold.service.clone()),
        });
    }
    Ok(())
}

struct Holds<'a> {
    survey: &'a Survey,
    operation: Operation,
    targets: &'a [TargetId],
    planned: Vec<(&'a Container, PlannedHold)>,
}

impl<'a> Holds<'a> {
    /// What labels, and targets of its own, ask for.
    fn add_labelled(&mut self) -> Result<(), PlanError> {
        for service in &self.survey.stack.services {
            let container = &service.container;
            // A swarm would replace it: its service is held.
            if container.swarm_service().is_some() {
                continue;
            }
            let is_own = |target: &TargetId| target.service == service.name;
            let hold = hold_of(&service.labels, is_own, self.operation, self.targets);
            let Some((action, serves)) = hold else {
                continue;
            };
            if serves.is_empty() || !container.is_up() {
                continue;
            }
            ensure_no_database_is_held(
                &service.name,
                is_own,
                action,
                self.operation,
                self.targets,
            )?;
            // The engine does not freeze what is about to start.
            let action = match container.state {
                State::Restarting => Action::Stop,
                _ => action,
            };
            self.add(container, &service.name, &service.labels, action, serves)?;
        }
        Ok(())
    }

    /// What lives in a namespace of a container that stops is cut off for good, or ends with it: it is stopped before it, and
    /// started after it, whatever project it belongs to.
    fn add_cut_off(&mut self) -> Result<(), PlanError> {
        while let Some((container, host)) = self.next_cut_off() {
            let serves = host.serves.clone();
            let services = &self.survey.stack.services;
            let of_stack = services.iter().find(|it| it.container.id == container.id);
            let name = of_stack.map_or(&container.name, |service| &service.name);
            // Somebody has frozen it, for a reason that is not known here: to thaw it is theirs.
            if container.state == State::Paused {
                return Err(PlanError::PausedCutOff {
                    service: name.clone(),
                    host: host.service,
                    container: container.name.clone(),
                });
            }
            let no_labels = ContainerLabels::default();
            let labels = of_stack.map_or(&no_labels, |service| &service.labels);
            let needed = self.targets.iter().find(|target| {
                of_stack.is_some_and(|service| service.name == target.service)
                    && target.driver.state_needed(self.operation.moment()) == StateNeeded::Running
            });
            if let Some(target) = needed {
                return Err(PlanError::DatabaseCutOff {
                    service: name.clone(),
                    host: host.service,
                    target: target.clone(),
                });
            }
            self.planned
                .retain(|(planned, _)| planned.id != container.id);
            self.add(container, name, labels, Action::Stop, serves)?;
        }
        Ok(())
    }

    /// A container that is not going to be stopped although one is whose namespace it lives in, and the hold of that one.
    fn next_cut_off(&self) -> Option<(&'a Container, PlannedHold)> {
        let mut stopped = self
            .planned
            .iter()
            .filter(|(_, hold)| hold.action == Action::Stop);
        let is_stopped = |container: &Container| {
            let mut planned = self.planned.iter();
            planned.any(|(it, hold)| it.id == container.id && hold.action == Action::Stop)
        };
        stopped.find_map(|(host, hold)| {
            let mut all = self.survey.containers.iter();
            let cut_off = all.find(|it| it.is_alive() && it.lives_in(host) && !is_stopped(it))?;
            Some((cut_off, hold.clone()))
        })
    }

    fn add(
        &mut self,
        container: &'a Container,
        service: &str,
        labels: &ContainerLabels,
        action: Action,
        serves: Vec<TargetId>,
    ) -> Result<(), PlanError> {
        if action == Action::Stop {
            self.ensure_it_may_stop(container, service)?;
        }
        let hold = PlannedHold {
            service: service.to_owned(),
            action,
            serves,
            subject: Subject::Container(container.id.clone()),
            ready_within: self.ready_within(container, labels),
        };
        self.planned.push((container, hold));
        Ok(())
    }

    fn ensure_it_may_stop(&self, container: &Container, service: &str) -> Result<(), PlanError> {
        let service = service.to_owned();
        if container.auto_remove {
            return Err(PlanError::RemovedWhenStopped { service });
        }
        let mut cofferdams = self.survey.cofferdams.iter();
        match cofferdams.find(|it| it.is_alive() && it.lives_in(container)) {
            Some(cofferdam) => Err(PlanError::CofferdamCutOff {
                service,
                cofferdam: cofferdam.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A backup leaves the data as it was: what was not ready before is not going to be afterwards.
    fn ready_within(&self, container: &Container, labels: &ContainerLabels) -> Option<Duration> {
        let was_ready =
            container.health != Health::Unhealthy && container.state != State::Restarting;
        let is_waited_for = was_ready || self.operation == Operation::Restore;
        is_waited_for.then(|| labels.ready_timeout.unwrap_or(READY_TIMEOUT))
    }

    fn in_starting_order(self) -> Vec<PlannedHold> {
        let of_stack = self.survey.stack.services.iter();
        let of_stack = of_stack.map(|service| &service.container);
        let held = self.planned.iter().map(|(container, _)| *container);
        let held = held.filter(|it| of_stack.clone().all(|other| other.id != it.id));
        let order = start_order(of_stack.clone().chain(held));
        let mut planned = self.planned;
        planned.sort_by_key(|(container, _)| order.iter().position(|it| it.id == container.id));
        planned.into_iter().map(|(_, hold)| hold).collect()
    }
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

#[cfg(test)]
mod tests;
