//! The services of a stack that runs in a swarm: what its manager knows of them, beside the tasks that run on this node. Pure.
//!
//! A target is what a task on this node has; a hold concerns a service, whose tasks may run anywhere. Labels are those of
//! containers (`labels:`): the swarm gives them to each task, so that a node knows them without a manager.

use std::collections::BTreeSet;

use super::{LabelErrors, LabelProblem, Service, Stack};
use crate::engine::Container;
use crate::engine::swarm::{Mode, SwarmService};
use crate::labels::{self, ContainerLabels, OwnLabel};
use crate::target::{RunId, TargetId};
use crate::text::quoted;

/// The swarm, as this node sees it.
#[derive(Clone, Debug)]
pub struct SwarmView {
    /// The name of the node.
    pub node: String,
    /// Those of all stacks; or why no manager can be asked, and what to set.
    pub services: Result<Vec<SwarmService>, String>,
}

impl SwarmView {
    /// Whether a manager knows services of a project.
    pub(super) fn has(&self, project: &str) -> bool {
        let mut services = self.services.iter().flatten();
        services.any(|service| service.as_container().project() == project)
    }
}

/// The part of it that one project is.
#[derive(Clone, Debug)]
pub struct StackSwarm {
    pub node: String,
    /// By their age, oldest first.
    pub services: Result<Vec<StackService>, String>,
}

#[derive(Clone, Debug)]
pub struct StackService {
    pub id: String,
    /// Without the stack's name.
    pub name: String,
    pub labels: ContainerLabels,
    pub mode: Mode,
    /// Whether it has tasks when nobody holds it.
    pub is_on: bool,
    /// The run that has scaled it to zero.
    pub held_by: Option<String>,
    /// How many tasks of it run, or ran before it was held.
    pub tasks: u64,
    /// The nodes on which they run.
    pub nodes: BTreeSet<String>,
    /// What its containers are like, as far as the manager knows.
    pub model: Container,
}

impl Stack {
    /// The node whose snapshots these are; `None` for a project that does not run in a swarm.
    pub fn node(&self) -> Option<&str> {
        self.swarm.as_ref().map(|swarm| swarm.node.as_str())
    }

    /// The services that a manager knows; none where nobody can be asked.
    pub fn swarm_services(&self) -> impl Iterator<Item = &StackService> {
        let swarm = self.swarm.iter();
        swarm.flat_map(|swarm| swarm.services.iter().flatten())
    }

    /// Adds the services of which a dead run has left no task, as far as a manager knows them: what it did to their volumes
    /// on this node is still to be undone, or finished, and then their hooks run. `targets`: those of the run.
    pub fn add_held(&mut self, run: &RunId, targets: &[TargetId]) {
        let held = self
            .swarm_services()
            .filter(|service| service.held_by.as_deref() == Some(run.as_str()));
        let mut added = Vec::new();
        for held in held {
            let mut here = self.services.iter();
            if here.any(|service| service.container.swarm_service() == Some(held.id.as_str())) {
                continue;
            }
            let mut own: BTreeSet<&str> = targets
                .iter()
                .map(|target| target.service.as_str())
                .filter(|name| name.split('@').next() == Some(held.name.as_str()))
                .collect();
            if own.is_empty() {
                own.insert(&held.name);
            }
            added.extend(own.into_iter().map(|name| Service {
                name: name.to_owned(),
                container: held.model.clone(),
                labels: ContainerLabels {
                    hooks: held.labels.hooks.clone(),
                    ..ContainerLabels::default()
                },
            }));
        }
        self.services.extend(added);
    }
}

impl Service {
    /// Known from a manager only: there is no container.
    pub fn is_stand_in(&self) -> bool {
        self.container.swarm_service() == Some(self.container.id.as_str())
    }
}

