//! Which services of a swarm a run holds. Pure.
//!
//! They are held as a whole and through a manager, wherever their tasks run: also those that have none on this node.

use super::{PlannedHold, ensure_no_database_is_held, hold_of, is_service};
use crate::engine::swarm::Mode;
use crate::hold::journal::HeldService;
use crate::hold::{Action, Operation, READY_TIMEOUT, Subject};
use crate::plan::PlanError;
use crate::stack::{Service, Stack, StackService};
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
        ready_within: Some(service.labels.ready_timeout.unwrap_or(READY_TIMEOUT)),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::container::SWARM_SERVICE_ID;
    use crate::engine::container::tests_support::container;
    use crate::labels::ContainerLabels;
    use crate::stack::StackSwarm;
    use crate::target::{DriverKind, Moment};

    fn stops(moment: Moment) -> ContainerLabels {
        ContainerLabels {
            stop: BTreeSet::from([moment]),
            ..ContainerLabels::default()
        }
    }

    fn service(name: &str, labels: ContainerLabels, tasks: u64) -> StackService {
        StackService {
            id: format!("{name}-id"),
            name: name.to_owned(),
            labels,
            mode: Mode::Replicated(tasks),
            is_on: tasks > 0,
            held_by: None,
            tasks,
            nodes: BTreeSet::new(),
            model: container(name),
        }
    }

    /// A stack with one task here, of the service `db`.
    fn stack(labels: ContainerLabels, services: Result<Vec<StackService>, String>) -> Stack {
        let mut container = container("shop_db.1.x");
        let id = (SWARM_SERVICE_ID.to_owned(), "db-id".to_owned());
        container.labels.extend([id]);
        Stack {
            project: "shop".to_owned(),
            services: vec![Service {
                name: "db".to_owned(),
                container,
                labels,
            }],
            left_out: Vec::new(),
            swarm: Some(StackSwarm {
                node: "a".to_owned(),
                services,
            }),
            warnings: Vec::new(),
        }
    }

    fn of_db(driver: DriverKind) -> Vec<TargetId> {
        vec![TargetId::new("db", driver, "shop")]
    }

    #[test]
    fn services_are_held_wherever_they_run_and_not_at_zero() {
        let services = vec![
            service("db", ContainerLabels::default(), 1),
            service("web", stops(Moment::Restore), 2),
            service("off", stops(Moment::Restore), 0),
        ];
        let stack = stack(ContainerLabels::default(), Ok(services));
        let targets = of_db(DriverKind::Postgres);
        let holds = plan_holds(&stack, Operation::Restore, &targets).unwrap();
        let held: Vec<_> = holds.iter().map(|hold| hold.subject.clone()).collect();
        let web = HeldService {
            id: "web-id".to_owned(),
            tasks: 2,
        };
        assert_eq!(held, [Subject::SwarmService(web)]);
        assert!(
            plan_holds(&stack, Operation::Backup, &targets)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_cannot_be_done_in_a_swarm_is_refused_with_what_to_do() {
        let nobody = || Err("set COFFERDAM_SWARM_MANAGER".to_owned());
        let volume = of_db(DriverKind::Volume);
        let pauses = ContainerLabels {
            pause: true,
            ..ContainerLabels::default()
        };
        let plain = ContainerLabels::default;
        let refused = [
            plan_holds(
                &stack(stops(Moment::Backup), nobody()),
                Operation::Backup,
                &volume,
            ),
            plan_holds(&stack(plain(), nobody()), Operation::Restore, &volume),
            plan_holds(
                &stack(plain(), Ok(vec![service("web", pauses, 1)])),
                Operation::Backup,
                &volume,
            ),
            plan_holds(
                &stack(plain(), Ok(Vec::new())),
                Operation::Restore,
                &of_db(DriverKind::Couchdb),
            ),
        ];
        let words = refused.map(|refused| refused.unwrap_err().to_string());
        insta::assert_snapshot!(words.join("\n"), @r"
        service shop_db.1.x has to be held, which only a swarm manager can do, and no manager can be reached: set COFFERDAM_SWARM_MANAGER
        only a swarm manager knows which services to stop during a restore, and no manager can be reached: set COFFERDAM_SWARM_MANAGER
        service web cannot be paused: a swarm replaces tasks that do not answer, and the service may have tasks on other nodes; label it `cofferdam.stop: backup` instead of `cofferdam.pause`
        db/couchdb/shop is restored while its container is stopped, and a swarm removes the containers that it stops; use --to-project to restore it into a container made by compose or `docker run`
        ");
        // Nothing is asked for, and a backup can be made.
        assert!(plan_holds(&stack(plain(), nobody()), Operation::Backup, &volume).is_ok());
    }
}
