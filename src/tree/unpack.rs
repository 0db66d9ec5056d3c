//! Puts the entries of archives into a directory, exactly as they were saved.
//!
//! Names are made by one thread in the order of the archive, each in its open parent directory and never over something
//! that is there already unless the options say so; content is written by several others ([`writers`]). Directories get
//! their owner, permissions and times last. Everything has reached the disk when [`Unpacker::finish`] returns.
//!
//! After an error the directory holds a part of the tree and is good for nothing but removal.

mod overwrite;
mod selection;
mod standing;
mod writers;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::selection::Chosen;
use self::standing::Meeting;
use self::writers::{FileJob, Writers};
use super::attributes::{Place, Unsupported};
use super::entry::{Entry, Kind, Metadata};
use super::error::{TreeError, Warnings};
use super::fs;
use super::ground::{Borders, Ground};
use super::path::{TreePath, encode};
use super::reader::ArchiveReader;
use super::remove::{Removed, remove};
use super::room;

pub use overwrite::overwrite;
pub use selection::Selection;
pub use standing::Standing;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackOptions {
    pub existing: Existing,
    pub selection: Selection,
}

/// What happens to an entry whose name is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// An error: the directory was empty, so the archive names something twice.
    #[default]
    Refuse,
    /// The saved entry takes its place; a directory stays and gets the saved one's metadata.
    Replace,
    /// It stays as it is.
    Keep,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackReport {
    /// Of all layers, wanted or not.
    pub entries: u64,
    /// Sum of the sizes of all files, wanted or not.
    pub content_bytes: u64,
    pub warnings: Vec<String>,
}

/// What an unpacked directory has to look like in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryLooks {
    pub metadata: Metadata,
    /// Made only because something below it was wanted: one that is there already keeps its looks.
    pub implied: bool,
}

/// By path, so parents before their children.
pub type Directories = BTreeMap<TreePath, DirectoryLooks>;

pub struct Unpacked {
    pub report: UnpackReport,
    /// The root is among them when the archive has an entry for it.
    pub directories: Directories,
}

pub struct Unpacker {
    ground: Ground,
    /// `None` when the directory was empty.
    standing: Option<Standing>,
    room: room::Watch,
    options: UnpackOptions,
    directories: Directories,
    found: Vec<bool>,
    report: UnpackReport,
    warnings: Warnings,
    layers: u32,
}

impl Unpacker {
    pub fn new(root: OwnedFd, options: UnpackOptions) -> Self {
        Self {
            found: vec![false; options.selection.paths.len()],
            ground: Ground::new(root, Borders::Cross),
            standing: None,
            room: room::Watch::default(),
            options,
            directories: Directories::new(),
            report: UnpackReport::default(),
            warnings: Warnings::default(),
            layers: 0,
        }
    }

    /// Over a tree that stands there.
    pub fn over(root: OwnedFd, options: UnpackOptions, standing: Standing) -> Self {
        Self {
            standing: Some(standing),
            ..Self::new(root, options)
        }
    }

    /// Unpacks one archive over what the layers before it left. Reads the input to its end.
    pub fn layer(&mut self, input: impl Read) -> Result<(), TreeError> {
        if self.layers > 0 && self.options.existing == Existing::Refuse {
            self.options.existing = Existing::Replace;
        }
        self.layers += 1;
        let mut archive = ArchiveReader::new(input);
        let unsupported = writers::run(|writers| {
            while let Some(entry) = archive.next_entry()? {
                self.entry(entry, &mut archive, writers)?;
            }
            Ok(())
        })?;
        for (path, names) in unsupported {
            self.note_unsupported(&path, &names);
        }
        Ok(())
    }

