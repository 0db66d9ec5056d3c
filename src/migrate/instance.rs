//! The other tool's own container, which holds its settings.

use std::collections::BTreeSet;

use super::Origin;
use crate::engine::container::is_within;
use crate::engine::{Container, Mount};
use crate::survey::Survey;

/// A container of the other tool, whose work includes this project.
pub(super) struct Instance<'a> {
    pub container: &'a Container,
    /// Its project, where that is another one.
    pub elsewhere: Option<&'a str>,
}

impl Instance<'_> {
    pub fn service(&self) -> &str {
        self.container.service()
    }

    /// A variable that is set, and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let value = self.container.env.get(name).map(|value| plain(value));
        value.filter(|value| !value.is_empty())
    }

    /// Where its mounts of the project's data are.
    pub fn sources(&self) -> &str {
        self.variable("BACKUP_SOURCES").unwrap_or("/backup")
    }
}

/// Files of variables are sometimes written with quotes, which older versions of compose take as part of the value.
pub(super) fn plain(value: &str) -> &str {
    let value = value.trim();
    let quoted = |mark| value.strip_prefix(mark)?.strip_suffix(mark);
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

/// Those of the project by name, then those of others.
pub(super) fn find<'a>(
    survey: &'a Survey,
    elsewhere: &'a [Container],
    origin: Origin,
) -> Vec<Instance<'a>> {
    let services = &survey.stack.services;
    let own = services
        .iter()
        .filter(|service| is_instance(&service.container, origin))
        .map(|service| Instance {
            container: &service.container,
            elsewhere: None,
        });
    let others = elsewhere
        .iter()
        .filter(|container| container.project() != survey.stack.project)
        .filter(|container| !container.is_one_off() && is_instance(container, origin))
        .map(|container| Instance {
            container,
            elsewhere: Some(container.project()),
        })
        .filter(|instance| serves(instance, survey, origin));
    own.chain(others).collect()
}

fn is_instance(container: &Container, origin: Origin) -> bool {
    let has = |name: &str| container.env.contains_key(name);
    let is_mounted =
        |place: &str| (container.mounts.iter()).any(|mount| is_within(&mount.destination, place));
    let is_image_of = |name: &str| container.image.contains(name);
    match origin {
        Origin::Offen => {
            let speaks = [
                "BACKUP_CRON_EXPRESSION",
                "BACKUP_SOURCES",
                "BACKUP_FILENAME",
            ];
            is_image_of("docker-volume-backup")
                || (speaks.into_iter().any(has) && is_mounted("/backup"))
        }
        Origin::StackBack | Origin::ResticComposeBackup => {
            let is_process = |key: &String| key.starts_with(&format!("{}process", origin.prefix()));
            let is_named = is_image_of("stack-back") || is_image_of("restic-compose-backup");
            // What it starts for a single run is no instance.
            !container.labels.keys().any(is_process)
                && (is_named || (has("RESTIC_REPOSITORY") && is_mounted("/tmp/docker.sock")))
        }
    }
}

/// Whether an instance of another project works for this one.
fn serves(instance: &Instance<'_>, survey: &Survey, origin: Origin) -> bool {
    match origin {
        Origin::Offen => {
            let mounts = instance.container.mounts.iter();
            let sources: BTreeSet<&str> = mounts
                .filter(|mount| is_within(&mount.destination, instance.sources()))
                .filter_map(identity)
                .collect();
            let services = survey.stack.services.iter();
            let mut mounts = services.flat_map(|service| &service.container.mounts);
            mounts.any(|mount| identity(mount).is_some_and(|it| sources.contains(it)))
        }
        Origin::StackBack | Origin::ResticComposeBackup => {
            let all = instance.variable("INCLUDE_ALL_COMPOSE_PROJECTS");
            all.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
        }
    }
}

/// What is mounted, whoever mounts it.
fn identity(mount: &Mount) -> Option<&str> {
    let source = Some(mount.source.as_str());
    (mount.volume.as_deref().or(source)).filter(|identity| !identity.is_empty())
}
