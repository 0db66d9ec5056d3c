//! How a run ended, for people.

use std::fmt::Write as _;

use crate::amounts::{counted, size};
use crate::plan::restore::RestorePlan;
use crate::report::{View, prune, shrinkage};
use crate::run::backup::BackupReport;
use crate::run::copy::{Copied, CopyOutcome, CopyReport, SnapshotCopy};
use crate::run::recover::{RecoveredData, Recovery};
use crate::run::restore::{FinalState, RestoreReport};
use crate::snapshot::export::ExportedFile;
use crate::snapshot::verify::{Depth, VerifyReport};
use crate::text::printable;

pub fn backups(reports: &[BackupReport], view: &View) -> String {
    let texts: Vec<String> = reports.iter().map(|report| backup(report, view)).collect();
    texts.join("\n")
}

fn backup(report: &BackupReport, view: &View) -> String {
    let manifest = &report.manifest;
    let mut text = format!(
        "Snapshot {} of project {}: {} saved, {}{}\n",
        manifest.snapshot,
        printable(&manifest.project),
        counted(manifest.targets.len() as u64, "target"),
        size(manifest.stored_bytes()),
        if manifest.is_encrypted() {
            ", encrypted"
        } else {
            ""
        }
    );
    for news in report.repository.news() {
        let _ = writeln!(text, "  warning: {}", printable(&news));
    }
    for warning in &manifest.warnings {
        let _ = writeln!(text, "  warning: {}", printable(warning));
    }
    for record in &manifest.targets {
        for warning in &record.warnings {
            let _ = writeln!(text, "  warning: {}: {}", record.target, printable(warning));
        }
    }
    for failure in &manifest.failed {
        let reason = printable(&failure.reason);
        let _ = writeln!(text, "  FAILED: {}: {reason}", failure.target);
    }
    problems(&mut text, &report.problems);
    match &report.pruned {
        Some(pruned) => prune::one(&mut text, pruned, view),
        None => manifest.shrunken.iter().for_each(|one| {
            let _ = writeln!(text, "  warning: {}", shrinkage(one));
        }),
    }
    for copied in &report.copies {
        copy(&mut text, copied, view);
    }
    text
}

pub fn restore(plan: &RestorePlan, report: &RestoreReport) -> String {
    let mut text = match report.state {
        FinalState::Restored => format!(
            "Restored {} of project {} from snapshot {}\n",
            counted(plan.targets.len() as u64, "target"),
            printable(&plan.project),
            plan.snapshot
        ),
        FinalState::RolledBack => {
            "Not restored: all of the old data is in place, unchanged\n".to_owned()
        }
        FinalState::Unfinished => format!(
            "NOT FINISHED: the data is neither all old nor all new. Fix the cause, then run:\n  cofferdam recover --project {}\n",
            printable(&plan.project)
        ),
    };
    if let Some(cause) = &report.cause {
        let _ = writeln!(text, "  cause: {}", printable(cause));
    }
    problems(&mut text, &report.problems);
    let of_plan = report.warnings.iter();
    let of_plan = of_plan.filter(|_| report.state == FinalState::Restored);
    for notice in of_plan.chain(&report.notices) {
        let _ = writeln!(text, "  warning: {}", printable(notice));
    }
    text
}

pub fn recover(runs: &[Recovery]) -> String {
    if runs.is_empty() {
        return "Nothing to recover.".to_owned();
    }
    recovered(runs)
}

/// Those alone that came to an end.
pub fn recovered(runs: &[Recovery]) -> String {
    let mut text = String::new();
    for run in runs {
        let project = printable(&run.project);
        let what = format!("{} {} of project {project}", run.operation, run.run);
        let _ = match run.data {
            RecoveredData::Untouched => writeln!(text, "Recovered {what}"),
            RecoveredData::Old => writeln!(text, "Recovered {what}: the old data is in place"),
            RecoveredData::New => writeln!(text, "Recovered {what}: the restored data is in place"),
            RecoveredData::GivenUp => writeln!(
                text,
                "GAVE UP {what}: the data is neither all old nor all new. Restore a snapshot:\n  \
                 cofferdam restore latest --project {project}"
            ),
        };
        problems(&mut text, &run.problems);
    }
    text
}

pub fn verify(reports: &[VerifyReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let state = if report.is_whole() {
            "whole"
        } else {
            "DAMAGED"
        };
        let _ = writeln!(
            text,
            "{}  {state}  {}, {}",
            report.snapshot,
            counted(report.objects as u64, "object"),
            size(report.stored_bytes)
        );
        for problem in &report.problems {
            let _ = writeln!(text, "  {}", printable(&problem.to_string()));
        }
        if report.decrypted > 0 {
            let objects = counted(report.decrypted as u64, "encrypted object");
            let _ = writeln!(text, "  notice: {objects} decrypted, content checked");
        }
        if report.closed > 0 {
            let _ = writeln!(
                text,
                "  notice: {} checked only as stored; to check the content, give --identity-file or --passphrase-file",
                counted(report.closed as u64, "encrypted object")
            );
        }
        for object in &report.unknown {
            let _ = writeln!(
                text,
                "  notice: {object} belongs to no target; this is harmless"
            );
        }
    }
    match reports.first() {
        Some(first) => text.push_str(&read(first.depth, reports)),
        None => text.push_str("There are no snapshots to check.\n"),
    }
    text
}

pub fn copies(reports: &[CopyReport], view: &View) -> String {
    let mut text = String::new();
    for report in reports {
        copy(&mut text, report, view);
    }
    text
}

fn copy(text: &mut String, report: &CopyReport, view: &View) {
    let place = printable(&report.place);
    match &report.problem {
        Some(problem) => {
            let _ = writeln!(text, "Copies to {place}: FAILED: {}", printable(problem));
        }
        None if report.snapshots.is_empty() => {
            let _ = writeln!(text, "Copies to {place}: already complete");
        }
        None => {
            let _ = writeln!(text, "Copies to {place}:");
        }
    }
    for told in report.news.iter().chain(&report.warnings) {
        let _ = writeln!(text, "  warning: {}", printable(told));
    }
    for SnapshotCopy { snapshot, outcome } in &report.snapshots {
        let _ = match outcome {
            CopyOutcome::Copied(Copied { objects, bytes }) => writeln!(
                text,
                "  {snapshot}: {} sent, {}",
                counted(*objects as u64, "object"),
                size(*bytes)
            ),
            CopyOutcome::Failed { reason } => {
                writeln!(text, "  FAILED: {snapshot}: {}", printable(reason))
            }
        };
    }
    if let Some(pruned) = &report.pruned {
        prune::one(text, pruned, view);
    }
}

/// How much of it was read.
fn read(depth: Depth, reports: &[VerifyReport]) -> String {
    let objects: usize = reports.iter().map(|report| report.read_objects).sum();
    let bytes: u64 = reports.iter().map(|report| report.read_bytes).sum();
    let amount = format!("{}, {}", counted(objects as u64, "object"), size(bytes));
    match depth {
        Depth::Sizes => "Checked presence and size only; use --read to check content.\n".to_owned(),
        Depth::Read => format!("Everything was read: {amount}.\n"),
        Depth::ReadPart(part) => format!("Part {part} was read: {amount}.\n"),
    }
}

pub fn export(files: &[ExportedFile]) -> String {
    let lines: Vec<String> = files
        .iter()
        .map(|file| format!("{}  {}", file.path.display(), size(file.bytes)))
        .collect();
    lines.join("\n")
}

fn problems(text: &mut String, problems: &[String]) {
    for problem in problems {
        let _ = writeln!(text, "  problem: {}", printable(problem));
    }
}
