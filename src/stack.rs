//! Containers, as the engine lists them, become the stacks that a command works on. Pure.
//!
//! What comes out holds every container that is part of a project, also those without any label of ours: a plan is an audit
//! too, and a hold must know what depends on what. Labels of projects out of scope are not looked at.

pub(crate) mod caches;
pub(crate) mod order;
mod paths;
pub(crate) mod servers;
pub(crate) mod survey;
mod swarm;
mod untaken;
mod volumes;

pub use paths::{
    Apart, data_places_of, is_left_out, is_saved, is_skipped, labels_but_for, patterns_of,
    repositories_at, unnamed, wanted_paths,
};
pub use swarm::{StackService, StackSwarm, SwarmView};
pub use untaken::why_apart;
pub use volumes::{MountedVolume, WantedVolume, is_skipped_volume, mounted, wanted};

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Container;
use crate::engine::container::{
    COMPOSE_NUMBER, COMPOSE_PROJECT, PROJECT, Replica, SERVICE, SWARM_SERVICE_ID,
};
use crate::engine::swarm::SwarmService;
use crate::labels::{
    self, COMPOSE_SERVICE, ContainerLabels, LabelErrors, LabelProblem, OptIn, OwnLabel,
};
use crate::target::Moment;
use crate::text::{nearest_word, quoted};

/// Which projects a command works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The project that cofferdam's own container belongs to.
    Own,
    /// At least one, in the order given, none twice.
    Projects(Vec<String>),
    All,
}

/// The containers of one project.
#[derive(Clone, Debug)]
pub struct Stack {
    pub project: String,
    /// By name.
    pub services: Vec<Service>,
    /// What belongs to the project and is not touched, by name.
    pub left_out: Vec<LeftOut>,
    /// `None`: it does not run in a swarm.
    pub swarm: Option<StackSwarm>,
    pub warnings: Vec<String>,
}

/// One container of a project, and what its labels ask for.
#[derive(Clone, Debug)]
pub struct Service {
    /// Unique in the project: the compose service, or the container's name. Where a service runs in several containers, the
    /// one with the lowest number keeps the plain name, and the others are `worker@2`, `worker@3`: neither compose nor the
    /// engine allows `@` in a name. In a swarm the number is that of the task's slot, wherever the others run, and a task of
    /// a global service is `agent@node`. [`Container::service`] is the name without that.
    pub name: String,
    pub container: Container,
    pub labels: ContainerLabels,
}

impl Service {
    /// Whether it is stopped or paused while its own targets are saved.
    pub fn keeps_still(&self) -> bool {
        let labels = &self.labels;
        (labels.pause || labels.stop.contains(&Moment::Backup)) && self.holds_for(&self.name)
    }

    /// Whether its holds serve the service `name`.
    pub fn holds_for(&self, name: &str) -> bool {
        let served = self.labels.hold_for.as_ref();
        served.is_none_or(|services| services.iter().any(|served| served == name))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The container's name.
    pub container: String,
    pub reason: LeftOutReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOutReason {
    /// Cofferdam never saves, stops or restores itself.
    Cofferdam,
    /// Made by `docker compose run`, for one command.
    OneOff,
    /// Labelled with `cofferdam.enable: false`.
    Disabled,
    /// A task of a swarm that is over, or about to be: another one has taken its place, perhaps on another node.
    EndedTask,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    #[error(
        "no project is named, and Cofferdam does not run as part of one; use `--project NAME` or `--all-projects`; the engine has {}",
        seen(.0)
    )]
    NoProject(Vec<String>),
    #[error(
        "project `{}` has no container; {}the engine has {}",
        quoted(name),
        did_you_mean(name, known),
        seen(known)
    )]
    UnknownProject { name: String, known: Vec<String> },
    #[error(transparent)]
    Labels(#[from] LabelErrors),
}

fn did_you_mean(name: &str, known: &[String]) -> String {
    nearest_word(name, known.iter().map(String::as_str))
        .map(|near| format!("did you mean `{}`? ", quoted(near)))
        .unwrap_or_default()
}

fn seen(projects: &[String]) -> String {
    if projects.is_empty() {
        return "no other containers".to_owned();
    }
    let quoted: Vec<String> = projects
        .iter()
        .map(|project| format!("`{}`", quoted(project)))
        .collect();
    format!("these projects: {}", quoted.join(", "))
}

