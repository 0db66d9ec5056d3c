//! What is told to people and to the services that watch: by mail, in chats, to webhooks, and as signs of life.
//!
//! A [`Notice`] says what has happened. A [`Channel`] is a place to tell it, named by a URL as shoutrrr has them. The
//! [`Notifier`] tells it to all channels at once, and by mail: whoever has something to tell needs nothing else. A channel
//! that is down costs its own limit of time and attempts, and nothing but that; what went wrong is returned, to be logged.
//!
//! URLs hold secrets: of one that was given, only its scheme and host are ever shown. A server that breaks the connection
//! after it has taken a notice gets it twice.

mod address;
mod channel;
mod cut;
mod fault;
pub mod mail;
mod notice;
mod request;
mod send;
mod service;
mod template;

use std::path::PathBuf;

pub use channel::{Channel, split_urls};
pub use notice::{Facts, Kind, Kinds, Notice};
pub use send::Notifier;
pub use template::Template;

use crate::notify::mail::MailSettings;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifySettings {
    pub channels: Vec<Channel>,
    /// `None`: nobody gets mail.
    pub mail: Option<MailSettings>,
    /// What people are told. Signs of life are given whatever happens.
    pub on: Kinds,
    /// Certificates of further authorities, in PEM. Mail has its own.
    pub ca_file: Option<PathBuf>,
}

impl NotifySettings {
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.mail.is_none()
    }
}

/// What is wrong with a setting, and what to write instead. Never repeats what it was given: it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct BadNotify {
    pub what: String,
    pub hint: String,
}

impl BadNotify {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}
