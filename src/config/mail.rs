//! To whom mail goes, and through which server.

use std::net::IpAddr;
use std::path::PathBuf;

use lettre::message::Mailboxes;

use super::{BadSetting, Given, Reader};
use crate::cli::Settings;
use crate::notify::mail::{Login, MailSettings, Mailbox, Password, Security, SmtpServer};
use crate::secret::Secret;

const URL: &str = "COFFERDAM_SMTP_URL";
const USER: &str = "COFFERDAM_SMTP_USER";
const PASSWORD: &str = "COFFERDAM_SMTP_PASSWORD";
const PASSWORD_FILE: &str = "COFFERDAM_SMTP_PASSWORD_FILE";
const SERVERS: &str = "write `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`; `smtp://HOST[:25]` is for this machine only";

/// `None` when nobody is to get any: what else is set then has no effect.
pub(super) fn mail_of(reader: &mut Reader<'_>, settings: &Settings) -> Option<MailSettings> {
    let flags = (!settings.mail_to.is_empty()).then(|| settings.mail_to.join(","));
    let given = Given::new("--mail-to", &flags, "COFFERDAM_MAIL_TO");
    let to = reader.read(given, Vec::new(), mailboxes_of);
    let given = Given::new("--mail-from", &settings.mail_from, "COFFERDAM_MAIL_FROM");
    let from = reader.read(given, None, |text| sender_of(text).map(Some));
    let given = Given::new("--smtp-url", &settings.smtp_url, URL);
    let server = reader.read(given, None, |text| server_of(text).map(Some));
    let login = login_of(reader);
    let ca_file = reader.variable("COFFERDAM_SMTP_CA_FILE").map(PathBuf::from);
    if to.is_empty() || !reader.problems.is_empty() {
        return None;
    }
    let mut missing = |setting, hint: &str| {
        let what = "is not set, but --mail-to or COFFERDAM_MAIL_TO is".to_owned();
        reader.problem(setting, what, hint.to_owned());
    };
    if server.is_none() {
        missing(URL, SERVERS);
    }
    if from.is_none() {
        missing("COFFERDAM_MAIL_FROM", "set it to the sender's address");
    }
    let (server, from) = (server?, from?);
    if login.is_some() && server.security == Security::Plain && !is_this_machine(&server.host) {
        let hint = "use `smtps://` or `smtp+starttls://` for a server that requires a login";
        let what = "would be sent in plain text".to_owned();
        reader.problem(PASSWORD, what, hint.to_owned());
        return None;
    }
    Some(MailSettings {
        server,
        login,
        ca_file,
        from,
        to,
    })
}

fn login_of(reader: &mut Reader<'_>) -> Option<Login> {
    let user = reader.variable(USER);
    let text = reader.variable(PASSWORD);
    let file = reader.variable(PASSWORD_FILE);
    let password = match (text, file) {
        (Some(_), Some(_)) => {
            let hint = "remove one of them".to_owned();
            reader.problem(
                PASSWORD_FILE,
                format!("is set together with {PASSWORD}"),
                hint,
            );
            return None;
        }
        (Some(text), None) => Some(Password::Given(Secret::new(text))),
        (None, Some(path)) => Some(Password::File(PathBuf::from(path))),
        (None, None) => None,
    };
    match (user, password) {
        (Some(user), Some(password)) => Some(Login { user, password }),
        (None, None) => None,
        (Some(_), None) => {
            let hint = format!("set {PASSWORD_FILE} or {PASSWORD} too, or neither");
            reader.problem(USER, "is set without a password".to_owned(), hint);
            None
        }
        (None, Some(_)) => {
            let hint = format!("set {USER} too, or neither");
            reader.problem(PASSWORD, "is set without a user".to_owned(), hint);
            None
        }
    }
}

