//! Users, roles and what they may do: the target [`USERS`], an SQL script as the server itself tells them.
//!
//! A load creates the accounts that are missing and leaves alone those that are there, with their passwords. It notes them
//! first in a mark (see [`super::mark`]), in a database of the restore's own that is empty otherwise: a rollback drops what
//! the mark names, also after a crash.
//!
//! The script holds hashes of passwords. It goes to the client by standard input, and the client's words about it are told to
//! nobody: they may quote it.

use std::collections::BTreeSet;
use std::io::Cursor;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tracing::{info, warn};

use super::accounts::{Account, Section, before_its_table, read, statements, written};
use super::definitions::{TRAILER, ensure_whole};
use super::server::Server;
use super::sql::{quote_ident, quote_table};
use super::state::Phase;
use super::swap::Swap;
use crate::driver::{Captured, DriverError};
use crate::manifest::{Facts, MysqlFacts, MysqlFlavour, Role, TargetRecord, Transfer};
use crate::snapshot::{ArtifactSink, ArtifactSource, NewArtifact, open_plain};
use crate::target::RunId;

/// The target that stands for users and grants.
pub const USERS: &str = "@users";

/// Accounts that servers and their images make for themselves.
const OWN: [&str; 9] = [
    "root",
    "mysql.sys",
    "mysql.session",
    "mysql.infoschema",
    "mariadb.sys",
    "mysql",
    "healthcheck",
    "debian-sys-maint",
    "PUBLIC",
];
/// What the mark calls accounts that are to be created, and how orders call them.
const USER: &str = "USER";
const ROLE: &str = "ROLE";
/// Accounts that are asked about at once.
const AT_ONCE: usize = 50;
/// Between the answers: no account's name holds it.
const BREAK: &str = "\u{1e}";
/// A bound for what is held in memory: hundreds of thousands of accounts.
const MOST_SCRIPT: u64 = 64 * 1024 * 1024;

/// Accounts that somebody made. `None`: this user may not look.
pub async fn accounts(server: &Server) -> Result<Option<Vec<Account>>, DriverError> {
    let all = match all_accounts(server).await {
        Ok(all) => all,
        Err(error) => {
            if super::trouble::may_not_read(&error) {
                return Ok(None);
            }
            return Err(error);
        }
    };
    let own = |account: &Account| account.user.is_empty() || OWN.contains(&account.user.as_str());
    Ok(Some(all.into_iter().filter(|one| !own(one)).collect()))
}

async fn all_accounts(server: &Server) -> Result<BTreeSet<Account>, DriverError> {
    let query = "SELECT JSON_OBJECT('user', CONVERT(User USING utf8mb4), 'host', CONVERT(Host USING utf8mb4)) FROM mysql.user";
    let accounts: Vec<Account> = server.query(query).await?;
    Ok(accounts.into_iter().collect())
}

/// Roles come first: a user may have one by default.
async fn roles_first(server: &Server, accounts: &mut [Account]) -> Result<(), DriverError> {
    let roles: BTreeSet<Account> = match server.facts.flavour() {
        // They have no host.
        MysqlFlavour::Mariadb => BTreeSet::new(),
        MysqlFlavour::Mysql => {
            let there: Vec<Found> = server
                .query(
                    "SELECT JSON_OBJECT('found', COUNT(*)) FROM information_schema.TABLES \
                     WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'role_edges'",
                )
                .await?;
            if there.iter().any(|there| there.found > 0) {
                let query = "SELECT DISTINCT JSON_OBJECT('user', CONVERT(FROM_USER USING utf8mb4), 'host', CONVERT(FROM_HOST USING utf8mb4)) FROM mysql.role_edges";
                server.query::<Account>(query).await?.into_iter().collect()
            } else {
                BTreeSet::new()
            }
        }
    };
    accounts.sort_by_key(|account| {
        let is_role = account.host.is_empty() || roles.contains(account);
        (!is_role, account.clone())
    });
    Ok(())
}

#[derive(Deserialize)]
struct Found {
    found: u64,
}

