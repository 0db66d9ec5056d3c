//! `agent list`: says which regular files lie in a directory of its mount, whatever an index says of them.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::job::Failure;
use super::pack::open_mount;
use super::task::{ListTask, Listed, MOUNT};
use super::wire::{FrameWriter, Kind, Line};
use crate::tree::walk::{Step, Walk};
use crate::tree::{Excludes, fs};

/// Sends the paths below the directory, each with a NUL behind it.
pub fn run(task: &ListTask, line: &mut Line) -> Result<Listed, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    let directory = fs::open_below(&mount, &task.place)?;
    let excludes = Excludes::default();
    let mut output = BufWriter::new(line.sender().writer(Kind::Index));
    let mut listed = Listed { files: 0 };
    for step in Walk::new(directory, &excludes) {
        if let Step::File(candidate) = step? {
            output.write_all(candidate.path.as_bytes())?;
            output.write_all(b"\0")?;
            listed.files += 1;
        }
    }
    let output = output.into_inner().map_err(|error| error.into_error())?;
    FrameWriter::finish(output)?;
    Ok(listed)
}
