//! Whether what a run holds has stayed held.
//!
//! Anybody may start a container that a run has stopped: an administrator, a watchdog, `docker compose up`. Nothing keeps them
//! from it, but what was saved meanwhile is then no copy of one moment, and must not pass for one.

use std::collections::HashMap;

use super::{Held, Lock, Subject};
use crate::engine::ours::NEVER;
use crate::engine::{EngineError, State};

/// What shows afterwards that something ran during a hold: when each held container had last been started.
#[derive(Debug, Default)]
pub struct Seals {
    started_at: HashMap<String, String>,
    /// The services that did not end in the time that they have for it.
    killed: Vec<String>,
}

/// What a shell, and the engine, has of a program that SIGKILL ended.
const KILLED: i64 = 128 + 9;

impl Seals {
    /// What an administrator ought to know of the stops.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.killed.iter().map(|service| {
            format!(
                "{service} did not end in its time when it was stopped, and was killed: what it had not written yet is lost; give \
                 it longer (stop_grace_period, docker run --stop-timeout)"
            )
        })
    }
}

impl Lock {
    pub(super) async fn seal(&self, held: &Held, seals: &mut Seals) -> Result<(), EngineError> {
        let Subject::Container(id) = &held.subject else {
            // The service's spec says who holds it.
            return Ok(());
        };
        match self.engine.inspect(id).await {
            Ok(container) => {
                if container.exit.is_some_and(|exit| exit.code == KILLED) {
                    seals.killed.push(held.service.clone());
                }
                seals
                    .started_at
                    .insert(container.id, container.started_at.clone());
                Ok(())
            }
            // Removed by the engine when it stopped.
            Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The services that somebody has started since they were held.
    pub async fn broken(&self, seals: &Seals) -> Result<Vec<String>, EngineError> {
        let mut broken = Vec::new();
        for held in &self.journal.held {
            let has_run = match &held.subject {
                Subject::Container(container) => self.has_run_since(held, container, seals).await?,
                Subject::SwarmService(service) => !self.is_at_rest(service).await?,
            };
            if has_run {
                broken.push(held.service.clone());
            }
        }
        Ok(broken)
    }

    async fn has_run_since(
        &self,
        held: &Held,
        container: &str,
        seals: &Seals,
    ) -> Result<bool, EngineError> {
        let Some(present) = self.present(held, container).await? else {
            return Ok(false);
        };
        let sealed = seals.started_at.get(&present.id);
        let has_been_started = present.started_at != sealed.map_or(NEVER, String::as_str);
        Ok(has_been_started || matches!(present.state, State::Running | State::Restarting))
    }
}
