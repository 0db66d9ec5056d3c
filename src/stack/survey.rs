//! Looks at the engine: which stacks are there, what their volumes are called, which databases run in them.
//!
//! - `mounts`: what the engine tells of volumes and bind mounts
//! - `stores`: database servers and caches by what runs

mod mounts;
mod stores;

pub use stores::{StoreAtWork, at_work, couchdb_labels};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, stream};

use self::mounts::{Volumes, look_at_volumes, no_directories};
use crate::driver::{mysql, postgres};
use crate::engine::{Container, Engine, EngineError, MountKind, State};
use crate::labels::{LabelErrors, MysqlLabels, OptIn, PostgresLabels, Selection};
use crate::stack::caches::Cache;
use crate::stack::servers::Store;
use crate::stack::{
    self, Apart, DiscoverError, EachProject, Scope, Service, Stack, SwarmView, WantedVolume,
};

/// How much the engine is asked for at the same time.
const LOOKS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    #[error(transparent)]
    Labels(#[from] LabelErrors),
}

/// One project as it is now, and what of it is to be saved.
#[derive(Clone, Debug)]
pub struct Survey {
    pub stack: Stack,
    /// All containers of the engine but those of Cofferdam's: of other projects too, one-off and disabled ones.
    pub containers: Arc<[Container]>,
    /// Containers in which Cofferdam runs.
    pub cofferdams: Arc<[Container]>,
    /// Containers through which Cofferdam speaks to the engine.
    pub spoken_through: Arc<[Container]>,
    /// By the service's name.
    pub databases: BTreeMap<String, Vec<FoundDatabase>>,
    /// The database servers of each service, saved or not, by the service's name. Empty until [`Self::find_stores`]. Where
    /// `cofferdam.skip` stands, nobody looks.
    pub stores: BTreeMap<String, BTreeSet<Store>>,
    /// The caches and search indexes of each service, by the service's name. Empty until [`Self::find_caches`].
    pub caches: BTreeMap<String, BTreeSet<Cache>>,
    /// By the service's name.
    pub volumes: BTreeMap<String, Vec<WantedVolume>>,
    /// The names of volumes in compose files, by the engine's names.
    pub declared: BTreeMap<String, String>,
    /// Bind mounts and anonymous volumes that labels take, as paths in the container, by the service's name.
    pub paths: BTreeMap<String, Vec<String>>,
    /// The engine's names of volumes that are in memory.
    pub in_memory: BTreeSet<String>,
    /// Where bind mounts are no directories ([`Container::place_of`]). Until [`Self::find_stores`] only those are known that
    /// labels would take.
    pub no_directories: BTreeSet<String>,
    /// Where Cofferdam's repositories are ([`Container::place_of`]).
    pub repositories: Vec<String>,
}

/// A database server that labels, or detection, ask to save.
#[derive(Clone, Debug)]
pub struct FoundDatabase {
    pub server: FoundServer,
    /// Where it keeps its data, when that can be told.
    pub data_directory: Option<String>,
}

/// What a server is, with its login: `None` when it let nobody in when it was looked at.
#[derive(Clone, Debug)]
pub enum FoundServer {
    Postgres {
        labels: PostgresLabels,
        login: Option<postgres::Server>,
    },
    Mysql {
        labels: MysqlLabels,
        login: Option<mysql::Server>,
    },
}

impl FoundServer {
    pub fn store(&self) -> Store {
        match self {
            Self::Postgres { .. } => Store::Postgres,
            Self::Mysql { .. } => Store::Mysql,
        }
    }
}

