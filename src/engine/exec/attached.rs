//! A command that has been started, and its output as it comes.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use super::ExecSpec;
use super::ending::{Exec, is_the_runtimes};
use super::frames::{Frame, FrameDecoder};
use crate::engine::connect::RawStream;
use crate::engine::fault::About;
use crate::engine::turns::CALL;
use crate::engine::{Engine, EngineError, container_name};
use crate::secret::Redactor;

/// How much of standard error a message carries.
pub(super) const LAST_WORDS: usize = 8 * 1024;
/// After this much silence the engine is asked whether the process still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// What a process has printed arrives this soon after its end.
const LAST_FRAMES: Duration = Duration::from_secs(5);
/// Enough of standard output to recognise the runtime's words.
const FIRST_WORDS: usize = 512;
const READ_BUFFER: usize = 64 * 1024;
const START: &str = r#"{"Detach":false,"Tty":false}"#;

pub(super) type Input = WriteHalf<RawStream>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    Closed,
    Attached,
}

pub(super) struct Attached {
    exec: Exec,
    output: FramedRead<ReadHalf<RawStream>, FrameDecoder>,
    limit: Option<(Instant, Duration)>,
    idle_limit: Option<Duration>,
    first_words: Vec<u8>,
    last_words: Vec<u8>,
    last_words_cut: bool,
}

impl Attached {
    /// Starts the command. Shutting the input down tells it that its input has ended; dropping it tells nothing.
    pub(super) async fn start(
        engine: &Engine,
        container: &str,
        spec: &ExecSpec,
        stdin: Stdin,
    ) -> Result<(Self, Input), EngineError> {
        let container = container_name(container)?;
        let fault = |error| match error {
            Error::DockerResponseServerError {
                status_code: 409,
                message,
            } => EngineError::NotRunning {
                container: container.to_owned(),
                message,
            },
            Error::DockerResponseServerError { message, .. } if is_the_runtimes(&message) => {
                EngineError::CannotRun {
                    container: container.to_owned(),
                    program: spec.program().to_owned(),
                    message,
                }
            }
            other => {
                let action = format!("run {} in container {container}", spec.program());
                engine.fault(other, About::Container(container), action)
            }
        };
        let begun = async {
            let id = engine
                .patient
                .create_exec(container, config(spec, stdin))
                .await?
                .id;
            let path = format!("/exec/{id}/start");
            let stream = engine.transport.upgrade(&path, START.to_owned()).await?;
            Ok((id, stream))
        };
        let (id, stream) = engine.call(container, CALL, begun).await.map_err(fault)?;
        let (output, input) = tokio::io::split(stream);
        let attached = Self {
            exec: Exec {
                engine: engine.clone(),
                container: container.to_owned(),
                program: spec.program().to_owned(),
                id,
                redactor: Redactor::new(spec.secret_env.iter().map(|(_, secret)| secret)),
            },
            output: FramedRead::with_capacity(output, FrameDecoder::default(), READ_BUFFER),
            limit: spec.limit.map(|limit| (Instant::now() + limit, limit)),
            idle_limit: None,
            first_words: Vec::new(),
            last_words: Vec::new(),
            last_words_cut: false,
        };
        Ok((attached, input))
    }

    pub(super) fn limit_silence(&mut self, limit: Duration) {
        self.idle_limit = Some(limit);
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.exec.redactor
    }

    /// The next piece of output; `None` at the end of the stream, which proves nothing yet.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, EngineError> {
        let silent_since = Instant::now();
        let mut ended = false;
        loop {
            let patience = if ended { LAST_FRAMES } else { SIGN_OF_LIFE };
            let wake = self.next_deadline(silent_since, patience);
            match tokio::time::timeout_at(wake, self.output.next()).await {
                Ok(Some(Ok(frame))) => {
                    self.listen(&frame);
                    return Ok(Some(frame));
                }
                Ok(Some(Err(error))) => return Err(self.exec.cut(error.to_string())),
                Ok(None) => return Ok(None),
                Err(_) => {
                    self.ensure_within_limits(silent_since)?;
                    if ended {
                        let message = "the process has ended, and the end of its output never came: a child that it has \
                                       started may hold it open";
                        return Err(self.exec.cut(message));
                    }
                    ended = self.exec.has_ended().await?;
                }
            }
        }
    }

    /// The exit code, confirmed by the engine; see [`Exec::confirmed_exit`].
    pub(super) async fn exit_code(&mut self) -> Result<i64, EngineError> {
        self.exec.confirmed_exit(&self.first_words).await
    }

    /// `Ok` only when the command has ended with code 0.
    pub(super) async fn ensure_success(&mut self) -> Result<(), EngineError> {
        match self.exit_code().await? {
            0 => Ok(()),
            code => {
                let words = self.redactor().tail(&self.last_words, self.last_words_cut);
                Err(EngineError::Exited {
                    container: self.exec.container.clone(),
                    program: self.exec.program.clone(),
                    code,
                    message: String::from_utf8_lossy(&words).trim().to_owned(),
                })
            }
        }
    }

    /// Remembers what messages will need.
    fn listen(&mut self, frame: &Frame) {
        match frame {
            Frame::Stdout(content) => {
                let room = FIRST_WORDS - self.first_words.len();
                self.first_words
                    .extend_from_slice(&content[..content.len().min(room)]);
            }
            Frame::Stderr(content) => {
                self.last_words.extend_from_slice(content);
                let excess = self.last_words.len().saturating_sub(LAST_WORDS);
                self.last_words_cut |= excess > 0;
                self.last_words.drain(..excess);
            }
        }
    }

    fn next_deadline(&self, silent_since: Instant, patience: Duration) -> Instant {
        let limits = [
            self.limit.map(|(end, _)| end),
            self.idle_limit.map(|limit| silent_since + limit),
        ];
        let sign_of_life = Instant::now() + patience;
        limits
            .into_iter()
            .flatten()
            .fold(sign_of_life, Instant::min)
    }

    fn ensure_within_limits(&self, silent_since: Instant) -> Result<(), EngineError> {
        let now = Instant::now();
        if let Some((end, limit)) = self.limit
            && now >= end
        {
            return Err(EngineError::TimedOut {
                container: self.exec.container.clone(),
                program: self.exec.program.clone(),
                limit,
            });
        }
        match self.idle_limit {
            Some(limit) if now >= silent_since + limit => Err(EngineError::Silent {
                what: format!("{} in container {}", self.exec.program, self.exec.container),
                limit,
            }),
            _ => Ok(()),
        }
    }
}

fn config(spec: &ExecSpec, stdin: Stdin) -> ExecConfig {
    let plain = spec.env.iter().map(|(key, value)| format!("{key}={value}"));
    let secret = spec
        .secret_env
        .iter()
        .map(|(key, secret)| format!("{key}={}", secret.expose()));
    ExecConfig {
        attach_stdin: Some(stdin == Stdin::Attached),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        env: Some(plain.chain(secret).collect()),
        cmd: Some(spec.argv.clone()),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        ..ExecConfig::default()
    }
}
