//! Numbers come back bit for bit, whatever the dump client would print.

use crate::support::engine;
use crate::support::mysql::{MARIADB, MYSQL, MysqlRun, MysqlServer, facts, labels, target};
use cofferdam::driver::{Driver, Loss};
use cofferdam::labels::{MysqlLabels, MysqlRestore, TransferChoice};
use cofferdam::manifest::TargetRecord;

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

/// Floats as values, hidden, generated, in a key, in a partition, with digits of their own, beside all kinds of other columns.
const NUMBERS: &str = r#"
CREATE TABLE numbers (
  id INT PRIMARY KEY, v FLOAT, d DOUBLE, `odd``name ü` FLOAT, short FLOAT(10,2), half FLOAT AS (v / 2) STORED, third FLOAT AS (v / 3) VIRTUAL,
  blob_ BLOB, text_ VARCHAR(40), flags BIT(9), day_ DATETIME(6), hidden FLOAT INVISIBLE
);
INSERT INTO numbers (id, v, d, `odd``name ü`, short, blob_, text_, flags, day_, hidden) VALUES
  (1, 16777215, 0.1, 1.2345678, 123456.78, 0x00FF27, 'it''s \\ "x"\n\t%', b'100000001', '2001-02-03 04:05:06.789012', 9.8765432),
  (2, '-0', '-0', 1e-45, 99999999, NULL, '', NULL, NULL, NULL),
  (3, 3.4028234663852886e38, 1.7976931348623157e308, -1.1754943508222875e-38, 0, '', '🐄', b'0', '0000-00-00', '-0'),
  (4, NULL, -5e-324, 0.1, NULL, NULL, NULL, NULL, NULL, 8388609.5),
  (5, 1.17549429e-38, 1.2345678901234567e-15, -16777213, -0.01, NULL, NULL, NULL, NULL, 33554434),
  (6, 123456.789, 2.2250738585072014e-308, 7, 0.1, NULL, NULL, NULL, NULL, 1);
CREATE TABLE by_number (v FLOAT PRIMARY KEY, d DOUBLE);
INSERT INTO by_number VALUES (1.2345678, 1), (1.2345679, 2), (16777215, 3), (16777214, 4);
CREATE TABLE plain (a INT);
INSERT INTO plain VALUES (1);
"#;

const BITS: &str = "SELECT id, CONCAT(v * 1e0), CONCAT(d), CONCAT(`odd``name ü` * 1e0), CONCAT(short * 1e0), CONCAT(half * 1e0), \
    CONCAT(third * 1e0), HEX(blob_), HEX(text_), flags + 0, day_, CONCAT(hidden * 1e0) FROM numbers ORDER BY id; \
    SELECT CONCAT(v * 1e0), d FROM by_number ORDER BY d; CHECKSUM TABLE numbers, by_number, plain";

pub async fn all(server: &MysqlServer) {
    const NAME: &str = "exact";
    let engine = engine().await;
    let numbers = format!("SET sql_mode = '';{NUMBERS}");
    server.make(NAME, "", &numbers);
    let before = server.sql(NAME, BITS);
    assert!(before.contains("16777215"), "{before}");
    let run = MysqlRun::new(&engine).await;
    let driver = run.driver(server, &labels(&[NAME])).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    assert_eq!(record.warnings, Vec::<String>::new());
    server.sql(NAME, "DELETE FROM numbers; DROP TABLE by_number");
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql(NAME, BITS), before);
    // By hand, too.
    server.make(NAME, "", "SELECT 1");
    server.sql(NAME, &run.script(&record).await);
    assert_eq!(server.sql(NAME, BITS), before);
    assert_eq!(server.left_behind(), "");
    rows_that_are_others_are_found(server, &run, &record).await;

    // Where no agent runs, what is rounded is named.
    let streamed = MysqlLabels {
        transfer: TransferChoice::Stream,
        exclude_table_data: vec!["by_number".to_owned()],
        ..labels(&[NAME])
    };
    let run = run.next();
    let driver = run.driver(server, &streamed).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    assert_eq!(
        record.warnings,
        [
            "these FLOAT columns were saved with six digits only, because the dump was streamed: \
          numbers.v, numbers.odd`name ü, numbers.short, numbers.half, numbers.third, numbers.hidden"
        ]
    );
    let checksum_of = |name: &str| {
        let mut tables = facts(&record).tables.iter();
        tables.find(|table| table.name == name).unwrap().checksum
    };
    assert_eq!(checksum_of("numbers"), None, "it is known to be rounded");
    assert!(checksum_of("plain").is_some());

    // An event may change rows as soon as it is loaded.
    server.sql(
        NAME,
        "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM plain",
    );
    let run = run.next();
    let driver = run.driver(server, &labels(&[NAME])).await;
    let record = run.dump(&driver, &target(server, NAME)).await.unwrap();
    let mut tables = facts(&record).tables.iter();
    assert!(tables.all(|table| table.checksum.is_none()));
    server.sql("", "DROP DATABASE exact");
}

/// A dump as a client wrote it that rounds.
async fn rows_that_are_others_are_found(
    server: &MysqlServer,
    run: &MysqlRun,
    record: &TargetRecord,
) {
    let before = server.sql("exact", BITS);
    let rounded = run.script(record).await.replace("16777215", "16777200");
    let record = run.forge(record, &rounded).await;
    for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
        let run = run.next();
        let labels = MysqlLabels {
            restore,
            ..labels(&["exact"])
        };
        let driver = run.driver(server, &labels).await;
        let error = run.restore(&driver, &record).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "after loading database exact, the rows of these tables differ from the backup (CHECKSUM TABLE): by_number; if \
             something wrote to them meanwhile, label it cofferdam.stop: restore; otherwise restore an older snapshot, or \
             accept the difference with --accept-loss"
        );
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.sql("exact", BITS), before);
    }
    let mut run = run.next();
    run.options.loss = Loss::Accepted;
    let driver = run.driver(server, &labels(&["exact"])).await;
    run.restore(&driver, &record).await.unwrap();
    assert!(server.sql("exact", BITS).contains("16777200"));
    assert_eq!(server.staging_of(&run), Vec::<String>::new());
}
