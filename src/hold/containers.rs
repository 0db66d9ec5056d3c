//! Containers that are stopped or paused, and brought back.
//!
//! What was asked of the engine may happen although nobody waits for the answer: a run is interrupted or killed, a connection
//! is cut, and the container stops after all. So before anything is released, the end of such a stop is waited for.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::{Action, Held, Lock, ReleaseProblem, Subject, Wait};
use crate::engine::container::COMPOSE_NUMBER;
use crate::engine::{Container, EngineError, State};
use crate::labels::COMPOSE_SERVICE;

/// What the engine takes to stop a container, beside the time that the container has.
const STOPPING: Duration = Duration::from_secs(5);

/// What was asked of the engine, and not answered.
#[derive(Clone, Debug, Default)]
pub(super) enum InFlight {
    #[default]
    Nothing,
    /// To stop or to pause the container of this id.
    Known(String),
    /// The process that would know is dead.
    Unknown,
}

impl Lock {
    pub(super) async fn hold_container(
        &self,
        held: &Held,
        container: &str,
    ) -> Result<(), EngineError> {
        self.set_in_flight(InFlight::Known(container.to_owned()));
        match held.action {
            Action::Stop => {
                info!(service = held.service, "stopping");
                self.engine.stop(container, None).await?;
            }
            Action::Pause => {
                info!(service = held.service, "pausing");
                self.engine.pause(container).await?;
            }
        }
        self.set_in_flight(InFlight::Nothing);
        Ok(())
    }

