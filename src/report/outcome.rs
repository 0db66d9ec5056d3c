//! How a run ended, for people.

use std::fmt::Write as _;

use crate::backup::BackupReport;
use crate::export::ExportedFile;
use crate::plan::restore::RestorePlan;
use crate::report::amounts::{counted, size};
use crate::report::{View, prune, shrinkage};
use crate::restore::{FinalState, RestoreReport};
use crate::text::printable;
use crate::verify::VerifyReport;

pub fn backups(reports: &[BackupReport], view: &View) -> String {
    let texts: Vec<String> = reports.iter().map(|report| backup(report, view)).collect();
    texts.join("\n")
}

fn backup(report: &BackupReport, view: &View) -> String {
    let manifest = &report.manifest;
    let mut text = format!(
        "Snapshot {} of project {}: {} saved, {}\n",
        manifest.snapshot,
        printable(&manifest.project),
        counted(manifest.targets.len() as u64, "target"),
        size(manifest.stored_bytes()),
    );
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
            "Not restored: all of the old data is in place, as it was\n".to_owned()
        }
        FinalState::Unfinished => format!(
            "NOT FINISHED: the data is neither all old nor all new. When the cause is mended, run:\n  \
             cofferdam recover --project {}\n",
            printable(&plan.project)
        ),
    };
    if let Some(cause) = &report.cause {
        let _ = writeln!(text, "  cause: {}", printable(cause));
    }
    problems(&mut text, &report.problems);
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
        for object in &report.unknown {
            let _ = writeln!(
                text,
                "  notice: {object} belongs to no target; it does no harm"
            );
        }
    }
    if reports.is_empty() {
        text.push_str("There are no snapshots to check.\n");
    }
    text
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
