//! PostgreSQL, by its own clients in its own container.
//!
//! A target is a database, or [`GLOBALS`]: the roles and tablespaces of the whole server, which are loaded first.
//!
//! ```text
//! copy    pg_dump ─▶ agent: digest, compress, digest ─▶ file ─▶ archive API ─▶ sink
//! copy    pg_dump ─▶ file ─▶ archive API ─▶ compress ─▶ sink          where the agent cannot run
//! stream  pg_dump ─▶ exec's stdout ─▶ compress ─▶ sink                where nothing can be written, or by label
//! ```
//!
//! A load goes the same ways back, into a database that nobody knows yet: see `swap` for how it takes the old one's place,
//! and for what a crash at any point leaves. Statistics of the new database come from the server's own autovacuum.
//!
//! - `credentials`, `server`, `queries`: logging in, asking
//! - `trouble`: errors with their remedies
//! - `sql`: quoting, and reading scripts
//! - `dump`, `contents`, `tee`: a database out; `watch`: no client is left behind
//! - `load`, `inlet`, `create`, `swap`, `names`: a database in
//! - `globals`: roles and tablespaces
//! - `detect`: containers that carry no label

mod contents;
mod create;
mod credentials;
mod detect;
mod dump;
mod globals;
mod inlet;
mod load;
mod names;
mod queries;
mod server;
mod sql;
mod swap;
mod tee;
mod trouble;
mod watch;

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;

pub use self::detect::{Detected, detect, look_at};
pub use self::inlet::Jobs;
use self::queries::Database;
pub use self::server::Server;
use self::watch::Watch;
use super::{
    ArtifactSink, ArtifactSource, Captured, Driver, DriverError, FoundTarget, FoundTargets,
    OldDatabase, WayBack,
};
use crate::agent::inside::{OWN_PROGRAM, Removals, Visitor};
use crate::engine::{Container, Engine};
use crate::labels::{PostgresLabels, PostgresRestore, Selection};
use crate::manifest::{Facts, Failure, PostgresFacts, TargetRecord};
use crate::target::{DriverKind, RunId, TargetId};

/// The target that is not a database.
pub const GLOBALS: &str = "@globals";

/// What the labels do not say.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub old_database: OldDatabase,
    /// What of a load goes on side by side; `None`: what pays.
    pub jobs: Option<Jobs>,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
    /// Shared by all drivers of a process, which waits for it before it ends.
    pub removals: Removals,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            old_database: OldDatabase::default(),
            jobs: None,
            program: PathBuf::from(OWN_PROGRAM),
            removals: Removals::default(),
        }
    }
}

/// The databases of one server, for the length of one run.
pub struct PostgresDriver {
    engine: Engine,
    container: Container,
    labels: PostgresLabels,
    run: RunId,
    options: PostgresOptions,
    server: OnceCell<Server>,
}

impl PostgresDriver {
    /// Touches nothing. The caller holds the lock on the container's project for as long as it uses the driver.
    pub fn new(
        engine: Engine,
        container: Container,
        labels: PostgresLabels,
        run: RunId,
        options: PostgresOptions,
    ) -> Self {
        Self {
            engine,
            container,
            labels,
            run,
            options,
            server: OnceCell::new(),
        }
    }

    fn no_such_database(&self, name: &str, databases: &[Database]) -> DriverError {
        let there: Vec<&str> = databases
            .iter()
            .map(|database| database.name.as_str())
            .collect();
        DriverError::failed_with_hint(
            format!("container {} has no database {name}", self.container.name),
            format!(
                "correct its label cofferdam.postgres; there are: {}",
                there.join(", ")
            ),
        )
    }

    /// Logs in on first use. A failure is not kept: the next use tries again.
    async fn server(&self) -> Result<&Server, DriverError> {
        self.server
            .get_or_try_init(|| async {
                let server = Server::connect(&self.engine, &self.container, &self.labels).await?;
                Ok(server.for_run(&self.run))
            })
            .await
    }

    /// Uses a login that there is already.
    pub fn with_login(mut self, server: Server) -> Self {
        self.server = OnceCell::new_with(Some(server.for_run(&self.run)));
        self
    }

