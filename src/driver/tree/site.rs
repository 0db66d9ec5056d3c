//! Where a target really lies: on which mount, and where in it.

use std::collections::VecDeque;

use super::{Moment, TreeOrigin};
use crate::agent::helper::{Access, HelperView};
use crate::driver::DriverError;
use crate::engine::archive::PathKind;
use crate::engine::container::is_within;
use crate::engine::{Container, Engine, EngineError, HelperSource, Mount, MountKind};
use crate::tree::TreePath;

/// As many symbolic links as Linux follows on one path.
const MOST_LINKS: usize = 40;

/// What the engine makes anew for each container and mounts over the image's, and what of a compose file sets it.
pub(super) const MADE_BY_THE_ENGINE: [(&str, &str); 3] = [
    ("/etc/hostname", "hostname"),
    ("/etc/hosts", "extra_hosts"),
    ("/etc/resolv.conf", "dns"),
];

#[derive(Clone, Debug)]
pub enum Site {
    Mount(MountSite),
    /// In the container's own file system, which only the archive API reaches.
    Layer(LayerSite),
}

#[derive(Clone, Debug)]
pub struct LayerSite {
    /// As the container sees it, links resolved.
    pub path: String,
    /// Mounts of the container below the tree: they hide a part of it, and are not a part of it.
    pub hidden: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct MountSite {
    pub source: HelperSource,
    /// What is mounted, as a path on the engine's host, where it has one.
    pub host: Option<String>,
    /// The engine's name of the volume, when it is a named one.
    pub volume: Option<String>,
    /// As the container sees it, links resolved.
    pub path: String,
    /// Where the tree lies in the mount.
    pub place: TreePath,
    pub root: MountRoot,
    /// Other mounts of the container below the tree: they hide a part of it, and are not a part of it.
    pub hidden: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountRoot {
    Directory,
    /// A single file is mounted: it has no directory beside it, and must stay the same file.
    File,
}

impl Site {
    pub fn path(&self) -> &str {
        match self {
            Self::Mount(mount) => &mount.path,
            Self::Layer(layer) => &layer.path,
        }
    }

    pub fn hidden(&self) -> &[String] {
        match self {
            Self::Mount(mount) => &mount.hidden,
            Self::Layer(layer) => &layer.hidden,
        }
    }

    pub fn can_be_staged(&self) -> bool {
        matches!(self, Self::Mount(mount) if mount.root == MountRoot::Directory)
    }
}

impl MountSite {
    pub fn view(&self, access: Access) -> HelperView {
        HelperView {
            source: self.source.clone(),
            access,
        }
    }

    /// Whether something of this name is at the mount's root, as the container sees it.
    pub async fn has_at_root(
        &self,
        engine: &Engine,
        container: &Container,
        name: &str,
    ) -> Result<bool, EngineError> {
        let below = format!("/{}", String::from_utf8_lossy(self.place.as_bytes()));
        let root = self.path.strip_suffix(&below).unwrap_or(&self.path);
        let path = format!("{}/{name}", root.trim_end_matches('/'));
        Ok(engine.stat(&container.id, &path).await?.is_some())
    }
}

/// Follows the container's own links. For a backup the path must exist; for a restore it may have to be made.
pub async fn find(
    engine: &Engine,
    container: &Container,
    origin: &TreeOrigin,
    moment: Moment,
) -> Result<Site, DriverError> {
    match origin {
        TreeOrigin::Volume {
            volume,
            destination,
        } => {
            let mount = mount_of_volume(container, volume, destination)?;
            Ok(Site::Mount(MountSite {
                source: match mount {
                    Some(mount) => source_of(mount, container)?,
                    None => HelperSource::Volume(volume.clone()),
                },
                host: mount.and_then(Mount::on_the_host),
                volume: Some(volume.clone()),
                path: destination.clone(),
                place: TreePath::root(),
                root: MountRoot::Directory,
                hidden: mounted_below(destinations(container), destination),
            }))
        }
        TreeOrigin::Path(path) => find_path(engine, container, path, moment).await,
    }
}

/// A volume's mount; an error when the container has several parts of it.
fn mount_of_volume<'a>(
    container: &'a Container,
    volume: &str,
    destination: &str,
) -> Result<Option<&'a Mount>, DriverError> {
    let of_volume = |mount: &&Mount| mount.volume.as_deref() == Some(volume);
    let mounts = || container.mounts.iter().filter(of_volume);
    let here = mounts().find(|mount| mount.destination == destination);
    if let Some(here) = here
        && mounts().any(|other| other.subpath != here.subpath)
    {
        return Err(DriverError::failed_with_hint(
            format!(
                "container {} mounts several parts of the volume {volume}",
                container.name
            ),
            "save each of them by its path, with a label `cofferdam.files.<name>`",
        ));
    }
    Ok(here)
}

