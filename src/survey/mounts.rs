//! What the engine tells of volumes and bind mounts, beside what it tells of containers.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::some_at_a_time;
use crate::discover::{self, Service};
use crate::engine::container::{COMPOSE_VOLUME, is_within};
use crate::engine::{Engine, EngineError, Mount, MountKind, PathKind, Volume};

/// What the engine tells of volumes.
#[derive(Default)]
pub(super) struct Volumes {
    /// Their names in compose files, by the engine's.
    pub declared: BTreeMap<String, String>,
    pub in_memory: BTreeSet<String>,
    /// Places that are another place, as well.
    pub twins: Vec<(String, String)>,
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
        if let Some(bound) = volume.bound {
            found.twins.push((volume.mountpoint, bound));
        }
        if volume.is_in_memory {
            found.in_memory.insert(name);
        }
    }
    Ok(found)
}

/// Places by all of their names.
pub(super) fn by_all_names(places: &[String], twins: &[(String, String)]) -> Vec<String> {
    let mut all = places.to_vec();
    for (one, other) in twins {
        for (from, to) in [(one, other), (other, one)] {
            let named = all.iter().filter_map(|place| {
                let below =
                    is_within(place, from).then(|| &place[from.trim_end_matches('/').len()..]);
                let around = is_within(from, place).then_some("");
                let below = below.or(around)?;
                Some(format!("{}{below}", to.trim_end_matches('/')))
            });
            let named: Vec<String> = named.collect();
            all.extend(named);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Where these services have something else than a directory bound: a file, a socket. One that the engine does not show counts
/// as a directory: it is told of rather than forgotten.
pub(super) async fn no_directories<'a>(
    engine: &'a Engine,
    services: impl Iterator<Item = &'a Service>,
) -> BTreeSet<String> {
    let nothing = BTreeSet::new();
    let mounts = services.flat_map(|service| {
        let unnamed = discover::unnamed(service, &nothing);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_the_other_name_of_its_volume() {
        let twin = |volume: &str, directory: &str| (volume.to_owned(), directory.to_owned());
        let twins = [
            twin("/v/backups", "/srv/backups"),
            twin("/v/other", "/mnt/"),
        ];
        for (place, expected) in [
            (
                "/v/backups/shop",
                &["/srv/backups/shop", "/v/backups/shop"][..],
            ),
            ("/srv/backups", &["/srv/backups", "/v/backups"]),
            // The volume shows a part of it.
            ("/srv", &["/srv", "/v/backups"]),
            ("/mnt/a", &["/mnt/a", "/v/other/a"]),
            ("/elsewhere", &["/elsewhere"]),
        ] {
            assert_eq!(
                by_all_names(&[place.to_owned()], &twins),
                expected,
                "{place}"
            );
        }
    }
}
