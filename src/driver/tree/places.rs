//! Where the entries of an archive go when the archive API puts them back, and which of them it must not.

use std::collections::BTreeMap;

use super::TreeTarget;
use super::archive::tree_error;
use super::dump::name_of;
use super::exact::{Entries, Foreign, Nature, Unwanted};
use super::load::open_plain;
use super::site::Site;
use crate::driver::{ArtifactSource, DriverError, StoreError};
use crate::engine::container::is_within;
use crate::labels::TreeRestore;
use crate::manifest::{TargetRecord, TreeFacts, TreeShape};
use crate::pipe::{ByteStream, consume};
use crate::tree::entry::Kind;
use crate::tree::rewrite::list;
use crate::tree::unpack::Selection;
use crate::tree::{Excludes, TreeError, TreePath};

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
                self.is_chosen(path)
                    && self.is_blocked(path, **nature)
                    && !is_place_of_mount(path, **nature)
            })
            .map(|(path, _)| path)
    }

    /// The name under which an entry is put back; `None` for one that is not.
    pub fn place(&self, path: &TreePath, kind: &Kind) -> Option<TreePath> {
        let path = self.selection.aliases.get(path).unwrap_or(path);
        let named = self.named(path);
        let is_kept = self.mode == TreeRestore::KeepExisting && self.present.contains_key(&named);
        let is_put =
            self.selection.contains(path) && !is_kept && !self.is_blocked(&named, Nature::of(kind));
        is_put.then_some(named)
    }

    /// The saved entries, by the names that they get.
    pub async fn saved(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<Entries, DriverError> {
        let mut saved = BTreeMap::new();
        for (layer, _) in record.layers() {
            let plain = open_plain(source, layer).await?;
            let (shape, name) = (self.shape, self.foreign.name.clone());
            saved.extend(entries_of(plain, move |path| named(path, shape, &name)).await?);
        }
        for wanted in &self.selection.paths {
            let wanted_name = self.named(wanted);
            if !saved.keys().any(|path| path.is_within(&wanted_name)) {
                return Err(tree_error(TreeError::NotInArchive(wanted.to_string())));
            }
        }
        Ok(saved)
    }
}

/// The name of a saved entry in the directory around the tree.
fn named(path: &TreePath, shape: TreeShape, name: &TreePath) -> TreePath {
    match shape {
        TreeShape::Directory => name.join_path(path),
        TreeShape::File => name.clone(),
    }
}

/// The entries of an archive, without their content.
pub(super) async fn entries_of(
    archive: ByteStream,
    rename: impl Fn(&TreePath) -> TreePath + Send + 'static,
) -> Result<Entries, DriverError> {
    let listed = consume(archive, move |archive| {
        let mut entries = Entries::new();
        list(archive, &mut |entry| {
            entries.insert(rename(&entry.path), Nature::of(&entry.kind));
        })
        .map(|()| entries)
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