/// Finds the stacks of `scope` in all containers of the engine, running or not. `own` is the container that this process
/// runs in, `swarm` what is known of the swarm that the engine is a node of.
///
/// Stacks come in the order in which the scope names them, else by name. The label errors of all of them are told at once.
pub fn discover(
    containers: Vec<Container>,
    own: Option<&Container>,
    scope: &Scope,
    swarm: Option<&SwarmView>,
) -> Result<Vec<Stack>, DiscoverError> {
    let mut stacks = Vec::new();
    let mut errors = LabelErrors::default();
    for (_, stack) in discover_each(containers, own, scope, swarm)? {
        match stack {
            Ok(stack) => stacks.push(stack),
            Err(more) => errors.problems.extend(more.problems),
        }
    }
    if errors.problems.is_empty() {
        Ok(stacks)
    } else {
        Err(errors.into())
    }
}

/// What there is of each project by itself.
pub type EachProject<T, E> = Vec<(String, Result<T, E>)>;

/// The same, each by itself: the labels of one are nothing to another.
pub fn discover_each(
    containers: Vec<Container>,
    own: Option<&Container>,
    scope: &Scope,
    swarm: Option<&SwarmView>,
) -> Result<EachProject<Stack, LabelErrors>, DiscoverError> {
    let mut by_project = containers_by_project(containers);
    let projects = projects_of(scope, own, &by_project, swarm)?.into_iter();
    let stacks = projects.map(|project| {
        let containers = by_project.remove(&project).unwrap_or_default();
        (project.clone(), stack(project, containers, own, swarm))
    });
    Ok(stacks.collect())
}

/// The stacks of `scope`, each by itself: the labels of one are nothing to another. A project that is named and has no
/// container is an empty stack; our own has to be named.
pub fn by_project(
    containers: Vec<Container>,
    own: Option<&Container>,
    scope: &Scope,
    swarm: Option<&SwarmView>,
) -> BTreeMap<String, Result<Stack, LabelErrors>> {
    let mut by_project = containers_by_project(containers);
    match scope {
        Scope::All => {}
        Scope::Own => by_project.clear(),
        Scope::Projects(names) => {
            by_project.retain(|project, _| names.contains(project));
            for name in names {
                by_project.entry(name.clone()).or_default();
            }
        }
    }
    by_project
        .into_iter()
        .map(|(project, containers)| (project.clone(), stack(project, containers, own, swarm)))
        .collect()
}

fn containers_by_project(containers: Vec<Container>) -> BTreeMap<String, Vec<Container>> {
    let mut by_project: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for container in containers {
        if !is_helper(&container) {
            let project = container.project().to_owned();
            by_project.entry(project).or_default().push(container);
        }
    }
    by_project
}

fn projects_of(
    scope: &Scope,
    own: Option<&Container>,
    by_project: &BTreeMap<String, Vec<Container>>,
    swarm: Option<&SwarmView>,
) -> Result<Vec<String>, DiscoverError> {
    let known = || {
        let others = by_project.iter().filter(|(_, containers)| {
            let mut containers = containers.iter();
            containers.any(|container| !is_cofferdam(container, own))
        });
        others.map(|(project, _)| project.clone()).collect()
    };
    match scope {
        Scope::All => Ok(by_project.keys().cloned().collect()),
        Scope::Projects(names) => {
            // A stack may have no task on this node, as when all are held.
            let runs_elsewhere = |name: &str| swarm.is_some_and(|swarm| swarm.has(name));
            let unknown = names
                .iter()
                .find(|name| !by_project.contains_key(*name) && !runs_elsewhere(name));
            match unknown {
                None => Ok(names.clone()),
                Some(name) => Err(DiscoverError::UnknownProject {
                    name: name.clone(),
                    known: known(),
                }),
            }
        }
        Scope::Own => own
            .filter(|own| own.has_project())
            .map(|own| vec![own.project().to_owned()])
            .ok_or_else(|| DiscoverError::NoProject(known())),
    }
}

