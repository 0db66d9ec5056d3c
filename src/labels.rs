//! Container labels under `cofferdam.`, turned into typed specifications. Pure.
//!
//! An unknown or malformed label is an error that names the container, the label and the nearest valid label: a typo in a
//! backup label must never be silent. What users are told of each label is `docs/labels.md`.
//!
//! - `table`: every label there is
//! - `nearest`: "did you mean"
//! - `values`: what may stand in a value
//! - `shell`: what in a command only a shell understands
//! - `parse`: one container's labels, and what they may not say together
//! - `naming`: names that a tree gets by its path
//! - `error`: what is wrong, for people

mod error;
mod naming;
mod nearest;
mod parse;
mod shell;
mod table;
mod values;

pub use error::{LabelErrors, LabelProblem};
pub use parse::parse;

pub(crate) use naming::files_name;
pub use table::COMPOSE_SERVICE;
pub(crate) use table::{OwnLabel, PREFIX, find_own};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::keep::KeepPolicy;
use crate::schedule::Schedule;
use crate::target::Moment;

pub const TRIGGER: &str = "cofferdam.trigger";
/// Its only value.
pub const TRIGGER_ON_EXIT: &str = "exit";

/// Everything that the labels of one container say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerLabels {
    pub enable: Option<bool>,
    /// Why this container's data is left out on purpose. Its hold and its hooks stay in force.
    pub skip: Option<String>,
    /// How it was chosen what is saved. Says nothing of [`ContainerLabels::skip`], which goes before it.
    pub opt_in: OptIn,
    pub postgres: Option<PostgresLabels>,
    /// SQLite database files, absolute, as the container sees them.
    pub sqlite: Vec<String>,
    pub mysql: Option<MysqlLabels>,
    pub couchdb: Option<CouchdbLabels>,
    pub elasticsearch: Option<ElasticsearchLabels>,
    /// Which named volumes are saved; `None` without the label.
    pub volumes: Option<Selection>,
    /// Options by the volume's name; also for volumes that are taken by `*` or by `enable`.
    pub volume_options: BTreeMap<String, TreeOptions>,
    /// Volumes that nothing is to save: names, and paths of anonymous ones.
    pub skipped_volumes: Vec<String>,
    /// Which bind mounts are saved, by their paths in the container; `None` without the label.
    pub binds: Option<Selection>,
    /// Bind mounts that nothing is to save, by their paths in the container.
    pub skipped_binds: Vec<String>,
    pub files: BTreeMap<String, FilesLabels>,
    pub commands: BTreeMap<String, CommandLabels>,
    /// Which snapshots of this container's targets stay; `None`: what the run's settings say.
    pub keep: Option<KeepPolicy>,
    /// When this container's targets are saved; `None`: what the daemon's settings say.
    pub schedule: Option<Schedule>,
    /// Its project is saved when this container has exited with 0.
    pub triggers_on_exit: bool,
    /// During which moments this container is stopped.
    pub stop: BTreeSet<Moment>,
    /// Freeze it while targets are saved.
    pub pause: bool,
    /// Services whose targets the hold serves; `None`: every target of the project.
    pub hold_for: Option<Vec<String>>,
    /// How long it may take to be ready after it was held; `None`: as long as any other.
    pub ready_timeout: Option<Duration>,
    pub hooks: BTreeMap<HookPoint, HookSpec>,
}

impl ContainerLabels {
    /// Where stores that labels save keep their data, beside databases that are detected.
    pub fn data_directories(&self) -> impl Iterator<Item = &str> {
        let couchdb = self.couchdb.iter().map(|labels| &*labels.data_directory);
        let elasticsearch = self.elasticsearch.iter();
        self.commands
            .values()
            .filter_map(|command| command.options.data_directory.as_deref())
            .chain(couchdb)
            .chain(elasticsearch.flat_map(ElasticsearchLabels::directories))
    }
}

