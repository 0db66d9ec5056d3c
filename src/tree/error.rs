//! What can go wrong with a tree.

use std::io;

use super::path::BadPath;

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call to the file system failed. `path` is relative to the tree's root, percent-encoded.
    #[error("cannot {action} {path}: {source}{}", hint(source))]
    File {
        action: &'static str,
        path: String,
        source: io::Error,
    },
    /// The archive could not be written, or not be read: the other side's own words.
    #[error("{0}")]
    Stream(io::Error),
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    #[error("the archive is refused: {0}")]
    Hostile(String),
    #[error("pattern `{pattern}` is not valid: {why}")]
    Pattern { pattern: String, why: String },
    #[error("{0}")]
    NotAFile(String),
    #[error(
        "{0} is more than {max} levels deep, which is too deep to restore; move it, or leave it out",
        max = super::path::MAX_DEPTH
    )]
    TooDeep(String),
    #[error("{0} is not in the archive")]
    NotInArchive(String),
    #[error(transparent)]
    Path(#[from] BadPath),
    /// Entries that carry the flags of `chattr +i` or `chattr +a`.
    #[error(
        "immutable or append-only files cannot be replaced: {0}; unlock them with `chattr -i -a`, and restore again"
    )]
    Locked(String),
    /// Something of the live tree cannot make room. Nothing was touched.
    #[error("{0}")]
    InTheWay(String),
    #[error("there is not enough room: {needed} are needed and {free} free; {hint}")]
    NoRoom {
        needed: String,
        free: String,
        hint: &'static str,
    },
    /// What lies in the staging directory does not allow this step.
    #[error("{what}; {hint}")]
    Staging { what: String, hint: &'static str },
    #[cfg(test)]
    #[error("stopped by a test")]
    Stopped,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; a restore needs room for the old and the new data at once: make room, or restore in place"
        }
        io::ErrorKind::PermissionDenied => {
            "; the process lacks the capabilities that reading and restoring files needs"
        }
        _ => "",
    }
}

impl TreeError {
    pub(crate) fn file(
        action: &'static str,
        path: impl ToString,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::File {
            action,
            path: path.to_string(),
            source: errno.into(),
        }
    }

    /// The error number of the file system's answer, where there is one.
    pub(crate) fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::File { source, .. } => rustix::io::Errno::from_io_error(source),
            _ => None,
        }
    }
}

/// Warnings are for people: so many are kept, the rest is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    kept: Vec<String>,
    more: u64,
}

impl Warnings {
    const MAX_WARNINGS: usize = 100;

    pub fn push(&mut self, warning: String) {
        if self.kept.len() < Self::MAX_WARNINGS {
            self.kept.push(warning);
        } else {
            self.more += 1;
        }
    }

    pub fn into_vec(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept
                .push(format!("… and {} more such warnings", self.more));
        }
        self.kept
    }
}
