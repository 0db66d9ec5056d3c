//! Discord, by a channel's webhook: `discord://TOKEN@ID`.

use serde_json::json;

use super::super::BadNotify;
use super::super::address::Address;
use super::super::notice::Notice;
use super::super::request::Request;
use super::block;
use crate::secret::Secret;

/// Of characters.
const MAX_CHARACTERS: usize = 2_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Discord {
    id: String,
    token: Secret,
    name: Option<String>,
    avatar: Option<String>,
    thread: Option<String>,
}

impl Discord {
    pub fn of(mut address: Address) -> Result<Self, BadNotify> {
        const SHAPE: &str =
            "write `discord://TOKEN@ID`; in the webhook's URL, the id comes first, then the token";
        let plain = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            !text.is_empty() && text.bytes().all(fits)
        };
        let token = address
            .user
            .filter(|token| plain(token.expose()) && address.password.is_none());
        let token = token.ok_or_else(|| BadNotify::new("has no Discord token", SHAPE))?;
        if address.host.is_empty() || !address.host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadNotify::new(
                "has no id of a Discord webhook, which is a number",
                SHAPE,
            ));
        }
        let options = &mut address.options;
        if options.switch("json", false)? || !matches!(address.path.expose(), "" | "/") {
            return Err(BadNotify::new(
                "asks for notifications as Discord's own JSON",
                "leave that out, or use `generic+https://discord.com/api/webhooks/ID/TOKEN` with a template",
            ));
        }
        let discord = Self {
            id: address.host,
            token,
            name: options.text(&["username"]),
            avatar: options.text(&["avatar", "avatarurl"]),
            thread: options.text(&["thread_id"]),
        };
        // What belongs to shoutrrr's way of laying out messages.
        for unused in [
            "title",
            "splitLines",
            "color",
            "colorError",
            "colorWarn",
            "colorInfo",
            "colorDebug",
        ] {
            options.take(&[unused]);
        }
        options.ensure_all_are_known()?;
        Ok(discord)
    }

    pub fn request(&self, notice: &Notice) -> Request {
        // Of the title only its stars could do something, and they do no harm.
        let title = format!("**{}**\n", notice.headline());
        let room = MAX_CHARACTERS - title.encode_utf16().count();
        let body = block(&notice.text(), room, char::len_utf16);
        let mut message = json!({
            "content": title + &body,
            "allowed_mentions": {"parse": []},
        });
        for (key, value) in [("username", &self.name), ("avatar_url", &self.avatar)] {
            if let Some(value) = value {
                message[key] = value.as_str().into();
            }
        }
        let mut url = format!(
            "https://discord.com/api/webhooks/{}/{}",
            self.id,
            self.token.expose()
        );
        if let Some(thread) = &self.thread {
            url = format!("{url}?thread_id={}", super::super::address::encoded(thread));
        }
        Request::json(Secret::new(url), &message)
    }
}
