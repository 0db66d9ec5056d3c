//! The input of an agent: content where it gets some, and signs that cofferdam is there, as frames
//! ([`crate::agent::incoming`]). It never ends by itself.
//!
//! When this process dies, or drops the future that waits for the agent, the connection ends, and with it the agent's
//! input: see [`crate::agent::client`].

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::io::StreamReader;

use crate::agent::client::SIGN_OF_LIFE;
use crate::agent::incoming::{FRAME_HEADER, LONGEST_FRAME};
use crate::pipe::ByteStream;

/// Signs of life; the first comes at once and tells the agent that its input is carried.
pub fn lifeline() -> ByteStream {
    input(None)
}

/// All of `content`, with signs of life where it stalls, and after it. An error of `content` is one of this.
pub fn carrying(content: ByteStream) -> ByteStream {
    input(Some(content))
}

struct Input {
    content: Option<ByteStream>,
    has_begun: bool,
}

fn input(content: Option<ByteStream>) -> ByteStream {
    let input = Input {
        content,
        has_begun: false,
    };
    let frames = stream::try_unfold(input, |mut input| async move {
        let frame = input.next_frame().await?;
        Ok::<_, io::Error>(Some((frame, input)))
    });
    Box::pin(StreamReader::new(Box::pin(frames)))
}

impl Input {
    async fn next_frame(&mut self) -> io::Result<Bytes> {
        let mut frame = BytesMut::with_capacity(FRAME_HEADER + LONGEST_FRAME);
        frame.put_u32(0);
        let next_sign = Instant::now() + SIGN_OF_LIFE;
        if std::mem::replace(&mut self.has_begun, true) {
            match &mut self.content {
                None => sleep_until(next_sign).await,
                Some(content) => {
                    // What has been read when the time is up stays in the frame.
                    let filled = timeout_at(next_sign, fill(content, &mut frame)).await;
                    if filled.unwrap_or(Ok(false))? {
                        self.content = None;
                    }
                }
            }
        }
        let length = (frame.len() - FRAME_HEADER) as u32;
        frame[..FRAME_HEADER].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }
}

/// Reads until the frame is full; `true` at the end of `content`.
async fn fill(content: &mut ByteStream, frame: &mut BytesMut) -> io::Result<bool> {
    while frame.len() < FRAME_HEADER + LONGEST_FRAME {
        let room = FRAME_HEADER + LONGEST_FRAME - frame.len();
        if content.read_buf(&mut (&mut *frame).limit(room)).await? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::incoming::read_frame;

    #[tokio::test(start_paused = true)]
    async fn content_goes_in_frames_and_signs_of_life_go_on_after_it() {
        let content: Vec<u8> = (0..600_000_u32).map(|n| n as u8).collect();
        let mut input = carrying(Box::pin(io::Cursor::new(content.clone())));
        let frames = content.len().div_ceil(LONGEST_FRAME);
        let mut sent = vec![0; content.len() + (frames + 3) * FRAME_HEADER];
        input.read_exact(&mut sent).await.unwrap();
        let mut received = Vec::new();
        let mut sent = &sent[..];
        let mut signs = 0;
        while let Some(payload) = read_frame(&mut sent).unwrap() {
            signs += usize::from(payload.is_empty());
            received.extend(payload);
        }
        assert!(received == content);
        assert_eq!(signs, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_bridged_and_an_error_passes() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let broken = futures_util::stream::iter([Err::<Bytes, _>(io::Error::other("gone"))]);
        let content = reader.chain(StreamReader::new(broken));
        let mut input = carrying(Box::pin(content));
        let mut sign = [1; FRAME_HEADER];
        for _ in 0..3 {
            input.read_exact(&mut sign).await.unwrap();
            assert_eq!(sign, [0; FRAME_HEADER]);
        }
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"late")
            .await
            .unwrap();
        drop(writer);
        let mut rest = Vec::new();
        let error = input.read_to_end(&mut rest).await.unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
