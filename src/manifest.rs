//! The versioned record that makes a snapshot exist.
//!
//! It is written last and read first. A reader refuses a higher [`FORMAT`] and ignores fields that it does not know.
//! It holds no secret, and everything read back from it is hostile until checked: see [`Manifest::parse`].

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::target::{RunId, TargetId, encode_component};

pub const FORMAT: u32 = 1;

/// The manifest's name in its snapshot's place. No object can have it.
pub const MANIFEST_FILE: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Name and version of the program that wrote this.
    pub tool: String,
    pub snapshot: RunId,
    pub project: String,
    #[serde(default)]
    pub purpose: Purpose,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub engine: EngineFacts,
    pub targets: Vec<TargetRecord>,
    #[serde(default)]
    pub failed: Vec<Failure>,
    #[serde(default)]
    pub skipped: Vec<Skip>,
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

/// What a driver knows about the target at the moment of the dump, and needs to put it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum Facts {
    Postgres(PostgresFacts),
    Volume(TreeFacts),
    Files(TreeFacts),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// As the server prints it: `15.8 (Debian 15.8-0+deb12u1)`.
    pub server_version: String,
    /// Empty for the roles and tablespaces of the whole server.
    pub database: String,
    /// `pg_database_size`, in bytes.
    #[serde(default)]
    pub size: u64,
    /// Entries that `pg_restore --list` counted in the dump.
    #[serde(default)]
    pub entries: u64,
    #[serde(default)]
    pub tables: Vec<TableFacts>,
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    #[serde(default)]
    pub exclude_table_data: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableFacts {
    pub schema: String,
    pub name: String,
    /// The server's estimate (`pg_class.reltuples`) at the time of the dump; absent when it has none.
    pub estimated_rows: Option<u64>,
    /// The server's estimate of its size (`pg_class.relpages`), in bytes; 0 when it has none.
    #[serde(default)]
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Where the tree was seen inside the container.
    pub path: String,
    /// The engine's name of the volume, when the tree is on a named one.
    #[serde(default)]
    pub volume: Option<String>,
    pub shape: TreeShape,
    pub entries: u64,
    /// Sum of the sizes of the files, in bytes.
    pub content_bytes: u64,
    #[serde(default)]
    pub exclude: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeShape {
    Directory,
    /// One entry that is not a directory; the archive holds it under its own name.
    File,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    #[default]
    None,
}

/// How the bytes were compressed before they were stored: `zstd:3`, `gzip:6`, `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Compression {
    None,
    Gzip(u8),
    Zstd(u8),
}

impl Compression {
    pub const DEFAULT: Self = Self::Zstd(3);

    /// The ending that the usual tools expect, with its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip(_) => ".gz",
            Self::Zstd(_) => ".zst",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Gzip(level) => write!(formatter, "gzip:{level}"),
            Self::Zstd(level) => write!(formatter, "zstd:{level}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression; use `zstd[:1-19]`, `gzip[:1-9]` or `none`")]
pub struct BadCompression(String);

