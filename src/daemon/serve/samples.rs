//! What is shown, for tests: one project in order, and one in which much is wrong and whose names are hostile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::history::History;
use super::shown::{Outlook, Overview, RunTrouble, Shown};
use crate::daemon::timetable::{Timetable, Watched};
use crate::manifest::{Failure, Manifest, ManifestError, Skip};
use crate::plan::audit::Finding;
use crate::plan::backup::{BackupPlan, PlannedTarget};
use crate::report::runlog::Runlog;
use crate::repository::samples::{artifact, id, manifest, path, record};
use crate::repository::{RepositoryError, SnapshotRef};
use crate::schedule::Schedule;
use crate::target::{DriverKind, TargetId};

/// In markup, in a metric's label, on a terminal.
pub const HOSTILE: &str = "<script>alert('x')</script>\"\n\u{1b}[2J";

pub fn now() -> Timestamp {
    "2026-11-21T07:30:00Z".parse().unwrap()
}

pub fn shown(log: Runlog) -> Shown {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let shown = Shown::new(zone.clone(), Vec::new(), log);
    let timetable = |project: &str, schedules: &[(&str, &str)]| {
        let watched = |(service, schedule): &(&str, &str)| {
            let schedule: Schedule = schedule.parse().unwrap();
            let since = now();
            ((*service).to_owned(), Watched { schedule, since })
        };
        let mut timetable = Timetable::new(project, zone.clone(), Duration::ZERO);
        timetable.update(schedules.iter().map(watched).collect());
        timetable
    };
    let candig = timetable("candig", &[("db", "@daily"), ("app", "@daily")]);
    let idle = timetable("idle", &[]);
    let hostile = timetable(HOSTILE, &[("db", "@daily"), ("archive", "off")]);
    let outlooks = [
        Outlook {
            project: "candig",
            trouble: None,
            timetable: &candig,
        },
        Outlook {
            project: "idle",
            trouble: None,
            timetable: &idle,
        },
        Outlook {
            project: HOSTILE,
            trouble: Some(HOSTILE),
            timetable: &hostile,
        },
    ];
    shown.outlooks(outlooks.into_iter());
    shown.update("candig", |project| {
        project.history = Some(Arc::new(history("candig", whole)));
        project.plan = Some(Arc::new(plan("candig", &[clinical(), storage()])));
    });
    shown.update(HOSTILE, |project| {
        project.history = Some(Arc::new(history(HOSTILE, troubled)));
        let archive = TargetId::new("archive", DriverKind::Volume, HOSTILE);
        let mut plan = plan(HOSTILE, &[clinical(), storage(), archive]);
        plan.findings = Some(vec![Finding {
            service: HOSTILE.to_owned(),
            what: HOSTILE.to_owned(),
            label: HOSTILE.to_owned(),
            hint: Some(HOSTILE.to_owned()),
        }]);
        plan.skipped.push(Skip {
            service: HOSTILE.to_owned(),
            reason: HOSTILE.to_owned(),
        });
        plan.warnings.push(HOSTILE.to_owned());
        project.plan = Some(Arc::new(plan));
        project.trouble_of_run = Some(RunTrouble {
            at: now() - SignedDuration::from_hours(1),
            ..RunTrouble::without_snapshot(vec![HOSTILE.to_owned()])
        });
    });
    shown
}

pub fn overview() -> (Arc<Overview>, Timestamp) {
    (shown(Runlog::default()).overview(), now())
}

pub fn clinical() -> TargetId {
    TargetId::new("db", DriverKind::Postgres, "clinical")
}

pub fn storage() -> TargetId {
    TargetId::new("app", DriverKind::Volume, "storage")
}

fn plan(project: &str, targets: &[TargetId]) -> BackupPlan {
    let planned = |id: &TargetId| PlannedTarget {
        id: id.clone(),
        container: format!("{project}-{}-1", id.service),
        what: format!("what is called {}", id.name),
    };
    BackupPlan {
        project: project.to_owned(),
        selection: Vec::new(),
        by_hand: false,
        pin: None,
        may_shrink: Vec::new(),
        targets: targets.iter().map(planned).collect(),
        unreachable: Vec::new(),
        holds: Vec::new(),
        hooks: Vec::new(),
        skipped: Vec::new(),
        findings: Some(Vec::new()),
        warnings: Vec::new(),
    }
}

type Read = Result<Manifest, ManifestError>;

/// Of each of the last days, the 21st included.
pub fn history(project: &str, of_day: fn(&str, i8) -> Read) -> History {
    let mut history = History::default();
    let days = 15..=21;
    let snapshot = |day: i8| SnapshotRef::new(project, id(day.unsigned_abs()));
    let listed: Vec<SnapshotRef> = days.clone().map(snapshot).collect();
    assert_eq!(history.missing(&listed, now()), listed);
    for day in days {
        let snapshot = snapshot(day);
        let read = of_day(project, day).map_err(|source| RepositoryError::Manifest {
            snapshot: snapshot.clone(),
            source,
        });
        history.take(snapshot, read, now()).unwrap();
    }
    history.settle();
    history
}

pub fn whole(project: &str, day: i8) -> Read {
    let id = id(day.unsigned_abs());
    let stored = |file: &str, bytes: usize| artifact(path(project, &id, file), &"x".repeat(bytes));
    let bytes = 1000 * usize::from(day.unsigned_abs());
    let mut manifest = manifest(
        project,
        &id,
        vec![stored("db.postgres.clinical.dump", bytes)],
    );
    let tree = stored("app.volume.storage.tar", 500);
    manifest.targets.push(record(storage(), vec![tree]));
    manifest.finished = manifest.started + SignedDuration::from_secs(75);
    Ok(manifest)
}

/// The database fails since yesterday, the volume is gone since the 16th, and one manifest is damaged.
fn troubled(project: &str, day: i8) -> Read {
    if day == 18 {
        let why = "one object is named twice".to_owned();
        return Err(ManifestError::Inconsistent(why));
    }
    let mut manifest = whole(project, day)?;
    if day > 16 {
        manifest.targets.truncate(1);
    }
    if day > 19 {
        manifest.targets.clear();
        let (target, reason) = (clinical(), HOSTILE.to_owned());
        manifest.failed.push(Failure { target, reason });
    }
    Ok(manifest)
}

/// By its name.
pub fn project<'a>(overview: &'a Overview, name: &str) -> &'a super::shown::Project {
    let projects: &BTreeMap<_, _> = overview.projects.as_ref().unwrap();
    &projects[name]
}
