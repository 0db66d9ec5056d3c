use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;
use crate::manifest::{Purpose, Shrunken};
use crate::snapshot::verify::{Fault, Problem};
use crate::target::DriverKind;

mod laws;

fn target(service: &str) -> TargetId {
    TargetId::new(service, DriverKind::Postgres, "data")
}

/// A run of the whole that saved `db` and `app`.
fn taken(time: &str) -> Snapshot {
    let started: Timestamp = time.parse().unwrap();
    let nothing = Snapshot {
        id: format!("{}-00000000", started.strftime("%Y%m%dT%H%M%SZ"))
            .parse()
            .unwrap(),
        started,
        node: None,
        series: Series::Whole,
        made_by_hand: None,
        pin: None,
        saved: BTreeMap::new(),
        failed: BTreeSet::new(),
        shrunken: Vec::new(),
        disturbed: Vec::new(),
    };
    nothing.saving("db").saving("app")
}

impl Snapshot {
    fn saving(mut self, service: &str) -> Self {
        let copy = GoodCopy { keep: None };
        self.saved.insert(target(service), copy);
        self
    }

    fn shrunken_to(mut self, service: &str, bytes: u64) -> Self {
        self.shrunken.push(Shrunken {
            target: target(service),
            bytes,
            before: "20261109T020000Z-00000000".parse().unwrap(),
            bytes_before: 1 << 30,
        });
        self
    }

    fn kept_by(mut self, service: &str, keep: &str) -> Self {
        self.saved.get_mut(&target(service)).unwrap().keep = Some(keep.to_owned());
        self
    }

    fn without(mut self, service: &str) -> Self {
        self.saved.remove(&target(service));
        self
    }

    fn failing(mut self, service: &str) -> Self {
        self.failed.insert(target(service));
        self.without(service)
    }

    fn only(mut self, service: &str) -> Self {
        self.series = Series::Selection(vec![format!("{service}/*")]);
        self.saved.retain(|target, _| target.service == service);
        self
    }

    fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    fn made_by_hand(mut self) -> Self {
        self.made_by_hand = Some(self.started + 1.minute());
        self
    }

    fn pinned_as(mut self, name: &str) -> Self {
        self.pin = Some(name.to_owned());
        self
    }

    fn taken_by_a_restore(mut self) -> Self {
        self.series = Series::Safety;
        self
    }
}

/// One a day, at this time of day in UTC, from the first day to the last.
fn nightly(first: &str, last: &str, time: &str) -> Vec<Snapshot> {
    let (first, last): (jiff::civil::Date, jiff::civil::Date) =
        (first.parse().unwrap(), last.parse().unwrap());
    let days = first.series(1.day()).take_while(|day| *day <= last);
    days.map(|day| taken(&format!("{day}T{time}Z"))).collect()
}

fn terms(keep: &str, time_zone: &str) -> Terms {
    Terms {
        keep: (!keep.is_empty()).then(|| keep.parse().unwrap()),
        time_zone: TimeZone::get(time_zone).unwrap(),
        despite: Vec::new(),
    }
}

fn judged(snapshots: &[Snapshot], terms: &Terms) -> Pruning {
    let evidence = Evidence {
        project: "shop",
        snapshots,
        unreadable: &[],
        damaged: &[],
        in_use: &BTreeSet::new(),
    };
    evaluate(&evidence, terms, "2030-01-01T00:00:00Z".parse().unwrap())
}

/// When the snapshots were taken that stay, as `%m-%d %H:%M` in UTC, oldest first.
fn staying(snapshots: &[Snapshot], keep: &str) -> Vec<String> {
    staying_in("UTC", snapshots, keep)
}

fn staying_in(time_zone: &str, snapshots: &[Snapshot], keep: &str) -> Vec<String> {
    let pruning = judged(snapshots, &terms(keep, time_zone));
    let stays = pruning
        .verdicts
        .iter()
        .filter(|verdict| matches!(verdict.fate, Fate::Stays { .. }));
    stays
        .map(|verdict| verdict.started.strftime("%m-%d %H:%M").to_string())
        .collect()
}

fn days(times: Vec<String>) -> Vec<String> {
    times.iter().map(|time| time[..5].to_owned()).collect()
}

