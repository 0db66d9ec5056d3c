//! What `--keep` and the label `cofferdam.keep` say: which snapshots of a series stay. Pure.
//!
//! `last=3,daily=7,weekly=4,within=48h`: each rule is independent of the others, and what any of them keeps stays. A
//! policy that keeps nothing cannot be written: nobody ever meant it, and "0 days" has deleted backups before.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::text::{nearest_word, quoted};

/// At least one rule, and none that keeps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    counts: BTreeMap<Rule, u32>,
    within: Option<Duration>,
}

/// A rule that counts. The calendar's periods go from the finest to the coarsest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The newest.
    Last,
    /// The newest of each of the newest hours that have one; the others likewise.
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Rule {
    pub const ALL: [Self; 6] = [
        Self::Last,
        Self::Hourly,
        Self::Daily,
        Self::Weekly,
        Self::Monthly,
        Self::Yearly,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    fn period(self) -> Option<&'static str> {
        match self {
            Self::Last => None,
            Self::Hourly => Some("hour"),
            Self::Daily => Some("day"),
            Self::Weekly => Some("week"),
            Self::Monthly => Some("month"),
            Self::Yearly => Some("year"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

const WITHIN: &str = "within";

impl KeepPolicy {
    /// The rules that count, each with its number, which is never 0.
    pub fn counts(&self) -> impl DoubleEndedIterator<Item = (Rule, u32)> {
        self.counts.iter().map(|(rule, count)| (*rule, *count))
    }

    /// Everything stays that is no older than this, measured from the newest of its series.
    pub fn within(&self) -> Option<Duration> {
        self.within
    }

    /// Why a rule is there for nothing: the period that is running counts, and the newest stays by any rule.
    pub fn idle_rule(&self) -> Option<String> {
        let rules = self.counts.len() + usize::from(self.within.is_some());
        let (rule, period) = self
            .counts()
            .filter(|(_, count)| *count == 1)
            .filter_map(|(rule, _)| Some((rule, rule.period()?)))
            .next_back()?;
        (rules > 1).then(|| {
            format!(
                "`{rule}=1` keeps nothing that the other rules do not: the {period} that is running counts; write \
                 `{rule}=2` to keep one of the {period} before"
            )
        })
    }
}

/// Written as it can be read again.
impl fmt::Display for KeepPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts().map(|(rule, count)| format!("{rule}={count}"));
        let within = self.within.map(|time| {
            let time = humantime::format_duration(time).to_string();
            format!("{WITHIN}={}", spelled_out(&time))
        });
        let rules: Vec<String> = counts.chain(within).collect();
        formatter.write_str(&rules.join(","))
    }
}

/// humantime writes minutes and nothing else with one of the letters that people mix up.
fn spelled_out(time: &str) -> String {
    let parts = time.split(' ').map(|part| match part.strip_suffix('m') {
        Some(minutes) if minutes.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{minutes}min")
        }
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(" ")
}

impl Serialize for KeepPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a policy is refused; `what` completes the sentence "--keep …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct BadKeepPolicy {
    pub what: String,
    pub hint: String,
}

fn refused<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, BadKeepPolicy> {
    Err(BadKeepPolicy {
        what: what.into(),
        hint: hint.into(),
    })
}

impl FromStr for KeepPolicy {
    type Err = BadKeepPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXAMPLE: &str = "write rules, such as `last=3,daily=7,weekly=4`";
        if text.trim().is_empty() {
            return refused("is empty", EXAMPLE);
        }
        let mut policy = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for item in text.split(',').map(str::trim) {
            let Some((name, value)) = item.split_once('=') else {
                return refused(
                    format!("has `{}`, which is not a rule", quoted(item)),
                    EXAMPLE,
                );
            };
            let (name, value) = (name.trim(), value.trim());
            if seen.contains(&name) {
                return refused(
                    format!("has `{}` twice", quoted(name)),
                    "remove one of them",
                );
            }
            seen.push(name);
            policy.read(name, value)?;
        }
        if policy == Self::default() {
            return refused(
                format!("is `{}`, which keeps nothing", quoted(text.trim())),
                "give one of its rules a number above 0",
            );
        }
        Ok(policy)
    }
}

impl KeepPolicy {
    /// A rule of 0 says nothing, so that templates can switch one off.
    fn read(&mut self, name: &str, value: &str) -> Result<(), BadKeepPolicy> {
        if name == WITHIN {
            self.within = Some(duration(value)?).filter(|time| !time.is_zero());
            return Ok(());
        }
        let Some(rule) = Rule::ALL.into_iter().find(|rule| rule.as_str() == name) else {
            let names = Rule::ALL.map(Rule::as_str).into_iter().chain([WITHIN]);
            let meant = nearest_word(name, names);
            return refused(
                format!("has the rule `{}`", quoted(name)),
                match meant {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "the rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within`".to_owned(),
                },
            );
        };
        match value.parse::<u32>() {
            Ok(0) => {}
            Ok(count) => {
                self.counts.insert(rule, count);
            }
            Err(_) => {
                return refused(
                    format!("has `{rule}={}`", quoted(value)),
                    format!("write a number, such as `{rule}=7`"),
                );
            }
        }
        Ok(())
    }
}

/// `m` is minutes and `M` is months: who mixes them up would lose half a year of backups, so neither is taken.
fn duration(value: &str) -> Result<Duration, BadKeepPolicy> {
    let what = || format!("has `{WITHIN}={}`", quoted(value));
    let mut units = value.split(|character: char| !character.is_alphabetic());
    if units.any(|unit| unit == "m" || unit == "M") {
        return refused(
            what(),
            "`m` would be minutes and `M` months; write `min`, `h`, `d`, `weeks`, `months` or `years`",
        );
    }
    humantime::parse_duration(value).or_else(|_| {
        refused(
            what(),
            "write a number and a unit, such as `48h`, `14d` or `3months`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, String> {
        let policy = text.parse::<KeepPolicy>();
        policy
            .map(|policy| policy.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn policies_are_read_and_written() {
        for (text, expected) in [
            ("last=3", "last=3"),
            (" daily = 7 , last=3 ", "last=3,daily=7"),
            (
                "hourly=24,daily=7,weekly=4,monthly=6,yearly=10",
                "hourly=24,daily=7,weekly=4,monthly=6,yearly=10",
            ),
            ("within=48h", "within=2days"),
            ("within=90min", "within=1h 30min"),
            ("within=3months,last=1", "last=1,within=3months"),
            ("daily=0,weekly=2", "weekly=2"),
            ("within=0s,last=1", "last=1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_keeps_nothing_is_no_policy() {
        for text in [
            "",
            "  ",
            "last=0",
            "daily=0,weekly=0",
            "within=0d",
            "daily=0,within=0s",
        ] {
            let error = text.parse::<KeepPolicy>().expect_err(text);
            let said = error.what;
            assert!(
                said.contains("empty") || said.contains("keeps nothing"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let bad = [
            "7",
            "daily",
            "dayly=7",
            "nightly=7",
            "daily=-1",
            "daily=1.5",
            "daily=99999999999",
            "daily=7,daily=8",
            "daily=7,",
            "within=6m",
            "within=1h 6M",
            "within=soon",
            "within=48",
        ];
        let said: Vec<String> = bad
            .iter()
            .map(|text| format!("{text}: {}", read(text).expect_err(text)))
            .collect();
        assert_snapshot!(said.join("\n"), @r"
        7: has `7`, which is not a rule; write rules, such as `last=3,daily=7,weekly=4`
        daily: has `daily`, which is not a rule; write rules, such as `last=3,daily=7,weekly=4`
        dayly=7: has the rule `dayly`; did you mean `daily`?
        nightly=7: has the rule `nightly`; the rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within`
        daily=-1: has `daily=-1`; write a number, such as `daily=7`
        daily=1.5: has `daily=1.5`; write a number, such as `daily=7`
        daily=99999999999: has `daily=99999999999`; write a number, such as `daily=7`
        daily=7,daily=8: has `daily` twice; remove one of them
        daily=7,: has ``, which is not a rule; write rules, such as `last=3,daily=7,weekly=4`
        within=6m: has `within=6m`; `m` would be minutes and `M` months; write `min`, `h`, `d`, `weeks`, `months` or `years`
        within=1h 6M: has `within=1h 6M`; `m` would be minutes and `M` months; write `min`, `h`, `d`, `weeks`, `months` or `years`
        within=soon: has `within=soon`; write a number and a unit, such as `48h`, `14d` or `3months`
        within=48: has `within=48`; write a number and a unit, such as `48h`, `14d` or `3months`
        ");
    }

    #[test]
    fn a_rule_that_adds_nothing_is_told() {
        for (text, idle) in [
            ("daily=1,weekly=1", Some("weekly")),
            ("last=3,daily=1", Some("daily")),
            ("within=2d,yearly=1,daily=7", Some("yearly")),
            ("daily=1", None),
            ("last=1,daily=7", None),
            ("daily=7,weekly=4", None),
        ] {
            let told = text.parse::<KeepPolicy>().unwrap().idle_rule();
            let rule = told.as_deref().and_then(|told| told[1..].split('=').next());
            assert_eq!(rule, idle, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            counts in prop::collection::btree_map(prop::sample::select(Rule::ALL.to_vec()), 1_u32.., 0..6),
            seconds in prop::option::of(1_u64..400_000_000),
        ) {
            let policy = KeepPolicy { counts, within: seconds.map(Duration::from_secs) };
            prop_assume!(policy != KeepPolicy::default());
            prop_assert_eq!(policy.to_string().parse(), Ok(policy));
        }

        #[test]
        fn no_text_is_too_odd_to_be_refused(text in ".{0,40}") {
            if let Ok(policy) = text.parse::<KeepPolicy>() {
                prop_assert_ne!(policy, KeepPolicy::default());
            }
        }
    }
}
