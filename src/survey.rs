//! Looks at the engine: which stacks are there, what their volumes are called, which databases run in them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};

use crate::config::Scope;
use crate::discover::{self, DiscoverError, Service, Stack, SwarmView, WantedVolume};
use crate::driver::{mysql, postgres};
use crate::engine::{Container, Engine, EngineError, MountKind, State, container};
use crate::labels::{LabelErrors, MysqlLabels, OptIn, PostgresLabels};
use crate::store::Store;

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
    /// By the service's name.
    pub databases: BTreeMap<String, Vec<FoundDatabase>>,
    /// The database servers of each service, saved or not, by the service's name. Empty until [`Self::find_stores`]. Where
    /// `cofferdam.skip` stands, nobody looks.
    pub stores: BTreeMap<String, BTreeSet<Store>>,
    /// By the service's name.
    pub volumes: BTreeMap<String, Vec<WantedVolume>>,
    /// The names of volumes in compose files, by the engine's names.
    pub declared: BTreeMap<String, String>,
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
    /// Looks for the database servers of every service. The engine lists the processes of each running container, which takes
    /// it some milliseconds; whoever only saves or restores need not know them. Says what could not be learned.
    pub async fn find_stores(&mut self, engine: &Engine) -> Option<String> {
        let services = &self.stack.services;
        let looks = services.iter().map(|it| stores_of(engine, it).boxed());
        let looks: Vec<Look> = some_at_a_time(looks).collect().await;
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
                "which databases run in {unseen} is not known, nor whether they are saved: {reason}"
            )
        })
    }

    pub fn stores_of(&self, service: &str) -> impl Iterator<Item = Store> {
        self.stores.get(service).into_iter().flatten().copied()
    }

    pub fn databases_of(&self, service: &str) -> impl Iterator<Item = &FoundDatabase> {
        self.databases.get(service).into_iter().flatten()
    }

    /// Where the databases of a service keep their data.
    pub fn data_directories(&self, service: &str) -> impl Iterator<Item = &str> {
        self.databases_of(service)
            .filter_map(|found| found.data_directory.as_deref())
    }
}

