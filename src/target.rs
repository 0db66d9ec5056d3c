//! Names of what is saved, and of the runs that save it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// When a label counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Backup,
    Restore,
}

/// Knows one kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    Postgres,
    Basebackup,
    Mysql,
    Volume,
    Files,
    Command,
    Sqlite,
    Couchdb,
    Elasticsearch,
}

impl DriverKind {
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Basebackup,
        Self::Mysql,
        Self::Couchdb,
        Self::Elasticsearch,
        Self::Command,
        Self::Volume,
        Self::Files,
        Self::Sqlite,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Basebackup => "basebackup",
            Self::Mysql => "mysql",
            Self::Volume => "volume",
            Self::Files => "files",
            Self::Command => "command",
            Self::Sqlite => "sqlite",
            Self::Couchdb => "couchdb",
            Self::Elasticsearch => "elasticsearch",
        }
    }

    /// Whether it is saved as files, whatever they mean.
    pub fn is_tree(self) -> bool {
        matches!(self, Self::Volume | Self::Files)
    }

    /// In what state a target's own container has to be while the target is saved, or put back.
    pub fn state_needed(self, moment: Moment) -> StateNeeded {
        match (self, moment) {
            // Its own programs do the work.
            (Self::Postgres | Self::Mysql | Self::Elasticsearch | Self::Command, _)
            | (Self::Basebackup | Self::Couchdb, Moment::Backup) => StateNeeded::Running,
            // What it has open is replaced under it.
            (Self::Basebackup | Self::Couchdb, Moment::Restore) => StateNeeded::Stopped,
            (Self::Volume | Self::Files | Self::Sqlite, _) => StateNeeded::Any,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateNeeded {
    Running,
    /// It is stopped for as long as it takes, whatever its labels say.
    Stopped,
    Any,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// `service/driver/name`, for instance `postgres-db/postgres/clinical`.
///
/// Service and name come from outside, so their printed form is percent-encoded: `/`, `%`, white space, control
/// characters, glob characters, and a leading `.` or `-` never stand in it as themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    pub service: String,
    pub driver: DriverKind,
    pub name: String,
}

impl TargetId {
    pub fn new(service: impl Into<String>, driver: DriverKind, name: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            driver,
            name: name.into(),
        }
    }

    /// The target as one component of a file name: `postgres-db.postgres.clinical`.
    pub fn file_stem(&self) -> String {
        format!(
            "{}.{}.{}",
            encode_component(&self.service),
            self.driver,
            encode_component(&self.name)
        )
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}/{}",
            encode_component(&self.service),
            self.driver,
            encode_component(&self.name)
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a target id; one looks like `service/driver/name`")]
pub struct BadTargetId(String);

impl FromStr for TargetId {
    type Err = BadTargetId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTargetId(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let [service, driver, name] = parts.as_slice() else {
            return Err(bad());
        };
        let driver = DriverKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == *driver)
            .ok_or_else(bad)?;
        let decode = |part: &str| {
            let text = percent_decode_str(part).decode_utf8().ok()?.into_owned();
            (!text.is_empty()).then_some(text)
        };
        Ok(Self {
            service: decode(service).ok_or_else(bad)?,
            driver,
            name: decode(name).ok_or_else(bad)?,
        })
    }
}

impl Serialize for TargetId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TargetId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything that has a meaning to a file system, a glob, a shell or a reader of our own formats.
const HOSTILE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'/')
    .add(b'\\')
    .add(b'"')
    .add(b'\'')
    .add(b'`')
    .add(b'$')
    .add(b'&')
    .add(b'|')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'{')
    .add(b'}')
    .add(b'#')
    .add(b'!')
    .add(b'~')
    .add(b':');

/// Encodes a name from outside as one harmless component of a path or of a target id.
pub fn encode_component(text: &str) -> String {
    let encoded = utf8_percent_encode(text, HOSTILE).to_string();
    match encoded.as_bytes().first() {
        Some(first @ (b'.' | b'-')) => format!("%{first:02X}{}", &encoded[1..]),
        _ => encoded,
    }
}

/// Undoes [`encode_component`]; bytes that are not UTF-8 become replacement characters.
pub fn decode_component(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// One run of a backup or a restore: `20261121T020000Z-9f2c61aa`. A snapshot has the id of the run that made it, and ids
/// sort by the time of their making, to the millisecond: the newest snapshot of two within one second is the newest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// Of the 32 bits after the second; the ten above them are its milliseconds.
const RANDOM_BITS: u32 = 22;

impl RunId {
    pub fn generate(now: Timestamp) -> Self {
        let milliseconds = now.subsec_millisecond().unsigned_abs();
        let random: u32 = rand::random_range(0..1 << RANDOM_BITS);
        let within_second = (milliseconds << RANDOM_BITS) | random;
        let second = now.strftime("%Y%m%dT%H%M%SZ");
        Self(format!("{second}-{within_second:08x}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last eight digits, for names that must be short.
    pub fn short(&self) -> &str {
        &self.0[self.0.len() - 8..]
    }

    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::strptime("%Y%m%dT%H%M%S%z", self.0[..16].replace('Z', "+0000")).ok()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot id; one looks like `20261121T020000Z-9f2c61aa`")]
pub struct BadRunId(String);

impl TryFrom<String> for RunId {
    type Error = BadRunId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let shaped = text.len() == 25
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                16 => byte == b'-',
                0..16 => byte.is_ascii_digit(),
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        if shaped {
            Ok(Self(text))
        } else {
            Err(BadRunId(text))
        }
    }
}

impl FromStr for RunId {
    type Err = BadRunId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_id_tells_its_time_and_its_short_form() {
        let now: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        let id = RunId::generate(now);
        assert!(id.as_str().starts_with("20261121T020000Z-"), "{id}");
        assert_eq!(id.time(), Some(now));
        assert_eq!(id.short().len(), 8);
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn run_ids_of_one_second_sort_by_their_time() {
        let second: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        let ids: Vec<RunId> = (0..1000)
            .map(|at| RunId::generate(second + std::time::Duration::from_millis(at)))
            .collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.time() == Some(second)));
        assert_ne!(RunId::generate(second), RunId::generate(second));
    }

    #[test]
    fn what_is_not_a_run_id_is_refused() {
        for text in [
            "",
            "latest",
            "../../etc/passwd/aaaaaaaaa",
            "20261121T020000Z-9F2C61AA",
            "20261121T020000Z-9f2c61aa ",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_names_lose_their_teeth() {
        let id = TargetId::new("db", DriverKind::Postgres, "../a b*");
        assert_eq!(id.to_string(), "db/postgres/%2E.%2Fa%20b%2A");
        assert_eq!(encode_component("@globals"), "@globals");
    }

    proptest! {
        #[test]
        fn a_target_id_survives_its_text(service in ".+", name in ".+") {
            let id = TargetId::new(service, DriverKind::Volume, name);
            prop_assert_eq!(id.to_string().parse(), Ok(id.clone()));
            let stem = id.file_stem();
            prop_assert!(!stem.contains('/') && !stem.starts_with('.'));
        }
    }
}
