//! What a copy of a database holds, and whether it is whole.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::COMPANIONS;
use super::beside;
use super::error::{SqliteError, code_of};
use crate::manifest::{JournalMode, SqliteContent, SqliteTable};

/// Goes through every page of every table and index without comparing anything, and answers as a check does.
const WALK: &str = "SELECT CASE count(*) WHEN 0 THEN 'ok' ELSE count(*) || ' pages are damaged' END \
                    FROM dbstat WHERE pagetype = 'corrupted'";

type Result<T> = std::result::Result<T, SqliteError>;

/// How much damage a message names.
const MOST_FINDINGS: usize = 5;
/// How much SQLite is asked to tell of.
const MOST_TOLD: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub content: SqliteContent,
    pub verdict: Verdict,
}

/// What SQLite found no fault in; with a fault there is no [`Look`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Whole,
    /// Its indexes or constraints need what only its own program has: a collation, a function. With SQLite's words.
    OnlyStructure(String),
    /// There are sound rows that a rule of their table forbids (`NOT NULL`, `CHECK`, a type). With the first of them.
    AgainstRules(String),
}

/// Opens a database that nobody else has open, which undoes what a crash has left beside it, has SQLite check it, and
/// leaves one file: nothing stays beside it.
pub fn look(database: &Path) -> Result<Look> {
    let failed = SqliteError::sqlite("read the copy", 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(&failed)?;
    // A schema comes from outside: it may call nothing that has an effect, and is not believed.
    connection
        .execute_batch(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA synchronous = OFF",
        )
        .map_err(&failed)?;
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(&failed)?;
    let verdict = verdict(&connection)?;
    let content = content(&connection).map_err(&failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    ensure_alone(database)?;
    Ok(Look { content, verdict })
}

fn verdict(connection: &Connection) -> Result<Verdict> {
    let failed = SqliteError::sqlite("check the copy", 0);
    let words = match findings(connection, &format!("PRAGMA integrity_check({MOST_TOLD})")) {
        Err(error) if is_about_the_schema(&error) => error.to_string(),
        found => {
            let found = found.map_err(&failed)?;
            if found.against_rules >= MOST_TOLD {
                // What else there may be was not told any more.
                ensure_undamaged(findings(connection, WALK).map_err(&failed)?)?;
            }
            let first = ensure_undamaged(found)?;
            return Ok(first.map_or(Verdict::Whole, Verdict::AgainstRules));
        }
    };
    connection
        .execute_batch("PRAGMA ignore_check_constraints = ON")
        .map_err(&failed)?;
    let found = match findings(connection, "PRAGMA quick_check") {
        Err(error) if is_about_the_schema(&error) => findings(connection, WALK),
        found => found,
    };
    ensure_undamaged(found.map_err(&failed)?)?;
    Ok(Verdict::OnlyStructure(words))
}

/// What a check found. Not every finding is damage: SQLite also tells of rows that are sound, and against the rules that
/// their table has had since.
#[derive(Default)]
struct Findings {
    /// The first of them.
    damage: Vec<String>,
    against_rules: usize,
    first_against_rules: Option<String>,
}

fn findings(connection: &Connection, check: &str) -> rusqlite::Result<Findings> {
    let mut statement = connection.prepare(check)?;
    let mut lines = statement.query([])?;
    let mut findings = Findings::default();
    while findings.damage.len() < MOST_FINDINGS {
        match lines.next() {
            Ok(None) => break,
            Ok(Some(row)) => findings.take(row.get(0)?),
            Err(error) if findings.damage.is_empty() => return Err(error),
            // It stumbled over what it had found.
            Err(error) => {
                findings.damage.push(error.to_string());
                break;
            }
        }
    }
    Ok(findings)
}

impl Findings {
    fn take(&mut self, line: String) {
        if line == "ok" {
            return;
        }
        if !is_against_rules(&line) {
            self.damage.push(line);
            return;
        }
        self.against_rules += 1;
        self.first_against_rules.get_or_insert(line);
    }
}

/// As SQLite's pragma.c words it.
fn is_against_rules(line: &str) -> bool {
    line.starts_with("CHECK constraint failed in ")
        || line.split_once(" value in ").is_some_and(|(kind, _)| {
            ["NULL", "NUMERIC", "TEXT"].contains(&kind) || kind.starts_with("non-")
        })
}

/// The first row that is against the rules, when there is no damage.
fn ensure_undamaged(found: Findings) -> Result<Option<String>> {
    if found.damage.is_empty() {
        Ok(found.first_against_rules)
    } else {
        Err(SqliteError::Damaged(found.damage))
    }
}

/// An error in a statement, and not in the file: the schema names something that this library does not have.
fn is_about_the_schema(error: &rusqlite::Error) -> bool {
    code_of(error) == Some(ErrorCode::Unknown)
}

fn content(connection: &Connection) -> rusqlite::Result<SqliteContent> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let text = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
    Ok(SqliteContent {
        library_version: rusqlite::version().to_owned(),
        page_size: number("PRAGMA page_size")?.unsigned_abs(),
        journal_mode: match text("PRAGMA journal_mode")?.as_str() {
            "wal" => JournalMode::Wal,
            _ => JournalMode::Rollback,
        },
        encoding: text("PRAGMA encoding")?,
        user_version: number("PRAGMA user_version")?,
        tables: tables(connection)?,
    })
}

/// The tables that the program made. Virtual ones, and those that they keep their content in, are their module's.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<SqliteTable>> {
    let mut statement = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' \
         ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    names
        .into_iter()
        .map(|name| {
            let quoted = name.replace('"', "\"\"");
            let count = format!("SELECT count(*) FROM main.\"{quoted}\"");
            let rows = match connection.query_row(&count, [], |row| row.get::<_, i64>(0)) {
                Err(error) if is_about_the_schema(&error) => None,
                counted => Some(counted?.unsigned_abs()),
            };
            Ok(SqliteTable { name, rows })
        })
        .collect()
}

/// What SQLite keeps beside a database is gone when the last connection has closed it well.
fn ensure_alone(database: &Path) -> Result<()> {
    for companion in COMPANIONS {
        let left = beside(database, companion);
        if left.symlink_metadata().is_ok() {
            return Err(SqliteError::Different(format!(
                "SQLite left a `{companion}` beside the copy"
            )));
        }
    }
    Ok(())
}

/// Whether a database that was put back has the tables, and the rows in them, that it was saved with.
pub fn ensure_same_tables(saved: &SqliteContent, found: &SqliteContent) -> Result<()> {
    if saved.tables == found.tables {
        return Ok(());
    }
    let rows = |content: &SqliteContent| -> u64 {
        content.tables.iter().filter_map(|table| table.rows).sum()
    };
    Err(SqliteError::Different(format!(
        "{} tables with {} rows were saved, but {} with {} are there",
        saved.tables.len(),
        rows(saved),
        found.tables.len(),
        rows(found)
    )))
}
