//! The file system as a tree needs it: every name is looked up in an open directory, and no symbolic link is followed.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags, openat, statx,
};
use rustix::io::Errno;

use super::entry::{Attribute, Metadata, Time};
use super::error::TreeError;
use super::path::TreePath;

pub type Result<T> = std::result::Result<T, Errno>;

/// Which file this is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: (u32, u32),
    pub inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub identity: Identity,
    pub file_type: FileType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub size: u64,
    /// Bytes that the file takes on its disk.
    pub allocated: u64,
    pub modified: Time,
    /// Changes with content, owner, permissions and links.
    pub changed: Time,
    pub device: (u32, u32),
    /// Another file system, or another part of one, is mounted here; `None` when the kernel (before 5.8) does not say.
    pub mount_root: Option<bool>,
    /// `chattr +i` or `+a`: it can be neither moved nor removed, and nothing be put into it or be taken out of it.
    pub locked: bool,
}

impl Status {
    fn new(raw: &Statx) -> Self {
        let time = |time: &rustix::fs::StatxTimestamp| Time {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        };
        let tells_mounts = raw
            .stx_attributes_mask
            .contains(StatxAttributes::MOUNT_ROOT);
        Self {
            identity: Identity {
                device: (raw.stx_dev_major, raw.stx_dev_minor),
                inode: raw.stx_ino,
            },
            file_type: FileType::from_raw_mode(raw.stx_mode.into()),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            links: raw.stx_nlink,
            size: raw.stx_size,
            allocated: raw.stx_blocks * 512,
            modified: time(&raw.stx_mtime),
            changed: time(&raw.stx_ctime),
            device: (raw.stx_rdev_major, raw.stx_rdev_minor),
            mount_root: tells_mounts
                .then(|| raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            locked: raw
                .stx_attributes
                .intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
        }
    }

    /// Whether something else is mounted on this entry, which was found in a directory of `parent`.
    pub fn is_mount(&self, parent: &Identity) -> bool {
        self.mount_root
            .unwrap_or(self.identity.device != parent.device)
    }

    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    pub fn metadata(&self, attributes: Vec<Attribute>) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            modified: self.modified,
            attributes,
        }
    }
}

pub fn status_of(file: impl AsFd) -> Result<Status> {
    let raw = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(Status::new(&raw))
}

pub fn status(directory: impl AsFd, name: &[u8]) -> Result<Status> {
    let raw = statx(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )?;
    Ok(Status::new(&raw))
}

/// `None` when there is no such entry.
pub fn status_if_present(directory: impl AsFd, name: &[u8]) -> Result<Option<Status>> {
    match status(directory, name) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn open_directory(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens the directory at `path` below `root`, one component after the other.
pub fn open_below(root: impl AsFd, path: &TreePath) -> std::result::Result<OwnedFd, TreeError> {
    let mut directory = open_directory(root, b".").map_err(TreeError::file("open", path))?;
    for component in path.components() {
        directory = open_directory(&directory, component).map_err(TreeError::file("open", path))?;
    }
    Ok(directory)
}

/// `None` when there is no such directory.
pub fn open_below_if_present(
    root: impl AsFd,
    path: &TreePath,
) -> std::result::Result<Option<OwnedFd>, TreeError> {
    match open_below(root, path) {
        Ok(directory) => Ok(Some(directory)),
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens a file to read it, if possible without a trace in its access time. A FIFO that took its place does not block.
pub fn open_file(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        other => other,
    }
}

/// The names in a directory, sorted by their bytes.
pub fn names(directory: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let mut buffer = Vec::<MaybeUninit<u8>>::with_capacity(32 * 1024);
    buffer.resize(32 * 1024, MaybeUninit::uninit());
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
