//! The Docker Engine, as far as Cofferdam needs it. Only the files under `engine/` name bollard.
//!
//! - `connect`: endpoint, version negotiation, time-outs
//! - `container`: what is known of a container, read from inspect
//! - `events`: what happens to containers
//! - `exec`: commands inside containers, whose end is trusted only when the engine knows an exit code
//! - `archive`: "docker cp", out of and into containers
//! - `lifecycle`: stop, start, pause, health, creation and removal
//! - `swarm`: nodes and services of a Docker Swarm
//! - `image`: the image that helpers and the hold journal are made of
//! - `ours`: how containers of our own are known again
//! - `fault`: the one place where bollard's errors become ours
//! - `body`: streams of requests and answers
//! - `volumes`: volumes that are made to keep a record
//! - `through`: what carries our calls to it
//! - `turns`: waiting for copies, which keep a container locked

#![allow(clippy::disallowed_types, reason = "the one module that names bollard")]

pub(crate) mod archive;
mod body;
pub mod connect;
pub(crate) mod container;
mod events;
pub(crate) mod exec;
mod fault;
pub mod image;
mod inspect;
pub(crate) mod lifecycle;
pub mod ours;
mod own;
pub(crate) mod swarm;
mod through;
mod turns;
mod volumes;

pub use archive::{NewFile, PathKind};
pub use connect::Endpoint;
pub use container::{Container, Exit, Health, Mount, MountKind, State};
pub use events::{ContainerEvent, Happening};
pub use exec::{ExecOutput, ExecSpec};
pub use inspect::Volume;
pub use lifecycle::{HelperMount, HelperSource, HelperSpec, Limits, Processes, Substitute};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

/// A connection to one engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(in crate::engine) client: bollard::Docker,
    /// The same connection with a time-out that fits uploads whose answer comes only after hours.
    pub(in crate::engine) patient: bollard::Docker,
    /// What both of them use, for the one request that bollard cannot make.
    pub(in crate::engine) transport: connect::Transport,
    pub(in crate::engine) turns: turns::Turns,
    /// Whether it gives containers users of their own (`userns-remap`), once it was asked.
    pub(in crate::engine) remaps_users: Arc<OnceCell<bool>>,
    /// Where the engine is: whether helpers can reach us over loopback depends on it.
    pub(in crate::engine) endpoint: connect::Endpoint,
    /// Where managers of its swarm are, as the user has named them.
    pub(in crate::engine) managers: Vec<connect::Endpoint>,
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
    #[error("the Docker Engine does not allow Cofferdam to {action}: {message}")]
    Forbidden { action: String, message: String },
    #[error("container {0} does not exist (any more)")]
    NoSuchContainer(String),
    #[error("volume {0} does not exist (any more)")]
    NoSuchVolume(String),
    #[error("{path} does not exist in container {container}")]
    NoSuchPath { container: String, path: String },
    /// The path is there, and is not what the call needs.
    #[error("{path} in container {container} is {found}, not {wanted}")]
    WrongKind {
        container: String,
        path: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error("no room left in container {container} for {path}: {message}")]
    NoSpace {
        container: String,
        path: String,
        message: String,
    },
    #[error("{path} in container {container} cannot be written: {message}")]
    ReadOnly {
        container: String,
        path: String,
        message: String,
    },
    /// An archive ended early, or is not one.
    #[error("the archive of {path} from container {container} is damaged: {message}")]
    DamagedArchive {
        container: String,
        path: String,
        message: String,
    },
    #[error("the Docker Engine failed to {action}: {message}")]
    Api {
        action: String,
        status: Option<u16>,
        message: String,
    },
    #[error("name {0} is in use already")]
    NameTaken(String),
    /// Stopped or paused: nothing can be run in it.
    #[error("nothing can be run in container {container}: {message}")]
    NotRunning { container: String, message: String },
    /// The command could not be started: exit code 126 or 127 with the runtime's words.
    #[error("{program} cannot be run in container {container}: {message}")]
    CannotRun {
        container: String,
        program: String,
        message: String,
    },
    /// A streamed command ended with another code than 0. `message`: the last words of its standard error.
    #[error("{program} in container {container} ended with exit code {code}: {message}")]
    Exited {
        container: String,
        program: String,
        code: i64,
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
    /// Nobody waits for a command any more, and it could not be ended.
    #[error(
        "{error}; it could not be ended and may still be running: {why}; look for it with docker top {container}"
    )]
    MayStillRun {
        error: Box<EngineError>,
        container: String,
        why: String,
    },
    #[error("{what} has been silent for {limit:?}")]
    Silent { what: String, limit: Duration },
    /// What was to be sent could not be read. The other side may have seen a part of it.
    #[error("what goes to {receiver} could not be read: {source}")]
    Source { receiver: String, source: io::Error },
    /// No manager of the engine's swarm can be asked: why, and what to set.
    #[error("{0}")]
    NoManager(String),
    #[error("the swarm's service {service} did not become {wanted} within {limit:?}: {last}")]
    ServiceNotReady {
        service: String,
        wanted: &'static str,
        limit: Duration,
        last: String,
    },
    #[error("container {container} did not become {wanted} within {limit:?}: {last}")]
    NotReady {
        container: String,
        wanted: &'static str,
        limit: Duration,
        last: String,
    },
}

impl EngineError {
    /// The error that a stream of this engine yielded, when `error` carries one.
    pub fn in_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        Self::other(error)
    }
}

/// Names go into the path of a request: what is not an engine's name or id must not get there.
fn is_engine_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn container_name(name: &str) -> Result<&str, EngineError> {
    if is_engine_name(name) {
        Ok(name)
    } else {
        Err(EngineError::NoSuchContainer(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_engine_names_reach_a_request() {
        for good in ["db", "candigv2_postgres-db.1", "0a1b"] {
            assert_eq!(container_name(good).unwrap(), good);
        }
        for bad in ["", "..", "a/b", "db?force=1", "db#", "-x", "a b", "däta"] {
            assert!(container_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_carries_its_typed_error() {
        let error = io::Error::from(EngineError::NoSuchContainer("db".to_owned()));
        assert!(matches!(
            EngineError::in_io(&error),
            Some(EngineError::NoSuchContainer(_))
        ));
        assert!(EngineError::in_io(&io::Error::other("else")).is_none());
    }
}
