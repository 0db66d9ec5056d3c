//! Where the entries of an archive go when the archive API puts them back, and which of them it must not.

use super::TreeTarget;
use super::archive::tree_error;
use super::dump::name_of;
use super::exact::{Entries, Foreign, Nature, Unwanted};
use super::load::{ensure_complete, open_plain};
use super::site::Site;
use crate::driver::DriverError;
use crate::engine::container::is_within;
use crate::labels::TreeRestore;
use crate::manifest::{TargetRecord, TreeFacts, TreeShape};
use crate::pipe::{ByteStream, consume};
use crate::snapshot::{ArtifactSource, StoreError};
use crate::tree::entry::Kind;
use crate::tree::inventory::Inventory;
use crate::tree::rewrite::list;
use crate::tree::unpack::{Selection, UnpackReport};
use crate::tree::{Excludes, TreeError, TreePath, fit};

pub(super) struct Places {
    pub mode: TreeRestore,
    pub shape: TreeShape,
    pub selection: Selection,
    pub foreign: Foreign,
    pub present: Entries,
    pub unwanted: Unwanted,
}

impl Places {
    fn named(&self, path: &TreePath) -> TreePath {
        named(path, self.shape, &self.foreign.name)
    }

    /// Whether such a name is among what is restored.
    pub fn is_chosen(&self, named: &TreePath) -> bool {
        let path = match self.shape {
            TreeShape::Directory => named.below(&self.foreign.name),
            // There are no paths in a file to choose from.
            TreeShape::File => return true,
        };
        path.is_some_and(|path| self.selection.contains(&path))
    }

    /// Whether an entry cannot be put back without harm to something that is not a part of the tree.
    pub fn is_blocked(&self, named: &TreePath, nature: Nature) -> bool {
        self.foreign.is_mounted(named)
            || nature == Nature::Other
                && (self.foreign.holds_mount(named) || self.unwanted.in_the_way.contains(named))
    }

    /// What was saved and is not put back. A directory on which something else is mounted is only where that lies.
    pub fn left_out<'a>(&'a self, saved: &'a Entries) -> impl Iterator<Item = &'a TreePath> {
        let is_place_of_mount = |path: &TreePath, nature: Nature| {
            nature == Nature::Directory && self.foreign.mounts.contains(path)
        };
        saved
            .iter()
            .filter(move |(path, nature)| {
                let stays = |present: &Nature| {
                    *present == Nature::Other && self.foreign.is_left_out(path, *present)
                };
                self.is_chosen(path)
                    && (self.is_blocked(path, **nature)
                        || self.present.get(*path).is_some_and(stays))
                    && !is_place_of_mount(path, **nature)
            })
            .map(|(path, _)| path)
    }

    /// The name under which an entry is put back; `None` for one that is not.
    pub fn place(&self, path: &TreePath, kind: &Kind) -> Option<TreePath> {
        let path = self.selection.aliases.get(path).unwrap_or(path);
        let named = self.named(path);
        let is_kept = match self.present.get(&named) {
            Some(nature) => {
                self.mode == TreeRestore::KeepExisting || self.foreign.is_left_out(&named, *nature)
            }
            None => false,
        };
        let is_put =
            self.selection.contains(path) && !is_kept && !self.is_blocked(&named, Nature::of(kind));
        is_put.then_some(named)
    }

    /// A directory that cannot make room for what was saved under its name, since patterns leave out what it holds.
    pub fn ensure_nothing_in_the_way(&self) -> Result<(), DriverError> {
        let mut all = self.unwanted.in_the_way.iter();
        match all.find(|path| !self.foreign.holds_mount(path)) {
            Some(path) => Err(tree_error(fit::holds_what_stays(path))),
            None => Ok(()),
        }
    }
}

/// The saved entries, by the names that they get.
pub(super) struct Saved {
    pub entries: Entries,
    /// Of the files that are restored, in bytes, holes included.
    pub bytes: u64,
}

