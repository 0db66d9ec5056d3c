//! Taking a database out.
//!
//! One script of the server's own dump client, as one artifact. It counts only when the client has ended with 0 and the
//! script ends with its last line.

use std::time::Duration;

use super::MysqlDriver;
use super::checksums::{Checksums, checksums_of, unchanged_since};
use super::definitions::ensure_whole;
use super::exact::{self, Inexact, warning_of_rounded};
use super::holdings::{Detail, Holdings, Table, look};
use super::server::{Server, Way};
use super::sight::sight;
use super::sql::matches;
use crate::driver::clients::{Chatter, DumpOrder};
use crate::driver::{Captured, DriverError};
use crate::labels::MysqlLabels;
use crate::manifest::{Facts, MysqlFacts, MysqlPrograms, MysqlTableFacts, Role};
use crate::snapshot::ArtifactSink;

/// How long the client may print nothing: it may have to wait for the lock of whoever changes a table.
const IDLE: Duration = Duration::from_secs(3600);
/// Engines whose tables a transaction sees as they were when it began.
const TRANSACTIONAL: [&str; 4] = ["InnoDB", "ROCKSDB", "TokuDB", "ndbcluster"];

/// Saves one database.
pub(super) async fn dump_database(
    driver: &MysqlDriver,
    server: &Server,
    database: &str,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    let labels = driver.labels();
    let before = observe(server, database).await?;
    let excluded = Excluded::of(labels, &before);
    let with_rows = excluded.with_rows(&before);
    let inexact = exact::inexact(server, database, &with_rows).await?;
    let checksums = checksums_of(server, database, &with_rows, &before.events).await;
    let argv = |way| dump_argv(server, way, database, &excluded, &before);
    let relay = if inexact.selects.is_empty() {
        None
    } else {
        Some(inexact.relay(server, argv).await)
    };
    let order = DumpOrder {
        argv: argv(Way::Direct)?,
        role: Role::Dump,
        extension: "sql",
        transfer: labels.transfer,
        idle_limit: IDLE,
        chatter: Chatter::Warning,
        relay: relay.as_ref().and_then(|relay| relay.clone().ok()),
    };
    let taken = server
        .clients()
        .dump(driver.visitor(server), &order, sink)
        .await
        .map_err(|error| super::load::told_by(server.dump_client(), error))?;
    ensure_whole(server.dump_client(), &taken.tail)?;
    let after = observe(server, database).await?;
    let altered = altered(server, database, &inexact, &with_rows, &after).await?;
    let mut checksums = unchanged_since(server, database, checksums).await;

    let mut warnings = taken.warnings;
    if !altered.is_empty() {
        let altered = altered.join(", ");
        if order.relay.is_some() {
            return Err(DriverError::failed_with_hint(
                format!(
                    "columns of these tables of database {database} changed during the dump: {altered}"
                ),
                "back up again when no tables are being altered",
            ));
        }
        warnings.push(format!(
            "columns of these tables changed during the dump, and FLOAT columns in them were saved with six digits only: {altered}"
        ));
    }
    let relayed = taken.relayed.or(relay.and_then(Result::err));
    if let Some(relayed) = relayed {
        checksums.retain(|table, _| !inexact.is_rounded(table, &relayed));
        warnings.extend(warning_of_rounded(&inexact.floats, &relayed));
    }
    warnings.extend(excluded.warnings(database));
    warnings.extend(warnings_of_tables(server, &before, &excluded));
    warnings.extend(match sight(server, database).await {
        Ok(sight) => sight.warning(server, database),
        Err(error) => Some(format!(
            "could not check what cofferdam.mysql.user may see of database {database}: {error}"
        )),
    });
    Ok(Captured {
        transfer: taken.transfer,
        facts: Facts::Mysql(facts(
            server, labels, database, &excluded, &before, &after, &checksums,
        )),
        artifacts: vec![taken.artifact],
        warnings,
    })
}

async fn observe(server: &Server, database: &str) -> Result<Holdings, DriverError> {
    let mut found = look(server, &[database], Detail::Sizes).await?;
    found.remove(database).ok_or_else(|| {
        DriverError::failed(format!(
            "container {} no longer has the database {database}",
            server.container().name
        ))
    })
}

/// Tables whose columns are not any more what the client was told before it began.
async fn altered(
    server: &Server,
    database: &str,
    before: &Inexact,
    tables: &[&Table],
    there: &Holdings,
) -> Result<Vec<String>, DriverError> {
    let now = exact::inexact(server, database, tables).await?;
    let mut altered = before.altered(&now);
    altered.retain(|table| there.has_table(table));
    Ok(altered.into_iter().map(str::to_owned).collect())
}