fn stack(
    project: String,
    containers: Vec<Container>,
    own: Option<&Container>,
    view: Option<&SwarmView>,
) -> Result<Stack, LabelErrors> {
    let mut errors = LabelErrors::default();
    let swarm = view.map_or(Ok(None), |view| swarm_of(&project, &containers, own, view));
    let swarm = swarm.unwrap_or_else(|more| {
        errors.problems.extend(more.problems);
        None
    });
    let mut stack = Stack {
        project,
        services: Vec::new(),
        left_out: Vec::new(),
        swarm,
        warnings: Vec::new(),
    };
    let all_services = all_services(&stack, &containers);
    let replaced = replaced_tasks(&containers);
    let mut taken = Vec::new();
    for container in containers {
        let place = if replaced.contains(&container.id) {
            Ok(Place::LeftOut(LeftOutReason::EndedTask))
        } else {
            place_of(&container, own, all_services.as_ref())
        };
        match place {
            Ok(Place::Service(labels)) => taken.push((container, *labels)),
            Ok(Place::LeftOut(reason)) => stack.left_out.push(LeftOut {
                container: container.name,
                reason,
            }),
            Err(more) => errors.problems.extend(more.problems),
        }
    }
    if !errors.problems.is_empty() {
        errors
            .problems
            .sort_by(|a, b| (&a.container, &a.label).cmp(&(&b.container, &b.label)));
        return Err(errors);
    }
    stack.left_out.sort_by(|a, b| a.container.cmp(&b.container));
    stack.services = named(taken, stack.node());
    stack.warnings = stack.services.iter().filter_map(overruled_labels).collect();
    stack.warnings.extend(swarm::warnings(&stack));
    Ok(stack)
}

fn swarm_of(
    project: &str,
    containers: &[Container],
    own: Option<&Container>,
    view: &SwarmView,
) -> Result<Option<StackSwarm>, LabelErrors> {
    let tasks = containers.iter().filter(|it| it.swarm_service().is_some());
    let tasks: Vec<&Container> = tasks.collect();
    let is_own = |service: &SwarmService| {
        let mut of_service = tasks
            .iter()
            .copied()
            .chain(own)
            .filter(|task| task.swarm_service() == Some(service.id.as_str()));
        of_service.any(|task| is_cofferdam(task, own))
    };
    swarm::stack_swarm(project, view, &tasks, is_own)
}

/// Those of the project, on whatever node they run; `None` where only a manager knows, and none can be asked.
fn all_services(stack: &Stack, containers: &[Container]) -> Option<BTreeSet<String>> {
    if matches!(&stack.swarm, Some(swarm) if swarm.services.is_err()) {
        return None;
    }
    let here = containers.iter().map(Container::service);
    let anywhere = stack.swarm_services().map(|service| service.name.as_str());
    Some(here.chain(anywhere).map(str::to_owned).collect())
}

/// While the swarm replaces a task, there may be two of one slot: the one that runs counts, and of two that run, the newer
/// one. The ids of the others.
fn replaced_tasks(containers: &[Container]) -> BTreeSet<String> {
    let mut current: BTreeMap<(&str, Replica), &Container> = BTreeMap::new();
    let mut replaced = BTreeSet::new();
    for container in containers.iter().filter(|it| !it.is_ended_task()) {
        let (Some(service), Some(replica)) = (container.swarm_service(), container.replica())
        else {
            continue;
        };
        let rank = |task: &Container| (task.is_running(), task.created);
        match current.entry((service, replica)) {
            Entry::Vacant(slot) => {
                slot.insert(container);
            }
            Entry::Occupied(slot) if rank(container) < rank(slot.get()) => {
                replaced.insert(container.id.clone());
            }
            Entry::Occupied(mut slot) => {
                replaced.insert(slot.insert(container).id.clone());
            }
        }
    }
    replaced
}

/// What becomes of a container of a project.
enum Place {
    Service(Box<ContainerLabels>),
    LeftOut(LeftOutReason),
}

fn place_of(
    container: &Container,
    own: Option<&Container>,
    all_services: Option<&BTreeSet<String>>,
) -> Result<Place, LabelErrors> {
    if is_cofferdam(container, own) {
        return Ok(Place::LeftOut(LeftOutReason::Cofferdam));
    }
    if container.is_one_off() {
        return Ok(Place::LeftOut(LeftOutReason::OneOff));
    }
    if container.is_ended_task() {
        return Ok(Place::LeftOut(LeftOutReason::EndedTask));
    }
    let labels = labels::parse(&container.name, &container.labels)?;
    if labels.enable == Some(false) {
        return Ok(Place::LeftOut(LeftOutReason::Disabled));
    }
    let problems = all_services.map(|all| unknown_services(container, &labels, all));
    let problems = problems.unwrap_or_default();
    if problems.is_empty() {
        Ok(Place::Service(Box::new(labels)))
    } else {
        Err(LabelErrors { problems })
    }
}