/// Reads all of the archive, and refuses one that must not be unpacked.
pub(super) async fn saved(
    record: &TargetRecord,
    facts: &TreeFacts,
    selection: &Selection,
    name: &TreePath,
    source: &dyn ArtifactSource,
) -> Result<Saved, DriverError> {
    let shape = facts.shape;
    let mut saved = Saved {
        entries: Entries::new(),
        bytes: 0,
    };
    for (layer, _) in record.layers() {
        let plain = open_plain(source, layer).await?;
        let selection = selection.clone();
        let taken = consume(plain, move |archive| {
            Inventory::take(archive, shape, &selection)
        });
        let inventory = taken.await.map_err(StoreError::Body)?.map_err(tree_error)?;
        let report = UnpackReport {
            entries: inventory.entries.len() as u64,
            content_bytes: inventory.content_bytes,
            warnings: Vec::new(),
        };
        ensure_complete(record, facts, &report)?;
        saved.bytes = saved.bytes.saturating_add(inventory.chosen_bytes);
        let entries = inventory.entries.into_iter();
        let renamed = entries.map(|(path, nature)| (named(&path, shape, name), nature));
        saved.entries.extend(renamed);
    }
    for wanted in &selection.paths {
        let wanted_name = named(wanted, shape, name);
        if !saved
            .entries
            .keys()
            .any(|path| path.is_within(&wanted_name))
        {
            return Err(tree_error(TreeError::NotInArchive(wanted.to_string())));
        }
    }
    Ok(saved)
}

/// The name of a saved entry in the directory around the tree.
fn named(path: &TreePath, shape: TreeShape, name: &TreePath) -> TreePath {
    match shape {
        TreeShape::Directory => name.join_path(path),
        TreeShape::File => name.clone(),
    }
}

/// What is there now.
#[derive(Default)]
pub(super) struct Present {
    pub entries: Entries,
    /// Sum of the sizes of its files.
    pub bytes: u64,
}

/// The entries of an archive, without their content.
pub(super) async fn entries_of(archive: ByteStream) -> Result<Present, DriverError> {
    let listed = consume(archive, move |archive| {
        let mut present = Present::default();
        list(archive, &mut |entry| {
            present.bytes = present.bytes.saturating_add(entry.kind.size());
            let nature = Nature::of(&entry.kind);
            present.entries.insert(entry.path.clone(), nature);
        })
        .map(|()| present)
    });
    listed.await.map_err(StoreError::Body)?.map_err(tree_error)
}

pub(super) fn foreign(
    site: &Site,
    target: &TreeTarget,
    facts: &TreeFacts,
) -> Result<Foreign, DriverError> {
    let name = name_of(site.path())?;
    let excludes = [&target.options.exclude, &facts.exclude]
        .into_iter()
        .map(|patterns| Excludes::new(patterns).map_err(tree_error))
        .collect::<Result<_, _>>()?;
    Ok(Foreign {
        mounts: mounts_in(site, &name)?,
        name,
        excludes,
    })
}

/// Where something else is mounted below the tree, in the archive API's names.
pub(super) fn mounts_in(site: &Site, name: &TreePath) -> Result<Vec<TreePath>, DriverError> {
    let path = site.path().trim_end_matches('/');
    site.hidden()
        .iter()
        .filter(|mount| is_within(mount, path))
        .map(|mount| {
            TreePath::parse(mount[path.len()..].trim_start_matches('/').as_bytes())
                .map(|below| name.join_path(&below))
                .map_err(|error| DriverError::failed(error.to_string()))
        })
        .collect()
}

/// Whether an entry belongs to something that is mounted. The directory that it is mounted on does not.
pub(super) fn is_behind(mounts: &[TreePath], path: &TreePath, kind: &Kind) -> bool {
    mounts
        .iter()
        .any(|mount| path.is_within(mount) && !(path == mount && kind.is_directory()))
}
