//! Lets a stream end only when it was the expected one.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::digest::Digester;
use crate::manifest::StreamDigest;

/// Reads from `inner`; its end is an error unless length and digest are the expected ones.
///
/// Works on synchronous and on asynchronous readers.
pub struct Verified<T> {
    inner: T,
    expected: StreamDigest,
    what: String,
    state: State,
}

enum State {
    Reading(Digester),
    Good,
    Bad(String),
}

impl<T> Verified<T> {
    /// `what` names the stream in errors.
    pub fn new(inner: T, expected: StreamDigest, what: impl Into<String>) -> Self {
        Self {
            inner,
            expected,
            what: what.into(),
            state: State::Reading(Digester::default()),
        }
    }

    /// Takes note of bytes that were read, none at the end. An error stays: a reader that asks again gets it again.
    fn passed(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let State::Reading(digester) = &mut self.state {
            if bytes.is_empty() {
                let found = std::mem::take(digester).finish();
                self.state = self.judge(&found);
            } else {
                digester.update(bytes);
                if digester.bytes() > self.expected.bytes {
                    self.state = State::Bad(format!(
                        "{} is damaged: it is longer than the {} bytes that were recorded",
                        self.what, self.expected.bytes
                    ));
                }
            }
        }
        match &self.state {
            State::Bad(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why.clone())),
            State::Reading(_) | State::Good => Ok(()),
        }
    }

    fn judge(&self, found: &StreamDigest) -> State {
        let Self { expected, what, .. } = self;
        if found.bytes != expected.bytes {
            State::Bad(format!(
                "{what} is damaged: it ends after {} bytes, but {} were recorded",
                found.bytes, expected.bytes
            ))
        } else if found.sha256 != expected.sha256 {
            State::Bad(format!(
                "{what} is damaged: its SHA-256 is {}, but {} was recorded",
                found.sha256, expected.sha256
            ))
        } else {
            State::Good
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Verified<T> {
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
        let outcome = self.passed(&buffer.filled()[before..]);
        if outcome.is_err() {
            buffer.set_filled(before);
        }
        Poll::Ready(outcome)
    }
}

impl<T: Read> Read for Verified<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = self.inner.read(buffer)?;
        self.passed(&buffer[..length])?;
        Ok(length)
    }
}
