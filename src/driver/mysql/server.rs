//! A server in a container, and how its own clients are run there.
//!
//! Queries answer with one JSON object a line, so that no name can break out of its field. Passwords go by environment,
//! names by quoting. Sessions of ours have settings of their own, over what the server's defaults are.

use std::fmt;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tracing::debug;

use super::credentials::Credentials;
use super::programs::{Knows, Programs};
use super::trouble::Trouble;
use crate::agent::inside::ClientEnvironment;
use crate::agent::job::{Endpoint, RELAY_SOCKET};
use crate::driver::DriverError;
use crate::driver::clients::{Clients, Remedy};
use crate::engine::{Container, Engine, ExecOutput, ExecSpec};
use crate::labels::MysqlLabels;
use crate::manifest::MysqlFlavour;

/// What the labels of this driver begin with.
const LABEL: &str = "cofferdam.mysql";
/// How long a server that does not answer yet is waited for.
const STARTING_LIMIT: Duration = Duration::from_secs(30);
const STARTING_PAUSE: Duration = Duration::from_millis(500);
/// For queries of catalogs.
const QUERY_LIMIT: Duration = Duration::from_secs(300);
/// For what makes, moves or drops whole databases.
const ORDER_LIMIT: Duration = Duration::from_secs(3600);
/// Of an answer, in bytes: the catalog of some hundred thousand tables.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;
/// The last line of every answer: one that got lost, or was cut, is no answer. The server prints it, not the client.
const END: &str = "cofferdam has it all";
/// The kernel takes 128 KiB as one argument; a longer script goes by standard input.
const LONGEST_ARGUMENT: usize = 100 * 1024;

/// Nobody's `sql_mode`, so that quoting means the same everywhere. An order that waits for a lock gives up soon: who is in
/// the way is dealt with, and it is given again. Tables are moved one by one, and refer to each other meanwhile.
const SESSION: &str =
    "SET SESSION sql_mode='', autocommit=1, foreign_key_checks=0, lock_wait_timeout=10";

/// Answers with [`ServerFacts`].
const FACTS: &str = "SELECT JSON_OBJECT('version', CONVERT(VERSION() USING utf8mb4), \
    'data_directory', CONVERT(@@datadir USING utf8mb4), 'socket', CONVERT(@@socket USING utf8mb4), 'port', @@port, \
    'masking_policies', 0 + (SELECT COUNT(*) FROM information_schema.TABLES \
        WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'column_masking_policy'))";

#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServerFacts {
    /// As the server prints it.
    pub version: String,
    pub data_directory: String,
    /// Below its data directory where it is relative.
    pub socket: String,
    pub port: u16,
    /// Not zero where the user may look for them.
    pub masking_policies: u8,
}

impl ServerFacts {
    pub fn flavour(&self) -> MysqlFlavour {
        if self.version.contains("MariaDB") {
            MysqlFlavour::Mariadb
        } else {
            MysqlFlavour::Mysql
        }
    }
}

/// Where in its container a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    Socket,
    /// `None`: the usual port.
    Loopback(Option<u16>),
}

/// How a dump client comes to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    /// Through the agent's relay: see [`super::exact`].
    Relay,
}

#[derive(Clone)]
pub struct Server {
    clients: Clients,
    programs: Programs,
    user: String,
    address: Address,
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
    /// Logs in to the server in `container`, waiting for a while when it does not answer yet.
    pub async fn connect(
        engine: &Engine,
        container: &Container,
        labels: &MysqlLabels,
    ) -> Result<Self, DriverError> {
        if !container.is_running() {
            return Err(DriverError::failed_with_hint(
                format!("container {} is not running", container.name),
                "start it: its database is saved and restored by its own server",
            ));
        }
        let programs = Programs::need(engine, container, labels).await?;
        let credentials = Credentials::find(engine, container, labels).await?;
        let mut server = Self {
            clients: Clients {
                engine: engine.clone(),
                container: container.clone(),
                label: LABEL.to_owned(),
                exec_user: labels.exec_user.clone(),
                environment: environment(&credentials),
                remedy: remedy(&container.name, &credentials.user),
                helpers: None,
            },
            programs,
            user: credentials.user,
            address: match labels.port {
                None => Address::Socket,
                port => Address::Loopback(port),
            },
            facts: ServerFacts::default(),
        };
        server.log_in(labels.port.is_none()).await?;
        Ok(server)
    }

