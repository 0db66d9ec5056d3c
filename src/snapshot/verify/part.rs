//! A part of all objects, so that reading can be spread over days.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::manifest::ObjectPath;

/// The `number`th of `of` parts, counted from 1. Together they hold every object once, and an object is always in the
/// same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Part {
    number: u32,
    of: u32,
}

impl Part {
    pub fn holds(self, object: &ObjectPath) -> bool {
        let digest = Sha256::digest(object.as_str());
        let beginning = digest.first_chunk().expect("32 bytes");
        u64::from_be_bytes(*beginning) % u64::from(self.of) == u64::from(self.number - 1)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.to_string()
    }
}

/// Which part somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartChoice {
    Fixed(Part),
    /// Another one each day, in turn.
    ByDay {
        of: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a part as `2/7`, the second of seven, or as `today/7`, a different one each day")]
pub struct BadPart;

impl FromStr for PartChoice {
    type Err = BadPart;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, of) = text.split_once('/').ok_or(BadPart)?;
        let of = digits(of)?;
        if number == "today" {
            return Ok(Self::ByDay { of });
        }
        let number = digits(number)?;
        if number > of {
            return Err(BadPart);
        }
        Ok(Self::Fixed(Part { number, of }))
    }
}

/// A whole number from 1, without a sign.
fn digits(text: &str) -> Result<u32, BadPart> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number @ 1..) if plain => Ok(number),
        _ => Err(BadPart),
    }
}

impl PartChoice {
    pub fn on(self, today: Date) -> Part {
        const EPOCH: Date = Date::constant(1970, 1, 1);
        match self {
            Self::Fixed(part) => part,
            Self::ByDay { of } => {
                let day = today.duration_since(EPOCH).as_hours() / 24;
                let number = day.rem_euclid(i64::from(of)) + 1;
                Part {
                    number: u32::try_from(number).expect("no more than `of`"),
                    of,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::samples::{id, path};

    fn part(number: u32, of: u32) -> Part {
        Part { number, of }
    }

    #[test]
    fn parts_are_written_as_fractions() {
        for (text, expected) in [
            ("1/7", Some(PartChoice::Fixed(part(1, 7)))),
            ("7/7", Some(PartChoice::Fixed(part(7, 7)))),
            ("1/1", Some(PartChoice::Fixed(part(1, 1)))),
            ("today/30", Some(PartChoice::ByDay { of: 30 })),
            ("0/7", None),
            ("8/7", None),
            ("1/0", None),
            ("today/0", None),
            ("+1/7", None),
            ("1", None),
            ("1/7/2", None),
            ("1/4294967296", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn consecutive_days_go_through_all_parts() {
        let choice = PartChoice::ByDay { of: 7 };
        let new_year: Date = "2026-12-29".parse().unwrap();
        let days = new_year.series(jiff::ToSpan::days(1)).take(8);
        let numbers: Vec<u32> = days.map(|day| choice.on(day).number).collect();
        let mut week = numbers[..7].to_vec();
        week.sort_unstable();
        assert_eq!(week, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(numbers[7], numbers[0]);
        let before_the_epoch: Date = "1969-12-31".parse().unwrap();
        assert_eq!(choice.on(before_the_epoch), part(7, 7));
    }

    #[test]
    fn parts_hold_every_object_once_and_about_as_many_each() {
        let mut held = [0; 7];
        for number in 0..700 {
            let object = path("candig", &id(1), &format!("{number}.dump"));
            let holders: Vec<u32> = (1..=7).filter(|&n| part(n, 7).holds(&object)).collect();
            let [holder] = holders.as_slice() else {
                panic!("{object} is in {holders:?}");
            };
            held[*holder as usize - 1] += 1;
        }
        assert!(held.iter().all(|&objects| objects > 60), "{held:?}");
        // This is what another version must find, too.
        let object = path("candig", &id(1), "db.dump");
        assert!(part(4, 7).holds(&object));
    }
}
