//! The versioned record that makes a snapshot exist.
//!
//! It is written last and read first. A reader refuses a higher [`FORMAT`] and ignores fields that it does not know.
//! It holds no secret, and everything read back from it is hostile until checked: see [`Manifest::parse`].

mod compression;
mod encryption;
mod facts;
mod object_path;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::compression::Compression;
pub use self::encryption::{AgeFile, EncryptedTo, Encryption, PublicKey};
pub use self::facts::{
    BasebackupFacts, CommandFacts, CouchdbDatabase, CouchdbFacts, ElasticsearchFacts, Facts,
    FileOwner, JournalMode, MysqlFacts, MysqlFlavour, MysqlPrograms, MysqlTableFacts,
    PostgresFacts, SearchFlavour, SqliteContent, SqliteFacts, SqliteTable, TableFacts, TreeFacts,
    TreeShape,
};
pub use self::object_path::{BadObjectPath, ObjectPath};
use crate::target::{RunId, TargetId, encode_component};

pub const FORMAT: u32 = 1;

/// The manifest's name in its snapshot's place. No object can have it.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The name of a snapshot's pin, beside the manifest. No object can have it.
pub const PIN_FILE: &str = "pin.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Name and version of the program that wrote this.
    pub tool: String,
    pub snapshot: RunId,
    pub project: String,
    /// The node of the swarm that the project runs in. The snapshots of others hold what is on theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default)]
    pub purpose: Purpose,
    /// Somebody asked for it, and no schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// The patterns that chose the targets, in alphabetical order; empty when everything was meant that labels ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub engine: EngineFacts,
    pub targets: Vec<TargetRecord>,
    #[serde(default)]
    pub failed: Vec<Failure>,
    #[serde(default)]
    pub skipped: Vec<Skip>,
    /// Targets that have become far smaller, of which nobody has said that they may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shrunken: Vec<Shrunken>,
    /// Services that somebody has started while they were held: what is saved may not be of one moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<String>,
    /// Of the run as a whole; those of one target are in its record.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    #[default]
    Backup,
    /// Taken by a restore, as its way back.
    Safety { restore: RunId },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    pub version: String,
    pub api_version: String,
    pub os: String,
    pub architecture: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    pub target: TargetId,
    pub container: ContainerRecord,
    pub transfer: Transfer,
    pub facts: Facts,
    pub artifacts: Vec<Artifact>,
    #[serde(default)]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub name: String,
    pub image: String,
    pub image_digest: String,
    /// The label `cofferdam.keep`, as text: a later version may know rules that this one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// Which way the bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfer {
    /// A file inside the container, brought out by the archive API.
    Copy,
    /// The standard output of an exec.
    Stream,
    /// An agent in a helper container, over loopback TCP.
    Helper,
    /// The archive API alone.
    Archive,
}

impl fmt::Display for Transfer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Copy => "copy",
            Self::Stream => "stream",
            Self::Helper => "helper",
            Self::Archive => "archive",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub role: Role,
    pub object: ObjectPath,
    /// Before compression.
    pub plain: StreamDigest,
    /// As it lies in the repository.
    pub stored: StreamDigest,
    pub compression: Compression,
    #[serde(default)]
    pub encryption: Encryption,
}

