//! Tells how far a stream has come.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Is told of bytes as they pass. Cheap to clone; called from any thread, so it must be quick.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl Progress {
    pub fn new(tell: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Nobody listens.
    pub fn silent() -> Self {
        Self(None)
    }

    /// `bytes` more have passed.
    pub fn advance(&self, bytes: u64) {
        if let (Some(tell), 1..) = (&self.0, bytes) {
            tell(bytes);
        }
    }
}

/// Passes bytes on, read or written, and counts them.
pub struct Counting<T> {
    inner: T,
    progress: Progress,
}

impl<T> Counting<T> {
    pub fn new(inner: T, progress: Progress) -> Self {
        Self { inner, progress }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.progress
            .advance((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: Read> Read for Counting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}

impl<T: Write> Write for Counting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.progress.advance(length as u64);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
