//! A database that is loaded under its own name: the old one is moved away, and comes back whole wherever the load breaks off.

use crate::support::engine;
use crate::support::mysql::{
    EVERYTHING, MARIADB, MYSQL, MysqlRun, MysqlServer, assert_same, labels, target,
};
use cofferdam::driver::mysql::Committed;
use cofferdam::driver::{Driver, OldDatabase};
use cofferdam::labels::{MysqlLabels, MysqlRestore};

#[tokio::test]
async fn on_mariadb() {
    let server = MysqlServer::shared(MARIADB);
    let _turn = server.turn.lock().await;
    all(server).await;
}

#[tokio::test]
#[ignore = "the other family of servers: make test-full"]
async fn on_mysql() {
    let server = MysqlServer::shared(MYSQL);
    let _turn = server.turn.lock().await;
    all(server).await;
}

pub async fn all(server: &MysqlServer) {
    the_old_database_comes_back_from_every_step(server).await;
    what_is_bound_to_its_name_comes_back(server).await;
    functions_that_a_binary_log_is_wary_of_come_back(server).await;
}

const CHANGES: &str = "UPDATE parents SET price = 99; CREATE TABLE newcomer (a INT PRIMARY KEY); CREATE VIEW new_view AS SELECT 1 AS one; \
    DROP TRIGGER tell; ALTER DATABASE away CHARACTER SET latin1";

fn recreate(database: &str) -> MysqlLabels {
    MysqlLabels {
        restore: MysqlRestore::Recreate,
        ..labels(&[database])
    }
}

/// Another process each time, which takes one step.
async fn back_in_single_steps(server: &MysqlServer, run: &MysqlRun, database: &str) -> usize {
    let target = target(server, database);
    let mut steps = 0;
    while !server.staging_of(run).is_empty() {
        let driver = run.driver(server, &recreate(database)).await;
        driver.rollback_steps(&target, 1).await.unwrap();
        steps += 1;
        assert!(steps < 20, "it comes to an end");
    }
    steps
}

async fn the_old_database_comes_back_from_every_step(server: &MysqlServer) {
    const NAME: &str = "away";
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        NAME,
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        EVERYTHING,
    );
    server.sql("", "DROP USER IF EXISTS teller@'%'; CREATE USER teller@'%'; GRANT EXECUTE ON PROCEDURE away.write_log TO teller@'%'");
    let rights = || server.sql("", "SHOW GRANTS FOR teller@'%'");
    let (saved, saved_rights) = (server.portrait(NAME), rights());
    assert!(saved_rights.contains("write_log"), "{saved_rights}");
    let driver = run.driver(server, &recreate(NAME)).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    server.sql(NAME, CHANGES);
    let old = server.portrait(NAME);
    assert_ne!(old, saved);

    for steps in 1..=5 {
        let run = run.next();
        let driver = run.driver(server, &recreate(NAME)).await;
        driver.leave_steps(&record.target, steps).await.unwrap();
        assert!(!server.staging_of(&run).is_empty());
        let refused = driver.commit(&record.target).await;
        assert!(steps == 1 || refused.is_err(), "{steps}");
        let back = back_in_single_steps(server, &run, NAME).await;
        assert_same(
            &server.portrait(NAME),
            &old,
            &format!("{steps} away, {back} back"),
        );
        assert_eq!(rights(), saved_rights, "{steps}");
    }

    // Loaded, and given up; then decided, one step each time.
    for old_database in OldDatabase::ALL {
        let mut run = run.next();
        run.options.old_database = old_database;
        let driver = run.driver(server, &recreate(NAME)).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.check(&record).await.unwrap();
        assert_same(&server.portrait(NAME), &saved, "loaded");
        let back = back_in_single_steps(server, &run, NAME).await;
        assert!(back > 4, "{back}");
        assert_same(&server.portrait(NAME), &old, "given up");

        driver.load(&record, &run.source()).await.unwrap();
        while driver.commit_steps(&record.target, 1).await.unwrap() == Committed::StepsAreLeft {}
        assert_same(&server.portrait(NAME), &saved, "decided");
        assert_eq!(rights(), saved_rights);
        let kept = server.staging_of(&run);
        assert_eq!(kept.len(), usize::from(old_database == OldDatabase::Keep));
        for name in kept {
            assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM newcomer"), "0");
            server.sql("", &format!("DROP DATABASE {name}"));
        }
        server.sql(NAME, CHANGES);
        assert_same(&server.portrait(NAME), &old, "damaged again");
    }
    // So does a swap keep what users may do, and a broken view is in nobody's way.
    for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
        let run = run.next();
        server.sql(NAME, "DROP TABLE children");
        let labels = MysqlLabels {
            restore,
            ..labels(&[NAME])
        };
        let driver = run.driver(server, &labels).await;
        run.restore(&driver, &record).await.unwrap();
        assert_same(&server.portrait(NAME), &saved, &format!("{restore:?}"));
        assert_eq!(rights(), saved_rights);
    }
    server.sql("", "DROP DATABASE away; DROP USER teller@'%'");
}

