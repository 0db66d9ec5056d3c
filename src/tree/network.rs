//! File systems of other machines, whose servers decide what even root may do there.

use std::path::Path;

use rustix::fs::{FsWord, statfs};
use rustix::io::Errno;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFileSystem {
    Nfs,
    /// CIFS too, as it was called before.
    Smb,
}

/// As `statfs` tells them (`linux/magic.h`, and `smbglob.h` of the kernel's client).
const NFS: u32 = 0x6969;
const CIFS: u32 = 0xff53_4d42;
const SMB2: u32 = 0xfe53_4d42;

impl NetworkFileSystem {
    /// `None` for a local one, and where that cannot be told.
    pub fn at(path: &Path) -> Option<Self> {
        Self::of_type(statfs(path).ok()?.f_type)
    }

    fn of_type(number: FsWord) -> Option<Self> {
        // Signed or not, as the machine has it.
        match number as u32 {
            NFS => Some(Self::Nfs),
            CIFS | SMB2 => Some(Self::Smb),
            _ => None,
        }
    }

    /// What a refusal may come from, and what mends it; `None` when the server has nothing to do with it.
    pub fn why(self, refusal: Errno) -> Option<&'static str> {
        match (self, refusal) {
            (Self::Nfs, Errno::PERM | Errno::ACCESS) => Some(
                "it is on an NFS server, which does not let root do this: export it with no_root_squash to this host",
            ),
            (Self::Smb, Errno::PERM | Errno::ACCESS) => Some(
                "it is on an SMB server, where the user of the mount may not do this: mount it as a user who may",
            ),
            (Self::Nfs, Errno::OPNOTSUPP | Errno::INVAL) => {
                Some("it is on an NFS server, which does not support this")
            }
            (Self::Smb, Errno::OPNOTSUPP | Errno::INVAL) => Some(
                "it is on an SMB server, which has no links, FIFOs and devices, nor every name that Linux has",
            ),
            (_, Errno::STALE) => Some("its server no longer has it: mount it again"),
            _ => None,
        }
    }

    /// What is restored to it, and does not come back, without an error.
    pub fn loss(self) -> Option<&'static str> {
        match self {
            Self::Nfs => None,
            Self::Smb => Some(
                "it is on an SMB server: files have the owner and the permissions that its mount gives them, not those that were saved",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_numbers() {
        let of = |number: u32| NetworkFileSystem::of_type(number as FsWord);
        assert_eq!(of(0x6969), Some(NetworkFileSystem::Nfs));
        assert_eq!(of(0xff53_4d42), Some(NetworkFileSystem::Smb));
        assert_eq!(of(0xfe53_4d42), Some(NetworkFileSystem::Smb));
        // As it comes where the number is a signed one of 32 bits.
        let signed = 0xfe53_4d42_u32 as i32;
        let found = NetworkFileSystem::of_type(signed as FsWord);
        assert_eq!(found, Some(NetworkFileSystem::Smb));
        for local in [0xef53, 0x5846_5342, 0x0102_1994] {
            assert_eq!(of(local), None);
        }
        assert_eq!(NetworkFileSystem::at(Path::new("/proc")), None);
    }

    #[test]
    fn a_refusal_is_explained_by_its_server() {
        let of = |known: NetworkFileSystem, errno| known.why(errno).unwrap_or("-");
        let told = [
            of(NetworkFileSystem::Nfs, Errno::PERM),
            of(NetworkFileSystem::Smb, Errno::OPNOTSUPP),
            of(NetworkFileSystem::Nfs, Errno::STALE),
            of(NetworkFileSystem::Nfs, Errno::NOSPC),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        it is on an NFS server, which does not let root do this: export it with no_root_squash to this host
        it is on an SMB server, which has no links, FIFOs and devices, nor every name that Linux has
        its server no longer has it: mount it again
        -
        ");
    }
}
