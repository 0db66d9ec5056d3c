//! What goes to a server.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, Method};
use serde_json::Value;

use crate::secret::Secret;

/// Shorter pieces of a URL are no secrets, and stand in too many other words.
const SHORTEST_SECRET: usize = 4;

pub(super) struct Request {
    pub method: Method,
    pub url: Secret,
    pub headers: Vec<(HeaderName, Secret)>,
    pub body: String,
    /// What of the body must not be shown.
    pub confidential: Vec<Secret>,
}

impl Request {
    pub fn json(url: Secret, document: &Value) -> Self {
        Self::post(url, "application/json; charset=utf-8", document.to_string())
    }

    pub fn text(url: Secret, text: String) -> Self {
        Self::post(url, "text/plain; charset=utf-8", text)
    }

    pub fn post(url: Secret, content_type: &str, body: String) -> Self {
        Self {
            method: Method::POST,
            url,
            headers: vec![(CONTENT_TYPE, Secret::new(content_type))],
            body,
            confidential: Vec::new(),
        }
    }

    pub fn with_header(mut self, name: HeaderName, value: Secret) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn with_authorization(self, value: Option<Secret>) -> Self {
        match value {
            Some(value) => self.with_header(AUTHORIZATION, value),
            None => self,
        }
    }

    /// `text`, which a server has said, without what only this request has said: servers like to repeat what they were asked.
    pub fn redact(&self, text: &str) -> String {
        let url = self.url.expose();
        let behind_host = url.splitn(4, '/').nth(3).unwrap_or_default();
        let headers = self.headers.iter().filter(|(name, _)| name != CONTENT_TYPE);
        let confidential = headers.map(|(_, value)| value).chain(&self.confidential);
        let mut pieces = vec![behind_host.to_owned()];
        for text in confidential.map(Secret::expose).chain([behind_host]) {
            let parts = text.split(['/', '?', '&', '=']).chain([text]);
            for part in parts {
                let decoded = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
                let between_words = |char: char| !char.is_alphanumeric() && !"-_.".contains(char);
                for whole in [part, &decoded] {
                    pieces.push(whole.to_owned());
                    pieces.extend(whole.split(between_words).map(str::to_owned));
                }
            }
        }
        pieces.retain(|piece| piece.len() >= SHORTEST_SECRET);
        // What is a part of another goes after it.
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        let redact = |text: String, piece: &String| Secret::new(piece).redact(&text);
        pieces.iter().fold(text.to_owned(), redact)
    }
}

/// For a login by name and password.
pub(super) fn basic(user: &str, password: &Secret) -> Secret {
    use base64::Engine as _;
    let login = format!("{user}:{}", password.expose());
    let encoded = base64::engine::general_purpose::STANDARD.encode(login);
    Secret::new(format!("Basic {encoded}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_is_redacted() {
        let url = "https://example.org/hooks/T0%20ken/x?key=hunter2&n=1";
        let mut request = Request::text(Secret::new(url), String::new())
            .with_authorization(Some(Secret::new("Bearer tr0ub4dor")));
        request.confidential.push(Secret::new("correct horse"));
        for (said, shown) in [
            (
                "cannot POST /hooks/T0%20ken/x?key=hunter2&n=1",
                "cannot POST /[redacted]",
            ),
            ("no hook `T0 ken`", "no hook `[redacted]`"),
            ("key hunter2 or tr0ub4dor", "key [redacted] or [redacted]"),
            ("correct horse, horse", "[redacted], [redacted]"),
            ("text/plain is refused", "text/plain is refused"),
        ] {
            assert_eq!(request.redact(said), shown);
        }
    }
}
