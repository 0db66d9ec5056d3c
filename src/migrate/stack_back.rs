//! stack-back, and restic-compose-backup, of which it is a continuation: labels say whose mounts are archived and whose databases
//! are dumped, into a repository of restic.

mod hooks;
mod restic;
mod settings;

use super::RemarkKind::{Differs, Lost, ToDo};
use super::draft::Draft;
use super::instance::Instance;
use crate::discover::Service;
use crate::engine::{Mount, MountKind};
use crate::store::Store;

/// The labels that name a database, and its server.
const DATABASES: [(&str, Store); 3] = [
    ("postgres", Store::Postgres),
    ("mysql", Store::Mysql),
    ("mariadb", Store::Mysql),
];

const SWITCHES: [&str; 5] = [
    "mariadb",
    "mysql",
    "postgres",
    "volumes",
    "volumes.stop-during-backup",
];
const FILTERS: [&str; 2] = ["volumes.include", "volumes.exclude"];

/// What the instance says of all containers.
#[derive(Default)]
struct Defaults {
    /// Containers without labels, too.
    takes_all: bool,
    leaves_binds: bool,
}

/// `prefix` is what its labels begin with.
pub(super) fn read<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>], prefix: &str) {
    let defaults = settings::read(draft, instances);
    for service in draft.services.clone() {
        labels(draft, service, prefix, &defaults);
    }
    for instance in instances {
        own_labels(draft, instance, prefix);
    }
    hooks::read(draft, instances, prefix);
}

fn own_labels(draft: &mut Draft<'_>, instance: &Instance<'_>, prefix: &str) {
    for key in instance.container.labels.keys() {
        let Some(name) = key.strip_prefix(prefix) else {
            continue;
        };
        if name.starts_with("order") {
            let text =
                "targets have no order: `cofferdam.stop: backup` makes all of them of one moment";
            draft.remark(Lost, instance.service(), key, text);
        } else if !hooks::is_hook(name) {
            let text =
                "the label is on the backup container itself, which cofferdam takes the place of";
            draft.remark(Lost, instance.service(), key, text);
        }
    }
}

fn labels<'a>(draft: &mut Draft<'a>, service: &'a Service, prefix: &str, defaults: &Defaults) {
    remarks(draft, service, prefix);
    let says = |name: &str| {
        let labels = &service.container.labels;
        labels.get(&format!("{prefix}{name}")).map(String::as_str)
    };
    for (name, store) in DATABASES {
        let is_denied = says(name).is_some() || denies(service, prefix, store);
        let mut stores = draft.survey.stores_of(&service.name);
        let is_taken = defaults.takes_all && !is_denied && stores.any(|it| it == store);
        if is_true(says(name)) || is_taken {
            draft.takes_databases(service, store, &format!("{prefix}{name}"));
        }
    }
    let takes_volumes = match says("volumes") {
        None => defaults.takes_all,
        asked => is_true(asked),
    };
    if takes_volumes {
        volumes(draft, service, prefix, defaults);
    }
    let stop = "volumes.stop-during-backup";
    if is_true(says(stop)) {
        draft.asked(service).stop = Some(format!("{prefix}{stop}"));
    }
    let mut labels = service.container.labels.iter();
    let denied = labels.find(|(key, value)| key.starts_with(prefix) && is_false(value));
    let asked = draft.asked(service);
    if let Some((key, _)) = denied.filter(|_| !asked.saves_something()) {
        let reason = format!("left out by {key}");
        asked.labels.insert("cofferdam.skip".to_owned(), reason);
    }
}

/// What has no equivalent, or no effect.
fn remarks(draft: &mut Draft<'_>, service: &Service, prefix: &str) {
    for (key, value) in &service.container.labels {
        let Some(name) = key.strip_prefix(prefix) else {
            continue;
        };
        let is_switch = SWITCHES.contains(&name);
        if name == "minecraft" {
            let text = "save its volume, with `cofferdam.hook.before-backup: rcon-cli save-off` and \
                        `cofferdam.hook.after-backup: rcon-cli save-on` around it";
            draft.remark(ToDo, &service.name, key, text);
        } else if is_switch && !is_true(Some(value)) && !is_false(value) {
            let text = "it is neither `true` nor `false`, and had no effect";
            draft.remark(Lost, &service.name, key, text);
        } else if !is_switch && !FILTERS.contains(&name) && !hooks::is_hook(name) {
            draft.remark(Lost, &service.name, key, "it has no equivalent");
        }
    }
}

/// Whether a label for this kind of server says no.
fn denies(service: &Service, prefix: &str, store: Store) -> bool {
    let mut names = DATABASES.iter().filter(|(_, it)| *it == store);
    names.any(|(name, _)| {
        let value = service.container.labels.get(&format!("{prefix}{name}"));
        value.is_some_and(|value| is_false(value))
    })
}

fn volumes<'a>(draft: &mut Draft<'a>, service: &'a Service, prefix: &str, defaults: &Defaults) {
    let labels = &service.container.labels;
    let filter = |name: &str| {
        let value = labels.get(&format!("{prefix}{name}"))?.trim();
        (!value.is_empty()).then(|| value.split(',').collect::<Vec<_>>())
    };
    let (include, exclude) = (filter("volumes.include"), filter("volumes.exclude"));
    // It looks for the words anywhere in the source, and at the second list only without the first.
    let is_wanted = |mount: &Mount| match (&include, &exclude) {
        (Some(words), _) => words.iter().any(|word| mount.source.contains(word)),
        (None, Some(words)) => !words.iter().any(|word| mount.source.contains(word)),
        (None, None) => true,
    };
    let by = format!("{prefix}volumes");
    let mut left_out = false;
    for mount in &service.container.mounts {
        let is_left = mount.kind == MountKind::Bind && defaults.leaves_binds;
        if is_left || !is_wanted(mount) {
            left_out |= mount.kind == MountKind::Volume;
            continue;
        }
        draft.take(service, mount, &by);
    }
    if include.is_some() && exclude.is_some() {
        let text = "it had no effect beside the label that includes";
        draft.remark(
            Differs,
            &service.name,
            &format!("{prefix}volumes.exclude"),
            text,
        );
    }
    let asked = draft.asked(service);
    asked.every_volume = !left_out && asked.databases.is_empty() && include.is_none();
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

fn is_false(value: &str) -> bool {
    value == "0" || value.eq_ignore_ascii_case("false")
}
