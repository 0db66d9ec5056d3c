//! Putting a database back.
//!
//! `swap` and `recreate` load into a new database of another name (see [`super::swap`]): `recreate` drops the old one first
//! and puts the new one into its place by itself, `swap` leaves that to the commit. `clean` loads into the database that is
//! there, in one transaction, so that a load that fails has changed nothing.

use std::io::Cursor;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tracing::{info, warn};

use super::PostgresDriver;
use super::create::{pg_restore_script, renamed_script};
use super::failure::{body_error, visit_error};
use super::server::{Server, Transaction};
use super::sql::connection_string;
use super::swap::Swap;
use super::watch::Watch;
use crate::agent::inside::{ClientEnvironment, Hands, Visit, VisitError};
use crate::agent::job::{Feed, LoadJob, StoredFile};
use crate::driver::{ArtifactSource, DriverError};
use crate::engine::EngineError;
use crate::labels::{PostgresRestore, TransferChoice};
use crate::manifest::{Artifact, Encryption, PostgresFacts, Role, TargetRecord};
use crate::pipe::ByteStream;
use crate::repository::snapshot::open_plain;

const DUMP_FILE: &str = "dump";
const PLAIN_FILE: &str = "plain";
const SCRIPT_FILE: &str = "script";
/// Settings, grants and comments of one database: a bound for what is held in memory.
const MOST_SCRIPT: u64 = 16 * 1024 * 1024;

/// Loads one database.
pub(super) async fn load_database(
    driver: &PostgresDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &PostgresFacts,
    source: &dyn ArtifactSource,
) -> Result<(), DriverError> {
    let artifact = record.artifact(Role::Dump).ok_or_else(|| {
        DriverError::failed(format!("the snapshot holds no dump for {}", record.target))
    })?;
    ensure_not_older(server, facts)?;
    let load = Load {
        driver,
        server,
        facts,
        swap: Swap::new(server, &record.target.name, driver.run()),
    };
    let by_stream = || async {
        let inlet = Inlet::stream(source, artifact).await?;
        load.through(&inlet).await
    };
    if driver.labels().transfer == TransferChoice::Stream {
        return by_stream().await;
    }
    match Visit::begin(driver.visitor(server)).await {
        Ok(visit) => {
            let loaded = async {
                let inlet = Inlet::bring(server, &visit, source, artifact).await?;
                load.through(&inlet).await
            }
            .await;
            if let Err(left) = visit.end().await {
                warn!("{left}");
            }
            loaded
        }
        Err(error @ VisitError::NoPlace { .. }) => {
            warn!("{error}; the dump goes through the exec's standard input instead");
            by_stream().await
        }
        Err(error) => Err(visit_error(server, error)),
    }
}

/// `pg_restore` understands dumps of its own version and of older ones.
fn ensure_not_older(server: &Server, facts: &PostgresFacts) -> Result<(), DriverError> {
    let saved: Option<u32> = facts
        .server_version
        .split(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|major| major.parse().ok());
    let here = server.facts.major();
    match saved {
        Some(saved) if saved > here => Err(DriverError::failed_with_hint(
            format!(
                "the snapshot was taken from PostgreSQL {}, and container {} runs {}",
                facts.server_version,
                server.container().name,
                server.facts.version
            ),
            format!("restore it into PostgreSQL {saved} or later"),
        )),
        Some(saved) if saved < here => {
            info!("a dump of PostgreSQL {saved} goes into PostgreSQL {here}");
            Ok(())
        }
        _ => Ok(()),
    }
}

struct Load<'a> {
    driver: &'a PostgresDriver,
    server: &'a Server,
    facts: &'a PostgresFacts,
    swap: Swap<'a>,
}

/// How a dump is given to a client that loads it.
struct Feeding {
    proof: Proof,
    jobs: usize,
    /// Over clients that no agent ends.
    watch: Watch,
}

