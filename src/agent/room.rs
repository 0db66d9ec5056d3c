//! `agent room`: tells how much room there is where the engine keeps what containers write into their own layers. The
//! helper's own root lies there too.

use rustix::fs::statvfs;

use super::job::Failure;
use super::task::FoundRoom;
use crate::tree::TreeError;

pub fn run() -> Result<FoundRoom, Failure> {
    let space = statvfs("/").map_err(TreeError::file("check the free space in", "/"))?;
    Ok(FoundRoom {
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
    })
}
