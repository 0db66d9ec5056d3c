//! Where snapshots live, as the user names it.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::BadSetting;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// An absolute path.
    Directory(PathBuf),
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
        }
    }
}

const SUPPORTED: &str = "use a directory, as `/backups` or `file:///backups`";

impl RepositoryUrl {
    /// An error never repeats a URL: it may hold a key.
    pub(super) fn parse(text: &str, working_directory: &Path) -> Result<Self, BadSetting> {
        if text.is_empty() {
            return Err(BadSetting::new("is empty", SUPPORTED));
        }
        if text.contains('\0') {
            return Err(BadSetting::new("holds a NUL character", SUPPORTED));
        }
        match scheme_of(text) {
            None => Ok(Self::Directory(working_directory.join(text))),
            Some(scheme) if scheme.eq_ignore_ascii_case("file") => {
                file_url(&text[scheme.len() + 1..])
            }
            Some(scheme) => Err(BadSetting::new(
                format!("has the scheme `{scheme}`, which this version does not support"),
                SUPPORTED,
            )),
        }
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
fn file_url(rest: &str) -> Result<RepositoryUrl, BadSetting> {
    let malformed = || {
        BadSetting::new(
            "is no URL of an absolute path on this machine",
            "write three slashes, as `file:///backups`",
        )
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(malformed());
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| malformed())?;
    if path.contains('\0') {
        return Err(malformed());
    }
    Ok(RepositoryUrl::Directory(PathBuf::from(path.into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_become_absolute() {
        for (text, expected) in [
            ("/backups", Some("/backups")),
            ("backups", Some("/home/me/backups")),
            ("./s3:odd", Some("/home/me/./s3:odd")),
            ("c:/odd", Some("/home/me/c:/odd")),
            ("file:///srv/my%20backups", Some("/srv/my backups")),
            ("file:/srv/backups", Some("/srv/backups")),
            ("FILE://localhost/srv", Some("/srv")),
            ("file://nas/srv", None),
            ("file://srv", None),
            ("file:srv", None),
            ("file:///srv?x", None),
            ("file:///%ff", None),
            ("file:///a%00b", None),
            ("s3://bucket/prefix", None),
            ("sftp://host/path", None),
            ("", None),
            ("a\0b", None),
        ] {
            let parsed = RepositoryUrl::parse(text, Path::new("/home/me")).ok();
            let expected = expected.map(|path| RepositoryUrl::Directory(PathBuf::from(path)));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
