//! What cofferdam sends to an agent inside a container: frames on the agent's standard input.
//!
//! A frame is the length of its payload in four bytes (big-endian), and the payload. One without a payload says nothing
//! but that cofferdam is there. How much is to come is known beforehand, so nobody has to close anything: not every proxy
//! carries the end of one direction.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Of a payload, in bytes.
pub const LONGEST_FRAME: usize = 256 * 1024;
pub const FRAME_HEADER: usize = 4;
/// Pieces that wait for the client.
pub const QUEUE: usize = 8;
/// The first sign of life comes at once.
const CARRIED_WITHIN: Duration = Duration::from_secs(60);

/// The next payload; `None` at an end between frames.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; FRAME_HEADER];
    match input.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > LONGEST_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what comes in is no frame",
        ));
    }
    let mut payload = vec![0; length];
    input.read_exact(&mut payload)?;
    Ok(Some(payload))
}

/// Whether the other end of standard input is gone, whatever is still to be read.
pub fn hung_up() -> bool {
    let stdin = io::stdin();
    let mut watched = [PollFd::new(&stdin, PollFlags::empty())];
    let found = poll(&mut watched, Some(&Timespec::default()));
    let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    found.is_ok() && watched[0].revents().intersects(ended)
}

/// The payloads as one stream of a length that is known; whatever ends it earlier is an error.
pub struct Incoming {
    pieces: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
    left: u64,
    is_carried: Box<dyn Fn() -> bool + Send>,
}

impl Incoming {
    /// `is_carried`: whether anything at all has come in.
    pub fn new(
        pieces: Receiver<Vec<u8>>,
        bytes: u64,
        is_carried: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        Self {
            pieces,
            current: io::Cursor::default(),
            left: bytes,
            is_carried: Box::new(is_carried),
        }
    }

    fn next_piece(&self) -> io::Result<Vec<u8>> {
        loop {
            match self.pieces.recv_timeout(CARRIED_WITHIN) {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "cofferdam went away",
                    ));
                }
                Err(RecvTimeoutError::Timeout) if (self.is_carried)() => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the engine, or a proxy in front of it, does not pass on the input of an exec",
                    ));
                }
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.current.position() == self.current.get_ref().len() as u64 {
            self.current = io::Cursor::new(self.next_piece()?);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = buffer.len().min(most);
        let length = self.current.read(&mut buffer[..most])?;
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn frame(payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32).to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_read_and_what_is_none_is_refused() {
        let all = [frame(b"abc"), frame(b""), frame(b"d")].concat();
        let mut input = &all[..];
        for expected in [Some(&b"abc"[..]), Some(b""), Some(b"d"), None] {
            assert_eq!(read_frame(&mut input).unwrap().as_deref(), expected);
        }
        assert!(read_frame(&mut &frame(b"abc")[..6]).is_err());
        assert!(read_frame(&mut &b"\n\n\n\n"[..]).is_err());
    }

    #[test]
    fn only_the_known_length_is_an_end() {
        let read = |pieces: &[&[u8]], bytes| {
            let (sender, receiver) = sync_channel(QUEUE);
            for piece in pieces {
                sender.send(piece.to_vec()).unwrap();
            }
            drop(sender);
            let mut all = Vec::new();
            Incoming::new(receiver, bytes, || true)
                .read_to_end(&mut all)
                .map(|_| all)
        };
        assert_eq!(read(&[b"abc", b"de"], 5).unwrap(), b"abcde");
        assert_eq!(read(&[], 0).unwrap(), b"");
        assert_eq!(read(&[b"abc", b"de"], 4).unwrap(), b"abcd");
        assert!(read(&[b"abc", b"de"], 6).is_err());
    }
}
