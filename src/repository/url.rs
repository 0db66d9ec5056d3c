//! Where snapshots live, as the user names it. Pure: nothing is opened here.
//!
//! ```text
//! /backups   ./backups   file:///backups
//! s3://bucket/prefix?endpoint=https://s3.example.org&region=eu-1
//! az://container/prefix?account=name
//! gs://bucket/prefix
//! webdav+https://host/path
//! sftp://user@host:22/path?key-file=/run/secrets/key
//! ```
//!
//! A URL holds no secret: credentials come from variables and files, and a URL with a password in it is refused.

mod options;

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

pub use options::{ServerSideEncryption, StoreOptions};

/// What is wrong with a URL, and what to write instead. Never repeats the URL: it may hold a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct BadUrl {
    pub what: String,
    pub hint: String,
}

impl BadUrl {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// An absolute path.
    Directory(PathBuf),
    Store(Box<StoreUrl>),
}

/// A place on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub scheme: Scheme,
    /// A bucket or container; a host, with its port when one is named, for WebDAV and SFTP.
    pub authority: String,
    /// Only SFTP has one.
    pub user: Option<String>,
    /// Below the authority, without slashes at its ends. May be empty.
    pub prefix: String,
    pub options: StoreOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    S3,
    Azure,
    Google,
    WebDav { tls: bool },
    Sftp,
}

impl Scheme {
    const ALL: [(&str, Self); 6] = [
        ("s3", Self::S3),
        ("az", Self::Azure),
        ("gs", Self::Google),
        ("webdav+https", Self::WebDav { tls: true }),
        ("webdav+http", Self::WebDav { tls: false }),
        ("sftp", Self::Sftp),
    ];

    fn of(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|(name, _)| *name == lower);
        found.map(|(_, scheme)| scheme)
    }

    pub fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, scheme)| *scheme == self);
        found.map_or("", |(name, _)| name)
    }

    /// What stands between the scheme and the prefix.
    fn authority_is(self) -> &'static str {
        match self {
            Self::S3 | Self::Google => "a bucket",
            Self::Azure => "a container",
            Self::WebDav { .. } | Self::Sftp => "a host",
        }
    }
}

impl Default for RepositoryUrl {
    fn default() -> Self {
        Self::Directory(PathBuf::from("/backups"))
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(formatter, "{}", path.display()),
            Self::Store(url) => write!(formatter, "{url}"),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://", self.scheme.name())?;
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        write!(formatter, "{}", self.authority)?;
        if !self.prefix.is_empty() {
            write!(formatter, "/{}", self.prefix)?;
        }
        match &self.options.endpoint {
            Some(endpoint) => write!(formatter, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

const SUPPORTED: &str = "use a directory, such as `/backups` or `file:///backups`, or a URL that begins with `s3://`, `az://`, `gs://`, `webdav+https://` or `sftp://`";

impl RepositoryUrl {
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Store(_) => None,
        }
    }

    /// `working_directory` is absolute: relative paths begin there.
    pub fn parse(text: &str, working_directory: &Path) -> Result<Self, BadUrl> {
        if text.is_empty() {
            return Err(BadUrl::new("is empty", SUPPORTED));
        }
        if text.chars().any(char::is_control) {
            return Err(BadUrl::new("contains a control character", SUPPORTED));
        }
        let Some(scheme) = scheme_of(text) else {
            return Ok(Self::Directory(working_directory.join(text)));
        };
        let rest = &text[scheme.len() + 1..];
        if scheme.eq_ignore_ascii_case("file") {
            return file_url(rest);
        }
        let Some(known) = Scheme::of(scheme) else {
            return Err(BadUrl::new(
                format!("has the unknown scheme `{scheme}`"),
                match scheme.to_ascii_lowercase().as_str() {
                    "http" | "https" => {
                        "for a WebDAV server write `webdav+https://…`, for an S3 server `s3://bucket?endpoint=https://…`"
                    }
                    _ => SUPPORTED,
                },
            ));
        };
        Ok(Self::Store(Box::new(store_url(known, rest)?)))
    }
}

/// As RFC 3986 has it, with two characters at least.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let shaped = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(plain);
    shaped.then_some(scheme)
}

/// What follows `file:`, as RFC 8089 has it.
fn file_url(rest: &str) -> Result<RepositoryUrl, BadUrl> {
    let malformed = || {
        BadUrl::new(
            "is not a URL of an absolute path on this machine",
            "write three slashes, such as `file:///backups`",
        )
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(malformed());
    }
    let path = decoded(path).ok_or_else(malformed)?;
    Ok(RepositoryUrl::Directory(PathBuf::from(path)))
}

fn store_url(scheme: Scheme, rest: &str) -> Result<StoreUrl, BadUrl> {
    let shape = || {
        format!(
            "write `{}://`, {}, and a path below it",
            scheme.name(),
            scheme.authority_is()
        )
    };
    let rest = rest
        .strip_prefix("//")
        .ok_or_else(|| BadUrl::new("lacks the two slashes after its scheme", shape()))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('#') {
        return Err(BadUrl::new("holds a `#`", "write it as `%23`"));
    }
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, authority)) => (Some(user), authority),
        None => (None, authority),
    };
    let user = match user {
        Some(user) if scheme == Scheme::Sftp && !user.contains(':') => Some(user.to_owned()),
        Some(_) => {
            return Err(BadUrl::new(
                "contains a name or password before an `@`",
                "URLs show up in process lists and logs: give credentials in variables or with `credentials-file=`",
            ));
        }
        None => None,
    };
    ensure_plain(scheme, authority)?;
    if authority.is_empty() {
        return Err(BadUrl::new(
            format!("names no place: {} is missing", scheme.authority_is()),
            shape(),
        ));
    }
    Ok(StoreUrl {
        scheme,
        authority: authority.to_owned(),
        user,
        prefix: prefix(path)?,
        options: StoreOptions::parse(scheme, query)?,
    })
}

/// What is neither a bucket nor a host with its port may be a password with a slash in it, which ended up here.
fn ensure_plain(scheme: Scheme, authority: &str) -> Result<(), BadUrl> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_address = |text: &str| {
        let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_good = match scheme {
        Scheme::S3 | Scheme::Azure | Scheme::Google => authority.bytes().all(plain),
        Scheme::WebDav { .. } | Scheme::Sftp => {
            let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok());
            port_is_good && (host.bytes().all(plain) || is_address(host))
        }
    };
    match is_good {
        true => Ok(()),
        false => Err(BadUrl::new(
            format!("does not have {} after its scheme", scheme.authority_is()),
            "check it, and its port where it has one; credentials go into variables or `credentials-file=`",
        )),
    }
}

fn prefix(path: &str) -> Result<String, BadUrl> {
    let decoded = decoded(path)
        .ok_or_else(|| BadUrl::new("is not UTF-8 once decoded", "encode its path in UTF-8"))?;
    let trimmed = decoded.trim_matches('/');
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    if !trimmed.is_empty() && trimmed.split('/').any(odd) {
        return Err(BadUrl::new(
            "has a path with an empty segment, `.` or `..`",
            "name the place directly, such as `backups/hospital`",
        ));
    }
    Ok(trimmed.to_owned())
}

/// `None` where it is not UTF-8, or contains a control character.
fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (!text.chars().any(char::is_control)).then(|| text.into_owned())
}

#[cfg(test)]
mod tests;
