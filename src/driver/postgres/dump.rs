//! Taking a database out.
//!
//! `pg_dump` in its custom format, not compressed inside, so that the stream is compressed once and on all cores. Three
//! ways out, see [`crate::driver::postgres`]; on each the dump counts only when `pg_dump` has ended with 0, `pg_restore
//! --list` has read its table of contents, all of the data that this names has followed, and what arrived has the length and the digest that were sent.

use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::PostgresDriver;
use super::bound::bound_to_name;
use super::contents::Contents;
use super::patterns;
use super::server::Server;
use super::session::SEARCH_PATH;
use super::sql::connection_string;
use super::tee::tee;
use super::watch::Watch;
use crate::agent::inside::{Hands, Visit, VisitError};
use crate::agent::job::{DumpJob, Feed, Form, LoadJob, Place, Stored};
use crate::driver::{Captured, DriverError};
use crate::engine::ExecOutput;
use crate::labels::{PostgresLabels, TransferChoice};
use crate::manifest::{
    Artifact, Compression, Facts, PostgresFacts, Role, StreamDigest, TableFacts, Transfer,
};
use crate::pipe::archive::{ArchiveHandle, Watched};
use crate::snapshot::{ArtifactSink, NewArtifact};

/// How long a table may be locked by someone else before the dump gives up. Meanwhile the dump's own locks are in the way
/// of those who want to change tables, and they in the way of everybody else.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(600);
/// How long `pg_dump` may print nothing: it reads the catalogs of a hundred thousand tables first.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

const DUMP_FILE: &str = "dump";
const LIST_FILE: &str = "list";

/// Saves one database.
pub(super) async fn dump_database(
    driver: &PostgresDriver,
    server: &Server,
    database: &str,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    let labels = driver.labels();
    let observed = observe(server, database).await?;
    let bound_to_name = bound_to_name(server, database).await?;
    let mut warnings = patterns::idle(server, database, labels).await?;
    let client = pg_dump(labels, database);
    let (transfer, taken) = match labels.transfer {
        TransferChoice::Stream => (
            Transfer::Stream,
            stream(server, driver.watch(server), client, sink).await?,
        ),
        TransferChoice::Copy => match Visit::begin(driver.visitor(server)).await {
            Ok(visit) => {
                let watch = driver.watch(server);
                let taken = copy(server, &visit, watch, client, sink, &mut warnings).await;
                if let Err(left) = visit.end().await {
                    warnings.push(left.to_string());
                }
                (Transfer::Copy, taken?)
            }
            Err(error @ VisitError::NoPlace { .. }) => {
                warnings.push(format!(
                    "{error}; the dump was streamed instead, which is slower"
                ));
                (
                    Transfer::Stream,
                    stream(server, driver.watch(server), client, sink).await?,
                )
            }
            Err(error) => return Err(server.clients().visit_error(error)),
        },
    };
    let tables = observed
        .tables
        .into_iter()
        .filter(|table| taken.contents.tables.contains(&table.oid))
        .map(Table::into_facts)
        .collect();
    Ok(Captured {
        transfer,
        facts: Facts::Postgres(PostgresFacts {
            server_version: server.facts.version.clone(),
            database: database.to_owned(),
            databases: Vec::new(),
            size: observed.size,
            search_path: observed.search_path,
            entries: taken.contents.entries,
            bound_to_name,
            tables,
            exclude_tables: labels.exclude_tables.clone(),
            exclude_table_data: labels.exclude_table_data.clone(),
        }),
        artifacts: vec![taken.artifact],
        warnings: warnings.into_iter().chain(taken.warnings).collect(),
    })
}

fn pg_dump(labels: &PostgresLabels, database: &str) -> Vec<String> {
    let mut argv = [
        "pg_dump",
        "--no-password",
        "--format=custom",
        "--compress=0",
    ]
    .map(str::to_owned)
    .to_vec();
    argv.push(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()));
    let patterns = |option: &str, patterns: &[String]| -> Vec<String> {
        patterns
            .iter()
            .map(|pattern| format!("--{option}={pattern}"))
            .collect()
    };
    argv.extend(patterns("exclude-table", &labels.exclude_tables));
    argv.extend(patterns("exclude-table-data", &labels.exclude_table_data));
    argv.push(format!("--dbname={}", connection_string(database)));
    argv
}