fn mailboxes_of(text: &str) -> Result<Vec<Mailbox>, BadSetting> {
    let bad = |why: String| {
        BadSetting::new(
            format!("is `{}`: {why}", text.escape_debug()),
            "write addresses separated by commas, as `ops@example.org, Night <night@example.org>`",
        )
    };
    let all: Mailboxes = text
        .parse()
        .map_err(|error: lettre::address::AddressError| bad(error.to_string()))?;
    let all: Vec<Mailbox> = all.into_iter().collect();
    match all
        .iter()
        .find(|mailbox| !mailbox.email.to_string().is_ascii())
    {
        Some(odd) => Err(bad(format!("{} is not ASCII", odd.email))),
        None => Ok(all),
    }
}

fn sender_of(text: &str) -> Result<Mailbox, BadSetting> {
    let mut all = mailboxes_of(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(BadSetting::new(
            format!("is `{}`", text.escape_debug()),
            "write one address, as `Cofferdam <cofferdam@example.org>`",
        )),
    }
}

/// An error never repeats the URL: somebody may have put a password into it.
fn server_of(text: &str) -> Result<SmtpServer, BadSetting> {
    let bad = |what: &str| BadSetting::new(what, SERVERS);
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| bad("is not the URL of a mail server"))?;
    let (security, port) = match scheme.to_ascii_lowercase().as_str() {
        "smtps" => (Security::Tls, 465),
        "smtp+starttls" => (Security::StartTls, 587),
        "smtp" | "smtp+plain" => (Security::Plain, 25),
        _ => return Err(bad("has an unknown scheme")),
    };
    if rest.contains('@') {
        return Err(BadSetting::new(
            "contains a user or a password",
            format!("set {USER} and {PASSWORD_FILE} instead"),
        ));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) =
        authority_of(authority, port).ok_or_else(|| bad("has no host, or an invalid port"))?;
    if scheme.eq_ignore_ascii_case("smtp") && !is_this_machine(&host) {
        return Err(BadSetting::new(
            "would send mail in plain text over the network",
            "use `smtps://` or `smtp+starttls://`, or `smtp+plain://` if that is intended",
        ));
    }
    Ok(SmtpServer {
        host,
        port,
        security,
    })
}

fn authority_of(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&port| port > 0)?,
        None if port.is_empty() => default_port,
        None => return None,
    };
    (!host.is_empty() && host.bytes().all(fits)).then(|| (host.to_owned(), port))
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_urls() {
        let server = |host: &str, port, security| {
            Some(SmtpServer {
                host: host.to_owned(),
                port,
                security,
            })
        };
        for (url, expected) in [
            (
                "smtps://mail.example.org",
                server("mail.example.org", 465, Security::Tls),
            ),
            (
                "SMTPS://mail.example.org:4650/",
                server("mail.example.org", 4650, Security::Tls),
            ),
            (
                "smtp+starttls://mail",
                server("mail", 587, Security::StartTls),
            ),
            ("smtp://localhost", server("localhost", 25, Security::Plain)),
            (
                "smtp://127.0.0.1:2525",
                server("127.0.0.1", 2525, Security::Plain),
            ),
            ("smtp://[::1]:2525", server("::1", 2525, Security::Plain)),
            (
                "smtp+plain://relay:1025",
                server("relay", 1025, Security::Plain),
            ),
            (
                "smtps://[2001:db8::1]",
                server("2001:db8::1", 465, Security::Tls),
            ),
            ("smtp://mail.example.org", None),
            ("smtp://127.0.0.1.example.org", None),
            ("smtps://user:hunter2@mail.example.org", None),
            ("smtps://", None),
            ("smtps://:25", None),
            ("smtps://mail:0", None),
            ("smtps://mail:x", None),
            ("smtps://mail:25:26", None),
            ("smtps://mail/path", None),
            ("smtps://ma il", None),
            ("smtps://[::1", None),
            ("smtps://[mail]", None),
            ("mail.example.org", None),
            ("https://mail.example.org", None),
        ] {
            assert_eq!(server_of(url).ok(), expected, "{url}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        for url in [
            "smtps://user:hunter2@mail",
            "hunter2",
            "hunter2://mail",
            "smtps://hunter2/x",
        ] {
            let error = server_of(url).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
