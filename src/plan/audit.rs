//! What a project's labels leave unprotected, each with the label that mends it. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::backup::PlannedTarget;
use crate::discover::{self, MountedVolume, Service};
use crate::engine::container::is_within;
use crate::labels::Moment;
use crate::manifest::Failure;
use crate::survey::Survey;
use crate::target::DriverKind;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub service: String,
    pub what: String,
    /// The label to add, as it stands in a compose file.
    pub label: String,
}

pub fn audit(survey: &Survey, targets: &[PlannedTarget], unreachable: &[Failure]) -> Vec<Finding> {
    let mut findings = unsaved_volumes(survey);
    let saved: BTreeSet<&str> = targets
        .iter()
        .map(|target| target.id.service.as_str())
        .chain(
            unreachable
                .iter()
                .map(|failure| failure.target.service.as_str()),
        )
        .collect();
    findings.extend(dependents_that_are_not_held(survey, &saved));
    findings.extend(database_files_that_stay_open(survey, targets));
    findings
}

/// Named volumes that no container of the project saves, that hold no saved store, and that no `cofferdam.skip` explains.
fn unsaved_volumes(survey: &Survey) -> Vec<Finding> {
    let mut explained: BTreeSet<String> = survey
        .volumes
        .values()
        .flatten()
        .map(|wanted| wanted.volume.volume.clone())
        .collect();
    let mounted =
        |service: &Service| discover::mounted(service, &survey.stack.project, &survey.declared);
    for service in &survey.stack.services {
        for volume in mounted(service) {
            let holds_store = survey
                .data_directories(&service.name)
                .chain(service.labels.data_directories())
                .any(|directory| is_within(directory, &volume.destination));
            if holds_store || service.labels.skip.is_some() || is_saved_by_path(service, &volume) {
                explained.insert(volume.volume);
            }
        }
    }
    let mut findings = Vec::new();
    for service in &survey.stack.services {
        for volume in mounted(service) {
            if explained.insert(volume.volume.clone()) {
                findings.push(Finding {
                    service: service.name.clone(),
                    what: format!(
                        "nothing saves volume {} at {}",
                        volume.volume, volume.destination
                    ),
                    label: format!("cofferdam.volumes: {}", volume.name),
                });
            }
        }
    }
    findings
}

/// Whether a service is stopped while targets of the service `name` are put back.
fn is_held_for(service: &Service, name: &str) -> bool {
    let holds_for = service.labels.hold_for.as_ref();
    service.labels.stop.contains(&Moment::Restore)
        && holds_for.is_none_or(|services| services.iter().any(|held| held == name))
}

/// Services whose own SQLite database cannot be put back while they run.
fn database_files_that_stay_open(survey: &Survey, targets: &[PlannedTarget]) -> Vec<Finding> {
    let services = survey.stack.services.iter();
    let unheld = services.filter(|service| !is_held_for(service, &service.name));
    unheld
        .filter_map(|service| {
            let is_own = |target: &&PlannedTarget| {
                target.id.driver == DriverKind::Sqlite && target.id.service == service.name
            };
            let database = targets.iter().find(is_own)?;
            Some(Finding {
                service: service.name.clone(),
                what: format!(
                    "it uses {} and is not stopped during a restore",
                    database.id
                ),
                label: "cofferdam.stop: restore".to_owned(),
            })
        })
        .collect()
}

/// Whether `cofferdam.files.*` names the very place of a volume. A directory around it does not save what is mounted in it,
/// and one in it saves only a part.
fn is_saved_by_path(service: &Service, volume: &MountedVolume) -> bool {
    let mut files = service.labels.files.values();
    files.any(|files| files.path.trim_end_matches('/') == volume.destination)
}

/// Services that say they use a target's service, and go on running while it is put back.
fn dependents_that_are_not_held(survey: &Survey, saved: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in &survey.stack.services {
        let unheld: Vec<String> = service
            .container
            .depends_on()
            .into_iter()
            .map(|dependency| dependency.service)
            .filter(|name| saved.contains(name.as_str()) && !is_held_for(service, name))
            .collect();
        if !unheld.is_empty() {
            findings.push(Finding {
                service: service.name.clone(),
                what: format!(
                    "it uses {} and is not stopped during a restore",
                    unheld.join(", ")
                ),
                label: "cofferdam.stop: restore".to_owned(),
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::discover::Stack;
    use crate::engine::container::tests_support::container;
    use crate::engine::{Mount, MountKind};
    use crate::labels::parse;

    /// What is not protected of a container with the volume `logs` at `/data/logs`.
    fn unprotected(labels: &[(&str, &str)]) -> Vec<String> {
        let mut container = container("app");
        container.mounts.push(Mount {
            kind: MountKind::Volume,
            volume: Some("logs".to_owned()),
            source: String::new(),
            destination: "/data/logs".to_owned(),
            writable: true,
        });
        for (key, value) in labels {
            let key = format!("cofferdam.{key}");
            container.labels.insert(key, (*value).to_owned());
        }
        let service = Service {
            name: "app".to_owned(),
            labels: parse(&container).expect("the labels are good"),
            container,
        };
        let stack = Stack {
            project: "shop".to_owned(),
            services: vec![service],
            left_out: Vec::new(),
            warnings: Vec::new(),
        };
        let survey = Survey {
            volumes: discover::wanted(&stack, &BTreeMap::new(), &BTreeMap::new()).expect("volumes"),
            stack,
            databases: BTreeMap::new(),
            declared: BTreeMap::new(),
        };
        let findings = audit(&survey, &[], &[]);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_volume_counts_as_saved_by_its_name_or_by_its_very_path() {
        let nothing_saves_it = ["nothing saves volume logs at /data/logs"];
        assert_eq!(unprotected(&[]), nothing_saves_it);
        assert!(unprotected(&[("volumes", "logs")]).is_empty());
        assert!(unprotected(&[("skip", "only for looking at")]).is_empty());
        assert!(unprotected(&[("files.logs", "/data/logs")]).is_empty());
        for path in ["/data", "/data/logs/app", "/data/logs2"] {
            assert_eq!(
                unprotected(&[("files.logs", path)]),
                nothing_saves_it,
                "{path}"
            );
        }
    }
}
