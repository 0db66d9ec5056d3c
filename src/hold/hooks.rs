//! Commands that labels ask for at named moments, run inside the labelled containers.
//!
//! - `before-…` hooks run before anything is held, dependencies first. The first that fails ends the run.
//! - `after-…` hooks run once everything is released, whatever the outcome: a database that was frozen is thawed again.
//!   Only a container whose own `before-…` hook was never reached is left out.
//! - `failed-…` hooks run when the run failed, ahead of the `after-…` hooks.
//!
//! A hook whose time is over, or that is interrupted, is ended with all that it has started before another one runs.
//!
//! Every hook sees `COFFERDAM_RUN`, `COFFERDAM_PROJECT` and `COFFERDAM_OUTCOME` (`running`, `done` or `failed`).

use std::collections::BTreeSet;
use std::fmt;

use tracing::{info, warn};

use crate::agent::helper::Helpers;
use crate::engine::container::{SWARM_SERVICE_ID, SWARM_SERVICE_NAME};
use crate::engine::{Container, Engine, EngineError, ExecSpec};
use crate::hold::Operation;
use crate::labels::{HookPoint, HookSpec, WhenStopped};
use crate::secret::{Redactor, secrets_of};
use crate::stack::Service;
use crate::stack::order::start_order;

/// How much of what a hook printed a message carries, in bytes.
const LAST_WORDS: usize = 2000;

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("hook {point} of {service}: {source}")]
    Engine {
        service: String,
        point: HookPoint,
        source: EngineError,
    },
    #[error(
        "hook {point} of {service} did not run: its task is no longer on this node; run it by hand on the node that has it: \
         docker service ps {swarm_service}"
    )]
    Moved {
        service: String,
        point: HookPoint,
        swarm_service: String,
    },
    #[error(
        "hook {point} of {service} cannot run, because container {container} {state}; {mend}; or, to skip the hook in that \
         case, set the label cofferdam.hook.{point}.when-stopped: skip"
    )]
    NotRunning {
        service: String,
        point: HookPoint,
        container: String,
        state: &'static str,
        mend: String,
    },
    #[error("hook {point} of {service} (`{command}`) ended with exit code {code}: {message}")]
    Failed {
        service: String,
        point: HookPoint,
        command: String,
        code: i64,
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    Running,
    Done,
    Failed,
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        })
    }
}

/// The hooks of one run, and how far they have come.
pub struct Hooks<'a> {
    helpers: Helpers,
    operation: Operation,
    /// Dependencies first.
    services: Vec<&'a Service>,
    /// Containers whose `before-…` hook was reached.
    begun: BTreeSet<&'a str>,
}

impl<'a> Hooks<'a> {
    /// `helpers` are those of the run.
    pub fn new(helpers: Helpers, operation: Operation, services: &'a [Service]) -> Self {
        let ordered = start_order(services.iter().map(|service| &service.container))
            .into_iter()
            .filter_map(|container| {
                services
                    .iter()
                    .find(|service| service.container.id == container.id)
            })
            .collect();
        Self {
            helpers,
            operation,
            services: ordered,
            begun: BTreeSet::new(),
        }
    }

    /// For a run that died: every `before-…` hook may have run.
    pub fn assume_begun(mut self) -> Self {
        self.begun = self
            .services
            .iter()
            .map(|service| service.container.id.as_str())
            .collect();
        self
    }

    pub async fn before(&mut self) -> Result<(), HookError> {
        let point = match self.operation {
            Operation::Backup => HookPoint::BeforeBackup,
            Operation::Restore => HookPoint::BeforeRestore,
        };
        let hooks = self.services.clone().into_iter();
        let hooks: Vec<(&Service, &HookSpec)> = hooks
            .filter_map(|service| Some((service, service.labels.hooks.get(&point)?)))
            .collect();
        let does_not_run = |service: &Service| !service.container.is_running();
        let in_the_way = hooks.iter().find(|(service, hook)| {
            does_not_run(service) && hook.when_stopped == WhenStopped::Fail
        });
        if let Some((service, _)) = in_the_way {
            return Err(not_running(service, point, &service.container));
        }
        for (service, hook) in hooks {
            if does_not_run(service) {
                warn!(
                    service = service.name,
                    "hook {point} is skipped: the container {}",
                    service.container.state.told()
                );
                continue;
            }
            self.begun.insert(&service.container.id);
            self.run(service, point, hook, HookOutcome::Running).await?;
        }
        Ok(())
    }

    /// The `failed-…` hook of one container, when the run failed.
    pub async fn failed(&self, service: &Service, outcome: HookOutcome) -> Result<(), HookError> {
        let point = match self.operation {
            Operation::Backup => HookPoint::FailedBackup,
            Operation::Restore => HookPoint::FailedRestore,
        };
        match outcome {
            HookOutcome::Failed => self.run_if_labelled(service, point, outcome).await,
            HookOutcome::Running | HookOutcome::Done => Ok(()),
        }
    }

