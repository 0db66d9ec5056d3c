//! Every change that staging and exchange make to the file system passes through here, so that the tests can stop a
//! process before each one of them and look at what it leaves behind.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, fallocate, fsync, mkdirat, openat,
    renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::attributes::Place;
use super::entry::{Metadata, Time};
use super::error::TreeError;
use super::path::TreePath;
use super::remove;

type Result<T> = std::result::Result<T, TreeError>;

/// One name in one directory, and what to call it in messages.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    pub directory: &'a OwnedFd,
    pub name: &'a [u8],
    pub shown: &'a TreePath,
}

impl<'a> Spot<'a> {
    pub fn new(directory: &'a OwnedFd, name: &'a [u8], shown: &'a TreePath) -> Self {
        Self {
            directory,
            name,
            shown,
        }
    }

    pub fn status(&self) -> Result<Option<super::fs::Status>> {
        super::fs::status_if_present(self.directory, self.name)
            .map_err(TreeError::file("inspect", self.shown))
    }
}

/// Moves an entry; one that has the new name already is replaced, where the file system allows that.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn rename(from: Spot<'_>, to: Spot<'_>) -> Result<()> {
    fault::point()?;
    renameat(from.directory, from.name, to.directory, to.name)
        .map_err(TreeError::file("move into place", to.shown))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    Done,
    /// The file system has no such call.
    Unsupported,
}

/// Lets two entries change places in one step.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn exchange(one: Spot<'_>, other: Spot<'_>) -> Result<Exchanged> {
    fault::point()?;
    if fault::exchange_is_unsupported() {
        return Ok(Exchanged::Unsupported);
    }
    let flags = RenameFlags::EXCHANGE;
    match renameat_with(one.directory, one.name, other.directory, other.name, flags) {
        Ok(()) => Ok(Exchanged::Done),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Exchanged::Unsupported),
        Err(errno) => Err(TreeError::file("exchange", other.shown)(errno)),
    }
}

/// One that is there already is no error.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn make_directory(spot: Spot<'_>, mode: Mode) -> Result<()> {
    fault::point()?;
    match mkdirat(spot.directory, spot.name, mode) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(TreeError::file("make", spot.shown)(errno)),
    }
}

/// With all that is below it; what is gone already is no error.
pub fn remove(spot: Spot<'_>) -> Result<()> {
    fault::point()?;
    remove::remove(spot.directory, spot.name, spot.shown).map(|_| ())
}

/// Only when it is empty; what is gone already is no error.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn remove_empty(spot: Spot<'_>) -> Result<()> {
    fault::point()?;
    match unlinkat(spot.directory, spot.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(TreeError::file("remove", spot.shown)(errno)),
    }
}

pub fn apply(directory: impl AsFd, metadata: &Metadata, shown: &TreePath) -> Result<()> {
    fault::point()?;
    Place::Open(directory.as_fd())
        .apply(metadata)
        .map(|_| ())
        .map_err(TreeError::file("restore the attributes of", shown))
}

pub fn set_modified(directory: impl AsFd, modified: Time, shown: &TreePath) -> Result<()> {
    fault::point()?;
    Place::Open(directory.as_fd())
        .set_modified(modified)
        .map_err(TreeError::file("restore the time of", shown))
}

/// Replaces a small file as a whole: it has its old content or its new one, whenever the process or the machine dies.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn write_file(directory: &OwnedFd, name: &str, content: &[u8]) -> Result<()> {
    let next = format!("{name}.next");
    let io = |action| TreeError::file(action, name);
    fault::point()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let file = openat(
        directory,
        next.as_str(),
        flags | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(io("make"))?;
    fault::point()?;
    let mut file = std::fs::File::from(file);
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|source| TreeError::File {
            action: "write",
            path: name.to_owned(),
            source,
        })?;
    fault::point()?;
    renameat(directory, next.as_str(), directory, name).map_err(io("move into place"))?;
    fault::point()?;
    fsync(directory).map_err(io("write to the disk"))
}

/// A file that takes room on the disk, and is good for nothing but removal.
pub fn reserve(directory: &OwnedFd, name: &str, bytes: usize) -> Result<()> {
    fault::point()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = openat(directory, name, flags | OFlags::CLOEXEC, mode)
        .map_err(TreeError::file("make", name))?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let mut file = std::fs::File::from(file);
            let written = file.write_all(&vec![0xA5; bytes]);
            written.map_err(|source| TreeError::File {
                action: "write",
                path: name.to_owned(),
                source,
            })
        }
        other => other.map_err(TreeError::file("reserve room in", name)),
    }
}

/// Everything that was changed on the file system of `file` is on the disk when this returns.
pub fn sync(file: impl AsFd) -> Result<()> {
    fault::point()?;
    syncfs(file).map_err(TreeError::file("write to the disk", "the tree"))
}

#[cfg(not(test))]
mod fault {
    use super::Result;

    pub fn point() -> Result<()> {
        Ok(())
    }

    pub fn exchange_is_unsupported() -> bool {
        false
    }
}

/// Lets a test stop everything before the n-th change, as a kill would: nothing that comes after is tidied up.
#[cfg(test)]
pub mod fault {
    use std::cell::Cell;

    use super::{Result, TreeError};

    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
        static NO_EXCHANGE: Cell<bool> = const { Cell::new(false) };
    }

    pub fn point() -> Result<()> {
        LEFT.with(|left| match left.get() {
            0 => Err(TreeError::Stopped),
            u32::MAX => Ok(()),
            more => {
                left.set(more - 1);
                Ok(())
            }
        })
    }

    pub fn exchange_is_unsupported() -> bool {
        NO_EXCHANGE.get()
    }

    /// Runs `act`, which is stopped before its change number `after`, counted from 0.
    pub fn stopped_after<T>(after: u32, act: impl FnOnce() -> T) -> T {
        LEFT.set(after);
        let result = act();
        LEFT.set(u32::MAX);
        result
    }

    pub fn without_exchange<T>(act: impl FnOnce() -> T) -> T {
        NO_EXCHANGE.set(true);
        let result = act();
        NO_EXCHANGE.set(false);
        result
    }
}
