//! How a dump gets from a repository to the container's own `pg_restore`.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncReadExt;
use tracing::info;

use super::server::Server;
use super::session::Session;
use super::watch::Watch;
use crate::agent::inside::{ClientEnvironment, Hands, Visit, VisitError};
use crate::agent::job::{Feed, LoadJob, Place, Stored};
use crate::driver::DriverError;
use crate::engine::EngineError;
use crate::manifest::Artifact;
use crate::pipe::ByteStream;
use crate::snapshot::{ArtifactSource, open_plain};

const PLAIN_FILE: &str = "plain";
const SCRIPT_FILE: &str = "script";
/// The dump's table of contents, and some of what follows it.
const CONTENTS_FILE: &str = "contents";
/// Settings, grants and comments of one database: a bound for what is held in memory.
const MOST_SCRIPT: u64 = 16 * 1024 * 1024;

/// What of a load goes on side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// Nothing.
    One,
    /// Indexes and constraints, once all tables have been filled one after the other.
    Indexes(NonZero<usize>),
    /// Everything. It takes the dump as a plain file, and each table is filled by one job.
    All(NonZero<usize>),
}

pub enum Inlet<'a> {
    /// Sent to the agent, which decompresses it, proves it, and feeds it to the client.
    Agent(ByAgent<'a>),
    /// Plain in the container, and proven on its way there.
    File(ByFile<'a>),
    /// Decompressed here, where it was read and proven once; by the exec's standard input.
    Stream(ByStream<'a>),
}

impl<'a> Inlet<'a> {
    /// Finds the way to a client that a visit may use. Where the agent cannot run, the dump is brought in first.
    pub async fn open(
        server: &Server,
        visit: &'a Visit,
        source: &'a dyn ArtifactSource,
        artifact: &'a Artifact,
    ) -> Result<Self, DriverError> {
        match visit.hands() {
            Hands::Agent(arrived) => Ok(Self::Agent(ByAgent {
                visit,
                source,
                artifact,
                cores: arrived.cores,
                has_script: AtomicBool::new(false),
            })),
            Hands::Clients { .. } => {
                let file = ByFile {
                    visit,
                    source,
                    artifact,
                };
                file.put(server, &Session::AsDumped).await?;
                Ok(Self::File(file))
            }
        }
    }

    /// Proves the dump in the repository.
    pub async fn stream(
        server: &Server,
        source: &'a dyn ArtifactSource,
        artifact: &'a Artifact,
    ) -> Result<Self, DriverError> {
        let mut plain = open_plain(source, artifact).await?;
        tokio::io::copy(&mut plain, &mut tokio::io::sink())
            .await
            .map_err(|error| server.clients().body_error(error))?;
        Ok(Self::Stream(ByStream { source, artifact }))
    }

    /// Cores for a parallel load; 1 where there can be none.
    pub fn cores(&self) -> usize {
        match self {
            Self::Agent(agent) => agent.cores,
            Self::File(_) | Self::Stream(_) => 1,
        }
    }

    /// What a `pg_restore` that only reads the beginning of the dump prints.
    pub async fn script(
        &self,
        server: &Server,
        mut argv: Vec<String>,
    ) -> Result<Vec<u8>, DriverError> {
        let environment = server.environment().clone();
        match self {
            Self::Agent(agent) => agent.script(server, argv).await,
            Self::File(file) => {
                argv.push(file.visit.path(PLAIN_FILE));
                Ok(server.run(argv, environment).await?.stdout)
            }
            Self::Stream(stream) => {
                let session = Session::AsDumped;
                stream.run(server, argv, environment, &session).await
            }
        }
    }

    /// Runs a `pg_restore` that loads. After an error, `watch` ends what an agent does not. Several jobs need a
    /// [`Inlet::script`] before them.
    pub async fn restore(
        &self,
        server: &Server,
        watch: &Watch,
        mut argv: Vec<String>,
        jobs: Jobs,
        session: &Session,
    ) -> Result<(), DriverError> {
        let environment = watch.mark(server.loading_environment(session));
        match self {
            Self::Agent(agent) => {
                let restoring = Restoring {
                    agent,
                    server,
                    environment: &environment,
                    session,
                };
                let restored = restoring.restore(argv, jobs).await;
                restored.map_err(|error| error.at(server))
            }
            Self::File(file) => {
                if *session != Session::AsDumped {
                    file.put(server, session).await?;
                }
                argv.push(file.visit.path(PLAIN_FILE));
                server.run(argv, environment).await.map(drop)
            }
            Self::Stream(stream) => {
                let restored = stream.run(server, argv, environment, session);
                restored.await.map(drop)
            }
        }
    }
}

pub struct ByAgent<'a> {
    visit: &'a Visit,
    source: &'a dyn ArtifactSource,
    artifact: &'a Artifact,
    cores: usize,
    /// A script was taken from it, and its beginning kept.
    has_script: AtomicBool,
}

impl ByAgent<'_> {
    fn input(&self) -> Stored {
        let has_script = self.has_script.load(Ordering::Relaxed);
        Stored {
            beginning: has_script.then(|| self.visit.path(CONTENTS_FILE)),
            place: Place::Incoming,
            compression: self.artifact.compression,
            plain: self.artifact.plain.clone(),
            stored_bytes: self.artifact.compressed_bytes(),
        }
    }

    /// Runs a client on the dump, which is sent to it.
    async fn run(
        &self,
        server: &Server,
        job: LoadJob,
        environment: &ClientEnvironment,
    ) -> Result<(), LoadError> {
        let stored = self.source.open(self.artifact).await;
        let stored = stored.map_err(|error| LoadError::Other(error.into()))?;
        let loaded = self.visit.load_incoming(&job, environment, stored).await;
        loaded.map(drop).map_err(|error| match error {
            VisitError::NoRoom { place, .. } => LoadError::NoRoom(place),
            VisitError::Engine(EngineError::Source { source, .. }) => {
                LoadError::Other(server.clients().body_error(source))
            }
            error => LoadError::Other(server.clients().visit_error(error)),
        })
    }

    async fn script(&self, server: &Server, client: Vec<String>) -> Result<Vec<u8>, DriverError> {
        let failed = |error| server.clients().visit_error(error);
        let job = LoadJob {
            client,
            feed: Feed::Beginning {
                input: self.input(),
                keep: Some(self.visit.path(CONTENTS_FILE)),
            },
            patch: None,
            stdout: Some(self.visit.path(SCRIPT_FILE)),
        };
        self.run(server, job, server.environment())
            .await
            .map_err(|error| error.at(server))?;
        self.has_script.store(true, Ordering::Relaxed);
        let (_, script) = self.visit.get(SCRIPT_FILE).await.map_err(failed)?;
        let mut bytes = Vec::new();
        script
            .take(MOST_SCRIPT)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| server.clients().body_error(error))?;
        Ok(bytes)
    }
}

