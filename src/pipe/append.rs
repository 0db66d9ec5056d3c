//! Appending to a large file past the page cache.
//!
//! What is stored or put back is not read again at once, and the pages that it would fill belong to the databases of the
//! host. It is also cheaper: bytes are copied once less, and little is left for a sync at the end.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What is written at a time, in bytes.
const WRITE_SIZE: usize = 1024 * 1024;
/// Of offsets, lengths and addresses: the most that a disk asks for (open(2), `O_DIRECT`).
const ALIGNMENT: usize = 4096;

/// Appends whole blocks directly, and what is left at the end in the usual way. A file system that does not know direct
/// writes gets usual ones, and is told not to keep them.
#[derive(Debug)]
pub struct Appender {
    file: File,
    block: Block,
    way: Way,
    /// How much the file has got, in bytes.
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Untried,
    Direct,
    Cached,
}

impl Appender {
    /// `file`: empty, and opened for writing.
    pub fn new(file: File) -> Self {
        Self {
            file,
            block: Block::default(),
            way: Way::Untried,
            written: 0,
        }
    }

    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.block.put(bytes)..];
            if self.block.is_full() {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// Writes what is left. Nothing is synced.
    pub fn finish(mut self) -> io::Result<File> {
        if self.way == Way::Direct {
            set_direct(&self.file, false)?;
        }
        self.file.write_all(self.block.filled())?;
        Ok(self.file)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.way == Way::Untried {
            self.way = match set_direct(&self.file, true) {
                Ok(()) => Way::Direct,
                Err(_) => Way::Cached,
            };
        }
        let mut rest = self.block.filled();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not here, or not any more, since a short write has left the alignment.
                Err(error) if self.way == Way::Direct && is_refusal(&error) => {
                    set_direct(&self.file, false)?;
                    self.way = Way::Cached;
                }
                Err(error) => return Err(error),
            }
        }
        if self.way == Way::Cached {
            // Linux starts writing dirty pages when it is told that they are not needed (`mm/fadvise.c`), so that the disk
            // works while the rest is still coming. As advice, it cannot fail in a way that matters.
            let length = NonZero::new(WRITE_SIZE as u64);
            let _ = fadvise(&self.file, self.written, length, Advice::DontNeed);
        }
        self.written += WRITE_SIZE as u64;
        self.block.clear();
        Ok(())
    }
}

fn set_direct(file: &File, on: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, on);
    Ok(fcntl_setfl(file, flags)?)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOTSUP)
    )
}

/// Memory at an address that disks can read from. Takes none before it is used.
#[derive(Debug, Default)]
struct Block {
    memory: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    filled: usize,
}

impl Block {
    /// Copies as much of `bytes` as there is room for; how much that is.
    fn put(&mut self, bytes: &[u8]) -> usize {
        if self.memory.is_empty() {
            self.memory = vec![0; WRITE_SIZE + ALIGNMENT];
            self.start = self.memory.as_ptr().align_offset(ALIGNMENT);
        }
        let length = bytes.len().min(WRITE_SIZE - self.filled);
        let end = self.start + self.filled;
        self.memory[end..end + length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        length
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    fn is_full(&self) -> bool {
        self.filled == WRITE_SIZE
    }

    fn clear(&mut self) {
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn appended(directory: &Path, pieces: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let path = directory.join("file");
        let mut appender = Appender::new(File::create(&path).unwrap());
        let mut expected = Vec::new();
        for (at, &length) in pieces.iter().enumerate() {
            let piece: Vec<u8> = (0..length).map(|n| (n * 31 + at) as u8).collect();
            appender.append(&piece).unwrap();
            expected.extend(piece);
        }
        appender.finish().unwrap();
        (fs::read(path).unwrap(), expected)
    }

    #[test]
    fn files_of_any_length_come_out_as_they_went_in() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for pieces in [
            &[][..],
            &[1],
            &[WRITE_SIZE - 1, 1],
            &[WRITE_SIZE],
            &[WRITE_SIZE + 1, 7],
            &[100_000; 31],
            &[3 * WRITE_SIZE, 0, 5],
        ] {
            let (found, expected) = appended(directory.path(), pieces);
            assert!(found == expected, "{pieces:?}");
        }
    }

    /// As after a short write: the next one is not aligned, and a disk refuses it.
    #[test]
    fn a_direct_write_that_is_refused_is_made_in_the_usual_way() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        let mut appender = Appender::new(File::create(&path).unwrap());
        appender.append(&[1; WRITE_SIZE]).unwrap();
        let was_direct = appender.way == Way::Direct;
        set_direct(&appender.file, false).unwrap();
        appender.file.write_all(b"odd").unwrap();
        if was_direct {
            set_direct(&appender.file, true).unwrap();
        }
        appender.append(&[2; WRITE_SIZE]).unwrap();
        appender.append(b"end").unwrap();
        appender.finish().unwrap();
        let expected = [&[1; WRITE_SIZE][..], b"odd", &[2; WRITE_SIZE], b"end"].concat();
        assert!(fs::read(path).unwrap() == expected);
    }
}
