//! Why mail was not sent, and what mends it.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::PathBuf;

use lettre::transport::smtp;

use crate::text::{in_attempts, printable};
use crate::trust::TrustError;

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("cannot read {}, the file in {variable}: {error}", path.display())]
    File {
        variable: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{0}; check COFFERDAM_SMTP_CA_FILE")]
    Trust(#[from] TrustError),
    #[error("cannot use TLS: {0}")]
    Tls(String),
    #[error("cannot write the message: {0}")]
    Message(lettre::error::Error),
    #[error("{server} did not accept the mail{}: {why}{}", in_attempts(*.attempts), hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Failed {
        server: String,
        attempts: u32,
        why: String,
        hint: Option<&'static str>,
    },
    /// The others have got it.
    #[error("{server} did not accept the mail for {}", listed(.refused))]
    Refused {
        server: String,
        refused: Vec<Refusal>,
    },
}

/// One recipient whom the server does not take mail for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub recipient: String,
    pub why: String,
    /// Asking again would not help.
    pub is_final: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.recipient, self.why)
    }
}

fn listed(refused: &[Refusal]) -> String {
    let all: Vec<String> = refused.iter().map(Refusal::to_string).collect();
    all.join("; ")
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Trouble {
    Smtp(smtp::Error),
    TimedOut,
    NobodyIsTaken(Vec<Refusal>),
}

impl From<smtp::Error> for Trouble {
    fn from(error: smtp::Error) -> Self {
        Self::Smtp(error)
    }
}

impl Trouble {
    /// Whether another attempt may go better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::NobodyIsTaken(refused) => refused.iter().any(|one| !one.is_final),
            Self::Smtp(error) => {
                !error.is_permanent() && !error.is_client() && certificate_fault(error).is_none()
            }
        }
    }

    pub fn why(&self) -> String {
        match self {
            Self::TimedOut => "it did not answer in time".to_owned(),
            Self::NobodyIsTaken(refused) => listed(refused),
            Self::Smtp(error) => match certificate_fault(error) {
                Some(fault) => fault.to_string(),
                None => words(error),
            },
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        const REACHABLE: &str =
            "check the host and port in COFFERDAM_SMTP_URL, and that this container can reach them";
        let error = match self {
            Self::NobodyIsTaken(_) => return None,
            Self::TimedOut => return Some(REACHABLE),
            Self::Smtp(error) => error,
        };
        if certificate_fault(error).is_some() {
            return Some(
                "set COFFERDAM_SMTP_CA_FILE to the certificate of the authority that signed the server's certificate, and use \
                 the host name from that certificate in COFFERDAM_SMTP_URL",
            );
        }
        match error.status().map(u16::from) {
            Some(535 | 534) => {
                Some("correct COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE]")
            }
            Some(530) => Some("set COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE]"),
            Some(_) => None,
            None if error.is_client() => Some(
                "with `smtps://` the server must encrypt from the start, and a login needs PLAIN or LOGIN",
            ),
            None => Some(REACHABLE),
        }
    }
}

/// The server's own words, where there are some.
pub(super) fn words(error: &smtp::Error) -> String {
    let why = match (error.status(), error.source()) {
        (Some(code), Some(words)) => format!("{code} {words}"),
        (None, Some(source)) => source.to_string(),
        (_, None) => error.to_string(),
    };
    printable(why.trim())
}

fn certificate_fault(error: &smtp::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(fault) = inner.downcast_ref::<rustls::Error>()
        {
            return matches!(fault, rustls::Error::InvalidCertificate(_)).then_some(fault);
        }
        cause = error.source();
    }
    None
}