    /// Tries the local socket first, as the official images' clients do, then the loopback address, where the same name may
    /// be another account.
    async fn log_in(&mut self, may_choose_address: bool) -> Result<(), DriverError> {
        let deadline = Instant::now() + STARTING_LIMIT;
        let mut denied: Option<ExecOutput> = None;
        loop {
            let mut output = self.ask(FACTS).await?;
            if output.says_nothing() {
                output = self.ask(FACTS).await?;
            }
            if output.exit_code == 0 {
                let mut facts = rows(&output.stdout)?;
                self.facts = facts
                    .pop()
                    .ok_or_else(|| DriverError::lost(self.client()))?;
                return Ok(());
            }
            let trouble = Trouble::of(&output.last_words());
            let may_pass = trouble.is_some_and(Trouble::may_pass);
            let is_last = !may_choose_address || denied.is_some();
            if !may_pass && is_last {
                let output = denied.unwrap_or(output);
                return Err(self.client_failed(&output));
            }
            if may_pass && Instant::now() >= deadline {
                let output = denied.unwrap_or(output);
                return Err(self.client_failed(&output));
            }
            if !may_pass {
                denied = Some(output);
            }
            if may_choose_address {
                self.address = match self.address {
                    Address::Socket => Address::Loopback(None),
                    Address::Loopback(_) => Address::Socket,
                };
                debug!(
                    container = self.container().name,
                    "cannot log in at this address; trying the other"
                );
            }
            tokio::time::sleep(STARTING_PAUSE).await;
        }
    }

    async fn ask(&self, query: &str) -> Result<ExecOutput, DriverError> {
        let mut argv = self.client_argv(SESSION);
        argv.push(format!("--execute={query}"));
        self.clients.exec(&self.spec(argv, QUERY_LIMIT)).await
    }

    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    pub fn container(&self) -> &Container {
        &self.clients.container
    }

    pub fn knows(&self) -> Knows {
        self.programs.knows
    }

    pub fn client(&self) -> &str {
        &self.programs.client
    }

    pub fn dump_client(&self) -> &str {
        &self.programs.dump
    }

    fn spec(&self, argv: Vec<String>, limit: Duration) -> ExecSpec {
        ExecSpec {
            limit: Some(limit),
            ..self.clients.spec(argv, self.clients.environment.clone())
        }
    }

    fn client_failed(&self, output: &ExecOutput) -> DriverError {
        self.clients
            .client_error(self.client(), output.exit_code, &output.last_words())
    }

    /// What every client is told of where to connect to, and how to speak.
    fn connection(&self, way: Way) -> Vec<String> {
        let mut argv = vec![format!("--user={}", self.user)];
        match way {
            Way::Direct => argv.extend(self.own_address()),
            Way::Relay => {
                argv.push("--protocol=socket".to_owned());
                argv.push(format!("--socket={RELAY_SOCKET}"));
                argv.push(self.without_tls());
            }
        }
        argv.extend(
            [
                "--default-character-set=utf8mb4",
                "--max-allowed-packet=1073741824",
                // The container's own option files must not make errors pass.
                "--skip-force",
            ]
            .map(str::to_owned),
        );
        argv
    }

    fn own_address(&self) -> Vec<String> {
        match self.address {
            Address::Socket => vec!["--protocol=socket".to_owned()],
            Address::Loopback(port) => {
                let mut argv = ["--protocol=tcp", "--host=127.0.0.1"]
                    .map(str::to_owned)
                    .to_vec();
                argv.extend(port.map(|port| format!("--port={port}")));
                if self.programs.knows.public_key {
                    argv.push("--get-server-public-key".to_owned());
                }
                argv
            }
        }
    }

    /// Nobody can read along within a container.
    fn without_tls(&self) -> String {
        let option = if self.programs.knows.ssl_mode {
            "--ssl-mode=DISABLED"
        } else {
            "--skip-ssl"
        };
        option.to_owned()
    }

