//! How an agent in a helper container talks with cofferdam: one TCP connection over a loopback interface that both share.
//!
//! Cofferdam listens, the helper connects and sends its token, 64 hexadecimal digits that were made for this one helper.
//! After that both send frames: a kind of one byte, the length of the payload and its CRC-32 in four bytes each
//! (big-endian), the payload.
//! Each side sends [`Kind::Beat`] every few seconds whatever else it does, so that a peer that is dead shows within
//! [`SILENCE`]. A helper's last frame is its report; a connection that ends without one is a failure.
//!
//! This is the helper's side, without a runtime; [`super::helper`] is cofferdam's.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::pipe::{Buffer, Pool};

pub const TOKEN_LENGTH: usize = 64;
/// Of a payload, in bytes.
pub const LONGEST_PAYLOAD: usize = 1024 * 1024;
/// Of a payload of data, in bytes.
pub const PIECE: usize = 256 * 1024;
/// Shorter payloads of data are put together, in bytes.
const SMALL: usize = 32 * 1024;
pub const HEADER_LENGTH: usize = 9;
pub const BEAT: Duration = Duration::from_secs(5);
/// How long a peer may send nothing at all before it counts as dead.
pub const SILENCE: Duration = Duration::from_secs(120);
/// How long a peer may refuse to take anything: a repository that stalls holds its helper up.
const CONGESTION: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but a sign of life.
    Beat = 0,
    /// A piece of a layer, as it is stored.
    Data = 1,
    /// A piece of a layer's index, as it is stored.
    Index = 2,
    /// The layer that was sent ends here, and its producer has confirmed that.
    LayerEnd = 3,
    /// A JSON list of paths that the next layer says are gone.
    Deletions = 4,
    /// One JSON document; the last frame.
    Report = 5,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        [
            Self::Beat,
            Self::Data,
            Self::Index,
            Self::LayerEnd,
            Self::Deletions,
            Self::Report,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub length: usize,
    crc: u32,
}

impl Header {
    pub fn of(kind: Kind, payload: &[u8]) -> Self {
        Self {
            kind,
            length: payload.len(),
            crc: crc32fast::hash(payload),
        }
    }

    pub fn parse(header: [u8; HEADER_LENGTH]) -> io::Result<Self> {
        let [kind, l0, l1, l2, l3, crc @ ..] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        match Kind::parse(kind) {
            Some(kind) if length <= LONGEST_PAYLOAD => Ok(Self {
                kind,
                length,
                crc: u32::from_be_bytes(crc),
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the other side does not speak the protocol of helpers",
            )),
        }
    }

    pub fn bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [self.kind as u8; HEADER_LENGTH];
        bytes[1..5].copy_from_slice(&(self.length as u32).to_be_bytes());
        bytes[5..].copy_from_slice(&self.crc.to_be_bytes());
        bytes
    }

    /// Whether `payload` is what was sent.
    pub fn check(self, payload: &[u8]) -> io::Result<()> {
        if Self::of(self.kind, payload) == self {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame was damaged on its way",
        ))
    }
}

/// Where a helper finds cofferdam, and how it proves that it is the one.
#[derive(Clone, Serialize, Deserialize)]
pub struct Call {
    pub port: u16,
    pub token: Token,
}

/// Good for one connection of one helper.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    pub fn generate() -> Self {
        let random: [u8; TOKEN_LENGTH / 2] = rand::random();
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Takes the same time for every wrong token.
    pub fn is(&self, received: &[u8; TOKEN_LENGTH]) -> bool {
        let own = self.0.as_bytes();
        let different = own
            .iter()
            .zip(received)
            .fold(0, |different, (one, other)| different | (one ^ other));
        own.len() == received.len() && std::hint::black_box(different) == 0
    }
}

/// What a helper is asked to do.
#[derive(Serialize, Deserialize)]
pub struct HelperJob<W> {
    pub call: Call,
    pub work: W,
}

/// A helper's connection to cofferdam.
pub struct Line {
    input: TcpStream,
    pool: Pool,
    output: FrameSender,
    /// Ends the signs of life when it is dropped.
    _beating: mpsc::Sender<()>,
}

/// Sends frames; may be used by several threads.
#[derive(Clone)]
pub struct FrameSender(Arc<Mutex<TcpStream>>);

