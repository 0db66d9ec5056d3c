//! A server in a container, and how its own clients are run there.
//!
//! Queries answer in JSON, so that no name can break out of its field. Passwords go by environment, names by quoting.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::debug;

use super::credentials::Credentials;
use super::queries::{DATABASES, Database, FACTS, ServerFacts, end_sessions, rows};
use super::sql::connection_string;
use super::trouble::Trouble;
use crate::agent::inside::ClientEnvironment;
use crate::driver::DriverError;
use crate::driver::clients::{Clients, Remedy};
use crate::engine::{Container, Engine, ExecOutput};
use crate::labels::PostgresLabels;
use crate::target::RunId;

/// What the labels of this driver begin with.
const LABEL: &str = "cofferdam.postgres";
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
    clients: Clients,
    maintenance_db: String,
    /// What the server knows our sessions by.
    application: String,
    pub facts: ServerFacts,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("clients", &self.clients)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Logs in to the server in `container`, waiting for a while when it is only just starting.
    pub async fn connect(
        engine: &Engine,
        container: &Container,
        labels: &PostgresLabels,
    ) -> Result<Self, DriverError> {
        if !container.is_running() {
            return Err(DriverError::failed_with_hint(
                format!("container {} is not running", container.name),
                "start it: its database is saved and restored by its own server",
            ));
        }
        let credentials = Credentials::find(engine, container, labels).await?;
        // Until a run gives its own.
        let application = format!("cofferdam-{:08x}", rand::random::<u32>());
        let mut server = Self {
            clients: Clients {
                engine: engine.clone(),
                container: container.clone(),
                label: LABEL.to_owned(),
                exec_user: labels.exec_user.clone(),
                environment: environment(&credentials, labels, &application),
                remedy: remedy(&container.name, &credentials.user),
            },
            maintenance_db: labels.maintenance_db.clone(),
            application,
            facts: ServerFacts {
                number: 0,
                version: String::new(),
                superuser: false,
                user: credentials.user,
                data_directory: None,
            },
        };
        server.log_in().await?;
        Ok(server)
    }

    /// Tries the local socket first, as the official image's clients do, then the loopback address.
    async fn log_in(&mut self) -> Result<(), DriverError> {
        let deadline = Instant::now() + STARTING_LIMIT;
        let may_choose_host = !self.container().env.contains_key("PGHOST");
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
                    container = self.container().name,
                    "no answer at this address; trying the other"
                );
            } else if !trouble.is_some_and(Trouble::may_pass) || Instant::now() >= deadline {
                return Err(self.clients.client_error("psql", output.exit_code, &words));
            }
            tokio::time::sleep(STARTING_PAUSE).await;
        }
    }

    /// The same server, whose sessions from now on are known by the run, also to who recovers it.
    pub fn for_run(mut self, run: &RunId) -> Self {
        self.application = format!("cofferdam-{}", run.short());
        self.clients.environment.set("PGAPPNAME", &self.application);
        self
    }

    /// From the socket to the loopback address and back; whether this was the way there.
    fn switch_host(&mut self) -> bool {
        let variables = &mut self.clients.environment.plain;
        let before = variables.len();
        variables.retain(|(name, _)| name != "PGHOST");
        let to_loopback = variables.len() == before;
        if to_loopback {
            variables.push(("PGHOST".to_owned(), "127.0.0.1".to_owned()));
        }
        to_loopback
    }

    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    pub fn container(&self) -> &Container {
        &self.clients.container
    }

    pub fn environment(&self) -> &ClientEnvironment {
        &self.clients.environment
    }

    /// For clients that write whole databases.
    pub fn loading_environment(&self) -> ClientEnvironment {
        let mut environment = self.environment().clone();
        environment.set("PGOPTIONS", LOADING_OPTIONS);
        environment
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
        let output = self.psql(database, &[&rows(query)], QUERY_LIMIT).await?;
        self.clients.ensure_success("psql", &output)?;
        whole(&output)
    }

    /// Gives orders one after the other, each in a transaction of its own, and stops at the first that fails.
    pub async fn execute(&self, database: &str, orders: &[&str]) -> Result<(), DriverError> {
        let output = self.psql(database, orders, ORDER_LIMIT).await?;
        self.clients.ensure_success("psql", &output)
    }

    /// Like [`Server::execute`], for orders that print nothing; then lists the databases. Before that, every other session
    /// of this run is ended: a client whose exec was given up goes on by itself, and would change things under our hands.
    ///
    /// An order that is refused is `Ok(Err(words))`.
    pub async fn execute_and_list(
        &self,
        seat: &str,
        orders: &[&str],
    ) -> Result<Result<Vec<Database>, String>, DriverError> {
        let end = end_sessions(&self.application);
        let list = rows(DATABASES);
        let orders = [orders, &[&end, &list]].concat();
        let output = self.psql(seat, &orders, ORDER_LIMIT).await?;
        match output.exit_code {
            0 => whole(&output).map(Ok),
            _ => Ok(Err(output.last_words())),
        }
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
        let mut spec = self.clients.spec(argv, utf8(self.environment().clone()));
        spec.limit = Some(ORDER_LIMIT);
        let mut script = script;
        // Some proxies do not carry the end of an input.
        script.extend_from_slice(b"\n\\quit\n");
        let script = Box::pin(Cursor::new(script));
        let output = self.clients.exec_with_input(&spec, script).await?;
        self.clients.ensure_success("psql", &output)
    }

    /// All databases, in the order of their names.
    pub async fn databases(&self, seat: &str) -> Result<Vec<Database>, DriverError> {
        self.query(seat, DATABASES).await
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
        let mut spec = self.clients.spec(argv, utf8(self.environment().clone()));
        spec.limit = Some(limit);
        self.clients.exec(&spec).await
    }

    /// Runs a client to its good end, however long it takes.
    pub async fn run(
        &self,
        argv: Vec<String>,
        environment: ClientEnvironment,
    ) -> Result<ExecOutput, DriverError> {
        let spec = self.clients.spec(argv, environment);
        let output = self.clients.exec(&spec).await?;
        self.clients.ensure_success(spec.program(), &output)?;
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

/// psql in a state in which only what is told counts, stopping at the first error.
pub(super) fn psql_argv(database: &str) -> Vec<String> {
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

fn remedy(container: &str, user: &str) -> Remedy {
    let (container, user) = (container.to_owned(), user.to_owned());
    Arc::new(move |words| Trouble::of(words).map(|trouble| trouble.hint(&container, &user)))
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
    environment.set("PGCLIENTENCODING", "UTF8");
    environment
}

fn whole<T: DeserializeOwned>(output: &ExecOutput) -> Result<T, DriverError> {
    if output.truncated {
        return Err(DriverError::failed("the server's answer is too long"));
    }
    parse(&output.stdout)
}

fn parse<T: DeserializeOwned>(stdout: &[u8]) -> Result<T, DriverError> {
    serde_json::from_slice(stdout).map_err(|error| {
        DriverError::failed(format!(
            "the server's answer is not what was asked for: {error}"
        ))
    })
}