/// What the labels leave out, as names.
#[derive(Debug, Default)]
struct Excluded {
    /// Tables and views.
    whole: Vec<String>,
    /// Tables that come back empty.
    rows: Vec<String>,
    /// Patterns, with their labels, that match nothing.
    idle: Vec<(&'static str, String)>,
}

impl Excluded {
    fn of(labels: &MysqlLabels, holdings: &Holdings) -> Self {
        let mut excluded = Self::default();
        for pattern in &labels.exclude_tables {
            let names = holdings
                .table_names()
                .chain(holdings.views.iter().map(String::as_str));
            let found: Vec<&str> = names.filter(|name| matches(pattern, name)).collect();
            if found.is_empty() {
                let label = "cofferdam.mysql.exclude-tables";
                excluded.idle.push((label, pattern.clone()));
            }
            for name in found {
                if !excluded.is_whole(name) {
                    excluded.whole.push(name.to_owned());
                }
            }
        }
        for pattern in &labels.exclude_table_data {
            let names = holdings.table_names();
            let found: Vec<&str> = names.filter(|name| matches(pattern, name)).collect();
            if found.is_empty() {
                let label = "cofferdam.mysql.exclude-table-data";
                excluded.idle.push((label, pattern.clone()));
            }
            for name in found {
                if !excluded.is_whole(name) && !excluded.rows.iter().any(|there| there == name) {
                    excluded.rows.push(name.to_owned());
                }
            }
        }
        excluded
    }

    fn is_whole(&self, name: &str) -> bool {
        self.whole.iter().any(|excluded| excluded == name)
    }

    /// The tables whose rows are saved.
    fn with_rows<'a>(&self, holdings: &'a Holdings) -> Vec<&'a Table> {
        let is_saved =
            |table: &&Table| !self.is_whole(&table.name) && !self.rows.contains(&table.name);
        holdings.tables.iter().filter(is_saved).collect()
    }

    fn warnings(&self, database: &str) -> Vec<String> {
        let idle = self.idle.iter();
        idle.map(|(label, pattern)| {
            format!("`{pattern}` of {label} matches nothing in database {database}")
        })
        .collect()
    }
}

/// Where the client itself cannot leave out the rows of single tables, a shell runs it twice, and the definitions of those
/// tables come first in the one script. They count only when they are whole.
fn dump_argv(
    server: &Server,
    way: Way,
    database: &str,
    excluded: &Excluded,
    holdings: &Holdings,
) -> Result<Vec<String>, DriverError> {
    let knows = server.knows();
    let mut argv = server.dump_argv(way);
    argv.extend(["--triggers", "--routines", "--events"].map(str::to_owned));
    if knows.dump_history && holdings.tables.iter().any(|table| table.has_history) {
        argv.push("--dump-history".to_owned());
    }
    let without = |option: &str, names: &[String]| -> Vec<String> {
        names
            .iter()
            .map(|name| format!("--{option}={database}.{name}"))
            .collect()
    };
    argv.extend(without("ignore-table", &excluded.whole));
    if excluded.rows.is_empty() || knows.ignore_table_data {
        argv.extend(without("ignore-table-data", &excluded.rows));
        argv.extend(["--".to_owned(), database.to_owned()]);
        return Ok(argv);
    }
    argv.extend(without("ignore-table", &excluded.rows));
    argv.extend(["--".to_owned(), database.to_owned()]);

    let mut definitions = server.dump_argv(Way::Direct);
    definitions.extend(["--no-data", "--triggers", "--", database].map(str::to_owned));
    definitions.extend(excluded.rows.iter().cloned());
    in_turn(&definitions, &argv)
}

/// One command that prints what both print, the first of which has to print a whole dump.
fn in_turn(first: &[String], second: &[String]) -> Result<Vec<String>, DriverError> {
    let quoted = |argv: &[String]| {
        shlex::try_join(argv.iter().map(String::as_str))
            .map_err(|error| DriverError::failed(format!("a name cannot be passed on: {error}")))
    };
    let script = format!(
        "definitions=$({}) || exit\n\
         case $definitions in\n\
         *'{}'*) ;;\n\
         *) echo 'the definitions of tables without rows were cut' >&2; exit 1 ;;\n\
         esac\n\
         printf '%s\\n' \"$definitions\"\n\
         exec {}",
        quoted(first)?,
        super::definitions::TRAILER,
        quoted(second)?
    );
    Ok(["sh".to_owned(), "-c".to_owned(), script].into())
}

