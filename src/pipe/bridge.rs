//! Runs a stage of a pipe beside the others: synchronous code between two streams on a thread of its own, or a stream on
//! a task of its own.
//!
//! ```text
//!   ByteStream ─▶ SyncSource ─(thread)─▶ SyncSink ─▶ channel ─▶ ByteStream      transform; consume and produce: half of it
//!   ByteStream ─(task)─▶ channel ─▶ ByteStream                                  ahead
//! ```
//!
//! Each channel holds [`DEPTH`] chunks of [`CHUNK`] bytes, so a slow stage holds back the ones before it. Ends stay
//! true across the threads: a source ends well only when the stream before it did, and a stream that comes out ends well
//! only when the thread has returned `Ok`. Where nobody waits for a thread any more, it sees an error at its next read or
//! write.

use std::io::{self, BufRead, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::ByteStream;
use super::codec::CHUNK;
use super::pool::Pool;

/// How many chunks wait between two stages.
const DEPTH: usize = 4;

enum Piece {
    Chunk(Bytes),
    End,
    Failed(io::Error),
}

/// Runs `work` on a thread of its own with `input` as its source, and returns what it writes.
///
/// When `work` returns `Ok` before the source has ended, the rest is read and thrown away: the end of `input` counts.
pub fn transform<F>(input: ByteStream, work: F) -> ByteStream
where
    F: FnOnce(&mut SyncSource, &mut SyncSink) -> io::Result<()> + Send + 'static,
{
    let (mut source, guard) = SyncSource::new(input);
    spawn_worker(Some(guard), move |sink| {
        work(&mut source, sink)?;
        source.copy_to(&mut io::sink())
    })
}

/// Runs `work` on a thread of its own and returns what it writes.
pub fn produce<F>(work: F) -> ByteStream
where
    F: FnOnce(&mut SyncSink) -> io::Result<()> + Send + 'static,
{
    spawn_worker(None, work)
}

/// Runs `work` on a thread of its own with `input` as its source.
///
/// When the returned future is dropped, `work` sees an error at its next read, and what it returns is dropped.
/// Fails only when the thread has panicked or the runtime is shutting down.
pub async fn consume<F, T>(input: ByteStream, work: F) -> io::Result<T>
where
    F: FnOnce(&mut SyncSource) -> T + Send + 'static,
    T: Send + 'static,
{
    let (mut source, _guard) = SyncSource::new(input);
    spawn_blocking(move || work(&mut source))
        .await
        .map_err(lost)
}

/// Reads `stream` on a task of its own, so that the work of its stages overlaps with that of its reader.
///
/// An error stays: a reader that asks again gets an error again, whatever `stream` itself would answer.
pub fn ahead(stream: ByteStream) -> ByteStream {
    let (sender, pieces) = channel(DEPTH);
    let feeder = tokio::spawn(feed(stream, sender));
    Box::pin(Ahead {
        pieces,
        current: Bytes::new(),
        state: State::Reading,
        _feeder: AbortOnDropHandle::new(feeder),
    })
}

struct Ahead {
    pieces: Receiver<Piece>,
    current: Bytes,
    state: State,
    _feeder: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy)]
enum State {
    Reading,
    Ended,
    Failed,
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match self.state {
                State::Reading => {}
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed => return Poll::Ready(Err(abandoned())),
            }
            match ready!(self.pieces.poll_recv(context)) {
                Some(Piece::Chunk(chunk)) => self.current = chunk,
                Some(Piece::End) => self.state = State::Ended,
                Some(Piece::Failed(error)) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
                // Only a task that panicked ends without a word.
                None => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(abandoned()));
                }
            }
        }
        hand_out(&mut self.current, buffer);
        Poll::Ready(Ok(()))
    }
}

fn hand_out(current: &mut Bytes, buffer: &mut ReadBuf<'_>) {
    let length = current.len().min(buffer.remaining());
    buffer.put_slice(&current[..length]);
    current.advance(length);
}

fn lost(error: JoinError) -> io::Error {
    io::Error::other(format!("a worker thread did not finish: {error}"))
}

