//! Reads tar archives strictly: pax, GNU and ustar. Every size must be fulfilled, every checksum match, and the end
//! marker be there with nothing after it; what this reader does not understand is an error.

use std::io::Read;

use super::acl;
use super::entry::{ACCESS_ACL, Attribute, DEFAULT_ACL, Entry, Extent, Kind, Metadata, Time};
use super::error::TreeError;
use super::header::{BLOCK, Header};
use super::path::{MAX_DEPTH, TreePath};
use super::{pax, sparse};

/// Extended headers hold names and attributes; no file system allows more of them than this.
const MAX_EXTENDED: u64 = 16 * 1024 * 1024;

pub struct ArchiveReader<R> {
    input: R,
    /// Bytes of the present entry's content that were not read yet.
    remaining: u64,
    /// Bytes after them, up to a full block.
    padding: u64,
}

/// What extended headers and long names say of the entry after them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    attributes: Vec<Attribute>,
    acl_texts: Vec<(&'static [u8], Vec<u8>)>,
    sparse: Sparse,
}

#[derive(Default)]
struct Sparse {
    major: Option<Vec<u8>>,
    minor: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
}

fn damaged(what: impl Into<String>) -> TreeError {
    TreeError::Damaged(what.into())
}

impl<R: Read> ArchiveReader<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            remaining: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` once the end marker was seen and nothing but zeros follows. What is left of the present
    /// entry's content is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TreeError> {
        self.skip_content()?;
        let mut extended = Extended::default();
        let mut has_extended = false;
        loop {
            let Some(header) = Header::read(self.block()?)? else {
                if has_extended {
                    return Err(damaged("it ends after an extended header"));
                }
                self.ensure_end()?;
                return Ok(None);
            };
            match header.kind() {
                b'x' => extended.take_records(&self.extended_data(&header)?)?,
                b'L' => extended.name = Some(long_name(self.extended_data(&header)?)),
                b'K' => extended.link = Some(long_name(self.extended_data(&header)?)),
                _ => return self.entry(&header, extended).map(Some),
            }
            has_extended = true;
        }
    }

    /// Reads content of the present entry: data only, without the holes of a sparse file. 0 at its end.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, TreeError> {
        let wanted = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = loop {
            match self.input.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(TreeError::Stream)?,
            }
        };
        if read == 0 {
            return Err(damaged("it was cut in the middle of a file"));
        }
        self.remaining -= read as u64;
        Ok(read)
    }

    /// Fills `buffer` with content of the present entry.
    pub fn read_content_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), TreeError> {
        while !buffer.is_empty() {
            match self.read_content(buffer)? {
                0 => return Err(damaged("a file is shorter than stated")),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    /// The bytes of content that the present entry still has.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn skip_content(&mut self) -> Result<(), TreeError> {
        let mut left = self.remaining + self.padding;
        let mut buffer = [0; 32 * BLOCK];
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.exact(&mut buffer[..wanted])?;
            left -= wanted as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TreeError> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(block)
    }

    fn exact(&mut self, mut buffer: &mut [u8]) -> Result<(), TreeError> {
        while !buffer.is_empty() {
            match self.input.read(buffer) {
                Ok(0) => return Err(damaged("it was cut: its end marker is missing")),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TreeError::Stream(error)),
            }
        }
        Ok(())
    }

    /// The second block of zeros, and nothing but zeros after it.
    fn ensure_end(&mut self) -> Result<(), TreeError> {
        if self.block()? != [0; BLOCK] {
            return Err(damaged("its end marker is incomplete"));
        }
        let mut buffer = [0; 32 * BLOCK];
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|byte| *byte == 0) => {}
                Ok(_) => return Err(damaged("something follows its end marker")),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TreeError::Stream(error)),
            }
        }
    }

    fn extended_data(&mut self, header: &Header) -> Result<Vec<u8>, TreeError> {
        let size = header.size()?;
        if size > MAX_EXTENDED {
            return Err(damaged("an extended header is larger than 16 MiB"));
        }
        let mut data = vec![0; size as usize];
        self.exact(&mut data)?;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        self.skip_content()?;
        Ok(data)
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> Result<Entry, TreeError> {
        let stored = match extended.size {
            Some(size) => size,
            None => header.size()?,
        };
        if stored > u64::MAX / 2 {
            return Err(damaged("a size is far too large"));
        }
        let is_file = matches!(header.kind(), b'0' | b'\0' | b'7' | b'S');
        if stored > 0 && !is_file {
            return Err(damaged("an entry that is not a file has content"));
        }
        self.remaining = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;

        let (name, kind) = if header.kind() == b'S' {
            let kind = self.old_sparse(header, stored)?;
            (extended.name_or(header), kind)
        } else if extended.sparse.is_present() {
            self.new_sparse(header, &extended)?
        } else {
            (extended.name_or(header), kind(header, &extended, stored)?)
        };
        if name.last() == Some(&b'/') && !kind.is_directory() {
            return Err(damaged("a file has the name of a directory"));
        }
        let path = TreePath::parse(&name).map_err(|error| TreeError::Hostile(error.to_string()))?;
        if path.depth() > MAX_DEPTH {
            return Err(TreeError::Hostile(format!(
                "{path} is more than {MAX_DEPTH} levels deep"
            )));
        }
        Ok(Entry {
            path,
            metadata: extended.metadata(header)?,
            kind,
        })
    }

    fn old_sparse(&mut self, header: &Header, stored: u64) -> Result<Kind, TreeError> {
        let (mut extents, size, mut more) = sparse::read_old_header(header)?;
        while more {
            let (further, even_more) = sparse::read_old_block(&self.block()?)?;
            if further.is_empty() && even_more {
                return Err(damaged("a sparse file's map is malformed"));
            }
            extents.extend(further);
            more = even_more && extents.len() <= 1 << 20;
        }
        Ok(Kind::File {
            size,
            extents: Some(sparse::ensure_sound(extents, size, stored)?),
        })
    }

    /// Format 1.0: the map stands before the content. Older pax formats are not read.
    fn new_sparse(
        &mut self,
        header: &Header,
        extended: &Extended,
    ) -> Result<(Vec<u8>, Kind), TreeError> {
        let sparse = &extended.sparse;
        let is_known = sparse.major.as_deref() == Some(b"1")
            && sparse.minor.as_deref() == Some(b"0")
            && matches!(header.kind(), b'0' | b'\0');
        let (true, Some(name), Some(size)) = (is_known, &sparse.name, sparse.real_size) else {
            return Err(damaged("it holds a sparse file of an unknown format"));
        };
        let mut reader = sparse::MapReader::default();
        let extents: Vec<Extent> = loop {
            let mut block = [0; BLOCK];
            self.read_content_exact(&mut block)?;
            if let Some(extents) = reader.take(&block)? {
                break extents;
            }
        };
        let extents = sparse::ensure_sound(extents, size, self.remaining)?;
        let kind = Kind::File {
            size,
            extents: Some(extents),
        };
        Ok((name.clone(), kind))
    }
}

fn long_name(mut data: Vec<u8>) -> Vec<u8> {
    if data.last() == Some(&0) {
        data.pop();
    }
    data
}

fn kind(header: &Header, extended: &Extended, stored: u64) -> Result<Kind, TreeError> {
    let link = || {
        extended
            .link
            .clone()
            .unwrap_or_else(|| header.link().to_vec())
    };
    let device = || -> Result<(u32, u32), TreeError> {
        let (major, minor) = header.device()?;
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) => Ok((major, minor)),
            _ => Err(damaged("a device number is too large")),
        }
    };
    Ok(match header.kind() {
        b'0' | b'\0' | b'7' => Kind::File {
            size: stored,
            extents: None,
        },
        b'1' => Kind::HardLink {
            to: TreePath::parse(&link()).map_err(|error| TreeError::Hostile(error.to_string()))?,
        },
        b'2' => match link() {
            target if target.is_empty() || target.contains(&0) => {
                return Err(damaged("a symbolic link has no proper target"));
            }
            target => Kind::Symlink { target },
        },
        b'3' => {
            let (major, minor) = device()?;
            Kind::CharacterDevice { major, minor }
        }
        b'4' => {
            let (major, minor) = device()?;
            Kind::BlockDevice { major, minor }
        }
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            return Err(damaged(format!(
                "it holds an entry of type `{}`, which is not understood",
                other.escape_ascii()
            )));
        }
    })
}

impl Sparse {
    fn is_present(&self) -> bool {
        self.major.is_some() || self.real_size.is_some() || self.name.is_some()
    }
}

impl Extended {
    fn name_or(&self, header: &Header) -> Vec<u8> {
        self.name.clone().unwrap_or_else(|| header.name())
    }

    fn take_records(&mut self, data: &[u8]) -> Result<(), TreeError> {
        let malformed = || damaged("an extended header holds a malformed value");
        for (key, value) in pax::parse(data)? {
            let number = || pax::decimal::<u64>(value).ok_or_else(malformed);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => {
                    self.modified = Some(pax::time_from_text(value).ok_or_else(malformed)?);
                }
                b"GNU.sparse.major" => self.sparse.major = Some(value.to_vec()),
                b"GNU.sparse.minor" => self.sparse.minor = Some(value.to_vec()),
                b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
                b"GNU.sparse.realsize" => self.sparse.real_size = Some(number()?),
                b"SCHILY.acl.access" => self.acl_texts.push((ACCESS_ACL, value.to_vec())),
                b"SCHILY.acl.default" => self.acl_texts.push((DEFAULT_ACL, value.to_vec())),
                other if other.starts_with(b"GNU.sparse.") => {
                    return Err(damaged("it holds a sparse file of an unknown format"));
                }
                other => self.take_attribute(other, value),
            }
        }
        Ok(())
    }

    /// Keys that are none of a tree's business (access times, comments) are left out.
    fn take_attribute(&mut self, key: &[u8], value: &[u8]) {
        let Some(name) = key.strip_prefix(pax::ATTRIBUTE) else {
            return;
        };
        let name = pax::attribute_name(name);
        if Attribute::is_saved(&name) && !name.contains(&0) {
            self.attributes.retain(|known| known.name != name);
            self.attributes.push(Attribute {
                name,
                value: value.to_vec(),
            });
        }
    }

    fn metadata(mut self, header: &Header) -> Result<Metadata, TreeError> {
        let owner = |id: u64| {
            u32::try_from(id).map_err(|_| damaged("an owner's number is larger than 32 bits"))
        };
        for (name, text) in std::mem::take(&mut self.acl_texts) {
            if self.attributes.iter().any(|known| known.name == name) {
                continue;
            }
            let value = std::str::from_utf8(&text)
                .ok()
                .and_then(acl::from_text)
                .ok_or_else(|| damaged("an ACL is malformed, or names users by their names"))?;
            self.attributes.push(Attribute {
                name: name.to_vec(),
                value,
            });
        }
        self.attributes
            .sort_by(|left, right| left.name.cmp(&right.name));
        let modified = match self.modified {
            Some(modified) => modified,
            None => Time {
                seconds: header.modified()?,
                nanoseconds: 0,
            },
        };
        Ok(Metadata {
            mode: (header.mode()? & 0o7777) as u32,
            uid: owner(self.uid.map_or_else(|| header.uid(), Ok)?)?,
            gid: owner(self.gid.map_or_else(|| header.gid(), Ok)?)?,
            modified,
            attributes: self.attributes,
        })
    }
}

#[cfg(test)]
mod tests;
