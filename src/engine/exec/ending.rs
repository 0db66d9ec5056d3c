//! What the engine says of a command's end.
//!
//! A connection that a proxy or a dying engine closes between two frames looks like the end of the output. So the end of a
//! stream means nothing by itself, and the engine is asked. It learns of an exit a little later than the
//! stream ends, hence it is asked again for a while; to tell that from a stream that was cut, we look whether the process
//! is still there. One thing stays invisible from here: a stream cut within the last [`LINGER`] of a command that then
//! ended well. What is read must say itself where it ends.

use std::time::Duration;

use bollard::models::ExecInspectResponse;
use tokio::time::Instant;

use crate::engine::fault::About;
use crate::engine::{Engine, EngineError};
use crate::secret::Redactor;

/// An engine under load may need this long to notice that a process is gone.
const EXIT_NOTICED: Duration = Duration::from_secs(15);
/// The same, when nobody can tell whether the process is gone.
const EXIT_NOTICED_BLIND: Duration = Duration::from_secs(2);
/// How long the list of a container's processes is waited for: a copy out of it may be in the way.
const LISTING: Duration = Duration::from_secs(5);
/// A process that still runs this long after the end of its output did not end it.
const LINGER: Duration = Duration::from_millis(300);

/// A command that was started in a container.
pub(super) struct Exec {
    pub(super) engine: Engine,
    pub(super) container: String,
    pub(super) program: String,
    /// The engine's id of this exec.
    pub(super) id: String,
    pub(super) redactor: Redactor,
}

impl Engine {
    /// An error where the engine does not say that the first process of an exec has ended. What that has started may run on.
    pub async fn ensure_exec_ended(
        &self,
        container: &str,
        program: &str,
        id: &str,
    ) -> Result<(), EngineError> {
        let exec = Exec {
            engine: self.clone(),
            container: container.to_owned(),
            program: program.to_owned(),
            id: id.to_owned(),
            redactor: Redactor::new([]),
        };
        exec.wait_for(|exec| (exec.running == Some(false)).then_some(()))
            .await
    }
}

impl Exec {
    /// The exit code, once the engine knows that the process has ended.
    ///
    /// `stdout`: its first words; a code that only says that there was nothing to run is [`EngineError::CannotRun`].
    pub(super) async fn confirmed_exit(&self, stdout: &[u8]) -> Result<i64, EngineError> {
        let exit = self.wait_for(|exec| match (exec.running, exec.exit_code) {
            (Some(false), Some(code)) => Some((code, exec.pid)),
            _ => None,
        });
        // The process id is 0 when there never was a process.
        let (code, pid) = exit.await?;
        if is_never_started(code, pid, stdout) {
            let words = self.redactor.head(stdout, true);
            return Err(EngineError::CannotRun {
                container: self.container.clone(),
                program: self.program.clone(),
                message: String::from_utf8_lossy(&words).trim().to_owned(),
            });
        }
        Ok(code)
    }

    pub(super) async fn has_ended(&self) -> Result<bool, EngineError> {
        Ok(self.inspect().await?.running == Some(false))
    }

    pub(super) fn cut(&self, message: impl Into<String>) -> EngineError {
        EngineError::Cut {
            container: self.container.clone(),
            program: self.program.clone(),
            message: message.into(),
        }
    }

    /// What `end` reads of the exec, once the engine knows that the process has ended.
    async fn wait_for<T>(
        &self,
        end: impl Fn(&ExecInspectResponse) -> Option<T>,
    ) -> Result<T, EngineError> {
        let ended = Instant::now();
        let mut patience = EXIT_NOTICED;
        let mut pause = Duration::from_millis(10);
        let mut looked = false;
        loop {
            let exec = self.inspect().await?;
            if let Some(end) = end(&exec) {
                return Ok(end);
            }
            if ended.elapsed() >= patience {
                return Err(self.cut(match exec.running {
                    Some(false) => "the engine knows no exit code",
                    _ => "the engine says that the process is still running",
                }));
            }
            if !looked && ended.elapsed() >= LINGER {
                looked = true;
                match self.is_process_alive(exec.pid).await {
                    Some(true) => return Err(self.cut("the process is still running")),
                    Some(false) => {}
                    None => patience = EXIT_NOTICED_BLIND,
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// `None`: nobody can tell.
    async fn is_process_alive(&self, pid: Option<i64>) -> Option<bool> {
        let pid = pid.filter(|&pid| pid > 0)?;
        let listing = self.engine.processes(&self.container);
        let processes = tokio::time::timeout(LISTING, listing).await.ok()?.ok()?;
        let alive = |pid| {
            processes
                .iter()
                .any(|process| process.pid == pid && !process.defunct)
        };
        Some(alive(pid))
    }

    async fn inspect(&self) -> Result<ExecInspectResponse, EngineError> {
        let inspected = self.engine.client.inspect_exec(&self.id).await;
        inspected.map_err(|error| {
            let error = self
                .engine
                .fault(error, About::Engine, "report how it ended");
            self.cut(error.to_string())
        })
    }
}

/// Engines report a command that they could not start as one that ended with 126 or 127, and put the runtime's words on
/// standard output. A command that ran may end with these codes too, but it had a process id.
fn is_never_started(code: i64, pid: Option<i64>, stdout: &[u8]) -> bool {
    matches!(code, 126 | 127)
        && (pid == Some(0) || is_the_runtimes(&String::from_utf8_lossy(stdout)))
}

/// Whether `words` are the runtime's, or the engine's on its behalf. Newer engines refuse some commands with them.
pub(super) fn is_the_runtimes(words: &str) -> bool {
    [
        "OCI runtime exec failed",
        "unable to find user",
        "unable to find group",
    ]
    .iter()
    .any(|beginning| words.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ran_is_told_from_one_that_could_not() {
        let table = [
            (126, Some(0), &b"anything"[..], true),
            (
                127,
                Some(4711),
                b"OCI runtime exec failed: exec failed: \"x\"",
                true,
            ),
            (
                126,
                None,
                b"unable to find user nobody2: no matching entries",
                true,
            ),
            (127, Some(4711), b"sh: x: not found", false),
            (127, None, b"", false),
            (1, Some(0), b"OCI runtime exec failed", false),
            (0, Some(0), b"", false),
        ];
        for (code, pid, stdout, expected) in table {
            assert_eq!(
                is_never_started(code, pid, stdout),
                expected,
                "{code} {pid:?}"
            );
        }
    }
}
