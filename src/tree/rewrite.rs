//! Archives on their way through: entries leave out, get other names, and are told of in an index.
//!
//! For the engine's archive API, which names entries its own way. What passes keeps everything that an archive can say.

use std::io::{Read, Write};

use super::entry::{Entry, Extent, Kind};
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
    rules: &Rules<R>,
    index: &mut dyn FnMut(&IndexEntry) -> std::io::Result<()>,
) -> Result<PackReport, TreeError> {
    rewrite_with(input, output, rules, Holes::Stay, index)
}

/// The same, for somebody who would fill holes himself, and not stop when nobody waits for it any more.
pub fn rewrite_filled<R: Fn(&TreePath, &Kind) -> Option<TreePath>>(
    input: impl Read,
    output: impl Write,
    rules: &Rules<R>,
) -> Result<PackReport, TreeError> {
    rewrite_with(input, output, rules, Holes::AreFilled, &mut |_| Ok(()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holes {
    Stay,
    AreFilled,
}

fn rewrite_with<R: Fn(&TreePath, &Kind) -> Option<TreePath>>(
    input: impl Read,
    output: impl Write,
    Rules { rename, owner }: &Rules<R>,
    holes: Holes,
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
        report.content_bytes = report.content_bytes.saturating_add(entry.kind.size());
        let extents = match &mut entry.kind {
            Kind::File { extents, .. } if holes == Holes::AreFilled => extents.take(),
            _ => None,
        };
        writer.entry(&entry)?;
        match extents {
            Some(extents) => fill(&mut reader, &mut writer, &extents, &mut piece)?,
            None => copy(&mut reader, &mut writer, &mut piece)?,
        }
        writer.end_content()?;
        index(&IndexEntry::of(&entry)).map_err(TreeError::Stream)?;
    }
    writer.finish()?;
    Ok(report)
}

fn copy<R: Read, W: Write>(
    reader: &mut ArchiveReader<R>,
    writer: &mut ArchiveWriter<W>,
    piece: &mut [u8],
) -> Result<(), TreeError> {
    loop {
        let read = reader.read_content(piece)?;
        if read == 0 {
            return Ok(());
        }
        writer.content(&piece[..read])?;
    }
}

/// The hole after the last extent is filled by the end of the content.
fn fill<R: Read, W: Write>(
    reader: &mut ArchiveReader<R>,
    writer: &mut ArchiveWriter<W>,
    extents: &[Extent],
    piece: &mut [u8],
) -> Result<(), TreeError> {
    let mut at = 0;
    for extent in extents {
        let mut hole = extent.offset - at;
        let part = piece.len().min(usize::try_from(hole).unwrap_or(usize::MAX));
        piece[..part].fill(0);
        while hole > 0 {
            let part = part.min(usize::try_from(hole).unwrap_or(usize::MAX));
            writer.content(&piece[..part])?;
            hole -= part as u64;
        }
        let mut left = extent.length;
        while left > 0 {
            let part = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            reader.read_content_exact(&mut piece[..part])?;
            writer.content(&piece[..part])?;
            left -= part as u64;
        }
        at = extent.offset + extent.length;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Metadata;

    #[test]
    fn holes_are_filled_for_whoever_would_fill_them_himself() {
        let extents = [(0, 3), (700, 4)].map(|(offset, length)| Extent { offset, length });
        let mut writer = ArchiveWriter::new(Vec::new());
        let entry = Entry {
            path: TreePath::root().join(b"sparse"),
            kind: Kind::File {
                size: 1000,
                extents: Some(extents.to_vec()),
            },
            metadata: Metadata::default(),
        };
        writer.entry(&entry).unwrap();
        writer.content(b"abcdefg").unwrap();
        writer.end_content().unwrap();
        let archive = writer.finish().unwrap();

        let mut filled = Vec::new();
        let rules = Rules::renaming(|path: &TreePath, _: &Kind| Some(path.clone()));
        rewrite_filled(archive.as_slice(), &mut filled, &rules).unwrap();
        let mut reader = ArchiveReader::new(filled.as_slice());
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!((entry.kind.size(), entry.kind.stored_size()), (1000, 1000));
        let mut content = vec![1; 1000];
        reader.read_content_exact(&mut content).unwrap();
        assert_eq!(&content[..3], b"abc");
        assert_eq!(&content[700..704], b"defg");
        let zeros = content.iter().filter(|byte| **byte == 0).count();
        assert_eq!(zeros, 1000 - 7);
        assert_eq!(reader.next_entry().unwrap(), None);
    }
}
