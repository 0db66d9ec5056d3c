//! Removes entries: with all that is below them, or one by one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::error::TreeError;
use super::fs;
use super::ground::{Borders, Ground};
use super::path::TreePath;
use super::trail::{Descent, Turn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Nothing,
    Directory,
    Other,
}

/// Removes `name` from `directory`; `path` is for messages. What is gone already is no error. Never enters another mount
/// and never follows a link: a mount below is an error, with everything beside it gone or not.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
pub fn remove(directory: impl AsFd, name: &[u8], path: &TreePath) -> Result<Removed, TreeError> {
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) => Ok(Removed::Other),
        Err(Errno::NOENT) => Ok(Removed::Nothing),
        // POSIX says EPERM for directories, Linux EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {
            remove_directory(directory.as_fd(), name, path)?;
            Ok(Removed::Directory)
        }
        Err(errno) => Err(TreeError::file("remove", path)(errno)),
    }
}

/// Removes single entries below a root, and nothing that was not named: a directory goes only when it is empty, so what it
/// holds has to come before it. Never enters another mount and never follows a link.
pub struct Removal(Ground);

impl Removal {
    pub fn below(root: OwnedFd) -> Self {
        Self(Ground::new(root, Borders::Keep))
    }

    /// What is gone already is no error, and neither is what lies behind something that is no directory any more.
    #[expect(
        clippy::disallowed_methods,
        reason = "changes the trees that it restores"
    )]
    pub fn entry(&mut self, path: &TreePath) -> Result<Removed, TreeError> {
        let failed = TreeError::file("remove", path);
        let Some((parent, name)) = path.split_last() else {
            return Err(failed(Errno::BUSY));
        };
        let directory = match self.0.look_up(&parent) {
            Ok(directory) => directory,
            Err(error) => {
                return match error.errno() {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Removed::Nothing),
                    _ => Err(error),
                };
            }
        };
        let removed = match unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) => Ok(Removed::Other),
            // An immutable file answers EPERM as a directory may, and is none.
            Err(refused @ (Errno::ISDIR | Errno::PERM)) => {
                match unlinkat(&directory, name, AtFlags::REMOVEDIR) {
                    Ok(()) => Ok(Removed::Directory),
                    Err(Errno::NOTDIR) => Err(refused),
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        };
        match removed {
            Err(Errno::NOENT) => Ok(Removed::Nothing),
            other => other.map_err(failed),
        }
    }
}

/// Without recursion, and with few directories open: a tree may be deeper than a stack.
#[expect(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]
fn remove_directory(parent: impl AsFd, name: &[u8], path: &TreePath) -> Result<(), TreeError> {
    let failed = |at: &TreePath| TreeError::file("remove", path.join_path(at));
    let root = TreePath::root();
    let opened = open_inside(&parent, name).map_err(failed(&root))?;
    let mut descent = Descent::new(Arc::new(opened)).map_err(failed(&root))?;
    while let Some(turn) = descent.turn() {
        let directory = descent.directory().map_err(failed(descent.path()))?;
        let gone = match &turn {
            Turn::Left(child) => unlinkat(&directory, child.as_slice(), AtFlags::REMOVEDIR),
            Turn::Name(child) => unlinkat(&directory, child.as_slice(), AtFlags::empty()),
        };
        let (Turn::Left(child) | Turn::Name(child)) = &turn;
        match (gone, &turn) {
            (Ok(()) | Err(Errno::NOENT), _) => {}
            (Err(refused @ (Errno::ISDIR | Errno::PERM)), Turn::Name(_)) => {
                let entered = match open_inside(&directory, child) {
                    // An immutable file answers EPERM as a directory may, and is none.
                    Err(Errno::NOTDIR | Errno::LOOP) => Err(refused),
                    opened => opened.and_then(|opened| descent.enter(child, opened)),
                };
                entered.map_err(failed(&descent.path().join(child)))?;
            }
            (Err(errno), _) => return Err(failed(&descent.path().join(child))(errno)),
        }
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(&root)(errno)),
    }
}

/// A directory in which nothing else is mounted.
fn open_inside(parent: impl AsFd, name: &[u8]) -> fs::Result<OwnedFd> {
    let directory = fs::open_directory(&parent, name)?;
    let status = fs::status_of(&directory)?;
    if status.is_mount(&fs::status_of(&parent)?.identity) {
        return Err(Errno::BUSY);
    }
    Ok(directory)
}

#[cfg(test)]
mod tests;
