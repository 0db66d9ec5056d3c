//! Why something was not told, and what mends it.

use std::time::Duration;

use http::StatusCode;

use super::send::LONGEST_WAIT;
use crate::notify::mail::MailError;
use crate::text::{full_text, in_attempts, quoted};
use crate::trust::TrustError;

#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error("{0}; check COFFERDAM_NOTIFY_CA_FILE")]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error("{channel} did not accept the notification{}: {why}{}", in_attempts(*.attempts), hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Failed {
        /// Scheme and host.
        channel: String,
        attempts: u32,
        why: String,
        hint: Option<&'static str>,
    },
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Trouble {
    TimedOut,
    /// Without the URL.
    Unreachable(reqwest::Error),
    /// By the status of its answer, and in its own words where it has some.
    Refused {
        status: StatusCode,
        words: Option<String>,
        wait: Option<Duration>,
    },
    /// In the body of an answer that is a success to HTTP.
    Declined {
        why: String,
        may_pass: bool,
    },
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}

impl Trouble {
    /// Whether another attempt may go better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Unreachable(error) => !error.is_builder() && !is_about_certificates(error),
            Self::Refused { status, wait, .. } => {
                let is_passing =
                    status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS;
                is_passing && wait.is_none_or(|wait| wait <= LONGEST_WAIT)
            }
            Self::Declined { may_pass, .. } => *may_pass,
        }
    }

    /// How long the server wants to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    pub fn why(&self) -> String {
        match self {
            Self::TimedOut => "it did not answer in time".to_owned(),
            Self::Unreachable(error) => full_text(error),
            Self::Refused {
                status,
                words,
                wait,
            } => {
                let words = words.as_ref().map(|words| format!(": {words}"));
                let wait = wait.filter(|wait| *wait > LONGEST_WAIT);
                let wait = wait.map(|wait| format!("; it asks to wait {} seconds", wait.as_secs()));
                format!(
                    "the server answered {status}{}{}",
                    words.unwrap_or_default(),
                    wait.unwrap_or_default()
                )
            }
            Self::Declined { why, .. } => format!("the server declined: {why}"),
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        const REACHABLE: &str =
            "check the host and port in its URL, and that this container can reach them";
        const TOKEN: &str = "check the token or login in its URL";
        let status = match self {
            Self::TimedOut => return Some(REACHABLE),
            Self::Unreachable(error) if is_about_certificates(error) => {
                return Some(
                    "set COFFERDAM_NOTIFY_CA_FILE to the certificate of the authority that signed the server's certificate, \
                     and use the host name from that certificate in the URL",
                );
            }
            Self::Unreachable(_) => return Some(REACHABLE),
            Self::Declined { may_pass, .. } => return (!may_pass).then_some(TOKEN),
            Self::Refused { status, .. } => *status,
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(TOKEN),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Some("check the path in its URL, and that it still exists")
            }
            status if status.is_redirection() => Some(
                "the server redirects, and secrets are not sent elsewhere: use the URL that it redirects to",
            ),
            _ => None,
        }
    }
}

fn is_about_certificates(error: &reqwest::Error) -> bool {
    let text = full_text(error);
    text.contains("certificate") || text.contains("UnknownIssuer")
}

/// A server's own words, where it has some: what services that speak JSON have in one of these fields, or a line of text.
pub(super) fn words(body: &str) -> Option<String> {
    const FIELDS: [&str; 4] = ["description", "errorDescription", "error", "message"];
    let body = body.trim();
    let said = match serde_json::from_str::<serde_json::Value>(body) {
        Ok(document) => FIELDS
            .into_iter()
            .find_map(|field| Some(document.get(field)?.as_str()?.to_owned())),
        Err(_) if body.starts_with('<') => None,
        Err(_) => body.lines().next().map(str::to_owned),
    };
    said.filter(|said| !said.is_empty())
        .map(|said| quoted(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_own_words_are_found() {
        for (body, expected) in [
            (
                r#"{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}"#,
                Some("Bad Request: chat not found"),
            ),
            (
                r#"{"error":"Unauthorized","errorCode":401,"errorDescription":"no token"}"#,
                Some("no token"),
            ),
            (
                r#"{"message": "Unknown Webhook", "code": 10015}"#,
                Some("Unknown Webhook"),
            ),
            (r#"{"code": 40001}"#, None),
            ("no_service\n", Some("no_service")),
            ("<html>bad</html>", None),
            ("", None),
        ] {
            assert_eq!(words(body).as_deref(), expected, "{body}");
        }
    }
}
