//! A whole PostgreSQL server as one script, on real servers: rows C5 (`pg_dumpall`) and C7.

use std::io::{Cursor, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::artifacts::Artifacts;
use crate::support::postgres::{
    DAMAGE, PostgresServer, Run, assert_same, facts, fill, portrait, target,
};
use crate::support::{docker, engine};
use cofferdam::driver::postgres::CLUSTER;
use cofferdam::driver::{Driver, WayBack};
use cofferdam::labels::{PostgresLabels, PostgresMode, TransferChoice};
use cofferdam::manifest::{
    Compression, ContainerRecord, Facts, PostgresFacts, Role, TargetRecord, Transfer,
};
use cofferdam::snapshot::{ArtifactSink, NewArtifact, open_plain};
use tokio::io::AsyncReadExt;

fn labels() -> PostgresLabels {
    PostgresLabels {
        mode: PostgresMode::Dumpall,
        ..PostgresLabels::default()
    }
}

/// Two databases with a bit of everything, something in `postgres` and `template1`, and roles with passwords.
fn server(version: &str, user: &str) -> PostgresServer {
    let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let server = PostgresServer::start(version, user, &trust);
    server.sql("template1", "CREATE TABLE everywhere (a int)");
    fill(&server, "clinical");
    fill(&server, "odd \"name\"");
    server.sql("postgres", "CREATE TABLE kept AS SELECT 1 AS a");
    server.sql(
        "postgres",
        "ALTER ROLE reader PASSWORD 'hunter2'; GRANT app TO reader",
    );
    server
}

const DATABASES: [&str; 4] = ["clinical", "odd \"name\"", "postgres", "template1"];

async fn round_trip(version: &str, transfer: TransferChoice) {
    let engine = engine().await;
    let server = server(version, "postgres");
    let before = DATABASES.map(|database| portrait(&server, database));
    let databases = server.databases();
    let labels = PostgresLabels {
        transfer,
        ..labels()
    };
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels).await;
    let found = driver.targets().await.unwrap();
    let names: Vec<&str> = found
        .targets
        .iter()
        .map(|target| target.id.name.as_str())
        .collect();
    assert_eq!(names, [CLUSTER], "it stands for all databases");
    let target = target(&server, CLUSTER);
    assert_eq!(driver.way_back(&target), WayBack::Staged);
    let record = run.dump(&driver, &target).await.unwrap();
    assert_eq!(record.warnings, Vec::<String>::new());
    assert_eq!(record.artifacts.len(), 1);
    assert_eq!(
        facts(&record).databases,
        ["clinical", "odd \"name\"", "postgres", "template1"]
    );

    // The server that lost and changed things, with somebody in a database that goes.
    server.sql("clinical", DAMAGE);
    server.sql("postgres", "DROP DATABASE \"odd \"\"name\"\"\"; CREATE DATABASE later; DROP TABLE kept; CREATE TABLE other (a int)");
    let container = server.container.id.as_str();
    let stay = "SELECT pg_sleep(600)";
    docker([
        "exec", "-d", container, "psql", "-U", "postgres", "-d", "clinical", "-c", stay,
    ]);
    run.restore(&driver, &record).await.unwrap();
    for (database, before) in DATABASES.iter().zip(&before) {
        assert_same(&portrait(&server, database), before, database);
    }
    let mut with_later = databases;
    with_later.push("later".to_owned());
    with_later.sort();
    let mut now = server.databases();
    now.sort();
    assert_eq!(now, with_later, "what the script does not know stays");
}

#[tokio::test]
async fn c5_c7_a_whole_server_comes_back_as_it_was() {
    round_trip("15", TransferChoice::Copy).await;
}

#[tokio::test]
async fn a_whole_server_can_be_streamed() {
    round_trip("15", TransferChoice::Stream).await;
}

/// The oldest, and those whose scripts hold `\restrict`.
#[tokio::test]
#[ignore = "images of several PostgreSQL majors: make test-full"]
async fn whole_servers_of_other_majors_come_back() {
    for version in ["13", "17", "18"] {
        round_trip(version, TransferChoice::Copy).await;
    }
}

#[tokio::test]
async fn c7_an_empty_server_of_another_superuser_gets_everything_with_its_roles() {
    let engine = engine().await;
    let old = server("15", "postgres");
    let run = Run::new(&engine).await;
    let driver = run.driver(&old, &labels()).await;
    let record = run.dump(&driver, &target(&old, CLUSTER)).await.unwrap();
    assert_eq!(record.transfer, Transfer::Copy);

    let empty = PostgresServer::start("15", "admin", &["-e", "POSTGRES_HOST_AUTH_METHOD=trust"]);
    let run = run.next();
    let driver = run.driver(&empty, &labels()).await;
    run.restore(&driver, &record).await.unwrap();
    for database in DATABASES {
        assert_same(
            &portrait(&empty, database),
            &portrait(&old, database),
            database,
        );
    }
    let password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'reader'";
    assert_eq!(
        empty.sql("postgres", password),
        old.sql("postgres", password)
    );
}

