//! Whether what a run holds has stayed held.
//!
//! Anybody may start a container that a run has stopped: an administrator, a watchdog, `docker compose up`. Nothing keeps them
//! from it, but what was saved meanwhile is then no copy of one moment, and must not pass for one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Held, Lock, Subject};
use crate::engine::ours::NEVER;
use crate::engine::{Container, EngineError, State};
use crate::text::printable;

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
                "{service} did not stop in time and was killed: anything it had not written yet is lost; give it longer \
                 (stop_grace_period, docker run --stop-timeout)"
            )
        })
    }
}

/// A container just before it is told to stop.
pub(super) struct Before {
    container: Container,
    at: Instant,
}

impl Before {
    /// Whether the engine killed it for not ending in its time. One that ends so by itself, as in a restart loop for want of
    /// memory, leaves the same exit code: but it did not run, or has begun another life, or was gone sooner.
    fn was_killed(&self, after: &Container, took: Duration) -> bool {
        let before = &self.container;
        before.state == State::Running
            && before.started_at == after.started_at
            && took >= before.stop_timeout
            && after.exit.is_some_and(|exit| exit.code == KILLED)
    }
}

impl Lock {
    /// `None` where it cannot be seen.
    pub(super) async fn before(&self, held: &Held) -> Option<Before> {
        let Subject::Container(id) = &held.subject else {
            return None;
        };
        let container = self.engine.inspect(id).await.ok()?;
        let at = Instant::now();
        Some(Before { container, at })
    }

    pub(super) async fn seal(
        &self,
        held: &Held,
        before: Option<Before>,
        seals: &mut Seals,
    ) -> Result<(), EngineError> {
        let took = before.as_ref().map(|before| before.at.elapsed());
        let Subject::Container(id) = &held.subject else {
            // The service's spec says who holds it.
            return Ok(());
        };
        match self.engine.inspect(id).await {
            Ok(container) => {
                let killed = before.zip(took);
                if killed.is_some_and(|(before, took)| before.was_killed(&container, took)) {
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

/// That what was to be saved at rest was not.
pub fn disturbance(services: &[String]) -> String {
    let while_held = if services.len() == 1 {
        "was started from outside while it was held"
    } else {
        "were started from outside while they were held"
    };
    format!("{} {while_held}", printable(&services.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::Exit;
    use crate::engine::container::tests_support::container;
    use jiff::Timestamp;

    #[test]
    fn only_what_outlasts_its_time_was_killed_for_it() {
        let limit = Duration::from_secs(10);
        let life = |state, started_at: &str, code: Option<i64>| Container {
            state,
            started_at: started_at.to_owned(),
            stop_timeout: limit,
            exit: code.map(|code| Exit {
                code,
                at: Timestamp::UNIX_EPOCH,
            }),
            ..container("app")
        };
        let sooner = Duration::from_secs(1);
        for (state, started_at, code, took, expected) in [
            (State::Running, "1", 137, limit, true),
            (State::Running, "1", 0, limit, false),
            (State::Running, "1", 137, sooner, false),
            (State::Running, "2", 137, limit, false),
            (State::Restarting, "1", 137, limit, false),
        ] {
            let before = Before {
                container: life(state, "1", None),
                at: Instant::now(),
            };
            let after = life(State::Exited, started_at, Some(code));
            let case = format!("{state:?} {started_at} {code} {took:?}");
            assert_eq!(before.was_killed(&after, took), expected, "{case}");
        }
    }
}
