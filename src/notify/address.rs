//! A URL in its parts.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::BadNotify;
use crate::secret::Secret;
use crate::text::nearest_word;

/// What RFC 3986 lets stand unencoded everywhere.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Decoded, but for the path.
pub(super) struct Address {
    /// In lower case.
    pub scheme: String,
    pub user: Option<Secret>,
    pub password: Option<Secret>,
    /// A host with its port, or what stands in its place. May be empty.
    pub host: String,
    /// As it was written: empty, or with a slash before it.
    pub path: Secret,
    pub options: Options,
}

/// What stands behind the `?`. Names are the same in any case.
pub(super) struct Options {
    given: Vec<(String, Secret)>,
    asked: Vec<&'static str>,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, BadNotify> {
        const SHAPE: &str =
            "write it as `scheme://…`; docs/notifications.md shows one for each service";
        if text
            .chars()
            .any(|char| char.is_control() || char.is_whitespace())
        {
            return Err(BadNotify::new(
                "contains a space or a control character",
                "write a space as `%20`",
            ));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| BadNotify::new("is not a URL", SHAPE))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(plain) {
            return Err(BadNotify::new("has no scheme", SHAPE));
        }
        if rest.contains('#') {
            return Err(BadNotify::new("contains a `#`", "write it as `%23`"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A slash in a password ends up behind the host, as does one that a service wants there.
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(user), Some(password)),
            Some(Err(user)) => (Some(user), None),
        };
        let secret =
            |text: Option<&str>| text.map(decoded).transpose().map(|it| it.map(Secret::new));
        if !is_host(host) {
            return Err(BadNotify::new(
                "has something other than a host and port after its scheme",
                "encode special characters in a user or password: `@` is `%40`, `/` is `%2F`, `:` is `%3A`, `?` is `%3F`",
            ));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: secret(user)?,
            password: secret(password)?,
            host: host.to_owned(),
            path: Secret::new(path),
            options: Options::parse(query)?,
        })
    }

    /// What may be shown of it.
    pub fn shown(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// For services that have hosts of their own.
    pub fn ensure_host(&self, shape: &str) -> Result<(), BadNotify> {
        match reqwest::Url::parse(&format!("https://{}/", self.host)) {
            Ok(_) => Ok(()),
            Err(_) => Err(BadNotify::new("has no host", format!("write `{shape}`"))),
        }
    }
}

/// A name, an address, or nothing; and a port. Names of other things stand there too: they look the same.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_address = inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let port_is_good = port.is_none_or(|port| !host.is_empty() && port.parse::<u16>().is_ok());
    port_is_good && (is_address || host.bytes().all(plain))
}

impl Options {
    fn parse(query: &str) -> Result<Self, BadNotify> {
        let mut given = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decoded(&value.replace('+', " "))?;
            given.push((decoded(&name.replace('+', " "))?, Secret::new(value)));
        }
        Ok(Self {
            given,
            asked: Vec::new(),
        })
    }

    /// The first value of an option that has these names.
    pub fn take(&mut self, names: &[&'static str]) -> Option<Secret> {
        self.asked.extend(names);
        let is_it = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let value = self.given.iter().find(|(name, _)| is_it(name)).cloned();
        self.given.retain(|(name, _)| !is_it(name));
        value
            .map(|(_, value)| value)
            .filter(|value| !value.expose().is_empty())
    }

    pub fn text(&mut self, names: &[&'static str]) -> Option<String> {
        self.take(names).map(|value| value.expose().to_owned())
    }

    /// As shoutrrr reads it.
    pub fn switch(&mut self, name: &'static str, default: bool) -> Result<bool, BadNotify> {
        let Some(value) = self.take(&[name]) else {
            return Ok(default);
        };
        match value.expose().to_ascii_lowercase().as_str() {
            "yes" | "true" | "1" => Ok(true),
            "no" | "false" | "0" => Ok(false),
            _ => Err(BadNotify::new(
                format!("has something other than `yes` or `no` for `{name}`"),
                format!("write `{name}=yes` or `{name}=no`"),
            )),
        }
    }

    /// Takes what begins with `sign`, without it.
    pub fn marked(&mut self, sign: char) -> Vec<(String, Secret)> {
        let is_marked = |(name, _): &mut (String, Secret)| name.starts_with(sign);
        let marked = self.given.extract_if(.., is_marked);
        marked
            .map(|(name, value)| (name[sign.len_utf8()..].to_owned(), value))
            .collect()
    }

    /// What nobody has asked for, as it goes on to a server. A name that has a meaning here stands there with a `_` before it.
    pub fn forwarded(self) -> Vec<(String, Secret)> {
        let asked = self.asked;
        let escaped = |name: &str| {
            let bare = name.trim_start_matches('_');
            bare.len() < name.len() && asked.iter().any(|known| known.eq_ignore_ascii_case(bare))
        };
        let restored = self
            .given
            .into_iter()
            .map(|(name, value)| match escaped(&name) {
                true => (name[1..].to_owned(), value),
                false => (name, value),
            });
        restored.collect()
    }

    pub fn ensure_all_are_known(&self) -> Result<(), BadNotify> {
        let Some((unknown, _)) = self.given.first() else {
            return Ok(());
        };
        let meant = nearest_word(unknown, self.asked.iter().copied());
        Err(BadNotify::new(
            "has an unknown option",
            match meant {
                Some(near) => format!("did you mean `{near}=`?"),
                None => format!("the options are `{}`", self.asked.join("`, `")),
            },
        ))
    }
}

fn decoded(text: &str) -> Result<String, BadNotify> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| BadNotify::new("is not UTF-8 once decoded", "encode it in UTF-8"))
}

/// A value as a part of a URL.
pub(super) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}