#[test]
fn rules_keep_the_newest_of_the_newest_periods() {
    let year = nightly("2026-01-01", "2026-11-21", "02:00:00");
    for (keep, expected) in [
        ("last=2", vec!["11-20", "11-21"]),
        ("daily=3", vec!["11-19", "11-20", "11-21"]),
        ("weekly=3", vec!["11-08", "11-15", "11-21"]),
        ("monthly=3", vec!["09-30", "10-31", "11-21"]),
        ("yearly=3", vec!["11-21"]),
        ("hourly=2", vec!["11-20", "11-21"]),
        ("within=48h", vec!["11-19", "11-20", "11-21"]),
        (
            "last=1,daily=2,weekly=2,monthly=2",
            vec!["10-31", "11-15", "11-20", "11-21"],
        ),
    ] {
        assert_eq!(days(staying(&year, keep)), expected, "{keep}");
    }
}

#[test]
fn of_a_period_the_newest_stays() {
    let times = ["02:00", "10:00", "18:00"];
    let snapshots: Vec<Snapshot> = ["2026-11-20", "2026-11-21"]
        .iter()
        .flat_map(|day| times.map(|time| taken(&format!("{day}T{time}:00Z"))))
        .collect();
    assert_eq!(
        staying(&snapshots, "daily=7"),
        ["11-20 18:00", "11-21 18:00"]
    );
    // In New York, two in the night here is the day before.
    assert_eq!(
        staying_in("America/New_York", &snapshots, "daily=7"),
        ["11-20 02:00", "11-21 02:00", "11-21 18:00"]
    );
}

#[test]
fn periods_without_a_snapshot_do_not_count() {
    let mut snapshots = nightly("2026-10-01", "2026-10-03", "02:00:00");
    snapshots.extend(nightly("2026-11-20", "2026-11-21", "02:00:00"));
    let expected = ["10-02", "10-03", "11-20", "11-21"];
    assert_eq!(days(staying(&snapshots, "daily=4")), expected);
    assert_eq!(days(staying(&snapshots, "weekly=9")), ["10-03", "11-21"]);
}

#[test]
fn an_hour_that_comes_twice_is_two() {
    // In Berlin: 01:30, 02:30, 02:30 again, 03:30.
    let night = ["23:30", "00:30", "01:30", "02:30"].map(|time| {
        let day = if time == "23:30" { 24 } else { 25 };
        taken(&format!("2026-10-{day}T{time}:00Z"))
    });
    let expected = ["10-25 00:30", "10-25 01:30", "10-25 02:30"];
    assert_eq!(staying_in("Europe/Berlin", &night, "hourly=3"), expected);
    assert_eq!(
        staying_in("Europe/Berlin", &night, "daily=3"),
        ["10-25 02:30"],
        "half past one is of the same day"
    );
}

#[test]
fn days_are_the_calendar_s_however_long_they_are() {
    // 00:30 and 23:30 in Berlin, on a day of 25 and on one of 23 hours.
    for (long, times) in [
        ("10-25", ["2026-10-24T22:30:00Z", "2026-10-25T22:30:00Z"]),
        ("03-29", ["2026-03-28T23:30:00Z", "2026-03-29T21:30:00Z"]),
    ] {
        let kept = staying_in("Europe/Berlin", &times.map(taken), "daily=2");
        assert_eq!(kept.len(), 1, "{long}: both are of one day");
    }
}

#[test]
fn a_week_at_the_end_of_the_year_is_one() {
    let snapshots = nightly("2026-12-20", "2027-01-05", "02:00:00");
    assert_eq!(
        days(staying(&snapshots, "weekly=3")),
        ["12-27", "01-03", "01-05"],
        "the week of 28 December ends on 3 January"
    );
    assert_eq!(days(staying(&snapshots, "yearly=2")), ["12-31", "01-05"]);
}

#[test]
fn a_selection_pushes_out_no_run_of_the_whole() {
    let mut snapshots = nightly("2026-11-18", "2026-11-21", "02:00:00");
    for day in 18..=21 {
        snapshots.push(taken(&format!("2026-11-{day}T14:00:00Z")).only("db"));
        snapshots.push(taken(&format!("2026-11-{day}T15:00:00Z")).only("app"));
    }
    let expected = ["11-21 02:00", "11-21 14:00", "11-21 15:00"];
    assert_eq!(staying(&snapshots, "last=1"), expected);
    assert_eq!(staying(&snapshots, "daily=1"), expected);
}

