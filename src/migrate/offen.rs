//! offen/docker-volume-backup: what its container mounts below `/backup` is archived, and labels say what is stopped and run
//! meanwhile. Its documentation calls the moments of a run archive, process, copy and prune.

mod settings;
mod stores;

use super::RemarkKind::{Differs, Lost, ToDo};
use super::draft::Draft;
use super::instance::Instance;
use crate::discover::Service;
use crate::engine::container::is_within;
use crate::engine::{Mount, MountKind};
use crate::labels::HookPoint;
use crate::store::Store;

const PREFIX: &str = "docker-volume-backup.";
const SOURCES: &str = "BACKUP_SOURCES";
const STOP: &str = "docker-volume-backup.stop-during-backup";
const EXEC_LABEL: &str = "docker-volume-backup.exec-label";

/// Where it looks for settings of further runs.
const CONFIGURATIONS: &str = "/etc/dockervolumebackup/conf.d";

/// What runs before everything else, the present name first.
const BEFORE: [&str; 2] = ["archive-pre", "exec-pre"];
/// What may run when all is done, in this order of preference.
const AFTER: [&str; 5] = [
    "archive-post",
    "exec-post",
    "copy-post",
    "process-post",
    "prune-post",
];
/// Moments that Cofferdam does not have.
const BETWEEN: [&str; 3] = ["process-pre", "copy-pre", "prune-pre"];

/// Programs that dump a database.
const DUMPERS: [(&str, Store); 3] = [
    ("pg_dump", Store::Postgres),
    ("mysqldump", Store::Mysql),
    ("mariadb-dump", Store::Mysql),
];

pub(super) fn read<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>]) {
    for instance in instances {
        sources(draft, instance);
        own_labels(draft, instance);
    }
    for service in draft.services.clone() {
        labels(draft, instances, service);
    }
    settings::read(draft, instances);
}

/// What an instance archives becomes volumes and paths of the services that use them.
fn sources<'a>(draft: &mut Draft<'a>, instance: &'a Instance<'a>) {
    let source = instance.sources().trim_end_matches('/');
    let patterns = settings::exclusions(draft, instance);
    let mut found = false;
    for mount in &instance.container.mounts {
        let below = if is_within(&mount.destination, source) {
            ""
        } else if is_within(source, &mount.destination) {
            &source[mount.destination.trim_end_matches('/').len()..]
        } else {
            continue;
        };
        if matches!(mount.kind, MountKind::Volume | MountKind::Bind) {
            found = true;
            take(draft, instance, mount, below, &patterns);
        }
    }
    if !found {
        let text = format!("nothing is mounted at {source}: it archives nothing of this project");
        draft.remark(ToDo, instance.service(), SOURCES, text);
    }
}

/// Asks for what an instance has at `below` in a mount, wherever services see it.
fn take<'a>(
    draft: &mut Draft<'a>,
    instance: &Instance<'_>,
    mount: &Mount,
    below: &str,
    patterns: &[String],
) {
    let what = mount.volume.as_deref().unwrap_or(&mount.source);
    let seen = draft.seen(mount, below);
    let text = match seen.as_slice() {
        [] => Some(format!(
            "no other container mounts {what}{below}, and cofferdam saves what a container has: let one mount it, and name it \
             there with `cofferdam.volumes` or `cofferdam.files.<name>`"
        )),
        [_] => None,
        parts => {
            let places = parts
                .iter()
                .map(|part| format!("{} of {}", part.path, part.service.name));
            let places: Vec<String> = places.collect();
            let places = places.join(", ");
            Some(format!(
                "of {what}{below} only what services mount is saved: {places}"
            ))
        }
    };
    if let Some(text) = text {
        draft.remark(ToDo, instance.service(), SOURCES, text);
    }
    for seen in seen {
        if seen.path == seen.mount.destination {
            draft.take(seen.service, seen.mount, SOURCES);
        } else {
            draft.take_path(seen.service, &seen.path);
        }
        draft.asked(seen.service).leave_out(patterns);
    }
}

/// Labels on its own container.
fn own_labels(draft: &mut Draft<'_>, instance: &Instance<'_>) {
    let keys = instance.container.labels.keys();
    for key in keys.filter(|key| key.starts_with(PREFIX) && *key != EXEC_LABEL) {
        let text = "the label is on the backup container itself, which cofferdam takes the place of and where nothing of the \
                    kind can be run; COFFERDAM_COPY_TO sends snapshots to other places";
        draft.remark(Lost, instance.service(), key, text);
    }
}