/// What the swarm has of a project. `tasks`: its containers on this node that are tasks. `is_own`: tells the services that
/// are cofferdam's.
pub(super) fn stack_swarm(
    project: &str,
    view: &SwarmView,
    tasks: &[&Container],
    is_own: impl Fn(&SwarmService) -> bool,
) -> Result<Option<StackSwarm>, LabelErrors> {
    let services = match &view.services {
        Err(_) if tasks.is_empty() => return Ok(None),
        Err(why) => Err(why.clone()),
        Ok(all) => {
            let mut services = Vec::new();
            let mut errors = LabelErrors::default();
            let mut known: Vec<_> = all
                .iter()
                .map(|service| (service, service.as_container()))
                .filter(|(_, model)| model.project() == project)
                .collect();
            if known.is_empty() && tasks.is_empty() {
                return Ok(None);
            }
            known.sort_by(|(a, _), (b, _)| (a.created, &a.name).cmp(&(b.created, &b.name)));
            for (service, model) in known.into_iter().filter(|(service, _)| !is_own(service)) {
                errors.problems.extend(misplaced_labels(service));
                match labels::parse(&model.name, &model.labels) {
                    Ok(labels) if labels.enable == Some(false) => {}
                    Ok(labels) => services.push(stack_service(service, model, labels)),
                    // Its tasks on this node have the same labels, and tell of them.
                    Err(_) if has_task(tasks, service) => {}
                    Err(more) => errors.problems.extend(more.problems),
                }
            }
            if !errors.problems.is_empty() {
                return Err(errors);
            }
            Ok(services)
        }
    };
    Ok(Some(StackSwarm {
        node: view.node.clone(),
        services,
    }))
}

fn has_task(tasks: &[&Container], service: &SwarmService) -> bool {
    tasks
        .iter()
        .any(|task| task.swarm_service() == Some(service.id.as_str()))
}

fn stack_service(
    service: &SwarmService,
    model: Container,
    labels: ContainerLabels,
) -> StackService {
    StackService {
        id: service.id.clone(),
        name: model.service().to_owned(),
        labels,
        mode: service.mode,
        is_on: service.is_on(),
        held_by: service.held_by.clone(),
        tasks: service.tasks(),
        nodes: service.running_on.iter().cloned().collect(),
        model,
    }
}

/// Labels of ours that stand where no container gets them: they would have no effect, in silence.
fn misplaced_labels(service: &SwarmService) -> impl Iterator<Item = LabelProblem> {
    let ours = |key: &&String| {
        key.starts_with(labels::PREFIX) && labels::find_own(key) != Some(OwnLabel::Container)
    };
    service.own_labels.keys().filter(ours).map(|key| LabelProblem {
        container: format!("of service {}", quoted(&service.name)),
        label: key.clone(),
        what: "is among the labels of the service (`deploy: labels:`), which its containers do not get"
            .to_owned(),
        hint: Some("move it to `labels:` of the service itself".to_owned()),
    })
}

/// What a node without a manager cannot see, and what of a stack's hooks is out of reach.
pub(super) fn warnings(stack: &Stack) -> Vec<String> {
    let Some(swarm) = &stack.swarm else {
        return Vec::new();
    };
    let services = match &swarm.services {
        Ok(services) => services,
        Err(why) => {
            return vec![format!(
                "cannot see the services of this stack that have no task on node {}, or whether they have to be held: {why}",
                swarm.node
            )];
        }
    };
    let mut warnings = Vec::new();
    for service in services {
        if service.mode == Mode::Job && (service.labels.pause || !service.labels.stop.is_empty()) {
            warnings.push(format!(
                "service {}: a job is not held; it ends by itself",
                service.name
            ));
        }
        let is_here = service.nodes.contains(&swarm.node);
        if !service.labels.hooks.is_empty() && !is_here && service.is_on {
            let nodes: Vec<&str> = service.nodes.iter().map(String::as_str).collect();
            warnings.push(format!(
                "service {}: its hooks do not run when node {} saves or restores, because it has no task there{}",
                service.name,
                swarm.node,
                match nodes.as_slice() {
                    [] => String::new(),
                    nodes => format!(" (it has one on {})", nodes.join(", ")),
                }
            ));
        }
    }
    warnings
}
