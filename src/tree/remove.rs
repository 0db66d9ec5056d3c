//! Removes entries with all that is below them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::error::TreeError;
use super::fs;
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
