//! A stream whose length was told before its first byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::io::StreamReader;

use super::ByteStream;

/// Reads `chunks`, which are to have `length` bytes together: fewer or more of them end in an error.
pub fn exactly(
    length: u64,
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> ByteStream {
    Box::pin(StreamReader::new(Exactly {
        chunks: Box::pin(chunks),
        left: length,
    }))
}

struct Exactly<S> {
    chunks: Pin<Box<S>>,
    left: u64,
}

impl<S: Stream<Item = io::Result<Bytes>>> Stream for Exactly<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(
            match std::task::ready!(self.chunks.as_mut().poll_next(context)) {
                None if self.left > 0 => Some(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ended {} bytes early", self.left),
                ))),
                Some(Ok(chunk)) => match self.left.checked_sub(chunk.len() as u64) {
                    Some(left) => {
                        self.left = left;
                        Some(Ok(chunk))
                    }
                    None => Some(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is longer than the server said",
                    ))),
                },
                other => other,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(length: u64, chunks: &[&'static str]) -> Result<String, io::ErrorKind> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        let mut text = String::new();
        let mut stream = exactly(length, futures_util::stream::iter(chunks));
        let read = stream.read_to_string(&mut text).await;
        read.map(|_| text).map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn only_the_told_length_is_whole() {
        assert_eq!(read(4, &["ro", "ws"]).await, Ok("rows".to_owned()));
        assert_eq!(read(0, &[]).await, Ok(String::new()));
        assert_eq!(read(5, &["rows"]).await, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(
            read(3, &["ro", "ws"]).await,
            Err(io::ErrorKind::InvalidData)
        );
    }
}
