//! Left-overs of runs that were killed: objects whose snapshot never got its manifest, and files under hidden names.

use std::collections::HashSet;
use std::time::SystemTime;

use super::super::directory::{Directory, Entry, FileError, Kind, is_partial_name};
use super::super::{RepositoryError, SWEPT_AFTER, SnapshotRef};
use super::root::{Root, as_object, directories};
use crate::manifest::{MANIFEST_FILE, ObjectPath, PIN_FILE};
use crate::target::{RunId, encode_component};

pub(super) fn sweep(root: &Root, project: &str) -> Result<Vec<String>, RepositoryError> {
    let mut removed = Vec::new();
    let Some(top) = root.open_if_prepared()? else {
        return Ok(removed);
    };
    remove_partials(&top, &mut removed)?;
    let Some(directory) = top.child(encode_component(project))? else {
        return Ok(removed);
    };
    let named = objects_named_by_manifests(root, project)?;
    for id in directories(&directory)?.filter_map(|name| name.parse::<RunId>().ok()) {
        let Some(place) = directory.child(id.as_str())? else {
            continue;
        };
        let snapshot = SnapshotRef::new(project, id);
        if place.entry(MANIFEST_FILE)?.is_some() {
            remove_partials(&place, &mut removed)?;
        } else if let Some(named) = &named {
            remove_leftovers(&place, &snapshot, named, &mut removed)?;
            root.remove_place_if_empty(&snapshot)?;
        }
    }
    Ok(removed)
}

/// `None` when a manifest cannot be read: then nobody knows what it names.
fn objects_named_by_manifests(
    root: &Root,
    project: &str,
) -> Result<Option<HashSet<ObjectPath>>, RepositoryError> {
    let mut named = HashSet::new();
    for snapshot in root.snapshots(Some(project))? {
        match root.manifest(&snapshot) {
            Ok(manifest) => {
                named.extend(manifest.objects().map(|artifact| artifact.object.clone()));
            }
            Err(RepositoryError::Missing(_)) => {}
            Err(error) => {
                tracing::warn!("could not remove leftovers of {project}: {error}");
                return Ok(None);
            }
        }
    }
    Ok(Some(named))
}

/// Empties a place without a manifest, unless anything in it is young: then a run may be at work in it.
fn remove_leftovers(
    place: &Directory,
    snapshot: &SnapshotRef,
    named: &HashSet<ObjectPath>,
    removed: &mut Vec<String>,
) -> Result<(), RepositoryError> {
    let entries = place.entries()?;
    if !is_old(place.modified()?) || !entries.iter().all(|entry| is_old(entry.modified)) {
        return Ok(());
    }
    for entry in &entries {
        let ours = is_partial(entry)
            || (entry.kind == Kind::File && entry.name == PIN_FILE)
            || as_object(entry, snapshot).is_some_and(|object| !named.contains(&object));
        if ours {
            remove(place, entry, removed)?;
        }
    }
    place.sync()?;
    Ok(())
}

/// Removes files under hidden names that nobody is writing any more.
pub(super) fn remove_partials(
    place: &Directory,
    removed: &mut Vec<String>,
) -> Result<(), FileError> {
    for entry in place.entries()? {
        if is_partial(&entry) && is_old(entry.modified) {
            remove(place, &entry, removed)?;
        }
    }
    Ok(())
}

fn remove(place: &Directory, entry: &Entry, removed: &mut Vec<String>) -> Result<(), FileError> {
    if let Some(name) = entry.name.to_str()
        && place.remove_file(name)?
    {
        removed.push(place.path().join(name).display().to_string());
    }
    Ok(())
}

fn is_partial(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.name.to_str().is_some_and(is_partial_name)
}

/// A time in the future is not old: the clock may have been set back.
fn is_old(modified: SystemTime) -> bool {
    SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age > SWEPT_AFTER)
}
