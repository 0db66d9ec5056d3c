//! Cofferdam's side of a helper: a container of our own image that sees one mount, for one task.
//!
//! It is made, started, called by (it connects to us, see [`super::wire`]), waited for, and removed: in every outcome,
//! also when the future is dropped. What a killed cofferdam left is removed by [`sweep`].

mod connection;
mod exec;
mod neighbour;
pub(crate) mod sqlite;
mod stand_in;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use self::connection::Connection;
pub use self::neighbour::{Neighbour, Twin};
pub use self::stand_in::StandIn;
use super::JOB;
use super::inside::Removals;
use super::job::{Failure, Report};
use super::task::{
    Destination, ExpectedLayer, FoundRoom, ListTask, Listed, MOUNT, PackTask, Packed, RoomTask,
    Settled, StagedTask, Task, UnpackTask, Unpacked,
};
use super::wire::{Call, HelperJob, Kind, Token};
use crate::engine::ours::{HELPER_NAME, TRIAL_NAME};
use crate::engine::{
    Container, Engine, EngineError, HelperMount, HelperSource, HelperSpec, Limits, Processes,
};
use crate::pipe::{ByteStream, inlet};
use crate::target::RunId;
use crate::tree::TreePath;
use crate::tree::unpack::Selection;

pub use crate::engine::ours::HELPER_LABEL;
/// The project whose run made the helper: only one run of a project goes on at a time.
pub const HELPER_PROJECT_LABEL: &str = "cofferdam.helper-of";

/// Enough to read and to restore every file whoever owns it, and nothing else.
const CAPABILITIES: [&str; 7] = [
    "DAC_READ_SEARCH",
    "DAC_OVERRIDE",
    "CHOWN",
    "FOWNER",
    "FSETID",
    "SETFCAP",
    "MKNOD",
];

/// How long a started helper may take until it calls.
const CALL: Duration = Duration::from_secs(60);
/// How long a helper may take to end after its report.
const END: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// No helper can work for us here; the archive API may.
    #[error("{0}")]
    Unavailable(String),
    #[error("the helper container failed: {0}")]
    Failed(#[from] Failure),
    #[error("the helper container did not report: {0}")]
    NoReport(String),
    /// A twin of a target's container: its last words.
    #[error("a container like the target's, on the restored data, ended at once: {0}")]
    TwinEnded(String),
    /// What was to be sent to the helper could not be read.
    #[error(transparent)]
    Source(std::io::Error),
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for HelperError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Forbidden { .. } => Self::Unavailable(error.to_string()),
            other => Self::Engine(other),
        }
    }
}

/// Makes helpers for one run.
#[derive(Clone)]
pub struct Helpers {
    pub engine: Engine,
    /// What helpers are made of: [`Engine::agent_image`].
    pub image: String,
    pub run: RunId,
    pub project: String,
    /// Shared by all drivers of a process, which waits for it before it ends.
    pub removals: Removals,
    pub probed: Probed,
}

/// Why helpers cannot work, once that was tried out; `None` when they can.
pub type Probed = Arc<OnceCell<Option<String>>>;

/// What a helper gets to see.
#[derive(Clone, Debug)]
pub struct HelperView {
    pub source: HelperSource,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// One layer on its way to a helper.
pub struct LayerInput<'a> {
    pub expected: ExpectedLayer,
    /// Paths that this layer takes away from those before it.
    pub deletions: Vec<TreePath>,
    /// The stored stream, opened when its turn comes.
    pub stored: BoxFuture<'a, std::io::Result<ByteStream>>,
}

/// A tree that is being archived. `layer` and `index` must both be read, at the same time as `done` is polled.
pub struct Packing<F> {
    pub layer: ByteStream,
    pub index: ByteStream,
    /// What the helper reported, once it has ended well.
    pub done: F,
}

