//! A CouchDB node: its data directory, copied while it serves, and put back with the name of the node it comes to.
//!
//! ```text
//! dump     ask for node, databases and shard maps ─▶ data directory as of any tree ─▶ ask again ─▶ compare maps and files
//! load     source ─▶ helper: unpack beside the data directory
//! check    a twin of the container on the new directory: compare maps and files, rename the node in the shard maps, look at
//!          every database, stop
//! commit   both change places by a rename, as of any tree
//! ```
//!
//! CouchDB only ever appends to its files, so a copy of one that grows is good up to where it was read. Its manual wants
//! secondary indexes (`.shards`) copied before databases (`shards`), since an index may lag behind its database but not
//! run ahead of it: that is the order in which a tree is walked, by the bytes of names, and [`Opening::InOrder`] sees to it that
//! it is read so; `_dbs.couch`, which tells where every database is, lies between them. What is half compacted is left out; CouchDB begins anew.
//! `_nodes.couch` is left out too: it names the node that was saved, and a server that finds there another one than itself
//! waits for it and may end. Each makes its own.
//!
//! The shard maps in `_dbs.couch` name the node that has the data. They are documents of the server's own, so a server
//! rewrites them: not the one that is to be restored, but its twin ([`trial`]), before the old data is given up. The
//! container of the server is stopped meanwhile ([`DriverKind::state_needed`]).
//!
//! Verified by hand on CouchDB 3.3.3 and 3.4.3, single node; the tests have a small server that behaves as these do.
//!
//! - `node`: what a server says of itself
//! - `shards`: shard maps, the files and the names of nodes in them
//! - `listing`: which files were copied
//! - `trial`: the twin
//!
//! Source: the manual of CouchDB 3, "Backing up CouchDB" and "Shard Management".

mod listing;
mod node;
mod shards;
mod trial;

use async_trait::async_trait;

use self::listing::Listing;
use self::node::Node;
use self::shards::ShardMaps;
use self::trial::Trial;
use super::http::{Access, Account, Http, Login, LoginLabels};
use super::logins::PasswordLabels;
use super::tree::{DataDirectory, Moment, TreeRun};
use super::{Captured, Driver, DriverError, FoundTargets, Loss, WayBack};
use crate::agent::helper::Helpers;
use crate::agent::request::Scheme;
use crate::engine::{Container, Engine};
use crate::labels::CouchdbLabels;
use crate::manifest::{CouchdbDatabase, CouchdbFacts, Facts, TargetRecord, TreeFacts};
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, TargetId};
use crate::tree::ahead::Opening;
use crate::tree::pack::CHANGED;

/// The only target of a node.
pub const NAME: &str = "data";

/// Compactions under way, what waits to be deleted, and the node's own name.
const LEFT_OUT: [&str; 3] = ["*.compact*", "/.delete/*", "/_nodes.couch"];

/// Where images and packages keep the server's configuration.
const CONFIGURATION: [&str; 3] = [
    "/opt/couchdb/etc",
    "/opt/bitnami/couchdb/etc",
    "/etc/couchdb",
];
/// What an administrator, or the server itself, changes in it.
const CHANGED_THERE: [&str; 3] = ["local.d", "local.ini", "vm.args"];

/// One node, for the length of one run.
pub struct CouchdbDriver {
    helpers: Helpers,
    container: Container,
    labels: CouchdbLabels,
    data: DataDirectory,
    loss: Loss,
}

/// What the labels do not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct CouchdbRun {
    pub moment: Moment,
    pub loss: Loss,
}

impl CouchdbDriver {
    pub async fn prepare(
        helpers: Helpers,
        container: Container,
        service: &str,
        labels: CouchdbLabels,
        run: CouchdbRun,
    ) -> Result<Self, DriverError> {
        let data = DataDirectory::prepare(
            helpers.clone(),
            container.clone(),
            TargetId::new(service, DriverKind::Couchdb, NAME),
            &labels.data_directory,
            &LEFT_OUT,
            TreeRun {
                moment: run.moment,
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
            loss: run.loss,
        })
    }

