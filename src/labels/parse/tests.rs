use std::collections::BTreeSet;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::labels::{CommandLabels, CommandOptions};

fn parsed(labels: &[(&str, &str)]) -> Result<ContainerLabels, LabelErrors> {
    let mut given = BTreeMap::new();
    for (key, value) in labels {
        given.insert(format!("cofferdam.{key}"), (*value).to_owned());
    }
    parse("db", &given)
}

fn good(labels: &[(&str, &str)]) -> ContainerLabels {
    parsed(labels).unwrap_or_else(|errors| panic!("{errors}"))
}

fn bad(labels: &[(&str, &str)]) -> String {
    match parsed(labels) {
        Ok(labels) => panic!("accepted: {labels:?}"),
        Err(errors) => errors.to_string(),
    }
}

fn names(items: &[&str]) -> Selection {
    Selection::Names(items.iter().map(|&item| item.to_owned()).collect())
}

#[test]
fn without_labels_nothing_is_asked_for() {
    assert_eq!(good(&[]), ContainerLabels::default());
}

#[test]
fn labels_of_others_are_none_of_our_business() {
    let (name, mut labels) = ("db", BTreeMap::new());
    for key in [
        "com.docker.compose.project",
        "traefik.enable",
        "coffee.shop",
    ] {
        labels.insert(key.to_owned(), "x".to_owned());
    }
    assert_eq!(parse(name, &labels), Ok(ContainerLabels::default()));
}

#[test]
fn labels_of_our_image_are_tolerated() {
    for key in ["agent-image", "test", "test.name"] {
        assert_eq!(good(&[(key, "1")]), ContainerLabels::default(), "{key}");
    }
}

#[test]
fn every_postgres_option_is_read() {
    let labels = good(&[
        ("postgres", "clinical, genomic"),
        ("postgres.user", "admin"),
        ("postgres.password-file", "/run/secrets/postgres_db_secret"),
        ("postgres.port", "5433"),
        ("postgres.maintenance-db", "postgres"),
        ("postgres.mode", "dump"),
        ("postgres.exclude-tables", "tmp_*, audit.log"),
        ("postgres.exclude-table-data", "public.jobs"),
        ("postgres.restore", "recreate"),
        ("postgres.transfer", "stream"),
        ("postgres.scratch", "/var/tmp/"),
        ("postgres.exec-user", "postgres"),
    ]);
    assert_eq!(labels.opt_in, OptIn::Labels);
    assert_eq!(
        labels.postgres,
        Some(PostgresLabels {
            databases: names(&["clinical", "genomic"]),
            user: Some("admin".to_owned()),
            password_file: Some("/run/secrets/postgres_db_secret".to_owned()),
            password_variable: None,
            port: Some(5433),
            maintenance_db: "postgres".to_owned(),
            mode: PostgresMode::Dump,
            exclude_tables: vec!["tmp_*".to_owned(), "audit.log".to_owned()],
            exclude_table_data: vec!["public.jobs".to_owned()],
            restore: PostgresRestore::Recreate,
            transfer: TransferChoice::Stream,
            scratch: Some("/var/tmp".to_owned()),
            exec_user: Some("postgres".to_owned()),
        })
    );
}

#[test]
fn a_password_is_in_a_file_or_in_a_variable() {
    let labels = good(&[
        ("postgres", "*"),
        ("postgres.password-variable", "DB_PASSWORD"),
        ("mysql", "*"),
        ("mysql.password-variable", "DB_PASSWORD"),
        ("couchdb", "*"),
        ("couchdb.password-variable", "DB_PASSWORD"),
        ("elasticsearch", "*"),
        ("elasticsearch.password-variable", "DB_PASSWORD"),
    ]);
    let variables = [
        labels.postgres.unwrap().password_variable,
        labels.mysql.unwrap().password_variable,
        labels.couchdb.unwrap().password_variable,
        labels.elasticsearch.unwrap().password_variable,
    ];
    assert_eq!(variables, [(); 4].map(|()| Some("DB_PASSWORD".to_owned())));
    assert_snapshot!(
        bad(&[("mysql", "*"), ("mysql.password-variable", "PW"), ("mysql.password-file", "/run/pw")]),
        @"container db: label `cofferdam.mysql.password-variable` conflicts with `cofferdam.mysql.password-file`; remove one of them"
    );
    assert_snapshot!(
        bad(&[("postgres", "*"), ("postgres.password-variable", "s3cret!")]),
        @"container db: label `cofferdam.postgres.password-variable` is not a variable name; write the name of the container's variable that holds the password, such as `DB_PASSWORD`"
    );
}

