//! Who may ask. Pure.
//!
//! A program sends the token as `Authorization: Bearer …`. A browser asks its user for a name and a password, and sends the
//! token as the password, whatever the name is. What a browser has once been told it sends with every request to us, also
//! with those that other sites have it make: so whoever wants to change something has to be a program.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, Request};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It came by a name that is not this host's own.
    ForeignName,
    NoToken,
    WrongToken,
}

/// Whether everything but changes is open to a request.
pub fn may_look<B>(request: &Request<B>, token: Option<&Secret>) -> Result<(), Denied> {
    match token {
        Some(token) => compare(given(request.headers(), Way::Any), token),
        None if is_for_this_host(request) => Ok(()),
        None => Err(Denied::ForeignName),
    }
}

/// Whether a request may ask for something to be done. Without a token, nobody may.
pub fn may_ask<B>(request: &Request<B>, token: &Secret) -> Result<(), Denied> {
    compare(given(request.headers(), Way::Program), token)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Any,
    Program,
}

fn given(headers: &HeaderMap, way: Way) -> Option<Secret> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(value));
    }
    if scheme.eq_ignore_ascii_case("basic") && way == Way::Any {
        let login = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        let (_, password) = login.split_once(':')?;
        return Some(Secret::new(password));
    }
    None
}

/// Takes the same time whatever is given, and however much of it is right.
fn compare(given: Option<Secret>, token: &Secret) -> Result<(), Denied> {
    let given = given.ok_or(Denied::NoToken)?;
    let digest = |secret: &Secret| Sha256::digest(secret.expose().as_bytes());
    if digest(&given)
        .as_slice()
        .ct_eq(digest(token).as_slice())
        .into()
    {
        Ok(())
    } else {
        Err(Denied::WrongToken)
    }
}

/// A browser names the host that it believes to speak with.
fn is_for_this_host<B>(request: &Request<B>) -> bool {
    let header = || {
        let host = request.headers().get(HOST)?.to_str().ok()?;
        host.parse::<Authority>().ok()
    };
    let authority = request.uri().authority().cloned().or_else(header);
    authority.is_some_and(|authority| {
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().uri("/");
        let with = |request: http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        headers.iter().fold(request, with).body(()).unwrap()
    }

    fn basic(login: &str) -> String {
        format!("Basic {}", STANDARD.encode(login))
    }

    #[test]
    fn a_token_opens_to_programs_and_browsers_and_changes_to_programs_alone() {
        let token = Secret::new(TOKEN);
        let (no, wrong) = (Err(Denied::NoToken), Err(Denied::WrongToken));
        for (value, look, ask) in [
            (format!("Bearer {TOKEN}"), Ok(()), Ok(())),
            (format!("bearer  {TOKEN}"), Ok(()), Ok(())),
            (basic(&format!("anybody:{TOKEN}")), Ok(()), no),
            (basic(&format!(":{TOKEN}")), Ok(()), no),
            (basic(&format!("{TOKEN}:")), wrong, no),
            (basic(TOKEN), no, no),
            ("Basic ***".to_owned(), no, no),
            (format!("Bearer {TOKEN}0"), wrong, wrong),
            (format!("Bearer {}", &TOKEN[1..]), wrong, wrong),
            ("Bearer ".to_owned(), wrong, wrong),
            (TOKEN.to_owned(), no, no),
        ] {
            let request = request(&[("authorization", &value), ("host", "backups.example.org")]);
            assert_eq!(may_look(&request, Some(&token)), look, "{value}");
            assert_eq!(may_ask(&request, &token), ask, "{value}");
        }
        assert_eq!(may_look(&request(&[]), Some(&token)), no);
    }

    #[test]
    fn without_a_token_only_names_of_this_host_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("rebound.example.org:8080", false),
            ("127.0.0.1.example.org", false),
            ("localhost.example.org", false),
            ("192.0.2.1:8080", false),
            ("", false),
        ] {
            let looked = may_look(&request(&[("host", host)]), None);
            assert_eq!(looked.is_ok(), expected, "{host}");
        }
        assert!(may_look(&request(&[]), None).is_err());
        let absolute = Request::get("http://rebound.example.org/").header("host", "localhost");
        assert!(may_look(&absolute.body(()).unwrap(), None).is_err());
    }
}
