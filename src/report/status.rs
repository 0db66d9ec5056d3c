//! Status files: one target, for a program and for a person.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::View;
use super::freshness::explained;
use crate::amounts::{duration, size};
use crate::history::freshness::{FreshnessReport, State, TargetReport};
use crate::text::printable;

/// Of the JSON; it grows when something in it changes its meaning.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    tool: &'static str,
    project: &'a str,
    checked: jiff::Timestamp,
    #[serde(flatten)]
    judged: &'a TargetReport,
}

pub fn json(report: &FreshnessReport, project: &str, judged: &TargetReport) -> Vec<u8> {
    let document = Document {
        format: FORMAT,
        tool: concat!("cofferdam ", env!("CARGO_PKG_VERSION")),
        project,
        checked: report.checked,
        judged,
    };
    let mut bytes = serde_json::to_vec_pretty(&document).expect("all keys are strings");
    bytes.push(b'\n');
    bytes
}

/// One `name: value` a line; what is wrong comes after an empty line.
pub fn text(
    report: &FreshnessReport,
    project: &str,
    judged: &TargetReport,
    view: &View,
) -> Vec<u8> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}: {value}");
    };
    line("state", state(&judged.state));
    line("project", &printable(project));
    line("target", &judged.target.to_string());
    line("checked", &view.time(report.checked));
    match &judged.last_good {
        Some(copy) => {
            line("last good backup", &view.time(copy.time));
            line("age", &duration(Duration::from_secs(copy.age_seconds)));
            line("size", &size(copy.stored_bytes));
            line("snapshot", copy.snapshot.as_str());
        }
        None => line("last good backup", "none"),
    }
    let explained = explained(judged, view);
    if !explained.is_empty() {
        text.push('\n');
        text.push_str(&explained);
    }
    text.into_bytes()
}

fn state(state: &State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Stale => "stale",
        State::Missing => "missing",
        State::Damaged => "damaged",
        State::Skipped { .. } => "skipped",
    }
}
