//! MySQL and MariaDB, by their own clients in their own container.
//!
//! A target is a database: its tables and rows, views, triggers, routines and events. Users and grants are the server's, and
//! are not saved.
//!
//! A dump and a load go the ways that [`crate::driver::clients`] describes. See `state` for how loaded tables take the old
//! ones' places, and for what a crash at any point leaves.
//!
//! A client that was given up reads to the end of its input or finds nobody to write to, and ends; what it still does, it
//! does in the staged database. Events of a staged database may run there for the moment between their load and their
//! removal.
//!
//! - `credentials`, `programs`, `server`, `trouble`: logging in, asking, errors with their remedies
//! - `sql`, `orders`: quoting, patterns, orders as text
//! - `holdings`: what is in databases
//! - `definitions`: views, triggers, routines and events as text
//! - `dump`: a database out; `load`: a database in
//! - `names`, `mark`, `state`, `swap`: new tables into the old ones' places
//! - `detect`: containers that carry no label

mod credentials;
mod definitions;
mod detect;
mod dump;
mod holdings;
mod load;
mod mark;
mod names;
mod orders;
mod programs;
mod server;
mod sql;
mod state;
mod swap;
mod trouble;

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;

pub use self::detect::{Detected, detect, look_at};
use self::holdings::databases;
use self::load::{Load, Standing, check_database};
use self::names::mark_of_staging;
pub use self::server::Server;
pub use self::swap::Committed;
use self::swap::Swap;
use super::{
    ArtifactSink, ArtifactSource, Captured, Driver, DriverError, FoundTarget, FoundTargets,
    OldDatabase, WayBack,
};
use crate::agent::inside::{OWN_PROGRAM, Removals, Visitor};
use crate::engine::{Container, Engine};
use crate::labels::{MysqlLabels, MysqlRestore, Selection};
use crate::manifest::{Facts, Failure, MysqlFacts, TargetRecord};
use crate::target::{DriverKind, RunId, TargetId};

/// The server's own databases.
const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What the labels do not say.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    pub old_database: OldDatabase,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
    /// Shared by all drivers of a process, which waits for it before it ends.
    pub removals: Removals,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            old_database: OldDatabase::default(),
            program: PathBuf::from(OWN_PROGRAM),
            removals: Removals::default(),
        }
    }
}

/// The databases of one server, for the length of one run.
pub struct MysqlDriver {
    engine: Engine,
    container: Container,
    labels: MysqlLabels,
    run: RunId,
    options: MysqlOptions,
    server: OnceCell<Server>,
}

impl MysqlDriver {
    /// Touches nothing. The caller holds the lock on the container's project for as long as it uses the driver.
    pub fn new(
        engine: Engine,
        container: Container,
        labels: MysqlLabels,
        run: RunId,
        options: MysqlOptions,
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

    /// Uses a login that there is already.
    pub fn with_login(mut self, server: Server) -> Self {
        self.server = OnceCell::new_with(Some(server));
        self
    }

    /// A commit that stops after so many steps; the next one goes on from there.
    pub async fn commit_steps(
        &self,
        target: &TargetId,
        most_steps: usize,
    ) -> Result<Committed, DriverError> {
        let server = self.server().await?;
        Swap::new(server, &target.name, &self.run)
            .commit(most_steps)
            .await
    }

    /// Logs in on first use. A failure is not kept: the next use tries again.
    async fn server(&self) -> Result<&Server, DriverError> {
        self.server
            .get_or_try_init(|| Server::connect(&self.engine, &self.container, &self.labels))
            .await
    }

    fn labels(&self) -> &MysqlLabels {
        &self.labels
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn old_database(&self) -> OldDatabase {
        self.options.old_database
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

    fn cannot_be_saved(&self, name: &str, there: &[String]) -> DriverError {
        let container = &self.container.name;
        if SYSTEM.contains(&name) {
            return DriverError::failed_with_hint(
                format!("database {name} of container {container} is the server's own"),
                "remove it from the label cofferdam.mysql; a new server makes its own",
            );
        }
        DriverError::failed_with_hint(
            format!("container {container} has no database {name}"),
            format!(
                "correct its label cofferdam.mysql; there are: {}",
                there.join(", ")
            ),
        )
    }
}

/// The databases that somebody made, and that are no restore's.
async fn users_databases(server: &Server) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Found {
        of: String,
        mark: String,
    }
    let mut names = databases(server).await?;
    names.retain(|name| !SYSTEM.contains(&name.as_str()));
    let suspects: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| mark_of_staging(name).is_some())
        .collect();
    if suspects.is_empty() {
        return Ok(names);
    }
    let query = format!(
        "SELECT JSON_OBJECT('of', TABLE_SCHEMA, 'mark', TABLE_NAME) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA IN ({}) AND TABLE_NAME LIKE 'cofferdam\\_%'",
        sql::literals(&suspects)
    );
    let ours: BTreeSet<String> = server
        .query::<Found>(&query)
        .await?
        .into_iter()
        .filter(|found| mark_of_staging(&found.of).as_ref() == Some(&found.mark))
        .map(|found| found.of)
        .collect();
    names.retain(|name| !ours.contains(name));
    Ok(names)
}

fn facts_of(record: &TargetRecord) -> Result<&MysqlFacts, DriverError> {
    match &record.facts {
        Facts::Mysql(facts) => Ok(facts),
        _ => Err(DriverError::failed(format!(
            "{} is recorded as something else than a MySQL database",
            record.target
        ))),
    }
}

#[async_trait]
impl Driver for MysqlDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Mysql]
    }

    /// Databases by name, and what labels name that is not there. `*` means every database that is not the server's own.
    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let server = self.server().await?;
        let there = users_databases(server).await?;
        let mut names = match &self.labels.databases {
            Selection::All => there.clone(),
            Selection::Names(names) => names.clone(),
        };
        names.sort();
        names.dedup();
        let (present, missing): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| there.contains(name));
        let id = |name: String| TargetId::new(self.container.service(), DriverKind::Mysql, name);
        let found = |name: String| FoundTarget {
            what: format!("database {name}"),
            id: id(name),
        };
        let failure = |name: String| Failure {
            reason: self.cannot_be_saved(&name, &there).to_string(),
            target: id(name),
        };
        Ok(FoundTargets {
            targets: present.into_iter().map(found).collect(),
            missing: missing.into_iter().map(failure).collect(),
        })
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        dump::dump_database(self, self.server().await?, &target.name, sink).await
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let there = databases(self.server().await?).await?;
        Ok(there.contains(&target.name))
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let name = &record.target.name;
        match self.labels.restore {
            MysqlRestore::Swap => format!("swap database {name}"),
            MysqlRestore::Recreate => format!("drop, create and load database {name}"),
        }
    }

    fn way_back(&self, _target: &TargetId) -> WayBack {
        match self.labels.restore {
            MysqlRestore::Swap => WayBack::Staged,
            MysqlRestore::Recreate => WayBack::SafetySnapshot,
        }
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let server = self.server().await?;
        Load::of(self, server, record, facts_of(record)?)?
            .run(source)
            .await
    }

    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let server = self.server().await?;
        Load::of(self, server, record, facts_of(record)?)?
            .in_place(source, Standing::Final)
            .await?;
        self.check(record).await
    }

    /// The load ends with a check of everything else.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        check_database(self, self.server().await?, record, facts_of(record)?).await
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        self.commit_steps(target, usize::MAX).await.map(drop)
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        let server = self.server().await?;
        Swap::new(server, &target.name, &self.run)
            .roll_back()
            .await
            .map(drop)
    }
}
