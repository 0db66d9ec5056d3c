//! The databases of a restore, and how new tables take the old ones' places: see [`super::state`] for what is due when.
//!
//! There is no order that renames a database. Until the decision the old one serves as it is, and going back is to drop the
//! staged one. From the decision on it only goes forward, so every step may be repeated, by another process too: what is
//! left to do is looked up on the server after each.

use std::time::Duration;

use serde::Deserialize;
use tracing::{debug, info, warn};

use super::definitions::{programs_of, script_of, statements_to_store, stored, views_of};
use super::grants::grants_on_routines;
use super::holdings::{Detail, Holdings, look};
use super::mark::DEFINITIONS;
use super::names::Names;
use super::orders::{
    defaults, drops_of_events, drops_of_routines, drops_of_triggers, drops_of_views,
};
use super::server::Server;
use super::sql::{literals, quote_ident, quote_table};
use super::state::{Aside, Phase, Staged, State, Step, next_of_commit, next_of_rollback};
use super::trouble::error_number;
use crate::driver::{DriverError, OldDatabase};
use crate::target::RunId;

/// How often sessions that are in the way are ended before it is told.
const KILL_ATTEMPTS: u32 = 6;
const KILL_PAUSE: Duration = Duration::from_millis(200);
/// How the server says that it has waited for a lock.
const LOCKED: u32 = 1205;

/// Whether a commit has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Done,
    StepsAreLeft,
}

/// A restore of one database on its server.
pub struct Swap<'a> {
    pub(super) server: &'a Server,
    pub names: Names,
}

impl<'a> Swap<'a> {
    pub fn new(server: &'a Server, database: &str, run: &RunId) -> Self {
        Self {
            server,
            names: Names::of(database, run),
        }
    }

    /// Puts the new tables into the old ones' places, in at most so many steps. Idempotent.
    pub async fn commit(&self, most_steps: usize) -> Result<Committed, DriverError> {
        let next = |state: &State| {
            next_of_commit(state).map_err(|why| {
                DriverError::failed(format!(
                    "database {} cannot be put in place: {why}",
                    self.names.database
                ))
            })
        };
        let reached = self.go(most_steps, next).await?;
        if next(&reached)?.is_some() {
            return Ok(Committed::StepsAreLeft);
        }
        if let Some(aside) = reached.aside {
            info!(
                "the tables of the old database are kept in {}; the text of its views, triggers, routines and events is in \
                 its table {}",
                self.names.aside(aside.old),
                self.names.mark()
            );
        }
        Ok(Committed::Done)
    }

    /// Removes what an attempt of this run has left, in at most so many steps. Idempotent; an error once the decision has begun to be carried out.
    pub async fn roll_back(&self, most_steps: usize) -> Result<State, DriverError> {
        let next = |state: &State| {
            next_of_rollback(state).map_err(|why| {
                DriverError::failed_with_hint(
                    format!(
                        "database {} cannot be rolled back: {why}",
                        self.names.database
                    ),
                    "run cofferdam recover",
                )
            })
        };
        self.go(most_steps, next).await
    }

    /// Takes step after step until there is none. A step that failed because somebody had done the same is no failure: what
    /// exists has changed then.
    pub(super) async fn go(
        &self,
        most_steps: usize,
        next: impl Fn(&State) -> Result<Option<Step>, DriverError>,
    ) -> Result<State, DriverError> {
        let mut state = self.state().await?;
        for _ in 0..most_steps {
            let Some(step) = next(&state)? else { break };
            debug!(database = self.names.database, ?step, "restoring");
            let performed = self.perform(&step, &state).await;
            let reached = self.state().await?;
            if reached == state {
                performed?;
                return Err(DriverError::failed(format!(
                    "{step:?} changed nothing on the server"
                )));
            }
            if let Err(error) = performed {
                debug!("{error}, but the server has gone on");
            }
            state = reached;
        }
        Ok(state)
    }

