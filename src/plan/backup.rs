//! What a backup of one project is going to do.

use serde::Serialize;

use super::PlanError;
use super::apart::Placed;
use super::audit::Finding;
use super::hold::{PlannedHold, plan_holds};
use super::memory;
use crate::hold::Operation;
use crate::labels::HookPoint;
use crate::manifest::{Failure, Skip};
use crate::repository::pin::PinName;
use crate::stack::Stack;
use crate::stack::survey::Survey;
use crate::target::TargetId;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackupPlan {
    pub project: String,
    /// The patterns that chose the targets, in alphabetical order; empty when they leave nothing out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
    /// Somebody asks for it, and no schedule.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// What the snapshot is to be pinned as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinName>,
    /// Targets that the user says may have become far smaller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub may_shrink: Vec<TargetId>,
    /// In the order in which they are captured: what a hold serves comes first, so that the hold ends early; in each of these
    /// two groups databases come before files. Between the two an application may add a row with its file, or remove both: a
    /// file without its row is rubbish, a row without its file is broken.
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
    /// `placed`: those of the targets that are files.
    pub fn new(
        survey: &Survey,
        mut targets: Vec<PlannedTarget>,
        mut unreachable: Vec<Failure>,
        placed: &[Placed<'_>],
    ) -> Result<Self, PlanError> {
        let stack = &survey.stack;
        targets.retain(
            |target| match memory::obstacle(survey, &target.id, placed) {
                None => true,
                Some(reason) => {
                    let target = target.id.clone();
                    unreachable.push(Failure { target, reason });
                    false
                }
            },
        );
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
        let holds = plan_holds(survey, Operation::Backup, &ids)?;
        memory::ensure_kept(survey, placed, &holds)?;
        let is_held =
            |target: &PlannedTarget| holds.iter().any(|hold| hold.serves.contains(&target.id));
        targets.sort_by_key(|target| {
            let is_tree = target.id.driver.is_tree();
            (!is_held(target), is_tree, target.id.clone())
        });
        Ok(Self {
            project: stack.project.clone(),
            selection: Vec::new(),
            by_hand: false,
            pin: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests_support::{service, survey};

    #[test]
    fn databases_are_captured_before_files_and_what_is_held_before_both() {
        let app = service("app", &[], &[("stop", "backup"), ("hold-for", "app,wiki")]);
        let survey = survey(vec![(app, &[])]);
        let in_order = [
            "app/sqlite/a.db",
            "wiki/postgres/wiki",
            "app/volume/data",
            "app/files/uploads",
            "shop/mysql/shop",
            "shop/command/dump",
            "blog/volume/media",
        ];
        let mut targets = in_order.map(|id| PlannedTarget {
            id: id.parse().unwrap(),
            container: String::new(),
            what: String::new(),
        });
        targets.reverse();
        let plan = BackupPlan::new(&survey, targets.to_vec(), Vec::new(), &[]).unwrap();
        let planned: Vec<String> = plan.targets.iter().map(|it| it.id.to_string()).collect();
        assert_eq!(planned, in_order);
        assert_eq!(plan.held_targets(), 4);
    }
}
