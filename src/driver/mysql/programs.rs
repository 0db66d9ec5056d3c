//! The clients in a container: what they are called there, and which options they know.
//!
//! MariaDB's images of 11 and later have only `mariadb…`, all others also or only `mysql…`. An option that only one family
//! or only newer versions know is looked for in the client's own help, since distributions carry some of them back.

use std::time::Duration;

use crate::driver::DriverError;
use crate::engine::{Container, Engine, EngineError, ExecOutput, ExecSpec};
use crate::labels::MysqlLabels;
use crate::text::quoted;

const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
const DUMP: [&str; 2] = ["mariadb-dump", "mysqldump"];
const CLIENT: [&str; 2] = ["mariadb", "mysql"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    pub dump: String,
    pub client: String,
    pub knows: Knows,
}

/// Which options the clients know that not all do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knows {
    /// Whether a dump sets the server's history of transactions, which a restore must leave alone (MySQL).
    pub gtid_purged: bool,
    /// Whether the password may be sent over TCP to a server without TLS, which then has to show a key (MySQL 8).
    pub public_key: bool,
    /// Whether TLS is turned off by a mode (MySQL).
    pub ssl_mode: bool,
    /// Definitions without rows of single tables (MariaDB).
    pub ignore_table_data: bool,
    /// The past of system-versioned tables (MariaDB 10.11).
    pub dump_history: bool,
    /// The first line of newer MariaDB dumps, at which clients fail that do not.
    pub sandbox: bool,
    /// Whether a dump holds masking policies, which are the whole server's (MySQL 9.7).
    pub masking_policies: bool,
    /// Whether the client prints a failed statement, which may be rows, unless told not to (MariaDB).
    pub print_query: bool,
}

impl Programs {
    /// `Ok(None)`: the container lacks one of the two.
    async fn find(
        engine: &Engine,
        container: &Container,
        labels: &MysqlLabels,
    ) -> Result<Option<Self>, EngineError> {
        let probe = Probe {
            engine,
            container,
            user: labels.exec_user.as_deref(),
        };
        let Some((dump, dump_help)) = probe.first(DUMP).await? else {
            return Ok(None);
        };
        let Some((client, client_help)) = probe.first(CLIENT).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            dump: dump.to_owned(),
            client: client.to_owned(),
            knows: Knows::from_help(&dump_help, &client_help),
        }))
    }

    /// The clients of the server in `container`, which has to have them.
    pub async fn need(
        engine: &Engine,
        container: &Container,
        labels: &MysqlLabels,
    ) -> Result<Self, DriverError> {
        let found = Self::find(engine, container, labels).await?;
        let user = labels.exec_user.as_deref();
        found.ok_or_else(|| {
            DriverError::failed_with_hint(
                format!(
                    "container {} has neither mariadb-dump and mariadb nor mysqldump and mysql that can be run{}",
                    container.name,
                    user.map(|user| format!(" as user {}", quoted(user)))
                        .unwrap_or_default()
                ),
                "put the label on the container of the database server, whose image has its clients; `cofferdam.mysql.exec-user` \
                 has to be a user of that image",
            )
        })
    }
}

impl Knows {
    fn from_help(dump: &str, client: &str) -> Self {
        Self {
            gtid_purged: lists(dump, "--set-gtid-purged"),
            public_key: [dump, client]
                .iter()
                .all(|help| lists(help, "--get-server-public-key")),
            ssl_mode: [dump, client].iter().all(|help| lists(help, "--ssl-mode")),
            ignore_table_data: lists(dump, "--ignore-table-data"),
            dump_history: lists(dump, "--dump-history"),
            sandbox: lists(client, "--sandbox"),
            masking_policies: lists(dump, "--masking-policies"),
            print_query: lists(client, "--print-query-on-error"),
        }
    }
}

/// Whether the options that a help page explains include this one.
fn lists(help: &str, option: &str) -> bool {
    help.lines().any(|line| {
        let mut words = line.split_whitespace();
        // `-H, --dump-history  Dump …`
        let first = words.next().unwrap_or_default();
        let long = if first.starts_with("--") {
            Some(first)
        } else if first.starts_with('-') && first.ends_with(',') {
            words.next()
        } else {
            None
        };
        long.is_some_and(|long| long.split(['=', '[']).next() == Some(option))
    })
}

struct Probe<'a> {
    engine: &'a Engine,
    container: &'a Container,
    user: Option<&'a str>,
}

impl Probe<'_> {
    /// The first of these programs that runs, and its help.
    async fn first(
        &self,
        programs: [&'static str; 2],
    ) -> Result<Option<(&'static str, String)>, EngineError> {
        for program in programs {
            let spec = ExecSpec {
                user: self.user.map(str::to_owned),
                limit: Some(LOOK_TIMEOUT),
                ..ExecSpec::new([program, "--help"])
            };
            let mut ended = self.engine.exec(&self.container.id, &spec).await;
            if ended.as_ref().is_ok_and(ExecOutput::says_nothing) {
                ended = self.engine.exec(&self.container.id, &spec).await;
            }
            match ended {
                // Without its help, options would be left out that keep a load from harm.
                Ok(output) if output.says_nothing() => {
                    return Err(EngineError::Cut {
                        container: self.container.name.clone(),
                        program: program.to_owned(),
                        message: "it succeeded, but its output did not arrive".to_owned(),
                    });
                }
                Ok(output) if output.exit_code == 0 => {
                    let help = String::from_utf8_lossy(&output.stdout).into_owned();
                    return Ok(Some((program, help)));
                }
                Ok(_) | Err(EngineError::CannotRun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_the_help_that_explains_them() {
        let dump = "\
  --ignore-table-data=name \n                      Do not dump the data of … use --set-gtid-purged\n  \
  -H, --dump-history  Dump system-versioned tables with history\n";
        let client = "  --sandbox           Disallow commands\n  --print-query-on-error \n";
        assert_eq!(
            Knows::from_help(dump, client),
            Knows {
                gtid_purged: false,
                public_key: false,
                ssl_mode: false,
                ignore_table_data: true,
                dump_history: true,
                sandbox: true,
                masking_policies: false,
                print_query: true,
            }
        );
        let mysql = "  --set-gtid-purged[=name] \n  --get-server-public-key \n  --masking-policies  Dump\n  -f, --force         Continue\n";
        assert_eq!(
            Knows::from_help(mysql, mysql),
            Knows {
                gtid_purged: true,
                public_key: true,
                masking_policies: true,
                ..Knows::default()
            }
        );
    }
}
