//! Who goes on writing to what a restore replaces.

use super::{PlannedRestore, Reach, RestorePlan, ensure_closed, how_to_hold, is_held};
use crate::driver::{Writer, Writers};
use crate::engine::Container;
use crate::manifest::{Facts, Manifest, TreeShape};
use crate::plan::PlanError;
use crate::plan::hold::PlannedHold;
use crate::stack::Stack;
use crate::stack::survey::Survey;
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
        let planned = self.targets.iter().find(|it| it.id == *target);
        if let (Some(planned), Some(_)) = (planned, &writers.unseen) {
            ensure_closed(survey, planned, &self.holds, Reach::Around)?;
        }
        Ok(writers.unseen.as_ref().map(|why| {
            format!(
                "{target}: programs outside the engine's containers may have it open and keep writing to the old file; \
                 Cofferdam cannot see them: {why}"
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
        let shape = match manifest.target(&target.id).map(|record| &record.facts) {
            Some(Facts::Volume(tree) | Facts::Files(tree)) => tree.shape,
            _ => continue,
        };
        let Some((own, place)) = place_on_a_mount(survey, target) else {
            continue;
        };
        // Most single files are settings, which their own programs only read.
        let is_asked =
            |container: &Container| container.id != own.id || shape == TreeShape::Directory;
        let writes = |container: &Container| is_asked(container) && container.can_write_to(&place);
        for container in not_held.iter().filter(|container| writes(container)) {
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

/// The container of a tree, and where the tree lies, for every container that sees it. In a container's own layer it is seen by that
/// one alone, which has to run while an agent in it removes what is not to stay.
fn place_on_a_mount<'a>(
    survey: &'a Survey,
    target: &PlannedRestore,
) -> Option<(&'a Container, String)> {
    let mut services = survey.stack.services.iter();
    let own = services.find(|service| service.name == target.id.service)?;
    let path = target.changed_path.as_deref()?;
    own.container.mount_of(path)?;
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
    use crate::engine::{Mount, MountKind, State};
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
        held/sqlite/db: programs outside the engine's containers may have it open and keep writing to the old file; Cofferdam cannot see them: no helper
        process 2 (b) of container app uses held/sqlite/db and would keep writing to the old file; give it the label cofferdam.stop: restore, or stop it first: docker stop app
        process 3 (c) of the host uses held/sqlite/db and would keep writing to the old file; stop it first
        ");
    }

    #[test]
    fn whoever_mounts_a_tree_around_a_file_is_in_the_way_where_the_file_cannot_be_asked() {
        let mount = |source: &str, volume: Option<&str>| Mount {
            source: source.to_owned(),
            volume: volume.map(str::to_owned),
            ..mount_at(MountKind::Bind, "/data")
        };
        let volumes = "/var/lib/docker/volumes";
        let at = format!("{volumes}/data/_data");
        let mut own = tests_support::service("app", &[], &[("sqlite", "/data/a.db")]);
        own.container.state = State::Exited;
        own.container.mounts = vec![mount(&at, Some("data"))];
        let target = TargetId::new("app", DriverKind::Sqlite, "a.db");
        let planned = PlannedRestore {
            id: target.clone(),
            saved_as: target.clone(),
            older: None,
            container: "app".to_owned(),
            what: String::new(),
            way_back: WayBack::Staged,
            bytes: 0,
            closed_path: Some("/data/a.db".to_owned()),
            changed_path: None,
        };
        let mut survey = tests_support::survey(vec![(own, &[])]);
        let manifest = samples::manifest("shop", &samples::id(1), Vec::new());
        let mut ask = |mounted: Mount, unseen: bool| {
            let mut other = container("other");
            other.mounts = vec![mounted];
            survey.containers = [other].into();
            let targets = vec![planned.clone()];
            let plan = RestorePlan::new(&survey, &manifest, targets, Vec::new())?;
            let writers = Writers {
                unseen: unseen.then(|| "no helper".to_owned()),
                ..Writers::default()
            };
            plan.ensure_nobody_writes(&survey, &target, &writers)
        };
        for near in [
            mount(&at, Some("data")),
            mount(&format!("{at}/a.db"), None),
            mount(&at, None),
        ] {
            let refused = ask(near, false).unwrap_err().to_string();
            assert!(refused.contains("container other runs"), "{refused}");
        }
        let around = || mount(volumes, None);
        assert_eq!(ask(around(), false).unwrap(), None);
        let refused = ask(around(), true).unwrap_err().to_string();
        assert!(refused.contains("docker stop other"), "{refused}");
        let read_only = Mount {
            writable: false,
            ..around()
        };
        for apart in [mount("/var/lib/docker/volumes/other", None), read_only] {
            assert!(ask(apart, true).unwrap().is_some());
        }
    }

    fn planned(target: &TargetId, path: &str) -> PlannedRestore {
        PlannedRestore {
            id: target.clone(),
            saved_as: target.clone(),
            older: None,
            container: target.service.clone(),
            what: String::new(),
            way_back: WayBack::Staged,
            bytes: 0,
            closed_path: None,
            changed_path: Some(path.to_owned()),
        }
    }

    /// Who is said to write to a target that was saved in a shape, from a volume of another project.
    fn told(survey: &Survey, target: &str, path: &str, shape: TreeShape) -> Vec<String> {
        let target: TargetId = target.parse().unwrap();
        let mut record = samples::record(target.clone(), Vec::new());
        if let Facts::Volume(tree) | Facts::Files(tree) = &mut record.facts {
            tree.volume = Some("old_data".to_owned());
            tree.shape = shape;
        }
        let manifest = Manifest {
            targets: vec![record],
            ..samples::manifest("shop", &samples::id(1), Vec::new())
        };
        let warnings = writers_that_run_on(survey, &manifest, &[planned(&target, path)], &[]);
        let who = |warning: &String| warning.split(" runs on").next().unwrap_or("").to_owned();
        warnings.iter().map(who).collect()
    }

    #[test]
    fn whoever_writes_to_a_tree_by_another_path_is_named() {
        let app = tests_support::service("app", &["new_data:/data"], &[]);
        let app = tests_support::bound(app, &["/srv/app:/etc/app", "/srv/fixed:/fixed:ro"]);
        let mut survey = tests_support::survey(vec![(app, &[])]);
        let other = |name: &str, volumes: &[&str], binds: &[&str]| {
            let service = tests_support::service(name, volumes, &[]);
            tests_support::bound(service, binds).container
        };
        let others = [
            other("above", &[], &["/srv:/mnt"]),
            other("in-it", &[], &["/srv/app/part:/mnt"]),
            other("reader", &["new_data:/mnt"], &["/srv/app:/mnt2:ro"]),
            other("beside", &[], &["/srv/other:/mnt"]),
            other("old-app", &["old_data:/data"], &[]),
        ];
        let all = survey.containers.iter().cloned().chain(others);
        survey.containers = all.collect();
        let of_default = |name: &str| format!("container {name} of project default");

        let files = told(&survey, "app/files/etc", "/etc/app", TreeShape::Directory);
        assert_eq!(files, ["app", &of_default("above"), &of_default("in-it")]);
        let file = told(&survey, "app/files/etc", "/etc/app/one", TreeShape::File);
        assert_eq!(file, [of_default("above")]);
        // The volume is that of the project that it goes to.
        let volume = told(&survey, "app/volume/data", "/data", TreeShape::Directory);
        assert_eq!(volume, ["app", &of_default("reader")]);
        let fixed = told(&survey, "app/files/x", "/fixed", TreeShape::Directory);
        assert_eq!(fixed, [of_default("above")]);
        let layer = told(&survey, "app/files/x", "/opt/app", TreeShape::Directory);
        assert_eq!(layer, Vec::<String>::new());
    }

    #[test]
    fn who_writes_is_told_with_what_to_do() {
        let app = tests_support::service("app", &["data:/data"], &[]);
        let survey = tests_support::survey(vec![(app, &[])]);
        let target: TargetId = "app/volume/data".parse().unwrap();
        let record = samples::record(target.clone(), Vec::new());
        let manifest = Manifest {
            targets: vec![record],
            ..samples::manifest("shop", &samples::id(1), Vec::new())
        };
        let told = writers_that_run_on(&survey, &manifest, &[planned(&target, "/data")], &[]);
        assert_eq!(
            told,
            [
                "app runs on while app/volume/data is replaced under it; give it the label cofferdam.stop: restore, or stop it first: docker stop app"
            ]
        );
    }
}