    /// Takes away what the next layer says is gone. A path that is not there is no error.
    pub fn delete(&mut self, path: &TreePath) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split_last() else {
            return Err(TreeError::Hostile("it deletes its root".to_owned()));
        };
        match self.ground.look_up(&parent) {
            Ok(directory) => self.clear(&directory, name, path),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the directories their final looks, and waits until everything is on the disk.
    pub fn finish(mut self) -> Result<Unpacked, TreeError> {
        if let Some(missing) = self.found.iter().position(|found| !found) {
            let path = &self.options.selection.paths[missing];
            return Err(TreeError::NotInArchive(path.to_string()));
        }
        let directories = std::mem::take(&mut self.directories);
        // Children before parents: making a child changes its parent's time.
        for (path, looks) in directories.iter().rev() {
            let directory = self.ground.look_up(path)?;
            let unsupported = Place::Open(directory.as_fd())
                .apply(&looks.metadata)
                .map_err(TreeError::file("restore the attributes of", path))?;
            self.note_unsupported(path, &unsupported);
        }
        let root = self.ground.look_up(&TreePath::root())?;
        rustix::fs::syncfs(root).map_err(TreeError::file("write to the disk", "the tree"))?;
        self.report.warnings = self.warnings.into_vec();
        Ok(Unpacked {
            report: self.report,
            directories,
        })
    }

    fn entry<R: Read>(
        &mut self,
        entry: Entry,
        archive: &mut ArchiveReader<R>,
        writers: &Writers,
    ) -> Result<(), TreeError> {
        self.report.entries += 1;
        self.report.content_bytes = self.report.content_bytes.saturating_add(entry.kind.size());
        let selection = &self.options.selection;
        for (found, wanted) in self.found.iter_mut().zip(&selection.paths) {
            *found |= entry.path.is_within(wanted);
        }
        match selection.choose(entry)? {
            Chosen::No => Ok(()),
            Chosen::Yes(entry) | Chosen::Above(entry) if self.is_hidden(&entry.path) => Ok(()),
            Chosen::Above(entry) => self.directory(entry, true),
            Chosen::Yes(entry) => match entry.kind {
                Kind::Directory => self.directory(entry, false),
                Kind::File { .. } => self.file(entry, archive, writers),
                _ => self.special(&entry),
            },
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "changes the trees that it restores"
    )]
    fn directory(&mut self, entry: Entry, implied: bool) -> Result<(), TreeError> {
        let Entry { path, metadata, .. } = entry;
        let keeps = self.options.existing == Existing::Keep;
        let is_wanted = match path.split_last() {
            None => !(keeps || implied && self.standing.is_some()),
            Some((parent, name)) => {
                let Some(directory) = self.parent(&parent)? else {
                    return Ok(());
                };
                let status = fs::status_if_present(&directory, name)
                    .map_err(TreeError::file("inspect", &path))?;
                if status.is_some_and(|present| present.is_directory()) {
                    let standing = self.standing.as_ref();
                    !keeps
                        && !standing.is_some_and(|standing| implied || standing.keeps_looks(&path))
                } else {
                    self.make(&directory, name, &path, |directory, name| {
                        mkdirat(directory, name, Mode::RWXU)
                    })?
                    .is_some()
                }
            }
        };
        if is_wanted {
            // A later layer's word on a directory replaces the earlier one's.
            self.directories
                .insert(path, DirectoryLooks { metadata, implied });
        }
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: Entry,
        archive: &mut ArchiveReader<R>,
        writers: &Writers,
    ) -> Result<(), TreeError> {
        let Entry {
            path,
            kind,
            metadata,
        } = entry;
        let Kind::File { size, extents } = kind else {
            return Ok(());
        };
        let Some((parent, name)) = path.split_last() else {
            return Err(TreeError::Hostile("its root is a file".to_owned()));
        };
        let Some(directory) = self.parent(&parent)? else {
            return Ok(());
        };
        self.room.ensure(&directory, archive.remaining())?;
        let made = self.make(&directory, name, &path, |directory, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mode = Mode::RUSR | Mode::WUSR;
            openat(directory, name, flags | OFlags::CLOEXEC, mode)
        })?;
        let Some(file) = made else {
            return Ok(());
        };
        writers.write(archive, |content| FileJob {
            file,
            path,
            metadata,
            size,
            extents,
            content,
        })
    }