impl FromStr for Compression {
    type Err = BadCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadCompression(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", level @ (None | Some(1..=9))) => Ok(Self::Gzip(level.unwrap_or(6))),
            ("zstd", level @ (None | Some(1..=19))) => Ok(Self::Zstd(level.unwrap_or(3))),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Compression {
    type Error = BadCompression;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        compression.to_string()
    }
}

/// Where an object lies, relative to the repository's root: `<project>/<snapshot>/<file>`.
///
/// Always exactly these three components, none of which can leave its place: this is checked when a path is made and
/// when one is read back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectPath(String);

impl ObjectPath {
    /// `file` must be made of [`encode_component`] pieces and plain dots.
    pub fn new(project: &str, snapshot: &RunId, file: &str) -> Result<Self, BadObjectPath> {
        format!("{}/{snapshot}/{file}", encode_component(project)).try_into()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn file_name(&self) -> &str {
        self.component(2)
    }

    /// The project as it stands in the path, percent-encoded.
    pub fn project(&self) -> &str {
        self.component(0)
    }

    /// The snapshot in whose place the object lies, which may be an earlier one than the one that names it.
    pub fn snapshot(&self) -> &str {
        self.component(1)
    }

    fn component(&self, at: usize) -> &str {
        self.0.split('/').nth(at).unwrap_or_default()
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path of the form `<project>/<snapshot>/<file>`")]
pub struct BadObjectPath(String);

impl TryFrom<String> for ObjectPath {
    type Error = BadObjectPath;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let harmless = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.contains(['\\', '\0'])
                && !part.chars().any(char::is_control)
        };
        let shaped = parts.len() == 3
            && parts.iter().all(harmless)
            && parts[1].parse::<RunId>().is_ok()
            && parts[2] != MANIFEST_FILE;
        if shaped {
            Ok(Self(text))
        } else {
            Err(BadObjectPath(text))
        }
    }
}

impl From<ObjectPath> for String {
    fn from(path: ObjectPath) -> Self {
        path.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub target: TargetId,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    pub service: String,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not whole: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "the manifest is of format {found}, and this cofferdam reads up to {FORMAT}; use a newer cofferdam"
    )]
    TooNew { found: u32 },
    #[error("the manifest speaks of {found}, but it lies in the place of {expected}")]
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

    pub fn stored_bytes(&self) -> u64 {
        self.objects().map(|artifact| artifact.stored.bytes).sum()
    }

    fn ensure_consistent(&self) -> Result<(), ManifestError> {
        let inconsistent = |what: String| Err(ManifestError::Inconsistent(what));
        for record in &self.targets {
            let id = &record.target;
            let matching = match (&record.facts, id.driver) {
                (Facts::Postgres(_), crate::target::DriverKind::Postgres)
                | (Facts::Volume(_), crate::target::DriverKind::Volume)
                | (Facts::Files(_), crate::target::DriverKind::Files) => true,
                (Facts::Postgres(_) | Facts::Volume(_) | Facts::Files(_), _) => false,
            };
            if !matching {
                return inconsistent(format!("{id} carries the facts of another driver"));
            }
            if record.artifacts.is_empty() {
                return inconsistent(format!("{id} has no artifact"));
            }
            for artifact in &record.artifacts {
                if artifact.object.project() != encode_component(&self.project) {
                    return inconsistent(format!("{} is another project's", artifact.object));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_parsed_and_printed() {
        for (text, expected) in [
            ("zstd", Some(Compression::Zstd(3))),
            ("zstd:19", Some(Compression::Zstd(19))),
            ("gzip", Some(Compression::Gzip(6))),
            ("gzip:1", Some(Compression::Gzip(1))),
            ("none", Some(Compression::None)),
            ("none:1", None),
            ("zstd:0", None),
            ("zstd:20", None),
            ("gzip:10", None),
            ("lz4", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Compression>().ok(), expected, "{text}");
        }
        assert_eq!("zstd".parse::<Compression>().unwrap().to_string(), "zstd:3");
    }

    #[test]
    fn an_object_path_cannot_leave_the_repository() {
        let id = "20261121T020000Z-9f2c61aa";
        for (text, good) in [
            (format!("candig/{id}/db.postgres.clinical.dump.zst"), true),
            (format!("../{id}/x"), false),
            (format!("candig/{id}/../x"), false),
            (format!("/candig/{id}/x"), false),
            (format!("candig/{id}/a/b"), false),
            (format!("candig/{id}/"), false),
            (format!("candig/{id}/.hidden"), false),
            (format!("candig/{id}/a\\b"), false),
            (format!("candig/{id}/a\nb"), false),
            (format!("candig/{id}/manifest.json"), false),
            ("candig/latest/x".to_owned(), false),
        ] {
            assert_eq!(ObjectPath::try_from(text.clone()).is_ok(), good, "{text}");
        }
    }
}
