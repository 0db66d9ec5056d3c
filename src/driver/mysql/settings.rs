//! What a session is set to that loads a dump: a dump may hold whatever some session was once allowed to write.
//!
//! Only what differs is set, since some of it takes privileges; what this user may not set stays, and the load shows whether
//! that matters.
//!
//! A server with a binary log also makes no function again that says neither `DETERMINISTIC` nor `READS SQL DATA`, unless
//! `log_bin_trust_function_creators` is on. That is a setting of the whole server, so it is on only while a restore makes
//! functions, and the restore's mark notes that it has to be turned off again: whoever finishes a restore that died does it.
//! Replicas get all that a restore does.

use serde::Deserialize;
use tracing::{debug, info};

use super::server::Server;
use super::swap::Swap;
use crate::driver::DriverError;

/// Nobody's `sql_mode`: a dump sets its own.
const ALWAYS: &str = "SET SESSION sql_mode='', autocommit=1, foreign_key_checks=0, unique_checks=0";

/// Name, the value as it is shown, and as it is set.
const WANTED: [(&str, &str, &str); 13] = [
    // Row formats and row sizes of older servers.
    ("innodb_strict_mode", "OFF", "0"),
    ("sql_require_primary_key", "OFF", "0"),
    ("sql_generate_invisible_primary_key", "OFF", "0"),
    ("restrict_fk_on_non_standard_key", "OFF", "0"),
    ("check_constraint_checks", "OFF", "0"),
    ("explicit_defaults_for_timestamp", "ON", "1"),
    // What a table says without a collation means what it meant.
    ("character_set_collations", "", "''"),
    ("enforce_storage_engine", "", "NULL"),
    ("max_statement_time", "0.000000", "0"),
    ("sql_safe_updates", "OFF", "0"),
    // The stream may stall for as long as a repository does.
    ("net_read_timeout", "86400", "86400"),
    ("net_write_timeout", "86400", "86400"),
    ("wait_timeout", "86400", "86400"),
];

/// The order that begins a session that loads a dump.
pub async fn loading_session(server: &Server) -> Result<String, DriverError> {
    let names: Vec<&str> = WANTED.iter().map(|(name, ..)| *name).collect();
    let query = format!(
        "SHOW SESSION VARIABLES WHERE Variable_name IN ({})",
        super::sql::literals(&names)
    );
    let shown = server.answer(&query).await?;
    let wanted = differing(&String::from_utf8_lossy(&shown));
    if wanted.is_empty() || accepts(server, &wanted).await? {
        return Ok(session(&wanted));
    }
    let mut accepted = Vec::new();
    for setting in wanted {
        if accepts(server, std::slice::from_ref(&setting)).await? {
            accepted.push(setting);
        } else {
            info!("the user may not set {setting} for the load");
        }
    }
    Ok(session(&accepted))
}

async fn accepts(server: &Server, settings: &[String]) -> Result<bool, DriverError> {
    let order = format!("SET SESSION {}", settings.join(", "));
    Ok(server.try_execute(&order).await?.is_ok())
}

fn session(settings: &[String]) -> String {
    let settings = settings.iter().map(|setting| format!(", {setting}"));
    format!("{ALWAYS}{}", settings.collect::<String>())
}

/// Of what the server shows, a line each, what is to be set.
fn differing(shown: &str) -> Vec<String> {
    let shown = shown
        .lines()
        .map(|line| line.split_once('\t').unwrap_or((line, "")));
    let wanted = shown.filter_map(|(name, value)| {
        let (_, right, set) = WANTED.iter().find(|(wanted, ..)| *wanted == name)?;
        (value != *right).then(|| format!("{name}={set}"))
    });
    wanted.collect()
}

/// What a mark calls the note that the server's setting is to be turned off.
const TRUST: &str = "trust";

impl Swap<'_> {
    /// Lets functions be made that a binary log is wary of, with a note in the mark of a database first.
    pub(super) async fn trust_creators(&self, noted_in: &str) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Asked {
            wary: u8,
        }
        let asked: Vec<Asked> = self
            .server
            .query(
                "SELECT JSON_OBJECT('wary', IF(@@log_bin = 1 AND @@log_bin_trust_function_creators = 0, 1, 0))",
            )
            .await?;
        if asked.iter().all(|asked| asked.wary == 0) {
            return Ok(());
        }
        let mark = self.mark_in(noted_in);
        self.server
            .execute(&format!(
                "INSERT INTO {mark} (kind, content) VALUES ('{TRUST}', '')"
            ))
            .await?;
        // Who may not set it may have no such functions.
        if let Err(refused) = self.set_trust(1).await? {
            debug!(
                "functions are made as the server likes them: {}",
                refused.words
            );
        }
        Ok(())
    }

    /// Turns off what [`Swap::trust_creators`] has turned on, also for a run that died.
    pub(super) async fn end_trust(&self, noted_in: &str) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Noted {
            notes: u64,
        }
        let mark = self.mark_in(noted_in);
        let noted: Vec<Noted> = self
            .server
            .query(&format!(
                "SELECT JSON_OBJECT('notes', COUNT(*)) FROM {mark} WHERE kind = '{TRUST}'"
            ))
            .await?;
        if noted.iter().all(|noted| noted.notes == 0) {
            return Ok(());
        }
        if let Err(refused) = self.set_trust(0).await? {
            debug!("it was not turned on either: {}", refused.words);
        }
        self.server
            .execute(&format!("DELETE FROM {mark} WHERE kind = '{TRUST}'"))
            .await
    }

    async fn set_trust(
        &self,
        value: u8,
    ) -> Result<Result<(), super::server::Refused>, DriverError> {
        let order = format!("SET GLOBAL log_bin_trust_function_creators={value}");
        self.server.try_execute(&order).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_set() {
        let shown = "character_set_collations\tutf8mb4=utf8mb4_uca1400_ai_ci\nenforce_storage_engine\t\n\
            innodb_strict_mode\tON\nmax_statement_time\t0.000000\nsql_safe_updates\tOFF\nwait_timeout\t28800\n";
        assert_eq!(
            session(&differing(shown)),
            "SET SESSION sql_mode='', autocommit=1, foreign_key_checks=0, unique_checks=0, \
             character_set_collations='', innodb_strict_mode=0, wait_timeout=86400"
        );
        assert_eq!(session(&differing("")), ALWAYS);
    }
}
