//! MySQL: against `mysqldump | gzip`, and what it takes to put that back.

use crate::{Bench, Failure, PROJECT, Row, docker, docker_with_input, retry, say, shell, timed};

pub const CONTAINER: &str = "cofferdam-bench-mysql";
const IMAGE: &str = "cofferdam-test/mysql:9";
const PASSWORD: &str = "MYSQL_PWD=bench";
const TARGET: &str = "*/mysql/clinical";

impl Bench {
    /// A database of 1 GB of rows.
    pub fn start_mysql(&self) -> Result<(), Failure> {
        say("making a MySQL database of 1 GB");
        let project = format!("cofferdam.project={PROJECT}");
        let labels = ["cofferdam.test=1", &project, "cofferdam.mysql=clinical"];
        let labels = labels.map(|label| ["--label", label]).concat();
        let run = ["run", "--detach", "--name", CONTAINER];
        let rest = ["--env", "MYSQL_ROOT_PASSWORD=bench", IMAGE];
        docker(&[&run[..], &labels, &rest].concat())?;
        // Over TCP: the server that makes the data at first listens on its socket only.
        let ready = ["--host=127.0.0.1", "--execute=SELECT 1"];
        retry("MySQL does not start", || {
            docker(&[&client("mysql")[..], &ready].concat())
        })?;
        docker_with_input(&client("mysql"), SEED)
    }

    pub fn mysql_backup(&self) -> Result<Row, Failure> {
        let mut row = Row::new("mysql backup", 0.7);
        let dump = self.work.join("clinical.sql.gz");
        let dump_client = client("mysqldump").join(" ");
        for round in 0..self.rounds {
            say(&format!("mysql backup, round {}", round + 1));
            self.clear(&dump)?;
            row.theirs.push(timed(|| {
                shell(&format!(
                    "docker {dump_client} --single-transaction --set-gtid-purged=OFF clinical | gzip > '{}' && sync '{0}'",
                    dump.display()
                ))
            })?);
            self.clear(&self.snapshots())?;
            row.ours
                .push(timed(|| self.cofferdam(&["backup", TARGET]))?);
        }
        Ok(row)
    }

    /// Over a present database. By hand there is no way back, and nothing is checked.
    pub fn mysql_restore(&self) -> Result<Row, Failure> {
        let mut row = Row::new("mysql restore", 1.1);
        let dump = self.work.join("clinical.sql.gz");
        let load_client = client("mysql").join(" ");
        for round in 0..self.rounds {
            say(&format!("mysql restore, round {}", round + 1));
            row.theirs.push(timed(|| {
                shell(&format!(
                    "gunzip < '{}' | docker {load_client} clinical",
                    dump.display()
                ))
            })?);
            row.ours.push(timed(|| {
                self.cofferdam(&["restore", "latest", TARGET, "--yes"])
            })?);
        }
        Ok(row)
    }
}

/// `docker exec` of one of the server's clients, which may read standard input.
fn client(program: &str) -> [&str; 7] {
    [
        "exec",
        "--interactive",
        "--env",
        PASSWORD,
        CONTAINER,
        program,
        "--user=root",
    ]
}

/// MySQL 9.6 has no `MD5` any more.
const SEED: &str = r#"
CREATE DATABASE clinical; USE clinical;
CREATE TABLE digits (d INT PRIMARY KEY);
INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE TABLE numbers (n INT PRIMARY KEY);
INSERT INTO numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d
  FROM digits a, digits b, digits c, digits d, digits e;
CREATE TABLE sentences (n INT PRIMARY KEY, text VARCHAR(200) NOT NULL);
INSERT INTO sentences SELECT n, CONCAT_WS(' ',
    LEFT(SHA2(n, 256), 3 + n % 7), LEFT(SHA2(n * 17 % 4000, 256), 9), LEFT(SHA2(n * 13 % 900, 256), 4),
    LEFT(SHA2(n * 7 % 4000, 256), 8), LEFT(SHA2(n * 29, 256), 5), LEFT(SHA2(n * 3 % 4000, 256), 6),
    LEFT(SHA2(n * 11 % 300, 256), 3), LEFT(SHA2(n * 19 % 4000, 256), 7), LEFT(SHA2(n * 5, 256), 4),
    LEFT(SHA2(n * 23 % 4000, 256), 10), LEFT(SHA2(n * 37 % 4000, 256), 6), LEFT(SHA2(n * 41 % 600, 256), 5))
  FROM numbers;
CREATE TABLE patients (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, born DATE, notes TEXT);
INSERT INTO patients (name, born, notes)
  SELECT CONCAT('Patient ', k.n), DATE '1930-01-01' + INTERVAL k.n * 37 % 30000 DAY, CONCAT(a.text, ' ', b.text)
  FROM numbers k JOIN sentences a ON a.n = CRC32(k.n) % 100000 JOIN sentences b ON b.n = CRC32(k.n + 7) % 100000;
CREATE TABLE observations (id INT AUTO_INCREMENT PRIMARY KEY, patient INT NOT NULL, taken DATETIME NOT NULL,
  code VARCHAR(20) NOT NULL, value DECIMAL(10, 3), comment TEXT, KEY (patient), FOREIGN KEY (patient) REFERENCES patients (id));
INSERT INTO observations (patient, taken, code, value, comment)
  SELECT k.n + 1, DATE '2020-01-01' + INTERVAL (k.n * 280 + d.n * 7) SECOND, CONCAT('LOINC-', CRC32(k.n * 40 + d.n) % 90000),
    RAND() * 1000, CONCAT(a.text, ' ', b.text)
  FROM numbers k JOIN numbers d ON d.n < 40
  JOIN sentences a ON a.n = CRC32(CONCAT(k.n, 'a', d.n)) % 100000 JOIN sentences b ON b.n = CRC32(CONCAT(k.n, 'b', d.n)) % 100000;
DROP TABLE digits, numbers, sentences;
"#;
