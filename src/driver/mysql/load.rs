//! Putting a database back.
//!
//! `swap` loads into a database of another name, which the commit takes the tables out of (see [`super::swap`]). What can
//! only be loaded under its own name (a default that takes numbers from a sequence, a view that calls a function: both are
//! written with the database's name) is then loaded like `recreate` does it: the old database is moved away first, and
//! stays whole until the commit (see [`super::away`]).

use tracing::{info, warn};

use super::away::{Stranger, ensure_nobody_refers, ensure_none};
use super::definitions::{missing_definers, names_database, script_of};
use super::grants::grants_on_routines;
use super::holdings::{Detail, Holdings, look};
use super::server::Server;
use super::settings::loading_session;
use super::sight::{hides_triggers, triggers_are_hidden};
use super::swap::Swap;
use super::trouble::error_number;
use super::{MysqlDriver, checksums};
use crate::driver::{DriverError, OldDatabase};
use crate::labels::MysqlRestore;
use crate::manifest::{Artifact, MysqlFacts, MysqlFlavour, MysqlPrograms, Role, TargetRecord};
use crate::snapshot::ArtifactSource;

/// What a load needs to know.
pub(super) struct Load<'a> {
    driver: &'a MysqlDriver,
    server: &'a Server,
    facts: &'a MysqlFacts,
    artifact: &'a Artifact,
    swap: Swap<'a>,
}

impl<'a> Load<'a> {
    pub fn of(
        driver: &'a MysqlDriver,
        server: &'a Server,
        record: &'a TargetRecord,
        facts: &'a MysqlFacts,
    ) -> Result<Self, DriverError> {
        let artifact = record.artifact(Role::Dump).ok_or_else(|| {
            DriverError::failed(format!("the snapshot holds no dump for {}", record.target))
        })?;
        warn_of_another_server(server, facts);
        Ok(Self {
            driver,
            server,
            facts,
            artifact,
            swap: Swap::new(server, &record.target.name, driver.run()),
        })
    }

    pub async fn run(&self, source: &dyn ArtifactSource) -> Result<(), DriverError> {
        let database = &self.swap.names.database;
        if hides_triggers(self.server, database).await? {
            return Err(triggers_are_hidden(database));
        }
        if self.driver.labels().restore == MysqlRestore::Recreate {
            return self.under_own_name(source).await;
        }
        let why = match self.beside(source).await {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => why,
            Err(error) if wants_own_name(&error) => error.to_string(),
            Err(error) => return Err(error),
        };
        warn!(
            "database {} cannot be loaded under another name ({why}), so its tables are moved away, and it is loaded under its own",
            self.swap.names.database
        );
        self.under_own_name(source).await
    }

    /// Why the database has to be loaded under its own name, if it has to.
    async fn beside(&self, source: &dyn ArtifactSource) -> Result<Option<String>, DriverError> {
        self.swap.roll_back(usize::MAX).await?;
        let strangers = self.swap.strangers_of(&self.swap.names.database).await?;
        ensure_nobody_refers(&strangers)?;
        let staged = self.swap.names.staged();
        let MysqlFacts {
            charset, collation, ..
        } = self.facts;
        self.swap.make_marked(&staged, charset, collation).await?;
        self.fill(&staged, &staged, source).await?;
        let holdings = self.loaded_in(&staged).await?;
        let script = script_of(self.server, &staged, &holdings).await?;
        if names_database(&script, &staged) {
            return Ok(Some(
                "its views or programs name the database they were loaded into".to_owned(),
            ));
        }
        self.warn_of_missing_definers(&staged).await;
        self.swap.ensure_old_can_move().await?;
        self.swap
            .mark_loaded(&holdings, script, self.driver.old_database())
            .await?;
        Ok(None)
    }

