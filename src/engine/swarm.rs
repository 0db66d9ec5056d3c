//! Docker Swarm: which node this engine is, and what a manager knows of services and does to them.
//!
//! - `shapes`: what is read of its answers
//! - `spec`: what a hold changes in a service's spec
//!
//! Only managers know services, and any node may run tasks: so on a node that is no manager, one is reached by an endpoint
//! of its own ([`Engine::with_manager`]). An update carries the spec as it was read and its version; when somebody else was
//! faster, the manager refuses it, and it is made again from what is there then.

mod shapes;
mod spec;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine as _;
use hyper::Method;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::shapes::{ConfigShape, InfoShape, MountShape, NodeShape, ServiceShape, TaskShape};
use self::spec::Holding;
use super::connect::Endpoint;
use super::fault::About;
use super::{Container, Engine, EngineError, Health, Mount, MountKind, State, is_engine_name};

const ANSWER: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
/// What a container gets to stop when its service does not say.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the swarm may take on top of that.
const STOPPING: Duration = Duration::from_secs(120);
/// How often an update is made again because somebody else was faster.
const ATTEMPTS: u32 = 20;
const AGAIN: Duration = Duration::from_millis(250);

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
    /// Names of nodes, by their ids.
    nodes: HashMap<String, String>,
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
}

/// An object whose name is unique in the swarm; it holds nothing but labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
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
            env: BTreeMap::new(),
            user: String::new(),
            mounts: self.mounts.clone(),
            tmpfs: Vec::new(),
            read_only_root: false,
            network_of: None,
            privileged: false,
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
    pub fn is_over(&self) -> bool {
        self.state == TaskState::Ended
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
            destination: self.target,
            writable: !self.read_only,
        }
    }
}

impl Engine {
    /// The same engine, with where to find a manager in case that it is none itself.
    pub fn with_manager(mut self, manager: Option<Endpoint>) -> Self {
        self.manager = manager;
        self
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
        let engine = match &self.manager {
            _ if node.is_manager => self.clone(),
            Some(endpoint) => {
                let connected = Self::connect(endpoint.clone()).await;
                connected.map_err(|error| {
                    EngineError::NoManager(format!("the manager does not answer: {error}"))
                })?
            }
            None => {
                return Err(EngineError::NoManager(format!(
                    "node {} is no manager of its swarm, and none is named: set COFFERDAM_SWARM_MANAGER to the address of \
                     one (tcp://HOST:2376)",
                    node.name
                )));
            }
        };
        let nodes = engine.nodes().await?;
        if !nodes.contains_key(&node.id) {
            return Err(EngineError::NoManager(format!(
                "the manager at {} is one of another swarm: it has no node {}; check COFFERDAM_SWARM_MANAGER",
                engine.endpoint, node.name
            )));
        }
        Ok(Manager { engine, nodes })
    }

