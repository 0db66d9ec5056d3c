//! A restore of a database that dies at any point: what is there afterwards is all old or all new, and it serves.

use std::time::Duration;

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run, target};
use cofferdam::driver::Driver;
use cofferdam::driver::OldDatabase;
use cofferdam::labels::{PostgresLabels, PostgresRestore};
use cofferdam::manifest::TargetRecord;

/// A server whose database `shop` says `new` in the snapshot, and `old` now.
async fn shop(run: &Run) -> (PostgresServer, TargetRecord) {
    let server = PostgresServer::trusting(&[]);
    server.sql("postgres", "CREATE DATABASE shop CONNECTION LIMIT 9");
    server.sql(
        "shop",
        "CREATE TABLE word AS SELECT 'new' AS word; CREATE TABLE goods AS SELECT n, md5(n::text) FROM generate_series(1, 200000) n; \
         CREATE INDEX ON goods (md5)",
    );
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    let record = run
        .dump(&driver, &target(&server, "shop"))
        .await
        .expect("a dump");
    server.sql("shop", "UPDATE word SET word = 'old'; DROP TABLE goods");
    (server, record)
}

fn word(server: &PostgresServer) -> String {
    server.sql("shop", "SELECT word || ' ' || (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) FROM word")
}

/// Runs statements one after the other, each by itself, with `loaded`, `entering`, … for the names that this run uses.
fn pretend(server: &PostgresServer, run: &Run, statements: &[&str]) {
    for statement in statements {
        let mut statement = (*statement).to_owned();
        for word in [
            "loading",
            "loaded_keep",
            "loaded",
            "entering_keep",
            "entering",
            "dropping",
            "before",
        ] {
            let name = format!("shop_{word}_{}", run.id.short());
            statement = statement.replace(&format!(":{word}:"), &name);
        }
        server.sql("template1", &statement);
    }
}

const CLOSE: &str = "ALTER DATABASE shop ALLOW_CONNECTIONS false";
const NOTE: &str = "ALTER DATABASE :loaded: RENAME TO :entering:";
const NOTE_KEEP: &str = "ALTER DATABASE :loaded_keep: RENAME TO :entering_keep:";
const ASIDE: &str = "ALTER DATABASE shop RENAME TO :dropping:";
const ASIDE_KEEP: &str = "ALTER DATABASE shop RENAME TO :before:";
const ENTER: &str = "ALTER DATABASE :entering: RENAME TO shop";
const ENTER_KEEP: &str = "ALTER DATABASE :entering_keep: RENAME TO shop";

#[tokio::test]
async fn every_state_is_finished_and_undone() {
    let engine = engine().await;
    let first = Run::new(&engine).await;
    let (server, record) = shop(&first).await;
    let pristine = server.databases();
    for (what, old, steps, commit, rollback) in [
        ("loaded", OldDatabase::Drop, &[][..], Some("new"), "old"),
        (
            "closed",
            OldDatabase::Drop,
            &[CLOSE, NOTE],
            Some("new"),
            "old",
        ),
        (
            "swapped",
            OldDatabase::Drop,
            &[CLOSE, NOTE, ASIDE, ENTER],
            Some("new"),
            "old",
        ),
        (
            "torn",
            OldDatabase::Drop,
            &[CLOSE, NOTE, ASIDE],
            Some("new"),
            "old",
        ),
        (
            "lost",
            OldDatabase::Drop,
            &[CLOSE, NOTE, ASIDE, "DROP DATABASE :entering:"],
            None,
            "old",
        ),
        (
            "closed, to keep",
            OldDatabase::Keep,
            &[CLOSE, NOTE_KEEP],
            Some("new"),
            "old",
        ),
        (
            "swapped and kept",
            OldDatabase::Keep,
            &[CLOSE, NOTE_KEEP, ASIDE_KEEP, ENTER_KEEP],
            Some("new"),
            "new",
        ),
        (
            "half loaded",
            OldDatabase::Drop,
            &["ALTER DATABASE :loaded: RENAME TO :loading:"],
            None,
            "old",
        ),
    ] {
        for commits in [true, false] {
            let mut run = first.next();
            run.options.old_database = old;
            let driver = run.driver(&server, &PostgresLabels::default()).await;
            driver.load(&record, &run.source()).await.unwrap();
            driver.check(&record).await.unwrap();
            pretend(&server, &run, steps);
            // Another process, which knows nothing but the run and the labels.
            run.options.old_database = OldDatabase::Drop;
            let driver = run.driver(&server, &PostgresLabels::default()).await;
            let expected = if commits {
                match (driver.commit(&record.target).await, commit) {
                    (Ok(()), Some(word)) => word,
                    (Err(_), None) => {
                        driver.rollback(&record.target).await.unwrap();
                        "old"
                    }
                    (outcome, _) => panic!("{what}: {outcome:?}"),
                }
            } else {
                driver.rollback(&record.target).await.unwrap();
                driver.rollback(&record.target).await.unwrap();
                rollback
            };
            assert_eq!(
                word(&server),
                format!("{expected} 9"),
                "{what}, commits: {commits}"
            );
            let kept = format!("shop_before_{}", run.id.short());
            let mut databases = server.databases();
            if old == OldDatabase::Keep && expected == "new" {
                assert!(databases.contains(&kept), "{what}: {databases:?}");
                server.sql("template1", &format!("DROP DATABASE {kept}"));
                databases.retain(|name| *name != kept);
            }
            assert_eq!(databases, pristine, "{what}, commits: {commits}");
            server.sql(
                "shop",
                "UPDATE word SET word = 'old'; DROP TABLE IF EXISTS goods",
            );
        }
    }
}

