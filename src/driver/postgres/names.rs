//! The names that the databases of a restore go by, which tell how far it has come.

use sha2::{Digest, Sha256};

use crate::driver::OldDatabase;
use crate::target::RunId;

/// Names are cut here by the server (`NAMEDATALEN - 1`), in bytes.
const LONGEST_NAME: usize = 63;

/// How far the new database has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    Loading,
    Loaded(OldDatabase),
    /// The same, and the old one is closed for it.
    Entering(OldDatabase),
}

impl New {
    pub fn all() -> impl Iterator<Item = Self> {
        let with_old = OldDatabase::ALL.into_iter();
        let finished = with_old.flat_map(|old| [Self::Loaded(old), Self::Entering(old)]);
        std::iter::once(Self::Loading).chain(finished)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Loaded(OldDatabase::Drop) => "loaded",
            Self::Loaded(OldDatabase::Keep) => "loaded_keep",
            Self::Entering(OldDatabase::Drop) => "entering",
            Self::Entering(OldDatabase::Keep) => "entering_keep",
        }
    }
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

    pub fn old(&self, old: OldDatabase) -> String {
        let word = match old {
            OldDatabase::Drop => "dropping",
            OldDatabase::Keep => "before",
        };
        self.suffixed(&self.database, word)
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
        let old = OldDatabase::ALL.into_iter().map(|old| names.old(old));
        new.chain(old).collect()
    }

    #[test]
    fn names_tell_what_they_are() {
        assert_eq!(
            all(&names("clinical")),
            [
                "clinical_loading_9f2c61aa",
                "clinical_loaded_9f2c61aa",
                "clinical_entering_9f2c61aa",
                "clinical_loaded_keep_9f2c61aa",
                "clinical_entering_keep_9f2c61aa",
                "clinical_dropping_9f2c61aa",
                "clinical_before_9f2c61aa",
            ]
        );
        assert_eq!(names("Üñï").old(OldDatabase::Keep), "Üñï_before_9f2c61aa");
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
