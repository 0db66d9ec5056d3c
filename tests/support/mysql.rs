//! Real MySQL and MariaDB servers for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use cofferdam::driver::mysql::{MysqlDriver, MysqlOptions};
use cofferdam::driver::{Driver, DriverError};
use cofferdam::engine::{Container, Engine};
use cofferdam::labels::{MysqlLabels, Selection};
use cofferdam::manifest::{
    Artifact, Compression, ContainerRecord, Facts, MysqlFacts, Role, TargetRecord,
};
use cofferdam::pipe::keys::Identities;
use cofferdam::pipe::{Progress, compress};
use cofferdam::repository::Repository;
use cofferdam::repository::local::LocalRepository;
use cofferdam::snapshot::{ArtifactSink, NewArtifact, SnapshotReader, SnapshotWriter};
use cofferdam::target::{DriverKind, RunId, TargetId};
use tokio::io::AsyncReadExt;

use super::{TestContainer, docker_succeeds, program, remove_at_exit};

pub const MARIADB: &str = "mariadb:10.11";
pub const MYSQL: &str = "mysql:9";

/// The password of root: it tests quoting, and whoever sees it anywhere has found a leak.
pub const PASSWORD: &str = "correct 'horse\\ $battery";

pub struct MysqlServer {
    pub container: TestContainer,
    pub version: String,
    /// Held by whoever uses a shared server: an agent removes what other runs have left in its container.
    pub turn: tokio::sync::Mutex<()>,
}