    fn set_in_flight(&self, what: InFlight) {
        *self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Waits for the end of what was asked of the engine and not answered.
    pub(super) async fn wait_for_answers(&self) {
        let in_flight = std::mem::take(
            &mut *self
                .in_flight
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let waited = match in_flight {
            InFlight::Nothing => Ok(()),
            InFlight::Known(container) => self.end_stop(&container).await,
            InFlight::Unknown => self.wait_for_unknown_stop().await,
        };
        if let Err(error) = waited {
            warn!("could not tell whether a container is being stopped: {error}");
        }
    }

    /// A container that was told to stop, or to pause, must come to that before it can be told to start.
    async fn end_stop(&self, container: &str) -> Result<(), EngineError> {
        let found = match self.engine.inspect(container).await {
            Ok(found) => found,
            Err(EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_paused = self
            .journal
            .held
            .iter()
            .any(|held| held.action == Action::Pause && held.subject.includes(&found));
        if is_paused {
            return self.engine.unpause(container).await;
        }
        info!(container = found.name, "waiting for it to stop");
        if !self.has_stopped(&found).await? {
            // Engines since 23 do not kill it when whoever has asked is gone.
            self.engine.stop(container, None).await?;
        }
        Ok(())
    }

    /// Containers are held one after the other: only the first that still runs can be about to stop, unless it was started after
    /// the run had begun, which means that it was released.
    async fn wait_for_unknown_stop(&self) -> Result<(), EngineError> {
        let Some(journal) = &self.container else {
            return Ok(());
        };
        let journal = self.engine.inspect(journal).await?;
        for held in self.journal.held.iter().rev() {
            let Subject::Container(container) = &held.subject else {
                continue;
            };
            let found = match self.engine.inspect(container).await {
                Ok(found) => found,
                Err(EngineError::NoSuchContainer(_)) => continue,
                Err(error) => return Err(error),
            };
            if !found.is_up() {
                continue;
            }
            let started: Option<Timestamp> = found.started_at.parse().ok();
            let was_released = started.is_some_and(|started| started > journal.created);
            if held.action == Action::Pause || was_released {
                return Ok(());
            }
            // Where that cannot be asked, it may be so.
            let told = self.engine.was_signalled(&found.id, &journal).await;
            if told.ok().flatten() != Some(false) {
                info!(container = found.name, "waiting to see whether it stops");
                self.has_stopped(&found).await?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Whether it stops within the time that it has for that.
    async fn has_stopped(&self, container: &Container) -> Result<bool, EngineError> {
        let limit = container.stop_timeout.saturating_add(STOPPING);
        self.engine.has_stopped(&container.id, limit).await
    }

    pub(super) async fn release_container(
        &self,
        held: &Held,
        container: &str,
        wait: Wait,
    ) -> Result<(), ReleaseProblem> {
        let problem = |why: String, still_held| ReleaseProblem {
            service: held.service.clone(),
            why,
            still_held,
        };
        let still_held = |error: EngineError| problem(error.to_string(), true);
        let Some(container) = self.present(held, container).await.map_err(still_held)? else {
            let why = "its container was removed from outside while it was held";
            return Err(problem(why.to_owned(), false));
        };
        match container.state {
            State::Running | State::Restarting => return Ok(()),
            State::Paused => {
                info!(service = held.service, "unpausing");
                self.engine.unpause(&container.id).await
            }
            State::Created | State::Exited | State::Dead | State::Removing => {
                info!(service = held.service, "starting");
                let started = self.engine.start(&container.id).await;
                if started.is_err()
                    && let Some(owner) = self.owner_that_is_gone(&container).await
                {
                    return Err(problem(never_starts_again(&container, owner), false));
                }
                started
            }
        }
        .map_err(still_held)?;
        match (wait, held.ready_within) {
            (Wait::UntilReady, Some(limit)) => {
                let ready = self.engine.wait_ready(&container.id, limit).await;
                ready.map_err(|error| problem(error.to_string(), false))
            }
            (Wait::UntilReady, None) | (Wait::No, _) => Ok(()),
        }
    }

    /// The container whose network, or another namespace, it is to share, when somebody has removed that one. The engine knows it by
    /// its id: one that was made anew in its place is another.
    async fn owner_that_is_gone<'a>(&self, container: &'a Container) -> Option<&'a str> {
        for owner in &container.namespaces_of {
            if let Err(EngineError::NoSuchContainer(_)) = self.engine.inspect(owner).await {
                return Some(owner);
            }
        }
        None
    }

    /// The held container, or the one that took its place: compose gives a recreated one a new id. `None`: it was removed.
    pub(super) async fn present(
        &self,
        held: &Held,
        container: &str,
    ) -> Result<Option<Container>, EngineError> {
        match self.engine.inspect(container).await {
            Ok(found) => Ok(Some(found)),
            Err(EngineError::NoSuchContainer(_)) => {
                let all = self.engine.containers(&[]).await?;
                let new = all
                    .into_iter()
                    .filter(|it| self.is_new_of(it, &held.service));
                Ok(new.min_by_key(number))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a container was made since the run began, as the one of that name in the project.
    fn is_new_of(&self, container: &Container, name: &str) -> bool {
        let (service, replica) = match name.split_once('@') {
            Some((service, replica)) => (service, Some(replica)),
            None => (name, None),
        };
        let mut then = self.journal.services.iter();
        container.project() == self.journal.project
            && container.service() == service
            && !container.is_one_off()
            && then.all(|then| then.container != container.id)
            && replica.is_none_or(|replica| replica.parse() == Ok(number(container)))
    }
}

/// No later run can start it either: its container has to be made anew.
fn never_starts_again(container: &Container, owner: &str) -> String {
    let mend = match container.labels.get(COMPOSE_SERVICE) {
        Some(service) => format!("recreate it: docker compose up -d --force-recreate {service}"),
        None => format!(
            "remove it (docker rm {}) and run it again as before",
            container.name
        ),
    };
    format!(
        "its container {} can no longer start, because it shares a namespace with container {}, which was removed; {mend}",
        container.name,
        owner.get(..12).unwrap_or(owner)
    )
}

/// Compose's number of a container within its service.
fn number(container: &Container) -> u32 {
    let number = container.labels.get(COMPOSE_NUMBER);
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
