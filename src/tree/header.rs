//! The 512-byte header block of a tar archive (POSIX.1-2017 `pax`, section "ustar Interchange Format").

use super::error::TreeError;

pub const BLOCK: usize = 512;

/// What a number of a header's field of 8 or 12 bytes may be at most, in octal digits before a NUL.
pub const MAX_SHORT: u64 = 0o7_777_777;
pub const MAX_LONG: u64 = 0o77_777_777_777;

/// Offsets and lengths of the fields that we write or read.
mod field {
    use std::ops::Range;

    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MODIFIED: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: usize = 156;
    pub const LINK: Range<usize> = 157..257;
    pub const MAGIC: Range<usize> = 257..265;
    pub const MAJOR: Range<usize> = 329..337;
    pub const MINOR: Range<usize> = 337..345;
    pub const PREFIX: Range<usize> = 345..500;
}

const POSIX: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

/// One header block. Numbers that do not fit their field are written as 0: a pax record must carry them.
#[derive(Clone)]
pub struct Header([u8; BLOCK]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Posix,
    Gnu,
    /// Before 1988: names of at most 100 bytes and nothing else.
    Old,
}

impl Header {
    pub fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[field::MAGIC].copy_from_slice(POSIX);
        header.0[field::TYPE] = kind;
        header
    }

    /// Names longer than 100 bytes are cut.
    pub fn set_name(&mut self, name: &[u8]) {
        copy(&mut self.0[field::NAME], name);
    }

    pub fn set_link(&mut self, link: &[u8]) {
        copy(&mut self.0[field::LINK], link);
    }

    pub fn set_mode(&mut self, mode: u32) {
        octal(&mut self.0[field::MODE], mode.into());
    }

    pub fn set_owner(&mut self, uid: u32, gid: u32) {
        octal(&mut self.0[field::UID], uid.into());
        octal(&mut self.0[field::GID], gid.into());
    }

    pub fn set_size(&mut self, size: u64) {
        octal(&mut self.0[field::SIZE], size);
    }

    pub fn set_modified(&mut self, seconds: i64) {
        octal(
            &mut self.0[field::MODIFIED],
            u64::try_from(seconds).unwrap_or(0),
        );
    }

    pub fn set_device(&mut self, major: u32, minor: u32) {
        octal(&mut self.0[field::MAJOR], major.into());
        octal(&mut self.0[field::MINOR], minor.into());
    }

    /// The finished block.
    pub fn finish(mut self) -> [u8; BLOCK] {
        let sum = self.sum();
        let text = format!("{sum:06o}\0 ");
        self.0[field::CHECKSUM].copy_from_slice(text.as_bytes());
        self.0
    }

    /// The sum of all bytes, those of the checksum field taken as spaces.
    fn sum(&self) -> u64 {
        let all: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = self.0[field::CHECKSUM]
            .iter()
            .map(|byte| u64::from(*byte))
            .sum();
        all - own + 8 * u64::from(b' ')
    }

    /// `Ok(None)` for a block of zeros.
    pub fn read(block: [u8; BLOCK]) -> Result<Option<Self>, TreeError> {
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let header = Self(block);
        let stated = number(&header.0[field::CHECKSUM])?;
        if stated != header.sum() {
            return Err(TreeError::Damaged(
                "a header's checksum does not match".to_owned(),
            ));
        }
        Ok(Some(header))
    }

    pub fn kind(&self) -> u8 {
        self.0[field::TYPE]
    }

    fn format(&self) -> Format {
        match &self.0[field::MAGIC] {
            magic if magic == GNU => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Posix,
            _ => Format::Old,
        }
    }

    pub fn name(&self) -> Vec<u8> {
        let name = text(&self.0[field::NAME]);
        let prefix = text(&self.0[field::PREFIX]);
        if self.format() == Format::Posix && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub fn link(&self) -> &[u8] {
        text(&self.0[field::LINK])
    }

    pub fn mode(&self) -> Result<u64, TreeError> {
        number(&self.0[field::MODE])
    }

    pub fn uid(&self) -> Result<u64, TreeError> {
        number(&self.0[field::UID])
    }

    pub fn gid(&self) -> Result<u64, TreeError> {
        number(&self.0[field::GID])
    }

    pub fn size(&self) -> Result<u64, TreeError> {
        number(&self.0[field::SIZE])
    }

    pub fn modified(&self) -> Result<i64, TreeError> {
        let bytes = &self.0[field::MODIFIED];
        // GNU tar writes times before the epoch in two's complement over the whole field.
        if bytes[0] == 0xff {
            let tail = bytes.last_chunk::<8>().copied().unwrap_or_default();
            return Ok(i64::from_be_bytes(tail));
        }
        let seconds = number(bytes)?;
        i64::try_from(seconds).map_err(|_| malformed())
    }

    pub fn device(&self) -> Result<(u64, u64), TreeError> {
        Ok((
            number(&self.0[field::MAJOR])?,
            number(&self.0[field::MINOR])?,
        ))
    }

    pub fn as_bytes(&self) -> &[u8; BLOCK] {
        &self.0
    }
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    let text = if text.len() > digits {
        "0".repeat(digits)
    } else {
        text
    };
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn malformed() -> TreeError {
    TreeError::Damaged("a header holds a malformed number".to_owned())
}

/// Octal digits, or, when the first bit is set, a big-endian number over the rest of the field (GNU, star).
pub fn number(field: &[u8]) -> Result<u64, TreeError> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value
                .checked_mul(256)
                .ok_or_else(malformed)?
                .checked_add(u64::from(*byte))
                .ok_or_else(malformed)?;
        }
        return Ok(value);
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| u64::from_str_radix(digits, 8).ok())
        .ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut header = Header::new(b'0');
        header.set_name(b"./a");
        header.set_mode(0o4755);
        header.set_owner(1000, 0o7_777_777);
        header.set_size(MAX_LONG);
        header.set_modified(1_700_000_000);
        header.set_device(8, 1);
        let header = Header::read(header.finish()).unwrap().unwrap();
        assert_eq!(header.name(), b"./a");
        assert_eq!(header.mode().unwrap(), 0o4755);
        assert_eq!(header.uid().unwrap(), 1000);
        assert_eq!(header.gid().unwrap(), MAX_SHORT);
        assert_eq!(header.size().unwrap(), MAX_LONG);
        assert_eq!(header.modified().unwrap(), 1_700_000_000);
        assert_eq!(header.device().unwrap(), (8, 1));
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut header = Header::new(b'0');
        header.set_name(b"./a");
        let mut block = header.finish();
        block[1] ^= 1;
        assert!(matches!(Header::read(block), Err(TreeError::Damaged(_))));
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\x09", Some(9)),
            (b"\x80\0\0\0\x02\0\0\0\0\0\0\0", Some(2 << 56)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000648\0", None),
            (b"-000064\0", None),
            (b"+000064\0", None),
        ] {
            assert_eq!(number(field).ok(), expected, "{field:?}");
        }
    }
}
