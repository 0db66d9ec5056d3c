//! One schema with everything that servers of both families know (`kitchen_sink/`): what the server's own dump client says of it
//! is the same before and after, and so are numbers that this client rounds.

use crate::support::engine;
use crate::support::mysql::{MARIADB, MYSQL, MysqlRun, MysqlServer, assert_same, labels, target};
use cofferdam::labels::{MysqlLabels, MysqlRestore};

#[tokio::test]
async fn on_mariadb() {
    let server = MysqlServer::shared(MARIADB);
    let _turn = server.turn.lock().await;
    comes_back(server).await;
}

#[tokio::test]
async fn on_mysql() {
    let server = MysqlServer::shared(MYSQL);
    let _turn = server.turn.lock().await;
    comes_back(server).await;
}

#[tokio::test]
#[ignore = "needs the images of all versions"]
async fn on_every_version() {
    for version in ["mariadb:10.5", "mariadb:11"] {
        comes_back(&MysqlServer::start(version, &[])).await;
    }
}

const NAME: &str = "sink";
const BOTH: &str = include_str!("kitchen_sink/mysql-and-mariadb.sql");

/// A table for each character set of the server: each single byte that it knows, and what many scripts are written with.
fn character_sets(server: &MysqlServer) {
    let names = server.sql(
        "",
        "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME NOT IN ('binary', 'filename')",
    );
    assert!(names.lines().count() > 30, "{names}");
    let mut script = "SET SESSION sql_mode = '';".to_owned();
    for set in names.lines() {
        let single: Vec<String> = (1..=255)
            .map(|byte| format!("(CHAR({byte} USING {set}))"))
            .collect();
        script.push_str(&format!(
            "CREATE TABLE in_{set} (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(90) CHARACTER SET {set}, text_ MEDIUMTEXT CHARACTER SET {set}, \
                kind ENUM('a', 'ü') CHARACTER SET {set}) DEFAULT CHARACTER SET {set} COMMENT 'ü {set}'; \
             INSERT IGNORE INTO in_{set} (word) VALUES {}; \
             DELETE FROM in_{set} WHERE word IS NULL OR HEX(CONVERT(CONVERT(word USING utf8mb4) USING {set})) <> HEX(word); \
             INSERT IGNORE INTO in_{set} (word, text_, kind) VALUES (NULL, 'ASCII ''\"\\\\ €ßéñ Ωλ Жя שלום ไทย 漢字表能 かなカナ 한글 ¥‾~ 🐄', 'ü');",
            single.join(", ")
        ));
    }
    server.sql(NAME, &script);
}

fn own(server: &MysqlServer) -> &'static str {
    if server.is_mariadb() {
        include_str!("kitchen_sink/mariadb.sql")
    } else {
        include_str!("kitchen_sink/mysql.sql")
    }
}

/// All bits of all numbers, and a sum over each table but those whose rows carry the time of their making, and one of whose
/// hidden columns of indexes MySQL takes a sum that is another each time.
fn exact(server: &MysqlServer) -> String {
    let tables = server.sql(
        "",
        &format!(
            "SET SESSION group_concat_max_len = 1000000; SELECT GROUP_CONCAT(CONCAT('`', REPLACE(TABLE_NAME, '`', '``'), '`') ORDER BY 1) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = '{NAME}' AND TABLE_TYPE = 'BASE TABLE' AND TABLE_NAME <> 'by_expression'"
        ),
    );
    server.sql(
        NAME,
        &format!(
            "SELECT id, CONCAT(v * 1e0), CONCAT(d), CONCAT(short * 1e0), CONCAT(long_), CONCAT(half * 1e0), \
                CONCAT(third * 1e0), CONCAT(u * 1e0) FROM numbers ORDER BY id; \
             SELECT CONCAT(v * 1e0), d FROM float_key ORDER BY 1; SELECT CONCAT(`select` * 1e0) FROM `odd ``t.able; \\\\ 'x' \"y\" ü`; \
             SELECT id, CONCAT(secret * 1e0) FROM hidden_rows ORDER BY id; CHECKSUM TABLE {tables}"
        ),
    )
}

async fn comes_back(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    // As an application has it that was once let do so.
    server.sql("", "SET GLOBAL log_bin_trust_function_creators = 1");
    server.make(NAME, "CHARACTER SET utf8mb4", BOTH);
    server.sql(NAME, own(server));
    server.sql("", "SET GLOBAL log_bin_trust_function_creators = 0");
    character_sets(server);
    let (before, bits) = (server.portrait(NAME), exact(server));
    assert_eq!(before["complaints of the dump"], "");
    assert!(bits.contains("16777215"), "{bits}");
    let driver = run.driver(server, &labels(&[NAME])).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    for (damage, restore) in [
        (
            "DELETE FROM sink.numbers; DROP TABLE sink.shapes",
            MysqlRestore::Swap,
        ),
        ("DROP DATABASE sink", MysqlRestore::Swap),
        (
            "DROP VIEW sink.a_second; TRUNCATE sink.dates",
            MysqlRestore::Recreate,
        ),
    ] {
        server.sql("", damage);
        let run = run.next();
        let labels = MysqlLabels {
            restore,
            ..labels(&[NAME])
        };
        let driver = run.driver(server, &labels).await;
        run.restore(&driver, &record).await.unwrap();
        let what = format!("{restore:?} after {damage}");
        assert_same(&server.portrait(NAME), &before, &what);
        assert_eq!(exact(server), bits, "{what}");
        assert_eq!(server.staging_of(&run), Vec::<String>::new(), "{what}");
    }
    server.sql("", &format!("DROP DATABASE {NAME}"));
}
