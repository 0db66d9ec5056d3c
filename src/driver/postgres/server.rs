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
use super::names::{is_of_a_restore, seat};
use super::queries::{DATABASES, Database, FACTS, ServerFacts, end_sessions, rows};
use super::session::Session;
use super::sql::connection_string;
use super::sqlstate;
use super::trouble::Trouble;
use crate::agent::inside::ClientEnvironment;
use crate::driver::DriverError;
use crate::driver::clients::{Clients, Remedy};
use crate::engine::{Container, Engine, ExecOutput, ExecSpec};
use crate::labels::PostgresLabels;
use crate::pipe::ByteStream;
use crate::target::RunId;

/// What the labels of this driver begin with.
pub(super) const LABEL: &str = "cofferdam.postgres";
/// How long a server that is starting up, or shutting down for a restart, is waited for.
const STARTING_LIMIT: Duration = Duration::from_secs(30);
const STARTING_PAUSE: Duration = Duration::from_millis(500);
/// For queries of catalogs.
const QUERY_LIMIT: Duration = Duration::from_secs(300);
/// For what makes, renames or drops whole databases: it may have to wait for a checkpoint of a busy server.
const ORDER_LIMIT: Duration = Duration::from_secs(3600);

/// `psql`'s exit code when its connection broke, or never came about.
const LOST: i64 = 2;

