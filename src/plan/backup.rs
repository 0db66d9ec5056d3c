//! What a backup of one project is going to do.

use serde::Serialize;

use super::PlanError;
use super::audit::Finding;
use super::hold::{PlannedHold, plan_holds};
use crate::discover::Stack;
use crate::hold::Operation;
use crate::labels::HookPoint;
use crate::manifest::{Failure, Skip};
use crate::survey::Survey;
use crate::target::TargetId;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackupPlan {
    pub project: String,
    /// The patterns that chose the targets, in alphabetical order; empty when they leave nothing out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
    /// Targets that the user says may have become far smaller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub may_shrink: Vec<TargetId>,
    /// In the order in which they are captured: what a hold serves comes first, so that the hold ends early.
    pub targets: Vec<PlannedTarget>,
    /// Targets that cannot be saved, known before the run: it goes on without them, and ends as partly done.
    pub unreachable: Vec<Failure>,
    pub holds: Vec<PlannedHold>,
    pub hooks: Vec<PlannedHook>,
    pub skipped: Vec<Skip>,
    /// What labels leave unprotected; `None`: nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTarget {
    pub id: TargetId,
    /// The container's name.
    pub container: String,
    /// For people: `database clinical`, `volume candigv2_vault-data at /vault`.
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHook {
    pub service: String,
    pub point: HookPoint,
    pub command: String,
}

impl BackupPlan {
    pub fn new(
        survey: &Survey,
        mut targets: Vec<PlannedTarget>,
        unreachable: Vec<Failure>,
    ) -> Result<Self, PlanError> {
        let stack = &survey.stack;
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
        let holds = plan_holds(stack, Operation::Backup, &ids)?;
        let is_held =
            |target: &PlannedTarget| holds.iter().any(|hold| hold.serves.contains(&target.id));
        targets.sort_by_key(|target| (!is_held(target), target.id.clone()));
        Ok(Self {
            project: stack.project.clone(),
            selection: Vec::new(),
            may_shrink: Vec::new(),
            holds,
            hooks: planned_hooks(stack, Operation::Backup),
            skipped: skipped(stack),
            warnings: stack.warnings.clone(),
            findings: None,
            targets,
            unreachable,
        })
    }

    pub fn asks_for_something(&self) -> bool {
        !self.targets.is_empty() || !self.unreachable.is_empty()
    }

    /// How many of the first targets are captured while the hold lasts.
    pub fn held_targets(&self) -> usize {
        self.targets
            .iter()
            .filter(|target| {
                self.holds
                    .iter()
                    .any(|hold| hold.serves.contains(&target.id))
            })
            .count()
    }
}

fn skipped(stack: &Stack) -> Vec<Skip> {
    stack
        .services
        .iter()
        .filter_map(|service| {
            service.labels.skip.as_ref().map(|reason| Skip {
                service: service.name.clone(),
                reason: reason.clone(),
            })
        })
        .collect()
}

pub(super) fn planned_hooks(stack: &Stack, operation: Operation) -> Vec<PlannedHook> {
    let points = match operation {
        Operation::Backup => [
            HookPoint::BeforeBackup,
            HookPoint::AfterBackup,
            HookPoint::FailedBackup,
        ],
        Operation::Restore => [
            HookPoint::BeforeRestore,
            HookPoint::AfterRestore,
            HookPoint::FailedRestore,
        ],
    };
    stack
        .services
        .iter()
        .flat_map(|service| {
            points.into_iter().filter_map(move |point| {
                service.labels.hooks.get(&point).map(|hook| PlannedHook {
                    service: service.name.clone(),
                    point,
                    command: shlex::try_join(hook.argv.iter().map(String::as_str))
                        .unwrap_or_default(),
                })
            })
        })
        .collect()
}
