//! Who goes on writing to what a restore replaces.

use super::{PlannedRestore, RestorePlan, how_to_hold, is_held};
use crate::discover::Stack;
use crate::driver::{Writer, Writers};
use crate::engine::Container;
use crate::manifest::{Facts, Manifest};
use crate::plan::PlanError;
use crate::plan::hold::PlannedHold;
use crate::survey::Survey;
use crate::target::TargetId;

impl RestorePlan {
    /// `writers`: of a file that must be closed while it is exchanged. What cannot be known of it is told.
    pub fn ensure_nobody_writes(
        &self,
        survey: &Survey,
        target: &TargetId,
        writers: &Writers,
    ) -> Result<Option<String>, PlanError> {
        let container_of = |writer: &Writer| {
            let mut containers = survey.containers.iter();
            containers.find(|container| writer.containers.contains(&container.id))
        };
        for writer in &writers.found {
            let container = container_of(writer);
            if container.is_some_and(|container| is_held(container, &self.holds)) {
                continue;
            }
            return Err(PlanError::WrittenTo {
                target: target.clone(),
                who: writer.who.clone(),
                mend: match container {
                    Some(container) => how_to_hold(&survey.stack, container),
                    None => "stop it first".to_owned(),
                },
            });
        }
        Ok(writers.unseen.as_ref().map(|why| {
            format!(
                "{target}: programs beside the engine's containers may have it open, and would go on writing into the old file; \
                 that cannot be seen: {why}"
            )
        }))
    }
}

/// Also those of other projects.
pub(super) fn writers_that_run_on(
    survey: &Survey,
    manifest: &Manifest,
    targets: &[PlannedRestore],
    holds: &[PlannedHold],
) -> Vec<String> {
    let alive = survey.containers.iter().filter(|it| it.is_alive());
    let not_held: Vec<&Container> = alive.filter(|it| !is_held(it, holds)).collect();
    let mut warnings = Vec::new();
    for target in targets {
        let volume = match manifest.target(&target.id).map(|record| &record.facts) {
            Some(Facts::Volume(facts)) => facts.volume.as_ref(),
            Some(Facts::Files(_)) => None,
            _ => continue,
        };
        let place = place_outside(survey, target);
        let uses = |container: &Container| {
            let mut mounts = container.mounts.iter();
            volume.is_some() && mounts.any(|mount| mount.volume.as_ref() == volume)
                || place.as_ref().is_some_and(|(own, place)| {
                    container.id != own.id && container.can_write_to(place)
                })
        };
        for container in not_held.iter().filter(|container| uses(container)) {
            warnings.push(format!(
                "{} runs on while {} is replaced under it; {}",
                whose(&survey.stack, container),
                target.id,
                how_to_hold(&survey.stack, container)
            ));
        }
    }
    warnings
}

/// The container of a tree, and where the tree lies, for every container that sees it.
fn place_outside<'a>(
    survey: &'a Survey,
    target: &PlannedRestore,
) -> Option<(&'a Container, String)> {
    let mut services = survey.stack.services.iter();
    let own = services.find(|service| service.name == target.id.service)?;
    let path = target.changed_path.as_deref()?;
    Some((&own.container, own.container.place_of(path)))
}

/// A service of the project by its name, any other container by its own and its project's.
fn whose(stack: &Stack, container: &Container) -> String {
    let mut services = stack.services.iter();
    match services.find(|service| service.container.id == container.id) {
        Some(service) => service.name.clone(),
        None => format!(
            "container {} of project {}",
            container.name,
            container.project()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::WayBack;
    use crate::engine::container::tests_support::{container, mount as mount_at};
    use crate::engine::{Mount, MountKind};
    use crate::hold::{Action, Subject};
    use crate::plan::tests_support;
    use crate::repository::samples;
    use crate::target::DriverKind;

    fn writer(who: &str, container: Option<&str>) -> Writer {
        Writer {
            who: who.to_owned(),
            containers: container.into_iter().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn whoever_has_the_file_open_and_is_not_held_is_in_the_way() {
        let services = ["held", "app"].map(|name| tests_support::service(name, &[], &[]));
        let survey = tests_support::survey(services.map(|service| (service, &[][..])).into());
        let plan = RestorePlan {
            project: "shop".to_owned(),
            snapshot: samples::id(1),
            targets: Vec::new(),
            holds: vec![PlannedHold {
                service: "held".to_owned(),
                action: Action::Stop,
                serves: Vec::new(),
                subject: Subject::Container(container("held").id),
                ready_within: None,
            }],
            hooks: Vec::new(),
            missing: Vec::new(),
            warnings: Vec::new(),
        };
        let target = TargetId::new("held", DriverKind::Sqlite, "db");
        let ask = |found: Vec<Writer>, unseen: Option<&str>| {
            let writers = Writers {
                found,
                unseen: unseen.map(str::to_owned),
                is_locked: false,
            };
            match plan.ensure_nobody_writes(&survey, &target, &writers) {
                Ok(told) => told.unwrap_or_default(),
                Err(error) => error.to_string(),
            }
        };
        let held = || writer("process 1 (a) of container held", Some("held-id"));
        assert_eq!(ask(vec![held()], None), "");
        let told = [
            ask(vec![held()], Some("no helper")),
            ask(
                vec![
                    held(),
                    writer("process 2 (b) of container app", Some("app-id")),
                ],
                None,
            ),
            ask(
                vec![writer("process 3 (c) of the host", None)],
                Some("no helper"),
            ),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        held/sqlite/db: programs beside the engine's containers may have it open, and would go on writing into the old file; that cannot be seen: no helper
        process 2 (b) of container app uses held/sqlite/db, and would go on writing into the old file; give it the label cofferdam.stop: restore, or stop it first: docker stop app
        process 3 (c) of the host uses held/sqlite/db, and would go on writing into the old file; stop it first
        ");
    }

    #[test]
    fn whoever_writes_to_a_tree_by_another_path_is_named() {
        let mount = |source: &str, destination: &str| Mount {
            source: source.to_owned(),
            ..mount_at(MountKind::Bind, destination)
        };
        let mut own = tests_support::service("app", &[], &[("files.etc", "/etc/app")]);
        own.container.mounts = vec![mount("/srv/app", "/etc/app")];
        let mut survey = tests_support::survey(vec![(own, &[])]);
        let mut others = Vec::new();
        for (name, source, writable) in [
            ("above", "/srv", true),
            ("reader", "/srv/app", false),
            ("beside", "/srv/other", true),
        ] {
            let mut other = container(name);
            other.mounts = vec![Mount {
                writable,
                ..mount(source, "/mnt")
            }];
            others.push(other);
        }
        survey.containers = others.into();
        let target = TargetId::new("app", DriverKind::Files, "etc");
        let planned = PlannedRestore {
            id: target.clone(),
            saved_as: target.clone(),
            older: None,
            container: "app".to_owned(),
            what: String::new(),
            way_back: WayBack::Staged,
            bytes: 0,
            closed_path: None,
            changed_path: Some("/etc/app".to_owned()),
        };
        let manifest = Manifest {
            targets: vec![samples::record(target.clone(), Vec::new())],
            ..samples::manifest("shop", &samples::id(1), Vec::new())
        };
        let told = writers_that_run_on(&survey, &manifest, &[planned], &[]);
        assert_eq!(
            told,
            [
                "container above of project default runs on while app/files/etc is replaced under it; stop it first: docker stop above"
            ]
        );
    }
}