fn pg_restore_list() -> Vec<String> {
    ["pg_restore", "--list"].map(str::to_owned).to_vec()
}

/// What the server says of a database just before it is dumped.
#[derive(Deserialize)]
struct Observed {
    size: u64,
    search_path: String,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
struct Table {
    oid: u32,
    schema: String,
    name: String,
    rows: f64,
    pages: i64,
    bytes: u64,
}

impl Table {
    fn into_facts(self) -> TableFacts {
        // Before PostgreSQL 14 a table that was never looked at had 0 rows in 0 pages; since then it has -1.
        let is_known = self.rows > 0.0 || (self.rows == 0.0 && self.pages > 0);
        TableFacts {
            schema: self.schema,
            name: self.name,
            estimated_rows: is_known.then_some(self.rows as u64),
            bytes: self.bytes,
        }
    }
}

/// Takes no lock on any table: a locked one is `pg_dump`'s to wait for.
const OBSERVE: &str = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS size, \
    (SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(found)), '[]') FROM ( \
        SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, \
            c.reltuples::float8 AS rows, c.relpages AS pages, \
            (greatest(c.relpages, 0) + coalesce(toast.relpages, 0))::bigint \
                * pg_catalog.current_setting('block_size')::bigint AS bytes \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid \
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
            AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
        ORDER BY n.nspname, c.relname) AS found) AS tables";

async fn observe(server: &Server, database: &str) -> Result<Observed, DriverError> {
    let query = format!("{OBSERVE}, ({SEARCH_PATH}) AS search_path");
    let mut rows: Vec<Observed> = server.query(database, &query).await?;
    rows.pop()
        .ok_or_else(|| DriverError::failed("the server returned nothing about the database"))
}

/// A dump that has arrived and was looked into.
struct Taken {
    artifact: Artifact,
    contents: Contents,
    warnings: Vec<String>,
}

fn new_artifact(compression: Compression) -> NewArtifact {
    NewArtifact {
        role: Role::Dump,
        extension: "dump",
        compression,
    }
}

async fn copy(
    server: &Server,
    visit: &Visit,
    watch: Watch,
    client: Vec<String>,
    sink: &dyn ArtifactSink,
    warnings: &mut Vec<String>,
) -> Result<Taken, DriverError> {
    match visit.hands() {
        Hands::Agent(_) => {
            watch.dismiss();
            by_agent(server, visit, client, sink).await
        }
        Hands::Clients { why } => {
            warnings.push(format!(
                "the agent cannot run in container {}, so the dump was compressed outside: {why}",
                server.container().name
            ));
            by_file(server, visit, watch, client, sink).await
        }
    }
}

/// The agent runs `pg_dump`, compresses, and says what the file has to be like when it arrives.
async fn by_agent(
    server: &Server,
    visit: &Visit,
    client: Vec<String>,
    sink: &dyn ArtifactSink,
) -> Result<Taken, DriverError> {
    let failed = |error| server.clients().visit_error(error);
    let compression = sink.compression();
    let path = visit.path(DUMP_FILE);
    let job = DumpJob {
        client,
        output: path.clone(),
        compression,
        idle_limit_seconds: IDLE.as_secs(),
        form: Form::PostgresArchive,
        relay: None,
    };
    let environment = server.environment();
    let dumped = visit.dump(&job, environment).await.map_err(failed)?;
    let list = LoadJob {
        client: pg_restore_list(),
        feed: Feed::Beginning {
            input: Stored {
                place: Place::File { path },
                compression,
                plain: dumped.plain.clone(),
                stored_bytes: dumped.stored.bytes,
                beginning: None,
            },
            keep: None,
        },
        patch: None,
        stdout: Some(visit.path(LIST_FILE)),
    };
    visit.load(&list, environment).await.map_err(failed)?;
    let (_, list) = visit.get(LIST_FILE).await.map_err(failed)?;
    let contents = Contents::read(list)
        .await
        .map_err(|error| server.clients().body_error(error))?;

    let artifact = server
        .clients()
        .bring_out(visit, DUMP_FILE, &dumped, new_artifact, sink)
        .await?;
    Ok(Taken {
        artifact,
        contents,
        warnings: server.clients().said("pg_dump", &dumped.stderr),
    })
}

