//! Telegram, by a bot: `telegram://TOKEN@telegram?chats=@channel,-1001234567890:42`. Behind a colon may stand the thread of a chat.

use serde_json::json;

use super::super::BadNotify;
use super::super::address::Address;
use super::super::cut::cut;
use super::super::notice::Notice;
use super::super::request::Request;
use crate::secret::Secret;

/// Of characters (in UTF-16), without the markup.
const MAX_CHARACTERS: usize = 4_096;

const SHAPE: &str = "write `telegram://TOKEN@telegram?chats=@channel,1234567`";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Telegram {
    /// `110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw`
    token: Secret,
    /// At least one.
    chats: Vec<Chat>,
    is_silent: bool,
    has_preview: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chat {
    id: String,
    thread: Option<i64>,
}

impl Telegram {
    pub fn of(mut address: Address) -> Result<Self, BadNotify> {
        let token = match (&address.user, &address.password) {
            (Some(id), Some(secret)) => token(id.expose(), secret.expose()),
            _ => None,
        };
        let token = token.ok_or_else(|| BadNotify::new("has no token of a Telegram bot", SHAPE))?;
        let options = &mut address.options;
        let chats = options.text(&["chats", "channels"]).unwrap_or_default();
        let chats: Option<Vec<Chat>> = chats.split(',').map(|text| Chat::of(text.trim())).collect();
        let chats =
            chats.ok_or_else(|| BadNotify::new("names no chats, or an invalid one", SHAPE))?;
        let telegram = Self {
            token,
            chats,
            is_silent: !options.switch("notification", true)?,
            has_preview: options.switch("preview", true)?,
        };
        for unused in ["title", "parsemode"] {
            options.take(&[unused]);
        }
        options.ensure_all_are_known()?;
        Ok(telegram)
    }

    /// One for each chat.
    pub fn requests(&self, notice: &Notice) -> Vec<Request> {
        let title = notice.headline();
        let room = MAX_CHARACTERS - title.encode_utf16().count() - 1;
        let body = cut(&notice.text(), room, char::len_utf16);
        let text = format!("<b>{}</b>\n<pre>{}</pre>", escaped(&title), escaped(&body));
        let url = format!(
            "https://api.telegram.org/bot{}/sendMessage",
            self.token.expose()
        );
        let requests = self.chats.iter().map(|chat| {
            let mut message = json!({
                "chat_id": chat.id,
                "text": text,
                "parse_mode": "HTML",
                "disable_notification": self.is_silent,
                "link_preview_options": {"is_disabled": !self.has_preview},
            });
            if let Some(thread) = chat.thread {
                message["message_thread_id"] = thread.into();
            }
            Request::json(Secret::new(url.as_str()), &message)
        });
        requests.collect()
    }
}

impl Chat {
    fn of(text: &str) -> Option<Self> {
        let (id, thread) = match text.split_once(':') {
            Some((id, thread)) => (id, Some(thread.parse().ok()?)),
            None => (text, None),
        };
        let name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let is_good = id
            .strip_prefix('@')
            .map_or_else(|| id.parse::<i64>().is_ok(), name);
        is_good.then(|| Self {
            id: id.to_owned(),
            thread,
        })
    }
}

fn token(id: &str, secret: &str) -> Option<Secret> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_good = !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_digit())
        && !secret.is_empty()
        && secret.bytes().all(fits);
    is_good.then(|| Secret::new(format!("{id}:{secret}")))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
