//! Compose files as the documentation of stack-back and restic-compose-backup has them.

use insta::assert_snapshot;

use super::*;

const IMAGE: &str = "ghcr.io/lawndoc/stack-back:1.4";
const SOCKET: &str = "/var/run/docker.sock:/tmp/docker.sock:ro";

fn backup(environment: &[(&str, &str)], mounts: &[&str]) -> Container {
    let password = ("RESTIC_PASSWORD", SECRET);
    service(
        "backup",
        IMAGE,
        &[environment, &[password]].concat(),
        &[mounts, &[SOCKET, "cache:/cache"]].concat(),
        &[],
    )
}

fn databases(prefix: &str) -> Vec<Container> {
    let database = |name, store: &str, environment: &[(&str, &str)], mount: &str| {
        let label = format!("{prefix}{store}");
        service(name, name, environment, &[mount], &[(&label, "True")])
    };
    let mysql = [("MYSQL_ROOT_PASSWORD", SECRET), ("MYSQL_DATABASE", "mydb")];
    let postgres = [
        ("POSTGRES_PASSWORD", SECRET),
        ("PGDATA", "/var/lib/postgresql/data"),
    ];
    vec![
        database("mysql", "mysql", &mysql, "mysqldata:/var/lib/mysql"),
        database("mariadb", "mariadb", &mysql, "mariadbdata:/var/lib/mysql"),
        database(
            "postgres",
            "postgres",
            &postgres,
            "pgdata:/var/lib/postgresql/data",
        ),
    ]
}

