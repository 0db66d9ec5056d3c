//! Containers stop and start, come and go. Each call is idempotent where its name allows it: what is so already is no
//! error.
//!
//! - `helper`: containers of our own
//! - `twin`: a container made like another one
//! - `ready`: waiting until a container serves, or has ended

mod helper;
mod ready;
mod twin;

use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use tokio::time::Instant;

pub use self::helper::{HelperMount, HelperSource, HelperSpec, Limits, Processes};
pub use self::twin::Substitute;
use super::fault::About;
use super::turns::CALL;
use super::{Engine, EngineError, State, container_name};

/// How long a container may take to vanish that somebody else is removing.
const VANISHING: Duration = Duration::from_secs(60);
/// A container's own stop time is unknown here; ten hours is more than anyone sets.
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 3600);

impl Engine {
    /// Stops a container. `grace`: what the container is given after its stop signal before it is killed; `None` takes the
    /// container's own (10 s unless set).
    pub async fn stop(&self, container: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        let name = container_name(container)?;
        let options = StopContainerOptions {
            t: grace.map(whole_seconds),
            ..StopContainerOptions::default()
        };
        let limit = grace.unwrap_or(LONGEST_GRACE).saturating_add(CALL);
        let stopping = self.patient.stop_container(name, Some(options));
        self.change(container, "stop", limit, stopping).await
    }

    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        let starting = self
            .patient
            .start_container(container_name(container)?, None);
        let Err(error) = self.call(container, CALL, starting).await else {
            return Ok(());
        };
        // What is missing may be something that it needs: a network, or the container whose network it shares.
        let about = match error {
            Error::DockerResponseServerError {
                status_code: 404, ..
            } if self.inspect_raw(container).await.is_ok() => About::Engine,
            _ => About::Container(container),
        };
        Err(self.fault(error, about, format!("start container {container}")))
    }

    /// Freezes a running container. One that does not run is an error, since it cannot be frozen.
    pub async fn pause(&self, container: &str) -> Result<(), EngineError> {
        let pausing = self.patient.pause_container(container_name(container)?);
        let paused = self.change(container, "pause", CALL, pausing).await;
        self.unless_already(container, paused, |state| state == State::Paused)
            .await
    }

    pub async fn unpause(&self, container: &str) -> Result<(), EngineError> {
        let thawing = self.patient.unpause_container(container_name(container)?);
        let thawed = self.change(container, "unpause", CALL, thawing).await;
        self.unless_already(container, thawed, |state| state != State::Paused)
            .await
    }

    /// Kills and removes a container of ours, with its anonymous volumes. A missing one is no error.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            ..RemoveContainerOptions::default()
        };
        let removing = self
            .patient
            .remove_container(container_name(container)?, Some(options));
        match self.change(container, "remove", CALL, removing).await {
            Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Err(EngineError::Api {
                status: Some(409),
                message,
                ..
            }) if message.contains("in progress") => self.wait_until_gone(container).await,
            other => other,
        }
    }

    async fn change(
        &self,
        container: &str,
        verb: &str,
        limit: Duration,
        call: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), EngineError> {
        self.call(container, limit, call).await.map_err(|error| {
            let action = format!("{verb} container {container}");
            self.fault(error, About::Container(container), action)
        })
    }

    /// Engines refuse what is so already, each with another status: the state decides.
    async fn unless_already(
        &self,
        container: &str,
        changed: Result<(), EngineError>,
        is_so: impl Fn(State) -> bool,
    ) -> Result<(), EngineError> {
        match changed {
            Err(EngineError::Api {
                status: Some(_), ..
            }) if is_so(self.inspect(container).await?.state) => Ok(()),
            other => other,
        }
    }

    async fn wait_until_gone(&self, container: &str) -> Result<(), EngineError> {
        let begun = Instant::now();
        loop {
            match self.inspect_raw(container).await {
                Err(EngineError::NoSuchContainer(_)) => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) if begun.elapsed() >= VANISHING => {
                    return Err(EngineError::NotReady {
                        container: container.to_owned(),
                        wanted: "removed",
                        limit: VANISHING,
                        last: "another client is removing it".to_owned(),
                    });
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// Rounded up: half a second of grace must not become none.
fn whole_seconds(time: Duration) -> i32 {
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0));
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_rounded_up() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_millis(1), 1),
            (Duration::from_secs(10), 10),
            (Duration::from_millis(10_001), 11),
            (Duration::MAX, i32::MAX),
        ];
        for (time, seconds) in table {
            assert_eq!(whole_seconds(time), seconds);
        }
    }
}