pub(super) async fn dump_users(
    server: &Server,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    let mut warnings = Vec::new();
    let mut accounts = accounts(server).await?.unwrap_or_default();
    roles_first(server, &mut accounts).await?;
    accounts.retain(|account| {
        if !account.can_be_written() {
            warnings.push(format!(
                "user {:?} was not saved: there is a control character in its name",
                account.told()
            ));
        }
        account.can_be_written()
    });
    let mut made = Vec::new();
    let mut granted = Vec::new();
    for accounts in accounts.chunks(AT_ONCE) {
        for (account, orders) in asked(server, accounts).await? {
            let (good, odd): (Vec<String>, Vec<String>) = orders
                .into_iter()
                .partition(|order| !order.contains(char::is_control));
            if !odd.is_empty() {
                warnings.push(format!(
                    "did not save {} of the grants of user {}: there is a control character in a name",
                    odd.len(),
                    account.told()
                ));
            }
            let (creates, grants): (Vec<String>, Vec<String>) = good
                .into_iter()
                .partition(|order| order.starts_with("CREATE "));
            made.push(Section {
                account: account.clone(),
                orders: creates,
            });
            granted.push(Section {
                account,
                orders: grants,
            });
        }
    }
    let script = format!(
        "-- Users and grants of {} {}\n-- Remove the lines of accounts that exist already: an order to create one again fails.\n{}{}\n{TRAILER}\n",
        server.facts.flavour(),
        server.facts.version,
        written(&made),
        written(&granted)
    );
    let new = |compression| NewArtifact {
        role: Role::Dump,
        extension: "sql",
        compression,
    };
    let script = Box::pin(Cursor::new(script.into_bytes()));
    let artifact = server.clients().store_compressed(new, script, sink).await?;
    Ok(Captured {
        transfer: Transfer::Stream,
        facts: Facts::Mysql(MysqlFacts {
            server_version: server.facts.version.clone(),
            flavour: server.facts.flavour(),
            ..MysqlFacts::default()
        }),
        artifacts: vec![artifact],
        warnings,
    })
}

/// The orders that make these accounts, and grant them what they may do.
async fn asked(
    server: &Server,
    accounts: &[Account],
) -> Result<Vec<(Account, Vec<String>)>, DriverError> {
    let mut query = match server.facts.flavour() {
        // A hash may hold any byte. Servers before 8.0.17 do not know it.
        MysqlFlavour::Mysql => {
            "/*!80017 SET SESSION print_identified_with_as_hex=1 */; ".to_owned()
        }
        MysqlFlavour::Mariadb => String::new(),
    };
    for account in accounts {
        let quoted = account.quoted();
        if !account.host.is_empty() {
            query.push_str(&format!("SHOW CREATE USER {quoted}; "));
        }
        query.push_str(&format!("SHOW GRANTS FOR {quoted}; SELECT '{BREAK}'; "));
    }
    let answer = server.answer(&query).await?;
    let answer = String::from_utf8(answer)
        .map_err(|_| DriverError::failed("the server's answer about its users is not UTF-8"))?;
    let answers: Vec<&str> = answer.split(&format!("{BREAK}\n")).collect();
    if answers.len() != accounts.len() + 1 {
        return Err(DriverError::failed(
            "the server did not answer for every user that it was asked about",
        ));
    }
    let asked = accounts.iter().zip(answers).map(|(account, answer)| {
        let mut orders = statements(answer);
        if account.host.is_empty() {
            orders.insert(0, format!("CREATE ROLE {}", account.quoted()));
        }
        (account.clone(), orders)
    });
    Ok(asked.collect())
}

/// A restore of users on one server.
pub(super) struct Users<'a> {
    server: &'a Server,
    swap: Swap<'a>,
}

impl<'a> Users<'a> {
    pub fn new(server: &'a Server, run: &RunId) -> Self {
        Self {
            server,
            swap: Swap::new(server, USERS, run),
        }
    }

    pub async fn load(
        &self,
        record: &TargetRecord,
        facts: &MysqlFacts,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.roll_back().await?;
        let sections = fetch(record, source).await?;
        if facts.flavour != self.server.facts.flavour() {
            warn!(
                "users of {} cannot be created on {}: they are left out",
                facts.flavour,
                self.server.facts.flavour()
            );
            return Ok(());
        }
        let there = all_accounts(self.server).await?;
        let missing: Vec<&Section> = sections
            .iter()
            .filter(|section| !there.contains(&section.account))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let staged = self.swap.names.staged();
        self.swap
            .make_marked(&staged, "utf8mb4", "utf8mb4_bin")
            .await?;
        self.make(&staged, &missing).await?;
        let there = all_accounts(self.server).await?;
        let still: Vec<String> = missing
            .iter()
            .filter(|section| !there.contains(&section.account))
            .map(|section| section.account.told())
            .collect();
        if !still.is_empty() {
            return Err(DriverError::failed(format!(
                "after the load there is still no user {}",
                still.join(", no user ")
            )));
        }
        self.server
            .execute(&self.swap.set_phase(&staged, Phase::Loaded))
            .await
    }

