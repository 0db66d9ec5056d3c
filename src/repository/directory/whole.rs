//! Files that appear whole or not at all: [`Partial`], [`Sealed`], [`Published`].

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;

use indicatif::HumanBytes;
use rustix::fs::{
    Advice, AtFlags, OFlags, RenameFlags, fadvise, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::{Directory, FILE_MODE, FileError};

impl Directory {
    /// Begins a file that is to be called `name` once it is whole.
    pub fn begin(&self, name: &str) -> Result<Partial, FileError> {
        let hidden = format!(
            "{PARTIAL_PREFIX}{:016x}{PARTIAL_SUFFIX}",
            rand::random::<u64>()
        );
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&*self.fd, hidden.as_str(), flags, FILE_MODE)
            .map_err(|errno| self.failed("create", name, errno))?;
        Ok(Partial {
            file: File::from(file),
            written: 0,
            sent_on: 0,
            name: name.to_owned(),
            guard: Guard {
                directory: self.clone(),
                name: hidden,
                armed: true,
            },
        })
    }

    /// Gives `from` the name `to`, which must be free.
    fn rename_to_free_name(&self, from: &str, to: &str) -> Result<(), Errno> {
        match renameat_with(&*self.fd, from, &*self.fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.claim_and_rename(from, to),
            outcome => outcome,
        }
    }

    /// For file systems without that flag (NFS, some of FUSE): an empty file takes the name first, and only one can.
    pub(super) fn claim_and_rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(&*self.fd, to, flags, FILE_MODE)?);
        renameat(&*self.fd, from, &*self.fd, to).inspect_err(|_| {
            let _ = unlinkat(&*self.fd, to, AtFlags::empty());
        })
    }
}

/// In bytes. Small enough for little to be left at the end, large enough for a disk to write at a stretch.
const WRITE_BEHIND: u64 = 8 * 1024 * 1024;

const PARTIAL_PREFIX: &str = ".cofferdam-";
const PARTIAL_SUFFIX: &str = ".partial";

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
    file: File,
    written: u64,
    /// Up to where the disk has been told to write.
    sent_on: u64,
    /// What it will be called.
    name: String,
    guard: Guard,
}

impl Partial {
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.failed("write", error))?;
        self.written += bytes.len() as u64;
        if self.written - self.sent_on >= WRITE_BEHIND {
            self.send_on();
        }
        Ok(())
    }

    /// Lets the disk begin with what was written since the last time, so that it works while the rest is still coming
    /// and little is left for the sync at the end. Linux starts writing dirty pages when it is told that they are not
    /// needed (`mm/fadvise.c`); as advice, it cannot fail in a way that matters.
    fn send_on(&mut self) {
        let length = NonZero::new(self.written - self.sent_on);
        let _ = fadvise(&self.file, self.sent_on, length, Advice::DontNeed);
        self.sent_on = self.written;
    }

    /// Returns when the content will survive a loss of power.
    pub fn seal(self) -> Result<Sealed, FileError> {
        self.file
            .sync_all()
            .map_err(|error| self.failed("sync", error))?;
        let length = self
            .file
            .metadata()
            .map_err(|error| self.failed("look at", error))?
            .len();
        if length != self.written {
            let error = io::Error::other(format!(
                "{} bytes were written, and it has {length}",
                self.written
            ));
            return Err(self.failed("write", error));
        }
        Ok(Sealed {
            name: self.name,
            guard: self.guard,
        })
    }

    fn failed(&self, action: &'static str, error: io::Error) -> FileError {
        let mut failed = self.guard.directory.failed(action, &self.name, error);
        if let Some(hint) = &mut failed.hint {
            *hint = format!(
                "{} of it were written and have been removed again; {hint}",
                HumanBytes(self.written)
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
