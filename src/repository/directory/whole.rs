//! Files that appear whole or not at all: [`Partial`], [`Sealed`], [`Published`].

use std::fs::File;
use std::io;

use indicatif::HumanBytes;
use rustix::fs::{AtFlags, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{Directory, FileError};
use crate::pipe::Appender;

impl Directory {
    /// Begins a file that is to be called `name` once it is whole.
    pub fn begin(&self, name: &str) -> Result<Partial, FileError> {
        let hidden = partial_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&*self.fd, hidden.as_str(), flags, self.readers.file_mode())
            .map_err(|errno| self.failed("create", name, errno))?;
        Ok(Partial {
            content: Appender::new(File::from(file)),
            written: 0,
            ending: Ending {
                name: name.to_owned(),
                guard: Guard {
                    directory: self.clone(),
                    name: hidden,
                    armed: true,
                },
            },
        })
    }

    /// Gives `from` the name `to`, which must be free.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
    fn rename_to_free_name(&self, from: &str, to: &str) -> Result<(), Errno> {
        match renameat_with(&*self.fd, from, &*self.fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.claim_and_rename(from, to),
            outcome => outcome,
        }
    }

    /// For file systems without that flag (NFS, some of FUSE): an empty file takes the name first, and only one can.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
    pub(super) fn claim_and_rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(&*self.fd, to, flags, self.readers.file_mode())?);
        renameat(&*self.fd, from, &*self.fd, to).inspect_err(|_| {
            let _ = unlinkat(&*self.fd, to, AtFlags::empty());
        })
    }
}

const PARTIAL_PREFIX: &str = ".cofferdam-";
const PARTIAL_SUFFIX: &str = ".partial";

/// A hidden name that no other file has.
pub fn partial_name() -> String {
    numbered_partial_name(rand::random())
}

/// The same name for the same number.
pub fn numbered_partial_name(number: u64) -> String {
    format!("{PARTIAL_PREFIX}{number:016x}{PARTIAL_SUFFIX}")
}

/// Whether this is the hidden name of a file that was being written.
pub fn is_partial_name(name: &str) -> bool {
    name.strip_prefix(PARTIAL_PREFIX)
        .and_then(|name| name.strip_suffix(PARTIAL_SUFFIX))
        .is_some_and(|random| {
            random.len() == 16
                && random
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Takes a file away when it is dropped.
#[derive(Debug)]
struct Guard {
    directory: Directory,
    name: String,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = self.directory.remove_file(&self.name)
        {
            tracing::warn!("{error}");
        }
    }
}

/// A file that is being written under a hidden name.
#[derive(Debug)]
pub struct Partial {
    content: Appender,
    written: u64,
    ending: Ending,
}

/// What becomes of it.
#[derive(Debug)]
struct Ending {
    /// What it will be called.
    name: String,
    guard: Guard,
}

impl Partial {
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.content
            .append(bytes)
            .map_err(|error| self.ending.failed("write", error, self.written))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Returns when the content will survive a loss of power.
    pub fn seal(self) -> Result<Sealed, FileError> {
        let Self {
            content,
            written,
            ending,
        } = self;
        let file = content
            .finish()
            .map_err(|error| ending.failed("write", error, written))?;
        file.sync_all()
            .map_err(|error| ending.failed("sync", error, written))?;
        let length = file
            .metadata()
            .map_err(|error| ending.failed("inspect", error, written))?
            .len();
        if length != written {
            let error =
                io::Error::other(format!("{written} bytes were written, but it has {length}"));
            return Err(ending.failed("write", error, written));
        }
        Ok(Sealed {
            name: ending.name,
            guard: ending.guard,
        })
    }
}

impl Ending {
    fn failed(&self, action: &'static str, error: io::Error, written: u64) -> FileError {
        let mut failed = self.guard.directory.failed(action, &self.name, error);
        if let Some(hint) = &mut failed.hint {
            *hint = format!(
                "{} of it were written and have been removed again; {hint}",
                HumanBytes(written)
            );
        }
        failed
    }
}

/// A file that is whole and durable, still under its hidden name.
#[derive(Debug)]
pub struct Sealed {
    name: String,
    guard: Guard,
}

impl Sealed {
    /// Gives the file its name, and returns when it will keep it after a loss of power. What had that name is gone.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
    pub fn replace(self) -> Result<(), FileError> {
        let Self { name, mut guard } = self;
        let directory = guard.directory.clone();
        renameat(&*directory.fd, &guard.name, &*directory.fd, &name)
            .map_err(|errno| directory.failed("replace", &name, errno))?;
        guard.armed = false;
        directory.sync()
    }

    /// Gives the file its name. An error of the kind `AlreadyExists` when that is taken.
    pub fn publish(self) -> Result<Published, FileError> {
        let Self { name, mut guard } = self;
        guard
            .directory
            .rename_to_free_name(&guard.name, &name)
            .map_err(|errno| guard.directory.failed("create", &name, errno))?;
        guard.name = name;
        guard.directory.sync()?;
        Ok(Published { guard })
    }
}

/// A file under its own name, which goes again unless it is kept.
#[derive(Debug)]
#[must_use]
pub struct Published {
    guard: Guard,
}

impl Published {
    pub fn keep(mut self) {
        self.guard.armed = false;
    }
}
