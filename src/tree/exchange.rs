//! Lets a staged tree take the place of the live one.
//!
//! Deciding is one durable write. After it every step can be repeated: whoever was interrupted, and wherever, the next
//! call sees from what lies where what is still to be done.
//!
//! - `replace` of something below a mount's root: it changes places with the live one in a single step. Which of the two
//!   is the new one shows in its inode, which was noted when the exchange was decided.
//! - `replace` of what cannot change places as a whole, because it is the mount's root or something in it stays: entry by
//!   entry, around what stays ([`around`]).
//! - What belongs to the present entry (`companions`: a database's journals) moves to `old` before the new one takes its
//!   place, and is on the disk as moved: a journal of the old database would be applied to the new one. Once the new one is
//!   in its place, what lies beside it is its own, and stays. A machine that dies in between comes back with the old
//!   entry without its companions; it has been given up already, and nobody may use it before this is finished.
//! - `overlay` and `keep-existing`: entries leave `new` one by one until none is left ([`merge`]).

mod around;
mod merge;

use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;

use self::merge::Merge;
use super::change::{self, Exchanged, Spot};
use super::entry::Time;
use super::error::TreeError;
use super::fs;
use super::live::Live;
use super::path::TreePath;
use super::staging::{NEW, OLD, Phase, StagedUnit, Staging, StagingPlan};
use super::stays::Keeper;
use crate::labels::TreeRestore;
use crate::manifest::TreeShape;

type Result<T> = std::result::Result<T, TreeError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new tree is in its place, and the old one gone.
    Done,
    /// Nothing was staged, or it had all been done before.
    Nothing,
}

/// Finishes the exchange that is staged as `name` at the root of `mount`. Warnings tell of entries that had to stay.
pub fn exchange(mount: &OwnedFd, name: &[u8]) -> Result<(Outcome, Vec<String>)> {
    let own = mount.try_clone().map_err(TreeError::Stream)?;
    let Some(staging) = Staging::find(own, name)? else {
        super::staging::discard(mount, name)?;
        return Ok((Outcome::Nothing, Vec::new()));
    };
    if matches!(staging.phase(), Phase::Loading | Phase::Discarding) {
        return Err(TreeError::Staging {
            what: "the restored data is not complete".to_owned(),
            hint: "the old data is untouched; restore again",
        });
    }
    let keeper = Keeper::new(&staging.plan().stays)?;
    let mut exchange = Exchange {
        live: survey(&staging.mount, staging.plan(), &keeper)?,
        keeper,
        staging,
        warnings: Vec::new(),
    };
    loop {
        match exchange.staging.phase() {
            Phase::Loading | Phase::Discarding | Phase::Loaded => exchange.decide()?,
            Phase::Clearing => exchange.clear()?,
            Phase::Placing => exchange.place()?,
            Phase::Finishing => {
                return Ok((Outcome::Done, exchange.finish()?));
            }
        }
    }
}

/// The live tree of a plan; one that is not there, or is not a directory, has nothing that could stay.
pub fn survey(mount: &OwnedFd, plan: &StagingPlan, keeper: &Keeper) -> Result<Live> {
    match plan.shape {
        TreeShape::File => Ok(Live::default()),
        TreeShape::Directory => match fs::open_below_if_present(mount, &plan.place)? {
            Some(root) => Live::survey(root, keeper, &plan.selection),
            None => Ok(Live::default()),
        },
    }
}

struct Exchange {
    staging: Staging,
    keeper: Keeper,
    live: Live,
    warnings: Vec<String>,
}

impl Exchange {
    /// From here on there is no way back, and a way forward for everyone.
    fn decide(&mut self) -> Result<()> {
        self.staging.state.units = self.units()?;
        self.staging.enter(Phase::Clearing)
    }

    /// What takes its place as a whole, or around what stays in it.
    fn units(&self) -> Result<Vec<StagedUnit>> {
        let plan = self.staging.plan();
        if plan.mode != TreeRestore::Replace && plan.shape == TreeShape::Directory {
            return Ok(Vec::new());
        }
        let new = self.staging.new_tree()?;
        let pairs: Vec<(TreePath, TreePath)> = match plan.shape {
            // The archive has the file under the name it was saved with.
            TreeShape::File => fs::names(&new)
                .map_err(TreeError::file("list", "new"))?
                .iter()
                .map(|name| (TreePath::root().join(name), plan.place.clone()))
                .collect(),
            TreeShape::Directory if plan.selection.is_empty() => {
                vec![(TreePath::root(), plan.place.clone())]
            }
            TreeShape::Directory => plan
                .selection
                .iter()
                .map(|path| (path.clone(), plan.place.join_path(path)))
                .collect(),
        };
        let units = pairs.into_iter().map(|(staged, live)| {
            let (directory, name) = self.staged_spot(&staged)?;
            let status = fs::status(&directory, &name)
                .map_err(TreeError::file("look at the restored", &staged))?;
            Ok(StagedUnit {
                around: plan.shape == TreeShape::Directory
                    && (live.is_root() || self.live.is_passage(&staged, Some(&status))),
                staged,
                live,
                device: status.identity.device,
                inode: status.identity.inode,
            })
        });
        units.collect()
    }