#[test]
fn a_run_of_the_whole_counts_in_every_selection() {
    let mut snapshots = nightly("2026-11-18", "2026-11-21", "02:00:00");
    snapshots.push(taken("2026-11-18T14:00:00Z").only("db"));
    assert_eq!(
        staying(&snapshots, "last=2"),
        ["11-20 02:00", "11-21 02:00"]
    );
    assert_eq!(
        staying(&snapshots, "daily=4"),
        [
            "11-18 02:00",
            "11-18 14:00",
            "11-19 02:00",
            "11-20 02:00",
            "11-21 02:00"
        ],
        "of the 18th it is the newest of its selection"
    );
}

#[test]
fn what_failed_takes_no_good_copy_s_place() {
    let mut snapshots = nightly("2026-11-10", "2026-11-15", "02:00:00");
    let broken = nightly("2026-11-16", "2026-11-21", "02:00:00");
    snapshots.extend(broken.into_iter().map(|night| night.failing("db")));
    assert_eq!(
        days(staying(&snapshots, "daily=2")),
        ["11-14", "11-15", "11-20", "11-21"]
    );
}

#[test]
fn a_server_that_let_nobody_in_is_not_gone() {
    let mut snapshots = nightly("2026-11-10", "2026-11-15", "02:00:00");
    for mut night in nightly("2026-11-16", "2026-11-21", "02:00:00") {
        night = night.without("db");
        let server = TargetId::new("db", DriverKind::Postgres, "*");
        night.failed.insert(server);
        snapshots.push(night);
    }
    assert_eq!(
        days(staying(&snapshots, "daily=2")),
        ["11-14", "11-15", "11-20", "11-21"]
    );
}

#[test]
fn a_target_that_is_gone_ages_and_its_last_copy_stays() {
    let mut snapshots = nightly("2026-11-10", "2026-11-15", "02:00:00");
    let after = nightly("2026-11-16", "2026-11-18", "02:00:00");
    snapshots.extend(after.into_iter().map(|night| night.without("db")));
    let expected = ["11-14", "11-15", "11-16", "11-17", "11-18"];
    assert_eq!(days(staying(&snapshots, "daily=5")), expected);
    assert_eq!(
        days(staying(&snapshots, "daily=2")),
        ["11-15", "11-17", "11-18"]
    );
    let pruning = judged(&snapshots, &terms("daily=2", "UTC"));
    let last = &pruning.verdicts[5].fate;
    let target = target("db");
    let reasons = vec![Reason::LastCopy { target }];
    assert_eq!(*last, Fate::Stays { reasons });
}

#[test]
fn a_container_s_own_policy_goes_before_the_setting() {
    let mut snapshots = Vec::new();
    for day in nightly("2026-10-25", "2026-11-21", "02:00:00") {
        snapshots.push(day.clone().only("db"));
        let mut later = day
            .only("app")
            .saving("app")
            .kept_by("app", "daily=2,weekly=3");
        later.id = later.id.as_str().replace("T02", "T03").parse().unwrap();
        later.started += 1.hour();
        snapshots.push(later);
    }
    assert_eq!(
        staying(&snapshots, "daily=1,weekly=2"),
        [
            "11-08 03:00",
            "11-15 02:00",
            "11-15 03:00",
            "11-20 03:00",
            "11-21 02:00",
            "11-21 03:00"
        ]
    );
}

#[test]
fn a_snapshot_stays_when_the_policy_of_any_target_keeps_it() {
    let nights = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let nights: Vec<Snapshot> = nights
        .into_iter()
        .map(|night| night.kept_by("app", "last=4"))
        .collect();
    assert_eq!(staying(&nights, "last=1").len(), 4);
    assert_eq!(staying(&nights, "last=6").len(), 6);
    assert_eq!(
        staying(&nights, "").len(),
        12,
        "nothing speaks of the database"
    );
}

