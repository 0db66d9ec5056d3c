//! Docker Swarm: which node this engine is, and what a manager knows of services and does to them.
//!
//! - `services`: what is asked of services, holds and releases
//! - `claims`: names that nobody else in the swarm has
//! - `shapes`: what is read of its answers
//! - `spec`: what a hold changes in a service's spec
//!
//! Only managers know services, and any node may run tasks: so on a node that is no manager, one is reached by an endpoint
//! of its own ([`Engine::with_managers`]). An update carries the spec as it was read and its version; when somebody else was
//! faster, the manager refuses it, and it is made again from what is there then.

mod claims;
mod services;
mod shapes;
mod spec;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::Method;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::claims::Claim;
use self::shapes::{InfoShape, MountShape, NodeShape};
use super::connect::Endpoint;
use super::fault::About;
use super::{Container, Engine, EngineError, Health, Mount, MountKind, State};

const ANSWER: Duration = Duration::from_secs(60);

/// What this engine is in a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    /// Its host name.
    pub name: String,
    pub is_manager: bool,
}

/// A connection to a manager of the swarm that the engine is a node of.
#[derive(Clone)]
pub struct Manager {
    engine: Engine,
}

/// A service, as a manager knows it.
#[derive(Clone, Debug)]
pub struct SwarmService {
    pub id: String,
    /// With the stack's name before it.
    pub name: String,
    /// Those that its containers get.
    pub labels: BTreeMap<String, String>,
    /// Those of the service itself (`deploy: labels:`), which no container carries.
    pub own_labels: BTreeMap<String, String>,
    pub image: String,
    pub mounts: Vec<Mount>,
    pub created: Timestamp,
    /// As it is when nobody holds it.
    pub mode: Mode,
    /// The run that has scaled it to zero.
    pub held_by: Option<String>,
    /// The node of each task that runs.
    pub running_on: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Replicated(u64),
    /// A task on every node that fits.
    Global,
    /// It ends by itself.
    Job,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeldBefore {
    Replicas(u64),
    Global,
}

/// What became of the wish to release a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    AsBefore,
    /// Somebody has scaled it while it was held: that stands.
    ChangedMeanwhile,
    /// It is not held by this run: it never was, was released before, or was deployed anew.
    NotHeld,
}

/// One task of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The id of its service.
    pub service: String,
    /// The name of its node; empty before it has one.
    pub node: String,
    pub state: TaskState,
    /// Whether the swarm wants it to run.
    pub is_wanted: bool,
    pub container: Option<String>,
    pub error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It does not run yet; one with a health check does not before it is healthy.
    Coming,
    Running,
    Ended,
    /// Its node is down, and nobody knows whether it runs. The swarm takes it for dead, and puts another in its place.
    Lost,
}

impl SwarmService {
    /// A container of it as the engine of a node would describe it, as far as the manager knows. Its id is the service's.
    pub fn as_container(&self) -> Container {
        Container {
            id: self.id.clone(),
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: String::new(),
            created: self.created,
            state: State::Exited,
            health: Health::None,
            started_at: String::new(),
            exit: None,
            labels: self.labels.clone(),
            agent_image: None,
            env: BTreeMap::new(),
            user: String::new(),
            mounts: self.mounts.clone(),
            tmpfs: Vec::new(),
            read_only_root: false,
            network_of: None,
            namespaces_of: Vec::new(),
            stop_timeout: Duration::ZERO,
            auto_remove: false,
        }
    }

    /// Whether it is to have tasks when nobody holds it.
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Replicated(0)
    }

    /// How many of its tasks run, or ran before it was held.
    pub fn tasks(&self) -> u64 {
        match (&self.held_by, self.mode) {
            (Some(_), Mode::Replicated(replicas)) => replicas,
            (Some(_), Mode::Global | Mode::Job) => 1,
            (None, _) => self.running_on.len() as u64,
        }
    }
}

impl Task {
    /// As far as the swarm is concerned.
    pub fn is_over(&self) -> bool {
        matches!(self.state, TaskState::Ended | TaskState::Lost)
    }
}

impl MountShape {
    fn read(self) -> Mount {
        let kind = match self.kind.as_str() {
            "volume" => MountKind::Volume,
            "bind" => MountKind::Bind,
            "tmpfs" => MountKind::Tmpfs,
            _ => MountKind::Other,
        };
        Mount {
            kind,
            volume: (kind == MountKind::Volume && !self.source.is_empty())
                .then(|| self.source.clone()),
            source: self.source,
            subpath: None,
            destination: self.target,
            writable: !self.read_only,
        }
    }
}

