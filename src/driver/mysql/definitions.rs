//! What a database keeps as text: views, triggers, routines and events.
//!
//! No order moves them to another database, so they are made again there, by a script of the server's own dump client. It
//! first drops what it makes, but for triggers: in that order (`--add-drop-trigger`) the clients forget to quote names. Whoever
//! runs it again has to drop those before.

use std::time::Duration;

use serde::Deserialize;

use super::holdings::Holdings;
use super::server::{Server, Way};
use super::sql::{from_hex, hex_literal, quote_literal, quote_table};
use crate::driver::DriverError;

/// The line that the dump clients end with when they have written everything.
pub const TRAILER: &str = "-- Dump completed";
/// How newer MariaDB dumps begin, for the client that reads them first.
pub const SANDBOX: &[u8] = b"/*M!999999\\-";
/// Lists of the server's, with the column that names the database.
pub const WITH_DEFINERS: [(&str, &str); 4] = [
    ("VIEWS", "TABLE_SCHEMA"),
    ("TRIGGERS", "TRIGGER_SCHEMA"),
    ("ROUTINES", "ROUTINE_SCHEMA"),
    ("EVENTS", "EVENT_SCHEMA"),
];
const IDLE: Duration = Duration::from_secs(600);
/// Half the length of a statement that stores a part of a script, in bytes. The smallest `max_allowed_packet` that servers
/// come with is 1 MiB.
const PART: usize = 128 * 1024;

/// The script that makes everything again that `database` keeps as text.
pub async fn script_of(
    server: &Server,
    database: &str,
    holdings: &Holdings,
) -> Result<Vec<u8>, DriverError> {
    let mut script = programs_of(server, database, holdings).await?;
    script.extend(views_of(server, database, &holdings.views).await?);
    Ok(script)
}

/// Triggers, routines and events.
pub async fn programs_of(
    server: &Server,
    database: &str,
    holdings: &Holdings,
) -> Result<Vec<u8>, DriverError> {
    let mut script = Vec::new();
    if !(holdings.triggers.is_empty() && holdings.routines.is_empty() && holdings.events.is_empty())
    {
        let mut options: Vec<String> = [
            "--no-data",
            "--no-create-info",
            "--triggers",
            "--routines",
            "--events",
        ]
        .map(str::to_owned)
        .to_vec();
        // The client looks at views too, and fails at a broken one.
        let views = holdings.views.iter();
        options.extend(views.map(|view| format!("--ignore-table={database}.{view}")));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        add(server, &options, &[database], &mut script).await?;
    }
    Ok(script)
}

/// All of them by one client, which makes each a table first: they may refer to each other.
pub async fn views_of(
    server: &Server,
    database: &str,
    views: &[String],
) -> Result<Vec<u8>, DriverError> {
    let mut script = Vec::new();
    if !views.is_empty() {
        let options = ["--no-data", "--skip-triggers"];
        let named: Vec<&str> = std::iter::once(database)
            .chain(views.iter().map(String::as_str))
            .collect();
        add(server, &options, &named, &mut script).await?;
    }
    Ok(script)
}

/// Whether a script names a database, but for the client's comments.
pub fn names_database(script: &[u8], database: &str) -> bool {
    script
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"--"))
        .any(|line| {
            let mut places = line.windows(database.len());
            places.any(|place| place == database.as_bytes())
        })
}

/// Who views, triggers, routines and events belong to that this server does not have: it refuses whoever uses them.
pub async fn missing_definers(server: &Server, database: &str) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Definer {
        definer: String,
    }
    let within = quote_literal(database);
    let all: Vec<String> = WITH_DEFINERS
        .iter()
        .map(|(from, schema)| {
            format!("SELECT DEFINER FROM information_schema.{from} WHERE {schema} = {within}")
        })
        .collect();
    let query = format!(
        "SELECT JSON_OBJECT('definer', found.DEFINER) FROM ({}) AS found \
         WHERE found.DEFINER NOT IN (SELECT CONCAT(User, '@', Host) FROM mysql.user)",
        all.join(" UNION ")
    );
    let missing: Vec<Definer> = server.query(&query).await?;
    Ok(missing.into_iter().map(|found| found.definer).collect())
}

