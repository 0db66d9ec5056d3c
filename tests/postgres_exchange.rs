//! What an exchange of databases meets on a server that is used: prepared transactions, slots, subscriptions, templates, and
//! databases that are bound to their names.

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run, facts, target};
use cofferdam::driver::{Driver, OldDatabase};
use cofferdam::labels::{PostgresLabels, PostgresRestore};
use cofferdam::manifest::TargetRecord;

const STAGED: [PostgresRestore; 2] = [PostgresRestore::Swap, PostgresRestore::Recreate];

fn of(restore: PostgresRestore) -> PostgresLabels {
    PostgresLabels {
        restore,
        ..PostgresLabels::default()
    }
}

fn busy(version: &str) -> PostgresServer {
    let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let arguments = [
        "-c",
        "max_prepared_transactions=5",
        "-c",
        "wal_level=logical",
    ];
    let server = PostgresServer::start_with(version, "postgres", &trust, &arguments);
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE word AS SELECT 'new' AS word");
    server
}

/// A dump that says `new`, of a database that says `old` from then on.
async fn saved(run: &Run, server: &PostgresServer) -> TargetRecord {
    server.sql("app", "UPDATE word SET word = 'new'");
    let run = run.next();
    let driver = run.driver(server, &PostgresLabels::default()).await;
    let record = run.dump(&driver, &target(server, "app")).await.unwrap();
    server.sql("app", "UPDATE word SET word = 'old'");
    record
}

fn word(server: &PostgresServer) -> String {
    server.sql("app", "SELECT word FROM word")
}

async fn exchanges(version: &str) {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let server = busy(version);
    prepared_transactions_are_refused(&run, &server).await;
    templates_are_exchanged(&run, &server).await;
    slots_are_told(&run, &server).await;
    subscriptions_keep_the_old_one(&run, &server).await;
    bound_databases_keep_their_names(&run, &server).await;
}

#[tokio::test]
async fn a_database_in_use_is_exchanged_or_refused_before_it_is_closed() {
    exchanges("15").await;
}

#[tokio::test]
#[ignore = "images of several PostgreSQL majors: make test-full"]
async fn a_database_in_use_is_exchanged_or_refused_on_other_majors() {
    for version in ["13", "17", "18"] {
        exchanges(version).await;
    }
}

async fn prepared_transactions_are_refused(run: &Run, server: &PostgresServer) {
    let record = saved(run, server).await;
    let prepare = "BEGIN; INSERT INTO word VALUES ('more'); PREPARE TRANSACTION 'it''s one'";
    let finish = "ROLLBACK PREPARED 'it''s one'";
    server.sql("app", prepare);
    for restore in [
        PostgresRestore::Swap,
        PostgresRestore::Recreate,
        PostgresRestore::Clean,
    ] {
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        let error = driver.foresee(&record).await.unwrap_err().to_string();
        assert!(error.contains(finish), "{restore:?}: {error}");
    }
    for restore in STAGED {
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        let error = driver.load(&record, &run.source()).await.unwrap_err();
        assert!(error.to_string().contains(finish), "{restore:?}: {error}");
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(word(server), "old", "{restore:?}: it stays open");
    }
    server.sql("app", finish);

    // One that comes when everything is loaded already.
    let run = run.next();
    let driver = run.driver(server, &of(PostgresRestore::Swap)).await;
    driver.load(&record, &run.source()).await.unwrap();
    server.sql("app", prepare);
    let error = driver.commit(&record.target).await.unwrap_err().to_string();
    assert!(error.contains(finish), "{error}");
    assert_eq!(word(server), "old", "it stays open");
    server.sql("app", finish);
    driver.commit(&record.target).await.unwrap();
    assert_eq!(word(server), "new");
}

async fn templates_are_exchanged(run: &Run, server: &PostgresServer) {
    server.sql("postgres", "ALTER DATABASE app IS_TEMPLATE true");
    let record = saved(run, server).await;
    for restore in STAGED {
        server.sql("app", "UPDATE word SET word = 'old'");
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(word(server), "old", "{restore:?}");
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(word(server), "new", "{restore:?}");
        assert_eq!(server.databases(), ["app", "postgres"], "{restore:?}");
    }
    server.sql("postgres", "ALTER DATABASE app IS_TEMPLATE false");
}

async fn slots_are_told(run: &Run, server: &PostgresServer) {
    let record = saved(run, server).await;
    for restore in STAGED {
        server.sql(
            "app",
            "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')",
        );
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        let told = driver.foresee(&record).await.unwrap();
        assert!(
            told.len() == 1 && told[0].contains("replication slot debezium"),
            "{told:?}"
        );
        run.restore(&driver, &record).await.unwrap();
        let notices = driver.take_notices();
        assert!(
            notices.len() == 1 && notices[0].contains("replication slot debezium"),
            "{notices:?}"
        );
        let slots = "SELECT count(*) FROM pg_replication_slots";
        assert_eq!(server.sql("app", slots), "0", "{restore:?}");
    }
}

