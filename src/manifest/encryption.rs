//! How streams are encrypted, and how that is written down. None of it is secret.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    #[default]
    None,
    /// The object is an age file: <https://age-encryption.org/v1>.
    Age(AgeFile),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeFile {
    /// What opens it. The file itself does not say so: a word for people, and no more to be trusted than the rest of a
    /// manifest.
    pub to: EncryptedTo,
    /// Of the compressed stream inside, in bytes.
    pub compressed_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncryptedTo {
    /// Each of them has an identity that opens it.
    Recipients(Vec<PublicKey>),
    Passphrase,
}

impl AgeFile {
    pub const EXTENSION: &str = ".age";
}

impl Encryption {
    /// The ending that the usual tools expect, with its dot.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Age(_) => AgeFile::EXTENSION,
        }
    }
}

/// `to age1…, age1…`, `with a passphrase`
impl fmt::Display for EncryptedTo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase => formatter.write_str("with a passphrase"),
            Self::Recipients(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
                write!(formatter, "to {}", keys.join(", "))
            }
        }
    }
}

/// An age recipient as text, `age1…`. Of which kind it is, is not looked at: a later version may know more kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an age recipient: one begins with `age1`, and has only letters and digits")]
pub struct BadPublicKey;

impl PublicKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadPublicKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.starts_with("age1") && is_plain {
            Ok(Self(text))
        } else {
            Err(BadPublicKey)
        }
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PublicKey {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn encryption_reads_as_it_is_written() {
        let age = |to| {
            Encryption::Age(AgeFile {
                to,
                compressed_bytes: 9,
            })
        };
        for (encryption, text) in [
            (Encryption::None, r#""none""#),
            (
                age(EncryptedTo::Passphrase),
                r#"{"age":{"to":"passphrase","compressed_bytes":9}}"#,
            ),
            (
                age(EncryptedTo::Recipients(vec![key("age1a"), key("age1pq1b")])),
                r#"{"age":{"to":{"recipients":["age1a","age1pq1b"]},"compressed_bytes":9}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&encryption).unwrap(), text);
            assert_eq!(
                serde_json::from_str::<Encryption>(text).unwrap(),
                encryption
            );
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for text in ["", "AGE-SECRET-KEY-1QQ", "age1\u{1b}[2J", "age1 a", "age2a"] {
            assert!(PublicKey::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