    pub async fn state(&self) -> Result<State, DriverError> {
        let (staged_name, mark_name) = (self.names.staged(), self.names.mark());
        let asides = OldDatabase::ALL.map(|old| (old, self.names.aside(old)));
        let mut databases = vec![self.names.database.as_str(), staged_name.as_str()];
        databases.extend(asides.iter().map(|(_, name)| name.as_str()));
        let mut found = look(self.server, &databases, Detail::Names).await?;
        let mut take = |name: &str| {
            let mut holdings = found.remove(name)?;
            let is_marked = holdings.has_table(&mark_name);
            holdings.tables.retain(|table| table.name != mark_name);
            Some((holdings, is_marked))
        };
        let (database, staged) = (take(&self.names.database), take(&staged_name));
        let aside = asides.iter().find_map(|(old, name)| {
            let (holdings, is_marked) = take(name)?;
            Some((*old, name, holdings, is_marked))
        });
        let staged = match staged {
            None => None,
            Some((holdings, is_marked)) => Some(Staged {
                holdings,
                mark: if is_marked {
                    self.mark_of(&staged_name).await?
                } else {
                    None
                },
            }),
        };
        let aside = match aside {
            None => None,
            Some((old, name, holdings, is_marked)) => {
                let mark = match is_marked {
                    true => self.mark_of(name).await?,
                    false => None,
                };
                let has_arrived = mark.as_ref().map(|mark| mark.phase) == Some(Phase::Arrived);
                let strangers = match has_arrived {
                    true => self.strangers_of(name).await?,
                    false => Vec::new(),
                };
                Some(Aside {
                    old,
                    mark,
                    tables: holdings.table_names().map(str::to_owned).collect(),
                    referred: strangers.into_iter().map(|one| one.table).collect(),
                })
            }
        };
        Ok(State {
            database: database.map(|(holdings, _)| holdings),
            staged,
            aside,
        })
    }

    /// Looks for who holds on to tables of the old database and would not be ended by the commit: a transaction that was prepared,
    /// or a session that looks at another database now. Nobody is ended here, when the old database may yet stay.
    pub async fn ensure_old_can_move(&self) -> Result<(), DriverError> {
        // InnoDB looks at the locks of rows only for a transaction.
        const SESSION: &str = "SET SESSION autocommit=0, innodb_table_locks=1, innodb_lock_wait_timeout=2, lock_wait_timeout=2";
        let database = &self.names.database;
        let mut found = look(self.server, &[database], Detail::Names).await?;
        let tables = found.remove(database).unwrap_or_default().tables;
        if tables.is_empty() {
            return Ok(());
        }
        let locks: Vec<String> = tables
            .iter()
            .map(|table| format!("{} WRITE", quote_table(database, &table.name)))
            .collect();
        let order = format!("{SESSION}; LOCK TABLES {}; UNLOCK TABLES", locks.join(", "));
        let mut locked = None;
        for _ in 0..KILL_ATTEMPTS {
            match self.server.try_execute(&order).await? {
                Err(refused) if error_number(&refused.words) == Some(LOCKED) => {
                    if !self.sessions_in(&[database]).await?.is_empty() {
                        return Ok(());
                    }
                    locked = Some(refused.error);
                }
                Err(refused) => {
                    debug!(
                        "could not check whether the tables of {database} can be moved: {}",
                        refused.words
                    );
                    return Ok(());
                }
                Ok(()) => return Ok(()),
            }
        }
        locked.map_or(Ok(()), Err)
    }

    /// Notes that the staged database is whole, with all that a commit needs to know, at once. `script` makes again what it
    /// keeps as text.
    pub async fn mark_loaded(
        &self,
        holdings: &Holdings,
        mut script: Vec<u8>,
        old: OldDatabase,
    ) -> Result<(), DriverError> {
        let staged = self.names.staged();
        script.extend(grants_on_routines(self.server, &self.names.database, holdings).await);
        let mark = self.mark_in(&staged);
        let mut orders = format!(
            "START TRANSACTION;\nINSERT INTO {mark} (kind, content) VALUES ('old', '{}');\n",
            match old {
                OldDatabase::Drop => "drop",
                OldDatabase::Keep => "keep",
            }
        );
        orders.push_str(&self.insert_names(&staged, "table", holdings.table_names()));
        let mark_name = self.names.mark();
        orders.push_str(&statements_to_store(
            &staged,
            &mark_name,
            DEFINITIONS,
            &script,
        ));
        orders.push_str(&self.set_phase(&staged, Phase::Loaded));
        orders.push_str(";\nCOMMIT;\n");
        self.server.execute(&orders).await?;
        let state = self.state().await?;
        let mark = state
            .staged
            .as_ref()
            .and_then(|staged| staged.mark.as_ref());
        if mark.map(|mark| mark.phase) != Some(Phase::Loaded) {
            return Err(DriverError::failed(format!(
                "the server accepted the statements that mark {staged} as loaded, but it is not marked"
            )));
        }
        // Events must not run there; a trigger would only be in the way later.
        self.perform(&Step::ClearStaged, &state).await
    }

    async fn drop(&self, database: &str) -> Result<(), DriverError> {
        self.alone(
            &[database],
            &format!("DROP DATABASE IF EXISTS {}", quote_ident(database)),
        )
        .await
    }

