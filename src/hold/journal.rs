//! What a run writes down before it holds anything: all that whoever recovers it needs, and cannot learn elsewhere.
//!
//! - `services`: how the project was labelled then
//! - `restore`: what a restore does to each target

mod restore;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use restore::{RestoreChoices, RestoreJournal, RestoreStep};
pub use services::{ServiceThen, relabel};

use super::{HoldError, LABEL_HOLD, LABEL_JOURNAL, LABEL_RUN, Owner};
use crate::engine::Container;
use crate::repository::SnapshotRef;
use crate::target::{Moment, RunId, TargetId};

/// The format of the journal; another cofferdam may have to read it. Since version 2 it says how long each of what is held may
/// take to be ready; where that is missing, nobody waits for it.
const VERSION: u32 = 2;
const OLDEST_VERSION: u32 = 1;

const TOOL: &str = concat!("cofferdam ", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// Name and version of the program that wrote it.
    tool: String,
    pub run: RunId,
    pub project: String,
    pub operation: Operation,
    pub owner: Owner,
    /// In the order in which they start.
    pub held: Vec<Held>,
    /// All of the project, as they were labelled when the run began.
    pub services: Vec<ServiceThen>,
    /// What a backup saves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<TargetId>,
    pub restore: Option<RestoreJournal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Backup,
    Restore,
}

impl Operation {
    /// As labels name it.
    pub fn moment(self) -> Moment {
        match self {
            Self::Backup => Moment::Backup,
            Self::Restore => Moment::Restore,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        })
    }
}

/// Something that runs now and is going to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    #[serde(flatten)]
    pub subject: Subject,
    pub service: String,
    pub action: Action,
    /// How long it may take to be ready once it is released; `None`: it is not waited for, since it was not ready before.
    pub ready_within: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// By its id.
    Container(String),
    /// All tasks of it, on whatever nodes they run.
    SwarmService(HeldService),
}

/// What the service had before is written down in its own labels, in the update that scales it: whoever scales it between
/// this journal and that update is heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldService {
    pub id: String,
    /// How many of its tasks ran: so many are waited for when it is released.
    pub tasks: u64,
}

