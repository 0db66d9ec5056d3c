//! Which targets the services of a stack have, and the drivers that know them.
//!
//! - `factory`: the drivers of one service

mod factory;

use std::collections::BTreeMap;

use self::factory::DriverFactory;
use crate::driver::tree::{Moment, TreeRun};
use crate::driver::{Driver, DriverError, Loss, OldDatabase, doubts_of};
use crate::hold::RestoreJournal;
use crate::hold::journal::RestoreChoices;
use crate::manifest::{Failure, TargetRecord};
use crate::plan::apart::Placed;
use crate::plan::backup::PlannedTarget;
use crate::run::session::Session;
use crate::stack::survey::Survey;
use crate::target::{RunId, TargetId};

/// What a run wants of its drivers, beside what the labels say.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub old_database: OldDatabase,
    pub loss: Loss,
    pub trees: TreeRun,
}

impl RunOptions {
    /// Of a restore.
    pub fn restoring(choices: &RestoreChoices) -> Self {
        Self {
            old_database: choices.old_database,
            loss: Loss::Refused,
            trees: TreeRun {
                placement: choices.placement,
                paths: choices.paths.clone(),
                moment: Moment::Restore,
                ..TreeRun::default()
            },
        }
    }

    /// Of whoever recovers a restore: each target went the way that was decided then.
    pub fn recovering(restore: &RestoreJournal) -> Self {
        let mut options = Self::restoring(&restore.choices);
        let steps = restore.targets.iter();
        options.trees.ways = steps
            .map(|step| (step.target.clone(), step.way_back))
            .collect();
        options
    }
}

/// A target that is put back, whether a label asks for it or not.
#[derive(Clone, Debug)]
pub struct Restored {
    pub target: TargetId,
    /// Of files, a database in a file, or a data directory: where it lay when it was saved, as the container saw it.
    pub path: Option<String>,
}

impl Restored {
    pub fn of(record: &TargetRecord) -> Self {
        Self {
            target: record.target.clone(),
            path: record.facts.path().map(str::to_owned),
        }
    }
}

/// The drivers of one run, by the service's name.
pub struct Drivers {
    services: BTreeMap<String, Vec<ServiceDriver>>,
}

/// What labels ask for.
#[derive(Debug, Default)]
pub struct Wanted {
    pub targets: Vec<PlannedTarget>,
    /// Asked for, and cannot be reached.
    pub unreachable: Vec<Failure>,
    /// What a label that says "all" does not mean, with the reason.
    pub left_out: Vec<String>,
}

/// Restores may need a driver that no label asks for any more.
struct ServiceDriver {
    driver: Box<dyn Driver>,
    /// Whether labels, or detection, ask it for targets.
    is_asked: bool,
}

impl Drivers {
    /// `restored`: what a restore puts back. It is known also when no label takes it any more.
    pub async fn prepare(
        session: &Session,
        survey: &Survey,
        run: &RunId,
        options: &RunOptions,
        restored: &[Restored],
    ) -> Result<Self, DriverError> {
        let helpers = session.helpers(run, &survey.stack.project);
        let mut services = BTreeMap::new();
        for service in &survey.stack.services {
            let made = DriverFactory {
                session,
                survey,
                service,
                run,
                helpers: &helpers,
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
                "service {} has no container (any more)",
                target.service
            ))
        })?;
        drivers
            .iter()
            .map(|known| &*known.driver)
            .find(|driver| driver.kinds().contains(&target.driver))
            .ok_or_else(|| DriverError::failed(format!("no driver handles {target}")))
    }

    /// Why what is saved of a target now could not be put back as things are.
    pub async fn doubts(&self, target: &TargetId) -> Vec<String> {
        match self.of(target) {
            Ok(driver) => doubts_of(driver.doubts(target).await),
            Err(error) => doubts_of(Err(error)),
        }
    }

    /// Those of the targets that are files, with where these lie.
    pub fn placed<'a>(
        &'a self,
        targets: impl Iterator<Item = &'a TargetId>,
    ) -> impl Iterator<Item = Placed<'a>> {
        targets.filter_map(move |target| {
            let driver = self.of(target).ok()?;
            let path = driver.changed_path(target);
            let path = path.or_else(|| driver.closed_path(target))?;
            Some((target, path))
        })
    }

    /// What came up in loads, commits and rollbacks, and somebody ought to read.
    pub fn take_notices(&self) -> Vec<String> {
        let of_service = |(service, drivers): (&String, &Vec<ServiceDriver>)| {
            let notices = drivers.iter().flat_map(|known| known.driver.take_notices());
            notices
                .map(|notice| format!("{service}: {notice}"))
                .collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }

    /// What the labels of the stack ask for.
    pub async fn targets(&self, survey: &Survey) -> Wanted {
        let mut wanted = Wanted::default();
        for service in &survey.stack.services {
            // Replicas of a service have names of their own.
            let own = |id: TargetId| TargetId::new(&service.name, id.driver, id.name);
            let drivers = self.services.get(&service.name).into_iter().flatten();
            for ServiceDriver { driver, .. } in drivers.filter(|known| known.is_asked) {
                match driver.targets().await {
                    Ok(found) => {
                        let told = found.left_out.into_iter();
                        let told = told.map(|told| format!("{}: {told}", service.name));
                        wanted.left_out.extend(told);
                        wanted
                            .targets
                            .extend(found.targets.into_iter().map(|found| PlannedTarget {
                                id: own(found.id),
                                container: service.container.name.clone(),
                                what: found.what,
                            }));
                        wanted
                            .unreachable
                            .extend(found.missing.into_iter().map(|missing| Failure {
                                target: own(missing.target),
                                ..missing
                            }));
                    }
                    Err(error) => {
                        let kind = driver.kinds().first();
                        wanted.unreachable.extend(kind.map(|kind| Failure {
                            target: TargetId::new(&service.name, *kind, "*"),
                            reason: error.to_string(),
                        }));
                    }
                }
            }
        }
        wanted
    }
}
