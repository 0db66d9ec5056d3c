//! Containers of our own: helpers, and the hold journal.
//!
//! They can do no more than they must: a read-only root, no new privileges, no capability but those that are asked for,
//! and no logs, since a log driver makes their output ten times slower. They carry exactly the labels that are asked for:
//! compose must never take them for its own. They are not removed by the engine when they end, because their exit code is
//! still to be read.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, MountVolumeOptions, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptions;

use crate::engine::fault::About;
use crate::engine::{Engine, EngineError, is_engine_name};

/// A container of our own: a helper, or the hold journal.
#[derive(Clone, Debug, Default)]
pub struct HelperSpec {
    /// `None`: the engine makes one up.
    pub name: Option<String>,
    pub image: String,
    /// Entrypoint and arguments.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<HelperMount>,
    /// `none`, `host`, or `container:<id>`.
    pub network: String,
    /// Kept of all capabilities, without `CAP_`: `DAC_OVERRIDE`, …
    pub capabilities: Vec<&'static str>,
    pub processes: Processes,
    pub limits: Limits,
}

/// Which processes a container of ours sees, beside its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    #[default]
    Own,
    OfHost,
    /// With what they have open, whoever runs them.
    OfHostWithFiles,
    /// Those of a container that runs, by its id.
    Of(String),
}

impl Processes {
    fn capability(&self) -> Option<&'static str> {
        (*self == Self::OfHostWithFiles).then_some("SYS_PTRACE")
    }

    /// As the engine has it.
    fn pid_mode(&self) -> Option<String> {
        match self {
            Self::Own => None,
            Self::OfHost | Self::OfHostWithFiles => Some("host".to_owned()),
            Self::Of(container) => Some(format!("container:{container}")),
        }
    }
}

/// What a container of ours may take of its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// For programs that are not ours.
    #[default]
    None,
    /// For an agent, whose memory does not grow with the data.
    Agent,
}

/// Of an agent's own memory, in bytes. What it writes to a file system in memory does not count.
const MOST_MEMORY: i64 = 2 * 1024 * 1024 * 1024;
const MOST_PROCESSES: i64 = 512;

#[derive(Clone, Debug)]
pub struct HelperMount {
    pub source: HelperSource,
    pub destination: String,
    pub read_only: bool,
}

#[derive(Clone, Debug)]
pub enum HelperSource {
    /// A volume by its engine name. Never filled from the image.
    Volume(String),
    /// A directory of a volume, as a container that has only this mounted sees it.
    Subpath { volume: String, subpath: String },
    /// A path on the engine's host. The mounts below it come along when it is only read, so that they can be told from
    /// directories; what is written to must not be mistaken for them, so there they stay away.
    Path(String),
}

impl Engine {
    /// Creates a container of ours, and does not start it: read-only root, no new privileges, all capabilities dropped but
    /// those named, log driver `none`, never restarted, run by root. Returns its id.
    ///
    /// [`EngineError::NameTaken`] when the name is in use; [`EngineError::NoSuchVolume`] when a volume is missing, which
    /// the engine would silently make anew, empty.
    pub async fn create_helper(&self, spec: &HelperSpec) -> Result<String, EngineError> {
        for mount in &spec.mounts {
            if let HelperSource::Volume(volume) | HelperSource::Subpath { volume, .. } =
                &mount.source
            {
                self.ensure_volume_exists(volume).await?;
            }
        }
        let name = spec.name.as_deref();
        let about = match name {
            Some(name) if !is_engine_name(name) => {
                return Err(EngineError::Api {
                    action: format!("create a container named {name:?}"),
                    status: None,
                    message: "a name consists of letters, digits, `_`, `.` and `-`".to_owned(),
                });
            }
            Some(name) => About::NewName(name),
            None => About::Engine,
        };
        let options = CreateContainerOptions {
            name: spec.name.clone(),
            ..CreateContainerOptions::default()
        };
        let users = match spec.shares_namespaces() && self.remaps_users().await {
            true => Users::OfTheHost,
            false => Users::AsOthers,
        };
        let created = self
            .patient
            .create_container(Some(options), body(spec, users));
        created.await.map(|created| created.id).map_err(|error| {
            let action = match name {
                Some(name) => format!("create the container {name}"),
                None => "create a helper container".to_owned(),
            };
            self.fault(error, about, action)
        })
    }
}

