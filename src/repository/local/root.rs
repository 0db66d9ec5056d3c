//! The synchronous side of the repository: what lies where, and how it is looked at.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use super::super::directory::{
    Directory, Entry, FileError, Kind, Partial, Sealed, is_partial_name,
};
use super::super::identity::{self, Identity};
use super::super::{LARGEST_MANIFEST, Prepared, RepositoryError, SnapshotRef, StoredObject};
use crate::manifest::{MANIFEST_FILE, Manifest, ObjectPath, PIN_FILE, StreamDigest};
use crate::pipe::{self, ByteStream, Digester, SyncSource};
use crate::target::{RunId, decode_component, encode_component};

pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn refused(&self, why: impl Into<String>) -> RepositoryError {
        RepositoryError::Format {
            place: self.0.display().to_string(),
            why: why.into(),
        }
    }

    pub(super) fn prepare(&self) -> Result<Prepared, RepositoryError> {
        let directory = Directory::open_or_create(&self.0)?;
        let prepared = match self.identity(&directory)? {
            Some(identity) => identity.into(),
            None => self.make(&directory)?,
        };
        self.ensure_writable(&directory)?;
        Ok(prepared)
    }

    pub(super) fn prepare_existing(&self) -> Result<Prepared, RepositoryError> {
        let none = || RepositoryError::NoRepository {
            place: self.0.display().to_string(),
        };
        let directory = match Directory::open(&self.0) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Err(none()),
            opened => opened?,
        };
        match self.identity(&directory)? {
            Some(identity) => {
                self.ensure_writable(&directory)?;
                Ok(identity.into())
            }
            None => {
                self.ensure_may_become_one(&directory)?;
                Err(none())
            }
        }
    }

    fn make(&self, directory: &Directory) -> Result<Prepared, RepositoryError> {
        self.ensure_may_become_one(directory)?;
        let made = Identity::generate();
        let sealed = write(directory, identity::FILE, &made.to_bytes())?;
        match sealed.publish() {
            Ok(published) => {
                published.keep();
                Ok(Prepared {
                    id: made.repository,
                    is_new: true,
                })
            }
            // Another run was quicker.
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                let identity = self
                    .identity(directory)?
                    .ok_or_else(|| self.no_identity())?;
                Ok(identity.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ensure_may_become_one(&self, directory: &Directory) -> Result<(), RepositoryError> {
        ensure_nothing_foreign(directory).map_err(|name| {
            self.refused(format!(
                "it has no {} but contains other files (`{name}`); name an empty directory, or a new one in it",
                identity::FILE
            ))
        })
    }

    /// Whether it can be written to is better known before a dump than after it.
    fn ensure_writable(&self, directory: &Directory) -> Result<(), RepositoryError> {
        if directory.is_in_container_layer() {
            tracing::warn!(
                "{} is in this container's own file system and is lost with the container; mount a volume there",
                self.0.display()
            );
        }
        directory.begin("probe")?.append(b"probe")?;
        Ok(())
    }

    fn identity(&self, directory: &Directory) -> Result<Option<Identity>, RepositoryError> {
        let Some((file, _)) = directory.file(identity::FILE)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(1 << 20)
            .read_to_end(&mut bytes)
            .map_err(|source| RepositoryError::Io {
                action: "read",
                place: self.0.join(identity::FILE).display().to_string(),
                source,
                hint: None,
            })?;
        Identity::parse(&bytes, &self.0.display().to_string()).map(Some)
    }

    /// The root, once it has shown that it is a repository; `None` when it is empty and may become one.
    pub(super) fn open_if_prepared(&self) -> Result<Option<Directory>, RepositoryError> {
        let directory = Directory::open(&self.0)?;
        if self.identity(&directory)?.is_some() {
            return Ok(Some(directory));
        }
        match ensure_nothing_foreign(&directory) {
            Ok(()) => Ok(None),
            Err(name) => Err(self.refused(format!(
                "it has no {} but contains other files (`{name}`)",
                identity::FILE
            ))),
        }
    }

    pub(super) fn open(&self) -> Result<Directory, RepositoryError> {
        self.open_if_prepared()?.ok_or_else(|| self.no_identity())
    }

    fn no_identity(&self) -> RepositoryError {
        self.refused(format!("it has no {}", identity::FILE))
    }

    pub(super) fn place(
        &self,
        snapshot: &SnapshotRef,
    ) -> Result<Option<Directory>, RepositoryError> {
        let Some(root) = self.open_if_prepared()? else {
            return Ok(None);
        };
        match root.child(encode_component(&snapshot.project))? {
            Some(project) => Ok(project.child(snapshot.id.as_str())?),
            None => Ok(None),
        }
    }

    /// Writes the whole of `source`, but does not show it yet.
    pub(super) fn write_object(
        &self,
        object: &ObjectPath,
        source: &mut SyncSource,
    ) -> Result<(Sealed, StreamDigest), RepositoryError> {
        let mut partial = self.begin(object.project(), object.snapshot(), object.file_name())?;
        let mut digester = Digester::default();
        loop {
            let chunk = source.fill_buf().map_err(RepositoryError::Body)?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            digester.update(chunk);
            partial.append(chunk)?;
            source.consume(length);
        }
        Ok((partial.seal()?, digester.finish()))
    }

    fn begin(&self, project: &str, snapshot: &str, file: &str) -> Result<Partial, RepositoryError> {
        let root = self.open()?;
        let attempt = || -> Result<Option<Partial>, FileError> {
            let place = root.child_or_create(project)?.child_or_create(snapshot)?;
            match place.entry(file)? {
                Some(_) => Ok(None),
                None => place.begin(file).map(Some),
            }
        };
        let mut begun = attempt();
        for _ in 0..3 {
            // A removal may have taken the directory away, empty as it was, before there was a file in it.
            if !matches!(&begun, Err(error) if error.source.kind() == io::ErrorKind::NotFound) {
                break;
            }
            begun = attempt();
        }
        begun?.ok_or_else(|| RepositoryError::Exists(format!("{project}/{snapshot}/{file}")))
    }

    pub(super) fn write_manifest(
        &self,
        snapshot: &SnapshotRef,
        bytes: &[u8],
    ) -> Result<Sealed, RepositoryError> {
        let project = encode_component(&snapshot.project);
        let mut partial = self.begin(&project, snapshot.id.as_str(), MANIFEST_FILE)?;
        partial.append(bytes)?;
        // Whoever made the directories may not have synced their names yet.
        let root = self.open()?;
        if let Some(project) = root.child(&project)? {
            project.sync()?;
        }
        root.sync()?;
        Ok(partial.seal()?)
    }

    pub(super) fn open_object(&self, object: &ObjectPath) -> Result<ByteStream, RepositoryError> {
        let missing = || RepositoryError::Missing(object.to_string());
        let project = self.open()?.child(object.project())?.ok_or_else(missing)?;
        let place = project.child(object.snapshot())?.ok_or_else(missing)?;
        let (file, length) = place.file(object.file_name())?.ok_or_else(missing)?;
        let what = place.path().join(object.file_name());
        Ok(pipe::produce(move |sink| {
            let mut file = file.take(length);
            sink.copy_from(&mut file)
                .map_err(|error| reading(&what, &error))?;
            match file.limit() {
                0 => Ok(()),
                left => Err(reading(
                    &what,
                    &io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("it ended {left} bytes early"),
                    ),
                )),
            }
        }))
    }

    pub(super) fn snapshots(
        &self,
        project: Option<&str>,
    ) -> Result<Vec<SnapshotRef>, RepositoryError> {
        let Some(root) = self.open_if_prepared()? else {
            return Ok(Vec::new());
        };
        let projects = match project {
            Some(project) => vec![project.to_owned()],
            None => directories(&root)?
                .filter_map(|name| {
                    let project = decode_component(&name);
                    (encode_component(&project) == name).then_some(project)
                })
                .collect(),
        };
        let mut snapshots = Vec::new();
        for project in projects {
            let Some(directory) = root.child(encode_component(&project))? else {
                continue;
            };
            for id in directories(&directory)?.filter_map(|name| name.parse::<RunId>().ok()) {
                let place = directory.child(id.as_str())?;
                if let Some(place) = place
                    && place.entry(MANIFEST_FILE)?.is_some()
                {
                    snapshots.push(SnapshotRef::new(&project, id));
                }
            }
        }
        snapshots.sort_by(|a, b| (&a.id, &a.project).cmp(&(&b.id, &b.project)));
        Ok(snapshots)
    }

    pub(super) fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError> {
        let missing = || RepositoryError::Missing(format!("snapshot {snapshot}"));
        let place = self.place(snapshot)?.ok_or_else(missing)?;
        let (file, length) = place.file(MANIFEST_FILE)?.ok_or_else(missing)?;
        let unreadable = |source| RepositoryError::Io {
            action: "read",
            place: place.path().join(MANIFEST_FILE).display().to_string(),
            source,
            hint: None,
        };
        if length > LARGEST_MANIFEST {
            return Err(unreadable(io::Error::other(format!(
                "it is too large for a manifest ({length} bytes)"
            ))));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_MANIFEST)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Manifest::parse(&bytes, &snapshot.project, &snapshot.id).map_err(|source| {
            RepositoryError::Manifest {
                snapshot: snapshot.clone(),
                source,
            }
        })
    }

    pub(super) fn objects(
        &self,
        snapshot: &SnapshotRef,
    ) -> Result<Vec<StoredObject>, RepositoryError> {
        let Some(place) = self.place(snapshot)? else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::new();
        for entry in place.entries()? {
            match as_object(&entry, snapshot) {
                Some(path) => objects.push(StoredObject {
                    path,
                    bytes: entry.bytes,
                }),
                None if entry.name == MANIFEST_FILE || entry.name == PIN_FILE => {}
                None => ignored(&place, &entry),
            }
        }
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    pub(super) fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError> {
        if let Some(stranger) = objects.iter().find(|object| !snapshot.holds(object)) {
            return Err(RepositoryError::Missing(format!(
                "{stranger} in the place of {snapshot}"
            )));
        }
        let Some(place) = self.place(snapshot)? else {
            return Ok(());
        };
        if place.remove_file(MANIFEST_FILE)? {
            place.sync()?;
        }
        place.remove_file(PIN_FILE)?;
        for object in objects {
            place.remove_file(object.file_name())?;
        }
        place.sync()?;
        self.remove_place_if_empty(snapshot)
    }

    pub(super) fn remove_place_if_empty(
        &self,
        snapshot: &SnapshotRef,
    ) -> Result<(), RepositoryError> {
        let root = self.open()?;
        let project = encode_component(&snapshot.project);
        if let Some(directory) = root.child(&project)?
            && directory.remove_child_if_empty(snapshot.id.as_str())?
        {
            directory.sync()?;
            if root.remove_child_if_empty(&project)? {
                root.sync()?;
            }
        }
        Ok(())
    }
}

fn write(directory: &Directory, name: &str, bytes: &[u8]) -> Result<Sealed, FileError> {
    let mut partial = directory.begin(name)?;
    partial.append(bytes)?;
    partial.seal()
}

fn reading(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot read {}: {error}", path.display()),
    )
}

/// An empty directory may become a repository, and so may the root of a fresh file system. Gives the first other name.
fn ensure_nothing_foreign(directory: &Directory) -> Result<(), String> {
    let entries = directory.entries().map_err(|error| error.to_string())?;
    let foreign = entries.iter().find(|entry| {
        let name = entry.name.to_str();
        !(entry.name == OsStr::new("lost+found")
            || entry.name == OsStr::new(identity::FILE)
            || name.is_some_and(is_partial_name))
    });
    match foreign {
        Some(entry) => Err(entry.name.to_string_lossy().into_owned()),
        None => Ok(()),
    }
}

/// The names of the directories in this one. Others are passed over.
pub(super) fn directories(
    directory: &Directory,
) -> Result<impl Iterator<Item = String>, RepositoryError> {
    let mut names = Vec::new();
    for entry in directory.entries()? {
        match (entry.kind, entry.name.to_str()) {
            (Kind::Directory, Some(name)) => names.push(name.to_owned()),
            (Kind::File, _) if entry.name == OsStr::new(identity::FILE) => {}
            _ => ignored(directory, &entry),
        }
    }
    Ok(names.into_iter())
}

pub(super) fn as_object(entry: &Entry, snapshot: &SnapshotRef) -> Option<ObjectPath> {
    let name = entry.name.to_str().filter(|_| entry.kind == Kind::File)?;
    ObjectPath::new(&snapshot.project, &snapshot.id, name).ok()
}

fn ignored(directory: &Directory, entry: &Entry) {
    let path = directory.path().join(&entry.name);
    match entry.kind {
        Kind::Other => tracing::warn!(
            "{} is neither a file nor a directory: skipped",
            path.display()
        ),
        Kind::File | Kind::Directory => tracing::debug!("{} is not ours", path.display()),
    }
}
