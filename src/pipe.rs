//! Byte streams on their way between a container and a repository: digest, compress, decompress, count.
//!
//! Everything here has bounded buffers: memory does not grow with the data. A stage that takes the processor's time runs
//! on a thread of its own ([`transform`]), so that reading, hashing, compressing and writing overlap and the runtime's own
//! threads stay free for time-outs and signals. Dropping a stream ends all of its stages.
//!
//! The codecs themselves are synchronous ([`codec`]) and shared with the agent, which has no runtime.

mod bridge;
pub mod codec;
mod count;
mod digest;
mod inlet;
mod verified;

use std::pin::Pin;

use tokio::io::AsyncRead;

pub use bridge::{SyncSink, SyncSource, consume, produce, transform};
pub use count::{Counting, Progress};
pub use digest::{DigestHandle, Digester, Digesting};
pub use inlet::{Inlet, inlet};
pub use verified::Verified;

use crate::manifest::{Compression, StreamDigest};

/// A stream of bytes whose end is true: it reaches end of file only when its producer has confirmed that this was all,
/// and yields an error otherwise.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// What is compressed here and not by an agent comes over the engine's API, which is no faster than two workers are, and
/// several streams have to fit into 64 MiB of memory.
const WORKERS: usize = 2;

/// Compresses `plain`. The handle tells length and digest of the plain stream once the returned one has reached its end.
pub fn compress(plain: ByteStream, compression: Compression) -> (ByteStream, DigestHandle) {
    let (plain, digest) = Digesting::new(plain);
    let plain: ByteStream = Box::pin(plain);
    if compression == Compression::None {
        return (plain, digest);
    }
    let compressed = transform(plain, move |source, sink| {
        let mut compressor = codec::Compressor::with_workers(sink, compression, WORKERS)?;
        source.copy_to(&mut compressor)?;
        compressor.finish().map(drop)
    });
    (compressed, digest)
}

/// Undoes [`compress`]. A stream that is cut, damaged, or followed by anything else ends in an error.
pub fn decompress(stored: ByteStream, compression: Compression) -> ByteStream {
    if compression == Compression::None {
        return stored;
    }
    transform(stored, move |source, sink| {
        let mut plain = codec::decompressor(source, compression)?;
        sink.copy_from(&mut plain)
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
