//! A directory that is held open, and files in it that appear whole or not at all.
//!
//! A file is written under a hidden name ([`Partial`]), synced ([`Sealed`]), renamed to its own name, which must be free,
//! and made durable by a sync of the directory ([`Published`]). Whichever of these is dropped takes its file away, so an
//! error or a cancelled run leaves nothing; only [`Published::keep`] lets it stay. After a crash the hidden name may be
//! left: [`is_partial_name`] knows it.
//!
//! Below the directory no symbolic link is followed: what lies there may have been put by others.

mod whole;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, StatxFlags, fstat, fsync, mkdirat, openat,
    statat, statx, unlinkat,
};
use rustix::io::Errno;

pub use whole::{Partial, Published, Sealed, is_partial_name, numbered_partial_name, partial_name};

/// Who may read what is made in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    Owner,
    /// Unless the umask says otherwise.
    Everyone,
}

impl Readers {
    fn file_mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        })
    }

    fn directory_mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Owner => 0o700,
            Self::Everyone => 0o755,
        })
    }
}

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
            "Cofferdam runs as uid {}; give that user access, or run it as another user",
            rustix::process::geteuid().as_raw()
        ),
        Errno::LOOP => "Cofferdam does not follow symbolic links there".to_owned(),
        Errno::IO => "the disk is failing; see the kernel log".to_owned(),
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

#[cfg(test)]
thread_local! {
    /// How many directories this thread has listed.
    pub(super) static LISTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[derive(Clone, Debug)]
pub struct Directory {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    readers: Readers,
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
            readers: Readers::Owner,
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

    /// The same directory; what is made in it from now on, and below it, is for these readers.
    pub fn for_readers(self, readers: Readers) -> Self {
        Self { readers, ..self }
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
                readers: self.readers,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// A new child is durable when the next [`Directory::sync`] of this directory returns.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
    pub fn child_or_create(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        match mkdirat(&*self.fd, name, self.readers.directory_mode()) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("create", name, errno)),
        }
        self.child(name)?
            .ok_or_else(|| self.failed("open", name, Errno::NOENT))
    }

    /// Whether this lies in the file system that a container was started with, and which goes away with it: there is no
    /// mount between here and the root. The engines leave a marker file in each container's root.
    pub fn is_in_container_layer(&self) -> bool {
        let in_container = ["/.dockerenv", "/run/.containerenv"]
            .iter()
            .any(|marker| Path::new(marker).exists());
        let mount = |fd: &OwnedFd| {
            let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
            let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
            known.then_some(found.stx_mnt_id)
        };
        let same = |root: Self| mount(&self.fd).is_some_and(|id| mount(&root.fd) == Some(id));
        in_container && Self::open(Path::new("/")).is_ok_and(same)
    }

    pub fn modified(&self) -> Result<SystemTime, FileError> {
        let stat = fstat(&*self.fd).map_err(|errno| self.failed("inspect", "", errno))?;
        Ok(Entry::new(OsString::new(), &stat).modified)
    }

    pub fn entries(&self) -> Result<Vec<Entry>, FileError> {
        #[cfg(test)]
        LISTED.set(LISTED.get() + 1);
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
            Err(errno) => Err(self.failed("inspect", name, errno)),
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
            .map_err(|error| self.failed("inspect", name, error))?;
        if !metadata.is_file() {
            let error = io::Error::other("it is not a regular file");
            return Err(self.failed("open", name, error));
        }
        Ok(Some((file, metadata.len())))
    }

    /// Tells whether there was one.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
    pub fn remove_file(&self, name: &str) -> Result<bool, FileError> {
        match unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Removes a directory in this one, if it is there and empty. Tells whether it did.
    #[expect(clippy::disallowed_methods, reason = "writes what is stored")]
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
}

#[cfg(test)]
mod tests;
