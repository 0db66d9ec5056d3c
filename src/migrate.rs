//! What the labels and variables of another backup tool amount to in Cofferdam's. Pure.
//!
//! A project as it is goes in; out come the labels to add to each service, a sidecar to run beside them, and remarks. Nothing is
//! left out without a word: what has no equivalent is named in a remark. A secret never comes out: a remark says where it goes.
//! Every label that comes out is one that Cofferdam reads.
//!
//! - `instance`: the other tool's own container
//! - `offen`, `stack_back`: what each tool's labels and variables mean
//! - `trees`: a mount becomes a volume, a path, or the databases that live in it
//! - `settings`, `place`: variables become the sidecar's
//! - `draft`: everything put together, and checked

mod draft;
mod instance;
mod offen;
mod place;
mod settings;
mod stack_back;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use self::draft::Draft;
use crate::engine::Container;
use crate::survey::Survey;

/// The tool whose labels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// offen/docker-volume-backup: labels `docker-volume-backup.…`
    Offen,
    /// lawndoc/stack-back: labels `stack-back.…`
    StackBack,
    /// ZettaIO/restic-compose-backup: labels `restic-compose-backup.…`
    ResticComposeBackup,
}

impl Origin {
    pub const ALL: [Self; 3] = [Self::Offen, Self::StackBack, Self::ResticComposeBackup];

    /// As the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offen => "offen",
            Self::StackBack => "stack-back",
            Self::ResticComposeBackup => "restic-compose-backup",
        }
    }

    /// What its labels begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Offen => "docker-volume-backup.",
            Self::StackBack => "stack-back.",
            Self::ResticComposeBackup => "restic-compose-backup.",
        }
    }
}

impl fmt::Display for Origin {
    /// As people call it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Offen => "offen/docker-volume-backup",
            Self::StackBack => "stack-back",
            Self::ResticComposeBackup => "restic-compose-backup",
        })
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is to be written beside a project's compose file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Migration {
    pub project: String,
    pub from: Origin,
    /// The labels to add, by the service's name.
    pub services: BTreeMap<String, BTreeMap<String, String>>,
    pub sidecar: Sidecar,
    /// In the order of their kinds.
    pub remarks: Vec<Remark>,
}

/// Cofferdam's own service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sidecar {
    pub environment: BTreeMap<String, String>,
    /// In the order of their targets.
    pub mounts: BTreeSet<SidecarMount>,
    /// Named volumes among them that the project does not declare yet.
    pub new_volumes: BTreeMap<String, Declaration>,
    /// Each is the content of a file of this name, to be written by hand.
    pub secrets: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SidecarMount {
    /// The path in the container.
    pub target: String,
    /// A volume's name, or a path of the engine's host, which begins with `/`.
    pub source: String,
    pub read_only: bool,
}

/// Where the sidecar has its snapshots, unless they are on a server.
const BACKUPS: &str = "/backups";
/// The volume for them, where there is no other place.
const OWN_VOLUME: &str = "cofferdam-backups";
const SOCKET: &str = "/var/run/docker.sock";

impl Sidecar {
    /// Where nothing is known of the other tool's settings.
    fn plain() -> Self {
        let mut sidecar = Self::default();
        sidecar.mount(SOCKET, SOCKET);
        sidecar.use_own_volume();
        sidecar
    }

    fn use_own_volume(&mut self) {
        self.new_volumes
            .insert(OWN_VOLUME.to_owned(), Declaration::Own);
        self.mount(OWN_VOLUME, BACKUPS);
        self.set("COFFERDAM_REPOSITORY", BACKUPS);
    }

    fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.environment.insert(variable.to_owned(), value.into());
    }

    fn mount(&mut self, source: &str, target: &str) {
        self.mounts.insert(SidecarMount {
            target: target.to_owned(),
            source: source.to_owned(),
            read_only: false,
        });
    }
}

/// How a named volume is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Declaration {
    /// Compose makes it.
    Own,
    /// It is there already, under this very name.
    External,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    pub kind: RemarkKind,
    pub service: String,
    /// The label or variable of the other tool that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemarkKind {
    /// What people have to do or look at before they rely on it.
    ToDo,
    /// What will be done, but in another way.
    Differs,
    /// What has no equivalent.
    Lost,
}

/// Reads one project. `elsewhere` are the containers of the engine, among which the other tool's may run for this project from
/// another one. `None` where nothing speaks of that tool.
pub fn migrate(survey: &Survey, elsewhere: &[Container], origin: Origin) -> Option<Migration> {
    let instances = instance::find(survey, elsewhere, origin);
    let services = &survey.stack.services;
    let is_labelled = services.iter().any(|service| {
        let mut keys = service.container.labels.keys();
        keys.any(|key| key.starts_with(origin.prefix()))
    });
    if instances.is_empty() && !is_labelled {
        return None;
    }
    let mut draft = Draft::new(survey, &instances);
    match origin {
        Origin::Offen => offen::read(&mut draft, &instances),
        Origin::StackBack | Origin::ResticComposeBackup => {
            stack_back::read(&mut draft, &instances, origin.prefix());
        }
    }
    Some(draft.finish(origin))
}

#[cfg(test)]
mod tests;
