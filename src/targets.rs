//! Which targets the services of a stack have, and the drivers that know them.

use std::collections::BTreeMap;

use crate::agent::helper::Helpers;
use crate::discover::{self, MountedVolume, Service};
use crate::driver::postgres::{GLOBALS, OldDatabase, PostgresDriver, PostgresOptions};
use crate::driver::tree::{TreeDriver, TreeOrigin, TreeRun, TreeTarget};
use crate::driver::{Driver, DriverError};
use crate::labels::TreeOptions;
use crate::manifest::{Facts, Failure, TargetRecord};
use crate::plan::backup::PlannedTarget;
use crate::session::Session;
use crate::survey::Survey;
use crate::target::{DriverKind, RunId, TargetId};

/// What a run wants of its drivers, beside what the labels say.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub old_database: OldDatabase,
    pub trees: TreeRun,
}

/// The drivers of one run: for each service of the stack the one that knows its database and the one that knows its trees.
pub struct Drivers {
    drivers: BTreeMap<String, ServiceDrivers>,
}

struct ServiceDrivers {
    postgres: PostgresDriver,
    tree: TreeDriver,
    trees: Vec<PlannedTarget>,
}

impl Drivers {
    /// `restored`: the records that a restore puts back. A tree among them is known also when no label takes it any more.
    pub async fn prepare(
        session: &Session,
        survey: &Survey,
        run: &RunId,
        options: &RunOptions,
        restored: &[&TargetRecord],
    ) -> Result<Self, DriverError> {
        let mut drivers = BTreeMap::new();
        for service in &survey.stack.services {
            let found = survey.databases.get(&service.name);
            let mut postgres = PostgresDriver::new(
                session.engine.clone(),
                service.container.clone(),
                found.map(|found| found.labels.clone()).unwrap_or_default(),
                run.clone(),
                PostgresOptions {
                    old_database: options.old_database,
                    removals: session.removals.clone(),
                    ..PostgresOptions::default()
                },
            );
            if let Some(server) = found.and_then(|found| found.server.clone()) {
                postgres = postgres.with_login(server);
            }
            let labelled = trees_of(survey, service);
            let trees = labelled.iter().map(|tree| planned(service, tree)).collect();
            let helpers = Helpers {
                engine: session.engine.clone(),
                image: session.image.clone(),
                run: run.clone(),
                project: survey.stack.project.clone(),
                removals: session.removals.clone(),
            };
            let all = with_unlabelled(survey, service, labelled, restored);
            let tree = TreeDriver::prepare(
                helpers,
                service.container.clone(),
                all,
                options.trees.clone(),
            )
            .await?;
            let known = ServiceDrivers {
                postgres,
                tree,
                trees,
            };
            drivers.insert(service.name.clone(), known);
        }
        Ok(Self { drivers })
    }

    /// The driver of a target whose service is in the stack.
    pub fn of(&self, target: &TargetId) -> Result<&dyn Driver, DriverError> {
        let drivers = self.drivers.get(&target.service).ok_or_else(|| {
            DriverError::failed(format!(
                "there is no container of service {} (any more)",
                target.service
            ))
        })?;
        Ok(match target.driver {
            DriverKind::Postgres => &drivers.postgres,
            DriverKind::Volume | DriverKind::Files => &drivers.tree,
        })
    }

    /// Why a target cannot be put back now, where that is known beforehand.
    pub fn refusal(&self, target: &TargetId) -> Option<&str> {
        match target.driver {
            DriverKind::Postgres => None,
            DriverKind::Volume | DriverKind::Files => {
                self.drivers.get(&target.service)?.tree.refusal(target)
            }
        }
    }

    /// Every target that the labels of the stack ask for, and those that are asked for but cannot be reached.
    pub async fn targets(&self, survey: &Survey) -> (Vec<PlannedTarget>, Vec<Failure>) {
        let mut targets = Vec::new();
        let mut unreachable = Vec::new();
        for service in &survey.stack.services {
            let Some(drivers) = self.drivers.get(&service.name) else {
                continue;
            };
            if survey.databases.contains_key(&service.name) {
                // Replicas of a service have names of their own.
                let own = |id: TargetId| TargetId::new(&service.name, id.driver, id.name);
                match drivers.postgres.targets().await {
                    Ok(found) => {
                        targets.extend(found.targets.into_iter().map(|id| PlannedTarget {
                            what: describe_database(&id),
                            container: service.container.name.clone(),
                            id: own(id),
                        }));
                        unreachable.extend(found.missing.into_iter().map(|missing| Failure {
                            target: own(missing.target),
                            ..missing
                        }));
                    }
                    Err(error) => unreachable.push(Failure {
                        target: TargetId::new(&service.name, DriverKind::Postgres, "*"),
                        reason: error.to_string(),
                    }),
                }
            }
            for tree in &drivers.trees {
                match drivers.tree.refusal(&tree.id) {
                    None => targets.push(tree.clone()),
                    Some(reason) => unreachable.push(Failure {
                        target: tree.id.clone(),
                        reason: reason.to_owned(),
                    }),
                }
            }
        }
        (targets, unreachable)
    }
}

/// The trees that labels take.
fn trees_of(survey: &Survey, service: &Service) -> Vec<TreeTarget> {
    let volumes = survey.volumes.get(&service.name).into_iter().flatten();
    let volumes = volumes.map(|wanted| TreeTarget {
        id: TargetId::new(&service.name, DriverKind::Volume, &wanted.volume.name),
        origin: origin_of(&wanted.volume),
        options: wanted.options.clone(),
    });
    let files = service.labels.files.iter().map(|(name, files)| TreeTarget {
        id: TargetId::new(&service.name, DriverKind::Files, name),
        origin: TreeOrigin::Path(files.path.clone()),
        options: files.options.clone(),
    });
    let skipped = service.labels.skip.is_some();
    volumes.chain(files.filter(|_| !skipped)).collect()
}

/// Adds what is restored although no label takes it: as a volume that the service mounts, or at the path that was saved.
fn with_unlabelled(
    survey: &Survey,
    service: &Service,
    mut trees: Vec<TreeTarget>,
    restored: &[&TargetRecord],
) -> Vec<TreeTarget> {
    let mounted = discover::mounted(service, &survey.stack.project, &survey.declared);
    for record in restored {
        let id = &record.target;
        if id.service != service.name || trees.iter().any(|tree| tree.id == *id) {
            continue;
        }
        let origin = match &record.facts {
            Facts::Volume(_) => mounted
                .iter()
                .find(|volume| volume.name == id.name)
                .map(origin_of),
            Facts::Files(facts) => Some(TreeOrigin::Path(facts.path.clone())),
            Facts::Postgres(_) => None,
        };
        trees.extend(origin.map(|origin| TreeTarget {
            id: id.clone(),
            origin,
            options: TreeOptions::default(),
        }));
    }
    trees
}

fn origin_of(volume: &MountedVolume) -> TreeOrigin {
    TreeOrigin::Volume {
        volume: volume.volume.clone(),
        destination: volume.destination.clone(),
    }
}

fn planned(service: &Service, tree: &TreeTarget) -> PlannedTarget {
    let what = match &tree.origin {
        TreeOrigin::Volume {
            volume,
            destination,
        } => format!("volume {volume} at {destination}"),
        TreeOrigin::Path(path) => format!("files at {path}"),
    };
    PlannedTarget {
        id: tree.id.clone(),
        container: service.container.name.clone(),
        what,
    }
}

fn describe_database(id: &TargetId) -> String {
    if id.name == GLOBALS {
        "roles and tablespaces".to_owned()
    } else {
        format!("database {}", id.name)
    }
}
