//! A restore of a database that dies at any point: what is there afterwards is all old or all new, and it serves.

use std::time::Duration;

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run, target};
use cofferdam::driver::{Driver, OldDatabase};
use cofferdam::labels::{PostgresLabels, PostgresRestore, Selection};
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
            "taking",
            "aside_keep",
            "aside",
            "dropping",
            "before",
        ] {
            let name = format!("shop_{word}_{}", run.id.short());
            statement = statement.replace(&format!(":{word}:"), &name);
        }
        statement = statement.replace(":run:", run.id.short());
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

const RESET: &str = "ALTER DATABASE shop RESET local_preload_libraries";
const ASIDE_AGAIN: &str = "ALTER DATABASE :aside: RENAME TO shop";
const RETIRE: &str = "ALTER DATABASE :aside: ALLOW_CONNECTIONS false";
const RETIRED: &str = "ALTER DATABASE :aside: RENAME TO :dropping:";
const RETIRE_KEEP: &str = "ALTER DATABASE :aside_keep: ALLOW_CONNECTIONS false";
const RETIRED_KEEP: &str = "ALTER DATABASE :aside_keep: RENAME TO :before:";

const STAGED: [PostgresRestore; 2] = [PostgresRestore::Swap, PostgresRestore::Recreate];
const EVERY: [PostgresRestore; 3] = [
    PostgresRestore::Swap,
    PostgresRestore::Recreate,
    PostgresRestore::Clean,
];

fn of(restore: PostgresRestore) -> PostgresLabels {
    PostgresLabels {
        restore,
        ..PostgresLabels::default()
    }
}

#[tokio::test]
async fn every_state_is_finished_and_undone() {
    let engine = engine().await;
    let first = Run::new(&engine).await;
    let (server, record) = shop(&first).await;
    let own_name = [
        ("loaded", OldDatabase::Drop, &[][..], Some("new"), "old"),
        ("opened", OldDatabase::Drop, &[RESET], Some("new"), "old"),
        (
            "retired",
            OldDatabase::Drop,
            &[RESET, RETIRE, RETIRED],
            Some("new"),
            "old",
        ),
        (
            "lost",
            OldDatabase::Drop,
            &["DROP DATABASE shop"],
            None,
            "old",
        ),
        (
            "half way back",
            OldDatabase::Drop,
            &["ALTER DATABASE shop RENAME TO :loading:", ASIDE_AGAIN],
            None,
            "old",
        ),
        (
            "closed for a load",
            OldDatabase::Drop,
            &["ALTER DATABASE shop RENAME TO :taking:", ASIDE_AGAIN, CLOSE],
            None,
            "old",
        ),
        (
            "not whole",
            OldDatabase::Drop,
            &[
                "ALTER DATABASE shop SET local_preload_libraries = cofferdam_:run:_is_loading_this_database",
            ],
            None,
            "old",
        ),
        (
            "loaded, to keep",
            OldDatabase::Keep,
            &[],
            Some("new"),
            "old",
        ),
        (
            "retired and kept",
            OldDatabase::Keep,
            &[RESET, RETIRE_KEEP, RETIRED_KEEP],
            Some("new"),
            "new",
        ),
    ];
    every_state(
        &first,
        &server,
        &record,
        PostgresRestore::Recreate,
        &own_name,
    )
    .await;
    let beside = [
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
    ];
    every_state(&first, &server, &record, PostgresRestore::Swap, &beside).await;
}

/// What a state is called, what becomes of the old database, how it is made of a load, what a commit makes of it (nothing,
/// where there is nothing to decide for), and what a rollback.
type State<'a> = (
    &'a str,
    OldDatabase,
    &'a [&'a str],
    Option<&'a str>,
    &'a str,
);

