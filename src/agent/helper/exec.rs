//! Commands in containers that end when nobody waits for them any more.
//!
//! The engine has no way to end an exec. So the command carries a mark in its environment, which its children inherit, and
//! a helper that shares the container's processes ends whatever carries it: where the time is over, where the connection
//! broke, and where the future was dropped. A command may give itself another environment (`env -i`) and lose the mark:
//! so the engine is asked as well whether it has ended.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tracing::warn;

use super::{HelperContainer, Helpers};
use crate::agent::ended::{EXIT_ENDED, EXIT_RUNS, EndJob, GRACE, MARK};
use crate::agent::{END, JOB};
use crate::engine::ours::HELPER_NAME;
use crate::engine::{EngineError, ExecOutput, ExecSpec, HelperSpec, Processes};
use crate::pipe::ByteStream;

/// Beyond the grace, for the helper and the engine.
const MARGIN: Duration = Duration::from_secs(60);
/// To end processes of any user, and to find them by their environment.
const CAPABILITIES: [&str; 3] = ["KILL", "SYS_PTRACE", "DAC_READ_SEARCH"];

impl Helpers {
    /// Like [`Engine::exec`], but what the command has started does not outlive this call: after an error it was ended, or
    /// the error says that it could not be ([`EngineError::MayStillRun`]). When the future is dropped, it is ended by
    /// itself; [`Removals::done`] waits for that.
    ///
    /// [`Engine::exec`]: crate::engine::Engine::exec
    /// [`Removals::done`]: crate::agent::inside::Removals::done
    pub async fn exec(
        &self,
        container: &str,
        mut spec: ExecSpec,
    ) -> Result<ExecOutput, EngineError> {
        let attended = self.attend(container, &mut spec);
        let ran = self.engine.exec(container, &spec).await;
        attended.settle(ran).await
    }

    /// Likewise for [`Engine::exec_with_input`](crate::engine::Engine::exec_with_input).
    pub async fn exec_with_input(
        &self,
        container: &str,
        mut spec: ExecSpec,
        stdin: ByteStream,
    ) -> Result<ExecOutput, EngineError> {
        let attended = self.attend(container, &mut spec);
        let ran = self.engine.exec_with_input(container, &spec, stdin).await;
        attended.settle(ran).await
    }

    /// Likewise for [`Engine::exec_stream`](crate::engine::Engine::exec_stream): what the command has started is ended once
    /// the stream is dropped before its good end.
    pub async fn exec_stream(
        &self,
        container: &str,
        mut spec: ExecSpec,
        idle_limit: Duration,
    ) -> Result<ByteStream, EngineError> {
        let attended = self.attend(container, &mut spec);
        match self.engine.exec_stream(container, &spec, idle_limit).await {
            Ok(body) => Ok(Box::pin(AttendedStream { body, attended })),
            Err(error) => attended.settle(Err(error)).await,
        }
    }

    fn attend(&self, container: &str, spec: &mut ExecSpec) -> Attended {
        let mark = format!("{:032x}", rand::random::<u128>());
        spec.env.push((MARK.to_owned(), mark.clone()));
        spec.id = Arc::default();
        Attended {
            helpers: self.clone(),
            container: container.to_owned(),
            command: Some(Command {
                program: spec.program().to_owned(),
                mark,
                id: spec.id.clone(),
            }),
        }
    }

    async fn end_command(&self, container: &str, command: &Command) -> Result<(), String> {
        let runs = self.engine.inspect(container).await;
        match runs {
            Ok(found) if found.is_alive() => {}
            // Its processes went with it.
            Ok(_) | Err(EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        let ended =
            tokio::time::timeout(GRACE + MARGIN, self.run_end(container, &command.mark)).await;
        match ended.map_err(|_| "the helper did not end".to_owned())? {
            Ok(EXIT_ENDED) => {}
            Ok(EXIT_RUNS) => {
                return Err("some of its processes do not end, or cannot be seen".to_owned());
            }
            Ok(code) => return Err(format!("the helper ended with exit code {code}")),
            Err(error) => return Err(error.to_string()),
        }
        // Without an id it was never started.
        let Some(id) = command.id.get() else {
            return Ok(());
        };
        let engine = &self.engine;
        let ended = engine.ensure_exec_ended(container, &command.program, id);
        ended.await.map_err(|error| match error {
            EngineError::Cut { message, .. } => message,
            other => other.to_string(),
        })
    }

    async fn run_end(&self, container: &str, mark: &str) -> Result<i64, EngineError> {
        let job = EndJob {
            mark: mark.to_owned(),
        };
        let spec = HelperSpec {
            name: Some(self.name(HELPER_NAME)),
            image: self.image.clone(),
            argv: ["/cofferdam", "agent", END].map(str::to_owned).to_vec(),
            env: vec![(
                JOB.to_owned(),
                serde_json::to_string(&job).expect("a job has only string keys"),
            )],
            labels: self.labels(),
            network: "none".to_owned(),
            capabilities: CAPABILITIES.to_vec(),
            processes: Processes::Of(container.to_owned()),
            ..HelperSpec::default()
        };
        let helper: HelperContainer = self.guard(self.engine.create_helper(&spec).await?);
        self.engine.start(&helper.id).await?;
        self.engine.wait_exit(&helper.id).await
    }
}

/// Whether an exec that failed so may have left something that runs.
fn may_still_run(error: &EngineError) -> bool {
    !matches!(
        error,
        EngineError::NotRunning { .. }
            | EngineError::NoSuchContainer(_)
            | EngineError::CannotRun { .. }
    )
}

/// A command that is ended when this is dropped, unless it ended by itself.
struct Attended {
    helpers: Helpers,
    container: String,
    /// Gone once nothing of it runs.
    command: Option<Command>,
}

#[derive(Clone)]
struct Command {
    program: String,
    /// The value of [`MARK`].
    mark: String,
    /// Of the exec, once it is there.
    id: Arc<OnceLock<String>>,
}

impl Attended {
    async fn settle<T>(mut self, ran: Result<T, EngineError>) -> Result<T, EngineError> {
        let (error, command) = match (ran, self.command.clone()) {
            (Err(error), Some(command)) if may_still_run(&error) => (error, command),
            (ran, _) => {
                self.command = None;
                return ran;
            }
        };
        let ended = self.helpers.end_command(&self.container, &command).await;
        self.command = None;
        Err(match ended {
            Ok(()) => error,
            Err(why) => EngineError::MayStillRun {
                error: Box::new(error),
                container: self.container.clone(),
                why,
            },
        })
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let Some(command) = self.command.take() else {
            return;
        };
        let (helpers, container) = (self.helpers.clone(), self.container.clone());
        self.helpers.removals.spawn(async move {
            if let Err(why) = helpers.end_command(&container, &command).await {
                warn!(%container, "a command that was interrupted may still be running: {why}");
            }
        });
    }
}

struct AttendedStream {
    body: ByteStream,
    attended: Attended,
}

impl AsyncRead for AttendedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = ready!(self.body.as_mut().poll_read(context, buffer));
        let has_ended = match &read {
            Ok(()) => buffer.filled().len() == filled && buffer.remaining() > 0,
            Err(error) => matches!(
                EngineError::in_io(error),
                Some(EngineError::Exited { .. } | EngineError::CannotRun { .. })
            ),
        };
        if has_ended {
            self.attended.command = None;
        }
        Poll::Ready(read)
    }
}
