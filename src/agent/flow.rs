//! Streams through a helper: each stage on a thread of its own, bounded queues between them.
//!
//! ```text
//! out: archive ─▶ digest, compress ─▶ frames      in: frames ─▶ decompress ─▶ archive
//!                                                                         └─▶ digest
//! ```

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use bytes::{Buf, Bytes};

use super::job::Failure;
use super::task::{ExpectedLayer, Streamed};
use super::wire::{FrameSender, FrameWriter, Kind, PIECE};
use crate::manifest::{Compression, StreamDigest};
use crate::pipe::codec::{self, Compressor};
use crate::pipe::{Buffer, Digester, Pool};

const QUEUE: usize = 8;

/// Takes an archive, and sends it compressed.
pub struct Outflow<'scope> {
    pool: Pool,
    filling: Buffer,
    pieces: SyncSender<Bytes>,
    compressing: ScopedJoinHandle<'scope, io::Result<Streamed>>,
}

impl<'scope> Outflow<'scope> {
    pub fn start(
        scope: &'scope Scope<'scope, '_>,
        frames: FrameSender,
        compression: Compression,
    ) -> Self {
        let (pieces, filled) = sync_channel::<Bytes>(QUEUE);
        let compressing = scope.spawn(move || {
            let mut compressor = Compressor::new(frames.writer(Kind::Data), compression)?;
            let mut plain = Digester::default();
            for piece in filled {
                // On the same thread: what compression is about to copy is in this core's cache then.
                plain.update(&piece);
                compressor.write_all(&piece)?;
            }
            Ok(Streamed {
                stored_bytes: FrameWriter::finish(compressor.finish()?)?,
                plain: plain.finish(),
            })
        });
        let pool = Pool::new(PIECE);
        Self {
            filling: pool.take(),
            pool,
            pieces,
            compressing,
        }
    }

    /// Waits until everything has been sent. To be called only when the archive is complete.
    pub fn finish(mut self) -> io::Result<Streamed> {
        self.flush()?;
        drop(self.pieces);
        self.compressing.join().map_err(|_| died())?
    }

    /// Why nothing can be written any more: the words of the thread that stopped.
    pub fn failure(self) -> io::Error {
        drop(self.pieces);
        match self.compressing.join() {
            Ok(Err(error)) => error,
            _ => died(),
        }
    }
}

impl Write for Outflow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.filling.put(bytes);
        if self.filling.is_full() {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.filling.is_empty() {
            let piece = std::mem::replace(&mut self.filling, self.pool.take()).freeze();
            self.pieces.send(piece).map_err(|_| died())?;
        }
        Ok(())
    }
}

/// Runs `take` on the plain content of a layer that arrives as pieces, and checks its digest.
///
/// `pieces` yields what was received; [`Piece::End`] is its only good end.
pub fn inflow<T>(
    pieces: Receiver<Piece>,
    layer: &ExpectedLayer,
    take: impl FnOnce(&mut dyn Read) -> Result<T, InflowError>,
) -> Result<T, InflowError> {
    std::thread::scope(|scope| {
        let (plain_sender, plain) = sync_channel(QUEUE);
        let (digest, digest_pieces) = sync_channel::<Bytes>(QUEUE);
        let digesting = scope.spawn(move || digest_all(&digest_pieces));
        let compression = layer.compression;
        scope.spawn(move || {
            let mut output = PieceSender {
                to: plain_sender,
                digest,
            };
            let last = match decompress(pieces, compression, &mut output) {
                Ok(()) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            // A taker that has failed already does not listen.
            let _ = output.to.send(last);
        });
        let mut source = PieceSource::new(plain);
        let taken = take(&mut source)?;
        source.read_to_end()?;
        let found = digesting.join().map_err(|_| died())?;
        if found != layer.plain {
            return Err(InflowError::Damaged(format!(
                "the layer is damaged: its SHA-256 is {} over {} bytes, but {} over {} was recorded",
                found.sha256, found.bytes, layer.plain.sha256, layer.plain.bytes
            )));
        }
        Ok(taken)
    })
}

#[derive(Debug, thiserror::Error)]
pub enum InflowError {
    #[error(transparent)]
    Stream(#[from] io::Error),
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    #[error("{0}")]
    Damaged(String),
}

impl From<InflowError> for Failure {
    fn from(error: InflowError) -> Self {
        match error {
            InflowError::Stream(error) => error.into(),
            InflowError::Tree(error) => error.into(),
            InflowError::Damaged(what) => Self::Damaged { what },
        }
    }
}

pub enum Piece {
    Data(Bytes),
    End,
    Failed(io::Error),
}

fn decompress(
    pieces: Receiver<Piece>,
    compression: Compression,
    output: &mut PieceSender,
) -> io::Result<()> {
    let mut plain = codec::decompressor(PieceSource::new(pieces), compression)?;
    let pool = Pool::new(PIECE);
    loop {
        let mut piece = pool.take();
        while !piece.is_full() {
            match plain.read(piece.room()) {
                Ok(0) => break,
                Ok(read) => piece.advance(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if piece.is_empty() {
            return Ok(());
        }
        output.send(piece.freeze())?;
    }
}

struct PieceSender {
    to: SyncSender<Piece>,
    digest: SyncSender<Bytes>,
}

impl PieceSender {
    fn send(&self, piece: Bytes) -> io::Result<()> {
        self.digest.send(piece.clone()).map_err(|_| died())?;
        self.to.send(Piece::Data(piece)).map_err(|_| died())
    }
}

struct PieceSource {
    pieces: Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl PieceSource {
    fn new(pieces: Receiver<Piece>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            ended: false,
        }
    }

    fn read_to_end(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl BufRead for PieceSource {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Data(piece)) => self.current = piece,
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => return Err(died()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for PieceSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

fn digest_all(pieces: &Receiver<Bytes>) -> StreamDigest {
    let mut digester = Digester::default();
    for piece in pieces {
        digester.update(&piece);
    }
    digester.finish()
}

fn died() -> io::Error {
    io::Error::other("another stage of the stream stopped")
}