impl Survey {
    /// Looks for the database servers of every service, and at its bind mounts. The engine lists the processes of each running
    /// container, which takes it some milliseconds; whoever only saves or restores need not know them. Says what could not be
    /// learned.
    pub async fn find_stores(&mut self, engine: &Engine) -> Option<String> {
        let services = &self.stack.services;
        let unskipped = services.iter().filter(|it| it.labels.skip.is_none());
        let unknown = unskipped.filter(|it| !stores::takes_what_is_not_named(it));
        let found = no_directories(engine, unknown).await;
        self.no_directories.extend(found);
        let looks = services
            .iter()
            .map(|it| stores::of_service(engine, it).boxed());
        let looks: Vec<stores::Look> = some_at_a_time(looks).collect().await;
        let mut unseen = Vec::new();
        let mut reason = None;
        for (service, (stores, trouble)) in services.iter().zip(looks) {
            self.stores.insert(service.name.clone(), stores);
            if trouble.is_some() {
                unseen.push(service.name.as_str());
                reason = trouble;
            }
        }
        let unseen = unseen.join(", ");
        reason.map(|reason| {
            format!(
                "cannot tell which databases run in {unseen}, or whether they are saved: {reason}"
            )
        })
    }

    /// Looks for the caches and search indexes of every service, also where `cofferdam.skip` stands: that is said of most of
    /// them. The engine lists the processes of each running container. Says what could not be learned.
    pub async fn find_caches(&mut self, engine: &Engine) -> Option<String> {
        let services = &self.stack.services;
        let looks = services
            .iter()
            .map(|it| stores::caches_of(engine, &it.container).boxed());
        let looks: Vec<_> = some_at_a_time(looks).collect().await;
        let mut unseen = Vec::new();
        let mut reason = None;
        for (service, look) in services.iter().zip(looks) {
            match look {
                Ok(caches) => drop(self.caches.insert(service.name.clone(), caches)),
                Err(error) => {
                    unseen.push(service.name.as_str());
                    reason = Some(error);
                }
            }
        }
        let unseen = unseen.join(", ");
        reason.map(|reason| {
            format!("cannot tell whether {unseen} runs a cache that would serve stale data after a restore: {reason}")
        })
    }

    pub fn caches_of(&self, service: &str) -> impl Iterator<Item = Cache> {
        self.caches.get(service).into_iter().flatten().copied()
    }

    pub fn stores_of(&self, service: &str) -> impl Iterator<Item = Store> {
        self.stores.get(service).into_iter().flatten().copied()
    }

    pub fn databases_of(&self, service: &str) -> impl Iterator<Item = &FoundDatabase> {
        self.databases.get(service).into_iter().flatten()
    }

    /// Whether what labels take has this place in it ([`Container::place_of`]).
    pub fn is_saved(&self, place: &str) -> bool {
        stack::is_saved(&self.stack, &self.volumes, &self.paths, place)
    }

    /// Where the databases of a service keep their data.
    pub fn data_directories(&self, service: &str) -> impl Iterator<Item = &str> {
        self.databases_of(service)
            .filter_map(|found| found.data_directory.as_deref())
    }
}

/// Surveys the projects of `scope`. `repositories`: directories of this process that are not to be saved.
pub async fn survey(
    engine: &Engine,
    scope: &Scope,
    repositories: &[&Path],
) -> Result<Vec<Survey>, SurveyError> {
    survey_with(engine, scope, repositories, |_| ()).await
}

/// The same, with containers that are looked at as `relabel` leaves them.
pub async fn survey_with(
    engine: &Engine,
    scope: &Scope,
    repositories: &[&Path],
    relabel: impl FnOnce(&mut [Container]),
) -> Result<Vec<Survey>, SurveyError> {
    let (around, containers) = Around::look(engine, repositories, relabel).await?;
    let (own, swarm) = (around.own.as_ref(), around.swarm.as_ref());
    let mut surveys = Vec::new();
    for stack in stack::discover(containers, own, scope, swarm)? {
        surveys.push(around.survey(engine, stack).await?);
    }
    Ok(surveys)
}

/// Surveys the projects of `scope`, each by itself: what is wrong with one is nothing to another.
pub async fn survey_each(
    engine: &Engine,
    scope: &Scope,
    repositories: &[&Path],
) -> Result<EachProject<Survey, SurveyError>, SurveyError> {
    let (around, containers) = Around::look(engine, repositories, |_| ()).await?;
    let (own, swarm) = (around.own.as_ref(), around.swarm.as_ref());
    let mut surveys = Vec::new();
    for (project, stack) in stack::discover_each(containers, own, scope, swarm)? {
        let survey = match stack {
            Ok(stack) => around.survey(engine, stack).await,
            Err(errors) => Err(errors.into()),
        };
        surveys.push((project, survey));
    }
    Ok(surveys)
}

