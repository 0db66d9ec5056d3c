//! Where requests are answered, from what is in memory.

use std::time::Instant;

use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::access::{self, Denied};
use super::answer::{Answer, answer, json, refusal, with};
use super::shown::Shown;
use super::{metrics, page};
use crate::daemon::{Inbox, Occasion, Pulse};
use crate::secret::Secret;
use crate::text::quoted;

pub struct Handler {
    pub token: Option<Secret>,
    pub shown: Shown,
    pub inbox: Inbox,
    pub pulse: Pulse,
}

impl Handler {
    pub fn answer<B>(&self, request: &Request<B>) -> Answer {
        match request.uri().path() {
            "/healthz" => only(request, &[Method::GET, Method::HEAD], || {
                self.health(request)
            }),
            "/backup" => only(request, &[Method::POST], || self.backup(request)),
            _ => match access::may_look(request, self.token.as_ref()) {
                Err(denied) => turned_away(denied, BROWSER),
                Ok(()) => self.look(request),
            },
        }
    }

    /// What only shows.
    fn look<B>(&self, request: &Request<B>) -> Answer {
        let now = Timestamp::now();
        let health = self.pulse.health(Instant::now());
        let shows = |content_type, body: String| {
            only(request, &[Method::GET, Method::HEAD], || {
                answer(StatusCode::OK, content_type, body)
            })
        };
        match request.uri().path() {
            "/" => {
                let ailing = (!health.healthy).then_some(&*health.why);
                let page = page::page(&self.shown, ailing, now);
                shows("text/html; charset=utf-8", page)
            }
            "/style.css" => shows("text/css; charset=utf-8", page::STYLE.to_owned()),
            "/icon.svg" => shows("image/svg+xml", page::ICON.to_owned()),
            "/metrics" => {
                let overview = self.shown.overview();
                let metrics = metrics::metrics(&overview, health.healthy, now);
                shows(metrics::CONTENT_TYPE, metrics)
            }
            _ => refusal(
                StatusCode::NOT_FOUND,
                "nothing here; use /, /metrics, /healthz or POST /backup",
            ),
        }
    }

    /// Anybody may know whether the daemon is well; who may look is told why.
    fn health<B>(&self, request: &Request<B>) -> Answer {
        let health = self.pulse.health(Instant::now());
        let status = if health.healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        match access::may_look(request, self.token.as_ref()) {
            Ok(()) => json(status, &json!(health)),
            Err(_) => json(status, &json!({ "healthy": health.healthy })),
        }
    }

    fn backup<B>(&self, request: &Request<B>) -> Answer {
        let Some(token) = &self.token else {
            return refusal(
                StatusCode::FORBIDDEN,
                "no token is set, so backups cannot be requested; set COFFERDAM_TOKEN_FILE or COFFERDAM_TOKEN",
            );
        };
        if let Err(denied) = access::may_ask(request, token) {
            return turned_away(denied, PROGRAM);
        }
        let wanted = match projects_of(request.uri().query().unwrap_or_default()) {
            Ok(wanted) => wanted,
            Err(parameter) => {
                let what = quoted(&parameter);
                return refusal(
                    StatusCode::BAD_REQUEST,
                    format!("unknown parameter `{what}`; use POST /backup?project=NAME"),
                );
            }
        };
        self.ask(wanted)
    }

    /// Of each of the projects that are wanted; when none is named, of each that asks for something to be saved.
    fn ask(&self, wanted: Vec<String>) -> Answer {
        let health = self.pulse.health(Instant::now());
        let overview = self.shown.overview();
        let Some(known) = overview.projects.as_ref().filter(|_| health.healthy) else {
            let why = if health.healthy {
                "labels have not been read yet; try again in a moment".to_owned()
            } else {
                format!("the daemon is unhealthy: {}", health.why)
            };
            let answer = refusal(StatusCode::SERVICE_UNAVAILABLE, why);
            return with(answer, RETRY_AFTER, "10");
        };
        let saved: Vec<&str> = known
            .iter()
            .filter(|(_, project)| project.asks_for_something())
            .map(|(name, _)| name.as_str())
            .collect();
        let names = saved.iter().map(|name| format!("`{}`", quoted(name)));
        let names = names.collect::<Vec<_>>().join(", ");
        for name in &wanted {
            if !saved.contains(&name.as_str()) {
                let what = match known.contains_key(name) {
                    true => "nothing is labelled for backup in",
                    false => "this daemon does not know",
                };
                let why = format!("{what} project `{}`; it saves {names}", quoted(name));
                return refusal(StatusCode::NOT_FOUND, why);
            }
        }
        let asked = if wanted.is_empty() {
            saved.into_iter().map(str::to_owned).collect()
        } else {
            wanted
        };
        if asked.is_empty() {
            let why = "nothing is labelled for backup; `cofferdam plan` shows what you can label";
            return refusal(StatusCode::NOT_FOUND, why);
        }
        for project in &asked {
            self.inbox.ask(project, Occasion::Request);
        }
        json(StatusCode::ACCEPTED, &json!({ "asked": asked }))
    }
}

