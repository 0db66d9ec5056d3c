use insta::assert_snapshot;

use super::*;
use crate::engine::Mount;
use crate::engine::container::tests_support::container;
use crate::labels::{TreeRestore, parse};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn service(name: &str, mounts: &[(&str, &str)], labels: &[(&str, &str)]) -> Service {
    let mut container = container(name);
    for (volume, destination) in mounts {
        container.mounts.push(Mount {
            kind: MountKind::Volume,
            volume: Some((*volume).to_owned()),
            source: format!("/var/lib/docker/volumes/{volume}/_data"),
            subpath: None,
            destination: (*destination).to_owned(),
            writable: true,
        });
    }
    for (key, value) in labels {
        container
            .labels
            .insert(format!("cofferdam.{key}"), (*value).to_owned());
    }
    Service {
        name: name.to_owned(),
        labels: parse(&container.name, &container.labels).expect("the labels are good"),
        container,
    }
}

fn stack(services: Vec<Service>) -> Stack {
    Stack {
        project: "candigv2".to_owned(),
        services,
        left_out: Vec::new(),
        swarm: None,
        warnings: Vec::new(),
    }
}

fn apart(databases: &BTreeMap<String, Vec<String>>) -> Apart<'_> {
    const NOTHING: &BTreeSet<String> = &BTreeSet::new();
    Apart {
        databases,
        no_directories: NOTHING,
        repositories: &[],
    }
}

fn taken(services: Vec<Service>) -> Result<Vec<String>, LabelErrors> {
    taken_beside(services, &[])
}

/// `service/name` of each target.
fn taken_beside(
    services: Vec<Service>,
    databases: &[(&str, &str)],
) -> Result<Vec<String>, LabelErrors> {
    let databases: BTreeMap<String, Vec<String>> = databases
        .iter()
        .map(|(service, directory)| ((*service).to_owned(), vec![(*directory).to_owned()]))
        .collect();
    let wanted = wanted(&stack(services), &BTreeMap::new(), &apart(&databases))?;
    Ok(wanted
        .into_iter()
        .flat_map(|(service, volumes)| {
            volumes
                .into_iter()
                .map(move |wanted| format!("{service}/{}", wanted.volume.name))
        })
        .collect())
}

fn bad(services: Vec<Service>) -> String {
    taken(services).expect_err("a problem").to_string()
}

#[test]
fn volumes_are_taken_as_labels_ask() {
    let mounts = [
        ("candigv2_data", "/data"),
        ("candigv2_logs", "/logs"),
        ("shared", "/shared"),
        (HEX, "/anonymous"),
    ];
    for (labels, expected) in [
        (vec![], vec![]),
        (vec![("volumes", "*")], vec!["a/data", "a/logs", "a/shared"]),
        (
            vec![("enable", "true")],
            vec!["a/data", "a/logs", "a/shared"],
        ),
        (
            vec![("volumes", "data,candigv2_logs")],
            vec!["a/data", "a/logs"],
        ),
        (vec![("volumes", "shared")], vec!["a/shared"]),
        (
            vec![("volumes", "*"), ("volumes.skip", "data,shared")],
            vec!["a/logs"],
        ),
        (
            vec![
                ("enable", "true"),
                ("volumes.skip", "candigv2_logs,/anonymous"),
            ],
            vec!["a/data", "a/shared"],
        ),
        (
            vec![("enable", "true"), ("volumes", "data")],
            vec!["a/data", "a/logs", "a/shared"],
        ),
        (
            vec![("enable", "true"), ("files.logs", "/logs/")],
            vec!["a/data", "a/shared"],
        ),
        (vec![("volumes.skip", "logs")], vec![]),
        (vec![("postgres", "*")], vec![]),
        (vec![("enable", "true"), ("postgres", "*")], vec![]),
        (vec![("volumes", "*"), ("skip", "moved")], vec![]),
        (vec![("stop", "backup")], vec![]),
    ] {
        let services = vec![service("a", &mounts, &labels)];
        assert_eq!(taken(services).unwrap(), expected, "{labels:?}");
    }
}

