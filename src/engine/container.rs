//! What is known of a container, read once from inspect.
//!
//! - `standstill`: what people are told of one that does not run

mod standstill;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::labels::COMPOSE_SERVICE;

#[derive(Clone)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// As the user named it: `postgres:15`.
    pub image: String,
    /// `sha256:…`
    pub image_id: String,
    pub created: Timestamp,
    pub state: State,
    pub health: Health,
    /// As the engine prints it; tells one life of a container from the next.
    pub started_at: String,
    /// `None` while it runs, and before it has.
    pub exit: Option<Exit>,
    pub labels: BTreeMap<String, String>,
    /// Whether its image itself says that it is Cofferdam's, looked up for those alone whose labels say so; `None`: not known.
    pub agent_image: Option<bool>,
    pub env: BTreeMap<String, String>,
    /// The user that execs run as when none is named; empty means root.
    pub user: String,
    pub mounts: Vec<Mount>,
    /// Paths of tmpfs mounts: the archive API does not see what lies there.
    pub tmpfs: Vec<String>,
    pub read_only_root: bool,
    /// The container whose network namespace this one shares.
    pub network_of: Option<String>,
    /// The containers whose network, process or IPC namespaces it shares, by id; one that is gone, as the user named it.
    pub namespaces_of: Vec<String>,
    /// What it is given to end by itself when it is stopped.
    pub stop_timeout: Duration,
    /// `docker run --rm`: the engine removes it when it stops, and its anonymous volumes with it.
    pub auto_remove: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    /// By the engine's clock.
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The container has no health check.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// The engine's name of a volume.
    pub volume: Option<String>,
    /// The path on the engine's host; of a volume, the whole of it ([`super::Engine::see_through_volumes`]).
    pub source: String,
    /// The part of a volume that is mounted, when it is not the whole.
    pub subpath: Option<String>,
    /// The path in the container.
    pub destination: String,
    pub writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Volume,
    Bind,
    Tmpfs,
    Other,
}

/// One `depends_on` of compose, from the label that compose v2 leaves on its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    pub condition: String,
}

pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Of a container within its service, from 1.
pub const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
/// Of what the compose file said when it made the container.
pub const COMPOSE_HASH: &str = "com.docker.compose.config-hash";
pub const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";
pub const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The engine's volume name carries the project; this label on the volume holds the name in the compose file.
pub const COMPOSE_VOLUME: &str = "com.docker.compose.volume";
/// What a swarm puts on the containers of a stack that was deployed into it.
pub const STACK_NAMESPACE: &str = "com.docker.stack.namespace";
pub const SWARM_SERVICE_ID: &str = "com.docker.swarm.service.id";
/// With the stack's name before it.
pub const SWARM_SERVICE_NAME: &str = "com.docker.swarm.service.name";
/// `<service>.<slot>.<task>`; a global service has the node's id instead of a slot.
const SWARM_TASK_NAME: &str = "com.docker.swarm.task.name";
pub const PROJECT: &str = "cofferdam.project";
pub const SERVICE: &str = "cofferdam.service";

impl fmt::Debug for Container {
    /// The environment may hold passwords: of its variables only the names are printed, and no labels.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Container")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("image", &self.image)
            .field("state", &self.state)
            .field("health", &self.health)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}

/// The project that labels speak of: see [`Container::project`].
pub(super) fn project_of(labels: &BTreeMap<String, String>) -> &str {
    labels
        .get(PROJECT)
        .or_else(|| labels.get(COMPOSE_PROJECT))
        .or_else(|| labels.get(STACK_NAMESPACE))
        .map_or("default", String::as_str)
}

/// Which of a swarm service's tasks a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replica {
    /// Of a replicated service, from 1.
    Slot(u32),
    /// Of a global service: the one of its node.
    OfNode,
}

impl Container {
    /// The project this container belongs to: compose's, a swarm's stack, or the label of ours, or `default`.
    pub fn project(&self) -> &str {
        project_of(&self.labels)
    }