impl Engine {
    /// The same engine, with where to find managers in case that it is none itself.
    pub fn with_managers(mut self, managers: Vec<Endpoint>) -> Self {
        self.managers = managers;
        self
    }

    /// Whether somebody has named any.
    pub fn has_managers(&self) -> bool {
        !self.managers.is_empty()
    }

    /// `None`: it is not part of a swarm.
    pub async fn node(&self) -> Result<Option<Node>, EngineError> {
        let info: InfoShape = self
            .ask("/info", "describe itself")
            .await?
            .unwrap_or_default();
        let swarm = info.swarm;
        Ok((swarm.local_node_state == "active").then_some(Node {
            id: swarm.node_id,
            name: info.name,
            is_manager: swarm.control_available,
        }))
    }

    /// A manager of the swarm that the engine is a node of. [`EngineError::NoManager`] when there is none to be asked.
    pub async fn manager(&self) -> Result<Manager, EngineError> {
        let Some(node) = self.node().await? else {
            return Err(EngineError::NoManager(
                "the engine is not part of a swarm".to_owned(),
            ));
        };
        if node.is_manager {
            let engine = self.clone().knowing(&node).await;
            return engine
                .map(|engine| Manager { engine })
                .map_err(EngineError::NoManager);
        }
        if self.managers.is_empty() {
            return Err(EngineError::NoManager(format!(
                "node {} is not a manager of its swarm, and no manager is named: set COFFERDAM_SWARM_MANAGER to the address of one \
                 (tcp://HOST:2376)",
                node.name
            )));
        }
        // One that is down may take long to show it.
        let asked = self.managers.iter();
        let mut asked: FuturesUnordered<_> = asked
            .map(|endpoint| Self::connect_manager(endpoint.clone(), &node).boxed())
            .collect();
        let mut reasons = Vec::new();
        while let Some(answered) = asked.next().await {
            match answered {
                Ok(engine) => return Ok(Manager { engine }),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(EngineError::NoManager(reasons.join("; ")))
    }

    async fn connect_manager(endpoint: Endpoint, node: &Node) -> Result<Self, String> {
        let engine = Self::connect(endpoint).await;
        let engine = engine.map_err(|error| format!("the manager does not answer: {error}"))?;
        engine.knowing(node).await
    }

    /// Itself, if it is a manager of the swarm that `node` is in; else why it does not serve.
    async fn knowing(self, node: &Node) -> Result<Self, String> {
        let nodes = self.nodes().await.map_err(|error| error.to_string())?;
        if nodes.contains_key(&node.id) {
            return Ok(self);
        }
        Err(format!(
            "the manager at {} belongs to another swarm: it has no node {}; check COFFERDAM_SWARM_MANAGER",
            self.endpoint, node.name
        ))
    }

    /// By their ids.
    async fn nodes(&self) -> Result<HashMap<String, NodeShape>, EngineError> {
        let nodes: Vec<NodeShape> = match self.ask("/nodes", "list the nodes of the swarm").await {
            Err(EngineError::Api {
                status: Some(503), ..
            }) => {
                return Err(EngineError::NoManager(format!(
                    "{} is not a manager of a swarm; check COFFERDAM_SWARM_MANAGER",
                    self.endpoint
                )));
            }
            other => other?.unwrap_or_default(),
        };
        let by_id = nodes.into_iter().map(|node| (node.id.clone(), node));
        Ok(by_id.collect())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        action: &str,
    ) -> Result<Option<T>, EngineError> {
        let answer = self.exchange(Method::GET, path, None, action).await?;
        serde_json::from_value(answer).map_err(|error| misread(action, &error))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        document: Option<&Value>,
        action: &str,
    ) -> Result<Value, EngineError> {
        let exchange = self.transport.exchange(method, path, document);
        match tokio::time::timeout(ANSWER, exchange).await {
            Ok(answered) => answered.map_err(|error| self.fault(error, About::Engine, action)),
            Err(_) => Err(EngineError::Api {
                action: action.to_owned(),
                status: None,
                message: "it did not answer in time".to_owned(),
            }),
        }
    }
}

/// The path of a list, of which only what has this value is wanted.
fn filtered(list: &str, by: &str, value: &str) -> String {
    let filters = json!({by: [value]}).to_string();
    let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
    format!("{list}?filters={filters}")
}

fn misread(action: &str, error: &serde_json::Error) -> EngineError {
    EngineError::Api {
        action: action.to_owned(),
        status: None,
        message: format!("its answer is not understood: {error}"),
    }
}
