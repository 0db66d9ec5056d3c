//! `agent pack`: archives the tree on its mount, and sends archive and index as they will be stored.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType};

use super::flow::Outflow;
use super::job::Failure;
use super::task::{MOUNT, PackTask, Packed, Streamed};
use super::wire::{FrameWriter, Kind, Line};
use crate::pipe::Digesting;
use crate::pipe::codec::Compressor;
use crate::tree::pack::{PackReport, Source, pack};
use crate::tree::{Excludes, TreeError, TreePath, fs};

pub fn run(task: &PackTask, line: &mut Line) -> Result<Packed, Failure> {
    let source = source(Path::new(MOUNT), task)?;
    let excludes = Excludes::new(&task.exclude)?;
    std::thread::scope(|scope| {
        let mut layer = Outflow::start(scope, line.sender(), task.compression);
        let output = line.sender().writer(Kind::Index);
        let (mut index, _) = Digesting::new(Compressor::new(output, task.compression)?);
        let packed = pack(source, &excludes, &mut layer, &mut |entry| {
            index.write_all(&entry.to_line())
        });
        let tree: PackReport = match packed {
            Ok(report) => report,
            Err(TreeError::Stream(_)) => return Err(layer.failure().into()),
            Err(error) => return Err(error.into()),
        };
        let layer = layer.finish()?;
        let (compressor, plain) = index.finish();
        let stored_bytes = FrameWriter::finish(compressor.finish()?)?;
        Ok(Packed {
            tree,
            layer,
            index: Streamed {
                plain,
                stored_bytes,
            },
        })
    })
}

/// The tree at `task.place` of a mount, which may be a file itself.
fn source(mount: &Path, task: &PackTask) -> Result<Source, TreeError> {
    let mount_name = mount.as_os_str().as_encoded_bytes();
    let root = fs::status(CWD, mount_name).map_err(TreeError::file("inspect", "the mount"))?;
    if !root.is_directory() {
        let directory = fs::open_directory(CWD, b"/").map_err(TreeError::file("open", "/"))?;
        return Ok(Source::Single {
            directory,
            name: mount_name.strip_prefix(b"/").unwrap_or(mount_name).to_vec(),
            saved_as: task.name.as_bytes().to_vec(),
        });
    }
    let mount = open_mount(mount)?;
    let Some((parent, name)) = task.place.split_last() else {
        return Ok(Source::Directory(mount, task.opening));
    };
    let directory = fs::open_below(&mount, &parent)?;
    let status = fs::status(&directory, name).map_err(TreeError::file("inspect", &task.place))?;
    if status.file_type == FileType::Directory {
        let root = fs::open_below(&directory, &TreePath::root().join(name))?;
        return Ok(Source::Directory(root, task.opening));
    }
    Ok(Source::Single {
        directory,
        name: name.to_vec(),
        saved_as: task.name.as_bytes().to_vec(),
    })
}

pub(super) fn open_mount(mount: &Path) -> Result<OwnedFd, TreeError> {
    fs::open_directory(CWD, mount.as_os_str().as_encoded_bytes())
        .map_err(TreeError::file("open", "the mount"))
}