    /// Moves out what the saved tree does not have. Nothing new is in its place yet, so all that is here is old.
    fn clear(&mut self) -> Result<()> {
        for unit in self.units_around() {
            self.clear_around(&unit)?;
        }
        change::sync(&self.staging.mount)?;
        self.staging.enter(Phase::Placing)
    }

    fn place(&mut self) -> Result<()> {
        let plan = self.staging.plan().clone();
        if plan.mode == TreeRestore::Replace || plan.shape == TreeShape::File {
            self.move_companions()?;
            for (number, unit) in self.staging.state.units.clone().iter().enumerate() {
                if unit.around {
                    self.place_around(unit)?;
                } else {
                    self.place_unit(unit, number)?;
                }
            }
        } else {
            let live = self.way_to(&plan.place)?;
            let mut merge = Merge {
                mode: plan.mode,
                keeper: &self.keeper,
                warnings: &mut self.warnings,
            };
            merge.merge(self.staging.new_tree()?, live, &TreePath::root())?;
        }
        change::sync(&self.staging.mount)?;
        self.staging.enter(Phase::Finishing)
    }

    fn units_around(&self) -> Vec<StagedUnit> {
        let units = self.staging.state.units.iter();
        units.filter(|unit| unit.around).cloned().collect()
    }

    fn move_companions(&self) -> Result<()> {
        let companions = &self.staging.plan().companions;
        if companions.is_empty() || self.is_any_in_place()? {
            return Ok(());
        }
        let old = self.old()?;
        for (number, path) in companions.iter().enumerate() {
            let Some((directory, name)) = self.live_spot(path)? else {
                continue;
            };
            let live = Spot::new(&directory, &name, path);
            if live.status()?.is_some() {
                let aside = format!("companion-{number}");
                change::rename(live, Spot::new(&old, aside.as_bytes(), path))?;
            }
        }
        change::sync(&self.staging.mount)
    }

