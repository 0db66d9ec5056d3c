//! Commands inside containers.
//!
//! A stream of an exec is believed only when, after its end, the engine says that the process is not running and knows its
//! exit code. Absent, null or unknown is failure.
//!
//! - `attached`: a command that has been started
//! - `ending`: what the engine says of its end
//! - `frames`: the two output streams, taken out of one
//! - `output`: the output as it comes, and when no more is waited for

mod attached;
mod ending;
mod frames;
mod output;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use tokio::io::AsyncWriteExt;

use self::attached::{Attached, Input, Stdin};
use self::frames::Frame;
use super::body::{byte_stream, chunks_of};
use super::{Engine, EngineError};
use crate::pipe::ByteStream;
use crate::secret::Secret;

/// An argv vector: no shell is between us and the program.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Environment variables that hold secrets. They are redacted from standard error and from messages. Standard output
    /// is data and stays as it is: a password may well be the name of the database that a query prints.
    pub secret_env: Vec<(String, Secret)>,
    /// `None`: the container's own user.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// `None`: no limit.
    pub limit: Option<Duration>,
    /// The engine's id of the exec, from just before its start.
    pub id: Arc<OnceLock<String>>,
}

/// What a command that ended said. Each stream is kept up to [`ExecOutput::MAX_BYTES`] bytes.
#[derive(Clone)]
pub struct ExecOutput {
    pub exit_code: i64,
    pub stdout: Vec<u8>,
    /// Without the secrets of the specification.
    pub stderr: Vec<u8>,
    /// More was printed than is kept.
    pub truncated: bool,
}

impl ExecOutput {
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// It ended well, and nothing was printed: some engines lose the output of what ends at once. Whoever waits for an answer
    /// has none.
    pub fn says_nothing(&self) -> bool {
        self.exit_code == 0 && self.stdout.is_empty()
    }

    /// The end of standard error as text, for messages.
    pub fn last_words(&self) -> String {
        let start = self.stderr.len().saturating_sub(attached::LAST_WORDS);
        String::from_utf8_lossy(&self.stderr[start..])
            .trim()
            .to_owned()
    }
}

impl fmt::Debug for ExecOutput {
    /// Output may be anyone's data: only its size is printed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExecOutput")
            .field("exit_code", &self.exit_code)
            .field("stdout", &format_args!("{} bytes", self.stdout.len()))
            .field("stderr", &format_args!("{} bytes", self.stderr.len()))
            .field("truncated", &self.truncated)
            .finish()
    }
}

impl ExecSpec {
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The program's name, for messages.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

impl Engine {
    /// Runs a command to its end. Any exit code is `Ok`, except those that say that it could not be run
    /// ([`EngineError::CannotRun`]). When the limit passes, or the future is dropped, the process goes on inside the
    /// container: the engine has no way to end it.
    pub async fn exec(&self, container: &str, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        let (mut attached, _) = Attached::start(self, container, spec, Stdin::Closed).await?;
        collect(&mut attached).await
    }

    /// Runs a command and streams its standard output. The stream reaches its end only when the command has ended with
    /// code 0; otherwise it yields an error that carries an [`EngineError`] ([`EngineError::in_io`]):
    /// [`EngineError::Exited`] with the code and the last words of standard error, [`EngineError::Cut`], …
    ///
    /// `idle_limit`: how long the command may stay silent. Time in which nobody reads the stream does not count.
    pub async fn exec_stream(
        &self,
        container: &str,
        spec: &ExecSpec,
        idle_limit: Duration,
    ) -> Result<ByteStream, EngineError> {
        let (mut attached, _) = Attached::start(self, container, spec, Stdin::Closed).await?;
        attached.limit_silence(idle_limit);
        let chunks = stream::try_unfold(attached, |mut attached| async move {
            let chunk = next_chunk(&mut attached).await?;
            Ok(chunk.map(|chunk| (chunk, attached)))
        });
        Ok(byte_stream(chunks))
    }

    /// Runs a command that reads `stdin` to its end, and waits for it.
    ///
    /// When `stdin` fails, this is [`EngineError::Source`]; the command sees an end of its input there, since the engine
    /// can tell it nothing else. It must not take an end for completeness: give it input that says itself where it ends.
    pub async fn exec_with_input(
        &self,
        container: &str,
        spec: &ExecSpec,
        stdin: ByteStream,
    ) -> Result<ExecOutput, EngineError> {
        let (mut attached, input) = Attached::start(self, container, spec, Stdin::Attached).await?;
        let receiver = format!("{} in container {container}", spec.program());
        let mut output = std::pin::pin!(collect(&mut attached));
        // A command may end before it has read everything; its exit code says what that means. So what is written
        // decides nothing, unless there is nothing left to write.
        let _open_input = tokio::select! {
            output = &mut output => return output,
            fed = feed(input, stdin) => {
                fed.map_err(|source| EngineError::Source { receiver, source })?
            }
        };
        output.await
    }
}

/// Writes all of `content` and closes the input after it; the error is one of `content`.
async fn feed(mut input: Input, content: ByteStream) -> Result<Input, io::Error> {
    let mut chunks = chunks_of(content);
    while let Some(chunk) = chunks.try_next().await? {
        if input.write_all(&chunk).await.is_err() {
            return Ok(input);
        }
    }
    // The command that has ended in the meantime makes this fail, and says why by its exit code.
    let _ = input.shutdown().await;
    Ok(input)
}

async fn collect(attached: &mut Attached) -> Result<ExecOutput, EngineError> {
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    while let Some(frame) = attached.next().await? {
        match frame {
            Frame::Stdout(bytes) => stdout.add(&bytes),
            Frame::Stderr(bytes) => stderr.add(&bytes),
        }
    }
    Ok(ExecOutput {
        exit_code: attached.exit_code().await?,
        truncated: stdout.truncated || stderr.truncated,
        stderr: attached.redactor().head(&stderr.bytes, stderr.truncated),
        stdout: stdout.bytes,
    })
}

/// The next bytes of standard output; `None` after a confirmed good end.
async fn next_chunk(attached: &mut Attached) -> Result<Option<Bytes>, EngineError> {
    loop {
        match attached.next().await? {
            Some(Frame::Stdout(bytes)) => return Ok(Some(bytes)),
            Some(Frame::Stderr(_)) => {}
            None => return attached.ensure_success().await.map(|()| None),
        }
    }
}

/// The first [`ExecOutput::MAX_BYTES`] bytes of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = ExecOutput::MAX_BYTES - self.bytes.len();
        self.truncated |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_never_prints_its_secrets() {
        let spec = ExecSpec {
            secret_env: vec![("PGPASSWORD".to_owned(), Secret::new("hunter2"))],
            ..ExecSpec::new(["psql"])
        };
        let printed = format!("{spec:?}");
        assert!(printed.contains("PGPASSWORD") && !printed.contains("hunter2"));
    }

    #[test]
    fn output_is_kept_up_to_its_limit_and_never_printed() {
        let mut kept = Kept::default();
        kept.add(&vec![b'x'; ExecOutput::MAX_BYTES - 1]);
        kept.add(b"y");
        assert!(!kept.truncated);
        kept.add(b"z");
        assert!(kept.truncated);
        assert_eq!(kept.bytes.len(), ExecOutput::MAX_BYTES);
        assert_eq!(kept.bytes.last(), Some(&b'y'));

        let output = ExecOutput {
            exit_code: 1,
            stdout: b"row of a patient".to_vec(),
            stderr: Vec::new(),
            truncated: false,
        };
        assert!(!format!("{output:?}").contains("patient"));
    }
}
