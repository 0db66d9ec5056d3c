//! Status files in a directory: that of a repository, or any other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::thread;

use super::super::RepositoryError;
use super::super::directory::{Directory, FileError, Kind, Readers};
use super::super::status::{STATUS, StatusFile, StatusPath};
use super::root::Root;
use super::sweep::remove_partials;

/// How many files are written at the same time: each waits for the disk, and a disk carries out several such waits at once.
const WRITERS: usize = 8;

/// A directory of status files outside of a repository, which everybody may read: `<directory>/<project>/<store>.json`.
/// It is made when it is not there. Its methods wait for the disk.
#[derive(Clone, Debug)]
pub struct StatusDirectory(PathBuf);

impl StatusDirectory {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn open(&self) -> Result<Directory, FileError> {
        Ok(Directory::open_or_create(&self.0)?.for_readers(Readers::Everyone))
    }

    /// As [`super::super::Repository::put_statuses`].
    pub fn put(&self, files: &[StatusFile]) -> Result<(), RepositoryError> {
        Ok(write(&self.open()?, files)?)
    }

    pub fn list(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        Ok(found(&self.open()?)?)
    }

    pub fn remove(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        Ok(take_away(&self.open()?, path)?)
    }
}

pub(super) fn put(root: &Root, files: &[StatusFile]) -> Result<(), RepositoryError> {
    let statuses = root.open()?.child_or_create(STATUS)?;
    Ok(write(&statuses, files)?)
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

/// A project's directory is swept once, however many files go there: to look through it takes as long as it has files.
fn write(statuses: &Directory, files: &[StatusFile]) -> Result<(), FileError> {
    let mut projects = BTreeMap::new();
    for file in files {
        if let Entry::Vacant(unseen) = projects.entry(file.path.directory()) {
            let project = statuses.child_or_create(file.path.directory())?;
            remove_partials(&project, &mut Vec::new())?;
            unseen.insert(project);
        }
    }
    let share = files.len().div_ceil(WRITERS).max(1);
    thread::scope(|scope| {
        let writers: Vec<_> = files
            .chunks(share)
            .map(|files| scope.spawn(|| write_each(&projects, files)))
            .collect();
        writers.into_iter().try_for_each(|writer| {
            let written = writer.join();
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn write_each(projects: &BTreeMap<&str, Directory>, files: &[StatusFile]) -> Result<(), FileError> {
    for StatusFile { path, bytes } in files {
        if let Some(project) = projects.get(path.directory()) {
            let mut partial = project.begin(path.file_name())?;
            partial.append(bytes)?;
            partial.seal()?.replace()?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::directory::LISTED;
    use crate::repository::status::StatusForm;
    use crate::target::{DriverKind, TargetId};

    #[test]
    fn however_many_files_are_written_each_directory_is_listed_once() {
        let scratch = tempfile::tempdir().unwrap();
        let statuses = StatusDirectory::new(scratch.path());
        let file = |number: usize| {
            let project = if number.is_multiple_of(2) {
                "shop"
            } else {
                "blog"
            };
            let target = TargetId::new("db", DriverKind::Postgres, number.to_string());
            StatusFile {
                path: StatusPath::new(project, &target, StatusForm::Json),
                bytes: number.to_string().into_bytes(),
            }
        };
        let files: Vec<StatusFile> = (0..41).map(file).collect();
        for _ in 0..2 {
            LISTED.set(0);
            statuses.put(&files).unwrap();
            assert_eq!(LISTED.get(), 2);
        }
        let mut found = statuses.list().unwrap();
        found.sort();
        let mut expected: Vec<StatusPath> = files.iter().map(|file| file.path.clone()).collect();
        expected.sort();
        assert_eq!(found, expected);
        for StatusFile { path, bytes } in &files {
            let place = scratch.path().join(path.directory()).join(path.file_name());
            assert_eq!(std::fs::read(place).unwrap(), *bytes);
        }
    }
}
