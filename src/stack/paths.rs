//! What containers have mounted without a name: bind mounts, and anonymous volumes. Those of them that are saved are found again
//! by their paths in the container.

use std::collections::{BTreeMap, BTreeSet};

use super::volumes::problem;
use super::{Service, Stack, WantedVolume};
use crate::engine::container::{is_within, overlap};
use crate::engine::{Container, Mount, MountKind};
use crate::labels::{ContainerLabels, LabelErrors, LabelProblem, OptIn, Selection};
use crate::text::{nearest_word, quoted};
use crate::tree::{Excludes, TreePath};

pub(super) const BINDS: &str = "cofferdam.binds";
pub(super) const SKIP: &str = "cofferdam.binds.skip";

/// Where a host has what is its own.
const OF_THE_HOST: [&str; 4] = ["/dev", "/etc", "/proc", "/sys"];

/// Where a host has what is the engine's own: its sockets, and all of its containers and volumes.
const OF_THE_ENGINE: [&str; 3] = [
    "/run/docker.sock",
    "/var/lib/docker",
    "/var/run/docker.sock",
];

/// Where images of PostgreSQL ask for a mount: it has data directories in it, one for each version, and nothing else.
const HOME_OF_POSTGRES: &str = "/var/lib/postgresql";

/// What of a stack `*` and detection do not take. Places are those of [`Container::place_of`].
pub struct Apart<'a> {
    /// Data directories of the database servers that were found in services, by the service's name.
    pub databases: &'a BTreeMap<String, Vec<String>>,
    /// Where bind mounts are no directories: files, sockets, devices.
    pub no_directories: &'a BTreeSet<String>,
    /// Where Cofferdam's repositories are.
    pub repositories: &'a [String],
}

impl Apart<'_> {
    pub(super) fn data_directories(&self, service: &Service) -> &[String] {
        self.databases.get(&service.name).map_or(&[], Vec::as_slice)
    }

    /// Whether the tree at `path` holds a repository that these patterns do not leave out, or lies in one.
    pub(super) fn is_repository(
        &self,
        container: &Container,
        path: &str,
        patterns: &[String],
    ) -> bool {
        let place = container.place_of(path);
        let mut repositories = repositories_at(self.repositories, container, path);
        repositories.any(|repository| !is_left_out(patterns, &place, repository))
    }
}

/// Whether patterns leave `inner` out of the tree at `place`.
pub fn is_left_out(patterns: &[String], place: &str, inner: &str) -> bool {
    let below = inner.strip_prefix(place.trim_end_matches('/'));
    let below = below.map(|below| below.trim_start_matches('/').as_bytes());
    let Some(Ok(below)) = below.map(TreePath::parse) else {
        return false;
    };
    let patterns = Excludes::new(patterns);
    !below.is_root() && patterns.is_ok_and(|patterns| patterns.covers(&below, true))
}

/// The patterns that leave these places out of the tree at `root`, those alone that lie below it. Nothing is left out twice.
pub fn patterns_of<'a>(root: &str, inner: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let is_below = |place: &&String| is_within(place, root) && place.as_str() != root;
    let mut places: Vec<&String> = inner.into_iter().filter(is_below).collect();
    places.sort();
    places.dedup_by(|later, earlier| is_within(later, earlier));
    let root = root.trim_end_matches('/');
    let special = |char: char| "\\*?[]{}".contains(char);
    let pattern = |place: &String| -> String {
        let chars = place[root.len()..].chars();
        chars
            .flat_map(|char| special(char).then_some('\\').into_iter().chain([char]))
            .collect()
    };
    places.into_iter().map(pattern).collect()
}

/// The labels that save a tree but for what patterns leave out.
pub fn labels_but_for(name: &str, path: &str, patterns: &[String]) -> [String; 2] {
    let patterns = patterns.join(", ");
    [
        format!("cofferdam.files.{name}: {path}"),
        format!("cofferdam.files.{name}.exclude: {patterns}"),
    ]
}

/// The repositories that lie in the tree at `path` of a container, or around it. That the container has mounted something over
/// one does not matter: a helper sees what is below.
pub fn repositories_at<'a>(
    repositories: &'a [String],
    container: &Container,
    path: &str,
) -> impl Iterator<Item = &'a str> {
    let place = container.place_of(path);
    let repositories = repositories.iter().map(String::as_str);
    repositories.filter(move |known| overlap(known, &place))
}