    /// Administrators that a restore into a new container would miss.
    async fn unsaved_administrators(&self, http: &Http<'_>) -> Result<Option<String>, DriverError> {
        let told = self.container.env.get("COUCHDB_USER");
        let mut administrators = node::administrators(http).await?;
        administrators.retain(|name| told != Some(name));
        let is_mounted = CONFIGURATION.iter().any(|directory| {
            let path = format!("{directory}/local.d");
            self.container.mount_of(&path).is_some()
        });
        if administrators.is_empty() || is_mounted {
            return Ok(None);
        }
        let names: Vec<&str> = administrators.iter().map(String::as_str).collect();
        Ok(Some(format!(
            "administrators defined only in the container's own configuration are not saved ({}): mount a volume at etc/local.d and save it, or set COUCHDB_USER",
            names.join(", ")
        )))
    }
}

/// What the server needs and may have in its container's own layer: its configuration, and the file with the password.
fn in_the_layer(container: &Container, labels: &CouchdbLabels) -> Vec<String> {
    let configuration = CONFIGURATION
        .iter()
        .flat_map(|directory| CHANGED_THERE.map(|name| format!("{directory}/{name}")));
    let usual = "COUCHDB_PASSWORD".to_owned();
    let variables = labels.password_variable.iter().chain([&usual]);
    let named = variables.filter_map(|name| container.env.get(&format!("{name}_FILE")));
    let passwords = labels.password_file.iter().chain(named).cloned();
    configuration.chain(passwords).collect()
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
        password: PasswordLabels {
            file: labels.password_file.as_deref(),
            variable: labels.password_variable.as_deref(),
        },
        label: "cofferdam.couchdb",
    };
    Ok(Access {
        server: "CouchDB",
        port: labels.port,
        scheme: Scheme::Http,
        login: Login::find(engine, container, login, account.as_slice()).await?,
        remedy: "check that it is running, and that cofferdam.couchdb.user, .password-file and .port name an administrator \
         and the port; the default is COUCHDB_USER with COUCHDB_PASSWORD at port 5984",
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

    fn changed_path(&self, target: &TargetId) -> Option<&str> {
        self.data.tree.changed_path(target)
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
        warnings.extend(self.unsaved_administrators(&http).await?);
        let maps = ShardMaps::read(&http).await?;
        maps.ensure_all_is_on(&node.name)?;
        // Documents that come while the files are copied may be there or not; these are.
        let mut databases = node::databases(&http).await?;

        let listing = Listing::new(sink);
        let captured = self.data.tree.dump(target, &listing).await?;

        let (maps, anew) = maps.still_in(&ShardMaps::read(&http).await?);
        maps.ensure_files_are_in(&listing.files())?;
        databases.retain(|database| maps.of(&database.name).is_some());
        warnings.extend(anew.into_iter().map(|name| {
            format!(
                "database {name} was deleted and recreated while it was saved, and may be missing"
            )
        }));
        warnings.extend(captured.warnings.into_iter().filter(|warning| {
            // To append is all that CouchDB does to its files.
            !warning.ends_with(CHANGED)
        }));
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
        let directory = &self.labels.data_directory;
        let Facts::Couchdb(facts) = &record.facts else {
            return format!("replace the data directory {directory}");
        };
        let mut replicators = facts.databases.iter().filter(|it| is_replicator(it));
        let note = match replicators.next() {
            Some(database) => format!(
                "; the replications in {} start as soon as the server does",
                database.name
            ),
            None => String::new(),
        };
        let databases = facts.databases.len();
        format!("replace the data directory {directory} (databases: {databases}){note}")
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
                "{} is not recorded as a node of CouchDB",
                record.target
            )));
        };
        let staged = self.data.tree.staged(&record.target)?;
        let (helpers, container) = (&self.helpers, &self.container);
        Trial::begin(helpers, container, &self.labels, staged, self.loss)
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

/// Whether replications may be written down in it.
fn is_replicator(database: &CouchdbDatabase) -> bool {
    let name = database.name.as_str();
    (name == "_replicator" || name.ends_with("/_replicator")) && database.documents > 0
}

fn tree_of(facts: Facts) -> Result<TreeFacts, DriverError> {
    match facts {
        Facts::Volume(tree) | Facts::Files(tree) => Ok(tree),
        _ => Err(DriverError::failed("the data directory is not a tree")),
    }
}