async fn every_state(
    first: &Run,
    server: &PostgresServer,
    record: &TargetRecord,
    restore: PostgresRestore,
    states: &[State<'_>],
) {
    let pristine = server.databases();
    for &(what, old, steps, commit, rollback) in states {
        for commits in [true, false] {
            let mut run = first.next();
            run.options.old_database = old;
            let driver = run.driver(server, &of(restore)).await;
            driver.load(record, &run.source()).await.unwrap();
            driver.check(record).await.unwrap();
            pretend(server, &run, steps);
            // Another process, which knows nothing but the run and the target.
            run.options.old_database = OldDatabase::Drop;
            let driver = run.driver(server, &PostgresLabels::default()).await;
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
                word(server),
                format!("{expected} 9"),
                "{restore:?}, {what}, commits: {commits}"
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

/// Nobody gets in there, and orders are usually given from there.
#[tokio::test]
async fn the_maintenance_database_is_finished_and_undone_too() {
    let engine = engine().await;
    let first = Run::new(&engine).await;
    let (server, record) = shop(&first).await;
    let labels = PostgresLabels {
        maintenance_db: "shop".to_owned(),
        ..PostgresLabels::default()
    };
    for steps in [&[NOTE, CLOSE][..], &[NOTE, CLOSE, ASIDE]] {
        for (commits, expected) in [(false, "old 9"), (true, "new 9")] {
            let run = first.next();
            let driver = run.driver(&server, &labels).await;
            driver.load(&record, &run.source()).await.unwrap();
            pretend(&server, &run, steps);
            let driver = run.driver(&server, &labels).await;
            if commits {
                driver.commit(&record.target).await.unwrap();
            } else {
                driver.rollback(&record.target).await.unwrap();
            }
            assert_eq!(word(&server), expected, "{steps:?}");
            assert_eq!(server.databases(), ["postgres", "shop"], "{steps:?}");
            server.sql(
                "shop",
                "UPDATE word SET word = 'old'; DROP TABLE IF EXISTS goods",
            );
        }
    }
}

/// The server lets nobody do anything with it but drop it.
#[tokio::test]
async fn a_drop_that_was_interrupted_is_finished_and_is_no_database_to_save() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    driver.load(&record, &run.source()).await.unwrap();
    let interrupted = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = ':dropping:'";
    pretend(&server, &run, &[NOTE, CLOSE, ASIDE, ENTER, interrupted]);
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    driver.commit(&record.target).await.unwrap();
    assert_eq!(word(&server), "new 9");
    assert_eq!(server.databases(), ["postgres", "shop"]);

    server.sql(
        "template1",
        "CREATE DATABASE half; UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'",
    );
    let everything = PostgresLabels {
        databases: Selection::All,
        ..PostgresLabels::default()
    };
    let found = run
        .driver(&server, &everything)
        .await
        .targets()
        .await
        .unwrap();
    assert!(found.targets.iter().all(|found| found.id.name != "half"));
    assert!(
        found.left_out[0].ends_with("DROP DATABASE \"half\""),
        "{:?}",
        found.left_out
    );
}

#[tokio::test]
async fn a_database_that_was_not_there_is_not_there_after_a_rollback() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    for restore in EVERY {
        server.sql("template1", "DROP DATABASE shop");
        let run = run.next();
        let driver = run.driver(&server, &of(restore)).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.check(&record).await.unwrap();
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.databases(), ["postgres"], "{restore:?}");
        let error = driver.commit(&record.target).await.unwrap_err().to_string();
        assert!(error.contains("cannot be put in place"), "{error}");
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(word(&server), "new 9", "{restore:?}");
        assert_eq!(server.databases(), ["postgres", "shop"], "{restore:?}");
    }
}

#[tokio::test]
async fn a_database_that_others_closed_stays_closed_after_a_rollback() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let (server, record) = shop(&run).await;
    for restore in STAGED {
        server.sql("template1", CLOSE);
        let run = run.next();
        let driver = run.driver(&server, &of(restore)).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(
            server.sql(
                "template1",
                "SELECT datallowconn FROM pg_database WHERE datname = 'shop'"
            ),
            "f",
            "{restore:?}"
        );
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(word(&server), "new 9", "{restore:?}");
    }
}

/// The future is dropped after this many milliseconds, as by a signal, and another process goes on.
#[tokio::test]
#[ignore = "two dozen restores: make test-full"]
async fn a_load_or_a_commit_that_is_cut_off_anywhere_leaves_all_old_or_all_new() {
    let engine = engine().await;
    let first = Run::new(&engine).await;
    let (server, record) = shop(&first).await;
    let pristine = server.databases();
    let mut cut = (0, 0);
    for (at, milliseconds) in [
        0, 150, 300, 450, 600, 800, 1000, 1300, 1600, 2000, 2500, 3000, 4000, 6000,
    ]
    .into_iter()
    .enumerate()
    {
        let run = first.next();
        let driver = run.driver(&server, &of(STAGED[at % 2])).await;
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
    let limits = [0, 100, 200, 300, 400, 500, 700, 900, 1200];
    for (at, milliseconds) in limits.into_iter().enumerate() {
        let run = first.next();
        let driver = run.driver(&server, &of(STAGED[at % 2])).await;
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
