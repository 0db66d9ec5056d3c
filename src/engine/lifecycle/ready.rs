//! Waiting until a container serves, or has ended.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum};
use bollard::models::{Health, HealthStatusEnum};
use bollard::query_parameters::WaitContainerOptions;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::engine::{Engine, EngineError, State, container_name};

/// A container without a health check counts as ready when it has run this long.
const SETTLED: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(250);
/// After a wait has ended, the state is looked at again: soon when the engine told of an end, later when it told nothing.
const TOLD: Duration = Duration::from_millis(10);
const CUT_OFF: Duration = Duration::from_secs(1);
/// How much of a health check's output a message carries.
const LAST_LINE: usize = 300;

/// What one look at a container tells.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Ready,
    /// Running without a health check, in the life that began at this time.
    Running(String),
    /// Not there yet, for this reason.
    Waiting(String),
    /// Waiting has no use.
    Hopeless(String),
}

impl Engine {
    /// Waits until a started container is healthy, or, when it has no health check, until it has run for a moment.
    /// One that exits with code 0 in the meantime has done its work; any other end is [`EngineError::NotReady`].
    pub async fn wait_ready(&self, container: &str, limit: Duration) -> Result<(), EngineError> {
        let begun = Instant::now();
        let not_ready = |last: String| EngineError::NotReady {
            container: container.to_owned(),
            wanted: "ready",
            limit,
            last,
        };
        let mut running: Option<(String, Instant)> = None;
        loop {
            let last = match look(self.inspect_raw(container).await?) {
                Look::Ready => return Ok(()),
                Look::Hopeless(reason) => return Err(not_ready(reason)),
                Look::Waiting(reason) => {
                    running = None;
                    reason
                }
                Look::Running(life) => match &running {
                    Some((same, since)) if *same == life => {
                        if since.elapsed() >= SETTLED {
                            return Ok(());
                        }
                        "it runs".to_owned()
                    }
                    _ => {
                        running = Some((life, Instant::now()));
                        "it has just started".to_owned()
                    }
                },
            };
            if begun.elapsed() >= limit {
                return Err(not_ready(last));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a container that was told to stop ends within this time.
    pub async fn has_stopped(&self, container: &str, limit: Duration) -> Result<bool, EngineError> {
        let begun = Instant::now();
        loop {
            let state = self.inspect(container).await?.state;
            if !matches!(state, State::Running | State::Restarting) {
                return Ok(true);
            }
            if begun.elapsed() >= limit {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the end of a container that was started; its exit code.
    pub async fn wait_exit(&self, container: &str) -> Result<i64, EngineError> {
        let name = container_name(container)?;
        loop {
            let state = self.inspect_raw(name).await?.state.unwrap_or_default();
            match state.status {
                Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => {
                    return state.exit_code.ok_or_else(|| EngineError::Cut {
                        container: container.to_owned(),
                        program: "its command".to_owned(),
                        message: "the engine knows no exit code".to_owned(),
                    });
                }
                Some(ContainerStateStatusEnum::CREATED) => {
                    return Err(EngineError::NotRunning {
                        container: container.to_owned(),
                        message: "it was never started".to_owned(),
                    });
                }
                _ => {}
            }
            // What this yields is not believed, since a connection that is cut ends it too. It only saves asking all the
            // time.
            let options = WaitContainerOptions {
                condition: "not-running".to_owned(),
            };
            let mut wait = std::pin::pin!(self.patient.wait_container(name, Some(options)));
            let pause = match wait.next().await {
                Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => TOLD,
                _ => CUT_OFF,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn look(container: ContainerInspectResponse) -> Look {
    let state = container.state.unwrap_or_default();
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => look_at_health(state),
        Some(ContainerStateStatusEnum::EXITED) if state.exit_code == Some(0) => Look::Ready,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => {
            Look::Hopeless(ending(&state))
        }
        Some(ContainerStateStatusEnum::REMOVING) => {
            Look::Hopeless("it is being removed".to_owned())
        }
        Some(ContainerStateStatusEnum::PAUSED) => Look::Hopeless("it is paused".to_owned()),
        Some(ContainerStateStatusEnum::RESTARTING) => {
            Look::Waiting(format!("it keeps restarting; {}", ending(&state)))
        }
        _ => Look::Waiting("it has not been started".to_owned()),
    }
}

fn look_at_health(state: ContainerState) -> Look {
    match state.health {
        Some(health) => match health.status {
            Some(HealthStatusEnum::HEALTHY) => Look::Ready,
            Some(HealthStatusEnum::STARTING) => {
                Look::Waiting(format!("its health check says starting{}", said(&health)))
            }
            Some(HealthStatusEnum::UNHEALTHY) => {
                Look::Waiting(format!("its health check says unhealthy{}", said(&health)))
            }
            _ => Look::Running(state.started_at.unwrap_or_default()),
        },
        None => Look::Running(state.started_at.unwrap_or_default()),
    }
}

fn ending(state: &ContainerState) -> String {
    let code = state.exit_code.map_or_else(
        || "an unknown exit code".to_owned(),
        |code| format!("exit code {code}"),
    );
    let memory = if state.oom_killed == Some(true) {
        ", out of memory"
    } else {
        ""
    };
    let error = match state.error.as_deref() {
        None | Some("") => String::new(),
        Some(error) => format!(": {error}"),
    };
    format!("it ended with {code}{memory}{error}")
}

/// The last line that the latest health check printed.
fn said(health: &Health) -> String {
    let latest = health.log.as_ref().and_then(|log| log.last());
    let output = latest.and_then(|check| check.output.as_deref());
    match output.and_then(|text| text.trim().lines().next_back()) {
        None | Some("") => String::new(),
        Some(line) => format!(": {}", line.chars().take(LAST_LINE).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::HealthcheckResult;

    fn state(status: ContainerStateStatusEnum) -> ContainerState {
        ContainerState {
            status: Some(status),
            started_at: Some("noon".to_owned()),
            ..ContainerState::default()
        }
    }

    fn look_at(state: ContainerState) -> Look {
        look(ContainerInspectResponse {
            state: Some(state),
            ..ContainerInspectResponse::default()
        })
    }

    fn with_health(status: HealthStatusEnum, output: &str) -> Look {
        let check = HealthcheckResult {
            output: Some(output.to_owned()),
            ..HealthcheckResult::default()
        };
        look_at(ContainerState {
            health: Some(Health {
                status: Some(status),
                log: Some(vec![HealthcheckResult::default(), check]),
                ..Health::default()
            }),
            ..state(ContainerStateStatusEnum::RUNNING)
        })
    }

    #[test]
    fn health_decides_where_there_is_a_health_check() {
        assert_eq!(with_health(HealthStatusEnum::HEALTHY, ""), Look::Ready);
        assert_eq!(
            with_health(HealthStatusEnum::UNHEALTHY, "first\nconnection refused\n"),
            Look::Waiting("its health check says unhealthy: connection refused".to_owned())
        );
        assert_eq!(
            with_health(HealthStatusEnum::STARTING, ""),
            Look::Waiting("its health check says starting".to_owned())
        );
        assert_eq!(
            with_health(HealthStatusEnum::NONE, ""),
            Look::Running("noon".to_owned())
        );
    }

    #[test]
    fn an_end_is_good_only_with_code_0() {
        let ended = |code| ContainerState {
            exit_code: code,
            ..state(ContainerStateStatusEnum::EXITED)
        };
        assert_eq!(look_at(ended(Some(0))), Look::Ready);
        let hopeless = |words: &str| Look::Hopeless(words.to_owned());
        assert_eq!(
            look_at(ended(Some(1))),
            hopeless("it ended with exit code 1")
        );
        assert_eq!(
            look_at(ended(None)),
            hopeless("it ended with an unknown exit code")
        );
        let killed = ContainerState {
            oom_killed: Some(true),
            ..ended(Some(137))
        };
        assert_eq!(
            look_at(killed),
            hopeless("it ended with exit code 137, out of memory")
        );
    }
}
