//! `agent exchange`: lets a staged tree take its place. Goes on to the end when cofferdam goes away meanwhile.

use std::path::Path;

use super::job::Failure;
use super::pack::open_mount;
use super::task::{MOUNT, Settled, StagedTask};
use crate::tree::exchange::{Outcome, exchange};

pub fn run(task: &StagedTask) -> Result<Settled, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    let (outcome, warnings) = exchange(&mount, task.staging.as_bytes())?;
    Ok(Settled {
        was_staged: outcome == Outcome::Done,
        warnings,
    })
}
