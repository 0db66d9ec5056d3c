//! When backups are due: cron patterns, and intervals. Pure.
//!
//! `0 2 * * *`, `30 0 2 * * *` (seconds first), `@daily`, `every 6h`, or `off` for what is saved only when it is asked for.
//!
//! A pattern means the wall clock of a time zone. Where daylight saving skips the hour of a pattern with a fixed time, it is
//! due at the end of the gap (02:30 becomes 03:00); where it repeats that hour, it is due once, the first time. A pattern with a
//! `*`, a range or a step in its hours or minutes follows the clock: it is due in both of the repeated hours and in none of
//! the skipped one. An interval is counted from the beginning of the last run, whatever the clocks do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::text::{nearest_word, quoted};

/// Two are the same when they are written alike.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Box<Cron>),
    Every(SignedDuration),
    Off,
}

/// The shortest interval: less is a slip of the pen, and would never leave the stack alone.
const SHORTEST: Duration = Duration::from_secs(60);

/// How many occurrences of a pattern are looked at for its longest gap. A rule for days of the week and of the month has shown
/// all of its gaps by then.
const OCCURRENCES: usize = 64;

impl Schedule {
    /// At midnight.
    pub fn daily() -> Self {
        DAILY.parse().expect("it is a schedule")
    }

    /// The first moment after `last` at which a backup is due; `None` when it never is.
    ///
    /// `last` is the beginning of the last run, or since when nothing has been due.
    pub fn next(&self, last: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(cron) => {
                let last = last.to_zoned(zone.clone());
                let next = cron.find_next_occurrence(&last, false).ok()?;
                Some(next.timestamp())
            }
            Rule::Every(interval) => last.checked_add(*interval).ok(),
            Rule::Off => None,
        }
    }

    /// Whether the first backup is due at once, where there has been none.
    pub fn begins_at_once(&self) -> bool {
        matches!(self.rule, Rule::Every(_))
    }

    /// The longest time from one run to the next, as seen from `now` on.
    pub fn longest_gap(&self, now: Timestamp, zone: &TimeZone) -> Option<Duration> {
        let gap = match &self.rule {
            Rule::Cron(_) => {
                let mut last = self.next(now, zone)?;
                let mut longest = SignedDuration::ZERO;
                for _ in 0..OCCURRENCES {
                    let Some(next) = self.next(last, zone) else {
                        break;
                    };
                    longest = longest.max(next.duration_since(last));
                    last = next;
                }
                longest
            }
            Rule::Every(interval) => *interval,
            Rule::Off => return None,
        };
        gap.try_into().ok()
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

/// Written as it was read, but for spaces.
impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a schedule is refused; `what` completes the sentence "--schedule …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct BadSchedule {
    pub what: String,
    pub hint: String,
}

const EXAMPLES: &str = "write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`";

fn refused<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, BadSchedule> {
    Err(BadSchedule {
        what: what.into(),
        hint: hint.into(),
    })
}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        let rule = match words.as_slice() {
            [] => return refused("is empty", EXAMPLES),
            ["off"] => Rule::Off,
            ["every" | "@every", rest @ ..] => Rule::Every(interval(&text, &rest.join(" "))?),
            [name] if name.starts_with('@') => cron(&text, named(name)?)?,
            [zone, ..] if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => {
                return refused(
                    format!("is `{}`, which names a time zone", quoted(&text)),
                    "remove it, and set --time-zone or TZ instead",
                );
            }
            fields if matches!(fields.len(), 5 | 6) => cron(&text, &text)?,
            _ => return refused(format!("is `{}`", quoted(&text)), hint_for(&words)),
        };
        Ok(Self { text, rule })
    }
}

fn hint_for(words: &[&str]) -> String {
    let meant = match words {
        [word] if named(&format!("@{word}")).is_ok() => format!("@{word}"),
        _ if interval("", &words.join(" ")).is_ok() => format!("every {}", words.join(" ")),
        _ => return EXAMPLES.to_owned(),
    };
    format!("did you mean `{meant}`?")
}

const DAILY: &str = "@daily";

/// The patterns of crontab(5) that have names.
const NAMED: [(&str, &str); 8] = [
    ("@hourly", "0 * * * *"),
    (DAILY, "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@nightly", "0 2 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

fn named(name: &str) -> Result<&'static str, BadSchedule> {
    if let Some((_, pattern)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Ok(pattern);
    }
    let names = NAMED.map(|(known, _)| known);
    let hint = match nearest_word(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => EXAMPLES.to_owned(),
    };
    refused(format!("is `{}`", quoted(name)), hint)
}

fn cron(text: &str, pattern: &str) -> Result<Rule, BadSchedule> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    let what = || format!("is `{}`", quoted(text));
    let cron = parser.parse(pattern).or_else(|error| {
        let why = match &error {
            CronError::InvalidPattern(why)
            | CronError::IllegalCharacters(why)
            | CronError::ComponentError(why) => why.clone(),
            other => other.to_string(),
        };
        let why = quoted(why.trim_end_matches('.'));
        refused(format!("{}: {why}", what()), EXAMPLES)
    })?;
    // The 30th of February: told now rather than never.
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    match cron.find_next_occurrence(&now, false) {
        Ok(_) => Ok(Rule::Cron(Box::new(cron))),
        Err(_) => refused(
            format!("{}, which is never", what()),
            "write a day that exists, or `off`",
        ),
    }
}

/// humantime reads `M` as months and `m` as minutes; who takes them for each other would be left without backups.
fn interval(text: &str, value: &str) -> Result<SignedDuration, BadSchedule> {
    let what = || format!("is `{}`", quoted(text));
    let mut units = value.split(|character: char| !character.is_alphabetic());
    if units.any(|unit| unit == "M") {
        return refused(
            format!("{}, in which `M` would be months", what()),
            "write `min` for minutes, or `months`",
        );
    }
    match humantime::parse_duration(value) {
        Ok(interval) if interval >= SHORTEST => SignedDuration::try_from(interval)
            .or_else(|_| refused(what(), "write a shorter time, such as `every 6h`")),
        Ok(_) => refused(
            format!("{}, which is too often", what()),
            "write `every 1min` or more",
        ),
        Err(_) => refused(what(), "write a number and a unit, such as `every 6h`"),
    }
}

#[cfg(test)]
mod tests;
