//! Users, roles and grants: created where they are missing, never changed where they are there.

use crate::support::engine;
use crate::support::mysql::{MARIADB, MYSQL, MysqlRun, MysqlServer, labels, target};
use cofferdam::driver::Driver;
use cofferdam::driver::mysql::USERS;

#[tokio::test]
async fn on_mariadb() {
    let server = MysqlServer::shared(MARIADB);
    let _turn = server.turn.lock().await;
    all(server).await;
}

#[tokio::test]
async fn on_mysql() {
    let server = MysqlServer::shared(MYSQL);
    let _turn = server.turn.lock().await;
    all(server).await;
}

const ACCOUNTS: [&str; 3] = ["`o'dd``name`@`%`", "locked@localhost", "guest@'10.%'"];

/// What the server itself says of them.
fn portrait(server: &MysqlServer) -> String {
    let mut queries: Vec<String> = ACCOUNTS
        .iter()
        .map(|account| format!("SHOW CREATE USER {account}; SHOW GRANTS FOR {account}"))
        .collect();
    queries.push("SHOW GRANTS FOR readers".to_owned());
    let hexed = if server.is_mariadb() {
        ""
    } else {
        "SET SESSION print_identified_with_as_hex = 1; "
    };
    server.sql("", &format!("{hexed}{}", queries.join("; ")))
}

fn drop_all(server: &MysqlServer) {
    server.sql(
        "",
        &format!(
            "DROP USER IF EXISTS {}; DROP ROLE IF EXISTS readers",
            ACCOUNTS.join(", ")
        ),
    );
}

pub async fn all(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    drop_all(server);
    server.make(
        "desk",
        "",
        "CREATE TABLE t (a INT, b INT); CREATE PROCEDURE p() SELECT 1",
    );
    let by_default = if server.is_mariadb() { "FOR" } else { "TO" };
    server.sql(
        "",
        &format!(
            "CREATE ROLE readers; GRANT SELECT ON desk.* TO readers; \
             CREATE USER {odd} IDENTIFIED BY 'o''ne' WITH MAX_USER_CONNECTIONS 7; \
             GRANT readers TO {odd}; SET DEFAULT ROLE readers {by_default} {odd}; \
             GRANT INSERT, DELETE ON desk.t TO {odd} WITH GRANT OPTION; GRANT ALL ON `de\\_sk%`.* TO {odd}; \
             CREATE USER locked@localhost IDENTIFIED BY 'two' ACCOUNT LOCK; GRANT RELOAD, PROCESS ON *.* TO locked@localhost; \
             CREATE USER guest@'10.%'; GRANT SELECT (a), UPDATE (b) ON desk.t TO guest@'10.%'; GRANT EXECUTE ON PROCEDURE desk.p TO guest@'10.%'",
            odd = ACCOUNTS[0]
        ),
    );
    let before = portrait(server);
    let driver = run.driver(server, &labels(&["desk"])).await;
    let found = driver.targets().await.unwrap().targets;
    assert_eq!(found[0].id.name, USERS);
    let users = target(server, USERS);
    let record = run.dump(&driver, &users).await.unwrap();
    assert_eq!(record.warnings, Vec::<String>::new());
    let script = run.script(&record).await;
    assert!(
        script.contains("CREATE") && !script.contains("'root'"),
        "{script}"
    );

    // All of them are missing; a rollback by another process removes them again.
    drop_all(server);
    let driver = run.driver(server, &labels(&["desk"])).await;
    driver.load(&record, &run.source()).await.unwrap();
    assert_eq!(portrait(server), before);
    let driver = run.driver(server, &labels(&["desk"])).await;
    driver.rollback(&users).await.unwrap();
    driver.rollback(&users).await.unwrap();
    let count = "SELECT COUNT(*) FROM mysql.user WHERE User IN ('readers', 'locked', 'guest', 'o''dd`name')";
    assert_eq!(server.sql("", count), "0");
    assert_eq!(server.staging_of(&run), Vec::<String>::new());

    // Where the table is not there yet, the grant on it is made all the same.
    server.sql("", "DROP DATABASE desk");
    driver.load(&record, &run.source()).await.unwrap();
    driver.check(&record).await.unwrap();
    driver.commit(&users).await.unwrap();
    driver.commit(&users).await.unwrap();
    assert_eq!(server.staging_of(&run), Vec::<String>::new());
    let odd = server.sql("", &format!("SHOW GRANTS FOR {}", ACCOUNTS[0]));
    assert!(before.contains(&odd), "{odd}");
    let guest = server.sql("", "SHOW GRANTS FOR guest@'10.%'");
    assert!(
        guest.contains("USAGE") && !guest.contains("desk"),
        "{guest}"
    );

    // What is there is left alone, also by a rollback.
    drop_all(server);
    server.sql("", "CREATE USER locked@localhost IDENTIFIED BY 'changed'");
    let changed = server.sql(
        "",
        "SHOW CREATE USER locked@localhost; SHOW GRANTS FOR locked@localhost",
    );
    for commits in [false, true] {
        let run = run.next();
        let driver = run.driver(server, &labels(&["desk"])).await;
        driver.load(&record, &run.source()).await.unwrap();
        match commits {
            true => driver.commit(&users).await.unwrap(),
            false => driver.rollback(&users).await.unwrap(),
        }
        let kept = server.sql(
            "",
            "SHOW CREATE USER locked@localhost; SHOW GRANTS FOR locked@localhost",
        );
        assert_eq!(kept, changed, "commits: {commits}");
        let others = if commits { "4" } else { "1" };
        assert_eq!(server.sql("", count), others, "commits: {commits}");
    }

    // A hash is in no message, also when the server refuses it.
    drop_all(server);
    let broken = script.replace(
        "CREATE USER `locked`@`localhost` IDENTIFIED",
        "CREATE USER `locked`@`localhost` NONSENSE IDENTIFIED",
    );
    assert_ne!(broken, script);
    let run = run.next();
    let forged = run.forge(&record, &broken).await;
    let driver = run.driver(server, &labels(&["desk"])).await;
    let error = driver
        .load(&forged, &run.source())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("user locked@localhost cannot be created: error 1064"),
        "{error}"
    );
    driver.rollback(&users).await.unwrap();
    assert_eq!(server.sql("", count), "0");
}
