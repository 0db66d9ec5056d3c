//! A place to tell things, as a URL names it.

use std::fmt;

use super::address::Address;
use super::notice::{Kind, Notice};
use super::request::Request;
use super::service::Service;
use super::template::Template;
use super::{BadNotify, Kinds};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What is shown of the URL.
    name: String,
    pub(super) service: Service,
}

impl Channel {
    /// `template` is for the webhooks that have none of their own.
    pub fn parse(url: &str, template: Option<&Template>) -> Result<Self, BadNotify> {
        let address = Address::parse(url)?;
        let name = address.shown();
        let service = Service::of(address, template)?;
        // Slack's older URLs have a part of the token where others have their host.
        let name = match &service {
            Service::Slack(slack) => format!("slack://{}", slack.channel()),
            _ => name,
        };
        Ok(Self { name, service })
    }

    /// `kinds` are those that people want to be told.
    pub(super) fn wants(&self, notice: &Notice, kinds: &Kinds) -> bool {
        match self.service {
            // What is neither good nor bad is no sign of life.
            Service::Ping(_) => notice.kind != Kind::News,
            _ => notice.is_for(kinds),
        }
    }

    pub(super) fn requests(&self, notice: &Notice) -> Vec<Request> {
        match &self.service {
            Service::Slack(slack) => vec![slack.request(notice)],
            Service::Discord(discord) => vec![discord.request(notice)],
            Service::Ntfy(ntfy) => vec![ntfy.request(notice)],
            Service::Telegram(telegram) => telegram.requests(notice),
            Service::Gotify(gotify) => vec![gotify.request(notice)],
            Service::Webhook(webhook) => vec![webhook.request(notice)],
            Service::Ping(ping) => vec![ping.request(notice)],
        }
    }
}

/// Never more than the scheme and the host.
impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// The URLs of a list. Commas stand in URLs too: one divides where another URL begins behind it.
pub fn split_urls(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    for line in text.lines() {
        let mut begin = 0;
        for (at, _) in line.match_indices(',') {
            if begins_url(&line[at + 1..]) {
                urls.push(&line[begin..at]);
                begin = at + 1;
            }
        }
        urls.push(line[begin..].trim_end_matches([',', ' ']));
    }
    let trimmed = urls.into_iter().map(str::trim);
    trimmed.filter(|url| !url.is_empty()).collect()
}

fn begins_url(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let scheme = text
        .trim_start()
        .split_once("://")
        .map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(plain))
}
