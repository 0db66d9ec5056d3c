//! What a policy keeps of a series.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Snapshot;
use crate::keep::{KeepPolicy, Rule};

pub(super) struct Pick<'a> {
    pub snapshot: &'a Snapshot,
    pub rule: &'static str,
    /// [`super::Reason::Rule`]
    pub period: String,
}

/// `series` stands newest first.
pub(super) fn pick<'a>(
    policy: &KeepPolicy,
    series: &[&'a Snapshot],
    time_zone: &TimeZone,
) -> Vec<Pick<'a>> {
    let mut picks = Vec::new();
    for (rule, count) in policy.counts() {
        let mut seen = BTreeSet::new();
        for snapshot in series {
            if seen.len() as u64 >= u64::from(count) {
                break;
            }
            let key = match period(rule, snapshot.started, time_zone) {
                Some(period) => period,
                None => snapshot.id.to_string(),
            };
            if seen.insert(key.clone()) {
                picks.push(Pick {
                    snapshot,
                    rule: rule.as_str(),
                    period: if rule == Rule::Last {
                        String::new()
                    } else {
                        key
                    },
                });
            }
        }
    }
    if let (Some(within), Some(newest)) = (policy.within(), series.first()) {
        let is_within = |snapshot: &&&Snapshot| {
            newest
                .started
                .duration_since(snapshot.started)
                .unsigned_abs()
                <= within
        };
        picks.extend(series.iter().filter(is_within).map(|snapshot| Pick {
            snapshot,
            rule: "within",
            period: humantime::format_duration(within).to_string(),
        }));
    }
    picks
}

/// The name of the calendar's period that a moment lies in. An hour that a clock shows twice, when it is put back, is two.
fn period(rule: Rule, moment: Timestamp, time_zone: &TimeZone) -> Option<String> {
    let local: Zoned = moment.to_zoned(time_zone.clone());
    Some(match rule {
        Rule::Last => return None,
        Rule::Hourly => local.strftime("%Y-%m-%d %H:00 %:z").to_string(),
        Rule::Daily => local.strftime("%Y-%m-%d").to_string(),
        Rule::Weekly => local.strftime("%G-W%V").to_string(),
        Rule::Monthly => local.strftime("%Y-%m").to_string(),
        Rule::Yearly => local.strftime("%Y").to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_lie_in_the_periods_of_their_time_zone() {
        for (rule, moment, time_zone, expected) in [
            // Two in the night in Berlin is still the day before in UTC.
            (
                Rule::Daily,
                "2026-11-20T23:30:00Z",
                "Europe/Berlin",
                "2026-11-21",
            ),
            (Rule::Daily, "2026-11-20T23:30:00Z", "UTC", "2026-11-20"),
            (
                Rule::Daily,
                "2026-11-20T23:30:00Z",
                "America/New_York",
                "2026-11-20",
            ),
            // A week belongs to the year that has its Thursday.
            (Rule::Weekly, "2026-12-31T12:00:00Z", "UTC", "2026-W53"),
            (Rule::Weekly, "2027-01-03T12:00:00Z", "UTC", "2026-W53"),
            (Rule::Weekly, "2027-01-04T12:00:00Z", "UTC", "2027-W01"),
            (Rule::Weekly, "2024-12-30T12:00:00Z", "UTC", "2025-W01"),
            (
                Rule::Weekly,
                "2026-11-22T23:30:00Z",
                "Europe/Berlin",
                "2026-W48",
            ),
            (
                Rule::Monthly,
                "2026-12-31T23:30:00Z",
                "Europe/Berlin",
                "2027-01",
            ),
            (
                Rule::Yearly,
                "2026-12-31T23:30:00Z",
                "Europe/Berlin",
                "2027",
            ),
            (Rule::Yearly, "2026-12-31T23:30:00Z", "UTC", "2026"),
            // The clock is put back from 03:00 to 02:00, and 02:30 comes twice.
            (
                Rule::Hourly,
                "2026-10-25T00:30:00Z",
                "Europe/Berlin",
                "2026-10-25 02:00 +02:00",
            ),
            (
                Rule::Hourly,
                "2026-10-25T01:30:00Z",
                "Europe/Berlin",
                "2026-10-25 02:00 +01:00",
            ),
            // It is put forward from 02:00 to 03:00.
            (
                Rule::Hourly,
                "2026-03-29T00:30:00Z",
                "Europe/Berlin",
                "2026-03-29 01:00 +01:00",
            ),
            (
                Rule::Hourly,
                "2026-03-29T01:30:00Z",
                "Europe/Berlin",
                "2026-03-29 03:00 +02:00",
            ),
            (
                Rule::Hourly,
                "2026-11-21T02:10:00Z",
                "Asia/Kathmandu",
                "2026-11-21 07:00 +05:45",
            ),
        ] {
            let time_zone = TimeZone::get(time_zone).unwrap();
            let moment = moment.parse().unwrap();
            assert_eq!(
                period(rule, moment, &time_zone).as_deref(),
                Some(expected),
                "{rule} {moment}"
            );
        }
    }
}