impl Load<'_> {
    async fn through(&self, inlet: &Inlet<'_>) -> Result<(), DriverError> {
        self.swap.drop_loading().await?;
        match self.driver.labels().restore {
            PostgresRestore::Swap => {
                self.beside(inlet, Proof::WhileLoading).await?;
                self.swap.mark_loaded(self.driver.old_database()).await
            }
            PostgresRestore::Recreate => {
                inlet.ensure_whole(self.server).await?;
                let script = self.script(inlet).await?;
                self.swap.drop_database().await?;
                self.create_and_fill(inlet, script, Proof::WhileLoading)
                    .await?;
                self.enter().await
            }
            PostgresRestore::Clean if self.swap.exists().await? => {
                let options = ["--clean", "--if-exists", "--single-transaction"];
                let database = &self.swap.names.database;
                let feeding = self.feeding(Proof::Beforehand, 1);
                inlet
                    .restore(self.server, pg_restore(&options, database), feeding)
                    .await
            }
            PostgresRestore::Clean => {
                self.beside(inlet, Proof::WhileLoading).await?;
                self.enter().await
            }
        }
    }

    async fn script(&self, inlet: &Inlet<'_>) -> Result<Vec<u8>, DriverError> {
        let argv = pg_restore_script(self.driver.run().short());
        let script = inlet.script(self.server, argv).await?;
        renamed_script(&script, &self.swap.names.loading)
    }

    async fn beside(&self, inlet: &Inlet<'_>, proof: Proof) -> Result<(), DriverError> {
        let script = self.script(inlet).await?;
        self.create_and_fill(inlet, script, proof).await
    }

    async fn create_and_fill(
        &self,
        inlet: &Inlet<'_>,
        script: Vec<u8>,
        proof: Proof,
    ) -> Result<(), DriverError> {
        self.server
            .run_script(self.swap.seat(), script, Transaction::Each)
            .await?;
        let jobs = self.driver.jobs(inlet.cores(), self.facts);
        let argv = pg_restore(&[], &self.swap.names.loading);
        inlet
            .restore(self.server, argv, self.feeding(proof, jobs))
            .await
    }

    fn feeding(&self, proof: Proof, jobs: usize) -> Feeding {
        Feeding {
            proof,
            jobs,
            watch: self.driver.watch(self.server),
        }
    }

    async fn enter(&self) -> Result<(), DriverError> {
        self.swap.mark_loaded(self.driver.old_database()).await?;
        self.swap.commit().await
    }
}

fn pg_restore(options: &[&str], database: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["pg_restore", "--no-password", "--exit-on-error"]
        .iter()
        .chain(options)
        .map(|&option| option.to_owned())
        .collect();
    argv.push(format!("--dbname={}", connection_string(database)));
    argv
}

/// When the digests of a dump are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Beforehand,
    /// By the end: nothing old has been touched until then.
    WhileLoading,
}

/// How a dump gets to the container's own `pg_restore`.
enum Inlet<'a> {
    /// Compressed in the container; the agent feeds it.
    Agent {
        visit: &'a Visit,
        file: StoredFile,
        cores: usize,
    },
    /// Plain in the container, and verified on its way there.
    File { visit: &'a Visit },
    /// Nowhere but in the repository, where it was read and verified once.
    Stream {
        source: &'a dyn ArtifactSource,
        artifact: &'a Artifact,
    },
}