async fn add(
    server: &Server,
    options: &[&str],
    named: &[&str],
    script: &mut Vec<u8>,
) -> Result<(), DriverError> {
    let mut argv = server.dump_argv(Way::Direct);
    let rest = options.iter().chain(&["--"]).chain(named);
    argv.extend(rest.map(|&argument| argument.to_owned()));
    let text = server.output_of(argv, IDLE).await?;
    ensure_whole(server.dump_client(), &text)?;
    script.extend_from_slice(without_sandbox(&text));
    script.push(b'\n');
    Ok(())
}

/// A dump counts only with its last line.
pub fn ensure_whole(program: &str, tail: &[u8]) -> Result<(), DriverError> {
    let last = tail.trim_ascii_end().rsplit(|&byte| byte == b'\n').next();
    if last.is_some_and(|line| line.starts_with(TRAILER.as_bytes())) {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!("{program} succeeded, but its dump does not end with the line `{TRAILER}`"),
        "remove what turns the line off (skip-comments, compact) from the option files in the container; otherwise the dump was cut off",
    ))
}

fn without_sandbox(script: &[u8]) -> &[u8] {
    if !script.starts_with(SANDBOX) {
        return script;
    }
    match script.iter().position(|&byte| byte == b'\n') {
        Some(end) => &script[end + 1..],
        None => &[],
    }
}

/// Statements that store a script in our own table; `kind` is what its rows are called.
pub fn statements_to_store(database: &str, mark: &str, kind: &str, script: &[u8]) -> String {
    let table = quote_table(database, mark);
    script
        .chunks(PART)
        .map(|part| {
            format!(
                "INSERT INTO {table} (kind, content) VALUES ('{kind}', {});\n",
                hex_literal(part)
            )
        })
        .collect()
}

/// The way back.
pub async fn stored(
    server: &Server,
    database: &str,
    mark: &str,
    kind: &str,
) -> Result<Vec<u8>, DriverError> {
    let query = format!(
        "SELECT HEX(content) FROM {} WHERE kind = '{kind}' ORDER BY id",
        quote_table(database, mark)
    );
    let answer = server.answer(&query).await?;
    let mut script = Vec::new();
    for line in answer
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let part = std::str::from_utf8(line).ok().and_then(from_hex);
        let part = part.ok_or_else(|| {
            DriverError::failed(format!(
                "the definitions in {} cannot be read",
                quote_table(database, mark)
            ))
        })?;
        script.extend_from_slice(&part);
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_makes_a_dump_whole() {
        for (tail, whole) in [
            ("UNLOCK TABLES;\n\n-- Dump completed\n", true),
            ("-- Dump completed on 2026-11-21  2:00:00\n", true),
            ("-- Dump completed", true),
            ("-- Dump completed\nUNLOCK TABLES;\n", false),
            ("INSERT INTO t VALUES ('-- Dump completed');\n", false),
            ("-- Dump compl", false),
            ("", false),
        ] {
            assert_eq!(
                ensure_whole("mysqldump", tail.as_bytes()).is_ok(),
                whole,
                "{tail}"
            );
        }
    }

    #[test]
    fn the_sandbox_line_goes_and_nothing_else() {
        for (script, left) in [
            (
                &b"/*M!999999\\- enable the sandbox mode */ \n-- x\n"[..],
                &b"-- x\n"[..],
            ),
            (b"-- MariaDB dump\n", b"-- MariaDB dump\n"),
            (b"/*M!999999\\- cut", b""),
            (b"", b""),
        ] {
            assert_eq!(without_sandbox(script), left);
        }
    }

    #[test]
    fn comments_of_the_client_name_no_database() {
        let script =
            "-- Host: localhost    Database: x_loading_1\n\nCREATE VIEW `v` AS SELECT 1;\n";
        assert!(!names_database(script.as_bytes(), "x_loading_1"));
        let script = format!("{script}CREATE VIEW `w` AS SELECT `x_loading_1`.`f`(1);\n");
        assert!(names_database(script.as_bytes(), "x_loading_1"));
    }

    #[test]
    fn a_long_script_is_stored_in_parts() {
        let script = vec![b'x'; PART * 2 + 1];
        let statements = statements_to_store("a`b", "m", "definitions", &script);
        assert_eq!(statements.lines().count(), 3);
        assert!(statements.lines().all(|line| line.len() < 1024 * 1024
            && line.starts_with(
                "INSERT INTO `a``b`.`m` (kind, content) VALUES ('definitions', 0x78"
            )));
    }
}
