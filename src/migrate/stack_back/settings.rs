//! The variables of its container, most of them restic's.

use super::Defaults;
use super::restic::Repository;
use crate::migrate::RemarkKind::{Differs, ToDo};
use crate::migrate::Sidecar;
use crate::migrate::draft::Draft;
use crate::migrate::instance::Instance;
use crate::migrate::settings::{Letters, Settings};

/// What its variables begin with.
const PREFIXES: [&str; 20] = [
    "AUTO_BACKUP_",
    "AWS_",
    "AZURE_",
    "B2_",
    "CHECK_WITH_",
    "CRON_",
    "DISCORD_",
    "DOCKER_",
    "EMAIL_",
    "EXCLUDE_BIND_",
    "GOOGLE_",
    "INCLUDE_",
    "KEEP_",
    "LOG_LEVEL",
    "MAINTENANCE_",
    "OS_",
    "RCLONE_",
    "RESTIC_",
    "ST_",
    "SWARM_",
];

/// Names and periods of its retention, and how much it keeps when nothing is said.
const KEPT: [(&str, &str, &str); 4] = [
    ("DAILY", "daily", "7"),
    ("WEEKLY", "weekly", "4"),
    ("MONTHLY", "monthly", "12"),
    ("YEARLY", "yearly", "3"),
];

/// Fills the sidecar.
pub(super) fn read<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>]) -> Defaults {
    let Some((first, others)) = instances.split_first() else {
        let text = "no container of it is there to read settings from: where its repository is, and what it includes of containers \
                    without labels, is not known";
        draft.remark(ToDo, "cofferdam", "", text);
        draft.sidecar = Sidecar::plain();
        return Defaults::default();
    };
    if let Some(project) = first.elsewhere {
        let text = format!("it runs in project {project}, for all projects");
        draft.remark(Differs, first.service(), "", text);
    }
    for other in others {
        let text = format!(
            "the settings are those of {}; this one's are not looked at",
            first.service()
        );
        draft.remark(ToDo, other.service(), "", text);
    }
    let mut settings = Settings::new(draft, first);
    settings.engine();
    settings.time_zone();
    settings.schedule("CRON_SCHEDULE", "0 2 * * *");
    repository(&mut settings);
    password(&mut settings);
    projects(&mut settings);
    log(&mut settings);
    notification(&mut settings);
    let everything = ["AUTO_BACKUP_ALL", "INCLUDE_ALL_VOLUMES"];
    let takes_all = everything
        .map(|name| settings.take_switch(name))
        .contains(&true);
    if takes_all {
        let text = "each service gets labels of its own: one that comes later needs them too, and `cofferdam plan` tells what nothing \
                    saves";
        settings.differs("AUTO_BACKUP_ALL", text);
    }
    let leaves_binds = settings.take_switch("EXCLUDE_BIND_MOUNTS");
    let is_theirs = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    settings.finish(is_theirs, reason);
    Defaults {
        takes_all,
        leaves_binds,
    }
}

fn reason(name: &str) -> Option<&'static str> {
    Some(match name {
        "CRON_COMMAND" | "MAINTENANCE_COMMAND" => {
            "the daemon runs no commands of yours; hooks run in labelled containers"
        }
        "MAINTENANCE_SCHEDULE" => {
            "snapshots are pruned after each backup; `cofferdam verify --read-part today/7` checks them"
        }
        "CHECK_WITH_CACHE" => "there is no cache",
        "INCLUDE_PROJECT_NAME" => "snapshots are kept apart by project in any case",
        "SWARM_MODE" => {
            "a swarm is noticed: make cofferdam a global service, and name a manager for its workers as COFFERDAM_SWARM_MANAGER"
        }
        "RESTIC_PASSWORD_COMMAND" => {
            "let it write the passphrase to a file, and name that as COFFERDAM_PASSPHRASE_FILE"
        }
        "GOOGLE_PROJECT_ID" => "no project has to be named",
        name if name.starts_with("B2_") => {
            "B2 speaks S3: make an application key for that, and name the bucket as `s3://bucket/prefix?endpoint=https://…`"
        }
        name if name.starts_with("RESTIC_") => "there is no restic",
        _ => return None,
    })
}

