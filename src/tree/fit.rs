//! Whether a restored tree can take the place of the live one: found out before anything of that is touched, since
//! everything after the decision has to come to its end.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::error::TreeError;
use super::fs;
use super::path::TreePath;
use super::staging::{Staging, StagingPlan};
use super::stays::{Keeper, Reason};
use crate::labels::TreeRestore;
use crate::manifest::TreeShape;

type Result<T> = std::result::Result<T, TreeError>;

/// Before anything is unpacked beside the live tree.
pub fn ensure_replaceable(mount: &OwnedFd, plan: &StagingPlan) -> Result<()> {
    let keeper = Keeper::new(&plan.stays)?;
    let live = super::exchange::survey(mount, plan, &keeper)?;
    if plan.mode == TreeRestore::Replace {
        live.ensure_unlocked()?;
    }
    for path in places(plan) {
        if let Some((parent, name)) = path.split_last() {
            ensure_way(mount, &parent, name)?;
        }
    }
    for path in &plan.companions {
        if let Some((parent, name)) = path.split_last() {
            ensure_way(mount, &parent, name)?;
        }
    }
    if let Some(root) = fs::open_below_if_present(mount, &plan.place)? {
        ensure_choosable(&root, &keeper, &plan.selection)?;
    }
    Ok(())
}

/// Once the new tree lies beside the live one.
pub fn ensure_fits(staging: &Staging) -> Result<()> {
    let plan = staging.plan();
    if plan.shape == TreeShape::File || plan.mode == TreeRestore::KeepExisting {
        return Ok(());
    }
    let keeper = Keeper::new(&plan.stays)?;
    let live = super::exchange::survey(&staging.mount, plan, &keeper)?;
    let new = staging.new_tree()?;
    for (path, passage) in &live.passages {
        let staged = status_below(&new, path)?;
        if passage.reason > Reason::Socket && staged.is_some_and(|staged| !staged.is_directory()) {
            return Err(holds_what_stays(path));
        }
    }
    for path in &live.locked {
        if plan.mode == TreeRestore::Replace || status_below(&new, path)?.is_some() {
            live.ensure_unlocked()?;
        }
    }
    Ok(())
}

/// Paths that were chosen by name, and that patterns leave out today: what is there is in no snapshot.
pub fn ensure_choosable(root: &OwnedFd, keeper: &Keeper, selection: &[TreePath]) -> Result<()> {
    for path in selection {
        if let Some(present) = status_below(root, path)?
            && keeper.leaves_out(path, present.is_directory())
        {
            return Err(TreeError::InTheWay(format!(
                "{path} is left out by a pattern, so no snapshot holds what is there now: move it elsewhere, and restore again"
            )));
        }
    }
    Ok(())
}

pub fn holds_what_stays(path: &TreePath) -> TreeError {
    TreeError::InTheWay(format!(
        "{path} is not a directory in the snapshot, and is one now, with entries that no snapshot holds: patterns leave them out, or something is mounted there; move them elsewhere, and restore again"
    ))
}

/// What is going to take its place as one, below the mount's root.
fn places(plan: &StagingPlan) -> Vec<TreePath> {
    if plan.selection.is_empty() {
        return vec![plan.place.clone()];
    }
    let below = plan.selection.iter();
    below.map(|path| plan.place.join_path(path)).collect()
}

/// Whether entries can be exchanged under this name: what is above it has to be directories, or not to be at all.
fn ensure_way(mount: &OwnedFd, parent: &TreePath, name: &[u8]) -> Result<()> {
    let mut directory = fs::open_directory(mount, b".").map_err(TreeError::file("open", parent))?;
    let mut at = TreePath::root();
    for component in parent.components() {
        at.push(component);
        directory = match fs::open_directory(&directory, component) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return ensure_unlocked(&directory, b".", &at),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(TreeError::InTheWay(format!(
                    "{at} is not a directory now: move it elsewhere, and restore again"
                )));
            }
            Err(errno) => return Err(TreeError::file("open", &at)(errno)),
        };
    }
    ensure_unlocked(&directory, b".", parent)?;
    ensure_unlocked(&directory, name, &at.join(name))
}

fn ensure_unlocked(directory: impl AsFd, name: &[u8], path: &TreePath) -> Result<()> {
    let status =
        fs::status_if_present(directory, name).map_err(TreeError::file("inspect", path))?;
    match status {
        Some(status) if status.locked => Err(TreeError::Locked(path.to_string())),
        _ => Ok(()),
    }
}

/// `None` when there is no such entry.
fn status_below(root: &OwnedFd, path: &TreePath) -> Result<Option<fs::Status>> {
    let failed = || TreeError::file("inspect", path);
    let Some((parent, name)) = path.split_last() else {
        return fs::status_of(root).map(Some).map_err(failed());
    };
    match fs::open_below_if_present(root, &parent)? {
        Some(directory) => fs::status_if_present(&directory, name).map_err(failed()),
        None => Ok(None),
    }
}
