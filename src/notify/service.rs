//! What each service is told, and how.

mod discord;
mod gotify;
mod ntfy;
mod ping;
mod slack;
mod telegram;
mod webhook;

use http::{HeaderName, HeaderValue};

use super::BadNotify;
use super::address::{Address, encoded};
use super::cut::cut;
use super::template::Template;
use crate::secret::Secret;
use crate::text::nearest_word;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Slack(slack::Slack),
    Discord(discord::Discord),
    Ntfy(ntfy::Ntfy),
    Telegram(telegram::Telegram),
    Gotify(gotify::Gotify),
    Webhook(webhook::Webhook),
    Ping(ping::Ping),
}

const SPOKEN: [&str; 10] = [
    "slack",
    "discord",
    "ntfy",
    "telegram",
    "gotify",
    "generic",
    "generic+https",
    "generic+http",
    "hc+https",
    "hc+http",
];

/// Those that shoutrrr knows besides: none of them is a typo of one of ours.
const UNSPOKEN: [&str; 15] = [
    "bark",
    "googlechat",
    "hangouts",
    "ifttt",
    "join",
    "lark",
    "matrix",
    "mattermost",
    "opsgenie",
    "pagerduty",
    "pushbullet",
    "pushover",
    "rocketchat",
    "teams",
    "zulip",
];

impl Service {
    pub fn of(address: Address, template: Option<&Template>) -> Result<Self, BadNotify> {
        match address.scheme.as_str() {
            "slack" => slack::Slack::of(address).map(Self::Slack),
            "discord" => discord::Discord::of(address).map(Self::Discord),
            "ntfy" => ntfy::Ntfy::of(address).map(Self::Ntfy),
            "telegram" => telegram::Telegram::of(address).map(Self::Telegram),
            "gotify" => gotify::Gotify::of(address).map(Self::Gotify),
            "generic" | "generic+https" | "generic+http" => {
                webhook::Webhook::of(address, template).map(Self::Webhook)
            }
            "hc+https" | "hc+http" => ping::Ping::of(address).map(Self::Ping),
            _ => Err(unspoken(&address)),
        }
    }

    /// Why the server did not do it, and whether it may do it later, where its answer is a success to HTTP.
    pub fn refusal(&self, answer: &str) -> Option<(String, bool)> {
        match self {
            Self::Slack(_) => slack::refusal(answer),
            Self::Ping(_) => ping::refusal(answer),
            _ => None,
        }
    }
}

fn unspoken(address: &Address) -> BadNotify {
    let scheme = address.scheme.as_str();
    let hint = match (scheme, address.host.as_str()) {
        ("http" | "https", "hooks.slack.com") => {
            "write `slack://hook:A-B-C@webhook`, with the part after `/services/`".to_owned()
        }
        ("http" | "https", "discord.com" | "discordapp.com") => {
            "write `discord://TOKEN@ID`, with the two parts after `/webhooks/` swapped".to_owned()
        }
        ("http" | "https", _) => format!(
            "write `generic+{scheme}://…` for a webhook, `hc+{scheme}://…` for a service like healthchecks.io"
        ),
        ("smtp" | "smtps" | "mailto", _) => {
            "to send mail, set --mail-to, --mail-from and --smtp-url".to_owned()
        }
        _ => {
            let meant = nearest_word(scheme, SPOKEN).filter(|_| !UNSPOKEN.contains(&scheme));
            let meant = meant.map(|near| format!("did you mean `{near}://`? "));
            format!(
                "{}use one of `{}`; for other services that take webhooks, use `generic+https` with a template",
                meant.unwrap_or_default(),
                SPOKEN.join("`, `")
            )
        }
    };
    BadNotify::new(
        format!("has the scheme `{scheme}`, which is not supported"),
        hint,
    )
}

fn ensure_no_login(address: &Address) -> Result<(), BadNotify> {
    match (&address.user, &address.password) {
        (None, None) => Ok(()),
        _ => Err(BadNotify::new(
            "has a user or a password, which this service does not use",
            "leave out everything up to the `@`",
        )),
    }
}

fn ensure_headers(headers: &[(HeaderName, Secret)]) -> Result<(), BadNotify> {
    let odd = headers
        .iter()
        .find(|(_, value)| HeaderValue::from_str(value.expose()).is_err());
    match odd {
        None => Ok(()),
        Some((name, _)) => Err(BadNotify::new(
            format!("has an invalid value for the header `{name}`"),
            "write it in printable ASCII",
        )),
    }
}

/// With its question mark, or nothing.
fn query(options: Vec<(String, Secret)>) -> Secret {
    let parts = options
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.expose())));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => Secret::new(""),
        false => Secret::new(format!("?{}", parts.join("&"))),
    }
}

/// Text in a fixed pitch, since what is told has columns, as much of it as there is room for. Nothing in it ends the block.
fn block(text: &str, room: usize, width: impl Fn(char) -> usize) -> String {
    const FENCES: usize = 8;
    let inside = text.replace("```", "'''");
    format!("```\n{}\n```", cut(&inside, room - FENCES, width))
}

#[cfg(test)]
mod tests;
