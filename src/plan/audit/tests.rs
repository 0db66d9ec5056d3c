use insta::assert_snapshot;

use super::*;
use crate::labels::PostgresLabels;
use crate::plan::tests_support::{bound, service, survey};
use crate::stack::servers::Store;
use crate::stack::survey::{FoundDatabase, FoundServer};

/// What is found, a line each.
fn found(survey: &Survey) -> String {
    let findings = audit(survey, &[], &[]);
    let lines: Vec<String> = findings
        .into_iter()
        .map(|finding| format!("{}: {} -> {}", finding.service, finding.what, finding.label))
        .collect();
    lines.join("\n")
}

#[test]
fn a_volume_counts_as_saved_by_its_name_or_by_its_very_path() {
    let unprotected = |labels: &[(&str, &str)]| {
        let app = service("app", &["logs:/data/logs"], labels);
        found(&survey(vec![(app, &[])]))
    };
    let nothing_saves_it =
        "app: nothing saves volume logs at /data/logs -> cofferdam.volumes: logs";
    assert_eq!(unprotected(&[]), nothing_saves_it);
    assert_eq!(unprotected(&[("volumes", "logs")]), "");
    assert_eq!(unprotected(&[("skip", "only for looking at")]), "");
    assert_eq!(unprotected(&[("files.logs", "/data/logs")]), "");
    for path in ["/data", "/data/logs/app", "/data/logs2"] {
        assert_eq!(
            unprotected(&[("files.logs", path)]),
            nothing_saves_it,
            "{path}"
        );
    }
}