    async fn under_own_name(&self, source: &dyn ArtifactSource) -> Result<(), DriverError> {
        self.swap.roll_back(usize::MAX).await?;
        let database = &self.swap.names.database;
        let old = self.driver.old_database();
        let strangers = self.swap.strangers_of(database).await?;
        if old == OldDatabase::Keep {
            ensure_none(&strangers, "they would stay with its old tables")?;
        }
        let present = look(self.server, &[database], Detail::Names).await?;
        let grants = match present.get(database) {
            Some(holdings) => grants_on_routines(self.server, database, holdings).await,
            None => Vec::new(),
        };
        let old = self.swap.move_away(old, usize::MAX).await?;
        let MysqlFacts {
            charset, collation, ..
        } = self.facts;
        self.swap.make_new(charset, collation).await?;
        let aside = self.swap.names.aside(old);
        self.fill(database, &aside, source).await?;
        let holdings = self.loaded_in(database).await?;
        let has_trigger = |stranger: &Stranger| {
            let mut triggers = holdings.triggers.iter();
            triggers.any(|trigger| trigger.table == stranger.table)
        };
        let torn: Vec<Stranger> = strangers.into_iter().filter(has_trigger).collect();
        ensure_none(
            &torn,
            "they cannot be pointed to new tables that have triggers",
        )?;
        self.warn_of_missing_definers(database).await;
        if !grants.is_empty() {
            // Of routines that are there no more, none is missed.
            let granted = self.server.run_script(database, grants).await;
            granted.unwrap_or_else(|error| {
                warn!("could not restore all privileges on routines of {database}: {error}");
            });
        }
        self.swap.mark_arrived(&holdings, old).await
    }

    /// `noted_in`: the database whose mark belongs to this load.
    async fn fill(
        &self,
        database: &str,
        noted_in: &str,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let session = loading_session(self.server).await?;
        let argv = self.server.load_argv(database, &session);
        let has_sandbox_line = self.facts.flavour == MysqlFlavour::Mariadb;
        let argv = if has_sandbox_line && !self.server.knows().sandbox {
            without_first_line(argv)
        } else {
            argv
        };
        let clients = self.server.clients();
        self.swap.ease_server(noted_in).await?;
        clients
            .load(
                self.driver.visitor(self.server),
                self.driver.labels().transfer,
                argv,
                source,
                self.artifact,
            )
            .await
            .map_err(|error| told_by(self.server.client(), error))?;
        self.swap.reset_server(noted_in).await
    }

    /// What is in the loaded database, which has to be what was saved. Our own mark is not.
    async fn loaded_in(&self, database: &str) -> Result<Holdings, DriverError> {
        let mut found = look(self.server, &[database], Detail::Names).await?;
        let mut holdings = found.remove(database).ok_or_else(|| {
            DriverError::failed(format!(
                "{database} was dropped from outside while it was loaded"
            ))
        })?;
        let mark = self.swap.names.mark();
        holdings.tables.retain(|table| table.name != mark);
        ensure_tables(self.facts, &holdings)?;
        ensure_programs(self.facts, &holdings)?;
        Ok(holdings)
    }

    /// Whoever calls a view or a routine whose definer does not exist is refused by the server.
    async fn warn_of_missing_definers(&self, database: &str) {
        match missing_definers(self.server, database).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                warn!(
                    "views, triggers, routines or events of {} belong to users that this server does not have; create these \
                     users, or nobody can use them: {}",
                    self.swap.names.database,
                    missing.join(", ")
                );
            }
            Err(error) => info!("could not check whether all definers exist: {error}"),
        }
    }
}

/// Whether something was not found that has the database's own name before it.
fn wants_own_name(error: &DriverError) -> bool {
    /// No such database, column (of a view whose definer is gone, MariaDB writes all names in full), table, function, part of a
    /// view, sequence; a trigger that names its database, whose table is elsewhere or has it already.
    const OF_ANOTHER_DATABASE: [u32; 8] = [1049, 1054, 1146, 1305, 1356, 4091, 1359, 1435];
    let number = error_number(&error.to_string());
    number.is_some_and(|number| OF_ANOTHER_DATABASE.contains(&number))
}

/// Every table that the dump held is there, and holds the rows that it held.
pub(super) async fn check_database(
    driver: &MysqlDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &MysqlFacts,
) -> Result<(), DriverError> {
    let swap = Swap::new(server, &record.target.name, driver.run());
    let state = swap.state().await?;
    let (loaded, holdings) = match (state.staged, state.database) {
        (Some(staged), _) => (swap.names.staged(), staged.holdings),
        (None, Some(database)) => (swap.names.database.clone(), database),
        (None, None) => {
            return Err(DriverError::failed(format!(
                "nothing was loaded for {}",
                record.target
            )));
        }
    };
    ensure_tables(facts, &holdings)?;
    checksums::compare(server, &loaded, facts, driver.loss()).await
}

