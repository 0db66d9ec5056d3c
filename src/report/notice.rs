//! What is told: by mail, in chats, to webhooks.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{View, freshness, outcome};
use crate::amounts::{between, counted};
use crate::history::freshness::{Finding, FreshnessReport, ProjectReport, State, TargetReport};
use crate::manifest::Manifest;
use crate::notify::{Facts, Kind, Notice};
use crate::run::backup::BackupReport;
use crate::run::places::UsedPlace;
use crate::stack::Scope;
use crate::text::printable;

/// More projects than these are not named in a title.
const MOST_NAMED: usize = 3;

/// About a check, whatever it has found.
pub fn check(report: &FreshnessReport, trouble: &[String], view: &View) -> Notice {
    let is_wrong = |project: &&ProjectReport| {
        let mut found = report.findings.iter().filter_map(Finding::project);
        report.projects.len() == 1
            || found.any(|name| name == project.project)
            || !project.targets.iter().all(TargetReport::is_in_order)
    };
    let kind = match (report.is_in_order(), trouble.is_empty()) {
        (false, _) => Kind::Stale,
        (true, false) => Kind::Failure,
        (true, true) => Kind::Success,
    };
    let meant = |project: &&ProjectReport| kind != Kind::Stale || is_wrong(project);
    let meant = report.projects.iter().filter(meant);
    let mut projects: Vec<String> = meant.map(|project| project.project.clone()).collect();
    for project in report.findings.iter().filter_map(Finding::project) {
        if !projects.iter().any(|known| known == project) {
            projects.push(project.to_owned());
        }
    }
    let wrong = report.targets().filter(|judged| !judged.is_in_order());
    let facts = Facts {
        failed: wrong.map(|judged| judged.target.to_string()).collect(),
        ..Facts::default()
    };
    let targets: Vec<&TargetReport> = report.targets().collect();
    let mut what = tallied(&targets);
    let (nothing, odd): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|it| it.is_nothing());
    if !nothing.is_empty() {
        what.push("no snapshots".to_owned());
    }
    if !odd.is_empty() {
        what.push(counted(odd.len() as u64, "other problem"));
    }
    if !trouble.is_empty() {
        what.push("no status files".to_owned());
    }
    if kind == Kind::Success {
        what.push(format!(
            "{} in order",
            counted(targets.len() as u64, "backup")
        ));
    }
    let mut body = freshness::page(
        report,
        &View {
            width: None,
            ..view.clone()
        },
    );
    for line in trouble {
        let _ = writeln!(body, "{line}");
    }
    let _ = write!(
        body,
        "\nRepository: {}\nChecked: {}\n",
        report.repository,
        view.time(report.checked)
    );
    Notice {
        facts,
        ..notice(kind, projects, &what.join(", "), body, report.checked)
    }
}

/// About a check that has found nothing any more.
pub fn mended(report: &FreshnessReport, view: &View) -> Notice {
    let projects = report.projects.iter().map(|it| it.project.clone());
    let view = View {
        width: None,
        ..view.clone()
    };
    notice(
        Kind::Recovery,
        projects.collect(),
        "backups are in order again",
        freshness::page(report, &view),
        report.checked,
    )
}

pub fn check_failed(scope: &Scope, why: &str, now: Timestamp) -> Notice {
    let body = format!(
        "Could not check for recent backups:\n\n{why}\n\nTo try again, run: cofferdam check\n"
    );
    of_scope(
        Kind::Failure,
        scope,
        "backups could not be checked",
        body,
        now,
    )
}

/// A project of which there is no snapshot.
pub struct NotSaved {
    pub project: String,
    pub why: String,
}

