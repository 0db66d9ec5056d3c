//! A server in a container, and how its own clients are run there.
//!
//! Queries answer in JSON, so that no name can break out of its field. Passwords go by environment, names by quoting.

use std::io::Cursor;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::debug;

use super::credentials::Credentials;
use super::sql::{connection_string, quote_literal};
use super::trouble::Trouble;
use crate::agent::inside::ClientEnvironment;
use crate::driver::DriverError;
use crate::engine::{Container, Engine, ExecOutput, ExecSpec};
use crate::labels::PostgresLabels;

/// How long a server that is starting up, or shutting down for a restart, is waited for.
const STARTING_LIMIT: Duration = Duration::from_secs(30);
const STARTING_PAUSE: Duration = Duration::from_millis(500);
/// For queries of catalogs.
const QUERY_LIMIT: Duration = Duration::from_secs(300);
/// For what makes, renames or drops whole databases: it may have to wait for a checkpoint of a busy server.
const ORDER_LIMIT: Duration = Duration::from_secs(3600);

/// Settings of the sessions of all clients, over what roles and databases set: a database whose sessions are read-only
/// by default has to be restored too.
const SESSION_OPTIONS: &str = "-c default_transaction_read_only=off";
/// Where only what is committed last has to be safe on disk, which makes everything before it safe too.
const LOADING_OPTIONS: &str = "-c default_transaction_read_only=off -c synchronous_commit=off";

#[derive(Clone)]
pub struct Server {
    engine: Engine,
    container: Container,
    exec_user: Option<String>,
    environment: ClientEnvironment,
    maintenance_db: String,
    /// What the server knows our sessions by.
    application: String,
    pub facts: ServerFacts,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ServerFacts {
    /// `150008` for 15.8.
    pub number: u32,
    /// As the server prints it.
    pub version: String,
    pub superuser: bool,
    pub user: String,
}

impl ServerFacts {
    pub fn major(&self) -> u32 {
        self.number / 10_000
    }
}

/// A database as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Database {
    pub name: String,
    pub allows_connections: bool,
    pub is_template: bool,
}

impl Server {
    /// Logs in to the server in `container`, waiting for a while when it is only just starting. The server knows our
    /// sessions by `application`.
    pub async fn connect(
        engine: &Engine,
        container: &Container,
        labels: &PostgresLabels,
        application: String,
    ) -> Result<Self, DriverError> {
        if !container.is_running() {
            return Err(DriverError::failed_with_hint(
                format!("container {} is not running", container.name),
                "start it: its database is saved and restored by its own server",
            ));
        }
        let credentials = Credentials::find(engine, container, labels).await?;
        let mut server = Self {
            engine: engine.clone(),
            container: container.clone(),
            exec_user: labels.exec_user.clone(),
            environment: environment(&credentials, labels, &application),
            maintenance_db: labels.maintenance_db.clone(),
            application,
            facts: ServerFacts {
                number: 0,
                version: String::new(),
                superuser: false,
                user: credentials.user,
            },
        };
        server.log_in().await?;
        Ok(server)
    }

    /// Tries the local socket first, as the official image's clients do, then the loopback address.
    async fn log_in(&mut self) -> Result<(), DriverError> {
        let deadline = Instant::now() + STARTING_LIMIT;
        let may_choose_host = !self.container.env.contains_key("PGHOST");
        let maintenance_db = self.maintenance_db.clone();
        loop {
            let output = self.psql(&maintenance_db, &[FACTS], QUERY_LIMIT).await?;
            if output.exit_code == 0 {
                self.facts = parse(&output.stdout)?;
                return Ok(());
            }
            let words = output.last_words();
            let trouble = Trouble::of(&words);
            if trouble == Some(Trouble::Unreachable) && may_choose_host && self.switch_host() {
                debug!(
                    container = self.container.name,
                    "no answer at this address; trying the other"
                );
            } else if !trouble.is_some_and(Trouble::may_pass) || Instant::now() >= deadline {
                return Err(self.client_error("psql", output.exit_code, &words));
            }
            tokio::time::sleep(STARTING_PAUSE).await;
        }
    }

