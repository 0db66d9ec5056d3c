//! Which entries of an archive are wanted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tree::entry::{Entry, Kind};
use crate::tree::error::TreeError;
use crate::tree::path::TreePath;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Each with everything below it; empty for the whole tree.
    pub paths: Vec<TreePath>,
    /// For files that are wanted only under another of their names: the path that has the content in the archive, and
    /// the wanted one that gets it.
    #[serde(default)]
    pub aliases: BTreeMap<TreePath, TreePath>,
}

pub enum Chosen {
    Yes(Entry),
    /// A directory above something that is wanted.
    Above(Entry),
    No,
}

impl Selection {
    pub fn is_everything(&self) -> bool {
        self.paths.is_empty()
    }

    pub fn contains(&self, path: &TreePath) -> bool {
        self.is_everything() || self.paths.iter().any(|wanted| path.is_within(wanted))
    }

    /// Decides on one entry, and gives it the name under which it is wanted.
    pub fn choose(&self, mut entry: Entry) -> Result<Chosen, TreeError> {
        if !self.contains(&entry.path) {
            let is_above = self
                .paths
                .iter()
                .any(|wanted| wanted.is_within(&entry.path));
            if is_above && entry.kind.is_directory() {
                return Ok(Chosen::Above(entry));
            }
            let Some(alias) = self.aliases.get(&entry.path) else {
                return Ok(Chosen::No);
            };
            entry.path = alias.clone();
            return Ok(Chosen::Yes(entry));
        }
        if let Kind::HardLink { to } = &mut entry.kind
            && !self.contains(to)
        {
            match self.aliases.get(to) {
                Some(alias) if *alias == entry.path => return Ok(Chosen::No),
                Some(alias) => *to = alias.clone(),
                None => {
                    return Err(TreeError::NotInArchive(format!(
                        "content of {} without {to}, of which it is another name",
                        entry.path
                    )));
                }
            }
        }
        Ok(Chosen::Yes(entry))
    }
}
