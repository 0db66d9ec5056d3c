//! What retention does to snapshots, for people.

use std::fmt::Write as _;

use super::View;
use super::amounts::{counted, size};
use super::layout::Table;
use crate::prune::PruneReport;
use crate::retention::{Doubt, Fate, Parting, Pruning, Reason};
use crate::text::printable;

/// What would be done in each project, with what the repository would get back, in bytes.
pub fn planned<'a>(plans: impl Iterator<Item = (&'a Pruning, u64)>, view: &View) -> String {
    let texts: Vec<String> = plans
        .map(|(pruning, freed)| plan(pruning, freed, view))
        .collect();
    if texts.is_empty() {
        return "There are no snapshots.\n".to_owned();
    }
    texts.join("\n")
}

fn plan(pruning: &Pruning, freed: u64, view: &View) -> String {
    let mut text = format!("Project {}\n\n", printable(&pruning.project));
    if !pruning.verdicts.is_empty() {
        let headings = ["SNAPSHOT", "AGE", "FATE", "WHY"];
        let mut table = Table::new(headings, view.width).whole(&[0, 1, 2]);
        for verdict in &pruning.verdicts {
            let (fate, why) = match &verdict.fate {
                Fate::Stays { reasons } => {
                    let reasons: Vec<String> = reasons.iter().map(reason).collect();
                    ("stays", reasons.join("; "))
                }
                Fate::Goes { reason } if pruning.doubts.is_empty() => ("goes", parting(reason)),
                Fate::Goes { reason } => ("would go", parting(reason)),
            };
            table.row([
                verdict.snapshot.to_string(),
                view.age(verdict.started),
                fate.to_owned(),
                why,
            ]);
        }
        text.push_str(&table.render());
        text.push('\n');
    }
    if pruning.doubts.is_empty() {
        let going = pruning.going().count();
        let staying = pruning.verdicts.len() - going;
        let _ = writeln!(
            text,
            "{} would be removed, with about {}; {staying} would stay.",
            counted(going as u64, "snapshot"),
            size(freed)
        );
    }
    doubts(&mut text, &pruning.doubts, view);
    text
}

/// What was done in each project.
pub fn done(reports: &[PruneReport], view: &View) -> String {
    if reports.is_empty() {
        return "There are no snapshots.\n".to_owned();
    }
    let mut text = String::new();
    for report in reports {
        let _ = writeln!(text, "Project {}", printable(&report.project));
        one(&mut text, report, view);
    }
    text
}

/// Two spaces to the right, as a part of what a run came to.
pub fn one(text: &mut String, report: &PruneReport, view: &View) {
    let _ = match report.removed.len() as u64 {
        0 if report.is_as_it_should_be() && report.refused.is_none() => {
            writeln!(
                text,
                "  pruned: nothing was to be removed; {} stay",
                report.staying
            )
        }
        0 => writeln!(text, "  NOT pruned: every snapshot stays"),
        removed => writeln!(
            text,
            "  pruned: {} removed, with {}; {} stay",
            counted(removed, "snapshot"),
            size(report.freed_bytes),
            report.staying
        ),
    };
    doubts(text, &report.doubts, view);
    if let Some(why) = &report.refused {
        let _ = writeln!(
            text,
            "  the repository lets nothing be removed ({}); run `cofferdam prune` where that is allowed",
            printable(why)
        );
    }
    if report.interrupted {
        let _ = writeln!(text, "  interrupted: the next run goes on from here");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  problem: {}", printable(problem));
    }
}

fn doubts(text: &mut String, doubts: &[Doubt], view: &View) {
    if doubts.is_empty() {
        return;
    }
    let _ = writeln!(text, "  nothing is pruned, because of a doubt:");
    for doubt in doubts {
        let _ = writeln!(text, "    {}", printable(&self::doubt(doubt, view)));
    }
}

fn doubt(doubt: &Doubt, view: &View) -> String {
    match doubt {
        Doubt::NoSnapshots => {
            "the project has no snapshots here; is this its repository, and its name?".to_owned()
        }
        Doubt::Unreadable(unreadable) => format!(
            "{} cannot be read, so nobody knows what it holds ({}); when it is past help, remove its manifest.json by hand",
            unreadable.snapshot, unreadable.why
        ),
        Doubt::FromTheFuture {
            snapshot,
            started,
            now,
        } => format!(
            "{snapshot} was taken at {}, and it is {} now: a clock is wrong, here or where it was taken",
            view.time(*started),
            view.time(*now)
        ),
        Doubt::Failed { target, snapshot } => format!(
            "{target} failed in {snapshot}, the newest; mend it and back up, or say `cofferdam prune --despite failed`"
        ),
        Doubt::Shrunken {
            target,
            snapshot,
            bytes,
            before,
            bytes_before,
        } => format!(
            "{target} has {} in {snapshot}, and had {} in {before}; if that is as it should be, say `cofferdam backup \
             --may-shrink {target}`, or `cofferdam prune --despite shrunken` for this once",
            size(*bytes),
            size(*bytes_before)
        ),
    }
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Rule {
            rule,
            period,
            service,
        } => {
            let period = match period.as_str() {
                "" => String::new(),
                period => format!(" {period}"),
            };
            let service = service
                .as_ref()
                .map(|service| format!(" of {}", printable(service)));
            format!("{rule}{period}{}", service.unwrap_or_default())
        }
        Reason::NoPolicy => "no rule speaks of all its targets".to_owned(),
        Reason::UnknownPolicy { service, keep } => format!(
            "{} has rules that this version does not know: {}",
            printable(service),
            printable(keep)
        ),
        Reason::LastCopy { target } => format!("last good copy of {target}"),
        Reason::Safety => "way back of a restore".to_owned(),
        Reason::InUse => "a restore needs it".to_owned(),
    }
}

fn parting(parting: &Parting) -> String {
    match parting {
        Parting::Policies { policies } => {
            format!("not kept by {}", printable(&policies.join(", or ")))
        }
        Parting::OldSafety => "way back of a restore, and old".to_owned(),
    }
}