async fn subscriptions_keep_the_old_one(run: &Run, server: &PostgresServer) {
    server.sql(
        "app",
        "CREATE SUBSCRIPTION \"a; b\" CONNECTION 'host=127.0.0.1 dbname=elsewhere' PUBLICATION p \
         WITH (connect = false, enabled = false, create_slot = false, slot_name = 'elsewhere')",
    );
    let record = saved(run, server).await;
    for restore in STAGED {
        server.sql("app", "UPDATE word SET word = 'old'");
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        let told = driver.foresee(&record).await.unwrap();
        assert!(
            told.len() == 1 && told[0].contains("subscription a; b"),
            "{told:?}"
        );
        // The new one has it too, and goes all the same.
        driver.load(&record, &run.source()).await.unwrap();
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.databases(), ["app", "postgres"], "{restore:?}");
        assert_eq!(word(server), "old", "{restore:?}");

        run.restore(&driver, &record).await.unwrap();
        assert_eq!(word(server), "new", "{restore:?}");
        let old = format!("app_dropping_{}", run.id.short());
        let notices = driver.take_notices();
        let words = ["DROP SUBSCRIPTION \"a; b\"", &old, "DROP DATABASE"];
        assert!(
            notices.len() == 1 && words.iter().all(|word| notices[0].contains(word)),
            "{notices:?}"
        );
        let found = driver.targets().await.unwrap();
        assert!(
            found.missing.is_empty() && found.left_out.len() == 1,
            "{found:?}"
        );
        assert!(
            found.left_out[0].contains(&format!("DROP DATABASE \"{old}\"")),
            "{found:?}"
        );
        // As the notice says.
        server.sql(
            "postgres",
            &format!("ALTER DATABASE {old} ALLOW_CONNECTIONS true"),
        );
        server.sql(&old, "ALTER SUBSCRIPTION \"a; b\" DISABLE; ALTER SUBSCRIPTION \"a; b\" SET (slot_name = NONE)");
        server.sql(&old, "DROP SUBSCRIPTION \"a; b\"");
        server.sql("postgres", &format!("DROP DATABASE {old}"));
    }
    server.sql("app", "ALTER SUBSCRIPTION \"a; b\" SET (slot_name = NONE)");
    server.sql("app", "DROP SUBSCRIPTION \"a; b\"");
}

async fn bound_databases_keep_their_names(run: &Run, server: &PostgresServer) {
    // Under another name it would load, and hold that name for good.
    server.sql(
        "app",
        "CREATE FUNCTION here() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_database()::text'; \
         CREATE TABLE tenant (a int, name text GENERATED ALWAYS AS (here()) STORED); INSERT INTO tenant VALUES (1); \
         CREATE MATERIALIZED VIEW report AS SELECT current_catalog::text AS name",
    );
    let record = saved(run, server).await;
    assert_eq!(
        facts(&record).bound_to_name,
        ["function here", "materialized view report"]
    );
    for old in OldDatabase::ALL {
        let mut run = run.next();
        run.options.old_database = old;
        let driver = run.driver(server, &of(PostgresRestore::Swap)).await;
        assert!(driver.describe_restore(&record).contains("function here"));
        run.restore(&driver, &record).await.unwrap();
        let names = "SELECT t.name || ' ' || r.name FROM tenant t, report r";
        assert_eq!(server.sql("app", names), "app app", "{old:?}");
        assert_eq!(driver.take_notices(), Vec::<String>::new());
        let kept = format!("app_before_{}", run.id.short());
        if server.databases().contains(&kept) {
            assert_eq!(old, OldDatabase::Keep);
            server.sql("postgres", &format!("DROP DATABASE {kept}"));
        }
        assert_eq!(server.databases(), ["app", "postgres"], "{old:?}");
    }
    server.sql(
        "app",
        "DROP MATERIALIZED VIEW report; DROP TABLE tenant; DROP FUNCTION here",
    );

    // What nobody foresees shows when it is loaded.
    server.sql("app", "CREATE FUNCTION called(wanted text) RETURNS boolean LANGUAGE sql AS 'SELECT current_database() = wanted'");
    server.sql(
        "app",
        "CREATE TABLE bound (a int CHECK (called('app'))); INSERT INTO bound VALUES (42)",
    );
    let record = saved(run, server).await;
    assert_eq!(facts(&record).bound_to_name, Vec::<String>::new());
    let run = run.next();
    let driver = run.driver(server, &of(PostgresRestore::Swap)).await;
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql("app", "SELECT a FROM bound"), "42");
    let notices = driver.take_notices();
    assert!(
        notices.len() == 1 && notices[0].contains("under its own"),
        "{notices:?}"
    );

    // What loads under no name leaves the old one as it was.
    let record = broken(&run, server).await;
    for restore in STAGED {
        let run = run.next();
        let driver = run.driver(server, &of(restore)).await;
        driver.load(&record, &run.source()).await.unwrap_err();
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(word(server), "old", "{restore:?}");
        assert_eq!(server.databases(), ["app", "postgres"], "{restore:?}");
    }
}

/// A dump that the server takes back under no name: a CHECK that its row does not fulfil.
async fn broken(run: &Run, server: &PostgresServer) -> TargetRecord {
    server.sql(
        "app",
        "DROP TABLE bound; CREATE TABLE bound (a int); INSERT INTO bound VALUES (1); \
         ALTER TABLE bound ADD CHECK (a > 1) NOT VALID; UPDATE pg_constraint SET convalidated = true WHERE conname = 'bound_a_check'",
    );
    saved(run, server).await
}
