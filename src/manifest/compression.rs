//! How streams are compressed, and how that is written down.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the bytes were compressed before they were stored: `zstd:3`, `gzip:6`, `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Compression {
    None,
    Gzip(u8),
    Zstd(u8),
}

impl Compression {
    pub const DEFAULT: Self = Self::Zstd(3);

    /// The ending that the usual tools expect, with its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip(_) => ".gz",
            Self::Zstd(_) => ".zst",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Gzip(level) => write!(formatter, "gzip:{level}"),
            Self::Zstd(level) => write!(formatter, "zstd:{level}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression method; use `zstd[:1-19]`, `gzip[:1-9]` or `none`")]
pub struct BadCompression(String);

impl FromStr for Compression {
    type Err = BadCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadCompression(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", level @ (None | Some(1..=9))) => Ok(Self::Gzip(level.unwrap_or(6))),
            ("zstd", level @ (None | Some(1..=19))) => Ok(Self::Zstd(level.unwrap_or(3))),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Compression {
    type Error = BadCompression;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        compression.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_parsed_and_printed() {
        for (text, expected) in [
            ("zstd", Some(Compression::Zstd(3))),
            ("zstd:19", Some(Compression::Zstd(19))),
            ("gzip", Some(Compression::Gzip(6))),
            ("gzip:1", Some(Compression::Gzip(1))),
            ("none", Some(Compression::None)),
            ("none:1", None),
            ("zstd:0", None),
            ("zstd:20", None),
            ("gzip:10", None),
            ("lz4", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Compression>().ok(), expected, "{text}");
        }
        assert_eq!("zstd".parse::<Compression>().unwrap().to_string(), "zstd:3");
    }
}
