//! Byte streams on their way between a container and a repository: digest, compress, decompress, count.
//!
//! Everything here has bounded buffers: memory does not grow with the data.

use std::pin::Pin;

use tokio::io::AsyncRead;

/// A stream of bytes whose end is true: it reaches end of file only when its producer has confirmed that this was all,
/// and yields an error otherwise.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;
