//! Gotify: `gotify://HOST[/PATH]/TOKEN`.

use http::HeaderName;
use serde_json::json;

use super::super::BadNotify;
use super::super::address::Address;
use super::super::notice::Notice;
use super::super::request::Request;
use crate::secret::Secret;

const SHAPE: &str = "gotify://HOST[/PATH]/TOKEN";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Gotify {
    /// Of the server's interface for messages.
    url: Secret,
    token: Secret,
    priority: Option<i64>,
}

impl Gotify {
    pub fn of(mut address: Address) -> Result<Self, BadNotify> {
        address.ensure_host(SHAPE)?;
        super::ensure_no_login(&address)?;
        let path = address.path.expose().trim_end_matches('/');
        let (path, token) = path.rsplit_once('/').unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if token.is_empty() || !token.bytes().all(fits) {
            return Err(BadNotify::new(
                "has no token of a Gotify application",
                format!("write `{SHAPE}`"),
            ));
        }
        let options = &mut address.options;
        let scheme = if options.switch("disabletls", false)? {
            "http"
        } else {
            "https"
        };
        let priority = options.text(&["priority"]).map(|text| {
            text.parse().map_err(|_| {
                BadNotify::new(
                    "has a priority that is not a number",
                    "write one, as `priority=5`",
                )
            })
        });
        let gotify = Self {
            url: Secret::new(format!("{scheme}://{}{path}/message", address.host)),
            token: Secret::new(token),
            priority: priority.transpose()?,
        };
        options.take(&["title"]);
        options.ensure_all_are_known()?;
        Ok(gotify)
    }

    pub fn request(&self, notice: &Notice) -> Request {
        let mut message = json!({"title": notice.headline(), "message": notice.text()});
        if let Some(priority) = self.priority {
            message["priority"] = priority.into();
        }
        // Not in the URL, where proxies would log it.
        Request::json(self.url.clone(), &message)
            .with_header(HeaderName::from_static("x-gotify-key"), self.token.clone())
    }
}