#[test]
fn the_newest_copy_says_what_the_label_is() {
    let mut nights = nightly("2026-11-10", "2026-11-21", "02:00:00");
    nights = nights
        .into_iter()
        .map(|night| night.only("db").kept_by("db", "last=9"))
        .collect();
    let newest = nights.pop().unwrap();
    nights.push(newest.kept_by("db", "last=2"));
    assert_eq!(staying(&nights, ""), ["11-20 02:00", "11-21 02:00"]);
}

#[test]
fn rules_of_a_later_version_keep_everything() {
    let nights = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let nights: Vec<Snapshot> = nights
        .into_iter()
        .map(|night| night.kept_by("app", "daily=2,quarterly=4"))
        .collect();
    assert_eq!(staying(&nights, "last=1").len(), 12);
}

#[test]
fn without_a_policy_all_stay() {
    let nights = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let pruning = judged(&nights, &terms("", "UTC"));
    assert_eq!(pruning.going().count(), 0);
    assert!(!pruning.has_policy());
    assert!(judged(&nights, &terms("last=99", "UTC")).has_policy());
}

#[test]
fn a_way_back_goes_after_two_weeks_and_pushes_nothing_out() {
    let mut snapshots = nightly("2026-11-19", "2026-11-21", "02:00:00");
    let ways_back = [
        "2026-11-06T02:00:00Z",
        "2026-11-07T02:00:00Z",
        "2026-11-21T03:00:00Z",
    ];
    snapshots.extend(ways_back.map(|time| taken(time).taken_by_a_restore()));
    assert_eq!(
        days(staying(&snapshots, "last=2")),
        ["11-07", "11-20", "11-21", "11-21"]
    );
    assert_eq!(staying(&snapshots, "").len(), 6);
    let only_copy = taken("2026-09-01T02:00:00Z")
        .taken_by_a_restore()
        .saving("old-db");
    snapshots.push(only_copy);
    assert_eq!(days(staying(&snapshots, "last=1"))[0], "09-01");
}

#[test]
fn what_was_made_by_hand_stays_for_a_day_and_what_is_pinned_for_good() {
    let mut snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    snapshots[2] = snapshots[2].clone().pinned_as("before-upgrade");
    for at in [9, 10] {
        snapshots[at] = snapshots[at].clone().made_by_hand();
    }
    let reasons_at = |now: &str, keep: &str| {
        let evidence = Evidence {
            project: "shop",
            snapshots: &snapshots,
            unreadable: &[],
            damaged: &[],
            in_use: &BTreeSet::new(),
        };
        let pruning = evaluate(&evidence, &terms(keep, "UTC"), now.parse().unwrap());
        let verdicts = pruning.verdicts.iter().enumerate();
        let staying = verdicts.filter_map(|(at, verdict)| match &verdict.fate {
            Fate::Stays { reasons } => Some((at, reasons.clone())),
            Fate::Goes { .. } => None,
        });
        let staying: Vec<_> = staying.collect();
        (staying, pruning.has_policy())
    };
    let name = "before-upgrade".to_owned();
    let pinned = (2, vec![Reason::Pinned { name }]);
    let newest = |staying: &[(usize, Vec<Reason>)]| staying.last().unwrap().clone();
    let (staying, _) = reasons_at("2026-11-21T02:00:30Z", "last=1");
    let by_hand = (10, vec![Reason::ByHand]);
    assert_eq!(staying, [pinned.clone(), by_hand, newest(&staying)]);
    let (staying, _) = reasons_at("2026-11-21T02:01:00Z", "last=1");
    assert_eq!(staying, [pinned, newest(&staying)]);
    // Neither is a policy.
    let (staying, has_policy) = reasons_at("2026-11-21T02:00:30Z", "");
    assert_eq!(staying.len(), snapshots.len());
    assert!(!has_policy);
}

#[test]
fn what_a_restore_needs_stays() {
    let snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let in_use = BTreeSet::from([snapshots[3].id.clone()]);
    let evidence = Evidence {
        project: "shop",
        snapshots: &snapshots,
        unreadable: &[],
        damaged: &[],
        in_use: &in_use,
    };
    let pruning = evaluate(&evidence, &terms("last=1", "UTC"), Timestamp::MAX);
    let reasons = vec![Reason::InUse];
    assert_eq!(pruning.verdicts[3].fate, Fate::Stays { reasons });
    assert_eq!(pruning.going().count(), 10);
}

