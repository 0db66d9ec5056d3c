//! What a run writes down before it holds anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{HoldError, LABEL_HOLD, LABEL_JOURNAL, LABEL_RUN, Owner};
use crate::driver::WayBack;
use crate::engine::Container;
use crate::labels::Moment;
use crate::repository::SnapshotRef;
use crate::target::{RunId, TargetId};

/// The format of the journal; another cofferdam may have to read it.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    pub run: RunId,
    pub project: String,
    pub operation: Operation,
    pub owner: Owner,
    /// In the order in which they start.
    pub held: Vec<Held>,
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

/// What is needed to finish or undo a restore whose process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreJournal {
    /// The project that the snapshot is of.
    pub project: String,
    pub snapshot: RunId,
    /// The repository as the user named it, for messages.
    pub repository: String,
    pub targets: Vec<RestoreStep>,
    /// The snapshot that holds the old data of targets that load in place. It may not exist yet: then none was touched.
    pub safety: Option<RunId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreStep {
    pub target: TargetId,
    /// Its id in the snapshot.
    pub saved_as: TargetId,
    /// The snapshot, where it is another one than the restore's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RunId>,
    pub way_back: WayBack,
}

impl RestoreJournal {
    /// Where a target comes from.
    pub fn snapshot_of(&self, step: &RestoreStep) -> SnapshotRef {
        let snapshot = step.snapshot.as_ref().unwrap_or(&self.snapshot);
        SnapshotRef::new(&self.project, snapshot.clone())
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
            run,
            project,
            operation,
            owner,
            held,
            restore: None,
        }
    }

    pub(super) fn of_container(container: &Container) -> Result<Self, HoldError> {
        Self::of_object(&container.name, &container.labels)
    }

    /// Of the object of the engine or of the swarm that has this name and these labels.
    pub(super) fn of_object(
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, HoldError> {
        Self::from_labels(labels).map_err(|why| HoldError::Unreadable {
            name: name.to_owned(),
            why,
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
        let journal: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if journal.version > VERSION {
            return Err(format!(
                "it was written by a newer cofferdam (journal version {}, this one knows {VERSION})",
                journal.version
            ));
        }
        Ok(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                },
                Held {
                    subject: Subject::SwarmService(HeldService {
                        id: "x1".to_owned(),
                        tasks: 2,
                    }),
                    service: "web".to_owned(),
                    action: Action::Stop,
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
            }],
            safety: None,
        });
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

    #[test]
    fn a_journal_of_the_time_before_swarms_is_read() {
        let held: Held =
            serde_json::from_str(r#"{"container":"0a","service":"katsu","action":"stop"}"#)
                .unwrap();
        assert_eq!(held.subject, Subject::Container("0a".to_owned()));
    }

    #[test]
    fn a_journal_of_a_newer_version_is_not_guessed_at() {
        let mut journal = Journal::new(
            "20261121T020000Z-9f2c61aa".parse().unwrap(),
            "p".to_owned(),
            Operation::Backup,
            Owner::for_tests(),
            Vec::new(),
        );
        journal.version = VERSION + 1;
        let error = Journal::from_labels(&journal.to_labels()).unwrap_err();
        assert!(error.contains("newer cofferdam"), "{error}");
    }
}
