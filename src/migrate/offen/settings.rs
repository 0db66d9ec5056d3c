//! The variables of its container, as its configuration reference has them.

use super::{CONFIGURATIONS, stores};
use crate::encryption::Recipients;
use crate::engine::container::is_within;
use crate::migrate::RemarkKind::{Differs, ToDo};
use crate::migrate::Sidecar;
use crate::migrate::draft::Draft;
use crate::migrate::instance::Instance;
use crate::migrate::settings::{Letters, Settings};

/// What its variables begin with.
const PREFIXES: [&str; 15] = [
    "AGE_",
    "AWS_",
    "AZURE_",
    "BACKUP_",
    "DOCKER_",
    "DROPBOX_",
    "EMAIL_",
    "EXEC_",
    "GOOGLE_DRIVE_",
    "GPG_",
    "GZIP_",
    "LOCK_",
    "NOTIFICATION_",
    "SSH_",
    "WEBDAV_",
];

pub(super) fn read<'a>(draft: &mut Draft<'a>, instances: &'a [Instance<'a>]) {
    let Some((first, others)) = instances.split_first() else {
        let text = "no container of offen/docker-volume-backup is there to read settings from: what it archives, and where it \
                    puts that, is not known";
        draft.remark(ToDo, "cofferdam", "", text);
        draft.sidecar = Sidecar::plain();
        return;
    };
    for instance in instances {
        peculiarities(draft, instance);
    }
    for other in others {
        differences(draft, first, other);
    }
    let mut settings = Settings::new(draft, first);
    settings.engine();
    settings.time_zone();
    settings.schedule("BACKUP_CRON_EXPRESSION", "@daily");
    stores::read(&mut settings);
    compression(&mut settings);
    encryption(&mut settings);
    notification(&mut settings);
    // Read with the labels and mounts.
    for name in [
        "BACKUP_SOURCES",
        "BACKUP_EXCLUDE_REGEXP",
        "BACKUP_STOP_DURING_BACKUP_LABEL",
        "BACKUP_STOP_CONTAINER_LABEL",
        "EXEC_LABEL",
    ] {
        settings.take(name);
    }
    let is_theirs = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    settings.finish(is_theirs, reason);
}

fn reason(name: &str) -> Option<&'static str> {
    Some(match name {
        "BACKUP_FILENAME" | "BACKUP_FILENAME_EXPAND" => {
            "snapshots have names of their own; `cofferdam export` writes archives to where you want them"
        }
        "BACKUP_LATEST_SYMLINK" => "the newest snapshot is called `latest` in every command",
        "BACKUP_PRUNING_LEEWAY" | "BACKUP_PRUNING_PREFIX" => {
            "cofferdam removes only snapshots of its own, and counts them from the newest"
        }
        "BACKUP_FROM_SNAPSHOT" => {
            "volumes are read where they are: `cofferdam.stop` or `cofferdam.pause` keep them still"
        }
        "BACKUP_STOP_SERVICE_TIMEOUT" => {
            "services of a swarm get their own `stop_grace_period`, and two minutes more"
        }
        "GZIP_PARALLELISM" => "cofferdam compresses on all cores",
        "EXEC_FORWARD_OUTPUT" => "what a hook prints is shown when it fails",
        "LOCK_TIMEOUT" => "a run does not wait for another one: it ends with exit code 5",
        "AWS_IAM_ROLE_ENDPOINT" => "roles of a machine or a container task are found without it",
        "AWS_ENDPOINT_INSECURE" | "WEBDAV_URL_INSECURE" => {
            "certificates are always verified: name that of the server's authority with `ca-file=` in the URL"
        }
        "AZURE_STORAGE_CONNECTION_STRING" => {
            "give the account's key, as AZURE_STORAGE_ACCOUNT_KEY_FILE"
        }
        "AZURE_STORAGE_ACCESS_TIER" => "the account's default tier is used",
        name if name.starts_with("DROPBOX_") => {
            "there is no store for Dropbox; `rclone serve webdav` makes one"
        }
        name if name.starts_with("GOOGLE_DRIVE_") => {
            "there is no store for Google Drive (`gs://` is Google Cloud Storage); `rclone serve webdav` makes one"
        }
        _ => return None,
    })
}

/// What is to be known of an instance beside its variables.
fn peculiarities(draft: &mut Draft<'_>, instance: &Instance<'_>) {
    if let Some(project) = instance.elsewhere {
        let text = format!(
            "it runs in project {project}: only what it archives of this project is looked at"
        );
        draft.remark(Differs, instance.service(), "", text);
    }
    let mut mounts = instance.container.mounts.iter();
    if mounts.any(|mount| is_within(&mount.destination, CONFIGURATIONS)) {
        let text = format!(
            "the files in {CONFIGURATIONS} are not read here: take their settings over by hand"
        );
        draft.remark(ToDo, instance.service(), "", text);
    }
}

/// One sidecar takes the place of all instances.
fn differences(draft: &mut Draft<'_>, first: &Instance<'_>, other: &Instance<'_>) {
    let is_theirs = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let names: Vec<&str> = (other.container.env.keys())
        .map(String::as_str)
        .filter(|name| is_theirs(name) && other.variable(name) != first.variable(name))
        .collect();
    if names.is_empty() {
        return;
    }
    let text = format!(
        "one sidecar takes the place of all backup containers, and has the settings of {}; here these differ: {}. Targets can be \
         backed up by themselves, as `backup 'app/*'`, and `cofferdam.keep` gives a service rules of its own",
        first.service(),
        names.join(", ")
    );
    draft.remark(ToDo, other.service(), "", text);
}

