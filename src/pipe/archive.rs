//! Whether an archive of `pg_dump` is whole, told while it passes.
//!
//! The custom format begins with a table of contents, which says which of its entries have data. A block of data follows for
//! each of them, in chunks that tell their lengths. Nothing marks the end; so an archive is whole when it ends after the last
//! of these blocks. Nothing of it is kept.
//!
//! Source: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL's `src/bin/pg_dump`

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The versions of the format that are known, PostgreSQL 12 to 18, as major and minor number.
const KNOWN: std::ops::RangeInclusive<(u8, u8)> = (1, 14)..=(1, 16);
const CUSTOM: u8 = 1;
const DATA: u8 = 1;
const LARGE_OBJECTS: u8 = 3;
/// `PGDMP`, three parts of a version, the lengths of integers and offsets, and the format.
const HEADER: usize = 11;
/// When the dump was begun.
const TIMES: u32 = 7;
/// The database's name, and the versions of the server and of `pg_dump`.
const HEAD_STRINGS: u32 = 3;

/// Why an archive is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("it ends within its table of contents")]
    CutContents,
    #[error("it ends within the data of entry {0}")]
    CutData(u32),
    #[error("it holds the data of {found} entries, but its table of contents names {named}")]
    MissingData { named: u32, found: u32 },
    #[error("it is not an archive of pg_dump")]
    NoArchive,
    #[error("its format {0}.{1} is not known")]
    UnknownFormat(u8, u8),
    #[error("there is something else where the data of an entry should begin")]
    NoBlock,
}

/// What the next field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Header,
    Compression,
    Time(u32),
    HeadString(u32),
    Count,
    /// Of an entry: a number in [`Archive::entry`].
    Entry(usize),
    Dependency,
    Offset,
    Block,
    BlockEntry(u8),
    Chunk,
    LargeObject,
    LargeObjectChunk,
}

/// A field of an entry in the table of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    HasData,
    Text,
}

/// Watches an archive pass.
#[derive(Debug)]
pub struct Archive {
    field: Field,
    collected: Vec<u8>,
    /// Bytes of a text or a chunk that pass unseen.
    unseen: u64,
    flaw: Option<Flaw>,
    entry: Vec<Kind>,
    compression: usize,
    number: usize,
    offset: usize,
    entries: u32,
    named: u32,
    found: u32,
    current: u32,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            field: Field::Header,
            collected: Vec::new(),
            unseen: 0,
            flaw: None,
            entry: Vec::new(),
            compression: 0,
            number: 0,
            offset: 0,
            entries: 0,
            named: 0,
            found: 0,
            current: 0,
        }
    }
}

