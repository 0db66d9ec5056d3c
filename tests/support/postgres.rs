//! Real PostgreSQL servers for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use cofferdam::driver::postgres::{PostgresDriver, PostgresOptions};
use cofferdam::driver::{Driver, DriverError};
use cofferdam::engine::{Container, Engine};
use cofferdam::labels::PostgresLabels;
use cofferdam::manifest::{Compression, ContainerRecord, Facts, PostgresFacts, TargetRecord};
use cofferdam::pipe::Progress;
use cofferdam::pipe::keys::Identities;
use cofferdam::repository::Repository;
use cofferdam::repository::local::LocalRepository;
use cofferdam::snapshot::{SnapshotReader, SnapshotWriter};
use cofferdam::target::{DriverKind, RunId, TargetId};

use super::{TestContainer, docker_succeeds, program};

pub struct PostgresServer {
    pub container: TestContainer,
    pub user: String,
}

impl PostgresServer {
    /// A server that trusts everybody.
    pub fn trusting(options: &[&str]) -> Self {
        let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
        Self::start("15", "postgres", &[&trust, options].concat())
    }

    /// A server of this version with this superuser, started with more options of `docker run`.
    pub fn start(version: &str, user: &str, options: &[&str]) -> Self {
        Self::start_with(version, user, options, &[])
    }

    pub fn start_with(version: &str, user: &str, options: &[&str], arguments: &[&str]) -> Self {
        let image = format!("cofferdam-test/postgres:{version}");
        assert!(
            docker_succeeds(["image", "inspect", &image]),
            "there is no image {image}: run scripts/test-images.sh postgres:{version}"
        );
        let user_variable = format!("POSTGRES_USER={user}");
        let first = ["-e", &user_variable];
        // A test's data is not worth waiting for a disk.
        let command = [&[image.as_str(), "-c", "fsync=off"], arguments].concat();
        let container = TestContainer::running(&[&first, options].concat(), &command);
        let server = Self {
            container,
            user: user.to_owned(),
        };
        server.wait();
        server
    }

    /// Waits for the server that comes after the initialisation: the first one has process id 1's children only for a while.
    pub fn wait(&self) {
        self.container
            .wait_until("[ \"$(cat /proc/1/comm)\" = postgres ] && pg_isready -q -h 127.0.0.1");
    }

    /// Runs SQL in a database and returns what it printed, without the last newline; panics when it fails.
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
        let environment = format!("PGDATABASE={database}");
        let mut child = Command::new("docker")
            .args(["exec", "-i", "-e", &environment, &self.container.id])
            .args([
                "psql",
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                &self.user,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker program");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(sql.as_bytes()).expect("psql reads");
        drop(stdin);
        child.wait_with_output().expect("psql ends")
    }

    pub fn databases(&self) -> Vec<String> {
        let names = self.sql(
            "template1",
            "SELECT quote_ident(datname) FROM pg_database WHERE datname !~ '^template' ORDER BY 1",
        );
        names.lines().map(str::to_owned).collect()
    }

    /// What lies in the usual places for temporary files, and in those that a test names.
    pub fn left_behind(&self, more: &[&str]) -> String {
        let places = [&["/tmp", "/var/tmp"], more].concat().join(" ");
        self.container.sh(&format!(
            "find {places} -name '.cofferdam*' 2>/dev/null || true"
        ))
    }

    pub async fn inspect(&self, engine: &Engine) -> Container {
        engine
            .inspect(&self.container.id)
            .await
            .expect("the container is there")
    }
}

/// A run of cofferdam's as far as the driver is concerned, with a repository of its own.
pub struct Run {
    pub engine: Engine,
    pub repository: Arc<dyn Repository>,
    pub id: RunId,
    pub options: PostgresOptions,
    pub compression: Compression,
    _directory: Arc<tempfile::TempDir>,
}

impl Run {
    pub async fn new(engine: &Engine) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = LocalRepository::new(directory.path().join("repository"));
        repository.prepare().await.expect("a new repository");
        Self {
            engine: engine.clone(),
            repository: Arc::new(repository),
            id: RunId::generate(jiff::Timestamp::now()),
            options: PostgresOptions {
                program: PathBuf::from(program()),
                ..PostgresOptions::default()
            },
            compression: Compression::DEFAULT,
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
            compression: self.compression,
            _directory: self._directory.clone(),
        }
    }

    pub async fn driver(&self, server: &PostgresServer, labels: &PostgresLabels) -> PostgresDriver {
        PostgresDriver::new(
            self.engine.clone(),
            server.inspect(&self.engine).await,
            labels.clone(),
            self.id.clone(),
            self.options.clone(),
        )
    }

