//! Shows an agent that cofferdam is there: input that never ends by itself, and says something from time to time.
//!
//! When this process dies, or drops the future that waits for the agent, the connection ends, and with it the agent's
//! input: see [`crate::agent::client`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Interval, interval};

use crate::agent::client::SIGN_OF_LIFE;
use crate::pipe::ByteStream;

struct Lifeline(Interval);

/// The first sign comes at once: it tells the agent that its input is carried.
pub fn lifeline() -> ByteStream {
    Box::pin(Lifeline(interval(SIGN_OF_LIFE)))
}

impl AsyncRead for Lifeline {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 {
            ready!(self.0.poll_tick(context));
            buffer.put_slice(b"\n");
        }
        Poll::Ready(Ok(()))
    }
}
