//! The connection to one helper.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{HelperError, LayerInput};
use crate::agent::wire::{
    BEAT, HEADER_LENGTH, Header, Kind, PIECE, SILENCE, TOKEN_LENGTH, Token, buffer_for,
};
use crate::pipe::Pool;
use crate::tree::TreePath;

/// How long whoever connects may take to show a token.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// Frames that were received and not yet taken.
const DEPTH: usize = 4;

pub struct Connection {
    frames: mpsc::Receiver<io::Result<(Kind, Bytes)>>,
    output: Output,
    _receiving: AbortOnDropHandle<()>,
    _beating: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Output(Arc<Mutex<OwnedWriteHalf>>);

/// Waits for the one that knows the token. Others are sent away, and hold nobody up.
pub async fn accept(listener: TcpListener, token: &Token) -> io::Result<Connection> {
    let mut introductions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let token = token.clone();
                introductions.spawn(async move { introduce(stream, &token).await });
            }
            Some(introduced) = introductions.join_next() => {
                if let Ok(Some(stream)) = introduced {
                    return Connection::new(stream);
                }
            }
        }
    }
}

async fn introduce(mut stream: TcpStream, token: &Token) -> Option<TcpStream> {
    let mut received = [0; TOKEN_LENGTH];
    let read = stream.read_exact(&mut received);
    tokio::time::timeout(INTRODUCTION, read).await.ok()?.ok()?;
    token.is(&received).then_some(stream)
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (input, output) = stream.into_split();
        let output = Output(Arc::new(Mutex::new(output)));
        let (sender, frames) = mpsc::channel(DEPTH);
        Ok(Self {
            frames,
            _receiving: AbortOnDropHandle::new(tokio::spawn(receive_all(input, sender))),
            _beating: AbortOnDropHandle::new(tokio::spawn(beat(output.clone()))),
            output,
        })
    }

    /// The next frame that is not a mere sign of life.
    pub async fn receive(&mut self) -> io::Result<(Kind, Bytes)> {
        self.frames.recv().await.unwrap_or_else(|| {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its connection ended",
            ))
        })
    }

    /// Sends a layer, with what it deletes before it. `Some` with the helper's report when that comes first: it failed.
    pub async fn send_layer(
        &mut self,
        layer: LayerInput<'_>,
    ) -> Result<Option<Bytes>, HelperError> {
        let output = self.output.clone();
        let sending = async {
            send_deletions(&output, &layer.deletions).await?;
            let mut stored = layer.stored.await.map_err(HelperError::Source)?;
            let pool = Pool::new(PIECE);
            loop {
                let mut piece = pool.take();
                while !piece.is_full() {
                    match stored.read(piece.room()).await {
                        Ok(0) => break,
                        Ok(read) => piece.advance(read),
                        Err(error) => return Err(HelperError::Source(error)),
                    }
                }
                if piece.is_empty() {
                    return output.send(Kind::LayerEnd, &[]).await;
                }
                output.send(Kind::Data, piece.as_ref()).await?;
            }
        };
        tokio::select! {
            biased;
            report = self.receive() => match report {
                Ok((Kind::Report, report)) => Ok(Some(report)),
                Ok(_) => Err(super::unexpected()),
                Err(error) => Err(HelperError::NoReport(error.to_string())),
            },
            sent = sending => match sent {
                Ok(()) => Ok(None),
                // A helper that fails says why before it hangs up.
                Err(HelperError::NoReport(why)) => match self.receive().await {
                    Ok((Kind::Report, report)) => Ok(Some(report)),
                    _ => Err(HelperError::NoReport(why)),
                },
                Err(error) => Err(error),
            },
        }
    }
}

async fn send_deletions(output: &Output, deletions: &[TreePath]) -> Result<(), HelperError> {
    // A path is at most a few thousand bytes long.
    for part in deletions.chunks(50) {
        let list = serde_json::to_vec(part).map_err(|error| HelperError::Source(error.into()))?;
        output.send(Kind::Deletions, &list).await?;
    }
    Ok(())
}

impl Output {
    /// `payload` is short enough for a frame.
    async fn send(&self, kind: Kind, payload: &[u8]) -> Result<(), HelperError> {
        let mut output = self.0.lock().await;
        let sent = async {
            output.write_all(&Header::of(kind, payload).bytes()).await?;
            output.write_all(payload).await
        };
        sent.await
            .map_err(|error| HelperError::NoReport(format!("its connection failed: {error}")))
    }
}

async fn beat(output: Output) {
    loop {
        tokio::time::sleep(BEAT).await;
        if output.send(Kind::Beat, &[]).await.is_err() {
            return;
        }
    }
}

async fn receive_all(mut input: OwnedReadHalf, frames: mpsc::Sender<io::Result<(Kind, Bytes)>>) {
    let pool = Pool::new(PIECE);
    loop {
        let frame = match tokio::time::timeout(SILENCE, receive_one(&mut input, &pool)).await {
            Ok(Ok((Kind::Beat, _))) => continue,
            Ok(frame) => frame,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it has been silent for {SILENCE:?}"),
            )),
        };
        let is_last = !matches!(frame, Ok((kind, _)) if kind != Kind::Report);
        if frames.send(frame).await.is_err() || is_last {
            return;
        }
    }
}

async fn receive_one(input: &mut OwnedReadHalf, pool: &Pool) -> io::Result<(Kind, Bytes)> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "its connection ended"),
        _ => error,
    };
    let mut header = [0; HEADER_LENGTH];
    input.read_exact(&mut header).await.map_err(gone)?;
    let header = Header::parse(header)?;
    let mut payload = buffer_for(header, pool);
    let room = &mut payload.room()[..header.length];
    input.read_exact(room).await.map_err(gone)?;
    payload.advance(header.length);
    header.check(payload.as_ref())?;
    Ok((header.kind, payload.freeze()))
}
