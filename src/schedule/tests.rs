use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

/// The next moments at which it is due, as the zone's clocks show them.
fn dues(text: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let (schedule, zone) = (schedule(text), zone(zone_name));
    let mut last = at(after);
    let mut dues = Vec::new();
    for _ in 0..count {
        last = schedule.next(last, &zone).unwrap();
        let shown = last.to_zoned(zone.clone());
        dues.push(shown.strftime("%d %H:%M:%S%:z").to_string());
    }
    dues
}

#[test]
fn patterns_with_five_and_six_fields_names_and_intervals_are_read() {
    let after = "2026-11-21T10:00:00Z";
    for (text, next) in [
        ("30 2 * * *", "22 02:30:00+00:00"),
        ("15 30 2 * * *", "22 02:30:15+00:00"),
        ("  30   2 * * * ", "22 02:30:00+00:00"),
        ("*/5 * * * *", "21 10:05:00+00:00"),
        ("0 2 * * MON-FRI", "23 02:00:00+00:00"),
        ("0 2 * * 7", "22 02:00:00+00:00"),
        ("0 2 1,15 * *", "01 02:00:00+00:00"),
        ("0 2 L * *", "30 02:00:00+00:00"),
        ("@hourly", "21 11:00:00+00:00"),
        ("@daily", "22 00:00:00+00:00"),
        ("@midnight", "22 00:00:00+00:00"),
        ("@nightly", "22 02:00:00+00:00"),
        ("@weekly", "22 00:00:00+00:00"),
        ("@monthly", "01 00:00:00+00:00"),
        ("@yearly", "01 00:00:00+00:00"),
        ("every 6h", "21 16:00:00+00:00"),
        ("@every 1h30m", "21 11:30:00+00:00"),
        ("every 1day 2h", "22 12:00:00+00:00"),
    ] {
        assert_eq!(dues(text, "UTC", after, 1), [next], "{text}");
    }
}

/// crontab(5): when both days are given, either will do.
#[test]
fn a_day_of_the_month_and_one_of_the_week_are_alternatives() {
    assert_eq!(
        dues("0 2 13 * FRI", "UTC", "2026-11-08T00:00:00Z", 3),
        [
            "13 02:00:00+00:00",
            "20 02:00:00+00:00",
            "27 02:00:00+00:00"
        ]
    );
}