impl<'a> Inlet<'a> {
    async fn bring(
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
                visit
                    .put(DUMP_FILE, artifact.stored.bytes, stored)
                    .await
                    .map_err(failed)?;
                Ok(Self::Agent {
                    visit,
                    file: StoredFile {
                        path: visit.path(DUMP_FILE),
                        compression: artifact.compression,
                        plain: artifact.plain.clone(),
                        stored: artifact.stored.clone(),
                    },
                    cores: arrived.cores,
                })
            }
            _ => {
                let plain = open_plain(source, artifact).await?;
                visit
                    .put(PLAIN_FILE, artifact.plain.bytes, plain)
                    .await
                    .map_err(failed)?;
                Ok(Self::File { visit })
            }
        }
    }

    async fn stream(
        source: &'a dyn ArtifactSource,
        artifact: &'a Artifact,
    ) -> Result<Self, DriverError> {
        let mut plain = open_plain(source, artifact).await?;
        tokio::io::copy(&mut plain, &mut tokio::io::sink())
            .await
            .map_err(|error| DriverError::failed(error.to_string()))?;
        Ok(Self::Stream { source, artifact })
    }

    /// Cores for a parallel load; 1 where there can be none.
    fn cores(&self) -> usize {
        match self {
            Self::Agent { cores, .. } => *cores,
            Self::File { .. } | Self::Stream { .. } => 1,
        }
    }

    /// Proves the dump in the container whole, before anything is given up for it.
    async fn ensure_whole(&self, server: &Server) -> Result<(), DriverError> {
        match self {
            Self::Agent { .. } => {
                let argv = ["pg_restore", "--list"].map(str::to_owned).to_vec();
                self.by_agent(server, argv, Feed::VerifiedStdin, None).await
            }
            Self::File { .. } | Self::Stream { .. } => Ok(()),
        }
    }

    /// What a `pg_restore` that only reads the dump prints.
    async fn script(&self, server: &Server, mut argv: Vec<String>) -> Result<Vec<u8>, DriverError> {
        match self {
            Self::Agent { visit, .. } => {
                let path = visit.path(SCRIPT_FILE);
                self.by_agent(server, argv, Feed::Beginning, Some(path))
                    .await?;
                let (_, script) = visit
                    .get(SCRIPT_FILE)
                    .await
                    .map_err(|error| visit_error(server, error))?;
                let mut bytes = Vec::new();
                script
                    .take(MOST_SCRIPT)
                    .read_to_end(&mut bytes)
                    .await
                    .map_err(|error| body_error(server, error))?;
                Ok(bytes)
            }
            Self::File { visit } => {
                argv.push(visit.path(PLAIN_FILE));
                let output = server.run(argv, server.environment().clone()).await?;
                Ok(output.stdout)
            }
            Self::Stream { .. } => {
                self.by_stream(server, argv, server.environment().clone())
                    .await
            }
        }
    }

    /// Runs a `pg_restore` that loads.
    async fn restore(
        &self,
        server: &Server,
        mut argv: Vec<String>,
        feeding: Feeding,
    ) -> Result<(), DriverError> {
        let Feeding { proof, jobs, watch } = feeding;
        let environment = watch.mark(server.loading_environment());
        match self {
            Self::Agent { visit, .. } => {
                let feed = match proof {
                    _ if jobs > 1 => {
                        argv.push(format!("--jobs={jobs}"));
                        Feed::File {
                            path: visit.path(PLAIN_FILE),
                        }
                    }
                    Proof::Beforehand => Feed::VerifiedStdin,
                    Proof::WhileLoading => Feed::Stdin,
                };
                self.by_agent(server, argv, feed, None).await?;
            }
            Self::File { visit } => {
                argv.push(visit.path(PLAIN_FILE));
                server.run(argv, environment).await?;
            }
            Self::Stream { .. } => {
                self.by_stream(server, argv, environment).await?;
            }
        }
        watch.dismiss();
        Ok(())
    }

    async fn by_agent(
        &self,
        server: &Server,
        client: Vec<String>,
        feed: Feed,
        stdout: Option<String>,
    ) -> Result<(), DriverError> {
        let Self::Agent { visit, file, .. } = self else {
            return Err(DriverError::failed("there is no agent in the container"));
        };
        let job = LoadJob {
            client,
            input: file.clone(),
            feed,
            stdout,
        };
        visit
            .load(&job, &server.loading_environment())
            .await
            .map_err(|error| visit_error(server, error))?;
        Ok(())
    }

    async fn by_stream(
        &self,
        server: &Server,
        argv: Vec<String>,
        environment: ClientEnvironment,
    ) -> Result<Vec<u8>, DriverError> {
        let plain: ByteStream = match self {
            Self::Stream { source, artifact } => open_plain(*source, artifact).await?,
            Self::Agent { .. } | Self::File { .. } => Box::pin(Cursor::new(Vec::new())),
        };
        let spec = server.spec(argv, environment);
        let container = &server.container().id;
        let output = server
            .engine()
            .exec_with_input(container, &spec, plain)
            .await
            .map_err(|error| match error {
                EngineError::Source { source, .. } => body_error(server, source),
                other => server.engine_error(other),
            })?;
        server.ensure_success(spec.program(), &output)?;
        Ok(output.stdout)
    }
}

/// Every table that the dump held is there.
pub(super) async fn check_database(
    driver: &PostgresDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &PostgresFacts,
) -> Result<(), DriverError> {
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Named {
        schema: String,
        name: String,
    }
    let swap = Swap::new(server, &record.target.name, driver.run());
    let database = if swap.is_loading().await? {
        &swap.names.loading
    } else {
        &swap.names.database
    };
    let mut found: Vec<Named> = server
        .query(
            database,
            "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')",
        )
        .await?;
    found.sort();
    let missing: Vec<String> = facts
        .tables
        .iter()
        .filter(|table| {
            found
                .binary_search_by(|there| {
                    (&there.schema, &there.name).cmp(&(&table.schema, &table.name))
                })
                .is_err()
        })
        .map(|table| format!("{}.{}", table.schema, table.name))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(DriverError::failed(format!(
            "after the load of {} these tables are missing: {}",
            record.target,
            missing.join(", ")
        )))
    }
}