impl MysqlServer {
    /// The server of this version that the tests of a file share.
    pub fn shared(version: &str) -> &'static Self {
        static SERVERS: Mutex<BTreeMap<String, &MysqlServer>> = Mutex::new(BTreeMap::new());
        // A test that could not start its server has said so.
        let mut servers = SERVERS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        servers.entry(version.to_owned()).or_insert_with(|| {
            let server = Self::start(version, &[]);
            remove_at_exit(&server.container);
            Box::leak(Box::new(server))
        })
    }

    /// A server of this version whose root has [`PASSWORD`], started with more options of `docker run`.
    pub fn start(version: &str, options: &[&str]) -> Self {
        let password = format!("MYSQL_ROOT_PASSWORD={PASSWORD}");
        Self::start_with(version, &[&["-e", &password], options].concat())
    }

    /// A server that knows of its users only what `options` say.
    pub fn start_with(version: &str, options: &[&str]) -> Self {
        let image = format!("cofferdam-test/{version}");
        assert!(
            docker_succeeds(["image", "inspect", &image]),
            "there is no image {image}: run scripts/test-images.sh {version}"
        );
        // A test's data is not worth waiting for a disk.
        let command = [
            image.as_str(),
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            "--sync-binlog=0",
        ];
        Self::of(TestContainer::running(options, &command), version)
    }

    /// The server that is coming up in this container.
    pub fn of(container: TestContainer, version: &str) -> Self {
        let server = Self {
            container,
            version: version.to_owned(),
            turn: tokio::sync::Mutex::new(()),
        };
        server.wait();
        server
    }

    /// Waits for the server that comes after the initialisation: the first one listens on no port.
    pub fn wait(&self) {
        self.container.wait_until(
            "cat /proc/1/comm | grep -qE '^(mysqld|mariadbd)$' && bash -c ': </dev/tcp/127.0.0.1/3306' 2>/dev/null",
        );
    }

    pub fn is_mariadb(&self) -> bool {
        self.version.starts_with("mariadb")
    }

    /// Runs SQL as root and returns what it printed, without the last newline; panics when it fails.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.try_sql(database, sql);
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    pub fn try_sql(&self, database: &str, sql: &str) -> Output {
        let client = if self.is_mariadb() {
            "mariadb"
        } else {
            "mysql"
        };
        let mut argv = vec![
            client,
            "-uroot",
            "--batch",
            "--raw",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ];
        let database = format!("--database={database}");
        if database != "--database=" {
            argv.push(&database);
        }
        self.client(&argv, sql)
    }

    fn client(&self, argv: &[&str], input: &str) -> Output {
        let environment = format!("MYSQL_PWD={PASSWORD}");
        let mut child = Command::new("docker")
            .args(["exec", "-i", "-e", &environment, &self.container.id])
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker program");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A client that fails stops reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("the client ends")
    }

    /// Databases that somebody made.
    pub fn databases(&self) -> Vec<String> {
        let names = self.sql(
            "",
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
             WHERE SCHEMA_NAME NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1",
        );
        names.lines().map(str::to_owned).collect()
    }

    /// Databases that this run has made for its restores.
    pub fn staging_of(&self, run: &MysqlRun) -> Vec<String> {
        let mut names = self.databases();
        names.retain(|name| name.ends_with(run.id.short()));
        names
    }

    pub fn make(&self, database: &str, defaults: &str, sql: &str) {
        let quoted = database.replace('`', "``");
        self.sql(
            "",
            &format!("DROP DATABASE IF EXISTS `{quoted}`; CREATE DATABASE `{quoted}` {defaults}"),
        );
        self.sql(database, sql);
    }

    /// What lies in the usual places for temporary files.
    pub fn left_behind(&self) -> String {
        self.container
            .sh("find /tmp /var/tmp -name '.cofferdam*' 2>/dev/null || true")
    }

    pub async fn inspect(&self, engine: &Engine) -> Container {
        engine
            .inspect(&self.container.id)
            .await
            .expect("the container is there")
    }

    /// Everything that a restore has to bring back: definitions and rows as the server's own dump client tells them, and what
    /// the server's catalogs say.
    pub fn portrait(&self, database: &str) -> BTreeMap<&'static str, String> {
        let client = if self.is_mariadb() {
            vec!["mariadb-dump"]
        } else {
            vec!["mysqldump", "--set-gtid-purged=OFF"]
        };
        let options = [
            "-uroot",
            "--single-transaction",
            "--routines",
            "--events",
            "--triggers",
            "--hex-blob",
            "--skip-extended-insert",
            "--order-by-primary",
            "--skip-dump-date",
            "--default-character-set=utf8mb4",
            "--",
            database,
        ];
        let dump = self.client(&[client.as_slice(), &options].concat(), "");
        let mut portrait = BTreeMap::from([
            (
                "dump",
                // MySQL spells out what goes without saying once a table came from a dump.
                String::from_utf8_lossy(&dump.stdout)
                    .replace(" CHARACTER SET utf8mb4 COLLATE", " COLLATE"),
            ),
            (
                "complaints of the dump",
                String::from_utf8_lossy(&dump.stderr).into_owned(),
            ),
        ]);
        // All in one go: most of the time of these tests is that of starting clients.
        const MARK: &str = "\u{1e}";
        let literal = database.replace('\\', "\\\\").replace('\'', "''");
        let queries = CATALOGS.map(|(_, sql)| sql.replace(":database", &format!("'{literal}'")));
        let told = self.sql("", &queries.join(&format!("; SELECT '{MARK}'; ")));
        let told = told
            .split(MARK)
            .map(|rows| rows.trim_matches('\n').to_owned());
        portrait.extend(CATALOGS.map(|(aspect, _)| aspect).into_iter().zip(told));
        portrait
    }
}

/// What the server's catalogs say of a database.
const CATALOGS: [(&str, &str); 7] = [
    (
        "defaults",
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = :database",
    ),
    (
        "tables",
        "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, CREATE_OPTIONS, TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = :database ORDER BY 1",
    ),
    (
        "columns",
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLUMN_DEFAULT, EXTRA, GENERATION_EXPRESSION, COLLATION_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = :database ORDER BY 1, ORDINAL_POSITION",
    ),
    (
        "keys",
        "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, INDEX_TYPE FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = :database ORDER BY 1, 2, SEQ_IN_INDEX",
    ),
    (
        "references",
        "SELECT TABLE_NAME, CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = :database ORDER BY 1, 2",
    ),
    (
        "partitions",
        "SELECT TABLE_NAME, PARTITION_NAME, PARTITION_DESCRIPTION FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = :database AND PARTITION_NAME IS NOT NULL ORDER BY 1, 2",
    ),
    (
        "programs",
        "SELECT ROUTINE_NAME, ROUTINE_TYPE, DEFINER, SQL_MODE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = :database ORDER BY 1; \
                    SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = :database ORDER BY 1; \
                    SELECT EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = :database ORDER BY 1; \
                    SELECT TABLE_NAME, DEFINER, SECURITY_TYPE FROM information_schema.VIEWS WHERE TABLE_SCHEMA = :database ORDER BY 1",
    ),
];