/// What a survey of a stack has to know besides.
struct Around {
    own: Option<Container>,
    repositories: Vec<String>,
    swarm: Option<SwarmView>,
    containers: Arc<[Container]>,
    cofferdams: Arc<[Container]>,
    spoken_through: Arc<[Container]>,
}

impl Around {
    /// The containers of the engine come with it.
    async fn look(
        engine: &Engine,
        repositories: &[&Path],
        relabel: impl FnOnce(&mut [Container]),
    ) -> Result<(Self, Vec<Container>), EngineError> {
        let mut own = engine.own_container().await?;
        let mut containers = engine.containers(&[]).await?;
        engine
            .see_through_volumes(containers.iter_mut().chain(&mut own))
            .await?;
        let repositories = repositories.iter();
        let repositories = repositories.flat_map(|path| engine.places_of(own.as_ref(), path));
        let repositories: Vec<String> = repositories.collect();
        relabel(&mut containers);
        let swarm = swarm_view(engine, &containers).await?;
        let (cofferdams, all) = containers
            .iter()
            .filter(|container| !stack::is_helper(container))
            .cloned()
            .partition::<Vec<_>, _>(|container| stack::is_cofferdam(container, own.as_ref()));
        let through = engine.speaks_through(own.as_ref(), &containers).await?;
        let around = Self {
            own,
            repositories,
            swarm,
            containers: Arc::from(all),
            cofferdams: Arc::from(cofferdams),
            spoken_through: Arc::from(through),
        };
        Ok((around, containers))
    }

    async fn survey(&self, engine: &Engine, stack: Stack) -> Result<Survey, SurveyError> {
        let survey = survey_stack(engine, stack, &self.repositories).await?;
        Ok(Survey {
            containers: Arc::clone(&self.containers),
            cofferdams: Arc::clone(&self.cofferdams),
            spoken_through: Arc::clone(&self.spoken_through),
            ..survey
        })
    }
}

/// The swarm that the engine is a node of, if it is one. Where no manager can be asked, it is known why.
pub async fn swarm_view(
    engine: &Engine,
    containers: &[Container],
) -> Result<Option<SwarmView>, EngineError> {
    let node = match engine.node().await {
        Ok(Some(node)) => node,
        Ok(None) => return Ok(None),
        // A proxy may hide it. That matters where tasks run, which must not be taken for containers of compose.
        Err(error) => {
            let mut containers = containers.iter();
            let any_task = containers.any(|container| container.swarm_service().is_some());
            return if any_task { Err(error) } else { Ok(None) };
        }
    };
    let services = match engine.manager().await {
        Ok(manager) => manager.services().await,
        Err(error) => Err(error),
    };
    Ok(Some(SwarmView {
        node: node.name,
        services: services.map_err(|error| error.to_string()),
    }))
}