impl HelperSpec {
    /// Namespaces of the host's, or of another container's, that need not be those of the users that it would be given.
    fn shares_namespaces(&self) -> bool {
        self.processes != Processes::Own || self.network != "none"
    }
}

/// Whose user ids a container has on an engine that remaps them. What shares a namespace that does not belong to its own users
/// cannot be started there; and the owners of files are then those that the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    AsOthers,
    OfTheHost,
}

fn body(spec: &HelperSpec, users: Users) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(spec.argv.clone()),
        cmd: Some(Vec::new()),
        env: Some(
            spec.env
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        host_config: Some(HostConfig {
            userns_mode: (users == Users::OfTheHost).then(|| "host".to_owned()),
            ..host_config(spec)
        }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &HelperSpec) -> HostConfig {
    HostConfig {
        readonly_rootfs: Some(true),
        security_opt: Some(security_options(spec)),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(
            spec.capabilities
                .iter()
                .copied()
                .chain(spec.processes.capability())
                .map(str::to_owned)
                .collect(),
        ),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        ulimits: (spec.limits == Limits::Agent).then(|| {
            vec![ResourcesUlimits {
                name: Some("data".to_owned()),
                soft: Some(MOST_MEMORY),
                hard: Some(MOST_MEMORY),
            }]
        }),
        pids_limit: (spec.limits == Limits::Agent).then_some(MOST_PROCESSES),
        network_mode: Some(spec.network.clone()),
        pid_mode: spec.processes.pid_mode(),
        mounts: Some(spec.mounts.iter().map(mount).collect()),
        ..HostConfig::default()
    }
}

fn security_options(spec: &HelperSpec) -> Vec<String> {
    let always = [
        "no-new-privileges",
        // Where SELinux rules, a volume carries the labels of the container that uses it, and the helper must read it.
        "label=disable",
    ];
    // The engine's usual profile lets a container look into its like only.
    let looks = spec.processes == Processes::OfHostWithFiles;
    let looks = looks.then_some("apparmor=unconfined");
    always.into_iter().chain(looks).map(str::to_owned).collect()
}

fn mount(mount: &HelperMount) -> Mount {
    let common = Mount {
        target: Some(mount.destination.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    };
    let of_volume = |volume: &str, subpath: Option<&String>| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            subpath: subpath.cloned(),
            ..MountVolumeOptions::default()
        }),
        ..common.clone()
    };
    match &mount.source {
        HelperSource::Volume(volume) => of_volume(volume, None),
        HelperSource::Subpath { volume, subpath } => of_volume(volume, Some(subpath)),
        HelperSource::Path(path) => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.clone()),
            bind_options: Some(MountBindOptions {
                propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                non_recursive: Some(!mount.read_only),
                ..MountBindOptions::default()
            }),
            ..common
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine refuses the host's network or processes to users that are not the host's.
    #[test]
    fn what_shares_namespaces_has_the_hosts_users_where_users_are_remapped() {
        let spec = |network: &str, processes| HelperSpec {
            network: network.to_owned(),
            processes,
            ..HelperSpec::default()
        };
        for (spec, expected) in [
            (spec("host", Processes::Own), true),
            (spec("container:3f4b", Processes::Own), true),
            (spec("none", Processes::OfHost), true),
            // A target's image with a target's data sees what the target sees.
            (spec("none", Processes::Own), false),
        ] {
            assert_eq!(spec.shares_namespaces(), expected, "{spec:?}");
        }
        let mode = |users| {
            let host = body(&spec("host", Processes::Own), users).host_config;
            host.and_then(|host| host.userns_mode)
        };
        assert_eq!(mode(Users::OfTheHost).as_deref(), Some("host"));
        assert_eq!(mode(Users::AsOthers), None);
    }
}
