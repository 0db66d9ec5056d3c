//! The names that the databases of a restore go by.
//!
//! All of them are plain ASCII: the server writes other characters with five bytes in names of files, and finds no room
//! for them beside a long name.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::driver::OldDatabase;
use crate::target::RunId;

/// In characters.
const LONGEST_NAME: usize = 64;
const DIGITS: usize = 8;
const LOADING: &str = "loading";
const MARK: &str = "cofferdam_";

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

    /// The database that a load fills.
    pub fn staged(&self) -> String {
        self.suffixed(LOADING)
    }

    /// The database that takes the old tables.
    pub fn aside(&self, old: OldDatabase) -> String {
        self.suffixed(aside_word(old))
    }

    /// Our own table, in each database of a restore that is going on.
    pub fn mark(&self) -> String {
        format!("{MARK}{}", self.digits)
    }

    /// `<name>_<word>_<digits>`. A name that had to be changed gets more digits, since others may become alike.
    fn suffixed(&self, word: &str) -> String {
        let suffix = format!("_{word}_{}", self.digits);
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if self.database.chars().all(plain) && self.database.len() + suffix.len() <= LONGEST_NAME {
            return format!("{}{suffix}", self.database);
        }
        let digest = Sha256::digest(&self.database);
        let mut digits = String::new();
        for byte in &digest[..4] {
            // Writing to a string does not fail.
            let _ = write!(digits, "{byte:02x}");
        }
        let room = LONGEST_NAME - suffix.len() - digits.len() - 1;
        let ascii: String = self
            .database
            .chars()
            .take(room)
            .map(|character| if plain(character) { character } else { '_' })
            .collect();
        format!("{ascii}_{digits}{suffix}")
    }
}

fn aside_word(old: OldDatabase) -> &'static str {
    match old {
        OldDatabase::Drop => "replaced",
        OldDatabase::Keep => "before",
    }
}

/// The mark that a database has to hold when it is one of a restore's: by its name it may be.
pub fn mark_of_staging(database: &str) -> Option<String> {
    let (rest, digits) = database.rsplit_once('_')?;
    let (_, word) = rest.rsplit_once('_')?;
    let words = [
        LOADING,
        aside_word(OldDatabase::Drop),
        aside_word(OldDatabase::Keep),
    ];
    let is_run = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_run && words.contains(&word)).then(|| format!("{MARK}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(database: &str) -> Names {
        Names::of(database, &"20261121T020000Z-9f2c61aa".parse().unwrap())
    }

    fn all(names: &Names) -> Vec<String> {
        let asides = OldDatabase::ALL.map(|old| names.aside(old));
        [vec![names.staged()], asides.to_vec()].concat()
    }

    #[test]
    fn names_tell_what_they_are() {
        assert_eq!(
            all(&names("shop")),
            [
                "shop_loading_9f2c61aa",
                "shop_replaced_9f2c61aa",
                "shop_before_9f2c61aa"
            ]
        );
        assert_eq!(
            names("my shöp").staged(),
            "my_sh_p_2cfd6bb5_loading_9f2c61aa"
        );
        assert_eq!(names("shop").mark(), "cofferdam_9f2c61aa");
    }

    #[test]
    fn databases_of_restores_are_known_by_their_names() {
        for (name, mark) in [
            ("shop_loading_9f2c61aa", Some("cofferdam_9f2c61aa")),
            ("a_b_before_00000000", Some("cofferdam_00000000")),
            ("shop_loading_9f2c61a", None),
            ("shop_leading_9f2c61aa", None),
            ("loading_9f2c61aa", None),
            ("shop", None),
            ("shop_before_2026-1-1", None),
        ] {
            assert_eq!(mark_of_staging(name).as_deref(), mark, "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_fit_and_never_meet(one in "[^\0]{1,64}", tail in "[^\0]{1,3}") {
            let long: String = one.chars().cycle().take(61).collect();
            for (one, other) in [(one.clone(), format!("{one}{tail}")), (long.clone(), format!("{long}{tail}"))] {
                let (ones, others) = (all(&names(&one)), all(&names(&other)));
                for name in ones.iter().chain(&others) {
                    prop_assert!(name.len() <= LONGEST_NAME && name.is_ascii());
                    prop_assert_eq!(mark_of_staging(name), Some("cofferdam_9f2c61aa".to_owned()));
                }
                prop_assert!(ones.iter().all(|name| !others.contains(name)));
            }
        }
    }
}
