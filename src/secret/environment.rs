//! Which of a container's variables must not be repeated when a command prints them.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::Secret;

/// What the names of variables with secrets in them contain, and what they end in.
const CONTAINED: [&str; 4] = ["PASS", "SECRET", "TOKEN", "CREDENTIAL"];
const ENDINGS: [&str; 3] = ["KEY", "AUTH", "PWD"];

/// Shorter values would be found in every other message, and hide it.
const SHORTEST: usize = 6;

/// The secrets that a container's environment holds: values of variables whose names tell it, and URLs with passwords.
///
/// This is for redaction, and errs on the side of hiding too much. Commands find these variables in their environment in any
/// case, with the same values.
pub fn secrets_of(environment: &BTreeMap<String, String>) -> Vec<(String, Secret)> {
    environment
        .iter()
        .filter(|(name, value)| value.len() >= SHORTEST && is_secret(name, value))
        .map(|(name, value)| (name.clone(), Secret::new(value)))
        .collect()
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_uppercase();
    let is_told = CONTAINED.iter().any(|part| name.contains(part))
        || ENDINGS.iter().any(|end| name.ends_with(end));
    let is_path = value.starts_with('/');
    (is_told && !is_path) || is_url_with_password(value)
}

fn is_url_with_password(value: &str) -> bool {
    passwords(value).next().is_some()
}

/// `hunter2` in `mongodb://admin:hunter2@db/shop`, as it stands there; of each URL in the text.
fn passwords(text: &str) -> impl Iterator<Item = &str> {
    text.split("://").skip(1).filter_map(|rest| {
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        Some(user.split_once(':')?.1)
    })
}

/// The passwords of URLs in a secret, as they stand there and as programs tell them, unless they are so short that they would
/// hide other messages.
pub(super) fn passwords_in(secret: &Secret) -> impl Iterator<Item = Secret> {
    let found = passwords(secret.expose()).flat_map(|password| {
        let decoded = percent_decode_str(password).decode_utf8_lossy();
        [password.to_owned(), decoded.into_owned()]
    });
    found.filter(|it| it.len() >= SHORTEST).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_urls_tell_secrets() {
        for (name, value, is_secret) in [
            ("LDAP_ADMIN_PASSWORD", "hunter2!", true),
            ("REDISCLI_AUTH", "hunter2!", true),
            ("api_token", "0123456789", true),
            ("AWS_SECRET_ACCESS_KEY", "0123456789", true),
            ("MONGO_URL", "mongodb://admin:hunter2!@db/shop", true),
            ("LDAP_ADMIN_PASSWORD_FILE", "/run/secrets/ldap", false),
            ("POSTGRES_HOST_AUTH_METHOD", "password", false),
            ("DOCS_URL", "https://example.org/a:b@c", false),
            ("LDAP_DOMAIN", "example.org", false),
            ("PASSWORD", "x", false),
            ("PASSWORD", "", false),
        ] {
            let environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let found = secrets_of(&environment);
            assert_eq!(!found.is_empty(), is_secret, "{name}={value}");
        }
    }

    #[test]
    fn a_command_finds_the_value_that_its_container_has() {
        let value = "mongodb://admin:hunter2!@db/shop".to_owned();
        let environment = BTreeMap::from([("MONGO_URL".to_owned(), value.clone())]);
        assert_eq!(
            secrets_of(&environment),
            [("MONGO_URL".to_owned(), Secret::new(value))]
        );
    }
}