/// Defaults and views that are written with the database's name: onto the server that has it, and onto one that lost it.
async fn what_is_bound_to_its_name_comes_back(server: &MysqlServer) {
    const NAME: &str = "bound";
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        NAME,
        "",
        "CREATE FUNCTION one_more(x INT) RETURNS INT DETERMINISTIC RETURN x + 1; CREATE TABLE t (a INT); INSERT INTO t VALUES (41); \
         CREATE VIEW v AS SELECT bound.one_more(a) AS b FROM bound.t",
    );
    if server.is_mariadb() {
        server.sql(
            NAME,
            "CREATE SEQUENCE s START WITH 100 CACHE 1; \
             CREATE TABLE numbered (id BIGINT NOT NULL DEFAULT NEXTVAL(s) PRIMARY KEY, a INT); INSERT INTO numbered (a) VALUES (1), (2); \
             CREATE VIEW next_number AS SELECT NEXTVAL(s) AS n",
        );
    }
    let before = server.portrait(NAME);
    let driver = run.driver(server, &labels(&[NAME])).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    for damage in ["DROP DATABASE bound", "DELETE FROM bound.t"] {
        server.sql("", damage);
        for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
            let run = run.next();
            let labels = MysqlLabels {
                restore,
                ..labels(&[NAME])
            };
            let driver = run.driver(server, &labels).await;
            run.restore(&driver, &record).await.unwrap();
            assert_same(
                &server.portrait(NAME),
                &before,
                &format!("{damage} {restore:?}"),
            );
            assert_eq!(server.sql(NAME, "SELECT b FROM v"), "42");
            if server.is_mariadb() {
                let numbers = "INSERT INTO numbered (a) VALUES (3); SELECT id FROM numbered WHERE a = 3; SELECT n FROM next_number";
                assert_eq!(server.sql(NAME, numbers), "102\n103");
            }
            assert_eq!(server.staging_of(&run), Vec::<String>::new());
        }
    }
    server.sql("", "DROP DATABASE bound");
}

/// The server is as wary afterwards as it was before, also after a load that broke off.
async fn functions_that_a_binary_log_is_wary_of_come_back(server: &MysqlServer) {
    const NAME: &str = "wary";
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        NAME,
        "",
        "CREATE TABLE t (a INT) ROW_FORMAT=DYNAMIC; INSERT INTO t VALUES (42)",
    );
    server.sql(
        NAME,
        "SET GLOBAL log_bin_trust_function_creators = 1; CREATE FUNCTION total() RETURNS INT RETURN (SELECT SUM(a) FROM t); \
         SET GLOBAL log_bin_trust_function_creators = 0; \
         SET SESSION innodb_strict_mode = 0; CREATE TABLE loose (a INT) ROW_FORMAT=FIXED",
    );
    let driver = run.driver(server, &labels(&[NAME])).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    let is_trusting = || server.sql("", "SELECT @@log_bin_trust_function_creators");
    for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
        let run = run.next();
        server.sql(NAME, "UPDATE t SET a = 7; DROP FUNCTION total");
        let labels = MysqlLabels {
            restore,
            ..labels(&[NAME])
        };
        let driver = run.driver(server, &labels).await;
        let script = run.script(&record).await;
        let broken = run
            .forge(
                &record,
                &script.replace("-- Dump completed", "NONSENSE;\n-- Dump completed"),
            )
            .await;
        driver.load(&broken, &run.source()).await.unwrap_err();
        // Another process.
        let driver = run.driver(server, &labels).await;
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(is_trusting(), "0", "{restore:?}");
        assert_eq!(server.sql(NAME, "SELECT a FROM t"), "7", "{restore:?}");

        run.restore(&driver, &record).await.unwrap();
        assert_eq!(server.sql(NAME, "SELECT total()"), "42", "{restore:?}");
        assert_eq!(is_trusting(), "0", "{restore:?}");
    }
    server.sql("", "DROP DATABASE wary");
}