    async fn perform(&self, step: &Step, state: &State) -> Result<(), DriverError> {
        let database = &self.names.database;
        let staged = self.names.staged();
        let loaded = || {
            let holdings = state.staged.as_ref().map(|staged| &staged.holdings);
            holdings.ok_or_else(|| DriverError::failed(format!("there is no {staged}")))
        };
        let old = || {
            let aside = state.aside.as_ref().map(|aside| aside.old);
            aside.ok_or_else(|| DriverError::failed("there is no aside"))
        };
        match step {
            Step::MakeAside(old) => {
                let aside = quote_ident(&self.names.aside(*old));
                // What there is neither of gets the server's default.
                let like = state.database.as_ref().or(loaded().ok());
                let defaults = match like {
                    Some(like) => defaults(&like.charset, &like.collation)?,
                    None => String::new(),
                };
                self.server
                    .execute(&format!("CREATE DATABASE IF NOT EXISTS {aside} {defaults}"))
                    .await
            }
            Step::MarkAside(old) => self.mark_aside(*old, state).await,
            Step::MarkLeaving(old) => self.mark_leaving(*old, state).await,
            Step::Note(phase) => {
                let aside = self.names.aside(old()?);
                self.server.execute(&self.set_phase(&aside, *phase)).await
            }
            Step::MakeDatabase => {
                let like = loaded()?;
                let defaults = defaults(&like.charset, &like.collation)?;
                self.server
                    .execute(&format!(
                        "CREATE DATABASE IF NOT EXISTS {} {defaults}",
                        quote_ident(database)
                    ))
                    .await
            }
            Step::ClearStaged => {
                let holdings = loaded()?;
                let orders = [
                    drops_of_triggers(&staged, holdings),
                    drops_of_events(&staged, holdings),
                ];
                self.alone(&[&staged], &orders.concat().join("; ")).await
            }
            Step::ClearOld => {
                let old = state.database.clone().unwrap_or_default();
                let orders = [
                    drops_of_events(database, &old),
                    drops_of_triggers(database, &old),
                    drops_of_views(database, &old),
                    drops_of_routines(database, &old),
                ];
                self.alone(&[database], &orders.concat().join("; ")).await
            }
            Step::Move { out, into } => {
                let aside = self.names.aside(old()?);
                let moves = [moves(out, database, &aside), moves(into, &staged, database)];
                self.rename(&moves.concat(), &[database, &staged]).await
            }
            Step::MoveBack(tables) | Step::LeadIn(tables) => {
                let aside = self.names.aside(old()?);
                let moves = moves(tables, &aside, database);
                self.rename(&moves, &[database, &aside]).await
            }
            Step::Place => {
                let like = loaded()?;
                let defaults = defaults(&like.charset, &like.collation)?;
                self.alone(
                    &[database],
                    &format!(
                        "ALTER DATABASE {} {defaults}; {}",
                        quote_ident(database),
                        self.set_phase(&staged, Phase::Placed)
                    ),
                )
                .await
            }
            Step::Define => self.define(&staged, Phase::Defined, state).await,
            Step::DefineOld => {
                let aside = self.names.aside(old()?);
                self.define(&aside, Phase::Returned, state).await
            }
            Step::DropStaged => {
                let staged_mark = state
                    .staged
                    .as_ref()
                    .and_then(|staged| staged.mark.as_ref());
                if staged_mark.is_some() {
                    self.reset_server(&staged).await?;
                }
                self.drop(&staged).await
            }
            Step::DropAside(old) => {
                let aside = self.names.aside(*old);
                if state
                    .aside
                    .as_ref()
                    .is_some_and(|aside| aside.mark.is_some())
                {
                    self.reset_server(&aside).await?;
                }
                self.drop(&aside).await.map_err(|error| {
                    DriverError::failed_with_hint(
                        format!("database {database} is in place, but what was moved out of its way cannot be dropped: {error}"),
                        format!("drop database {aside} by hand"),
                    )
                })
            }
            Step::LeadBack(tables) => self.lead_back(tables, old()?).await,
            Step::DropNew => self.drop(database).await,
            Step::MakeOld => self.make_old(old()?).await,
        }
    }

