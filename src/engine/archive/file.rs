//! One regular file as an archive of one entry.
//!
//! Reading accepts what the engine writes: a header, before it PAX or GNU records for long names and large sizes, the
//! content, padding, and the end marker of two zero blocks. Anything less is damage, however the connection ended.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use tar::{EntryType, Header};
use tokio::io::AsyncReadExt;

use crate::engine::EngineError;
use crate::engine::body::{byte_stream, chunks_of};
use crate::pipe::ByteStream;

const BLOCK: usize = 512;
/// A name and an owner: a few hundred bytes. Also a bound for what a damaged header may claim.
const MAX_RECORDS: u64 = 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// A file to put into a container.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    /// One component, at most 100 bytes.
    pub name: &'a str,
    pub bytes: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
}

/// The size and the content of the one file in `archive`; `container` and `path` are for messages.
pub(super) async fn extract(
    mut archive: ByteStream,
    container: &str,
    path: &str,
) -> Result<(u64, ByteStream), EngineError> {
    let origin = Origin {
        container: container.to_owned(),
        path: path.to_owned(),
    };
    let (kind, size) = match read_entry(&mut archive).await {
        Ok(entry) => entry,
        Err(error) => return Err(origin.typed(error)),
    };
    let found = match kind {
        EntryType::Regular | EntryType::Continuous => None,
        EntryType::Directory => Some("a directory"),
        EntryType::Symlink => Some("a symbolic link"),
        _ => Some("a device, socket or pipe"),
    };
    if let Some(found) = found {
        return Err(EngineError::WrongKind {
            container: origin.container,
            path: origin.path,
            found,
            wanted: "a regular file",
        });
    }
    let content = Content {
        archive,
        left: size,
        size,
    };
    let chunks = stream::try_unfold((content, origin), |(mut content, origin)| async move {
        match content.next().await {
            Ok(chunk) => Ok(chunk.map(|chunk| (chunk, (content, origin)))),
            Err(error) => Err(io::Error::from(origin.typed(error))),
        }
    });
    Ok((size, byte_stream(chunks)))
}

/// Kind and size of the first entry; the archive then stands at its content.
async fn read_entry(archive: &mut ByteStream) -> io::Result<(EntryType, u64)> {
    let mut pax_size = None;
    loop {
        let mut header = Header::new_old();
        archive.read_exact(header.as_mut_bytes()).await?;
        ensure_checksum(&header)?;
        let kind = header.entry_type();
        let size = header.entry_size()?;
        let is_record = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink();
        if !is_record {
            return Ok((kind, pax_size.unwrap_or(size)));
        }
        let record = read_record(archive, size).await?;
        if kind.is_pax_local_extensions() {
            pax_size = size_of_pax(&record)?.or(pax_size);
        }
    }
}

async fn read_record(archive: &mut ByteStream, size: u64) -> io::Result<Vec<u8>> {
    if size > MAX_RECORDS {
        return Err(io::Error::other(format!("it has a record of {size} bytes")));
    }
    let mut record = Vec::new();
    archive
        .take(size + padding(size) as u64)
        .read_to_end(&mut record)
        .await?;
    if record.len() as u64 != size + padding(size) as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    record.truncate(record.len() - padding(size));
    Ok(record)
}

fn size_of_pax(record: &[u8]) -> io::Result<Option<u64>> {
    for extension in tar::PaxExtensions::new(record) {
        let extension = extension?;
        if extension.key_bytes() == b"size" {
            let text = extension.value().map_err(io::Error::other)?;
            return text.parse().map(Some).map_err(io::Error::other);
        }
    }
    Ok(None)
}

fn ensure_checksum(header: &Header) -> io::Result<()> {
    let mut blank = header.clone();
    blank.set_cksum();
    if blank.cksum()? == header.cksum()? {
        Ok(())
    } else {
        Err(io::Error::other("a header's checksum does not match"))
    }
}

/// How many zero bytes follow content of `size` bytes.
fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

struct Content {
    archive: ByteStream,
    left: u64,
    size: u64,
}

impl Content {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return self.ensure_end().await.map(|()| None);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = (&mut self.archive)
            .take(self.left)
            .read_buf(&mut chunk)
            .await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(Some(chunk.freeze()))
    }

    /// Padding and end marker, and nothing after them but zeros.
    async fn ensure_end(&mut self) -> io::Result<()> {
        let mut block = vec![0; padding(self.size) + 2 * BLOCK];
        self.archive.read_exact(&mut block).await?;
        loop {
            if block.iter().any(|&byte| byte != 0) {
                return Err(io::Error::other("it holds more than one file"));
            }
            block.resize(BLOCK, 0);
            let read = self.archive.read(&mut block).await?;
            if read == 0 {
                return Ok(());
            }
            block.truncate(read);
        }
    }
}

/// Where an archive comes from.
struct Origin {
    container: String,
    path: String,
}

impl Origin {
    /// An error of the engine stays what it is; anything else is damage.
    fn typed(&self, error: io::Error) -> EngineError {
        let message = match error.downcast::<EngineError>() {
            Ok(typed) => return typed,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it ends before its end marker".to_owned()
            }
            Err(error) => error.to_string(),
        };
        EngineError::DamagedArchive {
            container: self.container.clone(),
            path: self.path.clone(),
            message,
        }
    }
}