impl Helpers {
    pub async fn pack(
        &self,
        view: HelperView,
        task: &PackTask,
    ) -> Result<
        Packing<impl Future<Output = Result<Packed, HelperError>> + Send + use<>>,
        HelperError,
    > {
        let mut session = self.start(Task::Pack, Some(view), task).await?;
        let (mut layer_inlet, layer) = inlet("the helper container");
        let (mut index_inlet, index) = inlet("the helper container");
        let done = async move {
            loop {
                let (kind, payload) = session.receive().await?;
                match kind {
                    Kind::Data => layer_inlet.send(payload).await,
                    Kind::Index => index_inlet.send(payload).await,
                    Kind::Report => {
                        let packed: Packed = parse_report(&payload)?;
                        layer_inlet.end(packed.layer.stored_bytes).await;
                        index_inlet.end(packed.index.stored_bytes).await;
                        session.end().await?;
                        return Ok(packed);
                    }
                    Kind::Beat | Kind::LayerEnd | Kind::Deletions => return Err(unexpected()),
                }
            }
        };
        Ok(Packing { layer, index, done })
    }

    /// Sends `layers`, which are opened one after the other, and returns what the helper made of them.
    pub async fn unpack(
        &self,
        view: HelperView,
        destination: Destination,
        selection: Selection,
        layers: Vec<LayerInput<'_>>,
    ) -> Result<Unpacked, HelperError> {
        let task = UnpackTask {
            destination,
            layers: layers.iter().map(|layer| layer.expected.clone()).collect(),
            selection,
        };
        let mut session = self.start(Task::Unpack, Some(view), &task).await?;
        for layer in layers {
            if let Some(report) = session.send_layer(layer).await? {
                return Err(early(&report));
            }
        }
        session.report().await
    }

    /// Lets what is staged take its place ([`Task::Exchange`]), or removes it ([`Task::Discard`]).
    pub async fn settle(
        &self,
        task: Task,
        view: HelperView,
        staging: String,
    ) -> Result<Settled, HelperError> {
        if task == Task::Discard {
            // The helper of a load that was given up may still be at work there.
            self.removals.done().await;
        }
        let session = self
            .start(task, Some(view), &StagedTask { staging })
            .await?;
        session.report().await
    }

    /// The regular files in a directory of a mount, as paths relative to it.
    pub async fn list(
        &self,
        view: HelperView,
        place: TreePath,
    ) -> Result<Vec<Vec<u8>>, HelperError> {
        let mut session = self
            .start(Task::List, Some(view), &ListTask { place })
            .await?;
        let mut sent = Vec::new();
        let listed: Listed = loop {
            let (kind, payload) = session.receive().await?;
            match kind {
                Kind::Index => sent.extend_from_slice(&payload),
                Kind::Report => break parse_report(&payload)?,
                _ => return Err(unexpected()),
            }
        };
        session.end().await?;
        let mut paths: Vec<Vec<u8>> = sent.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        // Behind the last NUL.
        let rest = paths.pop();
        if rest.is_none_or(|rest| rest.is_empty()) && paths.len() as u64 == listed.files {
            return Ok(paths);
        }
        Err(HelperError::NoReport(format!(
            "{} of {} paths arrived",
            paths.len(),
            listed.files
        )))
    }

    /// Bytes that are free where the engine keeps what containers write into their own layers.
    pub async fn layer_room(&self) -> Result<u64, HelperError> {
        let session = self.start(Task::Room, None, &RoomTask {}).await?;
        let found: FoundRoom = session.report().await?;
        Ok(found.free_bytes)
    }

    /// Whether helpers can work here, found out once by one that has next to nothing to do: what starts containers may refuse
    /// what the engine has let pass. The answer is why not, if they cannot.
    pub async fn probe(&self) -> Result<Option<String>, HelperError> {
        let probed = self
            .probed
            .get_or_try_init(async || match self.layer_room().await {
                Ok(_) => Ok(None),
                Err(HelperError::Unavailable(why)) => Ok(Some(why)),
                Err(error) => Err(error),
            });
        Ok(probed.await?.clone())
    }