    /// Whether compose or a stack made it, or a label of ours says to which project it belongs.
    pub fn has_project(&self) -> bool {
        [PROJECT, COMPOSE_PROJECT, STACK_NAMESPACE]
            .iter()
            .any(|label| self.labels.contains_key(*label))
    }

    /// The compose service, or what the label of ours says, or the swarm's service, or the container's name.
    pub fn service(&self) -> &str {
        self.labels
            .get(COMPOSE_SERVICE)
            .or_else(|| self.labels.get(SERVICE))
            .map(String::as_str)
            .or_else(|| self.stack_service())
            .unwrap_or(&self.name)
    }

    /// The name of the swarm's service as the stack file has it.
    fn stack_service(&self) -> Option<&str> {
        let service = self.labels.get(SWARM_SERVICE_NAME)?;
        let stack = self.labels.get(STACK_NAMESPACE);
        let short = stack.and_then(|stack| service.strip_prefix(stack.as_str())?.strip_prefix('_'));
        Some(short.unwrap_or(service))
    }

    /// The id of the swarm's service that this container is a task of.
    pub fn swarm_service(&self) -> Option<&str> {
        self.labels.get(SWARM_SERVICE_ID).map(String::as_str)
    }

    pub fn replica(&self) -> Option<Replica> {
        let task = self.labels.get(SWARM_TASK_NAME)?;
        let service = self.labels.get(SWARM_SERVICE_NAME)?;
        let (replica, _) = task
            .strip_prefix(service.as_str())?
            .strip_prefix('.')?
            .split_once('.')?;
        Some(replica.parse().map_or(Replica::OfNode, Replica::Slot))
    }

    /// A swarm never starts a task again: its container has done its work, and another one has taken its place.
    pub fn is_ended_task(&self) -> bool {
        self.swarm_service().is_some()
            && matches!(self.state, State::Exited | State::Dead | State::Removing)
    }

    /// Made by `docker compose run`: a command of the user's, not a part of the stack.
    pub fn is_one_off(&self) -> bool {
        self.labels
            .get(COMPOSE_ONEOFF)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub fn depends_on(&self) -> Vec<Dependency> {
        let Some(text) = self.labels.get(COMPOSE_DEPENDS_ON) else {
            return Vec::new();
        };
        text.split(',')
            .filter_map(|entry| {
                let mut parts = entry.split(':');
                let service = parts.next()?.trim();
                (!service.is_empty()).then(|| Dependency {
                    service: service.to_owned(),
                    condition: parts.next().unwrap_or_default().to_owned(),
                })
            })
            .collect()
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Whether it runs, or the engine is about to start it again.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Restarting)
    }

    /// Whether its programs run, are frozen, or are about to be started again.
    pub fn is_alive(&self) -> bool {
        self.is_up() || self.state == State::Paused
    }

    /// Whether it lives in a namespace of the other's: it starts after it, and when the other stops, it is cut off or ended.
    pub fn lives_in(&self, other: &Self) -> bool {
        let mut named = self.namespaces_of.iter();
        named.any(|named| *named == other.id || *named == other.name)
    }

    /// The mount that holds `path`, the innermost one when several do.
    pub fn mount_of(&self, path: &str) -> Option<&Mount> {
        self.mounts
            .iter()
            .filter(|mount| is_within(path, &mount.destination))
            .max_by_key(|mount| mount.destination.len())
    }

    /// Where `path` lies, the same for every container that sees it; in no mount, in this container's own layer.
    pub fn place_of(&self, path: &str) -> String {
        match self.mount_of(path) {
            None => format!("container:{}{path}", self.id),
            Some(mount) => {
                let root = mount.destination.trim_end_matches('/');
                let below = path.strip_prefix(root).unwrap_or_default();
                format!("{}{below}", mount.root())
            }
        }
    }

