//! Entry by entry, around what stays: in each directory that stays, what else it holds moves to `old`, and each new entry
//! takes its place.
//!
//! What stays is never moved, so nothing that is mounted on it comes off, and nobody can lose it. An entry of `new` that
//! has a namesake in `old` has made room already.

use std::os::fd::OwnedFd;

use sha2::{Digest, Sha256};

use super::merge::Merge;
use super::{Exchange, Result, keep_mounts};
use crate::labels::TreeRestore;
use crate::tree::change::{self, Spot};
use crate::tree::error::TreeError;
use crate::tree::fs::{self, Status};
use crate::tree::path::TreePath;
use crate::tree::staging::{StagedUnit, is_staging_name};
use crate::tree::stays::Reason;

/// What becomes of a live entry.
enum Fate {
    Stays(Reason),
    /// It stays because of what it holds, and is dealt with by itself.
    IsPassage,
    Goes,
}

/// A directory that stays.
struct Around {
    path: TreePath,
    live: OwnedFd,
    /// `None` when the saved tree has no such directory.
    staged: Option<OwnedFd>,
}

impl Around {
    fn staged_status(&self, name: &[u8], path: &TreePath) -> Result<Option<Status>> {
        match &self.staged {
            Some(staged) => Spot::new(staged, name, path).status(),
            None => Ok(None),
        }
    }
}

impl Exchange {
    /// Moves out what the saved tree does not have.
    pub(super) fn clear_around(&self, unit: &StagedUnit) -> Result<()> {
        let old = self.old()?;
        for path in self.directories_around(unit) {
            let Some(around) = self.around(path)? else {
                continue;
            };
            for name in fs::names(&around.live).map_err(TreeError::file("list", &around.path))? {
                if self.is_our_own(&around.path, &name) {
                    continue;
                }
                let path = around.path.join(&name);
                let live = Spot::new(&around.live, &name, &path);
                let waiting = around.staged_status(&name, &path)?;
                let Some(present) = live.status()? else {
                    continue;
                };
                if waiting.is_none()
                    && let Fate::Goes = self.fate(&around, &path, &present, None)?
                {
                    let aside = aside_name(&path);
                    let moved = change::rename(live, Spot::new(&old, &aside, &path));
                    // Nothing is to take its place: nobody has to be told twice that it stays.
                    keep_mounts(moved, &path, &mut Vec::new())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn place_around(&mut self, unit: &StagedUnit) -> Result<()> {
        let old = self.old()?;
        for path in self.directories_around(unit) {
            let Some(around) = self.around(path)? else {
                continue;
            };
            let Some(staged) = &around.staged else {
                continue;
            };
            for name in fs::names(staged).map_err(TreeError::file("list", "new"))? {
                let path = around.path.join(&name);
                let new = Spot::new(staged, &name, &path);
                let live = Spot::new(&around.live, &name, &path);
                if let Some(present) = live.status()? {
                    let waiting = new.status()?;
                    match self.fate(&around, &path, &present, waiting.as_ref())? {
                        Fate::IsPassage => {
                            // Since it was looked at before the decision, something was put into it.
                            if waiting.is_some_and(|waiting| !waiting.is_directory()) {
                                self.warnings.push(stayed(&path));
                            }
                            continue;
                        }
                        Fate::Stays(reason) => {
                            self.fill(&around, &name, &path, reason)?;
                            continue;
                        }
                        Fate::Goes => {}
                    }
                    let aside = aside_name(&path);
                    let aside = Spot::new(&old, &aside, &path);
                    if aside.status()?.is_some() {
                        // It made room before; what is here now was made since, by a program that ought to be stopped.
                        change::remove(live)?;
                    } else if !keep_mounts(change::rename(live, aside), &path, &mut self.warnings)?
                    {
                        continue;
                    }
                }
                change::rename(new, live)?;
            }
        }
        Ok(())
    }

    /// Puts into a directory that is left out what the snapshot has of it and it lacks.
    fn fill(
        &mut self,
        around: &Around,
        name: &[u8],
        path: &TreePath,
        reason: Reason,
    ) -> Result<()> {
        let below = |directory: &OwnedFd| {
            fs::open_below_if_present(directory, &TreePath::root().join(name))
        };
        let staged = around.staged.as_ref().map(&below).transpose()?.flatten();
        match (reason, staged, below(&around.live)?) {
            (Reason::LeftOut, Some(staged), Some(live)) => {
                let mut merge = Merge {
                    mode: TreeRestore::KeepExisting,
                    keeper: &self.keeper,
                    warnings: &mut self.warnings,
                };
                merge.merge(staged, live, path)
            }
            (Reason::Mounted, Some(staged), _)
                if fs::names(&staged)
                    .map_err(TreeError::file("list", path))?
                    .is_empty() =>
            {
                Ok(())
            }
            (Reason::Mounted, ..) => {
                self.warnings.push(format!(
                    "{path}: something is mounted there; it stayed as it was"
                ));
                Ok(())
            }
            _ => {
                self.warnings.push(stayed(path));
                Ok(())
            }
        }
    }

    /// The unit's own directory, and those below it that stay.
    fn directories_around(&self, unit: &StagedUnit) -> Vec<TreePath> {
        let below = self.live.passages.keys();
        let below = below.filter(|path| **path != unit.staged && path.is_within(&unit.staged));
        std::iter::once(&unit.staged)
            .chain(below)
            .cloned()
            .collect()
    }

    /// `None` when there is no such directory any more.
    fn around(&self, path: TreePath) -> Result<Option<Around>> {
        let live = self.live_directory(&path)?;
        let staged = fs::open_below_if_present(self.new_tree()?, &path)?;
        Ok(live.map(|live| Around { path, live, staged }))
    }

    fn fate(
        &self,
        around: &Around,
        path: &TreePath,
        present: &Status,
        waiting: Option<&Status>,
    ) -> Result<Fate> {
        let parent = fs::status_of(&around.live).map_err(TreeError::file("inspect", path))?;
        Ok(match self.keeper.reason(path, present, &parent) {
            Some(Reason::Socket) if waiting.is_some() => Fate::Goes,
            Some(reason) => Fate::Stays(reason),
            None if self.live.is_passage(path, waiting) => Fate::IsPassage,
            None => Fate::Goes,
        })
    }

    fn is_our_own(&self, directory: &TreePath, name: &[u8]) -> bool {
        self.staging.plan().place.join_path(directory).is_root() && is_staging_name(name)
    }
}

pub(super) fn stayed(path: &TreePath) -> String {
    format!("{path}: a pattern leaves it out, and it stayed as it was")
}

/// The name of an entry in `old`: no two paths share one, and people recognise it.
fn aside_name(path: &TreePath) -> Vec<u8> {
    let digest = Sha256::digest(path.as_bytes());
    let digits: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = path.name();
    [digits.as_bytes(), b"-", &name[..name.len().min(200)]].concat()
}
