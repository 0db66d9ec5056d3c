//! What a WebDAV server refused, in words, and what mends it.

use std::time::Duration;

use reqwest::{Response, StatusCode};

use super::super::fault::Fault;
use crate::text::full_text;

impl Fault {
    /// The server did not answer.
    pub(super) fn unanswered(error: &reqwest::Error) -> Self {
        let why = full_text(error);
        let hint = if is_about_certificates(&why) {
            Some("name the CA certificate with `ca-file=` in the URL")
        } else if error.is_connect() {
            Some("check the host and the port, and that this container can reach it")
        } else {
            None
        };
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(why)
        }
    }

    /// The server answered, and not as it should.
    pub(super) async fn refused(response: Response, has_user: bool) -> Self {
        let status = response.status();
        let wants_digest = wants_only_digest(&response);
        let hint = match status {
            StatusCode::UNAUTHORIZED if wants_digest => {
                "it asks for Digest authentication, which Cofferdam does not support: allow Basic there, and use TLS"
            }
            StatusCode::UNAUTHORIZED if has_user => "check WEBDAV_USER and WEBDAV_PASSWORD",
            StatusCode::UNAUTHORIZED => {
                "set WEBDAV_USER and WEBDAV_PASSWORD, or the variables of the same names with _FILE"
            }
            StatusCode::FORBIDDEN => "allow that user to read, write and delete there",
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                "check the URL's path; Nextcloud's is /remote.php/dav/files/USER/…"
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                "there is no WebDAV at that path; Nextcloud's is /remote.php/dav/files/USER/…"
            }
            StatusCode::LENGTH_REQUIRED => {
                "it, or a proxy in front of it, rejects a body of unknown length; allow chunked transfer encoding there"
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                "it, or a proxy in front of it, limits the size of a body (`LimitRequestBody`, `client_max_body_size`)"
            }
            StatusCode::LOCKED => "another client has locked it; try again later",
            StatusCode::INSUFFICIENT_STORAGE => "make room there, or name another place",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                "the server is busy; try again later"
            }
            status if status.is_redirection() => {
                "it redirects elsewhere: use the URL that it redirects to"
            }
            _ => "",
        };
        let mut why = format!("the server answered {status}");
        if let Ok(Some(said)) = tokio::time::timeout(SAYING, message(response)).await {
            why = format!("{why}: {said}");
        }
        Self {
            refused: matches!(
                status,
                StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED
            ),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
            ..Self::new(why)
        }
    }
}

pub(super) fn is_about_certificates(text: &str) -> bool {
    text.contains("certificate") || text.contains("UnknownIssuer")
}

fn wants_only_digest(response: &Response) -> bool {
    let offers = response.headers().get_all("www-authenticate");
    let mut offers = offers
        .iter()
        .map(|offer| offer.to_str().unwrap_or("").to_ascii_lowercase())
        .peekable();
    offers.peek().is_some() && offers.all(|offer| offer.starts_with("digest"))
}

/// What a message may take.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
const SAYING: Duration = Duration::from_secs(10);

/// The server's own words, where it has some: `<s:message>` of what is built on SabreDAV.
async fn message(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_MESSAGE_BYTES {
            break;
        }
    }
    said(&String::from_utf8_lossy(&body))
}

fn said(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("message>")?;
    let (said, _) = rest.split_once("</")?;
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(body).unwrap().into()
    }

    async fn told(response: Response, has_user: bool) -> String {
        let fault = Fault::refused(response, has_user).await;
        format!("{}; {}", fault.why, fault.hint.unwrap_or_default())
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        let basic = &[("www-authenticate", "Basic realm=x")];
        let digest = &[("www-authenticate", "Digest realm=x")];
        let sabre = "<?xml version=\"1.0\"?>\n<d:error><s:exception>Quota</s:exception><s:message>No space\n left</s:message></d:error>";
        let texts = [
            told(response(401, basic, ""), true).await,
            told(response(401, basic, ""), false).await,
            told(response(401, digest, ""), true).await,
            told(response(403, &[], "<html>no</html>"), true).await,
            told(response(405, &[], ""), true).await,
            told(response(411, &[], ""), true).await,
            told(response(507, &[], sabre), true).await,
        ];
        insta::assert_snapshot!(texts.join("\n"), @r"
        the server answered 401 Unauthorized; check WEBDAV_USER and WEBDAV_PASSWORD
        the server answered 401 Unauthorized; set WEBDAV_USER and WEBDAV_PASSWORD, or the variables of the same names with _FILE
        the server answered 401 Unauthorized; it asks for Digest authentication, which Cofferdam does not support: allow Basic there, and use TLS
        the server answered 403 Forbidden; allow that user to read, write and delete there
        the server answered 405 Method Not Allowed; there is no WebDAV at that path; Nextcloud's is /remote.php/dav/files/USER/…
        the server answered 411 Length Required; it, or a proxy in front of it, rejects a body of unknown length; allow chunked transfer encoding there
        the server answered 507 Insufficient Storage: No space left; make room there, or name another place
        ");
    }
}
