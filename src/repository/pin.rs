//! Pins: a snapshot with one stays, under a name, until somebody takes the pin out.
//!
//! A pin is a file of its own beside the manifest, which never changes. It goes with its snapshot.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, SnapshotRef};

/// In characters.
const LONGEST_NAME: usize = 100;

/// What somebody calls a snapshot that stays: `before-upgrade`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PinName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin's name has 1 to {LONGEST_NAME} characters, on one line")]
pub struct BadPinName;

impl FromStr for PinName {
    type Err = BadPinName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        let is_good = (1..=LONGEST_NAME).contains(&name.chars().count())
            && !name.chars().any(char::is_control);
        match is_good {
            true => Ok(Self(name.to_owned())),
            false => Err(BadPinName),
        }
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Comes from outside when it is read: make the name harmless before it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub name: String,
    /// When somebody pinned the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Timestamp>,
    /// Why nothing is known of it but that it is there.
    #[serde(skip)]
    pub unreadable: Option<String>,
}

impl Pin {
    pub fn new(name: &PinName) -> Self {
        Self {
            name: name.to_string(),
            pinned: Some(Timestamp::now()),
            unreadable: None,
        }
    }

    /// Whatever the file holds, it pins.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(Self::unreadable)
    }

    /// One that is there, or may be: it pins too.
    pub fn unreadable(why: impl fmt::Display) -> Self {
        Self {
            name: "(its pin cannot be read)".to_owned(),
            pinned: None,
            unreadable: Some(why.to_string()),
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("all keys are strings");
        bytes.push(b'\n');
        bytes
    }
}

/// Pins a snapshot, in place of the pin that it has. A prune that has removed it meanwhile is noticed.
pub async fn pin(
    repository: &dyn Repository,
    snapshot: &SnapshotRef,
    pin: &Pin,
) -> Result<(), RepositoryError> {
    repository.manifest(snapshot).await?;
    repository.put_pin(snapshot, pin).await?;
    match repository.manifest(snapshot).await {
        Err(gone @ RepositoryError::Missing(_)) => {
            repository.remove_pin(snapshot).await?;
            Err(gone)
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_a_name_of_one_line() {
        let name: PinName = "  before the upgrade ".parse().unwrap();
        assert_eq!(name.to_string(), "before the upgrade");
        for bad in ["", " ", "a\nb", "a\u{1b}[2J", &"x".repeat(101)] {
            assert_eq!(bad.parse::<PinName>(), Err(BadPinName), "{bad:?}");
        }
    }

    #[test]
    fn a_pin_survives_its_text_and_one_that_is_damaged_still_pins() {
        let pin = Pin::new(&"before-upgrade".parse().unwrap());
        assert_eq!(Pin::parse(&pin.to_bytes()), pin);
        assert_eq!(Pin::parse(br#"{"name": "x"}"#).name, "x");
        let damaged = Pin::parse(b"{");
        assert_eq!(damaged.name, "(its pin cannot be read)");
        assert!(damaged.unreadable.is_some());
    }
}
