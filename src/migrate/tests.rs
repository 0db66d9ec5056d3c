use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use saphyr::{LoadableYamlNode, Yaml};

use super::instance::plain;
use super::*;
use crate::cli::Settings;
use crate::config::{Config, Environment};
use crate::discover::{Service, Stack};
use crate::engine::container::tests_support::container;
use crate::engine::{Mount, MountKind};
use crate::labels;
use crate::report::migration::override_files;
use crate::store::Store;

mod offen;
mod stack_back;

const PROJECT: &str = "shop";

/// Must not come out anywhere.
const SECRET: &str = "correct-horse-battery-staple";

/// A container of compose's. Mounts are written as in a compose file; named volumes carry the project's name.
fn service(
    name: &str,
    image: &str,
    environment: &[(&str, &str)],
    mounts: &[&str],
    labels: &[(&str, &str)],
) -> Container {
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let mut container = container(&format!("{PROJECT}-{name}-1"));
    container.image = image.to_owned();
    container.env = owned(environment);
    container.mounts = mounts.iter().map(|mount| mounted(mount)).collect();
    container.labels = owned(labels);
    container.labels.extend(owned(&[
        ("com.docker.compose.project", PROJECT),
        ("com.docker.compose.service", name),
    ]));
    container
}

fn mounted(text: &str) -> Mount {
    let parts: Vec<&str> = text.split(':').collect();
    let is_bind = parts[0].starts_with('/');
    let volume = (!is_bind).then(|| format!("{PROJECT}_{}", parts[0]));
    Mount {
        kind: if is_bind {
            MountKind::Bind
        } else {
            MountKind::Volume
        },
        source: match &volume {
            Some(volume) => format!("/var/lib/docker/volumes/{volume}/_data"),
            None => parts[0].to_owned(),
        },
        subpath: None,
        volume,
        destination: parts[1].to_owned(),
        writable: parts.get(2) != Some(&"ro"),
    }
}

fn survey(containers: Vec<Container>) -> Survey {
    let volumes = containers.iter().flat_map(|container| &container.mounts);
    let volumes = volumes.filter_map(|mount| mount.volume.clone());
    let declared = volumes
        .map(|volume| {
            let name = volume[PROJECT.len() + 1..].to_owned();
            (volume, name)
        })
        .collect();
    let mut services: Vec<Service> = containers
        .into_iter()
        .map(|container| Service {
            name: container.service().to_owned(),
            labels: labels::parse(&container).expect("the labels are good"),
            container,
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let named = |service: &Service| -> BTreeSet<Store> {
        let stores = Store::ALL.into_iter();
        stores
            .filter(|store| store.is_named_by(&service.container.env))
            .collect()
    };
    let stores = services
        .iter()
        .map(|service| (service.name.clone(), named(service)))
        .collect();
    Survey {
        containers: Arc::default(),
        cofferdams: Arc::default(),
        spoken_through: Arc::default(),
        stack: Stack {
            project: PROJECT.to_owned(),
            services,
            left_out: Vec::new(),
            swarm: None,
            warnings: Vec::new(),
        },
        databases: BTreeMap::new(),
        stores,
        caches: BTreeMap::new(),
        volumes: BTreeMap::new(),
        declared,
        paths: BTreeMap::new(),
        in_memory: BTreeSet::new(),
        no_directories: BTreeSet::new(),
        repositories: Vec::new(),
    }
}

/// Reads a project, and makes sure of what holds for every migration.
fn migrated(containers: Vec<Container>, elsewhere: &[Container], origin: Origin) -> Migration {
    let survey = survey(containers);
    let migration = migrate(&survey, elsewhere, origin).expect("something is found");
    ensure_labels_are_read(&migration, &survey);
    ensure_settings_are_read(&migration);
    ensure_the_file_says_the_same(&migration);
    ensure_nothing_is_dropped(&migration, &survey, origin);
    migration
}

fn printed(containers: Vec<Container>, origin: Origin) -> String {
    override_files(&[migrated(containers, &[], origin)])
}

#[track_caller]
fn ensure_labels_are_read(migration: &Migration, survey: &Survey) {
    for (name, labels) in &migration.services {
        let mut services = survey.stack.services.iter();
        let service = services
            .find(|service| service.name == *name)
            .expect("a service");
        let mut container = service.container.clone();
        container.labels.extend(labels.clone());
        labels::parse(&container).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

/// With files in the place of those that are to be written.
#[track_caller]
fn ensure_settings_are_read(migration: &Migration) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string()
    };
    let variables = migration.sidecar.environment.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "COFFERDAM_RECIPIENTS_FILE" => file(name, offen::RECIPIENT),
            "COFFERDAM_NOTIFY_FILE" => file(name, "discord://TOKEN@693853386302554172"),
            name if name.ends_with("_FILE") => file(name, "some words"),
            _ => value.into(),
        };
        (name.into(), value)
    });
    let environment = Environment::new(variables.collect::<Vec<_>>());
    let resolved = Config::resolve(&Settings::default(), &environment, directory.path());
    resolved.unwrap_or_else(|errors| panic!("{errors}"));
}