async fn survey_stack(
    engine: &Engine,
    mut stack: Stack,
    repositories: &[String],
) -> Result<Survey, SurveyError> {
    let seen = stores::beside_unnamed_mounts(engine, &stack).await?;
    let nothing = BTreeSet::new();
    let seen_in = |service: &str| seen.get(service).unwrap_or(&nothing);
    for service in &mut stack.services {
        stores::label_detected(service, seen_in(&service.name));
    }
    let found = stack
        .services
        .iter()
        .map(|service| databases_of(engine, service, seen_in(&service.name)).boxed());
    let found: Vec<_> = some_at_a_time(found).collect().await;
    let names = stack.services.iter().map(|service| service.name.clone());
    let databases: BTreeMap<String, Vec<FoundDatabase>> = names.zip(found).collect();
    let directories = stack
        .services
        .iter()
        .map(|service| {
            let found = databases.get(&service.name).map_or(&[][..], Vec::as_slice);
            let directories = store_directories(service, found, seen_in(&service.name));
            (service.name.clone(), directories)
        })
        .collect();
    let mounts = stack.services.iter();
    let mounts = mounts.flat_map(|service| &service.container.mounts);
    let Volumes {
        declared,
        in_memory,
    } = look_at_volumes(engine, mounts).await?;
    let takers = stack.services.iter();
    let takers = takers.filter(|it| stores::takes_what_is_not_named(it));
    let no_directories = no_directories(engine, takers).await;
    let apart = Apart {
        databases: &directories,
        no_directories: &no_directories,
        repositories,
    };
    let volumes = stack::wanted(&stack, &declared, &apart)?;
    let paths = stack::wanted_paths(&stack, &volumes, &apart)?;
    let why_apart = stack::why_apart(&stack, &declared, &apart);
    stack.warnings.extend(why_apart);
    let unsaved = stack.services.iter().filter_map(|service| {
        let found = databases.get(&service.name).map_or(&[][..], Vec::as_slice);
        left_out_and_unsaved(service, found, seen_in(&service.name))
    });
    let unseen = stack
        .services
        .iter()
        .filter_map(|service| keeps_restarting_unseen(service, seen_in(&service.name)));
    let told: Vec<String> = unsaved.chain(unseen).collect();
    stack.warnings.extend(told);
    Ok(Survey {
        stack,
        containers: Arc::default(),
        cofferdams: Arc::default(),
        spoken_through: Arc::default(),
        databases,
        stores: BTreeMap::new(),
        caches: BTreeMap::new(),
        volumes,
        declared,
        paths,
        in_memory,
        no_directories,
        repositories: repositories.to_vec(),
    })
}

/// Where the servers of a service keep what is no copy when it is taken as files.
fn store_directories(
    service: &Service,
    found: &[FoundDatabase],
    seen: &BTreeSet<Store>,
) -> Vec<String> {
    let env = &service.container.env;
    let told = found
        .iter()
        .filter_map(|found| found.data_directory.as_deref());
    let untold = found.iter().filter(|found| found.data_directory.is_none());
    let untold = untold.map(|found| found.server.store());
    let usual = stores::not_as_files(service, seen).chain(untold);
    let usual = usual.flat_map(|store| store.directories(env));
    told.chain(service.labels.data_directories())
        .chain(usual)
        .map(str::to_owned)
        .collect()
}

/// `*` leaves the data of a server out; nothing else may save it.
fn left_out_and_unsaved(
    service: &Service,
    found: &[FoundDatabase],
    seen: &BTreeSet<Store>,
) -> Option<String> {
    let labels = &service.labels;
    let is_all = |kind: MountKind| {
        let selection = match kind {
            MountKind::Volume => &labels.volumes,
            MountKind::Bind => &labels.binds,
            MountKind::Tmpfs | MountKind::Other => &None,
        };
        *selection == Some(Selection::All)
    };
    let is_saved = |store: Store| {
        found.iter().any(|found| found.server.store() == store)
            || stores::labelled_directories(labels, store).next().is_some()
            || !labels.commands.is_empty()
    };
    let mount_of = |store: Store| {
        let directories = store.directories(&service.container.env);
        let mut mounts = directories.filter_map(|it| service.container.mount_of(it));
        mounts.find(|mount| is_all(mount.kind))
    };
    let mut unsaved = stores::not_as_files(service, seen).filter(|store| !is_saved(*store));
    let (store, mount) = unsaved.find_map(|store| Some((store, mount_of(store)?)))?;
    let label = match mount.kind {
        MountKind::Bind => "binds",
        _ => "volumes",
    };
    Some(format!(
        "{}: `cofferdam.{label}: \"*\"` leaves out the data of its {store} server, because a copy of files in use cannot be \
         restored, and nothing else saves it; add the label `{}`",
        service.name,
        store.label()
    ))
}