/// The archive of one new file. It fails when `content` is not as long as `file` says.
pub(in crate::engine) fn archive_of(
    file: &NewFile<'_>,
    content: ByteStream,
) -> Result<ByteStream, EngineError> {
    let header = header_of(file).map_err(|source| EngineError::Source {
        receiver: format!("a new file {:?}", file.name),
        source,
    })?;
    let head = Bytes::copy_from_slice(header.as_bytes());
    let tail = Bytes::from(vec![0; padding(file.bytes) + 2 * BLOCK]);
    let chunks = stream::iter([Ok(head)])
        .chain(of_length(content, file.bytes))
        .chain(stream::iter([Ok(tail)]));
    Ok(byte_stream(chunks))
}

fn header_of(file: &NewFile<'_>) -> io::Result<Header> {
    let is_component = !matches!(file.name, "" | "." | "..") && !file.name.contains(['/', '\0']);
    if !is_component || file.name.len() > 100 {
        let message = "its name must be one path component of at most 100 bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut header = Header::new_gnu();
    header.set_path(file.name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(file.bytes);
    header.set_mode(file.mode);
    header.set_uid(file.uid);
    header.set_gid(file.gid);
    header.set_mtime(now.map_or(0, |since| since.as_secs()));
    header.set_cksum();
    Ok(header)
}

/// `content`, failing when it is shorter or longer than `bytes`.
fn of_length(
    content: ByteStream,
    bytes: u64,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(
        (chunks_of(content), bytes),
        move |(mut chunks, left)| async move {
            let wrong = |found: &str| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("it is {found} than the {bytes} bytes that were announced"),
                )
            };
            match chunks.try_next().await? {
                None if left > 0 => Err(wrong("shorter")),
                None => Ok(None),
                Some(chunk) => match left.checked_sub(chunk.len() as u64) {
                    Some(left) => Ok(Some((chunk, (chunks, left)))),
                    None => Err(wrong("longer")),
                },
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn owned(bytes: Vec<u8>) -> ByteStream {
        Box::pin(io::Cursor::new(bytes))
    }

    fn file(bytes: u64) -> NewFile<'static> {
        NewFile {
            name: "dump",
            bytes,
            mode: 0o600,
            uid: 999,
            gid: 70,
        }
    }

    fn packed(content: &[u8]) -> Vec<u8> {
        run(async {
            let mut archive =
                archive_of(&file(content.len() as u64), owned(content.to_vec())).unwrap();
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).await.unwrap();
            bytes
        })
    }

    fn unpacked(archive: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        run(async {
            let (size, mut content) = extract(owned(archive), "db", "/dump").await?;
            let mut bytes = Vec::new();
            match content.read_to_end(&mut bytes).await {
                Ok(_) => assert_eq!(bytes.len() as u64, size),
                Err(error) => return Err(error.downcast::<EngineError>().unwrap()),
            }
            Ok(bytes)
        })
    }

    proptest! {
        #[test]
        fn a_file_survives_its_archive(content in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(unpacked(packed(&content)).unwrap(), content);
        }

        #[test]
        fn an_archive_that_is_cut_anywhere_is_damaged(length in 0_usize..1500, cut in 0_usize..4000) {
            let mut archive = packed(&vec![b'x'; length]);
            archive.truncate(cut.min(archive.len() - 1));
            let is_damaged = matches!(unpacked(archive), Err(EngineError::DamagedArchive { .. }));
            prop_assert!(is_damaged);
        }
    }

    #[test]
    fn the_archive_is_one_that_others_read() {
        let bytes = packed(b"content");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        let header = entry.header();
        assert_eq!(header.mode().unwrap(), 0o600);
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (999, 70));
        assert_eq!(entry.path().unwrap().to_str(), Some("dump"));
        let mut content = String::new();
        io::Read::read_to_string(&mut entry, &mut content).unwrap();
        assert_eq!(content, "content");
        assert!(entries.next().is_none());
    }

    #[test]
    fn content_of_another_length_fails() {
        for (announced, content, expected) in [
            (5, "four", "shorter"),
            (3, "four", "longer"),
            (0, "x", "longer"),
        ] {
            let mut archive = archive_of(&file(announced), owned(content.into())).unwrap();
            let error = run(archive.read_to_end(&mut Vec::new())).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\0b",
            &"n".repeat(101),
        ] {
            let file = NewFile { name, ..file(0) };
            assert!(archive_of(&file, owned(Vec::new())).is_err(), "{name:?}");
        }
    }

    #[test]
    fn sizes_past_the_header_come_from_pax() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "n".repeat(300);
        builder
            .append_pax_extensions([("mtime", &b"1.5"[..]), ("size", b"9")])
            .unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        builder
            .append_data(&mut header, long, &b"nine byte"[..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        assert_eq!(unpacked(archive).unwrap(), b"nine byte");
    }

    #[test]
    fn what_is_not_one_file_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut directory = Header::new_gnu();
        directory.set_entry_type(EntryType::Directory);
        directory.set_size(0);
        builder
            .append_data(&mut directory, "d", io::empty())
            .unwrap();
        let error = unpacked(builder.into_inner().unwrap()).unwrap_err();
        assert!(
            matches!(
                error,
                EngineError::WrongKind {
                    found: "a directory",
                    ..
                }
            ),
            "{error:?}"
        );

        let mut two = packed(b"one");
        two.truncate(2 * BLOCK);
        two.extend(packed(b"two"));
        assert!(unpacked(two).is_err());

        let mut flipped = packed(b"content");
        flipped[130] ^= 1;
        assert!(unpacked(flipped).is_err());
    }
}
