use insta::assert_snapshot;

use super::*;
use crate::engine::container::tests_support::container;
use crate::labels::parse;
use crate::stack::why_apart;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// `mounts`: of directories of the host, as `/host:/path` with `:ro` where it cannot be written to; of volumes, as
/// `name:/path`.
fn service(name: &str, mounts: &[&str], labels: &[(&str, &str)]) -> Service {
    let mut container = container(name);
    for mount in mounts {
        let parts: Vec<&str> = mount.split(':').collect();
        let volume = (!parts[0].starts_with('/')).then(|| parts[0].to_owned());
        container.mounts.push(Mount {
            kind: match volume {
                Some(_) => MountKind::Volume,
                None => MountKind::Bind,
            },
            source: match &volume {
                Some(volume) => format!("/volumes/{volume}"),
                None => parts[0].to_owned(),
            },
            volume,
            subpath: None,
            destination: parts[1].to_owned(),
            writable: parts.get(2) != Some(&"ro"),
        });
    }
    for (key, value) in labels {
        let key = format!("cofferdam.{key}");
        container.labels.insert(key, (*value).to_owned());
    }
    Service {
        name: name.to_owned(),
        labels: parse(&container.name, &container.labels).expect("the labels are good"),
        container,
    }
}

/// What is set apart, with nothing in it at first.
#[derive(Default)]
struct Set {
    databases: BTreeMap<String, Vec<String>>,
    no_directories: BTreeSet<String>,
    repositories: Vec<String>,
}

impl Set {
    /// `service:path` of each path that is taken, and what is told.
    fn look(&self, services: Vec<Service>) -> Result<(Vec<String>, Vec<String>), LabelErrors> {
        let stack = Stack {
            project: "shop".to_owned(),
            services,
            left_out: Vec::new(),
            swarm: None,
            warnings: Vec::new(),
        };
        let apart = Apart {
            databases: &self.databases,
            no_directories: &self.no_directories,
            repositories: &self.repositories,
        };
        let volumes = crate::stack::wanted(&stack, &BTreeMap::new(), &apart)?;
        let paths = wanted_paths(&stack, &volumes, &apart)?;
        let taken = paths.into_iter().flat_map(|(service, paths)| {
            let paths = paths.into_iter();
            paths.map(move |path| format!("{service}:{path}"))
        });
        Ok((taken.collect(), why_apart(&stack, &BTreeMap::new(), &apart)))
    }

    fn taken(&self, services: Vec<Service>) -> Vec<String> {
        self.look(services).expect("good labels").0
    }
}

fn taken(services: Vec<Service>) -> Vec<String> {
    Set::default().taken(services)
}

fn bad(mounts: &[&str], labels: &[(&str, &str)]) -> String {
    let looked = Set::default().look(vec![service("app", mounts, labels)]);
    looked.expect_err("a problem").to_string()
}

#[test]
fn paths_are_taken_as_labels_ask() {
    let anonymous = format!("{HEX}:/anonymous");
    let mounts = [
        "/host/data:/data",
        "/host/conf:/conf",
        "named:/named",
        &anonymous,
    ];
    for (labels, expected) in [
        (vec![], vec![]),
        (
            vec![("enable", "true")],
            vec!["app:/anonymous", "app:/conf", "app:/data"],
        ),
        (vec![("binds", "*")], vec!["app:/conf", "app:/data"]),
        (vec![("binds", "/data")], vec!["app:/data"]),
        (vec![("volumes", "*")], vec![]),
        (
            vec![("enable", "true"), ("volumes", "*")],
            vec!["app:/anonymous", "app:/conf", "app:/data"],
        ),
        (
            vec![("enable", "true"), ("files.conf", "/conf/part")],
            vec!["app:/anonymous", "app:/conf", "app:/data"],
        ),
        (
            vec![
                ("enable", "true"),
                ("files.conf", "/conf"),
                ("binds", "/data"),
            ],
            vec!["app:/anonymous", "app:/data"],
        ),
        (
            vec![("binds", "*"), ("binds.skip", "/conf")],
            vec!["app:/data"],
        ),
        (
            vec![
                ("enable", "true"),
                ("binds.skip", "/conf"),
                ("volumes.skip", "/anonymous"),
            ],
            vec!["app:/data"],
        ),
        (vec![("binds", "*"), ("skip", "moved")], vec![]),
        // Its own label saves it already.
        (
            vec![("binds", "*"), ("files.conf", "/conf")],
            vec!["app:/data"],
        ),
    ] {
        let services = vec![service("app", &mounts, &labels)];
        assert_eq!(taken(services), expected, "{labels:?}");
    }
}

