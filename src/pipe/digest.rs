//! Length and SHA-256 of whatever passes.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use crate::manifest::StreamDigest;

/// Adds up a [`StreamDigest`].
#[derive(Clone, Default)]
pub struct Digester {
    sha256: Sha256,
    bytes: u64,
}

impl Digester {
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(self) -> StreamDigest {
        let mut sha256 = String::with_capacity(64);
        for byte in self.sha256.finalize() {
            write!(sha256, "{byte:02x}").expect("a string takes everything");
        }
        StreamDigest {
            bytes: self.bytes,
            sha256,
        }
    }
}

/// Passes bytes on, read or written, and digests them on the way.
pub struct Digesting<T> {
    inner: T,
    digester: Digester,
    at_end: DigestHandle,
}

impl<T> Digesting<T> {
    pub fn new(inner: T) -> (Self, DigestHandle) {
        let at_end = DigestHandle::default();
        let digesting = Self {
            inner,
            digester: Digester::default(),
            at_end: at_end.clone(),
        };
        (digesting, at_end)
    }

    /// What has passed up to here, and what was wrapped.
    pub fn finish(self) -> (T, StreamDigest) {
        (self.inner, self.digester.finish())
    }

    fn passed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.at_end.0.get_or_init(|| self.digester.clone().finish());
        } else {
            self.digester.update(bytes);
        }
    }
}

/// Knows the digest of a stream that is read elsewhere, from the moment in which it reached its end.
#[derive(Clone, Debug, Default)]
pub struct DigestHandle(Arc<OnceLock<StreamDigest>>);

impl DigestHandle {
    /// `None` until the stream has been read to its end.
    pub fn get(&self) -> Option<StreamDigest> {
        self.0.get().cloned()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Digesting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.passed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = self.inner.read(buffer)?;
        self.passed(&buffer[..length]);
        Ok(length)
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.digester.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
