//! Makes the drivers of one service.

use std::path::PathBuf;

use super::{Restored, RunOptions, ServiceDriver};
use crate::agent::helper::Helpers;
use crate::agent::inside::OWN_PROGRAM;
use crate::driver::DriverError;
use crate::driver::command::{CommandDriver, CommandRun};
use crate::driver::couchdb::{CouchdbDriver, CouchdbRun};
use crate::driver::elasticsearch::ElasticsearchDriver;
use crate::driver::mysql::{MysqlDriver, MysqlOptions};
use crate::driver::postgres::basebackup::BasebackupDriver;
use crate::driver::postgres::{self, PostgresDriver, PostgresOptions};
use crate::driver::sqlite::{DatabaseFile, SqliteDriver, SqliteOptions, database_files};
use crate::driver::tree::{Moment, TreeDriver, TreeOrigin, TreeTarget};
use crate::engine::Mount;
use crate::labels::{OptIn, PostgresLabels, PostgresMode, TreeOptions};
use crate::run::session::Session;
use crate::stack::survey::{FoundServer, Survey, couchdb_labels};
use crate::stack::{self, MountedVolume, Service};
use crate::target::{DriverKind, RunId, TargetId};

pub(super) struct DriverFactory<'a> {
    pub session: &'a Session,
    pub survey: &'a Survey,
    pub service: &'a Service,
    pub run: &'a RunId,
    /// One for all drivers of a run: whether helpers can work is tried out once.
    pub helpers: &'a Helpers,
    pub options: &'a RunOptions,
}

