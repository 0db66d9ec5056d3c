//! The databases of a restore, and how the new one takes the old one's place.
//!
//! A restore of `x` loads into a database of another name, so that nobody can meet a half-loaded one, and the old `x` stays
//! as it is until everything has been loaded and checked. Then both names change in one transaction of the server.
//!
//! What is left to do follows from which databases exist, so a crash needs no journal of ours: the next step is looked up,
//! done, and looked up again. All names but `x` carry the run's digits (`clinical_loaded_9f2c61aa`); databases of other
//! runs mean nothing. Names are the only mark that every owner of a database may set.
//!
//! | `x` | the new one | the old one | state | commit | rollback |
//! | --- | --- | --- | --- | --- | --- |
//! | yes | – | – | nothing begun, or all done | – | – |
//! | – | – | – | nothing begun, or never there | error | – |
//! | any | loading | any | the load broke off | error | drop loading |
//! | open | loaded | – | loaded and checked | close `x`, loaded → entering | drop loaded |
//! | closed by others | loaded | – | the same | `x` → dropping, loaded → `x` | drop loaded |
//! | any | entering | – | `x` is closed by us | `x` → dropping, entering → `x` | open `x`, entering → loaded |
//! | – | loaded | – | `x` was not there before | loaded → `x` | drop loaded |
//! | yes | – | dropping | swapped | drop dropping | `x` → loading, dropping → `x`, open it |
//! | yes | – | before | done, and the old one kept | – | – |
//! | – | – | any | somebody removed the new one | error | the old one → `x`, open it |
//! | – | loaded | any | somebody removed `x` in mid-swap | loaded → `x` | drop loaded |
//! | yes | yes | any | not ours | error | as without the old one |
//!
//! Where the old database is to be kept, the new one is `loaded_keep` and `entering_keep`, and the old one becomes
//! `before` instead of `dropping`: the wish survives a crash too.

use std::time::Duration;

use tracing::{debug, info};

use super::names::{Names, New};
use super::queries::{Database, end_sessions_in};
use super::server::Server;
use super::sql::quote_ident;
use crate::driver::{DriverError, OldDatabase};
use crate::target::RunId;

/// How often sessions that will not go are told to.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What exists of [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    database: Option<Door>,
    new: Option<New>,
    old: Option<OldDatabase>,
}

impl State {
    /// Whether there is a database of the name that is restored.
    pub fn is_present(&self) -> bool {
        self.database.is_some()
    }
}

/// Whether a database lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Closes the old one, and notes it on the new one.
    Close(OldDatabase),
    /// The way back of [`Step::Close`].
    Reopen(OldDatabase),
    /// Both names change at once.
    Swap(New, OldDatabase),
    /// The way back of [`Step::Swap`]; the new one has to be dropped after it.
    SwapBack(OldDatabase),
    /// There is no old one.
    Enter(New),
    /// There is no new one.
    Return(OldDatabase),
    DropNew(New),
    DropOld,
}

/// The next step to put the new database into its place; `None`: all done.
fn next_of_commit(state: State) -> Result<Option<Step>, &'static str> {
    match (state.database, state.new, state.old) {
        (_, Some(New::Loading), _) => Err("its load was never completed"),
        (Some(_), Some(_), Some(_)) => Err("there is another old database already"),
        (Some(Door::Open), Some(New::Loaded(old)), None) => Ok(Some(Step::Close(old))),
        (Some(_), Some(new @ (New::Loaded(old) | New::Entering(old))), None) => {
            Ok(Some(Step::Swap(new, old)))
        }
        (None, Some(new), _) => Ok(Some(Step::Enter(new))),
        (None, None, _) => Err("neither a loaded database nor the restored one is there"),
        (Some(_), None, Some(OldDatabase::Drop)) => Ok(Some(Step::DropOld)),
        (Some(_), None, Some(OldDatabase::Keep) | None) => Ok(None),
    }
}

/// The next step back to the old database; `None`: all done. Never drops the only database under its name.
fn next_of_rollback(state: State) -> Option<Step> {
    match (state.database, state.new, state.old) {
        (Some(_), Some(New::Entering(old)), _) => Some(Step::Reopen(old)),
        (_, Some(new), _) => Some(Step::DropNew(new)),
        (Some(_), None, Some(OldDatabase::Drop)) => Some(Step::SwapBack(OldDatabase::Drop)),
        (Some(_), None, Some(OldDatabase::Keep) | None) => None,
        (None, None, old) => old.map(Step::Return),
    }
}

/// A restore of one database on its server.
pub(super) struct Swap<'a> {
    server: &'a Server,
    pub names: Names,
    /// Where orders are given from.
    seat: String,
}

impl<'a> Swap<'a> {
    pub fn new(server: &'a Server, database: &str, run: &RunId) -> Self {
        Self {
            server,
            names: Names::of(database, run),
            seat: server.seat_beside(database),
        }
    }