    /// Makes what is kept as text in the mark of `noted_in`, and notes there that it is made.
    async fn define(&self, noted_in: &str, done: Phase, state: &State) -> Result<(), DriverError> {
        let database = &self.names.database;
        let mut script = Vec::new();
        // Those that an attempt before this one has made.
        let made = state.database.clone().unwrap_or_default();
        for order in drops_of_triggers(database, &made) {
            script.extend_from_slice(order.as_bytes());
            script.extend_from_slice(b";\n");
        }
        let mark = self.names.mark();
        script.extend(stored(self.server, noted_in, &mark, DEFINITIONS).await?);
        // In the same script, so that it is noted only when the client has come that far.
        script.extend_from_slice(self.set_phase(noted_in, done).as_bytes());
        script.extend_from_slice(b";\n");
        self.ease_server(noted_in).await?;
        let defined = self.server.run_script(database, script).await;
        self.reset_server(noted_in).await?;
        defined
    }

    async fn rename(&self, moves: &[String], databases: &[&str]) -> Result<(), DriverError> {
        /// A foreign key to columns that are not unique, which newer servers of MySQL's allow only who asks for it.
        const NOT_UNIQUE: u32 = 6125;
        let order = format!("RENAME TABLE {}", moves.join(", "));
        match self.alone(databases, &order).await {
            Err(error) if error_number(&error.to_string()) == Some(NOT_UNIQUE) => {
                let order = format!("SET SESSION restrict_fk_on_non_standard_key=0; {order}");
                self.alone(databases, &order).await
            }
            renamed => renamed,
        }
    }

    /// The text of all that the old database keeps. A view that is broken already must not hold up a restore: it may be what
    /// the restore is there for.
    pub(super) async fn script_of_old(&self, holdings: &Holdings) -> Result<Vec<u8>, DriverError> {
        let database = &self.names.database;
        if let Ok(script) = script_of(self.server, database, holdings).await {
            return Ok(script);
        }
        let mut script = programs_of(self.server, database, holdings).await?;
        for view in &holdings.views {
            match views_of(self.server, database, std::slice::from_ref(view)).await {
                Ok(text) => script.extend(text),
                Err(error) => {
                    warn!(
                        "view {view} of the old database {database} is broken, and is not kept: {error}"
                    );
                }
            }
        }
        Ok(script)
    }

    async fn mark_aside(&self, old: OldDatabase, state: &State) -> Result<(), DriverError> {
        let aside = self.names.aside(old);
        let script = match (&state.database, old) {
            (Some(holdings), OldDatabase::Keep) => self.script_of_old(holdings).await?,
            _ => Vec::new(),
        };
        let mark_name = self.names.mark();
        let orders = format!(
            "{};\nSTART TRANSACTION;\nDELETE FROM {};\n{};\n{}COMMIT;\n",
            self.create_mark(&aside),
            self.mark_in(&aside),
            self.insert_phase(&aside, Phase::Loaded),
            statements_to_store(&aside, &mark_name, DEFINITIONS, &script)
        );
        self.server.execute(&orders).await
    }

    /// Gives orders that wait for whoever uses these databases. Sessions that do not go by themselves are ended.
    pub(super) async fn alone(&self, databases: &[&str], orders: &str) -> Result<(), DriverError> {
        if orders.is_empty() {
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            match self.server.try_execute(orders).await? {
                Ok(()) => return Ok(()),
                Err(refused)
                    if error_number(&refused.words) == Some(LOCKED) && attempt < KILL_ATTEMPTS =>
                {
                    debug!(attempt, "a lock is held: {}", refused.words);
                    self.end_sessions_in(databases).await?;
                    attempt += 1;
                    tokio::time::sleep(KILL_PAUSE).await;
                }
                Err(refused) => return Err(refused.error),
            }
        }
    }

    async fn end_sessions_in(&self, databases: &[&str]) -> Result<(), DriverError> {
        for Session { id } in self.sessions_in(databases).await? {
            // It may have ended by itself, or belong to somebody whom we must not end: then the lock stays, and is told.
            if let Err(refused) = self.server.try_execute(&format!("KILL {id}")).await? {
                debug!(id, "a session could not be ended: {}", refused.words);
            }
        }
        Ok(())
    }

    async fn sessions_in(&self, databases: &[&str]) -> Result<Vec<Session>, DriverError> {
        self.server
            .query(&format!(
                "SELECT JSON_OBJECT('id', ID) FROM information_schema.PROCESSLIST \
                 WHERE DB IN ({}) AND ID <> CONNECTION_ID()",
                literals(databases)
            ))
            .await
    }
}

#[derive(Deserialize)]
struct Session {
    id: u64,
}

/// `` `from`.`a` TO `to`.`a` ``
fn moves(names: &[String], from: &str, to: &str) -> Vec<String> {
    names
        .iter()
        .map(|name| format!("{} TO {}", quote_table(from, name), quote_table(to, name)))
        .collect()
}
