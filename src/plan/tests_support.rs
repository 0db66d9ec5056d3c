//! Projects, for tests of what is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::container::tests_support::container;
use crate::engine::{Mount, MountKind};
use crate::labels::parse;
use crate::stack::servers::Store;
use crate::stack::survey::Survey;
use crate::stack::{self, Apart, Service, Stack};

/// A container with named volumes, as `name:/path`, and labels without their prefix.
pub fn service(name: &str, volumes: &[&str], labels: &[(&str, &str)]) -> Service {
    let mut container = container(name);
    for volume in volumes {
        let (volume, destination) = volume.split_once(':').expect("a name and a path");
        container.mounts.push(Mount {
            kind: MountKind::Volume,
            volume: Some(volume.to_owned()),
            source: format!("/volumes/{volume}"),
            subpath: None,
            destination: destination.to_owned(),
            writable: true,
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

/// The same service with bind mounts, as `/host:/path`, and `:ro` at the end of those that cannot be written to.
pub fn bound(mut service: Service, binds: &[&str]) -> Service {
    for bind in binds {
        let mut parts = bind.split(':');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        service.container.mounts.push(Mount {
            kind: MountKind::Bind,
            volume: None,
            source: part(),
            subpath: None,
            destination: part(),
            writable: part() != "ro",
        });
    }
    service
}

/// A project of these services, and the stores that each runs.
pub fn survey(services: Vec<(Service, &[Store])>) -> Survey {
    let stores = |(service, stores): &(Service, &[Store])| {
        let stores: BTreeSet<Store> = stores.iter().copied().collect();
        (service.name.clone(), stores)
    };
    let stores = services.iter().map(stores).collect();
    let all = services
        .iter()
        .map(|(service, _)| service.container.clone());
    let all = all.collect();
    let stack = Stack {
        project: "shop".to_owned(),
        services: services.into_iter().map(|(service, _)| service).collect(),
        left_out: Vec::new(),
        swarm: None,
        warnings: Vec::new(),
    };
    let apart = Apart {
        databases: &BTreeMap::new(),
        no_directories: &BTreeSet::new(),
        repositories: &[],
    };
    let volumes = stack::wanted(&stack, &BTreeMap::new(), &apart).expect("volumes");
    Survey {
        paths: stack::wanted_paths(&stack, &volumes, &apart).expect("paths"),
        volumes,
        stack,
        containers: all,
        cofferdams: Arc::default(),
        spoken_through: Arc::default(),
        databases: BTreeMap::new(),
        stores,
        caches: BTreeMap::new(),
        declared: BTreeMap::new(),
        in_memory: BTreeSet::new(),
        no_directories: BTreeSet::new(),
        repositories: Vec::new(),
    }
}
