//! A command's output as it comes, and when no more of it is waited for.
//!
//! The engine is asked from time to time whether the process has ended, whatever comes meanwhile: a child that it has left
//! behind may print for ever. It is asked beside the reading, never instead of it, since engines throw away what nobody
//! takes from them soon after the end.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::FramedRead;

use super::frames::{Frame, FrameDecoder};
use crate::engine::EngineError;

/// How often the engine is asked whether the process still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// What a process has printed begins to arrive this soon after its end, and goes on without a longer pause.
const LAST_FRAMES: Duration = Duration::from_secs(5);
/// How long all of it may be waited for. Time in which nobody reads does not count.
const ARRIVAL: Duration = Duration::from_secs(60);
/// More than pipes, sockets and proxies hold, in bytes: what comes after it was not printed by the process.
const IN_FLIGHT: u64 = 64 * 1024 * 1024;
const READ_BUFFER: usize = 64 * 1024;

type Answer = BoxFuture<'static, Result<bool, EngineError>>;

/// Why no more is waited for.
#[derive(Debug)]
pub(super) enum Unheard {
    TimedOut(Duration),
    Silent(Duration),
    Cut(String),
    Engine(EngineError),
}

pub(super) struct Output<R> {
    frames: FramedRead<R, FrameDecoder>,
    pub(super) limit: Option<(Instant, Duration)>,
    pub(super) idle_limit: Option<Duration>,
    has_ended: Box<dyn Fn() -> Answer + Send>,
    question: Answer,
    /// Something has come since the question was put.
    heard: bool,
    rest: Option<Rest>,
}

/// What has come since the process was known to have ended.
#[derive(Default)]
struct Rest {
    waited: Duration,
    bytes: u64,
}

impl<R: AsyncRead + Unpin> Output<R> {
    /// `has_ended`: asks the engine whether the process has ended.
    pub(super) fn new(output: R, has_ended: impl Fn() -> Answer + Send + 'static) -> Self {
        let question = after_a_while(has_ended());
        Self {
            frames: FramedRead::with_capacity(output, FrameDecoder::default(), READ_BUFFER),
            limit: None,
            idle_limit: None,
            has_ended: Box::new(has_ended),
            question,
            heard: false,
            rest: None,
        }
    }

    /// The next piece; `None` at the end of the stream, which proves nothing yet.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Unheard> {
        let silent_since = Instant::now();
        loop {
            let waiting_since = Instant::now();
            let deadline = self.deadline(silent_since, waiting_since);
            let overdue = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = self.frames.next() => {
                    let frame = frame.transpose().map_err(|error| Unheard::Cut(error.to_string()))?;
                    self.heard = true;
                    if let (Some(frame), Some(rest)) = (&frame, &mut self.rest) {
                        rest.waited += waiting_since.elapsed();
                        rest.bytes += frame.content().len() as u64;
                        if rest.bytes > IN_FLIGHT {
                            return Err(held_open());
                        }
                    }
                    return Ok(frame);
                }
                ended = &mut self.question, if self.rest.is_none() => match ended {
                    Ok(true) => self.rest = Some(Rest::default()),
                    Ok(false) => self.ask_again(),
                    // What comes is a sign of life too.
                    Err(_) if self.heard => self.ask_again(),
                    Err(error) => return Err(Unheard::Engine(error)),
                },
                () = overdue => return Err(self.overdue(silent_since)),
            }
        }
    }

    fn ask_again(&mut self) {
        self.question = after_a_while((self.has_ended)());
        self.heard = false;
    }

    fn deadline(&self, silent_since: Instant, waiting_since: Instant) -> Option<Instant> {
        let limits = [
            self.limit.map(|(end, _)| end),
            self.idle_limit.map(|limit| silent_since + limit),
            self.rest
                .as_ref()
                .map(|rest| waiting_since + LAST_FRAMES.min(ARRIVAL.saturating_sub(rest.waited))),
        ];
        limits.into_iter().flatten().min()
    }

    fn overdue(&self, silent_since: Instant) -> Unheard {
        let now = Instant::now();
        match (self.limit, self.idle_limit) {
            (Some((end, limit)), _) if now >= end => Unheard::TimedOut(limit),
            (_, Some(limit)) if now >= silent_since + limit => Unheard::Silent(limit),
            _ => held_open(),
        }
    }
}

fn after_a_while(answer: Answer) -> Answer {
    Box::pin(async {
        sleep(SIGN_OF_LIFE).await;
        answer.await
    })
}

fn held_open() -> Unheard {
    let message = "the process has ended, but the end of its output never came: a child that it started may hold it open";
    Unheard::Cut(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    fn frame(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[number, 0, 0, 0], length.as_slice(), content].concat()
    }

    /// The output of a process of which the engine says this, and its other end.
    fn output(ended: fn() -> Result<bool, EngineError>) -> (DuplexStream, Output<DuplexStream>) {
        let (inner, outer) = duplex(128 * 1024);
        (
            inner,
            Output::new(outer, move || async move { ended() }.boxed()),
        )
    }

    /// Prints `frame` again and again, `times` times.
    fn print(mut to: DuplexStream, frame: Vec<u8>, pause: Duration, times: u64) {
        tokio::spawn(async move {
            for _ in 0..times {
                if to.write_all(&frame).await.is_err() {
                    break;
                }
                sleep(pause).await;
            }
        });
    }

    /// All bytes, by a reader who needs `pause` for each piece.
    async fn read(output: &mut Output<DuplexStream>, pause: Duration) -> Result<u64, Unheard> {
        let mut bytes = 0;
        while let Some(frame) = output.next().await? {
            bytes += frame.content().len() as u64;
            sleep(pause).await;
        }
        Ok(bytes)
    }

    fn unknown() -> Result<bool, EngineError> {
        Err(EngineError::NoSuchContainer("gone".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_prints_on_is_not_read_for_ever() {
        for (number, pause) in [(1, 100), (2, 4_000)] {
            let (inner, mut output) = output(|| Ok(true));
            let begun = Instant::now();
            print(
                inner,
                frame(number, b"x"),
                Duration::from_millis(pause),
                u64::MAX,
            );
            let failure = read(&mut output, Duration::ZERO).await.unwrap_err();
            assert!(matches!(failure, Unheard::Cut(_)), "{failure:?}");
            assert!(begun.elapsed() < Duration::from_secs(100));
        }
        // Whoever reads slowly never waits for it.
        let (inner, mut output) = output(|| Ok(true));
        print(inner, frame(1, &[b'x'; 60_000]), Duration::ZERO, u64::MAX);
        let failure = read(&mut output, Duration::from_millis(100)).await;
        assert!(matches!(failure, Err(Unheard::Cut(_))), "{failure:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_at_the_end_is_read_however_slowly() {
        let (inner, mut output) = output(|| Ok(true));
        print(inner, frame(1, &[b'x'; 60_000]), Duration::ZERO, 500);
        let bytes = read(&mut output, Duration::from_secs(40)).await.unwrap();
        assert_eq!(bytes, 30_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_runs_is_read_to_its_end() {
        let answers: [fn() -> Result<bool, EngineError>; 2] = [|| Ok(false), unknown];
        for ended in answers {
            let (inner, mut output) = output(ended);
            print(inner, frame(1, b"x"), Duration::from_secs(20), 500);
            assert_eq!(read(&mut output, Duration::ZERO).await.unwrap(), 500);
        }
        let (_inner, mut output) = output(unknown);
        let failure = output.next().await.unwrap_err();
        assert!(matches!(failure, Unheard::Engine(_)), "{failure:?}");
    }
}