/// About backups that have come to their end.
pub fn backups(reports: &[BackupReport], failures: &[NotSaved], view: &View) -> Notice {
    let partial: Vec<&BackupReport> = reports.iter().filter(|it| !it.is_complete()).collect();
    let is_whole = partial.is_empty() && failures.is_empty();
    let meant = if is_whole {
        reports.iter().collect()
    } else {
        partial
    };
    let targets = |number: usize| counted(number as u64, "target");
    let failed = reports.iter().flat_map(|it| &it.manifest.failed);
    let failed: Vec<String> = failed.map(|failure| failure.target.to_string()).collect();
    let is_new = reports.iter().any(|it| it.repository.is_new);
    let saved: usize = reports.iter().map(|it| it.manifest.targets.len()).sum();
    let what = match (failures.is_empty(), failed.len()) {
        (false, _) => "backup failed".to_owned(),
        (true, 0) if is_whole && is_new => {
            format!(
                "backup complete, {} saved in a new repository",
                targets(saved)
            )
        }
        (true, 0) if is_whole => format!("backup complete, {} saved", targets(saved)),
        (true, 0) => "backup ended with problems".to_owned(),
        (true, number) => format!("backup incomplete, {} failed", targets(number)),
    };
    let is_remarkable = reports.iter().any(|it| it.is_remarkable());
    let mut body = outcome::backups(reports, view);
    for NotSaved { project, why } in failures {
        let _ = writeln!(body, "No snapshot of project {}: {why}", printable(project));
    }
    let manifests = || reports.iter().map(|report| &report.manifest);
    let began = manifests().map(|manifest| manifest.started).min();
    let ended = manifests().map(|manifest| manifest.finished).max();
    let kind = if is_whole {
        Kind::Success
    } else {
        Kind::Failure
    };
    let unsaved = failures.iter().map(|failure| failure.project.clone());
    let projects = meant.iter().map(|it| it.manifest.project.clone());
    let projects = projects.chain(unsaved);
    Notice {
        facts: Facts {
            snapshots: manifests().map(|it| it.snapshot.to_string()).collect(),
            duration: began.zip(ended).map(|(began, ended)| between(began, ended)),
            bytes: (!reports.is_empty()).then(|| manifests().map(Manifest::stored_bytes).sum()),
            failed,
        },
        is_remarkable,
        ..notice(kind, projects.collect(), &what, body, view.now)
    }
}

/// The same about one that is whole, where something was wrong before.
pub fn recovered(backup: Notice) -> Notice {
    Notice {
        kind: Kind::Recovery,
        title: format!("{} (recovered)", backup.title),
        ..backup
    }
}

/// The same, while something else that the same daemon saves is in trouble. A failure needs no more bad news.
pub fn overshadowed(notice: Notice, troubles: &[String]) -> Notice {
    let is_good = matches!(notice.kind, Kind::Success | Kind::Recovery);
    if troubles.is_empty() || !is_good {
        return notice;
    }
    let body = notice.body.trim_end();
    let troubles = troubles.join("\n  ");
    Notice {
        body: format!("{body}\n\nStill failing:\n  {troubles}\n"),
        is_overshadowed: true,
        ..notice
    }
}

/// How many have what.
fn tallied(targets: &[&TargetReport]) -> Vec<String> {
    let mut what = Vec::new();
    for (state, word) in [
        (State::Missing, "missing"),
        (State::Damaged, "damaged"),
        (State::Stale, "stale"),
    ] {
        let targets = targets.iter().filter(|judged| judged.state == state);
        match targets.count() as u64 {
            0 => {}
            number => what.push(format!("{} {word}", counted(number, "backup"))),
        }
    }
    what
}

pub fn backup_failed(scope: &Scope, why: &str, now: Timestamp) -> Notice {
    let body = format!("Nothing was backed up:\n\n{why}\n");
    of_scope(Kind::Failure, scope, "backup failed", body, now)
}

/// About a repository that is [remarkable](UsedPlace::is_remarkable), before anything is saved there.
pub fn repository(projects: Vec<String>, used: &UsedPlace, now: Timestamp) -> Notice {
    let what = match used.is_new {
        true => "made a new repository",
        false => "check the repository",
    };
    let body = used.news().join("\n");
    notice(Kind::News, projects, what, body, now)
}

/// About one that cannot be used, before anything is saved there.
pub fn no_repository(projects: Vec<String>, why: &str, now: Timestamp) -> Notice {
    let body = format!("Nothing can be backed up:\n\n{why}\n");
    notice(
        Kind::Failure,
        projects,
        "the repository is missing",
        body,
        now,
    )
}

pub fn test(scope: &Scope, now: Timestamp) -> Notice {
    let body = "Notifications from Cofferdam arrive here. You get one when a backup fails, when a check finds a backup \
        missing, stale or damaged, and for any other event you have chosen.\n";
    of_scope(
        Kind::Test,
        scope,
        "notifications arrive",
        body.to_owned(),
        now,
    )
}

fn of_scope(kind: Kind, scope: &Scope, what: &str, body: String, time: Timestamp) -> Notice {
    match scope {
        Scope::Own => notice(kind, Vec::new(), what, body, time),
        Scope::Projects(names) => notice(kind, names.clone(), what, body, time),
        Scope::All => Notice {
            title: format!("all projects: {what}"),
            ..notice(kind, Vec::new(), what, body, time)
        },
    }
}

fn notice(kind: Kind, projects: Vec<String>, what: &str, body: String, time: Timestamp) -> Notice {
    let title = match projects.is_empty() {
        true => what.to_owned(),
        false => format!("{}: {what}", named(&projects)),
    };
    Notice {
        kind,
        projects,
        title,
        body,
        facts: Facts::default(),
        is_overshadowed: false,
        is_remarkable: false,
        time,
    }
}

fn named(projects: &[String]) -> String {
    let names: Vec<String> = projects.iter().map(|name| printable(name)).collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}
