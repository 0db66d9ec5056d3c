//! Volumes that are in memory (`type: tmpfs`). Pure.
//!
//! The engine mounts one for the first container that uses it. With the last one that uses it, what is in it goes: to stop that
//! one in order to save the volume would destroy what is to be saved, and what is put back meanwhile is gone at once.

use crate::engine::Container;
use crate::survey::Survey;
use crate::target::{DriverKind, TargetId};

/// The volume in memory that a target lies in, by the engine's name.
pub(super) fn volume_of(survey: &Survey, target: &TargetId) -> Option<String> {
    let volume = match target.driver {
        DriverKind::Volume => {
            let mut volumes = survey.volumes.get(&target.service)?.iter();
            let wanted = volumes.find(|wanted| wanted.volume.name == target.name)?;
            Some(wanted.volume.volume.clone())
        }
        DriverKind::Files => {
            let mut services = survey.stack.services.iter();
            let service = services.find(|service| service.name == target.service)?;
            let labelled = service.labels.files.get(&target.name);
            let labelled = labelled.map(|files| &files.path);
            let mut paths = survey.paths.get(&target.service).into_iter().flatten();
            let path = labelled.or_else(|| paths.find(|path| **path == target.name))?;
            service.container.mount_of(path)?.volume.clone()
        }
        _ => None,
    };
    volume.filter(|volume| survey.in_memory.contains(volume))
}

/// Whether a container goes on using it while `stopped` do not.
pub(super) fn is_kept(survey: &Survey, volume: &str, stopped: &[&Container]) -> bool {
    let mut alive = survey.containers.iter().filter(|it| it.is_alive());
    alive.any(|container| {
        uses(container, volume) && stopped.iter().all(|stopped| stopped.id != container.id)
    })
}

pub(super) fn uses(container: &Container, volume: &str) -> bool {
    let mut mounts = container.mounts.iter();
    mounts.any(|mount| mount.volume.as_deref() == Some(volume))
}

/// Why a target can be neither saved nor put back as things are.
pub(super) fn obstacle(survey: &Survey, target: &TargetId) -> Option<String> {
    let volume = volume_of(survey, target)?;
    (!is_kept(survey, &volume, &[])).then(|| {
        format!(
            "volume {volume} is in memory, and no container that uses it runs: there is nothing in it, and nothing would stay"
        )
    })
}
