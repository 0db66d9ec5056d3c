//! `list`: one line a snapshot.

use std::collections::BTreeMap;

use super::View;
use super::layout::Table;
use crate::amounts::{between, duration, size};
use crate::manifest::{Manifest, Purpose};
use crate::repository::SnapshotRef;
use crate::repository::pin::Pin;
use crate::target::DriverKind;
use crate::text::printable;

/// A snapshot of the repository's list.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'a> {
    /// With its pin.
    Readable(&'a Manifest, Option<&'a Pin>),
    /// Its manifest is damaged, or of a higher format: it is there, and nobody should think that it is not.
    Unreadable {
        snapshot: &'a SnapshotRef,
        why: &'a str,
    },
}

/// The table, in the order given.
pub fn render_snapshots(snapshots: &[Listed<'_>], view: &View) -> String {
    if snapshots.is_empty() {
        return "There are no snapshots yet. `cofferdam backup` takes one.\n".to_owned();
    }
    let headings = [
        "SNAPSHOT", "AGE", "PROJECT", "TARGETS", "STORED", "TOOK", "STATE",
    ];
    let mut table = Table::new(headings, view.width)
        .right(&[4, 5])
        .whole(&[0, 1, 4, 5]);
    for snapshot in snapshots {
        table.row(match snapshot {
            Listed::Readable(manifest, pin) => [
                manifest.snapshot.to_string(),
                view.age(manifest.started),
                project(manifest),
                targets(manifest),
                size(manifest.stored_bytes()),
                duration(between(manifest.started, manifest.finished)),
                short_state(manifest, *pin),
            ],
            Listed::Unreadable { snapshot, .. } => [
                snapshot.id.to_string(),
                snapshot
                    .id
                    .time()
                    .map_or_else(String::new, |time| view.age(time)),
                printable(&snapshot.project),
                String::new(),
                String::new(),
                String::new(),
                "unreadable".to_owned(),
            ],
        });
    }
    let mut text = table.render();
    for snapshot in snapshots {
        if let Listed::Unreadable { snapshot, why } = snapshot {
            let (id, why) = (&snapshot.id, printable(why));
            text.push_str(&format!("\n{id} cannot be read: {why}\n"));
        }
    }
    text
}

/// In a swarm, a snapshot is of one node.
fn project(manifest: &Manifest) -> String {
    let project = printable(&manifest.project);
    match &manifest.node {
        Some(node) => format!("{project} on {}", printable(node)),
        None => project,
    }
}

/// `2 postgres, 1 volume`
fn targets(manifest: &Manifest) -> String {
    let mut kinds: BTreeMap<DriverKind, usize> = BTreeMap::new();
    for record in &manifest.targets {
        *kinds.entry(record.target.driver).or_default() += 1;
    }
    if kinds.is_empty() {
        return "none".to_owned();
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, number)| format!("{number} {kind}"))
        .collect();
    kinds.join(", ")
}

/// `complete`, or how many targets failed; what the snapshot was taken for, when that is not a backup of everything; its pin.
fn short_state(manifest: &Manifest, pin: Option<&Pin>) -> String {
    let state = match manifest.failed.len() {
        0 => "complete".to_owned(),
        failed => format!("partial: {failed} failed"),
    };
    let state = match manifest.purpose {
        Purpose::Backup if !manifest.selection.is_empty() => format!("{state}, selection"),
        Purpose::Backup => state,
        Purpose::Safety { .. } => format!("{state}, safety"),
    };
    match pin {
        Some(pin) => format!("{state}, pinned: {}", printable(&pin.name)),
        None => state,
    }
}
