//! Moves entries out of `new` into a live directory, until there is nothing left that has a place.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::around::stayed;
use super::{Result, keep_mounts};
use crate::labels::TreeRestore;
use crate::tree::change::{self, Spot};
use crate::tree::error::TreeError;
use crate::tree::fs;
use crate::tree::path::TreePath;
use crate::tree::stays::Keeper;
use crate::tree::trail::{Descent, Trail, Turn};

pub(super) struct Merge<'a> {
    /// `overlay` or `keep-existing`.
    pub mode: TreeRestore,
    pub keeper: &'a Keeper,
    pub warnings: &'a mut Vec<String>,
}

impl Merge<'_> {
    /// `at`: where both lie in the tree.
    pub fn merge(&mut self, new: OwnedFd, live: OwnedFd, at: &TreePath) -> Result<()> {
        let failed = |path: &TreePath| TreeError::file("open", path.clone());
        let mut descent = Descent::new(Arc::new(new)).map_err(failed(at))?;
        let mut trail = Trail::new(Arc::new(live));
        while let Some(turn) = descent.turn() {
            let here = at.join_path(descent.path());
            let from_directory = descent.directory().map_err(failed(&here))?;
            let name = match turn {
                Turn::Left(name) => {
                    trail.pop();
                    if self.mode == TreeRestore::Overlay {
                        let path = here.join(&name);
                        self.remove_emptied(Spot::new(&from_directory, &name, &path))?;
                    }
                    continue;
                }
                Turn::Name(name) => name,
            };
            let path = here.join(&name);
            let to_directory = trail.last().map_err(failed(&here))?;
            let from = Spot::new(&from_directory, &name, &path);
            let to = Spot::new(&to_directory, &name, &path);
            if let Both::Directories = self.entry(from, to)? {
                let open = |directory: &OwnedFd| {
                    fs::open_directory(directory, &name).map_err(failed(&path))
                };
                trail.push(&name, open(&to_directory)?);
                let entered = descent.enter(&name, open(&from_directory)?);
                entered.map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: Spot<'_>, to: Spot<'_>) -> Result<Both> {
        let path = to.shown;
        let Some(staged) = from.status()? else {
            return Ok(Both::Dealt);
        };
        let Some(present) = to.status()? else {
            change::rename(from, to)?;
            return Ok(Both::Dealt);
        };
        let (is_directory, was_directory) = (present.is_directory(), staged.is_directory());
        if is_directory && was_directory {
            return Ok(Both::Directories);
        }
        if self.mode == TreeRestore::KeepExisting {
            return Ok(Both::Dealt);
        }
        if self.keeper.leaves_out(path, is_directory) || self.keeper.holds_mount(path) {
            self.warnings.push(stayed(path));
        } else if is_directory || was_directory {
            change::remove(to)?;
            change::rename(from, to)?;
        } else {
            keep_mounts(change::rename(from, to), path, self.warnings)?;
        }
        Ok(Both::Dealt)
    }

    /// What stayed in it goes with all of `new`.
    fn remove_emptied(&self, spot: Spot<'_>) -> Result<()> {
        match change::remove_empty(spot) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NOTEMPTY) => Ok(()),
            other => other,
        }
    }
}

enum Both {
    Directories,
    Dealt,
}