    /// Everything that has no content.
    #[expect(
        clippy::disallowed_methods,
        reason = "changes the trees that it restores"
    )]
    fn special(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let Entry {
            path,
            kind,
            metadata,
        } = entry;
        let Some((parent, name)) = path.split_last() else {
            return Err(TreeError::Hostile("its root is not a directory".to_owned()));
        };
        let source = match kind {
            Kind::HardLink { to } => Some(self.link_source(to)?),
            _ => None,
        };
        let Some(directory) = self.parent(&parent)? else {
            return Ok(());
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let node = |directory: &OwnedFd, name: &[u8], file_type, (major, minor): (u32, u32)| {
            mknodat(directory, name, file_type, mode, makedev(major, minor))
        };
        let made = self.make(&directory, name, path, |directory, name| {
            match (kind, &source) {
                (Kind::HardLink { .. }, Some((from, from_name))) => {
                    linkat(from, from_name, directory, name, AtFlags::empty())
                }
                (Kind::Symlink { target }, _) => symlinkat(target.as_slice(), directory, name),
                (Kind::Fifo, _) => node(directory, name, FileType::Fifo, (0, 0)),
                (Kind::CharacterDevice { major, minor }, _) => {
                    node(directory, name, FileType::CharacterDevice, (*major, *minor))
                }
                (Kind::BlockDevice { major, minor }, _) => {
                    node(directory, name, FileType::BlockDevice, (*major, *minor))
                }
                _ => Err(Errno::INVAL),
            }
        })?;
        if made.is_none() {
            return Ok(());
        }
        let place = Place::Named(directory.as_fd(), name);
        let applied = match kind {
            Kind::HardLink { .. } => Ok(Unsupported::default()),
            Kind::Symlink { .. } => place
                .apply_to_link(metadata)
                .map(|()| Unsupported::default()),
            _ => place.apply(metadata),
        };
        let unsupported = applied.map_err(TreeError::file("restore the attributes of", path))?;
        self.note_unsupported(path, &unsupported);
        Ok(())
    }

    fn link_source(&mut self, to: &TreePath) -> Result<(Arc<OwnedFd>, Vec<u8>), TreeError> {
        let Some((parent, name)) = to.split_last() else {
            return Err(TreeError::Hostile("it links to its root".to_owned()));
        };
        let directory = self.ground.look_up(&parent).map_err(|error| {
            TreeError::Hostile(format!("it links to {to}, which is not in it: {error}"))
        })?;
        Ok((directory, name.to_vec()))
    }

    /// The directory that an entry goes into; `None` when something that is kept stands in its way.
    fn parent(&mut self, path: &TreePath) -> Result<Option<Arc<OwnedFd>>, TreeError> {
        match self.ground.make_way(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if matches!(error.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => {
                let leaves_alone = |standing: &Standing| standing.leaves_alone(path, false);
                if self.options.existing == Existing::Keep
                    || self.standing.as_ref().is_some_and(leaves_alone)
                {
                    return Ok(None);
                }
                Err(TreeError::Hostile(format!(
                    "it writes through {path}, which is not a directory"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a new name, or makes room for it. `None` when what has the name stays.
    fn make<T>(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &TreePath,
        create: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<Option<T>, TreeError> {
        match create(directory, name) {
            Err(Errno::EXIST) => {}
            other => return other.map(Some).map_err(TreeError::file("make", path)),
        }
        let existing = match self.meet(directory, name, path)? {
            Some(existing) => existing,
            None => {
                self.warnings.push(format!(
                    "{path}: a pattern leaves it out, and it stayed as it was"
                ));
                return Ok(None);
            }
        };
        match existing {
            Existing::Keep => Ok(None),
            Existing::Refuse => Err(TreeError::Hostile(format!("it names {path} twice"))),
            Existing::Replace => {
                self.clear(directory, name, path)?;
                let made = create(directory, name);
                made.map(Some).map_err(TreeError::file("make", path))
            }
        }
    }

    /// What to do about an entry that has the name already; `None` when it stays because it is not a part of the tree.
    fn meet(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        path: &TreePath,
    ) -> Result<Option<Existing>, TreeError> {
        let existing = self.options.existing;
        let (Some(standing), Some(present)) = (
            &self.standing,
            fs::status_if_present(directory, name).map_err(TreeError::file("inspect", path))?,
        ) else {
            return Ok(Some(existing));
        };
        if existing == Existing::Keep {
            return Ok(Some(existing));
        }
        Ok(match standing.meet(&present, path)? {
            Meeting::GivesWay => None,
            Meeting::IsFree if standing.may_go(&present, path) => Some(Existing::Replace),
            Meeting::IsFree => Some(existing),
        })
    }

    fn is_hidden(&self, path: &TreePath) -> bool {
        let standing = self.standing.as_ref();
        standing.is_some_and(|standing| standing.hides(path))
    }

    /// Removes an entry with all that is below it, and everything that was remembered of it.
    fn clear(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &TreePath,
    ) -> Result<(), TreeError> {
        if remove(directory, name, path)? == Removed::Directory {
            self.ground.forget();
            self.directories.retain(|known, _| !known.is_within(path));
        }
        Ok(())
    }

    fn note_unsupported(&mut self, path: &TreePath, unsupported: &Unsupported) {
        for name in &unsupported.0 {
            self.warnings.push(format!(
                "{path}: the file system does not support {}; it was not restored",
                encode(name)
            ));
        }
    }
}

#[cfg(test)]
mod tests;