async fn find_path(
    engine: &Engine,
    container: &Container,
    path: &str,
    moment: Moment,
) -> Result<Site, DriverError> {
    ensure_not_on_tmpfs(container, path)?;
    let (real, kind) = resolve(engine, container, path).await?;
    ensure_not_on_tmpfs(container, &real)?;
    ensure_not_made_by_the_engine(container, &real)?;
    match kind {
        None if moment == Moment::Backup => {
            return Err(DriverError::failed_with_hint(
                format!("{path} does not exist in container {}", container.name),
                "correct the `cofferdam.files.*` label, or create it",
            ));
        }
        Some(PathKind::Other) => {
            return Err(DriverError::failed(format!(
                "{path} in container {} is neither a file nor a directory",
                container.name
            )));
        }
        Some(PathKind::File | PathKind::Directory | PathKind::Symlink) | None => {}
    }
    let Some((mount, destination)) = mount_of(engine, container, &real).await? else {
        let hidden = match kind {
            Some(PathKind::File) => Vec::new(),
            _ => mounted_below_in_layer(engine, container, &real).await?,
        };
        return Ok(Site::Layer(LayerSite { path: real, hidden }));
    };
    let source = source_of(mount, container)?;
    let below = &real[destination.trim_end_matches('/').len()..];
    let place = TreePath::parse(below.trim_start_matches('/').as_bytes())
        .map_err(|error| DriverError::failed(error.to_string()))?;
    let is_file = place.is_root() && kind == Some(PathKind::File);
    Ok(Site::Mount(MountSite {
        source,
        host: mount.on_the_host(),
        volume: mount.volume.clone(),
        hidden: mounted_below(destinations(container), &real),
        path: real,
        place,
        root: if is_file {
            MountRoot::File
        } else {
            MountRoot::Directory
        },
    }))
}

/// The mount that holds `path`, and where it really is: the engine tells its destination as it was asked for, links in the
/// image and all.
async fn mount_of<'a>(
    engine: &Engine,
    container: &'a Container,
    path: &str,
) -> Result<Option<(&'a Mount, String)>, DriverError> {
    if let Some(mount) = container.mount_of(path) {
        return Ok(Some((mount, mount.destination.clone())));
    }
    let mut innermost: Option<(&Mount, String)> = None;
    for mount in &container.mounts {
        let (real, _) = resolve(engine, container, &mount.destination).await?;
        let length = innermost.as_ref().map_or(0, |(_, known)| known.len());
        if is_within(path, &real) && real.len() > length {
            innermost = Some((mount, real));
        }
    }
    Ok(innermost)
}

fn source_of(mount: &Mount, container: &Container) -> Result<HelperSource, DriverError> {
    match (mount.kind, &mount.volume) {
        (MountKind::Volume, Some(volume)) => Ok(match &mount.subpath {
            Some(subpath) => HelperSource::Subpath {
                volume: volume.clone(),
                subpath: subpath.clone(),
            },
            None => HelperSource::Volume(volume.clone()),
        }),
        (MountKind::Bind, _) => Ok(HelperSource::Path(mount.source.clone())),
        _ => Err(DriverError::failed(format!(
            "{} in container {} is a mount of a kind that cannot be saved",
            mount.destination, container.name
        ))),
    }
}