/// `pg_dump` writes a file, which is compressed once it is out.
async fn by_file(
    server: &Server,
    visit: &Visit,
    watch: Watch,
    mut client: Vec<String>,
    sink: &dyn ArtifactSink,
) -> Result<Taken, DriverError> {
    let path = visit.path(DUMP_FILE);
    client.push(format!("--file={path}"));
    let dumped = server
        .run(client, watch.mark(server.environment().clone()))
        .await
        .map_err(|error| match error.to_string() {
            words if words.contains("No space left") => server.clients().no_room(&path),
            _ => error,
        })?;
    let list = [pg_restore_list(), vec![path]].concat();
    watch.dismiss();
    let listed = server.run(list, server.environment().clone()).await?;
    let contents = contents_of(listed).await?;

    let (bytes, body) = visit
        .get(DUMP_FILE)
        .await
        .map_err(|error| server.clients().visit_error(error))?;
    let clients = server.clients();
    let (body, archive) = Watched::new(body);
    let body = Box::pin(body);
    let artifact = clients.store_compressed(new_artifact, body, sink).await?;
    ensure_whole(&archive)?;
    if artifact.plain.bytes != bytes {
        let expected = StreamDigest {
            bytes,
            ..artifact.plain.clone()
        };
        return Err(DriverError::Damaged {
            what: "the dump".to_owned(),
            expected,
            found: artifact.plain,
        });
    }
    Ok(Taken {
        artifact,
        contents,
        warnings: server.clients().said("pg_dump", &dumped.last_words()),
    })
}

/// `pg_dump` writes to standard output. `pg_restore --list` looks on while the beginning passes.
async fn stream(
    server: &Server,
    watch: Watch,
    client: Vec<String>,
    sink: &dyn ArtifactSink,
) -> Result<Taken, DriverError> {
    let clients = server.clients();
    let spec = clients.spec(client, watch.mark(server.environment().clone()));
    let body = clients
        .engine
        .exec_stream(&clients.container.id, &spec, IDLE)
        .await
        .map_err(|error| clients.engine_error(error))?;
    let (body, archive) = Watched::new(body);
    let (body, beginning) = tee(Box::pin(body));
    let list = clients.spec(pg_restore_list(), server.environment().clone());
    let (stored, listed) = tokio::join!(
        clients.store_compressed(new_artifact, body, sink),
        clients.exec_with_input(&list, beginning)
    );
    // A dump that broke off is no list either; the first reason counts.
    let artifact = stored?;
    watch.dismiss();
    let listed = listed?;
    clients.ensure_success("pg_restore", &listed)?;
    ensure_whole(&archive)?;
    Ok(Taken {
        artifact,
        contents: contents_of(listed).await?,
        warnings: Vec::new(),
    })
}

/// A client may end with 0, and something between it and us have cut what it wrote.
fn ensure_whole(archive: &ArchiveHandle) -> Result<(), DriverError> {
    let finished = archive.finish();
    finished.map_err(|flaw| DriverError::failed(format!("the dump is not complete: {flaw}")))
}

async fn contents_of(listed: ExecOutput) -> Result<Contents, DriverError> {
    if listed.truncated {
        return Err(DriverError::failed_with_hint(
            "the dump's table of contents is too long to send through the engine's exec",
            "set cofferdam.postgres.transfer: copy, and set cofferdam.postgres.scratch to a directory where programs can run",
        ));
    }
    Contents::read(Box::pin(io::Cursor::new(listed.stdout)))
        .await
        .map_err(|error| {
            DriverError::failed(format!(
                "the dump's table of contents cannot be read: {error}"
            ))
        })
}