impl DriverFactory<'_> {
    pub async fn all(&self, restored: &[Restored]) -> Result<Vec<ServiceDriver>, DriverError> {
        let mut drivers = vec![
            self.postgres(),
            self.mysql(),
            self.commands(restored),
            self.trees(restored).await?,
            self.sqlite(restored).await?,
        ];
        drivers.extend(self.basebackup(restored).await?);
        drivers.extend(self.couchdb(restored).await?);
        drivers.extend(self.elasticsearch(restored));
        Ok(drivers)
    }

    fn postgres(&self) -> ServiceDriver {
        let mode = self.found_postgres().map(|(labels, _)| labels.mode);
        ServiceDriver {
            driver: Box::new(self.postgres_driver()),
            is_asked: mode.is_some_and(|mode| mode != PostgresMode::Basebackup),
        }
    }

    fn found_postgres(&self) -> Option<(&PostgresLabels, &Option<postgres::Server>)> {
        let mut found = self.survey.databases_of(&self.service.name);
        found.find_map(|found| match &found.server {
            FoundServer::Postgres { labels, login } => Some((labels, login)),
            FoundServer::Mysql { .. } => None,
        })
    }

    fn postgres_driver(&self) -> PostgresDriver {
        let found = self.found_postgres();
        let mut labels = found.map(|(labels, _)| labels.clone()).unwrap_or_default();
        if self.options.trees.moment == Moment::Restore {
            // What a restore dumps is its way back: tables that it makes anew may not lose rows.
            labels.exclude_table_data.clear();
        }
        let driver = PostgresDriver::new(
            self.session.engine.clone(),
            self.service.container.clone(),
            labels,
            self.run.clone(),
            PostgresOptions {
                old_database: self.options.old_database,
                removals: self.session.removals.clone(),
                ..PostgresOptions::default()
            },
        );
        match found.and_then(|(_, login)| login.clone()) {
            Some(login) => driver.with_login(login),
            None => driver,
        }
    }

    /// Only where the labels, or a record that is restored, are about a data directory.
    async fn basebackup(
        &self,
        restored: &[Restored],
    ) -> Result<Option<ServiceDriver>, DriverError> {
        let name = &self.service.name;
        let is_asked = self
            .found_postgres()
            .is_some_and(|(labels, _)| labels.mode == PostgresMode::Basebackup);
        let saved = restored.iter().find_map(|restored| {
            let is_own = self.is_own(restored, DriverKind::Basebackup);
            restored.path.as_ref().filter(|_| is_own)
        });
        let present = self.survey.data_directories(name).next();
        let Some(directory) = present.or(saved.map(String::as_str)) else {
            return Ok(None);
        };
        if !is_asked && saved.is_none() {
            return Ok(None);
        }
        let moment = self.options.trees.moment;
        let driver = BasebackupDriver::prepare(
            self.postgres_driver(),
            self.helpers(),
            name,
            directory,
            moment,
        )
        .await?;
        Ok(Some(ServiceDriver {
            driver: Box::new(driver),
            is_asked,
        }))
    }

    fn helpers(&self) -> Helpers {
        self.helpers.clone()
    }

    /// Only where a label, or a record that is restored, is about a node of CouchDB.
    async fn couchdb(&self, restored: &[Restored]) -> Result<Option<ServiceDriver>, DriverError> {
        let labels = &self.service.labels;
        let asked = labels.couchdb.as_ref().filter(|_| labels.skip.is_none());
        let is_restored = self.is_restored(DriverKind::Couchdb, restored);
        if asked.is_none() && !is_restored {
            return Ok(None);
        }
        let driver = CouchdbDriver::prepare(
            self.helpers(),
            self.service.container.clone(),
            &self.service.name,
            match &labels.couchdb {
                Some(labels) => labels.clone(),
                // One that was detected is not seen while it is stopped.
                None => couchdb_labels(&self.service.container),
            },
            CouchdbRun {
                moment: self.options.trees.moment,
                loss: self.options.loss,
            },
        )
        .await?;
        Ok(Some(ServiceDriver {
            driver: Box::new(driver),
            is_asked: asked.is_some(),
        }))
    }

    /// Only where a label, or a record that is restored, is about a server of Elasticsearch.
    fn elasticsearch(&self, restored: &[Restored]) -> Option<ServiceDriver> {
        let labels = &self.service.labels;
        let asked = labels.elasticsearch.as_ref();
        let is_asked = asked.is_some() && labels.skip.is_none();
        if !is_asked && !self.is_restored(DriverKind::Elasticsearch, restored) {
            return None;
        }
        let driver = ElasticsearchDriver::new(
            self.helpers(),
            self.service.container.clone(),
            &self.service.name,
            asked.cloned().unwrap_or_default(),
            self.options.trees.moment,
        );
        Some(ServiceDriver {
            driver: Box::new(driver),
            is_asked,
        })
    }

    fn is_restored(&self, kind: DriverKind, restored: &[Restored]) -> bool {
        restored.iter().any(|restored| self.is_own(restored, kind))
    }

    fn is_own(&self, restored: &Restored, kind: DriverKind) -> bool {
        restored.target.driver == kind && restored.target.service == self.service.name
    }

    fn commands(&self, restored: &[Restored]) -> ServiceDriver {
        let labels = &self.service.labels;
        let restored = restored
            .iter()
            .filter(|restored| self.is_own(restored, DriverKind::Command));
        let driver = CommandDriver::new(
            self.session.engine.clone(),
            self.service.container.clone(),
            labels.commands.clone(),
            restored.map(|restored| restored.target.name.clone()),
            CommandRun {
                helpers: self.helpers(),
                program: PathBuf::from(OWN_PROGRAM),
            },
        );
        ServiceDriver {
            driver: Box::new(driver),
            is_asked: labels.skip.is_none(),
        }
    }

    fn mysql(&self) -> ServiceDriver {
        let found = self
            .survey
            .databases_of(&self.service.name)
            .find_map(|found| match &found.server {
                FoundServer::Mysql { labels, login } => Some((labels, login)),
                FoundServer::Postgres { .. } => None,
            });
        let mut driver = MysqlDriver::new(
            self.session.engine.clone(),
            self.service.container.clone(),
            found.map(|(labels, _)| labels.clone()).unwrap_or_default(),
            self.run.clone(),
            MysqlOptions {
                old_database: self.options.old_database,
                loss: self.options.loss,
                removals: self.session.removals.clone(),
                ..MysqlOptions::default()
            },
        );
        if let Some(login) = found.and_then(|(_, login)| login.clone()) {
            driver = driver.with_login(login);
        }
        ServiceDriver {
            driver: Box::new(driver),
            is_asked: found.is_some(),
        }
    }

    async fn trees(&self, restored: &[Restored]) -> Result<ServiceDriver, DriverError> {
        let labelled = trees_of(self.survey, self.service);
        let unlabelled = unlabelled_trees(self.survey, self.service, &labelled, restored);
        let container = self.service.container.clone();
        let run = self.options.trees.clone();
        let driver =
            TreeDriver::prepare(self.helpers(), container, labelled, unlabelled, run).await?;
        Ok(ServiceDriver {
            driver: Box::new(driver),
            is_asked: true,
        })
    }

    async fn sqlite(&self, restored: &[Restored]) -> Result<ServiceDriver, DriverError> {
        let labelled = databases_of(self.service);
        let unlabelled = unlabelled_databases(self.service, &labelled, restored);
        let container = self.service.container.clone();
        let run = &self.options.trees;
        let options = SqliteOptions::new(run.moment, run.program.clone());
        let driver =
            SqliteDriver::prepare(self.helpers(), container, labelled, unlabelled, options).await?;
        Ok(ServiceDriver {
            driver: Box::new(driver),
            is_asked: true,
        })
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
    // No name that a label gives has a slash in it.
    let paths = survey.paths.get(&service.name).into_iter().flatten();
    let paths = paths.map(|path| TreeTarget {
        id: TargetId::new(&service.name, DriverKind::Files, path),
        origin: TreeOrigin::Path(path.clone()),
        options: TreeOptions::default(),
    });
    let trees = volumes.chain(files.filter(|_| !skipped)).chain(paths);
    let mut trees: Vec<TreeTarget> = trees.collect();
    let all: Vec<String> = trees
        .iter()
        .map(|tree| tree.origin.path().to_owned())
        .collect();
    for tree in &mut trees {
        let nested = nested_in(service, tree.origin.path(), &all);
        tree.options.exclude.extend(nested);
    }
    trees
}