/// As YAML, once Compose has put variables in place.
#[track_caller]
fn ensure_the_file_says_the_same(migration: &Migration) {
    let file = override_files(std::slice::from_ref(migration));
    let documents =
        Yaml::load_from_str(&file).unwrap_or_else(|error| panic!("{error} in:\n{file}"));
    let services = &documents[0]["services"];
    let text = |value: &Yaml<'_>| value.as_str().expect("text").replace("$$", "$");
    let entries = |map: &Yaml<'_>| -> BTreeMap<String, String> {
        let map = map.as_mapping().expect("a map").iter();
        map.map(|(key, value)| (key.as_str().unwrap().to_owned(), text(value)))
            .collect()
    };
    for (name, labels) in &migration.services {
        assert_eq!(
            entries(&services[name.as_str()]["labels"]),
            *labels,
            "{file}"
        );
    }
    let sidecar = &services["cofferdam"];
    let expected = &migration.sidecar.environment;
    if !expected.is_empty() {
        assert_eq!(entries(&sidecar["environment"]), *expected, "{file}");
    }
    let mounts = sidecar["volumes"].as_sequence().expect("mounts");
    let mounts: BTreeSet<SidecarMount> = mounts
        .iter()
        .map(|mount| SidecarMount {
            target: text(&mount["target"]),
            source: text(&mount["source"]),
            read_only: mount.as_mapping_get("read_only").is_some(),
        })
        .collect();
    assert_eq!(mounts, migration.sidecar.mounts, "{file}");
    let json = serde_json::to_string(migration).unwrap();
    for output in [file, json] {
        assert!(!output.contains(SECRET), "{output}");
    }
}

/// Labels and variables that nobody has heard of; of the others the samples tell.
#[track_caller]
fn ensure_nothing_is_dropped(migration: &Migration, survey: &Survey, origin: Origin) {
    for Service { container, .. } in &survey.stack.services {
        let labels = container
            .labels
            .keys()
            .filter(|key| key.starts_with(origin.prefix()));
        let variables = container
            .env
            .iter()
            .filter(|(_, value)| !plain(value).is_empty());
        let names = labels.chain(variables.map(|(name, _)| name));
        for unheard in names.filter(|name| name.to_lowercase().contains("unheard")) {
            let mut told = migration
                .remarks
                .iter()
                .filter_map(|remark| remark.name.as_ref());
            assert!(
                told.any(|name| name == unheard),
                "{unheard} is not mentioned"
            );
        }
    }
}

