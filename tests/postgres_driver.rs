//! The PostgreSQL driver on real servers: what comes back is what was saved, whatever way it takes.

use std::num::NonZero;

use crate::support::postgres::{
    DAMAGE, PostgresServer, Run, assert_same, facts, fill, portrait, target,
};
use crate::support::{TestVolume, engine};
use cofferdam::driver::postgres::{GLOBALS, Jobs};
use cofferdam::driver::{Driver, OldDatabase};
use cofferdam::labels::{PostgresLabels, PostgresRestore, Selection, TransferChoice};
use cofferdam::manifest::{Compression, Transfer};

fn labels() -> PostgresLabels {
    PostgresLabels::default()
}

/// A server with a database `clinical` that has a bit of everything.
fn clinical(options: &[&str]) -> PostgresServer {
    let server = PostgresServer::trusting(options);
    fill(&server, "clinical");
    server
}

#[tokio::test]
async fn every_transfer_brings_a_database_back_as_it_was() {
    let engine = engine().await;
    let server = clinical(&["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]);
    let noexec = clinical_with_noexec_scratch();
    for (name, server, labels, transfer, warning) in [
        (
            "tmpfs only",
            &server,
            labels(),
            Transfer::Stream,
            Some("no place for temporary files"),
        ),
        (
            "stream",
            &server,
            PostgresLabels {
                transfer: TransferChoice::Stream,
                ..labels()
            },
            Transfer::Stream,
            None,
        ),
        (
            "agent",
            &server,
            PostgresLabels {
                scratch: Some("/srv".to_owned()),
                ..labels()
            },
            Transfer::Copy,
            None,
        ),
        (
            "no agent",
            &noexec.0,
            PostgresLabels {
                scratch: Some("/scratch".to_owned()),
                ..labels()
            },
            Transfer::Copy,
            Some("the agent cannot run"),
        ),
    ] {
        let before = portrait(server, "clinical");
        let run = Run::new(&engine).await;
        let driver = run.driver(server, &labels).await;
        let target = target(server, "clinical");
        let record = run.dump(&driver, &target).await.unwrap();
        assert_eq!(record.transfer, transfer, "{name}");
        match warning {
            Some(warning) => assert!(
                record.warnings.iter().any(|text| text.contains(warning)),
                "{name}: {:?}",
                record.warnings
            ),
            None => assert!(record.warnings.is_empty(), "{name}: {:?}", record.warnings),
        }
        let facts = facts(&record);
        assert!(
            facts.entries > 20 && facts.size > 1_000_000,
            "{name}: {facts:?}"
        );
        let rows = |table: &str| {
            facts
                .tables
                .iter()
                .find(|found| found.name == table)
                .expect(table)
                .estimated_rows
        };
        assert_eq!(rows("patients"), Some(2000));
        assert!(
            facts
                .tables
                .iter()
                .any(|table| table.schema == "Odd Schema" && table.name == "odd \"table")
        );
        assert_eq!(server.left_behind(&["/srv", "/scratch"]), "", "{name}");

        for restore in [
            PostgresRestore::Swap,
            PostgresRestore::Recreate,
            PostgresRestore::Clean,
        ] {
            server.sql("clinical", DAMAGE);
            if restore == PostgresRestore::Clean {
                // It removes only what the dump holds.
                server.sql("clinical", "DROP TABLE later");
            }
            assert_ne!(portrait(server, "clinical"), before);
            let run = run.next();
            let labels = PostgresLabels {
                restore,
                ..labels.clone()
            };
            let driver = run.driver(server, &labels).await;
            run.restore(&driver, &record).await.unwrap();
            assert_same(
                &portrait(server, "clinical"),
                &before,
                &format!("{name} {restore:?}"),
            );
            assert_eq!(
                server.databases(),
                ["clinical", "postgres"],
                "{name} {restore:?}"
            );
            assert_eq!(
                server.left_behind(&["/srv", "/scratch"]),
                "",
                "{name} {restore:?}"
            );
        }
    }
}

/// A server whose scratch directory takes files but runs no programs.
fn clinical_with_noexec_scratch() -> (PostgresServer, TestVolume) {
    let volume = TestVolume::create(&[
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        "o=noexec,size=256m",
    ]);
    let mount = format!("{}:/scratch", volume.name);
    (clinical(&["-v", &mount]), volume)
}

#[tokio::test]
async fn a_load_gives_the_same_whatever_goes_on_side_by_side() {
    let engine = engine().await;
    let server = clinical(&[]);
    let before = portrait(&server, "clinical");
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let record = run.dump(&driver, &target(&server, "clinical")).await;
    let record = record.unwrap();
    let two = NonZero::new(2).unwrap();
    for jobs in [Jobs::One, Jobs::Indexes(two), Jobs::All(two)] {
        for restore in [PostgresRestore::Swap, PostgresRestore::Recreate] {
            server.sql("clinical", DAMAGE);
            let mut run = run.next();
            run.options.jobs = Some(jobs);
            let labels = PostgresLabels {
                restore,
                ..labels()
            };
            let driver = run.driver(&server, &labels).await;
            run.restore(&driver, &record).await.unwrap();
            let what = format!("{jobs:?} {restore:?}");
            assert_same(&portrait(&server, "clinical"), &before, &what);
            assert_eq!(server.left_behind(&[]), "", "{what}");
        }
    }
}

#[tokio::test]
async fn every_compression_makes_the_round_trip() {
    let engine = engine().await;
    let server = clinical(&[]);
    let before = portrait(&server, "clinical");
    for compression in [
        Compression::None,
        Compression::Gzip(1),
        Compression::Zstd(1),
    ] {
        let mut run = Run::new(&engine).await;
        run.compression = compression;
        let driver = run.driver(&server, &labels()).await;
        let record = run
            .dump(&driver, &target(&server, "clinical"))
            .await
            .unwrap();
        let artifact = &record.artifacts[0];
        assert_eq!(artifact.compression, compression);
        assert_eq!(
            artifact.plain == artifact.stored,
            compression == Compression::None
        );
        server.sql("clinical", DAMAGE);
        run.restore(&driver, &record).await.unwrap();
        assert_same(
            &portrait(&server, "clinical"),
            &before,
            &format!("{compression}"),
        );
    }
}

#[tokio::test]
async fn names_mean_nothing_but_themselves() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    let long = "x".repeat(63);
    let names = [
        "we\"ird 'name",
        "a b",
        "Üñï",
        "dbname=x",
        "-x",
        "postgresql://x",
        "a\\b",
        "$HOME`id`",
        "x.y",
        "UPPER",
        "select",
        &long,
    ];
    for name in names {
        fill(&server, name);
    }
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let targets = driver.targets().await.unwrap().targets;
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    expected.insert(0, GLOBALS.to_owned());
    assert_eq!(
        targets
            .iter()
            .map(|target| target.id.name.clone())
            .collect::<Vec<_>>(),
        expected
    );
    let databases = server.databases();
    for name in names {
        let before = portrait(&server, name);
        let target = target(&server, name);
        let record = run
            .dump(&driver, &target)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        server.sql(name, DAMAGE);
        run.restore(&driver, &record)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_same(&portrait(&server, name), &before, name);
        assert_eq!(server.databases(), databases, "{name}");
    }
}

#[tokio::test]
async fn an_empty_server_gets_everything_back() {
    let engine = engine().await;
    let server = clinical(&[]);
    server.sql(
        "postgres",
        "ALTER ROLE reader PASSWORD 'hunter2'; COMMENT ON ROLE app IS 'a;b -- c'; GRANT app TO reader; CREATE ROLE \"Dr \"\"No\"\"\";",
    );
    let roles = "SELECT rolname, rolpassword, rolcanlogin, shobj_description(oid, 'pg_authid'), \
        (SELECT string_agg(member::regrole::text, ',') FROM pg_auth_members WHERE roleid = pg_authid.oid) \
        FROM pg_authid WHERE rolname !~ '^pg_' AND rolname <> 'postgres' ORDER BY 1";
    let (before, roles_before) = (portrait(&server, "clinical"), server.sql("postgres", roles));
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let globals = run.dump(&driver, &target(&server, GLOBALS)).await.unwrap();
    let clinical = run
        .dump(&driver, &target(&server, "clinical"))
        .await
        .unwrap();
    assert_eq!(globals.warnings, Vec::<String>::new());

    for restore in [
        PostgresRestore::Swap,
        PostgresRestore::Recreate,
        PostgresRestore::Clean,
    ] {
        let empty =
            PostgresServer::start("15", "admin", &["-e", "POSTGRES_HOST_AUTH_METHOD=trust"]);
        let run = run.next();
        let driver = run
            .driver(
                &empty,
                &PostgresLabels {
                    restore,
                    ..labels()
                },
            )
            .await;
        run.restore(&driver, &globals).await.unwrap();
        run.restore(&driver, &clinical).await.unwrap();
        // The dead server's superuser is a role of the dump's too, and owns what it owned.
        assert_same(
            &portrait(&empty, "clinical"),
            &before,
            &format!("{restore:?}"),
        );
        assert_eq!(
            empty.sql(
                "postgres",
                &roles.replace(
                    "rolname <> 'postgres'",
                    "rolname NOT IN ('postgres', 'admin')"
                )
            ),
            roles_before
        );
    }
}

/// The usual way to a new major version.
#[tokio::test]
async fn a_database_with_its_roles_comes_back_on_a_newer_server() {
    let engine = engine().await;
    let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let (old, new) = (
        PostgresServer::start("15", "postgres", &trust),
        PostgresServer::start("17", "postgres", &trust),
    );
    fill(&old, "clinical");
    let mut before = portrait(&old, "clinical");
    // Who owns `public`, and which privileges there are, is another matter in each major version.
    for aspect in ["schemas", "relations"] {
        before.remove(aspect);
    }
    let run = Run::new(&engine).await;
    let driver = run.driver(&old, &labels()).await;
    let mut records = Vec::new();
    for name in [GLOBALS, "clinical"] {
        records.push(run.dump(&driver, &target(&old, name)).await.unwrap());
    }
    for restore in [
        PostgresRestore::Swap,
        PostgresRestore::Recreate,
        PostgresRestore::Clean,
    ] {
        let run = run.next();
        let labels = PostgresLabels {
            restore,
            ..labels()
        };
        let driver = run.driver(&new, &labels).await;
        for record in &records {
            run.restore(&driver, record).await.unwrap();
        }
        assert_same(
            &portrait(&new, "clinical"),
            &before,
            &format!("{restore:?}"),
        );
        assert_eq!(new.databases(), ["clinical", "postgres"]);
        new.sql("clinical", "UPDATE patients SET name = 'overwritten'");
    }
}

#[tokio::test]
async fn roles_that_exist_are_left_alone() {
    let engine = engine().await;
    let server = clinical(&[]);
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let globals = run.dump(&driver, &target(&server, GLOBALS)).await.unwrap();
    server.sql(
        "postgres",
        "ALTER ROLE reader PASSWORD 'changed since' NOLOGIN;",
    );
    let passwords = "SELECT rolname, rolpassword, rolcanlogin FROM pg_authid ORDER BY 1";
    let before = server.sql("postgres", passwords);
    for _ in 0..2 {
        run.restore(&driver, &globals).await.unwrap();
    }
    assert_eq!(server.sql("postgres", passwords), before);
}

#[tokio::test]
async fn a_missing_owner_is_told_with_its_remedy_and_costs_nothing() {
    let engine = engine().await;
    let server = clinical(&[]);
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let record = run
        .dump(&driver, &target(&server, "clinical"))
        .await
        .unwrap();
    let other = PostgresServer::trusting(&[]);
    other.sql("postgres", "CREATE DATABASE clinical");
    other.sql("clinical", "CREATE TABLE precious AS SELECT 42 AS a");
    let driver = run.driver(&other, &labels()).await;
    let error = driver
        .load(&record, &run.source())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"app\" does not exist") && error.contains("@globals"),
        "{error}"
    );
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(other.sql("clinical", "SELECT a FROM precious"), "42");
    assert_eq!(other.databases(), ["clinical", "postgres"]);
    assert_eq!(other.left_behind(&[]), "");
}

