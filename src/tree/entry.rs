//! What is known of one entry of a tree.

use serde::{Deserialize, Serialize};

use super::path::TreePath;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: TreePath,
    pub kind: Kind,
    pub metadata: Metadata,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `size` in bytes, holes included.
    File {
        size: u64,
        extents: Option<Vec<Extent>>,
    },
    Directory,
    /// The target is stored as it is; it is never followed.
    Symlink {
        target: Vec<u8>,
    },
    /// Another name of an entry that came before.
    HardLink {
        to: TreePath,
    },
    Fifo,
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
}

/// A run of bytes of a sparse file that is not a hole. Extents are in order and do not touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// Owner, permissions, time and extended attributes. Access and change times are not a part of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permissions with set-uid, set-gid and sticky bits: at most `0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Time,
    /// In the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

/// Seconds since the epoch, possibly before it, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// An extended attribute. POSIX ACLs are attributes as well, in the kernel's binary form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

pub const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl Attribute {
    /// Which attributes belong to a tree: the users' own, file capabilities, and POSIX ACLs. All others (SELinux labels,
    /// `trusted.*`, integrity hashes) belong to the host, and only it may set them.
    pub fn is_saved(name: &[u8]) -> bool {
        name.starts_with(b"user.")
            || name == b"security.capability"
            || name == ACCESS_ACL
            || name == DEFAULT_ACL
    }
}

impl Kind {
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// The bytes a file has when it is read; 0 for everything else.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// The bytes that an archive holds for the content.
    pub fn stored_size(&self) -> u64 {
        match self {
            Self::File {
                extents: Some(extents),
                ..
            } => extents.iter().map(|extent| extent.length).sum(),
            Self::File {
                size,
                extents: None,
            } => *size,
            _ => 0,
        }
    }
}
