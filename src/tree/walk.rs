//! Walks a tree in a fixed order: a directory before what is in it, names sorted by their bytes.
//!
//! A tree that is in use changes while it is walked: what vanishes between two looks is a warning. What cannot be read
//! is an error. Other mounts are not entered: they are not this tree's data.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;

use super::attributes::Place;
use super::entry::{Entry, Kind};
use super::error::TreeError;
use super::exclude::Excludes;
use super::fs::{self, Identity, Status};
use super::path::{MAX_DEPTH, TreePath, encode};
use super::staging;
use super::trail::{Descent, Turn};

pub enum Step {
    /// All there is to know of an entry that is not a regular file.
    Entry {
        entry: Entry,
        status: Status,
    },
    /// A regular file, to be opened and read.
    File(Candidate),
    Warning(String),
}

/// A regular file as it was seen when its directory was walked.
#[derive(Clone)]
pub struct Candidate {
    pub path: TreePath,
    pub directory: Arc<OwnedFd>,
    pub name: Vec<u8>,
    pub status: Status,
}

pub struct Walk<'a> {
    excludes: &'a Excludes,
    /// Not yet walked into.
    root: Option<Arc<OwnedFd>>,
    descent: Option<Descent>,
    /// Kinds of ACLs that were met and cannot be saved; each is told once.
    foreign: Vec<Vec<u8>>,
    warnings: Vec<String>,
}

impl<'a> Walk<'a> {
    pub fn new(root: OwnedFd, excludes: &'a Excludes) -> Self {
        Self {
            excludes,
            root: Some(Arc::new(root)),
            descent: None,
            foreign: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<Option<Step>, TreeError> {
        if let Some(root) = self.root.take() {
            let descent = Descent::new(Arc::clone(&root));
            self.descent = Some(descent.map_err(TreeError::file("list", TreePath::root()))?);
            return self.directory(root.as_fd(), TreePath::root()).map(Some);
        }
        loop {
            if let Some(warning) = self.warnings.pop() {
                return Ok(Some(Step::Warning(warning)));
            }
            let Some(descent) = &mut self.descent else {
                return Ok(None);
            };
            let name = match descent.turn() {
                None => return Ok(None),
                Some(Turn::Left(_)) => continue,
                Some(Turn::Name(name)) => name,
            };
            if descent.path().is_root() && staging::is_staging_name(&name) {
                continue;
            }
            let path = descent.path().join(&name);
            let (directory, parent) = match (descent.directory(), descent.status()) {
                (Ok(directory), Some(status)) => (directory, status.identity),
                _ => return Ok(Some(vanished(&path))),
            };
            if let Some(step) = self.visit(path, directory, name, parent)? {
                return Ok(Some(step));
            }
        }
    }

    /// Looks at one name; `None` when it is left out.
    fn visit(
        &mut self,
        path: TreePath,
        directory: Arc<OwnedFd>,
        name: Vec<u8>,
        parent: Identity,
    ) -> Result<Option<Step>, TreeError> {
        let status = match fs::status(&directory, &name) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(Some(vanished(&path))),
            Err(errno) => return Err(TreeError::file("inspect", &path)(errno)),
        };
        if self.excludes.matches(&path, status.is_directory()) {
            return Ok(None);
        }
        let is_mount = status.is_mount(&parent);
        if is_mount {
            self.warnings.push(format!(
                "{path}: something else is mounted here, which is not part of this tree"
            ));
        }
        match status.file_type {
            FileType::Directory => match fs::open_directory(&directory, &name) {
                Ok(_) if is_mount => Ok(Some(Step::Entry {
                    entry: Entry {
                        path,
                        kind: Kind::Directory,
                        metadata: status.metadata(Vec::new()),
                    },
                    status,
                })),
                Ok(opened) => self.enter(&name, opened, path).map(Some),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Some(vanished(&path))),
                Err(errno) => Err(TreeError::file("open", &path)(errno)),
            },
            _ if is_mount => Ok(None),
            FileType::RegularFile => Ok(Some(Step::File(Candidate {
                path,
                directory,
                name,
                status,
            }))),
            FileType::Socket => Ok(Some(Step::Warning(format!(
                "{path}: sockets are not saved; their programs create them again"
            )))),
            _ => self.special(path, directory.as_fd(), &name, status),
        }
    }

    /// The entry of a directory; its content comes next.
    fn enter(&mut self, name: &[u8], opened: OwnedFd, path: TreePath) -> Result<Step, TreeError> {
        let step = self.directory(opened.as_fd(), path.clone())?;
        if path.depth() >= MAX_DEPTH {
            return Err(TreeError::TooDeep(path.to_string()));
        }
        if let Some(descent) = &mut self.descent {
            descent
                .enter(name, opened)
                .map_err(TreeError::file("list", &path))?;
        }
        Ok(step)
    }

    fn directory(&mut self, opened: BorrowedFd<'_>, path: TreePath) -> Result<Step, TreeError> {
        let status = fs::status_of(opened).map_err(TreeError::file("inspect", &path))?;
        let attributes = self
            .attributes(Place::Open(opened))
            .map_err(TreeError::file("read the attributes of", &path))?;
        Ok(Step::Entry {
            entry: Entry {
                path,
                kind: Kind::Directory,
                metadata: status.metadata(attributes),
            },
            status,
        })
    }

    fn special(
        &mut self,
        path: TreePath,
        directory: BorrowedFd<'_>,
        name: &[u8],
        status: Status,
    ) -> Result<Option<Step>, TreeError> {
        let (major, minor) = status.device;
        let kind = match status.file_type {
            FileType::Symlink => match readlinkat(directory, name, Vec::new()) {
                Ok(target) => Kind::Symlink {
                    target: target.into_bytes(),
                },
                Err(Errno::NOENT | Errno::INVAL) => return Ok(Some(vanished(&path))),
                Err(errno) => return Err(TreeError::file("read the link", &path)(errno)),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharacterDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            _ => {
                return Ok(Some(Step::Warning(format!(
                    "{path}: this kind of file cannot be saved"
                ))));
            }
        };
        let attributes = if let Kind::Symlink { .. } = kind {
            Vec::new()
        } else {
            match self.attributes(Place::Named(directory, name)) {
                Ok(attributes) => attributes,
                Err(Errno::NOENT) => return Ok(Some(vanished(&path))),
                Err(errno) => return Err(TreeError::file("read the attributes of", &path)(errno)),
            }
        };
        Ok(Some(Step::Entry {
            entry: Entry {
                path,
                kind,
                metadata: status.metadata(attributes),
            },
            status,
        }))
    }

    fn attributes(&mut self, place: Place<'_>) -> fs::Result<Vec<super::entry::Attribute>> {
        place.attributes(&mut |name| {
            if !self.foreign.iter().any(|known| known == name) {
                self.foreign.push(name.to_vec());
                self.warnings
                    .push(format!("attributes {} are not saved", encode(name)));
            }
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Step, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

pub fn vanished(path: &TreePath) -> Step {
    Step::Warning(vanished_warning(path))
}

pub fn vanished_warning(path: &TreePath) -> String {
    format!("{path}: it vanished before it was read")
}
