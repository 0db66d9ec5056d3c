//! `agent unpack`: receives the layers of a tree and puts them on its mount, beside the present tree or over it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::flow::{InflowError, Piece, inflow};
use super::job::Failure;
use super::pack::open_mount;
use super::task::{Destination, ExpectedLayer, InPlaceMode, MOUNT, UnpackTask, Unpacked};
use super::wire::{Kind, Line};
use crate::tree::network::NetworkFileSystem;
use crate::tree::staging::{Staging, sweep};
use crate::tree::unpack::{Existing, Standing, UnpackOptions, Unpacker, overwrite};
use crate::tree::{TreeError, TreePath, fit, fs, room};

pub fn run(task: &UnpackTask, line: &mut Line) -> Result<Unpacked, Failure> {
    let mount = Path::new(MOUNT);
    let mut tree = match &task.destination {
        Destination::Staged(plan) => {
            let mount = open_mount(mount)?;
            sweep(&mount, &plan.project, &plan.run)?;
            fit::ensure_replaceable(&mount, plan)?;
            room::ensure(&mount, needed(task), 0, room::MAKE_ROOM)?;
            let mut staging = Staging::begin(mount, plan.clone())?;
            let options = UnpackOptions {
                existing: Existing::Refuse,
                selection: task.selection.clone(),
            };
            let mut unpacker = Unpacker::new(staging.new_tree()?, options);
            receive_layers(&mut unpacker, &task.layers, line)?;
            let unpacked = unpacker.finish()?;
            fit::ensure_fits(&staging)?;
            staging.loaded(&unpacked.directories)?;
            unpacked.report
        }
        Destination::InPlace {
            place,
            mode,
            stays,
            touched,
        } => {
            let mount = open_mount(mount)?;
            let present = fs::open_below_if_present(&mount, place)?;
            let standing = Standing::look(present, stays, touched)?;
            let freed = match mode {
                InPlaceMode::Replace => standing.bytes(),
                InPlaceMode::Overlay | InPlaceMode::KeepExisting => 0,
            };
            room::ensure(&mount, needed(task), freed, "make room")?;
            let directory = make_way(mount, place)?;
            let existing = match mode {
                InPlaceMode::Replace => {
                    standing.clear(&directory)?;
                    Existing::Refuse
                }
                InPlaceMode::Overlay => Existing::Replace,
                InPlaceMode::KeepExisting => Existing::Keep,
            };
            let options = UnpackOptions {
                existing,
                selection: task.selection.clone(),
            };
            let mut unpacker = Unpacker::over(directory, options, standing);
            receive_layers(&mut unpacker, &task.layers, line)?;
            unpacker.finish()?.report
        }
        Destination::Overwrite => {
            let layer = task.layers.last().ok_or_else(|| Failure::Other {
                message: "there is no layer to restore".to_owned(),
            })?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(CWD, mount, flags, Mode::empty())
                .map_err(TreeError::file("open", "the mounted file"))?;
            receive_layer(layer, line, |input| Ok(overwrite(file, input)?))?
        }
    };
    let loss = NetworkFileSystem::at(mount).and_then(NetworkFileSystem::loss);
    tree.warnings.extend(loss.map(str::to_owned));
    Ok(Unpacked { tree })
}

fn receive_layers(
    unpacker: &mut Unpacker,
    layers: &[ExpectedLayer],
    line: &mut Line,
) -> Result<(), Failure> {
    for layer in layers {
        receive_deletions(unpacker, layer.deletions, line)?;
        receive_layer(layer, line, |input| Ok(unpacker.layer(input)?))?;
    }
    Ok(())
}

fn receive_deletions(unpacker: &mut Unpacker, count: u64, line: &mut Line) -> Result<(), Failure> {
    let mut left = count;
    while left > 0 {
        let (Kind::Deletions, list) = line.receive()? else {
            return Err(unexpected().into());
        };
        let paths: Vec<TreePath> = serde_json::from_slice(&list).map_err(io::Error::from)?;
        if paths.is_empty() || paths.len() as u64 > left {
            return Err(unexpected().into());
        }
        left -= paths.len() as u64;
        for path in &paths {
            unpacker.delete(path)?;
        }
    }
    Ok(())
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an unexpected frame came in")
}

pub(super) fn receive_layer<T>(
    layer: &ExpectedLayer,
    line: &mut Line,
    take: impl FnOnce(&mut dyn io::Read) -> Result<T, InflowError>,
) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(8);
        let receiving = scope.spawn(move || {
            loop {
                let piece = match line.receive() {
                    Ok((Kind::Data, data)) => Piece::Data(data),
                    Ok((Kind::LayerEnd, _)) => Piece::End,
                    Ok(_) => Piece::Failed(unexpected()),
                    Err(error) => Piece::Failed(error),
                };
                let is_last = !matches!(piece, Piece::Data(_));
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        let taken = inflow(pieces, layer, take);
        let _ = receiving.join();
        taken.map_err(Failure::from)
    })
}

/// Opens a directory below the mount; one that is missing is made.
#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
fn make_way(mount: OwnedFd, place: &TreePath) -> Result<OwnedFd, TreeError> {
    let mut directory = mount;
    for component in place.components() {
        directory = match fs::open_directory(&directory, component) {
            Err(Errno::NOENT) => {
                let mode = Mode::from_raw_mode(0o755);
                mkdirat(&directory, component, mode).map_err(TreeError::file("make", place))?;
                fs::open_directory(&directory, component)
            }
            other => other,
        }
        .map_err(TreeError::file("open", place))?;
    }
    Ok(directory)
}

/// Bytes, about, that the tree takes on the disk; 0 when that is not known, since only a part of it is wanted. An archive
/// has the content of files without their holes.
fn needed(task: &UnpackTask) -> u64 {
    if !task.selection.is_everything() {
        return 0;
    }
    task.layers.iter().map(|layer| layer.plain.bytes).sum()
}
