//! `cofferdam.json`: what makes a place a repository, and of which format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Prepared, RepositoryError};

/// Its name at the repository's root.
pub(crate) const FILE: &str = "cofferdam.json";

/// Of the layout of the repository. Manifests count their own.
pub(crate) const FORMAT: u32 = 1;

/// Readers ignore fields that they do not know, and refuse a higher format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub format: u32,
    /// 32 random hexadecimal digits; stays when the repository moves.
    pub repository: String,
    /// Name and version of the program that made it.
    #[serde(default)]
    pub tool: String,
    pub created: Option<Timestamp>,
}

impl Identity {
    pub fn generate() -> Self {
        Self {
            format: FORMAT,
            repository: format!("{:032x}", rand::random::<u128>()),
            tool: concat!("cofferdam ", env!("CARGO_PKG_VERSION")).to_owned(),
            created: Some(Timestamp::now()),
        }
    }

    /// `place` names the repository in errors.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, RepositoryError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let refused = |why: String| RepositoryError::Format {
            place: place.to_owned(),
            why,
        };
        let unreadable = |error: serde_json::Error| {
            refused(format!("{FILE} is incomplete or malformed: {error}"))
        };
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format > FORMAT {
            return Err(refused(format!(
                "it has format {format}, but this version knows formats up to {FORMAT}; use a newer cofferdam"
            )));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("all keys are strings");
        bytes.push(b'\n');
        bytes
    }
}

/// Of a repository that was there before.
impl From<Identity> for Prepared {
    fn from(identity: Identity) -> Self {
        Self {
            id: identity.repository,
            is_new: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        let identity = Identity::generate();
        assert_eq!(
            Identity::parse(&identity.to_bytes(), "/backups").unwrap(),
            identity
        );
        assert_ne!(Identity::generate().repository, identity.repository);
    }

    #[test]
    fn a_lost_file_can_be_written_again_by_hand() {
        let written = br#"{"format": 1, "repository": "0"}"#;
        assert_eq!(Identity::parse(written, "/backups").unwrap().format, 1);
    }

    #[test]
    fn what_this_version_cannot_know_is_refused() {
        let refusal = |text: &str| {
            Identity::parse(text.as_bytes(), "/backups")
                .unwrap_err()
                .to_string()
        };
        insta::assert_snapshot!(
            refusal(r#"{"format": 2, "place": {"of": "the future"}}"#),
            @"/backups is not a Cofferdam repository in a format that this version knows: it has format 2, but this version knows formats up to 1; use a newer cofferdam"
        );
        insta::assert_snapshot!(
            refusal(r#"{"format": 1, "#),
            @"/backups is not a Cofferdam repository in a format that this version knows: cofferdam.json is incomplete or malformed: EOF while parsing a value at line 1 column 14"
        );
    }
}