impl Archive {
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.flaw.is_none() {
            if self.unseen > 0 {
                let length = bytes
                    .len()
                    .min(usize::try_from(self.unseen).unwrap_or(usize::MAX));
                self.unseen -= length as u64;
                bytes = &bytes[length..];
                continue;
            }
            let missing = self.length() - self.collected.len();
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.collected.extend_from_slice(taken);
            bytes = rest;
            if self.collected.len() == self.length() {
                let field = std::mem::take(&mut self.collected);
                if let Err(flaw) = self.step(&field) {
                    self.flaw = Some(flaw);
                }
            }
        }
    }

    /// Whether what has passed is a whole archive.
    pub fn finish(&self) -> Result<(), Flaw> {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        let is_within = self.unseen > 0 || !self.collected.is_empty();
        match self.field {
            Field::Block if !is_within && self.found == self.named => Ok(()),
            Field::Block if !is_within => Err(Flaw::MissingData {
                named: self.named,
                found: self.found,
            }),
            Field::Block
            | Field::BlockEntry(_)
            | Field::Chunk
            | Field::LargeObject
            | Field::LargeObjectChunk => Err(Flaw::CutData(self.current)),
            _ => Err(Flaw::CutContents),
        }
    }

    /// Of the next field, in bytes.
    fn length(&self) -> usize {
        match self.field {
            Field::Header => HEADER,
            Field::Compression => self.compression,
            Field::Offset => self.offset,
            Field::Block => 1,
            _ => self.number,
        }
    }

    fn step(&mut self, field: &[u8]) -> Result<(), Flaw> {
        self.field = match self.field {
            Field::Header => self.header(field)?,
            Field::Compression => Field::Time(1),
            Field::Time(TIMES) => Field::HeadString(1),
            Field::Time(passed) => Field::Time(passed + 1),
            Field::HeadString(passed) => {
                self.skip(number(field));
                match passed {
                    HEAD_STRINGS => Field::Count,
                    _ => Field::HeadString(passed + 1),
                }
            }
            Field::Count => {
                self.entries = u32::try_from(number(field)).map_err(|_| Flaw::NoArchive)?;
                self.next_entry()
            }
            Field::Entry(at) => self.of_entry(at, number(field)),
            // The list of dependencies ends in a string that there is not.
            Field::Dependency if number(field) < 0 => Field::Offset,
            Field::Dependency => {
                self.skip(number(field));
                Field::Dependency
            }
            Field::Offset => {
                self.entries -= 1;
                self.next_entry()
            }
            Field::Block => Field::BlockEntry(field[0]),
            Field::BlockEntry(kind) => {
                self.current = u32::try_from(number(field)).map_err(|_| Flaw::NoBlock)?;
                match kind {
                    DATA => Field::Chunk,
                    LARGE_OBJECTS => Field::LargeObject,
                    _ => return Err(Flaw::NoBlock),
                }
            }
            Field::Chunk => self.chunk(number(field), Field::Chunk, Field::Block),
            Field::LargeObject if number(field) == 0 => {
                self.found += 1;
                Field::Block
            }
            Field::LargeObject => Field::LargeObjectChunk,
            Field::LargeObjectChunk => {
                self.chunk(number(field), Field::LargeObjectChunk, Field::LargeObject)
            }
        };
        Ok(())
    }

    fn header(&mut self, header: &[u8]) -> Result<Field, Flaw> {
        let [
            b'P',
            b'G',
            b'D',
            b'M',
            b'P',
            major,
            minor,
            _,
            number,
            offset,
            format,
        ] = *header
        else {
            return Err(Flaw::NoArchive);
        };
        let version = (major, minor);
        if !KNOWN.contains(&version) || format != CUSTOM {
            return Err(Flaw::UnknownFormat(major, minor));
        }
        self.number = 1 + usize::from(number);
        self.offset = 1 + usize::from(offset);
        self.compression = if version >= (1, 15) { 1 } else { self.number };
        let relation_kind = (version >= (1, 16)).then_some(Kind::Number);
        // The entry's number, whether it has data; OIDs, names, section; commands, places; kind, owner, and a relic.
        self.entry = [Kind::Number, Kind::HasData]
            .into_iter()
            .chain([Kind::Text; 4])
            .chain([Kind::Number])
            .chain([Kind::Text; 6])
            .chain(relation_kind)
            .chain([Kind::Text; 2])
            .collect();
        Ok(Field::Compression)
    }

    fn next_entry(&self) -> Field {
        match self.entries {
            0 => Field::Block,
            _ => Field::Entry(0),
        }
    }

    fn of_entry(&mut self, at: usize, number: i64) -> Field {
        match self.entry[at] {
            Kind::Number => {}
            Kind::HasData => self.named += u32::from(number == 1),
            Kind::Text => self.skip(number),
        }
        if at + 1 == self.entry.len() {
            Field::Dependency
        } else {
            Field::Entry(at + 1)
        }
    }

    /// An empty chunk is the last.
    fn chunk(&mut self, length: i64, next: Field, after: Field) -> Field {
        self.skip(length);
        if length > 0 {
            return next;
        }
        self.found += u32::from(after == Field::Block);
        after
    }

    /// A length below zero stands for a text that there is not.
    fn skip(&mut self, length: i64) {
        self.unseen = u64::try_from(length).unwrap_or(0);
    }
}

/// A sign, and the bytes of a number, the least first.
fn number(field: &[u8]) -> i64 {
    let value = field[1..]
        .iter()
        .rev()
        .fold(0_i64, |value, &byte| (value << 8) | i64::from(byte));
    if field[0] == 0 { value } else { -value }
}

/// Passes bytes on, and watches the archive that they are.
pub struct Watched<T> {
    inner: T,
    archive: ArchiveHandle,
}