/// A skip goes before labels that ask for something: said, since one of the two is probably a left-over.
fn overruled_labels(service: &Service) -> Option<String> {
    let overruled = service.labels.skip.is_some() && service.labels.opt_in == OptIn::Labels;
    overruled.then(|| {
        format!(
            "container {}: `cofferdam.skip` overrides the labels that name what to save; nothing of it is saved",
            service.container.name
        )
    })
}

/// The services that `cofferdam.hold-for` names and the project does not have: a hold for nobody would be silent.
fn unknown_services(
    container: &Container,
    labels: &ContainerLabels,
    services: &BTreeSet<String>,
) -> Vec<LabelProblem> {
    let names = labels.hold_for.iter().flatten();
    names
        .filter(|name| !services.contains(*name))
        .map(|name| {
            let known: Vec<&str> = services.iter().map(String::as_str).collect();
            let hint = match nearest_word(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{}`?", quoted(near)),
                None => format!("its services are {}", quoted(&known.join(", "))),
            };
            LabelProblem {
                container: container.name.clone(),
                label: "cofferdam.hold-for".to_owned(),
                what: format!(
                    "names the service `{}`, which does not exist in its project",
                    quoted(name)
                ),
                hint: Some(hint),
            }
        })
        .collect()
}

/// Gives each container a name that no other of the project has.
fn named(mut taken: Vec<(Container, ContainerLabels)>, node: Option<&str>) -> Vec<Service> {
    let number = |container: &Container| match container.replica() {
        Some(Replica::Slot(slot)) => Some(slot),
        Some(Replica::OfNode) => None,
        None => {
            let text = container.labels.get(COMPOSE_NUMBER);
            text.and_then(|text| text.parse::<u32>().ok())
        }
    };
    taken.sort_by_cached_key(|(container, _)| {
        let number = number(container).unwrap_or(u32::MAX);
        (
            container.service().to_owned(),
            number,
            container.name.clone(),
        )
    });

    let mut names = BTreeSet::new();
    let mut services: Vec<Service> = Vec::new();
    for (container, labels) in taken {
        let plain = container.service();
        let numbered = number(&container).map(|number| format!("{plain}@{number}"));
        // The other tasks of a swarm's service have their names on their nodes.
        let first = match container.replica() {
            Some(Replica::OfNode) => node.map(|node| format!("{plain}@{node}")),
            Some(Replica::Slot(slot)) if slot > 1 => None,
            Some(Replica::Slot(_)) | None => Some(plain.to_owned()),
        };
        let candidates = [first, numbered];
        let free = candidates
            .into_iter()
            .flatten()
            .find(|name| !names.contains(name));
        // Names of containers are unique in an engine.
        let name = free.unwrap_or_else(|| format!("{plain}@{}", container.name));
        names.insert(name.clone());
        services.push(Service {
            name,
            container,
            labels,
        });
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

/// A helper or the hold journal, by its name or its image too: another container with such a label was labelled by mistake, and
/// its error must be heard.
pub(crate) fn is_helper(container: &Container) -> bool {
    let may_be_ours = container.has_name_of_ours() || container.agent_image == Some(true);
    may_be_ours && !container.is_of_compose() && has_own_label(container, OwnLabel::Container)
}

/// Whether this is the container that we run in, another one of the same service, or another one of our image: not one that a
/// compose file gives the label of it.
pub(crate) fn is_cofferdam(container: &Container, own: Option<&Container>) -> bool {
    if has_own_label(container, OwnLabel::Image) && container.agent_image != Some(false) {
        return true;
    }
    let Some(own) = own else { return false };
    let same = |label: &str| {
        let value = own.labels.get(label);
        value.is_some() && value == container.labels.get(label)
    };
    container.id == own.id
        || (same(COMPOSE_PROJECT) && same(COMPOSE_SERVICE))
        || same(SWARM_SERVICE_ID)
        || (container.image_id == own.image_id && !is_asked_for(container))
}

/// Whether labels ask for anything. A container that shares cofferdam's image by accident, as when the binary was put into
/// a common one, is then not mistaken for cofferdam.
fn is_asked_for(container: &Container) -> bool {
    container.labels.keys().any(|key| {
        key.starts_with("cofferdam.")
            && ![PROJECT, SERVICE].contains(&key.as_str())
            && labels::find_own(key).is_none()
    })
}

fn has_own_label(container: &Container, kind: OwnLabel) -> bool {
    container
        .labels
        .keys()
        .any(|key| labels::find_own(key) == Some(kind))
}

#[cfg(test)]
mod tests;
