//! What a session is set to that loads a dump: a dump may hold whatever some session was once allowed to write.
//!
//! Only what differs is set, since some of it takes privileges; what this user may not set stays, and the load shows whether
//! that matters.
//!
//! Two settings are of the whole server, and change only while something is loaded: a server with a binary log makes no
//! function again that says neither `DETERMINISTIC` nor `READS SQL DATA`, and one takes no statement longer than
//! `max_allowed_packet`, though a row of half that length is longer in a dump. The restore's mark notes what they were first,
//! so that whoever finishes a restore that died sets them back. Replicas get all that a restore does.

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

/// Settings of the whole server: name, when it is in the way of a load, and what it is set to for that.
const OF_SERVER: [(&str, &str, &str); 2] = [
    (
        "log_bin_trust_function_creators",
        "@@GLOBAL.log_bin = 1 AND @@GLOBAL.log_bin_trust_function_creators = 0",
        "1",
    ),
    (
        "max_allowed_packet",
        "@@GLOBAL.max_allowed_packet < 1073741824",
        "1073741824",
    ),
];
/// What a mark calls the note of what such a setting was: `max_allowed_packet=16777216`.
const SETTING: &str = "setting";

impl Swap<'_> {
    /// Sets the server so that it takes what an ordinary dump holds, with a note in the mark of a database first.
    pub(super) async fn ease_server(&self, noted_in: &str) -> Result<(), DriverError> {
        let asked = OF_SERVER.map(|(name, is_in_the_way, _)| {
            format!(
                "SELECT JSON_OBJECT('name', '{name}', 'value', @@GLOBAL.{name} + 0) FROM DUAL WHERE {is_in_the_way}"
            )
        });
        let in_the_way: Vec<Setting> = self.server.query(&asked.join("; ")).await?;
        for Setting { name, value } in in_the_way {
            let Some((_, _, eased)) = OF_SERVER.iter().find(|(known, ..)| *known == name) else {
                continue;
            };
            let noted = self.insert_names(noted_in, SETTING, [format!("{name}={value}").as_str()]);
            self.server.execute(&noted).await?;
            // Who may not set it may have nothing that needs it.
            if let Err(refused) = self.set_server(&name, eased).await? {
                debug!("{name} stays {value}: {}", refused.words);
            }
        }
        Ok(())
    }

    /// Sets back what [`Swap::ease_server`] has set, also for a run that died.
    pub(super) async fn reset_server(&self, noted_in: &str) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Noted {
            text: String,
        }
        let mark = self.mark_in(noted_in);
        let noted: Vec<Noted> = self
            .server
            .query(&format!(
                "SELECT JSON_OBJECT('text', CONVERT(content USING utf8mb4)) FROM {mark} WHERE kind = '{SETTING}'"
            ))
            .await?;
        if noted.is_empty() {
            return Ok(());
        }
        for Setting { name, value } in noted.iter().filter_map(|noted| Setting::read(&noted.text)) {
            if let Err(refused) = self.set_server(&name, &value.to_string()).await? {
                debug!("{name} was not changed either: {}", refused.words);
            }
        }
        self.server
            .execute(&format!("DELETE FROM {mark} WHERE kind = '{SETTING}'"))
            .await
    }

    async fn set_server(
        &self,
        name: &str,
        value: &str,
    ) -> Result<Result<(), super::server::Refused>, DriverError> {
        let order = format!("SET GLOBAL {name}={value}");
        self.server.try_execute(&order).await
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Setting {
    name: String,
    value: u64,
}

impl Setting {
    /// What a mark says is no order: whoever may write to the database may have written it.
    fn read(noted: &str) -> Option<Self> {
        let (name, value) = noted.split_once('=')?;
        let is_known = OF_SERVER.iter().any(|(known, ..)| *known == name);
        let value = value.parse().ok()?;
        is_known.then(|| Self {
            name: name.to_owned(),
            value,
        })
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

    #[test]
    fn a_note_sets_nothing_else() {
        let packet = Setting {
            name: "max_allowed_packet".to_owned(),
            value: 16_777_216,
        };
        assert_eq!(Setting::read("max_allowed_packet=16777216"), Some(packet));
        for noted in [
            "general_log=1",
            "max_allowed_packet=1, GLOBAL general_log=1",
            "max_allowed_packet",
            "",
        ] {
            assert_eq!(Setting::read(noted), None, "{noted}");
        }
    }
}
