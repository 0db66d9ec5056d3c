//! SQLite databases, where they lie: in a helper beside a mount, or inside a container whose own layer they are in.
//!
//! - `helper`: a copy out of a mount, and a saved one staged on it
//! - `inside`: a copy out of a container's own layer
//! - `writers`: who could write to a database on a mount

pub(crate) mod helper;
pub(crate) mod inside;
pub(crate) mod writers;

use serde::{Deserialize, Serialize};

use super::job::Failure;
use super::task::{ExpectedLayer, Streamed};
use crate::manifest::{Compression, FileOwner, SqliteContent, StreamDigest};
use crate::sqlite::{Copied, Look, SqliteError, Verdict};
use crate::tree::TreePath;
use crate::tree::staging::StagingPlan;

/// Copy a database on a mount, check the copy, and send it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SqlitePackTask {
    /// The copy lies where a restore would stage, is never decided on, and is swept as what is staged is.
    pub plan: StagingPlan,
    pub compression: Compression,
    /// How long to wait for a lock.
    pub patience_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SqlitePacked {
    pub found: FoundDatabase,
    pub dump: Streamed,
}

/// What was found in the copy, and at the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDatabase {
    pub owner: FileOwner,
    pub held_up_milliseconds: u64,
    pub content: SqliteContent,
    pub warnings: Vec<String>,
}

impl FoundDatabase {
    fn new(copied: Copied, look: Look) -> Self {
        Self {
            owner: copied.owner,
            held_up_milliseconds: copied.held_up.as_millis().try_into().unwrap_or(u64::MAX),
            warnings: warnings(&look),
            content: look.content,
        }
    }
}

/// Stage a saved database on a mount, with the owner of the one that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SqliteUnpackTask {
    pub plan: StagingPlan,
    pub name: TreePath,
    pub layer: ExpectedLayer,
    /// For a database of which none is there.
    pub saved_owner: FileOwner,
    pub saved: SqliteContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteUnpacked {
    pub warnings: Vec<String>,
}

/// Copy a database in the container, check the copy, and keep it compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteJob {
    pub database: String,
    /// Where the copy goes, and the compressed file; neither may exist.
    pub copy: String,
    pub output: String,
    pub compression: Compression,
    pub patience_seconds: u64,
    /// What this run stages beside the database; what others have left there is removed.
    pub own_staging: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteDumped {
    pub found: FoundDatabase,
    pub plain: StreamDigest,
    pub stored: StreamDigest,
}

impl From<SqliteError> for Failure {
    fn from(error: SqliteError) -> Self {
        let message = error.to_string();
        match error {
            SqliteError::Damaged(_) | SqliteError::Different(_) => Self::Damaged { what: message },
            _ => Self::Other { message },
        }
    }
}

/// Why SQLite's check says less than it could, for people.
fn warnings(look: &Look) -> Vec<String> {
    match &look.verdict {
        Verdict::Whole => Vec::new(),
        Verdict::AgainstRules(first) => vec![format!(
            "the database is sound, but some of its rows violate constraints of their tables: {first}"
        )],
        Verdict::OnlyStructure(words) => vec![format!(
            "only the structure of the copy was checked, because its indexes or constraints need something that only its own \
             program has: {words}"
        )],
    }
}
