//! Compose files as offen/docker-volume-backup's documentation has them.

use insta::assert_snapshot;

use super::*;

const IMAGE: &str = "offen/docker-volume-backup:v2";
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock:ro";
pub const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn backup(environment: &[(&str, &str)], mounts: &[&str]) -> Container {
    service(
        "backup",
        IMAGE,
        environment,
        &[mounts, &[SOCKET]].concat(),
        &[],
    )
}

fn stopped(name: &str, mounts: &[&str]) -> Container {
    service(
        name,
        name,
        &[],
        mounts,
        &[("docker-volume-backup.stop-during-backup", "true")],
    )
}

#[test]
fn a_volume_and_a_stop_with_archives_on_disk_and_in_a_bucket() {
    let environment = [
        ("BACKUP_CRON_EXPRESSION", "0 2 * * *"),
        ("BACKUP_RETENTION_DAYS", "7"),
        ("BACKUP_FILENAME", "backup-%Y-%m-%dT%H-%M-%S.tar.gz"),
        ("BACKUP_EXCLUDE_REGEXP", r"\.log$"),
        ("AWS_S3_BUCKET_NAME", "backup-bucket"),
        ("AWS_S3_PATH", "my/backups"),
        ("AWS_ENDPOINT", "minio.example.com"),
        ("AWS_ACCESS_KEY_ID", SECRET),
        (
            "AWS_SECRET_ACCESS_KEY_FILE",
            "/run/secrets/minio_secret_key",
        ),
        (
            "NOTIFICATION_URLS",
            "discord://correct-horse-battery-staple@1",
        ),
        ("AGE_PUBLIC_KEYS", RECIPIENT),
    ];
    let mounts = [
        "data:/backup/my-app-backup:ro",
        "/home/me/backups:/archive",
        "/home/me/minio.txt:/run/secrets/minio_secret_key:ro",
    ];
    let file = printed(
        vec![
            stopped("app", &["data:/srv/data"]),
            backup(&environment, &mounts),
        ],
        Origin::Offen,
    );
    assert_snapshot!(file, @r#"
    # Project shop: what the labels of offen/docker-volume-backup amount to in cofferdam's. Save it
    # beside the compose file, as compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml
    # -f compose.cofferdam.yaml up -d`.
    #
    # To do, or to look at:
    # - backup, AWS_ACCESS_KEY_ID: put its value into the file ./secrets/aws_access_key_id
    # - backup, AWS_S3_BUCKET_NAME: the region is us-east-1: where the bucket lies in another one, add
    #   `region=` to the URL
    # - backup, BACKUP_CRON_EXPRESSION: the service below is not started by `up`, so that you can look
    #   first: take `profiles` out of it, and it backs up by this schedule
    # - backup, NOTIFICATION_URLS: put its value into the file ./secrets/cofferdam_notify
    #
    # Without an equivalent:
    # - backup, BACKUP_FILENAME: snapshots have names of their own; `cofferdam export` writes archives
    #   to where you want them
    services:
      app:
        labels:
          cofferdam.stop: backup,restore
          cofferdam.volumes: data
          cofferdam.volumes.data.exclude: "*.log"
      cofferdam:
        image: cofferdam
        profiles: [backup]
        environment:
          AWS_ACCESS_KEY_ID_FILE: /run/secrets/aws_access_key_id
          AWS_SECRET_ACCESS_KEY_FILE: /run/secrets/minio_secret_key
          COFFERDAM_COPY_KEEP: within=7d
          COFFERDAM_COPY_TO: "s3://backup-bucket/my/backups/cofferdam?endpoint=https://minio.example.com"
          COFFERDAM_KEEP: within=7d
          COFFERDAM_NOTIFY_FILE: /run/secrets/cofferdam_notify
          COFFERDAM_RECIPIENTS: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
          COFFERDAM_REPOSITORY: /backups/cofferdam
          COFFERDAM_SCHEDULE: "0 2 * * *"
        volumes:
          - type: bind
            source: /home/me/backups
            target: /backups
          - type: bind
            source: /home/me/minio.txt
            target: /run/secrets/minio_secret_key
            read_only: true
          - type: bind
            source: /var/run/docker.sock
            target: /var/run/docker.sock
        secrets: [aws_access_key_id, cofferdam_notify]
    secrets:
      aws_access_key_id:
        file: ./secrets/aws_access_key_id
      cofferdam_notify:
        file: ./secrets/cofferdam_notify
    "#);
}

#[test]
fn a_databases_files_become_dumps() {
    let environment = [
        ("POSTGRES_PASSWORD", SECRET),
        ("PGDATA", "/var/lib/postgresql/data"),
    ];
    let stop = [("docker-volume-backup.stop-during-backup", "true")];
    let postgres = service(
        "db",
        "postgres:15",
        &environment,
        &["pg:/var/lib/postgresql/data"],
        &stop,
    );
    let file = printed(
        vec![postgres, backup(&[], &["pg:/backup/pg:ro"])],
        Origin::Offen,
    );
    assert_snapshot!(file, @r#"
    # Project shop: what the labels of offen/docker-volume-backup amount to in cofferdam's. Save it
    # beside the compose file, as compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml
    # -f compose.cofferdam.yaml up -d`.
    #
    # To do, or to look at:
    # - backup: none of its places has an equivalent: snapshots go to the volume cofferdam-backups;
    #   docs/stores.md tells which other places there are
    # - backup, BACKUP_CRON_EXPRESSION: the service below is not started by `up`, so that you can look
    #   first: take `profiles` out of it, and it backs up by this schedule
    #
    # Different from now on:
    # - db, BACKUP_SOURCES: the databases of its PostgreSQL server are dumped, each for itself; files
    #   that a server writes to are no backup
    # - db, docker-volume-backup.stop-during-backup: it is not stopped: its databases are dumped by
    #   their own server, which has to run
    services:
      db:
        labels:
          cofferdam.postgres: "*"
      cofferdam:
        image: cofferdam
        profiles: [backup]
        environment:
          COFFERDAM_REPOSITORY: /backups
          COFFERDAM_SCHEDULE: "@daily"
        volumes:
          - type: volume
            source: cofferdam-backups
            target: /backups
          - type: bind
            source: /var/run/docker.sock
            target: /var/run/docker.sock
    volumes:
      cofferdam-backups: {}
    "#);
}

/// The recipe that dumps by a hook.
#[test]
fn a_dump_that_a_hook_makes_is_made_by_the_driver() {
    let dump = "/bin/sh -c 'mariadb-dump -psecret --all-databases > /tmp/dumps/dump.sql'";
    let labels = [
        ("docker-volume-backup.archive-pre", dump),
        (
            "docker-volume-backup.archive-post",
            "rm /tmp/dumps/dump.sql",
        ),
        ("docker-volume-backup.exec-label", "database"),
    ];
    let environment = [("MARIADB_ROOT_PASSWORD", SECRET)];
    let database = service(
        "database",
        "mariadb:latest",
        &environment,
        &["data:/tmp/dumps"],
        &labels,
    );
    let variables = [("EXEC_LABEL", "database"), ("BACKUP_RETENTION_DAYS", "-1")];
    let migration = migrated(
        vec![
            database,
            backup(&variables, &["data:/backup/data:ro", "/srv/local:/archive"]),
        ],
        &[],
        Origin::Offen,
    );
    let labels = &migration.services["database"];
    assert_eq!(labels["cofferdam.mysql"], "*");
    assert_eq!(labels["cofferdam.volumes"], "data");
    assert_eq!(labels.len(), 2, "{labels:?}");
    assert!(!override_files(&[migration]).contains("psecret"));
}

#[test]
fn hooks_keep_their_moment_and_their_user() {
    let dump = "/bin/bash -c 'cd /tmp; /usr/local/bin/gitea dump -c /data/gitea/conf/app.ini -R -f \"$PWD/dump.zip\"'";
    let labels = [
        ("docker-volume-backup.archive-pre", dump),
        ("docker-volume-backup.archive-pre.user", "git"),
        ("docker-volume-backup.exec-pre", "echo old"),
        ("docker-volume-backup.copy-pre", "echo copying"),
        (
            "docker-volume-backup.copy-post",
            "/bin/sh -c 'rm /tmp/dump.zip'",
        ),
        ("docker-volume-backup.prune-post", "echo pruned"),
    ];
    let gitea = service("gitea", "gitea/gitea", &[], &["data:/data"], &labels);
    let own = [(
        "docker-volume-backup.copy-post",
        "rclone copy $COMMAND_RUNTIME_ARCHIVE_FILEPATH x:",
    )];
    let backup = service("backup", IMAGE, &[], &["data:/backup/data", SOCKET], &own);
    assert_snapshot!(printed(vec![gitea, backup], Origin::Offen), @r#"
    # Project shop: what the labels of offen/docker-volume-backup amount to in cofferdam's. Save it
    # beside the compose file, as compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml
    # -f compose.cofferdam.yaml up -d`.
    #
    # To do, or to look at:
    # - backup: none of its places has an equivalent: snapshots go to the volume cofferdam-backups;
    #   docs/stores.md tells which other places there are
    # - backup, BACKUP_CRON_EXPRESSION: the service below is not started by `up`, so that you can look
    #   first: take `profiles` out of it, and it backs up by this schedule
    # - gitea, docker-volume-backup.exec-pre: a container has one hook for a moment, and another label
    #   comes first: put both commands into one `sh -c '…'`
    # - gitea, docker-volume-backup.prune-post: a container has one hook for a moment, and another label
    #   comes first: put both commands into one `sh -c '…'`
    #
    # Different from now on:
    # - gitea, docker-volume-backup.copy-post: `cofferdam.hook.after-backup` runs when everything is
    #   running again, also after a backup that failed, and does not know the path of an archive
    #
    # Without an equivalent:
    # - backup, docker-volume-backup.copy-post: the label is on the backup container itself, which
    #   cofferdam takes the place of and where nothing of the kind can be run; COFFERDAM_COPY_TO sends
    #   snapshots to other places
    # - gitea, docker-volume-backup.copy-pre: there is no such moment: `cofferdam.hook.before-backup`
    #   runs before anything is saved, and `cofferdam.hook.after-backup` when all is done
    services:
      gitea:
        labels:
          cofferdam.hook.after-backup: "/bin/sh -c 'rm /tmp/dump.zip'"
          cofferdam.hook.before-backup: "/bin/bash -c 'cd /tmp; /usr/local/bin/gitea dump -c /data/gitea/conf/app.ini -R -f \"$$PWD/dump.zip\"'"
          cofferdam.hook.before-backup.user: git
          cofferdam.volumes: data
      cofferdam:
        image: cofferdam
        profiles: [backup]
        environment:
          COFFERDAM_REPOSITORY: /backups
          COFFERDAM_SCHEDULE: "@daily"
        volumes:
          - type: volume
            source: cofferdam-backups
            target: /backups
          - type: bind
            source: /var/run/docker.sock
            target: /var/run/docker.sock
    volumes:
      cofferdam-backups: {}
    "#);
}

#[test]
fn a_command_that_shows_a_secret_is_not_shown() {
    let labels = [(
        "docker-volume-backup.archive-pre",
        "login correct-horse-battery-staple",
    )];
    let app = service(
        "app",
        "app",
        &[("API_TOKEN", SECRET)],
        &["data:/data"],
        &labels,
    );
    let migration = migrated(
        vec![app, backup(&[], &["data:/backup/data"])],
        &[],
        Origin::Offen,
    );
    assert_eq!(migration.services["app"].len(), 1);
    let told = &migration
        .remarks
        .iter()
        .find(|remark| remark.text.contains("API_TOKEN"))
        .unwrap()
        .text;
    assert!(told.contains("$$API_TOKEN"), "{told}");
}

/// Several instances, each with labels of its own.
#[test]
fn several_instances_become_one_sidecar() {
    let labelled = |name, value| {
        let labels = [
            ("docker-volume-backup.stop-during-backup", value),
            ("docker-volume-backup.archive-pre", "sync"),
            ("docker-volume-backup.exec-label", value),
        ];
        service(name, "app", &[], &[&format!("{name}:/data")], &labels)
    };
    let instance = |name, mount: &str, label, cron| {
        let environment = [
            ("BACKUP_CRON_EXPRESSION", cron),
            ("BACKUP_STOP_DURING_BACKUP_LABEL", label),
            ("EXEC_LABEL", label),
            ("AWS_S3_BUCKET_NAME", "backup-bucket"),
        ];
        service(name, IMAGE, &environment, &[mount, SOCKET], &[])
    };
    let file = printed(
        vec![
            labelled("one", "service1"),
            labelled("two", "service2"),
            labelled("three", "service3"),
            instance("backup_1", "one:/backup/one:ro", "service1", "0 2 * * *"),
            instance("backup_2", "two:/backup/two:ro", "service2", "0 3 * * *"),
        ],
        Origin::Offen,
    );
    assert_snapshot!(file, @r#"
    # Project shop: what the labels of offen/docker-volume-backup amount to in cofferdam's. Save it
    # beside the compose file, as compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml
    # -f compose.cofferdam.yaml up -d`.
    #
    # To do, or to look at:
    # - backup_1, AWS_S3_BUCKET_NAME: the region is us-east-1: where the bucket lies in another one, add
    #   `region=` to the URL
    # - backup_1, BACKUP_CRON_EXPRESSION: the service below is not started by `up`, so that you can look
    #   first: take `profiles` out of it, and it backs up by this schedule
    # - backup_2: one sidecar takes the place of all backup containers, and has the settings of
    #   backup_1; here these differ: BACKUP_CRON_EXPRESSION, BACKUP_STOP_DURING_BACKUP_LABEL,
    #   EXEC_LABEL. Targets can be backed up by themselves, as `backup 'app/*'`, and `cofferdam.keep`
    #   gives a service rules of its own
    #
    # Different from now on:
    # - one, docker-volume-backup.exec-label: its commands belong to one of several backup containers;
    #   cofferdam's hooks run in every backup
    # - three, docker-volume-backup.exec-label: its commands belong to one of several backup containers;
    #   cofferdam's hooks run in every backup
    # - two, docker-volume-backup.exec-label: its commands belong to one of several backup containers;
    #   cofferdam's hooks run in every backup
    #
    # Without an equivalent:
    # - three, docker-volume-backup.archive-pre: no backup container runs it: EXEC_LABEL has to be what
    #   the label exec-label says
    # - three, docker-volume-backup.stop-during-backup: no backup container stops what is labelled with
    #   `service3`
    services:
      one:
        labels:
          cofferdam.hook.before-backup: sync
          cofferdam.stop: backup,restore
          cofferdam.volumes: one
      two:
        labels:
          cofferdam.hook.before-backup: sync
          cofferdam.stop: backup,restore
          cofferdam.volumes: two
      cofferdam:
        image: cofferdam
        profiles: [backup]
        environment:
          COFFERDAM_REPOSITORY: "s3://backup-bucket/cofferdam"
          COFFERDAM_SCHEDULE: "0 2 * * *"
        volumes:
          - type: bind
            source: /var/run/docker.sock
            target: /var/run/docker.sock
    "#);
}

#[test]
fn places_and_keys_become_urls_and_files() {
    for (environment, mounts, expected) in [
        (
            vec![
                ("WEBDAV_URL", "https://webdav.mydomain.me"),
                ("WEBDAV_PATH", "/my/directory/"),
                ("WEBDAV_USERNAME", "user"),
                ("WEBDAV_PASSWORD", SECRET),
            ],
            vec![],
            "webdav+https://webdav.mydomain.me/my/directory/cofferdam",
        ),
        (
            vec![
                ("SSH_HOST_NAME", "server.local"),
                ("SSH_PORT", "2222"),
                ("SSH_USER", "user"),
                ("SSH_REMOTE_PATH", "/data"),
            ],
            vec!["/path/to/private_key:/root/.ssh/id_rsa"],
            "sftp://user@server.local:2222/data/cofferdam?key-file=/root/.ssh/id_rsa&known-hosts=/run/secrets/known_hosts",
        ),
        (
            vec![
                ("AZURE_STORAGE_CONTAINER_NAME", "backup-container"),
                ("AZURE_STORAGE_ACCOUNT_NAME", "account-name"),
                ("AZURE_STORAGE_PRIMARY_ACCOUNT_KEY", SECRET),
            ],
            vec![],
            "az://backup-container/cofferdam?account=account-name",
        ),
        (
            vec![
                ("AWS_S3_BUCKET_NAME", "b"),
                ("AWS_PART_SIZE", "16"),
                ("AWS_STORAGE_CLASS", "STANDARD_IA"),
            ],
            vec![],
            "s3://b/cofferdam?storage-class=STANDARD_IA&part-size=16MiB",
        ),
        (
            vec![("BACKUP_ARCHIVE", "/out/daily")],
            vec!["archive:/out"],
            "/backups/daily/cofferdam",
        ),
        (vec![("DROPBOX_REFRESH_TOKEN", SECRET)], vec![], "/backups"),
        (
            vec![(
                "WEBDAV_URL",
                "https://me:correct-horse-battery-staple@host/",
            )],
            vec![],
            "/backups",
        ),
    ] {
        let mounts: Vec<&str> = mounts.into_iter().chain(["data:/backup/data"]).collect();
        let services = vec![
            stopped("app", &["data:/data"]),
            backup(&environment, &mounts),
        ];
        let sidecar = migrated(services, &[], Origin::Offen).sidecar;
        assert_eq!(sidecar.environment["COFFERDAM_REPOSITORY"], expected);
    }
}

#[test]
fn what_was_encrypted_is_never_stored_in_the_clear() {
    for (name, value, expected) in [
        ("GPG_PASSPHRASE", SECRET, "COFFERDAM_PASSPHRASE_FILE"),
        (
            "AGE_PASSPHRASE_FILE",
            "/run/secrets/age",
            "COFFERDAM_PASSPHRASE_FILE",
        ),
        (
            "GPG_PUBLIC_KEY_RING",
            "-----BEGIN PGP PUBLIC KEY BLOCK-----",
            "COFFERDAM_RECIPIENTS_FILE",
        ),
        ("AGE_PUBLIC_KEYS", RECIPIENT, "COFFERDAM_RECIPIENTS"),
        (
            "AGE_PUBLIC_KEYS",
            "ssh-ed25519 AAAAC3",
            "COFFERDAM_RECIPIENTS_FILE",
        ),
        (
            "AGE_PUBLIC_KEYS_FILE",
            "/run/secrets/age",
            "COFFERDAM_RECIPIENTS_FILE",
        ),
    ] {
        let services = vec![
            stopped("app", &["data:/data"]),
            backup(&[(name, value)], &["data:/backup/data"]),
        ];
        let environment = migrated(services, &[], Origin::Offen).sidecar.environment;
        assert!(
            environment.contains_key(expected),
            "{name}: {environment:?}"
        );
    }
}

#[test]
fn retention_and_schedules_are_carried_over() {
    let sidecar = |name, value| {
        let services = vec![
            stopped("app", &["data:/data"]),
            backup(&[(name, value)], &["data:/backup/data"]),
        ];
        migrated(services, &[], Origin::Offen).sidecar.environment
    };
    for (name, value, variable, expected) in [
        (
            "BACKUP_RETENTION_DAYS",
            "7",
            "COFFERDAM_KEEP",
            Some("within=7d"),
        ),
        (
            "BACKUP_RETENTION_DAYS",
            "0",
            "COFFERDAM_KEEP",
            Some("last=1"),
        ),
        ("BACKUP_RETENTION_DAYS", "-1", "COFFERDAM_KEEP", None),
        (
            "BACKUP_RETENTION_PERIOD",
            "168h",
            "COFFERDAM_KEEP",
            Some("within=168h"),
        ),
        ("BACKUP_RETENTION_PERIOD", "soon", "COFFERDAM_KEEP", None),
        (
            "BACKUP_CRON_EXPRESSION",
            "\"0 2 * * *\"",
            "COFFERDAM_SCHEDULE",
            Some("0 2 * * *"),
        ),
        (
            "BACKUP_CRON_EXPRESSION",
            "30 0 2 ? * MON-FRI",
            "COFFERDAM_SCHEDULE",
            Some("30 0 2 * * MON-FRI"),
        ),
        (
            "BACKUP_CRON_EXPRESSION",
            "0 0 5 31 2 ?",
            "COFFERDAM_SCHEDULE",
            Some("off"),
        ),
        (
            "BACKUP_CRON_EXPRESSION",
            "",
            "COFFERDAM_SCHEDULE",
            Some("@daily"),
        ),
        (
            "BACKUP_COMPRESSION",
            "zst",
            "COFFERDAM_COMPRESSION",
            Some("zstd"),
        ),
    ] {
        let environment = sidecar(name, value);
        assert_eq!(
            environment.get(variable).map(String::as_str),
            expected,
            "{name}={value}"
        );
    }
}

#[test]
fn what_lies_on_the_host_is_saved_where_a_service_sees_it() {
    let app = service(
        "app",
        "app",
        &[],
        &[
            "/srv/app:/data",
            "/srv/app/logs:/logs",
            "/srv/media:/media:ro",
        ],
        &[],
    );
    let web = service("web", "web", &[], &["/srv/media:/media"], &[]);
    for (mounts, variables, expected) in [
        (
            vec!["/srv/app:/backup/app"],
            vec![],
            vec![("app", "cofferdam.files.data", "/data")],
        ),
        (
            vec!["/srv/app/sub:/backup/sub"],
            vec![],
            vec![("app", "cofferdam.files.sub", "/data/sub")],
        ),
        (
            vec!["/srv:/backup"],
            vec![("BACKUP_SOURCES", "/backup/app")],
            vec![("app", "cofferdam.files.data", "/data")],
        ),
        (
            vec!["/srv/media:/backup/media"],
            vec![],
            vec![("web", "cofferdam.files.media", "/media")],
        ),
        (
            vec!["/srv:/backup/srv"],
            vec![],
            vec![
                ("app", "cofferdam.files.data", "/data"),
                ("app", "cofferdam.files.logs", "/logs"),
                ("web", "cofferdam.files.media", "/media"),
            ],
        ),
        (vec!["/etc:/backup/etc"], vec![], vec![]),
    ] {
        let services = vec![app.clone(), web.clone(), backup(&variables, &mounts)];
        let migration = migrated(services, &[], Origin::Offen);
        let labels: Vec<(&str, &str, &str)> = migration
            .services
            .iter()
            .flat_map(|(service, labels)| {
                labels
                    .iter()
                    .map(|(key, value)| (service.as_str(), key.as_str(), value.as_str()))
            })
            .collect();
        assert_eq!(labels, expected, "{mounts:?}");
    }
}

/// A stack for backups alone, which mounts volumes of others.
#[test]
fn an_instance_of_another_project_is_found_by_what_it_archives() {
    let mut elsewhere = backup(
        &[("BACKUP_RETENTION_DAYS", "7")],
        &["data:/backup/data:ro", "archive:/archive"],
    );
    elsewhere.labels.insert(
        "com.docker.compose.project".to_owned(),
        "backups".to_owned(),
    );
    let migration = migrated(
        vec![stopped("app", &["data:/data"])],
        &[elsewhere],
        Origin::Offen,
    );
    assert_eq!(migration.services["app"]["cofferdam.volumes"], "data");
    assert_eq!(
        migration.services["app"]["cofferdam.stop"],
        "backup,restore"
    );
    assert_eq!(migration.sidecar.environment["COFFERDAM_KEEP"], "within=7d");
    let volumes: Vec<_> = migration.sidecar.new_volumes.into_iter().collect();
    assert_eq!(
        volumes,
        [("shop_archive".to_owned(), Declaration::External)]
    );
}
