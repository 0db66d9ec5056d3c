//! Listens to the engine: containers that come and go bring labels with them, and some that end ask for a backup.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::{debug, warn};

use super::inbox::{Inbox, Occasion};
use crate::engine::{ContainerEvent, Engine, EngineError, Happening};
use crate::labels::{self, OwnLabel, TRIGGER};
use crate::stack::Scope;

/// Between two attempts to listen again; twice as long after each that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Puts into `inbox` what the engine tells, until it is dropped. When the engine goes away, as when it restarts, it is waited
/// for; labels are read again then, since nobody knows what has happened meanwhile.
pub async fn watch(engine: Engine, scope: Scope, inbox: Inbox) {
    let mut pause = PAUSES.0;
    loop {
        match listen(&engine, &scope, &inbox).await {
            Heard::Something => pause = PAUSES.0,
            Heard::Nothing => pause = (pause * 2).min(PAUSES.1),
        }
        tokio::time::sleep(pause).await;
        inbox.labels_changed();
    }
}

enum Heard {
    Something,
    Nothing,
}

async fn listen(engine: &Engine, scope: &Scope, inbox: &Inbox) -> Heard {
    let mut events = pin!(engine.events());
    let mut heard = Heard::Nothing;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                heard = Heard::Something;
                put(&event, scope, inbox);
            }
            Err(error) => {
                tell(&error);
                return heard;
            }
        }
    }
    debug!("the engine ended the event stream");
    heard
}

fn tell(error: &EngineError) {
    match error {
        EngineError::Forbidden { .. } => warn!(
            "cannot watch the engine, so new containers go unnoticed until the next backup and `{TRIGGER}` has no effect: \
             {error}; a socket proxy must allow GET /events"
        ),
        _ => debug!("cannot read events of the engine: {error}"),
    }
}

fn put(event: &ContainerEvent, scope: &Scope, inbox: &Inbox) {
    let is_ours = |key: &String| labels::find_own(key) == Some(OwnLabel::Container);
    if event.labels.keys().any(is_ours) || !is_in(scope, &event.project) {
        return;
    }
    match event.happening {
        Happening::Created | Happening::Removed => inbox.labels_changed(),
        Happening::Exited { code: 0 } if asks_for_a_backup(event) => {
            let container = event.container.clone();
            inbox.ask(&event.project, Occasion::Exit { container });
        }
        Happening::Exited { .. } => {}
    }
}

fn is_in(scope: &Scope, project: &str) -> bool {
    match scope {
        Scope::All => true,
        Scope::Projects(names) => names.iter().any(|name| name == project),
        Scope::Own => false,
    }
}

/// Also of `docker compose run`, which is no service, and gone in a moment.
fn asks_for_a_backup(event: &ContainerEvent) -> bool {
    event
        .labels
        .get(TRIGGER)
        .is_some_and(|value| value.trim() == labels::TRIGGER_ON_EXIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(happening: Happening, labels: &[(&str, &str)]) -> ContainerEvent {
        let labels = labels.iter();
        ContainerEvent {
            happening,
            container: "candig-ingest".to_owned(),
            project: "candig".to_owned(),
            labels: labels
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn asked(event: &ContainerEvent, scope: &Scope) -> (bool, bool) {
        let inbox = Inbox::default();
        put(event, scope, &inbox);
        let asked = inbox.take_backup("candig").is_some();
        (inbox.take_labels_changed(), asked)
    }

    #[test]
    fn only_an_exit_with_0_of_who_asks_is_a_trigger() {
        let trigger = (TRIGGER, "exit");
        let done = Happening::Exited { code: 0 };
        for (event, expected) in [
            (event(done, &[trigger]), (false, true)),
            (
                event(Happening::Exited { code: 1 }, &[trigger]),
                (false, false),
            ),
            (event(done, &[(TRIGGER, "never")]), (false, false)),
            (event(done, &[]), (false, false)),
            (event(Happening::Created, &[trigger]), (true, false)),
            (event(Happening::Removed, &[]), (true, false)),
            (
                event(Happening::Created, &[("cofferdam.helper", "1")]),
                (false, false),
            ),
        ] {
            assert_eq!(asked(&event, &Scope::All), expected, "{event:?}");
        }
    }

    #[test]
    fn other_projects_are_nobodys_business() {
        let event = event(Happening::Created, &[]);
        let of = |names: &[&str]| Scope::Projects(names.iter().map(|&it| it.to_owned()).collect());
        assert_eq!(asked(&event, &of(&["candig"])), (true, false));
        assert_eq!(asked(&event, &of(&["shop"])), (false, false));
    }
}