    async fn make(&self, staged: &str, missing: &[&Section]) -> Result<(), DriverError> {
        let accounts: BTreeSet<&Account> = missing.iter().map(|section| &section.account).collect();
        let notes: String = accounts
            .iter()
            .map(|account| {
                let kind = if account.host.is_empty() { ROLE } else { USER };
                let quoted = account.quoted();
                self.swap.insert_names(staged, kind, [quoted.as_str()])
            })
            .collect();
        self.server.execute(&notes).await?;
        for section in missing {
            let account = &section.account;
            let (creates, grants): (Vec<&String>, Vec<&String>) = section
                .orders
                .iter()
                .partition(|order| order.starts_with("CREATE "));
            if !creates.is_empty() {
                info!(
                    container = self.server.container().name,
                    user = account.told(),
                    "creating what is missing"
                );
                self.run(&creates).await.map_err(|why| {
                    DriverError::failed_with_hint(
                        format!("user {} cannot be created: {why}", account.told()),
                        "create it by hand, or restore only the databases",
                    )
                })?;
            }
            if !grants.is_empty() && self.run(&grants).await.is_err() {
                self.grant_one_by_one(account, &grants).await;
            }
        }
        Ok(())
    }

    /// A grant may be on something that is not there.
    async fn grant_one_by_one(&self, account: &Account, grants: &[&String]) {
        for grant in grants {
            let Err(why) = self.run(&[*grant]).await else {
                continue;
            };
            if let Some([first, second]) = before_its_table(grant, account)
                && self.run(&[&first, &second]).await.is_ok()
            {
                continue;
            }
            let what = grant.split(" TO ").next().unwrap_or_default();
            warn!(
                "user {} was created without this grant, because the server refuses it ({why}); grant it again when its object exists: {what}",
                account.told()
            );
        }
    }

    /// An error tells the server's number only: its words may quote a hash.
    async fn run(&self, orders: &[&String]) -> Result<(), String> {
        let mut script = String::new();
        for order in orders {
            script.push_str(order);
            script.push_str(";\n");
        }
        let database = self.swap.names.staged();
        let ran = self.server.run_script(&database, script.into_bytes()).await;
        ran.map_err(
            |error| match super::trouble::error_number(&error.to_string()) {
                Some(number) => format!("error {number}"),
                None => "the client failed".to_owned(),
            },
        )
    }

    pub async fn commit(&self) -> Result<(), DriverError> {
        self.drop_mark().await
    }

    pub async fn roll_back(&self) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Noted {
            kind: String,
            account: String,
        }
        let staged = self.swap.names.staged();
        let marks: Vec<Found> = self
            .server
            .query(&format!(
                "SELECT JSON_OBJECT('found', COUNT(*)) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                super::sql::quote_literal(&staged),
                super::sql::quote_literal(&self.swap.names.mark())
            ))
            .await?;
        if marks.iter().any(|marks| marks.found > 0) {
            let noted: Vec<Noted> = self
                .server
                .query(&format!(
                    "SELECT JSON_OBJECT('kind', CONVERT(kind USING utf8mb4), 'account', CONVERT(content USING utf8mb4)) FROM {} \
                     WHERE kind IN ('{USER}', '{ROLE}')",
                    quote_table(&staged, &self.swap.names.mark())
                ))
                .await?;
            for Noted { kind, account } in noted {
                self.server
                    .execute(&format!("DROP {kind} IF EXISTS {account}"))
                    .await?;
            }
        }
        self.drop_mark().await
    }

    async fn drop_mark(&self) -> Result<(), DriverError> {
        let staged = quote_ident(&self.swap.names.staged());
        self.server
            .execute(&format!("DROP DATABASE IF EXISTS {staged}"))
            .await
    }
}

async fn fetch(
    record: &TargetRecord,
    source: &dyn ArtifactSource,
) -> Result<Vec<Section>, DriverError> {
    let artifact = record.artifact(Role::Dump).ok_or_else(|| {
        DriverError::failed(format!(
            "the snapshot holds no script for {}",
            record.target
        ))
    })?;
    let plain = open_plain(source, artifact).await?;
    let mut script = Vec::new();
    plain
        .take(MOST_SCRIPT)
        .read_to_end(&mut script)
        .await
        .map_err(|error| DriverError::failed(format!("the script of users: {error}")))?;
    ensure_whole("the server", &script)?;
    let script = String::from_utf8(script)
        .map_err(|_| DriverError::failed("the script of users is not UTF-8"))?;
    read(&script).map_err(|why| DriverError::failed(format!("the script of users: {why}")))
}
