//! What happens to containers, as the engine tells it while it happens.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{EventMessage, SystemVersion};
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::container::project_of;
use super::fault::About;
use super::{Container, Engine, EngineError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    pub happening: Happening,
    /// The container's name.
    pub container: String,
    pub project: String,
    /// Those of the container, with some more of the engine's.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It is there, or is called otherwise now.
    Created,
    Exited {
        code: i64,
    },
    Removed,
}

/// The engine's words for them.
const ACTIONS: [&str; 4] = ["create", "rename", "die", "destroy"];

impl Engine {
    /// Begins now, and ends with the connection: of what happens until the next call nothing is told.
    pub fn events(&self) -> impl Stream<Item = Result<ContainerEvent, EngineError>> + '_ {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let options = EventsOptions {
            filters: Some(HashMap::from([
                ("type".to_owned(), words(&["container"])),
                ("event".to_owned(), words(&ACTIONS)),
            ])),
            ..EventsOptions::default()
        };
        let events = self.patient.events(Some(options));
        events.filter_map(|event| async {
            match event {
                Ok(event) => read(event).map(Ok),
                Err(error) => Some(Err(self.fault(error, About::Engine, "report events"))),
            }
        })
    }
}

impl Engine {
    /// Whether a container was sent a signal since another one was created; `None`: the engine does not remember so far back, or
    /// does not tell of each signal. Podman tells of those that somebody sends by name, and not of those of a stop.
    pub async fn was_signalled(
        &self,
        container: &str,
        since: &Container,
    ) -> Result<Option<bool>, EngineError> {
        let fault = |error| self.fault(error, About::Engine, "report past events");
        // By the engine's clock: there the stream ends.
        let Some(now) = self.client.info().await.map_err(fault)?.system_time else {
            return Ok(None);
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let options = EventsOptions {
            since: Some(since.created.to_string()),
            until: Some(now),
            filters: Some(HashMap::from([
                ("container".to_owned(), words(&[container, &since.id])),
                ("event".to_owned(), words(&["create", "kill"])),
            ])),
        };
        let events = self.client.events(Some(options)).map_err(fault);
        let events: Vec<EventMessage> = events.try_collect().await?;
        let has = |id: &str, action: &str| {
            events.iter().any(|event| {
                let actor = event.actor.as_ref().and_then(|actor| actor.id.as_deref());
                actor == Some(id) && event.action.as_deref() == Some(action)
            })
        };
        if has(container, "kill") {
            return Ok(Some(true));
        }
        if !has(&since.id, "create") {
            return Ok(None);
        }
        let version = self.client.version().await.map_err(fault)?;
        Ok(is_docker(&version).then_some(false))
    }
}

/// Whether it says that it is Docker's own.
fn is_docker(version: &SystemVersion) -> bool {
    let mut components = version.components.iter().flatten();
    components.any(|component| component.name == "Engine")
}

/// `None` for what nobody asked for.
fn read(event: EventMessage) -> Option<ContainerEvent> {
    let labels: BTreeMap<String, String> = event.actor?.attributes?.into_iter().collect();
    let happening = match event.action?.as_str() {
        "create" | "rename" => Happening::Created,
        "die" => Happening::Exited {
            code: labels.get("exitCode")?.parse().ok()?,
        },
        "destroy" => Happening::Removed,
        _ => return None,
    };
    let container = labels.get("name").cloned().unwrap_or_default();
    Some(ContainerEvent {
        happening,
        project: project_of(&labels).to_owned(),
        container,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As each answers `GET /version`, shortened.
    #[test]
    fn docker_says_that_it_is_docker() {
        for (answer, expected) in [
            (
                r#"{"Components":[{"Name":"Engine","Version":"27.3.1"},{"Name":"runc","Version":"1.1"}]}"#,
                true,
            ),
            (
                r#"{"Components":[{"Name":"Podman Engine","Version":"4.9.3"},{"Name":"Conmon","Version":"2"}]}"#,
                false,
            ),
            (r#"{"Version":"4.9.3"}"#, false),
        ] {
            let version: SystemVersion = serde_json::from_str(answer).unwrap();
            assert_eq!(is_docker(&version), expected, "{answer}");
        }
    }
}
