//! MySQL and MariaDB, by their own clients in their own container.
//!
//! A target is a database: its tables and rows, views, triggers, routines and events. Or [`USERS`]: the accounts that
//! somebody made, and what they may do, which are loaded first.
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
//! - `holdings`: what is in databases; `sight`: what of it the user may not see
//! - `definitions`: views, triggers, routines and events as text
//! - `dump`: a database out, `exact`: its numbers; `load`: a database in; `checksums`: whether they are equal
//! - `names`, `mark`, `state`, `swap`: new tables into the old ones' places; `away`: the old ones out of the way
//! - `settings`, `grants`: what a load sets, and what it would take away
//! - `users`, `accounts`: who may log in
//! - `doubts`: why what is saved could not be put back; `lacks`: what of that the user may not do
//! - `detect`: a server that nobody has logged in to yet

mod accounts;
mod away;
mod checksums;
mod credentials;
mod definitions;
mod detect;
mod doubts;
mod dump;
mod exact;
mod grants;
mod holdings;
mod lacks;
mod load;
mod mark;
mod names;
mod orders;
mod programs;
mod server;
mod settings;
mod sight;
mod sql;
mod state;
mod swap;
mod trouble;
mod users;

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;
use tracing::warn;

use self::away::{Stranger, foreign_keys_across};
pub use self::detect::look_at;
use self::holdings::databases;
use self::load::{Load, check_database};
use self::names::mark_of_staging;
pub use self::server::Server;
pub use self::swap::Committed;
use self::swap::Swap;
pub use self::users::USERS;
use self::users::{Users, accounts, dump_users};
use super::{Captured, Driver, DriverError, FoundTarget, FoundTargets, Loss, OldDatabase, WayBack};
use crate::agent::inside::{OWN_PROGRAM, Removals, Visitor};
use crate::engine::{Container, Engine};
use crate::labels::{MysqlLabels, MysqlRestore, Selection};
use crate::manifest::{Facts, Failure, MysqlFacts, TargetRecord};
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, RunId, TargetId};

/// The server's own databases.
const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What the labels do not say.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    pub old_database: OldDatabase,
    pub loss: Loss,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
    /// Shared by all drivers of a process, which waits for it before it ends.
    pub removals: Removals,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            old_database: OldDatabase::default(),
            loss: Loss::default(),
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
    /// Looked for once a run, and only to tell of doubts: a restore looks for itself.
    foreign_keys: OnceCell<Vec<Stranger>>,
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
            foreign_keys: OnceCell::new(),
        }
    }

    /// Between the databases of this server.
    async fn foreign_keys_across(&self) -> Result<&[Stranger], DriverError> {
        let server = self.server().await?;
        let looked = self.foreign_keys.get_or_try_init(|| async {
            match users_databases(server).await?.len() {
                0 | 1 => Ok(Vec::new()),
                _ => foreign_keys_across(server).await,
            }
        });
        looked.await.map(Vec::as_slice)
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

    /// The beginning of a load under the database's own name, of so many steps.
    pub async fn leave_steps(
        &self,
        target: &TargetId,
        most_steps: usize,
    ) -> Result<(), DriverError> {
        Swap::new(self.server().await?, &target.name, &self.run)
            .move_away(self.options.old_database, most_steps)
            .await
            .map(drop)
    }

    /// A rollback that stops after so many steps; the next one goes on from there.
    pub async fn rollback_steps(
        &self,
        target: &TargetId,
        most_steps: usize,
    ) -> Result<(), DriverError> {
        Swap::new(self.server().await?, &target.name, &self.run)
            .roll_back(most_steps)
            .await
            .map(drop)
    }

    /// Logs in on first use. A failure is not kept: the next use tries again.
    async fn server(&self) -> Result<&Server, DriverError> {
        self.server
            .get_or_try_init(|| Server::connect(&self.engine, &self.container, &self.labels))
            .await
    }

    /// The target of users, where somebody made any.
    async fn users(&self, server: &Server) -> Result<Option<FoundTarget>, DriverError> {
        let Some(accounts) = accounts(server).await? else {
            warn!(
                "users and grants of container {} are not saved: cofferdam.mysql.user may not read them",
                self.container.name
            );
            return Ok(None);
        };
        Ok((!accounts.is_empty()).then(|| FoundTarget {
            id: TargetId::new(
                self.container.service(),
                DriverKind::Mysql,
                USERS.to_owned(),
            ),
            what: "users and grants".to_owned(),
        }))
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

    fn loss(&self) -> Loss {
        self.options.loss
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
                "correct its label cofferdam.mysql; the databases are: {}",
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
            "{} is not recorded as a MySQL database",
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
        if names.iter().any(|name| name == USERS) {
            return Err(DriverError::failed(format!(
                "database {USERS} has the name that is reserved for users and grants: rename it"
            )));
        }
        let (present, missing): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| there.contains(name));
        let id = |name: String| TargetId::new(self.container.service(), DriverKind::Mysql, name);
        let users = self.users(server).await?;
        let found = |name: String| FoundTarget {
            what: format!("database {name}"),
            id: id(name),
        };
        let failure = |name: String| Failure {
            reason: self.cannot_be_saved(&name, &there).to_string(),
            target: id(name),
        };
        Ok(FoundTargets {
            targets: users
                .into_iter()
                .chain(present.into_iter().map(found))
                .collect(),
            missing: missing.into_iter().map(failure).collect(),
            ..FoundTargets::default()
        })
    }

    async fn doubts(&self, target: &TargetId) -> Result<Vec<String>, DriverError> {
        let server = self.server().await?;
        doubts::doubts(self, server, &target.name).await
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let server = self.server().await?;
        if target.name == USERS {
            return dump_users(server, sink).await;
        }
        dump::dump_database(self, server, &target.name, sink).await
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let there = databases(self.server().await?).await?;
        Ok(target.name == USERS || there.contains(&target.name))
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let name = &record.target.name;
        if name == USERS {
            return "create users that are missing".to_owned();
        }
        match self.labels.restore {
            MysqlRestore::Swap => format!("swap database {name}"),
            MysqlRestore::Recreate => format!("move database {name} away and load the new one"),
        }
    }

    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::Staged
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let (server, facts) = (self.server().await?, facts_of(record)?);
        if record.target.name == USERS {
            let users = Users::new(server, &self.run);
            return users.load(record, facts, source).await;
        }
        Load::of(self, server, record, facts)?.run(source).await
    }

    /// The load ends with a check of everything else.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        if record.target.name == USERS {
            return Ok(());
        }
        check_database(self, self.server().await?, record, facts_of(record)?).await
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        if target.name == USERS {
            return Users::new(self.server().await?, &self.run).commit().await;
        }
        self.commit_steps(target, usize::MAX).await.map(drop)
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        if target.name == USERS {
            return Users::new(self.server().await?, &self.run)
                .roll_back()
                .await;
        }
        self.rollback_steps(target, usize::MAX).await
    }
}
