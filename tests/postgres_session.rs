//! Databases that load only in sessions like those of their users.

use std::num::NonZero;

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run, assert_same, facts, portrait, target};
use cofferdam::driver::Driver;
use cofferdam::driver::postgres::{CLUSTER, Jobs};
use cofferdam::labels::{PostgresLabels, PostgresMode, PostgresRestore, TransferChoice};

/// What users write without thinking of schemas, wherever the server runs it while a dump is loaded.
const UNQUALIFIED: &str = r#"
CREATE SCHEMA geo; CREATE EXTENSION cube SCHEMA geo; CREATE EXTENSION earthdistance SCHEMA geo;
CREATE SCHEMA app AUTHORIZATION app; CREATE SCHEMA "role's";
CREATE FUNCTION app.norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(trim(t))';
CREATE FUNCTION "role's".depth() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 7';
CREATE FUNCTION app.slug(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN replace(norm(t), ' ', '-'); END$$;
CREATE FUNCTION app.deep(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN n + depth(); END$$;
CREATE TABLE app.places (id int PRIMARY KEY, lat float8, lon float8,
    at geo.earth GENERATED ALWAYS AS (geo.ll_to_earth(lat, lon)) STORED);
CREATE INDEX ON app.places USING gist (at);
INSERT INTO app.places SELECT n, n, 10.5 FROM generate_series(1, 50) n;
CREATE TABLE app.pages (id int PRIMARY KEY, title text CHECK (app.slug(title) <> ''));
INSERT INTO app.pages VALUES (1, 'Hello World'), (2, 'SELECT pg_catalog.set_config(''search_path'', '''', false);');
CREATE INDEX ON app.pages (app.slug(title));
CREATE DOMAIN app.slugged AS text CHECK (app.slug(VALUE) = VALUE);
CREATE TABLE app.tags (tag app.slugged, depth int GENERATED ALWAYS AS (app.deep(length(id::text))) STORED, id int);
INSERT INTO app.tags VALUES ('a-b', DEFAULT, 1);
CREATE MATERIALIZED VIEW app.titles AS SELECT app.slug(title) AS slug FROM app.pages;
CREATE MATERIALIZED VIEW app.unfilled AS SELECT app.slug(title) AS slug FROM app.pages WITH NO DATA;
"#;

fn make(server: &PostgresServer) {
    server.sql(
        "postgres",
        r#"CREATE ROLE app; CREATE DATABASE shop OWNER app; ALTER DATABASE shop SET search_path TO app, public;
           ALTER ROLE app IN DATABASE shop SET search_path TO app, "role's""#,
    );
    let sql = format!("SET search_path TO app, geo, \"role's\", public; {UNQUALIFIED}");
    server.sql("shop", &sql);
}

#[tokio::test]
async fn what_needs_the_search_path_comes_back_by_every_way() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    make(&server);
    let before = portrait(&server, "shop");
    let two = NonZero::new(2).unwrap();
    let run = Run::new(&engine).await;
    let copy = PostgresLabels::default();
    let driver = run.driver(&server, &copy).await;
    let target = target(&server, "shop");
    let record = run.dump(&driver, &target).await.unwrap();
    assert_eq!(
        facts(&record).search_path,
        r#"app, "role's", app, public, app, geo"#
    );
    let stream = PostgresLabels {
        transfer: TransferChoice::Stream,
        ..copy.clone()
    };
    use PostgresRestore::{Clean, Recreate, Swap};
    for (labels, jobs, restore) in [
        (&copy, None, Swap),
        (&copy, Some(Jobs::All(two)), Swap),
        (&copy, Some(Jobs::Indexes(two)), Swap),
        (&copy, None, Recreate),
        (&copy, None, Clean),
        (&stream, None, Swap),
        (&stream, None, Clean),
    ] {
        let labels = PostgresLabels {
            restore,
            ..labels.clone()
        };
        let mut run = run.next();
        run.options.jobs = jobs;
        let driver = run.driver(&server, &labels).await;
        server.sql("shop", "DELETE FROM app.pages; DELETE FROM app.places");
        run.restore(&driver, &record)
            .await
            .unwrap_or_else(|error| panic!("{labels:?}, {jobs:?}: {error}"));
        let what = format!("{labels:?}, {jobs:?}");
        assert_same(&portrait(&server, "shop"), &before, &what);
        assert_eq!(server.databases(), ["postgres", "shop"], "{what}");
    }
}

#[tokio::test]
async fn a_whole_server_gets_the_search_path_of_each_database() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    make(&server);
    let before = portrait(&server, "shop");
    let run = Run::new(&engine).await;
    let labels = PostgresLabels {
        mode: PostgresMode::Dumpall,
        ..PostgresLabels::default()
    };
    let driver = run.driver(&server, &labels).await;
    let cluster = target(&server, CLUSTER);
    let record = run.dump(&driver, &cluster).await.unwrap();
    server.sql("shop", "DELETE FROM app.pages; DELETE FROM app.places");
    run.restore(&driver, &record).await.unwrap();
    assert_same(&portrait(&server, "shop"), &before, "the shop");
}

/// A constraint that looks into another table holds for the rows that are there, and cannot be loaded in any session.
#[tokio::test]
async fn what_loads_in_no_session_is_told_once_and_changes_nothing() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE zones (name text); INSERT INTO zones VALUES ('north');
         CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.zones WHERE name = $1)';
         CREATE TABLE goods (zone text CHECK (known(zone))); INSERT INTO goods VALUES ('north')",
    );
    let before = portrait(&server, "shop");
    let run = Run::new(&engine).await;
    let target = target(&server, "shop");
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    let record = run.dump(&driver, &target).await.unwrap();
    for restore in [PostgresRestore::Swap, PostgresRestore::Clean] {
        let labels = PostgresLabels {
            restore,
            ..PostgresLabels::default()
        };
        let driver = run.driver(&server, &labels).await;
        let error = driver.load(&record, &run.source()).await.unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("goods_zone_check") && words.contains("search_path did not help"),
            "{words}"
        );
        driver.rollback(&target).await.unwrap();
        assert_same(&portrait(&server, "shop"), &before, "the shop");
        assert_eq!(server.databases(), ["postgres", "shop"]);
    }
}
