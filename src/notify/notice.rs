//! What has happened, for people and programs.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::BadNotify;
use crate::notify::mail::Letter;
use crate::text::{nearest_word, printable, printable_lines, quoted};

/// Longer titles are cut: nobody is shown more of them.
const LONGEST_TITLE: usize = 200;

/// Names from outside may stand in every part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: Kind,
    /// None is named where all are meant, or where it is not known.
    pub projects: Vec<String>,
    /// One line: `shop: backup incomplete, 1 target failed`.
    pub title: String,
    /// Plain text of several lines.
    pub body: String,
    pub facts: Facts,
    /// Something else is in trouble that the same daemon saves. A sign of life is given for all of it.
    pub is_overshadowed: bool,
    /// Everybody is to hear of it, whatever kinds they have chosen.
    pub is_remarkable: bool,
    pub time: Timestamp,
}

/// For programs, where there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The ids of those that were made.
    pub snapshots: Vec<String>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// How much was stored.
    pub bytes: Option<u64>,
    /// The ids of targets that failed, or that have no recent backup.
    pub failed: Vec<String>,
}

impl Facts {
    /// How long it took.
    pub(super) fn seconds(&self) -> Option<u64> {
        self.duration
            .map(|duration| duration.as_secs_f64().round() as u64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something did not succeed, or not wholly.
    Failure,
    /// What failed, or was stale, is in order again.
    Recovery,
    Success,
    /// A target has no recent good backup.
    Stale,
    /// Something is not as it was, and may be as it is meant: everybody is to hear of it.
    News,
    /// Somebody wants to see whether notices arrive.
    Test,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Success => "success",
            Self::Stale => "stale",
            Self::News => "news",
            Self::Test => "test",
        }
    }
}

/// What somebody wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(BTreeSet<Kind>);

impl Kinds {
    /// Those that can be chosen.
    const CHOICE: [Kind; 4] = [Kind::Failure, Kind::Recovery, Kind::Stale, Kind::Success];

    /// A recovery is a success too.
    pub fn contain(&self, kind: Kind) -> bool {
        let has = |kind| self.0.contains(&kind);
        match kind {
            Kind::News | Kind::Test => true,
            Kind::Recovery => has(Kind::Recovery) || has(Kind::Success),
            kind => has(kind),
        }
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self([Kind::Failure, Kind::Recovery, Kind::Stale].into())
    }
}

impl FromStr for Kinds {
    type Err = BadNotify;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |word: &str| {
            let known = Self::CHOICE.into_iter().find(|kind| kind.as_str() == word);
            known.ok_or_else(|| {
                let meant = nearest_word(word, Self::CHOICE.map(Kind::as_str));
                let meant = meant.map(|near| format!("did you mean `{near}`? otherwise "));
                BadNotify::new(
                    format!("has `{}`, which is not an event", quoted(word)),
                    format!(
                        "{}use any of `failure`, `recovery`, `stale` and `success`, separated by commas",
                        meant.unwrap_or_default()
                    ),
                )
            })
        };
        let kinds: Result<_, _> = text.split(',').map(|word| one(word.trim())).collect();
        kinds.map(Self)
    }
}

impl Notice {
    /// `kinds` are those that people want to be told.
    pub(super) fn is_for(&self, kinds: &Kinds) -> bool {
        self.is_remarkable || kinds.contain(self.kind)
    }

    /// The title, in one line that can do no harm.
    pub(super) fn headline(&self) -> String {
        let mut title = printable(&self.title);
        if let Some((cut, _)) = title.char_indices().nth(LONGEST_TITLE) {
            title.truncate(cut);
            title.push('…');
        }
        title
    }

    /// The body, in lines that can do no harm.
    pub(super) fn text(&self) -> String {
        printable_lines(self.body.trim_end())
    }

    pub(super) fn letter(&self) -> Letter {
        Letter {
            subject: format!("[cofferdam] {}", self.title),
            body: self.body.clone(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use insta::assert_snapshot;

    pub fn sample() -> Notice {
        Notice {
            kind: Kind::Failure,
            projects: vec!["shop".to_owned()],
            title: "shop: backup incomplete, 1 target failed".to_owned(),
            body: "Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: \
                   password authentication failed for user \"shop\" <@here>\n"
                .to_owned(),
            facts: Facts {
                snapshots: vec!["20261121T020000Z-9f2c61aa".to_owned()],
                duration: Some(Duration::from_millis(83_400)),
                bytes: Some(352_321_536),
                failed: vec!["db/postgres/shop".to_owned()],
            },
            is_overshadowed: false,
            is_remarkable: false,
            time: "2026-11-21T02:01:23Z".parse().unwrap(),
        }
    }

    #[test]
    fn kinds_are_chosen() {
        for (text, told) in [
            ("failure", "failure test"),
            (" success , failure", "failure recovery success test"),
            (
                "failure,recovery,stale,success,failure",
                "failure recovery success stale test",
            ),
        ] {
            let kinds: Kinds = text.parse().unwrap();
            let all = [
                Kind::Failure,
                Kind::Recovery,
                Kind::Success,
                Kind::Stale,
                Kind::Test,
            ];
            let contained: Vec<&str> = all
                .into_iter()
                .filter(|kind| kinds.contain(*kind))
                .map(Kind::as_str)
                .collect();
            assert_eq!(contained.join(" "), told, "{text}");
        }
        assert!(!Kinds::default().contain(Kind::Success));
        let bad = |text: &str| text.parse::<Kinds>().unwrap_err().to_string();
        assert_snapshot!([bad("failures"), bad("failure,,stale"), bad("test")].join("\n"), @r"
        has `failures`, which is not an event; did you mean `failure`? otherwise use any of `failure`, `recovery`, `stale` and `success`, separated by commas
        has ``, which is not an event; use any of `failure`, `recovery`, `stale` and `success`, separated by commas
        has `test`, which is not an event; use any of `failure`, `recovery`, `stale` and `success`, separated by commas
        ");
    }

    #[test]
    fn what_is_remarkable_is_for_everybody() {
        let notice = Notice {
            kind: Kind::Success,
            ..sample()
        };
        assert!(!notice.is_for(&Kinds::default()));
        let remarkable = Notice {
            is_remarkable: true,
            ..notice
        };
        assert!(remarkable.is_for(&Kinds::default()));
    }

    #[test]
    fn nothing_in_a_notice_drives_a_terminal() {
        let hostile = Notice {
            title: format!("shop\r\nBcc: x\u{1b}[2J{}", "y".repeat(300)),
            body: "one\u{1b}[2J\ntwo\u{202e}\n\n".to_owned(),
            ..sample()
        };
        let title = hostile.headline();
        assert!(
            title.starts_with("shop\\r\\nBcc: x\\u{1b}[2Jyyy"),
            "{title}"
        );
        assert_eq!(title.chars().count(), LONGEST_TITLE + 1);
        assert_eq!(hostile.text(), "one\\u{1b}[2J\ntwo\\u{202e}");
    }
}