#[track_caller]
fn ensure_doubt(snapshots: &[Snapshot], despite: &[Despite], expected: Option<&Doubt>) {
    let terms = Terms {
        despite: despite.to_vec(),
        ..terms("last=1", "UTC")
    };
    let pruning = judged(snapshots, &terms);
    assert_eq!(pruning.doubts, Vec::from_iter(expected.cloned()));
    let going = pruning.going().count();
    assert_eq!(going == 0, expected.is_some(), "{going} go");
}

#[test]
fn nothing_goes_from_a_project_that_has_a_snapshot_nobody_can_read_or_none_at_all() {
    let snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let unreadable = Unreadable {
        snapshot: "20261101T020000Z-00000000".parse().unwrap(),
        why: "it is of format 2".to_owned(),
    };
    let mut evidence = Evidence {
        project: "shop",
        snapshots: &snapshots,
        unreadable: std::slice::from_ref(&unreadable),
        damaged: &[],
        in_use: &BTreeSet::new(),
    };
    let terms = terms("last=1", "UTC");
    let pruning = evaluate(&evidence, &terms, Timestamp::MAX);
    assert_eq!(pruning.doubts, [Doubt::Unreadable(unreadable.clone())]);
    assert_eq!(pruning.going().count(), 0);

    (evidence.snapshots, evidence.unreadable) = (&[], &[]);
    let pruning = evaluate(&evidence, &terms, Timestamp::MAX);
    assert_eq!(pruning.doubts, [Doubt::NoSnapshots]);
}

#[test]
fn nothing_goes_when_the_newest_copy_is_damaged() {
    let snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let newest = snapshots.last().unwrap();
    let damaged = |snapshot: &Snapshot, target: Option<&TargetId>| Damaged {
        snapshot: snapshot.id.clone(),
        problem: Problem {
            target: target.cloned(),
            object: None,
            fault: Fault::Missing,
        },
    };
    let target = newest.saved.keys().next();
    let gone = self::target("gone");
    for (damaged, is_doubt) in [
        (damaged(newest, target), true),
        (damaged(&snapshots[0], target), false),
        (damaged(newest, Some(&gone)), false),
    ] {
        let evidence = Evidence {
            project: "shop",
            snapshots: &snapshots,
            unreadable: &[],
            damaged: std::slice::from_ref(&damaged),
            in_use: &BTreeSet::new(),
        };
        let pruning = evaluate(&evidence, &terms("last=1", "UTC"), Timestamp::MAX);
        let expected = is_doubt.then(|| Doubt::Damaged(damaged.clone()));
        assert_eq!(pruning.doubts, Vec::from_iter(expected));
        assert_eq!(pruning.going().count() == 0, is_doubt);
    }
}

/// Of what the stack does not have any more the newest copy is no doubt for good; the one before it stays all the same.
#[test]
fn a_damaged_last_copy_makes_no_other_dispensable() {
    let mut snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let saved = snapshots.len();
    for later in &mut snapshots[4..] {
        later.saved.remove(&target("app"));
    }
    let damaged = Damaged {
        snapshot: snapshots[3].id.clone(),
        problem: Problem {
            target: Some(target("app")),
            object: None,
            fault: Fault::Missing,
        },
    };
    let staying = |damaged: &[Damaged]| {
        let evidence = Evidence {
            project: "shop",
            snapshots: &snapshots,
            unreadable: &[],
            damaged,
            in_use: &BTreeSet::new(),
        };
        let pruning = evaluate(&evidence, &terms("last=1", "UTC"), Timestamp::MAX);
        assert_eq!(pruning.doubts, []);
        let going: BTreeSet<RunId> = pruning.going().cloned().collect();
        let staying = (0..saved).filter(|at| !going.contains(&snapshots[*at].id));
        staying.collect::<Vec<_>>()
    };
    assert_eq!(staying(&[]), [3, saved - 1]);
    assert_eq!(staying(&[damaged]), [2, 3, saved - 1]);
}

