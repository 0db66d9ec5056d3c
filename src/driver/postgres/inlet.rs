//! How a dump gets from a repository to the container's own `pg_restore`.

use std::num::NonZero;

use tokio::io::AsyncReadExt;
use tracing::info;

use super::failure::{body_error, visit_error};
use super::server::Server;
use super::watch::Watch;
use crate::agent::inside::{ClientEnvironment, Hands, Visit, VisitError};
use crate::agent::job::{Feed, LoadJob, StoredFile};
use crate::driver::{ArtifactSource, DriverError};
use crate::engine::EngineError;
use crate::manifest::{Artifact, Encryption};
use crate::repository::snapshot::open_plain;

const DUMP_FILE: &str = "dump";
const PLAIN_FILE: &str = "plain";
const SCRIPT_FILE: &str = "script";
/// The dump's table of contents, and some of what follows it.
const CONTENTS_FILE: &str = "contents";
/// Settings, grants and comments of one database: a bound for what is held in memory.
const MOST_SCRIPT: u64 = 16 * 1024 * 1024;

/// When the dump in the container is proven whole, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Before the client starts: it writes over what is old, or what is old is given up after it.
    First,
    /// By its end: nothing old has been touched until then.
    Meanwhile,
}

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
    /// Compressed in the container; the agent feeds it.
    Agent(ByAgent<'a>),
    /// Plain in the container, and proven on its way there.
    File { visit: &'a Visit },
    /// Nowhere but in the repository, where it was read and proven once; by the exec's standard input.
    Stream(ByStream<'a>),
}

impl<'a> Inlet<'a> {
    /// Puts the dump into the container.
    pub async fn bring(
        server: &Server,
        visit: &'a Visit,
        source: &dyn ArtifactSource,
        artifact: &Artifact,
    ) -> Result<Self, DriverError> {
        let failed = |error| visit_error(server, error);
        match visit.hands() {
            // The length of the compressed stream inside an encrypted one is not known.
            Hands::Agent(arrived) if artifact.encryption == Encryption::None => {
                let stored = source.open(artifact).await?;
                let put = visit.put(DUMP_FILE, artifact.stored.bytes, stored);
                put.await.map_err(failed)?;
                Ok(Self::Agent(ByAgent {
                    visit,
                    file: StoredFile {
                        path: visit.path(DUMP_FILE),
                        compression: artifact.compression,
                        plain: artifact.plain.clone(),
                        stored: artifact.stored.clone(),
                    },
                    cores: arrived.cores,
                }))
            }
            _ => {
                let plain = open_plain(source, artifact).await?;
                let put = visit.put(PLAIN_FILE, artifact.plain.bytes, plain);
                put.await.map_err(failed)?;
                Ok(Self::File { visit })
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
            .map_err(|error| body_error(server, error))?;
        Ok(Self::Stream(ByStream { source, artifact }))
    }

    /// Cores for a parallel load; 1 where there can be none.
    pub fn cores(&self) -> usize {
        match self {
            Self::Agent(agent) => agent.cores,
            Self::File { .. } | Self::Stream(_) => 1,
        }
    }

    /// What a `pg_restore` that only reads the beginning of the dump prints.
    pub async fn script(
        &self,
        server: &Server,
        mut argv: Vec<String>,
        proof: Proof,
    ) -> Result<Vec<u8>, DriverError> {
        let environment = server.environment().clone();
        match self {
            Self::Agent(agent) => agent.script(server, argv, proof).await,
            Self::File { visit } => {
                argv.push(visit.path(PLAIN_FILE));
                Ok(server.run(argv, environment).await?.stdout)
            }
            Self::Stream(stream) => stream.run(server, argv, environment).await,
        }
    }

    /// Runs a `pg_restore` that loads. After an error, `watch` ends what an agent does not. Several jobs need a
    /// [`Inlet::script`] before them.
    pub async fn restore(
        &self,
        server: &Server,
        watch: &Watch,
        mut argv: Vec<String>,
        proof: Proof,
        jobs: Jobs,
    ) -> Result<(), DriverError> {
        let environment = watch.mark(server.loading_environment());
        match self {
            Self::Agent(agent) => agent.restore(server, argv, environment, proof, jobs).await,
            Self::File { visit } => {
                argv.push(visit.path(PLAIN_FILE));
                server.run(argv, environment).await.map(drop)
            }
            Self::Stream(stream) => stream.run(server, argv, environment).await.map(drop),
        }
    }
}

pub struct ByAgent<'a> {
    visit: &'a Visit,
    file: StoredFile,
    cores: usize,
}

impl ByAgent<'_> {
    fn job(&self, client: Vec<String>, feed: Feed, proof: Proof) -> LoadJob {
        LoadJob {
            client,
            input: self.file.clone(),
            feed,
            verify_first: proof == Proof::First,
            stdout: None,
        }
    }

    async fn script(
        &self,
        server: &Server,
        argv: Vec<String>,
        proof: Proof,
    ) -> Result<Vec<u8>, DriverError> {
        let failed = |error| visit_error(server, error);
        let keep = Some(self.visit.path(CONTENTS_FILE));
        let mut job = self.job(argv, Feed::Beginning { keep }, proof);
        job.stdout = Some(self.visit.path(SCRIPT_FILE));
        let loaded = self.visit.load(&job, server.environment()).await;
        loaded.map_err(failed)?;
        let (_, script) = self.visit.get(SCRIPT_FILE).await.map_err(failed)?;
        let mut bytes = Vec::new();
        script
            .take(MOST_SCRIPT)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| body_error(server, error))?;
        Ok(bytes)
    }

    async fn restore(
        &self,
        server: &Server,
        argv: Vec<String>,
        environment: ClientEnvironment,
        proof: Proof,
        jobs: Jobs,
    ) -> Result<(), DriverError> {
        let failed = |error| visit_error(server, error);
        match jobs {
            Jobs::One => {
                let job = self.job(argv, Feed::Stdin, proof);
                let loaded = self.visit.load(&job, &environment).await;
                loaded.map(drop).map_err(failed)
            }
            Jobs::Indexes(jobs) => {
                let parts = self.restore_in_parts(argv, &environment, proof, jobs);
                parts.await.map_err(failed)
            }
            Jobs::All(jobs) => {
                let path = self.visit.path(PLAIN_FILE);
                let job = self.job(in_parallel(&argv, jobs), Feed::File { path }, proof);
                match self.visit.load(&job, &environment).await {
                    // The client has not been started.
                    Err(VisitError::NoRoom { place, .. }) => {
                        info!(
                            "no room for the decompressed dump in {place}: filling one table after the other"
                        );
                        let parts = self.restore_in_parts(argv, &environment, proof, jobs);
                        parts.await.map_err(failed)
                    }
                    loaded => loaded.map(drop).map_err(failed),
                }
            }
        }
    }

    /// What comes after the data is described by the table of contents alone, so the second `pg_restore`, which needs a file
    /// to work in parallel, gets along with the dump's beginning.
    async fn restore_in_parts(
        &self,
        argv: Vec<String>,
        environment: &ClientEnvironment,
        proof: Proof,
        jobs: NonZero<usize>,
    ) -> Result<(), VisitError> {
        let mut filling = argv.clone();
        filling.extend(["--section=pre-data", "--section=data"].map(str::to_owned));
        let job = self.job(filling, Feed::Stdin, proof);
        self.visit.load(&job, environment).await?;

        let mut finishing = in_parallel(&argv, jobs);
        finishing.push("--section=post-data".to_owned());
        let path = self.visit.path(CONTENTS_FILE);
        let job = self.job(finishing, Feed::Kept { path }, Proof::Meanwhile);
        self.visit.load(&job, environment).await.map(drop)
    }
}

fn in_parallel(argv: &[String], jobs: NonZero<usize>) -> Vec<String> {
    [argv, &[format!("--jobs={jobs}")]].concat()
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
    ) -> Result<Vec<u8>, DriverError> {
        let plain = open_plain(self.source, self.artifact).await?;
        let spec = server.spec(argv, environment);
        let output = server
            .engine()
            .exec_with_input(&server.container().id, &spec, plain)
            .await
            .map_err(|error| match error {
                EngineError::Source { source, .. } => body_error(server, source),
                other => server.engine_error(other),
            })?;
        server.ensure_success(spec.program(), &output)?;
        Ok(output.stdout)
    }
}