/// Who says what of a container is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptIn {
    /// Nothing is saved.
    #[default]
    No,
    /// Driver labels: what they name is saved, and nothing else.
    Labels,
    /// `enable: true` without a label that names more than trees: the database that is found, every volume and writable bind
    /// mount that is not the database's own, and what `volumes`, `binds` and `files` name. [`ContainerLabels::postgres`] and [`ContainerLabels::mysql`] may still hold options for it.
    Detection,
}

/// A comma-separated list, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    Names(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresLabels {
    pub databases: Selection,
    pub user: Option<String>,
    /// A path inside the container.
    pub password_file: Option<String>,
    /// The name of a variable of the container.
    pub password_variable: Option<String>,
    pub port: Option<u16>,
    pub maintenance_db: String,
    pub mode: PostgresMode,
    pub exclude_tables: Vec<String>,
    pub exclude_table_data: Vec<String>,
    pub restore: PostgresRestore,
    pub transfer: TransferChoice,
    /// Directory inside the container for temporary files.
    pub scratch: Option<String>,
    pub exec_user: Option<String>,
}

impl Default for PostgresLabels {
    fn default() -> Self {
        Self {
            databases: Selection::All,
            user: None,
            password_file: None,
            password_variable: None,
            port: None,
            maintenance_db: "template1".to_owned(),
            mode: PostgresMode::default(),
            exclude_tables: Vec::new(),
            exclude_table_data: Vec::new(),
            restore: PostgresRestore::default(),
            transfer: TransferChoice::default(),
            scratch: None,
            exec_user: None,
        }
    }
}

