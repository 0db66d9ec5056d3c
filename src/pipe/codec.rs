//! Compression as synchronous code, for the agent and for the stages of [`super::compress`].
//!
//! Every frame of Zstandard carries a checksum. What is read back has to be whole frames and
//! nothing else.

use std::io::{self, BufRead, Read, Write};
use std::num::NonZero;
use std::thread::available_parallelism;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use zstd::stream::{raw::CParameter, read, write, zio};

use super::digest::Digesting;
use crate::manifest::{Compression, StreamDigest};

/// How much is read, written and handed on at once, in bytes.
pub const CHUNK: usize = 128 * 1024;

/// What a worker of zstd compresses at a time, in bytes: larger jobs leave the cache, and take more of the container's
/// memory.
pub(super) const ZSTD_JOB: u32 = 2 * 1024 * 1024;
/// How much of the job before is looked at again for matches, in zstd's own steps: nothing. It would cost a tenth of the
/// work of such short jobs, and save two bytes in a thousand.
const ZSTD_OVERLAP: u32 = 1;
/// Each takes 17 MiB. Beyond so many SHA-256 is the slowest stage.
const MOST_WORKERS: usize = 8;

/// The largest window that level 19 uses, as a power of two. A stream that asks for more is not ours, and would take
/// that much memory to read.
pub(super) const LARGEST_ZSTD_WINDOW: u32 = 23;

/// Compresses what is written to it. [`Compressor::finish`] must be called, or the end is missing.
pub struct Compressor<W: Write>(Encoder<W>);

enum Encoder<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Zstandard compresses on all cores; gzip has no use for more than the one that it is called on.
    pub fn new(writer: W, compression: Compression) -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Ok(Self(match compression {
            Compression::None => Encoder::None(writer),
            Compression::Gzip(level) => Encoder::Gzip(GzEncoder::new(
                writer,
                flate2::Compression::new(level.into()),
            )),
            Compression::Zstd(level) => {
                let mut encoder = zstd::stream::raw::Encoder::new(level.into())?;
                for parameter in [
                    CParameter::ChecksumFlag(true),
                    CParameter::NbWorkers(cores.clamp(1, MOST_WORKERS) as u32),
                    CParameter::JobSize(ZSTD_JOB),
                    CParameter::OverlapSizeLog(ZSTD_OVERLAP),
                ] {
                    encoder.set_parameter(parameter)?;
                }
                let writer = zio::Writer::new_with_capacity(writer, encoder, CHUNK);
                Encoder::Zstd(write::Encoder::with_writer(writer))
            }
        }))
    }

    /// Writes the end, and flushes.
    pub fn finish(self) -> io::Result<W> {
        let mut writer = match self.0 {
            Encoder::None(writer) => writer,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        writer.flush()?;
        Ok(writer)
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoder::None(writer) => writer.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Encoder::None(writer) => writer.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Decompresses `stored`, which may be several frames (or gzip members) after one another.
///
/// Its end is an error when a frame is cut or has a bad checksum, when there is none, or when anything else follows.
/// Data may have been given out before the error is met.
pub fn decompressor<'a>(
    mut stored: impl BufRead + Send + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    if compression == Compression::None {
        return Ok(Box::new(stored));
    }
    // Both decoders take an empty stream for zero frames and call it a good end; but it is a stream that was cut.
    if stored.fill_buf()?.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the compressed stream is empty",
        ));
    }
    Ok(match compression {
        Compression::None => Box::new(stored),
        Compression::Gzip(_) => Box::new(MultiGzDecoder::new(stored)),
        Compression::Zstd(_) => {
            let mut decoder = read::Decoder::with_buffer(stored)?;
            decoder.window_log_max(LARGEST_ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// What [`compress`] has read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    pub plain: StreamDigest,
    pub stored: StreamDigest,
}

/// Reads `plain` to its end and writes it compressed to `stored`, which is flushed but not synced.
pub fn compress(
    plain: impl Read,
    stored: impl Write,
    compression: Compression,
) -> io::Result<Compressed> {
    let (mut plain, _) = Digesting::new(plain);
    let (stored, _) = Digesting::new(stored);
    let mut compressor = Compressor::new(stored, compression)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        compressor.write_all(&buffer[..length])?;
    }
    let (_, stored) = compressor.finish()?.finish();
    let (_, plain) = plain.finish();
    Ok(Compressed { plain, stored })
}
