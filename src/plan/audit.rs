//! What a project's labels leave unprotected, each with the label that mends it. Pure.
//!
//! - `paths`: what is mounted without a name, and that nothing saves
//! - `stores`: database servers that nothing saves

mod paths;
mod stores;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::backup::PlannedTarget;
use super::caches;
use crate::discover::{self, MountedVolume, Service};
use crate::engine::container::overlap;
use crate::labels::Moment;
use crate::manifest::Failure;
use crate::survey::Survey;
use crate::target::{DriverKind, TargetId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub service: String,
    pub what: String,
    /// The label to add, as it stands in a compose file.
    pub label: String,
    /// What is to be known beside the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            what,
            label,
            hint,
        } = self;
        write!(
            formatter,
            "{service}: {what}; to mend it, add the label `{label}`"
        )?;
        match hint {
            Some(hint) => write!(formatter, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Whether a restore of what a plan saves would replace a database.
pub fn saves_a_database(targets: &[PlannedTarget], unreachable: &[Failure]) -> bool {
    ids(targets, unreachable).any(|target| !target.driver.is_tree())
}

fn ids<'a>(
    targets: &'a [PlannedTarget],
    unreachable: &'a [Failure],
) -> impl Iterator<Item = &'a TargetId> {
    let targets = targets.iter().map(|target| &target.id);
    targets.chain(unreachable.iter().map(|failure| &failure.target))
}

pub fn audit(survey: &Survey, targets: &[PlannedTarget], unreachable: &[Failure]) -> Vec<Finding> {
    let mut findings = stores::unsaved(survey);
    findings.extend(unsaved_volumes(survey));
    findings.extend(paths::unsaved(survey));
    let saved: BTreeSet<&str> = ids(targets, unreachable)
        .map(|target| target.service.as_str())
        .collect();
    findings.extend(dependents_that_are_not_held(survey, &saved));
    findings.extend(database_files_that_stay_open(survey, targets));
    if saves_a_database(targets, unreachable) {
        findings.extend(caches::not_told(
            survey,
            |service| saved.contains(service.name.as_str()),
            |service| saved.iter().any(|name| is_held_for(service, name)),
        ));
    }
    findings
}

/// Named volumes that no container of the project saves, that hold no saved store and no repository, and that no label leaves
/// out on purpose.
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
            if is_explained(survey, service, &volume.destination)
                || discover::is_skipped_volume(service, &volume)
                || is_saved_by_path(service, &volume)
            {
                explained.insert(volume.volume);
            }
        }
    }
    let mut findings = Vec::new();
    for service in &survey.stack.services {
        for volume in mounted(service) {
            if explained.insert(volume.volume.clone()) {
                findings.push(unsaved_volume(survey, service, &volume));
            }
        }
    }
    findings
}

/// Whether what a service has mounted at `path` needs no label that saves it: it is a store's, or Cofferdam's own, or left out
/// with the whole service.
fn is_explained(survey: &Survey, service: &Service, path: &str) -> bool {
    let mut directories = survey
        .data_directories(&service.name)
        .chain(service.labels.data_directories());
    let mut repositories =
        discover::repositories_at(&survey.repositories, &service.container, path);
    directories.any(|directory| overlap(directory, path))
        || stores::are_at(survey, service, path)
        || service.labels.skip.is_some()
        || repositories.next().is_some()
}

fn unsaved_volume(survey: &Survey, service: &Service, volume: &MountedVolume) -> Finding {
    let what = format!(
        "nothing saves volume {} at {}",
        volume.volume, volume.destination
    );
    let label = format!("cofferdam.volumes: {}", volume.name);
    unsaved(survey, service, what, label)
}

/// Where a server keeps its data in no usual place, all that is mounted beside it is suspect: a copy of files that are written to
/// is not what to advise.
fn unsaved(survey: &Survey, service: &Service, what: String, label: String) -> Finding {
    match stores::at_no_usual_place(survey, service) {
        None => Finding {
            service: service.name.clone(),
            what,
            label,
            hint: None,
        },
        Some(store) => {
            let what = format!("{what}, where its {store} server may keep its data");
            stores::finding(service, store, what)
        }
    }
}

/// Whether a service is stopped while targets of the service `name` are put back.
fn is_held_for(service: &Service, name: &str) -> bool {
    service.labels.stop.contains(&Moment::Restore) && service.holds_for(name)
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
                hint: None,
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
                hint: None,
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests;