fn warnings_of_tables(server: &Server, holdings: &Holdings, excluded: &Excluded) -> Vec<String> {
    let saved = excluded.with_rows(holdings);
    let names = |wanted: &dyn Fn(&Table) -> bool| -> Vec<&str> {
        let tables = saved.iter();
        tables
            .filter(|table| wanted(table))
            .map(|table| table.name.as_str())
            .collect()
    };
    let mut warnings = Vec::new();
    let loose = names(&|table| {
        let engine = table.engine.as_deref();
        engine.is_some_and(|engine| {
            !TRANSACTIONAL
                .iter()
                .any(|known| known.eq_ignore_ascii_case(engine))
        })
    });
    if !loose.is_empty() {
        warnings.push(format!(
            "these tables use an engine without transactions; what was written to them during the dump may be saved only in part: {}",
            loose.join(", ")
        ));
    }
    let versioned = names(&|table| table.has_history);
    if !(versioned.is_empty() || server.knows().dump_history) {
        warnings.push(format!(
            "{} of this version saves only the current rows of these system-versioned tables: {}",
            server.dump_client(),
            versioned.join(", ")
        ));
    }
    warnings
}

/// What was there before and after the dump was there all the time.
fn facts(
    server: &Server,
    labels: &MysqlLabels,
    database: &str,
    excluded: &Excluded,
    before: &Holdings,
    after: &Holdings,
    checksums: &Checksums,
) -> MysqlFacts {
    let tables: Vec<MysqlTableFacts> = before
        .tables
        .iter()
        .filter(|table| !excluded.is_whole(&table.name) && after.has_table(&table.name))
        .map(|table| MysqlTableFacts {
            name: table.name.clone(),
            estimated_rows: table.estimated_rows,
            bytes: table.bytes,
            checksum: checksums.get(&table.name).copied(),
        })
        .collect();
    let programs = |holdings: &Holdings| {
        let views = holdings.views.iter();
        let triggers = holdings.triggers.iter();
        MysqlPrograms {
            views: views.filter(|name| !excluded.is_whole(name)).count() as u64,
            triggers: triggers
                .filter(|trigger| !excluded.is_whole(&trigger.table))
                .count() as u64,
            routines: holdings.routines.len() as u64,
            events: holdings.lasting_events(),
        }
    };
    let (first, last) = (programs(before), programs(after));
    MysqlFacts {
        server_version: server.facts.version.clone(),
        flavour: server.facts.flavour(),
        database: database.to_owned(),
        charset: before.charset.clone(),
        collation: before.collation.clone(),
        size: before.tables.iter().map(|table| table.bytes).sum(),
        tables,
        programs: (first == last).then_some(first),
        exclude_tables: labels.exclude_tables.clone(),
        exclude_table_data: labels.exclude_table_data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn run(argv: &[String]) -> (Option<i32>, String) {
        let output = std::process::Command::new(&argv[0])
            .args(&argv[1..])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    }

    #[test]
    fn two_dumps_make_one_script_when_both_are_whole() {
        let odd = "it's `a` $(b) \"c\" \\ )\nd";
        let first = words(&["printf", "%s\n-- Dump completed\n", odd]);
        let second = words(&["printf", "%s\n", odd]);
        let (code, text) = run(&in_turn(&first, &second).unwrap());
        assert_eq!(code, Some(0));
        assert_eq!(text, format!("{odd}\n-- Dump completed\n{odd}\n"));

        let cut = words(&["echo", "-- Dump compl"]);
        assert_eq!(
            run(&in_turn(&cut, &second).unwrap()),
            (Some(1), String::new())
        );
        let failing = words(&["sh", "-c", "echo '-- Dump completed'; exit 3"]);
        assert_eq!(
            run(&in_turn(&failing, &second).unwrap()),
            (Some(3), String::new())
        );
        assert_eq!(run(&in_turn(&first, &failing).unwrap()).0, Some(3));
    }

    #[test]
    fn what_is_left_out_whole_is_not_left_out_twice() {
        let table = |name: &str| Table {
            name: name.to_owned(),
            engine: None,
            has_history: false,
            estimated_rows: None,
            bytes: 0,
        };
        let holdings = Holdings {
            tables: ["failed_jobs", "jobs", "users"].map(table).into(),
            views: words(&["jobs_view"]),
            ..Holdings::default()
        };
        let labels = MysqlLabels {
            exclude_tables: words(&["jobs*", "*_view"]),
            exclude_table_data: words(&["*jobs", "nothing", "jobs_view"]),
            ..MysqlLabels::default()
        };
        let excluded = Excluded::of(&labels, &holdings);
        assert_eq!(excluded.whole, ["jobs", "jobs_view"]);
        assert_eq!(excluded.rows, ["failed_jobs"]);
        assert_eq!(
            excluded.warnings("shop"),
            [
                "`nothing` of cofferdam.mysql.exclude-table-data matches nothing in database shop",
                "`jobs_view` of cofferdam.mysql.exclude-table-data matches nothing in database shop"
            ]
        );
    }
}
