//! Values that must never be seen: in arguments, logs, manifests, messages or `--json`.
//!
//! A [`Secret`] prints itself as `[redacted]` and cannot be serialised. The only way to its text is
//! [`Secret::expose`], so that a search for that word finds every place where one leaves our hands.
//!
//! - `environment`: which variables of a container hold secrets
//! - `redact`: secrets kept out of what a program printed

mod environment;
mod redact;

pub use environment::secrets_of;
pub use redact::Redactor;

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a secret as the official images do: the whole file without its trailing newline.
    pub fn from_file_content(content: &str) -> Self {
        Self(content.trim_end_matches(['\r', '\n']).to_owned())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces every occurrence of the secret in `text`, for messages that came from other programs.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_its_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(
            secret.redact("password hunter2 refused"),
            "password [redacted] refused"
        );
    }

    #[test]
    fn an_empty_secret_redacts_nothing() {
        assert_eq!(Secret::new("").redact("abc"), "abc");
    }

    #[test]
    fn a_secret_file_loses_only_its_trailing_newline() {
        assert_eq!(
            Secret::from_file_content(" two words \r\n").expose(),
            " two words "
        );
    }
}
