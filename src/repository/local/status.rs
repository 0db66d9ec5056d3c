//! Status files in a directory: that of a repository, or any other.

use std::path::{Path, PathBuf};

use super::super::RepositoryError;
use super::super::directory::{Directory, FileError, Kind, Readers};
use super::super::status::{STATUS, StatusPath};
use super::root::Root;
use super::sweep::remove_partials;

/// A directory of status files outside of a repository, which everybody may read: `<directory>/<project>/<store>.json`.
/// It is made when it is not there. Its methods wait for the disk.
#[derive(Clone, Debug)]
pub struct StatusDirectory(PathBuf);

impl StatusDirectory {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self) -> Result<Directory, FileError> {
        Ok(Directory::open_or_create(&self.0)?.for_readers(Readers::Everyone))
    }

    pub fn put(&self, path: &StatusPath, bytes: &[u8]) -> Result<(), RepositoryError> {
        Ok(write(&self.open()?, path, bytes)?)
    }

    pub fn list(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        Ok(found(&self.open()?)?)
    }

    pub fn remove(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        Ok(take_away(&self.open()?, path)?)
    }
}

pub(super) fn put(root: &Root, path: &StatusPath, bytes: &[u8]) -> Result<(), RepositoryError> {
    let statuses = root.open()?.child_or_create(STATUS)?;
    Ok(write(&statuses, path, bytes)?)
}

pub(super) fn list(root: &Root) -> Result<Vec<StatusPath>, RepositoryError> {
    match statuses_of(root)? {
        Some(statuses) => Ok(found(&statuses)?),
        None => Ok(Vec::new()),
    }
}

pub(super) fn remove(root: &Root, path: &StatusPath) -> Result<(), RepositoryError> {
    match statuses_of(root)? {
        Some(statuses) => Ok(take_away(&statuses, path)?),
        None => Ok(()),
    }
}

fn statuses_of(root: &Root) -> Result<Option<Directory>, RepositoryError> {
    match root.open_if_prepared()? {
        Some(root) => Ok(root.child(STATUS)?),
        None => Ok(None),
    }
}

fn write(statuses: &Directory, path: &StatusPath, bytes: &[u8]) -> Result<(), FileError> {
    let project = statuses.child_or_create(path.directory())?;
    remove_partials(&project, &mut Vec::new())?;
    let mut partial = project.begin(path.file_name())?;
    partial.append(bytes)?;
    partial.seal()?.replace()
}

fn found(statuses: &Directory) -> Result<Vec<StatusPath>, FileError> {
    let mut paths = Vec::new();
    for entry in statuses.entries()? {
        let Some(name) = entry
            .name
            .to_str()
            .filter(|_| entry.kind == Kind::Directory)
        else {
            continue;
        };
        let Some(project) = statuses.child(name)? else {
            continue;
        };
        for file in project.entries()? {
            let file_name = file.name.to_str().filter(|_| file.kind == Kind::File);
            paths.extend(file_name.and_then(|file| StatusPath::found(name, file)));
        }
    }
    Ok(paths)
}

fn take_away(statuses: &Directory, path: &StatusPath) -> Result<(), FileError> {
    match statuses.child(path.directory())? {
        Some(project) => project.remove_file(path.file_name()).map(drop),
        None => Ok(()),
    }
}
