//! A server's own clients, run in its own container; what they print becomes an artifact, and an artifact what they read.
//!
//! ```text
//! copy    client ─▶ agent: digest, compress, digest ─▶ file ─▶ archive API ─▶ sink
//! stream  client ─▶ exec's stdout ─▶ compress ─▶ sink            where no agent can run, or by label
//! load    source ─▶ exec's stdin ─▶ agent: decompress, prove ─▶ client, or plain to the client itself
//! ```
//!
//! - `failure`: what went wrong, in the terms of an administrator

mod failure;

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::DriverError;
use crate::agent::helper::Helpers;
use crate::agent::inside::{ClientEnvironment, Hands, Visit, VisitError, Visitor};
use crate::agent::job::{
    DumpJob, Dumped, Endpoint, Failure, Feed, Form, LoadJob, Place, RelayJob, Relayed, Selects,
    Stored,
};
use crate::engine::{Container, Engine, EngineError, ExecOutput, ExecSpec};
use crate::labels::TransferChoice;
use crate::manifest::{Artifact, Compression, Role, Transfer};
use crate::pipe::{ByteStream, Tail, compress};
use crate::snapshot::{ArtifactSink, ArtifactSource, NewArtifact, open_plain};

/// What mends a failure that a client told in these words.
pub type Remedy = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The clients in one container, as one driver runs them.
#[derive(Clone)]
pub struct Clients {
    pub engine: Engine,
    pub container: Container,
    /// What the driver's labels begin with: `cofferdam.postgres`.
    pub label: String,
    /// Who execs run as; `None`: the container's own user.
    pub exec_user: Option<String>,
    pub environment: ClientEnvironment,
    pub remedy: Remedy,
    /// What ends clients that nobody waits for any more. Without it they go on: those of a server, whose limits are its
    /// own.
    pub helpers: Option<Helpers>,
}

/// A dump that is to be taken from a client's standard output.
#[derive(Clone, Debug)]
pub struct DumpOrder {
    pub argv: Vec<String>,
    pub role: Role,
    /// The ending of the plain content, without a dot.
    pub extension: &'static str,
    pub transfer: TransferChoice,
    /// How long the client may print nothing.
    pub idle_limit: Duration,
    pub chatter: Chatter,
    /// Between the client and its server, where an agent runs.
    pub relay: Option<RelayOrder>,
}

/// How a MySQL client is to go through the agent's relay: see [`RelayJob`].
#[derive(Clone, Debug)]
pub struct RelayOrder {
    /// The client as it connects to the relay's socket.
    pub argv: Vec<String>,
    pub server: Endpoint,
    pub selects: Selects,
}

/// What it means when a client that succeeds says something on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chatter {
    /// An administrator ought to read it.
    Warning,
    /// It tells how far it has come, as many do.
    Progress,
}

