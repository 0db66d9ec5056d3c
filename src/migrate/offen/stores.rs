//! Where its archives go, and how long they stay.

use crate::migrate::place::Place;
use crate::migrate::settings::Settings;

/// Any number of places, the directory first: what is there is read fastest.
pub(super) fn read(settings: &mut Settings<'_, '_>) {
    let spared = settings
        .take("BACKUP_SKIP_BACKENDS_FROM_PRUNE")
        .unwrap_or_default();
    let spared: Vec<String> = spared
        .split(',')
        .map(|kind| kind.trim().to_lowercase())
        .collect();
    let is_pruned = |kind: &str| !spared.iter().any(|spared| spared == kind);

    let archive = settings.take("BACKUP_ARCHIVE").unwrap_or("/archive");
    if let Some(directory) = settings.directory(archive) {
        settings.add_url("local", is_pruned("local"), directory);
    }
    s3(settings, is_pruned("s3"));
    webdav(settings, is_pruned("webdav"));
    ssh(settings, is_pruned("ssh"));
    azure(settings, is_pruned("azure"));
    let keep = keep(settings);
    settings.finish_places(keep);
}

fn s3(settings: &mut Settings<'_, '_>, is_pruned: bool) {
    let name = "AWS_S3_BUCKET_NAME";
    let Some(bucket) = settings.take(name) else {
        return;
    };
    let path = settings.take("AWS_S3_PATH").unwrap_or_default();
    let mut place = Place::new("s3", bucket, path);
    let protocol = settings.take("AWS_ENDPOINT_PROTO").unwrap_or("https");
    let endpoint = settings
        .take("AWS_ENDPOINT")
        .filter(|host| *host != "s3.amazonaws.com");
    if let Some(host) = endpoint {
        place.option("endpoint", format!("{protocol}://{host}"));
    }
    if let Some(certificate) = settings.take("AWS_ENDPOINT_CA_CERT") {
        if certificate.starts_with('/') {
            settings.carry(certificate, "AWS_ENDPOINT_CA_CERT");
            place.option("ca-file", certificate);
        } else {
            let file = settings.new_secret_file("s3_ca");
            place.option("ca-file", "/run/secrets/s3_ca");
            settings.task(
                "AWS_ENDPOINT_CA_CERT",
                format!("put the certificate into the file {file}"),
            );
        }
    }
    if let Some(class) = settings.take("AWS_STORAGE_CLASS") {
        place.option("storage-class", class);
        let text =
            "a restore cannot read what has to be thawed first, as of GLACIER and DEEP_ARCHIVE";
        settings.task("AWS_STORAGE_CLASS", text);
    }
    if let Some(size) = settings.take("AWS_PART_SIZE") {
        place.option("part-size", format!("{size}MiB"));
    }
    let text =
        "the region is us-east-1: where the bucket lies in another one, add `region=` to the URL";
    settings.task(name, text);
    settings.move_secret("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID");
    settings.move_secret("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY");
    settings.add_place("s3", is_pruned, &place, name);
}

fn webdav(settings: &mut Settings<'_, '_>, is_pruned: bool) {
    let name = "WEBDAV_URL";
    let Some(url) = settings.take(name) else {
        return;
    };
    let below = settings.take("WEBDAV_PATH").unwrap_or_default();
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => ("webdav+http", rest),
        Some((_, rest)) => ("webdav+https", rest),
        None => ("webdav+https", url),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let place = Place::new(scheme, host, &format!("{path}/{below}"));
    settings.move_secret("WEBDAV_USER", "WEBDAV_USERNAME");
    settings.move_secret("WEBDAV_PASSWORD", "WEBDAV_PASSWORD");
    settings.add_place("webdav", is_pruned, &place, name);
}

fn ssh(settings: &mut Settings<'_, '_>, is_pruned: bool) {
    let name = "SSH_HOST_NAME";
    let Some(host) = settings.take(name) else {
        return;
    };
    let path = settings.take("SSH_REMOTE_PATH").unwrap_or_default();
    let home = if path.starts_with('/') { "" } else { "~/" };
    let user = settings.take("SSH_USER").map(|user| format!("{user}@"));
    let port = settings.take("SSH_PORT").filter(|port| *port != "22");
    let port = port.map(|port| format!(":{port}"));
    let authority = format!(
        "{}{host}{}",
        user.unwrap_or_default(),
        port.unwrap_or_default()
    );
    let mut place = Place::new("sftp", authority, &format!("{home}{path}"));
    let key = settings
        .take("SSH_IDENTITY_FILE")
        .unwrap_or("/root/.ssh/id_rsa");
    if settings.instance.container.mount_of(key).is_some() {
        settings.carry(key, "SSH_IDENTITY_FILE");
        place.option("key-file", key);
        let text = "the key has to be an ed25519 or ECDSA key of OpenSSH, without a passphrase: RSA is not spoken \
                    (docs/stores.md#sftp)";
        settings.task("SSH_IDENTITY_FILE", text);
    }
    for name in ["SSH_IDENTITY_PASSPHRASE", "SSH_IDENTITY_PASSPHRASE_FILE"] {
        if settings.take(name).is_some() {
            let text = "nobody is there to type it: `ssh-keygen -p -N '' -f FILE` takes it off, or make another key";
            settings.task(name, text);
        }
    }
    place.option("known-hosts", "/run/secrets/known_hosts");
    let file = settings.new_secret_file("known_hosts");
    let text = format!(
        "write the server's keys, which were not looked at so far, into {file} (docs/stores.md#sftp)"
    );
    settings.task(name, text);
    settings.move_secret("SFTP_PASSWORD", "SSH_PASSWORD");
    settings.add_place("ssh", is_pruned, &place, name);
}

fn azure(settings: &mut Settings<'_, '_>, is_pruned: bool) {
    let name = "AZURE_STORAGE_CONTAINER_NAME";
    let Some(container) = settings.take(name) else {
        return;
    };
    let path = settings.take("AZURE_STORAGE_PATH").unwrap_or_default();
    let mut place = Place::new("az", container, path);
    let account = settings.take("AZURE_STORAGE_ACCOUNT_NAME");
    if let Some(account) = account {
        place.option("account", account);
    }
    if let Some(endpoint) = settings.take("AZURE_STORAGE_ENDPOINT") {
        let endpoint = endpoint.replace("{{ .AccountName }}", account.unwrap_or_default());
        place.option("endpoint", endpoint);
    }
    settings.move_secret(
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_PRIMARY_ACCOUNT_KEY",
    );
    settings.add_place("azure", is_pruned, &place, name);
}

/// Rules of retention, and the variable that they come from.
fn keep(settings: &mut Settings<'_, '_>) -> Option<(String, &'static str)> {
    let name = "BACKUP_RETENTION_PERIOD";
    if let Some(period) = settings.take(name) {
        return Some((format!("within={period}"), name));
    }
    let name = "BACKUP_RETENTION_DAYS";
    match settings.take(name)?.parse::<i32>() {
        Ok(days) if days < 0 => None,
        // The backup that has just been made stays there, too.
        Ok(0) => Some(("last=1".to_owned(), name)),
        Ok(days) => Some((format!("within={days}d"), name)),
        Err(_) => {
            settings.task(name, "it is no number of days");
            None
        }
    }
}