/// Surveys the projects of `scope`.
pub async fn survey(engine: &Engine, scope: &Scope) -> Result<Vec<Survey>, SurveyError> {
    let own = engine.own_container().await?;
    let containers = engine.containers(&[]).await?;
    let swarm = swarm_view(engine, &containers).await?;
    let mut surveys = Vec::new();
    for stack in discover::discover(containers, own.as_ref(), scope, swarm.as_ref())? {
        surveys.push(survey_stack(engine, stack).await?);
    }
    Ok(surveys)
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

async fn survey_stack(engine: &Engine, stack: Stack) -> Result<Survey, SurveyError> {
    let services = stack.services.iter();
    let found = services.map(|service| databases_of(engine, service).boxed());
    let found: Vec<_> = some_at_a_time(found).try_collect().await?;
    let names = stack.services.iter().map(|service| service.name.clone());
    let databases: BTreeMap<String, Vec<FoundDatabase>> = names.zip(found).collect();
    let directory = |found: &FoundDatabase| found.data_directory.clone();
    let directories = databases
        .iter()
        .map(|(service, found)| {
            (
                service.clone(),
                found.iter().filter_map(directory).collect(),
            )
        })
        .collect();
    let declared = declared_names(engine, &stack).await?;
    let volumes = discover::wanted(&stack, &declared, &directories)?;
    Ok(Survey {
        stack,
        databases,
        stores: BTreeMap::new(),
        volumes,
        declared,
    })
}

async fn databases_of(
    engine: &Engine,
    service: &Service,
) -> Result<Vec<FoundDatabase>, EngineError> {
    let Service {
        container, labels, ..
    } = service;
    if labels.skip.is_some() {
        return Ok(Vec::new());
    }
    let seen = match labels.opt_in {
        OptIn::Detection if container.is_running() => running_stores(engine, container).await?,
        _ => None,
    };
    let is_seen = |store| seen.as_ref().is_some_and(|stores| stores.contains(&store));
    let found = [
        postgres_of(engine, service, is_seen(Store::Postgres)).await?,
        mysql_of(engine, service, is_seen(Store::Mysql)).await?,
    ];
    Ok(found.into_iter().flatten().collect())
}

/// What a service runs, and why the engine did not tell it.
type Look = (BTreeSet<Store>, Option<EngineError>);

/// Nobody is asked but the engine: most of these containers have not opted in. What it does not tell is a gap in the audit,
/// and no more.
async fn stores_of(engine: &Engine, service: &Service) -> Look {
    let container = &service.container;
    if service.labels.skip.is_some() {
        return Look::default();
    }
    match running_stores(engine, container).await {
        Ok(Some(stores)) => (stores, None),
        Ok(None) => (stores_by_environment(container), None),
        Err(error) => (stores_by_environment(container), Some(error)),
    }
}

/// `None`: nothing runs.
async fn running_stores(
    engine: &Engine,
    container: &Container,
) -> Result<Option<BTreeSet<Store>>, EngineError> {
    if !matches!(container.state, State::Running | State::Paused) {
        return Ok(None);
    }
    let names = engine.process_names(&container.id).await?;
    let is_run = |store: &Store| names.iter().any(|name| store.is_run_by(name));
    let mut stores: BTreeSet<Store> = Store::ALL.into_iter().filter(is_run).collect();
    if stores.iter().any(|store| store.argument().is_some()) {
        let lines = engine.command_lines(&container.id).await?;
        let is_told = |argument| lines.iter().any(|line| line.contains(argument));
        stores.retain(|store| store.argument().is_none_or(is_told));
    }
    Ok(Some(stores))
}

/// Where no process is to be seen. Variables alone may be a client's, and so may be an anonymous volume, which its image
/// asks for.
fn stores_by_environment(container: &Container) -> BTreeSet<Store> {
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

async fn postgres_of(
    engine: &Engine,
    service: &Service,
    is_seen: bool,
) -> Result<Option<FoundDatabase>, EngineError> {
    let Service {
        container, labels, ..
    } = service;
    let options = labels.postgres.clone().unwrap_or_default();
    let detected = match labels.opt_in {
        OptIn::No => None,
        OptIn::Labels if labels.postgres.is_none() => None,
        OptIn::Labels => Some(postgres::look_at(engine, container, &options).await),
        OptIn::Detection if !is_seen => None,
        OptIn::Detection => postgres::detect(engine, container, &options).await?,
    };
    Ok(detected.map(|detected| FoundDatabase {
        server: FoundServer::Postgres {
            labels: options,
            login: detected.server,
        },
        data_directory: detected.data_directory,
    }))
}

async fn mysql_of(
    engine: &Engine,
    service: &Service,
    is_seen: bool,
) -> Result<Option<FoundDatabase>, EngineError> {
    let Service {
        container, labels, ..
    } = service;
    let options = labels.mysql.clone().unwrap_or_default();
    let detected = match labels.opt_in {
        OptIn::No => None,
        OptIn::Labels if labels.mysql.is_none() => None,
        OptIn::Labels => Some(mysql::look_at(engine, container, &options).await),
        OptIn::Detection if !is_seen => None,
        OptIn::Detection => mysql::detect(engine, container, &options).await?,
    };
    Ok(detected.map(|detected| FoundDatabase {
        server: FoundServer::Mysql {
            labels: options,
            login: detected.server,
        },
        data_directory: Some(detected.data_directory),
    }))
}

async fn declared_names(
    engine: &Engine,
    stack: &Stack,
) -> Result<BTreeMap<String, String>, EngineError> {
    let mounts = stack.services.iter().flat_map(|it| &it.container.mounts);
    let mounts = mounts.filter(|mount| mount.kind == MountKind::Volume);
    let volumes: BTreeSet<&String> = mounts.filter_map(|mount| mount.volume.as_ref()).collect();
    let names = volumes.into_iter().map(|volume| {
        let name = async move {
            let labels = engine.volume_labels(volume).await?;
            let name = labels.get(container::COMPOSE_VOLUME);
            Ok(name.map(|name| (volume.clone(), name.clone())))
        };
        name.boxed()
    });
    let names: Vec<_> = some_at_a_time(names).try_collect().await?;
    Ok(names.into_iter().flatten().collect())
}

/// What the engine is asked for, [`LOOKS`] questions at the same time; the answers are in the order of the questions.
fn some_at_a_time<'a, T: 'a>(
    questions: impl Iterator<Item = BoxFuture<'a, T>>,
) -> impl Stream<Item = T> {
    stream::iter(questions.collect::<Vec<_>>()).buffered(LOOKS)
}
