//! Which database servers run in which containers, and where they keep their data; and which caches.
//!
//! A server is known by what runs, as the engine lists it. Where nothing is to be seen, the environment has to do.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt};

use super::{Survey, some_at_a_time};
use crate::engine::container::overlap;
use crate::engine::{Container, Engine, EngineError, Mount, State};
use crate::labels::{ContainerLabels, CouchdbLabels, ElasticsearchLabels, OptIn, Selection};
use crate::stack::caches::Cache;
use crate::stack::servers::Store;
use crate::stack::{Service, Stack, is_helper};

/// What a service runs, and why the engine did not tell it.
pub(super) type Look = (BTreeSet<Store>, Option<EngineError>);

/// Nobody is asked but the engine: most of these containers have not opted in. What it does not tell is a gap in the audit,
/// and no more.
pub(super) async fn of_service(engine: &Engine, service: &Service) -> Look {
    if service.labels.skip.is_some() {
        return Look::default();
    }
    of_container(engine, &service.container).await
}

async fn of_container(engine: &Engine, container: &Container) -> Look {
    match running(engine, container).await {
        Ok(Some(stores)) => (stores, None),
        Ok(None) => (by_environment(container), None),
        Err(error) => (by_environment(container), Some(error)),
    }
}

/// `None`: nothing runs.
async fn running(
    engine: &Engine,
    container: &Container,
) -> Result<Option<BTreeSet<Store>>, EngineError> {
    let known = Known {
        all: &Store::ALL,
        is_run_by: Store::is_run_by,
        argument: Store::argument,
    };
    known.in_container(engine, container).await
}

/// The caches and search indexes of a container. Where nothing runs, there are none.
pub(super) async fn caches_of(
    engine: &Engine,
    container: &Container,
) -> Result<BTreeSet<Cache>, EngineError> {
    let known = Known {
        all: &Cache::ALL,
        is_run_by: Cache::is_run_by,
        argument: Cache::argument,
    };
    let seen = known.in_container(engine, container).await?;
    Ok(seen.unwrap_or_default())
}

/// Servers that are known by their processes.
struct Known<T: 'static> {
    all: &'static [T],
    is_run_by: fn(T, &str) -> bool,
    argument: fn(T) -> Option<&'static str>,
}

impl<T: Copy + Ord> Known<T> {
    /// `None`: nothing runs.
    async fn in_container(
        &self,
        engine: &Engine,
        container: &Container,
    ) -> Result<Option<BTreeSet<T>>, EngineError> {
        if !matches!(container.state, State::Running | State::Paused) {
            return Ok(None);
        }
        let names = engine.process_names(&container.id).await?;
        let is_run = |known: &T| names.iter().any(|name| (self.is_run_by)(*known, name));
        let mut seen: BTreeSet<T> = self.all.iter().copied().filter(is_run).collect();
        if seen.iter().any(|known| (self.argument)(*known).is_some()) {
            let lines = engine.command_lines(&container.id).await?;
            let is_told = |argument| lines.iter().any(|line| line.contains(argument));
            seen.retain(|known| (self.argument)(*known).is_none_or(is_told));
        }
        Ok(Some(seen))
    }
}

/// Where no process is to be seen. Variables alone may be a client's, and so may be an anonymous volume, which its image
/// asks for.
fn by_environment(container: &Container) -> BTreeSet<Store> {
    let env = &container.env;
    let is_kept = |directory: &str| {
        let mount = container.mount_of(directory);
        mount.is_some_and(|mount| !mount.is_anonymous())
    };
    let keeps_data = |store: &Store| store.directories(env).any(is_kept);
    let stores = Store::ALL.into_iter();
    stores
        .filter(|store| store.is_named_by(env) && keeps_data(store))
        .collect()
}

/// The stores of those services whose mounts may be taken without being named, and of those that share a place with them.
pub(super) async fn beside_unnamed_mounts(
    engine: &Engine,
    stack: &Stack,
) -> Result<BTreeMap<String, BTreeSet<Store>>, EngineError> {
    let shared: BTreeSet<String> = stack
        .services
        .iter()
        .filter(|service| takes_what_is_not_named(service))
        .flat_map(|service| &service.container.mounts)
        .map(Mount::root)
        .collect();
    let looked_at = stack.services.iter().filter(|service| {
        let mut places = service.container.mounts.iter().map(Mount::root);
        let shares = places.any(|place| shared.iter().any(|shared| overlap(shared, &place)));
        service.container.is_alive() && (takes_what_is_not_named(service) || shares)
    });
    let looked_at: Vec<&Service> = looked_at.collect();
    let looks = looked_at
        .iter()
        .map(|service| of_container(engine, &service.container).boxed());
    let looks: Vec<Look> = some_at_a_time(looks).collect().await;
    let mut seen = BTreeMap::new();
    for (service, (stores, trouble)) in looked_at.into_iter().zip(looks) {
        match trouble {
            // What is to be detected must be seen.
            Some(error) if service.labels.opt_in == OptIn::Detection => return Err(error),
            _ => seen.insert(service.name.clone(), stores),
        };
    }
    Ok(seen)
}

