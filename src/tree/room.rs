//! Room on the disk that a tree is restored to: asked before, and watched while it is written.

use std::os::fd::AsFd;

use rustix::fs::{fstatfs, fstatvfs};

use super::error::TreeError;

/// Kept free on every disk, for its other users: at most so much, and at most the hundredth part of it.
const MARGIN: u64 = 64 * 1024 * 1024;
/// How much may be written before the disk is looked at again.
const STRIDE: u64 = 32 * 1024 * 1024;

pub const MAKE_ROOM: &str =
    "a restore needs room for the old and the new data at once; make room, or restore in place";

/// What is written into one tree.
#[derive(Default)]
pub struct Watch {
    since: u64,
}

impl Watch {
    /// Before so many bytes are written into the file system of `file`.
    pub fn ensure(&mut self, file: impl AsFd, bytes: u64) -> Result<(), TreeError> {
        self.since = self.since.saturating_add(bytes);
        if self.since < STRIDE {
            return Ok(());
        }
        self.since = 0;
        let Some(space) = space(file)? else {
            return Ok(());
        };
        let needed = bytes.saturating_add(MARGIN.min(space.total / 100));
        ensure_enough(needed, space.free, MAKE_ROOM)
    }
}

/// Before anything is written. `freed`: what is removed first.
pub fn ensure(
    file: impl AsFd,
    needed: u64,
    freed: u64,
    hint: &'static str,
) -> Result<(), TreeError> {
    if compresses(&file) {
        return Ok(());
    }
    match space(file)? {
        Some(space) => ensure_enough(needed, space.free.saturating_add(freed), hint),
        None => Ok(()),
    }
}

pub fn ensure_enough(needed: u64, free: u64, hint: &'static str) -> Result<(), TreeError> {
    if needed <= free {
        return Ok(());
    }
    Err(TreeError::NoRoom {
        needed: mebibytes(needed),
        free: mebibytes(free),
        hint,
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

struct Space {
    free: u64,
    total: u64,
}

/// `None` where the file system does not say.
fn space(file: impl AsFd) -> Result<Option<Space>, TreeError> {
    let space = fstatvfs(file).map_err(TreeError::file("check the free space in", "the tree"))?;
    Ok((space.f_blocks > 0).then(|| Space {
        free: space.f_bavail.saturating_mul(space.f_frsize),
        total: space.f_blocks.saturating_mul(space.f_frsize),
    }))
}

/// What is going to fit is not known beforehand there; it is watched all the same.
fn compresses(file: impl AsFd) -> bool {
    const BTRFS: u64 = 0x9123_683E;
    const ZFS: u64 = 0x2FC1_2FC1;
    const BCACHEFS: u64 = 0xCA45_1A4E;
    fstatfs(file).is_ok_and(|found| [BTRFS, ZFS, BCACHEFS].contains(&(found.f_type as u64)))
}