#[test]
fn every_couchdb_option_is_read() {
    let labels = good(&[
        ("couchdb", "*"),
        ("couchdb.user", "backup"),
        ("couchdb.password-file", "/run/secrets/couchdb"),
        ("couchdb.port", "5985"),
        ("couchdb.data-directory", "/bitnami/couchdb/data"),
    ]);
    assert_eq!(
        labels.couchdb,
        Some(CouchdbLabels {
            user: Some("backup".to_owned()),
            password_file: Some("/run/secrets/couchdb".to_owned()),
            password_variable: None,
            port: 5985,
            data_directory: "/bitnami/couchdb/data".to_owned(),
        })
    );
    assert_eq!(labels.opt_in, OptIn::Labels);
    assert_eq!(
        labels.data_directories().collect::<Vec<_>>(),
        ["/bitnami/couchdb/data"]
    );
    assert_snapshot!(bad(&[("couchdb", "users")]), @r"container db: label `cofferdam.couchdb` is not `*`; write `*`: a node is saved as a whole; to save a part of it, replicate that part to another node");
    let switched = good(&[("enable", "true"), ("couchdb.port", "1")]);
    assert_eq!(switched.couchdb.map(|labels| labels.port), Some(1));
    assert_snapshot!(bad(&[("volumes", "data"), ("couchdb.port", "1")]), @r#"container db: label `cofferdam.couchdb.port` has no store to apply to; add `cofferdam.couchdb: "*"`, or remove this label"#);
}

#[test]
fn every_elasticsearch_option_is_read() {
    let labels = good(&[
        ("elasticsearch", "cases, forms"),
        ("elasticsearch.user", "backup"),
        ("elasticsearch.password-file", "/run/secrets/elastic"),
        ("elasticsearch.port", "9201"),
        ("elasticsearch.tls", "true"),
        ("elasticsearch.location", "/snapshots"),
        ("elasticsearch.data-directory", "/data"),
    ]);
    assert_eq!(
        labels.elasticsearch,
        Some(ElasticsearchLabels {
            indices: Selection::Names(vec!["cases".to_owned(), "forms".to_owned()]),
            user: Some("backup".to_owned()),
            password_file: Some("/run/secrets/elastic".to_owned()),
            password_variable: None,
            port: 9201,
            tls: true,
            location: Some("/snapshots".to_owned()),
            repository: None,
            data_directory: Some("/data".to_owned()),
        })
    );
    assert_eq!(
        labels.data_directories().collect::<Vec<_>>(),
        ["/data", "/snapshots"]
    );
    assert_snapshot!(
        bad(&[("elasticsearch", "*"), ("elasticsearch.repository", "cofferdam-saving")]),
        @"container db: label `cofferdam.elasticsearch.repository` is `cofferdam-saving`, a name reserved for Cofferdam; name a repository of your own; Cofferdam deletes what is in its repositories"
    );
    assert_snapshot!(bad(&[("elasticsearch", "cases,-forms")]), @r"container db: label `cofferdam.elasticsearch` contains `-forms`, which is not an index name; write whole names of indices or data streams, or `*` for all");
    assert_snapshot!(
        bad(&[("elasticsearch", "*"), ("elasticsearch.repository", "s3"), ("elasticsearch.location", "/snapshots")]),
        @r"container db: label `cofferdam.elasticsearch.location` conflicts with `cofferdam.elasticsearch.repository`; a snapshot goes to one or the other: remove one of them"
    );
}

#[test]
fn every_mysql_option_is_read() {
    let labels = good(&[
        ("mysql", "shop, reports"),
        ("mysql.user", "backup"),
        ("mysql.password-file", "/run/secrets/mysql"),
        ("mysql.port", "3307"),
        ("mysql.exclude-tables", "tmp_*, audit_log"),
        ("mysql.exclude-table-data", "jobs"),
        ("mysql.restore", "recreate"),
        ("mysql.transfer", "stream"),
        ("mysql.scratch", "/var/tmp/"),
        ("mysql.exec-user", "mysql"),
    ]);
    assert_eq!(labels.opt_in, OptIn::Labels);
    assert_eq!(
        labels.mysql,
        Some(MysqlLabels {
            databases: names(&["shop", "reports"]),
            user: Some("backup".to_owned()),
            password_file: Some("/run/secrets/mysql".to_owned()),
            password_variable: None,
            port: Some(3307),
            exclude_tables: vec!["tmp_*".to_owned(), "audit_log".to_owned()],
            exclude_table_data: vec!["jobs".to_owned()],
            restore: MysqlRestore::Recreate,
            transfer: TransferChoice::Stream,
            scratch: Some("/var/tmp".to_owned()),
            exec_user: Some("mysql".to_owned()),
        })
    );
    assert_eq!(labels.postgres, None);
}

#[test]
fn who_opted_in_is_known() {
    for (labels, expected) in [
        (vec![], OptIn::No),
        (vec![("enable", "true")], OptIn::Detection),
        (vec![("enable", "false")], OptIn::No),
        (vec![("postgres", "*")], OptIn::Labels),
        (vec![("volumes", "*")], OptIn::Labels),
        (vec![("files.conf", "/etc/conf")], OptIn::Labels),
        (
            vec![("command.rdb.dump", "redis-cli --rdb -")],
            OptIn::Labels,
        ),
        (vec![("enable", "true"), ("volumes", "a")], OptIn::Detection),
        (vec![("enable", "true"), ("binds", "/a")], OptIn::Detection),
        (
            vec![
                ("enable", "true"),
                ("files.a", "/a"),
                ("postgres.user", "admin"),
                ("volumes.b.exclude", "tmp"),
            ],
            OptIn::Detection,
        ),
        (vec![("enable", "true"), ("postgres", "*")], OptIn::Labels),
        (
            vec![("enable", "true"), ("files.a", "/a"), ("mysql", "*")],
            OptIn::Labels,
        ),
        (vec![("enable", "false"), ("volumes", "a")], OptIn::No),
        (
            vec![("enable", "true"), ("postgres.user", "admin")],
            OptIn::Detection,
        ),
        (
            vec![("enable", "true"), ("volumes.a.exclude", "tmp")],
            OptIn::Detection,
        ),
        (vec![("stop", "backup")], OptIn::No),
        (vec![("skip", "cache only")], OptIn::No),
        (
            vec![("skip", "cache only"), ("volumes", "a")],
            OptIn::Labels,
        ),
    ] {
        assert_eq!(good(&labels).opt_in, expected, "{labels:?}");
    }
}

#[test]
fn options_alone_serve_the_database_that_is_detected() {
    let postgres = good(&[("enable", "true"), ("postgres.user", "admin")]).postgres;
    let postgres = postgres.expect("options were given");
    assert_eq!(postgres.databases, Selection::All);
    assert_eq!(postgres.user.as_deref(), Some("admin"));
    assert_eq!(good(&[("enable", "true")]).postgres, None);
}

#[test]
fn trees_are_read_with_their_options() {
    let labels = good(&[
        ("volumes", "vault-data,my.data"),
        ("volumes.my.data.exclude", "/cache, *.tmp"),
        ("volumes.my.data.restore", "overlay"),
        ("files.portal.yml", "/etc/portal.yml"),
        ("files.static", "/srv/static/"),
        ("files.static.restore", "keep-existing"),
        ("files.static.exclude", "build/"),
    ]);
    assert_eq!(labels.volumes, Some(names(&["vault-data", "my.data"])));
    assert_eq!(
        labels.volume_options,
        BTreeMap::from([(
            "my.data".to_owned(),
            TreeOptions {
                exclude: vec!["/cache".to_owned(), "*.tmp".to_owned()],
                restore: TreeRestore::Overlay,
            }
        )])
    );
    assert_eq!(
        labels.files,
        BTreeMap::from([
            (
                "portal.yml".to_owned(),
                FilesLabels {
                    path: "/etc/portal.yml".to_owned(),
                    options: TreeOptions::default(),
                }
            ),
            (
                "static".to_owned(),
                FilesLabels {
                    path: "/srv/static".to_owned(),
                    options: TreeOptions {
                        exclude: vec!["build/".to_owned()],
                        restore: TreeRestore::KeepExisting,
                    },
                }
            ),
        ])
    );
}

#[test]
fn commands_are_read_with_their_options() {
    let labels = good(&[
        ("command.rdb.dump", "redis-cli --rdb -"),
        ("command.my.entries.dump", "slapcat -n 1"),
        ("command.my.entries.load", "sh -c 'slapadd -n 1 || exit 1'"),
        ("command.my.entries.check", "ldapsearch -x"),
        ("command.my.entries.allow-empty", "true"),
        ("command.my.entries.ends-with", "# end of *"),
        ("command.my.entries.data-directory", "/var/lib/ldap/"),
        ("command.my.entries.timeout", "5m"),
        ("command.my.entries.transfer", "stream"),
        ("command.my.entries.scratch", "/var/tmp"),
        ("command.my.entries.exec-user", "openldap"),
    ]);
    let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    assert_eq!(
        labels.commands,
        BTreeMap::from([
            (
                "my.entries".to_owned(),
                CommandLabels {
                    dump: argv(&["slapcat", "-n", "1"]),
                    options: CommandOptions {
                        load: Some(argv(&["sh", "-c", "slapadd -n 1 || exit 1"])),
                        check: Some(argv(&["ldapsearch", "-x"])),
                        allow_empty: true,
                        ends_with: Some("# end of *".to_owned()),
                        data_directory: Some("/var/lib/ldap".to_owned()),
                        timeout: Duration::from_secs(300),
                        transfer: TransferChoice::Stream,
                        scratch: Some("/var/tmp".to_owned()),
                        exec_user: Some("openldap".to_owned()),
                    },
                }
            ),
            (
                "rdb".to_owned(),
                CommandLabels {
                    dump: argv(&["redis-cli", "--rdb", "-"]),
                    options: CommandOptions::default(),
                }
            ),
        ])
    );
}

#[test]
fn sqlite_files_are_read_and_opt_their_container_in() {
    let labels = good(&[("sqlite", "/data/app.db, /data//jobs.db")]);
    assert_eq!(labels.sqlite, ["/data/app.db", "/data/jobs.db"]);
    assert_eq!(labels.opt_in, OptIn::Labels);
    assert_snapshot!(bad(&[("sqlite", "app.db")]), @"container db: label `cofferdam.sqlite` is `app.db`, which is not absolute; write the whole path as the container sees it, beginning with `/`");
    let unknown = bad(&[("sqlite.user", "admin")]);
    assert!(
        unknown.contains("label `cofferdam.sqlite.user` is unknown"),
        "{unknown}"
    );
}

#[test]
fn holds_and_hooks_are_read() {
    let labels = good(&[
        ("stop", "restore, backup"),
        ("hold-for", "postgres-db, vault"),
        ("hook.before-backup", "vault auth disable 'approle/'"),
        ("hook.before-backup.user", "vault"),
        ("hook.before-backup.when-stopped", "skip"),
        ("ready-timeout", "10m"),
        ("hook.after-backup", "vault status"),
        ("hook.after-backup.timeout", "90s"),
    ]);
    assert_eq!(
        labels.stop,
        BTreeSet::from([Moment::Backup, Moment::Restore])
    );
    assert_eq!(labels.ready_timeout, Some(Duration::from_secs(600)));
    assert_eq!(
        labels.hold_for,
        Some(vec!["postgres-db".to_owned(), "vault".to_owned()])
    );
    let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    assert_eq!(
        labels.hooks,
        BTreeMap::from([
            (
                HookPoint::BeforeBackup,
                HookSpec {
                    argv: argv(&["vault", "auth", "disable", "approle/"]),
                    user: Some("vault".to_owned()),
                    timeout: Duration::from_secs(600),
                    when_stopped: WhenStopped::Skip,
                }
            ),
            (
                HookPoint::AfterBackup,
                HookSpec {
                    argv: argv(&["vault", "status"]),
                    user: None,
                    timeout: Duration::from_secs(90),
                    when_stopped: WhenStopped::Fail,
                }
            ),
        ])
    );
    assert!(good(&[("pause", "backup"), ("stop", "restore")]).pause);
}

#[test]
fn options_may_wait_for_the_switch() {
    for switch in [("enable", "false"), ("skip", "moved away")] {
        good(&[switch, ("postgres.user", "admin")]);
        good(&[switch, ("volumes.data.exclude", "tmp")]);
    }
}

#[test]
fn typos_in_labels_are_told() {
    assert_snapshot!(bad(&[("postgress", "*")]), @r"container db: label `cofferdam.postgress` is unknown; did you mean `cofferdam.postgres` (databases to save, or `*`)?");
    assert_snapshot!(bad(&[("postgres.pasword_file", "/run/secrets/p")]), @r"container db: label `cofferdam.postgres.pasword_file` is unknown; did you mean `cofferdam.postgres.password-file` (file in the container that holds the password)?");
    assert_snapshot!(bad(&[("volumes", "my.data"), ("volumes.my.data.exlude", "tmp")]), @r"container db: label `cofferdam.volumes.my.data.exlude` is unknown; did you mean `cofferdam.volumes.my.data.exclude` (patterns to leave out of this volume)?");
    assert_snapshot!(bad(&[("volumes.data", "true")]), @r"container db: label `cofferdam.volumes.data` is unknown; to save the volume, name it in the value: `cofferdam.volumes: data`");
    assert_snapshot!(bad(&[("command.rdb.dmp", "redis-cli --rdb -")]), @r"container db: label `cofferdam.command.rdb.dmp` is unknown; did you mean `cofferdam.command.rdb.dump` (command whose standard output is saved)?");
    assert_snapshot!(bad(&[("command.dump", "redis-cli --rdb -")]), @r"container db: label `cofferdam.command.dump` is unknown; did you mean `cofferdam.command.<name>.dump` (command whose standard output is saved)?");
    assert_snapshot!(bad(&[("command.rdb", "redis-cli --rdb -")]), @r"container db: label `cofferdam.command.rdb` is unknown; say what the command is for: `cofferdam.command.rdb.dump`, `cofferdam.command.rdb.load` or `cofferdam.command.rdb.check`");
    assert_snapshot!(bad(&[("command.rdb.dump", "cat /x"), ("command.rdb.exec_user", "redis")]), @r"container db: label `cofferdam.command.rdb.exec_user` is unknown; did you mean `cofferdam.command.rdb.exec-user` (system user that the commands run as)?");
    assert_snapshot!(bad(&[("command.a b.dump", "cat /x")]), @r"container db: label `cofferdam.command.a b.dump` has the invalid name `a b`; use up to 64 letters, digits, `_`, `.` and `-`, beginning with a letter or a digit");
    assert_snapshot!(bad(&[("files", "/etc/app.conf")]), @r"container db: label `cofferdam.files` is unknown; did you mean `cofferdam.files.<name>` (a file or directory to save, as the container sees it)?");
    assert_snapshot!(bad(&[("hook.pre-backup", "sync")]), @r"container db: label `cofferdam.hook.pre-backup` is unknown; did you mean `cofferdam.hook.before-backup` (command to run in this container before its project is saved)?");
    assert_snapshot!(bad(&[("xyzzy", "1")]), @r"container db: label `cofferdam.xyzzy` is unknown; the labels are `cofferdam.enable`, `cofferdam.project`, `cofferdam.service`, `cofferdam.skip`, `cofferdam.postgres`, `cofferdam.mysql`, `cofferdam.couchdb`, `cofferdam.elasticsearch`, `cofferdam.sqlite`, `cofferdam.volumes`, `cofferdam.binds`, `cofferdam.files.…`, `cofferdam.command.…`, `cofferdam.keep`, `cofferdam.schedule`, `cofferdam.trigger`, `cofferdam.stop`, `cofferdam.pause`, `cofferdam.hold-for`, `cofferdam.ready-timeout`, `cofferdam.hook.…`");
    assert_snapshot!(bad(&[("", "1")]), @r"container db: label `cofferdam.` is unknown; the labels are `cofferdam.enable`, `cofferdam.project`, `cofferdam.service`, `cofferdam.skip`, `cofferdam.postgres`, `cofferdam.mysql`, `cofferdam.couchdb`, `cofferdam.elasticsearch`, `cofferdam.sqlite`, `cofferdam.volumes`, `cofferdam.binds`, `cofferdam.files.…`, `cofferdam.command.…`, `cofferdam.keep`, `cofferdam.schedule`, `cofferdam.trigger`, `cofferdam.stop`, `cofferdam.pause`, `cofferdam.hold-for`, `cofferdam.ready-timeout`, `cofferdam.hook.…`");
}

#[test]
fn a_typo_in_the_prefix_is_told() {
    let (name, mut labels) = ("db", BTreeMap::new());
    labels.insert("coferdam.enable".to_owned(), "true".to_owned());
    assert_snapshot!(parse(name, &labels).unwrap_err(), @r"container db: label `coferdam.enable` is unknown; did you mean `cofferdam.enable` (`true`: back this container up; `false`: ignore it)?");
}

#[test]
fn a_name_that_looks_like_an_option_is_told() {
    assert_snapshot!(bad(&[("files.conf", "/etc/conf"), ("files.conf.exlude", "/cache")]), @r"container db: label `cofferdam.files.conf.exlude` has a name that ends like the option `exclude`; did you mean `cofferdam.files.conf.exclude`? (otherwise choose another name)");
    assert_snapshot!(bad(&[("files.exclude", "/cache")]), @r"container db: label `cofferdam.files.exclude` has a name that ends like the option `exclude`; did you mean `cofferdam.files.<name>.exclude`? (otherwise choose another name)");
    assert_snapshot!(bad(&[("files.a b", "/cache")]), @r"container db: label `cofferdam.files.a b` has the invalid name `a b`; use up to 64 letters, digits, `_`, `.` and `-`, beginning with a letter or a digit");
}

#[test]
fn labels_of_our_containers_are_refused_on_others() {
    let (name, mut labels) = ("web", BTreeMap::new());
    let label = ("cofferdam.hold".to_owned(), "backup".to_owned());
    labels.extend([label]);
    assert_snapshot!(parse(name, &labels).unwrap_err(), @r"container web: label `cofferdam.hold` is reserved for Cofferdam's own containers; remove it; `cofferdam.stop`, `cofferdam.pause` and `cofferdam.hold-for` set how containers are held");
    for key in ["helper", "hold.owner"] {
        assert!(parsed(&[(key, "1")]).is_err(), "{key}");
    }
}

#[test]
fn a_container_may_have_rules_of_its_own_for_what_is_kept() {
    let labels = good(&[("volumes", "blobdb"), ("keep", "daily=2, weekly=2")]);
    let keep = labels.keep.map(|policy| policy.to_string());
    assert_eq!(keep.as_deref(), Some("daily=2,weekly=2"));
    assert_eq!(
        good(&[("enable", "true"), ("keep", "last=3")]).opt_in,
        OptIn::Detection
    );
    assert_snapshot!(bad(&[("volumes", "blobdb"), ("keep", "dayly=2")]), @r"container db: label `cofferdam.keep` has the rule `dayly`; did you mean `daily`?");
    assert_snapshot!(bad(&[("volumes", "blobdb"), ("keep", "daily=0")]), @r"container db: label `cofferdam.keep` is `daily=0`, which keeps nothing; give one of its rules a number above 0");
    assert_snapshot!(bad(&[("stop", "backup"), ("keep", "daily=2")]), @r"container db: label `cofferdam.keep` has no target to apply to; add a label that names what to save, or remove this one");
}

#[test]
fn a_container_may_have_a_schedule_of_its_own() {
    let labels = good(&[("volumes", "blobdb"), ("schedule", " @weekly ")]);
    let schedule = labels.schedule.map(|schedule| schedule.to_string());
    assert_eq!(schedule.as_deref(), Some("@weekly"));
    assert_eq!(
        good(&[("enable", "true"), ("schedule", "every 6h")]).opt_in,
        OptIn::Detection
    );
    assert_snapshot!(bad(&[("volumes", "blobdb"), ("schedule", "@weakly")]), @r"container db: label `cofferdam.schedule` is `@weakly`; did you mean `@weekly`?");
    assert_snapshot!(bad(&[("stop", "backup"), ("schedule", "@weekly")]), @r"container db: label `cofferdam.schedule` has no target to apply to; add a label that names what to save, or remove this one");
}

#[test]
fn a_container_that_has_done_its_work_may_trigger_a_backup() {
    assert!(good(&[("trigger", "exit")]).triggers_on_exit);
    assert_snapshot!(bad(&[("trigger", "exits")]), @r"container db: label `cofferdam.trigger` is `exits`; did you mean `exit`? (accepted: `exit`)");
}

#[test]
fn a_service_of_compose_keeps_its_name() {
    assert_eq!(good(&[("service", "web")]), ContainerLabels::default());
    let (name, mut labels) = ("shop_web_1", BTreeMap::new());
    for (key, value) in [(COMPOSE_SERVICE, "web"), ("cofferdam.service", "shop")] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    assert_snapshot!(parse(name, &labels).unwrap_err(), @r"container shop_web_1: label `cofferdam.service` is for containers that compose did not start; remove it; this container belongs to compose's `web`");
}

#[test]
fn values_are_strict() {
    assert_snapshot!(bad(&[("enable", "True")]), @r"container db: label `cofferdam.enable` is `True`; did you mean `true`? (accepted: `true` or `false`)");
    assert_snapshot!(bad(&[("enable", "yes")]), @r"container db: label `cofferdam.enable` is `yes`; accepted: `true` or `false`");
    assert_snapshot!(bad(&[("skip", " ")]), @r"container db: label `cofferdam.skip` is empty; write the reason, such as `cache only`");
    assert_snapshot!(bad(&[("project", "my project")]), @r"container db: label `cofferdam.project` has the invalid name `my project`; use up to 64 letters, digits, `_`, `.` and `-`, beginning with a letter or a digit");
    assert_snapshot!(bad(&[("postgres", "")]), @r"container db: label `cofferdam.postgres` is empty; write names of databases, or `*`");
    assert_snapshot!(bad(&[("postgres", "clinical,,genomic")]), @r"container db: label `cofferdam.postgres` has an empty item; remove the extra comma");
    assert_snapshot!(bad(&[("postgres", "*,genomic")]), @r"container db: label `cofferdam.postgres` has `*` next to other items; write `*` alone: it means all of them");
    assert_snapshot!(bad(&[("postgres", "*"), ("postgres.restore", "swp")]), @r"container db: label `cofferdam.postgres.restore` is `swp`; did you mean `swap`? (accepted: `swap`, `recreate` or `clean`)");
    assert_snapshot!(bad(&[("postgres", "*"), ("postgres.mode", "basebackup"), ("postgres.transfer", "copy")]), @"container db: label `cofferdam.postgres.transfer` cannot be combined with `cofferdam.postgres.mode: basebackup`; remove one of them");
    assert_snapshot!(bad(&[("postgres", "clinical"), ("postgres.mode", "dumpall"), ("postgres.restore", "swap")]), @r"
    container db: label `cofferdam.postgres` names databases, but `cofferdam.postgres.mode: dumpall` saves the whole server; write `*`, or save single databases with `cofferdam.postgres.mode: dump`
    container db: label `cofferdam.postgres.restore` cannot be combined with `cofferdam.postgres.mode: dumpall`; remove one of them
    ");
    assert_snapshot!(bad(&[("postgres", "*"), ("postgres.port", "70000")]), @r"container db: label `cofferdam.postgres.port` is `70000`; write a port from 1 to 65535");
    assert_snapshot!(bad(&[("postgres", "*"), ("postgres.scratch", "tmp")]), @r"container db: label `cofferdam.postgres.scratch` is `tmp`, which is not absolute; write the whole path as the container sees it, beginning with `/`");
    assert_snapshot!(bad(&[("volumes", "*"), ("volumes.a.exclude", "cache[")]), @r"container db: label `cofferdam.volumes.a.exclude` has the pattern `cache[`, which is malformed: unclosed character class; missing ']'; a comma separates patterns, also inside `{}`; put `\` before `*`, `?`, `[`, `]`, `{` or `}` to match the character itself");
    assert_snapshot!(bad(&[("files.conf", "/etc/../conf")]), @r"container db: label `cofferdam.files.conf` is `/etc/../conf`, which contains `.` or `..`; write the path without them");
    assert_snapshot!(bad(&[("stop", "backups")]), @r"container db: label `cofferdam.stop` is `backups`; did you mean `backup`? (accepted: `backup` or `restore`)");
    assert_snapshot!(bad(&[("pause", "restore")]), @r"container db: label `cofferdam.pause` is `restore`, but a paused container still has the replaced files open; use `cofferdam.stop: restore`");
    assert_snapshot!(bad(&[("hook.before-backup", "echo 'x")]), @r"container db: label `cofferdam.hook.before-backup` has a quote that is not closed, or a `\` at its end; quote words as in a shell");
    assert_snapshot!(bad(&[("hook.before-backup", "a && b")]), @r"container db: label `cofferdam.hook.before-backup` contains `&&`, but is not run by a shell; wrap the command in `sh -c '…'`, or quote the word");
    assert_snapshot!(bad(&[("hook.before-backup", "a"), ("hook.before-backup.timeout", "10M")]), @r"container db: label `cofferdam.hook.before-backup.timeout` is `10M`; `M` means months; write `m` for minutes, such as `10m`");
}

#[test]
fn labels_that_serve_nothing_are_told() {
    assert_snapshot!(bad(&[("postgres.user", "admin")]), @r"container db: label `cofferdam.postgres.user` has no database to apply to; add `cofferdam.postgres` with the databases' names, or with `*`");
    assert_snapshot!(bad(&[("volumes", "vault-data"), ("volumes.vault-date.exclude", "tmp")]), @r"container db: label `cofferdam.volumes.vault-date.exclude` belongs to the volume `vault-date`, which no label saves; did you mean `cofferdam.volumes.vault-data.exclude`?");
    assert_snapshot!(bad(&[("volumes.data.exclude", "tmp")]), @r"container db: label `cofferdam.volumes.data.exclude` belongs to the volume `data`, which no label saves; add `data` to `cofferdam.volumes`");
    assert_snapshot!(bad(&[("enable", "true"), ("postgres", "*"), ("volumes.data.exclude", "tmp")]), @r"container db: label `cofferdam.volumes.data.exclude` belongs to the volume `data`, which no label saves; add `data` to `cofferdam.volumes`");
    assert_snapshot!(bad(&[("files.portal", "/etc/portal"), ("files.portl.restore", "overlay")]), @r"container db: label `cofferdam.files.portl.restore` has no path to apply to; did you mean `cofferdam.files.portal.restore`?");
    assert_snapshot!(bad(&[("command.rdb.load", "cat")]), @r"container db: label `cofferdam.command.rdb.load` has no dump to apply to; add `cofferdam.command.rdb.dump` with the command whose output is to be saved");
    assert_snapshot!(bad(&[("command.ldap.dump", "slapcat"), ("command.lpad.load", "cat")]), @r"container db: label `cofferdam.command.lpad.load` has no dump to apply to; did you mean `cofferdam.command.ldap.load`?");
    assert_snapshot!(bad(&[("hold-for", "db")]), @r"container db: label `cofferdam.hold-for` has no hold to apply to; add `cofferdam.stop` or `cofferdam.pause`, or remove this label");
    assert_snapshot!(bad(&[("hook.after-backup.user", "root")]), @r"container db: label `cofferdam.hook.after-backup.user` has no command to apply to; add `cofferdam.hook.after-backup`, or remove this label");
}

#[test]
fn contradictions_are_told() {
    assert_snapshot!(bad(&[("enable", "true"), ("skip", "cache only")]), @r"container db: label `cofferdam.skip` conflicts with `cofferdam.enable: true`; remove one of them");
    assert_snapshot!(bad(&[("pause", "backup"), ("stop", "backup,restore")]), @r"container db: label `cofferdam.pause` conflicts with a `cofferdam.stop` for `backup`; a container is either stopped or paused: remove one of them");
    assert_snapshot!(bad(&[("files.a", "/etc/app"), ("files.b", "/etc/app/")]), @r"container db: label `cofferdam.files.b` names the same path as `cofferdam.files.a`; remove one of them");
}

#[test]
fn every_problem_is_told_at_once_and_none_twice() {
    assert_snapshot!(
        bad(&[
            ("postgres", ""),
            ("postgres.user", "admin"),
            ("postgres.restore", "swp"),
            ("volumes", ","),
            ("volumes.data.exclude", "tmp"),
            ("stop", "always"),
            ("hold-for", "db"),
        ]),
        @r"
    container db: label `cofferdam.postgres` is empty; write names of databases, or `*`
    container db: label `cofferdam.postgres.restore` is `swp`; did you mean `swap`? (accepted: `swap`, `recreate` or `clean`)
    container db: label `cofferdam.stop` is `always`; accepted: `backup` or `restore`
    container db: label `cofferdam.volumes` has an empty item; remove the extra comma
    "
    );
}

proptest! {
    #[test]
    fn no_label_makes_it_panic(
        labels in proptest::collection::btree_map(label_key(), ".{0,20}", 0..6),
    ) {
        if let Err(errors) = parse("db", &labels) {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(!errors.to_string().chars().any(|char| char.is_control() && char != '\n'));
        }
    }

    #[test]
    fn what_is_under_the_prefix_and_unknown_is_never_silent(tail in "[a-z.-]{1,24}") {
        let key = format!("cofferdam.{tail}");
        prop_assume!(table::find(&key).is_none() && table::find_own(&key).is_none());
        prop_assert!(parsed(&[(&tail, "true")]).is_err());
    }
}

fn label_key() -> impl Strategy<Value = String> {
    let known: Vec<&str> = table::TABLE.iter().map(|entry| entry.pattern).collect();
    prop_oneof![
        proptest::sample::select(known).prop_flat_map(|pattern| {
            "[a-z.é]{1,6}".prop_map(move |name| pattern.replace(table::NAME, &name))
        }),
        ".{0,12}".prop_map(|tail| format!("cofferdam.{tail}")),
        ".{0,12}",
    ]
}

/// The labels of each service in a page that holds compose files, read line by line: a `key: value` pair belongs to the
/// service whose name stands four blanks before it.
fn labels_of_services(page: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut services: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut heads: BTreeMap<usize, &str> = BTreeMap::new();
    for line in page.lines() {
        let body = line.trim_start();
        let depth = line.len() - body.len();
        if let Some(head) = body.strip_suffix(':') {
            heads.insert(depth, head);
        }
        let pair = body.split_once(": ").filter(|_| body.starts_with(PREFIX));
        if let (Some((key, value)), true) = (pair, depth >= 4) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            let value = value.trim_matches('"').replace("$$", "$");
            let labels = services.entry(heads[&(depth - 4)].to_owned()).or_default();
            labels.insert(key.to_owned(), value);
        }
    }
    services
}

#[test]
fn the_labels_that_we_show_to_people_are_good() {
    for (page, least) in [
        (include_str!("../../../docs/labels.md"), 3),
        (include_str!("../../../docs/recipes.md"), 12),
        (include_str!("../../../README.md"), 2),
        (
            include_str!("../../../compose-examples/candig/docker-compose.yml"),
            4,
        ),
    ] {
        let services = labels_of_services(page);
        assert!(services.len() >= least, "{services:?}");
        for (service, labels) in services {
            if let Err(errors) = parse(&service, &labels) {
                panic!("{errors}");
            }
        }
    }
}

#[test]
fn bind_mounts_are_named_by_their_paths() {
    let labels = good(&[("binds", "/data/, /srv//media"), ("binds.skip", "/cache")]);
    assert_eq!(labels.opt_in, OptIn::Labels);
    assert_eq!(labels.binds, Some(names(&["/data", "/srv/media"])));
    assert_eq!(labels.skipped_binds, ["/cache"]);
    assert_eq!(good(&[("binds", "*")]).binds, Some(Selection::All));

    let skips = [("volumes.skip", "cache, /data"), ("binds.skip", "/tmp")];
    assert_eq!(good(&skips).opt_in, OptIn::No);
    assert_eq!(good(&skips).skipped_volumes, ["cache", "/data"]);
    let enabled = [("enable", "true"), skips[0], skips[1]];
    assert_eq!(good(&enabled).opt_in, OptIn::Detection);

    assert_snapshot!(bad(&[("binds", "data")]), @"container db: label `cofferdam.binds` is `data`, which is not absolute; write the whole path as the container sees it, beginning with `/`");
    assert_snapshot!(bad(&[("volumes.skp", "cache")]), @"container db: label `cofferdam.volumes.skp` is unknown; did you mean `cofferdam.volumes.skip` (volumes left out on purpose)?");
    assert_snapshot!(bad(&[("bind", "/data")]), @"container db: label `cofferdam.bind` is unknown; did you mean `cofferdam.binds` (bind mounts to save, as paths in the container, or `*`)?");
}
