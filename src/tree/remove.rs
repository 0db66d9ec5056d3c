//! Removes entries: with all that is below them, or one by one.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::error::TreeError;
use super::fs;
use super::ground::{Borders, Ground};
use super::path::TreePath;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Nothing,
    Directory,
    Other,
}

/// Removes `name` from `directory`; `path` is for messages. What is gone already is no error. Never enters another mount
/// and never follows a link: a mount below is an error, with everything beside it gone or not.
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

struct Level {
    directory: OwnedFd,
    path: TreePath,
    names: Vec<Vec<u8>>,
}

impl Level {
    fn open(parent: impl AsFd, name: &[u8], path: &TreePath) -> Result<Self, TreeError> {
        let failed = || TreeError::file("remove", path);
        let parent_identity = fs::status_of(&parent).map_err(failed())?.identity;
        let directory = fs::open_directory(&parent, name).map_err(failed())?;
        let status = fs::status_of(&directory).map_err(failed())?;
        if status.is_mount(&parent_identity) {
            return Err(failed()(Errno::BUSY));
        }
        Ok(Self {
            names: fs::names(&directory).map_err(failed())?,
            directory,
            path: path.clone(),
        })
    }
}

/// Without recursion: a tree may be deeper than a stack.
fn remove_directory(parent: impl AsFd, name: &[u8], path: &TreePath) -> Result<(), TreeError> {
    let mut levels = vec![Level::open(&parent, name, path)?];
    while let Some(level) = levels.last_mut() {
        let Some(child) = level.names.pop() else {
            let emptied = levels.pop().map(|level| level.path).unwrap_or_default();
            let (above, name) = match levels.last() {
                Some(level) => (level.directory.as_fd(), emptied.name()),
                None => (parent.as_fd(), name),
            };
            match unlinkat(above, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(errno) => return Err(TreeError::file("remove", &emptied)(errno)),
            }
        };
        match unlinkat(&level.directory, child.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                let path = level.path.join(&child);
                let below = Level::open(&level.directory, &child, &path)?;
                levels.push(below);
            }
            Err(errno) => return Err(TreeError::file("remove", level.path.join(&child))(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
