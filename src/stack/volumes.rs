//! Which named volumes of a stack are saved, and as whose targets.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::Apart;
use super::{Service, Stack};
use crate::engine::container::{is_anonymous, is_within};
use crate::engine::{Container, MountKind};
use crate::labels::{LabelErrors, LabelProblem, OptIn, Selection, TreeOptions};
use crate::text::{nearest_word, quoted};

const SKIP: &str = "cofferdam.volumes.skip";

/// A named volume that a container mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedVolume {
    /// As the compose file names it, where that is known and fits no other volume of the container; else as the engine does.
    pub name: String,
    /// The engine's name.
    pub volume: String,
    /// Where the container sees it; the first place by path when there are several.
    pub destination: String,
}

/// A volume that labels take: a target of the service that it is listed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVolume {
    pub volume: MountedVolume,
    pub options: TreeOptions,
}

/// The named volumes of each service that labels take, by the service's name ([`Service::name`]).
///
/// `declared`: the names of volumes in compose files by their engine names (compose's label on the volume).
///
/// `*` and detection take no volume that holds a database's data, whichever container it is seen in, and none that holds a
/// repository that its options do not leave out. Detection takes none either that its container saves by path. A volume that several services take is listed under the first of them by name, with the options that
/// any of them gives; it is an error when they give different ones.
pub fn wanted(
    stack: &Stack,
    declared: &BTreeMap<String, String>,
    apart: &Apart<'_>,
) -> Result<BTreeMap<String, Vec<WantedVolume>>, LabelErrors> {
    let of_databases: BTreeSet<String> = stack
        .services
        .iter()
        .flat_map(|service| database_volumes(&service.container, apart.data_directories(service)))
        .collect();

    let mut errors = LabelErrors::default();
    // Two parts of a volume are two things to save.
    let mut first: BTreeMap<(String, Option<String>), Claim<'_>> = BTreeMap::new();
    for service in &stack.services {
        let mounted = mounted(service, &stack.project, declared);
        for claim in claims(service, mounted, &of_databases, apart, &mut errors) {
            let mount = service.container.mounts.iter().find(|mount| {
                mount.volume.as_ref() == Some(&claim.volume.volume)
                    && mount.destination == claim.volume.destination
            });
            let subpath = mount.and_then(|mount| mount.subpath.clone());
            let part = (claim.volume.volume.clone(), subpath);
            match first.get_mut(&part) {
                None => {
                    first.insert(part, claim);
                }
                Some(earlier) => errors.problems.extend(earlier.merge(claim)),
            }
        }
    }
    if !errors.problems.is_empty() {
        return Err(errors);
    }

    let mut wanted: BTreeMap<String, Vec<WantedVolume>> = BTreeMap::new();
    for claim in first.into_values() {
        let target = WantedVolume {
            volume: claim.volume,
            options: claim.options.unwrap_or_default(),
        };
        let name = claim.service.name.clone();
        wanted.entry(name).or_default().push(target);
    }
    for targets in wanted.values_mut() {
        targets.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
    }
    Ok(wanted)
}

/// The named volumes that a service mounts, by name, anonymous ones left out.
pub fn mounted(
    service: &Service,
    project: &str,
    declared: &BTreeMap<String, String>,
) -> Vec<MountedVolume> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for (volume, destination) in volume_mounts(&service.container) {
        let place = places.entry(volume).or_insert(destination);
        *place = (*place).min(destination);
    }
    let mut volumes: Vec<MountedVolume> = places
        .into_iter()
        .filter(|(volume, _)| !is_anonymous(volume))
        .map(|(volume, destination)| MountedVolume {
            name: compose_name(volume, project, declared).to_owned(),
            volume: volume.to_owned(),
            destination: destination.to_owned(),
        })
        .collect();
    let names: Vec<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
    for volume in &mut volumes {
        if names.iter().filter(|name| **name == volume.name).count() > 1 {
            volume.name.clone_from(&volume.volume);
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    volumes
}

/// A service that takes a volume, and the options that its labels give for it.
struct Claim<'a> {
    service: &'a Service,
    volume: MountedVolume,
    options: Option<TreeOptions>,
}

impl Claim<'_> {
    /// Takes over the options of a later claim to the same volume.
    fn merge(&mut self, later: Claim<'_>) -> Option<LabelProblem> {
        match (&self.options, later.options) {
            (_, None) => None,
            (None, options) => {
                self.options = options;
                None
            }
            (Some(ours), Some(theirs)) if *ours == theirs => None,
            (Some(_), Some(_)) => Some(problem(
                later.service,
                &option_label(later.service, &later.volume),
                format!(
                    "contradicts the labels of container {} for the same volume",
                    quoted(&self.service.container.name)
                ),
                "a shared volume is saved once: set its options on one container".to_owned(),
            )),
        }
    }
}