#[tokio::test]
async fn the_old_database_serves_until_the_commit_and_can_be_kept() {
    let engine = engine().await;
    let server = clinical(&[]);
    let mut run = Run::new(&engine).await;
    let record = run
        .dump(
            &run.driver(&server, &labels()).await,
            &target(&server, "clinical"),
        )
        .await
        .unwrap();
    server.sql("clinical", DAMAGE);
    run.options.old_database = OldDatabase::Keep;
    let driver = run.driver(&server, &labels()).await;
    driver.load(&record, &run.source()).await.unwrap();
    assert_eq!(
        server.sql("clinical", "SELECT name FROM patients LIMIT 1"),
        "overwritten"
    );
    driver.check(&record).await.unwrap();
    driver.commit(&record.target).await.unwrap();
    assert_eq!(
        server.sql("clinical", "SELECT name FROM patients ORDER BY id LIMIT 1"),
        "patient 1"
    );
    let kept = format!("clinical_before_{}", run.id.short());
    assert_eq!(
        server.databases(),
        ["clinical".to_owned(), kept.clone(), "postgres".to_owned()]
    );
    assert_eq!(
        server.sql(
            "postgres",
            &format!("SELECT datallowconn FROM pg_database WHERE datname = '{kept}'")
        ),
        "f"
    );
    // A closed database is none of the next backup's.
    let names: Vec<String> = driver
        .targets()
        .await
        .unwrap()
        .targets
        .into_iter()
        .map(|target| target.id.name)
        .collect();
    assert_eq!(names, [GLOBALS, "clinical"]);
    // Both ends are idempotent.
    driver.commit(&record.target).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(
        server.sql("clinical", "SELECT name FROM patients ORDER BY id LIMIT 1"),
        "patient 1"
    );
}