fn labels<'a>(draft: &mut Draft<'a>, instances: &[Instance<'_>], service: &'a Service) {
    let labels = &service.container.labels;
    let is_run = runs_commands(draft, instances, service);
    if is_run {
        hooks(draft, service);
    }
    for (key, value) in labels {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let step = name.strip_suffix(".user").unwrap_or(name);
        let is_hook = [&BEFORE[..], &AFTER, &BETWEEN].concat().contains(&step);
        match name {
            _ if key == STOP => stop(draft, instances, service, value),
            _ if key == EXEC_LABEL || (is_hook && is_run) => {}
            _ if is_hook => {
                let text = "no backup container runs it: EXEC_LABEL has to be what the label exec-label says";
                draft.remark(Lost, &service.name, key, text);
            }
            _ => draft.remark(Lost, &service.name, key, "it has no equivalent"),
        }
    }
}

fn stop<'a>(draft: &mut Draft<'a>, instances: &[Instance<'_>], service: &'a Service, value: &str) {
    let stopped_by = |instance: &Instance<'_>| {
        let names = [
            "BACKUP_STOP_DURING_BACKUP_LABEL",
            "BACKUP_STOP_CONTAINER_LABEL",
        ];
        let label = names.into_iter().find_map(|name| instance.variable(name));
        label.unwrap_or("true") == value
    };
    if instances.iter().any(stopped_by) || (instances.is_empty() && value == "true") {
        draft.asked(service).stop = Some(STOP.to_owned());
    } else {
        let text = format!("no backup container stops what is labelled with `{value}`");
        draft.remark(Lost, &service.name, STOP, text);
    }
}

/// Whether an instance runs the commands of a service: without EXEC_LABEL it runs all.
fn runs_commands(draft: &mut Draft<'_>, instances: &[Instance<'_>], service: &Service) -> bool {
    let label = service.container.labels.get(EXEC_LABEL).map(String::as_str);
    let mut wanted = instances
        .iter()
        .map(|instance| instance.variable("EXEC_LABEL"));
    let is_run = instances.is_empty() || wanted.any(|wanted| wanted.is_none() || wanted == label);
    if label.is_some() && instances.len() > 1 {
        let text = "its commands belong to one of several backup containers; cofferdam's hooks run in every backup";
        draft.remark(Differs, &service.name, EXEC_LABEL, text);
    }
    is_run
}

fn hooks<'a>(draft: &mut Draft<'a>, service: &'a Service) {
    let labels = &service.container.labels;
    let given = |step: &str| {
        let key = format!("{PREFIX}{step}");
        labels.get(&key).map(|command| (key, command.as_str()))
    };
    for step in BETWEEN {
        if let Some((key, _)) = given(step) {
            let text = "there is no such moment: `cofferdam.hook.before-backup` runs before anything is saved, and \
                        `cofferdam.hook.after-backup` when all is done";
            draft.remark(Lost, &service.name, &key, text);
        }
    }
    let mut before = BEFORE.into_iter().filter_map(given);
    let mut after = AFTER.into_iter().filter_map(given);
    let first = before.next();
    let dumped = first
        .as_ref()
        .and_then(|(_, command)| dumped_by(draft, service, command));
    if let (Some(store), Some((key, _))) = (dumped, &first) {
        draft.takes_databases(service, store, key);
        let text = "the command is left out, since the driver dumps the databases: what runs after it is left out too, and the \
                    volume that its dumps were written to need not be saved any more";
        draft.remark(Differs, &service.name, key, text);
        return;
    }
    if let Some((key, command)) = &first {
        hook(draft, service, HookPoint::BeforeBackup, key, command);
    }
    let last = after.next();
    if let Some((key, command)) = &last {
        hook(draft, service, HookPoint::AfterBackup, key, command);
        let text = "`cofferdam.hook.after-backup` runs when everything is running again, also after a backup that failed, and does not \
                    know the path of an archive";
        draft.remark(Differs, &service.name, key, text);
    }
    for (key, _) in before.chain(after) {
        let text = "a container has one hook for a moment, and another label comes first: put both commands into one `sh -c '…'`";
        draft.remark(ToDo, &service.name, &key, text);
    }
}

fn hook<'a>(
    draft: &mut Draft<'a>,
    service: &'a Service,
    point: HookPoint,
    key: &str,
    command: &str,
) {
    draft.hook(service, point, command, key);
    let hook = format!("cofferdam.hook.{point}");
    let user = service.container.labels.get(&format!("{key}.user"));
    let asked = draft.asked(service);
    if let Some(user) = user.filter(|_| asked.labels.contains_key(&hook)) {
        asked.labels.insert(format!("{hook}.user"), user.clone());
    }
}

/// The server of the service itself, when that is what the command dumps.
fn dumped_by(draft: &Draft<'_>, service: &Service, command: &str) -> Option<Store> {
    let named = DUMPERS
        .into_iter()
        .find(|(program, _)| command.contains(program));
    let (_, store) = named?;
    let mut stores = draft.survey.stores_of(&service.name);
    stores.any(|it| it == store).then_some(store)
}
