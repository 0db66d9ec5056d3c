//! Reads containers, their processes and volumes from the engine.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::models::{HostConfig, MountPoint, MountType};
use bollard::query_parameters::{ListContainersOptions, TopOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::fault::About;
use super::turns::CALL;
use super::{
    Container, Engine, EngineError, Exit, Health, Mount, MountKind, State, container_name,
    is_engine_name,
};

/// How many containers are inspected at the same time.
const INSPECTIONS: usize = 8;

/// A process of a container, as the engine's host sees it.
pub(super) struct Process {
    pub(super) pid: i64,
    /// The short name, without arguments.
    pub(super) name: String,
    /// Ended, and not yet waited for by its parent.
    pub(super) defunct: bool,
}

/// What is known of a volume.
#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    /// `None` where the engine does not tell. Older engines tell when something was last made or removed at its root.
    pub created: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    /// A file system that begins with the first container that uses it, and goes with the last.
    pub is_in_memory: bool,
    /// The directory of the host that it is, as with `o: bind`.
    pub bound: Option<String>,
}

impl Engine {
    /// Every container that matches all of `labels` (`key` or `key=value`), running or not, inspected. One that vanishes
    /// between listing and inspection is left out.
    pub async fn containers(&self, labels: &[String]) -> Result<Vec<Container>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels.to_vec())])),
            ..ListContainersOptions::default()
        };
        let listed = self
            .client
            .list_containers(Some(options))
            .await
            .map_err(|error| self.fault(error, About::Engine, "list containers"))?;
        let ids = listed.into_iter().filter_map(|container| container.id);
        let found: Vec<Option<Container>> = stream::iter(ids)
            .map(|id| async move { present(self.inspect(&id).await) })
            .buffered(INSPECTIONS)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    pub async fn inspect(&self, container: &str) -> Result<Container, EngineError> {
        let raw = self.inspect_raw(container).await?;
        let mut container = read(raw).map_err(|message| EngineError::Api {
            action: format!("describe container {container}"),
            status: None,
            message,
        })?;
        let owners = container.network_of.iter_mut();
        for owner in owners.chain(&mut container.namespaces_of) {
            *owner = self.id_of(std::mem::take(owner)).await?;
        }
        container.agent_image = self.look_at_image(&container).await;
        Ok(container)
    }

    pub(super) async fn inspect_raw(
        &self,
        container: &str,
    ) -> Result<ContainerInspectResponse, EngineError> {
        let inspected = self
            .patient
            .inspect_container(container_name(container)?, None);
        self.call(container, CALL, inspected)
            .await
            .map_err(|error| {
                let action = format!("inspect container {container}");
                self.fault(error, About::Container(container), action)
            })
    }

    /// The engine keeps what the user wrote in `--network container:…`: a name, an id, or its first digits. A container that is
    /// gone stays as it was written.
    pub(super) async fn id_of(&self, name: String) -> Result<String, EngineError> {
        if name.len() == 64 {
            return Ok(name);
        }
        let named = match self.inspect_raw(&name).await {
            Err(EngineError::NoSuchContainer(_)) => None,
            other => other?.id,
        };
        Ok(named.unwrap_or(name))
    }

    /// Names (`comm`) of the processes of a running container.
    pub async fn process_names(&self, container: &str) -> Result<Vec<String>, EngineError> {
        let processes = self.processes(container).await?;
        Ok(processes.into_iter().map(|process| process.name).collect())
    }

    pub(super) async fn processes(&self, container: &str) -> Result<Vec<Process>, EngineError> {
        let container = container_name(container)?;
        // Engines that list processes without `ps` (podman) do not know its arguments.
        let short = match self.top(container, "-eo pid,stat,comm").await {
            Err(EngineError::Api { .. }) => None,
            other => read_processes(&other?),
        };
        if let Some(processes) = short {
            return Ok(processes);
        }
        let table = self.top(container, "-ef").await?;
        read_processes(&table).ok_or_else(|| EngineError::Api {
            action: format!("list the processes of container {container}"),
            status: None,
            message: format!("there is no process table in {:?}", table.titles),
        })
    }

    /// The command lines of the processes of a running container. They may hold secrets: look, and keep none.
    pub async fn command_lines(&self, container: &str) -> Result<Vec<String>, EngineError> {
        let table = self.top(container_name(container)?, "-ef").await?;
        let line = |mut row: Vec<String>| row.pop();
        Ok(table.rows.into_iter().filter_map(line).collect())
    }

    async fn top(&self, container: &str, arguments: &str) -> Result<Table, EngineError> {
        let options = TopOptions {
            ps_args: arguments.to_owned(),
        };
        let listed = self.patient.top_processes(container, Some(options));
        let answer = self.call(container, CALL, listed).await.map_err(|error| {
            let action = format!("list the processes of container {container}");
            self.fault(error, About::Container(container), action)
        })?;
        Ok(Table {
            titles: answer.titles.unwrap_or_default(),
            rows: answer.processes.unwrap_or_default(),
        })
    }

    /// `None` when the engine does not know it.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        if !is_engine_name(name) {
            return Ok(None);
        }
        let action = format!("inspect volume {name}");
        match self.client.inspect_volume(name).await {
            Ok(found) => Ok(Some(found.into())),
            Err(error) => match self.fault(error, About::Volume(name), action) {
                EngineError::NoSuchVolume(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    pub(super) async fn ensure_volume_exists(&self, volume: &str) -> Result<(), EngineError> {
        if !is_engine_name(volume) {
            return Err(EngineError::NoSuchVolume(volume.to_owned()));
        }
        let found = self.client.inspect_volume(volume).await;
        found.map(drop).map_err(|error| {
            let action = format!("inspect volume {volume}");
            self.fault(error, About::Volume(volume), action)
        })
    }
}

fn present(inspected: Result<Container, EngineError>) -> Result<Option<Container>, EngineError> {
    match inspected {
        Err(EngineError::NoSuchContainer(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// What `top` answers.
struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// `None` when the table has no column for the process id or none for its command.
fn read_processes(table: &Table) -> Option<Vec<Process>> {
    let column = |names: &[&str]| {
        table
            .titles
            .iter()
            .position(|title| names.contains(&title.to_ascii_uppercase().as_str()))
    };
    let pid = column(&["PID"])?;
    let command = column(&["COMMAND", "CMD", "COMM"])?;
    let stat = column(&["STAT", "S"]);
    let read = |row: &Vec<String>| {
        let command = row.get(command)?;
        Some(Process {
            pid: row.get(pid)?.trim().parse().ok()?,
            name: short_name(command),
            defunct: command.ends_with("<defunct>")
                || stat
                    .and_then(|at| row.get(at))
                    .is_some_and(|stat| stat.starts_with('Z')),
        })
    };
    Some(table.rows.iter().filter_map(read).collect())
}

/// `/usr/lib/postgresql/15/bin/postgres -D …` and `postgres: checkpointer` are both `postgres`.
fn short_name(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(':').to_owned()
}

/// The error names what is missing.
fn read(raw: ContainerInspectResponse) -> Result<Container, String> {
    let state = raw.state.unwrap_or_default();
    let config = raw.config.unwrap_or_default();
    let host = raw.host_config.unwrap_or_default();
    let created = raw.created.unwrap_or_default();
    let status = state.status.and_then(read_state).ok_or("it has no state")?;
    Ok(Container {
        id: raw.id.ok_or("it has no id")?,
        name: raw
            .name
            .ok_or("it has no name")?
            .trim_start_matches('/')
            .to_owned(),
        image: config.image.unwrap_or_default(),
        image_id: raw.image.unwrap_or_default(),
        created: created
            .parse::<Timestamp>()
            .map_err(|error| format!("its creation time {created:?}: {error}"))?,
        state: status,
        exit: read_exit(status, state.exit_code, state.finished_at.as_deref()),
        health: read_health(state.health.and_then(|health| health.status)),
        started_at: state.started_at.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        agent_image: None,
        env: read_env(config.env.unwrap_or_default()),
        user: config.user.unwrap_or_default(),
        tmpfs: read_tmpfs(&host),
        namespaces_of: read_namespaces(&host),
        mounts: raw
            .mounts
            .unwrap_or_default()
            .into_iter()
            .map(|mount| read_mount(mount, &host))
            .collect(),
        read_only_root: host.readonly_rootfs.unwrap_or_default(),
        network_of: host
            .network_mode
            .and_then(|mode| Some(mode.strip_prefix("container:")?.to_owned())),
        stop_timeout: read_stop_timeout(config.stop_timeout),
        auto_remove: host.auto_remove.unwrap_or_default(),
    })
}

/// Docker's own is ten seconds; less than nothing means for ever.
fn read_stop_timeout(seconds: Option<i64>) -> Duration {
    match u64::try_from(seconds.unwrap_or(10)) {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::MAX,
    }
}

fn read_namespaces(host: &HostConfig) -> Vec<String> {
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    let modes = modes.into_iter().flatten();
    modes
        .filter_map(|mode| mode.strip_prefix("container:"))
        .map(str::to_owned)
        .collect()
}

fn read_exit(state: State, code: Option<i64>, at: Option<&str>) -> Option<Exit> {
    let exit = Exit {
        code: code?,
        at: at?.parse().ok()?,
    };
    matches!(state, State::Exited | State::Dead).then_some(exit)
}

fn read_state(status: ContainerStateStatusEnum) -> Option<State> {
    Some(match status {
        ContainerStateStatusEnum::EMPTY => return None,
        ContainerStateStatusEnum::CREATED => State::Created,
        // Podman's word for a container that is being stopped: it runs, still.
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => State::Running,
        ContainerStateStatusEnum::PAUSED => State::Paused,
        ContainerStateStatusEnum::RESTARTING => State::Restarting,
        ContainerStateStatusEnum::REMOVING => State::Removing,
        ContainerStateStatusEnum::EXITED => State::Exited,
        ContainerStateStatusEnum::DEAD => State::Dead,
    })
}

fn read_health(status: Option<HealthStatusEnum>) -> Health {
    match status {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
    }
}

/// A variable without `=` is known by name only, and unset in the container.
fn read_env(env: Vec<String>) -> BTreeMap<String, String> {
    env.iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// `--tmpfs` stands in a field of its own, `--mount type=tmpfs` among the mounts.
fn read_tmpfs(host: &HostConfig) -> Vec<String> {
    let short = host.tmpfs.iter().flatten().map(|(path, _)| path.clone());
    let long = host
        .mounts
        .iter()
        .flatten()
        .filter(|mount| mount.typ == Some(MountType::TMPFS))
        .filter_map(|mount| mount.target.clone());
    let mut paths: Vec<String> = short.chain(long).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The engine tells a subpath only among what was asked for.
fn subpath_of(destination: &str, host: &HostConfig) -> Option<String> {
    let clean = |path: &str| path.trim_end_matches('/').to_owned();
    let asked = host.mounts.iter().flatten().find(|mount| {
        let target = mount.target.as_deref().map(clean);
        target.as_deref() == Some(&clean(destination))
    })?;
    let subpath = asked.volume_options.as_ref()?.subpath.as_ref()?;
    (!subpath.is_empty()).then(|| subpath.clone())
}

fn read_mount(mount: MountPoint, host: &HostConfig) -> Mount {
    let kind = match mount.typ.as_deref() {
        Some("volume") => MountKind::Volume,
        Some("bind") => MountKind::Bind,
        Some("tmpfs") => MountKind::Tmpfs,
        _ => MountKind::Other,
    };
    Mount {
        volume: mount
            .name
            .filter(|name| kind == MountKind::Volume && !name.is_empty()),
        kind,
        source: mount.source.unwrap_or_default(),
        subpath: subpath_of(mount.destination.as_deref().unwrap_or_default(), host),
        destination: mount.destination.unwrap_or_default(),
        writable: mount.rw.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(titles: &[&str], rows: &[&[&str]]) -> Table {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Table {
            titles: strings(titles),
            rows: rows.iter().map(|row| strings(row)).collect(),
        }
    }

    fn names(table: &Table) -> Option<Vec<(i64, String, bool)>> {
        let processes = read_processes(table)?;
        Some(
            processes
                .into_iter()
                .map(|process| (process.pid, process.name, process.defunct))
                .collect(),
        )
    }

    #[test]
    fn processes_are_read_from_whatever_columns_there_are() {
        let short = table(
            &["PID", "STAT", "COMMAND"],
            &[&["7", "Ssl", "postgres"], &["8", "Z", "sh <defunct>"]],
        );
        let expected = vec![
            (7, "postgres".to_owned(), false),
            (8, "sh".to_owned(), true),
        ];
        assert_eq!(names(&short), Some(expected));

        let full = table(
            &["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"],
            &[
                &[
                    "999",
                    "7",
                    "1",
                    "0",
                    "04:53",
                    "?",
                    "00:00:00",
                    "/usr/bin/mysqld --user=mysql",
                ],
                &[
                    "999",
                    "9",
                    "1",
                    "0",
                    "04:53",
                    "?",
                    "00:00:00",
                    "postgres: walwriter",
                ],
            ],
        );
        let expected = vec![
            (7, "mysqld".to_owned(), false),
            (9, "postgres".to_owned(), false),
        ];
        assert_eq!(names(&full), Some(expected));

        assert_eq!(names(&table(&["USER", "TIME"], &[])), None);
    }

    #[test]
    fn the_environment_keeps_equals_signs_in_values() {
        let env = read_env(vec!["A=b=c".into(), "EMPTY=".into(), "UNSET".into()]);
        let expected = [("A", "b=c"), ("EMPTY", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(env, BTreeMap::from(expected));
    }

    #[test]
    fn an_answer_without_an_id_or_state_is_refused() {
        assert!(read(ContainerInspectResponse::default()).is_err());
    }
}
