//! Arguments that choose: which snapshot, which targets.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use crate::target::{BadTargetId, TargetId};

/// `latest`, or an id or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotSelector {
    Latest,
    /// Digits, `T`, `Z`, `-` and lower-case hexadecimal digits only. May fit several snapshots, or none.
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name a snapshot by its id, such as `20261121T020000Z-9f2c61aa`, by the beginning of its id, or by `latest`"
)]
pub struct BadSnapshotSelector;

impl FromStr for SnapshotSelector {
    type Err = BadSnapshotSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ID_LENGTH: usize = 25;
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let fits = |byte: u8| byte.is_ascii_digit() || b"TZ-abcdef".contains(&byte);
        let shaped = (1..=ID_LENGTH).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_digit())
            && text.bytes().all(fits);
        if shaped {
            Ok(Self::Prefix(text.to_owned()))
        } else {
            Err(BadSnapshotSelector)
        }
    }
}

impl fmt::Display for SnapshotSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Latest => "latest",
            Self::Prefix(prefix) => prefix,
        })
    }
}

/// A target id, or a glob over ids: `postgres-db/*`, `*/volume/*`. A `*` crosses slashes.
#[derive(Clone, Debug)]
pub struct TargetPattern {
    text: String,
    matcher: GlobMatcher,
}

impl TargetPattern {
    pub fn matches(&self, target: &TargetId) -> bool {
        let id = target.to_string();
        let TargetId {
            service,
            driver,
            name,
        } = target;
        id == self.text
            || format!("{service}/{driver}/{name}") == self.text
            || self.matcher.is_match(&id)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name a target as `service/driver/name`, or by a pattern such as `'postgres-db/*'`: {0}")]
pub struct BadTargetPattern(String);

impl FromStr for TargetPattern {
    type Err = BadTargetPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadTargetPattern("this is empty".to_owned()));
        }
        let glob = GlobBuilder::new(text)
            .build()
            .map_err(|error| BadTargetPattern(error.kind().to_string()))?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }
}

impl fmt::Display for TargetPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What a service, or a target, of the snapshot is called where it is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetMap {
    Service { from: String, to: String },
    Target { from: TargetId, to: TargetId },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTargetMap {
    #[error(
        "write it as `OLD=NEW`: two services, such as `db=database`, or two targets of the same kind"
    )]
    NotAPair,
    #[error("{0}")]
    NotATarget(#[from] BadTargetId),
    #[error("{from} and {to} are of different kinds")]
    DifferentKinds { from: TargetId, to: TargetId },
}

impl FromStr for TargetMap {
    type Err = BadTargetMap;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once('=').ok_or(BadTargetMap::NotAPair)?;
        if from.is_empty() || to.is_empty() {
            return Err(BadTargetMap::NotAPair);
        }
        if !from.contains('/') && !to.contains('/') {
            return Ok(Self::Service {
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
        let (from, to): (TargetId, TargetId) = (from.parse()?, to.parse()?);
        if from.driver != to.driver {
            return Err(BadTargetMap::DifferentKinds { from, to });
        }
        Ok(Self::Target { from, to })
    }
}

impl TargetMap {
    /// What it makes of a target; `None` when it is about others.
    pub fn apply(&self, target: &TargetId) -> Option<TargetId> {
        match self {
            Self::Service { from, to } if *from == target.service => {
                Some(TargetId::new(to, target.driver, &target.name))
            }
            Self::Target { from, to } if from == target => Some(to.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for TargetMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { from, to } => write!(formatter, "{from}={to}"),
            Self::Target { from, to } => write!(formatter, "{from}={to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::DriverKind;

    #[test]
    fn snapshots_are_named_by_beginnings() {
        for (text, expected) in [
            ("latest", Some(SnapshotSelector::Latest)),
            ("2026", Some(SnapshotSelector::Prefix("2026".to_owned()))),
            (
                "20261121T020000Z-9f2c61aa",
                Some(SnapshotSelector::Prefix(
                    "20261121T020000Z-9f2c61aa".to_owned(),
                )),
            ),
            ("", None),
            ("Latest", None),
            ("newest", None),
            ("../2026", None),
            ("20261121T020000Z-9f2c61aa0", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn targets_are_named_by_id_or_pattern() {
        let clinical = TargetId::new("postgres-db", DriverKind::Postgres, "clinical");
        let odd = TargetId::new("db", DriverKind::Postgres, "a b*");
        let path = TargetId::new("app", DriverKind::Files, "/srv/data");
        for (pattern, target, expected) in [
            ("postgres-db/postgres/clinical", &clinical, true),
            ("postgres-db/*", &clinical, true),
            ("*/postgres/*", &clinical, true),
            ("*clinical", &clinical, true),
            ("*", &clinical, true),
            ("postgres-db", &clinical, false),
            ("*/volume/*", &clinical, false),
            ("db/postgres/a%20b%2A", &odd, true),
            ("app/files/%2Fsrv%2Fdata", &path, true),
            ("app/files//srv/data", &path, true),
            ("app/files//srv", &path, false),
        ] {
            let parsed: TargetPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(target), expected, "{pattern}");
        }
        assert!("db/[".parse::<TargetPattern>().is_err());
        assert!("".parse::<TargetPattern>().is_err());
    }

    #[test]
    fn maps_rename_services_or_single_targets() {
        let clinical = TargetId::new("db", DriverKind::Postgres, "clinical");
        let genomic = TargetId::new("db", DriverKind::Postgres, "genomic");
        let apply = |map: &str, target| map.parse::<TargetMap>().unwrap().apply(target);
        let renamed = TargetId::new("database", DriverKind::Postgres, "clinical");
        assert_eq!(apply("db=database", &clinical), Some(renamed));
        assert_eq!(apply("app=web", &clinical), None);
        let single = "db/postgres/clinical=other/postgres/copy";
        let copy = TargetId::new("other", DriverKind::Postgres, "copy");
        assert_eq!(apply(single, &clinical), Some(copy));
        assert_eq!(apply(single, &genomic), None);
        for bad in [
            "db",
            "=x",
            "x=",
            "db/postgres/a=other",
            "db/postgres/a=db/volume/a",
        ] {
            assert!(bad.parse::<TargetMap>().is_err(), "{bad}");
        }
    }
}