/// How a server is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresMode {
    /// One artifact a database, and one for roles and tablespaces.
    #[default]
    Dump,
    /// One script for the whole server.
    Dumpall,
    /// The server's data directory.
    Basebackup,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresRestore {
    /// The old database is renamed away, the new one loaded and checked, the old one dropped last.
    #[default]
    Swap,
    /// Drop, create, load.
    Recreate,
    /// `pg_restore --clean --if-exists`
    Clean,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlLabels {
    pub databases: Selection,
    pub user: Option<String>,
    /// A path inside the container.
    pub password_file: Option<String>,
    /// The name of a variable of the container.
    pub password_variable: Option<String>,
    /// `None`: the server's socket, else its usual port.
    pub port: Option<u16>,
    /// Patterns with `*` and `?`.
    pub exclude_tables: Vec<String>,
    pub exclude_table_data: Vec<String>,
    pub restore: MysqlRestore,
    pub transfer: TransferChoice,
    /// Directory inside the container for temporary files.
    pub scratch: Option<String>,
    pub exec_user: Option<String>,
}

impl Default for MysqlLabels {
    fn default() -> Self {
        Self {
            databases: Selection::All,
            user: None,
            password_file: None,
            password_variable: None,
            port: None,
            exclude_tables: Vec::new(),
            exclude_table_data: Vec::new(),
            restore: MysqlRestore::default(),
            transfer: TransferChoice::default(),
            scratch: None,
            exec_user: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MysqlRestore {
    /// The new database is loaded and checked beside the old, then their tables change places.
    #[default]
    Swap,
    /// Drop, create, load.
    Recreate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CouchdbLabels {
    pub user: Option<String>,
    /// A path inside the container.
    pub password_file: Option<String>,
    /// The name of a variable of the container.
    pub password_variable: Option<String>,
    pub port: u16,
    /// Inside the container.
    pub data_directory: String,
}

impl Default for CouchdbLabels {
    fn default() -> Self {
        Self {
            user: None,
            password_file: None,
            password_variable: None,
            port: 5984,
            data_directory: "/opt/couchdb/data".to_owned(),
        }
    }
}

/// Also OpenSearch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticsearchLabels {
    pub indices: Selection,
    pub user: Option<String>,
    /// A path inside the container.
    pub password_file: Option<String>,
    /// The name of a variable of the container.
    pub password_variable: Option<String>,
    pub port: u16,
    pub tls: bool,
    /// A directory of `path.repo` inside the container, for a snapshot on its way; `None`: the first that the server names.
    pub location: Option<String>,
    /// A repository that the server has already, and that keeps the snapshots; `None`: the artifacts do.
    pub repository: Option<String>,
    /// Inside the container; `None`: where the official images have it.
    pub data_directory: Option<String>,
}

impl Default for ElasticsearchLabels {
    fn default() -> Self {
        Self {
            indices: Selection::All,
            user: None,
            password_file: None,
            password_variable: None,
            port: 9200,
            tls: false,
            location: None,
            repository: None,
            data_directory: None,
        }
    }
}

impl ElasticsearchLabels {
    const DATA_DIRECTORIES: [&str; 2] = [
        "/usr/share/elasticsearch/data",
        "/usr/share/opensearch/data",
    ];

    /// Where the server keeps its data, and its snapshots.
    pub fn directories(&self) -> impl Iterator<Item = &str> {
        let defaults = match self.data_directory {
            Some(_) => &[],
            None => &Self::DATA_DIRECTORIES[..],
        };
        let named = self.data_directory.iter().chain(&self.location);
        named.map(String::as_str).chain(defaults.iter().copied())
    }
}

/// What the label asks for; what was done stands in the manifest as [`crate::manifest::Transfer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferChoice {
    /// A file inside the container, then the archive API; falls back to a stream, with a notice, where nothing can be
    /// written.
    #[default]
    Copy,
    Stream,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// Patterns relative to the tree's root.
    pub exclude: Vec<String>,
    pub restore: TreeRestore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TreeRestore {
    /// Afterwards the tree is exactly the saved one.
    #[default]
    Replace,
    /// Saved entries replace present ones; what is extra stays.
    Overlay,
    /// Only what is missing is put back.
    KeepExisting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesLabels {
    /// Absolute, as the container sees it.
    pub path: String,
    pub options: TreeOptions,
}

/// A store that is saved and put back by commands of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLabels {
    /// Split as a POSIX shell would split words, like the other commands; no shell runs them.
    pub dump: Vec<String>,
    pub options: CommandOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    /// `None`: it is saved only, and put back by hand.
    pub load: Option<Vec<String>>,
    pub check: Option<Vec<String>>,
    /// Whether a dump of nothing is a good one.
    pub allow_empty: bool,
    /// The last line of a complete dump; `*` matches anything.
    pub ends_with: Option<String>,
    /// Directory inside the container whose volume counts as saved.
    pub data_directory: Option<String>,
    /// How long the dump may print nothing, and how long the check may take.
    pub timeout: Duration,
    pub transfer: TransferChoice,
    /// Directory inside the container for temporary files.
    pub scratch: Option<String>,
    pub exec_user: Option<String>,
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self {
            load: None,
            check: None,
            allow_empty: false,
            ends_with: None,
            data_directory: None,
            timeout: Duration::from_secs(60 * 60),
            transfer: TransferChoice::default(),
            scratch: None,
            exec_user: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    BeforeBackup,
    AfterBackup,
    FailedBackup,
    BeforeRestore,
    AfterRestore,
    FailedRestore,
}

impl fmt::Display for HookPoint {
    /// As the label has it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BeforeBackup => "before-backup",
            Self::AfterBackup => "after-backup",
            Self::FailedBackup => "failed-backup",
            Self::BeforeRestore => "before-restore",
            Self::AfterRestore => "after-restore",
            Self::FailedRestore => "failed-restore",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// Split as a POSIX shell would split words; no shell runs it.
    pub argv: Vec<String>,
    pub user: Option<String>,
    pub timeout: Duration,
    pub when_stopped: WhenStopped,
}

/// What becomes of a hook whose container does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenStopped {
    /// It makes what is saved, perhaps: without it the copy would be old.
    #[default]
    Fail,
    Skip,
}
