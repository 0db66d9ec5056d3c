//! Turns a tree into an archive and its index.
//!
//! The archive is whole whatever happens to the files meanwhile: an entry's content is as long as its header says,
//! filled with zeros or cut, and the change is a warning. An error leaves an archive without its end marker, which no
//! reader takes for whole.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};

use super::ahead::{self, Found, OpenFile, Opened, Opening, read_ahead};
use super::entry::{Entry, Extent, Kind};
use super::error::{TreeError, Warnings};
use super::exclude::Excludes;
use super::fs::{self, Identity, Status};
use super::index::IndexEntry;
use super::path::{TreePath, encode};
use super::walk::{Candidate, Walk};
use super::writer::ArchiveWriter;
use crate::manifest::TreeShape;

/// How much of a large file is read at a time, in bytes.
const PIECE: usize = 128 * 1024;

/// What is packed.
pub enum Source {
    Directory(OwnedFd, Opening),
    /// One entry that is not a directory, archived as `saved_as`.
    Single {
        directory: OwnedFd,
        name: Vec<u8>,
        saved_as: Vec<u8>,
    },
}

/// What Docker and containerd call the directories of their layers.
const LAYERS: [&[u8]; 2] = [b"overlay2", b"io.containerd.snapshotter.v1.overlayfs"];

/// The end of the warning of a file that was written to meanwhile.
pub const CHANGED: &str = "it changed while it was read";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackReport {
    pub shape: TreeShape,
    pub entries: u64,
    /// Sum of the sizes of the files, holes included, each linked file once.
    pub content_bytes: u64,
    pub warnings: Vec<String>,
}

/// Writes the archive to `output`, whole with its end marker, and tells `index` of every entry in the same order.
pub fn pack(
    source: Source,
    excludes: &Excludes,
    output: impl Write,
    index: &mut dyn FnMut(&IndexEntry) -> std::io::Result<()>,
) -> Result<PackReport, TreeError> {
    let mut packer = Packer {
        archive: ArchiveWriter::new(output),
        index,
        links: HashMap::new(),
        foreign: Vec::new(),
        is_overlay: false,
        warnings: Warnings::default(),
        entries: 0,
        content_bytes: 0,
        piece: Vec::new(),
    };
    let shape = match source {
        Source::Directory(root, opening) => {
            packer.directory(root, opening, excludes)?;
            TreeShape::Directory
        }
        Source::Single {
            directory,
            name,
            saved_as,
        } => {
            packer.single(directory, name, &saved_as)?;
            TreeShape::File
        }
    };
    packer.archive.finish()?;
    Ok(PackReport {
        shape,
        entries: packer.entries,
        content_bytes: packer.content_bytes,
        warnings: packer.warnings.into_vec(),
    })
}

struct Packer<'a, W> {
    archive: ArchiveWriter<W>,
    index: &'a mut dyn FnMut(&IndexEntry) -> std::io::Result<()>,
    /// Files with several names of which one was written, until all of their names were met.
    links: HashMap<Identity, Linked>,
    foreign: Vec<Vec<u8>>,
    /// What an overlay file system keeps was met, and told.
    is_overlay: bool,
    warnings: Warnings,
    entries: u64,
    content_bytes: u64,
    piece: Vec<u8>,
}

struct Linked {
    path: TreePath,
    names_left: u32,
}

