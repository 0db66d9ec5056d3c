//! Byte streams on their way between a container and a repository: digest, compress, encrypt, and back; count.
//!
//! Everything here has bounded buffers: memory does not grow with the data. A stage that takes the processor's time runs
//! on a task ([`ahead`]) or a thread ([`transform`]) of its own, so that reading, hashing, compressing and writing overlap.
//! Dropping a stream ends all of its stages.
//!
//! The agent has no runtime: it does the same with synchronous code ([`codec`]). Either side reads what the other wrote.

mod append;
pub(crate) mod archive;
mod bridge;
pub mod codec;
mod count;
mod digest;
mod encrypt;
mod exact;
mod inlet;
pub mod keys;
mod patch;
mod pool;
mod tail;
mod verified;

use std::pin::Pin;

use async_compression::Level;
use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder};
use async_compression::zstd::{CParameter, DParameter};
use tokio::io::{AsyncRead, BufReader};

pub use append::Appender;
pub use bridge::{SyncSource, ahead, consume, produce, transform};
pub use count::{Counting, Progress};
pub use digest::{DigestHandle, Digester, Digesting};
pub use encrypt::{decrypt, encrypt, reencrypt};
pub use exact::exactly;
pub use inlet::{Inlet, inlet};
pub use patch::Patch;
pub use pool::{Buffer, Pool};
pub use tail::Tail;
pub use verified::Verified;

use crate::manifest::{Compression, StreamDigest};

/// A stream of bytes whose end is true: it reaches end of file only when its producer has confirmed that this was all,
/// and yields an error otherwise.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// What is compressed here and not by an agent comes over the engine's API, which is no faster than two workers are, and
/// several streams have to fit into 64 MiB of memory.
const WORKERS: u32 = 2;

/// Compresses `plain`. The handle tells length and digest of the plain stream once the returned one has reached its end.
pub fn compress(plain: ByteStream, compression: Compression) -> (ByteStream, DigestHandle) {
    let (plain, digest) = Digesting::new(plain);
    let buffered = BufReader::with_capacity(codec::CHUNK, plain);
    let stored: ByteStream = match compression {
        Compression::None => return (Box::pin(buffered.into_inner()), digest),
        Compression::Gzip(level) => Box::pin(GzipEncoder::with_quality(
            buffered,
            Level::Precise(level.into()),
        )),
        Compression::Zstd(level) => Box::pin(ZstdEncoder::with_quality_and_params(
            buffered,
            Level::Precise(level.into()),
            &[
                CParameter::checksum_flag(true),
                CParameter::nb_workers(WORKERS),
                CParameter::job_size(codec::ZSTD_JOB),
            ],
        )),
    };
    (ahead(stored), digest)
}

/// Undoes [`compress`]. A stream that is cut, damaged, or followed by anything else ends in an error.
pub fn decompress(stored: ByteStream, compression: Compression) -> ByteStream {
    let buffered = BufReader::with_capacity(codec::CHUNK, stored);
    ahead(match compression {
        Compression::None => return buffered.into_inner(),
        Compression::Gzip(_) => {
            let mut decoder = GzipDecoder::new(buffered);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        Compression::Zstd(_) => {
            let window = DParameter::window_log_max(codec::LARGEST_ZSTD_WINDOW);
            let mut decoder = ZstdDecoder::with_params(buffered, &[window]);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
    })
}

/// Passes `stream` on, and lets it end only when its length and digest are the expected ones.
///
/// More bytes than expected are an error as soon as they arrive. All errors are of the kind
/// [`std::io::ErrorKind::InvalidData`] and begin with `what`.
pub fn verified(stream: ByteStream, expected: StreamDigest, what: impl Into<String>) -> ByteStream {
    Box::pin(Verified::new(stream, expected, what))
}

#[cfg(test)]
mod tests;