#[test]
fn nothing_is_found_where_nothing_speaks_of_the_tool() {
    let app = || {
        service(
            "app",
            "nginx",
            &[],
            &["data:/data"],
            &[("traefik.enable", "true")],
        )
    };
    for origin in Origin::ALL {
        assert_eq!(migrate(&survey(vec![app()]), &[], origin), None);
    }
}

#[test]
fn cofferdams_own_labels_are_left_as_they_are() {
    let labels = [
        ("cofferdam.volumes", "other"),
        ("stack-back.volumes", "true"),
        ("stack-back.volumes.include", "shop_data"),
    ];
    let app = service(
        "app",
        "nginx",
        &[],
        &["data:/data", "other:/other"],
        &labels,
    );
    let migration = migrated(vec![app], &[], Origin::StackBack);
    assert_eq!(migration.services, BTreeMap::new());
    let told: Vec<&str> = migration
        .remarks
        .iter()
        .map(|remark| remark.text.as_str())
        .collect();
    assert!(
        told.contains(&"the service has `cofferdam.volumes` already; here it would be `data`"),
        "{told:?}"
    );
}

/// Names and values from outside, whatever they are.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,20}",
        "(\"|'|: |# |\\$|\\{|\\}|\n|\\\\|sh -c |&&|,|true|/a){0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_labels_and_variables_say_the_file_can_be_read(
        name in hostile(),
        labels in prop::collection::vec(hostile(), 7),
        variables in prop::collection::vec(hostile(), 8),
        mount in "/[ -~&&[^:]]{1,20}",
    ) {
        // The engine takes no NUL in any of these.
        let clean = |text: &String| text.replace('\0', "");
        let (labels, variables): (Vec<_>, Vec<_>) =
            (labels.iter().map(clean).collect(), variables.iter().map(clean).collect());
        for origin in Origin::ALL {
            let image = match origin {
                Origin::Offen => "offen/docker-volume-backup:v2",
                _ => "ghcr.io/lawndoc/stack-back:1",
            };
            let (label_names, variable_names) = match origin {
                Origin::Offen => (
                    ["stop-during-backup", "archive-pre", "archive-post", "archive-pre.user", "exec-label", "copy-post", "unheard-of"],
                    ["BACKUP_EXCLUDE_REGEXP", "AWS_S3_BUCKET_NAME", "AWS_S3_PATH", "AWS_ENDPOINT", "BACKUP_RETENTION_DAYS",
                     "SSH_HOST_NAME", "BACKUP_CRON_EXPRESSION", "BACKUP_UNHEARD"],
                ),
                _ => (
                    ["volumes", "hooks.pre.1.cmd", "hooks.post.1.cmd", "hooks.post.2.cmd", "hooks.finally.1.cmd", "postgres", "unheard-of"],
                    ["RESTIC_REPOSITORY", "CRON_SCHEDULE", "RESTIC_KEEP_DAILY", "AWS_DEFAULT_REGION", "LOG_LEVEL", "DOCKER_HOST",
                     "DISCORD_WEBHOOK", "RCLONE_UNHEARD"],
                ),
            };
            let keys = label_names.map(|label| format!("{}{label}", origin.prefix()));
            let labels: Vec<(&str, &str)> = keys.iter().zip(&labels).map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let variables: Vec<(&str, &str)> = variable_names.into_iter().zip(variables.iter().map(String::as_str)).collect();
            let bind = format!("/srv/x:{mount}");
            let mut app = service("app", "app", &[], &["data:/data", &bind], &labels);
            app.labels.insert("com.docker.compose.service".to_owned(), name.clone());
            let backup = service("backup", image, &variables, &["data:/backup/data:ro", "/srv/x:/backup/x"], &labels);
            let survey = survey(vec![app, backup]);
            let migration = migrate(&survey, &[], origin).expect("something is found");
            ensure_labels_are_read(&migration, &survey);
            ensure_the_file_says_the_same(&migration);
            ensure_nothing_is_dropped(&migration, &survey, origin);
        }
    }
}