    /// Where the server is for whoever is in its container.
    pub fn endpoint(&self) -> Endpoint {
        match self.address {
            Address::Loopback(port) => Endpoint::Loopback {
                port: port.unwrap_or(self.facts.port),
            },
            Address::Socket => {
                let path = Path::new(&self.facts.data_directory).join(&self.facts.socket);
                Endpoint::Socket {
                    path: path.display().to_string(),
                }
            }
        }
    }

    /// Whether the server lets us in without TLS.
    pub async fn ensure_plain_login(&self) -> Result<(), DriverError> {
        let mut argv = self.client_argv(SESSION);
        argv.push(self.without_tls());
        argv.push("--execute=DO 0".to_owned());
        self.output_of(argv, QUERY_LIMIT).await.map(drop)
    }

    fn client_argv(&self, session: &str) -> Vec<String> {
        let mut argv = vec![self.programs.client.clone()];
        argv.extend(self.connection(Way::Direct));
        argv.extend(
            [
                "--batch",
                "--raw",
                "--skip-column-names",
                "--local-infile=0",
            ]
            .map(str::to_owned),
        );
        if self.programs.knows.print_query {
            argv.push("--skip-print-query-on-error".to_owned());
        }
        argv.push(format!("--init-command={session}"));
        argv
    }

    /// The dump client, with what goes for every dump.
    ///
    /// The options that an image's own option file may have turned off are turned on.
    pub fn dump_argv(&self, way: Way) -> Vec<String> {
        let mut argv = vec![self.programs.dump.clone()];
        argv.extend(self.connection(way));
        argv.extend(
            [
                "--opt",
                // Rows whose default takes a number from a sequence are refused where only their table is locked.
                "--skip-add-locks",
                "--single-transaction",
                "--quote-names",
                "--comments",
                "--skip-dump-date",
                "--tz-utc",
                "--hex-blob",
                "--no-tablespaces",
            ]
            .map(str::to_owned),
        );
        if self.programs.knows.gtid_purged {
            argv.push("--set-gtid-purged=OFF".to_owned());
        }
        if self.programs.knows.masking_policies && self.facts.masking_policies == 0 {
            // The client would fail for a user who may not.
            argv.push("--skip-masking-policies".to_owned());
        }
        argv
    }

    /// A client that reads a dump on standard input. The client's own commands, which could name programs and files, are
    /// not looked for in it.
    pub fn load_argv(&self, database: &str, session: &str) -> Vec<String> {
        let mut argv = self.client_argv(session);
        argv.extend(["--binary-mode".to_owned(), format!("--database={database}")]);
        argv
    }

    /// The lines that statements print, each a JSON object.
    pub async fn query<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, DriverError> {
        rows(&self.answer(query).await?)
    }

    /// What statements print.
    ///
    /// They change nothing that lasts, so an answer that does not arrive whole is asked for once more.
    pub async fn answer(&self, query: &str) -> Result<Vec<u8>, DriverError> {
        let query = query.trim_end_matches([';', ' ']);
        let mut argv = self.client_argv(SESSION);
        argv.push(format!("--execute={query}; SELECT '{END}'"));
        let answer = self.output_of(argv.clone(), QUERY_LIMIT).await?;
        if let Some(answer) = whole(answer) {
            return Ok(answer);
        }
        debug!(
            container = self.container().name,
            "an answer got lost; asking again"
        );
        let answer = self.output_of(argv, QUERY_LIMIT).await?;
        whole(answer).ok_or_else(|| DriverError::lost(self.client()))
    }

    /// What a client prints that ends with 0.
    pub async fn output_of(
        &self,
        argv: Vec<String>,
        idle_limit: Duration,
    ) -> Result<Vec<u8>, DriverError> {
        let spec = self.clients.spec(argv, self.clients.environment.clone());
        let stream = self
            .clients
            .engine
            .exec_stream(&self.container().id, &spec, idle_limit)
            .await
            .map_err(|error| self.clients.engine_error(error))?;
        let mut answer = Vec::new();
        stream
            .take(LONGEST_ANSWER)
            .read_to_end(&mut answer)
            .await
            .map_err(|error| self.clients.body_error(error))?;
        if answer.len() as u64 >= LONGEST_ANSWER {
            return Err(DriverError::failed("the server's answer is too long"));
        }
        Ok(answer)
    }

