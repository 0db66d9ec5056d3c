//! Files with holes: where the data lies, and the two ways in which GNU tar writes it down.

use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::entry::Extent;
use super::error::TreeError;
use super::header::{BLOCK, Header, number};
use super::pax::decimal;

/// How many extents of one file are told apart. Beyond, the smallest holes are filled: the content stays the same, and
/// memory bounded.
const MAX_EXTENTS: usize = 65_536;

/// Archives of others may have more, up to a point.
const MAX_READ_EXTENTS: u64 = 1 << 20;

/// Where the data of an open file of `size` bytes lies; `None` when there is no hole worth a map.
pub fn extents(file: impl AsFd, size: u64) -> Result<Option<Vec<Extent>>, Errno> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut smallest_hole = 0;
    let mut position = 0;
    while position < size {
        let start = match seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = match seek(&file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // The file shrank under us; what is missing is read as zeros.
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        if end > start {
            append(&mut extents, start, end, smallest_hole);
        }
        if extents.len() > MAX_EXTENTS {
            smallest_hole = (smallest_hole * 2).max(8192);
            let all = std::mem::take(&mut extents);
            for extent in all {
                append(
                    &mut extents,
                    extent.offset,
                    extent.offset + extent.length,
                    smallest_hole,
                );
            }
        }
        position = end.max(position + 1);
    }
    let whole = matches!(extents.as_slice(), [only] if only.offset == 0 && only.length == size);
    Ok((!whole && size > 0).then_some(extents))
}

fn append(extents: &mut Vec<Extent>, start: u64, end: u64, smallest_hole: u64) {
    match extents.last_mut() {
        Some(last) if start <= last.offset + last.length + smallest_hole => {
            last.length = end - last.offset;
        }
        _ => extents.push(Extent {
            offset: start,
            length: end - start,
        }),
    }
}

/// The map of format 1.0, which stands before the content: decimal lines, filled up to a block.
/// A map always ends where the file ends, if need be with an extent of no bytes, as GNU tar has it.
pub fn write_map(extents: &[Extent], size: u64) -> Vec<u8> {
    use std::io::Write;

    let ends_in_hole = extents
        .last()
        .is_none_or(|last| last.offset + last.length < size);
    let closing = ends_in_hole.then_some(Extent {
        offset: size,
        length: 0,
    });
    let mut map = Vec::new();
    let count = extents.len() + usize::from(ends_in_hole);
    let _ = writeln!(map, "{count}");
    for extent in extents.iter().chain(&closing) {
        let _ = write!(map, "{}\n{}\n", extent.offset, extent.length);
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Reads a map of format 1.0 block by block.
#[derive(Default)]
pub struct MapReader {
    line: Vec<u8>,
    numbers: Vec<u64>,
    wanted: Option<u64>,
}

impl MapReader {
    /// Takes the next block; the map when it is complete with it.
    pub fn take(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Extent>>, TreeError> {
        let malformed = || TreeError::Damaged("a sparse file's map is malformed".to_owned());
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(malformed());
                }
                continue;
            }
            let value: u64 = (!self.line.is_empty())
                .then(|| decimal(&self.line))
                .flatten()
                .ok_or_else(malformed)?;
            self.line.clear();
            match self.wanted {
                None if value > MAX_READ_EXTENTS => return Err(malformed()),
                None => self.wanted = Some(value * 2),
                Some(_) => self.numbers.push(value),
            }
            if self.wanted == Some(self.numbers.len() as u64) {
                let pairs = self.numbers.chunks_exact(2);
                let extents = pairs.map(|pair| Extent {
                    offset: pair[0],
                    length: pair[1],
                });
                return Ok(Some(extents.collect()));
            }
        }
        Ok(None)
    }
}

/// The part of an old GNU sparse map that stands in the header: up to four extents, the real size, and whether further
/// blocks of up to 21 extents follow.
pub fn read_old_header(header: &Header) -> Result<(Vec<Extent>, u64, bool), TreeError> {
    let bytes = header.as_bytes();
    let size = number(&bytes[483..495])?;
    Ok((read_old_pairs(&bytes[386..482])?, size, bytes[482] != 0))
}

pub fn read_old_block(block: &[u8; BLOCK]) -> Result<(Vec<Extent>, bool), TreeError> {
    Ok((read_old_pairs(&block[..504])?, block[504] != 0))
}

fn read_old_pairs(bytes: &[u8]) -> Result<Vec<Extent>, TreeError> {
    let mut extents = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        extents.push(Extent {
            offset: number(&pair[..12])?,
            length: number(&pair[12..])?,
        });
    }
    Ok(extents)
}

/// Checks a map that was read, and drops its empty extents: in order, not overlapping, within `size`, and as much data
/// as the archive holds.
pub fn ensure_sound(
    extents: Vec<Extent>,
    size: u64,
    stored: u64,
) -> Result<Vec<Extent>, TreeError> {
    let unsound = || TreeError::Damaged("a sparse file's map does not fit its size".to_owned());
    if extents.len() as u64 > MAX_READ_EXTENTS {
        return Err(unsound());
    }
    let mut position = 0u64;
    let mut total = 0u64;
    for extent in &extents {
        if extent.offset < position {
            return Err(unsound());
        }
        position = extent
            .offset
            .checked_add(extent.length)
            .filter(|end| *end <= size)
            .ok_or_else(unsound)?;
        total += extent.length;
    }
    if total != stored {
        return Err(unsound());
    }
    Ok(extents
        .into_iter()
        .filter(|extent| extent.length > 0)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    #[test]
    fn a_map_is_read_as_it_was_written() {
        let many: Vec<Extent> = (0..500).map(|at| extent(at * 8192, 4096)).collect();
        for (extents, size) in [
            (vec![], 1 << 40),
            (vec![extent(4096, 4096)], 8192),
            (vec![extent(0, 4096)], 1 << 33),
            (many, 500 * 8192),
        ] {
            let map = write_map(&extents, size);
            assert_eq!(map.len() % BLOCK, 0);
            let mut reader = MapReader::default();
            let mut blocks = map.as_chunks::<BLOCK>().0.iter();
            let read = loop {
                if let Some(read) = reader.take(blocks.next().unwrap()).unwrap() {
                    break read;
                }
            };
            assert_eq!(blocks.next(), None);
            let stored = extents.iter().map(|extent| extent.length).sum();
            assert_eq!(ensure_sound(read, size, stored).unwrap(), extents);
        }
    }

    #[test]
    fn unsound_maps_are_refused() {
        for (extents, size, stored) in [
            (vec![extent(10, 5), extent(0, 5)], 100, 10),
            (vec![extent(0, 10), extent(5, 10)], 100, 20),
            (vec![extent(90, 20)], 100, 20),
            (vec![extent(u64::MAX, 2)], 100, 2),
            (vec![extent(0, 10)], 100, 11),
        ] {
            assert!(
                ensure_sound(extents.clone(), size, stored).is_err(),
                "{extents:?}"
            );
        }
    }

    #[test]
    fn malformed_maps_are_refused() {
        for text in [
            "x\n",
            "1\n\n",
            "-1\n",
            "99999999\n",
            "123456789012345678901\n",
        ] {
            let mut block = [0; BLOCK];
            block[..text.len()].copy_from_slice(text.as_bytes());
            assert!(MapReader::default().take(&block).is_err(), "{text:?}");
        }
    }
}
