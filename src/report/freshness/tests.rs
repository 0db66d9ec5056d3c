use insta::assert_snapshot;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::history::freshness::{GoodCopy, PassedOver};
use crate::manifest::ObjectPath;
use crate::notify::{Kind, Notice};
use crate::report::{notice, status};
use crate::repository::SnapshotRef;
use crate::snapshot::verify::{Fault, Problem};
use crate::stack::Scope;
use crate::target::{DriverKind, RunId, TargetId};

fn view() -> View {
    View {
        width: None,
        now: "2026-11-21T07:30:00Z".parse().unwrap(),
        time_zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn time(day: u8) -> Timestamp {
    format!("2026-11-{day:02}T02:00:00Z").parse().unwrap()
}

fn id(day: u8) -> RunId {
    format!("202611{day:02}T020000Z-9f2c61aa").parse().unwrap()
}

fn judged(driver: DriverKind, name: &str, state: State, good: Option<u8>) -> TargetReport {
    TargetReport {
        target: TargetId::new("db", driver, name),
        state,
        max_age_seconds: Some(26 * 60 * 60),
        last_good: good.map(|day| GoodCopy {
            snapshot: id(day),
            time: time(day),
            age_seconds: view()
                .now
                .duration_since(time(day))
                .as_secs()
                .unsigned_abs(),
            stored_bytes: 352_321_536,
        }),
        passed_over: Vec::new(),
        passed_over_more: 0,
        absent_from: 0,
    }
}

fn passed(day: u8, why: Why) -> PassedOver {
    PassedOver {
        snapshot: id(day),
        time: time(day),
        why,
    }
}

fn failed(day: u8, reason: &str) -> PassedOver {
    let reason = reason.to_owned();
    passed(day, Why::Failed { reason })
}

fn report(targets: Vec<TargetReport>, findings: Vec<Finding>) -> FreshnessReport {
    FreshnessReport {
        checked: view().now,
        repository: "/backups".to_owned(),
        projects: vec![ProjectReport {
            project: "shop".to_owned(),
            targets,
        }],
        findings,
    }
}

fn good() -> FreshnessReport {
    let fine = judged(DriverKind::Postgres, "shop", State::Ok, Some(21));
    report(vec![fine], Vec::new())
}

/// One of each kind.
fn bad() -> FreshnessReport {
    let shaky = TargetReport {
        passed_over: vec![failed(21, "no room\u{1b}[2J")],
        ..judged(DriverKind::Postgres, "shop", State::Ok, Some(20))
    };
    let stale = TargetReport {
        passed_over: vec![failed(18, "pg_dump: refused")],
        passed_over_more: 2,
        absent_from: 1,
        ..judged(DriverKind::Postgres, "crm", State::Stale, Some(10))
    };
    let object = ObjectPath::new("shop", &id(21), "db.volume.uploads.tar.zst").unwrap();
    let problem = Problem {
        target: None,
        object: Some(object),
        fault: Fault::Missing,
    };
    let damaged = TargetReport {
        passed_over: vec![passed(21, Why::Damaged { problem })],
        ..judged(DriverKind::Volume, "uploads", State::Damaged, Some(20))
    };
    let missing = TargetReport {
        absent_from: 20,
        ..judged(DriverKind::Mysql, "cms", State::Missing, None)
    };
    let reason = "moved to S3".to_owned();
    let skipped = judged(
        DriverKind::Files,
        "conf",
        State::Skipped { reason },
        Some(1),
    );
    let findings = vec![
        Finding::Unreadable {
            snapshot: SnapshotRef::new("shop", id(19)),
            why: "the manifest is of format 7".to_owned(),
        },
        Finding::FromTheFuture {
            snapshot: SnapshotRef::new("shop", id(28)),
            time: time(28),
        },
        Finding::NoTarget {
            pattern: "oldapp/*".to_owned(),
        },
    ];
    report(vec![shaky, stale, damaged, missing, skipped], findings)
}

#[test]
fn what_is_in_order_is_a_table() {
    assert_snapshot!(page(&good(), &view()), @r"
    TARGET            STATE  LAST GOOD BACKUP         AGE           STORED
    db/postgres/shop  ok     2026-11-21 03:00:00 CET  5 hours ago  336 MiB

    All targets have a good backup less than 26 hours old.
    ");
}

#[test]
fn what_is_not_is_explained() {
    assert_snapshot!(page(&bad(), &view()), @r"
    TARGET             STATE    LAST GOOD BACKUP         AGE           STORED
    db/postgres/shop   ok       2026-11-20 03:00:00 CET  1 day ago    336 MiB
    db/postgres/crm    STALE    2026-11-10 03:00:00 CET  11 days ago  336 MiB
    db/volume/uploads  DAMAGED  2026-11-20 03:00:00 CET  1 day ago    336 MiB
    db/mysql/cms       MISSING  none
    db/files/conf      skipped  2026-11-01 03:00:00 CET  20 days ago  336 MiB

    db/postgres/shop is recent enough, but:
      20261121T020000Z-9f2c61aa, 5 hours ago, does not count: it failed: no room\u{1b}[2J
    db/postgres/crm is stale: its last good backup is from 2026-11-10 03:00:00 CET, 11 days ago; the maximum age is 26 hours
      20261118T020000Z-9f2c61aa, 3 days ago, does not count: it failed: pg_dump: refused
      and 2 others before that
      missing from 1 newer snapshot; if it is gone on purpose, add --retired 'db/postgres/crm'
    db/volume/uploads is damaged: its last good backup is from 2026-11-20 03:00:00 CET, 1 day ago
      20261121T020000Z-9f2c61aa, 5 hours ago, does not count: shop/20261121T020000Z-9f2c61aa/db.volume.uploads.tar.zst: the object is missing
    db/mysql/cms has no good backup
      it is in no snapshot
    db/files/conf is skipped by a label: moved to S3
    Snapshot 20261119T020000Z-9f2c61aa of project shop does not count: the manifest is of format 7
    Snapshot 20261128T020000Z-9f2c61aa of project shop is dated 2026-11-28 03:00:00 CET, in 6 days: the clock of this machine, or of the one that took it, is wrong
    No target matches `oldapp/*`.
    ");
}

#[test]
fn an_empty_repository_is_told() {
    let nothing = FreshnessReport {
        projects: Vec::new(),
        findings: vec![Finding::NothingInRepository],
        ..good()
    };
    assert_snapshot!(page(&nothing, &view()), @"The repository has no snapshots.");
    let misspelt = |others: &[&str]| FreshnessReport {
        projects: Vec::new(),
        findings: vec![Finding::NothingOfProject {
            project: "shopp".to_owned(),
            others: others.iter().map(|&it| it.to_owned()).collect(),
        }],
        ..good()
    };
    assert_snapshot!(page(&misspelt(&["hq", "shop"]), &view()), @"Project shopp has no snapshots; the repository has snapshots of hq, shop.");
    assert_snapshot!(page(&misspelt(&[]), &view()), @"Project shopp has no snapshots.");
}

#[test]
fn status_files_are_for_people_and_for_programs() {
    let report = bad();
    let targets = &report.projects[0].targets;
    let text = |judged| String::from_utf8(status::text(&report, "shop", judged, &view())).unwrap();
    assert_snapshot!(text(&targets[1]), @r"
    state: stale
    project: shop
    target: db/postgres/crm
    checked: 2026-11-21 08:30:00 CET
    last good backup: 2026-11-10 03:00:00 CET
    age: 11 d 05 h
    size: 336 MiB
    snapshot: 20261110T020000Z-9f2c61aa

    db/postgres/crm is stale: its last good backup is from 2026-11-10 03:00:00 CET, 11 days ago; the maximum age is 26 hours
      20261118T020000Z-9f2c61aa, 3 days ago, does not count: it failed: pg_dump: refused
      and 2 others before that
      missing from 1 newer snapshot; if it is gone on purpose, add --retired 'db/postgres/crm'
    ");
    assert_snapshot!(text(&targets[3]), @r"
    state: missing
    project: shop
    target: db/mysql/cms
    checked: 2026-11-21 08:30:00 CET
    last good backup: none

    db/mysql/cms has no good backup
      it is in no snapshot
    ");
    let mut json: serde_json::Value =
        serde_json::from_slice(&status::json(&report, "shop", &targets[3])).unwrap();
    json["tool"] = "cofferdam test".into();
    insta::assert_json_snapshot!(json, @r#"
    {
      "format": 1,
      "tool": "cofferdam test",
      "project": "shop",
      "checked": "2026-11-21T07:30:00Z",
      "target": "db/mysql/cms",
      "state": "missing",
      "max_age_seconds": 93600,
      "last_good": null,
      "passed_over": [],
      "passed_over_more": 0,
      "absent_from": 20
    }
    "#);
}

#[test]
fn a_notice_says_in_its_title_what_is_wrong() {
    let told = notice::check(&bad(), &["no status files: no room".to_owned()], &view());
    assert_snapshot!(told.title, @"shop: 1 backup missing, 1 backup damaged, 1 backup stale, 3 other problems, no status files");
    assert!(told.body.contains(&page(&bad(), &view())), "{}", told.body);
    assert!(
        told.body
            .contains("Repository: /backups\nChecked: 2026-11-21 08:30:00 CET")
    );
    assert!(told.body.contains("no room"));
    assert_eq!(told.kind, Kind::Stale);
    assert_eq!(told.projects, ["shop"]);
    assert_snapshot!(told.facts.failed.join("\n"), @r"
    db/postgres/crm
    db/volume/uploads
    db/mysql/cms
    ");

    let mut several = good();
    several.projects.push(ProjectReport {
        project: "candig\r\nBcc: thief@example.org".to_owned(),
        targets: bad().projects[0].targets[3..4].to_vec(),
    });
    let told = notice::check(&several, &[], &view());
    assert_snapshot!(told.title, @r"candig\r\nBcc: thief@example.org: 1 backup missing");
}

#[test]
fn what_is_in_order_is_told_too() {
    let told = notice::check(&good(), &[], &view());
    assert_eq!(told.kind, Kind::Success);
    assert_snapshot!(told.title, @"shop: 1 backup in order");
    let told = notice::check(&good(), &["no status files: no room".to_owned()], &view());
    assert_eq!(told.kind, Kind::Failure);
    assert_snapshot!(told.title, @"shop: no status files");
}

#[test]
fn notices_about_failures_say_why() {
    let now = view().now;
    let shown = |told: Notice| {
        assert_eq!(told.kind, Kind::Failure);
        format!("{}\n\n{}", told.title, told.body)
    };
    let scope = Scope::Projects(["a", "b", "c", "d", "e"].map(str::to_owned).to_vec());
    let told = notice::check_failed(&scope, "cannot open /backups: no such directory", now);
    assert_snapshot!(shown(told), @r"
    a, b, c and 2 more: backups could not be checked

    Could not check for recent backups:

    cannot open /backups: no such directory

    To try again, run: cofferdam check
    ");
    let told = notice::backup_failed(&Scope::Own, "the engine does not answer", now);
    assert_snapshot!(shown(told), @r"
    backup failed

    Nothing was backed up:

    the engine does not answer
    ");
    let told = notice::backup_failed(&Scope::All, "the engine does not answer", now);
    assert_eq!(told.title, "all projects: backup failed");
    let busy = notice::NotSaved {
        project: "shop".to_owned(),
        why: "another run holds it".to_owned(),
    };
    assert_snapshot!(shown(notice::backups(&[], &[busy], &view())), @r"
    shop: backup failed

    No snapshot of project shop: another run holds it
    ");
}