/// Patterns of what an instance leaves out, where they can be told.
pub(super) fn exclusions(draft: &mut Draft<'_>, instance: &Instance<'_>) -> Vec<String> {
    let name = "BACKUP_EXCLUDE_REGEXP";
    let Some(expression) = instance.variable(name) else {
        return Vec::new();
    };
    match ending(expression) {
        Some(ending) => vec![format!("*.{ending}")],
        None => {
            let text = format!(
                "write the regular expression `{expression}` as patterns (docs/labels.md#patterns), in \
                 `cofferdam.volumes.<name>.exclude` or `cofferdam.files.<name>.exclude`"
            );
            draft.remark(ToDo, instance.service(), name, text);
            Vec::new()
        }
    }
}

/// `log`, of `\.log$`.
fn ending(expression: &str) -> Option<&str> {
    let ending = expression.strip_prefix(r"\.")?.strip_suffix('$')?;
    let is_plain = ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_plain && !ending.is_empty()).then_some(ending)
}

fn compression(settings: &mut Settings<'_, '_>) {
    let name = "BACKUP_COMPRESSION";
    match settings.take(name) {
        None => {}
        Some("gz") => settings.set("COFFERDAM_COMPRESSION", "gzip"),
        Some("zst") => settings.set("COFFERDAM_COMPRESSION", "zstd"),
        Some("none") => settings.set("COFFERDAM_COMPRESSION", "none"),
        Some(_) => settings.lost(name, "it is none of `gz`, `zst` and `none`"),
    }
}

/// What was encrypted stays encrypted: where keys cannot be taken over, a file is asked for, and no backup runs without it.
fn encryption(settings: &mut Settings<'_, '_>) {
    let passphrase = "COFFERDAM_PASSPHRASE";
    if settings.move_secret(passphrase, "GPG_PASSPHRASE") {
        let text = "snapshots are encrypted with age instead of GPG, with the same passphrase; old archives need `gpg` as before";
        settings.differs("GPG_PASSPHRASE", text);
        return;
    }
    if settings.move_secret(passphrase, "AGE_PASSPHRASE") {
        return;
    }
    let ring = ["GPG_PUBLIC_KEY_RING", "GPG_PUBLIC_KEY_RING_FILE"];
    if let Some(name) = ring.into_iter().find(|name| settings.take(name).is_some()) {
        let file = settings.new_secret("COFFERDAM_RECIPIENTS");
        let text = format!(
            "snapshots are encrypted with age instead of GPG: make a key with `age-keygen -o key.txt`, keep it where it is safe, and \
             write its public key into {file}"
        );
        return settings.task(name, text);
    }
    let name = "AGE_PUBLIC_KEYS";
    match settings
        .take(name)
        .map(|keys| (keys, Recipients::parse(keys)))
    {
        None => {
            if let Some(path) = settings.take("AGE_PUBLIC_KEYS_FILE") {
                settings.set("COFFERDAM_RECIPIENTS_FILE", path);
                settings.carry(path, "AGE_PUBLIC_KEYS_FILE");
            }
        }
        Some((keys, Ok(_))) => settings.set("COFFERDAM_RECIPIENTS", keys),
        Some((_, Err(bad))) => {
            let file = settings.new_secret("COFFERDAM_RECIPIENTS");
            settings.task(name, format!("it {bad}; write the recipients into {file}"));
        }
    }
}

fn notification(settings: &mut Settings<'_, '_>) {
    settings.move_secret("COFFERDAM_NOTIFY", "NOTIFICATION_URLS");
    match settings.take("NOTIFICATION_LEVEL") {
        None | Some("error") => {}
        // It told of backups that went well, too.
        Some(_) => settings.set("COFFERDAM_NOTIFY_ON", "failure,recovery,stale,success"),
    }
    let Some(to) = settings.take("EMAIL_NOTIFICATION_RECIPIENT") else {
        return;
    };
    match settings.take("EMAIL_SMTP_HOST") {
        None => settings.task(
            "EMAIL_NOTIFICATION_RECIPIENT",
            "no mail server is named: write it as COFFERDAM_SMTP_URL",
        ),
        Some(host) => {
            let letters = Letters {
                to,
                from: settings
                    .take("EMAIL_NOTIFICATION_SENDER")
                    .unwrap_or("noreply@nohost"),
                host,
                port: settings.take("EMAIL_SMTP_PORT").unwrap_or("587"),
                user: settings.take("EMAIL_SMTP_USERNAME"),
                password: "EMAIL_SMTP_PASSWORD",
            };
            settings.mail(letters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_is_a_pattern() {
        for (expression, expected) in [
            (r"\.log$", Some("log")),
            (r"\.$", None),
            (r".log$", None),
            (r"\.log", None),
            (r"\.(log|tmp)$", None),
            (r"node_modules", None),
        ] {
            assert_eq!(ending(expression), expected, "{expression}");
        }
    }
}
