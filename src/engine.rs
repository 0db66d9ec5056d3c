//! The Docker Engine, as far as Cofferdam needs it. Only the files under `engine/` name bollard.
//!
//! - `connect`: endpoint, version negotiation, time-outs
//! - `container`: what is known of a container, read from inspect
//! - `exec`: commands inside containers, whose end is trusted only when the engine knows an exit code
//! - `archive`: "docker cp", out of and into containers
//! - `lifecycle`: stop, start, pause, health, creation and removal
//! - `image`: the image that helpers and the hold journal are made of

pub mod archive;
pub mod connect;
pub mod container;
pub mod exec;
pub mod image;
pub mod lifecycle;

pub use container::{Container, Dependency, Health, Mount, MountKind, State};
pub use exec::{ExecOutput, ExecSpec};
pub use lifecycle::{HelperMount, HelperSpec};

use std::time::Duration;

/// A connection to one engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(in crate::engine) client: bollard::Docker,
    /// The same connection with a time-out that fits uploads whose answer comes only after hours.
    pub(in crate::engine) patient: bollard::Docker,
    /// Where the engine is: whether helpers can reach us over loopback depends on it.
    pub(in crate::engine) endpoint: connect::Endpoint,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("cannot reach the Docker Engine at {endpoint}: {message}; {hint}")]
    Unreachable {
        endpoint: String,
        message: String,
        hint: String,
    },
    /// The engine, or a proxy before it, refuses this call.
    #[error("the Docker Engine does not allow to {action}: {message}")]
    Forbidden { action: String, message: String },
    #[error("there is no container {0} (any more)")]
    NoSuchContainer(String),
    #[error("{path} does not exist in container {container}")]
    NoSuchPath { container: String, path: String },
    #[error("the Docker Engine failed to {action}: {message}")]
    Api {
        action: String,
        status: Option<u16>,
        message: String,
    },
    #[error("name {0} is in use already")]
    NameTaken(String),
    /// The command could not be started: exit code 126 or 127 with the runtime's words.
    #[error("{program} cannot be run in container {container}: {message}")]
    CannotRun {
        container: String,
        program: String,
        message: String,
    },
    /// The stream ended, and the engine does not say that the process did.
    #[error("the stream of {program} in container {container} was cut: {message}")]
    Cut {
        container: String,
        program: String,
        message: String,
    },
    #[error("{program} in container {container} did not end within {limit:?}")]
    TimedOut {
        container: String,
        program: String,
        limit: Duration,
    },
    #[error("container {container} did not become {wanted} within {limit:?}: {last}")]
    NotReady {
        container: String,
        wanted: &'static str,
        limit: Duration,
        last: String,
    },
}