/// Between its starts no process is to be seen, and the environment does not tell of every server.
fn keeps_restarting_unseen(service: &Service, seen: &BTreeSet<Store>) -> Option<String> {
    let Service {
        name,
        container,
        labels,
    } = service;
    let is_unseen = labels.opt_in == OptIn::Detection
        && labels.skip.is_none()
        && container.state == State::Restarting
        && seen.is_empty();
    is_unseen.then(|| {
        format!(
            "{name}: its container {0} keeps restarting: Cofferdam cannot see whether it runs a database server, and saves \
             what it has mounted as files; find out why it restarts: docker logs {0}",
            container.name
        )
    })
}

async fn databases_of(
    engine: &Engine,
    service: &Service,
    seen: &BTreeSet<Store>,
) -> Vec<FoundDatabase> {
    if service.labels.skip.is_some() {
        return Vec::new();
    }
    let found = [
        postgres_of(engine, service, seen.contains(&Store::Postgres)).await,
        mysql_of(engine, service, seen.contains(&Store::Mysql)).await,
    ];
    found.into_iter().flatten().collect()
}

/// Whether a server is to be saved. One that is seen is, also where nobody can log in to it: its driver says why.
fn is_asked_for(service: &Service, is_labelled: bool, is_seen: bool) -> bool {
    match service.labels.opt_in {
        OptIn::No => false,
        OptIn::Labels => is_labelled,
        OptIn::Detection => is_seen,
    }
}

async fn postgres_of(engine: &Engine, service: &Service, is_seen: bool) -> Option<FoundDatabase> {
    let Service {
        container, labels, ..
    } = service;
    if !is_asked_for(service, labels.postgres.is_some(), is_seen) {
        return None;
    }
    let options = labels.postgres.clone().unwrap_or_default();
    let detected = postgres::look_at(engine, container, &options).await;
    Some(FoundDatabase {
        server: FoundServer::Postgres {
            labels: options,
            login: detected.server,
        },
        data_directory: detected.data_directory,
    })
}

async fn mysql_of(engine: &Engine, service: &Service, is_seen: bool) -> Option<FoundDatabase> {
    let Service {
        container, labels, ..
    } = service;
    if !is_asked_for(service, labels.mysql.is_some(), is_seen) {
        return None;
    }
    let options = labels.mysql.clone().unwrap_or_default();
    let detected = mysql::look_at(engine, container, &options).await;
    Some(FoundDatabase {
        server: FoundServer::Mysql {
            labels: options,
            login: detected.server,
        },
        data_directory: Some(detected.data_directory),
    })
}

/// What the engine is asked for, [`LOOKS`] questions at the same time; the answers are in the order of the questions.
fn some_at_a_time<'a, T: 'a>(
    questions: impl Iterator<Item = BoxFuture<'a, T>>,
) -> impl Stream<Item = T> {
    stream::iter(questions.collect::<Vec<_>>()).buffered(LOOKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests_support::service;

    #[test]
    fn a_server_that_is_seen_is_to_be_saved_whether_its_clients_run_or_not() {
        for (labels, is_labelled, is_seen, expected) in [
            (&[("enable", "true")][..], false, true, true),
            (&[("enable", "true")], true, false, false),
            (&[("postgres", "*")], true, false, true),
            (&[("volumes", "*")], false, true, false),
            (&[], false, true, false),
        ] {
            let db = service("db", &[], labels);
            let asked = is_asked_for(&db, is_labelled, is_seen);
            assert_eq!(asked, expected, "{labels:?}");
        }
    }

    #[test]
    fn what_keeps_restarting_is_told_where_nothing_shows_what_it_runs() {
        let told = |labels: &[(&str, &str)], state: State, seen: &[Store]| {
            let mut app = service("app", &[], labels);
            app.container.state = state;
            let seen = seen.iter().copied().collect();
            keeps_restarting_unseen(&app, &seen).is_some()
        };
        let enabled = [("enable", "true")];
        assert!(told(&enabled, State::Restarting, &[]));
        assert!(!told(&enabled, State::Restarting, &[Store::Mysql]));
        assert!(!told(&enabled, State::Running, &[]));
        assert!(!told(&[("volumes", "*")], State::Restarting, &[]));
    }
}
