//! Writes pax archives that GNU tar reads as well (`tar --xattrs --acls --numeric-owner`).

use std::io::Write;

use super::acl;
use super::entry::{ACCESS_ACL, DEFAULT_ACL, Entry, Kind};
use super::error::TreeError;
use super::header::{BLOCK, Header, MAX_LONG, MAX_SHORT};
use super::path::TreePath;
use super::pax::{self, Records};
use super::sparse;

/// Content is owed exactly as the entry before it states: [`ArchiveWriter::content`] never writes more, and
/// [`ArchiveWriter::end_content`] fills up what is missing with zeros.
pub struct ArchiveWriter<W> {
    output: W,
    /// Bytes of the present entry's content that are still owed.
    owed: u64,
    /// Zeros after them, up to a full block.
    padding: usize,
}

impl<W: Write> ArchiveWriter<W> {
    pub fn new(output: W) -> Self {
        Self {
            output,
            owed: 0,
            padding: 0,
        }
    }

    /// Begins an entry. The one before must have ended.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        debug_assert_eq!((self.owed, self.padding), (0, 0));
        let mut blocks = Vec::with_capacity(3 * BLOCK);
        let mut content = entry.kind.stored_size();
        let map = match &entry.kind {
            Kind::File {
                size,
                extents: Some(extents),
            } => sparse::write_map(extents, *size),
            _ => Vec::new(),
        };
        content += map.len() as u64;

        let header = header(entry, content);
        let records = records(entry, content);
        if !records.is_empty() {
            let bytes = records.as_bytes();
            let mut extended = Header::new(b'x');
            extended.set_name(&[b"./PaxHeaders/", entry.path.name()].concat());
            extended.set_mode(0o644);
            extended.set_size(bytes.len() as u64);
            blocks.extend_from_slice(&extended.finish());
            blocks.extend_from_slice(bytes);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend_from_slice(&header.finish());
        blocks.extend_from_slice(&map);
        self.write(&blocks)?;
        self.owed = content - map.len() as u64;
        self.padding = (content.next_multiple_of(BLOCK as u64) - content) as usize;
        Ok(())
    }

    /// Writes as much of `bytes` as the present entry still wants.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        let wanted = usize::try_from(self.owed)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.write(&bytes[..wanted])?;
        self.owed -= wanted as u64;
        Ok(())
    }

    /// Ends the present entry; the number of zeros that stand for content that never came.
    pub fn end_content(&mut self) -> Result<u64, TreeError> {
        let missing = self.owed;
        const ZEROS: [u8; 16 * BLOCK] = [0; 16 * BLOCK];
        while self.owed > 0 {
            self.content(&ZEROS)?;
        }
        self.write(&ZEROS[..self.padding])?;
        self.padding = 0;
        Ok(missing)
    }

    /// Writes the end marker, without which an archive is not whole.
    pub fn finish(mut self) -> Result<W, TreeError> {
        self.write(&[0; 2 * BLOCK])?;
        self.output.flush().map_err(TreeError::Stream)?;
        Ok(self.output)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.output.write_all(bytes).map_err(TreeError::Stream)
    }
}

/// The name in the archive: `./` before it, so that no name is taken for an option or an absolute path.
fn archive_name(path: &TreePath, kind: &Kind) -> Vec<u8> {
    let mut name = b"./".to_vec();
    name.extend_from_slice(path.as_bytes());
    if kind.is_directory() && !path.is_root() {
        name.push(b'/');
    }
    name
}

fn header(entry: &Entry, content: u64) -> Header {
    let type_flag = match &entry.kind {
        Kind::File { .. } => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharacterDevice { .. } => b'3',
        Kind::BlockDevice { .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let mut header = Header::new(type_flag);
    match &entry.kind {
        Kind::File {
            extents: Some(_), ..
        } => {
            // What readers without sparse support will call the file.
            header.set_name(&[b"./GNUSparseFile.0/", entry.path.name()].concat());
        }
        kind => header.set_name(&archive_name(&entry.path, kind)),
    }
    match &entry.kind {
        Kind::Symlink { target } => header.set_link(target),
        Kind::HardLink { to } => header.set_link(&archive_name(to, &entry.kind)),
        Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            header.set_device(*major, *minor);
        }
        _ => {}
    }
    let metadata = &entry.metadata;
    header.set_mode(metadata.mode);
    header.set_owner(metadata.uid, metadata.gid);
    header.set_size(content);
    header.set_modified(metadata.modified.seconds);
    header
}

/// What the header block cannot carry.
fn records(entry: &Entry, content: u64) -> Records {
    let mut records = Records::default();
    let metadata = &entry.metadata;
    let is_link = matches!(entry.kind, Kind::HardLink { .. });
    push_names(&mut records, entry);
    if content > MAX_LONG {
        records.push("size", content.to_string());
    }
    if u64::from(metadata.uid) > MAX_SHORT {
        records.push("uid", metadata.uid.to_string());
    }
    if u64::from(metadata.gid) > MAX_SHORT {
        records.push("gid", metadata.gid.to_string());
    }
    let modified = metadata.modified;
    let fits = modified.nanoseconds == 0
        && u64::try_from(modified.seconds).is_ok_and(|seconds| seconds <= MAX_LONG);
    if !fits && !is_link {
        records.push("mtime", pax::time_to_text(modified));
    }
    if !is_link {
        push_attributes(&mut records, entry);
    }
    records
}

fn push_names(records: &mut Records, entry: &Entry) {
    const FIELD: usize = 100;
    let name = archive_name(&entry.path, &entry.kind);
    if let Kind::File {
        size,
        extents: Some(_),
    } = &entry.kind
    {
        records.push("GNU.sparse.major", "1");
        records.push("GNU.sparse.minor", "0");
        records.push("GNU.sparse.name", &name);
        records.push("GNU.sparse.realsize", size.to_string());
        return;
    }
    let link = match &entry.kind {
        Kind::Symlink { target } => target.clone(),
        Kind::HardLink { to } => archive_name(to, &entry.kind),
        _ => Vec::new(),
    };
    let long = [("path", name), ("linkpath", link)];
    let long = long.iter().filter(|(_, value)| value.len() > FIELD);
    if long
        .clone()
        .any(|(_, value)| std::str::from_utf8(value).is_err())
    {
        records.push("hdrcharset", "BINARY");
    }
    for (key, value) in long {
        records.push(key, value);
    }
}

fn push_attributes(records: &mut Records, entry: &Entry) {
    for attribute in &entry.metadata.attributes {
        // GNU tar and bsdtar restore ACLs from their text, we from the exact attribute beside it.
        let text_key = match attribute.name.as_slice() {
            ACCESS_ACL => Some(pax::ACCESS_ACL_TEXT),
            DEFAULT_ACL => Some(pax::DEFAULT_ACL_TEXT),
            _ => None,
        };
        if let Some(key) = text_key
            && let Some(text) = acl::to_text(&attribute.value)
        {
            records.push(key, text);
        }
        records.push(pax::attribute_key(&attribute.name), &attribute.value);
    }
}
