//! What of a stack `*` and detection leave out, and why: whoever relies on them has to hear of it.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{
    Apart, BINDS, SKIP, data_places, is_saved, is_taken_unnamed, labels_but_for, patterns_of,
    unnamed,
};
use super::volumes::{exclusions, is_skipped_volume, mounted};
use super::{Service, Stack};
use crate::engine::container::{is_within, overlap};
use crate::engine::{Mount, MountKind};
use crate::labels::{Selection, files_name};

/// Says of what labels take without naming it why it is not saved after all. `declared`: as for [`super::wanted`].
pub fn why_apart(
    stack: &Stack,
    declared: &BTreeMap<String, String>,
    apart: &Apart<'_>,
) -> Vec<String> {
    let data = data_places(stack, apart);
    let (no_volumes, no_paths) = (BTreeMap::new(), BTreeMap::new());
    let is_by_label = |place: &str| is_saved(stack, &no_volumes, &no_paths, place);
    let mut told = Vec::new();
    for service in &stack.services {
        let container = &service.container;
        let named = mounted(service, &stack.project, declared);
        let named = named.iter().filter(|it| {
            let volumes = service.labels.volumes.as_ref();
            let is_named = names_any(volumes, [&it.name, &it.volume]);
            !is_named && !is_skipped_volume(service, it)
        });
        let named = named.filter_map(|volume| {
            let mount = container.mount_of(&volume.destination)?;
            Some((mount, exclusions(service, volume)))
        });
        let unnamed = unnamed(service, apart.no_directories).map(|mount| (mount, &[][..]));
        let mut names = BTreeSet::new();
        let taken = named
            .chain(unnamed)
            .filter(|(mount, _)| is_taken_unnamed(service, mount) && !is_named(service, mount))
            .filter(|(mount, _)| !is_by_label(&mount.root()));
        for (mount, patterns) in taken {
            let path = &mount.destination;
            let place = mount.root();
            let why = if apart.is_repository(container, path, patterns) {
                "it contains Cofferdam's own repository, or is inside it"
            } else if data.iter().any(|data| is_within(&place, data)) {
                if mount.kind != MountKind::Bind || is_own_data(service, mount, apart) {
                    continue;
                }
                "it is the data of a database server in another container, and a copy of files in use cannot be restored"
            } else if data.iter().any(|data| is_within(data, &place)) {
                "it holds the data of a database server, and a copy of files in use cannot be restored"
            } else {
                continue;
            };
            let inner = patterns_of(&place, data.iter().chain(apart.repositories));
            let rest = how_to_save_the_rest(service, path, &inner, &mut names);
            told.push(format!(
                "{}: {path} is not saved: {why}{}",
                service.name,
                rest.unwrap_or_default()
            ));
        }
        let left = left_to_names(service, apart.no_directories);
        let left = left.filter(|(mount, _)| !is_by_label(&mount.root()));
        told.extend(left.map(|(mount, what)| {
            format!(
                "{}: {path} is not saved: {what}; name it in `{BINDS}`, or in `{SKIP}`",
                service.name,
                path = mount.destination
            )
        }));
    }
    told.sort();
    told
}

/// Whether a label names this bind mount.
fn is_named(service: &Service, mount: &Mount) -> bool {
    mount.kind == MountKind::Bind && names_any(service.labels.binds.as_ref(), [&mount.destination])
}

fn names_any<const N: usize>(selection: Option<&Selection>, any: [&String; N]) -> bool {
    matches!(selection, Some(Selection::Names(names)) if any.iter().any(|it| names.contains(it)))
}

fn how_to_save_the_rest(
    service: &Service,
    path: &str,
    inner: &[String],
    names: &mut BTreeSet<String>,
) -> Option<String> {
    if inner.is_empty() {
        return None;
    }
    let is_taken = |name: &str| service.labels.files.contains_key(name) || names.contains(name);
    let name = files_name(path, is_taken);
    let [files, exclude] = labels_but_for(&name, path, inner);
    names.insert(name);
    Some(format!(
        "; to save what else is in it, add the labels `{files}` and `{exclude}`"
    ))
}

fn is_own_data(service: &Service, mount: &Mount, apart: &Apart<'_>) -> bool {
    let mut own = apart.data_directories(service).iter();
    own.any(|directory| overlap(directory, &mount.destination))
}

/// The bind mounts that a container can write to and that only a label with their paths takes, each with why. Not what is a
/// socket, or nobody's data, by its path.
fn left_to_names<'a>(
    service: &'a Service,
    no_directories: &BTreeSet<String>,
) -> impl Iterator<Item = (&'a Mount, &'static str)> {
    const NO_DATA: [&str; 6] = [
        "/dev",
        "/proc",
        "/sys",
        "/run",
        "/var/run",
        "/tmp/.X11-unix",
    ];
    const OF_EVERY_HOST: [&str; 9] = [
        "/etc/group",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/localtime",
        "/etc/machine-id",
        "/etc/passwd",
        "/etc/resolv.conf",
        "/etc/ssl",
        "/etc/timezone",
    ];
    let mounts = service.container.mounts.iter();
    let mounts = mounts.filter(|mount| mount.kind == MountKind::Bind && mount.writable);
    let mounts = mounts.filter(|mount| is_taken_unnamed(service, mount));
    let mounts = mounts.filter(|mount| !is_named(service, mount));
    mounts.filter_map(move |mount| {
        let source = mount.source.as_str();
        let is_in = |places: &[&str]| places.iter().any(|place| is_within(source, place));
        let is_socket = [".sock", ".socket"].iter().any(|end| source.ends_with(end));
        let is_in_etc = source.starts_with("/etc/") && !is_in(&OF_EVERY_HOST);
        match no_directories.contains(&mount.root()) {
            _ if is_socket || is_in(&NO_DATA) => None,
            true => Some((mount, "it is a single file")),
            false => is_in_etc.then_some((mount, "it is part of the host's own `/etc`")),
        }
    })
}
