//! Left-overs of runs that were killed: objects whose snapshot never got its manifest, and uploads without an end.

use std::collections::HashSet;
use std::pin::pin;
use std::time::SystemTime;

use futures_util::StreamExt as _;

use super::super::{RepositoryError, SWEPT_AFTER, SnapshotRef, manifests};
use super::{Item, RemoteRepository, Storage, by_place, split};
use crate::manifest::{MANIFEST_FILE, ObjectPath, PIN_FILE};
use crate::target::encode_component;

pub(super) async fn sweep(
    repository: &RemoteRepository,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, RepositoryError> {
    let prefix = format!("{}/", encode_component(project));
    let mut removed = storage.sweep_unfinished(&prefix, SWEPT_AFTER).await?;
    let listed = storage.list(&prefix).await?;
    let snapshots = manifests_among(&listed);
    let leftovers: Vec<String> = leftovers_in(listed).collect();
    if leftovers.is_empty() {
        return Ok(removed);
    }
    let Some(named) = objects_named_by_manifests(repository, snapshots).await? else {
        return Ok(removed);
    };
    let ours =
        |key: &String| is_pin(key) || as_object(key).is_some_and(|object| !named.contains(&object));
    // Reading the manifests took its time: a run may have come back to one of these places.
    let still: HashSet<String> = leftovers_in(storage.list(&prefix).await?).collect();
    let mut keys: Vec<String> = leftovers.into_iter().filter(ours).collect();
    keys.retain(|key| still.contains(key));
    storage.delete(&keys).await?;
    removed.extend(keys);
    Ok(removed)
}

fn manifests_among(items: &[Item]) -> Vec<SnapshotRef> {
    let manifests = items.iter().filter(|item| is_manifest(item));
    manifests
        .filter_map(|item| split(&item.key))
        .map(|(snapshot, _)| snapshot)
        .collect()
}

/// The keys in places without a manifest, in which nothing is young.
fn leftovers_in(items: Vec<Item>) -> impl Iterator<Item = String> {
    by_place(items)
        .into_values()
        .filter(|items| !items.iter().any(is_manifest) && items.iter().all(is_old))
        .flatten()
        .map(|item| item.key)
}

/// `None` when a manifest cannot be read: then nobody knows what it names.
async fn objects_named_by_manifests(
    repository: &RemoteRepository,
    snapshots: Vec<SnapshotRef>,
) -> Result<Option<HashSet<ObjectPath>>, RepositoryError> {
    let mut named = HashSet::new();
    let mut manifests = pin!(manifests(repository, snapshots));
    while let Some((snapshot, manifest)) = manifests.next().await {
        match manifest {
            Ok(manifest) => {
                named.extend(manifest.objects().map(|artifact| artifact.object.clone()));
            }
            // Also one that was listed and is missing now: a server may have answered so in passing.
            Err(error) => {
                tracing::warn!(
                    "could not remove leftovers of {}: {error}",
                    snapshot.project
                );
                return Ok(None);
            }
        }
    }
    Ok(Some(named))
}

/// Of a snapshot that is gone.
fn is_pin(key: &str) -> bool {
    split(key).is_some_and(|(_, name)| name == PIN_FILE)
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
