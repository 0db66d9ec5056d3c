//! Which journals there are: those that Cofferdam wrote, and nothing that only says so.
//!
//! Labels alone prove nothing. A journal has the name that is its project's lock, was not made by compose, and is of
//! Cofferdam's image. It may have been started, as by an administrator who starts everything after a power cut: then it has
//! printed a version and ended. What has another name is a stranger's, and is passed over with a warning. What has the name,
//! and lacks anything else, is an obstacle: neither believed, nor taken for nothing.

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
    /// It has another name: which it should have.
    Stranger(String),
    /// It has the name: what speaks against it.
    Doubtful(String),
}

/// Whether Cofferdam made this container, under this name.
pub(super) async fn identity_of(
    engine: &Engine,
    container: &Container,
    name: &str,
) -> Result<Identity, EngineError> {
    if let Some(identity) = without_its_image(container, name) {
        return Ok(identity);
    }
    if engine.is_of_our_image(container).await? {
        return Ok(Identity::Ours);
    }
    let image = &container.image;
    Ok(Identity::Doubtful(match container.agent_image {
        Some(_) => format!("its image {image} is not Cofferdam's"),
        None => format!("Cofferdam cannot tell whether its image {image} is its own"),
    }))
}

/// `None`: its image decides.
fn without_its_image(container: &Container, name: &str) -> Option<Identity> {
    if container.name != name {
        return Some(Identity::Stranger(format!("it is not named {name}")));
    }
    let is_of_compose = container.is_of_compose();
    is_of_compose.then(|| Identity::Doubtful("compose made it".to_owned()))
}

impl Lock {
    /// The journals of the projects in scope, whoever owns them, and in a swarm those of other nodes that hold services.
    /// Others are not read: they may be of a newer cofferdam. One that cannot be read hides no other.
    pub async fn find_all(
        engine: &Engine,
        image: &str,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(Vec<Self>, Vec<HoldError>), HoldError> {
        // What this node has to finish is in its own engine.
        let (locks, unreadable, _) = Self::search(engine, image, in_scope).await?;
        Ok((locks, unreadable))
    }

    /// The same, and why the claims of other nodes are not among them although somebody has named a manager.
    async fn search(
        engine: &Engine,
        image: &str,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(Vec<Self>, Vec<HoldError>, Option<EngineError>), HoldError> {
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
                    "container {} has the labels of a hold journal but is not one: {why}; it is left alone",
                    container.name
                ),
            }
        }
        let claims = match Self::claims(engine, image, in_scope, &locks).await {
            Ok(claims) => claims,
            Err(error) => {
                let away = engine.has_managers().then_some(error);
                return Ok((locks, unreadable, away));
            }
        };
        for claim in claims {
            match claim {
                Ok(lock) => locks.push(lock),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((locks, unreadable, None))
    }

    /// The snapshots that restores of any project are reading, and those that they took as their way back: of runs that
    /// died in the middle, too, since `recover` needs them. A journal that cannot be read is an error where it may speak of
    /// snapshots of `project`, and keeps no other project from being pruned; so is whatever else has the name of its lock.
    /// What other nodes of a swarm read is not known while a manager that could tell is away.
    pub async fn snapshots_in_use(
        engine: &Engine,
        project: &str,
    ) -> Result<BTreeSet<SnapshotRef>, HoldError> {
        let (mut locks, unreadable, away) = Self::search(engine, "", |_| true).await?;
        for error in unreadable.into_iter().chain(away.map(HoldError::from)) {
            if error.may_concern(project) {
                return Err(error);
            }
            warn!("{error}");
        }
        // It need not have the labels by which journals are found.
        match engine.inspect(&journal_name(project)).await {
            Ok(found) => locks.push(Self::of_name_taken(engine, "", &found, project).await?),
            Err(EngineError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error.into()),
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
    use crate::engine::container::COMPOSE_NUMBER;
    use crate::engine::container::tests_support::container;

    #[test]
    fn a_journal_has_its_name_and_may_have_been_started() {
        let name = "cofferdam-hold-shop";
        let mut journal = container(name);
        journal.state = State::Created;
        assert_eq!(without_its_image(&journal, name), None);

        let mut other = journal.clone();
        other.name = "cofferdam-hold-shop2".to_owned();
        let identity = without_its_image(&other, name);
        assert!(matches!(identity, Some(Identity::Stranger(_))));
        let mut started = journal.clone();
        started.state = State::Exited;
        started.started_at = "2026-11-21T02:00:00Z".to_owned();
        assert_eq!(without_its_image(&started, name), None);
        let mut composed = journal;
        let label = (COMPOSE_NUMBER.to_owned(), "1".to_owned());
        composed.labels.extend([label]);
        let identity = without_its_image(&composed, name);
        assert!(matches!(identity, Some(Identity::Doubtful(_))));
    }
}
