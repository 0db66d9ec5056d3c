//! What the engine tells of volumes and bind mounts, beside what it tells of containers.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::some_at_a_time;
use crate::engine::container::COMPOSE_VOLUME;
use crate::engine::{Engine, EngineError, Mount, MountKind, PathKind, Volume};
use crate::stack::{self, Service};

/// What the engine tells of volumes.
#[derive(Default)]
pub(super) struct Volumes {
    /// Their names in compose files, by the engine's.
    pub declared: BTreeMap<String, String>,
    pub in_memory: BTreeSet<String>,
}

pub(super) async fn look_at_volumes<'a>(
    engine: &Engine,
    mounts: impl Iterator<Item = &'a Mount>,
) -> Result<Volumes, EngineError> {
    let mounts = mounts.filter(|mount| mount.kind == MountKind::Volume);
    let volumes: BTreeSet<&String> = mounts.filter_map(|mount| mount.volume.as_ref()).collect();
    let looks = volumes.into_iter().map(|name| {
        let look = async move { Ok((name.clone(), engine.volume(name).await?)) };
        look.boxed()
    });
    let looks: Vec<(String, Option<Volume>)> = some_at_a_time(looks).try_collect().await?;
    let mut found = Volumes::default();
    for (name, volume) in looks {
        let Some(volume) = volume else { continue };
        if let Some(own) = volume.labels.get(COMPOSE_VOLUME) {
            found.declared.insert(name.clone(), own.clone());
        }
        if volume.is_in_memory {
            found.in_memory.insert(name);
        }
    }
    Ok(found)
}

/// Where these services have something else than a directory bound: a file, a socket. One that the engine does not show counts
/// as a directory: it is told of rather than forgotten.
pub(super) async fn no_directories<'a>(
    engine: &'a Engine,
    services: impl Iterator<Item = &'a Service>,
) -> BTreeSet<String> {
    let nothing = BTreeSet::new();
    let mounts = services.flat_map(|service| {
        let unnamed = stack::unnamed(service, &nothing);
        let binds = unnamed.filter(|mount| mount.kind == MountKind::Bind);
        binds.map(move |mount| (&service.container, mount))
    });
    let looks = mounts.map(|(container, mount)| {
        let look = async move {
            let found = engine.stat(&container.id, &mount.destination).await;
            let kind = found.ok().flatten().map(|found| found.kind);
            let is_other = matches!(kind, Some(PathKind::File | PathKind::Other));
            is_other.then(|| mount.root())
        };
        look.boxed()
    });
    let looks: Vec<Option<String>> = some_at_a_time(looks).collect().await;
    looks.into_iter().flatten().collect()
}
