//! A byte stream that is fed from elsewhere, and ends well only when its feeder says so.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};
use tokio_util::io::StreamReader;

use crate::pipe::ByteStream;

/// Pieces that wait to be read. Each is at most a frame.
const DEPTH: usize = 4;

enum Piece {
    Data(Bytes),
    End,
    Short,
}

pub struct Inlet {
    sender: Sender<Piece>,
    bytes: u64,
}

pub fn channel() -> (Inlet, ByteStream) {
    let (sender, receiver) = bounded(DEPTH);
    let pieces = stream::unfold(Some(receiver), |receiver: Option<Receiver<Piece>>| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Data(data)) => Some((Ok(data), Some(receiver))),
            Some(Piece::End) => None,
            Some(Piece::Short) => Some((Err(cut()), None)),
            None => Some((Err(cut()), None)),
        }
    });
    let inlet = Inlet { sender, bytes: 0 };
    (inlet, Box::pin(StreamReader::new(Box::pin(pieces))))
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the helper container's stream was cut",
    )
}

impl Inlet {
    /// Waits until there is room. When nobody reads any more, the data is gone: whoever dropped the stream has said why.
    pub async fn send(&mut self, data: Bytes) {
        self.bytes += data.len() as u64;
        if !data.is_empty() {
            let _ = self.sender.send(Piece::Data(data)).await;
        }
    }

    /// Ends the stream, well only when so many bytes have passed as its producer says that it sent.
    pub async fn end(&mut self, expected: u64) {
        let last = if self.bytes == expected {
            Piece::End
        } else {
            Piece::Short
        };
        let _ = self.sender.send(last).await;
    }
}