/// A dump that has arrived.
#[derive(Clone, Debug)]
pub struct Taken {
    pub transfer: Transfer,
    pub artifact: Artifact,
    /// How the plain dump ends.
    pub tail: Vec<u8>,
    pub warnings: Vec<String>,
    /// What became of the relay, where one was ordered.
    pub relayed: Option<Relayed>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Clients")
            .field("container", &self.container.name)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl Clients {
    /// A client with this environment.
    pub fn spec(&self, argv: Vec<String>, environment: ClientEnvironment) -> ExecSpec {
        ExecSpec {
            env: environment.plain,
            secret_env: environment.secret,
            user: self.exec_user.clone(),
            ..ExecSpec::new(argv)
        }
    }

    /// Runs a client to its end, whatever that is.
    pub async fn exec(&self, spec: &ExecSpec) -> Result<ExecOutput, DriverError> {
        let container = &self.container.id;
        let ran = match &self.helpers {
            Some(helpers) => helpers.exec(container, spec.clone()).await,
            None => self.engine.exec(container, spec).await,
        };
        ran.map_err(|error| self.engine_error(error))
    }

    /// Runs a client on this input to its end, whatever that is.
    pub async fn exec_with_input(
        &self,
        spec: &ExecSpec,
        input: ByteStream,
    ) -> Result<ExecOutput, DriverError> {
        let container = &self.container.id;
        let ran = match &self.helpers {
            Some(helpers) => {
                let spec = spec.clone();
                helpers.exec_with_input(container, spec, input).await
            }
            None => self.engine.exec_with_input(container, spec, input).await,
        };
        ran.map_err(|error| match error {
            EngineError::Source { source, .. } => self.body_error(source),
            other => self.engine_error(other),
        })
    }

    /// Takes what a client prints into the snapshot. It counts only when the client has ended with 0.
    pub async fn dump(
        &self,
        visitor: Visitor<'_>,
        order: &DumpOrder,
        sink: &dyn ArtifactSink,
    ) -> Result<Taken, DriverError> {
        let mut warnings = Vec::new();
        if order.transfer == TransferChoice::Copy {
            match Visit::begin(visitor).await {
                Ok(visit) => {
                    let taken = match visit.hands() {
                        Hands::Agent(_) => Some(self.dump_by_agent(&visit, order, sink).await),
                        Hands::Clients { why } => {
                            warnings.push(format!(
                                "the agent cannot run in container {}, so the dump was streamed, which is slower: {why}",
                                self.container.name
                            ));
                            None
                        }
                    };
                    warnings.extend(visit.end().await.err().map(|left| left.to_string()));
                    if let Some(taken) = taken {
                        return Ok(taken?.warned_of(warnings));
                    }
                }
                Err(error @ VisitError::NoPlace { .. }) => warnings.push(format!(
                    "{error}; the dump was streamed instead, which is slower"
                )),
                Err(error) => return Err(self.visit_error(error)),
            }
        }
        Ok(self.dump_by_stream(order, sink).await?.warned_of(warnings))
    }

    async fn dump_by_agent(
        &self,
        visit: &Visit,
        order: &DumpOrder,
        sink: &dyn ArtifactSink,
    ) -> Result<Taken, DriverError> {
        const FILE: &str = "dump";
        let dumped = async {
            let job = DumpJob {
                client: order.argv.clone(),
                output: visit.path(FILE),
                compression: sink.compression(),
                idle_limit_seconds: order.idle_limit.as_secs(),
                form: Form::Anything,
                relay: match &order.relay {
                    Some(relay) => Some(relay.bring_in(visit).await?),
                    None => None,
                },
            };
            visit.dump(&job, &self.environment).await
        };
        let dumped = dumped.await.map_err(|error| self.visit_error(error))?;
        let artifact = self
            .bring_out(visit, FILE, &dumped, order.new_artifact(), sink)
            .await?;
        let program = order.argv.first().map_or("", String::as_str);
        Ok(Taken {
            transfer: Transfer::Copy,
            artifact,
            warnings: match order.chatter {
                Chatter::Warning => self.said(program, &dumped.stderr),
                Chatter::Progress => Vec::new(),
            },
            tail: dumped.tail,
            relayed: dumped.relayed,
        })
    }

    /// What a client that succeeded had to say.
    pub fn said(&self, program: &str, words: &str) -> Vec<String> {
        match self.redact(words) {
            words if words.is_empty() => Vec::new(),
            words => vec![format!("{program} said: {words}")],
        }
    }

    /// Brings out what an agent has made. What arrives has to be what was sent.
    pub async fn bring_out(
        &self,
        visit: &Visit,
        file: &str,
        dumped: &Dumped,
        artifact: impl FnOnce(Compression) -> NewArtifact,
        sink: &dyn ArtifactSink,
    ) -> Result<Artifact, DriverError> {
        let (_, body) = visit
            .get(file)
            .await
            .map_err(|error| self.visit_error(error))?;
        let artifact = sink.store(artifact(sink.compression()), body).await?;
        if artifact.plain != dumped.stored {
            return Err(DriverError::Damaged {
                what: "the dump".to_owned(),
                expected: dumped.stored.clone(),
                found: artifact.plain,
            });
        }
        Ok(Artifact {
            plain: dumped.plain.clone(),
            ..artifact
        })
    }

    async fn dump_by_stream(
        &self,
        order: &DumpOrder,
        sink: &dyn ArtifactSink,
    ) -> Result<Taken, DriverError> {
        let spec = self.spec(order.argv.clone(), self.environment.clone());
        let (container, limit) = (&self.container.id, order.idle_limit);
        let body = match &self.helpers {
            Some(helpers) => helpers.exec_stream(container, spec, limit).await,
            None => self.engine.exec_stream(container, &spec, limit).await,
        };
        let body = body.map_err(|error| self.engine_error(error))?;
        let (body, tail) = Tail::new(body);
        let artifact = self
            .store_compressed(order.new_artifact(), Box::pin(body), sink)
            .await?;
        Ok(Taken {
            transfer: Transfer::Stream,
            artifact,
            tail: tail.get(),
            warnings: Vec::new(),
            relayed: order.relay.as_ref().map(|_| Relayed::NotAtAll {
                why: "the dump was streamed".to_owned(),
            }),
        })
    }

    /// Stores a plain stream compressed; the artifact tells the plain digest.
    pub async fn store_compressed(
        &self,
        artifact: impl FnOnce(Compression) -> NewArtifact,
        plain: ByteStream,
        sink: &dyn ArtifactSink,
    ) -> Result<Artifact, DriverError> {
        let compression = sink.compression();
        let (body, digest) = compress(plain, compression);
        let stored = sink.store(artifact(compression), body).await;
        let mut artifact = stored.map_err(|error| self.store_error(error))?;
        artifact.plain = digest
            .get()
            .ok_or_else(|| DriverError::failed("the stream was stored before it had ended"))?;
        Ok(artifact)
    }

    /// Feeds an artifact to a client's standard input. Its digests have been verified when this returns well; a client may
    /// have seen all of a damaged stream before that shows.
    pub async fn load(
        &self,
        visitor: Visitor<'_>,
        transfer: TransferChoice,
        argv: Vec<String>,
        source: &dyn ArtifactSource,
        artifact: &Artifact,
    ) -> Result<(), DriverError> {
        if transfer == TransferChoice::Copy {
            match Visit::begin(visitor).await {
                Ok(visit) => {
                    let loaded = match visit.hands() {
                        Hands::Agent(_) => Some(
                            self.load_by_agent(&visit, argv.clone(), source, artifact)
                                .await,
                        ),
                        Hands::Clients { .. } => None,
                    };
                    if let Err(left) = visit.end().await {
                        warn!("{left}");
                    }
                    if let Some(loaded) = loaded {
                        return loaded;
                    }
                }
                Err(VisitError::NoPlace { .. }) => {}
                Err(error) => return Err(self.visit_error(error)),
            }
        }
        let plain = open_plain(source, artifact).await?;
        let spec = self.spec(argv, self.environment.clone());
        let output = self.exec_with_input(&spec, plain).await?;
        self.ensure_success(spec.program(), &output)
    }

    async fn load_by_agent(
        &self,
        visit: &Visit,
        client: Vec<String>,
        source: &dyn ArtifactSource,
        artifact: &Artifact,
    ) -> Result<(), DriverError> {
        let input = Stored {
            place: Place::Incoming,
            compression: artifact.compression,
            plain: artifact.plain.clone(),
            stored_bytes: artifact.compressed_bytes(),
            beginning: None,
        };
        let job = LoadJob {
            client,
            feed: Feed::Stdin { input },
            patch: None,
            stdout: None,
        };
        let stored = source.open(artifact).await?;
        let loaded = visit.load_incoming(&job, &self.environment, stored).await;
        loaded.map(drop).map_err(|error| match error {
            VisitError::Engine(EngineError::Source { source, .. }) => self.body_error(source),
            error => self.visit_error(error),
        })
    }
}

impl DumpOrder {
    fn new_artifact(&self) -> impl FnOnce(Compression) -> NewArtifact + use<> {
        let (role, extension) = (self.role, self.extension);
        move |compression| NewArtifact {
            role,
            extension,
            compression,
        }
    }
}

impl RelayOrder {
    /// Puts what the relay needs to know beside the agent: there may be more of it than an environment can hold.
    async fn bring_in(&self, visit: &Visit) -> Result<RelayJob, VisitError> {
        const SELECTS: &str = "selects";
        let selects = serde_json::to_vec(&self.selects).map_err(|error| {
            VisitError::Failed(Failure::Other {
                message: format!("the names of columns cannot be recorded: {error}"),
            })
        })?;
        let bytes = selects.len() as u64;
        visit
            .put(SELECTS, bytes, Box::pin(Cursor::new(selects)))
            .await?;
        Ok(RelayJob {
            client: self.argv.clone(),
            server: self.server.clone(),
            selects: visit.path(SELECTS),
        })
    }
}

impl Taken {
    fn warned_of(mut self, mut earlier: Vec<String>) -> Self {
        earlier.append(&mut self.warnings);
        self.warnings = earlier;
        self
    }
}
