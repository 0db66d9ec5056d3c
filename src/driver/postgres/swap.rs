//! The three databases of a restore, and how one takes the other's place.
//!
//! A restore of `x` loads into a database of another name, so that nobody can meet a half-loaded one, and the old `x` stays
//! as it is until everything has been loaded and checked. Then both names change in one transaction of the server.
//!
//! What is left to do follows from which databases exist and from two marks on them, so a crash needs no journal of ours:
//! the next step is looked up, done, and looked up again.
//!
//! | `x` | loading | before | state | commit | rollback |
//! | --- | --- | --- | --- | --- | --- |
//! | yes | – | – | nothing begun, or all done | (remove the mark) | (open it) |
//! | – | – | – | nothing begun, or never there | error | – |
//! | any | not marked | any | the load broke off | error | drop loading |
//! | open | marked | – | loaded and checked | close `x`, end its sessions | drop loading |
//! | closed | marked | – | about to swap | rename `x` → before, loading → `x` | drop loading, open `x` |
//! | – | marked | – | `x` was not there before | rename loading → `x` | drop loading |
//! | marked | – | yes | swapped | drop before, or keep it | rename `x` → loading, before → `x` |
//! | not marked | – | yes | done, and the old one kept | – | – |
//! | – | – | yes | somebody removed the new one | error | rename before → `x`, open it |
//! | – | marked | yes | somebody removed `x` in mid-swap | rename loading → `x` | drop loading |
//! | yes | yes | yes | not ours | error | drop loading |
//!
//! The marks are settings of the database with names of our own: `cofferdam.loaded` on the new one, `cofferdam.closed` on
//! the old. Each holds the run's id; marks of other runs mean nothing.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::{debug, info};

use super::server::{Database, Server, named};
use super::sql::{quote_ident, quote_literal};
use crate::driver::DriverError;
use crate::target::RunId;

/// Names are cut here by the server (`NAMEDATALEN - 1`), in bytes.
const LONGEST_NAME: usize = 63;
const LOADED: &str = "cofferdam.loaded";
const CLOSED: &str = "cofferdam.closed";
/// Stands in the mark of a new database whose old one is to be kept.
const KEEP: &str = "keep-old";
/// How often sessions that will not go are told to.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What becomes of the old database after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldDatabase {
    #[default]
    Drop,
    /// It stays, under another name and closed to connections.
    Keep,
}

/// The names that a restore of one database goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub database: String,
    pub loading: String,
    pub before: String,
}

impl Names {
    pub fn of(database: &str, run: &RunId) -> Self {
        Self {
            database: database.to_owned(),
            loading: suffixed(
                &ascii(database),
                database,
                &format!("_loading_{}", run.short()),
            ),
            before: suffixed(database, database, &format!("_before_{}", run.short())),
        }
    }
}

/// Scripts of pg_restore are in the encoding of the database; in ASCII a name reads the same in all of them.
fn ascii(name: &str) -> String {
    name.replace(|character: char| !character.is_ascii_graphic(), "_")
}

/// `name` with `suffix`, cut to what the server takes. A name that had to be changed gets digits of its own, since others
/// may begin alike.
fn suffixed(name: &str, original: &str, suffix: &str) -> String {
    if name == original && name.len() + suffix.len() <= LONGEST_NAME {
        return format!("{name}{suffix}");
    }
    let digest = Sha256::digest(original);
    let digits: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut end = name
        .len()
        .min(LONGEST_NAME - suffix.len() - digits.len() - 1);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{digits}{suffix}", &name[..end])
}

/// What exists of [`Names`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    database: Option<Seen>,
    loading: Option<Seen>,
    before: Option<Seen>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    is_open: bool,
    /// Marked by this run as completely loaded, with what becomes of the old one.
    loaded: Option<OldDatabase>,
    /// Closed by this run.
    closed: bool,
}

