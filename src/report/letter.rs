//! What goes by mail.

use std::fmt::Write as _;

use super::amounts::counted;
use super::{View, freshness, outcome};
use crate::backup::BackupReport;
use crate::config::Scope;
use crate::freshness::{Finding, FreshnessReport, ProjectReport, State, TargetReport};
use crate::mail::Letter;
use crate::text::printable;

/// More projects than these are not named in a subject.
const MOST_NAMED: usize = 3;

/// About a check that has found something, or could not do everything.
pub fn check(report: &FreshnessReport, trouble: &[String], view: &View) -> Letter {
    let is_wrong = |project: &&ProjectReport| {
        let mut found = report.findings.iter().filter_map(Finding::project);
        report.projects.len() == 1
            || found.any(|name| name == project.project)
            || !project.targets.iter().all(TargetReport::is_in_order)
    };
    let wrong = report.projects.iter().filter(is_wrong);
    let projects = named(wrong.map(|project| project.project.as_str()));
    let mut what = Vec::new();
    for (state, word) in [
        (State::Missing, "missing"),
        (State::Damaged, "damaged"),
        (State::Stale, "stale"),
    ] {
        let targets = report.targets().filter(|judged| judged.state == state);
        match targets.count() as u64 {
            0 => {}
            number => what.push(format!("{} {word}", counted(number, "backup"))),
        }
    }
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
    letter(&projects, &what.join(", "), body)
}

/// About a check that has found nothing any more.
pub fn mended(report: &FreshnessReport, view: &View) -> Letter {
    let projects = named(report.projects.iter().map(|it| it.project.as_str()));
    let view = View {
        width: None,
        ..view.clone()
    };
    letter(
        &projects,
        "backups are in order again",
        freshness::page(report, &view),
    )
}

pub fn check_failed(scope: &Scope, why: &str) -> Letter {
    let body = format!(
        "Whether there are recent backups could not be checked:\n\n{why}\n\nTo try again: cofferdam check\n"
    );
    letter(&scope_named(scope), "backups could not be checked", body)
}

/// `None` when all of them are whole.
pub fn backups(reports: &[BackupReport], failures: &[String], view: &View) -> Option<Letter> {
    let partial: Vec<&BackupReport> = reports.iter().filter(|it| !it.is_complete()).collect();
    if partial.is_empty() && failures.is_empty() {
        return None;
    }
    let projects = named(
        partial
            .iter()
            .map(|report| report.manifest.project.as_str()),
    );
    let failed: usize = partial
        .iter()
        .map(|report| report.manifest.failed.len())
        .sum();
    let what = match (failures.is_empty(), failed as u64) {
        (false, _) => "backup failed".to_owned(),
        (true, 0) => "backup ended with problems".to_owned(),
        (true, failed) => format!("backup incomplete, {} failed", counted(failed, "target")),
    };
    let mut body = outcome::backups(reports, view);
    for failure in failures {
        let _ = writeln!(body, "{failure}");
    }
    Some(letter(&projects, &what, body))
}

pub fn backup_failed(scope: &Scope, why: &str) -> Letter {
    let body = format!("Nothing was backed up:\n\n{why}\n");
    letter(&scope_named(scope), "backup failed", body)
}

pub fn test(scope: &Scope) -> Letter {
    let body = "Mail from Cofferdam arrives here. It comes again when a backup fails, or when a check finds that one is \
                missing, stale or damaged.\n";
    letter(&scope_named(scope), "mail arrives", body.to_owned())
}

fn letter(projects: &str, what: &str, body: String) -> Letter {
    let subject = match projects {
        "" => format!("[cofferdam] {what}"),
        _ => format!("[cofferdam] {projects}: {what}"),
    };
    Letter { subject, body }
}

fn scope_named(scope: &Scope) -> String {
    match scope {
        Scope::Own => String::new(),
        Scope::Projects(names) => named(names.iter().map(String::as_str)),
        Scope::All => "all projects".to_owned(),
    }
}

fn named<'a>(projects: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = projects.map(printable).collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}
