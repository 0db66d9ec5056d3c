//! Bind mounts and anonymous volumes that nothing saves. Pure.

use std::collections::BTreeSet;

use super::{Finding, ListLabel, Names, beside_data, is_explained, listed, stores};
use crate::engine::{Mount, MountKind};
use crate::stack::survey::Survey;
use crate::stack::{self, Service};

const BINDS: ListLabel = ListLabel {
    key: "cofferdam.binds",
    one: "the bind mount of",
    several: "the bind mounts of",
};

/// Those that no container of the project saves, that hold no saved store and no repository, and that no label leaves out on
/// purpose. `data`: where stores have their data.
pub(super) fn unsaved(survey: &Survey, data: &[String], names: &mut Names) -> Vec<Finding> {
    let unnamed = |service| {
        let mounts = stack::unnamed(service, &survey.no_directories);
        let mut mounts: Vec<&Mount> = mounts.collect();
        mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
        mounts
    };
    let services = || survey.stack.services.iter();
    let mut explained = BTreeSet::new();
    for service in services() {
        // Also where it cannot be written to.
        for mount in &service.container.mounts {
            if is_explained(survey, data, service, &mount.destination)
                || stack::is_skipped(service, mount)
            {
                explained.insert(mount.root());
            }
        }
    }
    let mut findings = Vec::new();
    for service in services() {
        let mut binds = Vec::new();
        let mut others = Vec::new();
        for mount in unnamed(service) {
            let place = mount.root();
            if survey.is_saved(&place) || !explained.insert(place) {
                continue;
            }
            let Mount {
                source,
                destination: path,
                ..
            } = mount;
            let (what, is_bind) = match mount.kind {
                MountKind::Bind => (format!("{source} at {path}"), true),
                _ => (format!("the anonymous volume at {path}"), false),
            };
            match beside_data(service, path, data, names) {
                Some(advice) if is_bind => {
                    others.push(advice.finding(service, &format!("{} {what}", BINDS.one)));
                }
                Some(advice) => others.push(advice.finding(service, &what)),
                None if is_bind => binds.push((what, path.clone())),
                None => others.push(anonymous(survey, service, path, names)),
            }
        }
        let named = service.labels.binds.as_ref();
        findings.extend(listed(survey, service, &BINDS, named, binds));
        findings.extend(others);
    }
    findings
}

fn anonymous(survey: &Survey, service: &Service, path: &str, names: &mut Names) -> Finding {
    let what = format!("the anonymous volume at {path}");
    match stores::at_no_usual_place(survey, service) {
        Some(store) => stores::suspect(service, store, &what),
        None => Finding {
            service: service.name.clone(),
            what: format!("nothing saves {what}"),
            label: format!("cofferdam.files.{}: {path}", names.of(service, path)),
            hint: None,
        },
    }
}
