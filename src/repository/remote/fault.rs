//! What a server did not do, in words.

use crate::repository::RepositoryError;

/// What is being done to what, for messages.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub action: &'static str,
    pub key: &'a str,
}

/// Why something did not happen.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub why: String,
    /// What mends it.
    pub hint: Option<String>,
    /// The server does not let us do this.
    pub refused: bool,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: None,
            refused: false,
        }
    }

    pub(super) fn hinting(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(why)
        }
    }

    /// `location`: the repository's, as the user named it.
    pub(super) fn of(self, errand: Errand<'_>, location: &str) -> RepositoryError {
        let Errand { action, key } = errand;
        RepositoryError::Remote {
            action,
            place: place(key, location),
            why: self.why,
            hint: self.hint,
            refused: self.refused,
        }
    }
}

/// For messages: the whole repository, or what lies in it under `key`.
pub(super) fn place(key: &str, location: &str) -> String {
    match key {
        "" => location.to_owned(),
        key => format!("{key} in {location}"),
    }
}
