//! A directory that is held open, and files in it that appear whole or not at all.
//!
//! A file is written under a hidden name ([`Partial`]), synced ([`Sealed`]), renamed to its own name, which must be free,
//! and made durable by a sync of the directory ([`Published`]). Whichever of these is dropped takes its file away, so an
//! error or a cancelled run leaves nothing; only [`Published::keep`] lets it stay. After a crash the hidden name may be
//! left: [`is_partial_name`] knows it.
//!
//! Below the directory no symbolic link is followed: what lies there may have been put by others.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use indicatif::HumanBytes;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, fsync, mkdirat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);

/// Something that the file system refused, and what mends it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
    pub hint: Option<String>,
}

impl FileError {
    fn new(action: &'static str, path: PathBuf, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self {
            hint: hint(&source),
            action,
            path,
            source,
        }
    }
}

fn hint(error: &io::Error) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    Some(match errno {
        Errno::NOSPC | Errno::DQUOT => "make room there, or name another place".to_owned(),
        Errno::ROFS => "it is mounted read-only; mount it writable".to_owned(),
        Errno::ACCESS | Errno::PERM => format!(
            "cofferdam runs as uid {}; let that user in, or run it as another",
            rustix::process::geteuid().as_raw()
        ),
        Errno::LOOP => "cofferdam follows no symbolic link there".to_owned(),
        Errno::IO => "the disk itself fails; see the kernel's log".to_owned(),
        _ => return None,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// A symbolic link, a device, a socket …
    Other,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: OsString,
    pub kind: Kind,
    pub bytes: u64,
    pub modified: SystemTime,
}

impl Entry {
    fn new(name: OsString, stat: &Stat) -> Self {
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        Self {
            name,
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                _ => Kind::Other,
            },
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Directory {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    /// Follows symbolic links: `path` is the user's own word.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| FileError::new("open", path.to_owned(), errno))?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
        })
    }

    /// Makes the directory, and those above it, when it is not there.
    pub fn open_or_create(path: &Path) -> Result<Self, FileError> {
        match Self::open(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                let above = match path.parent() {
                    Some(above) if above != Path::new("") => above,
                    _ => Path::new("."),
                };
                match path.file_name() {
                    Some(name) => {
                        let mut made = Self::open_or_create(above)?.child_or_create(name)?;
                        path.clone_into(&mut made.path);
                        Ok(made)
                    }
                    None => Err(error),
                }
            }
            opened => opened,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(
        &self,
        action: &'static str,
        name: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> FileError {
        FileError::new(action, self.path.join(name), source)
    }

    /// A directory in this one; `None` when there is nothing of that name.
    pub fn child(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>, FileError> {
        let name = name.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&*self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd: Arc::new(fd),
                path: self.path.join(name),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// A new child is durable when the next [`Directory::sync`] of this directory returns.
    pub fn child_or_create(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        match mkdirat(&*self.fd, name, DIRECTORY_MODE) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("create", name, errno)),
        }
        self.child(name)?
            .ok_or_else(|| self.failed("open", name, Errno::NOENT))
    }

    pub fn modified(&self) -> Result<SystemTime, FileError> {
        let stat = fstat(&*self.fd).map_err(|errno| self.failed("look at", "", errno))?;
        Ok(Entry::new(OsString::new(), &stat).modified)
    }

    pub fn entries(&self) -> Result<Vec<Entry>, FileError> {
        let unreadable = |errno: Errno| self.failed("list", "", errno);
        let mut entries = Vec::new();
        for found in Dir::read_from(&*self.fd).map_err(unreadable)? {
            let name = found.map_err(unreadable)?.file_name().to_owned();
            let name = OsString::from_vec(name.into_bytes());
            if name != "." && name != ".." {
                // What has vanished since then is not there.
                entries.extend(self.entry(&name)?);
            }
        }
        Ok(entries)
    }

    pub fn entry(&self, name: impl AsRef<OsStr>) -> Result<Option<Entry>, FileError> {
        let name = name.as_ref();
        match statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry::new(name.to_owned(), &stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Opens a regular file for reading, with its length; `None` when there is nothing of that name.
    pub fn file(&self, name: &str) -> Result<Option<(File, u64)>, FileError> {
        // Not blocking: a FIFO of that name would otherwise wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&*self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", name, errno)),
        };
        let metadata = file
            .metadata()
            .map_err(|error| self.failed("look at", name, error))?;
        if !metadata.is_file() {
            let error = io::Error::other("it is not a regular file");
            return Err(self.failed("open", name, error));
        }
        Ok(Some((file, metadata.len())))
    }

    /// Begins a file that is to be called `name` once it is whole.
    pub fn begin(&self, name: &str) -> Result<Partial, FileError> {
        let hidden = format!(
            "{PARTIAL_PREFIX}{:016x}{PARTIAL_SUFFIX}",
            rand::random::<u64>()
        );
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&*self.fd, hidden.as_str(), flags, FILE_MODE)
            .map_err(|errno| self.failed("create", name, errno))?;
        Ok(Partial {
            file: File::from(file),
            written: 0,
            name: name.to_owned(),
            guard: Guard {
                directory: self.clone(),
                name: hidden,
                armed: true,
            },
        })
    }

    /// Tells whether there was one.
    pub fn remove_file(&self, name: &str) -> Result<bool, FileError> {
        match unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Removes a directory in this one, if it is there and empty. Tells whether it did.
    pub fn remove_child_if_empty(&self, name: &str) -> Result<bool, FileError> {
        match unlinkat(&*self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Returns when names that were made or removed here will survive a loss of power.
    pub fn sync(&self) -> Result<(), FileError> {
        match fsync(&*self.fd) {
            // File systems that cannot sync a directory say so; they have no better way either.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(self.failed("sync", "", errno)),
        }
    }

    /// Gives `from` the name `to`, which must be free.
    fn rename_to_free_name(&self, from: &str, to: &str) -> Result<(), Errno> {
        match renameat_with(&*self.fd, from, &*self.fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.claim_and_rename(from, to),
            outcome => outcome,
        }
    }

    /// For file systems without that flag (NFS, some of FUSE): an empty file takes the name first, and only one can.
    fn claim_and_rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(&*self.fd, to, flags, FILE_MODE)?);
        renameat(&*self.fd, from, &*self.fd, to).inspect_err(|_| {
            let _ = unlinkat(&*self.fd, to, AtFlags::empty());
        })
    }
}

const PARTIAL_PREFIX: &str = ".cofferdam-";
const PARTIAL_SUFFIX: &str = ".partial";

/// Whether this is the hidden name of a file that was being written.
pub fn is_partial_name(name: &str) -> bool {
    name.strip_prefix(PARTIAL_PREFIX)
        .and_then(|name| name.strip_suffix(PARTIAL_SUFFIX))
        .is_some_and(|random| {
            random.len() == 16
                && random
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Takes a file away when it is dropped.
#[derive(Debug)]
struct Guard {
    directory: Directory,
    name: String,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = self.directory.remove_file(&self.name)
        {
            tracing::warn!("{error}");
        }
    }
}

/// A file that is being written under a hidden name.
#[derive(Debug)]
pub struct Partial {
    file: File,
    written: u64,
    /// What it will be called.
    name: String,
    guard: Guard,
}

impl Partial {
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.written += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.failed("write", error)),
        }
    }

    /// Returns when the content will survive a loss of power.
    pub fn seal(self) -> Result<Sealed, FileError> {
        self.file
            .sync_all()
            .map_err(|error| self.failed("sync", error))?;
        let length = self
            .file
            .metadata()
            .map_err(|error| self.failed("look at", error))?
            .len();
        if length != self.written {
            let error = io::Error::other(format!(
                "{} bytes were written, and it has {length}",
                self.written
            ));
            return Err(self.failed("write", error));
        }
        Ok(Sealed {
            name: self.name,
            guard: self.guard,
        })
    }

    fn failed(&self, action: &'static str, error: io::Error) -> FileError {
        let mut failed = self.guard.directory.failed(action, &self.name, error);
        if let Some(hint) = &mut failed.hint {
            *hint = format!(
                "{} of it were written and have been removed again; {hint}",
                HumanBytes(self.written)
            );
        }
        failed
    }
}

/// A file that is whole and durable, still under its hidden name.
#[derive(Debug)]
pub struct Sealed {
    name: String,
    guard: Guard,
}

impl Sealed {
    /// Gives the file its name. An error of the kind `AlreadyExists` when that is taken.
    pub fn publish(self) -> Result<Published, FileError> {
        let Self { name, mut guard } = self;
        guard
            .directory
            .rename_to_free_name(&guard.name, &name)
            .map_err(|errno| guard.directory.failed("create", &name, errno))?;
        guard.name = name;
        guard.directory.sync()?;
        Ok(Published { guard })
    }
}

/// A file under its own name, which goes again unless it is kept.
#[derive(Debug)]
#[must_use]
pub struct Published {
    guard: Guard,
}

impl Published {
    pub fn keep(mut self) {
        self.guard.armed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place() -> (tempfile::TempDir, Directory) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        (temporary, directory)
    }

    fn names(directory: &Directory) -> Vec<String> {
        let entries = directory.entries().unwrap();
        entries
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect()
    }

    fn sealed(directory: &Directory, name: &str, content: &[u8]) -> Sealed {
        let mut partial = directory.begin(name).unwrap();
        partial.append(content).unwrap();
        partial.seal().unwrap()
    }

    #[test]
    fn a_file_appears_whole_and_stays_only_when_it_is_kept() {
        let (_temporary, directory) = place();
        let mut partial = directory.begin("dump").unwrap();
        partial.append(b"rows").unwrap();
        let hidden = names(&directory);
        assert_eq!(hidden.len(), 1);
        assert!(is_partial_name(&hidden[0]), "{hidden:?}");
        let sealed = partial.seal().unwrap();
        assert_eq!(names(&directory), hidden);
        let published = sealed.publish().unwrap();
        assert_eq!(names(&directory), ["dump"]);
        published.keep();
        let (mut file, length) = directory.file("dump").unwrap().unwrap();
        assert_eq!(length, 4);
        assert_eq!(io::read_to_string(&mut file).unwrap(), "rows");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_dropped_on_the_way_leaves_nothing() {
        let (_temporary, directory) = place();
        drop(directory.begin("dump").unwrap());
        assert!(names(&directory).is_empty());
        drop(sealed(&directory, "dump", b"rows"));
        assert!(names(&directory).is_empty());
        drop(sealed(&directory, "dump", b"rows").publish().unwrap());
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_taken_name_is_never_written_over() {
        let (temporary, directory) = place();
        sealed(&directory, "dump", b"old").publish().unwrap().keep();
        let error = sealed(&directory, "dump", b"new").publish().unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            directory.claim_and_rename("whatever", "dump"),
            Err(Errno::EXIST)
        );
        assert_eq!(names(&directory), ["dump"]);
        assert_eq!(
            std::fs::read(temporary.path().join("dump")).unwrap(),
            b"old"
        );
    }

    #[test]
    fn a_file_system_without_the_flag_is_served_too() {
        let (temporary, directory) = place();
        std::fs::write(temporary.path().join("hidden"), b"rows").unwrap();
        directory.claim_and_rename("hidden", "dump").unwrap();
        assert_eq!(names(&directory), ["dump"]);
        assert_eq!(
            std::fs::read(temporary.path().join("dump")).unwrap(),
            b"rows"
        );
        assert_eq!(
            directory.claim_and_rename("hidden", "other"),
            Err(Errno::NOENT)
        );
        assert_eq!(names(&directory), ["dump"], "the claim is given back");
    }

    #[test]
    fn links_below_the_root_are_not_followed() {
        let (temporary, directory) = place();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("file"), b"secret").unwrap();
        symlink(elsewhere.path(), temporary.path().join("directory")).unwrap();
        symlink(elsewhere.path().join("file"), temporary.path().join("file")).unwrap();
        assert!(directory.child("directory").is_err());
        assert!(directory.child_or_create("directory").is_err());
        let error = directory.file("file").unwrap_err().to_string();
        assert!(error.contains("follows no symbolic link"), "{error}");
        assert!(
            directory
                .entries()
                .unwrap()
                .iter()
                .all(|entry| entry.kind == Kind::Other)
        );
        assert!(Directory::open(&temporary.path().join("directory")).is_ok());
    }

    #[test]
    fn a_pipe_in_a_files_place_does_not_hang() {
        let (temporary, directory) = place();
        let path = temporary.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &path, FILE_MODE).unwrap();
        let error = directory.file("pipe").unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let (temporary, _) = place();
        let path = temporary.path().join("a/b/c");
        let made = Directory::open_or_create(&path).unwrap();
        assert_eq!(made.path(), path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(temporary.path().join("file"), b"").unwrap();
        assert!(Directory::open_or_create(&temporary.path().join("file/x")).is_err());
    }

    #[test]
    fn a_refusal_says_who_was_refused_and_what_mends_it() {
        let refused = FileError::new("create", PathBuf::from("/backups/x"), Errno::ACCESS);
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(
            refused.to_string(),
            format!(
                "cannot create /backups/x: Permission denied (os error 13); \
                 cofferdam runs as uid {uid}; let that user in, or run it as another"
            )
        );
    }

    #[test]
    fn only_our_hidden_names_are_known_as_such() {
        for (name, ours) in [
            (".cofferdam-0123456789abcdef.partial", true),
            (".cofferdam-0123456789ABCDEF.partial", false),
            (".cofferdam-0123.partial", false),
            (".cofferdam-.partial", false),
            ("cofferdam-0123456789abcdef.partial", false),
            (".nfs000000000001", false),
        ] {
            assert_eq!(is_partial_name(name), ours, "{name}");
        }
    }
}