async fn feed(mut stream: ByteStream, pieces: Sender<Piece>) {
    let pool = Pool::new(CHUNK);
    loop {
        let piece = match read_chunk(&mut stream, &pool).await {
            Ok(chunk) if chunk.is_empty() => Piece::End,
            Ok(chunk) => Piece::Chunk(chunk),
            Err(error) => Piece::Failed(error),
        };
        let last = !matches!(piece, Piece::Chunk(_));
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// Reads a whole chunk, less only at the end: small pieces would cost a change of threads each.
async fn read_chunk(input: &mut ByteStream, pool: &Pool) -> io::Result<Bytes> {
    let mut chunk = pool.take();
    while !chunk.is_full() {
        match input.read(chunk.room()).await? {
            0 => break,
            length => chunk.advance(length),
        }
    }
    Ok(chunk.freeze())
}

/// `source`: keeps the worker's own source readable for as long as anybody reads what comes out.
fn spawn_worker<F>(source: Option<DropGuard>, work: F) -> ByteStream
where
    F: FnOnce(&mut SyncSink) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = channel(DEPTH);
    let worker = spawn_blocking(move || {
        let mut sink = SyncSink {
            sender,
            filling: BytesMut::new(),
        };
        work(&mut sink)?;
        sink.flush()
    });
    Box::pin(WorkerOutput {
        receiver,
        current: Bytes::new(),
        worker: Worker::Running(worker),
        _source: source,
    })
}

/// The synchronous end of a stream. Its stages run on the thread that reads it: what they have just touched is hashed and
/// written where it is still warm.
pub struct SyncSource {
    stream: ByteStream,
    runtime: Handle,
    /// Nobody waits for the outcome any more.
    given_up: CancellationToken,
    pool: Pool,
    current: Bytes,
    state: State,
}

impl SyncSource {
    /// When the guard is dropped, the next read is an error, also one that waits.
    fn new(stream: ByteStream) -> (Self, DropGuard) {
        let given_up = CancellationToken::new();
        let guard = given_up.clone().drop_guard();
        let source = Self {
            stream,
            runtime: Handle::current(),
            given_up,
            pool: Pool::new(CHUNK),
            current: Bytes::new(),
            state: State::Reading,
        };
        (source, guard)
    }

    /// Writes everything up to the end to `writer`, chunk by chunk.
    pub fn copy_to(&mut self, writer: &mut impl Write) -> io::Result<()> {
        loop {
            let chunk = self.fill_buf()?;
            let length = chunk.len();
            if length == 0 {
                return Ok(());
            }
            writer.write_all(chunk)?;
            self.consume(length);
        }
    }
}

impl BufRead for SyncSource {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() {
            match self.state {
                State::Reading => {}
                State::Ended => return Ok(&[]),
                State::Failed => return Err(abandoned()),
            }
            // Unless it is read: an error stays, whatever the stream would answer to who asks again.
            self.state = State::Failed;
            let read = read_chunk(&mut self.stream, &self.pool);
            let read = self
                .runtime
                .block_on(self.given_up.run_until_cancelled(read));
            self.current = read.ok_or_else(abandoned)??;
            self.state = if self.current.is_empty() {
                State::Ended
            } else {
                State::Reading
            };
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for SyncSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// What a thread writes into a stream.
pub struct SyncSink {
    sender: Sender<Bytes>,
    filling: BytesMut,
}

impl SyncSink {
    /// Reads `reader` to its end, straight into the chunks that are sent.
    pub fn copy_from(&mut self, reader: &mut impl Read) -> io::Result<()> {
        self.flush()?;
        let pool = Pool::new(CHUNK);
        loop {
            let mut chunk = pool.take();
            let length = read_full(reader, chunk.room())?;
            if length == 0 {
                return Ok(());
            }
            chunk.advance(length);
            self.send(chunk.freeze())?;
        }
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        self.sender.blocking_send(chunk).map_err(|_| abandoned())
    }
}

impl Write for SyncSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.capacity() == 0 {
            self.filling.reserve(CHUNK);
        }
        let length = bytes.len().min(CHUNK - self.filling.len());
        self.filling.extend_from_slice(&bytes[..length]);
        if self.filling.len() == CHUNK {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.filling).freeze();
        self.send(chunk)
    }
}

/// Fills `buffer`, less only at the end of `reader`.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The other end of a channel is gone: the stream was dropped before its end.
fn abandoned() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the stream was given up before its end",
    )
}

enum Worker {
    Running(JoinHandle<io::Result<()>>),
    Done,
    Failed,
}

struct WorkerOutput {
    receiver: Receiver<Bytes>,
    current: Bytes,
    worker: Worker,
    _source: Option<DropGuard>,
}

impl AsyncRead for WorkerOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.receiver.poll_recv(context)) {
                Some(chunk) => self.current = chunk,
                None => return self.poll_end(context),
            }
        }
        hand_out(&mut self.current, buffer);
        Poll::Ready(Ok(()))
    }
}

impl WorkerOutput {
    /// Nothing more comes out; whether that is a good end, only the worker can tell.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = match &mut self.worker {
            Worker::Running(worker) => ready!(Pin::new(worker).poll(context)),
            Worker::Done => return Poll::Ready(Ok(())),
            Worker::Failed => return Poll::Ready(Err(abandoned())),
        };
        let outcome = outcome.map_err(lost).flatten();
        self.worker = match outcome {
            Ok(()) => Worker::Done,
            Err(_) => Worker::Failed,
        };
        Poll::Ready(outcome)
    }
}