#[test]
fn nothing_goes_when_a_clock_is_wrong() {
    let snapshots = nightly("2026-11-10", "2026-11-21", "02:00:00");
    let evidence = Evidence {
        project: "shop",
        snapshots: &snapshots,
        unreadable: &[],
        damaged: &[],
        in_use: &BTreeSet::new(),
    };
    for (now, going) in [
        ("2026-11-21T02:00:00Z", 11),
        ("2026-11-21T01:56:00Z", 11),
        ("2026-11-21T01:54:00Z", 0),
        ("2026-11-20T12:00:00Z", 0),
        ("1970-01-01T00:00:00Z", 0),
    ] {
        let pruning = evaluate(&evidence, &terms("last=1", "UTC"), now.parse().unwrap());
        assert_eq!(pruning.going().count(), going, "{now}");
    }
}

#[test]
fn nothing_goes_when_the_newest_run_failed() {
    let mut snapshots = nightly("2026-11-10", "2026-11-20", "02:00:00");
    snapshots.push(taken("2026-11-21T02:00:00Z").failing("db"));
    let doubt = Doubt::Failed {
        target: target("db"),
        snapshot: snapshots[11].id.clone(),
    };
    ensure_doubt(&snapshots, &[], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Shrunken], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Failed], None);
    // Another selection says nothing of it.
    snapshots.push(taken("2026-11-21T03:00:00Z").only("app"));
    ensure_doubt(&snapshots, &[], Some(&doubt));
    let mended = taken("2026-11-21T04:00:00Z").only("db");
    ensure_doubt(&[&snapshots[..], &[mended]].concat(), &[], None);
    let removed_from_the_stack = taken("2026-11-22T02:00:00Z").without("db");
    ensure_doubt(
        &[&snapshots[..], &[removed_from_the_stack]].concat(),
        &[],
        None,
    );
}

#[test]
fn a_selection_that_is_well_again_leaves_no_doubt() {
    let mut snapshots = nightly("2026-11-10", "2026-11-20", "02:00:00");
    snapshots.retain_mut(|one| {
        one.series = Series::Selection(vec!["*/data".to_owned()]);
        true
    });
    let failed = Snapshot {
        series: snapshots[0].series.clone(),
        ..taken("2026-11-21T02:00:00Z").failing("db")
    };
    snapshots.push(failed);
    let doubt = Doubt::Failed {
        target: target("db"),
        snapshot: snapshots[11].id.clone(),
    };
    ensure_doubt(&snapshots, &[], Some(&doubt));
    // The database was dropped, and nobody asks for it any more.
    let without = Snapshot {
        series: snapshots[0].series.clone(),
        ..taken("2026-11-22T02:00:00Z").without("db")
    };
    snapshots.push(without);
    ensure_doubt(&snapshots, &[], None);
}

#[test]
fn nothing_goes_while_a_target_has_shrunk() {
    let mut snapshots = nightly("2026-11-10", "2026-11-20", "02:00:00");
    let small = taken("2026-11-21T02:00:00Z").shrunken_to("db", 1000);
    let doubt = Doubt::Shrunken {
        snapshot: small.id.clone(),
        shrunken: small.shrunken[0].clone(),
    };
    snapshots.push(small);
    ensure_doubt(&snapshots, &[], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Failed], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Shrunken], None);
    // Another selection says nothing of it.
    snapshots.push(taken("2026-11-21T03:00:00Z").only("app"));
    ensure_doubt(&snapshots, &[], Some(&doubt));
    let well_again = taken("2026-11-22T02:00:00Z");
    ensure_doubt(&[&snapshots[..], &[well_again]].concat(), &[], None);
    let removed_from_the_stack = taken("2026-11-22T02:00:00Z").without("db");
    ensure_doubt(
        &[&snapshots[..], &[removed_from_the_stack]].concat(),
        &[],
        None,
    );
}

#[test]
fn nothing_goes_while_the_newest_copy_is_perhaps_not_of_one_moment() {
    let mut snapshots = nightly("2026-11-10", "2026-11-20", "02:00:00");
    let mut disturbed = taken("2026-11-21T02:00:00Z");
    disturbed.disturbed = vec!["web".to_owned()];
    let doubt = Doubt::Disturbed {
        snapshot: disturbed.id.clone(),
        services: disturbed.disturbed.clone(),
    };
    snapshots.push(disturbed);
    ensure_doubt(&snapshots, &[], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Shrunken], Some(&doubt));
    ensure_doubt(&snapshots, &[Despite::Disturbed], None);
    snapshots.push(taken("2026-11-21T03:00:00Z").only("app"));
    ensure_doubt(&snapshots, &[], Some(&doubt));
    snapshots.push(taken("2026-11-22T02:00:00Z"));
    ensure_doubt(&snapshots, &[], None);
}