/// The bind mounts and anonymous volumes of each service that labels take, as paths in its container, by the service's name
/// ([`Service::name`]). `volumes`: the named volumes that they take.
///
/// Nothing is taken that is saved already, by whatever container: a place that several have mounted is saved once, and what lies
/// in a directory goes with it. `*` and detection do not take what holds a database's data, or a repository.
pub fn wanted_paths(
    stack: &Stack,
    volumes: &BTreeMap<String, Vec<WantedVolume>>,
    apart: &Apart<'_>,
) -> Result<BTreeMap<String, Vec<String>>, LabelErrors> {
    let mut problems = Vec::new();
    let data = data_places(stack, apart);
    let mut claims: Vec<(&Service, &Mount)> = Vec::new();
    for service in &stack.services {
        ensure_skipped_are_mounted(service, &mut problems);
        let named = named(service, &mut problems);
        let unnamed = unnamed(service, apart.no_directories)
            .filter(|mount| is_taken_unnamed(service, mount))
            .filter(|mount| !apart.is_repository(&service.container, &mount.destination, &[]))
            .filter(|mount| !data.iter().any(|data| overlap(data, &mount.root())));
        claims.extend(
            named
                .into_iter()
                .chain(unnamed)
                .map(|mount| (service, mount)),
        );
    }
    if !problems.is_empty() {
        return Err(LabelErrors { problems });
    }
    // What lies in another comes after it. The engine lists mounts in any order.
    claims.sort_by_cached_key(|(service, mount)| {
        let length = mount.root().len();
        (length, service.name.clone(), mount.destination.clone())
    });
    let nothing = BTreeMap::new();
    let mut saved: Vec<Tree<'_>> = trees(stack, volumes, &nothing).collect();
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (service, mount) in claims {
        if !saved.iter().any(|tree| tree.holds(&mount.root())) {
            saved.push(Tree::of(service, mount));
            let paths = wanted.entry(service.name.clone()).or_default();
            paths.push(mount.destination.clone());
        }
    }
    for paths in wanted.values_mut() {
        paths.sort();
    }
    Ok(wanted)
}

/// The directories that a service has mounted without a name and can write to, but for the host's own and the engine's.
pub fn unnamed<'a>(
    service: &'a Service,
    no_directories: &BTreeSet<String>,
) -> impl Iterator<Item = &'a Mount> {
    let is_data = move |mount: &&Mount| match mount.kind {
        MountKind::Bind => {
            !is_of_the_host(&mount.source) && !no_directories.contains(&mount.root())
        }
        MountKind::Volume => mount.is_anonymous(),
        MountKind::Tmpfs | MountKind::Other => false,
    };
    let mounts = service.container.mounts.iter();
    mounts.filter(move |mount| mount.writable && is_data(mount))
}

fn is_of_the_host(source: &str) -> bool {
    let is_of_the_engine = OF_THE_ENGINE.iter().any(|own| overlap(own, source));
    OF_THE_HOST.iter().any(|own| is_within(source, own))
        || (is_of_the_engine && !is_in_a_volume(source))
}

/// Whether it is one volume's data, by its path on the host.
fn is_in_a_volume(source: &str) -> bool {
    let below = source.strip_prefix("/var/lib/docker/volumes/");
    let below = below.and_then(|below| below.split_once('/'));
    below.is_some_and(|(_, below)| is_within(below, "_data"))
}

/// Whether a label says that nothing is to save this mount.
pub fn is_skipped(service: &Service, mount: &Mount) -> bool {
    let labels = &service.labels;
    let paths = match mount.kind {
        MountKind::Bind => &labels.skipped_binds,
        _ => &labels.skipped_volumes,
    };
    paths.contains(&mount.destination)
}

/// Whether labels take a mount without naming it.
pub fn is_taken_unnamed(service: &Service, mount: &Mount) -> bool {
    let ContainerLabels {
        opt_in,
        volumes,
        binds,
        skip,
        ..
    } = &service.labels;
    let is_asked_for = match (opt_in, mount.kind) {
        (OptIn::No, _) | (OptIn::Labels, MountKind::Tmpfs | MountKind::Other) => false,
        (OptIn::Detection, _) => true,
        (OptIn::Labels, MountKind::Bind) => *binds == Some(Selection::All),
        (OptIn::Labels, MountKind::Volume) => {
            *volumes == Some(Selection::All) && !mount.is_anonymous()
        }
    };
    is_asked_for && skip.is_none() && !is_skipped(service, mount)
}

/// Whether what labels take has this place in it, whichever container it is seen in.
pub fn is_saved(
    stack: &Stack,
    volumes: &BTreeMap<String, Vec<WantedVolume>>,
    paths: &BTreeMap<String, Vec<String>>,
    place: &str,
) -> bool {
    trees(stack, volumes, paths).any(|tree| tree.holds(place))
}

/// What is saved, as its container sees it.
struct Tree<'a> {
    container: &'a Container,
    path: &'a str,
    /// Whether patterns leave nothing of it out.
    is_whole: bool,
}

impl<'a> Tree<'a> {
    fn of(service: &'a Service, mount: &'a Mount) -> Self {
        Self {
            container: &service.container,
            path: &mount.destination,
            is_whole: true,
        }
    }

    fn holds(&self, place: &str) -> bool {
        self.container.holds(self.path, place)
            && (self.is_whole || self.container.place_of(self.path) == place)
    }
}

