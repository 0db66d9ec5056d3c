//! E-mail by SMTP, to people.
//!
//! [`MailSettings`] are what the user has said, [`Mailer`] has read the files that they name, and sends a [`Letter`]. The
//! connection is encrypted, or nothing is sent, unless the user has asked for a plain one. The server's certificate must be
//! signed by one of the public authorities, which are built in, or by one of the file that the user names.
//!
//! Each attempt has a limit of time, and there are few; a server that refuses for good is not asked again. When the server
//! has taken the letter and the connection breaks before it says so, the letter comes twice.

mod letter;
mod send;
mod trouble;

use std::path::PathBuf;
use std::time::Duration;

pub use lettre::message::Mailbox;

pub use letter::Letter;
pub use send::Mailer;
pub use trouble::{MailError, Refusal};

use crate::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    pub server: SmtpServer,
    pub login: Option<Login>,
    /// Certificates of further authorities, in PEM.
    pub ca_file: Option<PathBuf>,
    pub from: Mailbox,
    /// At least one.
    pub to: Vec<Mailbox>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub security: Security,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte on.
    Tls,
    /// TLS before anything is said that matters, or nothing is said.
    StartTls,
    Plain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Password,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    Given(Secret),
    /// Read when it is needed.
    File(PathBuf),
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub attempts: u32,
    /// For one attempt, from the connection to the server's last word.
    pub limit: Duration,
    /// Between two attempts; twice as long after each.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 3,
            limit: Duration::from_secs(30),
            pause: Duration::from_secs(2),
        }
    }
}
