//! What a server wants to know before it lets us in: from variables, from files that variables name, and from the file
//! that a URL names, so that two places can have two sets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Of these the variable with `_FILE` behind its name is read too, as the official images do it.
const FROM_FILES: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "WEBDAV_USER",
    "WEBDAV_PASSWORD",
    "SFTP_PASSWORD",
];

const PREFIXES: [&str; 5] = ["AWS_", "AZURE_", "GOOGLE_", "WEBDAV_", "SFTP_"];

/// Values by the names of their variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Secret>);

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read {}, which {whence} names: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        whence: String,
        source: std::io::Error,
    },
    #[error("line {line} of {} is not `NAME=value`", path.display())]
    Malformed { path: PathBuf, line: usize },
    #[error(
        "line {line} of {} sets {name}, which no store reads; names begin with {}",
        path.display(),
        PREFIXES.join(", ")
    )]
    Unknown {
        path: PathBuf,
        line: usize,
        name: String,
    },
}

impl Credentials {
    /// Those among all variables that a store may want. Empty ones count as absent.
    pub fn among<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let ours = variables
            .into_iter()
            .filter(|(name, value)| is_ours(name) && !value.is_empty())
            .map(|(name, value)| (name.to_owned(), Secret::new(value)));
        Self(ours.collect())
    }

    /// With what the files hold that variables or the URL name. What the URL's file sets goes before the variables.
    pub(super) fn resolved(&self, file: Option<&Path>) -> Result<Self, CredentialsError> {
        let mut resolved = self.clone();
        if let Some(path) = file {
            let text = read(path, "`credentials-file`")?;
            for (name, value) in parse(path, &text)? {
                // Either way of giving a secret goes before both ways of the variables.
                let base = name.strip_suffix("_FILE").unwrap_or(&name);
                if FROM_FILES.contains(&base) {
                    resolved.0.remove(base);
                    resolved.0.remove(&format!("{base}_FILE"));
                }
                resolved.0.insert(name, value);
            }
        }
        for name in FROM_FILES {
            let variable = format!("{name}_FILE");
            if let Some(path) = resolved.get(&variable)
                && !resolved.0.contains_key(name)
            {
                let secret = Secret::from_file_content(&read(Path::new(path), &variable)?);
                resolved.0.insert(name.to_owned(), secret);
            }
        }
        Ok(resolved)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// Those whose names begin with `prefix`.
    pub(super) fn of(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.expose()))
    }
}

fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn read(path: &Path, whence: &str) -> Result<String, CredentialsError> {
    fs::read_to_string(path).map_err(|source| CredentialsError::Unreadable {
        path: path.to_owned(),
        whence: whence.to_owned(),
        source,
    })
}

/// As `docker run --env-file` reads it: no quotes, no escapes; `#` begins a comment.
fn parse(path: &Path, text: &str) -> Result<Vec<(String, Secret)>, CredentialsError> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, text)| match text.split_once('=') {
            None => Err(CredentialsError::Malformed {
                path: path.to_owned(),
                line,
            }),
            Some((name, _)) if !is_ours(name.trim()) => Err(CredentialsError::Unknown {
                path: path.to_owned(),
                line,
                name: name.escape_debug().to_string(),
            }),
            Some((name, value)) => Ok((name.trim().to_owned(), Secret::new(value.trim()))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(pairs: &[(&str, &str)]) -> Credentials {
        Credentials::among(pairs.iter().copied())
    }

    #[test]
    fn only_what_stores_read_is_taken() {
        let found = credentials(&[("AWS_REGION", "eu"), ("HOME", "/root"), ("AWS_PROFILE", "")]);
        assert_eq!(found.get("AWS_REGION"), Some("eu"));
        assert_eq!(found.0.len(), 1);
        assert!(!format!("{found:?}").contains("eu"));
    }

    #[test]
    fn files_are_read_and_the_urls_file_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "from-file\n").unwrap();
        let own = directory.path().join("offsite");
        fs::write(&own, "# offsite\nAWS_ACCESS_KEY_ID=other\n\n").unwrap();
        let secret = secret.to_str().unwrap();
        let base = credentials(&[
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY_FILE", secret),
        ]);
        let resolved = base.resolved(None).unwrap();
        assert_eq!(resolved.get("AWS_ACCESS_KEY_ID"), Some("key"));
        assert_eq!(resolved.get("AWS_SECRET_ACCESS_KEY"), Some("from-file"));
        let resolved = base.resolved(Some(&own)).unwrap();
        assert_eq!(resolved.get("AWS_ACCESS_KEY_ID"), Some("other"));
        fs::write(&own, format!("AWS_ACCESS_KEY_ID_FILE = {secret}\n")).unwrap();
        let resolved = base.resolved(Some(&own)).unwrap();
        assert_eq!(resolved.get("AWS_ACCESS_KEY_ID"), Some("from-file"));
    }

    #[test]
    fn a_file_that_is_none_is_told_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let told = |content: &str| {
            let path = directory.path().join("credentials");
            fs::write(&path, content).unwrap();
            let error = credentials(&[]).resolved(Some(&path)).unwrap_err();
            error.to_string().replace(path.to_str().unwrap(), "FILE")
        };
        assert_eq!(told("hunter2"), "line 1 of FILE is not `NAME=value`");
        assert_eq!(
            told("\nPATH=/bin"),
            "line 2 of FILE sets PATH, which no store reads; names begin with AWS_, AZURE_, GOOGLE_, WEBDAV_, SFTP_"
        );
        let missing = directory.path().join("none");
        let error = credentials(&[]).resolved(Some(&missing)).unwrap_err();
        assert!(
            error.to_string().contains("`credentials-file` names"),
            "{error}"
        );
    }
}