impl Line {
    pub fn connect(call: &Call) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, call.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(CONGESTION))?;
        stream.write_all(call.token.0.as_bytes())?;
        let output = FrameSender(Arc::new(Mutex::new(stream.try_clone()?)));
        Ok(Self {
            input: stream,
            _beating: beat(output.clone()),
            pool: Pool::new(PIECE),
            output,
        })
    }

    pub fn sender(&self) -> FrameSender {
        self.output.clone()
    }

    /// The next frame that is not a mere sign of life. The end of the connection is an error.
    pub fn receive(&mut self) -> io::Result<(Kind, Bytes)> {
        loop {
            let mut header = [0; HEADER_LENGTH];
            self.input.read_exact(&mut header).map_err(peer_is_gone)?;
            let header = Header::parse(header)?;
            let mut payload = buffer_for(header, &self.pool);
            self.input
                .read_exact(&mut payload.room()[..header.length])
                .map_err(peer_is_gone)?;
            payload.advance(header.length);
            header.check(payload.as_ref())?;
            if header.kind != Kind::Beat {
                return Ok((header.kind, payload.freeze()));
            }
        }
    }

    /// Waits until cofferdam has closed the connection, so that what was sent last is not lost with data that still
    /// comes in. Nothing that comes in matters any more.
    pub fn wait_for_hang_up(mut self) {
        let mut scratch = [0; 4096];
        let _ = self.input.set_read_timeout(Some(Duration::from_secs(30)));
        while matches!(self.input.read(&mut scratch), Ok(1..)) {}
    }
}

fn peer_is_gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "cofferdam has fallen silent")
        }
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "cofferdam went away")
        }
        _ => error,
    }
}

/// Where the payload after `header` goes. Only those that are rare are longer than a piece.
pub fn buffer_for(header: Header, pieces: &Pool) -> Buffer {
    if header.length <= PIECE {
        pieces.take()
    } else {
        Pool::new(header.length).take()
    }
}

impl FrameSender {
    /// `payload` is cut into frames of a permitted length.
    pub fn send(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = payload;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(LONGEST_PAYLOAD));
            let header = Header::of(kind, piece).bytes();
            // In one go, as far as it goes: a header of its own would be a packet of its own.
            let sent = loop {
                match stream.write_vectored(&[IoSlice::new(&header), IoSlice::new(piece)]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    sent => break sent?,
                }
            };
            stream.write_all(&header[sent.min(HEADER_LENGTH)..])?;
            stream.write_all(&piece[sent.saturating_sub(HEADER_LENGTH)..])?;
            if more.is_empty() {
                return Ok(());
            }
            rest = more;
        }
    }

    /// A writer whose bytes go out as frames of one kind. Only small pieces are gathered: large ones are not copied.
    pub fn writer(&self, kind: Kind) -> io::BufWriter<FrameWriter> {
        let writer = FrameWriter {
            sender: self.clone(),
            kind,
            sent: 0,
        };
        io::BufWriter::with_capacity(SMALL, writer)
    }
}

pub struct FrameWriter {
    sender: FrameSender,
    kind: Kind,
    sent: u64,
}

impl FrameWriter {
    /// Sends what `buffered` still holds; the length of everything that was sent.
    pub fn finish(buffered: io::BufWriter<Self>) -> io::Result<u64> {
        let writer = buffered.into_inner().map_err(|error| error.into_error())?;
        Ok(writer.sent)
    }
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.sender.send(self.kind, bytes)?;
            self.sent += bytes.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Signs of life until the returned handle is dropped, or the peer is gone.
fn beat(output: FrameSender) -> mpsc::Sender<()> {
    let (handle, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        while dropped.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
            if output.send(Kind::Beat, &[]).is_err() {
                return;
            }
        }
    });
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        for kind in [
            Kind::Beat,
            Kind::Data,
            Kind::Index,
            Kind::LayerEnd,
            Kind::Deletions,
            Kind::Report,
        ] {
            for payload in [&b""[..], b"x", &[7; LONGEST_PAYLOAD]] {
                let header = Header::of(kind, payload);
                assert_eq!(Header::parse(header.bytes()).unwrap(), header);
                header.check(payload).unwrap();
            }
        }
    }

    #[test]
    fn a_payload_that_was_damaged_is_refused() {
        let header = Header::of(Kind::Data, b"rows of a patient");
        for damaged in [&b"rows of b patient"[..], b"rows of a patien", b""] {
            assert!(header.check(damaged).is_err());
        }
    }

    #[test]
    fn foreign_protocols_are_refused() {
        assert!(Header::parse(*b"GET / HTT").is_err());
        let mut header = Header::of(Kind::Data, b"").bytes();
        header[0] = 6;
        assert!(Header::parse(header).is_err());
        header[0] = Kind::Data as u8;
        header[1..5].copy_from_slice(&(LONGEST_PAYLOAD as u32 + 1).to_be_bytes());
        assert!(Header::parse(header).is_err());
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::generate();
        let bytes: [u8; TOKEN_LENGTH] = token.0.as_bytes().try_into().unwrap();
        assert!(token.is(&bytes));
        for at in 0..TOKEN_LENGTH {
            let mut wrong = bytes;
            wrong[at] ^= 1;
            assert!(!token.is(&wrong));
        }
        assert!(!token.is(&[b'0'; TOKEN_LENGTH]));
        assert!(!Token(String::new()).is(&bytes));
    }
}