#[test]
fn the_last_copy_that_had_not_shrunk_stays_as_well() {
    let mut snapshots = nightly("2026-11-10", "2026-11-12", "02:00:00");
    let small = nightly("2026-11-13", "2026-11-15", "02:00:00");
    snapshots.extend(small.into_iter().map(|one| one.shrunken_to("db", 1000)));
    let after = nightly("2026-11-16", "2026-11-21", "02:00:00");
    snapshots.extend(after.into_iter().map(|one| one.without("db")));
    assert_eq!(
        days(staying(&snapshots, "last=1")),
        ["11-12", "11-15", "11-21"]
    );
}

#[test]
fn manifests_tell_what_retention_asks_for() {
    use crate::manifest::Failure;
    use crate::repository::samples;

    let id = samples::id(21);
    let object = samples::path("shop", &id, "db.dump");
    let artifacts = vec![samples::artifact(object, "rows")];
    let mut manifest = samples::manifest("shop", &id, artifacts);
    let saved = manifest.targets[0].target.clone();
    manifest.targets[0].container.keep = Some("last=2".to_owned());
    manifest.failed.push(Failure {
        target: target("other"),
        reason: "it is down".to_owned(),
    });
    let keep = Some("last=2".to_owned());
    let expected = Snapshot {
        id: id.clone(),
        started: id.time().unwrap(),
        node: None,
        series: Series::Whole,
        made_by_hand: None,
        pin: None,
        saved: BTreeMap::from([(saved.clone(), GoodCopy { keep })]),
        failed: BTreeSet::from([target("other")]),
        shrunken: Vec::new(),
        disturbed: Vec::new(),
    };
    assert_eq!(Snapshot::from(&manifest), expected);

    manifest.by_hand = true;
    let by_hand = Snapshot::from(&manifest);
    assert_eq!(by_hand.made_by_hand, Some(manifest.finished));
    manifest.selection = vec!["db/*".to_owned()];
    manifest.shrunken = taken("2026-11-21T02:00:00Z").shrunken_to("db", 1).shrunken;
    manifest.disturbed = vec!["web".to_owned()];
    let chosen = Snapshot::from(&manifest);
    assert_eq!(chosen.series, Series::Selection(vec!["db/*".to_owned()]));
    assert_eq!(chosen.shrunken, manifest.shrunken);
    assert_eq!(chosen.disturbed, manifest.disturbed);
    manifest.purpose = Purpose::Safety { restore: id };
    assert_eq!(Snapshot::from(&manifest).series, Series::Safety);
}

#[test]
fn runs_of_another_node_take_no_copys_place() {
    let mut snapshots = Vec::new();
    for day in 1..=4 {
        let db = taken(&format!("2026-11-0{day}T02:00:00Z"));
        snapshots.push(db.without("app").on("a"));
        let app = taken(&format!("2026-11-0{day}T02:10:00Z"));
        snapshots.push(app.without("db").on("b"));
    }
    assert_eq!(
        staying(&snapshots, "last=2"),
        ["11-03 02:00", "11-03 02:10", "11-04 02:00", "11-04 02:10"]
    );
    // What has moved to another node is one target all the same.
    for snapshot in &mut snapshots[4..] {
        let node = if snapshot.node.as_deref() == Some("a") {
            "b"
        } else {
            "a"
        };
        snapshot.node = Some(node.to_owned());
    }
    assert_eq!(
        staying(&snapshots, "last=2"),
        ["11-03 02:00", "11-03 02:10", "11-04 02:00", "11-04 02:10"]
    );
    // A failure on one node is a doubt whatever the other has saved since.
    let failed = taken("2026-11-05T02:00:00Z")
        .without("app")
        .failing("db")
        .on("b");
    let other = taken("2026-11-05T02:10:00Z").without("db").on("a");
    snapshots.extend([failed, other]);
    assert_eq!(judged(&snapshots, &terms("last=2", "UTC")).doubts.len(), 1);
}
