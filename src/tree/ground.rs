//! Where entries lie: directories below a root, opened one component after the other, never through a symbolic link.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;

use super::error::TreeError;
use super::fs::{open_directory, status_of};
use super::path::TreePath;
use super::trail::Trail;

/// Keeps the way to the last directory: an archive comes in the order of a walk, so the next is near.
pub struct Ground {
    trail: Trail,
    borders: Borders,
}

/// What is done where something else is mounted below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borders {
    Cross,
    /// Nothing is looked up there: `EBUSY`.
    Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

impl Ground {
    pub fn new(root: OwnedFd, borders: Borders) -> Self {
        Self {
            trail: Trail::new(Arc::new(root)),
            borders,
        }
    }

    pub fn look_up(&mut self, path: &TreePath) -> Result<Arc<OwnedFd>, TreeError> {
        self.walk(path, Missing::Fail)
    }

    /// Makes directories that are missing; archives that were put together by hand do not always name them.
    pub fn make_way(&mut self, path: &TreePath) -> Result<Arc<OwnedFd>, TreeError> {
        self.walk(path, Missing::Make)
    }

    /// To be called when an entry was removed: a directory that is open may not have its name any more.
    pub fn forget(&mut self) {
        self.trail.truncate(0);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "changes the trees that it restores"
    )]
    fn walk(&mut self, path: &TreePath, missing: Missing) -> Result<Arc<OwnedFd>, TreeError> {
        let failed = || TreeError::file("open", path);
        let shared = path
            .components()
            .zip(self.trail.names())
            .take_while(|(wanted, open)| wanted == open)
            .count();
        self.trail.truncate(shared);
        for component in path.components().skip(shared) {
            let last = self.trail.last().map_err(failed())?;
            let opened = match open_directory(&last, component) {
                Err(Errno::NOENT) if missing == Missing::Make => {
                    mkdirat(&last, component, Mode::RWXU)
                        .and_then(|()| open_directory(&last, component))
                }
                other => other,
            };
            let opened = opened
                .and_then(|opened| self.ensure_inside(&last, opened))
                .map_err(failed())?;
            self.trail.push(component, opened);
        }
        self.trail.last().map_err(failed())
    }

    fn ensure_inside(&self, parent: &OwnedFd, opened: OwnedFd) -> Result<OwnedFd, Errno> {
        if self.borders == Borders::Keep
            && status_of(&opened)?.is_mount(&status_of(parent)?.identity)
        {
            return Err(Errno::BUSY);
        }
        Ok(opened)
    }
}
