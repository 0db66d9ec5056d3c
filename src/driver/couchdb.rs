//! A CouchDB node: its data directory, copied while it serves, and put back with the name of the node it comes to.
//!
//! ```text
//! dump     ask for node and databases ─▶ data directory as of any tree ─▶ ask again
//! load     source ─▶ helper: unpack beside the data directory
//! check    a twin of the container on the new directory: rename the node in the shard maps, look at every database, stop
//! commit   both change places by a rename, as of any tree
//! ```
//!
//! CouchDB only ever appends to its files, so a copy of one that grows is good up to where it was read. Its manual wants
//! secondary indexes (`.shards`) copied before databases (`shards`), since an index may lag behind its database but not
//! run ahead of it: that is the order in which a tree is walked, by the bytes of names, and [`Opening::InOrder`] sees to it that
//! it is read so; `_dbs.couch`, which tells where every database is, lies between them. What is half compacted is left out; CouchDB begins anew.
//!
//! The shard maps in `_dbs.couch` name the node that has the data. They are documents of the server's own, so a server
//! rewrites them: not the one that is to be restored, but its twin ([`trial`]), before the old data is given up. The
//! container of the server is stopped meanwhile ([`DriverKind::state_needed`]).
//!
//! Not verified against a real CouchDB, but against a small server that follows its manual.
//!
//! - `node`: what a server says of itself
//! - `shards`: shard maps, and the names of nodes in them
//! - `trial`: the twin
//!
//! Source: the manual of CouchDB 3, "Backing up CouchDB" and "Shard Management".

mod node;
mod shards;
mod trial;

use std::collections::BTreeSet;

use async_trait::async_trait;

use self::node::Node;
use self::trial::Trial;
use super::http::{Access, Account, Http, Login, LoginLabels};
use super::tree::{DataDirectory, Moment, TreeRun};
use super::{ArtifactSink, ArtifactSource, Captured, Driver, DriverError, FoundTargets, WayBack};
use crate::agent::helper::Helpers;
use crate::agent::request::Scheme;
use crate::engine::{Container, Engine};
use crate::labels::CouchdbLabels;
use crate::manifest::{CouchdbFacts, Facts, TargetRecord, TreeFacts};
use crate::target::{DriverKind, TargetId};
use crate::tree::ahead::Opening;
use crate::tree::pack::CHANGED;

/// The only target of a node.
pub const NAME: &str = "data";

/// Compactions under way, and what waits to be deleted.
const LEFT_OUT: [&str; 2] = ["*.compact*", "/.delete/*"];

/// One node, for the length of one run.
pub struct CouchdbDriver {
    helpers: Helpers,
    container: Container,
    labels: CouchdbLabels,
    data: DataDirectory,
}

impl CouchdbDriver {
    pub async fn prepare(
        helpers: Helpers,
        container: Container,
        service: &str,
        labels: CouchdbLabels,
        moment: Moment,
    ) -> Result<Self, DriverError> {
        let data = DataDirectory::prepare(
            helpers.clone(),
            container.clone(),
            TargetId::new(service, DriverKind::Couchdb, NAME),
            &labels.data_directory,
            &LEFT_OUT,
            TreeRun {
                moment,
                opening: Opening::InOrder,
                ..TreeRun::default()
            },
        )
        .await?;
        Ok(Self {
            helpers,
            container,
            labels,
            data,
        })
    }
}

/// How the server that runs in `container` is asked.
async fn access(
    engine: &Engine,
    container: &Container,
    labels: &CouchdbLabels,
) -> Result<Access, DriverError> {
    let user = container.env.get("COUCHDB_USER");
    let account = user.filter(|user| !user.is_empty()).map(|user| Account {
        user: user.clone(),
        variable: "COUCHDB_PASSWORD",
    });
    let login = LoginLabels {
        user: labels.user.as_deref(),
        password_file: labels.password_file.as_deref(),
        label: "cofferdam.couchdb.password-file",
    };
    Ok(Access {
        server: "CouchDB",
        port: labels.port,
        scheme: Scheme::Http,
        login: Login::find(engine, container, login, account.as_slice()).await?,
        remedy: "see that it runs, and that cofferdam.couchdb.user, .password-file and .port name an administrator and the port; \
                 the default is COUCHDB_USER with COUCHDB_PASSWORD at port 5984",
    })
}

#[async_trait]
impl Driver for CouchdbDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Couchdb]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let directory = &self.labels.data_directory;
        let what = format!("data directory {directory} of CouchDB");
        let id = TargetId::new(self.container.service(), DriverKind::Couchdb, NAME);
        Ok(FoundTargets::of_running(&self.container, id, what))
    }

    fn refusal(&self, _target: &TargetId) -> Option<&str> {
        self.data.refusal.as_deref()
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let engine = &self.helpers.engine;
        let access = access(engine, &self.container, &self.labels).await?;
        let neighbour = self.helpers.neighbour(&self.container).await?;
        let http = Http::new(&neighbour, &access);
        let node = Node::look(&http).await?;
        node.ensure_it_is_alone()?;
        let mut warnings = Vec::new();
        warnings.extend(node.ensure_data_is_in(&self.labels.data_directory)?);
        let before = node::databases(&http).await?;

        let captured = self.data.tree.dump(target, sink).await?;

        let after: BTreeSet<String> = node::names(&http).await?.into_iter().collect();
        warnings.extend(captured.warnings.into_iter().filter(|warning| {
            // To append is all that CouchDB does to its files.
            !warning.ends_with(CHANGED)
        }));
        let databases = before
            .into_iter()
            .filter(|database| after.contains(&database.name))
            .collect();
        Ok(Captured {
            facts: Facts::Couchdb(CouchdbFacts {
                server_version: node.version,
                node: node.name,
                databases,
                tree: tree_of(captured.facts)?,
            }),
            warnings,
            ..captured
        })
    }

    /// Nothing that a safety snapshot could save: the server is stopped while its data directory is replaced.
    async fn exists(&self, _target: &TargetId) -> Result<bool, DriverError> {
        Ok(false)
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let databases = match &record.facts {
            Facts::Couchdb(facts) => facts.databases.len(),
            _ => 0,
        };
        format!(
            "replace the data directory {} (databases: {databases})",
            self.labels.data_directory
        )
    }

    /// See [`CouchdbDriver::refusal`] for where it cannot be.
    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::Staged
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.data.tree.load(record, source).await
    }

    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let Facts::Couchdb(facts) = &record.facts else {
            return Err(DriverError::failed(format!(
                "{} is recorded as something else than a node of CouchDB",
                record.target
            )));
        };
        let staged = self.data.tree.staged(&record.target)?;
        Trial::begin(&self.helpers, &self.container, &self.labels, staged)
            .await?
            .run(facts)
            .await
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        self.data.tree.commit(target).await
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        self.data.tree.rollback(target).await
    }
}

fn tree_of(facts: Facts) -> Result<TreeFacts, DriverError> {
    match facts {
        Facts::Volume(tree) | Facts::Files(tree) => Ok(tree),
        _ => Err(DriverError::failed("the data directory is no tree")),
    }
}