#[test]
fn a_databases_own_data_is_only_taken_by_its_name() {
    let db = |labels: &[(&str, &str)]| {
        let mounts = [
            ("candigv2_pg", "/var/lib/postgresql"),
            ("candigv2_space", "/var/lib/postgresql/data/space"),
            ("candigv2_conf", "/etc/postgresql"),
        ];
        service("db", &mounts, labels)
    };
    let peek = || service("peek", &[("candigv2_pg", "/pg")], &[("enable", "true")]);
    let directory = [("db", "/var/lib/postgresql/data")];
    let detected = taken_beside(vec![db(&[("enable", "true")]), peek()], &directory);
    assert_eq!(detected.unwrap(), ["db/conf"]);
    let asked_for = taken_beside(vec![db(&[("volumes", "*")])], &directory);
    assert_eq!(asked_for.unwrap(), ["db/conf"]);
    let also = [("enable", "true"), ("volumes", "pg")];
    let named = taken_beside(vec![db(&also)], &directory);
    assert_eq!(named.unwrap(), ["db/conf", "db/pg"]);
    let named = taken_beside(vec![db(&[("volumes", "pg")])], &directory);
    assert_eq!(named.unwrap(), ["db/pg"]);
}

#[test]
fn a_shared_volume_is_one_target() {
    let mounts = [("candigv2_vault-data", "/vault")];
    let labels = [("volumes", "vault-data")];
    let services = || {
        vec![
            service("vault", &mounts, &labels),
            service("vault-runner", &mounts, &labels),
        ]
    };
    assert_eq!(taken(services()).unwrap(), ["vault/vault-data"]);

    let mut first_without = services();
    first_without[0] = service("vault", &mounts, &[]);
    assert_eq!(taken(first_without).unwrap(), ["vault-runner/vault-data"]);
}

#[test]
fn options_of_a_shared_volume_come_from_whoever_gives_them() {
    let mounts = [("candigv2_data", "/data")];
    let plain = service("a", &mounts, &[("volumes", "data")]);
    let overlay = [("volumes", "data"), ("volumes.data.restore", "overlay")];
    let with_options = service("b", &mounts, &overlay);
    let stack = stack(vec![plain, with_options]);
    let wanted = wanted(&stack, &BTreeMap::new(), &apart(&BTreeMap::new())).unwrap();
    let target = &wanted["a"][0];
    assert_eq!(target.options.restore, TreeRestore::Overlay);
    assert_eq!(target.volume.destination, "/data");
    assert_eq!(target.volume.volume, "candigv2_data");
    assert_eq!(wanted.len(), 1);
}

#[test]
fn names_of_the_compose_file_come_from_its_label_too() {
    let mounts = [("acme-data-prod", "/data"), ("acme-data-prod", "/also")];
    let service = service("a", &mounts, &[("volumes", "data")]);
    let declared = BTreeMap::from([("acme-data-prod".to_owned(), "data".to_owned())]);
    let volumes = mounted(&service, "candigv2", &declared);
    assert_eq!(
        volumes,
        [MountedVolume {
            name: "data".to_owned(),
            volume: "acme-data-prod".to_owned(),
            destination: "/also".to_owned(),
        }]
    );
    assert!(wanted(&stack(vec![service]), &declared, &apart(&BTreeMap::new())).is_ok());
}

#[test]
fn names_that_fit_two_volumes_are_told_apart() {
    let mounts = [("data", "/a"), ("candigv2_data", "/b")];
    let all = vec![service("a", &mounts, &[("volumes", "*")])];
    assert_eq!(taken(all).unwrap(), ["a/candigv2_data", "a/data"]);
    let one = vec![service("a", &mounts, &[("volumes", "candigv2_data")])];
    assert_eq!(taken(one).unwrap(), ["a/candigv2_data"]);
}

