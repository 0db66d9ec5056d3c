//! What can be wrong with a snapshot, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::manifest::{ManifestError, ObjectPath};
use crate::target::TargetId;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Absent when the manifest itself is the problem.
    pub target: Option<TargetId>,
    pub object: Option<ObjectPath>,
    #[serde(flatten)]
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// The manifest cannot be read, so nothing else was looked at.
    Manifest {
        why: String,
    },
    Missing,
    /// In bytes, as stored.
    Length {
        expected: u64,
        found: u64,
    },
    /// SHA-256 of the stored bytes: they have changed since they were written.
    StoredDigest {
        expected: String,
        found: String,
    },
    /// The stored bytes are the ones that were written, and none of the keys that are given opens them.
    Closed {
        why: String,
    },
    /// The stored bytes are the ones that were written, but they cannot be decrypted or decompressed.
    Undecodable {
        why: String,
    },
    /// SHA-256 and length of the content, although the stored bytes are the ones that were written.
    PlainDigest {
        expected: String,
        found: String,
    },
    /// A line of an index is not what a line of an index is.
    Index {
        line: u64,
        why: String,
    },
    /// The repository failed while it was read.
    Unreadable {
        why: String,
    },
}

impl Problem {
    pub(super) fn of_manifest(error: &ManifestError) -> Self {
        Self {
            target: None,
            object: None,
            fault: Fault::Manifest {
                why: error.to_string(),
            },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(target), Some(object)) = (&self.target, &self.object) {
            write!(formatter, "{target} ({object}): ")?;
        }
        self.fault.fmt(formatter)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest { why } => formatter.write_str(why),
            Self::Missing => formatter.write_str("the object is missing"),
            Self::Length { expected, found } => write!(
                formatter,
                "the object has {found} bytes, but {expected} were stored"
            ),
            Self::StoredDigest { expected, found } => write!(
                formatter,
                "the object has changed since it was stored: its SHA-256 is {found}, but {expected} was recorded"
            ),
            Self::Closed { why } => write!(
                formatter,
                "the object is unchanged since it was stored, but cannot be opened: {why}"
            ),
            Self::Undecodable { why } => write!(
                formatter,
                "the object is unchanged since it was stored, but its content cannot be read: {why}"
            ),
            Self::PlainDigest { expected, found } => write!(
                formatter,
                "the object is unchanged since it was stored, but its content is not: it has {found}, but {expected} was recorded"
            ),
            Self::Index { line, why } => {
                write!(formatter, "line {line} of the index is malformed: {why}")
            }
            Self::Unreadable { why } => write!(formatter, "the object cannot be read: {why}"),
        }
    }
}