/// What a service takes. Problems of its labels are added to `errors`.
fn claims<'a>(
    service: &'a Service,
    mounted: Vec<MountedVolume>,
    of_databases: &BTreeSet<String>,
    apart: &Apart<'_>,
    errors: &mut LabelErrors,
) -> Vec<Claim<'a>> {
    ensure_skipped_are_mounted(service, &mounted, &mut errors.problems);
    if service.labels.skip.is_some() {
        return Vec::new();
    }
    let container = &service.container;
    let is_apart = |volume: &&MountedVolume| {
        let patterns = exclusions(service, volume);
        of_databases.contains(&volume.volume)
            || is_skipped_volume(service, volume)
            || apart.is_repository(container, &volume.destination, patterns)
    };
    let is_by_path = |volume: &&MountedVolume| {
        let mut files = service.labels.files.values();
        files.any(|files| files.path.trim_end_matches('/') == volume.destination)
    };
    let all = || mounted.iter().filter(|volume| !is_apart(volume));
    let detected = || all().filter(|volume| !is_by_path(volume));
    let is_detected = service.labels.opt_in == OptIn::Detection;
    let taken = match (service.labels.opt_in, &service.labels.volumes) {
        (OptIn::No, _) | (OptIn::Labels, None) => return Vec::new(),
        (OptIn::Labels, Some(Selection::All)) => all().collect(),
        (OptIn::Detection, None | Some(Selection::All)) => detected().collect(),
        (_, Some(Selection::Names(names))) => {
            let mut named = named(service, &mounted, names, &mut errors.problems);
            if let Some(volume) = named.iter().find(|it| is_skipped_volume(service, it)) {
                errors.problems.push(problem(
                    service,
                    SKIP,
                    format!(
                        "names the volume `{}`, as does `cofferdam.volumes`",
                        quoted(&volume.volume)
                    ),
                    "remove it from one of them".to_owned(),
                ));
            }
            let besides: Vec<_> = detected().filter(|it| !named.contains(it)).collect();
            named.extend(besides.into_iter().filter(|_| is_detected));
            named
        }
    };
    let options = options(service, &mounted, &mut errors.problems);
    taken
        .into_iter()
        .map(|volume| Claim {
            service,
            volume: volume.clone(),
            options: options.get(volume.volume.as_str()).map(|&it| it.clone()),
        })
        .collect()
}

fn named<'a>(
    service: &Service,
    mounted: &'a [MountedVolume],
    names: &[String],
    problems: &mut Vec<LabelProblem>,
) -> Vec<&'a MountedVolume> {
    let label = "cofferdam.volumes";
    let mut taken = Vec::new();
    for name in names {
        match find(service, mounted, label, name) {
            Err(problem) => problems.push(problem),
            Ok(volume) if taken.contains(&volume) => problems.push(problem(
                service,
                label,
                format!("names the volume `{}` twice", quoted(&volume.volume)),
                "name it once".to_owned(),
            )),
            Ok(volume) => taken.push(volume),
        }
    }
    taken
}

/// The patterns that labels give for a volume.
pub(super) fn exclusions<'a>(service: &'a Service, volume: &MountedVolume) -> &'a [String] {
    let options = &service.labels.volume_options;
    let given = options
        .get(&volume.name)
        .or_else(|| options.get(&volume.volume));
    given.map_or(&[], |options| &options.exclude)
}

/// Whether a label says that nothing is to save this volume.
pub fn is_skipped_volume(service: &Service, volume: &MountedVolume) -> bool {
    let mut skipped = service.labels.skipped_volumes.iter();
    skipped.any(|name| *name == volume.name || *name == volume.volume)
}

/// An anonymous volume is named by its path.
fn ensure_skipped_are_mounted(
    service: &Service,
    mounted: &[MountedVolume],
    problems: &mut Vec<LabelProblem>,
) {
    for name in &service.labels.skipped_volumes {
        let mut mounts = service.container.mounts.iter();
        if !name.starts_with('/') {
            problems.extend(find(service, mounted, SKIP, name).err());
        } else if !mounts.any(|mount| mount.is_anonymous() && mount.destination == *name) {
            problems.push(problem(
                service,
                SKIP,
                format!(
                    "names `{}`, where this container has no anonymous volume",
                    quoted(name)
                ),
                "name a named volume as in `cofferdam.volumes`, and a bind mount in `cofferdam.binds.skip`".to_owned(),
            ));
        }
    }
}

