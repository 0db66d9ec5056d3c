//! The hold: containers that are stopped or paused on purpose, and the promise that they come back.
//!
//! Before the first stop the hold is written down in the engine itself: a container that is created and never started
//! carries the [`Journal`] in its labels, and its name is the lock of the project, since the engine refuses a second
//! container of that name. It is removed when everything is released. Whoever finds one whose owner is dead releases what
//! it lists: after `kill -9`, after a power cut, from another host.
//!
//! Two steps of a restore must survive a crash as well. Each is another such container ([`Mark`]): while that of the decision
//! does not exist, an interrupted restore is rolled back; once it does, it is finished.
//!
//! - `containers`: how one is held and released, whatever became of it meanwhile
//! - `seals`: whether what is held has stayed held
//! - `swarm`: services that are held through a manager, and the lock that all nodes share

mod containers;
pub mod ending;
pub mod journal;
pub mod owner;
mod seals;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use self::containers::InFlight;
pub use ending::Ending;
pub use journal::{Action, Held, Journal, Operation, RestoreJournal, Subject};
pub use owner::{Liveness, Owner};
pub use seals::Seals;

use crate::engine::{Container, Engine, EngineError, HelperSpec};
use crate::repository::SnapshotRef;
use crate::target::RunId;

/// How long a container may take to become healthy after its start, where no label says otherwise.
pub const READY_TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) const LABEL_HOLD: &str = "cofferdam.hold";
pub(crate) const LABEL_RUN: &str = "cofferdam.hold.run";
pub(crate) const LABEL_JOURNAL: &str = "cofferdam.hold.journal";

/// A lock that another run has.
#[derive(Clone, Debug)]
pub struct Taken {
    pub project: String,
    pub run: RunId,
    pub operation: Operation,
    pub owner: Owner,
    /// Where it runs, when that is another node of the swarm.
    pub node: Option<String>,
    pub liveness: Liveness,
}

impl fmt::Display for Taken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            run,
            operation,
            owner,
            node,
            liveness,
        } = self;
        write!(
            formatter,
            "project {project} is held by run {run} ({operation}) of {owner}"
        )?;
        if let Some(node) = node {
            write!(formatter, " on node {node}")?;
        }
        match liveness {
            Liveness::Alive => formatter.write_str("; wait for it to end"),
            Liveness::Dead => write!(
                formatter,
                ", which has ended; cofferdam on its node finishes it when it starts there; if that node is gone for good, \
                 run `cofferdam recover --project {project} --force`"
            ),
            Liveness::Unknown => write!(
                formatter,
                ", which cannot be asked from here; if it is gone, run `cofferdam recover --project {project} --force`"
            ),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The lock's owner lives or cannot be asked.
    #[error("{0}")]
    Taken(Box<Taken>),
    #[error(
        "the hold journal {name} cannot be read: {why}; `docker inspect {name}` shows what is held"
    )]
    Unreadable { name: String, why: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The lock of a project, and the journal of what this run holds.
///
/// It is not released on drop: a journal that outlives its run is what makes recovery possible.
pub struct Lock {
    engine: Engine,
    image: String,
    /// The journal in this engine.
    container: Option<String>,
    /// The claim in the swarm, of a run that has no journal in this engine.
    elsewhere: Option<swarm::Elsewhere>,
    in_flight: Mutex<InFlight>,
    journal: Journal,
}

/// A step of a restore that whoever recovers it has to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The safety snapshot is whole, and old data is going to be written over.
    Overwriting,
    /// The old data is given up.
    Decided,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Overwriting, Self::Decided];

    fn word(self) -> &'static str {
        match self {
            Self::Overwriting => "overwriting",
            Self::Decided => "decided",
        }
    }

    /// Its value is the run.
    fn label(self) -> String {
        format!("{LABEL_HOLD}.{}", self.word())
    }

    fn container(self, run: &RunId) -> String {
        format!("cofferdam-{}-{run}", self.word())
    }
}