/// The patterns that leave out of the tree at `path` what the container has mounted in it from the very same place, where that is a
/// tree of its own (`all`: where those are), or left out on purpose. Whoever reads the outer mount sees it there too.
fn nested_in(service: &Service, path: &str, all: &[String]) -> Vec<String> {
    let container = &service.container;
    let place = container.place_of(path);
    let below = container.mounts.iter().filter(|mount| {
        let rest = mount.destination.strip_prefix(path.trim_end_matches('/'));
        let is_same = rest.is_some_and(|rest| mount.root() == format!("{place}{rest}"));
        let has_own = all.contains(&mount.destination) || stack::is_skipped(service, mount);
        is_same && has_own
    });
    let below: Vec<String> = below.map(Mount::root).collect();
    stack::patterns_of(&place, &below)
}

/// What is restored although no label takes it: as a volume that the service mounts, or at the path that was saved.
fn unlabelled_trees(
    survey: &Survey,
    service: &Service,
    labelled: &[TreeTarget],
    restored: &[Restored],
) -> Vec<TreeTarget> {
    let mounted = stack::mounted(service, &survey.stack.project, &survey.declared);
    let mut trees = Vec::new();
    for Restored { target: id, path } in restored {
        if id.service != service.name || labelled.iter().any(|tree| tree.id == *id) {
            continue;
        }
        let origin = match id.driver {
            DriverKind::Volume => mounted
                .iter()
                .find(|volume| volume.name == id.name)
                .map(origin_of),
            DriverKind::Files => path.clone().map(TreeOrigin::Path),
            _ => None,
        };
        trees.extend(origin.map(|origin| TreeTarget {
            id: id.clone(),
            origin,
            options: TreeOptions::default(),
        }));
    }
    trees
}

/// The SQLite databases that labels name.
fn databases_of(service: &Service) -> Vec<DatabaseFile> {
    let labels = &service.labels;
    if labels.skip.is_some() || labels.opt_in == OptIn::No {
        return Vec::new();
    }
    database_files(&service.name, &labels.sqlite)
}

/// What is restored although no label names it: at the path that was saved.
fn unlabelled_databases(
    service: &Service,
    labelled: &[DatabaseFile],
    restored: &[Restored],
) -> Vec<DatabaseFile> {
    let mut files = Vec::new();
    for Restored { target: id, path } in restored {
        let is_own = id.service == service.name && id.driver == DriverKind::Sqlite;
        let is_known = labelled.iter().any(|file| file.id == *id);
        if let (Some(path), true, false) = (path, is_own, is_known) {
            files.push(DatabaseFile {
                id: id.clone(),
                path: path.clone(),
            });
        }
    }
    files
}

fn origin_of(volume: &MountedVolume) -> TreeOrigin {
    TreeOrigin::Volume {
        volume: volume.volume.clone(),
        destination: volume.destination.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests_support::{bound, service};

    #[test]
    fn what_is_mounted_in_a_tree_from_the_same_place_is_saved_once() {
        let binds = [
            "/host/data:/data",
            "/host/data/[x]:/data/[x]",
            "/elsewhere:/data/y",
            "/host/data/z:/data/z",
        ];
        let nested = |labels: &[(&str, &str)], all: &[&str]| {
            let app = bound(service("app", &[], labels), &binds);
            let all: Vec<String> = all.iter().map(|path| (*path).to_owned()).collect();
            nested_in(&app, "/data", &all)
        };
        assert_eq!(nested(&[], &["/data"]), Vec::<String>::new());
        let all = ["/data", "/data/[x]", "/data/y"];
        assert_eq!(nested(&[], &all), [r"/\[x\]"]);
        let skipped = [("binds", "*"), ("binds.skip", "/data/z")];
        assert_eq!(nested(&skipped, &["/data"]), ["/z"]);
    }
}
