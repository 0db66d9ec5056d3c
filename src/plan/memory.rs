//! Volumes that are in memory (`type: tmpfs`). Pure.
//!
//! The engine mounts one for the first container that uses it. With the last one that uses it, what is in it goes: to stop that
//! one in order to save the volume would destroy what is to be saved, and what is put back meanwhile is gone at once.

use super::PlanError;
use super::apart::{Placed, service_of};
use super::hold::PlannedHold;
use crate::engine::Container;
use crate::hold::Action;
use crate::survey::Survey;
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
            "volume {volume} is in memory, and no container that uses it runs: there is nothing in it, and nothing would stay"
        )
    })
}

/// Some container goes on using each of these volumes.
pub(super) fn ensure_kept(
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
    use crate::hold::Operation;
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
            assert!(gone.contains("no container that uses it runs"), "{target}");
            let kept = said(target, path, State::Running, Some(State::Paused));
            assert_eq!(kept, "", "{target}");
            let dead = said(target, path, State::Running, Some(State::Exited));
            assert!(dead.contains(SAID), "{target}: {dead}");
            let disk = said(target, "/disk/a", State::Running, None);
            assert_eq!(disk, "", "{target}");
        }
    }
}