    /// The `after-…` hook of one container, when it has one that is due.
    pub async fn after(&self, service: &Service, outcome: HookOutcome) -> Result<(), HookError> {
        let (before, point) = match self.operation {
            Operation::Backup => (HookPoint::BeforeBackup, HookPoint::AfterBackup),
            Operation::Restore => (HookPoint::BeforeRestore, HookPoint::AfterRestore),
        };
        let never_reached = service.labels.hooks.contains_key(&before)
            && !self.begun.contains(service.container.id.as_str());
        if never_reached {
            return Ok(());
        }
        self.run_if_labelled(service, point, outcome).await
    }

    /// All services of the project, dependencies first.
    pub fn services(&self) -> impl Iterator<Item = &'a Service> + use<'a> {
        self.services.clone().into_iter()
    }

    async fn run_if_labelled(
        &self,
        service: &Service,
        point: HookPoint,
        outcome: HookOutcome,
    ) -> Result<(), HookError> {
        match service.labels.hooks.get(&point) {
            Some(hook) => self.run(service, point, hook, outcome).await,
            None => Ok(()),
        }
    }

    async fn run(
        &self,
        service: &Service,
        point: HookPoint,
        hook: &HookSpec,
        outcome: HookOutcome,
    ) -> Result<(), HookError> {
        // A hook that was interrupted must not go on beside this one.
        self.helpers.removals.done().await;
        let found = present(&self.helpers.engine, service).await;
        let engine_error = |source| HookError::Engine {
            service: service.name.clone(),
            point,
            source,
        };
        let container = match found.map_err(engine_error)? {
            Some(container) => container,
            None if service.is_stand_in() => return Ok(()),
            None => {
                return Err(HookError::Moved {
                    service: service.name.clone(),
                    point,
                    swarm_service: service
                        .container
                        .labels
                        .get(SWARM_SERVICE_NAME)
                        .cloned()
                        .unwrap_or_default(),
                });
            }
        };
        info!(service = service.name, "hook {point}");
        let mut spec = ExecSpec::new(hook.argv.iter().cloned());
        spec.user = hook.user.clone();
        spec.limit = Some(hook.timeout);
        spec.env = vec![
            ("COFFERDAM_RUN".to_owned(), self.helpers.run.to_string()),
            ("COFFERDAM_PROJECT".to_owned(), self.helpers.project.clone()),
            ("COFFERDAM_OUTCOME".to_owned(), outcome.to_string()),
        ];
        let output = match self.helpers.exec(&container, spec).await {
            Err(EngineError::NotRunning { .. }) if hook.when_stopped == WhenStopped::Skip => {
                return Ok(());
            }
            Err(error @ EngineError::NotRunning { .. }) => {
                // It may have come to a standstill since the run began.
                return Err(match self.helpers.engine.inspect(&container).await {
                    Ok(now) if !now.is_running() => not_running(service, point, &now),
                    _ => engine_error(error),
                });
            }
            other => other.map_err(engine_error)?,
        };
        if output.exit_code == 0 {
            return Ok(());
        }
        let words = if output.stderr.is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        let secrets = secrets_of(&service.container.env);
        let redactor = Redactor::new(secrets.iter().map(|(_, secret)| secret));
        let command = shlex::try_join(hook.argv.iter().map(String::as_str)).unwrap_or_default();
        Err(HookError::Failed {
            service: service.name.clone(),
            point,
            command: redactor.last_words(command.as_bytes(), usize::MAX),
            code: output.exit_code,
            message: redactor.last_words(words, LAST_WORDS),
        })
    }
}

fn not_running(service: &Service, point: HookPoint, now: &Container) -> HookError {
    HookError::NotRunning {
        service: service.name.clone(),
        point,
        container: now.name.clone(),
        state: now.state.told(),
        mend: now.how_to_start(),
    }
}

/// The container of a service as it is now. A task of a swarm that was held has another one; `None` when that is not here.
async fn present(engine: &Engine, service: &Service) -> Result<Option<String>, EngineError> {
    let container = &service.container;
    let Some(swarm_service) = container.swarm_service() else {
        return Ok(Some(container.id.clone()));
    };
    match engine.inspect(&container.id).await {
        Ok(found) if !found.is_ended_task() => return Ok(Some(found.id)),
        Ok(_) | Err(EngineError::NoSuchContainer(_)) => {}
        Err(error) => return Err(error),
    }
    let of_service = format!("{SWARM_SERVICE_ID}={swarm_service}");
    let mut tasks = engine.containers(&[of_service]).await?;
    tasks.retain(Container::is_running);
    let same = tasks
        .iter()
        .find(|task| task.replica() == container.replica());
    Ok(same.or(tasks.first()).map(|task| task.id.clone()))
}
