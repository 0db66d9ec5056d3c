//! A container made like another one: to start its program once more, on other data and out of everybody's reach.

use std::collections::BTreeMap;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountPoint, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptions, LogsOptions};
use futures_util::StreamExt;

use crate::engine::fault::About;
use crate::engine::{Engine, EngineError, container_name};
use crate::secret::Redactor;

/// How much of what a container said last is repeated, in lines and bytes.
const LAST_LINES: &str = "20";
const LAST_WORDS: usize = 4096;

/// What a twin gets to see in place of what its model has there.
#[derive(Clone, Debug)]
pub struct Substitute {
    /// A directory on the engine's host.
    pub source: String,
    /// In the container.
    pub destination: String,
}

impl Engine {
    /// Creates, and does not start, a container of this name with the program, the environment, the host name and the mounts of
    /// `model`, but with `instead` at its destination, without a network, under these labels only, and never restarted.
    /// Returns its id.
    pub async fn create_twin(
        &self,
        model: &str,
        name: &str,
        instead: &Substitute,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let model = self.inspect_raw(model).await?;
        let body = body(model, instead, labels);
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        let created = self.client.create_container(Some(options), body).await;
        created.map(|created| created.id).map_err(|error| {
            self.fault(
                error,
                About::Engine,
                "create a container for a trial of the restored data",
            )
        })
    }

    /// The last lines that a container printed, without the secrets; empty where its log driver keeps none.
    pub async fn last_words(
        &self,
        container: &str,
        redactor: &Redactor,
    ) -> Result<String, EngineError> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: LAST_LINES.to_owned(),
            ..LogsOptions::default()
        };
        let mut logs = self.client.logs(container_name(container)?, Some(options));
        let mut words = Vec::new();
        while let Some(Ok(line)) = logs.next().await {
            words.extend_from_slice(&LogOutput::into_bytes(line));
        }
        // A secret may have lines, and the first of these be one of its last.
        let words = redactor.tail(&words, true);
        Ok(redactor.last_words(&words, LAST_WORDS))
    }
}

fn body(
    model: ContainerInspectResponse,
    instead: &Substitute,
    labels: &BTreeMap<String, String>,
) -> ContainerCreateBody {
    let config = model.config.unwrap_or_default();
    let host = model.host_config.unwrap_or_default();
    let mounts = model.mounts.unwrap_or_default();
    let ContainerConfig {
        hostname,
        domainname,
        user,
        env,
        cmd,
        entrypoint,
        working_dir,
        stop_signal,
        stop_timeout,
        ..
    } = config;
    ContainerCreateBody {
        hostname,
        domainname,
        user,
        env,
        cmd,
        entrypoint,
        working_dir,
        stop_signal,
        stop_timeout,
        image: model.image,
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        labels: Some(labels.clone().into_iter().collect()),
        host_config: Some(host_config(host, &mounts, instead)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(model: HostConfig, mounted: &[MountPoint], instead: &Substitute) -> HostConfig {
    let tmpfs = |mount: &Mount| mount.typ == Some(MountType::TMPFS);
    let in_memory = model.mounts.into_iter().flatten().filter(tmpfs);
    let others = mounted
        .iter()
        .filter(|mount| mount.destination.as_ref() != Some(&instead.destination))
        .filter_map(same_mount);
    let mounts = in_memory.chain(others).chain([bind(instead)]).collect();
    HostConfig {
        binds: None,
        mounts: Some(mounts),
        volumes_from: None,
        network_mode: Some("none".to_owned()),
        port_bindings: None,
        publish_all_ports: Some(false),
        links: None,
        container_id_file: None,
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        // What it says is read when it fails.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: None,
        }),
        ..model
    }
}

/// Without options: which propagation the engine accepts depends on whether the source lies in its own directory.
fn bind(substitute: &Substitute) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(substitute.source.clone()),
        target: Some(substitute.destination.clone()),
        read_only: Some(false),
        ..Mount::default()
    }
}

/// `None` for what stands elsewhere in a host's configuration (a tmpfs).
fn same_mount(mounted: &MountPoint) -> Option<Mount> {
    let (typ, source) = match mounted.typ.as_deref() {
        Some("volume") => (MountType::VOLUME, mounted.name.clone()),
        Some("bind") => (MountType::BIND, mounted.source.clone()),
        _ => return None,
    };
    Some(Mount {
        typ: Some(typ),
        source,
        target: mounted.destination.clone(),
        read_only: mounted.rw.map(|writable| !writable),
        ..Mount::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(kind: &str, name: &str, destination: &str, writable: bool) -> MountPoint {
        MountPoint {
            typ: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            source: Some(format!("/host/{name}")),
            destination: Some(destination.to_owned()),
            rw: Some(writable),
            ..MountPoint::default()
        }
    }

    #[test]
    fn a_twin_differs_in_one_mount_and_in_whom_it_reaches() {
        let model = ContainerInspectResponse {
            image: Some("sha256:0".to_owned()),
            config: Some(ContainerConfig {
                hostname: Some("couch".to_owned()),
                cmd: Some(vec!["couchdb".to_owned()]),
                labels: Some([("com.docker.compose.project".to_owned(), "x".to_owned())].into()),
                ..ContainerConfig::default()
            }),
            host_config: Some(HostConfig {
                binds: Some(vec!["data:/data".to_owned()]),
                network_mode: Some("x_default".to_owned()),
                memory: Some(1 << 30),
                ..HostConfig::default()
            }),
            mounts: Some(vec![
                mounted("volume", "data", "/data", true),
                mounted("bind", "local.ini", "/etc/local.ini", false),
                mounted("tmpfs", "", "/run", true),
            ]),
            ..ContainerInspectResponse::default()
        };
        let instead = Substitute {
            source: "/volumes/data/new".to_owned(),
            destination: "/data".to_owned(),
        };
        let labels = BTreeMap::from([("cofferdam.helper".to_owned(), "run".to_owned())]);
        let twin = body(model, &instead, &labels);

        assert_eq!(twin.image.as_deref(), Some("sha256:0"));
        assert_eq!(twin.hostname.as_deref(), Some("couch"));
        assert_eq!(twin.cmd, Some(vec!["couchdb".to_owned()]));
        assert_eq!(twin.labels.unwrap().len(), 1);
        let host = twin.host_config.unwrap();
        assert_eq!(host.memory, Some(1 << 30));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.binds, None);
        let mounts: Vec<_> = host
            .mounts
            .unwrap()
            .into_iter()
            .map(|mount| {
                (
                    mount.target.unwrap(),
                    mount.source.unwrap(),
                    mount.read_only,
                )
            })
            .collect();
        let mount = |target: &str, source: &str, read_only| {
            (target.to_owned(), source.to_owned(), Some(read_only))
        };
        assert_eq!(
            mounts,
            [
                mount("/etc/local.ini", "/host/local.ini", true),
                mount("/data", "/volumes/data/new", false),
            ]
        );
    }
}
