//! Sizes, durations, ages and counts, as people say them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Binary units with about three digits: `0 B`, `1023 B`, `1.5 KiB`, `336 MiB`, `1.0 TiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024 is one of the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// The two largest units that say something: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 04 min`, `3 d 04 h`.
pub fn duration(duration: Duration) -> String {
    if duration < Duration::from_millis(9_950) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let seconds = (duration.as_secs_f64().round()) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// One that somebody has set, in the unit that they may have used: `90 minutes`, `26 hours`, `8 days`.
pub fn limit(limit: Duration) -> String {
    let seconds = limit.as_secs();
    for (unit, noun, most) in [
        (3600, "hour", 72),
        (86_400, "day", u64::MAX),
        (60, "minute", 120),
    ] {
        if seconds > 0 && seconds.is_multiple_of(unit) && seconds / unit <= most {
            return counted(seconds / unit, noun);
        }
    }
    duration(limit)
}

/// From one moment to a later one; nothing when the clock went back meanwhile.
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    end.duration_since(start).try_into().unwrap_or_default()
}

/// How long ago `then` was: `just now`, `5 minutes ago`, `3 days ago`; `in 5 minutes` when clocks disagree.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let passed: SignedDuration = now.duration_since(then);
    let seconds = passed.as_secs().unsigned_abs();
    let (amount, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..5_184_000 => (seconds / 86_400, "day"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    let amount = counted(amount, unit);
    if passed.is_negative() {
        format!("in {amount}")
    } else {
        format!("{amount} ago")
    }
}

/// `12,345,678`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 table`, `23 tables`, `2 entries`
pub fn counted(number: u64, noun: &str) -> String {
    let shown = count(number);
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("{shown} {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{shown} {stem}ies"),
        _ => format!("{shown} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        const MIB: u64 = 1 << 20;
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (MIB - 1, "1.0 MiB"),
            (MIB, "1.0 MiB"),
            (336 * MIB, "336 MiB"),
            (1024 * MIB, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (millis, expected) in [
            (0, "0.0 s"),
            (449, "0.4 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_400, "59 s"),
            (59_600, "1 min 00 s"),
            (185_000, "3 min 05 s"),
            (7_440_000, "2 h 04 min"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(
                duration(Duration::from_millis(millis)),
                expected,
                "{millis}"
            );
        }
    }

    #[test]
    fn limits_are_told_as_they_were_set() {
        for (seconds, expected) in [
            (5_400, "90 minutes"),
            (3_600, "1 hour"),
            (26 * 3_600, "26 hours"),
            (8 * 86_400, "8 days"),
            (26 * 3_600 + 1_440, "1 d 02 h"),
            (5_401, "1 h 30 min"),
        ] {
            assert_eq!(limit(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        let then: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7_199, "1 hour ago"),
            (86_400, "1 day ago"),
            (59 * 86_400, "59 days ago"),
            (61 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
            (-30, "just now"),
            (-600, "in 10 minutes"),
        ] {
            let now = then + SignedDuration::from_secs(seconds);
            assert_eq!(age(then, now), expected, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_went_back_took_no_time() {
        let early: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-21T02:00:05Z".parse().unwrap();
        assert_eq!(between(early, late), Duration::from_secs(5));
        assert_eq!(between(late, early), Duration::ZERO);
    }

    #[test]
    fn counts_are_grouped_and_nouns_agree() {
        for (number, noun, expected) in [
            (0, "table", "0 tables"),
            (1, "table", "1 table"),
            (999, "table", "999 tables"),
            (1_000, "table", "1,000 tables"),
            (12_345_678, "entry", "12,345,678 entries"),
            (1, "entry", "1 entry"),
            (2, "day", "2 days"),
        ] {
            assert_eq!(counted(number, noun), expected);
        }
    }
}
