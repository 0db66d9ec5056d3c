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
use crate::engine::container::is_within;
use crate::labels::{Selection, files_name};
use crate::manifest::Failure;
use crate::stack::survey::Survey;
use crate::stack::{self, MountedVolume, Service};
use crate::target::{DriverKind, Moment, TargetId};

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
            "{service}: {what}; to fix this, add the label `{label}`"
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
    let data = data_places(survey);
    let mut names = Names::default();
    findings.extend(unsaved_volumes(survey, &data, &mut names));
    findings.extend(paths::unsaved(survey, &data, &mut names));
    let saved: BTreeSet<&str> = ids(targets, unreachable)
        .map(|target| target.service.as_str())
        .collect();
    findings.extend(dependents_that_are_not_held(survey, &saved));
    findings.extend(database_files_that_stay_open(survey, targets));
    findings.extend(stores_that_stay_open(survey));
    if saves_a_database(targets, unreachable) {
        findings.extend(caches::not_told(
            survey,
            |service| saved.contains(service.name.as_str()),
            |service| saved.iter().any(|name| is_held_for(service, name)),
        ));
    }
    findings
}

/// Names for `cofferdam.files.*` that are advised, by the service's name. No two pieces of advice for one service have the same.
#[derive(Default)]
struct Names(BTreeSet<(String, String)>);

impl Names {
    fn of(&mut self, service: &Service, path: &str) -> String {
        let key = |name: &str| (service.name.clone(), name.to_owned());
        let is_taken =
            |name: &str| service.labels.files.contains_key(name) || self.0.contains(&key(name));
        let name = files_name(path, is_taken);
        self.0.insert(key(&name));
        name
    }
}

/// Where the stores of a project have their data, saved or not.
fn data_places(survey: &Survey) -> Vec<String> {
    let of_service = |service: &Service| {
        let env = &service.container.env;
        let stores = survey.stores_of(&service.name);
        let usual = stores.flat_map(|store| store.directories(env));
        let told = survey.data_directories(&service.name);
        let labelled = service.labels.data_directories();
        stack::data_places_of(&service.container, told.chain(labelled).chain(usual))
    };
    survey.stack.services.iter().flat_map(of_service).collect()
}

/// Named volumes that no container of the project saves, that hold no saved store and no repository, and that no label leaves
/// out on purpose.
fn unsaved_volumes(survey: &Survey, data: &[String], names: &mut Names) -> Vec<Finding> {
    let mut explained: BTreeSet<String> = survey
        .volumes
        .values()
        .flatten()
        .map(|wanted| wanted.volume.volume.clone())
        .collect();
    let mounted =
        |service: &Service| stack::mounted(service, &survey.stack.project, &survey.declared);
    for service in &survey.stack.services {
        for volume in mounted(service) {
            if is_explained(survey, data, service, &volume.destination)
                || stack::is_skipped_volume(service, &volume)
                || is_saved_by_path(service, &volume)
            {
                explained.insert(volume.volume);
            }
        }
    }
    let mut findings = Vec::new();
    for service in &survey.stack.services {
        let mut gaps = Vec::new();
        for volume in mounted(service) {
            if explained.insert(volume.volume.clone()) {
                let what = format!("{} at {}", volume.volume, volume.destination);
                match beside_data(service, &volume.destination, data, names) {
                    Some(advice) => {
                        findings.push(advice.finding(service, &format!("volume {what}")));
                    }
                    None => gaps.push((what, volume.name)),
                }
            }
        }
        let named = service.labels.volumes.as_ref();
        findings.extend(listed(survey, service, &VOLUMES, named, gaps));
    }
    findings
}

/// Whether what a service has mounted at `path` needs no label that saves it: it is a store's, or Cofferdam's own, or left out
/// with the whole service.
fn is_explained(survey: &Survey, data: &[String], service: &Service, path: &str) -> bool {
    let place = service.container.place_of(path);
    let mut repositories = stack::repositories_at(&survey.repositories, &service.container, path);
    data.iter().any(|data| is_within(&place, data))
        || service.labels.skip.is_some()
        || repositories.next().is_some()
}

/// The labels that save what a mount holds beside the data of a store.
struct BesideData([String; 2]);

fn beside_data(
    service: &Service,
    path: &str,
    data: &[String],
    names: &mut Names,
) -> Option<BesideData> {
    let patterns = stack::patterns_of(&service.container.place_of(path), data);
    if patterns.is_empty() {
        return None;
    }
    let name = names.of(service, path);
    Some(BesideData(stack::labels_but_for(&name, path, &patterns)))
}

impl BesideData {
    fn finding(self, service: &Service, mount: &str) -> Finding {
        let Self([files, exclude]) = self;
        Finding {
            service: service.name.clone(),
            what: format!(
                "nothing saves the other files in {mount}, next to the data of a database server"
            ),
            label: files,
            hint: Some(format!(
                "and with it `{exclude}`: a copy of files that a server is using cannot be restored"
            )),
        }
    }
}

/// A label whose value is a list.
struct ListLabel {
    key: &'static str,
    one: &'static str,
    several: &'static str,
}

const VOLUMES: ListLabel = ListLabel {
    key: "cofferdam.volumes",
    one: "volume",
    several: "volumes",
};

/// What one label would save, with what it names already: a container has each label once. `gaps`: each for people, and as the
/// label names it.
///
/// Where a server keeps its data in no usual place, all that is mounted beside it is suspect: a copy of files that are written to
/// is not what to advise.
fn listed(
    survey: &Survey,
    service: &Service,
    label: &ListLabel,
    named: Option<&Selection>,
    gaps: Vec<(String, String)>,
) -> Vec<Finding> {
    if gaps.is_empty() {
        return Vec::new();
    }
    if let Some(store) = stores::at_no_usual_place(survey, service) {
        let suspect = gaps.into_iter().map(|(what, _)| {
            let what = format!("{} {what}", label.one);
            stores::suspect(service, store, &what)
        });
        return suspect.collect();
    }
    let noun = if gaps.len() == 1 {
        label.one
    } else {
        label.several
    };
    let (what, names): (Vec<String>, Vec<String>) = gaps.into_iter().unzip();
    let already = match named {
        Some(Selection::Names(names)) => names.clone(),
        Some(Selection::All) | None => Vec::new(),
    };
    vec![Finding {
        service: service.name.clone(),
        what: format!("nothing saves {noun} {}", what.join(", ")),
        label: format!("{}: {}", label.key, [already, names].concat().join(", ")),
        hint: None,
    }]
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
                label: stop_for_restores(service),
                hint: None,
            })
        })
        .collect()
}

/// A container has each label once.
fn stop_for_restores(service: &Service) -> String {
    let also = match service.labels.stop.contains(&Moment::Backup) {
        true => "backup,",
        false => "",
    };
    format!("cofferdam.stop: {also}restore")
}

/// Services whose own store is saved as files, which are not replaced under it: a restore would be refused.
fn stores_that_stay_open(survey: &Survey) -> Vec<Finding> {
    let services = survey.stack.services.iter();
    let unheld = services
        .filter(|service| service.container.is_alive() && !is_held_for(service, &service.name));
    unheld
        .flat_map(|service| {
            stores::saved_as_files(survey, service).map(|store| Finding {
                service: service.name.clone(),
                what: format!(
                    "the files of its {store} server are saved, but cannot be restored while it runs"
                ),
                label: stop_for_restores(service),
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
                label: stop_for_restores(service),
                hint: None,
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests;