#[track_caller]
pub fn assert_same(
    found: &BTreeMap<&'static str, String>,
    expected: &BTreeMap<&'static str, String>,
    what: &str,
) {
    for (aspect, expected) in expected {
        let lines = found[aspect].lines().zip(expected.lines());
        for (found, expected) in lines {
            assert_eq!(found, expected, "{aspect} of {what}");
        }
        assert_eq!(&found[aspect], expected, "{aspect} of {what}");
    }
}

/// A run of cofferdam's as far as the driver is concerned, with a repository of its own.
pub struct MysqlRun {
    pub engine: Engine,
    pub repository: Arc<dyn Repository>,
    pub id: RunId,
    pub options: MysqlOptions,
    _directory: Arc<tempfile::TempDir>,
}

impl MysqlRun {
    pub async fn new(engine: &Engine) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = LocalRepository::new(directory.path().join("repository"));
        repository.prepare().await.expect("a new repository");
        Self {
            engine: engine.clone(),
            repository: Arc::new(repository),
            id: RunId::generate(jiff::Timestamp::now()),
            options: MysqlOptions {
                program: PathBuf::from(program()),
                ..MysqlOptions::default()
            },
            _directory: Arc::new(directory),
        }
    }

    /// Another run on the same repository.
    pub fn next(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            repository: self.repository.clone(),
            id: RunId::generate(jiff::Timestamp::now()),
            options: self.options.clone(),
            _directory: self._directory.clone(),
        }
    }

    /// Each call is as good as another process.
    pub async fn driver(&self, server: &MysqlServer, labels: &MysqlLabels) -> MysqlDriver {
        MysqlDriver::new(
            self.engine.clone(),
            server.inspect(&self.engine).await,
            labels.clone(),
            self.id.clone(),
            self.options.clone(),
        )
    }

    fn writer(&self) -> SnapshotWriter {
        SnapshotWriter::new(
            self.repository.clone(),
            "test",
            self.id.clone(),
            Compression::DEFAULT,
            None,
        )
    }

    pub async fn dump(
        &self,
        driver: &MysqlDriver,
        target: &TargetId,
    ) -> Result<TargetRecord, DriverError> {
        let writer = self.writer();
        let sink = writer.target(target, Progress::silent());
        let captured = driver.dump(target, &sink).await?;
        Ok(TargetRecord {
            target: target.clone(),
            container: ContainerRecord::default(),
            transfer: captured.transfer,
            facts: captured.facts,
            artifacts: captured.artifacts,
            warnings: captured.warnings,
        })
    }

    /// A dump that somebody else wrote.
    pub async fn forge(&self, record: &TargetRecord, script: &str) -> TargetRecord {
        let forged = TargetId::new("forged", DriverKind::Mysql, "x");
        let writer = self.writer();
        let sink = writer.target(&forged, Progress::silent());
        let compression = sink.compression();
        let plain = Box::pin(std::io::Cursor::new(script.as_bytes().to_vec()));
        let (body, digest) = compress(plain, compression);
        let new = NewArtifact {
            role: Role::Dump,
            extension: "sql",
            compression,
        };
        let artifact = sink.store(new, body).await.expect("stored");
        let plain = digest.get().expect("it has ended");
        TargetRecord {
            artifacts: vec![Artifact { plain, ..artifact }],
            ..record.clone()
        }
    }

    pub fn source(&self) -> SnapshotReader {
        SnapshotReader::new(
            self.repository.clone(),
            Identities::default(),
            Progress::silent(),
        )
    }

    /// The plain dump.
    pub async fn script(&self, record: &TargetRecord) -> String {
        let mut script = Vec::new();
        let source = self.source();
        let artifact = &record.artifacts[0];
        let mut plain = cofferdam::snapshot::open_plain(&source, artifact)
            .await
            .expect("it is there");
        plain.read_to_end(&mut script).await.expect("it is whole");
        String::from_utf8_lossy(&script).into_owned()
    }

    /// Load, check, and the decision for the new data.
    pub async fn restore(
        &self,
        driver: &MysqlDriver,
        record: &TargetRecord,
    ) -> Result<(), DriverError> {
        driver.load(record, &self.source()).await?;
        driver.check(record).await?;
        driver.commit(&record.target).await
    }
}

