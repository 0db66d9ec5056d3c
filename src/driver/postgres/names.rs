//! The names that the databases of a restore go by, which tell how far it has come.

use sha2::{Digest, Sha256};

use crate::driver::OldDatabase;
use crate::target::RunId;

/// Names are cut here by the server (`NAMEDATALEN - 1`), in bytes.
const LONGEST_NAME: usize = 63;

/// The database that orders are given from while all others change their names.
pub fn seat(run: &RunId) -> String {
    format!("{SEAT}_{}", run.short())
}

const SEAT: &str = "cofferdam_seat";

/// How far the new database has come, while it goes by a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    Loading,
    /// The same, and the old one is closed for it: it is going to be loaded under the old one's name.
    Taking(OldDatabase),
    Loaded(OldDatabase),
    /// The same, and the old one is closed for it.
    Entering(OldDatabase),
}

impl New {
    pub fn all() -> impl Iterator<Item = Self> {
        let with_old = OldDatabase::ALL.into_iter();
        let words =
            with_old.flat_map(|old| [Self::Taking(old), Self::Loaded(old), Self::Entering(old)]);
        std::iter::once(Self::Loading).chain(words)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Taking(OldDatabase::Drop) => "taking",
            Self::Taking(OldDatabase::Keep) => "taking_keep",
            Self::Loaded(OldDatabase::Drop) => "loaded",
            Self::Loaded(OldDatabase::Keep) => "loaded_keep",
            Self::Entering(OldDatabase::Drop) => "entering",
            Self::Entering(OldDatabase::Keep) => "entering_keep",
        }
    }
}

/// What the old database is, once it has lost its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It made way for one that is loaded under its name, and comes back unless the restore is decided.
    Aside(OldDatabase),
    /// It was replaced: it is dropped, or stays for good.
    Replaced(OldDatabase),
}

impl Old {
    pub fn all() -> impl Iterator<Item = Self> {
        let with_old = OldDatabase::ALL.into_iter();
        with_old.flat_map(|old| [Self::Aside(old), Self::Replaced(old)])
    }

    fn word(self) -> &'static str {
        match self {
            Self::Aside(OldDatabase::Drop) => "aside",
            Self::Aside(OldDatabase::Keep) => "aside_keep",
            Self::Replaced(OldDatabase::Drop) => "dropping",
            Self::Replaced(OldDatabase::Keep) => "before",
        }
    }
}

/// How far a load under the database's own name has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Begun,
    Done,
}

impl Load {
    pub const ALL: [Self; 2] = [Self::Begun, Self::Done];

    fn word(self) -> &'static str {
        match self {
            Self::Begun => "is_loading_this_database",
            Self::Done => "has_loaded_this_database",
        }
    }
}

/// Whether a name ends as those do that a restore gives, of whatever run.
pub fn is_of_a_restore(name: &str) -> bool {
    let Some((rest, digits)) = name.rsplit_once('_') else {
        return false;
    };
    let is_run = digits.len() == 8
        && digits
            .chars()
            .all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit));
    let words = New::all().map(New::word).chain(Old::all().map(Old::word));
    let mut suffixes = words.map(|word| format!("_{word}"));
    let is_staged = suffixes.any(|suffix| rest.ends_with(&suffix) && rest.len() > suffix.len());
    is_run && (rest == SEAT || is_staged)
}

/// The names that a restore of one database goes through.
#[derive(Clone, Debug)]
pub struct Names {
    pub database: String,
    digits: String,
}

impl Names {
    pub fn of(database: &str, run: &RunId) -> Self {
        Self {
            database: database.to_owned(),
            digits: run.short().to_owned(),
        }
    }

    /// What a load fills.
    pub fn loading(&self) -> String {
        self.name_of(New::Loading)
    }

    /// Scripts of pg_restore are in the encoding of the database; a name in ASCII reads the same in all of them.
    pub fn name_of(&self, new: New) -> String {
        let ascii = self
            .database
            .replace(|character: char| !character.is_ascii_graphic(), "_");
        self.suffixed(&ascii, new.word())
    }

    pub fn old(&self, old: Old) -> String {
        self.suffixed(&self.database, old.word())
    }

    /// What the library is called that sessions in a database would have to load which is being loaded under its own name:
    /// there is none, so the server lets nobody in.
    pub fn mark(&self, load: Load) -> String {
        format!("cofferdam_{}_{}", self.digits, load.word())
    }

    /// `<name>_<word>_<digits>`, cut to what the server takes. A name that had to be changed gets more digits, since others
    /// may begin alike.
    fn suffixed(&self, name: &str, word: &str) -> String {
        let suffix = format!("_{word}_{}", self.digits);
        if name == self.database && name.len() + suffix.len() <= LONGEST_NAME {
            return format!("{name}{suffix}");
        }
        let digest = Sha256::digest(&self.database);
        let digits: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let room = LONGEST_NAME - suffix.len() - digits.len() - 1;
        let mut end = name.len().min(room);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{digits}{suffix}", &name[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(database: &str) -> Names {
        Names::of(database, &"20261121T020000Z-9f2c61aa".parse().unwrap())
    }

    fn all(names: &Names) -> Vec<String> {
        let new = New::all().map(|new| names.name_of(new));
        let old = Old::all().map(|old| names.old(old));
        new.chain(old).collect()
    }

    #[test]
    fn names_tell_what_they_are() {
        assert_eq!(
            all(&names("clinical")),
            [
                "clinical_loading_9f2c61aa",
                "clinical_taking_9f2c61aa",
                "clinical_loaded_9f2c61aa",
                "clinical_entering_9f2c61aa",
                "clinical_taking_keep_9f2c61aa",
                "clinical_loaded_keep_9f2c61aa",
                "clinical_entering_keep_9f2c61aa",
                "clinical_aside_9f2c61aa",
                "clinical_dropping_9f2c61aa",
                "clinical_aside_keep_9f2c61aa",
                "clinical_before_9f2c61aa",
            ]
        );
        assert!(is_of_a_restore("cofferdam_seat_9f2c61aa"));
        let kept = Old::Replaced(OldDatabase::Keep);
        assert_eq!(names("Üñï").old(kept), "Üñï_before_9f2c61aa");
        assert!(
            all(&names("clinical"))
                .iter()
                .all(|name| is_of_a_restore(name))
        );
    }

    #[test]
    fn names_of_users_are_their_own() {
        for name in [
            "",
            "shop",
            "before_9f2c61aa",
            "_before_9f2c61aa",
            "shop_before",
            "shop_before_9f2c61a",
            "shop_before_9F2C61AA",
            "shop_after_9f2c61aa",
            "shop_before_9f2c61aag",
            "shopbefore_9f2c61aa",
        ] {
            assert!(!is_of_a_restore(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_fit_and_never_meet(one in "[^\0]{1,63}", tail in "[^\0]{1,3}") {
            let long: String = one.chars().cycle().take(60).collect();
            for (one, other) in [(one.clone(), format!("{one}{tail}")), (long.clone(), format!("{long}{tail}"))] {
                let (one, other) = (names(&one), names(&other));
                let (ones, others) = (all(&one), all(&other));
                for name in ones.iter().chain(&others) {
                    prop_assert!(name.len() <= LONGEST_NAME);
                }
                prop_assert!(ones.iter().all(|name| !others.contains(name)));
                prop_assert!(New::all().all(|new| one.name_of(new).is_ascii()));
            }
        }
    }
}