impl Seen {
    fn of(database: &Database, run: &RunId) -> Self {
        let mark = |name: &str| {
            let mut words = database.marks.get(name)?.split(' ');
            (words.next() == Some(run.as_str())).then(|| words.next())
        };
        Self {
            is_open: database.allows_connections,
            loaded: mark(LOADED).map(|word| match word {
                Some(KEEP) => OldDatabase::Keep,
                _ => OldDatabase::Drop,
            }),
            closed: mark(CLOSED).is_some(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Close,
    Open,
    Swap,
    SwapBack,
    /// loading → `x`
    Enter,
    /// before → `x`
    Return,
    DropLoading,
    DropBefore,
    Unmark,
}

/// The next step to put the new database into its place; `None`: all done.
fn next_of_commit(state: &State) -> Result<Option<Step>, &'static str> {
    match (state.database, state.loading, state.before) {
        (_, Some(Seen { loaded: None, .. }), _) => Err("its load was never completed"),
        (Some(_), Some(_), Some(_)) => Err("there are two old databases"),
        (Some(old), Some(_), None) if old.is_open => Ok(Some(Step::Close)),
        (Some(_), Some(_), None) => Ok(Some(Step::Swap)),
        (None, Some(_), _) => Ok(Some(Step::Enter)),
        (None, None, _) => Err("neither a loaded database nor the restored one is there"),
        (Some(new), None, Some(_)) if new.loaded == Some(OldDatabase::Drop) => {
            Ok(Some(Step::DropBefore))
        }
        (Some(new), None, _) => Ok(new.loaded.map(|_| Step::Unmark)),
    }
}

/// The next step back to the old database; `None`: all done. Never drops the only database under its name.
fn next_of_rollback(state: &State) -> Option<Step> {
    match (state.database, state.loading, state.before) {
        (_, Some(_), _) => Some(Step::DropLoading),
        (Some(new), None, Some(_)) => new.loaded.map(|_| Step::SwapBack),
        (None, None, before) => before.map(|_| Step::Return),
        (Some(old), None, None) => old.closed.then_some(Step::Open),
    }
}

/// A restore of one database on its server.
pub(super) struct Swap<'a> {
    server: &'a Server,
    run: &'a RunId,
    pub names: Names,
    /// Where orders are given from.
    seat: String,
}

impl<'a> Swap<'a> {
    pub fn new(server: &'a Server, database: &str, run: &'a RunId) -> Self {
        Self {
            server,
            run,
            names: Names::of(database, run),
            seat: server.seat_beside(database),
        }
    }

    pub fn seat(&self) -> &str {
        &self.seat
    }

    /// Puts the new database into the old one's place. Idempotent.
    pub async fn commit(&self) -> Result<(), DriverError> {
        self.go(|state| {
            next_of_commit(state).map_err(|why| {
                DriverError::failed(format!(
                    "database {} cannot be put in place: {why}",
                    self.names.database
                ))
            })
        })
        .await
    }

    /// Puts the old database back into its place. Idempotent.
    pub async fn roll_back(&self) -> Result<(), DriverError> {
        self.go(|state| Ok(next_of_rollback(state))).await
    }

    async fn go(
        &self,
        next: impl Fn(&State) -> Result<Option<Step>, DriverError>,
    ) -> Result<(), DriverError> {
        while let Some(step) = next(&self.state().await?)? {
            debug!(database = self.names.database, ?step, "restoring");
            self.perform(step).await?;
        }
        Ok(())
    }

    async fn state(&self) -> Result<State, DriverError> {
        let databases = self.server.databases(&self.seat).await?;
        let seen = |name: &str| {
            databases
                .iter()
                .find(|database| database.name == name)
                .map(|database| Seen::of(database, self.run))
        };
        Ok(State {
            database: seen(&self.names.database),
            loading: seen(&self.names.loading),
            before: seen(&self.names.before),
        })
    }

    pub async fn is_loading(&self) -> Result<bool, DriverError> {
        Ok(self.state().await?.loading.is_some())
    }

    pub async fn exists(&self) -> Result<bool, DriverError> {
        Ok(self.state().await?.database.is_some())
    }

    /// Notes on the new database that it is whole. The server has it on disk when this returns, and so everything before.
    pub async fn mark_loaded(&self, old: OldDatabase) -> Result<(), DriverError> {
        let mark = match old {
            OldDatabase::Drop => self.run.to_string(),
            OldDatabase::Keep => format!("{} {KEEP}", self.run),
        };
        let order = format!(
            "ALTER DATABASE {} SET {LOADED} = {}",
            quote_ident(&self.names.loading),
            quote_literal(&mark)
        );
        self.server.execute(&self.seat, &[&order]).await
    }

    /// Drops what an earlier attempt of this run has left.
    pub async fn drop_loading(&self) -> Result<(), DriverError> {
        self.drop(&self.names.loading).await
    }