/// What taking the lock came to.
pub enum Acquired {
    Lock(Lock),
    /// The journal of a run whose owner is dead: it must be recovered first.
    Abandoned(Lock),
}

/// A container that could not be brought back.
#[derive(Debug)]
pub struct ReleaseProblem {
    pub service: String,
    pub why: String,
    /// It does not run: the journal must stay, so that a later run tries again.
    pub still_held: bool,
}

impl Lock {
    /// Takes the project's lock, and writes the journal in the same act.
    pub async fn acquire(
        engine: &Engine,
        image: &str,
        journal: Journal,
    ) -> Result<Acquired, HoldError> {
        let name = journal_name(&journal.project);
        let created = engine
            .create_helper(&HelperSpec {
                name: Some(name.clone()),
                image: image.to_owned(),
                argv: vec!["/cofferdam".to_owned(), "--version".to_owned()],
                labels: journal.to_labels(),
                network: "none".to_owned(),
                ..HelperSpec::default()
            })
            .await;
        match created {
            Ok(container) => Ok(Acquired::Lock(Self {
                engine: engine.clone(),
                image: image.to_owned(),
                container: Some(container),
                elsewhere: None,
                in_flight: Mutex::default(),
                journal,
            })),
            Err(EngineError::NameTaken(_)) => {
                let found = match engine.inspect(&name).await {
                    Ok(found) => found,
                    // Released between the two calls.
                    Err(EngineError::NoSuchContainer(_)) => {
                        return Box::pin(Self::acquire(engine, image, journal)).await;
                    }
                    Err(error) => return Err(error.into()),
                };
                let other = Self::of_container(engine, image, &found)?;
                match other.journal.owner.liveness(engine, image).await? {
                    Liveness::Dead => Ok(Acquired::Abandoned(other)),
                    liveness => Err(other.taken(liveness)),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The journals of the projects in scope, whoever owns them, and in a swarm those of other nodes that hold services.
    /// Others are not read: they may be of a newer cofferdam. One that cannot be read hides no other.
    pub async fn find_all(
        engine: &Engine,
        image: &str,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(Vec<Self>, Vec<HoldError>), HoldError> {
        let found = engine.containers(&[LABEL_HOLD.to_owned()]).await?;
        let (locks, unreadable): (Vec<_>, Vec<_>) = found
            .iter()
            .filter(|container| container.labels.contains_key(LABEL_JOURNAL))
            .filter(|container| {
                let project = container.labels.get(LABEL_HOLD);
                project.is_some_and(|project| in_scope(project))
            })
            .map(|container| Self::of_container(engine, image, container))
            .partition(Result::is_ok);
        let mut locks: Vec<Self> = locks.into_iter().flatten().collect();
        let claims = Self::claims(engine, image, in_scope, &locks).await?;
        locks.extend(claims);
        let unreadable = unreadable.into_iter().filter_map(Result::err).collect();
        Ok((locks, unreadable))
    }

    /// The snapshots that restores of any project are reading, and those that they took as their way back: of runs that
    /// died in the middle, too, since `recover` needs them.
    pub async fn snapshots_in_use(engine: &Engine) -> Result<BTreeSet<SnapshotRef>, HoldError> {
        let found = engine.containers(&[LABEL_JOURNAL.to_owned()]).await?;
        let mut in_use = BTreeSet::new();
        for container in &found {
            let journal = Journal::of_container(container)?;
            in_use.extend(journal.snapshots());
        }
        for lock in Self::claims(engine, "", |_| true, &[]).await? {
            in_use.extend(lock.journal.snapshots());
        }
        Ok(in_use)
    }

    /// Removes the marks whose journals are gone: their runs died between the removals of [`Lock::close`], when everything had
    /// been done.
    pub async fn sweep_marks(
        engine: &Engine,
        in_scope: impl Fn(&str) -> bool,
    ) -> Result<(), EngineError> {
        let found = engine.containers(&[LABEL_HOLD.to_owned()]).await?;
        let label = |container: &Container, key: &str| container.labels.get(key).cloned();
        let journals: BTreeSet<String> = found
            .iter()
            .filter_map(|container| label(container, LABEL_RUN))
            .collect();
        for container in &found {
            let mut marks = Mark::ALL.into_iter();
            let run = marks.find_map(|mark| label(container, &mark.label()));
            let is_left = run.is_some_and(|run| !journals.contains(&run));
            let project = label(container, LABEL_HOLD).unwrap_or_default();
            if is_left && in_scope(&project) {
                engine.remove(&container.id).await?;
            }
        }
        Ok(())
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
            journal: Journal::of_container(container)?,
        })
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub async fn liveness(&self) -> Result<Liveness, EngineError> {
        match &self.elsewhere {
            Some(elsewhere) => self.liveness_elsewhere(elsewhere).await,
            None => self.journal.owner.liveness(&self.engine, &self.image).await,
        }
    }

    /// Stops and pauses what the journal lists, what depends on others first. On an error some are held and some are not:
    /// [`Lock::release`] brings back all. Whether what is held has stayed so, [`Lock::broken`] tells by the seals.
    pub async fn hold(&self) -> Result<Seals, EngineError> {
        let mut seals = Seals::default();
        for held in self.journal.held.iter().rev() {
            match &held.subject {
                Subject::SwarmService(service) => self.hold_service(held, service).await?,
                Subject::Container(container) => self.hold_container(held, container).await?,
            }
            self.seal(held, &mut seals).await?;
        }
        Ok(seals)
    }

    /// Starts or unpauses one held container, or scales a service back, and waits until it is ready when `wait` says so.
    pub async fn release(&self, held: &Held, wait: Wait) -> Result<(), ReleaseProblem> {
        match &held.subject {
            Subject::SwarmService(service) => self.release_service(held, service, wait).await,
            Subject::Container(container) => self.release_container(held, container, wait).await,
        }
    }

    /// Writes down that the restore has come so far.
    pub async fn mark(&self, mark: Mark) -> Result<(), EngineError> {
        let labels = BTreeMap::from([
            (LABEL_HOLD.to_owned(), self.journal.project.clone()),
            (mark.label(), self.journal.run.to_string()),
        ]);
        let created = self
            .engine
            .create_helper(&HelperSpec {
                name: Some(mark.container(&self.journal.run)),
                image: self.image.clone(),
                argv: vec!["/cofferdam".to_owned(), "--version".to_owned()],
                labels,
                network: "none".to_owned(),
                ..HelperSpec::default()
            })
            .await;
        match created {
            Ok(_) | Err(EngineError::NameTaken(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn is_marked(&self, mark: Mark) -> Result<bool, EngineError> {
        let name = mark.container(&self.journal.run);
        match self.engine.inspect(&name).await {
            Ok(_) => Ok(true),
            Err(EngineError::NoSuchContainer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the journal: the project is free. The marks go last, since without that of the decision a journal that is still
    /// there would be rolled back. Of a run of another node only the claim is removed.
    pub async fn close(self) -> Result<(), EngineError> {
        self.give_up_claim().await?;
        let Some(container) = &self.container else {
            return Ok(());
        };
        self.engine.remove(container).await?;
        if self.journal.operation == Operation::Restore {
            for mark in Mark::ALL {
                let name = mark.container(&self.journal.run);
                self.engine.remove(&name).await?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    UntilReady,
    /// For signals: what was held runs again, and nobody waits for its health.
    No,
}

/// Container names take letters, digits, `_`, `.` and `-`; a project's name from a label may hold anything.
fn journal_name(project: &str) -> String {
    let mut name = String::from("cofferdam-hold-");
    for character in project.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-') {
            name.push(character);
        } else {
            name.push_str(&format!("_u{:x}", u32::from(character)));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_has_a_name_that_the_engine_takes() {
        assert_eq!(journal_name("candigv2"), "cofferdam-hold-candigv2");
        assert_eq!(journal_name("a/b ü"), "cofferdam-hold-a_u2fb_u20_ufc");
    }
}