fn labels_of(migration: &Migration, service: &str) -> Vec<(String, String)> {
    let labels = migration.services.get(service).cloned();
    labels.unwrap_or_default().into_iter().collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let expected = expected.iter();
    expected
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn volumes_and_databases_with_a_repository_in_a_bucket() {
    let environment = [
        (
            "RESTIC_REPOSITORY",
            "s3:s3.us-east-1.amazonaws.com/bucket_name",
        ),
        ("AWS_ACCESS_KEY_ID", SECRET),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("CHECK_WITH_CACHE", "true"),
        ("RESTIC_KEEP_DAILY", "7"),
        ("RESTIC_KEEP_WEEKLY", "4"),
        ("RESTIC_KEEP_MONTHLY", "6"),
        ("CRON_SCHEDULE", "\"0 1 * * *\""),
        ("LOG_LEVEL", "warning"),
        ("EMAIL_HOST", "smtp.example.org"),
        ("EMAIL_PORT", "465"),
        ("EMAIL_HOST_USER", "me@example.org"),
        ("EMAIL_HOST_PASSWORD", SECRET),
        ("EMAIL_SEND_TO", "you@example.org"),
    ];
    let labels = [
        ("stack-back.volumes", "true"),
        ("stack-back.volumes.stop-during-backup", "true"),
    ];
    let mounts = [
        "media:/srv/media",
        "/srv/files:/srv/files",
        "/var/run/docker.sock:/docker.sock",
    ];
    let mut services = databases("stack-back.");
    services.push(service("web", "web", &[], &mounts, &labels));
    services.push(backup(&environment, &[]));
    assert_snapshot!(printed(services, Origin::StackBack), @r#"
    # Project shop: what the labels of stack-back amount to in cofferdam's. Save it beside the compose
    # file, as compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml -f
    # compose.cofferdam.yaml up -d`.
    #
    # To do, or to look at:
    # - backup, AWS_ACCESS_KEY_ID: put its value into the file ./secrets/aws_access_key_id
    # - backup, AWS_SECRET_ACCESS_KEY: put its value into the file ./secrets/aws_secret_access_key
    # - backup, CRON_SCHEDULE: the service below is not started by `up`, so that you can look first:
    #   take `profiles` out of it, and it backs up by this schedule
    # - backup, EMAIL_HOST_PASSWORD: put its value into the file ./secrets/cofferdam_smtp_password
    # - backup, RESTIC_PASSWORD: put its value into the file ./secrets/cofferdam_passphrase
    # - mariadb, stack-back.mariadb: users and their grants are no part of a dump (docs/labels.md says
    #   how they come back)
    # - mysql, stack-back.mysql: users and their grants are no part of a dump (docs/labels.md says how
    #   they come back)
    #
    # Different from now on:
    # - backup: mail goes out when a backup fails or is missing: `cofferdam check --notify-test` sends
    #   one to see
    # - backup, RESTIC_PASSWORD: snapshots are encrypted with age, with this passphrase; with
    #   COFFERDAM_RECIPIENTS instead, the machine that makes backups could not read them
    # - backup, RESTIC_REPOSITORY: a repository of restic is not read: it stays as it is, for `restic`
    #   to restore from
    # - mariadb, stack-back.mariadb: the databases of its MySQL or MariaDB server are dumped, each for
    #   itself; files that a server writes to are no backup
    # - mysql, stack-back.mysql: the databases of its MySQL or MariaDB server are dumped, each for
    #   itself; files that a server writes to are no backup
    # - postgres, stack-back.postgres: the databases of its PostgreSQL server are dumped, each for
    #   itself; files that a server writes to are no backup
    #
    # Without an equivalent:
    # - backup, CHECK_WITH_CACHE: there is no cache
    services:
      mariadb:
        labels:
          cofferdam.mysql: "*"
      mysql:
        labels:
          cofferdam.mysql: "*"
      postgres:
        labels:
          cofferdam.postgres: "*"
      web:
        labels:
          cofferdam.files.files: /srv/files
          cofferdam.stop: backup,restore
          cofferdam.volumes: "*"
      cofferdam:
        image: cofferdam
        profiles: [backup]
        environment:
          AWS_ACCESS_KEY_ID_FILE: /run/secrets/aws_access_key_id
          AWS_SECRET_ACCESS_KEY_FILE: /run/secrets/aws_secret_access_key
          COFFERDAM_KEEP: daily=7,weekly=4,monthly=6,yearly=3
          COFFERDAM_LOG: warn
          COFFERDAM_MAIL_FROM: "me@example.org"
          COFFERDAM_MAIL_TO: "you@example.org"
          COFFERDAM_PASSPHRASE_FILE: /run/secrets/cofferdam_passphrase
          COFFERDAM_REPOSITORY: "s3://bucket_name/cofferdam?region=us-east-1"
          COFFERDAM_SCHEDULE: "0 1 * * *"
          COFFERDAM_SMTP_PASSWORD_FILE: /run/secrets/cofferdam_smtp_password
          COFFERDAM_SMTP_URL: "smtps://smtp.example.org:465"
          COFFERDAM_SMTP_USER: "me@example.org"
        volumes:
          - type: bind
            source: /var/run/docker.sock
            target: /var/run/docker.sock
        secrets: [aws_access_key_id, aws_secret_access_key, cofferdam_passphrase, cofferdam_smtp_password]
    secrets:
      aws_access_key_id:
        file: ./secrets/aws_access_key_id
      aws_secret_access_key:
        file: ./secrets/aws_secret_access_key
      cofferdam_passphrase:
        file: ./secrets/cofferdam_passphrase
      cofferdam_smtp_password:
        file: ./secrets/cofferdam_smtp_password
    "#);
}

#[test]
fn words_choose_mounts_by_their_source() {
    let mounts = [
        "media:/srv/media",
        "files:/srv/files",
        "/srv/data:/srv/data",
    ];
    for (labels, expected) in [
        (
            vec![],
            vec![
                ("cofferdam.files.data", "/srv/data"),
                ("cofferdam.volumes", "*"),
            ],
        ),
        (
            vec![("volumes.include", "media,files")],
            vec![("cofferdam.volumes", "files,media")],
        ),
        (
            vec![("volumes.exclude", "media")],
            vec![
                ("cofferdam.files.data", "/srv/data"),
                ("cofferdam.volumes", "files"),
            ],
        ),
        (
            vec![
                ("volumes.include", "/srv/data"),
                ("volumes.exclude", "data"),
            ],
            vec![("cofferdam.files.data", "/srv/data")],
        ),
    ] {
        let keys: Vec<(String, &str)> = [("volumes", "true")]
            .into_iter()
            .chain(labels.clone())
            .map(|(name, value)| (format!("restic-compose-backup.{name}"), value))
            .collect();
        let keys: Vec<(&str, &str)> = keys
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
            .collect();
        let web = service("web", "web", &[], &mounts, &keys);
        let migration = migrated(
            vec![web, backup(&[], &[])],
            &[],
            Origin::ResticComposeBackup,
        );
        assert_eq!(labels_of(&migration, "web"), pairs(&expected), "{labels:?}");
    }
}

#[test]
fn everything_is_taken_but_what_says_no() {
    let environment = [("AUTO_BACKUP_ALL", "True"), ("EXCLUDE_BIND_MOUNTS", "true")];
    let postgres = [
        ("POSTGRES_PASSWORD", SECRET),
        ("PGDATA", "/var/lib/postgresql/data"),
    ];
    let denied = [
        ("stack-back.mysql", "False"),
        ("stack-back.volumes", "False"),
    ];
    let migration = migrated(
        vec![
            service(
                "web",
                "web",
                &[],
                &["media:/srv/media", "/srv/files:/srv/files"],
                &[],
            ),
            service(
                "db",
                "postgres:17",
                &postgres,
                &["pg:/var/lib/postgresql/data", "conf:/etc/postgresql"],
                &[],
            ),
            service(
                "mysql",
                "mysql:9",
                &[("MYSQL_VERSION", "9")],
                &["my:/var/lib/mysql"],
                &denied,
            ),
            backup(&environment, &["restic_data:/restic_data"]),
        ],
        &[],
        Origin::StackBack,
    );
    assert_eq!(
        labels_of(&migration, "web"),
        pairs(&[("cofferdam.volumes", "*")])
    );
    assert_eq!(
        labels_of(&migration, "db"),
        pairs(&[("cofferdam.postgres", "*"), ("cofferdam.volumes", "conf")])
    );
    assert_eq!(
        labels_of(&migration, "mysql"),
        pairs(&[("cofferdam.skip", "left out by stack-back.mysql")])
    );
    assert!(!migration.services.contains_key("backup"));
}

#[test]
fn the_ancestor_reads_the_same_with_another_prefix() {
    let mut services = databases("restic-compose-backup.");
    let environment = [("RESTIC_REPOSITORY", "/restic_data"), ("KEEP_DAILY", "5")];
    services.push(backup(&environment, &["restic_data:/restic_data"]));
    let labels = [("restic-compose-backup.minecraft", "true")];
    services.push(service(
        "game",
        "itzg/minecraft-server",
        &[],
        &["world:/data"],
        &labels,
    ));
    let migration = migrated(services, &[], Origin::ResticComposeBackup);
    for (service, label) in [
        ("mysql", "cofferdam.mysql"),
        ("mariadb", "cofferdam.mysql"),
        ("postgres", "cofferdam.postgres"),
    ] {
        assert_eq!(labels_of(&migration, service), pairs(&[(label, "*")]));
    }
    let environment = &migration.sidecar.environment;
    assert_eq!(environment["COFFERDAM_REPOSITORY"], "/backups/cofferdam");
    assert_eq!(
        environment["COFFERDAM_KEEP"],
        "daily=5,weekly=4,monthly=12,yearly=3"
    );
    assert_eq!(
        environment["COFFERDAM_PASSPHRASE_FILE"],
        "/run/secrets/cofferdam_passphrase"
    );
    let mut names = migration
        .remarks
        .iter()
        .filter_map(|remark| remark.name.as_deref());
    assert!(names.any(|name| name == "restic-compose-backup.minecraft"));
}

#[test]
fn hooks_become_one_command_for_each_moment() {
    let own = [
        ("stack-back.hooks.pre.1.cmd", "echo local"),
        ("stack-back.hooks.pre.2.cmd", "echo global"),
        ("stack-back.hooks.pre.2.context", "web"),
        ("stack-back.hooks.post.1.cmd", "echo last"),
        ("stack-back.hooks.post.1.context", "web"),
        ("stack-back.order.1", "web"),
    ];
    let web = [
        ("stack-back.volumes", "true"),
        ("stack-back.hooks.pre.2.cmd", "echo second > /tmp/x"),
        ("stack-back.hooks.pre.2.on-error", "continue"),
        ("stack-back.hooks.pre.10.cmd", "echo third"),
        ("stack-back.hooks.post.1.cmd", "echo first"),
        ("stack-back.hooks.error.1.cmd", "echo 'oh no'"),
        ("stack-back.hooks.finally.1.cmd", "echo done"),
        ("stack-back.hooks.later.1.cmd", "echo never"),
        ("stack-back.hooks.pre.x", "echo never"),
    ];
    let web = service("web", "web", &[], &["media:/media"], &web);
    let backup = service(
        "backup",
        IMAGE,
        &[("RESTIC_PASSWORD", SECRET)],
        &[SOCKET],
        &own,
    );
    let migration = migrated(vec![web, backup], &[], Origin::StackBack);
    let labels: Vec<String> = labels_of(&migration, "web")
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    assert_snapshot!(labels.join("\n"), @r#"
    cofferdam.hook.after-backup: sh -c '[ "$COFFERDAM_OUTCOME" != done ] || (
    (
    echo first
    ) && (
    echo last
    )
    ); result=$?; (
    echo done
    ); exit $result'
    cofferdam.hook.before-backup: sh -c '(
    echo global
    ) && { (
    echo second > /tmp/x
    ) || true; } && (
    echo third
    )'
    cofferdam.hook.failed-backup: sh -c "echo 'oh no'"
    cofferdam.volumes: *
    "#);
    let lost: Vec<&str> = migration
        .remarks
        .iter()
        .filter(|remark| remark.kind == RemarkKind::Lost)
        .filter_map(|remark| remark.name.as_deref())
        .collect();
    assert_eq!(
        lost,
        [
            "stack-back.hooks.pre.1.cmd",
            "stack-back.order.1",
            "stack-back.hooks.later.1.cmd",
            "stack-back.hooks.pre.x",
        ]
    );
}
