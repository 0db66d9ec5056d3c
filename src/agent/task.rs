//! What a helper is asked for, and what it reports.
//!
//! A helper sees one mount and nothing else, at [`MOUNT`]. Both sides are the same binary, so neither needs to understand
//! an older other.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::job::Failure;
use crate::labels::TreeRestore;
use crate::manifest::{Compression, StreamDigest};
use crate::tree::ahead::Opening;
use crate::tree::network::NetworkFileSystem;
use crate::tree::pack::PackReport;
use crate::tree::staging::StagingPlan;
use crate::tree::stays::Stays;
use crate::tree::unpack::{Selection, UnpackReport};
use crate::tree::{TreeError, TreePath};

/// Where the mount lies in a helper. It is a file when the mount is one.
pub const MOUNT: &str = "/tree";

/// The agent's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Pack,
    Unpack,
    Exchange,
    Discard,
    List,
    Room,
    SqlitePack,
    SqliteUnpack,
    Writers,
}

impl Task {
    pub const ALL: [Self; 9] = [
        Self::Pack,
        Self::Unpack,
        Self::Exchange,
        Self::Discard,
        Self::List,
        Self::Room,
        Self::SqlitePack,
        Self::SqliteUnpack,
        Self::Writers,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Unpack => "unpack",
            Self::Exchange => "exchange",
            Self::Discard => "discard",
            Self::List => "list",
            Self::Room => "room",
            Self::SqlitePack => "sqlite-pack",
            Self::SqliteUnpack => "sqlite-unpack",
            Self::Writers => "writers",
        }
    }

    pub fn from_argument(argument: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.as_str() == argument)
    }
}

/// Archive a tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackTask {
    /// Where the tree lies in the mount.
    pub place: TreePath,
    /// What the entry is called when it is not a directory.
    pub name: TreePath,
    pub exclude: Vec<String>,
    pub compression: Compression,
    pub opening: Opening,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Packed {
    pub tree: PackReport,
    pub layer: Streamed,
    pub index: Streamed,
}

/// A stream as it was before compression, and its length after it. Each of its frames was checked on arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streamed {
    pub plain: StreamDigest,
    pub stored_bytes: u64,
}

/// Put a tree's layers somewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnpackTask {
    pub destination: Destination,
    /// Oldest first, as they will be sent.
    pub layers: Vec<ExpectedLayer>,
    pub selection: Selection,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExpectedLayer {
    pub compression: Compression,
    pub plain: StreamDigest,
    /// How many paths it takes away from the layers before it; they are sent before it.
    pub deletions: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// Beside the present tree; [`Task::Exchange`] or [`Task::Discard`] follows.
    Staged(StagingPlan),
    /// Over the present tree.
    InPlace {
        place: TreePath,
        mode: InPlaceMode,
        stays: Stays,
        /// Paths in it of which nothing beside them is touched; empty for all of it.
        touched: Vec<TreePath>,
    },
    /// Into the file that is the mount, which stays the same file.
    Overwrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InPlaceMode {
    /// Everything that is there is removed first.
    Replace,
    Overlay,
    KeepExisting,
}

impl From<TreeRestore> for InPlaceMode {
    fn from(mode: TreeRestore) -> Self {
        match mode {
            TreeRestore::Replace => Self::Replace,
            TreeRestore::Overlay => Self::Overlay,
            TreeRestore::KeepExisting => Self::KeepExisting,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unpacked {
    pub tree: UnpackReport,
}

/// Let what is staged take its place, or remove it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagedTask {
    /// The staging directory's name.
    pub staging: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Whether there was anything to do.
    pub was_staged: bool,
    pub warnings: Vec<String>,
}

/// Say which files there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListTask {
    /// Where the directory lies in the mount.
    pub place: TreePath,
}

/// How many paths were sent before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub files: u64,
}

/// Tell how much room there is where the engine keeps what containers write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomTask {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRoom {
    pub free_bytes: u64,
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Damaged(_) | TreeError::Hostile(_) => Self::Damaged {
                what: error.to_string(),
            },
            TreeError::Stream(error) => error.into(),
            other => Self::Other {
                message: match why_refused(&other) {
                    Some(why) => format!("{other}; {why}"),
                    None => other.to_string(),
                },
            },
        }
    }
}

/// In a helper: what the file system of its mount has to do with it.
fn why_refused(error: &TreeError) -> Option<&'static str> {
    let errno = error.errno()?;
    NetworkFileSystem::at(Path::new(MOUNT))?.why(errno)
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other {
            message: error.to_string(),
        }
    }
}