fn repository(settings: &mut Settings<'_, '_>) {
    let name = "RESTIC_REPOSITORY";
    let repository = settings.take(name).map(Repository::of);
    if repository.is_some() {
        let text =
            "a repository of restic is not read: it stays as it is, for `restic` to restore from";
        settings.differs(name, text);
    }
    match &repository {
        Some(Repository::Directory(path)) => match settings.directory(path) {
            Some(directory) => settings.add_url("local", true, directory),
            None => settings.task(name, format!("nothing is mounted at {path}")),
        },
        Some(Repository::Other(kind)) => {
            let text =
                format!("there is no store for {kind}: (docs/stores.md has those that there are)");
            settings.lost(name, text);
        }
        Some(on_server) => {
            if let Some(mut place) = on_server.place() {
                match on_server {
                    Repository::Sftp { .. } => {
                        place.option("known-hosts", "/run/secrets/known_hosts");
                        place.option("key-file", "/run/secrets/sftp_key");
                        let files =
                            ["known_hosts", "sftp_key"].map(|file| settings.new_secret_file(file));
                        let text = format!(
                            "write the server's keys and your own into {} (docs/stores.md#sftp)",
                            files.join(" and ")
                        );
                        settings.task(name, text);
                    }
                    Repository::Azure { .. } => {
                        if let Some(account) = settings.take("AZURE_ACCOUNT_NAME") {
                            place.option("account", account);
                        }
                    }
                    _ => {}
                }
                settings.add_place("repository", true, &place, name);
            }
        }
        None => {}
    }
    credentials(settings);
    let keep = KEPT.map(|(theirs, ours, default)| {
        let names = [format!("RESTIC_KEEP_{theirs}"), format!("KEEP_{theirs}")];
        let [first, second] = names.map(|name| settings.take(&name));
        format!("{ours}={}", first.or(second).unwrap_or(default))
    });
    settings.finish_places(Some((keep.join(","), "RESTIC_KEEP_DAILY")));
}

fn credentials(settings: &mut Settings<'_, '_>) {
    for (ours, theirs) in [
        ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_SAS_TOKEN", "AZURE_ACCOUNT_SAS"),
    ] {
        settings.move_secret(ours, theirs);
    }
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = settings.take(name) {
            settings.set(name, region);
        }
    }
    let name = "GOOGLE_APPLICATION_CREDENTIALS";
    if let Some(path) = settings.take(name) {
        settings.set(name, path);
        settings.carry(path, name);
    }
}

/// Restic always encrypts.
fn password(settings: &mut Settings<'_, '_>) {
    let name = "RESTIC_PASSWORD";
    if settings.move_secret("COFFERDAM_PASSPHRASE", name) {
        let text = "snapshots are encrypted with age, with this passphrase; with COFFERDAM_RECIPIENTS instead, the machine that makes \
                    backups could not read them";
        settings.differs(name, text);
    } else {
        settings.new_secret("COFFERDAM_PASSPHRASE");
        settings.task(name, "none was found, and restic encrypts: write a passphrase into ./secrets/cofferdam_passphrase");
    }
}

fn projects(settings: &mut Settings<'_, '_>) {
    if settings.take_switch("INCLUDE_ALL_COMPOSE_PROJECTS") {
        settings.set("COFFERDAM_ALL_PROJECTS", "true");
        let text = "one sidecar is enough for all projects: leave it out of the others' files";
        settings.differs("INCLUDE_ALL_COMPOSE_PROJECTS", text);
    }
}

fn log(settings: &mut Settings<'_, '_>) {
    match settings.take("LOG_LEVEL") {
        None | Some("info") => {}
        Some("warning") => settings.set("COFFERDAM_LOG", "warn"),
        Some(level @ ("debug" | "error")) => settings.set("COFFERDAM_LOG", level),
        Some(_) => settings.lost("LOG_LEVEL", "it is no level that there is"),
    }
}

fn notification(settings: &mut Settings<'_, '_>) {
    if settings.move_secret("COFFERDAM_NOTIFY", "DISCORD_WEBHOOK") {
        let text = "of https://discord.com/api/webhooks/ID/TOKEN make `discord://TOKEN@ID` there";
        settings.task("DISCORD_WEBHOOK", text);
    }
    let (host, to) = (settings.take("EMAIL_HOST"), settings.take("EMAIL_SEND_TO"));
    let (port, user) = (
        settings.take("EMAIL_PORT"),
        settings.take("EMAIL_HOST_USER"),
    );
    match (host, port, to, user) {
        (Some(host), Some(port), Some(to), Some(user)) => settings.mail(Letters {
            to,
            from: user,
            host,
            port,
            user: Some(user),
            password: "EMAIL_HOST_PASSWORD",
        }),
        (None, None, None, None) => {}
        _ => {
            let text = "without EMAIL_HOST, EMAIL_PORT, EMAIL_SEND_TO and EMAIL_HOST_USER, all of them, no mail was sent";
            settings.lost("EMAIL_HOST", text);
        }
    }
}
