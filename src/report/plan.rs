//! Plans, for people.

use crate::amounts::size;
use crate::driver::WayBack;
use crate::hold::{Action, Subject};
use crate::plan::backup::{BackupPlan, PlannedHook};
use crate::plan::hold::PlannedHold;
use crate::plan::restore::RestorePlan;
use crate::report::View;
use crate::report::layout::Page;
use crate::text::printable;

/// The plans of several projects, one below the other.
pub fn backups(plans: &[BackupPlan], view: &View) -> String {
    let mut page = Page::new(view.width);
    for plan in plans {
        backup(&mut page, plan);
    }
    page.finish()
}

fn backup(page: &mut Page, plan: &BackupPlan) {
    page.heading(&format!("Project {}", printable(&plan.project)));
    if !plan.asks_for_something() {
        page.line("Nothing is labelled for backup.");
    }
    section(page, "Saved", &plan.targets, |target| {
        format!("{}: {}", target.id, target.what)
    });
    section(page, "Cannot be saved now", &plan.unreachable, |failure| {
        format!("{}: {}", failure.target, failure.reason)
    });
    holds(page, "Held during the run", &plan.holds);
    hooks(page, &plan.hooks);
    section(page, "Left out on purpose", &plan.skipped, |skip| {
        format!("{}: {}", skip.service, skip.reason)
    });
    match &plan.findings {
        Some(findings) => section(page, "Not protected", findings, ToString::to_string),
        None => section(
            page,
            "Not protected",
            &["not checked (--no-audit)"],
            ToString::to_string,
        ),
    }
    section(page, "Warnings", &plan.warnings, String::clone);
}

pub fn restore(plan: &RestorePlan, view: &View) -> String {
    let mut page = Page::new(view.width);
    page.heading(&format!(
        "Restore of snapshot {} into project {}",
        plan.snapshot,
        printable(&plan.project)
    ));
    section(
        &mut page,
        "Restored, all or nothing",
        &plan.targets,
        |target| {
            let way_back = match target.way_back {
                WayBack::Staged => "",
                WayBack::SafetySnapshot => "; overwrites the old data, after a safety snapshot",
            };
            let from = if target.saved_as == target.id {
                String::new()
            } else {
                format!(" from {}", target.saved_as)
            };
            format!(
                "{}{from}: {} ({}){way_back}",
                target.id,
                target.what,
                size(target.bytes)
            )
        },
    );
    holds(&mut page, "Held during the run", &plan.holds);
    hooks(&mut page, &plan.hooks);
    section(&mut page, "Warnings", &plan.warnings, String::clone);
    page.finish()
}

fn holds(page: &mut Page, title: &str, holds: &[PlannedHold]) {
    section(page, title, holds, |hold| {
        let action = match (&hold.subject, hold.action) {
            (Subject::SwarmService(_), _) => "scaled to zero",
            (Subject::Container(_), Action::Stop) => "stopped",
            (Subject::Container(_), Action::Pause) => "paused",
        };
        let serves: Vec<String> = hold.serves.iter().map(ToString::to_string).collect();
        format!("{}: {action} for {}", hold.service, serves.join(", "))
    });
}

fn hooks(page: &mut Page, hooks: &[PlannedHook]) {
    section(page, "Hooks", hooks, |hook| {
        format!("{}, {}: {}", hook.service, hook.point, hook.command)
    });
}

/// A heading and a line an item; nothing at all when there is no item.
fn section<T>(page: &mut Page, title: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    page.heading(title);
    for item in items {
        page.field("", &printable(&line(item)));
    }
}
