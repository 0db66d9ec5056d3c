//! The index of a layer: one JSON object a line for each path, in the order of the archive.
//!
//! ```text
//! {"path":"app/a%FF.txt","type":"file","size":12,"mode":"0644","uid":33,"gid":33,"mtime":"2026-11-21T02:00:00.000000001Z"}
//! ```
//!
//! The path is relative to the tree's root (which is `.`) and percent-encoded as [`TreePath::encode`] has it. A line of
//! type `deleted` names a path that the layers before have and this one takes away; it carries nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::entry::{Entry, Kind, Time};
use super::path::{TreePath, encode};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    #[serde(with = "dotted_root")]
    pub path: TreePath,
    #[serde(rename = "type")]
    pub kind: IndexKind,
    /// Bytes of a file, holes included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Permissions in octal: `0644`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    /// RFC 3339 with up to nine digits after the second; absent when the time is beyond the years that this can say.
    #[serde(rename = "mtime", default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// Where a symbolic link points to (percent-encoded), or the path whose other name a hard link is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
    Deleted,
}

impl IndexEntry {
    pub fn of(entry: &Entry) -> Self {
        let (kind, target) = match &entry.kind {
            Kind::File { .. } => (IndexKind::File, None),
            Kind::Directory => (IndexKind::Directory, None),
            Kind::Symlink { target } => (IndexKind::Symlink, Some(encode(target))),
            Kind::HardLink { to } => (IndexKind::HardLink, Some(to.encode())),
            Kind::Fifo => (IndexKind::Fifo, None),
            Kind::CharacterDevice { .. } => (IndexKind::CharacterDevice, None),
            Kind::BlockDevice { .. } => (IndexKind::BlockDevice, None),
        };
        Self {
            path: entry.path.clone(),
            kind,
            size: entry.kind.size(),
            mode: format!("{:04o}", entry.metadata.mode),
            uid: entry.metadata.uid,
            gid: entry.metadata.gid,
            modified: timestamp(entry.metadata.modified),
            target,
        }
    }

    /// The line, with its line feed.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    let second = Timestamp::from_second(time.seconds).ok()?;
    let nanoseconds = jiff::SignedDuration::from_nanos(time.nanoseconds.into());
    second.checked_add(nanoseconds).ok()
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// The root has an empty path, which would look like a mistake in a file.
mod dotted_root {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::tree::path::TreePath;

    pub fn serialize<S: Serializer>(path: &TreePath, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(path)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TreePath, D::Error> {
        let text = String::deserialize(deserializer)?;
        TreePath::decode(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Stream(#[from] std::io::Error),
    #[error("line {line} of the index is malformed: {why}")]
    Malformed { line: u64, why: String },
}

/// Reads an index entry by entry.
pub struct IndexReader<R> {
    input: R,
    line: u64,
}

impl<R: AsyncBufRead + Unpin> IndexReader<R> {
    /// Names of 255 bytes, 4,096 bytes of path and as many of a link's target, each byte escaped to three.
    const MAX_LINE_BYTES: u64 = 64 * 1024;

    pub fn new(input: R) -> Self {
        Self { input, line: 0 }
    }

    /// `None` at the end.
    pub async fn next_entry(&mut self) -> Result<Option<IndexEntry>, IndexError> {
        self.line += 1;
        let malformed = |why: String| IndexError::Malformed {
            line: self.line,
            why,
        };
        let mut line = Vec::new();
        let read = (&mut self.input)
            .take(Self::MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(malformed("it does not end".to_owned()));
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| malformed(error.to_string()))
    }
}