/// Tells whether what has passed is whole.
#[derive(Clone, Default)]
pub struct ArchiveHandle(Arc<Mutex<Archive>>);

impl<T> Watched<T> {
    pub fn new(inner: T) -> (Self, ArchiveHandle) {
        let archive = ArchiveHandle::default();
        let watched = Self {
            inner,
            archive: archive.clone(),
        };
        (watched, archive)
    }
}

impl ArchiveHandle {
    pub fn finish(&self) -> Result<(), Flaw> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .finish()
    }

    fn pass(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pass(bytes);
    }
}

impl<T: Read> Read for Watched<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.archive.pass(&buffer[..length]);
        Ok(length)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.archive.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(number: i32) -> Vec<u8> {
        let sign = u8::from(number < 0);
        [&[sign][..], &number.unsigned_abs().to_le_bytes()].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [int(text.len() as i32), text.as_bytes().to_vec()].concat()
    }

    /// An archive with a table of two rows, an empty table, large objects, and an entry without data.
    fn archive(minor: u8) -> Vec<u8> {
        let mut bytes = [b"PGDMP", &[1, minor, 0, 4, 8, 1][..]].concat();
        bytes.extend(if minor >= 15 { vec![0] } else { int(0) });
        (0..7).for_each(|n| bytes.extend(int(n)));
        for head in ["shop", "17.1", "17.1"] {
            bytes.extend(text(head));
        }
        bytes.extend(int(4));
        for (id, has_data) in [(1, 1), (2, 1), (3, 1), (4, 0)] {
            bytes.extend([int(id), int(has_data)].concat());
            bytes.extend(["1259", "16384", "t", "TABLE DATA"].map(text).concat());
            bytes.extend(int(3));
            bytes.extend([text("COPY t"), int(-1), text(""), text("public"), text("")].concat());
            bytes.extend(text("heap"));
            if minor >= 16 {
                bytes.extend(int(i32::from(b'r')));
            }
            bytes.extend([text("owner"), text("false"), text("7"), int(-1)].concat());
            bytes.extend([&[1][..], &[0; 8]].concat());
        }
        bytes.extend([vec![DATA], int(1), text("1\tone\n"), text("\\.\n"), int(0)].concat());
        bytes.extend([vec![DATA], int(2), int(0)].concat());
        let object = [int(-5), text("large"), text("object"), int(0)].concat();
        bytes.extend([vec![LARGE_OBJECTS], int(3), object, int(9), int(0), int(0)].concat());
        bytes
    }

    fn look(bytes: &[u8], piece: usize) -> Result<(), Flaw> {
        let mut archive = Archive::default();
        bytes.chunks(piece).for_each(|piece| archive.pass(piece));
        archive.finish()
    }

    #[test]
    fn a_whole_archive_is_whole_and_each_of_its_beginnings_is_not() {
        for minor in [14, 15, 16] {
            let whole = archive(minor);
            for piece in [1, 3, whole.len()] {
                assert_eq!(look(&whole, piece), Ok(()), "1.{minor}");
            }
            for length in 0..whole.len() {
                assert!(look(&whole[..length], 7).is_err(), "1.{minor}: {length}");
            }
            assert!(look(&[&whole[..], b"\n"].concat(), 7).is_err());
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let whole = archive(16);
        let end_of_second = whole.len() - archive_of_large_objects();
        for (bytes, flaw) in [
            (&whole[..20], Flaw::CutContents),
            (&whole[..whole.len() - 1], Flaw::CutData(3)),
            (
                &whole[..end_of_second],
                Flaw::MissingData { named: 3, found: 2 },
            ),
            (b"not a dump at all", Flaw::NoArchive),
            (b"PGDMP\x01\x11\0\x04\x08\x01", Flaw::UnknownFormat(1, 17)),
        ] {
            assert_eq!(look(bytes, 5), Err(flaw));
        }
    }

    fn archive_of_large_objects() -> usize {
        let object = [int(-5), text("large"), text("object"), int(0)].concat();
        [vec![LARGE_OBJECTS], int(3), object, int(9), int(0), int(0)]
            .concat()
            .len()
    }
}
