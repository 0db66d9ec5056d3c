//! Shows the beginning of a stream to somebody else while it passes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::io::StreamReader;
use tokio_util::sync::PollSender;

use crate::pipe::ByteStream;

/// Pieces that wait for the onlooker.
const DEPTH: usize = 4;

struct Tee {
    inner: ByteStream,
    /// Gone when the onlooker has seen enough.
    onlooker: Option<PollSender<Bytes>>,
    unseen: Option<Bytes>,
}

/// The stream, and a copy of it that ends when it does. The copy may be dropped at any time; until then it has to be read,
/// or the stream waits. Its end says nothing about how the stream ended.
pub fn tee(inner: ByteStream) -> (ByteStream, ByteStream) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let tee = Tee {
        inner,
        onlooker: Some(PollSender::new(sender)),
        unseen: None,
    };
    (Box::pin(tee), received(receiver))
}

fn received(receiver: Receiver<Bytes>) -> ByteStream {
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, io::Error>(chunk), receiver))
    });
    Box::pin(StreamReader::new(Box::pin(chunks)))
}

impl Tee {
    fn poll_show(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let (Some(sender), Some(_)) = (&mut self.onlooker, &self.unseen) {
            let shown = match ready!(sender.poll_reserve(context)) {
                Ok(()) => self.unseen.take().map(|piece| sender.send_item(piece)),
                Err(closed) => Some(Err(closed)),
            };
            if !matches!(shown, Some(Ok(()))) {
                self.onlooker = None;
            }
        }
        self.unseen = None;
        Poll::Ready(())
    }
}

impl AsyncRead for Tee {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_show(context));
        let before = buffer.filled().len();
        ready!(self.inner.as_mut().poll_read(context, buffer))?;
        let passed = &buffer.filled()[before..];
        if passed.is_empty() {
            self.onlooker = None;
        } else if self.onlooker.is_some() {
            self.unseen = Some(Bytes::copy_from_slice(passed));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn content() -> (Vec<u8>, ByteStream) {
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        (bytes.clone(), Box::pin(io::Cursor::new(bytes)))
    }

    #[tokio::test]
    async fn both_see_everything() {
        let (bytes, stream) = content();
        let (mut stream, mut copy) = tee(stream);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let read = tokio::join!(stream.read_to_end(&mut one), copy.read_to_end(&mut other));
        assert!(read.0.is_ok() && read.1.is_ok());
        assert!(one == bytes && other == bytes);
    }

    #[tokio::test]
    async fn an_onlooker_who_leaves_holds_nothing_up() {
        let (bytes, stream) = content();
        let (mut stream, mut copy) = tee(stream);
        let mut seen = Vec::new();
        let look = async {
            let mut few = [0; 10];
            copy.read_exact(&mut few).await.unwrap();
            drop(copy);
            few
        };
        let (read, few) = tokio::join!(stream.read_to_end(&mut seen), look);
        assert!(read.is_ok() && seen == bytes);
        assert_eq!(few, bytes[..10]);
    }

    #[tokio::test]
    async fn an_error_stays_an_error() {
        let failing = futures_util::stream::iter([
            Ok(Bytes::from_static(b"begun")),
            Err(io::Error::other("cut")),
        ]);
        let (mut stream, mut copy) = tee(Box::pin(StreamReader::new(failing)));
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let failing = async {
            let read = stream.read_to_end(&mut one).await;
            drop(stream);
            read
        };
        let read = tokio::join!(failing, copy.read_to_end(&mut other));
        assert_eq!(read.0.unwrap_err().to_string(), "cut");
        assert_eq!(other, b"begun");
    }
}
