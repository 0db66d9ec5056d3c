//! Containers come and go, stop and start. Each call is idempotent where its name allows it, and tells whether it did
//! anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Engine, EngineError};

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
    pub host_pids: bool,
}

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
    /// A path on the engine's host; the mounts below it come along.
    Path(String),
}

impl Engine {
    /// Stops a container. `grace`: what the container is given after its stop signal before it is killed; `None` takes the
    /// container's own (10 s unless set).
    pub async fn stop(
        &self,
        _container: &str,
        _grace: Option<Duration>,
    ) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn start(&self, _container: &str) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn pause(&self, _container: &str) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn unpause(&self, _container: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Waits until a started container is healthy, or, when it has no health check, until it runs.
    /// One that exits with code 0 in the meantime has done its work; any other end is [`EngineError::NotReady`].
    pub async fn wait_ready(&self, _container: &str, _limit: Duration) -> Result<(), EngineError> {
        todo!()
    }

    /// Creates a container of ours: read-only root, no new privileges, all capabilities dropped but those named, log driver
    /// `none`, never restarted. [`EngineError::NameTaken`] when the name is in use.
    pub async fn create_helper(&self, _spec: &HelperSpec) -> Result<String, EngineError> {
        todo!()
    }

    /// Waits for a container's end; its exit code.
    pub async fn wait_exit(&self, _container: &str) -> Result<i64, EngineError> {
        todo!()
    }

    /// Kills and removes a container of ours, with its anonymous volumes. A missing one is no error.
    pub async fn remove(&self, _container: &str) -> Result<(), EngineError> {
        todo!()
    }
}
