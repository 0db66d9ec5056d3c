//! Who holds a project, and whether that process still lives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::alive::{AliveJob, AliveReport};
use crate::engine::ours::{HELPER_LABEL, HELPER_NAME};
use crate::engine::{Engine, EngineError, ExecSpec, HelperSpec, Processes, State};

/// One process, told apart from any later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The container it runs in, if any.
    container: Option<OwnerContainer>,
    host: String,
    /// `/proc/sys/kernel/random/boot_id`: the same in all containers of a host until it restarts.
    boot: String,
    pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    started: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OwnerContainer {
    id: String,
    /// Tells one life of the container from the next.
    started_at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    Alive,
    Dead,
    /// It runs where it cannot be seen from here.
    Unknown,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(container) => write!(
                formatter,
                "process {} in container {}",
                self.pid,
                container.id.get(..12).unwrap_or(&container.id)
            ),
            None => write!(formatter, "process {} on host {}", self.pid, self.host),
        }
    }
}

impl Owner {
    /// This process.
    pub async fn current(engine: &Engine) -> Result<Self, EngineError> {
        let container = engine.own_container().await?.map(|own| OwnerContainer {
            id: own.id,
            started_at: own.started_at,
        });
        let pid = std::process::id();
        Ok(Self {
            container,
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot: boot_id(),
            pid,
            started: crate::agent::alive::start_time(pid).unwrap_or_default(),
        })
    }

    /// Of the container it runs in.
    pub fn container_id(&self) -> Option<&str> {
        self.container
            .as_ref()
            .map(|container| container.id.as_str())
    }

    pub async fn liveness(&self, engine: &Engine, image: &str) -> Result<Liveness, EngineError> {
        match &self.container {
            Some(container) => self.liveness_in_container(engine, container).await,
            None => self.liveness_on_host(engine, image).await,
        }
    }

    async fn liveness_in_container(
        &self,
        engine: &Engine,
        container: &OwnerContainer,
    ) -> Result<Liveness, EngineError> {
        let found = match engine.inspect(&container.id).await {
            Ok(found) => found,
            Err(EngineError::NoSuchContainer(_)) => return Ok(Liveness::Dead),
            Err(error) => return Err(error),
        };
        if found.started_at != container.started_at
            || !matches!(found.state, State::Running | State::Paused)
        {
            return Ok(Liveness::Dead);
        }
        if engine
            .own_container()
            .await?
            .is_some_and(|own| own.id == container.id)
        {
            return Ok(self.seen_in_this_process_namespace());
        }
        let mut spec = ExecSpec::new(["/cofferdam", "agent", "alive"]);
        spec.env = vec![(crate::agent::JOB.to_owned(), self.job())];
        match engine.exec(&container.id, &spec).await {
            Ok(output) => {
                Ok(AliveReport::parse(&output.stdout).map_or(Liveness::Unknown, Liveness::from))
            }
            Err(_) => Ok(Liveness::Unknown),
        }
    }

    async fn liveness_on_host(
        &self,
        engine: &Engine,
        image: &str,
    ) -> Result<Liveness, EngineError> {
        if self.boot != boot_id() {
            let same_host = self.host == rustix::system::uname().nodename().to_string_lossy();
            return Ok(if same_host {
                Liveness::Dead
            } else {
                Liveness::Unknown
            });
        }
        if engine.own_container().await?.is_none() {
            return Ok(self.seen_in_this_process_namespace());
        }
        // We are in a container on the owner's host: only a container that shares the host's processes can see it.
        let created = engine
            .create_helper(&HelperSpec {
                name: Some(format!("{HELPER_NAME}alive-{:08x}", rand::random::<u32>())),
                image: image.to_owned(),
                argv: ["/cofferdam", "agent", "alive"].map(str::to_owned).to_vec(),
                env: vec![(crate::agent::JOB.to_owned(), self.job())],
                labels: [(HELPER_LABEL.to_owned(), "alive".to_owned())].into(),
                network: "none".to_owned(),
                processes: Processes::OfHost,
                ..HelperSpec::default()
            })
            .await;
        let helper = match created {
            Ok(helper) => helper,
            Err(_) => return Ok(Liveness::Unknown),
        };
        let ended = async {
            engine.start(&helper).await?;
            engine.wait_exit(&helper).await
        }
        .await;
        engine.remove(&helper).await?;
        Ok(match ended {
            Ok(crate::agent::alive::EXIT_ALIVE) => Liveness::Alive,
            Ok(crate::agent::alive::EXIT_DEAD) => Liveness::Dead,
            _ => Liveness::Unknown,
        })
    }

    fn seen_in_this_process_namespace(&self) -> Liveness {
        AliveReport::of(&AliveJob {
            pid: self.pid,
            started: self.started,
        })
        .into()
    }

    fn job(&self) -> String {
        AliveJob {
            pid: self.pid,
            started: self.started,
        }
        .to_json()
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            container: None,
            host: "host".to_owned(),
            boot: "boot".to_owned(),
            pid: 1,
            started: 2,
        }
    }
}

impl From<AliveReport> for Liveness {
    fn from(report: AliveReport) -> Self {
        if report.alive {
            Self::Alive
        } else {
            Self::Dead
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_reused_number_is_not() {
        let pid = std::process::id();
        let started = crate::agent::alive::start_time(pid).unwrap();
        let alive = Owner {
            pid,
            started,
            ..Owner::for_tests()
        };
        assert_eq!(alive.seen_in_this_process_namespace(), Liveness::Alive);
        let reused = Owner {
            started: started + 1,
            ..alive
        };
        assert_eq!(reused.seen_in_this_process_namespace(), Liveness::Dead);
    }
}
