//! What must not lie in each other: targets and Cofferdam's own repositories, and two targets of one restore. Pure.

use super::PlanError;
use crate::engine::Mount;
use crate::labels::files_name;
use crate::stack::survey::Survey;
use crate::stack::{Service, is_left_out, labels_but_for, patterns_of, repositories_at};
use crate::target::{DriverKind, TargetId};

/// A target and where its files lie, as its container sees them, links resolved.
pub type Placed<'a> = (&'a TargetId, &'a str);

/// Cofferdam neither saves nor replaces its own repositories.
pub fn ensure_repository_is_apart(
    survey: &Survey,
    (target, path): Placed<'_>,
) -> Result<(), PlanError> {
    let Some(service) = service_of(survey, target) else {
        return Ok(());
    };
    let place = service.container.place_of(path);
    let patterns = exclude(survey, service, target);
    let mut repositories = repositories_at(&survey.repositories, &service.container, path);
    match repositories.find(|repository| !is_left_out(patterns, &place, repository)) {
        None => Ok(()),
        Some(repository) => Err(PlanError::HoldsRepository {
            target: target.clone(),
            mend: how_to_leave_out(service, target, path, &place, repository),
        }),
    }
}

/// What to type so that the rest is saved.
fn how_to_leave_out(
    service: &Service,
    target: &TargetId,
    path: &str,
    place: &str,
    repository: &str,
) -> String {
    let patterns = patterns_of(place, [&repository.to_owned()]);
    let Some(pattern) = patterns.first() else {
        return "remove the target from the labels".to_owned();
    };
    let is_label = |name: &str| service.labels.files.contains_key(name);
    let name = &target.name;
    let labels = match target.driver {
        DriverKind::Volume => format!("add `cofferdam.volumes.{name}.exclude: {pattern}`"),
        _ if is_label(name) => format!("add `cofferdam.files.{name}.exclude: {pattern}`"),
        _ => {
            let [files, exclude] = labels_but_for(&files_name(path, is_label), path, &patterns);
            format!("label it `{files}` and `{exclude}` instead")
        }
    };
    format!("to save the rest, {labels}; or remove the target from the labels")
}

