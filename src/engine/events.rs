//! What happens to containers, as the engine tells it while it happens.

use std::collections::{BTreeMap, HashMap};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};

use super::container::project_of;
use super::fault::About;
use super::{Engine, EngineError};

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
                Err(error) => Some(Err(self.fault(error, About::Engine, "tell what happens"))),
            }
        })
    }
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