impl Subject {
    /// Whether a container is held by this.
    pub fn includes(&self, container: &Container) -> bool {
        match self {
            Self::Container(id) => *id == container.id,
            Self::SwarmService(service) => container.swarm_service() == Some(&service.id),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Stop,
    Pause,
}

/// What can be read of a journal of any version.
#[derive(Deserialize)]
struct Origin {
    version: u32,
    tool: String,
}

impl Origin {
    fn ensure_it_is_understood(&self) -> Result<(), String> {
        if (OLDEST_VERSION..=VERSION).contains(&self.version) {
            return Ok(());
        }
        Err(format!(
            "{} wrote it (journal version {}, this one reads up to {VERSION}); run `cofferdam recover` with that version",
            self.tool, self.version
        ))
    }
}

impl Journal {
    pub fn new(
        run: RunId,
        project: String,
        operation: Operation,
        owner: Owner,
        held: Vec<Held>,
    ) -> Self {
        Self {
            version: VERSION,
            tool: TOOL.to_owned(),
            run,
            project,
            operation,
            owner,
            held,
            services: Vec::new(),
            saved: Vec::new(),
            restore: None,
        }
    }

    /// Of the object of the engine or of the swarm that has this name and these labels.
    pub(super) fn of_object(
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, HoldError> {
        Self::from_labels(labels).map_err(|why| HoldError::Unreadable {
            name: name.to_owned(),
            why,
            projects: mentioned(labels),
        })
    }

    /// Whether it lists services of a swarm.
    pub fn holds_services(&self) -> bool {
        let mut subjects = self.held.iter().map(|held| &held.subject);
        subjects.any(|subject| matches!(subject, Subject::SwarmService(_)))
    }

    /// The snapshots that the run needs until it has come to its end.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapshotRef> {
        let restore = self.restore.iter();
        restore.flat_map(|restore| {
            let read = restore.targets.iter().map(|step| restore.snapshot_of(step));
            let read: BTreeSet<SnapshotRef> = read.collect();
            let safety = restore.safety.clone();
            read.into_iter()
                .chain(safety.map(|safety| SnapshotRef::new(&self.project, safety)))
        })
    }

    pub(super) fn to_labels(&self) -> BTreeMap<String, String> {
        let text = serde_json::to_string(self).expect("a journal has only string keys");
        BTreeMap::from([
            (LABEL_HOLD.to_owned(), self.project.clone()),
            (LABEL_RUN.to_owned(), self.run.to_string()),
            (LABEL_JOURNAL.to_owned(), text),
        ])
    }

    pub(super) fn from_labels(labels: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = labels
            .get(LABEL_JOURNAL)
            .ok_or_else(|| format!("it has no label {LABEL_JOURNAL}"))?;
        let origin: Origin = serde_json::from_str(text).map_err(|error| error.to_string())?;
        origin.ensure_it_is_understood()?;
        let journal: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if labels.get(LABEL_HOLD) != Some(&journal.project) {
            return Err(format!("it belongs to project {}", journal.project));
        }
        Ok(journal)
    }
}

/// The projects that a journal may speak of, whatever its version: its own, and every text in it, since a restore may read
/// the snapshots of another one.
fn mentioned(labels: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = labels.get(LABEL_HOLD).cloned().into_iter().collect();
    let text = labels.get(LABEL_JOURNAL).map_or("", String::as_str);
    let mut waiting: Vec<Value> = serde_json::from_str(text).into_iter().collect();
    while let Some(value) = waiting.pop() {
        match value {
            Value::String(text) => drop(found.insert(text)),
            Value::Array(values) => waiting.extend(values),
            Value::Object(fields) => waiting.extend(fields.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::tree::Placement;
    use crate::driver::{OldDatabase, WayBack};
    use crate::engine::container::tests_support::container;

    #[test]
    fn a_journal_survives_its_labels() {
        let mut journal = Journal::new(
            "20261121T020000Z-9f2c61aa".parse().unwrap(),
            "candigv2".to_owned(),
            Operation::Restore,
            Owner::for_tests(),
            vec![
                Held {
                    subject: Subject::Container("c".repeat(64)),
                    service: "katsu".to_owned(),
                    action: Action::Stop,
                    ready_within: None,
                },
                Held {
                    subject: Subject::SwarmService(HeldService {
                        id: "x1".to_owned(),
                        tasks: 2,
                    }),
                    service: "web".to_owned(),
                    action: Action::Stop,
                    ready_within: Some(Duration::from_secs(300)),
                },
            ],
        );
        journal.restore = Some(RestoreJournal {
            project: "candig".to_owned(),
            snapshot: "20261120T020000Z-00000001".parse().unwrap(),
            repository: "/backups".to_owned(),
            targets: vec![RestoreStep {
                target: "postgres-db/postgres/clinical".parse().unwrap(),
                saved_as: "db/postgres/clinical".parse().unwrap(),
                snapshot: None,
                way_back: WayBack::Staged,
                path: Some("/data".to_owned()),
            }],
            safety: None,
            choices: RestoreChoices {
                old_database: OldDatabase::Keep,
                placement: Placement::InPlace,
                paths: vec!["invoices/2025".to_owned().try_into().unwrap()],
            },
        });
        journal.services = vec![ServiceThen::of(&container("katsu"))];
        let names = |journal: &Journal| -> Vec<String> {
            journal.snapshots().map(|one| one.to_string()).collect()
        };
        assert_eq!(names(&journal), ["candig/20261120T020000Z-00000001"]);
        let restore = journal.restore.as_mut().unwrap();
        restore.safety = Some("20261121T020001Z-00000002".parse().unwrap());
        assert_eq!(
            names(&journal),
            [
                "candig/20261120T020000Z-00000001",
                "candigv2/20261121T020001Z-00000002"
            ]
        );
        let restore = journal.restore.as_mut().unwrap();
        let step = RestoreStep {
            snapshot: Some("20261119T020000Z-00000003".parse().unwrap()),
            ..restore.targets[0].clone()
        };
        restore.targets.push(step);
        assert_eq!(
            names(&journal),
            [
                "candig/20261119T020000Z-00000003",
                "candig/20261120T020000Z-00000001",
                "candigv2/20261121T020001Z-00000002"
            ]
        );
        assert_eq!(Journal::from_labels(&journal.to_labels()), Ok(journal));
    }

    /// As version 1 wrote it.
    #[test]
    fn a_journal_of_an_older_version_is_read() {
        let text = r#"{"version":1,"tool":"cofferdam 0.1.0","run":"20261121T020000Z-9f2c61aa","project":"p",
            "operation":"restore","owner":{"container":{"id":"f00d","started_at":"x"},"host":"x","boot":"x","pid":1,"started":1},
            "held":[{"container":"cafe","service":"web","action":"stop"},
                {"swarm-service":{"id":"x1","tasks":2},"service":"job","action":"pause"}],
            "services":[{"container":"cafe","service":"web","labels":{"cofferdam.volumes":"data"}}],
            "restore":{"project":"p","snapshot":"20261120T020000Z-00000001","repository":"/backups",
                "targets":[{"target":"web/volume/data","saved_as":"web/volume/data","way_back":"staged","path":null}],
                "safety":null,"choices":{"old_database":"drop","placement":"beside","paths":[]}}}"#;
        let labels = BTreeMap::from([
            (LABEL_HOLD.to_owned(), "p".to_owned()),
            (LABEL_JOURNAL.to_owned(), text.to_owned()),
        ]);
        let journal = Journal::from_labels(&labels).unwrap();
        let held: Vec<_> = journal.held.iter().collect();
        assert_eq!(held[0].subject, Subject::Container("cafe".to_owned()));
        assert!(held.iter().all(|held| held.ready_within.is_none()));
        assert_eq!(journal.snapshots().count(), 1);
    }

    #[test]
    fn a_journal_of_another_version_is_not_guessed_at() {
        let mut journal = Journal::new(
            "20261121T020000Z-9f2c61aa".parse().unwrap(),
            "p".to_owned(),
            Operation::Backup,
            Owner::for_tests(),
            Vec::new(),
        );
        journal.version = VERSION + 1;
        journal.tool = "cofferdam 9.0.0".to_owned();
        let labels = journal.to_labels();
        let error = Journal::from_labels(&labels).unwrap_err();
        assert!(error.starts_with("cofferdam 9.0.0 wrote it"), "{error}");
        assert!(
            error.contains("`cofferdam recover` with that version"),
            "{error}"
        );

        let unreadable = Journal::of_object("cofferdam-hold-p", &labels).unwrap_err();
        assert!(unreadable.may_concern("p"));
        assert!(!unreadable.may_concern("q"));
        // What another version would read the snapshots of.
        let mut labels = labels;
        let text = r#"{"version": 9, "tool": "x", "from": [{"place": "q"}]}"#;
        labels.insert(LABEL_JOURNAL.to_owned(), text.to_owned());
        let unreadable = Journal::of_object("cofferdam-hold-p", &labels).unwrap_err();
        assert!(unreadable.may_concern("q"));
        labels.insert(LABEL_JOURNAL.to_owned(), "no journal".to_owned());
        let unreadable = Journal::of_object("cofferdam-hold-p", &labels).unwrap_err();
        assert!(unreadable.may_concern("p") && !unreadable.may_concern("q"));
    }

    #[test]
    fn a_journal_under_the_label_of_another_project_is_none() {
        let journal = Journal::new(
            "20261121T020000Z-9f2c61aa".parse().unwrap(),
            "p".to_owned(),
            Operation::Backup,
            Owner::for_tests(),
            Vec::new(),
        );
        let mut labels = journal.to_labels();
        labels.insert(LABEL_HOLD.to_owned(), "q".to_owned());
        assert!(Journal::from_labels(&labels).is_err());
    }
}
