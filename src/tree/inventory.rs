//! What an archive holds, checked as strictly as if it were unpacked here: for archives that somebody else unpacks, who
//! may follow links, and write what he finds twice twice.
//!
//! Memory grows with the number of entries.

use std::collections::BTreeMap;
use std::io::Read;

use super::entry::{Entry, Kind};
use super::error::TreeError;
use super::path::TreePath;
use super::reader::ArchiveReader;
use super::unpack::Selection;
use crate::manifest::TreeShape;

/// One cannot be written over the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    Directory,
    Other,
}

impl Nature {
    pub fn of(kind: &Kind) -> Self {
        if kind.is_directory() {
            Self::Directory
        } else {
            Self::Other
        }
    }
}

#[derive(Debug, Default)]
pub struct Inventory {
    pub entries: BTreeMap<TreePath, Nature>,
    /// Sum of the sizes of all files, holes included.
    pub content_bytes: u64,
    /// The same of the files that were chosen.
    pub chosen_bytes: u64,
}

impl Inventory {
    /// Reads an archive to its end. Every entry has its directory before it, nothing is named twice, and hard links lead
    /// to what came before.
    pub fn take(
        input: impl Read,
        shape: TreeShape,
        selection: &Selection,
    ) -> Result<Self, TreeError> {
        let mut archive = ArchiveReader::new(input);
        let mut inventory = Self::default();
        while let Some(entry) = archive.next_entry()? {
            inventory.ensure_sound(&entry, shape)?;
            let size = entry.kind.size();
            inventory.content_bytes = inventory.content_bytes.saturating_add(size);
            if selection.contains(&entry.path) || selection.aliases.contains_key(&entry.path) {
                inventory.chosen_bytes = inventory.chosen_bytes.saturating_add(size);
            }
            let nature = Nature::of(&entry.kind);
            if inventory
                .entries
                .insert(entry.path.clone(), nature)
                .is_some()
            {
                return Err(hostile(format!("it names {} twice", entry.path)));
            }
        }
        match shape {
            TreeShape::File if inventory.entries.len() != 1 => {
                Err(hostile("it does not contain exactly one file".to_owned()))
            }
            TreeShape::Directory if inventory.entries.is_empty() => {
                Err(hostile("it is empty".to_owned()))
            }
            _ => Ok(inventory),
        }
    }

    fn ensure_sound(&self, entry: &Entry, shape: TreeShape) -> Result<(), TreeError> {
        let path = &entry.path;
        if shape == TreeShape::File {
            return match entry.kind {
                Kind::File { .. } if path.depth() == 1 => Ok(()),
                _ => Err(hostile("it does not contain exactly one file".to_owned())),
            };
        }
        match path.split_last() {
            None if !entry.kind.is_directory() => {
                return Err(hostile("its root is not a directory".to_owned()));
            }
            Some((parent, _)) if self.entries.get(&parent) != Some(&Nature::Directory) => {
                return Err(hostile(format!(
                    "it writes through {parent}, which is not a directory in it"
                )));
            }
            _ => {}
        }
        match &entry.kind {
            Kind::HardLink { to } if self.entries.get(to) != Some(&Nature::Other) => Err(hostile(
                format!("it links to {to}, which is not a file in it"),
            )),
            _ => Ok(()),
        }
    }
}

fn hostile(what: String) -> TreeError {
    TreeError::Hostile(what)
}