fn trees<'a>(
    stack: &'a Stack,
    volumes: &'a BTreeMap<String, Vec<WantedVolume>>,
    paths: &'a BTreeMap<String, Vec<String>>,
) -> impl Iterator<Item = Tree<'a>> {
    stack.services.iter().flat_map(move |service| {
        let tree = move |path: &'a str, exclude: &[String]| Tree {
            container: &service.container,
            path,
            is_whole: exclude.is_empty(),
        };
        let volumes = volumes.get(&service.name).into_iter().flatten();
        let volumes = volumes.map(move |it| tree(&it.volume.destination, &it.options.exclude));
        let files = service.labels.files.values();
        let files = files.filter(move |_| service.labels.skip.is_none());
        let files = files.map(move |it| tree(&it.path, &it.options.exclude));
        let paths = paths.get(&service.name).into_iter().flatten();
        volumes
            .chain(files)
            .chain(paths.map(move |path| tree(path, &[])))
    })
}

/// Where database servers have their data.
pub(super) fn data_places(stack: &Stack, apart: &Apart<'_>) -> Vec<String> {
    let services = stack.services.iter();
    services
        .flat_map(|service| {
            let directories = apart.data_directories(service).iter();
            data_places_of(&service.container, directories.map(String::as_str))
        })
        .collect()
}

/// Where a container has these data directories of its servers, what is mounted in them, and what is mounted for nothing else.
pub fn data_places_of<'a>(
    container: &Container,
    directories: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let places = directories.flat_map(|directory| {
        let below = container.mounts.iter();
        let below = below.filter(|mount| is_within(&mount.destination, directory));
        let around = container.mount_of(directory);
        let around = around.filter(|mount| mount.destination == HOME_OF_POSTGRES);
        let mounts = below.chain(around).map(Mount::root);
        [container.place_of(directory)].into_iter().chain(mounts)
    });
    places.collect()
}

/// The bind mounts that a label names. Problems of it are added to `problems`.
fn named<'a>(service: &'a Service, problems: &mut Vec<LabelProblem>) -> Vec<&'a Mount> {
    let labels = &service.labels;
    let Some(Selection::Names(paths)) = labels.binds.as_ref().filter(|_| labels.skip.is_none())
    else {
        return Vec::new();
    };
    let mut taken = Vec::new();
    for path in paths {
        let mut files = labels.files.iter();
        let again = files.find(|(_, files)| files.path == *path);
        match find(service, BINDS, path) {
            Err(problem) => problems.push(problem),
            Ok(mount) if is_skipped(service, mount) => problems.push(problem(
                service,
                SKIP,
                format!("names `{}`, as does `{BINDS}`", quoted(path)),
                "remove it from one of them".to_owned(),
            )),
            Ok(mount) => match again {
                Some((name, _)) => problems.push(problem(
                    service,
                    BINDS,
                    format!(
                        "names `{}`, as does `cofferdam.files.{}`",
                        quoted(path),
                        quoted(name)
                    ),
                    "remove it from one of them".to_owned(),
                )),
                None => taken.push(mount),
            },
        }
    }
    taken
}

fn ensure_skipped_are_mounted(service: &Service, problems: &mut Vec<LabelProblem>) {
    let skipped = service.labels.skipped_binds.iter();
    let unknown = skipped.filter_map(|path| find(service, SKIP, path).err());
    problems.extend(unknown);
}

/// The bind mount at `path`.
fn find<'a>(service: &'a Service, label: &str, path: &str) -> Result<&'a Mount, LabelProblem> {
    let mounts = &service.container.mounts;
    let found = mounts.iter().find(|mount| mount.destination == path);
    if let Some(bind) = found.filter(|mount| mount.kind == MountKind::Bind) {
        return Ok(bind);
    }
    let instead = if label == SKIP {
        "cofferdam.volumes.skip"
    } else {
        "cofferdam.volumes"
    };
    let hint = match found {
        Some(mount) if mount.is_anonymous() && label == BINDS => {
            "an anonymous volume is mounted there: save it with `cofferdam.files.<name>`".to_owned()
        }
        Some(mount) if mount.kind == MountKind::Volume => {
            format!("a volume is mounted there: name it in `{instead}`")
        }
        _ => what_is_bound(mounts, path),
    };
    Err(problem(
        service,
        label,
        format!(
            "names `{}`, where this container has no bind mount",
            quoted(path)
        ),
        hint,
    ))
}

fn what_is_bound(mounts: &[Mount], path: &str) -> String {
    let binds = mounts.iter().filter(|mount| mount.kind == MountKind::Bind);
    let paths: Vec<&str> = binds.map(|mount| mount.destination.as_str()).collect();
    let shown: Vec<String> = paths.iter().map(|it| format!("`{}`", quoted(it))).collect();
    let listed = match shown.as_slice() {
        [] => "it has none; `cofferdam.files.<name>` saves any path".to_owned(),
        shown => format!("bind mounts: {}", shown.join(", ")),
    };
    match nearest_word(path, paths) {
        Some(near) => format!("did you mean `{}`? ({listed})", quoted(near)),
        None => listed,
    }
}

#[cfg(test)]
mod tests;
