//! The tree that is there, looked over before anything of it is moved or removed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::entry::Time;
use super::error::TreeError;
use super::fs::{self, Status};
use super::path::TreePath;
use super::staging::is_staging_name;
use super::stays::{Keeper, Reason};
use super::trail::{Descent, Turn};

/// How many locked entries are named.
const MOST_LOCKED: usize = 5;

#[derive(Default)]
pub struct Live {
    /// The directories above everything that stays: they stay themselves, and what else they hold is exchanged in them.
    pub passages: BTreeMap<TreePath, Passage>,
    /// `chattr +i` or `+a`, and neither stays nor lies below something that does: some of them, and how many there are.
    pub locked: Vec<TreePath>,
    pub locked_count: u64,
    /// Bytes on the disk of all that does not stay.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    pub modified: Time,
    /// The strongest reason of all that stays below.
    pub reason: Reason,
}

impl Live {
    /// Looks at everything below `root`, the tree's, as far as `selection` is concerned; empty for all of it.
    pub fn survey(
        root: OwnedFd,
        keeper: &Keeper,
        selection: &[TreePath],
    ) -> Result<Self, TreeError> {
        let mut live = Self::default();
        let failed = |path: &TreePath| TreeError::file("inspect", path.clone());
        let mut descent = Descent::new(Arc::new(root)).map_err(failed(&TreePath::root()))?;
        if descent.status().is_some_and(|root| root.locked) {
            live.lock(TreePath::root());
        }
        if keeper.is_anchor(&TreePath::root()) {
            live.keep(&descent, Reason::Mounted);
        }
        while let Some(turn) = descent.turn() {
            let Turn::Name(name) = turn else {
                continue;
            };
            if descent.path().is_root() && is_staging_name(&name) {
                continue;
            }
            let path = descent.path().join(&name);
            if !is_concerned(&path, selection) {
                continue;
            }
            match live.look(&mut descent, &name, &path, keeper) {
                // It has just gone.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(&path)(errno)),
            }
        }
        Ok(live)
    }

    fn look(
        &mut self,
        descent: &mut Descent,
        name: &[u8],
        path: &TreePath,
        keeper: &Keeper,
    ) -> fs::Result<()> {
        let directory = descent.directory()?;
        let status = fs::status(&directory, name)?;
        let parent = descent.status().ok_or(Errno::NOENT)?;
        if let Some(reason) = keeper.reason(path, &status, parent) {
            self.keep(descent, reason);
            return Ok(());
        }
        if status.locked {
            self.lock(path.clone());
        }
        if status.is_directory() {
            descent.enter(name, fs::open_directory(&directory, name)?)?;
            if keeper.is_anchor(path) {
                self.keep(descent, Reason::Mounted);
            }
        } else {
            self.bytes += status.allocated / u64::from(status.links.max(1));
        }
        Ok(())
    }

    /// All directories above what the descent has found stay.
    fn keep(&mut self, descent: &Descent, reason: Reason) {
        let mut path = descent.path().clone();
        for status in descent.statuses().rev() {
            let passage = self.passages.entry(path.clone()).or_insert(Passage {
                modified: status.modified,
                reason: Reason::Socket,
            });
            // Whatever is above it, is so already.
            if passage.reason >= reason && reason > Reason::Socket {
                return;
            }
            passage.reason = passage.reason.max(reason);
            path.pop();
        }
    }

    fn lock(&mut self, path: TreePath) {
        self.locked_count += 1;
        if self.locked.len() < MOST_LOCKED {
            self.locked.push(path);
        }
    }

    /// Whether a directory stays, when `staged` is what is going to take its place.
    pub fn is_passage(&self, path: &TreePath, staged: Option<&Status>) -> bool {
        let gives_way = staged.is_some_and(|staged| !staged.is_directory());
        match self.passages.get(path) {
            Some(passage) => passage.reason > Reason::Socket || !gives_way,
            None => false,
        }
    }

    /// What is locked can be neither moved nor removed: found out before anything is.
    pub fn ensure_unlocked(&self) -> Result<(), TreeError> {
        if self.locked.is_empty() {
            return Ok(());
        }
        let mut shown: Vec<String> = self.locked.iter().map(TreePath::to_string).collect();
        let more = self.locked_count - shown.len() as u64;
        if more > 0 {
            shown.push(format!("… and {more} more"));
        }
        Err(TreeError::Locked(shown.join(", ")))
    }
}

/// Whether a path is restored, or lies above something that is.
fn is_concerned(path: &TreePath, selection: &[TreePath]) -> bool {
    selection.is_empty()
        || selection
            .iter()
            .any(|wanted| path.is_within(wanted) || wanted.is_within(path))
}
