//! `check`: a table of targets, and below it what is wrong.

use std::fmt::Write as _;
use std::time::Duration;

use super::View;
use super::layout::Table;
use crate::amounts::{self, counted, size};
use crate::history::freshness::{
    Finding, FreshnessReport, ProjectReport, State, TargetReport, Why,
};
use crate::text::printable;

pub fn page(report: &FreshnessReport, view: &View) -> String {
    let mut text = String::new();
    for project in report
        .projects
        .iter()
        .filter(|project| !project.targets.is_empty())
    {
        if report.projects.len() > 1 {
            let _ = writeln!(text, "Project {}", printable(&project.project));
        }
        text.push_str(&table(project, view));
        text.push('\n');
    }
    for judged in report.targets() {
        text.push_str(&explained(judged, view));
    }
    for finding in &report.findings {
        let _ = writeln!(text, "{}", told(finding, view));
    }
    if report.is_in_order() {
        let _ = writeln!(text, "{}", in_order(report));
    }
    text
}

fn in_order(report: &FreshnessReport) -> String {
    let mut limits: Vec<u64> = report
        .targets()
        .filter_map(|it| it.max_age_seconds)
        .collect();
    limits.dedup();
    match limits[..] {
        [limit] => format!(
            "All targets have a good backup less than {} old.",
            amounts::limit(Duration::from_secs(limit))
        ),
        _ => "All targets have a recent enough good backup.".to_owned(),
    }
}

fn table(project: &ProjectReport, view: &View) -> String {
    let headings = ["TARGET", "STATE", "LAST GOOD BACKUP", "AGE", "STORED"];
    let mut table = Table::new(headings, view.width)
        .right(&[4])
        .whole(&[1, 2, 3, 4]);
    for judged in &project.targets {
        let copy = judged.last_good.as_ref();
        table.row([
            judged.target.to_string(),
            shown_state(&judged.state).to_owned(),
            copy.map_or_else(|| "none".to_owned(), |copy| view.time(copy.time)),
            copy.map_or_else(String::new, |copy| view.age(copy.time)),
            copy.map_or_else(String::new, |copy| size(copy.stored_bytes)),
        ]);
    }
    table.render()
}

/// What is wrong stands out.
fn shown_state(state: &State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Stale => "STALE",
        State::Missing => "MISSING",
        State::Damaged => "DAMAGED",
        State::Skipped { .. } => "skipped",
    }
}

/// Why newer copies do not count, and what a target is judged by; nothing for one that is just fine.
pub(super) fn explained(judged: &TargetReport, view: &View) -> String {
    let target = &judged.target;
    let limit = judged.max_age_seconds.unwrap_or_default();
    let limit = amounts::limit(Duration::from_secs(limit));
    let mut text = match &judged.state {
        State::Ok if judged.passed_over.is_empty() => return String::new(),
        State::Ok => format!("{target} is recent enough, but:\n"),
        State::Skipped { reason } => {
            return format!("{target} is skipped by a label: {}\n", printable(reason));
        }
        State::Missing => format!("{target} has no good backup\n"),
        State::Stale => match &judged.last_good {
            Some(copy) => format!(
                "{target} is stale: its last good backup is from {}, {}; the maximum age is {limit}\n",
                view.time(copy.time),
                view.age(copy.time),
            ),
            None => String::new(),
        },
        State::Damaged => match &judged.last_good {
            Some(copy) => format!(
                "{target} is damaged: its last good backup is from {}, {}\n",
                view.time(copy.time),
                view.age(copy.time),
            ),
            None => format!("{target} is damaged, and has no good backup\n"),
        },
    };
    for passed in &judged.passed_over {
        let why = match &passed.why {
            Why::Failed { reason } => format!("it failed: {}", printable(reason)),
            Why::Damaged { problem } => match &problem.object {
                Some(object) => format!("{object}: {}", printable(&problem.fault.to_string())),
                None => printable(&problem.fault.to_string()),
            },
            Why::FromTheFuture => "it is dated in the future".to_owned(),
        };
        let (snapshot, age) = (&passed.snapshot, view.age(passed.time));
        let _ = writeln!(text, "  {snapshot}, {age}, does not count: {why}");
    }
    if judged.passed_over_more > 0 {
        let more = judged.passed_over_more as u64;
        let _ = writeln!(text, "  and {} before that", counted(more, "other"));
    }
    let is_known = judged.last_good.is_some() || !judged.passed_over.is_empty();
    match judged.absent_from {
        0 => {}
        _ if !is_known => text.push_str("  it is in no snapshot\n"),
        absent => {
            let newest = counted(absent as u64, "newer snapshot");
            let _ = writeln!(
                text,
                "  missing from {newest}; if it is gone on purpose, add --retired '{target}'"
            );
        }
    }
    text
}

fn told(finding: &Finding, view: &View) -> String {
    match finding {
        Finding::NothingInRepository => "The repository has no snapshots.".to_owned(),
        Finding::NothingOfProject { project, others } if others.is_empty() => {
            format!("Project {} has no snapshots.", printable(project))
        }
        Finding::NothingOfProject { project, others } => format!(
            "Project {} has no snapshots; the repository has snapshots of {}.",
            printable(project),
            printable(&others.join(", "))
        ),
        Finding::Unreadable { snapshot, why } => {
            let project = printable(&snapshot.project);
            format!(
                "Snapshot {} of project {project} does not count: {}",
                snapshot.id,
                printable(why)
            )
        }
        Finding::FromTheFuture { snapshot, time } => format!(
            "Snapshot {} of project {} is dated {}, {}: the clock of this machine, or of the one that took it, is wrong",
            snapshot.id,
            printable(&snapshot.project),
            view.time(*time),
            view.age(*time),
        ),
        Finding::NoTarget { pattern } => format!("No target matches `{}`.", printable(pattern)),
    }
}

#[cfg(test)]
mod tests;