#[test]
fn servers_that_nothing_saves_are_listed_with_their_own_labels_and_not_as_volumes() {
    let services = [
        ("cache", "cache:/data", Store::Redis),
        ("crm-db", "crm:/var/lib/mysql", Store::Mysql),
        ("documents", "documents:/data/db", Store::Mongodb),
        ("ldap", "ldap:/var/lib/ldap", Store::Openldap),
        ("queue", "queue:/data", Store::Valkey),
        (
            "search",
            "search:/usr/share/elasticsearch/data",
            Store::Elasticsearch,
        ),
        (
            "search2",
            "search2:/usr/share/opensearch/data",
            Store::Opensearch,
        ),
        ("shop-db", "shop:/var/lib/postgresql", Store::Postgres),
        ("sync", "sync:/opt/couchdb/data", Store::Couchdb),
    ];
    let stores: Vec<[Store; 1]> = services.iter().map(|(_, _, store)| [*store]).collect();
    let services = services
        .iter()
        .zip(&stores)
        .map(|((name, volume, _), stores)| (service(name, &[volume], &[]), &stores[..]))
        .collect();
    assert_snapshot!(found(&survey(services)), @r#"
    cache: nothing saves its Redis server -> cofferdam.command.rdb.dump: redis-cli --rdb -
    crm-db: nothing saves its MySQL or MariaDB server -> cofferdam.mysql: "*"
    documents: nothing saves its MongoDB server -> cofferdam.command.archive.dump: mongodump --config=/run/secrets/mongo-tools --archive
    ldap: nothing saves its OpenLDAP server -> cofferdam.command.entries.dump: slapcat
    queue: nothing saves its Valkey server -> cofferdam.command.rdb.dump: valkey-cli --rdb -
    search: nothing saves its Elasticsearch server -> cofferdam.elasticsearch: "*"
    search2: nothing saves its OpenSearch server -> cofferdam.elasticsearch: "*"
    shop-db: nothing saves its PostgreSQL server -> cofferdam.postgres: "*"
    sync: nothing saves its CouchDB server -> cofferdam.couchdb: "*"
    "#);
}

#[test]
fn a_server_counts_as_saved_by_what_dumps_it() {
    let with = |labels: &[(&str, &str)]| {
        let db = service("db", &["pgdata:/var/lib/postgresql/data"], labels);
        survey(vec![(db, &[Store::Postgres])])
    };
    let nothing_saves_it = r#"db: nothing saves its PostgreSQL server -> cofferdam.postgres: "*""#;
    assert_eq!(found(&with(&[])), nothing_saves_it);

    let mut by_driver = with(&[("postgres", "*")]);
    let server = FoundServer::Postgres {
        labels: PostgresLabels::default(),
        login: None,
    };
    let database = FoundDatabase {
        server,
        data_directory: None,
    };
    let databases = &mut by_driver.databases;
    databases.insert("db".to_owned(), vec![database]);
    assert_eq!(found(&by_driver), "");

    assert_eq!(found(&with(&[("command.all.dump", "pg_dumpall")])), "");
    // As GitLab does it.
    let hook = ("hook.before-backup", "gitlab-backup create");
    let dumps = ("files.dumps", "/var/opt/gitlab/backups");
    assert_eq!(found(&with(&[hook, dumps])), "");
    for labels in [&[hook][..], &[dumps]] {
        assert_eq!(found(&with(labels)), nothing_saves_it, "{labels:?}");
    }

    for (driver, stores) in [
        ("couchdb", &[Store::Couchdb][..]),
        ("elasticsearch", &[Store::Elasticsearch, Store::Opensearch]),
    ] {
        let saved = service("store", &[], &[(driver, "*")]);
        assert_eq!(found(&survey(vec![(saved, stores)])), "", "{driver}");
    }
}

#[test]
fn files_of_a_server_count_as_saved_when_they_keep_still() {
    let with = |store: &'static [Store], labels: &[(&str, &str)]| {
        let volumes = ["pgdata:/var/lib/postgresql/data", "redis:/data"];
        found(&survey(vec![(service("db", &volumes, labels), store)]))
    };
    let all = ("volumes", "*");
    assert_snapshot!(with(&[Store::Postgres, Store::Redis], &[all]), @r#"
    db: the files of its PostgreSQL server are saved while it writes to them -> cofferdam.postgres: "*"
    db: the files of its Redis server are saved, but cannot be restored while it runs -> cofferdam.stop: restore
    "#);
    for held in [
        &[all, ("stop", "backup,restore")][..],
        &[all, ("pause", "backup"), ("stop", "restore")],
    ] {
        assert_eq!(with(&[Store::Postgres], held), "", "{held:?}");
    }
    assert_snapshot!(with(&[Store::Postgres], &[all, ("stop", "backup")]), @"db: the files of its PostgreSQL server are saved, but cannot be restored while it runs -> cofferdam.stop: backup,restore");
    for held in [
        [("stop", "restore")].as_slice(),
        &[("stop", "backup"), ("hold-for", "other")],
    ] {
        let other = (service("other", &[], &[]), &[][..]);
        let db = service(
            "db",
            &["pgdata:/var/lib/postgresql/data"],
            &[&[all], held].concat(),
        );
        let found = found(&survey(vec![(db, &[Store::Postgres]), other]));
        assert!(
            found.contains("while it writes to them"),
            "{held:?}: {found}"
        );
    }
    // A part of them is not enough.
    let part = [
        ("files.conf", "/var/lib/postgresql/data/postgresql.conf"),
        ("volumes", "redis"),
    ];
    assert!(with(&[Store::Postgres], &part).contains("nothing saves its PostgreSQL server"));
    let whole = [
        ("files.all", "/var/lib/postgresql"),
        ("stop", "backup,restore"),
        ("volumes", "redis"),
    ];
    assert_eq!(with(&[Store::Postgres], &whole), "");
}

#[test]
fn the_volumes_of_a_server_that_keeps_its_data_elsewhere_are_suspect() {
    let image_asks = format!("{}:/var/lib/postgresql/data", "0".repeat(64));
    let db = service(
        "db",
        &["pgdata:/srv/pg", "archive:/srv/wal", &image_asks],
        &[],
    );
    assert_snapshot!(found(&survey(vec![(db, &[Store::Postgres])])), @r#"
    db: nothing saves its PostgreSQL server -> cofferdam.postgres: "*"
    db: nothing saves volume archive at /srv/wal, where its PostgreSQL server may keep its data -> cofferdam.postgres: "*"
    db: nothing saves volume pgdata at /srv/pg, where its PostgreSQL server may keep its data -> cofferdam.postgres: "*"
    "#);

    let mut told = service("db", &["pgdata:/srv/pg", "archive:/srv/wal"], &[]);
    let place = "/srv/pg/16".to_owned();
    told.container.env.insert("PGDATA".to_owned(), place);
    assert_snapshot!(found(&survey(vec![(told, &[Store::Postgres])])), @r#"
    db: nothing saves its PostgreSQL server -> cofferdam.postgres: "*"
    db: nothing saves the other files in volume pgdata at /srv/pg, next to the data of a database server -> cofferdam.files.pg: /srv/pg
    db: nothing saves volume archive at /srv/wal -> cofferdam.volumes: archive
    "#);
}

#[test]
fn a_volume_that_a_server_and_others_mount_is_the_servers() {
    let app = service("app", &["pgdata:/look"], &[]);
    let db = service("db", &["pgdata:/var/lib/postgresql/data"], &[]);
    assert_snapshot!(found(&survey(vec![(app, &[]), (db, &[Store::Postgres])])), @r#"db: nothing saves its PostgreSQL server -> cofferdam.postgres: "*""#);
}

#[test]
fn what_is_mounted_without_a_name_is_listed_with_the_label_that_saves_it() {
    let anonymous = format!("{}:/var/lib/app", "0".repeat(64));
    let binds = [
        "/host/data:/data",
        "/host/read:/read:ro",
        "/etc/ssl:/etc/ssl",
        "/host/conf:/conf",
    ];
    let with = |labels: &[(&str, &str)]| {
        let app = bound(service("app", &[&anonymous], labels), &binds);
        let mut survey = survey(vec![(app, &[])]);
        survey.no_directories.insert("/host/conf".to_owned());
        found(&survey)
    };
    let all = "app: nothing saves the bind mount of /host/data at /data -> cofferdam.binds: /data\n\
               app: nothing saves the anonymous volume at /var/lib/app -> cofferdam.files.app: /var/lib/app";
    assert_eq!(with(&[]), all);
    // What is in the layer around it does not reach into it.
    assert_eq!(with(&[("files.var", "/var/lib")]), all);
    let saved = [("binds", "/data"), ("files.app", "/var/lib/app")];
    assert_eq!(with(&saved), "");
    assert_eq!(with(&[("enable", "true")]), "");
    assert_eq!(with(&[("skip", "rubbish")]), "");
    let skipped = [("binds.skip", "/data"), ("volumes.skip", "/var/lib/app")];
    assert_eq!(with(&skipped), "");
    assert_snapshot!(with(&[("volumes.skip", "/var/lib/app")]), @"app: nothing saves the bind mount of /host/data at /data -> cofferdam.binds: /data");
}

#[test]
fn a_bind_mount_that_another_service_saves_or_explains_is_not_listed() {
    let beside = |mounts: &[&str], labels: &[(&str, &str)], stores: &'static [Store]| {
        let app = bound(service("app", &[], &[]), &["/host/data:/data"]);
        let other = bound(service("other", &[], labels), mounts);
        found(&survey(vec![(app, &[]), (other, stores)]))
    };
    let nothing_saves_it =
        "app: nothing saves the bind mount of /host/data at /data -> cofferdam.binds: /data";
    let same = ["/host/data:/d"];
    assert_eq!(beside(&same, &[], &[]), nothing_saves_it);
    assert_eq!(beside(&same, &[("binds", "*")], &[]), "");
    assert_eq!(beside(&same, &[("skip", "elsewhere")], &[]), "");
    assert_eq!(beside(&["/host:/host"], &[("binds", "*")], &[]), "");
    let part = beside(&["/host/data/x:/x"], &[("binds", "*")], &[]);
    assert_eq!(part, nothing_saves_it);
    let database = ["/host/data:/var/lib/mysql"];
    assert_snapshot!(beside(&database, &[], &[Store::Mysql]), @r#"other: nothing saves its MySQL or MariaDB server -> cofferdam.mysql: "*""#);
    assert_snapshot!(beside(&database, &[("binds", "*")], &[Store::Mysql]), @r#"other: the files of its MySQL or MariaDB server are saved while it writes to them -> cofferdam.mysql: "*""#);
    let still = [("binds", "*"), ("stop", "backup,restore")];
    assert_eq!(beside(&database, &still, &[Store::Mysql]), "");
}

#[test]
fn nobody_is_told_to_save_a_repository() {
    let app = bound(
        service("app", &["backups:/b"], &[]),
        &["/host:/host", "/srv:/srv"],
    );
    let mut survey = survey(vec![(app, &[])]);
    survey.repositories = vec!["/volumes/backups".to_owned(), "/host/copies".to_owned()];
    assert_snapshot!(found(&survey), @"app: nothing saves the bind mount of /srv at /srv -> cofferdam.binds: /srv");
}

#[test]
fn what_lies_beside_the_data_of_a_server_is_listed() {
    let discourse = |labels: &[(&str, &str)]| {
        let mut app = service("app", &["shared:/shared"], labels);
        let place = "/shared/postgres_data".to_owned();
        app.container.env.insert("PGDATA".to_owned(), place);
        survey(vec![(app, &[Store::Postgres])])
    };
    let findings = audit(&discourse(&[]), &[], &[]);
    assert_snapshot!(findings[1], @"app: nothing saves the other files in volume shared at /shared, next to the data of a database server; to fix this, add the label `cofferdam.files.shared: /shared` (and with it `cofferdam.files.shared.exclude: /postgres_data`: a copy of files that a server is using cannot be restored)");
    let labels = [
        ("files.shared", "/shared"),
        ("files.shared.exclude", "/postgres_data"),
    ];
    assert_snapshot!(found(&discourse(&labels)), @r#"app: nothing saves its PostgreSQL server -> cofferdam.postgres: "*""#);

    let app = bound(service("app", &[], &[]), &["/host:/host"]);
    let db = bound(service("db", &[], &[]), &["/host/db:/var/lib/mysql"]);
    assert_snapshot!(found(&survey(vec![(app, &[]), (db, &[Store::Mysql])])), @r#"
    db: nothing saves its MySQL or MariaDB server -> cofferdam.mysql: "*"
    app: nothing saves the other files in the bind mount of /host at /host, next to the data of a database server -> cofferdam.files.host: /host
    "#);
}

#[test]
fn labels_that_are_advised_do_not_overwrite_each_other() {
    let anonymous = [("1", "/a/data"), ("2", "/b/data")];
    let anonymous = anonymous.map(|(digit, path)| format!("{}:{path}", digit.repeat(64)));
    let volumes = [
        "one:/one",
        "two:/two",
        "three:/three",
        &anonymous[0],
        &anonymous[1],
    ];
    let labels = [("volumes", "three"), ("binds", "/c")];
    let app = service("app", &volumes, &labels);
    let app = bound(app, &["/host/c:/c", "/host/d:/d", "/host/e:/e"]);
    assert_snapshot!(found(&survey(vec![(app, &[])])), @r"
    app: nothing saves volumes one at /one, two at /two -> cofferdam.volumes: three, one, two
    app: nothing saves the bind mounts of /host/d at /d, /host/e at /e -> cofferdam.binds: /c, /d, /e
    app: nothing saves the anonymous volume at /a/data -> cofferdam.files.data: /a/data
    app: nothing saves the anonymous volume at /b/data -> cofferdam.files.data-2: /b/data
    ");
}