    /// From the socket to the loopback address and back; whether this was the way there.
    fn switch_host(&mut self) -> bool {
        let variables = &mut self.environment.plain;
        let before = variables.len();
        variables.retain(|(name, _)| name != "PGHOST");
        let to_loopback = variables.len() == before;
        if to_loopback {
            variables.push(("PGHOST".to_owned(), "127.0.0.1".to_owned()));
        }
        to_loopback
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn container(&self) -> &Container {
        &self.container
    }

    pub fn environment(&self) -> &ClientEnvironment {
        &self.environment
    }

    /// For clients that write whole databases.
    pub fn loading_environment(&self) -> ClientEnvironment {
        let mut environment = self.environment.clone();
        for (name, value) in &mut environment.plain {
            if name == "PGOPTIONS" {
                LOADING_OPTIONS.clone_into(value);
            }
        }
        environment
    }

    pub fn exec_user(&self) -> Option<&str> {
        self.exec_user.as_deref()
    }

    /// A client of the server's, with this environment.
    pub fn spec(&self, argv: Vec<String>, environment: ClientEnvironment) -> ExecSpec {
        ExecSpec {
            env: environment.plain,
            secret_env: environment.secret,
            user: self.exec_user.clone(),
            ..ExecSpec::new(argv)
        }
    }

    /// A database to give orders from that concern `database`: nobody may rename or drop the one they are in.
    pub fn seat_beside(&self, database: &str) -> String {
        match (self.maintenance_db == database, database) {
            (false, _) => self.maintenance_db.clone(),
            (true, "template1") => "postgres".to_owned(),
            (true, _) => "template1".to_owned(),
        }
    }

    pub fn maintenance_db(&self) -> &str {
        &self.maintenance_db
    }

    /// The rows of a query, each as a JSON object of its columns.
    pub async fn query<T: DeserializeOwned>(
        &self,
        database: &str,
        query: &str,
    ) -> Result<Vec<T>, DriverError> {
        self.query_after(database, &[], query).await
    }

    /// The same, after orders that print nothing.
    async fn query_after<T: DeserializeOwned>(
        &self,
        database: &str,
        orders: &[&str],
        query: &str,
    ) -> Result<Vec<T>, DriverError> {
        let query = format!(
            "SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(answer)), '[]') FROM ({query}) AS answer"
        );
        let orders = [orders, &[query.as_str()]].concat();
        let output = self.psql(database, &orders, QUERY_LIMIT).await?;
        self.ensure_success("psql", &output)?;
        if output.truncated {
            return Err(DriverError::failed("the server's answer is too long"));
        }
        parse(&output.stdout)
    }

    /// Gives orders one after the other, each in a transaction of its own, and stops at the first that fails.
    pub async fn execute(&self, database: &str, orders: &[&str]) -> Result<(), DriverError> {
        let output = self.psql(database, orders, ORDER_LIMIT).await?;
        self.ensure_success("psql", &output)
    }

    /// Like [`Server::execute`], but an order that is refused is `Ok(Err(words))`.
    pub async fn try_execute(
        &self,
        database: &str,
        orders: &[&str],
    ) -> Result<Result<(), String>, DriverError> {
        let output = self.psql(database, orders, ORDER_LIMIT).await?;
        Ok(match output.exit_code {
            0 => Ok(()),
            _ => Err(output.last_words()),
        })
    }

    /// Runs a script. It may hold secrets (password hashes): it goes by standard input.
    pub async fn run_script(
        &self,
        database: &str,
        script: Vec<u8>,
        transaction: Transaction,
    ) -> Result<(), DriverError> {
        let mut argv = psql_argv(database);
        if transaction == Transaction::One {
            argv.push("--single-transaction".to_owned());
        }
        argv.extend(["-f", "-"].map(str::to_owned));
        let mut spec = self.spec(argv, utf8(self.environment.clone()));
        spec.limit = Some(ORDER_LIMIT);
        let mut script = script;
        // Some proxies do not carry the end of an input.
        script.extend_from_slice(b"\n\\quit\n");
        let output = self
            .engine
            .exec_with_input(&self.container.id, &spec, Box::pin(Cursor::new(script)))
            .await
            .map_err(|error| self.engine_error(error))?;
        self.ensure_success("psql", &output)
    }

    /// All databases, in the order of their names.
    pub async fn databases(&self, seat: &str) -> Result<Vec<Database>, DriverError> {
        self.query(seat, DATABASES).await
    }

    /// The same, once every other session of this run has been ended: a client whose exec was given up goes on by itself,
    /// and would change things under our hands.
    pub async fn databases_undisturbed(&self, seat: &str) -> Result<Vec<Database>, DriverError> {
        let end = end_sessions(&self.application);
        self.query_after(seat, &[&end], DATABASES).await
    }

    /// A name for the sessions of one step.
    pub fn application_of_step(&self) -> String {
        let digits: u32 = rand::random();
        format!("{}-{digits:08x}", self.application)
    }

    async fn psql(
        &self,
        database: &str,
        orders: &[&str],
        limit: Duration,
    ) -> Result<ExecOutput, DriverError> {
        let mut argv = psql_argv(database);
        for order in orders {
            argv.extend(["-c".to_owned(), (*order).to_owned()]);
        }
        let mut spec = self.spec(argv, utf8(self.environment.clone()));
        spec.limit = Some(limit);
        self.engine
            .exec(&self.container.id, &spec)
            .await
            .map_err(|error| self.engine_error(error))
    }

    /// Runs a client to its good end, however long it takes.
    pub async fn run(
        &self,
        argv: Vec<String>,
        environment: ClientEnvironment,
    ) -> Result<ExecOutput, DriverError> {
        let spec = self.spec(argv, environment);
        let output = self
            .engine
            .exec(&self.container.id, &spec)
            .await
            .map_err(|error| self.engine_error(error))?;
        self.ensure_success(spec.program(), &output)?;
        Ok(output)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// All or nothing.
    One,
    /// Each statement by itself, for those that allow nothing else.
    Each,
}

const FACTS: &str = "SELECT pg_catalog.row_to_json(answer) FROM (SELECT \
    pg_catalog.current_setting('server_version_num')::int AS number, \
    pg_catalog.current_setting('server_version') AS version, \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser, \
    current_user::text AS user) AS answer";

const DATABASES: &str = "SELECT datname::text AS name, datallowconn AS allows_connections, \
    datistemplate AS is_template \
    FROM pg_catalog.pg_database ORDER BY datname";

fn psql_argv(database: &str) -> Vec<String> {
    let mut argv: Vec<String> = [
        "psql",
        "-X",
        "-A",
        "-t",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
    ]
    .map(str::to_owned)
    .to_vec();
    argv.push(connection_string(database));
    argv
}

fn environment(
    credentials: &Credentials,
    labels: &PostgresLabels,
    application: &str,
) -> ClientEnvironment {
    let mut plain = vec![
        ("PGUSER".to_owned(), credentials.user.clone()),
        ("PGAPPNAME".to_owned(), application.to_owned()),
        ("PGCONNECT_TIMEOUT".to_owned(), "15".to_owned()),
        ("PGOPTIONS".to_owned(), SESSION_OPTIONS.to_owned()),
        // Messages are looked into.
        ("LC_ALL".to_owned(), "C".to_owned()),
    ];
    if let Some(port) = labels.port {
        plain.push(("PGPORT".to_owned(), port.to_string()));
    }
    let password = credentials.password.clone();
    ClientEnvironment {
        plain,
        secret: password
            .map(|password| ("PGPASSWORD".to_owned(), password))
            .into_iter()
            .collect(),
    }
}

/// For clients whose input and output we write and read. A dump keeps its database's own encoding.
pub fn utf8(mut environment: ClientEnvironment) -> ClientEnvironment {
    environment
        .plain
        .push(("PGCLIENTENCODING".to_owned(), "UTF8".to_owned()));
    environment
}

fn parse<T: DeserializeOwned>(stdout: &[u8]) -> Result<T, DriverError> {
    serde_json::from_slice(stdout).map_err(|error| {
        DriverError::failed(format!(
            "the server's answer is not what was asked for: {error}"
        ))
    })
}

/// An order, which prints nothing, that ends the other sessions whose application's name begins like this.
pub fn end_sessions(application: &str) -> String {
    let body = format!(
        "BEGIN PERFORM pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE pg_catalog.strpos(application_name, {}) = 1 AND pid <> pg_catalog.pg_backend_pid(); END",
        quote_literal(application)
    );
    format!("DO {}", quote_literal(&body))
}

/// A condition that picks databases by name.
pub fn named(database: &str) -> String {
    format!("datname = {}", quote_literal(database))
}
