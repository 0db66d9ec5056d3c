//! The hold: containers that are stopped or paused on purpose, and the promise that they come back.
//!
//! Before the first stop the hold is written down in the engine itself: a container that is created and never started
//! carries the [`Journal`] in its labels, and its name is the lock of the project, since the engine refuses a second
//! container of that name. It is removed when everything is released. Whoever finds one whose owner is dead releases what
//! it lists: after `kill -9`, after a power cut, from another host.
//!
//! Two steps of a restore must survive a crash as well. Each is another such container ([`Mark`]): while that of the decision
//! does not exist, an interrupted restore is rolled back; once it does, it is finished. A third says that a run is over and has
//! left something to finish, which matters while the process that ran it lives on, as the daemon does.
//!
//! - `containers`: how one is held and released, whatever became of it meanwhile
//! - `search`: which journals there are, and what only claims to be one
//! - `seals`: whether what is held has stayed held
//! - `swarm`: services that are held through a manager, and the lock that all nodes share

mod containers;
pub(crate) mod ending;
pub(crate) mod hooks;
pub(crate) mod journal;
pub(crate) mod owner;
mod seals;
mod search;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use self::containers::InFlight;
pub use ending::Ending;
pub use journal::{Action, Held, Journal, Operation, RestoreJournal, Subject};
pub use owner::{Liveness, Owner};
pub use seals::{Seals, disturbance};

use self::search::{Identity, identity_of};
use crate::engine::ours::{HOLD_LABEL, HOLD_NAME, MARK_NAMES};
use crate::engine::{Engine, EngineError, HelperSpec};
use crate::target::{RunId, TargetId};

/// How long a container may take to become healthy after its start, where no label says otherwise.
pub const READY_TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) const LABEL_HOLD: &str = HOLD_LABEL;
pub(crate) const LABEL_RUN: &str = "cofferdam.hold.run";
pub(crate) const LABEL_JOURNAL: &str = "cofferdam.hold.journal";
/// On [`Mark::Ended`]: see [`Lock::lost`].
const LABEL_LOST: &str = "cofferdam.hold.lost";

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
                ", which has ended; Cofferdam finishes it when it next starts on that node; if that node is gone for good, \
                 run `cofferdam recover --project {project} --force`"
            ),
            Liveness::Unknown => write!(
                formatter,
                ", whose state cannot be checked from here; if it is gone, run `cofferdam recover --project {project} --force`"
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
    Unreadable {
        name: String,
        why: String,
        /// The projects that it may speak of.
        projects: BTreeSet<String>,
    },
    /// It has the name of the lock of a project.
    #[error(
        "container {name} has the name of project {project}'s hold journal, but Cofferdam does not trust it as one: {why}; \
         inspect it with `docker inspect {name}`; if it holds nothing of yours, remove it with `docker rm {name}`"
    )]
    NotAJournal {
        name: String,
        project: String,
        why: String,
    },
    /// What was planned before does not know what the dead run held.
    #[error(
        "run {run} of project {project} had died and was recovered after this run was planned; run the command again"
    )]
    Recovered { run: RunId, project: String },
    /// What was planned before would hold the wrong containers.
    #[error(
        "{service} was started, stopped or replaced after this run was planned; run the command again"
    )]
    Changed { service: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl HoldError {
    /// Whether what could not be read may be about snapshots of the project.
    fn may_concern(&self, project: &str) -> bool {
        match self {
            Self::Unreadable { projects, .. } => projects.contains(project),
            Self::NotAJournal { project: of, .. } => of == project,
            Self::Taken(_) | Self::Recovered { .. } | Self::Changed { .. } | Self::Engine(_) => {
                true
            }
        }
    }
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

/// A step of a run that whoever recovers it has to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The safety snapshot is whole, and old data is going to be written over.
    Overwriting,
    /// The old data is given up.
    Decided,
    /// The run is over, and could not finish: whoever owns the journal does no more about it.
    Ended,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Overwriting, Self::Decided, Self::Ended];

    fn word(self) -> &'static str {
        match self {
            Self::Overwriting => "overwriting",
            Self::Decided => "decided",
            Self::Ended => "ended",
        }
    }

    /// Its value is the run.
    fn label(self) -> String {
        format!("{LABEL_HOLD}.{}", self.word())
    }

    fn container(self, run: &RunId) -> String {
        self.container_of(run.as_str())
    }

    fn container_of(self, run: &str) -> String {
        let [overwriting, decided, ended] = MARK_NAMES;
        match self {
            Self::Overwriting => format!("{overwriting}{run}"),
            Self::Decided => format!("{decided}{run}"),
            Self::Ended => format!("{ended}{run}"),
        }
    }
}

