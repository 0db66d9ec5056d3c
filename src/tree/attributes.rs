//! Owner, permissions, extended attributes and times: read from entries, and set on them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, futimens, openat, utimensat,
};
use rustix::io::Errno;

use super::entry::{Attribute, Metadata, Time};
use super::fs::Result;

/// The kernel's `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const MAX: usize = 65_536;

/// An entry, open or by its name in an open directory. A name that is a symbolic link is not followed.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// What [`Place::apply`] could not do because the file system has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsupported(pub Vec<Vec<u8>>);

impl Place<'_> {
    /// The attributes that belong to a tree, by name. `foreign` is told of ACLs of a kind that cannot be saved.
    pub fn attributes(&self, foreign: &mut dyn FnMut(&[u8])) -> Result<Vec<Attribute>> {
        let list = self.list()?;
        let mut attributes = Vec::new();
        for name in names(&list) {
            if Attribute::is_saved(name) {
                attributes.extend(self.get(name)?);
            } else if name.starts_with(b"system.") {
                foreign(name);
            }
        }
        attributes.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(attributes)
    }

    /// Sets everything but content. Permissions come after the owner, since a change of owner clears set-uid bits and
    /// capabilities; ACLs after permissions, since they refine them; times last.
    pub fn apply(&self, metadata: &Metadata) -> Result<Unsupported> {
        let owner = Some(Uid::from_raw(metadata.uid));
        let group = Some(Gid::from_raw(metadata.gid));
        let mode = Mode::from_raw_mode(metadata.mode);
        match self {
            Self::Open(file) => {
                fchown(file, owner, group)?;
                fchmod(file, mode)?;
            }
            Self::Named(directory, name) => {
                chownat(directory, *name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let entry = openat(directory, *name, flags, Mode::empty())?;
                let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
                chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())?;
            }
        }
        let unsupported = self.set_attributes(&metadata.attributes)?;
        self.set_modified(metadata.modified)?;
        Ok(unsupported)
    }

    /// Owner and time, which is all that a symbolic link has.
    pub fn apply_to_link(&self, metadata: &Metadata) -> Result<()> {
        if let Self::Named(directory, name) = self {
            let owner = Some(Uid::from_raw(metadata.uid));
            let group = Some(Gid::from_raw(metadata.gid));
            chownat(directory, *name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.set_modified(metadata.modified)
    }

    pub fn set_modified(&self, modified: Time) -> Result<()> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: modified.seconds,
                tv_nsec: modified.nanoseconds.into(),
            },
        };
        match self {
            Self::Open(file) => futimens(file, &times),
            Self::Named(directory, name) => {
                utimensat(directory, *name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Makes the attributes exactly `wanted`, as far as they belong to a tree: inherited ACLs go.
    fn set_attributes(&self, wanted: &[Attribute]) -> Result<Unsupported> {
        let present = self.list()?;
        for name in names(&present) {
            let is_wanted = wanted.iter().any(|attribute| attribute.name == name);
            if Attribute::is_saved(name) && !is_wanted {
                match self.remove(name) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut unsupported = Unsupported::default();
        for attribute in wanted {
            match self.set(attribute) {
                Err(Errno::OPNOTSUPP) => unsupported.0.push(attribute.name.clone()),
                other => other?,
            }
        }
        Ok(unsupported)
    }

    /// All names of attributes, each ended by a NUL.
    fn list(&self) -> Result<Vec<u8>> {
        let listed = grow(|buffer| match self {
            Self::Open(file) => rustix::fs::flistxattr(file, buffer),
            Self::Named(directory, name) => {
                rustix::fs::llistxattr(indirect_path(*directory, name), buffer)
            }
        });
        match listed {
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            other => other,
        }
    }

    /// `None` when the attribute is gone.
    fn get(&self, name: &[u8]) -> Result<Option<Attribute>> {
        let value = grow(|buffer| match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, buffer),
            Self::Named(directory, entry) => {
                rustix::fs::lgetxattr(indirect_path(*directory, entry), name, buffer)
            }
        });
        match value {
            Ok(value) => Ok(Some(Attribute {
                name: name.to_vec(),
                value,
            })),
            Err(Errno::NODATA) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set(&self, attribute: &Attribute) -> Result<()> {
        let (name, value) = (attribute.name.as_slice(), attribute.value.as_slice());
        let flags = XattrFlags::empty();
        match self {
            Self::Open(file) => rustix::fs::fsetxattr(file, name, value, flags),
            Self::Named(directory, entry) => {
                rustix::fs::lsetxattr(indirect_path(*directory, entry), name, value, flags)
            }
        }
    }

    fn remove(&self, name: &[u8]) -> Result<()> {
        match self {
            Self::Open(file) => rustix::fs::fremovexattr(file, name),
            Self::Named(directory, entry) => {
                rustix::fs::lremovexattr(indirect_path(*directory, entry), name)
            }
        }
    }
}

fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
}

/// A path for entries that cannot be opened (FIFOs, devices), for calls that know no directory. The directory is pinned
/// by its descriptor, and these calls do not follow the last component.
fn indirect_path(directory: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Calls with a buffer that fits nearly always, and with the largest when it does not.
fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX];
            let length = call(&mut large)?;
            large.truncate(length);
            large.shrink_to_fit();
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