/// One `pg_restore` by the agent, or two.
struct Restoring<'a> {
    agent: &'a ByAgent<'a>,
    server: &'a Server,
    environment: &'a ClientEnvironment,
    session: &'a Session,
}

impl Restoring<'_> {
    async fn restore(&self, client: Vec<String>, jobs: Jobs) -> Result<(), LoadError> {
        match jobs {
            Jobs::One => self.by_stdin(client).await,
            Jobs::Indexes(jobs) => self.in_parts(client, jobs).await,
            Jobs::All(jobs) => match self.by_file(&client, jobs).await {
                // The client has not been started.
                Err(LoadError::NoRoom(place)) => {
                    info!(
                        "no room for the decompressed dump in {place}: filling one table after the other"
                    );
                    self.in_parts(client, jobs).await
                }
                loaded => loaded,
            },
        }
    }

    fn job(&self, client: Vec<String>, feed: Feed) -> LoadJob {
        LoadJob {
            client,
            feed,
            patch: self.session.patch(),
            stdout: None,
        }
    }

    async fn by_stdin(&self, client: Vec<String>) -> Result<(), LoadError> {
        let input = self.agent.input();
        let job = self.job(client, Feed::Stdin { input });
        self.agent.run(self.server, job, self.environment).await
    }

    async fn by_file(&self, client: &[String], jobs: NonZero<usize>) -> Result<(), LoadError> {
        let feed = Feed::File {
            input: self.agent.input(),
            path: self.agent.visit.path(PLAIN_FILE),
        };
        let job = self.job(in_parallel(client, jobs), feed);
        self.agent.run(self.server, job, self.environment).await
    }

    /// What comes after the data is described by the table of contents alone, so the second `pg_restore`, which needs a file
    /// to work in parallel, gets along with the dump's beginning.
    async fn in_parts(&self, client: Vec<String>, jobs: NonZero<usize>) -> Result<(), LoadError> {
        let mut filling = client.clone();
        filling.extend(["--section=pre-data", "--section=data"].map(str::to_owned));
        self.by_stdin(filling).await?;

        let mut finishing = in_parallel(&client, jobs);
        finishing.push("--section=post-data".to_owned());
        let path = self.agent.visit.path(CONTENTS_FILE);
        let job = self.job(finishing, Feed::Kept { path });
        let finished = self.agent.visit.load(&job, self.environment).await;
        finished
            .map(drop)
            .map_err(|error| LoadError::Other(self.server.clients().visit_error(error)))
    }
}

enum LoadError {
    NoRoom(String),
    Other(DriverError),
}

impl LoadError {
    fn at(self, server: &Server) -> DriverError {
        match self {
            Self::NoRoom(place) => server.clients().no_room(&place),
            Self::Other(error) => error,
        }
    }
}

fn in_parallel(argv: &[String], jobs: NonZero<usize>) -> Vec<String> {
    [argv, &[format!("--jobs={jobs}")]].concat()
}

pub struct ByFile<'a> {
    visit: &'a Visit,
    source: &'a dyn ArtifactSource,
    artifact: &'a Artifact,
}

impl ByFile<'_> {
    /// Brings the dump into the container, over one that is there.
    async fn put(&self, server: &Server, session: &Session) -> Result<(), DriverError> {
        let plain = open_for(server, self.source, self.artifact, session).await?;
        let put = self.visit.put(PLAIN_FILE, self.artifact.plain.bytes, plain);
        put.await
            .map_err(|error| server.clients().visit_error(error))
    }
}

/// The plain dump, as this session needs it.
async fn open_for(
    server: &Server,
    source: &dyn ArtifactSource,
    artifact: &Artifact,
    session: &Session,
) -> Result<ByteStream, DriverError> {
    let plain = open_plain(source, artifact).await?;
    match session.patch() {
        None => Ok(plain),
        Some(patch) => patch
            .stream(plain)
            .await
            .map_err(|error| server.clients().body_error(error)),
    }
}

pub struct ByStream<'a> {
    source: &'a dyn ArtifactSource,
    artifact: &'a Artifact,
}

impl ByStream<'_> {
    /// Runs a client with the plain dump as its input; what it printed.
    async fn run(
        &self,
        server: &Server,
        argv: Vec<String>,
        environment: ClientEnvironment,
        session: &Session,
    ) -> Result<Vec<u8>, DriverError> {
        let plain = open_for(server, self.source, self.artifact, session).await?;
        let clients = server.clients();
        let spec = clients.spec(argv, environment);
        let output = clients.exec_with_input(&spec, plain).await?;
        clients.ensure_success(spec.program(), &output)?;
        Ok(output.stdout)
    }
}
