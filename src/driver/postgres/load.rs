//! Putting a database back.
//!
//! `swap` loads into a new database of another name, beside the old one; `recreate` into one that has the old one's name, and
//! so does `swap` when the database is bound to its name (see [`super::swap`]). Either way the old one is renamed, and given up
//! by the commit. `clean` loads into the database that is there, in one transaction, so that a load that fails has changed
//! nothing.

use std::num::NonZero;

use serde::Deserialize;
use tracing::{debug, info, warn};

use super::PostgresDriver;
use super::create::{pg_restore_script, renamed_script};
use super::footprint::Footprint;
use super::inlet::{Inlet, Jobs};
use super::server::{Server, Transaction};
use super::session::{Session, both, may_be_the_session};
use super::sql::connection_string;
use super::swap::Swap;
use crate::agent::inside::{Visit, VisitError};
use crate::driver::DriverError;
use crate::labels::{PostgresRestore, TransferChoice};
use crate::manifest::{PostgresFacts, Role, TableFacts, TargetRecord};
use crate::snapshot::ArtifactSource;

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
        let inlet = Inlet::stream(server, source, artifact).await?;
        load.through(&inlet).await
    };
    if driver.labels().transfer == TransferChoice::Stream {
        return by_stream().await;
    }
    match Visit::begin(driver.visitor(server)).await {
        Ok(visit) => {
            let loaded = async {
                let inlet = Inlet::open(server, &visit, source, artifact).await?;
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
        Err(error) => Err(server.clients().visit_error(error)),
    }
}

/// `pg_restore` understands dumps of its own version and of older ones.
pub(super) fn ensure_not_older(server: &Server, facts: &PostgresFacts) -> Result<(), DriverError> {
    let saved: Option<u32> = facts
        .server_version
        .split(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|major| major.parse().ok());
    let here = server.facts.major();
    match saved {
        Some(saved) if saved > here => Err(DriverError::failed_with_hint(
            format!(
                "the snapshot was taken from PostgreSQL {}, but container {} runs {}",
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

/// Where a new database is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Under another name.
    Beside,
    /// Under the name that is restored. The old one has made way.
    OwnName,
}

impl Load<'_> {
    async fn through(&self, inlet: &Inlet<'_>) -> Result<(), DriverError> {
        let present = self.swap.roll_back().await?.is_present();
        let restore = self.driver.labels().restore;
        if restore == PostgresRestore::Clean && present {
            return self.clean_and_fill(inlet).await;
        }
        self.swap.ensure_may_go().await?;
        let script = self.script(inlet).await?;
        if restore != PostgresRestore::Swap || !self.facts.bound_to_name.is_empty() {
            return self.create_and_fill(inlet, &script, Place::OwnName).await;
        }
        let Err(error) = self.create_and_fill(inlet, &script, Place::Beside).await else {
            return Ok(());
        };
        if !may_be_the_session(&error) {
            return Err(error);
        }
        self.swap.roll_back().await?;
        let loaded = self.create_and_fill(inlet, &script, Place::OwnName).await;
        loaded.map_err(|again| {
            DriverError::failed(format!(
                "{again}; that was under its own name; under another name, it had failed with: {error}"
            ))
        })?;
        self.driver.notice(format!(
            "database {} could not be loaded under another name ({error}), so it was loaded under its own, while the old one \
             was out of the way",
            self.swap.names.database
        ));
        Ok(())
    }

    /// Into the database that is there. Its one transaction most likely changed nothing when it failed; where that is certain,
    /// there is nothing to put back.
    async fn clean_and_fill(&self, inlet: &Inlet<'_>) -> Result<(), DriverError> {
        let database = &self.swap.names.database;
        self.driver.unchanged().remove(database);
        let before = Footprint::of(self.server, database).await;
        let filled = self.fill_cleaned(inlet).await;
        if filled.is_err() {
            let is_unchanged = match before {
                Ok(before) => before.is_still_there(self.server, database).await,
                Err(error) => Err(error),
            };
            match is_unchanged {
                Ok(true) => drop(self.driver.unchanged().insert(database.clone())),
                Ok(false) => {}
                Err(error) => debug!("could not check whether {database} is unchanged: {error}"),
            }
        }
        filled
    }

    async fn fill_cleaned(&self, inlet: &Inlet<'_>) -> Result<(), DriverError> {
        let options = ["--clean", "--if-exists", "--single-transaction"];
        let argv = pg_restore(&options, &self.swap.names.database);
        let fill = async |session: Session| {
            let argv = argv.clone();
            self.fill(inlet, argv, Jobs::One, &session).await
        };
        let Err(error) = fill(Session::AsDumped).await else {
            return Ok(());
        };
        match self.second_session(&error) {
            Some(session) => fill(session).await.map_err(|again| both(error, again)),
            None => Err(error),
        }
    }

    /// What makes the new database, before anything is in it.
    async fn script(&self, inlet: &Inlet<'_>) -> Result<Vec<u8>, DriverError> {
        let argv = pg_restore_script(self.driver.run().short());
        let script = inlet.script(self.server, argv).await?;
        renamed_script(&script, &self.swap.names.loading())
    }

    async fn create_and_fill(
        &self,
        inlet: &Inlet<'_>,
        script: &[u8],
        place: Place,
    ) -> Result<(), DriverError> {
        let first = self
            .create_and_fill_in(inlet, script, place, Session::AsDumped)
            .await;
        let Err(error) = first else {
            return first;
        };
        let Some(session) = self.second_session(&error) else {
            return Err(error);
        };
        self.swap.roll_back().await?;
        self.create_and_fill_in(inlet, script, place, session)
            .await
            .map_err(|again| both(error, again))
    }

    /// What a load that failed is tried again in, where that may help.
    fn second_session(&self, error: &DriverError) -> Option<Session> {
        if !may_be_the_session(error) {
            return None;
        }
        let session = Session::own(&self.facts.search_path);
        warn!(
            container = self.server.container().name,
            "{}",
            session.instead_of(error)
        );
        Some(session)
    }

    async fn create_and_fill_in(
        &self,
        inlet: &Inlet<'_>,
        script: &[u8],
        place: Place,
        session: Session,
    ) -> Result<(), DriverError> {
        self.server
            .run_script(self.swap.seat(), script.to_vec(), Transaction::Each)
            .await?;
        let jobs = match (inlet.cores(), self.driver.jobs()) {
            (1, _) => Jobs::One,
            (_, Some(jobs)) => jobs,
            (cores, None) => jobs_that_pay(&self.facts.tables, cores),
        };
        let old = self.driver.old_database();
        match place {
            Place::Beside => {
                let argv = pg_restore(&[], &self.swap.names.loading());
                self.fill(inlet, argv, jobs, &session).await?;
                self.swap.mark_loaded(old).await
            }
            Place::OwnName => {
                self.swap.take_name(old).await?;
                let argv = pg_restore(&[], &self.swap.names.database);
                self.fill(inlet, argv, jobs, &session).await?;
                self.swap.mark_loaded_in_place().await
            }
        }
    }

    async fn fill(
        &self,
        inlet: &Inlet<'_>,
        argv: Vec<String>,
        jobs: Jobs,
        session: &Session,
    ) -> Result<(), DriverError> {
        let watch = self.driver.watch(self.server);
        let restored = inlet.restore(self.server, &watch, argv, jobs, session);
        restored.await?;
        watch.dismiss();
        Ok(())
    }
}

/// Beyond this the server's own disk is what everybody waits for.
const MOST_JOBS: usize = 8;
/// Smaller databases are loaded before a second job has started, in bytes.
const SMALLEST_FOR_JOBS: u64 = 64 * 1024 * 1024;

/// To fill tables side by side, the dump has to be decompressed into a file first: that pays only when no table holds most
/// of the data.
fn jobs_that_pay(tables: &[TableFacts], cores: usize) -> Jobs {
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    let largest = tables.iter().map(|table| table.bytes).max().unwrap_or(0);
    match NonZero::new(cores.min(MOST_JOBS)) {
        Some(jobs) if jobs.get() > 1 && total >= SMALLEST_FOR_JOBS => {
            if largest > total / 10 * 7 {
                Jobs::Indexes(jobs)
            } else {
                Jobs::All(jobs)
            }
        }
        _ => Jobs::One,
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
    let database = Swap::new(server, &record.target.name, driver.run())
        .loaded()
        .await?;
    let mut found: Vec<Named> = server
        .query(
            &database,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_pay_when_the_data_is_spread() {
        const MEBIBYTE: u64 = 1024 * 1024;
        let indexes = |jobs| Jobs::Indexes(NonZero::new(jobs).unwrap());
        let all = |jobs| Jobs::All(NonZero::new(jobs).unwrap());
        for (sizes, cores, jobs) in [
            (&[][..], 4, Jobs::One),
            (&[0, 0], 4, Jobs::One),
            (&[10, 10, 10], 4, Jobs::One),
            (&[600, 400], 1, Jobs::One),
            (&[1000], 4, indexes(4)),
            (&[900, 100], 4, indexes(4)),
            (&[600, 400], 2, all(2)),
            (&[250, 250, 250, 250], 4, all(4)),
            (&[100; 20], 64, all(8)),
        ] {
            let tables: Vec<TableFacts> = sizes
                .iter()
                .map(|size| TableFacts {
                    schema: String::new(),
                    name: String::new(),
                    estimated_rows: None,
                    bytes: size * MEBIBYTE,
                })
                .collect();
            assert_eq!(jobs_that_pay(&tables, cores), jobs, "{sizes:?}");
        }
    }
}