#[test]
fn problems_list_what_is_mounted() {
    let mounts = [
        ("candigv2_vault-data", "/vault"),
        ("candigv2_logs", "/logs"),
    ];
    let bad_service = |mounts: &[(&str, &str)], labels: &[(&str, &str)]| {
        bad(vec![service("vault", mounts, labels)])
    };
    assert_snapshot!(bad_service(&mounts, &[("volumes", "vault-date,xyz")]), @r"
    container vault: label `cofferdam.volumes` names the volume `vault-date`, which this container does not mount; did you mean `vault-data`? (mounted: `logs`, `vault-data`)
    container vault: label `cofferdam.volumes` names the volume `xyz`, which this container does not mount; mounted: `logs`, `vault-data`
    ");
    assert_snapshot!(bad_service(&[], &[("volumes", "data")]), @r"container vault: label `cofferdam.volumes` names the volume `data`, which this container does not mount; it mounts no named volume");
    assert_snapshot!(bad_service(&[(HEX, "/data")], &[("volumes", "data")]), @r"container vault: label `cofferdam.volumes` names the volume `data`, which this container does not mount; it mounts no named volume; save an anonymous volume by its path, with `cofferdam.files.<name>: /data`");
    assert_snapshot!(bad_service(&mounts, &[("volumes", "logs,candigv2_logs")]), @r"container vault: label `cofferdam.volumes` names the volume `candigv2_logs` twice; name it once");
    assert_snapshot!(bad_service(&mounts, &[("volumes", "*"), ("volumes.log.restore", "overlay")]), @r"container vault: label `cofferdam.volumes.log.restore` names the volume `log`, which this container does not mount; did you mean `logs`? (mounted: `logs`, `vault-data`)");
    assert_snapshot!(
        bad_service(
            &mounts,
            &[
                ("volumes", "*"),
                ("volumes.logs.restore", "overlay"),
                ("volumes.candigv2_logs.exclude", "tmp"),
            ],
        ),
        @r"container vault: label `cofferdam.volumes.logs.restore` is a second label for the volume `candigv2_logs`; use one spelling of the volume's name"
    );
}

#[test]
fn contradicting_options_of_a_shared_volume_are_told() {
    let mounts = [("candigv2_data", "/data")];
    let a = [("volumes", "data"), ("volumes.data.restore", "overlay")];
    let b = [("volumes", "data"), ("volumes.data.exclude", "tmp")];
    assert_snapshot!(bad(vec![service("a", &mounts, &a), service("b", &mounts, &b)]), @r"container b: label `cofferdam.volumes.data.exclude` contradicts the labels of container a for the same volume; a shared volume is saved once: set its options on one container");
}

#[test]
fn what_is_left_out_on_purpose_must_be_there() {
    let mounts = [("candigv2_logs", "/logs"), (HEX, "/anonymous")];
    let bad_service = |labels: &[(&str, &str)]| bad(vec![service("vault", &mounts, labels)]);
    let with = |skip: &str| bad_service(&[("enable", "true"), ("volumes.skip", skip)]);
    assert_snapshot!(with("log"), @"container vault: label `cofferdam.volumes.skip` names the volume `log`, which this container does not mount; did you mean `logs`? (mounted: `logs`)");
    assert_snapshot!(with("/logs"), @"container vault: label `cofferdam.volumes.skip` names `/logs`, where this container has no anonymous volume; name a named volume as in `cofferdam.volumes`, and a bind mount in `cofferdam.binds.skip`");
    assert_snapshot!(
        bad_service(&[("volumes", "logs"), ("volumes.skip", "candigv2_logs")]),
        @"container vault: label `cofferdam.volumes.skip` names the volume `candigv2_logs`, as does `cofferdam.volumes`; remove it from one of them"
    );
}

#[test]
fn a_repository_is_not_taken_unless_it_is_named() {
    let mounts = [("data", "/data"), ("backups", "/backups")];
    let repositories = ["/var/lib/docker/volumes/backups/_data".to_owned()];
    let databases = BTreeMap::new();
    let apart = Apart {
        repositories: &repositories,
        ..apart(&databases)
    };
    for (label, expected) in [
        (("volumes", "*"), vec!["data"]),
        (("enable", "true"), vec!["data"]),
        (("volumes", "backups"), vec!["backups"]),
    ] {
        let stack = stack(vec![service("a", &mounts, &[label])]);
        let wanted = wanted(&stack, &BTreeMap::new(), &apart).unwrap();
        let names = wanted["a"].iter().map(|wanted| &wanted.volume.name);
        assert_eq!(names.collect::<Vec<_>>(), expected, "{label:?}");
    }
}
