//! Whatever a PostgreSQL database may hold comes back: dumped before and after by the server's own `pg_dump`, byte for byte.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run};
use cofferdam::driver::Driver;
use cofferdam::labels::PostgresLabels;
use cofferdam::manifest::TargetRecord;

const SCHEMA: &str = include_str!("kitchen_sink/postgres.sql");
const SINK: &str = "sink \"q\" 'a' $(x); --";
const DATABASES: [&str; 3] = [SINK, "latin", "raw"];
/// For every database and for the roles, a change that a restore has to undo.
const DAMAGE: [(&str, &str); 3] = [
    (
        SINK,
        "DELETE FROM app.pages; DROP VIEW app.grouped; ALTER ROLE clerk RESET work_mem",
    ),
    ("latin", "\\encoding UTF8\nDELETE FROM \"grün\".\"größe\""),
    ("raw", "DROP TABLE plain"),
];
const DROP_ALL: &str = r#"DROP DATABASE "sink ""q"" 'a' $(x); --"; DROP DATABASE latin; DROP DATABASE raw; DROP TABLESPACE fast;
    DROP ROLE clerk, keeper, "Reader ""2""; $(x)";"#;

/// The server with everything on it.
fn filled(version: &str) -> PostgresServer {
    let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let server = PostgresServer::start(version, "postgres", &trust);
    server
        .container
        .sh("mkdir /srv/fast && chown postgres /srv/fast");
    server.sql("postgres", SCHEMA);
    server
}

/// What a client of the server prints, but for psql's random `\restrict`.
fn printed(server: &PostgresServer, database: &str, client: &[&str]) -> String {
    let environment = format!("PGDATABASE={database}");
    let exec = ["exec", "-e", &environment, &server.container.id];
    let output = Command::new("docker")
        .args(exec)
        .args(client)
        .args(["-U", "postgres"])
        .output()
        .expect("the docker program");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?} of {database}: {words}");
    let lines = output.stdout.split_inclusive(|&byte| byte == b'\n');
    let kept = lines
        .filter(|line| !line.starts_with(b"\\restrict ") && !line.starts_with(b"\\unrestrict "));
    // Each byte is a character, so that those of any encoding can be compared, and shown.
    kept.flatten().copied().map(char::from).collect()
}

fn everything(server: &PostgresServer) -> BTreeMap<&'static str, String> {
    let mut dumps = BTreeMap::new();
    for database in DATABASES {
        dumps.insert(
            database,
            printed(server, database, &["pg_dump", "--create"]),
        );
    }
    let roles = ["pg_dumpall", "--globals-only"];
    dumps.insert("roles", printed(server, "postgres", &roles));
    dumps
}

fn assert_byte_for_byte(
    server: &PostgresServer,
    before: &BTreeMap<&'static str, String>,
    what: &str,
) {
    let after = everything(server);
    for (name, before) in before {
        let lines = before.lines().zip(after[name].lines());
        let different: Vec<(&str, &str)> = lines.filter(|(old, new)| old != new).take(5).collect();
        assert!(*before == after[name], "{what}: {name}: {different:#?}");
    }
}

async fn round_trip(version: &str) {
    let engine = engine().await;
    let server = filled(version);
    let before = everything(&server);
    assert!(
        before["raw"].contains("gr\u{fc}\u{df}e") && before["latin"].contains("gr\u{f6}\u{df}e")
    );

    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    let found = driver.targets().await.unwrap();
    let mut records: Vec<TargetRecord> = Vec::new();
    for target in &found.targets {
        records.push(run.dump(&driver, &target.id).await.unwrap());
    }
    let names = || records.iter().map(|record| record.target.name.as_str());
    for database in DATABASES {
        assert!(names().any(|name| name == database), "{database}");
    }

    for (database, damage) in DAMAGE {
        server.sql(database, damage);
    }
    restore(&run.next(), &server, &records).await;
    assert_byte_for_byte(&server, &before, "over what was there");

    server.sql("postgres", DROP_ALL);
    restore(&run.next(), &server, &records).await;
    assert_byte_for_byte(&server, &before, "on an empty server");
}

async fn restore(run: &Run, server: &PostgresServer, records: &[TargetRecord]) {
    let driver = run.driver(server, &PostgresLabels::default()).await;
    for record in records {
        let restored = run.restore(&driver, record).await;
        restored.unwrap_or_else(|error| panic!("{}: {error}", record.target));
    }
}

#[tokio::test]
async fn everything_comes_back_on_postgres_15() {
    round_trip("15").await;
}

#[tokio::test]
#[ignore = "one major of several: make test-full"]
async fn everything_comes_back_on_postgres_13() {
    round_trip("13").await;
}

#[tokio::test]
#[ignore = "one major of several: make test-full"]
async fn everything_comes_back_on_postgres_17() {
    round_trip("17").await;
}

#[tokio::test]
#[ignore = "one major of several: make test-full"]
async fn everything_comes_back_on_postgres_18() {
    round_trip("18").await;
}