    /// For a load that writes over the old data.
    pub async fn drop_database(&self) -> Result<(), DriverError> {
        self.drop(&self.names.database).await
    }

    async fn perform(&self, step: Step) -> Result<(), DriverError> {
        let Names {
            database,
            loading,
            before,
        } = &self.names;
        match step {
            Step::Close => {
                let close = format!(
                    "{}; {}",
                    set_mark(database, CLOSED, self.run.as_str()),
                    allow_connections(database, false)
                );
                self.server.execute(&self.seat, &[&close]).await
            }
            Step::Open => {
                let open = format!(
                    "{}; {}",
                    allow_connections(database, true),
                    reset_mark(database, CLOSED)
                );
                self.server.execute(&self.seat, &[&open]).await
            }
            Step::Swap => {
                self.rename(&[(database, before), (loading, database)])
                    .await
            }
            Step::SwapBack => {
                let close = allow_connections(database, false);
                self.server.execute(&self.seat, &[&close]).await?;
                self.rename(&[(database, loading), (before, database)])
                    .await
            }
            Step::Enter => self.rename(&[(loading, database)]).await,
            Step::Return => self.rename(&[(before, database)]).await,
            Step::DropLoading => self.drop(loading).await,
            Step::DropBefore => self.drop(before).await.map_err(|error| {
                DriverError::failed_with_hint(
                    format!("the restored database {database} is in place, but the old one cannot be dropped: {error}"),
                    format!("drop database {before} by hand"),
                )
            }),
            Step::Unmark => {
                let kept = self.state().await?.before.is_some();
                if kept {
                    info!(
                        database,
                        before, "the old database is kept, closed to connections"
                    );
                }
                self.server
                    .execute(&self.seat, &[&reset_mark(database, LOADED)])
                    .await
            }
        }
    }

    /// All renames take effect at once, or none.
    async fn rename(&self, renames: &[(&String, &String)]) -> Result<(), DriverError> {
        // One order is one transaction.
        let order: String = renames
            .iter()
            .map(|(from, to)| {
                format!(
                    "ALTER DATABASE {} RENAME TO {};",
                    quote_ident(from),
                    quote_ident(to)
                )
            })
            .collect();
        let occupied: Vec<&str> = renames.iter().map(|(from, _)| from.as_str()).collect();
        self.alone(&occupied, &[&order]).await
    }

    async fn drop(&self, database: &str) -> Result<(), DriverError> {
        let databases = self.server.databases(&self.seat).await?;
        let Some(found) = databases.iter().find(|found| found.name == database) else {
            return Ok(());
        };
        let mut orders = vec![allow_connections(database, false)];
        if found.is_template {
            orders.push(format!(
                "ALTER DATABASE {} WITH IS_TEMPLATE false",
                quote_ident(database)
            ));
        }
        orders.push(format!("DROP DATABASE {}", quote_ident(database)));
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        self.alone(&[database], &orders).await
    }