    fn labels(&self) -> &PostgresLabels {
        &self.labels
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn old_database(&self) -> OldDatabase {
        self.options.old_database
    }

    fn jobs(&self) -> Option<Jobs> {
        self.options.jobs
    }

    fn watch(&self, server: &Server) -> Watch {
        Watch::new(server, &self.options.removals)
    }

    fn visitor<'a>(&'a self, server: &'a Server) -> Visitor<'a> {
        Visitor {
            engine: &self.engine,
            container: &self.container,
            user: server.clients().exec_user.as_deref(),
            scratch: self.labels.scratch.as_deref(),
            run: &self.run,
            program: &self.options.program,
            removals: &self.options.removals,
        }
    }
}

async fn all_databases(
    server: &Server,
    databases: &[Database],
) -> Result<Vec<String>, DriverError> {
    const POSTGRES: &str = "postgres";

    let mut names: Vec<String> = databases
        .iter()
        .filter(|database| database.allows_connections && !database.is_template)
        .map(|database| database.name.clone())
        .collect();
    if names.iter().any(|name| name == POSTGRES) && is_untouched(server, POSTGRES).await? {
        names.retain(|name| name != POSTGRES);
    }
    Ok(names)
}

/// Whether a database holds nothing but what every new one does. The server numbers what users make from 16384 on.
async fn is_untouched(server: &Server, database: &str) -> Result<bool, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        touched: bool,
    }
    let catalogs = [
        "pg_class",
        "pg_proc",
        "pg_namespace",
        "pg_type",
        "pg_extension",
        "pg_largeobject_metadata",
    ];
    let any: Vec<String> = catalogs
        .iter()
        .map(|catalog| {
            format!("EXISTS (SELECT FROM pg_catalog.{catalog} WHERE oid::bigint >= 16384)")
        })
        .collect();
    let query = format!("SELECT {} AS touched", any.join(" OR "));
    let answer: Vec<Answer> = server.query(database, &query).await?;
    Ok(answer.iter().all(|answer| !answer.touched))
}

fn facts_of(record: &TargetRecord) -> Result<&PostgresFacts, DriverError> {
    match &record.facts {
        Facts::Postgres(facts) => Ok(facts),
        _ => Err(DriverError::failed(format!(
            "{} is recorded as something else than a database",
            record.target
        ))),
    }
}

#[async_trait]
impl Driver for PostgresDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Postgres]
    }

    /// [`GLOBALS`], then databases by name; and what labels name that is not there.
    ///
    /// `*` means every database that allows connections and is no template; `postgres` only when it holds something that
    /// somebody made there.
    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let server = self.server().await?;
        let databases = server.databases(server.maintenance_db()).await?;
        let mut names = match &self.labels.databases {
            Selection::All => all_databases(server, &databases).await?,
            Selection::Names(names) => names.clone(),
        };
        names.sort();
        names.dedup();
        if names.iter().any(|name| name == GLOBALS) {
            return Err(DriverError::failed_with_hint(
                format!(
                    "a database of container {} has the name {GLOBALS}, which stands for roles",
                    self.container.name
                ),
                "name the databases to save in cofferdam.postgres, without this one",
            ));
        }
        let exists = |name: &String| databases.iter().any(|database| database.name == *name);
        let (present, missing): (Vec<String>, Vec<String>) = names.into_iter().partition(exists);
        let id = |name: String| TargetId::new(self.container.service(), DriverKind::Postgres, name);
        let globals = FoundTarget {
            what: "roles and tablespaces".to_owned(),
            id: id(GLOBALS.to_owned()),
        };
        let databases_found = present.into_iter().map(|name| FoundTarget {
            what: format!("database {name}"),
            id: id(name),
        });
        let failure = |name: String| Failure {
            reason: self.no_such_database(&name, &databases).to_string(),
            target: id(name),
        };
        Ok(FoundTargets {
            targets: std::iter::once(globals).chain(databases_found).collect(),
            missing: missing.into_iter().map(failure).collect(),
        })
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let server = self.server().await?;
        if target.name == GLOBALS {
            globals::dump_globals(server, sink).await
        } else {
            dump::dump_database(self, server, &target.name, sink).await
        }
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let server = self.server().await?;
        let databases = server.databases(server.maintenance_db()).await?;
        Ok(target.name == GLOBALS
            || databases
                .iter()
                .any(|database| database.name == target.name))
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let name = &record.target.name;
        if name == GLOBALS {
            return "create missing roles and tablespaces".to_owned();
        }
        match self.labels.restore {
            PostgresRestore::Swap => format!("swap database {name}"),
            PostgresRestore::Recreate => format!("drop, create and load database {name}"),
            PostgresRestore::Clean => format!("clean and load database {name}"),
        }
    }

    fn way_back(&self, target: &TargetId) -> WayBack {
        match self.labels.restore {
            // Only what is missing is created.
            _ if target.name == GLOBALS => WayBack::Staged,
            PostgresRestore::Swap => WayBack::Staged,
            PostgresRestore::Recreate | PostgresRestore::Clean => WayBack::SafetySnapshot,
        }
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let server = self.server().await?;
        if record.target.name == GLOBALS {
            globals::load_globals(server, record, source).await
        } else {
            load::load_database(self, server, record, facts_of(record)?, source).await
        }
    }

    /// The load of [`GLOBALS`] ends with its own check, since only the script names what has to be there.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        if record.target.name == GLOBALS {
            return Ok(());
        }
        load::check_database(self, self.server().await?, record, facts_of(record)?).await
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        if target.name == GLOBALS {
            return Ok(());
        }
        let server = self.server().await?;
        swap::Swap::new(server, &target.name, &self.run)
            .commit()
            .await
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        if target.name == GLOBALS {
            return Ok(());
        }
        let server = self.server().await?;
        swap::Swap::new(server, &target.name, &self.run)
            .roll_back()
            .await
            .map(drop)
    }
}
