//! Which journals there are: those that Cofferdam wrote, and nothing that only says so.
//!
//! Labels alone prove nothing. A journal has the name that is its project's lock, has never been started, was not made by
//! compose, and is of Cofferdam's image. What lacks one of the first three is a stranger's, and is passed over with a warning.
//! Where nothing but the image is in doubt it is an obstacle: neither believed, nor taken for nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tracing::warn;

use super::containers::InFlight;
use super::{HoldError, Journal, LABEL_HOLD, LABEL_JOURNAL, LABEL_RUN, Lock, Mark, journal_name};
use crate::engine::{Container, Engine, EngineError};
use crate::repository::SnapshotRef;

/// What a container with the labels of a journal, or of a mark, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Ours,
    /// What speaks against it.
    Stranger(String),
    /// Only its image does not show whose it is: why.
    Doubtful(String),
}

/// Whether Cofferdam made this container to be never started, under this name.
pub(super) async fn identity_of(
    engine: &Engine,
    container: &Container,
    name: &str,
) -> Result<Identity, EngineError> {
    if let Some(why) = stranger(container, name) {
        return Ok(Identity::Stranger(why));
    }
    if engine.is_of_our_image(container).await? {
        return Ok(Identity::Ours);
    }
    let image = &container.image;
    Ok(Identity::Doubtful(match container.agent_image {
        Some(_) => format!("its image {image} is not Cofferdam's"),
        None => format!("whether its image {image} is Cofferdam's cannot be told"),
    }))
}

fn stranger(container: &Container, name: &str) -> Option<String> {
    if container.name != name {
        return Some(format!("it is not named {name}"));
    }
    if container.is_of_compose() {
        return Some("compose made it".to_owned());
    }
    (!container.has_never_run()).then(|| "it has been started".to_owned())
}

impl Lock {
    /// The journals of the projects in scope, whoever owns them, and in a swarm those of other nodes that hold services.
    /// Others are not read: they may be of a newer cofferdam. One that cannot be read hides no other.
    pub async fn find_all(
        engine: &Engine,
        image: &str,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(Vec<Self>, Vec<HoldError>), HoldError> {
        let mut locks = Vec::new();
        let mut unreadable = Vec::new();
        for container in engine.containers(&[LABEL_JOURNAL.to_owned()]).await? {
            let project = container.labels.get(LABEL_HOLD).map_or("", String::as_str);
            if !in_scope(project) {
                continue;
            }
            let name = journal_name(project);
            match identity_of(engine, &container, &name).await? {
                Identity::Ours => match Self::of_container(engine, image, &container) {
                    Ok(lock) => locks.push(lock),
                    Err(error) => unreadable.push(error),
                },
                Identity::Doubtful(why) => unreadable.push(HoldError::NotAJournal {
                    name,
                    project: project.to_owned(),
                    why,
                }),
                Identity::Stranger(why) => warn!(
                    "container {} has the labels of a hold journal and is none: {why}; it is left alone",
                    container.name
                ),
            }
        }
        let claims = Self::claims(engine, image, in_scope, &locks).await?;
        for claim in claims {
            match claim {
                Ok(lock) => locks.push(lock),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((locks, unreadable))
    }

    /// The snapshots that restores of any project are reading, and those that they took as their way back: of runs that
    /// died in the middle, too, since `recover` needs them. A journal that cannot be read is an error where it may speak of
    /// snapshots of `project`, and keeps no other project from being pruned.
    pub async fn snapshots_in_use(
        engine: &Engine,
        project: &str,
    ) -> Result<BTreeSet<SnapshotRef>, HoldError> {
        let (locks, unreadable) = Self::find_all(engine, "", |_| true).await?;
        for error in unreadable {
            if error.may_concern(project) {
                return Err(error);
            }
            warn!("{error}");
        }
        let journals = locks.iter().map(Self::journal);
        Ok(journals.flat_map(Journal::snapshots).collect())
    }

    /// Removes the marks whose journals are gone: their runs died between the removals of [`Lock::close`], when everything had
    /// been done.
    pub async fn sweep_marks(
        engine: &Engine,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(), EngineError> {
        let found = engine.containers(&[LABEL_HOLD.to_owned()]).await?;
        let label = |container: &Container, key: &str| container.labels.get(key).cloned();
        // Also of what only says that it is one: whatever it is, a mark that stays does no harm.
        let journals: BTreeSet<String> = found
            .iter()
            .filter_map(|container| label(container, LABEL_RUN))
            .collect();
        for container in &found {
            let mut marks = Mark::ALL.into_iter();
            let mark = marks.find_map(|mark| Some((mark, label(container, &mark.label())?)));
            let Some((mark, run)) = mark.filter(|(_, run)| !journals.contains(run)) else {
                continue;
            };
            let project = label(container, LABEL_HOLD).unwrap_or_default();
            let name = mark.container_of(&run);
            if in_scope(&project) && identity_of(engine, container, &name).await? == Identity::Ours
            {
                engine.remove(&container.id).await?;
            }
        }
        Ok(())
    }

    /// What has the project's lock by its name.
    pub(super) async fn of_name_taken(
        engine: &Engine,
        image: &str,
        container: &Container,
        project: &str,
    ) -> Result<Self, HoldError> {
        let name = journal_name(project);
        match identity_of(engine, container, &name).await? {
            Identity::Ours => Self::of_container(engine, image, container),
            Identity::Stranger(why) | Identity::Doubtful(why) => Err(HoldError::NotAJournal {
                name,
                project: project.to_owned(),
                why,
            }),
        }
    }

    fn of_container(
        engine: &Engine,
        image: &str,
        container: &Container,
    ) -> Result<Self, HoldError> {
        Ok(Self {
            engine: engine.clone(),
            image: image.to_owned(),
            container: Some(container.id.clone()),
            elsewhere: None,
            in_flight: Mutex::new(InFlight::Unknown),
            journal: Journal::of_object(&container.name, &container.labels)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::State;
    use crate::engine::container::COMPOSE_PROJECT;
    use crate::engine::container::tests_support::container;

    #[test]
    fn a_journal_has_its_name_and_has_never_run() {
        let name = "cofferdam-hold-shop";
        let mut journal = container(name);
        journal.state = State::Created;
        assert_eq!(stranger(&journal, name), None);

        let mut other = journal.clone();
        other.name = "cofferdam-hold-shop2".to_owned();
        assert!(stranger(&other, name).is_some());
        let mut started = journal.clone();
        started.state = State::Exited;
        started.started_at = "2026-11-21T02:00:00Z".to_owned();
        assert!(stranger(&started, name).is_some());
        let mut composed = journal;
        let label = (COMPOSE_PROJECT.to_owned(), "shop".to_owned());
        composed.labels.extend([label]);
        assert!(stranger(&composed, name).is_some());
    }
}
