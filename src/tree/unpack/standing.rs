//! A tree over which another one is unpacked, in its place.
//!
//! [`Standing::clear`] makes room in it; what stays is left as it is, whatever the archive has under its name.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;

use crate::tree::error::TreeError;
use crate::tree::live::Live;
use crate::tree::path::TreePath;
use crate::tree::remove::remove;
use crate::tree::staging::is_staging_name;
use crate::tree::stays::{Keeper, Reason, Stays};
use crate::tree::{fit, fs};

pub struct Standing {
    keeper: Keeper,
    live: Live,
    touched: Vec<TreePath>,
}

/// What an entry of the archive does that has the name of one that stands there.
pub(super) enum Meeting {
    /// The one that stands there is not a part of the tree.
    GivesWay,
    /// It may take the other's place.
    IsFree,
}

impl Standing {
    /// Looks at the tree, of which nothing was changed yet; an error when something in it could not be replaced. `root`:
    /// `None` when there is none. `touched`: what is restored of it, empty for all.
    pub fn look(
        root: Option<OwnedFd>,
        stays: &Stays,
        touched: &[TreePath],
    ) -> Result<Self, TreeError> {
        let keeper = Keeper::new(stays)?;
        let live = match root {
            None => Live::default(),
            Some(root) => {
                fit::ensure_choosable(&root, &keeper, touched)?;
                Live::survey(root, &keeper, touched)?
            }
        };
        live.ensure_unlocked()?;
        Ok(Self {
            keeper,
            live,
            touched: touched.to_vec(),
        })
    }

    /// Bytes on the disk of what [`Standing::clear`] removes.
    pub fn bytes(&self) -> u64 {
        self.live.bytes
    }

    /// Removes all that is restored, and nothing that stays.
    pub fn clear(&self, root: &OwnedFd) -> Result<(), TreeError> {
        let whole = [TreePath::root()];
        let tops = match self.touched.as_slice() {
            [] => &whole,
            touched => touched,
        };
        for top in tops {
            match top.split_last() {
                Some((parent, name)) if !self.live.passages.contains_key(top) => {
                    if let Some(directory) = fs::open_below_if_present(root, &parent)? {
                        self.clear_entry(&directory, name, top)?;
                    }
                }
                _ => self.clear_around(root, top)?,
            }
        }
        Ok(())
    }

    fn clear_around(&self, root: &OwnedFd, top: &TreePath) -> Result<(), TreeError> {
        let below = self.live.passages.keys();
        let below = below.filter(|path| *path != top && path.is_within(top));
        for path in std::iter::once(top).chain(below) {
            let Some(directory) = fs::open_below_if_present(root, path)? else {
                continue;
            };
            for name in fs::names(&directory).map_err(TreeError::file("list", path))? {
                if !(path.is_root() && is_staging_name(&name)) {
                    self.clear_entry(&directory, &name, &path.join(&name))?;
                }
            }
        }
        Ok(())
    }

    fn clear_entry(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        path: &TreePath,
    ) -> Result<(), TreeError> {
        let failed = || TreeError::file("inspect", path);
        let parent = fs::status_of(directory).map_err(failed())?;
        let Some(status) = fs::status_if_present(directory, name).map_err(failed())? else {
            return Ok(());
        };
        let stays = self.keeper.reason(path, &status, &parent).is_some();
        if !stays && !self.live.passages.contains_key(path) {
            remove(directory, name, path)?;
        }
        Ok(())
    }

    /// Whether all that an archive has below this path is hidden by something that is mounted.
    pub(super) fn hides(&self, path: &TreePath) -> bool {
        let parent = path.split_last().map(|(parent, _)| parent);
        parent.is_some_and(|parent| self.keeper.is_mounted(&parent))
    }

    /// Whether a directory that is there keeps its looks.
    pub(super) fn keeps_looks(&self, path: &TreePath) -> bool {
        self.leaves_alone(path, true)
    }

    pub(super) fn leaves_alone(&self, path: &TreePath, is_directory: bool) -> bool {
        self.keeper.leaves_out(path, is_directory) || self.keeper.is_mounted(path)
    }

    /// An entry that is not a directory, or is not to become one, stands under a name that is wanted.
    pub(super) fn meet(&self, present: &fs::Status, path: &TreePath) -> Result<Meeting, TreeError> {
        if self.leaves_alone(path, present.is_directory()) {
            return Ok(Meeting::GivesWay);
        }
        match self.live.passages.get(path) {
            Some(passage) if passage.reason > Reason::Socket => Err(fit::holds_what_stays(path)),
            _ => Ok(Meeting::IsFree),
        }
    }

    /// Whether it is one of those that stay only until something is to take their place.
    pub(super) fn may_go(&self, present: &fs::Status, path: &TreePath) -> bool {
        present.file_type == FileType::Socket || self.live.passages.contains_key(path)
    }
}
