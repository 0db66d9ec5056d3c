//! Signs of life, for a service that misses them when they do not come: healthchecks.io, and what speaks like it.
//!
//! `hc+https://hc-ping.com/UUID` is asked for as it is when all is well, with `/start` behind it when a run begins, and with
//! `/fail` when something is wrong.

use super::super::address::Address;
use super::super::cut::cut;
use super::super::notice::Notice;
use super::super::request::Request;
use super::super::{BadNotify, Kind};
use crate::secret::Secret;

/// Of bytes; the rest would be dropped.
const MAX_BODY_BYTES: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Ping {
    /// Without what is added to its path.
    url: Secret,
    /// With its question mark, or empty.
    query: Secret,
}

impl Ping {
    pub fn of(address: Address) -> Result<Self, BadNotify> {
        const SHAPE: &str = "hc+https://HOST/UUID";
        address.ensure_host(SHAPE)?;
        super::ensure_no_login(&address)?;
        let path = address.path.expose().trim_end_matches('/');
        if path.is_empty() {
            return Err(BadNotify::new(
                "has no check",
                format!("write `{SHAPE}`, as the service shows it"),
            ));
        }
        let last = path.rsplit('/').next();
        if last.is_some_and(|last| ["start", "fail", "log"].contains(&last)) {
            return Err(BadNotify::new(
                "ends with a signal",
                "leave out `/start`, `/fail` or `/log`: cofferdam adds them when needed",
            ));
        }
        let scheme = address.scheme.trim_start_matches("hc+");
        Ok(Self {
            url: Secret::new(format!("{scheme}://{}{path}", address.host)),
            query: super::query(address.options.forwarded()),
        })
    }

    pub fn request(&self, notice: &Notice) -> Request {
        let signal = match notice.kind {
            Kind::Success | Kind::Recovery if !notice.is_overshadowed => "",
            Kind::Success | Kind::Recovery | Kind::Failure | Kind::Stale => "/fail",
            // Is written down, and changes nothing.
            Kind::News | Kind::Test => "/log",
        };
        self.signal(
            signal,
            &format!("{}\n\n{}", notice.headline(), notice.text()),
        )
    }

    pub fn start(&self, text: &str) -> Request {
        self.signal("/start", text)
    }

    fn signal(&self, signal: &str, text: &str) -> Request {
        let url = format!("{}{signal}{}", self.url.expose(), self.query.expose());
        Request::text(Secret::new(url), cut(text, MAX_BODY_BYTES, char::len_utf8))
    }
}

/// What healthchecks.io says in the body of an answer that is a success to HTTP, and whether it may go better later.
pub(in super::super) fn refusal(body: &str) -> Option<(String, bool)> {
    match body.trim() {
        "OK (not found)" => Some(("the check does not exist".to_owned(), false)),
        "OK (rate limited)" => Some(("too many requests".to_owned(), true)),
        _ => None,
    }
}
