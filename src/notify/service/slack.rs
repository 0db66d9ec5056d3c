//! Slack, by an incoming webhook or by a bot (`chat.postMessage`).
//!
//! ```text
//! slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook
//! slack://T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX
//! slack://xoxb:123456789012-1234567890123-4mt0t4l1YL3g1T5L4cK70k3N@C0123456789
//! ```
//!
//! All may have a name before the token, with an `@` behind it.

use serde_json::{Value, json};

use super::super::BadNotify;
use super::super::address::Address;
use super::super::notice::Notice;
use super::super::request::Request;
use super::block;
use crate::secret::Secret;

/// Of characters, after escaping. Slack cuts longer texts by itself, and says nothing of it.
const MAX_CHARACTERS: usize = 40_000;

const SHAPE: &str = "write `slack://hook:A-B-C@webhook` with the three parts of the webhook's URL after `/services/`, or \
    `slack://xoxb:REST-OF-THE-TOKEN@CHANNEL`";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Slack {
    access: Access,
    name: Option<String>,
    icon: Option<String>,
    color: Option<String>,
    thread: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Access {
    /// `A/B/C`
    Hook(Secret),
    Bot {
        token: Secret,
        channel: String,
    },
}

impl Slack {
    pub fn of(mut address: Address) -> Result<Self, BadNotify> {
        let login = [&address.user, &address.password];
        let login: Vec<&str> = login.into_iter().flatten().map(Secret::expose).collect();
        let path = address.path.expose().trim_end_matches('/');
        let (name, token, channel) = if path.is_empty() {
            let login = login.join(":");
            match login.rsplit_once('@') {
                Some((name, token)) => (name.to_owned(), token.to_owned(), address.host.as_str()),
                None => (String::new(), login, address.host.as_str()),
            }
        } else {
            (
                login.join(":"),
                format!("{}{path}", address.host),
                "webhook",
            )
        };
        let access =
            access(&token, channel).ok_or_else(|| BadNotify::new("has no Slack token", SHAPE))?;
        let options = &mut address.options;
        let slack = Self {
            access,
            name: options
                .text(&["botname", "username"])
                .or(Some(name))
                .filter(|name| !name.is_empty()),
            icon: options.text(&["icon", "icon_emoji", "icon_url"]),
            color: options.text(&["color"]),
            thread: options.text(&["thread_ts"]),
        };
        options.take(&["title"]);
        options.ensure_all_are_known()?;
        Ok(slack)
    }

    /// What may be shown of it.
    pub fn channel(&self) -> &str {
        match &self.access {
            Access::Hook(_) => "webhook",
            Access::Bot { channel, .. } => channel,
        }
    }

    pub fn request(&self, notice: &Notice) -> Request {
        let mut document = self.message(notice);
        match &self.access {
            Access::Hook(token) => {
                let url = format!("https://hooks.slack.com/services/{}", token.expose());
                Request::json(Secret::new(url), &document)
            }
            Access::Bot { token, channel } => {
                document["channel"] = channel.as_str().into();
                let url = Secret::new("https://slack.com/api/chat.postMessage");
                let authorization = Secret::new(format!("Bearer {}", token.expose()));
                Request::json(url, &document).with_authorization(Some(authorization))
            }
        }
    }

    fn message(&self, notice: &Notice) -> Value {
        let title = format!("*{}*", escaped(&notice.headline()));
        let room = MAX_CHARACTERS - title.chars().count() - 1;
        let width = |char| escape(char).map_or(1, str::len);
        let body = escaped(&block(&notice.text(), room, width));
        let mut message = match &self.color {
            None => json!({"text": format!("{title}\n{body}")}),
            Some(color) => json!({
                "text": title,
                "attachments": [{"color": color, "text": body, "mrkdwn_in": ["text"]}],
            }),
        };
        let icon_key = match &self.icon {
            Some(icon) if icon.contains("://") => "icon_url",
            _ => "icon_emoji",
        };
        for (key, value) in [
            ("username", &self.name),
            (icon_key, &self.icon),
            ("thread_ts", &self.thread),
        ] {
            if let Some(value) = value {
                message[key] = value.as_str().into();
            }
        }
        message
    }
}

/// `None` where it is no token. The parts of one have been divided in many ways.
fn access(token: &str, channel: &str) -> Option<Access> {
    let mut parts: Vec<&str> = token.split(['-', ':', '/', ',']).collect();
    let good =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !parts.iter().all(good) {
        return None;
    }
    match parts[0] {
        kind if kind.starts_with("xox") && parts.len() > 1 && !channel.is_empty() => {
            Some(Access::Bot {
                token: Secret::new(parts.join("-")),
                channel: channel.to_owned(),
            })
        }
        _ => {
            parts.retain(|part| *part != "hook");
            let is_hook = parts.len() == 3 && channel == "webhook";
            is_hook.then(|| Access::Hook(Secret::new(parts.join("/"))))
        }
    }
}

fn escape(char: char) -> Option<&'static str> {
    match char {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

/// Without what would become a link or wake a whole channel.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match escape(char) {
            Some(entity) => escaped.push_str(entity),
            None => escaped.push(char),
        }
    }
    escaped
}

/// What the API says in the body of an answer that is a success to HTTP: why it did not do it, and whether it may do it later.
pub(in super::super) fn refusal(body: &str) -> Option<(String, bool)> {
    let answer: Value = serde_json::from_str(body).ok()?;
    if answer["ok"] != Value::Bool(false) {
        return None;
    }
    let why = answer["error"].as_str().unwrap_or("no reason given");
    let may_pass = [
        "ratelimited",
        "internal_error",
        "fatal_error",
        "request_timeout",
        "service_unavailable",
    ];
    Some((why.to_owned(), may_pass.contains(&why)))
}