    /// Gives orders one after the other, and stops at the first that fails. An order that the server refuses is
    /// `Ok(Err(…))`.
    pub async fn try_execute(&self, orders: &str) -> Result<Result<(), Refused>, DriverError> {
        let mut argv = self.client_argv(SESSION);
        let output = if orders.len() > LONGEST_ARGUMENT {
            argv.push("--binary-mode".to_owned());
            self.with_input(argv, orders.as_bytes().to_vec()).await?
        } else {
            argv.push(format!("--execute={orders}"));
            self.clients.exec(&self.spec(argv, ORDER_LIMIT)).await?
        };
        Ok(match output.exit_code {
            0 => Ok(()),
            _ => Err(Refused {
                words: output.last_words(),
                error: self.client_failed(&output),
            }),
        })
    }

    pub async fn execute(&self, orders: &str) -> Result<(), DriverError> {
        self.try_execute(orders)
            .await?
            .map_err(|refused| refused.error)
    }

    /// Runs a script, which may hold delimiters of its own, in a database.
    pub async fn run_script(&self, database: &str, script: Vec<u8>) -> Result<(), DriverError> {
        let mut argv = self.client_argv(SESSION);
        argv.extend(["--binary-mode".to_owned(), format!("--database={database}")]);
        let output = self.with_input(argv, script).await?;
        match output.exit_code {
            0 => Ok(()),
            _ => Err(self.client_failed(&output)),
        }
    }

    async fn with_input(
        &self,
        argv: Vec<String>,
        script: Vec<u8>,
    ) -> Result<ExecOutput, DriverError> {
        let spec = self.spec(argv, ORDER_LIMIT);
        let script = Box::pin(Cursor::new(script));
        self.clients.exec_with_input(&spec, script).await
    }
}

/// An order that the server did not carry out.
#[derive(Debug)]
pub struct Refused {
    pub words: String,
    pub error: DriverError,
}

fn environment(credentials: &Credentials) -> ClientEnvironment {
    let password = credentials.password.clone();
    ClientEnvironment {
        // Messages are looked into.
        plain: vec![("LC_ALL".to_owned(), "C".to_owned())],
        secret: password
            .map(|password| ("MYSQL_PWD".to_owned(), password))
            .into_iter()
            .collect(),
    }
}

fn remedy(container: &str, user: &str) -> Remedy {
    let (container, user) = (container.to_owned(), user.to_owned());
    Arc::new(move |words| Trouble::of(words).map(|trouble| trouble.hint(&container, &user)))
}

/// An answer without its last line, when it has it.
fn whole(mut answer: Vec<u8>) -> Option<Vec<u8>> {
    let rest = answer.strip_suffix(b"\n")?.strip_suffix(END.as_bytes())?;
    let is_line = rest.is_empty() || rest.ends_with(b"\n");
    let length = rest.len();
    answer.truncate(length);
    is_line.then_some(answer)
}

fn rows<T: DeserializeOwned>(stdout: &[u8]) -> Result<Vec<T>, DriverError> {
    stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                DriverError::failed(format!("the server gave an unexpected answer: {error}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_with_its_last_line() {
        let told = |answer: &str| {
            let answer = whole(answer.as_bytes().to_vec())?;
            Some(String::from_utf8(answer).unwrap())
        };
        for (answer, expected) in [
            (
                "{\"name\": \"shop\"}\ncofferdam has it all\n",
                Some("{\"name\": \"shop\"}\n"),
            ),
            // There is nothing, and that is an answer.
            ("cofferdam has it all\n", Some("")),
            // The engine has lost it.
            ("", None),
            ("{\"name\": \"shop\"}\n", None),
            ("{\"name\": \"shop\"}\ncofferdam has it", None),
            ("it says: cofferdam has it all\n", None),
        ] {
            assert_eq!(told(answer).as_deref(), expected, "{answer}");
        }
    }
}
