//! What is asked of an agent that runs inside a target's container, and what it answers.
//!
//! Both sides are the same binary, so neither needs to understand an older other.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::{Compression, StreamDigest};
use crate::pipe::Patch;
use crate::tree::TreePath;

/// What an agent inside a target's container can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    Arrive,
    Dump,
    Load,
    Remove,
    Sqlite,
    Leave,
}

impl Errand {
    pub const ALL: [Self; 6] = [
        Self::Arrive,
        Self::Dump,
        Self::Load,
        Self::Remove,
        Self::Sqlite,
        Self::Leave,
    ];

    /// The agent's argument.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrive => "arrive",
            Self::Dump => "dump",
            Self::Load => "load",
            Self::Remove => "remove",
            Self::Sqlite => "sqlite",
            Self::Leave => "leave",
        }
    }

    /// Whether it may be done once more when nobody knows what became of it.
    pub fn may_be_repeated(self) -> bool {
        self == Self::Arrive
    }

    pub fn from_argument(argument: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|errand| errand.as_str() == argument)
    }
}

/// Every agent's directory begins with this; the run's id follows, and digits that no one can guess.
pub const DIRECTORY_PREFIX: &str = ".cofferdam-";

/// Run a client and keep what it prints to standard output as one compressed file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpJob {
    pub client: Vec<String>,
    /// The file to make, which must not exist yet.
    pub output: String,
    pub compression: Compression,
    /// How long the client may print nothing.
    pub idle_limit_seconds: u64,
    pub form: Form,
    /// Where the client should rather go, if that can be had.
    #[serde(default)]
    pub relay: Option<RelayJob>,
}

/// What a client's standard output has to be, whatever its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    Anything,
    /// A whole [archive](crate::pipe::archive) of `pg_dump`.
    PostgresArchive,
}

/// The name of a relay's socket, in the directory of the output, which is the client's working directory then.
pub const RELAY_SOCKET: &str = "relay";

/// Let a MySQL client speak to its server through the agent, which has the server print some columns another way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayJob {
    /// The client as it connects to [`RELAY_SOCKET`].
    pub client: Vec<String>,
    pub server: Endpoint,
    /// A file of [`Selects`].
    pub selects: String,
}

/// Where a server in this container is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Endpoint {
    Socket { path: String },
    Loopback { port: u16 },
}

/// By table: all of its columns, in their order.
pub type Selects = BTreeMap<String, Vec<SelectedColumn>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectedColumn {
    pub name: String,
    /// What is asked for in its place.
    pub expression: Option<String>,
    /// A star does not stand for it.
    pub is_hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dumped {
    pub plain: StreamDigest,
    pub stored: StreamDigest,
    /// The end of the plain stream.
    pub tail: Vec<u8>,
    /// The end of what the client said although it succeeded: its warnings.
    pub stderr: String,
    /// Whether each select of [`RelayJob`] was replaced; without a relay there is nothing to be told.
    #[serde(default)]
    pub relayed: Option<Relayed>,
}

/// What became of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Relayed {
    /// But for these tables.
    Through { left_alone: Vec<String> },
    /// The client spoke to its server itself.
    NotAtAll { why: String },
}

impl Relayed {
    /// Whether the numbers of a table came as the server writes them by itself.
    pub fn is_rounded(&self, table: &str) -> bool {
        match self {
            Self::Through { left_alone } => left_alone.iter().any(|alone| alone == table),
            Self::NotAtAll { .. } => true,
        }
    }
}

/// Run a client on what [`DumpJob`] made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadJob {
    pub client: Vec<String>,
    pub feed: Feed,
    /// What the client gets to read otherwise than it was proven; not looked at where it reads the beginning alone.
    pub patch: Option<Patch>,
    /// Where the client's standard output goes; without it, nowhere.
    pub stdout: Option<String>,
}

/// A compressed stream, and what it has to be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    pub place: Place,
    pub compression: Compression,
    pub plain: StreamDigest,
    pub stored_bytes: u64,
    /// What an earlier job kept of another reading of this stream: it has to be the beginning of this one, whose digest
    /// then proves it, and all that was done with it.
    pub beginning: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    File {
        path: String,
    },
    /// Sent by cofferdam while the job is done.
    Incoming,
}

/// How the client gets its input, and when the input has been proven whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Feed {
    /// On standard input, as much as it wants; the rest is not looked at. For clients that only read the beginning, which
    /// is kept as a plain file where one is named.
    Beginning { input: Stored, keep: Option<String> },
    /// On standard input. It is verified by the time the client has ended.
    Stdin { input: Stored },
    /// As a plain file, whose path is the client's last argument. It is verified before the client starts.
    File { input: Stored, path: String },
    /// As the plain file that an earlier job kept, whose path is the client's last argument.
    Kept { path: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    pub stderr: String,
}

/// Remove exactly these entries of the container's own file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveJob {
    /// Relative to the container's root, as the listed paths are; nothing outside is touched.
    pub within: TreePath,
    /// A file of paths, each as its bytes and a NUL, in an order in which a directory comes after what it holds.
    pub list: String,
    pub paths: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    pub removed: u64,
    /// What could not be removed, and the system's words on the first of it.
    pub kept: u64,
    pub why: Vec<String>,
}

/// Prove that an agent can run here, and remove what dead runs left beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArriveJob {
    /// The run that is going on: its directories stay.
    pub run: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrived {
    /// What this user may still write here, in bytes.
    pub free_bytes: u64,
    /// Cores that this container may use.
    pub cores: usize,
    /// Names of the directories that were removed.
    pub swept: Vec<String>,
}

/// End what still runs from the agent's own directory, and remove the directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveJob {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {}

/// The one JSON document that the agent prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report<T> {
    Done(T),
    Failed(Failure),
}

/// Why a job was not done. Nothing that it made is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Failure {
    #[error("{program} {end}: {stderr}")]
    Client {
        program: String,
        end: ClientEnd,
        stderr: String,
    },
    #[error("{program} cannot be run: {message}")]
    NoClient { program: String, message: String },
    #[error("{program} printed nothing for {seconds} s and was ended: {stderr}")]
    Silent {
        program: String,
        seconds: u64,
        stderr: String,
    },
    #[error(
        "{program} ended, but a child that it had started kept its {side} open, so {} may be incomplete: make the command \
         wait for what it starts: {stderr}",
        side.what()
    )]
    Held {
        program: String,
        side: Side,
        stderr: String,
    },
    #[error("there is no room left in {place}")]
    NoRoom { place: String },
    #[error("{what}")]
    Damaged { what: String },
    #[error("cofferdam went away")]
    Abandoned,
    #[error("{message}")]
    Other { message: String },
}

/// Which pipe of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Input,
    Output,
}

impl Side {
    fn what(self) -> &'static str {
        match self {
            Self::Input => "what it has loaded",
            Self::Output => "the dump",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Stands before the words of a client whose beginning is missing: a part of a secret may follow.
pub const CUT: &str = "… ";

/// How a client ended that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientEnd {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for ClientEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "failed with exit code {code}"),
            Self::Signal(signal) => write!(formatter, "was ended by signal {signal}"),
        }
    }
}