fn ensure_not_on_tmpfs(container: &Container, path: &str) -> Result<(), DriverError> {
    if !container.is_on_tmpfs(path) {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!(
            "{path} in container {} is on a tmpfs, in the container's memory, which the engine does not show",
            container.name
        ),
        "have the program write to a volume, or remove this path from the labels",
    ))
}

/// Such a file cannot be replaced in the container, and what is written into it is gone when the container is made anew.
fn ensure_not_made_by_the_engine(container: &Container, path: &str) -> Result<(), DriverError> {
    let made = MADE_BY_THE_ENGINE.iter().find(|(file, _)| *file == path);
    let is_users = container
        .mounts
        .iter()
        .any(|mount| mount.destination == path);
    match made {
        Some((_, setting)) if !is_users => Err(DriverError::failed_with_hint(
            format!(
                "{path} in container {} is not a file of the container: the engine creates it for each container and mounts it there",
                container.name
            ),
            format!("remove it from the labels; `{setting}` of the compose file sets it"),
        )),
        _ => Ok(()),
    }
}

/// Replaces every symbolic link on the way, at its end too, by what it points to as the container sees it. `None` for the
/// kind of what does not exist.
pub(super) async fn resolve(
    engine: &Engine,
    container: &Container,
    path: &str,
) -> Result<(String, Option<PathKind>), DriverError> {
    let mut ahead: VecDeque<String> = components(path);
    let mut real = String::new();
    let mut kind = Some(PathKind::Directory);
    let mut links = 0;
    while let Some(component) = ahead.pop_front() {
        if component == ".." {
            real.truncate(real.rfind('/').unwrap_or(0));
            continue;
        }
        let next = format!("{real}/{component}");
        let Some(stat) = engine.stat(&container.id, &next).await? else {
            // What is below something that is missing is missing too.
            let rest: Vec<String> = ahead.into_iter().collect();
            return Ok(([vec![next], rest].concat().join("/"), None));
        };
        if stat.kind == PathKind::Symlink {
            links += 1;
            if links > MOST_LINKS {
                return Err(DriverError::failed(format!(
                    "{path} in container {} goes through more than {MOST_LINKS} symbolic links",
                    container.name
                )));
            }
            // The engine tells the target as an absolute path within the container.
            for component in components(&stat.link_target).into_iter().rev() {
                ahead.push_front(component);
            }
            real.clear();
            continue;
        }
        real = next;
        kind = Some(stat.kind);
    }
    if real.is_empty() {
        real.push('/');
    }
    Ok((real, kind))
}

fn components(path: &str) -> VecDeque<String> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect()
}

fn destinations(container: &Container) -> impl Iterator<Item = String> {
    let mounts = container.mounts.iter().map(|mount| &mount.destination);
    mounts.chain(&container.tmpfs).cloned()
}

/// What is mounted below `path`.
fn mounted_below(destinations: impl IntoIterator<Item = String>, path: &str) -> Vec<String> {
    let made = MADE_BY_THE_ENGINE
        .iter()
        .map(|(file, _)| (*file).to_owned());
    let mut mounted: Vec<String> = destinations
        .into_iter()
        .chain(made)
        .filter(|destination| destination != path && is_within(destination, path))
        .collect();
    mounted.sort();
    mounted.dedup();
    mounted
}

/// The archive API shows a layer with what is mounted in it, wherever links have led that.
async fn mounted_below_in_layer(
    engine: &Engine,
    container: &Container,
    path: &str,
) -> Result<Vec<String>, DriverError> {
    let mut real = Vec::new();
    for destination in destinations(container) {
        real.push(if is_within(&destination, path) {
            destination
        } else {
            resolve(engine, container, &destination).await?.0
        });
    }
    Ok(mounted_below(real, path))
}