    async fn network(&self) -> Result<String, HelperError> {
        self.engine.loopback_network().await?.ok_or_else(|| {
            HelperError::Unavailable(
                "the engine is on another machine, where helper containers cannot reach cofferdam"
                    .to_owned(),
            )
        })
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (HELPER_LABEL.to_owned(), self.run.to_string()),
            (HELPER_PROJECT_LABEL.to_owned(), self.project.clone()),
        ])
    }

    /// One that no other container has, with the run in it.
    fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}-{:08x}", self.run, rand::random::<u32>())
    }

    fn guard(&self, id: String) -> HelperContainer {
        HelperContainer {
            engine: self.engine.clone(),
            removals: self.removals.clone(),
            id,
        }
    }

    async fn start<W: Serialize>(
        &self,
        task: Task,
        view: Option<HelperView>,
        work: &W,
    ) -> Result<Session, HelperError> {
        self.start_among(Processes::Own, task, view, work).await
    }

    async fn start_among<W: Serialize>(
        &self,
        processes: Processes,
        task: Task,
        view: Option<HelperView>,
        work: &W,
    ) -> Result<Session, HelperError> {
        let network = self.network().await?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(no_network)?;
        let port = listener.local_addr().map_err(no_network)?.port();
        let token = Token::generate();
        let job = HelperJob {
            call: Call {
                port,
                token: token.clone(),
            },
            work,
        };
        let job = serde_json::to_string(&job)
            .map_err(|error| HelperError::NoReport(error.to_string()))?;
        let spec = self.spec(processes, task, view, network, job);
        let id = self.engine.create_helper(&spec).await.map_err(refused)?;
        let container = self.guard(id);
        debug!(task = task.as_str(), container = %container.id, "helper created");
        self.engine.start(&container.id).await.map_err(refused)?;
        // Until it has called, it knows of nothing that it could do.
        let silent = |what: String| {
            HelperError::Unavailable(format!("a helper container was started, and {what}"))
        };
        let connection = tokio::select! {
            accepted = tokio::time::timeout(CALL, connection::accept(listener, &token)) => {
                accepted.map_err(|_| silent(format!("did not call cofferdam within {CALL:?}")))?
            }
            ended = self.engine.wait_exit(&container.id) => {
                let code = ended?;
                return Err(silent(format!("ended with exit code {code} before it called cofferdam")));
            }
        };
        Ok(Session {
            connection: connection
                .map_err(|error| silent(format!("could not be listened to: {error}")))?,
            container,
        })
    }

    fn spec(
        &self,
        processes: Processes,
        task: Task,
        view: Option<HelperView>,
        network: String,
        job: String,
    ) -> HelperSpec {
        HelperSpec {
            name: Some(self.name(HELPER_NAME)),
            image: self.image.clone(),
            argv: ["/cofferdam", "agent", task.as_str()]
                .map(str::to_owned)
                .to_vec(),
            env: vec![(JOB.to_owned(), job)],
            labels: self.labels(),
            mounts: view
                .map(|view| HelperMount {
                    source: view.source,
                    destination: MOUNT.to_owned(),
                    read_only: view.access == Access::Read,
                })
                .into_iter()
                .collect(),
            network,
            capabilities: CAPABILITIES.to_vec(),
            processes,
            limits: Limits::Agent,
        }
    }
}

/// Removes the helpers that dead runs of the project left. For whoever holds the project's lock, before making helpers.
pub async fn sweep(engine: &Engine, project: &str) -> Result<(), EngineError> {
    let labels = [
        HELPER_LABEL.to_owned(),
        format!("{HELPER_PROJECT_LABEL}={project}"),
    ];
    for container in engine.containers(&labels).await? {
        if is_helper(engine, &container).await? {
            engine.remove(&container.id).await?;
        } else {
            warn!(
                "container {} has the labels of a helper, but neither the name nor the image of one; it is left alone",
                container.name
            );
        }
    }
    Ok(())
}

/// Labels alone prove nothing: a helper is named after the run that its label names, and of our image, unless it is one of the
/// target's image.
async fn is_helper(engine: &Engine, container: &Container) -> Result<bool, EngineError> {
    if container.is_of_compose() {
        return Ok(false);
    }
    if is_named_after_its_run(container, TRIAL_NAME) {
        return Ok(true);
    }
    Ok(is_named_after_its_run(container, HELPER_NAME) && engine.is_of_our_image(container).await?)
}

