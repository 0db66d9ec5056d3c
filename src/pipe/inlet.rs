//! A byte stream that is fed from elsewhere, and ends well only when its feeder says so.
//!
//! For producers that fill several streams at a time, or that are not streams themselves. All of them must be read at
//! the same time: one that is full holds its feeder up.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::io::StreamReader;

use super::ByteStream;

/// Pieces that wait to be read.
const DEPTH: usize = 4;

enum Piece {
    Data(Bytes),
    End,
    Short,
}

/// Feeds a stream. Dropping it without [`Inlet::end`] makes the stream end in an error.
pub struct Inlet {
    sender: Sender<Piece>,
    bytes: u64,
    what: &'static str,
}

/// `what` names the producer in errors.
pub fn inlet(what: &'static str) -> (Inlet, ByteStream) {
    let (sender, receiver) = channel(DEPTH);
    let pieces = stream::unfold(Some(receiver), move |receiver| next(receiver, what));
    let inlet = Inlet {
        sender,
        bytes: 0,
        what,
    };
    (inlet, Box::pin(StreamReader::new(Box::pin(pieces))))
}

async fn next(
    receiver: Option<Receiver<Piece>>,
    what: &'static str,
) -> Option<(io::Result<Bytes>, Option<Receiver<Piece>>)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Some(Piece::Data(data)) => Some((Ok(data), Some(receiver))),
        Some(Piece::End) => None,
        Some(Piece::Short) | None => {
            let error = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the stream of {what} was cut"),
            );
            Some((Err(error), None))
        }
    }
}

impl Inlet {
    /// Waits until there is room. When nobody reads any more, the data is gone: whoever dropped the stream knows why.
    pub async fn send(&mut self, data: Bytes) {
        self.bytes += data.len() as u64;
        if !data.is_empty() {
            let _ = self.sender.send(Piece::Data(data)).await;
        }
    }

    /// Ends the stream, well only when so many bytes have passed as its producer says that it sent.
    pub async fn end(self, expected: u64) {
        let _ = self.sender.send(self.last(expected)).await;
    }

    /// For a thread: [`Inlet::end`].
    pub fn end_blocking(self, expected: u64) {
        let _ = self.sender.blocking_send(self.last(expected));
    }

    fn last(&self, expected: u64) -> Piece {
        if self.bytes == expected {
            Piece::End
        } else {
            Piece::Short
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// For a thread, best within a [`io::BufWriter`]. A stream that nobody reads any more is an error.
impl io::Write for Inlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            let data = Piece::Data(Bytes::copy_from_slice(bytes));
            self.sender.blocking_send(data).map_err(|_| {
                let message = format!("nothing reads the stream of {}", self.what);
                io::Error::new(io::ErrorKind::BrokenPipe, message)
            })?;
            self.bytes += bytes.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(end: impl AsyncFnOnce(Inlet)) -> io::Result<Vec<u8>> {
        let (mut inlet, mut stream) = inlet("a test");
        let feeding = async {
            inlet.send(Bytes::from_static(b"abc")).await;
            inlet.send(Bytes::new()).await;
            inlet.send(Bytes::from_static(b"de")).await;
            end(inlet).await;
        };
        let mut read = Vec::new();
        let (_, outcome) = tokio::join!(feeding, stream.read_to_end(&mut read));
        outcome.map(|_| read)
    }

    #[tokio::test]
    async fn only_a_declared_end_of_the_right_length_is_one() {
        assert_eq!(
            read(async |inlet| inlet.end(5).await).await.unwrap(),
            b"abcde"
        );
        for error in [
            read(async |inlet| inlet.end(6).await).await.unwrap_err(),
            read(async |inlet| inlet.end(4).await).await.unwrap_err(),
            read(async |inlet| drop(inlet)).await.unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "the stream of a test was cut");
        }
    }
}
