//! Reading keys. What is wrong with one is told by where it stands, and never by what it is: it may be a secret.

use std::str::FromStr;

use age::x25519;

/// What is wrong with keys, as the words after the setting that they came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct BadKey {
    pub what: String,
    /// What to type instead.
    pub hint: &'static str,
}

/// A header has a line for each, and a reader takes only headers of a sane length.
const MOST_KEYS: usize = 100;

/// The recipient in age's own documentation, which people copy. Somebody else has its identity.
pub(super) const SAMPLE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

const SECRET_KEY: &str = "age-secret-key-";
const MAKE_ONE: &str =
    "`age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it";

/// Public keys with commas or ends of lines between them, none twice.
pub(super) fn recipients(text: &str) -> Result<Vec<x25519::Recipient>, BadKey> {
    let mut keys = Vec::new();
    let lines = text.lines().filter(|line| !is_comment(line));
    let words = lines.flat_map(|line| line.split(',')).map(str::trim);
    for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
        let key = recipient(word, at + 1)?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(BadKey {
            what: "names no recipient".to_owned(),
            hint: MAKE_ONE,
        });
    }
    ensure_not_too_many(keys.len(), "recipients")?;
    Ok(keys)
}

fn recipient(word: &str, number: usize) -> Result<x25519::Recipient, BadKey> {
    let lower = word.to_ascii_lowercase();
    if lower == SAMPLE {
        return Err(BadKey {
            what: format!(
                "has the sample key of age's documentation as recipient {number}, which you could not decrypt"
            ),
            hint: MAKE_ONE,
        });
    }
    if let Ok(key) = x25519::Recipient::from_str(word) {
        return Ok(key);
    }
    let (what, hint) = if lower.starts_with("age-") {
        (
            format!("has an identity, which is secret, as recipient {number}"),
            "give its recipient, which `age-keygen -y FILE` prints: whoever only makes backups should not see an identity",
        )
    } else if lower.starts_with("ssh-") || lower.starts_with("sk-") || lower.starts_with("ecdsa-") {
        (
            format!("has an SSH key as recipient {number}, but SSH keys are not supported"),
            MAKE_ONE,
        )
    } else if lower
        .strip_prefix("age1")
        .is_some_and(|rest| rest.contains('1'))
    {
        (
            format!("has an unsupported kind of recipient as recipient {number}"),
            "use X25519 recipients: `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it",
        )
    } else {
        (
            format!("has a malformed recipient as recipient {number}"),
            "a recipient is `age1` and 58 more letters and digits; `age-keygen -y FILE` prints it",
        )
    };
    Err(BadKey { what, hint })
}

/// Identities, a line each.
pub(super) fn identities(text: &str) -> Result<Vec<x25519::Identity>, BadKey> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !is_comment(line) {
            keys.push(identity(line, at + 1)?);
        }
    }
    if keys.is_empty() {
        return Err(BadKey {
            what: "names a file without an identity".to_owned(),
            hint: MAKE_ONE,
        });
    }
    ensure_not_too_many(keys.len(), "identities")?;
    Ok(keys)
}

fn identity(line: &str, number: usize) -> Result<x25519::Identity, BadKey> {
    if let Ok(key) = x25519::Identity::from_str(line) {
        return Ok(key);
    }
    let lower = line.to_ascii_lowercase();
    let (what, hint) = if lower.starts_with("age1") {
        (
            format!(
                "names a file with a recipient in line {number}, which cannot decrypt anything"
            ),
            "name the file that `age-keygen -o FILE` wrote: its identity begins with AGE-SECRET-KEY-1",
        )
    } else if lower.starts_with("age-encryption.org/") || lower.starts_with("-----begin age") {
        (
            "names a file that is encrypted itself".to_owned(),
            "decrypt it into memory: `age -d FILE > /dev/shm/key.txt`",
        )
    } else if lower.starts_with("-----begin") {
        (
            "names a file with an SSH or PEM key, which is not supported".to_owned(),
            MAKE_ONE,
        )
    } else if lower.starts_with("age-plugin-") || lower.starts_with(SECRET_KEY) && is_other(&lower)
    {
        (
            format!("names a file with an unsupported kind of identity in line {number}"),
            "use X25519 identities, which begin with AGE-SECRET-KEY-1: `age-keygen -o key.txt` makes one",
        )
    } else {
        (
            format!("names a file that has something other than an identity in line {number}"),
            "name the file that `age-keygen -o FILE` wrote: its identity begins with AGE-SECRET-KEY-1",
        )
    };
    Err(BadKey { what, hint })
}

fn ensure_not_too_many(count: usize, what: &str) -> Result<(), BadKey> {
    if count > MOST_KEYS {
        return Err(BadKey {
            what: format!("has {count} {what}, but at most {MOST_KEYS} can be used"),
            hint: "remove those that are no longer used",
        });
    }
    Ok(())
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether a secret key is of another kind than X25519: those have their `1` at once.
fn is_other(lower: &str) -> bool {
    !lower[SECRET_KEY.len()..].starts_with('1')
}