    pub fn seat(&self) -> &str {
        &self.seat
    }

    /// Puts the new database into the old one's place. Idempotent.
    pub async fn commit(&self) -> Result<(), DriverError> {
        self.commit_from(self.state().await?).await
    }

    pub async fn commit_from(&self, state: State) -> Result<(), DriverError> {
        let reached = self
            .go(state, |state| {
                next_of_commit(state).map_err(|why| {
                    let database = &self.names.database;
                    DriverError::failed(format!(
                        "database {database} cannot be put in place: {why}"
                    ))
                })
            })
            .await?;
        if reached.old == Some(OldDatabase::Keep) {
            let kept = self.names.old(OldDatabase::Keep);
            info!("the old database is kept as {kept}, closed to connections");
        }
        Ok(())
    }

    /// Puts the old database back into its place, and removes what an earlier attempt of this run has left. Idempotent.
    pub async fn roll_back(&self) -> Result<State, DriverError> {
        let state = self.state().await?;
        self.go(state, |state| Ok(next_of_rollback(state))).await
    }

    /// Takes step after step until there is none. A step that failed because an order that was given up had done the same
    /// is no failure: what exists has changed then.
    async fn go(
        &self,
        mut state: State,
        next: impl Fn(State) -> Result<Option<Step>, DriverError>,
    ) -> Result<State, DriverError> {
        while let Some(step) = next(state)? {
            let reached = match self.perform(step).await {
                Ok(reached) if reached == state => {
                    return Err(DriverError::failed(format!(
                        "{step:?} changed nothing on the server"
                    )));
                }
                Ok(reached) => reached,
                Err(error) => match self.state().await? {
                    reached if reached == state => return Err(error),
                    reached => reached,
                },
            };
            state = reached;
        }
        Ok(state)
    }

    async fn state(&self) -> Result<State, DriverError> {
        match self.server.execute_and_list(&self.seat, &[]).await? {
            Ok(databases) => Ok(self.state_of(&databases)),
            Err(words) => Err(self.server.clients().client_error("psql", 1, &words)),
        }
    }

    fn state_of(&self, databases: &[Database]) -> State {
        let find = |name: &str| databases.iter().find(|database| database.name == name);
        State {
            database: find(&self.names.database).map(|database| {
                if database.allows_connections {
                    Door::Open
                } else {
                    Door::Closed
                }
            }),
            new: New::all().find(|&new| find(&self.names.name_of(new)).is_some()),
            old: OldDatabase::ALL
                .into_iter()
                .find(|&old| find(&self.names.old(old)).is_some()),
        }
    }

    /// Where the data that was loaded is now.
    pub async fn loaded(&self) -> Result<String, DriverError> {
        Ok(match self.state().await?.new {
            Some(new) => self.names.name_of(new),
            None => self.names.database.clone(),
        })
    }

    /// Notes that the new database is whole. The server has it on disk when this returns, and so everything before.
    pub async fn mark_loaded(&self, old: OldDatabase) -> Result<State, DriverError> {
        let (loading, loaded) = (self.names.loading(), self.names.name_of(New::Loaded(old)));
        self.alone(&[&loading], &[&rename(&loading, &loaded)]).await
    }

    /// For a load that writes over the old data.
    pub async fn drop_database(&self) -> Result<(), DriverError> {
        self.drop(&self.names.database).await.map(drop)
    }

    async fn perform(&self, step: Step) -> Result<State, DriverError> {
        let database = &self.names.database;
        debug!(database, ?step, "restoring");
        let new = |new: New| self.names.name_of(new);
        let old = |old: OldDatabase| self.names.old(old);
        match step {
            Step::Close(wish) => {
                let (loaded, entering) = (new(New::Loaded(wish)), new(New::Entering(wish)));
                let order = [
                    allow_connections(database, false),
                    rename(&loaded, &entering),
                ];
                self.alone(&[&loaded], &[&at_once(&order)]).await
            }
            Step::Reopen(wish) => {
                let (loaded, entering) = (new(New::Loaded(wish)), new(New::Entering(wish)));
                let order = [
                    allow_connections(database, true),
                    rename(&entering, &loaded),
                ];
                self.alone(&[&entering], &[&at_once(&order)]).await
            }
            Step::Swap(from, wish) => {
                let (from, aside) = (new(from), old(wish));
                let order = [rename(database, &aside), rename(&from, database)];
                self.alone(&[database, &from], &[&at_once(&order)]).await
            }
            Step::SwapBack(wish) => {
                let (aside, loading) = (old(wish), new(New::Loading));
                let order = [
                    rename(database, &loading),
                    rename(&aside, database),
                    allow_connections(database, true),
                ];
                let close = allow_connections(database, false);
                self.alone(&[database, &aside], &[&close, &at_once(&order)])
                    .await
            }
            Step::Enter(from) => {
                let from = new(from);
                self.alone(&[&from], &[&rename(&from, database)]).await
            }
            Step::Return(wish) => {
                let aside = old(wish);
                let order = [rename(&aside, database), allow_connections(database, true)];
                self.alone(&[&aside], &[&at_once(&order)]).await
            }
            Step::DropNew(which) => self.drop(&new(which)).await,
            Step::DropOld => {
                let aside = old(OldDatabase::Drop);
                self.drop(&aside).await.map_err(|error| {
                    DriverError::failed_with_hint(
                        format!("the restored database {database} is in place, but the old one cannot be dropped: {error}"),
                        format!("drop database {aside} by hand"),
                    )
                })
            }
        }
    }

