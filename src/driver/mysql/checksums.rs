//! The server's own checksums of tables (`CHECKSUM TABLE`), taken at the backup and compared after a load: they cover each
//! bit of each row, in any order.
//!
//! A dump client reads the rows of one moment, and a checksum those of another. So it is taken before the dump and after it,
//! and counts where both are equal. It is left out where an equal table may have another one: other versions of a server,
//! virtual columns, JSON of MySQL, rows of the past.
//!
//! Source: <https://dev.mysql.com/doc/refman/8.4/en/checksum-table.html>

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tracing::{debug, info, warn};

use super::holdings::Table;
use super::server::Server;
use super::sql::{quote_literal, quote_table};
use crate::driver::{DriverError, Loss};
use crate::manifest::{MysqlFacts, MysqlFlavour};

/// How much is read for checksums, the smallest tables first, in bytes. The server reads it three times in all.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
/// Tables that one statement names: it is an argument, whose length has a limit.
const AT_ONCE: usize = 50;
/// Engines whose checksums are known to depend on rows alone.
const ENGINES: [&str; 3] = ["InnoDB", "MyISAM", "Aria"];

pub type Checksums = BTreeMap<String, u64>;

/// The checksums of those of `tables` for which they are cheap and mean something: none where the server refuses them, or
/// where events may change rows as soon as they are loaded.
pub async fn checksums_of(
    server: &Server,
    database: &str,
    tables: &[&Table],
    events: &[String],
) -> Checksums {
    if !events.is_empty() {
        return Checksums::new();
    }
    let found = async {
        let fickle = fickle_tables(server, database).await?;
        read(server, database, &cheap(tables, &fickle)).await
    };
    found.await.unwrap_or_else(|error: DriverError| {
        debug!("could not compute checksums of the tables of {database}: {error}");
        Checksums::new()
    })
}

/// Those of `before` that are still the same.
pub async fn unchanged_since(server: &Server, database: &str, before: Checksums) -> Checksums {
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    match read(server, database, &names).await {
        Ok(after) => unchanged(before, &after),
        Err(error) => {
            debug!("could not compute checksums of the tables of {database}: {error}");
            Checksums::new()
        }
    }
}

/// Compares the tables of `loaded`, a database, with what was saved.
pub async fn compare(
    server: &Server,
    loaded: &str,
    facts: &MysqlFacts,
    loss: Loss,
) -> Result<(), DriverError> {
    let saved: Checksums = facts
        .tables
        .iter()
        .filter_map(|table| Some((table.name.clone(), table.checksum?)))
        .collect();
    if saved.is_empty() {
        return Ok(());
    }
    let database = &facts.database;
    if !is_same_series(server, facts) {
        info!(
            "the rows of database {database} were not compared: the backup is from another server version"
        );
        return Ok(());
    }
    let names: Vec<&str> = saved.keys().map(String::as_str).collect();
    let found = read(server, loaded, &names).await?;
    let others: Vec<&str> = names
        .into_iter()
        .filter(|&name| found.get(name) != saved.get(name))
        .collect();
    info!(
        "compared the rows of {} of {} tables in database {database}",
        saved.len(),
        facts.tables.len()
    );
    if others.is_empty() {
        return Ok(());
    }
    let what = format!(
        "after loading database {database}, the rows of these tables differ from the backup (CHECKSUM TABLE): {}",
        others.join(", ")
    );
    match loss {
        Loss::Accepted => {
            warn!("{what}");
            Ok(())
        }
        Loss::Refused => Err(DriverError::failed_with_hint(
            what,
            "if something wrote to them meanwhile, label it cofferdam.stop: restore; otherwise restore an older snapshot, or accept \
             the difference with --accept-loss",
        )),
    }
}

fn unchanged(mut before: Checksums, after: &Checksums) -> Checksums {
    before.retain(|name, sum| after.get(name) == Some(sum));
    before
}

/// Tables whose checksum may change with a dump that loses nothing.
async fn fickle_tables(server: &Server, database: &str) -> Result<BTreeSet<String>, DriverError> {
    #[derive(Deserialize)]
    struct Found {
        name: String,
    }
    let within = quote_literal(database);
    let columns = format!(
        "SELECT DISTINCT JSON_OBJECT('name', TABLE_NAME) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {within} AND (EXTRA LIKE '%VIRTUAL%' OR DATA_TYPE = 'json')"
    );
    // Of an index over an expression, MySQL makes a hidden virtual column.
    let indexes = format!(
        "SELECT DISTINCT JSON_OBJECT('name', TABLE_NAME) FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = {within} AND EXPRESSION IS NOT NULL"
    );
    let mut found: Vec<Found> = server.query(&columns).await?;
    if server.facts.flavour() == MysqlFlavour::Mysql {
        // Before 8.0.13 there are none, nor the column that would tell.
        found.extend(server.query(&indexes).await.unwrap_or_else(|error| {
            debug!("cannot list the indexes on expressions: {error}");
            Vec::new()
        }));
    }
    Ok(found.into_iter().map(|found| found.name).collect())
}