#[tokio::test]
async fn a_database_that_was_not_there_is_not_there_after_a_rollback() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    server.sql("template1", "DROP DATABASE shop");
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    driver.load(&record, &run.source()).await.unwrap();
    driver.check(&record).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(server.databases(), ["postgres"]);
    let error = driver.commit(&record.target).await.unwrap_err().to_string();
    assert!(error.contains("cannot be put in place"), "{error}");
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(word(&server), "new 9");
}

#[tokio::test]
async fn a_database_that_others_closed_stays_closed_after_a_rollback() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    server.sql("template1", CLOSE);
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    driver.load(&record, &run.source()).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(
        server.sql(
            "template1",
            "SELECT datallowconn FROM pg_database WHERE datname = 'shop'"
        ),
        "f"
    );
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(word(&server), "new 9");
}

/// The future is dropped after this many milliseconds, as by a signal, and another process goes on.
#[tokio::test]
async fn a_load_or_a_commit_that_is_cut_off_anywhere_leaves_all_old_or_all_new() {
    let engine = engine().await;
    let first = Run::new(&engine).await;
    let (server, record) = shop(&first).await;
    let pristine = server.databases();
    let mut cut = (0, 0);
    for milliseconds in [
        0, 150, 300, 450, 600, 800, 1000, 1300, 1600, 2000, 2500, 3000, 4000, 6000,
    ] {
        let run = first.next();
        let driver = run.driver(&server, &PostgresLabels::default()).await;
        let limit = Duration::from_millis(milliseconds);
        if tokio::time::timeout(limit, driver.load(&record, &run.source()))
            .await
            .is_err()
        {
            cut.0 += 1;
        }
        run.options.removals.done().await;
        let driver = run.driver(&server, &PostgresLabels::default()).await;
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(word(&server), "old 9", "a load cut off after {limit:?}");
        assert_eq!(
            server.databases(),
            pristine,
            "a load cut off after {limit:?}"
        );
        assert_eq!(
            server.left_behind(&[]),
            "",
            "a load cut off after {limit:?}"
        );
    }
    for milliseconds in [0, 100, 200, 300, 400, 500, 700, 900, 1200] {
        let run = first.next();
        let driver = run.driver(&server, &PostgresLabels::default()).await;
        driver.load(&record, &run.source()).await.unwrap();
        let limit = Duration::from_millis(milliseconds);
        if tokio::time::timeout(limit, driver.commit(&record.target))
            .await
            .is_err()
        {
            cut.1 += 1;
        }
        let driver = run.driver(&server, &PostgresLabels::default()).await;
        driver.commit(&record.target).await.unwrap();
        assert_eq!(word(&server), "new 9", "a commit cut off after {limit:?}");
        assert_eq!(
            server.databases(),
            pristine,
            "a commit cut off after {limit:?}"
        );
        server.sql("shop", "UPDATE word SET word = 'old'; DROP TABLE goods");
    }
    assert!(cut.0 > 2 && cut.1 > 1, "nothing was cut off: {cut:?}");
}

/// Clients that come back as soon as they are thrown out, to the old database and to the maintenance database.
#[tokio::test]
async fn clients_that_come_back_are_kept_out_of_what_is_not_whole() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    let line = "for n in $(seq 6); do (while :; do psql -qAt -U postgres -d shop -c 'SELECT word FROM word; SELECT pg_sleep(60)' \
        >>/tmp/seen.$n 2>>/tmp/refused.$n; sleep 0.01; done) & done; wait";
    server.container.sh(&format!(
        "setsid sh -c \"{}\" >/dev/null 2>&1 & echo $! > /tmp/pid",
        line.replace('$', "\\$")
    ));
    for restore in [PostgresRestore::Swap, PostgresRestore::Recreate] {
        let run = run.next();
        let labels = PostgresLabels {
            restore,
            ..PostgresLabels::default()
        };
        run.restore(&run.driver(&server, &labels).await, &record)
            .await
            .unwrap();
        assert_eq!(word(&server), "new 9", "{restore:?}");
    }
    server.container.sh("kill -9 -$(cat /tmp/pid) || true");
    let seen = server.container.sh("cat /tmp/seen.* | sort -u");
    assert!(
        seen.lines().all(|line| line == "old" || line == "new"),
        "{seen}"
    );
    let refused = server
        .container
        .sh("cat /tmp/refused.* | grep -c 'relation \\\"word\\\" does not exist' || true");
    assert_eq!(refused, "0", "somebody met a database without its tables");
}
