//! Bind mounts and anonymous volumes that nothing saves. Pure.

use std::collections::BTreeSet;

use super::{Finding, is_explained, unsaved as unsaved_at};
use crate::discover::{self, Service};
use crate::engine::{Mount, MountKind};
use crate::labels::files_name;
use crate::survey::Survey;

/// Those that no container of the project saves, that hold no saved store and no repository, and that no label leaves out on
/// purpose.
pub(super) fn unsaved(survey: &Survey) -> Vec<Finding> {
    let unnamed = |service| {
        let mounts = discover::unnamed(service, &survey.no_directories);
        let mut mounts: Vec<&Mount> = mounts.collect();
        mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
        mounts
    };
    let services = || survey.stack.services.iter();
    let mut explained = BTreeSet::new();
    for service in services() {
        // Also where it cannot be written to: a server's data, in the container of the server.
        for mount in &service.container.mounts {
            if is_explained(survey, service, &mount.destination)
                || discover::is_skipped(service, mount)
            {
                explained.insert(mount.root());
            }
        }
    }
    let mut findings = Vec::new();
    for service in services() {
        for mount in unnamed(service) {
            let place = mount.root();
            if !survey.is_saved(&place) && explained.insert(place) {
                findings.push(finding(survey, service, mount));
            }
        }
    }
    findings
}

fn finding(survey: &Survey, service: &Service, mount: &Mount) -> Finding {
    let path = &mount.destination;
    let (what, label) = match mount.kind {
        MountKind::Bind => (
            format!("nothing saves the bind mount of {} at {path}", mount.source),
            format!("cofferdam.binds: {path}"),
        ),
        _ => {
            let name = files_name(path, |name| service.labels.files.contains_key(name));
            (
                format!("nothing saves the anonymous volume at {path}"),
                format!("cofferdam.files.{name}: {path}"),
            )
        }
    };
    unsaved_at(survey, service, what, label)
}
