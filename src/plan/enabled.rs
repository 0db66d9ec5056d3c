//! Whether each `cofferdam.enable: true` finds something to save. Pure.

use super::backup::PlannedTarget;
use crate::engine::{Container, Mount, State};
use crate::labels::{LabelErrors, LabelProblem, OptIn};
use crate::manifest::Failure;
use crate::stack::Service;
use crate::stack::survey::Survey;
use crate::target::{DriverKind, TargetId};

const ENABLE: &str = "cofferdam.enable";

/// The labels that get nothing, and are no errors.
#[derive(Debug, Default, PartialEq)]
pub struct Unserved {
    pub failures: Vec<Failure>,
    pub warnings: Vec<String>,
}

/// A label that asks for something, and gets nothing, is a backup that somebody believes to have. `targets`, `unreachable`: of all
/// that labels ask for.
///
/// A container that does not run may have a database that nobody sees: that is a failure of its own, not an error of the label.
pub fn ensure_enabled_is_served(
    survey: &Survey,
    targets: &[PlannedTarget],
    unreachable: &[Failure],
) -> Result<Unserved, LabelErrors> {
    let mut errors = LabelErrors::default();
    let mut unserved = Unserved::default();
    let services = survey.stack.services.iter();
    let enabled = services.filter(|service| {
        service.labels.opt_in == OptIn::Detection && service.labels.skip.is_none()
    });
    for service in enabled {
        let is_own = |id: &TargetId| id.service == service.name;
        let has_target = targets.iter().any(|target| is_own(&target.id))
            || unreachable.iter().any(|failure| is_own(&failure.target));
        if has_target || shares_what_is_saved(survey, service) {
            continue;
        }
        if service.container.is_running() {
            errors.problems.push(LabelProblem {
                container: service.container.name.clone(),
                label: ENABLE.to_owned(),
                what: "is `true`, but there is nothing to save: no database server runs in it, and it has no volume or \
                 writable bind mount to save"
                    .to_owned(),
                hint: Some(
                    "name what to save, such as `cofferdam.files.<name>: /path`, or remove this label".to_owned(),
                ),
            });
        } else if is_done(&service.container) {
            unserved.warnings.push(format!(
                "{}: `{ENABLE}: true` finds nothing to save: container {} has finished, and has nothing writable mounted; \
                 remove the label",
                service.name, service.container.name
            ));
        } else {
            unserved.failures.push(Failure {
                target: TargetId::new(&service.name, DriverKind::Files, "*"),
                reason: format!(
                    "container {} {}, and has nothing mounted that could be saved: Cofferdam can tell what `{ENABLE}: true` \
                     saves only while it runs; {}",
                    service.container.name,
                    service.container.state.told(),
                    service.container.how_to_start()
                ),
            });
        }
    }
    match errors.problems.is_empty() {
        true => Ok(unserved),
        false => Err(errors),
    }
}

/// As a service that only migrates a database: no server runs there when it runs again.
fn is_done(container: &Container) -> bool {
    let has_succeeded = container.exit.as_ref().is_some_and(|exit| exit.code == 0);
    let mut mounts = container.mounts.iter();
    container.state == State::Exited && has_succeeded && !mounts.any(|mount| mount.writable)
}

/// What several containers have mounted is a target of one of them.
fn shares_what_is_saved(survey: &Survey, service: &Service) -> bool {
    let mut places = service.container.mounts.iter().map(Mount::root);
    places.any(|place| survey.is_saved(&place))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::engine::container::Exit;
    use crate::plan::tests_support::{bound, service, survey};

    const ENABLED: [(&str, &str); 1] = [("enable", "true")];

    #[test]
    fn a_label_that_finds_nothing_is_an_error() {
        let check = |app: Service| ensure_enabled_is_served(&survey(vec![(app, &[])]), &[], &[]);
        let bare = || service("app", &[], &ENABLED);
        assert_snapshot!(check(bare()).unwrap_err(), @"container app: label `cofferdam.enable` is `true`, but there is nothing to save: no database server runs in it, and it has no volume or writable bind mount to save; name what to save, such as `cofferdam.files.<name>: /path`, or remove this label");
        let skipped = [
            ENABLED[0],
            ("volumes.skip", "cache"),
            ("binds.skip", "/tmp2"),
        ];
        let skipped = bound(
            service("app", &["cache:/cache"], &skipped),
            &["/host:/tmp2"],
        );
        assert!(check(skipped).is_err());
        assert_eq!(check(service("app", &[], &[])), Ok(Unserved::default()));

        let mut stopped = bare();
        stopped.container.state = State::Exited;
        let failures = |app: Service| check(app).expect("no error of the label").failures;
        assert_eq!(
            failures(stopped).remove(0).target.to_string(),
            "app/files/%2A"
        );
        let mut paused = bare();
        paused.container.state = State::Paused;
        let reason = failures(paused).remove(0).reason;
        assert!(reason.ends_with("docker unpause app"), "{reason}");
    }

    #[test]
    fn what_has_done_its_work_and_keeps_nothing_does_not_fail_a_run() {
        let ended = |code: i64, binds: &[&str]| {
            let labels = [ENABLED[0], ("binds.skip", "/code")];
            let mut app = bound(service("migrate", &[], &labels[..=binds.len()]), binds);
            app.container.state = State::Exited;
            let at = jiff::Timestamp::UNIX_EPOCH;
            app.container.exit = Some(Exit { code, at });
            let unserved = ensure_enabled_is_served(&survey(vec![(app, &[])]), &[], &[]);
            let unserved = unserved.expect("no error of the label");
            (unserved.failures.len(), unserved.warnings.len())
        };
        assert_eq!(ended(0, &[]), (0, 1));
        assert_eq!(ended(1, &[]), (1, 0));
        assert_eq!(ended(0, &["/host/code:/code"]), (1, 0));
    }

    #[test]
    fn what_is_saved_as_anothers_is_something() {
        let one = bound(service("one", &[], &ENABLED), &["/host/data:/data"]);
        let two = bound(service("two", &[], &ENABLED), &["/host/data/part:/part"]);
        let survey = survey(vec![(one, &[]), (two, &[])]);
        assert_eq!(survey.paths.keys().collect::<Vec<_>>(), ["one"]);
        let target = PlannedTarget {
            id: TargetId::new("one", DriverKind::Files, "/data"),
            container: "one".to_owned(),
            what: String::new(),
        };
        let served = ensure_enabled_is_served(&survey, &[target], &[]);
        assert_eq!(served, Ok(Unserved::default()));
    }
}