#[tokio::test]
async fn maintenance_databases_can_be_restored_too() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    for database in ["postgres", "template1"] {
        server.sql(database, "CREATE TABLE t AS SELECT 1 AS a");
        let run = Run::new(&engine).await;
        let labels = PostgresLabels {
            databases: Selection::Names(vec![database.to_owned()]),
            maintenance_db: database.to_owned(),
            ..labels()
        };
        let driver = run.driver(&server, &labels).await;
        assert_eq!(driver.targets().await.unwrap().targets.len(), 2);
        let before = portrait(&server, database);
        let record = run.dump(&driver, &target(&server, database)).await.unwrap();
        server.sql(database, "UPDATE t SET a = 2");
        for restore in [PostgresRestore::Swap, PostgresRestore::Recreate] {
            let run = run.next();
            let driver = run
                .driver(
                    &server,
                    &PostgresLabels {
                        restore,
                        ..labels.clone()
                    },
                )
                .await;
            run.restore(&driver, &record).await.unwrap();
            assert_same(&portrait(&server, database), &before, database);
        }
    }
}

#[tokio::test]
async fn all_means_what_somebody_made() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels()).await;
    let names = async || -> Vec<String> {
        let targets = driver.targets().await.unwrap().targets;
        targets.into_iter().map(|target| target.id.name).collect()
    };
    assert_eq!(names().await, [GLOBALS]);
    server.sql("postgres", "CREATE DATABASE shut; ");
    server.sql(
        "postgres",
        "ALTER DATABASE shut ALLOW_CONNECTIONS false; CREATE DATABASE b; ",
    );
    server.sql("postgres", "CREATE DATABASE pattern IS_TEMPLATE true");
    assert_eq!(names().await, [GLOBALS, "b"]);
    let left_out = driver.targets().await.unwrap().left_out;
    assert_eq!(left_out.len(), 2, "{left_out:?}");
    assert!(
        left_out[0].contains("pattern is a template"),
        "{left_out:?}"
    );
    assert!(
        left_out[1].contains("shut is closed to connections"),
        "{left_out:?}"
    );
    server.sql("template1", "CREATE TABLE in_every_new_one (a int)");
    let left_out = driver.targets().await.unwrap().left_out;
    assert!(left_out[2].contains("template1"), "{left_out:?}");
    server.sql("template1", "DROP TABLE in_every_new_one");
    server.sql(
        "postgres",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    assert_eq!(names().await, [GLOBALS, "b", "postgres"]);
    server.sql(
        "postgres",
        "CREATE ROLE clerk LOGIN; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
    );
    let clerk = PostgresLabels {
        user: Some("clerk".to_owned()),
        ..labels()
    };
    let found = run.driver(&server, &clerk).await.targets().await.unwrap();
    assert_eq!(found.targets.len(), 2, "{found:?}");
    let mut left_out = found.left_out.iter();
    assert!(
        left_out.any(|told| told.ends_with("GRANT CONNECT ON DATABASE postgres")),
        "{found:?}"
    );
    // An empty database is worth saving: that it is empty is a fact.
    let record = run.dump(&driver, &target(&server, "b")).await.unwrap();
    assert!(facts(&record).tables.is_empty());
    run.restore(&driver, &record).await.unwrap();

    // An extension of this name, which is all that is looked at: Debian does not have the real one.
    server.container.sh(
        "cd /usr/share/postgresql/15/extension; echo \"default_version = '1'\" >timescaledb.control; touch timescaledb--1.sql",
    );
    server.sql("b", "CREATE EXTENSION timescaledb");
    let doubts = driver.doubts(&target(&server, "b")).await.unwrap();
    assert!(doubts[0].contains("mode: basebackup"), "{doubts:?}");
}