fn ensure_tables(facts: &MysqlFacts, holdings: &Holdings) -> Result<(), DriverError> {
    let missing: Vec<&str> = facts
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .filter(|name| !holdings.has_table(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DriverError::failed(format!(
        "after the load of database {} these tables are missing: {}",
        facts.database,
        missing.join(", ")
    )))
}

fn ensure_programs(facts: &MysqlFacts, holdings: &Holdings) -> Result<(), DriverError> {
    let Some(saved) = facts.programs else {
        return Ok(());
    };
    let found = MysqlPrograms {
        views: holdings.views.len() as u64,
        triggers: holdings.triggers.len() as u64,
        routines: holdings.routines.len() as u64,
        events: holdings.lasting_events(),
    };
    if found == saved {
        return Ok(());
    }
    let told = |programs: MysqlPrograms| {
        format!(
            "{} views, {} triggers, {} routines and {} events",
            programs.views, programs.triggers, programs.routines, programs.events
        )
    };
    Err(DriverError::failed(format!(
        "after the load of database {} there are {}, but {} were saved",
        facts.database,
        told(found),
        told(saved)
    )))
}

/// A dump is text, so the server decides whether it understands it; `swap` has the old database until then.
fn warn_of_another_server(server: &Server, facts: &MysqlFacts) {
    let here = server.facts.flavour();
    if here != facts.flavour {
        warn!(
            "the snapshot of database {} was taken from {} {}, and container {} runs {here} {}: the load fails on anything \
             that only one of them knows",
            facts.database,
            facts.flavour,
            facts.server_version,
            server.container().name,
            server.facts.version
        );
        return;
    }
    let (saved, now) = (
        version(&facts.server_version),
        version(&server.facts.version),
    );
    if saved > now {
        warn!(
            "the snapshot of database {} was taken from {here} {}, and container {} runs the older {}: the load fails on \
             anything that it does not know",
            facts.database,
            facts.server_version,
            server.container().name,
            server.facts.version
        );
    }
}

/// `10.11.6-MariaDB` is (10, 11).
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|character: char| !character.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The shell that gives a client its input from the second line on. It reads no further than the first line, which has to
/// be the comment that every dump begins with.
fn without_first_line(client: Vec<String>) -> Vec<String> {
    let script = "IFS= read -r line\n\
        case $line in\n\
        '-- '* | '/*M!'*) exec \"$@\" ;;\n\
        *) echo 'the dump does not begin as one' >&2; exit 1 ;;\n\
        esac";
    let mut argv: Vec<String> = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    argv.extend(client);
    argv
}

/// Where a shell stands before a client, the client is who speaks.
pub(super) fn told_by(program: &str, error: DriverError) -> DriverError {
    const SHELL: &str = "sh failed with";
    match error {
        DriverError::Client {
            program: shell,
            code,
            message,
        } if shell == "sh" => DriverError::Client {
            program: program.to_owned(),
            code,
            message,
        },
        DriverError::Failed { what, hint } if what.starts_with(SHELL) => DriverError::Failed {
            what: what.replacen(SHELL, &format!("{program} failed with"), 1),
            hint,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::definitions::TRAILER;
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn fed(input: &str) -> (Option<i32>, String) {
        let argv = without_first_line(vec!["cat".to_owned()]);
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // The shell may be gone before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    }

    #[test]
    fn an_old_client_never_sees_the_first_line() {
        let rest = format!(
            "INSERT INTO t VALUES ('a\\nb');\r\n{}\n{TRAILER}\n",
            "x".repeat(300_000)
        );
        for first in [
            "/*M!999999\\- enable the sandbox mode */ ",
            "-- MariaDB dump 10.19",
        ] {
            assert_eq!(fed(&format!("{first}\n{rest}")), (Some(0), rest.clone()));
        }
        assert_eq!(fed("DROP TABLE t;\n"), (Some(1), String::new()));
        assert_eq!(fed(""), (Some(1), String::new()));
    }

    #[test]
    fn versions_are_compared_by_two_numbers() {
        assert_eq!(version("10.11.6-MariaDB-0+deb12u1"), (10, 11));
        assert_eq!(version("9.7.4-2"), (9, 7));
        assert_eq!(version(""), (0, 0));
        assert!(version("11.8.1-MariaDB") > version("10.11.9-MariaDB"));
    }

    #[test]
    fn the_client_speaks_and_not_its_shell() {
        let error = DriverError::Client {
            program: "sh".to_owned(),
            code: 1,
            message: "ERROR 1064".to_owned(),
        };
        assert_eq!(
            told_by("mariadb", error).to_string(),
            "mariadb failed with exit code 1: ERROR 1064"
        );
        let error = DriverError::failed_with_hint("sh failed with exit code 1: ERROR 1273", "x");
        assert_eq!(
            told_by("mysql", error).to_string(),
            "mysql failed with exit code 1: ERROR 1273; x"
        );
    }
}
