//! Data that goes with the containers that use it: to stop them in order to save it would destroy it, and what is put back
//! meanwhile is gone at once. Pure.
//!
//! - Volumes in memory (`type: tmpfs`): the engine mounts one for the first container that uses it, and with the last one what is
//!   in it goes.
//! - What a task of a swarm has in its own layer and in anonymous volumes: a swarm removes what it stops.

use super::PlanError;
use super::apart::{Placed, service_of};
use super::hold::PlannedHold;
use crate::engine::Container;
use crate::hold::Action;
use crate::stack::survey::Survey;
use crate::target::TargetId;

/// Why a target can be neither saved nor put back as things are.
pub(super) fn obstacle(
    survey: &Survey,
    target: &TargetId,
    placed: &[Placed<'_>],
) -> Option<String> {
    let mut placed = placed.iter().filter(|(placed, _)| *placed == target);
    let volume = placed.find_map(|placed| volume_of(survey, *placed))?;
    users(survey, &volume).next().is_none().then(|| {
        format!(
            "volume {volume} is in memory, and no container that uses it is running: it is empty, and would not keep anything"
        )
    })
}

/// Each of these targets outlives the stops.
pub(super) fn ensure_kept(
    survey: &Survey,
    placed: &[Placed<'_>],
    holds: &[PlannedHold],
) -> Result<(), PlanError> {
    ensure_no_task_takes_it_along(survey, placed, holds)?;
    ensure_volumes_stay_in_use(survey, placed, holds)
}

fn ensure_no_task_takes_it_along(
    survey: &Survey,
    placed: &[Placed<'_>],
    holds: &[PlannedHold],
) -> Result<(), PlanError> {
    for (target, path) in placed {
        let Some(service) = service_of(survey, target) else {
            continue;
        };
        let container = &service.container;
        let stays = container.swarm_service().is_none()
            || container
                .mount_of(path)
                .is_some_and(|it| !it.is_anonymous());
        let mut holds = holds.iter();
        if !stays && holds.any(|hold| hold.subject.includes(container)) {
            return Err(PlanError::GoesWithTask {
                service: service.name.clone(),
                target: (*target).clone(),
            });
        }
    }
    Ok(())
}

/// Some container goes on using each of the volumes in memory.
fn ensure_volumes_stay_in_use(
    survey: &Survey,
    placed: &[Placed<'_>],
    holds: &[PlannedHold],
) -> Result<(), PlanError> {
    for (target, path) in placed {
        let Some(volume) = volume_of(survey, (target, path)) else {
            continue;
        };
        let stop_of = |user: &Container| {
            let mut stops = holds.iter().filter(|hold| hold.action == Action::Stop);
            stops.find(|stop| stop.subject.includes(user))
        };
        let stops: Option<Vec<_>> = users(survey, &volume).map(stop_of).collect();
        if let Some(stop) = stops.as_ref().and_then(|stops| stops.first()) {
            return Err(PlanError::VolumeInMemory {
                service: stop.service.clone(),
                volume,
                target: (*target).clone(),
            });
        }
    }
    Ok(())
}

/// The volume in memory that a target lies in, by the engine's name.
fn volume_of(survey: &Survey, (target, path): Placed<'_>) -> Option<String> {
    let container = &service_of(survey, target)?.container;
    let volume = container.mount_of(path)?.volume.clone();
    volume.filter(|volume| survey.in_memory.contains(volume))
}

/// The containers whose use keeps what is in a volume.
fn users<'a>(survey: &'a Survey, volume: &str) -> impl Iterator<Item = &'a Container> {
    let alive = survey.containers.iter().filter(|it| it.is_alive());
    alive.filter(move |container| {
        let mut mounts = container.mounts.iter();
        mounts.any(|mount| mount.volume.as_deref() == Some(volume))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::State;
    use crate::engine::container::SWARM_SERVICE_ID;
    use crate::hold::journal::HeldService;
    use crate::hold::{Operation, Subject};
    use crate::plan::hold::plan_holds;
    use crate::plan::tests_support::{service, survey};

    const SAID: &str = "is in memory";

    /// What is said of a target in the volume `mem` of a service that is to be stopped, and whose other user is in a state.
    fn said(target: &str, path: &str, own: State, keeper: Option<State>) -> String {
        let mut app = service("app", &["mem:/mem", "disk:/disk"], &[("stop", "restore")]);
        app.container.state = own;
        let mut services = vec![(app, &[][..])];
        services.extend(keeper.map(|state| {
            let mut keeper = service("keeper", &["mem:/kept"], &[]);
            keeper.container.state = state;
            (keeper, &[][..])
        }));
        let mut survey = survey(services);
        survey.in_memory = ["mem".to_owned()].into();
        let target: TargetId = target.parse().unwrap();
        let placed = [(&target, path)];
        if let Some(obstacle) = obstacle(&survey, &target, &placed) {
            return obstacle;
        }
        let holds = plan_holds(&survey, Operation::Restore, std::slice::from_ref(&target)).unwrap();
        match ensure_kept(&survey, &placed, &holds) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nothing_is_put_back_into_memory_that_goes_with_the_stop() {
        let targets = [
            ("app/volume/mem", "/mem"),
            ("app/files/x", "/mem/some/where"),
            ("app/sqlite/a.db", "/mem/a.db"),
            ("app/couchdb/node", "/mem/data"),
            ("app/basebackup/cluster", "/mem/data"),
        ];
        for (target, path) in targets {
            let refused = said(target, path, State::Running, None);
            assert!(
                refused.contains(SAID) && refused.contains(target),
                "{target}: {refused}"
            );
            let gone = said(target, path, State::Exited, None);
            assert!(
                gone.contains("no container that uses it is running"),
                "{target}"
            );
            let kept = said(target, path, State::Running, Some(State::Paused));
            assert_eq!(kept, "", "{target}");
            let dead = said(target, path, State::Running, Some(State::Exited));
            assert!(dead.contains(SAID), "{target}: {dead}");
            let disk = said(target, "/disk/a", State::Running, None);
            assert_eq!(disk, "", "{target}");
        }
    }

    #[test]
    fn what_goes_with_a_task_is_not_stopped() {
        let anonymous = format!("{}:/scratch", "0123456789abcdef".repeat(4));
        let mut app = service("app", &["disk:/disk", &anonymous], &[]);
        let id = (SWARM_SERVICE_ID.to_owned(), "app-id".to_owned());
        app.container.labels.extend([id]);
        let survey = survey(vec![(app, &[][..])]);
        let hold = PlannedHold {
            service: "app".to_owned(),
            action: Action::Stop,
            serves: Vec::new(),
            subject: Subject::SwarmService(HeldService {
                id: "app-id".to_owned(),
                tasks: 1,
            }),
            ready_within: None,
        };
        let target: TargetId = "app/files/x".parse().unwrap();
        for (path, stays) in [("/disk/x", true), ("/scratch/x", false), ("/srv/x", false)] {
            let placed = [(&target, path)];
            let stopped = ensure_kept(&survey, &placed, std::slice::from_ref(&hold));
            assert_eq!(stopped.is_ok(), stays, "{path}");
            assert!(ensure_kept(&survey, &placed, &[]).is_ok(), "{path}");
        }
    }
}