#[tokio::test]
async fn excluded_tables_stay_out_and_are_not_missed() {
    let engine = engine().await;
    let server = clinical(&[]);
    let labels = PostgresLabels {
        exclude_tables: ["\"Odd Schema\".*", "Odd Schema.*", "old_patient?"]
            .map(str::to_owned)
            .to_vec(),
        exclude_table_data: ["measures*", "PATIENT_COUNT", "\"Patients\"", "\"a'b\\.c\""]
            .map(str::to_owned)
            .to_vec(),
        ..labels()
    };
    let run = Run::new(&engine).await;
    let driver = run.driver(&server, &labels).await;
    let record = run
        .dump(&driver, &target(&server, "clinical"))
        .await
        .unwrap();
    assert!(
        facts(&record)
            .tables
            .iter()
            .all(|table| table.schema == "public")
    );
    assert_eq!(facts(&record).exclude_tables, labels.exclude_tables);
    assert_eq!(
        record.warnings,
        [
            "`Odd Schema.*` of cofferdam.postgres.exclude-tables matches nothing in database clinical",
            "`\"Patients\"` of cofferdam.postgres.exclude-table-data matches nothing in database clinical",
            "`\"a'b\\.c\"` of cofferdam.postgres.exclude-table-data matches nothing in database clinical",
        ]
    );
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql("clinical", "SELECT count(*) FROM measures"), "0");
    assert_eq!(
        server.sql(
            "clinical",
            "SELECT to_regclass('\"Odd Schema\".\"odd \"\"table\"')"
        ),
        ""
    );
    assert_eq!(
        server.sql("clinical", "SELECT count(*) FROM patients"),
        "2000"
    );
}