    /// Whether the tree at `path` has the place in it. What is mounted over a part of a tree hides that part.
    pub fn holds(&self, path: &str, place: &str) -> bool {
        let root = self.place_of(path);
        if !is_within(place, &root) {
            return false;
        }
        let below = &place[root.trim_end_matches('/').len()..];
        let inner = format!("{}{below}", path.trim_end_matches('/'));
        let mounted_at = |path: &str| self.mount_of(path).map(|mount| &mount.destination);
        mounted_at(&inner) == mounted_at(path) && !self.is_on_tmpfs(&inner)
    }

    /// Whether it sees the place, what lies around it, or what lies in it.
    pub fn reaches(&self, place: &str) -> bool {
        let mut mounts = self.mounts.iter().map(Mount::root);
        place.starts_with(&format!("container:{}/", self.id))
            || mounts.any(|root| overlap(place, &root))
    }

    /// Whether its programs can write to the place, or to something in it.
    pub fn can_write_to(&self, place: &str) -> bool {
        let mut writable = self.mounts.iter().filter(|mount| mount.writable);
        place.starts_with(&format!("container:{}/", self.id))
            || writable.any(|mount| overlap(place, &mount.root()))
    }

    /// Whether the archive API cannot see `path`, because a tmpfs is mounted over it.
    pub fn is_on_tmpfs(&self, path: &str) -> bool {
        self.tmpfs.iter().any(|tmpfs| is_within(path, tmpfs))
            || self
                .mount_of(path)
                .is_some_and(|mount| mount.kind == MountKind::Tmpfs)
    }
}

impl Mount {
    /// What is mounted, on the engine's host; where it does not tell that, by the volume's name. The place of its destination
    /// ([`Container::place_of`]).
    pub fn root(&self) -> String {
        match (self.on_the_host(), &self.volume) {
            (Some(path), _) => path,
            (None, Some(volume)) => format!("volume:{volume}"),
            (None, None) => self.source.clone(),
        }
    }

    /// What is mounted, as a path on the engine's host; `None` where that has no path there.
    pub fn on_the_host(&self) -> Option<String> {
        let source = self.source.strip_suffix('/').unwrap_or(&self.source);
        match &self.subpath {
            _ if !source.starts_with('/') => None,
            Some(subpath) => Some(format!("{source}/{}", subpath.trim_matches('/'))),
            None => Some(source.to_owned()),
        }
    }

    /// A volume that nobody named.
    pub fn is_anonymous(&self) -> bool {
        self.volume.as_deref().is_some_and(is_anonymous)
    }
}