#[test]
fn what_is_no_schedule_is_refused_with_what_to_write() {
    let bad = [
        "",
        "  ",
        "daily",
        "@dialy",
        "@reboot",
        "2 30",
        "0 2 * *",
        "0 0 2 * * * 2027",
        "61 2 * * *",
        "0 24 * * *",
        "0 2 * * MOO",
        "0 2 0 * *",
        "0 2 30 2 *",
        "5/15 * * * *",
        "0 5-2 * * *",
        "*/0 * * * *",
        "0 2 * * \u{1b}[31m",
        "CRON_TZ=Europe/Berlin 0 2 * * *",
        "every",
        "every 6",
        "every 6M",
        "every 5s",
        "every 99999999999999years",
        "6h",
        "@daily @weekly",
    ];
    let told: Vec<String> = bad
        .iter()
        .map(|text| text.parse::<Schedule>().unwrap_err().to_string())
        .collect();
    assert_snapshot!(told.join("\n"), @r#"
    is empty; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is empty; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `daily`; did you mean `@daily`?
    is `@dialy`; did you mean `@daily`?
    is `@reboot`; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `2 30`; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 2 * *`; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 0 2 * * * 2027`; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `61 2 * * *`: Number out of bounds; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 24 * * *`: Number out of bounds; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 2 * * MOO`: CronPattern contains illegal character 'M' in part 'MOO'; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 2 0 * *`: Number out of bounds; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 2 30 2 *`, which is never; write a day that exists, or `off`
    is `5/15 * * * *`: Invalid step syntax: single number steps like "5/15" are not allowed. Use "*/15"…; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 5-2 * * *`: Range out of bounds; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `*/0 * * * *`: Step cannot be zero; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `0 2 * * \u{1b}[31m`: CronPattern contains illegal character '\u{1b}' in part '\u{1b}[31M'; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    is `CRON_TZ=Europe/Berlin 0 2 * * *`, which names a time zone; remove it, and set --time-zone or TZ instead
    is `every`; write a number and a unit, such as `every 6h`
    is `every 6`; write a number and a unit, such as `every 6h`
    is `every 6M`, in which `M` would be months; write `min` for minutes, or `months`
    is `every 5s`, which is too often; write `every 1min` or more
    is `every 99999999999999years`; write a number and a unit, such as `every 6h`
    is `6h`; did you mean `every 6h`?
    is `@daily @weekly`; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    "#);
}

#[test]
fn off_is_never_due() {
    let off = schedule("off");
    assert_eq!(off.next(at("2026-11-21T10:00:00Z"), &TimeZone::UTC), None);
    assert_eq!(
        off.longest_gap(at("2026-11-21T10:00:00Z"), &TimeZone::UTC),
        None
    );
}

/// Berlin goes from 02:00 to 03:00 on 2027-03-28, and from 03:00 back to 02:00 on 2026-10-25.
#[test]
fn a_fixed_time_is_due_once_a_day_also_when_the_clocks_change() {
    assert_eq!(
        dues("30 2 * * *", "Europe/Berlin", "2027-03-27T00:00:00Z", 3),
        [
            "27 02:30:00+01:00",
            "28 03:00:00+02:00",
            "29 02:30:00+02:00"
        ]
    );
    assert_eq!(
        dues("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3),
        [
            "24 02:30:00+02:00",
            "25 02:30:00+02:00",
            "26 02:30:00+01:00"
        ]
    );
}

#[test]
fn a_pattern_over_many_hours_follows_the_clock() {
    assert_eq!(
        dues("30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2),
        ["28 01:30:00+01:00", "28 03:30:00+02:00"]
    );
    assert_eq!(
        dues("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
        [
            "25 02:30:00+02:00",
            "25 02:30:00+01:00",
            "25 03:30:00+01:00"
        ]
    );
}

#[test]
fn an_interval_does_not_look_at_the_clocks() {
    assert_eq!(
        dues("every 2h", "Europe/Berlin", "2027-03-27T23:30:00Z", 2),
        ["28 03:30:00+02:00", "28 05:30:00+02:00"]
    );
}

#[test]
fn the_longest_gap_is_that_over_the_weekend() {
    let hours = |text: &str, zone_name: &str, now: &str| {
        let gap = schedule(text).longest_gap(at(now), &zone(zone_name));
        gap.unwrap().as_secs() / 3600
    };
    let now = "2026-11-21T10:00:00Z";
    assert_eq!(hours("@daily", "UTC", now), 24);
    assert_eq!(hours("0 2 * * 1-5", "UTC", now), 72);
    assert_eq!(hours("@weekly", "UTC", now), 7 * 24);
    assert_eq!(hours("@monthly", "UTC", now), 31 * 24);
    assert_eq!(hours("every 6h", "UTC", now), 6);
    // The day on which the clocks go back.
    assert_eq!(hours("@daily", "Europe/Berlin", "2026-10-01T00:00:00Z"), 25);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,40}") {
        let _ = text.parse::<Schedule>();
    }

    #[test]
    fn the_next_time_is_later_and_nothing_is_due_in_between(
        minute in 0..60u8, hour in 0..24u8, day in prop::sample::select(vec!["*", "1", "15", "L"]),
        after in 1_700_000_000..2_000_000_000i64,
        zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    ) {
        let schedule = schedule(&format!("{minute} {hour} {day} * *"));
        let (after, zone) = (Timestamp::from_second(after).unwrap(), zone(zone_name));
        let next = schedule.next(after, &zone).unwrap();
        prop_assert!(next > after);
        prop_assert!(next.duration_since(after) < SignedDuration::from_hours(32 * 24));
        // Asked again from anywhere before, it is still the same.
        let half = next.duration_since(after).as_secs() / 2;
        let between = after.checked_add(SignedDuration::from_secs(half)).unwrap();
        prop_assert_eq!(schedule.next(between, &zone).unwrap(), next);
    }
}