#[tokio::test]
#[ignore = "needs the images of all majors"]
async fn every_major_makes_the_round_trip() {
    let engine = engine().await;
    let two = NonZero::new(2).unwrap();
    for major in ["13", "15", "17", "18"] {
        let trust = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
        let server = PostgresServer::start(major, "postgres", &trust);
        fill(&server, "clinical");
        let before = portrait(&server, "clinical");
        let run = Run::new(&engine).await;
        let driver = run.driver(&server, &labels()).await;
        let record = run
            .dump(&driver, &target(&server, "clinical"))
            .await
            .unwrap();
        assert_eq!(record.transfer, Transfer::Copy, "{major}");
        for (restore, jobs) in [
            (PostgresRestore::Swap, Jobs::One),
            (PostgresRestore::Swap, Jobs::Indexes(two)),
            (PostgresRestore::Recreate, Jobs::All(two)),
            (PostgresRestore::Clean, Jobs::One),
        ] {
            let mut run = run.next();
            run.options.jobs = Some(jobs);
            server.sql("clinical", "UPDATE patients SET name = 'overwritten'");
            assert_ne!(portrait(&server, "clinical"), before);
            let labels = PostgresLabels {
                restore,
                ..labels()
            };
            let driver = run.driver(&server, &labels).await;
            run.restore(&driver, &record).await.unwrap();
            assert_eq!(
                portrait(&server, "clinical"),
                before,
                "{major}, {restore:?}, {jobs:?}"
            );
        }
        assert_eq!(server.left_behind(&[]), "", "{major}");
    }
}