/// The engine names anonymous volumes by 64 hexadecimal digits.
pub fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `path` is `parent` or lies below it; both absolute, in the container's terms.
pub fn is_within(path: &str, parent: &str) -> bool {
    let parent = parent.trim_end_matches('/');
    match path.strip_prefix(parent) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Whether one of two places lies in the other.
pub fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

#[cfg(test)]
pub mod tests_support {
    use super::*;

    /// A running container with nothing special about it, for tests of pure code.
    pub fn container(name: &str) -> Container {
        Container {
            id: format!("{name}-id"),
            name: name.to_owned(),
            image: "image".to_owned(),
            image_id: "sha256:0".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            state: State::Running,
            health: Health::None,
            started_at: String::new(),
            exit: None,
            labels: BTreeMap::new(),
            agent_image: None,
            env: BTreeMap::new(),
            user: String::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            read_only_root: false,
            network_of: None,
            namespaces_of: Vec::new(),
            stop_timeout: Duration::ZERO,
            auto_remove: false,
        }
    }

    /// A writable one, of nothing in particular.
    pub fn mount(kind: MountKind, destination: &str) -> Mount {
        Mount {
            kind,
            volume: None,
            source: String::new(),
            subpath: None,
            destination: destination.to_owned(),
            writable: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::mount;
    use super::*;

    fn container() -> Container {
        Container {
            env: BTreeMap::from([("POSTGRES_PASSWORD".to_owned(), "hunter2".to_owned())]),
            mounts: vec![
                mount(MountKind::Volume, "/data"),
                mount(MountKind::Tmpfs, "/data/cache"),
                mount(MountKind::Bind, "/database"),
            ],
            tmpfs: vec!["/run".to_owned()],
            ..tests_support::container("db")
        }
    }

    #[test]
    fn a_container_never_prints_its_environment() {
        let printed = format!("{:?}", container());
        assert!(printed.contains("POSTGRES_PASSWORD") && !printed.contains("hunter2"));
    }

    #[test]
    fn the_innermost_mount_holds_a_path() {
        let container = container();
        let mount_of = |path| {
            container
                .mount_of(path)
                .map(|mount| mount.destination.as_str())
        };
        assert_eq!(mount_of("/data/a"), Some("/data"));
        assert_eq!(mount_of("/data/cache/a"), Some("/data/cache"));
        assert_eq!(mount_of("/database"), Some("/database"));
        assert_eq!(mount_of("/dat"), None);
        for (path, expected) in [
            ("/data/cache/a", true),
            ("/run/x", true),
            ("/runner", false),
            ("/data", false),
        ] {
            assert_eq!(container.is_on_tmpfs(path), expected, "{path}");
        }
    }

    #[test]
    fn a_tree_holds_what_no_other_mount_hides() {
        let mut container = container();
        for (mount, source) in container
            .mounts
            .iter_mut()
            .zip(["/v/data", "", "/host/db/"])
        {
            source.clone_into(&mut mount.source);
        }
        for (path, place, expected) in [
            ("/data", "/v/data", true),
            ("/data", "/v/data/a/b", true),
            ("/data/", "/v/data/a", true),
            ("/data", "/v/database", false),
            ("/data", "/v", false),
            ("/data/a", "/v/data", false),
            ("/data", "/v/data/cache/x", false),
            ("/database", "/host/db/x", true),
            ("/", "/v/data", false),
        ] {
            assert_eq!(container.holds(path, place), expected, "{path} {place}");
        }
    }

    #[test]
    fn a_task_of_a_swarm_belongs_to_its_stack() {
        let task = |name: &str| {
            let mut container = container();
            for (key, value) in [
                (STACK_NAMESPACE, "shop"),
                (SWARM_SERVICE_ID, "s1"),
                (SWARM_SERVICE_NAME, "shop_web"),
                (SWARM_TASK_NAME, name),
            ] {
                container.labels.insert(key.to_owned(), value.to_owned());
            }
            container
        };
        let second = task("shop_web.2.o0vz7u3mkr6yg6c5g8fdzqkbq");
        assert_eq!((second.project(), second.service()), ("shop", "web"));
        assert_eq!(second.replica(), Some(Replica::Slot(2)));
        let global = task("shop_web.k2uyxf9q3mvxpdhrl2rn9hq7d.o0vz7u3mkr6yg6c5g8fdzqkbq");
        assert_eq!(global.replica(), Some(Replica::OfNode));
        let mut alone = task("shop_web.1.o0vz7u3mkr6yg6c5g8fdzqkbq");
        alone.labels.remove(STACK_NAMESPACE);
        assert_eq!((alone.project(), alone.service()), ("default", "shop_web"));
        assert_eq!(container().replica(), None);
    }

    #[test]
    fn dependencies_come_from_the_label_of_compose() {
        let mut container = container();
        assert_eq!(container.depends_on(), []);
        let label = "db:service_healthy:true,vault:service_started:false,".to_owned();
        container
            .labels
            .insert(COMPOSE_DEPENDS_ON.to_owned(), label);
        let dependency = |service: &str, condition: &str| Dependency {
            service: service.to_owned(),
            condition: condition.to_owned(),
        };
        let expected = [
            dependency("db", "service_healthy"),
            dependency("vault", "service_started"),
        ];
        assert_eq!(container.depends_on(), expected);
    }
}
