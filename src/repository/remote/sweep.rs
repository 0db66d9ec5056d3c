//! Left-overs of runs that were killed: objects whose snapshot never got its manifest, and uploads without an end.

use std::collections::HashSet;
use std::time::SystemTime;

use super::super::{Repository, RepositoryError, SWEPT_AFTER, SnapshotRef};
use super::{Item, RemoteRepository, Storage, by_place, split};
use crate::manifest::{MANIFEST_FILE, ObjectPath};
use crate::target::encode_component;

pub(super) async fn sweep(
    repository: &RemoteRepository,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, RepositoryError> {
    let prefix = format!("{}/", encode_component(project));
    let mut removed = storage.sweep_unfinished(&prefix, SWEPT_AFTER).await?;
    let places = by_place(storage.list(&prefix).await?);
    let (whole, abandoned): (Vec<_>, Vec<_>) = places
        .into_iter()
        .partition(|(_, items)| items.iter().any(is_manifest));
    let leftovers: Vec<Item> = abandoned
        .into_iter()
        .map(|(_, items)| items)
        .filter(|items| items.iter().all(is_old))
        .flatten()
        .collect();
    if leftovers.is_empty() {
        return Ok(removed);
    }
    let snapshots = whole.into_iter().map(|(snapshot, _)| snapshot);
    let Some(named) = objects_named_by_manifests(repository, snapshots).await? else {
        return Ok(removed);
    };
    let keys: Vec<String> = leftovers
        .into_iter()
        .map(|item| item.key)
        .filter(|key| as_object(key).is_some_and(|object| !named.contains(&object)))
        .collect();
    storage.delete(&keys).await?;
    removed.extend(keys);
    Ok(removed)
}

/// `None` when a manifest cannot be read: then nobody knows what it names.
async fn objects_named_by_manifests(
    repository: &RemoteRepository,
    snapshots: impl Iterator<Item = SnapshotRef>,
) -> Result<Option<HashSet<ObjectPath>>, RepositoryError> {
    let mut named = HashSet::new();
    for snapshot in snapshots {
        match repository.manifest(&snapshot).await {
            Ok(manifest) => {
                named.extend(manifest.objects().map(|artifact| artifact.object.clone()));
            }
            Err(RepositoryError::Missing(_)) => {}
            Err(error) => {
                tracing::warn!(
                    "left-overs of {} stay where they are: {error}",
                    snapshot.project
                );
                return Ok(None);
            }
        }
    }
    Ok(Some(named))
}

fn is_manifest(item: &Item) -> bool {
    split(&item.key).is_some_and(|(_, name)| name == MANIFEST_FILE)
}

/// A time in the future is not old: the clocks may differ.
fn is_old(item: &Item) -> bool {
    SystemTime::now()
        .duration_since(item.modified)
        .is_ok_and(|age| age > SWEPT_AFTER)
}

fn as_object(key: &str) -> Option<ObjectPath> {
    let (place, name) = split(key)?;
    ObjectPath::new(&place.project, &place.id, name).ok()
}
