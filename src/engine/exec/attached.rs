//! A command that has been started, and what it has said.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ExecConfig;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::ExecSpec;
use super::ending::{Exec, is_the_runtimes};
use super::frames::Frame;
use super::output::{Output, Unheard};
use crate::engine::connect::RawStream;
use crate::engine::fault::About;
use crate::engine::turns::CALL;
use crate::engine::{Engine, EngineError, container_name};
use crate::secret::Redactor;

/// How much of standard error a message carries.
pub(super) const LAST_WORDS: usize = 8 * 1024;
/// Enough of standard output to recognise the runtime's words.
const FIRST_WORDS: usize = 512;
const START: &str = r#"{"Detach":false,"Tty":false}"#;

pub(super) type Input = WriteHalf<RawStream>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    Closed,
    Attached,
}

pub(super) struct Attached {
    exec: Arc<Exec>,
    output: Output<ReadHalf<RawStream>>,
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
            // Of a specification that is used again, whoever asks for it has the first.
            let _ = spec.id.set(id.clone());
            let path = format!("/exec/{id}/start");
            let stream = engine.transport.upgrade(&path, START.to_owned()).await?;
            Ok((id, stream))
        };
        let (id, stream) = engine.call(container, CALL, begun).await.map_err(fault)?;
        let (output, input) = tokio::io::split(stream);
        let exec = Arc::new(Exec {
            engine: engine.clone(),
            container: container.to_owned(),
            program: spec.program().to_owned(),
            id,
            redactor: Redactor::new(spec.secret_env.iter().map(|(_, secret)| secret)),
        });
        let asked = exec.clone();
        let mut output = Output::new(output, move || {
            let asked = asked.clone();
            Box::pin(async move { asked.has_ended().await })
        });
        output.limit = spec.limit.map(|limit| (Instant::now() + limit, limit));
        let attached = Self {
            exec,
            output,
            first_words: Vec::new(),
            last_words: Vec::new(),
            last_words_cut: false,
        };
        Ok((attached, input))
    }

    pub(super) fn limit_silence(&mut self, limit: Duration) {
        self.output.idle_limit = Some(limit);
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.exec.redactor
    }

    /// The next piece of output; `None` at the end of the stream, which proves nothing yet.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, EngineError> {
        let frame = self.output.next().await.map_err(|why| match why {
            Unheard::TimedOut(limit) => EngineError::TimedOut {
                container: self.exec.container.clone(),
                program: self.exec.program.clone(),
                limit,
            },
            Unheard::Silent(limit) => EngineError::Silent {
                what: format!("{} in container {}", self.exec.program, self.exec.container),
                limit,
            },
            Unheard::Cut(message) => self.exec.cut(message),
            Unheard::Engine(error) => error,
        })?;
        if let Some(frame) = &frame {
            self.listen(frame);
        }
        Ok(frame)
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
