//! Archives on their way through: entries leave out, get other names, and are told of in an index.
//!
//! For the engine's archive API, which names entries its own way. What passes keeps everything that an archive can say.

use std::io::{Read, Write};

use super::entry::{Entry, Kind};
use super::error::TreeError;
use super::index::IndexEntry;
use super::pack::PackReport;
use super::path::TreePath;
use super::reader::ArchiveReader;
use super::writer::ArchiveWriter;
use crate::manifest::TreeShape;

const PIECE: usize = 256 * 1024;

/// What becomes of entries.
pub struct Rules<R> {
    /// Gives each path its new name, or `None` for what is left out; it sees the targets of hard links as well.
    pub rename: R,
    /// Whom everything belongs to, user and group, whatever the archive says.
    pub owner: Option<(u32, u32)>,
}

impl<R: Fn(&TreePath, &Kind) -> Option<TreePath>> Rules<R> {
    pub fn renaming(rename: R) -> Self {
        Self {
            rename,
            owner: None,
        }
    }
}

/// Copies an archive. The input must be whole, with its end marker.
pub fn rewrite<R: Fn(&TreePath, &Kind) -> Option<TreePath>>(
    input: impl Read,
    output: impl Write,
    Rules { rename, owner }: &Rules<R>,
    index: &mut dyn FnMut(&IndexEntry) -> std::io::Result<()>,
) -> Result<PackReport, TreeError> {
    let mut reader = ArchiveReader::new(input);
    let mut writer = ArchiveWriter::new(output);
    let mut report = PackReport {
        shape: TreeShape::File,
        entries: 0,
        content_bytes: 0,
        warnings: Vec::new(),
    };
    let mut piece = vec![0; PIECE];
    while let Some(mut entry) = reader.next_entry()? {
        let Some(path) = rename(&entry.path, &entry.kind) else {
            continue;
        };
        if let Kind::HardLink { to } = &mut entry.kind {
            // A file may have been any kind but this one.
            let kind = Kind::File {
                size: 0,
                extents: None,
            };
            *to = rename(to, &kind).ok_or_else(|| left_out(&entry.path, to))?;
        }
        if path.is_root() && entry.kind.is_directory() {
            report.shape = TreeShape::Directory;
        }
        let mut entry = Entry { path, ..entry };
        if let Some((uid, gid)) = *owner {
            (entry.metadata.uid, entry.metadata.gid) = (uid, gid);
        }
        report.entries += 1;
        report.content_bytes += entry.kind.size();
        writer.entry(&entry)?;
        loop {
            let read = reader.read_content(&mut piece)?;
            if read == 0 {
                break;
            }
            writer.content(&piece[..read])?;
        }
        writer.end_content()?;
        index(&IndexEntry::of(&entry)).map_err(TreeError::Stream)?;
    }
    writer.finish()?;
    Ok(report)
}

/// The content stands only under the name that is left out.
fn left_out(path: &TreePath, to: &TreePath) -> TreeError {
    TreeError::NotInArchive(format!(
        "content of {path} without {to}, of which it is another name"
    ))
}

/// The entries of an archive without their content.
pub fn list(input: impl Read, tell: &mut dyn FnMut(&Entry)) -> Result<(), TreeError> {
    let mut reader = ArchiveReader::new(input);
    while let Some(entry) = reader.next_entry()? {
        tell(&entry);
    }
    Ok(())
}
