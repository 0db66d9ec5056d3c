//! The databases of a restore, and how the new one takes the old one's place.
//!
//! Beside: the new one is loaded under another name, so that nobody can meet a half-loaded one, while the old `x` serves.
//! When everything has been loaded and checked, both names change in one transaction of the server.
//!
//! Under its own name, for what is bound to it: an empty database is made first. Then both names change, and what is now `x`
//! is loaded. Until it is whole, it asks every session for a library that does not exist (`local_preload_libraries`), so the
//! server lets nobody in but Cofferdam, which overrides that. The old one is renamed back when anything fails.
//!
//! What is left to do follows from which databases exist (see [`super::state`]), so a crash needs no journal of ours: the next
//! step is looked up, done, and looked up again. All names but `x` carry the run's digits (`clinical_loaded_9f2c61aa`), and so
//! does the library's; databases of other runs mean nothing. These are marks that every owner of a database may set.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::names::{Load, Names, New, Old};
use super::obstacles::{Obstacles, Subscription, slots, subscriptions};
use super::queries::end_sessions_in;
use super::server::{Refusal, Server};
use super::sql::quote_ident;
use super::state::{Door, State, Step};
use crate::driver::{DriverError, OldDatabase};
use crate::target::RunId;

/// How often sessions that will not go are told to.
const TERMINATE_ATTEMPTS: u32 = 20;
const TERMINATE_PAUSE: Duration = Duration::from_millis(500);

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

    /// Puts the new database into the old one's place. Idempotent. What went with the old one, and what is left to do by hand:
    /// an old database that the server does not drop hurts nobody.
    pub async fn commit(&self) -> Result<Vec<String>, DriverError> {
        match self.put_in_place().await {
            Ok(reached) => self.give_up_old(reached).await,
            Err(error) => {
                self.reopen().await;
                Err(error)
            }
        }
    }

    async fn put_in_place(&self) -> Result<State, DriverError> {
        let state = self.state().await?;
        if let (Some(Door::Open), Some(New::Loaded(_))) = (state.database, state.new) {
            self.ensure_may_go().await?;
        }
        let next = |state: State| match state.next_of_commit() {
            // That it fails is no reason to stop.
            Ok(Some(Step::DropOld)) => Ok(None),
            Ok(step) => Ok(step),
            Err(why) => Err(DriverError::failed(format!(
                "database {} cannot be put in place: {why}",
                self.names.database
            ))),
        };
        self.go(state, next).await
    }

    async fn give_up_old(&self, state: State) -> Result<Vec<String>, DriverError> {
        let Some(old) = state.old else {
            return Ok(Vec::new());
        };
        let name = self.names.old(old);
        if old != Old::Replaced(OldDatabase::Drop) {
            info!("the old database is kept as {name}, closed to connections");
            return Ok(Vec::new());
        }
        let bound = subscriptions(self.server, &self.seat, &name).await?;
        if !bound.is_empty() {
            return Ok(vec![self.stays_for(&name, &bound)]);
        }
        let slots = slots(self.server, &self.seat, &name).await?;
        let database = &self.names.database;
        match self.try_to_drop(&name).await? {
            Ok(_) => Ok(slots
                .iter()
                .map(|slot| {
                    format!(
                        "logical replication slot {slot} was dropped with the old database of {database}: create it again, \
                         and let its consumer start over"
                    )
                })
                .collect()),
            Err(refusal) => Ok(vec![format!(
                "the old database could not be dropped, and stays as {name}, closed to connections ({}); to drop it: DROP \
                 DATABASE {}",
                refusal.words,
                quote_ident(&name)
            )]),
        }
    }

    /// No server drops a database that has subscriptions, and where their data shall go on arriving is not ours to say.
    fn stays_for(&self, name: &str, bound: &[Subscription]) -> String {
        let quoted = quote_ident(name);
        let detach: Vec<String> = bound.iter().flat_map(Subscription::detach).collect();
        let names: Vec<&str> = bound.iter().map(|one| one.name.as_str()).collect();
        format!(
            "the old database has subscriptions ({}), so the server does not drop it: it stays as {name}, closed to \
             connections; the restored ones are disabled until you say ALTER SUBSCRIPTION … ENABLE. To drop the old one: \
             ALTER DATABASE {quoted} ALLOW_CONNECTIONS true; then, connected to {name}: {}; then from another database: DROP \
             DATABASE {quoted}",
            names.join(", "),
            detach.join("; ")
        )
    }

    /// A commit that failed leaves the old database open, as it was before it.
    async fn reopen(&self) {
        let reopened = async {
            let state = self.state().await?;
            match (state.database, state.new) {
                (Some(_), Some(new @ New::Entering(_))) => {
                    self.perform(Step::Reopen(new)).await.map(drop)
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = reopened.await {
            warn!(
                "database {} could not be opened again: {error}",
                self.names.database
            );
        }
    }

    /// Puts the old database back into its place, and removes what an earlier attempt of this run has left. Idempotent.
    pub async fn roll_back(&self) -> Result<State, DriverError> {
        let state = self.state().await?;
        self.go(state, |state| Ok(state.next_of_rollback())).await
    }

    /// Gives the new database, which is there and empty, the name that it is restored under; `wish`: what becomes of the old.
    pub async fn take_name(&self, wish: OldDatabase) -> Result<(), DriverError> {
        self.ensure_may_go().await?;
        let mark = self
            .marked(&self.names.loading(), Some(Load::Begun))
            .await?;
        self.order(&[&mark]).await?;
        let next = |state: State| {
            state.next_of_taking(wish).map_err(|why| {
                DriverError::failed(format!(
                    "database {} cannot be moved out of the way of the restored one: {why}",
                    self.names.database
                ))
            })
        };
        self.go(self.state().await?, next).await.map(drop)
    }

    /// What the server refuses to rename or to drop shall not be found out when it is closed already.
    pub async fn ensure_may_go(&self) -> Result<(), DriverError> {
        let obstacles = Obstacles::of(self.server, &self.seat, &self.names.database).await?;
        obstacles.ensure_none(&self.names.database)
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
        self.order(&[]).await
    }

    /// Gives orders one after the other; what exists after them.
    async fn order(&self, orders: &[&str]) -> Result<State, DriverError> {
        match self.server.execute_and_list(&self.seat, orders).await? {
            Ok(databases) => Ok(State::of(&self.names, &databases)),
            Err(refusal) => Err(self.server.error_of(refusal)),
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
    pub async fn mark_loaded(&self, old: OldDatabase) -> Result<(), DriverError> {
        let (loading, loaded) = (self.names.loading(), self.names.name_of(New::Loaded(old)));
        let order = rename(&loading, &loaded);
        self.alone(&[&loading], &[&order]).await.map(drop)
    }

    /// The same of one that has been loaded under its own name.
    pub async fn mark_loaded_in_place(&self) -> Result<(), DriverError> {
        let mark = self.marked(&self.names.database, Some(Load::Done)).await?;
        self.order(&[&mark]).await.map(drop)
    }

    /// The order that sets the mark of [`Names::mark`], or takes it away. Libraries that the dump itself asks for stay.
    async fn marked(&self, database: &str, load: Option<Load>) -> Result<String, DriverError> {
        let databases = self.server.databases(&self.seat).await?;
        let found = databases.iter().find(|found| found.name == database);
        let present = found.and_then(|database| database.preload.as_deref());
        let own: Vec<String> = Load::ALL.map(|load| self.names.mark(load)).to_vec();
        let mark = load.map(|load| self.names.mark(load));
        let others = present.into_iter().flat_map(|list| list.split(", "));
        let others = others.filter(|name| !own.iter().any(|own| own == name));
        // As the server writes them: quoted where they have to be.
        let list: Vec<&str> = mark.as_deref().into_iter().chain(others).collect();
        let database = quote_ident(database);
        Ok(match list.as_slice() {
            [] => format!("ALTER DATABASE {database} RESET local_preload_libraries"),
            list => format!(
                "ALTER DATABASE {database} SET local_preload_libraries TO {}",
                list.join(", ")
            ),
        })
    }

    /// Renames the old database away, where another hand makes the new one; `door`: whether it was open.
    pub async fn set_aside(&self, door: Door, wish: OldDatabase) -> Result<(), DriverError> {
        let (database, aside) = (&self.names.database, self.names.old(Old::Aside(wish)));
        let close = allow_connections(database, false);
        let order = [
            rename(database, &aside),
            allow_connections(&aside, door == Door::Open),
        ];
        let order = at_once(&order);
        self.alone(&[database], &[&close, &order]).await.map(drop)
    }

    /// Lets everybody into the old database again.
    pub async fn open(&self) -> Result<(), DriverError> {
        let open = allow_connections(&self.names.database, true);
        self.order(&[&open]).await.map(drop)
    }

    /// Removes a new database that another hand made where there was none.
    pub async fn remove(&self) -> Result<(), DriverError> {
        if self.roll_back().await?.is_present() {
            self.perform(Step::Withdraw).await?;
            self.roll_back().await?;
        }
        Ok(())
    }

    /// Drops the database itself, which is one of our own.
    pub async fn drop_database(&self) -> Result<(), DriverError> {
        self.drop(&self.names.database).await.map(drop)
    }

    async fn perform(&self, step: Step) -> Result<State, DriverError> {
        let database = &self.names.database;
        debug!(database, ?step, "restoring");
        let new = |new: New| self.names.name_of(new);
        let old = |old: Old| self.names.old(old);
        match step {
            Step::Close(to) => {
                let (from, to) = (new(to.before_closing()), new(to));
                let order = [allow_connections(database, false), rename(&from, &to)];
                self.alone(&[&from], &[&at_once(&order)]).await
            }
            Step::Reopen(from) => {
                let (from, to) = (new(from), new(from.before_closing()));
                let order = [allow_connections(database, true), rename(&from, &to)];
                self.alone(&[&from], &[&at_once(&order)]).await
            }
            Step::Swap(from, aside) => {
                let is_ours = matches!((from, aside), (New::Taking(_), Old::Aside(_)));
                let (from, aside) = (new(from), old(aside));
                let mut order = vec![rename(database, &aside), rename(&from, database)];
                // It comes back as it was: open, unless others had closed it.
                order.extend(is_ours.then(|| allow_connections(&aside, true)));
                self.alone(&[database, &from], &[&at_once(&order)]).await
            }
            Step::SwapBack(from) => {
                let (aside, loading) = (old(from), new(New::Loading));
                let mut order = vec![rename(database, &loading), rename(&aside, database)];
                order.extend(self.opened(from));
                let close = allow_connections(database, false);
                self.alone(&[database, &aside], &[&close, &at_once(&order)])
                    .await
            }
            Step::Enter(from) => {
                let from = new(from);
                self.alone(&[&from], &[&rename(&from, database)]).await
            }
            Step::Withdraw => {
                let close = allow_connections(database, false);
                let order = rename(database, &new(New::Loading));
                self.alone(&[database], &[&close, &order]).await
            }
            Step::Return(from) => {
                let aside = old(from);
                let mut order = vec![rename(&aside, database)];
                order.extend(self.opened(from));
                self.alone(&[&aside], &[&at_once(&order)]).await
            }
            Step::Open => {
                let open = self.marked(database, None).await?;
                self.order(&[&open]).await
            }
            Step::Retire(wish) => {
                let (aside, name) = (old(Old::Aside(wish)), old(Old::Replaced(wish)));
                let order = [rename(&aside, &name), allow_connections(&name, false)];
                self.alone(&[&aside], &[&at_once(&order)]).await
            }
            Step::DropNew(which) => {
                let name = new(which);
                self.drop_subscriptions(&name).await?;
                self.drop(&name).await
            }
            Step::DropOld => self.drop(&old(Old::Replaced(OldDatabase::Drop))).await,
        }
    }

    /// What comes back from where only closed databases are.
    fn opened(&self, from: Old) -> Option<String> {
        let is_closed = matches!(from, Old::Replaced(_));
        is_closed.then(|| allow_connections(&self.names.database, true))
    }

    /// Those that came with a load, and never did anything: as long as they are there, the server drops no database.
    async fn drop_subscriptions(&self, database: &str) -> Result<(), DriverError> {
        let bound = subscriptions(self.server, &self.seat, database).await?;
        if bound.is_empty() {
            return Ok(());
        }
        self.order(&[&allow_connections(database, true)]).await?;
        for subscription in bound {
            let orders = subscription.detach();
            let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
            self.server.execute(database, &orders).await?;
        }
        Ok(())
    }

    async fn drop(&self, database: &str) -> Result<State, DriverError> {
        let dropped = self.try_to_drop(database).await?;
        dropped.map_err(|refusal| self.server.error_of(refusal))
    }

    async fn try_to_drop(&self, database: &str) -> Result<Result<State, Refusal>, DriverError> {
        let databases = self.server.databases(&self.seat).await?;
        let Some(found) = databases.iter().find(|found| found.name == database) else {
            return self.state().await.map(Ok);
        };
        let mut orders = Vec::new();
        if !found.is_invalid {
            orders.push(allow_connections(database, false));
        }
        if found.is_template && !found.is_invalid {
            orders.push(format!(
                "ALTER DATABASE {} WITH IS_TEMPLATE false",
                quote_ident(database)
            ));
        }
        orders.push(format!("DROP DATABASE {}", quote_ident(database)));
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        self.try_alone(&[database], &orders).await
    }

    async fn alone(&self, databases: &[&str], orders: &[&str]) -> Result<State, DriverError> {
        let reached = self.try_alone(databases, orders).await?;
        reached.map_err(|refusal| self.server.error_of(refusal))
    }

    /// Gives orders of which the server refuses the last while anybody is in one of `databases`: before it, their sessions
    /// are ended. What exists after them.
    async fn try_alone(
        &self,
        databases: &[&str],
        orders: &[&str],
    ) -> Result<Result<State, Refusal>, DriverError> {
        let terminate = end_sessions_in(databases);
        let mut all = orders.to_vec();
        all.insert(all.len().saturating_sub(1), &terminate);
        let mut attempt = 1;
        loop {
            match self.server.execute_and_list(&self.seat, &all).await? {
                Ok(databases) => return Ok(Ok(State::of(&self.names, &databases))),
                Err(refusal) if refusal.is_in_use() && attempt < TERMINATE_ATTEMPTS => {
                    debug!(attempt, "could not end all sessions: {}", refusal.words);
                    attempt += 1;
                    tokio::time::sleep(TERMINATE_PAUSE).await;
                }
                Err(refusal) => return Ok(Err(refusal)),
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