fn is_named_after_its_run(container: &Container, prefix: &str) -> bool {
    let run = container.labels.get(HELPER_LABEL);
    let Some(run) = run.and_then(|run| run.parse::<RunId>().ok()) else {
        return false;
    };
    let rest = container.name.strip_prefix(prefix);
    let number = rest.and_then(|rest| rest.strip_prefix(run.as_str())?.strip_prefix('-'));
    number.is_some_and(|number| {
        number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The engine's refusal to create or to start a helper is no failure of what is to be done. That it cannot be reached, or that a
/// volume is missing, is one.
fn refused(error: EngineError) -> HelperError {
    match error {
        EngineError::Unreachable { .. }
        | EngineError::NoSuchVolume(_)
        | EngineError::Api { status: None, .. } => HelperError::Engine(error),
        refused => HelperError::Unavailable(refused.to_string()),
    }
}

fn no_network(error: std::io::Error) -> HelperError {
    HelperError::Unavailable(format!("cannot listen on the loopback interface: {error}"))
}

fn unexpected() -> HelperError {
    HelperError::NoReport("it sent something unexpected".to_owned())
}

/// A report that came before everything had been sent can only be one of failure.
fn early(report: &[u8]) -> HelperError {
    match parse_report::<Unpacked>(report) {
        Ok(_) => unexpected(),
        Err(error) => error,
    }
}

fn parse_report<T: DeserializeOwned>(payload: &[u8]) -> Result<T, HelperError> {
    match serde_json::from_slice(payload) {
        Ok(Report::Done(done)) => Ok(done),
        Ok(Report::Failed(failure)) => Err(failure.into()),
        Err(error) => Err(HelperError::NoReport(format!(
            "its report is malformed: {error}"
        ))),
    }
}

/// A helper at work.
struct Session {
    connection: Connection,
    container: HelperContainer,
}

impl Session {
    async fn receive(&mut self) -> Result<(Kind, bytes::Bytes), HelperError> {
        self.connection
            .receive()
            .await
            .map_err(|error| HelperError::NoReport(error.to_string()))
    }

    /// `Some` with a report that came before the layer had been sent.
    async fn send_layer(
        &mut self,
        layer: LayerInput<'_>,
    ) -> Result<Option<bytes::Bytes>, HelperError> {
        self.connection.send_layer(layer).await
    }

    /// Waits for the report, and for the helper's good end.
    async fn report<T: DeserializeOwned>(mut self) -> Result<T, HelperError> {
        let (kind, payload) = self.receive().await?;
        if kind != Kind::Report {
            return Err(unexpected());
        }
        let report = parse_report(&payload)?;
        self.end().await?;
        Ok(report)
    }

    async fn end(self) -> Result<(), HelperError> {
        let Self {
            connection,
            container,
        } = self;
        drop(connection);
        let ended = tokio::time::timeout(END, container.engine.wait_exit(&container.id)).await;
        let code = ended.map_err(|_| {
            HelperError::NoReport(format!("it did not end within {END:?} after its report"))
        })??;
        if code != 0 {
            return Err(HelperError::NoReport(format!(
                "it ended with exit code {code}"
            )));
        }
        Ok(())
    }
}

/// Removes its container when it is dropped, while the run goes on. A failure is no failure of the task: the next run
/// sweeps.
struct HelperContainer {
    engine: Engine,
    removals: Removals,
    id: String,
}

impl Drop for HelperContainer {
    fn drop(&mut self) {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        self.removals.spawn(async move {
            if let Err(error) = engine.remove(&id).await {
                warn!(container = %id, "a helper container stays until the next run: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;

    #[test]
    fn a_helper_is_named_after_the_run_of_its_label() {
        let run = "20261121T020000Z-9f2c61aa";
        let named = |name: &str, label: &str| {
            let mut container = container(name);
            let label = (HELPER_LABEL.to_owned(), label.to_owned());
            container.labels.extend([label]);
            is_named_after_its_run(&container, HELPER_NAME)
        };
        let name = format!("{HELPER_NAME}{run}-0badcafe");
        assert!(named(&name, run));
        assert!(!named(&name, "20261121T020001Z-9f2c61aa"));
        assert!(!named(&name, "x"));
        assert!(!named("shop-web-1", run));
        assert!(!named(&format!("{HELPER_NAME}{run}-web"), run));
        assert!(!named(&format!("{TRIAL_NAME}{run}-0badcafe"), run));
    }
}
