//! PostgreSQL, by its own clients in its own container.
//!
//! A target is a database, or [`GLOBALS`]: the roles and tablespaces of the whole server, which are loaded first. Or all of a
//! server is one target, [`CLUSTER`].
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
//! - `sqlstate`, `trouble`: errors, and errors with their remedies
//! - `sql`: quoting, and reading scripts
//! - `dump`, `patterns`, `contents`, `tee`, `bound`: a database out; `watch`: no client is left behind
//! - `load`, `inlet`, `session`, `script`, `create`: a database in; `footprint`: whether that changed anything
//! - `swap`, `state`, `names`, `obstacles`: how it takes the old one's place
//! - `globals`, `missing`, `memberships`: roles and tablespaces; `dumpall`, `cluster`: everything in one script
//! - `targets`: what there is to save; `doubts`: why it could not be put back
//! - `basebackup`: the data directory itself, by a driver of its own
//! - `detect`: a server that nobody has logged in to yet

pub(crate) mod basebackup;
mod bound;
mod cluster;
mod contents;
mod create;
mod credentials;
mod detect;
mod doubts;
mod dump;
mod dumpall;
mod footprint;
mod globals;
mod inlet;
mod load;
mod memberships;
mod missing;
mod names;
mod obstacles;
mod patterns;
mod queries;
mod script;
mod server;
mod session;
mod sql;
mod sqlstate;
mod state;
mod swap;
mod targets;
mod tee;
mod trouble;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tracing::debug;