/// What taking the lock came to.
pub enum Acquired {
    Lock(Lock),
    /// The journal of a run whose owner is dead: it must be recovered, and everything planned anew.
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
                let other = Self::of_name_taken(engine, image, &found, &journal.project).await?;
                match other.liveness().await? {
                    Liveness::Dead => Ok(Acquired::Abandoned(other)),
                    liveness => Err(other.taken(liveness)),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether somebody is still at work on the run.
    pub async fn liveness(&self) -> Result<Liveness, EngineError> {
        if let Some(elsewhere) = &self.elsewhere {
            return self.liveness_elsewhere(elsewhere).await;
        }
        match self
            .journal
            .owner
            .liveness(&self.engine, &self.image)
            .await?
        {
            Liveness::Dead => Ok(Liveness::Dead),
            _ if self.is_marked(Mark::Ended).await? => Ok(Liveness::Dead),
            liveness => Ok(liveness),
        }
    }

    /// Stops and pauses what the journal lists, what depends on others first. On an error some are held and some are not:
    /// [`Lock::release`] brings back all. Whether what is held has stayed so, [`Lock::broken`] tells by the seals.
    pub async fn hold(&self) -> Result<Seals, EngineError> {
        let mut seals = Seals::default();
        for held in self.journal.held.iter().rev() {
            let before = self.before(held).await;
            match &held.subject {
                Subject::SwarmService(service) => self.hold_service(held, service).await?,
                Subject::Container(container) => self.hold_container(held, container).await?,
            }
            self.seal(held, before, &mut seals).await?;
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

    /// Writes down that the run has come so far.
    pub async fn mark(&self, mark: Mark) -> Result<(), EngineError> {
        self.mark_with(mark, []).await
    }

    /// Writes down that the run is over and has left something to finish: a recovery need not wait for its owner. It cannot put
    /// back what is lost.
    pub async fn mark_ended(&self, lost: &BTreeSet<TargetId>) -> Result<(), EngineError> {
        let lost = serde_json::to_string(lost).expect("ids of targets are strings");
        let label = (LABEL_LOST.to_owned(), lost);
        self.mark_with(Mark::Ended, [label]).await
    }

    /// What was loaded beside the old data and was gone when the run wanted to put it in its place.
    pub async fn lost(&self) -> Result<BTreeSet<TargetId>, EngineError> {
        if !self.is_marked(Mark::Ended).await? {
            return Ok(BTreeSet::new());
        }
        let name = Mark::Ended.container(&self.journal.run);
        let found = self.engine.inspect(&name).await?;
        let lost = found.labels.get(LABEL_LOST).map_or("[]", String::as_str);
        serde_json::from_str(lost).map_err(|error| EngineError::Api {
            action: format!("read label {LABEL_LOST} of container {name}"),
            status: None,
            message: error.to_string(),
        })
    }

    async fn mark_with(
        &self,
        mark: Mark,
        more: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), EngineError> {
        let mut labels = BTreeMap::from([
            (LABEL_HOLD.to_owned(), self.journal.project.clone()),
            (mark.label(), self.journal.run.to_string()),
        ]);
        labels.extend(more);
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
            Ok(_) => Ok(()),
            Err(EngineError::NameTaken(name)) => match self.is_marked(mark).await? {
                true => Ok(()),
                false => Err(EngineError::NameTaken(name)),
            },
            Err(error) => Err(error),
        }
    }

    pub async fn is_marked(&self, mark: Mark) -> Result<bool, EngineError> {
        let name = mark.container(&self.journal.run);
        match self.engine.inspect(&name).await {
            Ok(found) => match identity_of(&self.engine, &found, &name).await? {
                Identity::Ours => Ok(true),
                // It decides what becomes of data: somebody has to look.
                Identity::Stranger(why) | Identity::Doubtful(why) => Err(EngineError::Api {
                    action: format!("tell whether container {name} is Cofferdam's"),
                    status: None,
                    message: format!("{why}; inspect it with `docker inspect {name}`"),
                }),
            },
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
        for mark in Mark::ALL {
            if mark == Mark::Ended || self.journal.operation == Operation::Restore {
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
    let mut name = String::from(HOLD_NAME);
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