fn cheap<'a>(tables: &[&'a Table], fickle: &BTreeSet<String>) -> Vec<&'a str> {
    let has_known_engine = |table: &Table| {
        let engine = table.engine.as_deref().unwrap_or_default();
        ENGINES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(engine))
    };
    let mut wanted: Vec<&Table> = tables
        .iter()
        .copied()
        .filter(|table| {
            has_known_engine(table)
                && !table.has_history
                && !fickle.contains(&table.name)
                && !table.name.contains(char::is_control)
        })
        .collect();
    wanted.sort_by_key(|table| table.bytes);
    let mut left = MOST_BYTES;
    wanted
        .into_iter()
        .map_while(|table| {
            left = left.checked_sub(table.bytes)?;
            Some(table.name.as_str())
        })
        .collect()
}

async fn read(server: &Server, database: &str, names: &[&str]) -> Result<Checksums, DriverError> {
    let mut found = Checksums::new();
    for names in names.chunks(AT_ONCE) {
        let tables: Vec<String> = names
            .iter()
            .map(|name| quote_table(database, name))
            .collect();
        // What somebody has locked is not worth waiting for.
        let query = format!(
            "SET SESSION lock_wait_timeout = 2; CHECKSUM TABLE {}",
            tables.join(", ")
        );
        found.extend(parse(names, &server.answer(&query).await?));
    }
    Ok(found)
}

/// A line for each table, in the order that was asked for, ends with a tab and its checksum, or NULL.
fn parse(names: &[&str], answer: &[u8]) -> Checksums {
    let answer = String::from_utf8_lossy(answer);
    let lines = answer.lines().map(|line| line.rsplit('\t').next());
    names
        .iter()
        .zip(lines)
        .filter_map(|(&name, sum)| Some((name.to_owned(), sum?.parse().ok()?)))
        .collect()
}

/// `10.11.6-MariaDB` and `10.11.9-MariaDB` are of one series.
fn is_same_series(server: &Server, facts: &MysqlFacts) -> bool {
    let series = |version: &str| version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    server.facts.flavour() == facts.flavour
        && series(&server.facts.version) == series(&facts.server_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, engine: &str, bytes: u64) -> Table {
        Table {
            name: name.to_owned(),
            engine: Some(engine.to_owned()),
            has_history: false,
            estimated_rows: None,
            bytes,
        }
    }

    #[test]
    fn the_smallest_come_first_and_the_fickle_not_at_all() {
        let half = MOST_BYTES / 2;
        let tables = [
            table("huge", "InnoDB", MOST_BYTES),
            table("large", "innodb", half),
            table("small", "Aria", half),
            table("virtual", "InnoDB", 1),
            table("elsewhere", "FEDERATED", 1),
            table("line\nbreak", "InnoDB", 1),
            Table {
                has_history: true,
                ..table("past", "InnoDB", 1)
            },
        ];
        let fickle = BTreeSet::from(["virtual".to_owned()]);
        assert_eq!(cheap(&tables.each_ref(), &fickle), ["large", "small"]);
    }

    #[test]
    fn sums_are_read_by_their_place() {
        let answer = "db.a b\t17\ndb.gone\tNULL\ndb.c\t4294967295\n";
        let found = parse(&["a b", "gone", "c"], answer.as_bytes());
        let expected = [("a b", 17), ("c", 4_294_967_295)];
        assert_eq!(
            found,
            expected
                .map(|(name, sum)| (name.to_owned(), sum))
                .into_iter()
                .collect()
        );
        assert_eq!(parse(&["a"], b""), Checksums::new());
    }

    #[test]
    fn what_changed_meanwhile_does_not_count() {
        let sums = |of: &[(&str, u64)]| -> Checksums {
            of.iter()
                .map(|&(name, sum)| (name.to_owned(), sum))
                .collect()
        };
        let before = sums(&[("a", 1), ("b", 2), ("gone", 3)]);
        let after = sums(&[("a", 1), ("b", 4), ("new", 3)]);
        assert_eq!(unchanged(before, &after), sums(&[("a", 1)]));
    }
}
