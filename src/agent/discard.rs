//! `agent discard`: removes what was staged, and leaves the live tree as it was.

use std::path::Path;

use super::job::Failure;
use super::pack::open_mount;
use super::task::{MOUNT, Settled, StagedTask};
use crate::tree::staging::discard;

pub fn run(task: &StagedTask) -> Result<Settled, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    let warnings = discard(&mount, task.staging.as_bytes())?;
    Ok(Settled {
        was_staged: true,
        warnings,
    })
}
