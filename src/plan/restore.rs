//! What a restore of one project is going to do.

use serde::Serialize;

use super::PlanError;
use super::backup::{PlannedHook, planned_hooks};
use super::hold::{PlannedHold, plan_holds};
use crate::discover::{Service, Stack};
use crate::driver::WayBack;
use crate::hold::Operation;
use crate::manifest::{Facts, Manifest, TargetRecord};
use crate::target::{RunId, TargetId};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestorePlan {
    pub project: String,
    pub snapshot: RunId,
    /// In the order in which they load: what stays beside the old data first, what writes over it last.
    pub targets: Vec<PlannedRestore>,
    pub holds: Vec<PlannedHold>,
    pub hooks: Vec<PlannedHook>,
    /// What an administrator ought to know before saying yes.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedRestore {
    pub id: TargetId,
    pub container: String,
    /// [`crate::driver::Driver::describe_restore`]
    pub what: String,
    pub way_back: WayBack,
    /// Of the plain data, in bytes.
    pub bytes: u64,
}

/// The service in the stack that a record's target belongs to, in a state in which it can be restored.
pub fn service_of<'a>(stack: &'a Stack, record: &TargetRecord) -> Result<&'a Service, PlanError> {
    let name = &record.target.service;
    let service = stack
        .services
        .iter()
        .find(|service| service.name == *name)
        .ok_or_else(|| PlanError::NoSuchService {
            service: name.clone(),
            project: stack.project.clone(),
            hint: format!(
                "bring the stack up first, or restore only other targets (this one is {})",
                record.target
            ),
        })?;
    if record.target.driver.needs_running_container() && !service.container.is_running() {
        return Err(PlanError::NotRunning {
            target: record.target.clone(),
            container: service.container.name.clone(),
        });
    }
    Ok(service)
}

impl RestorePlan {
    pub fn new(
        stack: &Stack,
        manifest: &Manifest,
        mut targets: Vec<PlannedRestore>,
    ) -> Result<Self, PlanError> {
        // Roles come before the databases that they own.
        targets.sort_by_key(|target| {
            let database = manifest.target(&target.id).is_some_and(is_database);
            (
                target.way_back == WayBack::SafetySnapshot,
                database,
                target.id.clone(),
            )
        });
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
        let holds = plan_holds(stack, Operation::Restore, &ids)?;
        let warnings = warnings(stack, manifest, &targets, &holds);
        Ok(Self {
            project: stack.project.clone(),
            snapshot: manifest.snapshot.clone(),
            targets,
            holds,
            hooks: planned_hooks(stack, Operation::Restore),
            warnings,
        })
    }

    pub fn in_place(&self) -> impl Iterator<Item = &PlannedRestore> {
        self.targets
            .iter()
            .filter(|target| target.way_back == WayBack::SafetySnapshot)
    }
}

fn is_database(record: &TargetRecord) -> bool {
    match &record.facts {
        Facts::Postgres(facts) => !facts.database.is_empty(),
        Facts::Mysql(_) => true,
        Facts::Volume(_) | Facts::Files(_) => false,
    }
}

fn warnings(
    stack: &Stack,
    manifest: &Manifest,
    targets: &[PlannedRestore],
    holds: &[PlannedHold],
) -> Vec<String> {
    let mut warnings: Vec<String> = manifest
        .failed
        .iter()
        .map(|failure| format!("the snapshot lacks {}: {}", failure.target, failure.reason))
        .collect();
    let is_held = |service: &str| holds.iter().any(|hold| hold.service == service);
    for target in targets {
        let Some(Facts::Volume(facts)) = manifest.target(&target.id).map(|record| &record.facts)
        else {
            continue;
        };
        for service in stack
            .services
            .iter()
            .filter(|service| service.container.is_running())
        {
            let uses = facts.volume.is_some()
                && service
                    .container
                    .mounts
                    .iter()
                    .any(|mount| mount.volume == facts.volume);
            if uses && !is_held(&service.name) {
                warnings.push(format!(
                    "{} runs on while {} is replaced under it; give it the label cofferdam.stop: restore",
                    service.name, target.id
                ));
            }
        }
    }
    warnings
}