/// The options that labels give, by the engine's names of volumes.
fn options<'a>(
    service: &'a Service,
    mounted: &'a [MountedVolume],
    problems: &mut Vec<LabelProblem>,
) -> BTreeMap<&'a str, &'a TreeOptions> {
    let mut options = BTreeMap::new();
    for (name, given) in &service.labels.volume_options {
        let label = label_of_option(service, name);
        match find(service, mounted, &label, name) {
            Err(problem) => problems.push(problem),
            Ok(volume) if options.contains_key(volume.volume.as_str()) => problems.push(problem(
                service,
                &label,
                format!(
                    "is a second label for the volume `{}`",
                    quoted(&volume.volume)
                ),
                "use one spelling of the volume's name".to_owned(),
            )),
            Ok(volume) => {
                options.insert(volume.volume.as_str(), given);
            }
        }
    }
    options
}

/// The one mounted volume that `name` means.
fn find<'a>(
    service: &Service,
    mounted: &'a [MountedVolume],
    label: &str,
    name: &str,
) -> Result<&'a MountedVolume, LabelProblem> {
    let fits = |volume: &&MountedVolume| volume.name == name || volume.volume == name;
    let found: Vec<&MountedVolume> = mounted.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(problem(
            service,
            label,
            format!(
                "names the volume `{}`, which this container does not mount",
                quoted(name)
            ),
            what_is_mounted(service, mounted, name),
        )),
        several => {
            let engine_names: Vec<&str> = several
                .iter()
                .map(|volume| volume.volume.as_str())
                .collect();
            Err(problem(
                service,
                label,
                format!("names `{}`, which matches several volumes", quoted(name)),
                format!(
                    "write the engine's name: {}",
                    quoted(&engine_names.join(" or "))
                ),
            ))
        }
    }
}

fn what_is_mounted(service: &Service, mounted: &[MountedVolume], name: &str) -> String {
    let anonymous = volume_mounts(&service.container).find(|(volume, _)| is_anonymous(volume));
    let near = nearest_word(name, mounted.iter().map(|volume| volume.name.as_str()));
    let names: Vec<String> = mounted
        .iter()
        .map(|volume| format!("`{}`", quoted(&volume.name)))
        .collect();
    let listed = if names.is_empty() {
        "it mounts no named volume".to_owned()
    } else {
        format!("mounted: {}", names.join(", "))
    };
    match (near, anonymous) {
        (Some(near), _) => format!("did you mean `{}`? ({listed})", quoted(near)),
        (None, Some((_, destination))) => format!(
            "{listed}; save an anonymous volume by its path, with `cofferdam.files.<name>: {}`",
            quoted(destination)
        ),
        (None, None) => listed,
    }
}

/// The volumes that hold a database's directories, or lie below them.
fn database_volumes(container: &Container, directories: &[String]) -> Vec<String> {
    let holds = |destination: &str| {
        directories.iter().any(|directory| {
            let innermost = container.mount_of(directory);
            is_within(destination, directory)
                || innermost.is_some_and(|mount| mount.destination == destination)
        })
    };
    volume_mounts(container)
        .filter(|(_, destination)| holds(destination))
        .map(|(volume, _)| volume.to_owned())
        .collect()
}

/// Engine name and destination of every volume, named or not.
fn volume_mounts(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    container
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Volume)
        .filter_map(|mount| Some((mount.volume.as_deref()?, mount.destination.as_str())))
}

fn compose_name<'a>(
    volume: &'a str,
    project: &str,
    declared: &'a BTreeMap<String, String>,
) -> &'a str {
    let without_project = || {
        let rest = volume.strip_prefix(project)?.strip_prefix('_')?;
        (!rest.is_empty()).then_some(rest)
    };
    let known = declared.get(volume).map(String::as_str);
    known.or_else(without_project).unwrap_or(volume)
}

/// One of the labels that give options for the volume that is named `name` in them.
fn label_of_option(service: &Service, name: &str) -> String {
    let prefix = format!("cofferdam.volumes.{name}.");
    let found = service
        .container
        .labels
        .keys()
        .find(|key| key.starts_with(&prefix));
    found.cloned().unwrap_or(prefix)
}

fn option_label(service: &Service, volume: &MountedVolume) -> String {
    let by_name = label_of_option(service, &volume.name);
    if service.container.labels.contains_key(&by_name) {
        by_name
    } else {
        label_of_option(service, &volume.volume)
    }
}

pub(super) fn problem(service: &Service, label: &str, what: String, hint: String) -> LabelProblem {
    LabelProblem {
        container: service.container.name.clone(),
        label: label.to_owned(),
        what,
        hint: Some(hint),
    }
}

#[cfg(test)]
mod tests;
