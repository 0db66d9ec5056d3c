//! Commands inside containers.
//!
//! A stream of an exec is believed only when, after its end, the engine says that the process is not running and knows its
//! exit code. Absent, null or unknown is failure.

use std::time::Duration;

use super::{Engine, EngineError};
use crate::pipe::ByteStream;
use crate::secret::Secret;

/// An argv vector: no shell is between us and the program.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Environment variables that hold secrets; they are redacted from everything the command prints.
    pub secret_env: Vec<(String, Secret)>,
    /// `None`: the container's own user.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// `None`: no limit.
    pub limit: Option<Duration>,
}

/// What a command that ended said. Each stream is kept up to [`ExecOutput::LIMIT`] bytes.
#[derive(Clone, Debug)]
pub struct ExecOutput {
    pub exit_code: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// More was printed than is kept.
    pub truncated: bool,
}

impl ExecOutput {
    pub const LIMIT: usize = 4 * 1024 * 1024;
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
    pub async fn exec(
        &self,
        _container: &str,
        _spec: &ExecSpec,
    ) -> Result<ExecOutput, EngineError> {
        todo!()
    }

    /// Runs a command and streams its standard output. The stream reaches its end only when the command has ended with
    /// code 0; otherwise it yields an error that carries the code and the last words of standard error.
    /// `idle_limit`: how long the command may stay silent.
    pub async fn exec_stream(
        &self,
        _container: &str,
        _spec: &ExecSpec,
        _idle_limit: Duration,
    ) -> Result<ByteStream, EngineError> {
        todo!()
    }

    /// Runs a command that reads `stdin` to its end, and waits for it.
    pub async fn exec_with_input(
        &self,
        _container: &str,
        _spec: &ExecSpec,
        _stdin: ByteStream,
    ) -> Result<ExecOutput, EngineError> {
        todo!()
    }
}