const BROWSER: &[&str] = &[
    r#"Basic realm="cofferdam: any name, and the token as the password", charset="UTF-8""#,
    r#"Bearer realm="cofferdam""#,
];
const PROGRAM: &[&str] = &[r#"Bearer realm="cofferdam""#];

fn turned_away(denied: Denied, challenges: &'static [&'static str]) -> Answer {
    let why = match denied {
        Denied::ForeignName => {
            let why = "without a token, only http://127.0.0.1 and http://localhost are allowed; to use other names, set \
                COFFERDAM_TOKEN_FILE or COFFERDAM_TOKEN";
            return refusal(StatusCode::FORBIDDEN, why);
        }
        Denied::NoToken => "the token is missing",
        Denied::WrongToken => "the token is wrong",
    };
    let why = format!("{why}; send `Authorization: Bearer` and the value of COFFERDAM_TOKEN");
    let answer = refusal(StatusCode::UNAUTHORIZED, why);
    challenges.iter().fold(answer, |answer, challenge| {
        with(answer, WWW_AUTHENTICATE, challenge)
    })
}

fn only<B>(request: &Request<B>, methods: &[Method], then: impl FnOnce() -> Answer) -> Answer {
    if methods.contains(request.method()) {
        return then();
    }
    let allowed = if methods.contains(&Method::POST) {
        "POST"
    } else {
        "GET, HEAD"
    };
    let why = format!("use {allowed} here");
    with(refusal(StatusCode::METHOD_NOT_ALLOWED, why), ALLOW, allowed)
}

/// The values of `project` in a query; the name of a parameter that there is not.
fn projects_of(query: &str) -> Result<Vec<String>, String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some(("project", value)) => Ok(decoded(value)),
            Some((name, _)) => Err(decoded(name)),
            None => Err(decoded(pair)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::serve::samples;
    use crate::report::runlog::Runlog;
    use http_body_util::BodyExt as _;

    const TOKEN: &str = "0123456789abcdef";

    fn handler(shown: Shown) -> Handler {
        Handler {
            token: Some(Secret::new(TOKEN)),
            shown,
            inbox: Inbox::default(),
            pulse: Pulse::default(),
        }
    }

    async fn told(handler: &Handler, request: &str) -> (u16, String) {
        let (method, uri) = request.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        let answer = handler.answer(&request.body(()).unwrap());
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_asked_for_is_what_labels_ask_for() {
        let handler = handler(samples::shown(Runlog::default()));
        for (request, status, says) in [
            (
                "POST /backup?project=candig",
                202,
                r#"{"asked":["candig"]}"#,
            ),
            (
                "POST /backup?project=idle",
                404,
                "nothing is labelled for backup",
            ),
            ("POST /backup?project=candig&project=other", 404, "`other`"),
            ("POST /backup?project=", 404, "does not know project ``"),
            ("POST /backup?candig", 400, "unknown parameter `candig`"),
        ] {
            let (told, body) = told(&handler, request).await;
            assert_eq!(told, status, "{request}: {body}");
            assert!(body.contains(says), "{request}: {body}");
        }
        assert_eq!(handler.inbox.take_backup("candig"), Some(Occasion::Request));
        for nobody in ["idle", "other", ""] {
            assert_eq!(handler.inbox.take_backup(nobody), None);
        }
    }

    #[tokio::test]
    async fn who_comes_too_early_or_to_a_daemon_that_is_not_well_is_told_to_come_again() {
        let new = Shown::new(jiff::tz::TimeZone::UTC, Vec::new(), Runlog::default());
        let (status, body) = told(&handler(new), "POST /backup").await;
        assert_eq!(status, 503);
        assert!(body.contains("try again"), "{body}");

        let handler = handler(samples::shown(Runlog::default()));
        handler.pulse.engine(Some("the engine is away".to_owned()));
        for request in ["POST /backup", "GET /healthz", "GET /", "GET /metrics"] {
            let (status, body) = told(&handler, request).await;
            let (expected, says) = match request {
                "GET /" => (200, "The daemon is unhealthy: the engine is away"),
                "GET /metrics" => (200, "cofferdam_healthy 0"),
                _ => (503, "the engine is away"),
            };
            assert_eq!(status, expected, "{request}");
            assert!(body.contains(says), "{request}: {body}");
        }
        assert_eq!(handler.inbox.take_backup("candig"), None);
    }
}
