//! Writes a saved file over one that must stay the same inode, because it is itself a mount.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::UnpackReport;
use crate::tree::attributes::Place;
use crate::tree::entry::{Extent, Kind};
use crate::tree::error::{TreeError, Warnings};
use crate::tree::path::encode;
use crate::tree::reader::ArchiveReader;

/// `file` is open for writing. The archive must hold one file and nothing else. There is no way back from here: what
/// was in the file is gone after an error.
pub fn overwrite(file: OwnedFd, input: impl Read) -> Result<UnpackReport, TreeError> {
    let mut archive = ArchiveReader::new(input);
    let not_one = || TreeError::Hostile("it does not contain exactly one file".to_owned());
    let entry = archive.next_entry()?.ok_or_else(not_one)?;
    let Kind::File { size, extents } = &entry.kind else {
        return Err(not_one());
    };
    let path = &entry.path;
    let io = |action| TreeError::file(action, path);
    // Empty first: holes of a sparse file must not show what was there before.
    rustix::fs::ftruncate(&file, 0).map_err(io("empty"))?;
    rustix::fs::ftruncate(&file, *size).map_err(io("set the size of"))?;
    let whole = [Extent {
        offset: 0,
        length: *size,
    }];
    let mut output = std::fs::File::from(file);
    let mut piece = vec![0; 256 * 1024];
    for extent in extents.as_deref().unwrap_or(&whole) {
        rustix::fs::seek(&output, rustix::fs::SeekFrom::Start(extent.offset))
            .map_err(io("write"))?;
        let mut left = extent.length;
        while left > 0 {
            let part = left.min(piece.len() as u64) as usize;
            archive.read_content_exact(&mut piece[..part])?;
            output
                .write_all(&piece[..part])
                .map_err(|source| TreeError::File {
                    action: "write",
                    path: path.to_string(),
                    source,
                })?;
            left -= part as u64;
        }
    }
    let mut warnings = Warnings::default();
    let unsupported = Place::Open(output.as_fd())
        .apply(&entry.metadata)
        .map_err(io("restore the attributes of"))?;
    for name in unsupported.0 {
        let name = encode(&name);
        warnings.push(format!("{path}: the file system does not support {name}"));
    }
    rustix::fs::fsync(&output).map_err(io("write to the disk"))?;
    match archive.next_entry()? {
        None => Ok(UnpackReport {
            entries: 1,
            content_bytes: *size,
            warnings: warnings.into_vec(),
        }),
        Some(_) => Err(not_one()),
    }
}