/// Settings of the sessions of all clients, over what roles and databases set: a database whose sessions are read-only
/// by default has to be restored too, and one that is being loaded keeps out whoever does not ask for no libraries.
const SESSION_OPTIONS: &str = "-c default_transaction_read_only=off -c local_preload_libraries=";
/// Where only what is committed last has to be safe on disk, which makes everything before it safe too.
const LOADING_OPTIONS: &str = " -c synchronous_commit=off";
/// People read the messages in one language, those of the clients too. Only superusers may choose.
const IN_ENGLISH: &str = " -c lc_messages=C";

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
        Self::connect_for(engine, container, labels, None).await
    }

    /// The same, from another database where this run's restore has closed the maintenance database or taken its name.
    pub async fn connect_for(
        engine: &Engine,
        container: &Container,
        labels: &PostgresLabels,
        run: Option<&RunId>,
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
                helpers: None,
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
        match (server.log_in().await, run) {
            (Ok(()), _) => Ok(server),
            (Err(error), None) => Err(error),
            (Err(error), Some(run)) => server.log_in_beside(run).await.ok_or(error),
        }
    }

    /// From another database, where this run's restore exchanges the maintenance database.
    async fn log_in_beside(&self, run: &RunId) -> Option<Self> {
        for database in [&*seat(run), "template1", "postgres"] {
            let mut beside = self.seated_in(database);
            if beside.log_in_once().await.is_err() {
                continue;
            }
            let databases = beside.databases(database).await.ok()?;
            let mut names = databases.iter().map(|found| &found.name);
            let is_exchanging =
                names.any(|name| is_of_a_restore(name) && name.ends_with(run.short()));
            return is_exchanging.then_some(beside);
        }
        None
    }

    async fn log_in_once(&mut self) -> Result<(), DriverError> {
        let database = self.maintenance_db.clone();
        let output = self.ask(&database, FACTS).await?;
        self.clients.ensure_success("psql", &output)?;
        self.facts = parse(&output.stdout)?;
        let options = self.session_options();
        self.clients.environment.set("PGOPTIONS", &options);
        Ok(())
    }

    /// Tries the local socket first, as the official image's clients do, then the loopback address.
    async fn log_in(&mut self) -> Result<(), DriverError> {
        let deadline = Instant::now() + STARTING_LIMIT;
        let may_choose_host = !self.container().env.contains_key("PGHOST");
        let maintenance_db = self.maintenance_db.clone();
        loop {
            let output = self.ask(&maintenance_db, FACTS).await?;
            if output.exit_code == 0 {
                self.facts = parse(&output.stdout)?;
                let options = self.session_options();
                self.clients.environment.set("PGOPTIONS", &options);
                return Ok(());
            }
            let words = output.last_words();
            let trouble = match Trouble::of(&words) {
                None if self.is_starting().await => Some(Trouble::Starting),
                trouble => trouble,
            };
            if trouble == Some(Trouble::Unreachable) && may_choose_host && self.switch_host() {
                debug!(
                    container = self.container().name,
                    "no answer at this address; trying the other"
                );
            } else if !trouble.is_some_and(Trouble::may_pass) || Instant::now() >= deadline {
                return Err(self.refused(trouble, output.exit_code, &words));
            }
            tokio::time::sleep(STARTING_PAUSE).await;
        }
    }

    /// What the server says before it lets anybody in is in its own language, and without a SQLSTATE: `pg_isready` knows.
    async fn is_starting(&self) -> bool {
        const REJECTS: i64 = 1;
        let argv = ["pg_isready", "-q"].map(str::to_owned).to_vec();
        let mut spec = self.clients.spec(argv, self.environment().clone());
        spec.limit = Some(QUERY_LIMIT);
        let answer = self.clients.exec(&spec).await;
        answer.is_ok_and(|output| output.exit_code == REJECTS)
    }

    fn refused(&self, trouble: Option<Trouble>, code: i64, words: &str) -> DriverError {
        match trouble {
            Some(_) => self.clients.client_error("psql", code, words),
            None => DriverError::failed_with_hint(
                format!("psql failed with exit code {code}: {words}"),
                format!(
                    "if the server let nobody in, check {LABEL}.user (now {}), .password-file or .password-variable, and \
                     .maintenance-db (now {})",
                    self.facts.user, self.maintenance_db
                ),
            ),
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
    pub fn loading_environment(&self, session: &Session) -> ClientEnvironment {
        let mut environment = self.environment().clone();
        let options = [&self.session_options(), LOADING_OPTIONS, &session.options()].concat();
        environment.set("PGOPTIONS", &options);
        environment
    }

    fn session_options(&self) -> String {
        let english = if self.facts.superuser { IN_ENGLISH } else { "" };
        format!("{SESSION_OPTIONS}{english}")
    }

    /// A database to give orders from that concern `database`: nobody may rename or drop the one they are in.
    pub fn seat_beside(&self, database: &str) -> String {
        match (self.maintenance_db == database, database) {
            (false, _) => self.maintenance_db.clone(),
            (true, "template1") => "postgres".to_owned(),
            (true, _) => "template1".to_owned(),
        }
    }

    /// The same server, with orders given from this database.
    pub fn seated_in(&self, database: &str) -> Self {
        Self {
            maintenance_db: database.to_owned(),
            ..self.clone()
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
        let rows = rows(query);
        let mut output = self.ask(database, &rows).await?;
        let has_no_equivalent = sqlstate::of(&output.last_words())
            .is_some_and(|state| sqlstate::NO_EQUIVALENT.contains(&state));
        if output.exit_code != 0 && has_no_equivalent {
            output = self.psql_as_it_is(database, &rows).await?;
        }
        self.clients.ensure_success("psql", &output)?;
        whole(&output)
    }

    /// Asks what changes nothing, so that it can be asked again: every answer says something, and some engines lose it.
    async fn ask(&self, database: &str, query: &str) -> Result<ExecOutput, DriverError> {
        let output = self.psql(database, &[query], QUERY_LIMIT).await?;
        if output.says_nothing() {
            return self.psql(database, &[query], QUERY_LIMIT).await;
        }
        Ok(output)
    }

    /// The answer in the database's own encoding.
    async fn psql_as_it_is(&self, database: &str, order: &str) -> Result<ExecOutput, DriverError> {
        let mut environment = self.environment().clone();
        environment.set("PGCLIENTENCODING", "SQL_ASCII");
        self.psql_in(environment, database, &[order], QUERY_LIMIT)
            .await
    }

    /// Gives orders one after the other, each in a transaction of its own, and stops at the first that fails.
    pub async fn execute(&self, database: &str, orders: &[&str]) -> Result<(), DriverError> {
        let output = self.psql(database, orders, ORDER_LIMIT).await?;
        self.clients.ensure_success("psql", &output)
    }

    /// Like [`Server::execute`], for orders that print nothing; then lists the databases. Before that, every other session
    /// of this run is ended: a client whose exec was given up goes on by itself, and would change things under our hands.
    ///
    /// An order that is refused is `Ok(Err(refusal))`.
    pub async fn execute_and_list(
        &self,
        seat: &str,
        orders: &[&str],
    ) -> Result<Result<Vec<Database>, Refusal>, DriverError> {
        let end = end_sessions(&self.application);
        let list = rows(DATABASES);
        let orders = [orders, &[&end, &list]].concat();
        let output = self.psql(seat, &orders, ORDER_LIMIT).await?;
        match output.exit_code {
            // They were carried out, but what came of them got lost.
            0 if output.says_nothing() => self.databases(seat).await.map(Ok),
            0 => whole(&output).map(Ok),
            // The connection broke: what became of the order is not known.
            LOST => Err(self
                .clients
                .client_error("psql", LOST, &output.last_words())),
            code => Ok(Err(Refusal {
                code,
                words: output.last_words(),
            })),
        }
    }

    /// A refusal as an error, with what mends it where that is known.
    pub fn error_of(&self, refusal: Refusal) -> DriverError {
        self.clients
            .client_error("psql", refusal.code, &refusal.words)
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
        self.feed(&spec, script).await
    }

    /// Runs `psql` on a script to its good end.
    pub async fn feed(&self, spec: &ExecSpec, script: ByteStream) -> Result<(), DriverError> {
        let output = self.clients.exec_with_input(spec, script).await?;
        self.clients.ensure_success("psql", &readable(output))
    }

    /// All databases, in the order of their names.
    pub async fn databases(&self, seat: &str) -> Result<Vec<Database>, DriverError> {
        self.query(seat, DATABASES).await
    }

    /// A name for the sessions of one step.
    pub fn application_of_step(&self) -> String {
        let digits: u32 = rand::random();
        format!("{}{digits:08x}", self.application_of_steps())
    }

    /// How the names of all such sessions of this run begin.
    pub fn application_of_steps(&self) -> String {
        format!("{}-", self.application)
    }

    async fn psql(
        &self,
        database: &str,
        orders: &[&str],
        limit: Duration,
    ) -> Result<ExecOutput, DriverError> {
        let environment = utf8(self.environment().clone());
        self.psql_in(environment, database, orders, limit).await
    }

    async fn psql_in(
        &self,
        environment: ClientEnvironment,
        database: &str,
        orders: &[&str],
        limit: Duration,
    ) -> Result<ExecOutput, DriverError> {
        let mut argv = psql_argv(database);
        for order in orders {
            argv.extend(["-c".to_owned(), (*order).to_owned()]);
        }
        let mut spec = self.clients.spec(argv, environment);
        spec.limit = Some(limit);
        self.clients.exec(&spec).await.map(readable)
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

/// An order that the server did not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `psql`'s exit code.
    code: i64,
    pub words: String,
}

impl Refusal {
    /// Whether sessions, prepared transactions, slots or subscriptions are in the way.
    pub fn is_in_use(&self) -> bool {
        sqlstate::of(&self.words) == Some(sqlstate::OBJECT_IN_USE)
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
        "-v",
        "VERBOSITY=verbose",
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

fn readable(mut output: ExecOutput) -> ExecOutput {
    output.stderr = sqlstate::without_locations(&output.stderr);
    output
}

/// Names may be in any encoding: U+FFFD stands for what is not UTF-8.
fn parse<T: DeserializeOwned>(stdout: &[u8]) -> Result<T, DriverError> {
    if stdout.is_empty() {
        return Err(DriverError::lost("psql"));
    }
    serde_json::from_str(&String::from_utf8_lossy(stdout)).map_err(|error| {
        DriverError::failed(format!("the server gave an unexpected answer: {error}"))
    })
}
