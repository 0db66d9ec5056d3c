//! `ls`: one line a file.

use super::View;
use super::layout::Table;
use crate::amounts::size;
use crate::tree::{IndexEntry, IndexKind};

pub fn render(entries: &[IndexEntry], view: &View) -> String {
    if entries.is_empty() {
        return "The directory is empty.\n".to_owned();
    }
    let headings = ["TYPE", "MODE", "OWNER", "SIZE", "MODIFIED", "PATH"];
    let mut table = Table::new(headings, view.width).right(&[3]).whole(&[5]);
    for entry in entries {
        table.row([
            word(entry.kind).to_owned(),
            entry.mode.clone(),
            format!("{}:{}", entry.uid, entry.gid),
            match entry.kind {
                IndexKind::File => size(entry.size),
                _ => String::new(),
            },
            entry
                .modified
                .map(|time| view.time(time))
                .unwrap_or_default(),
            match &entry.target {
                Some(target) => format!("{} -> {target}", entry.path.encode()),
                None => entry.path.encode(),
            },
        ]);
    }
    table.render()
}

fn word(kind: IndexKind) -> &'static str {
    match kind {
        IndexKind::File => "file",
        IndexKind::Directory => "dir",
        IndexKind::Symlink => "symlink",
        IndexKind::HardLink => "link",
        IndexKind::Fifo => "fifo",
        IndexKind::CharacterDevice => "char",
        IndexKind::BlockDevice => "block",
        IndexKind::Deleted => "deleted",
    }
}