/// What is to be put back waits at the root of its own mount. Where that lies in another target, it would go with what that one
/// replaces.
pub fn ensure_none_waits_in_another(
    survey: &Survey,
    targets: &[Placed<'_>],
) -> Result<(), PlanError> {
    for (inner, path) in targets {
        let mount = service_of(survey, inner).and_then(|it| it.container.mount_of(path));
        let Some(root) = mount.map(Mount::root) else {
            continue;
        };
        let outer = targets.iter().find(|(outer, path)| {
            service_of(survey, outer).is_some_and(|service| {
                let container = &service.container;
                container.place_of(path) != root && container.holds(path, &root)
            })
        });
        if let Some((outer, _)) = outer {
            return Err(PlanError::Nested {
                inner: (*inner).clone(),
                outer: (*outer).clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn service_of<'a>(survey: &'a Survey, target: &TargetId) -> Option<&'a Service> {
    let mut services = survey.stack.services.iter();
    services.find(|service| service.name == target.service)
}

/// The patterns of what labels leave out of a target.
pub(super) fn left_out_of<'a>(survey: &'a Survey, target: &TargetId) -> &'a [String] {
    service_of(survey, target).map_or(&[], |service| exclude(survey, service, target))
}

fn exclude<'a>(survey: &'a Survey, service: &'a Service, target: &TargetId) -> &'a [String] {
    let options = match target.driver {
        DriverKind::Volume => {
            let mut volumes = survey.volumes.get(&service.name).into_iter().flatten();
            let wanted = volumes.find(|wanted| wanted.volume.name == target.name);
            wanted.map(|wanted| &wanted.options)
        }
        DriverKind::Files => {
            let files = service.labels.files.get(&target.name);
            files.map(|files| &files.options)
        }
        _ => None,
    };
    options.map_or(&[], |options| &options.exclude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::restore::RestorePlan;
    use crate::plan::tests_support::{bound, service, survey};
    use crate::stack::servers::Store;
    use crate::stack::survey::StoreAtWork;
    use crate::target::RunId;

    #[test]
    fn a_repository_is_refused_wherever_it_lies_but_for_what_is_left_out() {
        let check = |repository: &str, mounts: &[&str], labels: &[(&str, &str)]| {
            let app = bound(service("app", &["other:/srv/mounted"], labels), mounts);
            let mut survey = survey(vec![(app, &[])]);
            survey.repositories = vec![repository.to_owned()];
            let target: TargetId = "app/files/srv".parse().unwrap();
            ensure_repository_is_apart(&survey, (&target, "/srv")).is_ok()
        };
        let files = ("files.srv", "/srv");
        let mounts = ["/host/srv:/srv"];
        for (repository, is_good) in [
            ("/host/srv", false),
            ("/host/srv/backups", false),
            ("/host", false),
            ("/host/srv2", true),
            ("/elsewhere", true),
            // Another mount hides it in the container, and in no helper.
            ("/host/srv/mounted", false),
        ] {
            assert_eq!(
                check(repository, &mounts, &[files]),
                is_good,
                "{repository}"
            );
        }
        for (exclude, is_good) in [
            ("/backups", true),
            ("backups/", true),
            ("/a,/backups/", true),
            ("/backups/*", false),
            ("/other", false),
        ] {
            let labels = [files, ("files.srv.exclude", exclude)];
            let good = check("/host/srv/backups", &mounts, &labels);
            assert_eq!(good, is_good, "{exclude}");
        }
        let whole = [files, ("files.srv.exclude", "srv")];
        assert!(!check("/host/srv", &mounts, &whole));
    }

    #[test]
    fn two_targets_of_one_restore_do_not_lie_in_each_other() {
        let check = |mounts: &[&str], paths: [&str; 2]| {
            let app = bound(service("app", &[], &[]), mounts);
            let survey = survey(vec![(app, &[])]);
            let ids = ["app/files/a", "app/files/b"].map(|id| id.parse::<TargetId>().unwrap());
            let placed: Vec<Placed<'_>> = ids.iter().zip(paths).collect();
            ensure_none_waits_in_another(&survey, &placed)
        };
        let elsewhere = ["/host/srv:/srv", "/host/srv/data:/data"];
        for paths in [["/srv", "/data"], ["/data/part", "/srv"]] {
            let refused = check(&elsewhere, paths);
            assert!(
                matches!(refused, Err(PlanError::Nested { .. })),
                "{paths:?}"
            );
        }
        assert!(check(&elsewhere, ["/srv/other", "/data"]).is_ok());
        // Both wait at the root of one mount, where each knows the other.
        assert!(check(&elsewhere, ["/srv", "/srv/part"]).is_ok());
        // A mount below a tree is no part of it.
        let below = ["/host/srv:/srv", "/host/srv/data:/srv/data"];
        assert!(check(&below, ["/srv", "/srv/data"]).is_ok());
    }

    #[test]
    fn a_server_may_run_in_what_labels_leave_out() {
        let check = |labels: &[(&str, &str)]| {
            let app = bound(service("app", &[], labels), &["/host/srv:/srv"]);
            let running = StoreAtWork {
                container: app.container.clone(),
                store: Store::Postgres,
                directories: vec!["/srv/pg".to_owned(), "/usual".to_owned()],
            };
            let plan = RestorePlan {
                project: "shop".to_owned(),
                snapshot: RunId::generate(jiff::Timestamp::now()),
                targets: Vec::new(),
                holds: Vec::new(),
                hooks: Vec::new(),
                missing: Vec::new(),
                warnings: Vec::new(),
            };
            let places = [("app/files/srv".parse().unwrap(), "/host/srv".to_owned())];
            let survey = survey(vec![(app, &[])]);
            plan.ensure_stores_rest(&survey, &places, &[running])
                .is_ok()
        };
        let files = ("files.srv", "/srv");
        assert!(!check(&[files]));
        assert!(!check(&[files, ("files.srv.exclude", "/pg/pg_wal")]));
        assert!(check(&[files, ("files.srv.exclude", "/pg")]));
    }
}