/// Labels that name these databases.
pub fn labels(databases: &[&str]) -> MysqlLabels {
    MysqlLabels {
        databases: Selection::Names(databases.iter().map(|&name| name.to_owned()).collect()),
        ..MysqlLabels::default()
    }
}

/// The target of a database; the service of a plain container is its name.
pub fn target(server: &MysqlServer, database: &str) -> TargetId {
    TargetId::new(&server.container.name, DriverKind::Mysql, database)
}

pub fn facts(record: &TargetRecord) -> &MysqlFacts {
    match &record.facts {
        Facts::Mysql(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// A bit of everything that both families know.
pub const EVERYTHING: &str = r#"
CREATE TABLE parents (
  id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, price DECIMAL(10,2),
  twice DECIMAL(10,2) AS (price * 2) VIRTUAL, thrice DECIMAL(10,2) AS (price * 3) STORED,
  born TIMESTAMP NOT NULL DEFAULT '2001-02-03 04:05:06', extra JSON, CONSTRAINT fair CHECK (price >= 0)
) ENGINE=InnoDB COMMENT='it''s `all` here';
INSERT INTO parents (name, price, extra) VALUES ('one', 1, '{"a": 1}'), ('zwei\nlines\t\\ "quoted" ''x''', 2.5, NULL), ('🐄 Kuh', 0, '[]');
ALTER TABLE parents AUTO_INCREMENT = 4711;
CREATE TABLE children (
  id INT PRIMARY KEY, parent INT, body TEXT, data LONGBLOB, flags BIT(8), FULLTEXT KEY words (body),
  CONSTRAINT odd_name FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE
) ENGINE=InnoDB;
INSERT INTO children VALUES (1, 1, 'hello words', 0x00FF1A270A0D5C, b'10000001'), (2, 2, 'zwei Wörter', NULL, NULL);
CREATE TABLE measures (day INT NOT NULL, value INT) PARTITION BY RANGE (day) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
INSERT INTO measures VALUES (1, 1), (20, 2);
CREATE TABLE `odd ``t.able; \\ 'x' "y" ü` (`c;ol` INT PRIMARY KEY);
INSERT INTO `odd ``t.able; \\ 'x' "y" ü` VALUES (7);
CREATE TABLE old_words (word VARCHAR(20)) ENGINE=InnoDB DEFAULT CHARSET=latin1;
INSERT INTO old_words VALUES ('Größe'), ('');
CREATE TABLE nothing (a INT);
CREATE TABLE log (what VARCHAR(100));
CREATE VIEW z_first AS SELECT c.id, p.name FROM children c JOIN parents p ON p.id = c.parent;
CREATE VIEW a_second AS SELECT * FROM z_first WHERE id > 1;
CREATE SQL SECURITY INVOKER VIEW careful AS SELECT 'it''s \\' AS word;
CREATE TRIGGER shout BEFORE INSERT ON parents FOR EACH ROW SET NEW.name = CONCAT(NEW.name, '!');
DELIMITER ;;
CREATE TRIGGER tell AFTER INSERT ON parents FOR EACH ROW
BEGIN
  INSERT INTO log VALUES (CONCAT('new; ', NEW.name)); -- a comment; with a semicolon
END;;
CREATE PROCEDURE write_log(what VARCHAR(90)) COMMENT 'writes; it does' BEGIN INSERT INTO log VALUES (what); END;;
CREATE FUNCTION next_one(x INT) RETURNS INT DETERMINISTIC RETURN x + 1;;
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE DO BEGIN DELETE FROM log; END;;
DELIMITER ;
CREATE VIEW counted AS SELECT next_one(id) AS id FROM children;
"#;

pub const DAMAGE: &str = "DROP VIEW a_second; DROP TRIGGER tell; DROP PROCEDURE write_log; DROP EVENT tidy; DROP TABLE children; \
    UPDATE parents SET price = 99; CREATE TABLE newcomer (a INT PRIMARY KEY); CREATE TRIGGER new_one BEFORE INSERT ON newcomer FOR EACH ROW SET NEW.a = 1; \
    CREATE VIEW new_view AS SELECT 1 AS one; CREATE FUNCTION new_function() RETURNS INT DETERMINISTIC RETURN 1; \
    CREATE EVENT new_event ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO DELETE FROM log;";