    pub async fn dump(
        &self,
        driver: &PostgresDriver,
        target: &TargetId,
    ) -> Result<TargetRecord, DriverError> {
        let writer = SnapshotWriter::new(
            self.repository.clone(),
            "test",
            self.id.clone(),
            self.compression,
            None,
        );
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

    pub fn source(&self) -> SnapshotReader {
        SnapshotReader::new(
            self.repository.clone(),
            Identities::default(),
            Progress::silent(),
        )
    }

    /// Load, check, and the decision for the new data.
    pub async fn restore(
        &self,
        driver: &PostgresDriver,
        record: &TargetRecord,
    ) -> Result<(), DriverError> {
        driver.load(record, &self.source()).await?;
        driver.check(record).await?;
        driver.commit(&record.target).await
    }
}

/// The target of a database; the service of a plain container is its name.
pub fn target(server: &PostgresServer, database: &str) -> TargetId {
    TargetId::new(&server.container.name, DriverKind::Postgres, database)
}

pub fn facts(record: &TargetRecord) -> &PostgresFacts {
    match &record.facts {
        Facts::Postgres(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// Rows of every table, settings, owners and grants of a database: what a restore has to bring back.
pub fn portrait(server: &PostgresServer, database: &str) -> BTreeMap<&'static str, String> {
    let of = |sql: &str| server.sql(database, sql);
    BTreeMap::from([
        (
            "database",
            of(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, \
                datistemplate, datallowconn, (SELECT array_agg(item::text ORDER BY item::text) FROM unnest(datacl) item), shobj_description(oid, 'pg_database') \
                FROM pg_database WHERE datname = current_database()",
            ),
        ),
        (
            "settings",
            of(
                "SELECT coalesce(pg_get_userbyid(nullif(setrole, 0)), '-'), setting FROM pg_db_role_setting, unnest(setconfig) setting \
                WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2",
            ),
        ),
        (
            "relations",
            of(
                "SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), (SELECT array_agg(item::text ORDER BY item::text) FROM unnest(c.relacl) item) FROM pg_class c \
                JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
            ),
        ),
        (
            "schemas",
            of(
                "SELECT nspname, pg_get_userbyid(nspowner), (SELECT array_agg(item::text ORDER BY item::text) FROM unnest(nspacl) item) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
            ),
        ),
        (
            "constraints",
            of(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0 AND oid >= 16384 ORDER BY 1, 2",
            ),
        ),
        (
            "functions",
            of("SELECT proname, prosrc FROM pg_proc WHERE oid >= 16384 ORDER BY 1"),
        ),
        (
            "extensions",
            of("SELECT extname FROM pg_extension ORDER BY 1"),
        ),
        (
            "large objects",
            of(
                "SELECT pg_get_userbyid(lomowner), md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 2",
            ),
        ),
        (
            "rows",
            of(
                "SELECT table_schema, table_name, md5(query_to_xml(format('SELECT * FROM %I.%I AS t ORDER BY t::text', table_schema, table_name), true, false, '')::text) \
                FROM information_schema.tables WHERE table_schema !~ '^pg_' AND table_schema <> 'information_schema' ORDER BY 1, 2",
            ),
        ),
    ])
}

/// Fails with what differs first.
pub fn assert_same(
    found: &BTreeMap<&'static str, String>,
    expected: &BTreeMap<&'static str, String>,
    what: &str,
) {
    for (aspect, expected) in expected {
        assert_eq!(&found[aspect], expected, "{aspect} of {what}");
    }
}

/// A database with a bit of everything. Needs the roles `app`, `reader`.
pub const EVERYTHING: &str = r#"
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE SCHEMA "Odd Schema" AUTHORIZATION app;
CREATE TABLE patients (id serial PRIMARY KEY, name text NOT NULL, born date, notes text);
INSERT INTO patients (name, born, notes) SELECT 'patient ' || n, date '1950-01-01' + n, md5(n::text) || E'\n\t\\ "quoted" ''x''' FROM generate_series(1, 2000) n;
CREATE TABLE "Odd Schema"."odd ""table" (patient int REFERENCES patients, "Value" double precision);
ALTER TABLE "Odd Schema"."odd ""table" OWNER TO app;
INSERT INTO "Odd Schema"."odd ""table" SELECT n, n * 1.5 FROM generate_series(1, 500) n;
CREATE TABLE empty_one (a int);
CREATE TABLE measures (day date, value int) PARTITION BY RANGE (day);
CREATE TABLE measures_2026 PARTITION OF measures FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO measures SELECT date '2026-01-01' + n % 365, n FROM generate_series(1, 1000) n;
CREATE INDEX ON patients (born);
CREATE VIEW old_patients AS SELECT * FROM patients WHERE born < '1952-01-01';
CREATE MATERIALIZED VIEW patient_count AS SELECT count(*) FROM patients;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $fn$ BEGIN NEW.notes := 'a;b'; RETURN NEW; END $fn$;
CREATE TRIGGER touch BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION touch();
GRANT SELECT ON patients TO reader;
GRANT USAGE ON SCHEMA "Odd Schema" TO reader;
SELECT lo_from_bytea(0, '\xdeadbeef');
ANALYZE;
"#;

/// Makes a database with a bit of everything, and the roles that it needs.
pub fn fill(server: &PostgresServer, database: &str) {
    let name = format!("\"{}\"", database.replace('"', "\"\""));
    server.sql(
        "postgres",
        &format!(
            "DO $$ BEGIN CREATE ROLE app; CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             CREATE DATABASE {name} OWNER app TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';"
        ),
    );
    server.sql(
        "postgres",
        &format!(
            "ALTER DATABASE {name} SET work_mem TO '5MB'; ALTER DATABASE {name} SET search_path TO public, \"Odd Schema\";
             ALTER ROLE reader IN DATABASE {name} SET work_mem TO '6MB'; ALTER DATABASE {name} CONNECTION LIMIT 50;
             COMMENT ON DATABASE {name} IS 'DATABASE {database}'; REVOKE ALL ON DATABASE {name} FROM public;
             GRANT CONNECT ON DATABASE {name} TO reader;"
        )
        .replace(&format!("'DATABASE {database}'"), "'DATABASE \"x\"; DROP'"),
    );
    server.sql(database, EVERYTHING);
}

/// What a restore has to undo.
pub const DAMAGE: &str = "UPDATE patients SET name = 'overwritten'; DROP VIEW old_patients; CREATE TABLE later (a int); \
    DROP TABLE \"Odd Schema\".\"odd \"\"table\";";
