//! Which targets the services of a stack have, and the drivers that know them.

use std::collections::BTreeMap;

use crate::driver::postgres::{GLOBALS, OldDatabase, PostgresDriver, PostgresOptions};
use crate::driver::tree::{TreeDriver, TreeOverrides};
use crate::driver::{Driver, DriverError};
use crate::manifest::Failure;
use crate::plan::backup::PlannedTarget;
use crate::session::Session;
use crate::survey::Survey;
use crate::target::{DriverKind, RunId, TargetId};

/// How a restore departs from what the labels say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub old_database: OldDatabase,
    pub tree: TreeOverrides,
}

/// The drivers of one run: for each service of the stack the one that knows its database and the one that knows its trees.
pub struct Drivers {
    drivers: BTreeMap<String, ServiceDrivers>,
}

struct ServiceDrivers {
    postgres: PostgresDriver,
    tree: TreeDriver,
}

impl Drivers {
    pub fn new(session: &Session, survey: &Survey, run: RunId, overrides: Overrides) -> Self {
        let drivers = survey
            .stack
            .services
            .iter()
            .map(|service| {
                let drivers = ServiceDrivers {
                    postgres: PostgresDriver::new(
                        session.engine.clone(),
                        service.container.clone(),
                        survey
                            .databases
                            .get(&service.name)
                            .map(|found| found.labels.clone())
                            .unwrap_or_default(),
                        run.clone(),
                        PostgresOptions {
                            old_database: overrides.old_database,
                            removals: session.removals.clone(),
                            ..PostgresOptions::default()
                        },
                    ),
                    tree: TreeDriver::new(
                        session.engine.clone(),
                        session.image.clone(),
                        service,
                        run.clone(),
                        overrides.tree.clone(),
                    ),
                };
                (service.name.clone(), drivers)
            })
            .collect();
        Self { drivers }
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

    /// Every target that the labels of the stack ask for, and those that are asked for but cannot be reached.
    pub async fn targets(&self, survey: &Survey) -> (Vec<PlannedTarget>, Vec<Failure>) {
        let mut targets = Vec::new();
        let mut unreachable = Vec::new();
        for service in &survey.stack.services {
            let Some(drivers) = self.drivers.get(&service.name) else {
                continue;
            };
            if survey.databases.contains_key(&service.name) {
                match drivers.postgres.targets().await {
                    Ok(found) => targets.extend(found.into_iter().map(|id| PlannedTarget {
                        what: describe_database(&id),
                        container: service.container.name.clone(),
                        // Replicas of a service have names of their own.
                        id: TargetId::new(&service.name, id.driver, id.name),
                    })),
                    Err(error) => unreachable.push(Failure {
                        target: TargetId::new(&service.name, DriverKind::Postgres, "*"),
                        reason: error.to_string(),
                    }),
                }
            }
            targets.extend(drivers.tree.targets());
        }
        (targets, unreachable)
    }
}

fn describe_database(id: &TargetId) -> String {
    if id.name == GLOBALS {
        "roles and tablespaces".to_owned()
    } else {
        format!("database {}", id.name)
    }
}