#[test]
fn only_what_is_named_is_taken_of_the_host_and_of_what_is_no_writable_directory() {
    let mounts = [
        "/etc/localtime:/etc/localtime",
        "/etc/letsencrypt:/certificates",
        "/proc:/host/proc",
        "/sys:/host/sys",
        "/dev/bus:/dev/bus",
        "/:/host",
        "/var:/host/var",
        "/var/run/docker.sock:/var/run/docker.sock",
        "/var/lib/docker:/engine",
        "/var/lib/docker/volumes:/volumes",
        "/var/lib/docker/volumes/uploads/_data:/uploads",
        "/host/read:/read:ro",
        "/host/app.conf:/etc/app.conf",
        "/host/app:/etc/app",
    ];
    let set = Set {
        no_directories: BTreeSet::from(["/host/app.conf".to_owned()]),
        ..Set::default()
    };
    let look = |labels: &[(&str, &str)]| set.taken(vec![service("app", &mounts, labels)]);
    for label in [("enable", "true"), ("binds", "*")] {
        assert_eq!(
            look(&[label]),
            ["app:/etc/app", "app:/uploads"],
            "{label:?}"
        );
    }
    let named = [("binds", "/certificates, /read, /etc/app.conf")];
    let expected = ["app:/certificates", "app:/etc/app.conf", "app:/read"];
    assert_eq!(look(&named), expected);
}

#[test]
fn what_several_see_is_saved_once() {
    let all = [("binds", "*")];
    let with = |mount: &str| service("b", &[mount], &all);
    let a = |labels: &[(&str, &str)]| service("a", &["/host/data:/data"], labels);
    assert_eq!(taken(vec![a(&all), with("/host/data:/d")]), ["a:/data"]);
    assert_eq!(taken(vec![a(&[]), with("/host/data:/d")]), ["b:/d"]);
    // Whatever its service is called, the outer one comes first.
    assert_eq!(taken(vec![a(&all), with("/host:/host")]), ["b:/host"]);
    assert_eq!(taken(vec![a(&all), with("/host/data/x:/x")]), ["a:/data"]);
    let named = [("binds", "/data")];
    let again = service("b", &["/host/data:/d"], &[("binds", "/d")]);
    assert_eq!(taken(vec![a(&named), again]), ["a:/data"]);

    let part = service("b", &["/host/data/x:/x"], &[("binds", "/x")]);
    assert_eq!(taken(vec![a(&named), part]), ["a:/data"]);

    // Patterns that leave something out may leave this out.
    let part = [("files.data", "/data"), ("files.data.exclude", "/x")];
    assert_eq!(taken(vec![a(&part), with("/host/data/x:/x")]), ["b:/x"]);
    assert_eq!(
        taken(vec![a(&part), with("/host/data:/d")]),
        Vec::<String>::new()
    );

    // One mount over another hides what is there.
    let nested = service("a", &["/host/data:/data", "/host/data/x:/data/x"], &all);
    assert_eq!(taken(vec![nested]), ["a:/data", "a:/data/x"]);
}

