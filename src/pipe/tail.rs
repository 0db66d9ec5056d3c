//! Remembers how a stream ended: many formats say in their last line that they are whole.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// How much is remembered, in bytes.
const KEPT: usize = 1024;

/// Passes bytes on, and keeps the last of them.
pub struct Tail<T> {
    inner: T,
    kept: TailHandle,
}

/// Tells the last bytes that have passed.
#[derive(Clone, Default)]
pub struct TailHandle(Arc<Mutex<Vec<u8>>>);

impl<T> Tail<T> {
    pub fn new(inner: T) -> (Self, TailHandle) {
        let kept = TailHandle::default();
        let tail = Self {
            inner,
            kept: kept.clone(),
        };
        (tail, kept)
    }
}

impl TailHandle {
    pub fn get(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn passed(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = &bytes[bytes.len().saturating_sub(KEPT)..];
        let surplus = (kept.len() + new.len()).saturating_sub(KEPT);
        kept.drain(..surplus);
        kept.extend_from_slice(new);
    }
}

impl<T: Read> Read for Tail<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.kept.passed(&buffer[..length]);
        Ok(length)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tail<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.kept.passed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_however_they_came() {
        let content: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
        for piece in [1, 7, 1023, 1024, 1025, 5000] {
            let (mut tail, kept) = Tail::new(content.as_slice());
            let mut buffer = vec![0; piece];
            while tail.read(&mut buffer).unwrap() > 0 {}
            assert_eq!(kept.get(), content[content.len() - KEPT..], "{piece}");
        }
        let (mut short, kept) = Tail::new(&b"end"[..]);
        io::copy(&mut short, &mut io::sink()).unwrap();
        assert_eq!(kept.get(), b"end");
    }
}