    async fn nodes(&self) -> Result<HashMap<String, String>, EngineError> {
        let nodes: Vec<NodeShape> = match self.ask("/nodes", "list the nodes of the swarm").await {
            Err(EngineError::Api {
                status: Some(503), ..
            }) => {
                return Err(EngineError::NoManager(format!(
                    "{} is no manager of a swarm; check COFFERDAM_SWARM_MANAGER",
                    self.endpoint
                )));
            }
            other => other?.unwrap_or_default(),
        };
        Ok(nodes
            .into_iter()
            .map(|node| (node.id, node.description.hostname))
            .collect())
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

fn misread(action: &str, error: &serde_json::Error) -> EngineError {
    EngineError::Api {
        action: action.to_owned(),
        status: None,
        message: format!("its answer is not understood: {error}"),
    }
}

impl Manager {
    /// Every service of the swarm.
    pub async fn services(&self) -> Result<Vec<SwarmService>, EngineError> {
        const ACTION: &str = "list the services of the swarm";
        let services: Option<Vec<ServiceShape>> = self.engine.ask("/services", ACTION).await?;
        let tasks = self.all_tasks("/tasks").await?;
        services
            .unwrap_or_default()
            .into_iter()
            .map(|service| service.read(&tasks, &self.nodes))
            .collect::<Result<_, _>>()
            .map_err(|error| misread(ACTION, &error))
    }

    /// The tasks of a service, those that have ended too, as far as the swarm remembers them.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>, EngineError> {
        let filters = json!({"service": [service]}).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let tasks = self.all_tasks(&format!("/tasks?filters={filters}")).await?;
        Ok(tasks.iter().map(|task| task.read(&self.nodes)).collect())
    }

    /// The task that a container is, anywhere in the swarm.
    pub async fn task_of(&self, container: &str) -> Result<Option<Task>, EngineError> {
        let tasks = self.all_tasks("/tasks").await?;
        let mut tasks = tasks.iter().map(|task| task.read(&self.nodes));
        Ok(tasks.find(|task| task.container.as_deref() == Some(container)))
    }

    async fn all_tasks(&self, path: &str) -> Result<Vec<TaskShape>, EngineError> {
        let tasks = self.engine.ask(path, "list the tasks of the swarm").await?;
        Ok(tasks.unwrap_or_default())
    }

    /// Scales a service to zero in the name of `run`, and waits until none of its tasks runs. One that is at zero already
    /// is left alone, so that a release does not start it.
    pub async fn hold(&self, service: &str, run: &str) -> Result<(), EngineError> {
        let grace = self
            .update(service, "scale to zero", |spec| {
                let grace = shapes::stop_grace_of(spec);
                let holding = spec::hold(spec, run)?;
                Ok((grace, holding == Holding::Changed))
            })
            .await?;
        let grace = grace.map_or(STOP_GRACE, Duration::from_nanos);
        self.wait_until_gone(service, grace + STOPPING).await
    }

    /// Gives a service back what it had before `run` held it. A service that is gone is no error.
    pub async fn release(&self, service: &str, run: &str) -> Result<Released, EngineError> {
        let released = self.update(service, "scale back", |spec| {
            let released = spec::release(spec, run);
            Ok((released, released != Released::NotHeld))
        });
        match released.await {
            Err(EngineError::Api {
                status: Some(404), ..
            }) => Ok(Released::NotHeld),
            other => other,
        }
    }

    /// Waits until so many tasks of a service run, and with a health check are healthy.
    pub async fn wait_until_running(
        &self,
        service: &str,
        tasks: u64,
        limit: Duration,
    ) -> Result<(), EngineError> {
        self.wait(service, "ready", limit, |found| {
            let running = found
                .iter()
                .filter(|task| task.state == TaskState::Running && task.is_wanted)
                .count() as u64;
            (running < tasks).then(|| {
                let errors = found.iter().map(|task| &task.error);
                let error = errors.filter(|error| !error.is_empty()).max();
                let error = error.map(|error| format!(": {error}")).unwrap_or_default();
                format!("{running} of {tasks} tasks run{error}")
            })
        })
        .await
    }

    async fn wait_until_gone(&self, service: &str, limit: Duration) -> Result<(), EngineError> {
        self.wait(service, "stopped", limit, |found| {
            let left: Vec<&str> = found
                .iter()
                .filter(|task| task.state != TaskState::Ended)
                .map(|task| task.node.as_str())
                .collect();
            (!left.is_empty()).then(|| format!("tasks are left on {}", left.join(", ")))
        })
        .await
    }

    /// Until `lacks` finds nothing lacking.
    async fn wait(
        &self,
        service: &str,
        wanted: &'static str,
        limit: Duration,
        lacks: impl Fn(&[Task]) -> Option<String>,
    ) -> Result<(), EngineError> {
        let begun = Instant::now();
        while let Some(last) = lacks(&self.tasks(service).await?) {
            if begun.elapsed() >= limit {
                return Err(EngineError::ServiceNotReady {
                    service: service.to_owned(),
                    wanted,
                    limit,
                    last,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Lets `change` have its way with the service's spec, and sends it when it says so.
    async fn update<T>(
        &self,
        service: &str,
        verb: &str,
        change: impl Fn(&mut Value) -> Result<(T, bool), String>,
    ) -> Result<T, EngineError> {
        let action = format!("{verb} the service {service}");
        let refused = |status, message| EngineError::Api {
            action: action.clone(),
            status,
            message,
        };
        if !is_engine_name(service) {
            return Err(refused(Some(404), "there is no such service".to_owned()));
        }
        let mut attempt = 0;
        loop {
            let path = format!("/services/{service}");
            let found: Option<ServiceShape> = self.engine.ask(&path, &action).await?;
            let mut found =
                found.ok_or_else(|| refused(Some(404), "there is no such service".to_owned()))?;
            let (changed, is_to_be_sent) =
                change(&mut found.spec).map_err(|message| refused(None, message))?;
            if !is_to_be_sent {
                return Ok(changed);
            }
            let path = format!("{path}/update?version={}", found.version.index);
            let sent = self
                .engine
                .exchange(Method::POST, &path, Some(&found.spec), &action);
            match sent.await {
                Ok(_) => return Ok(changed),
                Err(EngineError::Api { message, .. })
                    if message.contains("out of sequence") && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a name that nobody else in the swarm has: [`EngineError::NameTaken`].
    pub async fn claim(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let data = base64::engine::general_purpose::STANDARD.encode("held by cofferdam\n");
        let document = json!({"Name": name, "Labels": labels, "Data": data});
        let action = format!("create the config {name}");
        let created =
            self.engine
                .exchange(Method::POST, "/configs/create", Some(&document), &action);
        match created.await {
            Ok(answer) => Ok(answer["ID"].as_str().unwrap_or(name).to_owned()),
            Err(EngineError::Api {
                status: Some(409), ..
            }) => Err(EngineError::NameTaken(name.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// The claims that carry a label.
    pub async fn claims(&self, label: &str) -> Result<Vec<Claim>, EngineError> {
        let filters = json!({"label": [label]}).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let path = format!("/configs?filters={filters}");
        let found: Option<Vec<ConfigShape>> = self
            .engine
            .ask(&path, "list the configs of the swarm")
            .await?;
        let claim = |config: ConfigShape| Claim {
            id: config.id,
            name: config.spec.name,
            labels: config.spec.labels.unwrap_or_default(),
        };
        Ok(found.unwrap_or_default().into_iter().map(claim).collect())
    }

    /// One that is gone is no error.
    pub async fn give_up(&self, claim: &str) -> Result<(), EngineError> {
        let action = format!("remove the config {claim}");
        if !is_engine_name(claim) {
            return Ok(());
        }
        let path = format!("/configs/{claim}");
        match self
            .engine
            .exchange(Method::DELETE, &path, None, &action)
            .await
        {
            Err(EngineError::Api {
                status: Some(404), ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }
}