use self::cluster::Cluster;
pub use self::detect::look_at;
pub use self::inlet::Jobs;
use self::obstacles::Obstacles;
pub use self::server::Server;
use self::swap::Swap;
use self::targets::Subject;
pub use self::targets::{CLUSTER, GLOBALS};
use self::watch::Watch;
use super::{Captured, Driver, DriverError, FoundTargets, OldDatabase, WayBack, doubts_of};
use crate::agent::inside::{OWN_PROGRAM, Removals, Visitor};
use crate::engine::{Container, Engine};
use crate::labels::{PostgresLabels, PostgresRestore};
use crate::manifest::{Facts, PostgresFacts, TargetRecord};
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, RunId, TargetId};

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
    notices: Mutex<Vec<String>>,
    /// Databases that a `clean` load failed to change.
    unchanged: Mutex<BTreeSet<String>>,
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
            notices: Mutex::default(),
            unchanged: Mutex::default(),
        }
    }

    /// Logs in on first use. A failure is not kept: the next use tries again.
    async fn server(&self) -> Result<&Server, DriverError> {
        self.server
            .get_or_try_init(|| async {
                let (engine, container, run) = (&self.engine, &self.container, &self.run);
                let server =
                    Server::connect_for(engine, container, &self.labels, Some(run)).await?;
                Ok(server.for_run(run))
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

    fn notice(&self, notice: String) {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(notice);
    }

    fn unchanged(&self) -> MutexGuard<'_, BTreeSet<String>> {
        let unchanged = self.unchanged.lock();
        unchanged.unwrap_or_else(PoisonError::into_inner)
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

fn facts_of(record: &TargetRecord) -> Result<&PostgresFacts, DriverError> {
    match &record.facts {
        Facts::Postgres(facts) => Ok(facts),
        _ => Err(DriverError::failed(format!(
            "{} is not recorded as a database",
            record.target
        ))),
    }
}

fn bound_to_name(record: &TargetRecord) -> &[String] {
    facts_of(record).map_or(&[], |facts| &facts.bound_to_name)
}

#[async_trait]
impl Driver for PostgresDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Postgres]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        targets::find(self, self.server().await?).await
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let server = self.server().await?;
        match Subject::of(target) {
            Subject::Globals => globals::dump_globals(server, sink).await,
            Subject::Cluster => dumpall::dump_all(self, server, sink).await,
            Subject::Database(name) => dump::dump_database(self, server, name, sink).await,
        }
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let server = self.server().await?;
        let Subject::Database(name) = Subject::of(target) else {
            return Ok(true);
        };
        let databases = server.databases(server.maintenance_db()).await?;
        Ok(databases.iter().any(|database| database.name == name))
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        match (Subject::of(&record.target), self.labels.restore) {
            (Subject::Globals, _) => "create missing roles and tablespaces".to_owned(),
            (Subject::Cluster, _) => {
                "rename the databases of the server away, and load all of them".to_owned()
            }
            (Subject::Database(name), PostgresRestore::Swap) => match bound_to_name(record) {
                [] => format!("swap database {name}"),
                why => format!(
                    "load database {name} under its own name ({}), the old one renamed meanwhile",
                    why.join(", ")
                ),
            },
            (Subject::Database(name), PostgresRestore::Recreate) => {
                format!("rename database {name} away, and load the new one in its place")
            }
            (Subject::Database(name), PostgresRestore::Clean) => {
                format!("clean and load database {name}")
            }
        }
    }

    fn way_back(&self, target: &TargetId) -> WayBack {
        match (Subject::of(target), self.labels.restore) {
            (Subject::Database(_), PostgresRestore::Clean) => WayBack::SafetySnapshot,
            // Of roles and tablespaces only what is missing is created.
            (Subject::Globals | Subject::Cluster | Subject::Database(_), _) => WayBack::Staged,
        }
    }

    async fn doubts(&self, target: &TargetId) -> Result<Vec<String>, DriverError> {
        let server = self.server().await?;
        let names = match Subject::of(target) {
            Subject::Globals => Vec::new(),
            Subject::Database(name) => vec![name.to_owned()],
            Subject::Cluster => {
                let databases = server.databases(server.maintenance_db()).await?;
                let saved = databases.into_iter();
                saved
                    .filter(|database| database.may_connect && !database.is_template)
                    .map(|database| database.name)
                    .collect()
            }
        };
        let mut doubts = Vec::new();
        for name in names {
            doubts.extend(doubts_of(doubts::doubts(server, &self.labels, &name).await));
        }
        Ok(doubts)
    }

    async fn foresee(&self, record: &TargetRecord) -> Result<Vec<String>, DriverError> {
        let names = match Subject::of(&record.target) {
            Subject::Globals => return Ok(Vec::new()),
            Subject::Cluster => facts_of(record)?
                .databases
                .iter()
                .map(String::as_str)
                .collect(),
            Subject::Database(name) => vec![name],
        };
        let server = self.server().await?;
        let mut told = Vec::new();
        for name in names {
            let seat = server.seat_beside(name);
            let obstacles = Obstacles::of(server, &seat, name).await?;
            told.extend(obstacles.foresee(name, self.labels.restore, self.old_database())?);
        }
        Ok(told)
    }

    fn take_notices(&self) -> Vec<String> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notices)
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let server = self.server().await?;
        match Subject::of(&record.target) {
            Subject::Globals => globals::load_globals(server, record, source).await,
            Subject::Cluster => {
                dumpall::load_all(self, server, record, facts_of(record)?, source).await
            }
            Subject::Database(_) => {
                load::load_database(self, server, record, facts_of(record)?, source).await
            }
        }
    }

    /// A safety dump may not load either, so it is loaded only where something was changed.
    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let name = &record.target.name;
        if self.unchanged().contains(name) {
            debug!("the failed load changed nothing in {}", record.target);
            return Ok(());
        }
        let loaded = self.load(record, source).await;
        // That was about this load.
        self.unchanged().remove(name);
        loaded?;
        self.check(record).await
    }

    /// The load of [`GLOBALS`] ends with its own check, since only the script names what has to be there.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        match Subject::of(&record.target) {
            Subject::Globals => Ok(()),
            Subject::Cluster => dumpall::check_all(self.server().await?, facts_of(record)?).await,
            Subject::Database(_) => {
                load::check_database(self, self.server().await?, record, facts_of(record)?).await
            }
        }
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        let left = match Subject::of(target) {
            Subject::Globals => return Ok(()),
            Subject::Cluster => {
                let server = self.server().await?;
                Cluster::new(server, &self.run).commit().await?
            }
            Subject::Database(name) => {
                let server = self.server().await?;
                Swap::new(server, name, &self.run).commit().await?
            }
        };
        left.into_iter().for_each(|left| self.notice(left));
        Ok(())
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        match Subject::of(target) {
            Subject::Globals => Ok(()),
            Subject::Cluster => {
                let server = self.server().await?;
                Cluster::new(server, &self.run).roll_back().await
            }
            Subject::Database(name) => {
                let server = self.server().await?;
                let swap = Swap::new(server, name, &self.run);
                swap.roll_back().await.map(drop)
            }
        }
    }
}