impl<W: Write> Packer<'_, W> {
    fn directory(
        &mut self,
        root: OwnedFd,
        opening: Opening,
        excludes: &Excludes,
    ) -> Result<(), TreeError> {
        std::thread::scope(|scope| {
            for found in read_ahead(scope, Walk::new(root, excludes), opening) {
                match found? {
                    Found::Warning(warning) => self.warnings.push(warning),
                    Found::Entry { entry, status } => self.entry(entry, &status)?,
                    Found::Linked(candidate) => self.linked(&candidate)?,
                    Found::File(answer) => {
                        let opened = answer.recv().map_err(|_| {
                            TreeError::Stream(std::io::Error::other("a reading thread died"))
                        })?;
                        self.opened(opened?)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn single(
        &mut self,
        directory: OwnedFd,
        name: Vec<u8>,
        saved_as: &[u8],
    ) -> Result<(), TreeError> {
        let path = TreePath::root().join(saved_as);
        let status = fs::status(&directory, &name).map_err(TreeError::file("inspect", &path))?;
        let candidate = Candidate {
            path,
            directory: std::sync::Arc::new(directory),
            name,
            status,
        };
        match ahead::open(&candidate)? {
            Opened::Vanished(warning) => Err(TreeError::NotAFile(warning)),
            opened => self.opened(opened),
        }
    }

    fn linked(&mut self, candidate: &Candidate) -> Result<(), TreeError> {
        if self.link(&candidate.path, &candidate.status)? {
            Ok(())
        } else {
            self.opened(ahead::open(candidate)?)
        }
    }

    fn opened(&mut self, opened: Opened) -> Result<(), TreeError> {
        match opened {
            Opened::Vanished(warning) => {
                self.warnings.push(warning);
                Ok(())
            }
            Opened::File(file) => self.file(*file),
        }
    }

    /// An entry without content.
    fn entry(&mut self, entry: Entry, status: &Status) -> Result<(), TreeError> {
        if !status.is_directory() && self.link(&entry.path, status)? {
            return Ok(());
        }
        self.write_entry(&entry)?;
        self.look_for_overlay(&entry);
        self.remember(&entry, status);
        Ok(())
    }

    /// Attributes `trusted.*` cannot even be listed without rights over the whole host. Nobody but overlay file systems uses
    /// them, to which a directory without them is another one.
    fn look_for_overlay(&mut self, entry: &Entry) {
        if !self.is_overlay && is_of_overlay(entry) {
            self.is_overlay = true;
            self.warnings.push(format!(
                "{}: it belongs to the layers of a container engine, whose `trusted.*` attributes can be neither read nor \
                 set: these files cannot be restored completely; save what the engine holds with its own tools",
                entry.path
            ));
        }
    }

    fn file(&mut self, open: OpenFile) -> Result<(), TreeError> {
        for name in &open.foreign {
            if !self.foreign.contains(name) {
                self.foreign.push(name.clone());
                let name = encode(name);
                self.warnings
                    .push(format!("attributes {name} are not saved"));
            }
        }
        if self.link(&open.entry.path, &open.status)? {
            return Ok(());
        }
        self.write_entry(&open.entry)?;
        match &open.content {
            Some(content) => self.archive.content(content)?,
            None => self.stream(&open)?,
        }
        let missing = self.archive.end_content()?;
        let after = fs::status_of(&open.file);
        let changed = missing > 0
            || after.is_ok_and(|after| {
                (after.size, after.modified, after.changed)
                    != (open.status.size, open.status.modified, open.status.changed)
            });
        if changed {
            let path = &open.entry.path;
            self.warnings.push(format!("{path}: {CHANGED}"));
        }
        self.content_bytes += open.status.size;
        self.remember(&open.entry, &open.status);
        Ok(())
    }

    fn stream(&mut self, open: &OpenFile) -> Result<(), TreeError> {
        let whole = [Extent {
            offset: 0,
            length: open.status.size,
        }];
        let extents = match &open.entry.kind {
            Kind::File {
                extents: Some(extents),
                ..
            } => extents.as_slice(),
            _ => &whole,
        };
        for extent in extents {
            let sent = self.stream_extent(open, *extent)?;
            // The file shrank: what follows must not move forward.
            static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
            let mut missing = extent.length - sent;
            while missing > 0 {
                let part = missing.min(ZEROS.len() as u64);
                self.archive.content(&ZEROS[..part as usize])?;
                missing -= part;
            }
            if sent < extent.length {
                let path = &open.entry.path;
                self.warnings
                    .push(format!("{path}: it became shorter while it was read"));
                return Ok(());
            }
        }
        Ok(())
    }

    fn stream_extent(&mut self, open: &OpenFile, extent: Extent) -> Result<u64, TreeError> {
        self.piece.resize(PIECE, 0);
        let mut sent = 0;
        while sent < extent.length {
            let wanted = (extent.length - sent).min(PIECE as u64) as usize;
            let piece = &mut self.piece[..wanted];
            match pread(open.file.as_fd(), piece, extent.offset + sent) {
                Ok(0) => break,
                Ok(read) => {
                    self.archive.content(&self.piece[..read])?;
                    sent += read as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(TreeError::file("read", &open.entry.path)(errno)),
            }
        }
        Ok(sent)
    }

    /// Writes a hard link when another name of this file was written before; else does nothing and says `false`.
    fn link(&mut self, path: &TreePath, status: &Status) -> Result<bool, TreeError> {
        let Some(linked) = self.links.get_mut(&status.identity) else {
            return Ok(false);
        };
        let entry = Entry {
            path: path.clone(),
            kind: Kind::HardLink {
                to: linked.path.clone(),
            },
            metadata: status.metadata(Vec::new()),
        };
        linked.names_left -= 1;
        if linked.names_left == 0 {
            self.links.remove(&status.identity);
        }
        self.write_entry(&entry)?;
        self.archive.end_content()?;
        Ok(true)
    }

    fn remember(&mut self, entry: &Entry, status: &Status) {
        if status.links > 1 && !status.is_directory() {
            let linked = Linked {
                path: entry.path.clone(),
                names_left: status.links - 1,
            };
            self.links.insert(status.identity, linked);
        }
    }

    fn write_entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        self.archive.entry(entry)?;
        self.entries += 1;
        (self.index)(&IndexEntry::of(entry)).map_err(TreeError::Stream)
    }
}

/// A whiteout, or where engines keep their layers.
fn is_of_overlay(entry: &Entry) -> bool {
    match entry.kind {
        Kind::CharacterDevice { major, minor } => (major, minor) == (0, 0),
        Kind::Directory => LAYERS.contains(&entry.path.name()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
