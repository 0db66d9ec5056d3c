//! Any server that takes what is sent to it: `generic://HOST/PATH`, `generic+https://…` and `generic+http://…`.
//!
//! It gets a JSON document, or what a template makes. Options with an `@` before their names become headers, those with a `$`
//! fields of the document; what has no meaning here goes on to the server.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, Method};
use serde_json::{Value, json};

use super::super::BadNotify;
use super::super::address::{Address, Options};
use super::super::notice::Notice;
use super::super::request::{Request, basic};
use super::super::template::{Escaping, Template};
use crate::secret::Secret;

const JSON: &str = "application/json";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Webhook {
    url: Secret,
    method: Method,
    content_type: String,
    headers: Vec<(HeaderName, Secret)>,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// All there is to say, and fields of the user's.
    Document {
        fields: Vec<(String, Secret)>,
    },
    /// Title and body alone, under these names, as shoutrrr's `template=json` has it.
    TitleAndMessage {
        title_key: String,
        message_key: String,
        fields: Vec<(String, Secret)>,
    },
    Template(Template),
}

impl Webhook {
    /// `template` is what is used when the URL has none.
    pub fn of(mut address: Address, template: Option<&Template>) -> Result<Self, BadNotify> {
        address.ensure_host("generic+https://HOST/PATH")?;
        let options = &mut address.options;
        let headers = headers(options.marked('@'))?;
        let is_plain = options.switch("disabletls", false)? || address.scheme == "generic+http";
        let scheme = if is_plain { "http" } else { "https" };
        let method = method(options)?;
        let content_type = options
            .text(&["contenttype"])
            .unwrap_or_else(|| JSON.to_owned());
        options.take(&["title"]);
        let content = Content::of(options, template, escaping(&content_type))?;
        let query = super::query(address.options.forwarded());
        let url = format!(
            "{scheme}://{}{}{}",
            address.host,
            address.path.expose(),
            query.expose()
        );
        let mut webhook = Self {
            url: Secret::new(url),
            method,
            content_type,
            headers,
            content,
        };
        if let Some(user) = &address.user {
            let none = Secret::new("");
            let password = address.password.as_ref().unwrap_or(&none);
            webhook
                .headers
                .push((AUTHORIZATION, basic(user.expose(), password)));
        }
        super::ensure_headers(&webhook.headers)?;
        super::ensure_headers(&[(CONTENT_TYPE, Secret::new(webhook.content_type.as_str()))])?;
        Ok(webhook)
    }

    pub fn request(&self, notice: &Notice) -> Request {
        let body = self.content.of_notice(notice, escaping(&self.content_type));
        let mut request = Request::post(self.url.clone(), &self.content_type, body);
        request.method = self.method.clone();
        request.headers.extend(self.headers.iter().cloned());
        request.confidential = self.content.confidential();
        request
    }
}

impl Content {
    fn of(
        options: &mut Options,
        template: Option<&Template>,
        escaping: Escaping,
    ) -> Result<Self, BadNotify> {
        let fitting = |template: Template| match escaping {
            Escaping::Json => template.ensure_json().map(|()| template),
            Escaping::Form | Escaping::None => Ok(template),
        };
        let fields = options.marked('$');
        let keys = (options.text(&["titlekey"]), options.text(&["messagekey"]));
        let content = match options.text(&["template"]) {
            Some(name) if name.eq_ignore_ascii_case("json") => {
                return Ok(Self::TitleAndMessage {
                    title_key: keys.0.unwrap_or_else(|| "title".to_owned()),
                    message_key: keys.1.unwrap_or_else(|| "message".to_owned()),
                    fields,
                });
            }
            Some(text) => {
                let own = Template::parse(&text).and_then(fitting);
                Self::Template(own.map_err(of_the_template)?)
            }
            None => match template {
                Some(template) => {
                    let fitting = fitting(template.clone());
                    Self::Template(fitting.map_err(of_the_template_of_all)?)
                }
                None => Self::Document {
                    fields: fields.clone(),
                },
            },
        };
        if keys != (None, None) {
            return Err(BadNotify::new(
                "has `titlekey` or `messagekey` without `template=json`",
                "add `template=json`, or leave them out",
            ));
        }
        if matches!(content, Self::Template(_)) && !fields.is_empty() {
            return Err(BadNotify::new(
                "has both a template and fields, whose names start with `$`",
                "write the fields into the template",
            ));
        }
        Ok(content)
    }

    fn of_notice(&self, notice: &Notice, escaping: Escaping) -> String {
        let (mut document, fields) = match self {
            Self::Template(template) => return template.fill(notice, escaping),
            Self::Document { fields } => (document(notice), fields),
            Self::TitleAndMessage {
                title_key,
                message_key,
                fields,
            } => (
                json!({title_key: notice.headline(), message_key: notice.text()}),
                fields,
            ),
        };
        for (name, value) in fields {
            document[name] = value.expose().into();
        }
        document.to_string()
    }

    fn confidential(&self) -> Vec<Secret> {
        match self {
            Self::Template(template) => template.words().map(Secret::new).collect(),
            Self::Document { fields } | Self::TitleAndMessage { fields, .. } => {
                fields.iter().map(|(_, value)| value.clone()).collect()
            }
        }
    }
}

fn document(notice: &Notice) -> Value {
    let facts = &notice.facts;
    json!({
        "format": 1,
        "tool": concat!("cofferdam ", env!("CARGO_PKG_VERSION")),
        "kind": notice.kind.as_str(),
        "time": notice.time.to_string(),
        "projects": notice.projects,
        "title": notice.headline(),
        "body": notice.text(),
        "snapshots": facts.snapshots,
        "failed": facts.failed,
        "stored_bytes": facts.bytes,
        "duration_seconds": facts.seconds(),
    })
}

fn of_the_template(error: BadNotify) -> BadNotify {
    BadNotify::new(format!("has a template that {}", error.what), error.hint)
}

fn of_the_template_of_all(error: BadNotify) -> BadNotify {
    let what = format!(
        "has COFFERDAM_NOTIFY_TEMPLATE[_FILE] as its template, which {}",
        error.what
    );
    BadNotify::new(what, error.hint)
}

fn method(options: &mut Options) -> Result<Method, BadNotify> {
    const METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::GET];
    let Some(text) = options.text(&["method"]) else {
        return Ok(Method::POST);
    };
    let known = METHODS
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(&text));
    known.ok_or_else(|| {
        BadNotify::new(
            "has an unsuitable `method`",
            "write `POST`, `PUT`, `PATCH` or `GET`",
        )
    })
}

/// `acceptLanguage` means `accept-language`.
fn headers(marked: Vec<(String, Secret)>) -> Result<Vec<(HeaderName, Secret)>, BadNotify> {
    let named = marked.into_iter().map(|(name, value)| {
        let mut dashed = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() && !dashed.is_empty() && !dashed.ends_with('-') {
                dashed.push('-');
            }
            dashed.push(char.to_ascii_lowercase());
        }
        let name = HeaderName::from_bytes(dashed.as_bytes());
        let name = name.map_err(|_| {
            BadNotify::new(
                "has something after an `@` that is not a header name",
                "write `@authorization=…`",
            )
        })?;
        Ok((name, value))
    });
    named.collect()
}

fn escaping(content_type: &str) -> Escaping {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => Escaping::Form,
        kind if kind.ends_with("/json") || kind.ends_with("+json") => Escaping::Json,
        _ => Escaping::None,
    }
}
