//! ntfy: `ntfy://[USER:PASSWORD@]HOST/TOPIC`. An access token goes as a password without a user.

use http::HeaderName;
use serde_json::json;

use super::super::BadNotify;
use super::super::address::Address;
use super::super::cut::cut;
use super::super::notice::Notice;
use super::super::request::{Request, basic};
use crate::secret::Secret;
use crate::text::nearest_word;

/// Of bytes. From 4,096 on, a message becomes an attachment, or is refused.
const MAX_MESSAGE_BYTES: usize = 4_095;

const SHAPE: &str = "ntfy://[USER:PASSWORD@]HOST/TOPIC";

/// By their numbers, beginning at 1.
const PRIORITIES: [&str; 5] = ["min", "low", "default", "high", "max"];

/// Options that ntfy takes in headers of the same names.
const PASSED_ON: [(&str, &[&str]); 6] = [
    ("actions", &["actions"]),
    ("click", &["click"]),
    ("delay", &["delay", "at", "in"]),
    ("email", &["email"]),
    ("filename", &["filename"]),
    ("attach", &["attach"]),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Ntfy {
    /// `https://host`
    server: String,
    /// Whoever knows it can read what is told.
    topic: Secret,
    authorization: Option<Secret>,
    tags: Vec<String>,
    priority: Option<u8>,
    headers: Vec<(HeaderName, Secret)>,
}

impl Ntfy {
    pub fn of(mut address: Address) -> Result<Self, BadNotify> {
        address.ensure_host(SHAPE)?;
        let authorization = match (&address.user, &address.password) {
            (None, None) => None,
            (user, Some(password)) => {
                Some(basic(user.as_ref().map_or("", Secret::expose), password))
            }
            (Some(_), None) => {
                return Err(BadNotify::new(
                    "has a user without a password",
                    format!("write `{SHAPE}`; an access token goes as `ntfy://:TOKEN@HOST/TOPIC`"),
                ));
            }
        };
        let topic = address.path.expose().trim_matches('/');
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if topic.is_empty() || !topic.bytes().all(fits) {
            return Err(BadNotify::new(
                "has no ntfy topic, which consists of letters, digits, `-` and `_`",
                format!("write `{SHAPE}`"),
            ));
        }
        let topic = Secret::new(topic);
        let options = &mut address.options;
        let scheme = match options.text(&["scheme"]).as_deref() {
            None | Some("https") => "https",
            Some("http") => "http",
            Some(_) => {
                return Err(BadNotify::new(
                    "has something other than `http` or `https` for `scheme`",
                    "leave it out, or write `scheme=http`",
                ));
            }
        };
        let scheme = if options.switch("disabletls", false)? {
            "http"
        } else {
            scheme
        };
        let priority = options
            .text(&["priority"])
            .map(|text| priority(&text))
            .transpose()?;
        let tags = options.text(&["tags"]).unwrap_or_default();
        let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        let mut headers = Vec::new();
        for (header, names) in PASSED_ON {
            if let Some(value) = options.take(names) {
                headers.push((HeaderName::from_static(header), value));
            }
        }
        if let Some(icon) = options.take(&["icon"]) {
            headers.push((HeaderName::from_static("x-icon"), icon));
        }
        for name in ["cache", "firebase"] {
            if !options.switch(name, true)? {
                headers.push((HeaderName::from_static(name), Secret::new("no")));
            }
        }
        options.take(&["title"]);
        options.ensure_all_are_known()?;
        super::ensure_headers(&headers)?;
        Ok(Self {
            server: format!("{scheme}://{}", address.host),
            topic,
            authorization,
            tags: tags.map(str::to_owned).collect(),
            priority,
            headers,
        })
    }

    /// As JSON, since titles in headers are ASCII.
    pub fn request(&self, notice: &Notice) -> Request {
        let mut message = json!({
            "topic": self.topic.expose(),
            "title": notice.headline(),
            "message": cut(&notice.text(), MAX_MESSAGE_BYTES, width),
        });
        if !self.tags.is_empty() {
            message["tags"] = self.tags.clone().into();
        }
        if let Some(priority) = self.priority {
            message["priority"] = priority.into();
        }
        let mut request = Request::json(Secret::new(format!("{}/", self.server)), &message)
            .with_authorization(self.authorization.clone());
        request.headers.extend(self.headers.iter().cloned());
        request.confidential.push(self.topic.clone());
        request
    }
}

/// Within JSON, which must not have more than twice the room altogether.
fn width(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' => 2,
        _ => char.len_utf8(),
    }
}

fn priority(text: &str) -> Result<u8, BadNotify> {
    let word = text.to_ascii_lowercase();
    let word = if word == "urgent" { "max" } else { &word };
    let numbers = 1..=5;
    let known = numbers
        .zip(PRIORITIES)
        .find(|(number, name)| word == *name || word == number.to_string());
    known.map(|(number, _)| number).ok_or_else(|| {
        let meant = nearest_word(word, PRIORITIES);
        let meant = meant.map(|near| format!("did you mean `{near}`? "));
        BadNotify::new(
            "has an unknown priority",
            format!(
                "{}use `{}`, or 1 to 5",
                meant.unwrap_or_default(),
                PRIORITIES.join("`, `")
            ),
        )
    })
}