pub(super) fn takes_what_is_not_named(service: &Service) -> bool {
    let labels = &service.labels;
    let is_taken = match labels.opt_in {
        OptIn::No => false,
        OptIn::Detection => true,
        OptIn::Labels => [&labels.volumes, &labels.binds]
            .into_iter()
            .any(|taken| *taken == Some(Selection::All)),
    };
    is_taken && labels.skip.is_none()
}

/// Has the labels of a service say what was detected, where nobody needs to log in for that.
pub(super) fn label_detected(service: &mut Service, seen: &BTreeSet<Store>) {
    let Service {
        container, labels, ..
    } = service;
    if labels.opt_in != OptIn::Detection {
        return;
    }
    if seen.contains(&Store::Couchdb) && labels.couchdb.is_none() {
        labels.couchdb = Some(couchdb_labels(container));
    }
    if seen.iter().copied().any(is_search) && labels.elasticsearch.is_none() {
        labels.elasticsearch = Some(ElasticsearchLabels::default());
    }
}

/// What labels would say of a node that nobody labelled: its data is where a mount lies at one of the usual places.
pub fn couchdb_labels(container: &Container) -> CouchdbLabels {
    let usual = CouchdbLabels::default();
    let mut directories = Store::Couchdb.directories(&container.env);
    let mounted = directories.find(|directory| container.mount_of(directory).is_some());
    CouchdbLabels {
        data_directory: mounted.map_or(usual.data_directory.clone(), str::to_owned),
        ..usual
    }
}

/// The stores of a service whose files nobody may take for a copy: a driver saves them, and they do not keep still.
pub(super) fn not_as_files<'a>(
    service: &'a Service,
    seen: &'a BTreeSet<Store>,
) -> impl Iterator<Item = Store> + 'a {
    let stores = seen.iter().copied();
    stores.filter(|store| store.has_driver() && !service.keeps_still())
}

/// Where labels say that this store keeps its data.
pub(super) fn labelled_directories(
    labels: &ContainerLabels,
    store: Store,
) -> impl Iterator<Item = &str> {
    let couchdb = labels.couchdb.iter().map(|labels| &*labels.data_directory);
    let elasticsearch = labels.elasticsearch.iter();
    let elasticsearch = elasticsearch.flat_map(ElasticsearchLabels::directories);
    couchdb
        .filter(move |_| store == Store::Couchdb)
        .chain(elasticsearch.filter(move |_| is_search(store)))
}

fn is_search(store: Store) -> bool {
    matches!(store, Store::Elasticsearch | Store::Opensearch)
}

/// A server that runs, whoever saves it.
#[derive(Clone, Debug)]
pub struct StoreAtWork {
    pub container: Container,
    pub store: Store,
    /// Where it keeps its data, as its container sees it: every place that is known of.
    pub directories: Vec<String>,
}

/// The servers of all containers of the engine that run where one of `places` lies ([`Container::place_of`]).
pub async fn at_work(
    engine: &Engine,
    survey: &Survey,
    places: &[String],
) -> Result<Vec<StoreAtWork>, EngineError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut containers = engine.containers(&[]).await?;
    engine.see_through_volumes(&mut containers).await?;
    containers.retain(|container| {
        let runs = matches!(
            container.state,
            State::Running | State::Paused | State::Restarting
        );
        runs && !is_helper(container) && places.iter().any(|place| container.reaches(place))
    });
    let looks = containers.iter().map(|it| of_container(engine, it).boxed());
    let looks: Vec<Look> = some_at_a_time(looks).collect().await;
    let mut found = Vec::new();
    for (container, (stores, _)) in containers.iter().zip(looks) {
        // What is told of a server goes beyond what is usual; without it, that has to do.
        let lines = match stores.is_empty() {
            true => Vec::new(),
            false => engine
                .command_lines(&container.id)
                .await
                .unwrap_or_default(),
        };
        found.extend(stores.into_iter().map(|store| StoreAtWork {
            directories: directories(survey, container, store, &lines),
            container: container.clone(),
            store,
        }));
    }
    Ok(found)
}

fn directories(
    survey: &Survey,
    container: &Container,
    store: Store,
    lines: &[String],
) -> Vec<String> {
    let mut services = survey.stack.services.iter();
    let service = services.find(|service| service.container.id == container.id);
    let known = service.into_iter().flat_map(|service| {
        let found = survey.databases_of(&service.name);
        let of_store = found.filter(move |found| found.server.store() == store);
        let found = of_store.filter_map(|found| found.data_directory.as_deref());
        found.chain(labelled_directories(&service.labels, store))
    });
    let usual = store.directories(&container.env);
    let told = lines.iter().filter_map(|line| store.told_directory(line));
    known.chain(usual).chain(told).map(str::to_owned).collect()
}
