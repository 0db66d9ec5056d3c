//! Names of stored objects.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{MANIFEST_FILE, PIN_FILE};
use crate::target::{RunId, encode_component};

/// Where an object lies, relative to the repository's root: `<project>/<snapshot>/<file>`.
///
/// Always exactly these three components, none of which can leave its place: this is checked when a path is made and
/// when one is read back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectPath(String);

impl ObjectPath {
    /// `file` must be made of [`encode_component`] pieces and plain dots.
    pub fn new(project: &str, snapshot: &RunId, file: &str) -> Result<Self, BadObjectPath> {
        format!("{}/{snapshot}/{file}", encode_component(project)).try_into()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn file_name(&self) -> &str {
        self.component(2)
    }

    /// The project as it stands in the path, percent-encoded.
    pub fn project(&self) -> &str {
        self.component(0)
    }

    /// The snapshot in whose place the object lies, which may be an earlier one than the one that names it.
    pub fn snapshot(&self) -> &str {
        self.component(1)
    }

    fn component(&self, at: usize) -> &str {
        self.0.split('/').nth(at).unwrap_or_default()
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path of the form `<project>/<snapshot>/<file>`")]
pub struct BadObjectPath(String);

impl TryFrom<String> for ObjectPath {
    type Error = BadObjectPath;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let harmless = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.contains(['\\', '\0'])
                && !part.chars().any(char::is_control)
        };
        let shaped = parts.len() == 3
            && parts.iter().all(harmless)
            && parts[1].parse::<RunId>().is_ok()
            && ![MANIFEST_FILE, PIN_FILE].contains(&parts[2]);
        if shaped {
            Ok(Self(text))
        } else {
            Err(BadObjectPath(text))
        }
    }
}

impl From<ObjectPath> for String {
    fn from(path: ObjectPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_path_cannot_leave_the_repository() {
        let id = "20261121T020000Z-9f2c61aa";
        for (text, good) in [
            (format!("candig/{id}/db.postgres.clinical.dump.zst"), true),
            (format!("../{id}/x"), false),
            (format!("candig/{id}/../x"), false),
            (format!("/candig/{id}/x"), false),
            (format!("candig/{id}/a/b"), false),
            (format!("candig/{id}/"), false),
            (format!("candig/{id}/.hidden"), false),
            (format!("candig/{id}/a\\b"), false),
            (format!("candig/{id}/a\nb"), false),
            (format!("candig/{id}/manifest.json"), false),
            (format!("candig/{id}/pin.json"), false),
            ("candig/latest/x".to_owned(), false),
        ] {
            assert_eq!(ObjectPath::try_from(text.clone()).is_ok(), good, "{text}");
        }
    }
}
