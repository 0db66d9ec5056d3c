//! Which targets the services of a stack have, and the drivers that know them.
//!
//! - `making`: the drivers of one service

mod making;

use std::collections::BTreeMap;

use self::making::Making;
use crate::driver::tree::TreeRun;
use crate::driver::{Driver, DriverError, OldDatabase};
use crate::manifest::{Failure, TargetRecord};
use crate::plan::backup::PlannedTarget;
use crate::session::Session;
use crate::survey::Survey;
use crate::target::{RunId, TargetId};

/// What a run wants of its drivers, beside what the labels say.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub old_database: OldDatabase,
    pub trees: TreeRun,
}

/// The drivers of one run, by the service's name.
pub struct Drivers {
    services: BTreeMap<String, Vec<ServiceDriver>>,
}

/// Restores may need a driver that no label asks for any more.
struct ServiceDriver {
    driver: Box<dyn Driver>,
    /// Whether labels, or detection, ask it for targets.
    is_asked: bool,
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
        let mut services = BTreeMap::new();
        for service in &survey.stack.services {
            let made = Making {
                session,
                survey,
                service,
                run,
                options,
            };
            let drivers = made.all(restored).await?;
            services.insert(service.name.clone(), drivers);
        }
        Ok(Self { services })
    }

    /// The driver of a target whose service is in the stack.
    pub fn of(&self, target: &TargetId) -> Result<&dyn Driver, DriverError> {
        let drivers = self.services.get(&target.service).ok_or_else(|| {
            DriverError::failed(format!(
                "there is no container of service {} (any more)",
                target.service
            ))
        })?;
        drivers
            .iter()
            .map(|known| &*known.driver)
            .find(|driver| driver.kinds().contains(&target.driver))
            .ok_or_else(|| DriverError::failed(format!("no driver knows {target}")))
    }

    /// Every target that the labels of the stack ask for, and those that are asked for but cannot be reached.
    pub async fn targets(&self, survey: &Survey) -> (Vec<PlannedTarget>, Vec<Failure>) {
        let mut targets = Vec::new();
        let mut unreachable = Vec::new();
        for service in &survey.stack.services {
            // Replicas of a service have names of their own.
            let own = |id: TargetId| TargetId::new(&service.name, id.driver, id.name);
            let drivers = self.services.get(&service.name).into_iter().flatten();
            for ServiceDriver { driver, .. } in drivers.filter(|known| known.is_asked) {
                match driver.targets().await {
                    Ok(found) => {
                        targets.extend(found.targets.into_iter().map(|found| PlannedTarget {
                            id: own(found.id),
                            container: service.container.name.clone(),
                            what: found.what,
                        }));
                        unreachable.extend(found.missing.into_iter().map(|missing| Failure {
                            target: own(missing.target),
                            ..missing
                        }));
                    }
                    Err(error) => {
                        let kind = driver.kinds().first();
                        unreachable.extend(kind.map(|kind| Failure {
                            target: TargetId::new(&service.name, *kind, "*"),
                            reason: error.to_string(),
                        }));
                    }
                }
            }
        }
        (targets, unreachable)
    }
}