#[test]
fn the_data_of_a_database_is_only_taken_by_name() {
    let set = Set {
        databases: BTreeMap::from([("db".to_owned(), vec!["/var/lib/db/data".to_owned()])]),
        ..Set::default()
    };
    let mounts = [
        "/host/db:/var/lib/db",
        "/host/wal:/var/lib/db/data/wal",
        "/host/conf:/conf",
    ];
    let db = |labels: &[(&str, &str)]| service("db", &mounts, labels);
    let enabled = [("enable", "true")];
    let peek = service("peek", &["/host/db:/db", "/host:/host"], &enabled);
    let (taken, told) = set.look(vec![db(&enabled), peek]).unwrap();
    assert_eq!(taken, ["db:/conf"]);
    assert_snapshot!(told.join("\n"), @r"
    db: /var/lib/db is not saved: it holds the data of a database server, and a copy of files in use cannot be restored; to save what else is in it, add the labels `cofferdam.files.db: /var/lib/db` and `cofferdam.files.db.exclude: /data`
    peek: /db is not saved: it holds the data of a database server, and a copy of files in use cannot be restored; to save what else is in it, add the labels `cofferdam.files.db: /db` and `cofferdam.files.db.exclude: /data`
    peek: /host is not saved: it holds the data of a database server, and a copy of files in use cannot be restored; to save what else is in it, add the labels `cofferdam.files.host: /host` and `cofferdam.files.host.exclude: /db/data, /wal`
    ");
    let labelled = [
        ("enable", "true"),
        ("files.db", "/var/lib/db"),
        ("files.db.exclude", "/data"),
    ];
    let (taken, told) = set.look(vec![db(&labelled)]).unwrap();
    assert_eq!((taken, told), (vec!["db:/conf".to_owned()], Vec::new()));
    let own = service("db", &["/host/db:/var/lib/db/data"], &enabled);
    assert_eq!(set.look(vec![own]).unwrap(), (Vec::new(), Vec::new()));
    assert_eq!(
        set.taken(vec![db(&[("binds", "/var/lib/db")])]),
        ["db:/var/lib/db"]
    );
}

#[test]
fn a_repository_is_left_out_with_a_word() {
    let set = Set {
        repositories: vec!["/host/backups/shop".to_owned()],
        ..Set::default()
    };
    let mounts = ["/host:/host", "/host/backups:/backups", "/host/data:/data"];
    let (taken, told) = set
        .look(vec![service("app", &mounts, &[("binds", "*")])])
        .unwrap();
    assert_eq!(taken, ["app:/data"]);
    assert_snapshot!(told.join("\n"), @r"
    app: /backups is not saved: it contains Cofferdam's own repository, or is inside it; to save what else is in it, add the labels `cofferdam.files.backups: /backups` and `cofferdam.files.backups.exclude: /shop`
    app: /host is not saved: it contains Cofferdam's own repository, or is inside it; to save what else is in it, add the labels `cofferdam.files.host: /host` and `cofferdam.files.host.exclude: /backups/shop`
    ");
    let skipped = [("binds", "*"), ("binds.skip", "/host,/backups")];
    let (_, told) = set.look(vec![service("app", &mounts, &skipped)]).unwrap();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_volume_is_taken_whose_options_leave_the_repository_out() {
    let set = Set {
        repositories: vec!["/volumes/named/backups".to_owned()],
        ..Set::default()
    };
    let told = |labels: &[(&str, &str)]| {
        let app = service("app", &["named:/named"], labels);
        set.look(vec![app]).unwrap().1.len()
    };
    let all = ("volumes", "*");
    assert_eq!(told(&[all]), 1);
    assert_eq!(told(&[all, ("volumes.named.exclude", "/backups")]), 0);
    assert_eq!(told(&[all, ("volumes.named.exclude", "/other")]), 1);
}

#[test]
fn what_only_its_name_takes_is_told() {
    let mounts = [
        "/host/acme.json:/acme.json",
        "/etc/letsencrypt:/certificates",
        "/etc/localtime:/etc/localtime",
        "/host/app.sock:/app.sock",
        "/run/app:/run/app",
        "/host/data:/data",
    ];
    let set = Set {
        no_directories: ["/host/acme.json", "/host/app.sock"]
            .map(str::to_owned)
            .into(),
        ..Set::default()
    };
    let told = |labels: &[(&str, &str)]| {
        let looked = set.look(vec![service("app", &mounts, labels)]);
        looked.unwrap().1.join("\n")
    };
    assert_snapshot!(told(&[("enable", "true")]), @r"
    app: /acme.json is not saved: it is a single file; name it in `cofferdam.binds`, or in `cofferdam.binds.skip`
    app: /certificates is not saved: it is part of the host's own `/etc`; name it in `cofferdam.binds`, or in `cofferdam.binds.skip`
    ");
    assert_eq!(told(&[("volumes", "*")]), "");
    let named = ("binds", "/acme.json");
    let skipped = ("binds.skip", "/certificates");
    assert_eq!(told(&[("enable", "true"), named, skipped]), "");
}

#[test]
fn what_is_named_must_be_a_bind_mount() {
    let anonymous = format!("{HEX}:/anonymous");
    let mounts = ["/host/data:/data", "named:/named", &anonymous];
    assert_snapshot!(bad(&mounts, &[("binds", "/date, /named, /anonymous, /xyz")]), @r"
    container app: label `cofferdam.binds` names `/date`, where this container has no bind mount; did you mean `/data`? (bind mounts: `/data`)
    container app: label `cofferdam.binds` names `/named`, where this container has no bind mount; a volume is mounted there: name it in `cofferdam.volumes`
    container app: label `cofferdam.binds` names `/anonymous`, where this container has no bind mount; an anonymous volume is mounted there: save it with `cofferdam.files.<name>`
    container app: label `cofferdam.binds` names `/xyz`, where this container has no bind mount; bind mounts: `/data`
    ");
    assert_snapshot!(bad(&mounts, &[("binds.skip", "/named")]), @"container app: label `cofferdam.binds.skip` names `/named`, where this container has no bind mount; a volume is mounted there: name it in `cofferdam.volumes.skip`");
    assert_snapshot!(bad(&[], &[("binds", "/data")]), @"container app: label `cofferdam.binds` names `/data`, where this container has no bind mount; it has none; `cofferdam.files.<name>` saves any path");
    assert_snapshot!(bad(&mounts, &[("binds", "/data"), ("binds.skip", "/data")]), @"container app: label `cofferdam.binds.skip` names `/data`, as does `cofferdam.binds`; remove it from one of them");
    assert_snapshot!(bad(&mounts, &[("binds", "/data"), ("files.data", "/data")]), @"container app: label `cofferdam.binds` names `/data`, as does `cofferdam.files.data`; remove it from one of them");
}
