//! What a manager is asked about services, and told to do with them.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::shapes::{self, ServiceShape, TaskShape};
use super::spec::{self, Holding};
use super::{Manager, Released, SwarmService, Task, TaskState, filtered, misread};
use crate::engine::{EngineError, is_engine_name};

const LOOK: Duration = Duration::from_millis(500);
/// What a container gets to stop when its service does not say.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the swarm may take on top of that.
const STOPPING: Duration = Duration::from_secs(120);
/// How often an update is made again because somebody else was faster.
const ATTEMPTS: u32 = 20;
const AGAIN: Duration = Duration::from_millis(250);

impl Manager {
    /// Every service of the swarm.
    pub async fn services(&self) -> Result<Vec<SwarmService>, EngineError> {
        const ACTION: &str = "list the services of the swarm";
        let services: Option<Vec<ServiceShape>> = self.engine.ask("/services", ACTION).await?;
        let tasks = self.tasks_of("/tasks").await?;
        services
            .unwrap_or_default()
            .into_iter()
            .map(|service| service.read(&tasks))
            .collect::<Result<_, _>>()
            .map_err(|error| misread(ACTION, &error))
    }

    /// The tasks of a service, those that have ended too, as far as the swarm remembers them.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>, EngineError> {
        let list = filtered("/tasks", "service", service);
        self.tasks_of(&list).await
    }

    /// The task that a container is, anywhere in the swarm.
    pub async fn task_of(&self, container: &str) -> Result<Option<Task>, EngineError> {
        let tasks = self.tasks_of("/tasks").await?;
        let mut tasks = tasks.into_iter();
        Ok(tasks.find(|task| task.container.as_deref() == Some(container)))
    }

    async fn tasks_of(&self, list: &str) -> Result<Vec<Task>, EngineError> {
        let tasks: Option<Vec<TaskShape>> =
            self.engine.ask(list, "list the tasks of the swarm").await?;
        let nodes = self.engine.nodes().await?;
        let tasks = tasks.unwrap_or_default().into_iter();
        Ok(tasks.map(|task| task.read(&nodes)).collect())
    }

    /// Scales a service to zero in the name of `run`, and waits until none of its tasks runs. One that is at zero already
    /// is left alone, so that a release does not start it. Returns the tasks that are lost.
    pub async fn hold(&self, service: &str, run: &str) -> Result<Vec<Task>, EngineError> {
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

    /// Whether a service that `run` holds has stayed at zero. One that is gone has.
    pub async fn is_at_rest(&self, service: &str, run: &str) -> Result<bool, EngineError> {
        let looked = self.update(service, "inspect", |spec| {
            Ok((spec::is_at_rest(spec, run), false))
        });
        match looked.await {
            Err(EngineError::Api {
                status: Some(404), ..
            }) => Ok(true),
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
        .map(drop)
    }

    /// Returns the tasks that are lost.
    async fn wait_until_gone(
        &self,
        service: &str,
        limit: Duration,
    ) -> Result<Vec<Task>, EngineError> {
        let found = self.wait(service, "stopped", limit, |found| {
            let left: Vec<&str> = found
                .iter()
                .filter(|task| !task.is_over())
                .map(|task| task.node.as_str())
                .collect();
            (!left.is_empty()).then(|| format!("tasks are left on {}", left.join(", ")))
        });
        let mut tasks = found.await?;
        tasks.retain(|task| task.state == TaskState::Lost);
        Ok(tasks)
    }

    /// Until `lacks` finds nothing lacking in the service's tasks; returns them.
    async fn wait(
        &self,
        service: &str,
        wanted: &'static str,
        limit: Duration,
        lacks: impl Fn(&[Task]) -> Option<String>,
    ) -> Result<Vec<Task>, EngineError> {
        let begun = Instant::now();
        loop {
            let found = self.tasks(service).await?;
            let Some(last) = lacks(&found) else {
                return Ok(found);
            };
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
}
