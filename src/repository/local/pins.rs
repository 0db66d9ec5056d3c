//! Pins in a directory.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use super::super::directory::Directory;
use super::super::pin::Pin;
use super::super::{LARGEST_PIN, RepositoryError, SnapshotRef};
use super::root::Root;
use super::sweep::remove_partials;
use crate::manifest::PIN_FILE;

pub(super) fn put(root: &Root, snapshot: &SnapshotRef, pin: &Pin) -> Result<(), RepositoryError> {
    let missing = || RepositoryError::Missing(format!("snapshot {snapshot}"));
    let place = root.place(snapshot)?.ok_or_else(missing)?;
    remove_partials(&place, &mut Vec::new())?;
    let mut partial = place.begin(PIN_FILE)?;
    partial.append(&pin.to_bytes())?;
    Ok(partial.seal()?.replace()?)
}

pub(super) fn list(
    root: &Root,
    project: Option<&str>,
) -> Result<BTreeMap<SnapshotRef, Pin>, RepositoryError> {
    let mut pins = BTreeMap::new();
    for snapshot in root.snapshots(project)? {
        let found = match root.place(&snapshot) {
            Ok(Some(place)) => read(&place),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(pin) = found.unwrap_or_else(|error| Some(Pin::unreadable(error))) {
            pins.insert(snapshot, pin);
        }
    }
    Ok(pins)
}

fn read(place: &Directory) -> Result<Option<Pin>, RepositoryError> {
    let Some((file, _)) = place.file(PIN_FILE)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_PIN)
        .read_to_end(&mut bytes)
        .map_err(|source: io::Error| RepositoryError::Io {
            action: "read",
            place: place.path().join(PIN_FILE).display().to_string(),
            source,
            hint: None,
        })?;
    Ok(Some(Pin::parse(&bytes)))
}

pub(super) fn remove(root: &Root, snapshot: &SnapshotRef) -> Result<(), RepositoryError> {
    if let Some(place) = root.place(snapshot)?
        && place.remove_file(PIN_FILE)?
    {
        place.sync()?;
        // Of a snapshot that went at the same moment.
        root.remove_place_if_empty(snapshot)?;
    }
    Ok(())
}