    /// Gives orders that the server refuses while anybody is in one of `databases`: their sessions are ended first.
    async fn alone(&self, databases: &[&str], orders: &[&str]) -> Result<(), DriverError> {
        let conditions: Vec<String> = databases.iter().map(|database| named(database)).collect();
        let terminate = format!(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
             WHERE ({}) AND pid <> pg_catalog.pg_backend_pid()",
            conditions.join(" OR ")
        );
        // Closing comes before terminating, where the orders begin with it.
        let (last, first) = orders
            .split_last()
            .ok_or_else(|| DriverError::failed("no order to give"))?;
        let mut all = first.to_vec();
        all.push(&terminate);
        all.push(last);
        for attempt in 1.. {
            match self.server.try_execute(&self.seat, &all).await? {
                Ok(()) => return Ok(()),
                Err(words)
                    if words.contains("is being accessed by other users") && attempt < ATTEMPTS =>
                {
                    debug!(attempt, "sessions will not go: {words}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(words) => return Err(self.server.client_error("psql", 1, &words)),
            }
        }
        unreachable!("the loop ends by returning")
    }
}

fn set_mark(database: &str, mark: &str, value: &str) -> String {
    format!(
        "ALTER DATABASE {} SET {mark} = {}",
        quote_ident(database),
        quote_literal(value)
    )
}

fn reset_mark(database: &str, mark: &str) -> String {
    format!("ALTER DATABASE {} RESET {mark}", quote_ident(database))
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
    use proptest::prelude::*;

    fn run() -> RunId {
        "20261121T020000Z-9f2c61aa".parse().unwrap()
    }

    #[test]
    fn names_tell_what_they_are_and_fit() {
        let names = Names::of("clinical", &run());
        assert_eq!(names.loading, "clinical_loading_9f2c61aa");
        assert_eq!(names.before, "clinical_before_9f2c61aa");
        let odd = Names::of("Üñï", &run());
        assert_eq!(odd.before, "Üñï_before_9f2c61aa");
        assert!(odd.loading.is_ascii(), "{}", odd.loading);
    }

    proptest! {
        #[test]
        fn names_fit_and_never_meet(one in "[^\0]{1,63}", tail in "[^\0]{1,3}") {
            let long: String = one.chars().cycle().take(60).collect();
            for pair in [(one.clone(), format!("{one}{tail}")), (long.clone(), format!("{long}{tail}"))] {
                let (one, other) = (Names::of(&pair.0, &run()), Names::of(&pair.1, &run()));
                for name in [&one.loading, &one.before, &other.loading, &other.before] {
                    prop_assert!(name.len() <= LONGEST_NAME);
                }
                prop_assert!(one.loading != other.loading && one.before != other.before);
                prop_assert!(one.loading.is_ascii());
            }
        }
    }

    fn seen(text: &str) -> Option<Seen> {
        let open = Seen {
            is_open: true,
            ..Seen::default()
        };
        match text {
            "-" => None,
            "open" => Some(open),
            "closed" => Some(Seen {
                is_open: false,
                closed: true,
                loaded: None,
            }),
            "theirs" => Some(Seen {
                is_open: false,
                ..open
            }),
            "loaded" => Some(Seen {
                loaded: Some(OldDatabase::Drop),
                ..open
            }),
            "kept" => Some(Seen {
                loaded: Some(OldDatabase::Keep),
                ..open
            }),
            other => panic!("{other}"),
        }
    }

    /// Every row of the table above.
    #[test]
    fn the_next_step_follows_from_what_exists() {
        use Step::*;
        let error = Err(());
        for (database, loading, before, commit, rollback) in [
            ("open", "-", "-", Ok(None), None),
            ("loaded", "-", "-", Ok(Some(Unmark)), None),
            ("closed", "-", "-", Ok(None), Some(Open)),
            ("theirs", "-", "-", Ok(None), None),
            ("-", "-", "-", error, None),
            ("open", "open", "-", error, Some(DropLoading)),
            ("-", "open", "-", error, Some(DropLoading)),
            ("open", "loaded", "-", Ok(Some(Close)), Some(DropLoading)),
            ("closed", "loaded", "-", Ok(Some(Swap)), Some(DropLoading)),
            ("theirs", "loaded", "-", Ok(Some(Swap)), Some(DropLoading)),
            ("-", "loaded", "-", Ok(Some(Enter)), Some(DropLoading)),
            (
                "loaded",
                "-",
                "closed",
                Ok(Some(DropBefore)),
                Some(SwapBack),
            ),
            ("kept", "-", "closed", Ok(Some(Unmark)), Some(SwapBack)),
            ("open", "-", "closed", Ok(None), None),
            ("-", "-", "closed", error, Some(Return)),
            ("-", "loaded", "closed", Ok(Some(Enter)), Some(DropLoading)),
            ("open", "loaded", "closed", error, Some(DropLoading)),
        ] {
            let state = State {
                database: seen(database),
                loading: seen(loading),
                before: seen(before),
            };
            assert_eq!(
                next_of_commit(&state).map_err(drop),
                commit,
                "commit {database} {loading} {before}"
            );
            assert_eq!(
                next_of_rollback(&state),
                rollback,
                "rollback {database} {loading} {before}"
            );
        }
    }

    #[test]
    fn marks_of_other_runs_mean_nothing() {
        let mut database = Database {
            name: "x".to_owned(),
            allows_connections: true,
            is_template: false,
            marks: [(LOADED.to_owned(), format!("{} {KEEP}", run()))].into(),
        };
        assert_eq!(Seen::of(&database, &run()).loaded, Some(OldDatabase::Keep));
        database.marks = [(LOADED.to_owned(), "20251121T020000Z-9f2c61aa".to_owned())].into();
        assert_eq!(
            Seen::of(&database, &run()),
            Seen {
                is_open: true,
                ..Seen::default()
            }
        );
    }
}