    fn is_any_in_place(&self) -> Result<bool> {
        for unit in &self.staging.state.units {
            let Some((directory, name)) = self.live_spot(&unit.live)? else {
                continue;
            };
            let status = Spot::new(&directory, &name, &unit.live).status()?;
            if status.is_some_and(|status| unit.is(&status.identity)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a live entry lies; `None` when there is not even its directory.
    fn live_spot(&self, path: &TreePath) -> Result<Option<(OwnedFd, Vec<u8>)>> {
        let Some((parent, name)) = path.split_last() else {
            return Err(ambiguous(path));
        };
        match fs::open_below(&self.staging.mount, &parent) {
            Ok(directory) => Ok(Some((directory, name.to_vec()))),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn place_unit(&self, unit: &StagedUnit, number: usize) -> Result<()> {
        let keeps = self.staging.plan().mode == TreeRestore::KeepExisting;
        let Some((parent, live_name)) = unit.live.split_last() else {
            return Err(ambiguous(&unit.live));
        };
        let parent = self.way_to(&parent)?;
        let (staged_directory, staged_name) = match self.staged_spot(&unit.staged) {
            // It has left with a directory above it.
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let (old, old_name) = (self.old()?, number.to_string());
        let staged = Spot::new(&staged_directory, &staged_name, &unit.live);
        let live = Spot::new(&parent, live_name, &unit.live);
        let aside = Spot::new(&old, old_name.as_bytes(), &unit.live);
        let in_place = live.status()?;
        let waiting = staged.status()?;
        let is_new = |status: &Option<fs::Status>| {
            status
                .as_ref()
                .is_some_and(|status| unit.is(&status.identity))
        };
        match (&in_place, &waiting) {
            (_, None) => Ok(()),
            (Some(_), Some(_)) if is_new(&in_place) => change::rename(staged, aside),
            (_, Some(_)) if !is_new(&waiting) => Err(ambiguous(&unit.live)),
            (None, Some(_)) => change::rename(staged, live),
            (Some(_), Some(_)) if keeps => Ok(()),
            (Some(_), Some(_)) => match change::exchange(staged, live)? {
                Exchanged::Done => change::rename(staged, aside),
                Exchanged::Unsupported => {
                    if aside.status()?.is_some() {
                        change::remove(live)?;
                    } else {
                        change::rename(live, aside)?;
                    }
                    change::rename(staged, live)
                }
            },
        }
    }

    /// Directories get their looks, the old tree and the staging directory go.
    fn finish(mut self) -> Result<Vec<String>> {
        let root_modified = self.look_as_saved()?;
        let modified = root_modified.unwrap_or(self.staging.state.mount_modified);
        let left = self.staging.remove(modified)?;
        self.warnings.extend(left);
        Ok(self.warnings)
    }

    /// The time of the mount's root, when that was restored too.
    fn look_as_saved(&self) -> Result<Option<Time>> {
        let plan = self.staging.plan();
        if plan.shape != TreeShape::Directory || plan.mode == TreeRestore::KeepExisting {
            return Ok(None);
        }
        let around = self.units_around();
        let mut root_modified = None;
        let directories = self.staging.directories()?;
        // Of directories that are not in the snapshot, only the time has changed.
        for (path, passage) in self.live.passages.iter().rev() {
            let is_due = around.iter().any(|unit| path.is_within(&unit.staged));
            if is_due
                && !directories.contains_key(path)
                && let Some(live) = self.live_directory(path)?
            {
                change::set_modified(&live, passage.modified, path)?;
            }
        }
        for (path, looks) in directories.iter().rev() {
            let stayed = || {
                around.iter().any(|unit| {
                    unit.staged == *path
                        || path.is_within(&unit.staged) && self.live.passages.contains_key(path)
                })
            };
            let is_due = match plan.mode {
                TreeRestore::Overlay => !self.keeper.leaves_out(path, true),
                _ => stayed(),
            };
            if !is_due || looks.implied {
                continue;
            }
            // Something that stayed, because it is mounted, may stand in its place; or a program has changed it since it
            // was placed.
            let Some(live) = self.live_directory(path)? else {
                continue;
            };
            change::apply(&live, &looks.metadata, path)?;
            if plan.place.join_path(path).is_root() {
                root_modified = Some(looks.metadata.modified);
            }
        }
        Ok(root_modified)
    }

    /// A directory of the live tree, by its path in the tree.
    fn live_directory(&self, path: &TreePath) -> Result<Option<OwnedFd>> {
        fs::open_below_if_present(
            &self.staging.mount,
            &self.staging.plan().place.join_path(path),
        )
    }

    fn new_tree(&self) -> Result<OwnedFd> {
        self.staging.new_tree()
    }

    fn old(&self) -> Result<OwnedFd> {
        fs::open_directory(&self.staging.directory, OLD).map_err(TreeError::file("open", "old"))
    }

    /// Where a staged entry lies: `new` itself lies in the staging directory.
    fn staged_spot(&self, path: &TreePath) -> Result<(OwnedFd, Vec<u8>)> {
        match path.split_last() {
            None => {
                let directory = self.staging.directory.try_clone();
                Ok((directory.map_err(TreeError::Stream)?, NEW.to_vec()))
            }
            Some((parent, name)) => Ok((fs::open_below(self.new_tree()?, &parent)?, name.to_vec())),
        }
    }

    /// Opens a directory of the live tree; one that is missing is made as it was saved, or else open to all for reading.
    fn way_to(&self, path: &TreePath) -> Result<OwnedFd> {
        let mut directory = fs::open_directory(&self.staging.mount, b".")
            .map_err(TreeError::file("open", TreePath::root()))?;
        let mut at = TreePath::root();
        for component in path.components() {
            at = at.join(component);
            directory = match fs::open_directory(&directory, component) {
                Err(Errno::NOENT) => {
                    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                    change::make_directory(Spot::new(&directory, component, &at), mode)?;
                    let made = fs::open_directory(&directory, component)
                        .map_err(TreeError::file("open", &at))?;
                    let saved = at.below(&self.staging.plan().place);
                    if let Some(looks) =
                        saved.and_then(|at| self.staging.directories().ok()?.remove(&at))
                    {
                        change::apply(&made, &looks.metadata, &at)?;
                    }
                    made
                }
                other => other.map_err(TreeError::file("open", &at))?,
            };
        }
        Ok(directory)
    }
}

/// Something that is mounted cannot be moved: it stays, and the restored entry of its name goes. `false` then.
fn keep_mounts(moved: Result<()>, path: &TreePath, warnings: &mut Vec<String>) -> Result<bool> {
    match moved {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::BUSY) => {
            warnings.push(format!(
                "{path}: something is mounted there; it stayed as it was"
            ));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn ambiguous(path: &TreePath) -> TreeError {
    TreeError::Staging {
        what: format!("cannot tell which of two is the restored {path}"),
        hint: "nothing was removed: one is in its place, the other in the staging directory's `new`",
    }
}

#[cfg(test)]
mod companion_tests;
#[cfg(test)]
mod stays_tests;
#[cfg(test)]
mod tests;