/// As `docs/repository-format.md` says: what `psql` complains of meanwhile are roles that exist.
#[tokio::test]
async fn a_whole_server_is_restored_by_hand() {
    let engine = engine().await;
    let old = server("15", "postgres");
    let run = Run::new(&engine).await;
    let driver = run.driver(&old, &labels()).await;
    let record = run.dump(&driver, &target(&old, CLUSTER)).await.unwrap();
    let mut script = Vec::new();
    let mut plain = open_plain(&run.source(), &record.artifacts[0])
        .await
        .unwrap();
    plain.read_to_end(&mut script).await.unwrap();

    let other = PostgresServer::trusting(&[]);
    other.sql("postgres", "CREATE ROLE app; CREATE DATABASE clinical");
    let mut psql = Command::new("docker")
        .args([
            "exec",
            "-i",
            &other.container.id,
            "psql",
            "-q",
            "-U",
            "postgres",
            "-d",
            "postgres",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(psql.wait().unwrap().success());
    for database in DATABASES {
        assert_same(
            &portrait(&other, database),
            &portrait(&old, database),
            database,
        );
    }
}

/// A snapshot whose script was made up.
async fn made_up(
    server: &PostgresServer,
    artifacts: &Artifacts,
    script: &'static str,
) -> TargetRecord {
    let new = NewArtifact {
        role: Role::Dump,
        extension: "sql",
        compression: Compression::None,
    };
    let artifact = artifacts
        .store(new, Box::pin(Cursor::new(script)))
        .await
        .unwrap();
    TargetRecord {
        target: target(server, CLUSTER),
        container: ContainerRecord::default(),
        transfer: Transfer::Copy,
        facts: Facts::Postgres(PostgresFacts {
            server_version: "15.0".to_owned(),
            databases: vec!["shop".to_owned()],
            ..PostgresFacts::default()
        }),
        artifacts: vec![artifact],
        warnings: Vec::new(),
    }
}

#[tokio::test]
async fn c7_a_load_stops_at_the_first_error_and_says_which() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let artifacts = Artifacts::new();
    for (script, words) in [
        (
            "SET a.b = c;\n-- Databases\n\\connect postgres\nCREATE TABLE one (a int);\nCREATE TABLE two (a nonsense);\nCREATE TABLE three (a int);\n",
            "nonsense",
        ),
        ("CREATE DATABASE shop;\n", "not a script of pg_dumpall"),
        (
            "-- Databases\n\\connect postgres\n",
            "these databases are missing: shop",
        ),
    ] {
        let record = made_up(&server, &artifacts, script).await;
        let loaded = match driver.load(&record, &artifacts).await {
            Ok(()) => driver.check(&record).await,
            failed => failed,
        };
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.databases(), ["postgres"]);
    }
    let tables =
        "SELECT string_agg(relname, ',') FROM pg_class WHERE relname IN ('one', 'two', 'three')";
    assert_eq!(
        server.sql("postgres", tables),
        "one",
        "nothing runs after an error"
    );
}

/// What the databases say of themselves: `new` in the snapshot, `old` now. `odd` is not there now, and `later` not in it.
fn words(server: &PostgresServer) -> String {
    let word = |database| server.sql(database, "SELECT word FROM word");
    let databases = ["shop", "postgres", "template1"].map(word).join(" ");
    let closed = "SELECT string_agg(datname, ',') FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'";
    format!(
        "{databases} {} {}",
        server.databases().join(","),
        server.sql("postgres", closed)
    )
}

const OLD: &str = "old old old later,postgres,shop,shut shut";
const NEW: &str = "new new new later,odd,postgres,shop,shut ";

/// The future is dropped, as by a signal, and another process goes on, which knows the run and the target.
async fn dies_anywhere(loads: &[u64], commits: &[u64]) {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let server = PostgresServer::trusting(&[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("postgres", "CREATE DATABASE odd");
    server.sql("postgres", "CREATE DATABASE shut");
    for database in ["shop", "postgres", "template1", "odd", "shut"] {
        server.sql(database, "CREATE TABLE word AS SELECT 'new' AS word");
    }
    let driver = run.driver(&server, &labels()).await;
    let record = run.dump(&driver, &target(&server, CLUSTER)).await.unwrap();
    let change = || {
        for database in ["shop", "postgres", "template1"] {
            server.sql(database, "UPDATE word SET word = 'old'");
        }
        server.sql("template1", "DROP DATABASE odd");
        server.sql("template1", "ALTER DATABASE shut ALLOW_CONNECTIONS false");
    };
    server.sql("postgres", "CREATE DATABASE later TEMPLATE template0");
    change();
    assert_eq!(words(&server), OLD);
    for &milliseconds in loads {
        let run = run.next();
        let driver = run.driver(&server, &labels()).await;
        let limit = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(limit, driver.load(&record, &run.source())).await;
        run.options.removals.done().await;
        let driver = run.driver(&server, &labels()).await;
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(words(&server), OLD, "a load cut off after {limit:?}");
    }
    // Neither of the databases that every server has is there.
    let torn = run.next();
    let driver = torn.driver(&server, &labels()).await;
    driver.load(&record, &torn.source()).await.unwrap();
    let seat = format!("cofferdam_seat_{}", torn.id.short());
    server.sql(&seat, "ALTER DATABASE template1 IS_TEMPLATE false");
    server.sql(&seat, "DROP DATABASE template1");
    server.sql(&seat, "DROP DATABASE postgres");
    let driver = torn.driver(&server, &labels()).await;
    driver.rollback(&record.target).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(words(&server), OLD, "undone from the seat");
    for &milliseconds in commits {
        let run = run.next();
        let driver = run.driver(&server, &labels()).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.check(&record).await.unwrap();
        let limit = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(limit, driver.commit(&record.target)).await;
        let driver = run.driver(&server, &labels()).await;
        driver.commit(&record.target).await.unwrap();
        assert_eq!(words(&server), NEW, "a commit cut off after {limit:?}");
        change();
    }
}

#[tokio::test]
#[ignore = "a dozen restores of a server: make test-full"]
async fn a_restore_of_a_server_that_is_cut_off_leaves_all_old_or_all_new() {
    dies_anywhere(&[0, 400, 900, 1600, 2500, 4000], &[0, 300, 700]).await;
}