    async fn drop(&self, database: &str) -> Result<State, DriverError> {
        let databases = self.server.databases(&self.seat).await?;
        let Some(Database { is_template, .. }) =
            databases.iter().find(|found| found.name == database)
        else {
            return self.state().await;
        };
        let mut orders = vec![allow_connections(database, false)];
        if *is_template {
            orders.push(format!(
                "ALTER DATABASE {} WITH IS_TEMPLATE false",
                quote_ident(database)
            ));
        }
        orders.push(format!("DROP DATABASE {}", quote_ident(database)));
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        self.alone(&[database], &orders).await
    }

    /// Gives orders of which the server refuses the last while anybody is in one of `databases`: before it, their sessions
    /// are ended. What exists after them.
    async fn alone(&self, databases: &[&str], orders: &[&str]) -> Result<State, DriverError> {
        let terminate = end_sessions_in(databases);
        let mut all = orders.to_vec();
        all.insert(all.len().saturating_sub(1), &terminate);
        let mut attempt = 1;
        loop {
            match self.server.execute_and_list(&self.seat, &all).await? {
                Ok(databases) => return Ok(self.state_of(&databases)),
                Err(words)
                    if words.contains("is being accessed by other users") && attempt < ATTEMPTS =>
                {
                    debug!(attempt, "sessions will not go: {words}");
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(words) => return Err(self.server.clients().client_error("psql", 1, &words)),
            }
        }
    }
}

/// One order of several statements is one transaction.
fn at_once(statements: &[String]) -> String {
    statements.join("; ")
}

fn rename(from: &str, to: &str) -> String {
    format!(
        "ALTER DATABASE {} RENAME TO {}",
        quote_ident(from),
        quote_ident(to)
    )
}

fn allow_connections(database: &str, allowed: bool) -> String {
    format!(
        "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {allowed}",
        quote_ident(database)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the table above.
    #[test]
    fn the_next_step_follows_from_what_exists() {
        use OldDatabase::{Drop, Keep};
        let (open, closed) = (Some(Door::Open), Some(Door::Closed));
        let (loading, entering) = (Some(New::Loading), Some(New::Entering(Keep)));
        let loaded = Some(New::Loaded(Drop));
        let drop_loaded = Some(Step::DropNew(New::Loaded(Drop)));
        let drop_loading = Some(Step::DropNew(New::Loading));
        for (database, new, old, commit, rollback) in [
            (open, None, None, Ok(None), None),
            (closed, None, None, Ok(None), None),
            (None, None, None, Err(()), None),
            (open, loading, None, Err(()), drop_loading),
            (None, loading, None, Err(()), drop_loading),
            (None, loading, Some(Drop), Err(()), drop_loading),
            (open, loaded, None, Ok(Some(Step::Close(Drop))), drop_loaded),
            (
                closed,
                loaded,
                None,
                Ok(Some(Step::Swap(New::Loaded(Drop), Drop))),
                drop_loaded,
            ),
            (
                closed,
                entering,
                None,
                Ok(Some(Step::Swap(New::Entering(Keep), Keep))),
                Some(Step::Reopen(Keep)),
            ),
            (
                open,
                entering,
                None,
                Ok(Some(Step::Swap(New::Entering(Keep), Keep))),
                Some(Step::Reopen(Keep)),
            ),
            (
                None,
                loaded,
                None,
                Ok(Some(Step::Enter(New::Loaded(Drop)))),
                drop_loaded,
            ),
            (
                open,
                None,
                Some(Drop),
                Ok(Some(Step::DropOld)),
                Some(Step::SwapBack(Drop)),
            ),
            (open, None, Some(Keep), Ok(None), None),
            (None, None, Some(Drop), Err(()), Some(Step::Return(Drop))),
            (None, None, Some(Keep), Err(()), Some(Step::Return(Keep))),
            (
                None,
                loaded,
                Some(Drop),
                Ok(Some(Step::Enter(New::Loaded(Drop)))),
                drop_loaded,
            ),
            (open, loaded, Some(Keep), Err(()), drop_loaded),
        ] {
            let state = State { database, new, old };
            assert_eq!(
                next_of_commit(state).map_err(drop),
                commit,
                "commit {state:?}"
            );
            assert_eq!(next_of_rollback(state), rollback, "rollback {state:?}");
        }
    }
}
