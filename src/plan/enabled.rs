//! Whether each `cofferdam.enable: true` finds something to save. Pure.

use super::backup::PlannedTarget;
use crate::discover::Service;
use crate::engine::Mount;
use crate::labels::{LabelErrors, LabelProblem, OptIn};
use crate::manifest::Failure;
use crate::survey::Survey;
use crate::target::{DriverKind, TargetId};

const ENABLE: &str = "cofferdam.enable";

/// A label that asks for something, and gets nothing, is a backup that somebody believes to have. `targets`, `unreachable`: of all
/// that labels ask for.
///
/// A container that does not run may have a database that nobody sees: that is a failure of its own, not an error of the label.
pub fn ensure_enabled_is_served(
    survey: &Survey,
    targets: &[PlannedTarget],
    unreachable: &[Failure],
) -> Result<Vec<Failure>, LabelErrors> {
    let mut errors = LabelErrors::default();
    let mut failures = Vec::new();
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
                what: "is `true`, and there is nothing to save: no database server runs in it, and it has no volume or writable bind \
                       mount that is to be saved"
                    .to_owned(),
                hint: Some(
                    "name what is to be saved, as `cofferdam.files.<name>: /path`, or remove it".to_owned(),
                ),
            });
        } else {
            failures.push(Failure {
                target: TargetId::new(&service.name, DriverKind::Files, "*"),
                reason: format!(
                    "container {} {}, and has nothing mounted that could be saved: what `{ENABLE}: true` means there \
                     shows when it runs; {}",
                    service.container.name,
                    service.container.state.told(),
                    service.container.how_to_start()
                ),
            });
        }
    }
    match errors.problems.is_empty() {
        true => Ok(failures),
        false => Err(errors),
    }
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
    use crate::engine::State;
    use crate::plan::tests_support::{bound, service, survey};

    const ENABLED: [(&str, &str); 1] = [("enable", "true")];

    #[test]
    fn a_label_that_finds_nothing_is_an_error() {
        let check = |app: Service| ensure_enabled_is_served(&survey(vec![(app, &[])]), &[], &[]);
        let bare = || service("app", &[], &ENABLED);
        assert_snapshot!(check(bare()).unwrap_err(), @"container app: label `cofferdam.enable` is `true`, and there is nothing to save: no database server runs in it, and it has no volume or writable bind mount that is to be saved; name what is to be saved, as `cofferdam.files.<name>: /path`, or remove it");
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
        assert_eq!(check(service("app", &[], &[])), Ok(Vec::new()));

        let mut stopped = bare();
        stopped.container.state = State::Exited;
        let failures = check(stopped).expect("no error of the label");
        assert_eq!(failures[0].target.to_string(), "app/files/%2A");
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
        assert_eq!(served, Ok(Vec::new()));
    }
}
