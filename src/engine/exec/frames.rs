//! The two output streams of a command, taken out of the one that the engine sends.
//!
//! A frame is a header of eight bytes (the stream's number, three zeros, the length as a big-endian number) and its
//! content; the format is that of the engine's attach call. A frame's content is passed on as it comes, so a wrong length
//! cannot fill the memory. A stream that ends anywhere but between two frames was cut.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Stdout(Bytes),
    Stderr(Bytes),
}

impl Frame {
    pub(super) fn content(&self) -> &Bytes {
        match self {
            Self::Stdout(content) | Self::Stderr(content) => content,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Stdout,
    Stderr,
}

const HEADER: usize = 8;

/// What is left of the frame that is being read.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    current: Option<(Channel, usize)>,
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<Frame>> {
        loop {
            let Some((channel, left)) = self.current else {
                if source.len() < HEADER {
                    return Ok(None);
                }
                self.current = Some(read_header(source)?);
                source.advance(HEADER);
                continue;
            };
            if left == 0 {
                self.current = None;
                continue;
            }
            if source.is_empty() {
                return Ok(None);
            }
            let content = source.split_to(left.min(source.len())).freeze();
            self.current = Some((channel, left - content.len()));
            return Ok(Some(match channel {
                Channel::Stdout => Frame::Stdout(content),
                Channel::Stderr => Frame::Stderr(content),
            }));
        }
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> io::Result<Option<Frame>> {
        match self.decode(source)? {
            Some(frame) => Ok(Some(frame)),
            None if self.current.is_none() && source.is_empty() => Ok(None),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends within a frame",
            )),
        }
    }
}

fn read_header(source: &[u8]) -> io::Result<(Channel, usize)> {
    match *source {
        [number @ (1 | 2), 0, 0, 0, a, b, c, d, ..] => {
            let channel = if number == 1 {
                Channel::Stdout
            } else {
                Channel::Stderr
            };
            Ok((channel, u32::from_be_bytes([a, b, c, d]) as usize))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not a stream of frames",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use proptest::prelude::*;
    use tokio_util::codec::FramedRead;

    fn frame(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[number, 0, 0, 0], length.as_slice(), content].concat()
    }

    /// Everything of standard output and of standard error, read with a small buffer.
    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let frames = FramedRead::with_capacity(bytes, FrameDecoder::default(), 16);
        let streams = frames.try_fold((Vec::new(), Vec::new()), async |mut streams, frame| {
            match frame {
                Frame::Stdout(content) => streams.0.extend_from_slice(&content),
                Frame::Stderr(content) => streams.1.extend_from_slice(&content),
            }
            Ok(streams)
        });
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(streams)
    }

    proptest! {
        #[test]
        fn streams_come_apart_and_every_cut_is_seen(
            frames in proptest::collection::vec((1_u8..3, proptest::collection::vec(any::<u8>(), 0..40)), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(number, content)| frame(*number, content)).collect();
            let of = |wanted| frames.iter().filter(move |(number, _)| *number == wanted)
                .flat_map(|(_, content)| content.clone()).collect::<Vec<u8>>();
            prop_assert_eq!(read(&bytes).unwrap(), (of(1), of(2)));

            let cut = cut.index(bytes.len());
            let mut borders = vec![0];
            for (_, content) in &frames {
                borders.push(borders[borders.len() - 1] + HEADER + content.len());
            }
            prop_assert_eq!(read(&bytes[..cut]).is_ok(), borders.contains(&cut));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let cases: [&[u8]; 4] = [
            b"plain text of a terminal",
            &frame(0, b"input"),
            &frame(3, b"an error of the engine's"),
            &[1, 0, 0, 1, 0, 0, 0, 0],
        ];
        for case in cases {
            assert!(read(case).is_err(), "{case:?}");
        }
    }
}