impl Artifact {
    /// Of the stream that is compressed and not encrypted, in bytes.
    pub fn compressed_bytes(&self) -> u64 {
        match &self.encryption {
            Encryption::None => self.stored.bytes,
            Encryption::Age(file) => file.compressed_bytes,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A database's dump.
    Dump,
    /// Roles and tablespaces of a database server, as an SQL script.
    Globals,
    /// One layer of a tree: a tar archive. Layers stand oldest first, each followed by its index.
    Layer,
    /// One JSON object a line for each path of the layer before it.
    Index,
}

/// Length and SHA-256 of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDigest {
    pub bytes: u64,
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub target: TargetId,
    pub reason: String,
}

impl Failure {
    /// Whether it keeps this target from being there. Where a server could not be asked for its databases, its failure stands
    /// for all of them.
    pub fn is_about(&self, target: &TargetId) -> bool {
        let failed = &self.target;
        let is_same_server = failed.service == target.service && failed.driver == target.driver;
        is_same_server && (failed.name == "*" || failed.name == target.name)
    }
}

/// A copy of a target that is far smaller than the last good one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrunken {
    pub target: TargetId,
    /// Of the plain data, without indexes.
    pub bytes: u64,
    /// The snapshot that holds the last good one.
    pub before: RunId,
    pub bytes_before: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    pub service: String,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is incomplete or malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "the manifest has format {found}, but this version reads formats up to {FORMAT}; use a newer cofferdam"
    )]
    TooNew { found: u32 },
    #[error("the manifest describes {found}, but is stored in the place of {expected}")]
    Misplaced { expected: String, found: String },
    #[error("the manifest is inconsistent: {0}")]
    Inconsistent(String),
}

impl Manifest {
    /// Reads a manifest that was found in the place of `snapshot` of `project`.
    pub fn parse(bytes: &[u8], project: &str, snapshot: &RunId) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let FormatOnly { format } = serde_json::from_slice(bytes)?;
        if format > FORMAT {
            return Err(ManifestError::TooNew { found: format });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.project != project || manifest.snapshot != *snapshot {
            return Err(ManifestError::Misplaced {
                expected: format!("{project}/{snapshot}"),
                found: format!("{}/{}", manifest.project, manifest.snapshot),
            });
        }
        manifest.ensure_consistent()?;
        Ok(manifest)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        bytes.push(b'\n');
        bytes
    }

    pub fn target(&self, id: &TargetId) -> Option<&TargetRecord> {
        self.targets.iter().find(|record| record.target == *id)
    }

    /// Every object that this snapshot needs, its own and those of earlier ones.
    pub fn objects(&self) -> impl Iterator<Item = &Artifact> {
        self.targets.iter().flat_map(|record| &record.artifacts)
    }

    /// Everything in it.
    pub fn is_encrypted(&self) -> bool {
        self.objects()
            .all(|artifact| artifact.encryption != Encryption::None)
    }

    pub fn stored_bytes(&self) -> u64 {
        self.objects().map(|artifact| artifact.stored.bytes).sum()
    }

    fn ensure_consistent(&self) -> Result<(), ManifestError> {
        let inconsistent = |what: String| Err(ManifestError::Inconsistent(what));
        for record in &self.targets {
            let id = &record.target;
            if record.facts.driver() != id.driver {
                return inconsistent(format!("{id} carries the facts of another driver"));
            }
            if record.artifacts.is_empty() {
                return inconsistent(format!("{id} has no artifact"));
            }
            for artifact in &record.artifacts {
                if artifact.object.project() != encode_component(&self.project) {
                    return inconsistent(format!("{} belongs to another project", artifact.object));
                }
                for digest in [&artifact.plain, &artifact.stored] {
                    if digest.sha256.len() != 64
                        || !digest
                            .sha256
                            .bytes()
                            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                    {
                        return inconsistent(format!("{} has a malformed digest", artifact.object));
                    }
                }
            }
        }
        Ok(())
    }
}

impl TargetRecord {
    /// Of the plain data, without indexes.
    pub fn plain_bytes(&self) -> u64 {
        let artifacts = self.artifacts.iter();
        let contents = artifacts.filter(|artifact| artifact.role != Role::Index);
        contents.fold(0, |sum, one| sum.saturating_add(one.plain.bytes))
    }

    pub fn artifact(&self, role: Role) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.role == role)
    }

    /// The layers of a tree, oldest first, each with its index.
    pub fn layers(&self) -> impl Iterator<Item = (&Artifact, Option<&Artifact>)> {
        let artifacts = &self.artifacts;
        artifacts
            .iter()
            .enumerate()
            .filter(|(_, artifact)| artifact.role == Role::Layer)
            .map(move |(at, layer)| {
                let index = artifacts
                    .get(at + 1)
                    .filter(|next| next.role == Role::Index);
                (layer, index)
            })
    }
}
