//! Elasticsearch and OpenSearch, by their own snapshots.
//!
//! ```text
//! dump     open a passage ─▶ snapshot ─▶ wait ─▶ its directory as of any tree ─▶ close it
//! load     source ─▶ its directory as of any tree ─▶ open it ─▶ delete present indices ─▶ restore ─▶ wait
//! ```
//!
//! A passage is a repository of ours, a directory below one that the server allows (`path.repo`), that snapshots pass through:
//! what is in it is not worth keeping from one run to the next. With `cofferdam.elasticsearch.repository`, snapshots stay in a
//! repository of the user's (S3, say), and the artifact only says what the server said of them.
//!
//! An index cannot be renamed, so a load writes over what is there: a safety snapshot is the way back. Indices that the
//! snapshot does not hold stay as they are, and so do those whose names begin with a dot, which are the server's own. What no
//! safety snapshot can hold (a closed index, one that no label names) is not written over.
//!
//! Not verified against a real Elasticsearch or OpenSearch, but against a small server that follows their manuals.
//!
//! - `busy`: what has to wait for another snapshot
//! - `passage`: a repository of ours
//! - `server`: what it is, what it holds, where it allows repositories
//! - `snapshots`: the snapshot interface
//!
//! Source: the reference of Elasticsearch 8, "Snapshot and restore APIs".

mod busy;
mod passage;
mod server;
mod snapshots;

use std::io::Cursor;

use self::passage::{Passage, RESTORING, SAVING};
use self::server::{Holdings, Server};
use self::snapshots::{Repository, SnapshotInfo};
use super::http::{Access, Account, Http, Login, LoginLabels};
use super::logins::PasswordLabels;
use super::tree::{Moment, TreeDriver, TreeOrigin, TreeRun, TreeTarget};
use super::{Captured, Driver, DriverError, FoundTargets, WayBack};
use crate::agent::helper::{Helpers, Neighbour};
use crate::agent::request::Scheme;
use crate::engine::Container;
use crate::labels::{ElasticsearchLabels, Selection, TreeOptions};
use crate::manifest::{
    Artifact, ElasticsearchFacts, Facts, Role, TargetRecord, Transfer, TreeFacts,
};
use crate::pipe::compress;
use crate::snapshot::{ArtifactSink, ArtifactSource, NewArtifact};
use crate::target::{DriverKind, TargetId};
use async_trait::async_trait;
use tracing::warn;

/// The only target of a server.
pub const NAME: &str = "indices";

/// One server, for the length of one run.
pub struct ElasticsearchDriver {
    helpers: Helpers,
    container: Container,
    service: String,
    labels: ElasticsearchLabels,
    moment: Moment,
}

/// A server that is spoken to.
struct Call {
    neighbour: Neighbour,
    access: Access,
}

impl Call {
    fn http(&self) -> Http<'_> {
        Http::new(&self.neighbour, &self.access)
    }
}

impl ElasticsearchDriver {
    /// Touches nothing.
    pub fn new(
        helpers: Helpers,
        container: Container,
        service: &str,
        labels: ElasticsearchLabels,
        moment: Moment,
    ) -> Self {
        Self {
            helpers,
            container,
            service: service.to_owned(),
            labels,
            moment,
        }
    }

    async fn call(&self) -> Result<Call, DriverError> {
        let accounts = [
            ("elastic", "ELASTIC_PASSWORD"),
            ("admin", "OPENSEARCH_INITIAL_ADMIN_PASSWORD"),
        ]
        .map(|(user, variable)| Account {
            user: user.to_owned(),
            variable,
        });
        let labels = &self.labels;
        let login = LoginLabels {
            user: labels.user.as_deref(),
            password: PasswordLabels {
                file: labels.password_file.as_deref(),
                variable: labels.password_variable.as_deref(),
            },
            label: "cofferdam.elasticsearch",
        };
        let access = Access {
            server: "Elasticsearch",
            port: labels.port,
            scheme: if labels.tls {
                Scheme::Https
            } else {
                Scheme::Http
            },
            login: Login::find(&self.helpers.engine, &self.container, login, &accounts).await?,
            remedy: "check that it is running, and set what differs: cofferdam.elasticsearch.port (9200), .tls: true where it speaks HTTPS, \
                     .user and .password-file",
        };
        let neighbour = self.helpers.neighbour(&self.container).await?;
        Ok(Call { neighbour, access })
    }

    /// The directory of our repository, as a tree of the container.
    async fn tree(&self, location: &str, moment: Moment) -> Result<TreeDriver, DriverError> {
        let target = TreeTarget {
            id: TargetId::new(&self.service, DriverKind::Elasticsearch, NAME),
            origin: TreeOrigin::Path(location.to_owned()),
            options: TreeOptions::default(),
        };
        let run = TreeRun {
            moment,
            ..TreeRun::default()
        };
        let container = self.container.clone();
        TreeDriver::prepare(
            self.helpers.clone(),
            container,
            vec![target],
            Vec::new(),
            run,
        )
        .await
    }

    /// `None`: the server allows no directory, so nothing can have passed through it.
    async fn passage<'a>(
        &self,
        http: &'a Http<'_>,
        name: &'static str,
    ) -> Result<Option<Passage<'a>>, DriverError> {
        let base = match &self.labels.location {
            Some(location) => Some(location.clone()),
            None => server::allowed_place(http).await?,
        };
        Ok(base.map(|base| Passage::below(&base, http, name)))
    }

    async fn usable_passage<'a>(
        &self,
        http: &'a Http<'_>,
        name: &'static str,
    ) -> Result<Passage<'a>, DriverError> {
        self.passage(http, name).await?.ok_or_else(|| {
            DriverError::failed_with_hint(
                "the server allows no directory for snapshots",
                "set path.repo in its configuration (path.repo: /snapshots), with a volume mounted there; or name an \
                 existing repository of the server with cofferdam.elasticsearch.repository",
            )
        })
    }

    /// The snapshot's name; servers want it in lower case.
    fn snapshot(&self) -> String {
        format!("cofferdam-{}", self.helpers.run).to_lowercase()
    }

    async fn dump_ours(
        &self,
        http: &Http<'_>,
        target: &TargetId,
        holdings: &Holdings,
        sink: &dyn ArtifactSink,
    ) -> Result<(SnapshotInfo, Captured), DriverError> {
        let passage = self.usable_passage(http, SAVING).await?;
        passage.open().await?;
        let dumped = async {
            // What a run that was killed has left.
            passage.repository.delete_all().await?;
            let info = passage
                .repository
                .create(&self.snapshot(), holdings)
                .await?;
            let tree = self.tree(&passage.location, Moment::Backup).await?;
            Ok((info, tree.dump(target, sink).await?))
        }
        .await;
        passage.clean_up().await;
        dumped
    }

    async fn dump_theirs(
        &self,
        repository: Repository<'_>,
        holdings: &Holdings,
        sink: &dyn ArtifactSink,
    ) -> Result<(SnapshotInfo, Captured), DriverError> {
        let info = repository.create(&self.snapshot(), holdings).await?;
        let artifact = store_description(&info, sink).await?;
        let captured = Captured {
            transfer: Transfer::Stream,
            facts: Facts::Elasticsearch(ElasticsearchFacts::default()),
            artifacts: vec![artifact],
            warnings: Vec::new(),
        };
        Ok((info, captured))
    }

    /// Puts the saved repository where the server allows it, and registers it.
    async fn bring_in<'a>(
        &self,
        http: &'a Http<'_>,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<Repository<'a>, DriverError> {
        let passage = self.usable_passage(http, RESTORING).await?;
        passage.ensure_it_is_nobodys().await?;
        // A server remembers what it has read of a repository that it knows.
        passage.close().await?;
        let tree = self.tree(&passage.location, Moment::Restore).await?;
        tree.load(record, source).await?;
        tree.commit(&record.target).await?;
        passage.open().await?;
        Ok(passage.repository)
    }
}

#[async_trait]
impl Driver for ElasticsearchDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Elasticsearch]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let what = match &self.labels.indices {
            Selection::All => "all indices".to_owned(),
            Selection::Names(names) => format!("indices {}", names.join(", ")),
        };
        let id = TargetId::new(self.container.service(), DriverKind::Elasticsearch, NAME);
        Ok(FoundTargets::of_running(&self.container, id, what))
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let call = self.call().await?;
        let http = call.http();
        let server = Server::look(&http).await?;
        let holdings = match self.moment {
            Moment::Backup => Holdings::find(&http, &self.labels.indices).await?,
            // A safety snapshot is of what there is.
            Moment::Restore => Holdings::present(&http, &self.labels.indices).await?,
        };
        let theirs = self.labels.repository.as_deref();
        let (info, captured) = match theirs {
            Some(name) => {
                let repository = Repository { http: &http, name };
                self.dump_theirs(repository, &holdings, sink).await?
            }
            None => self.dump_ours(&http, target, &holdings, sink).await?,
        };
        let mut warnings: Vec<String> = holdings.warnings().collect();
        warnings.extend(captured.warnings);
        Ok(Captured {
            facts: Facts::Elasticsearch(ElasticsearchFacts {
                server_version: server.version,
                flavour: server.flavour,
                snapshot: info.snapshot,
                repository: theirs.map(str::to_owned),
                indices: holdings.indices,
                data_streams: holdings.data_streams,
                tree: tree_of(captured.facts),
            }),
            warnings,
            ..captured
        })
    }

    async fn forget_dump(&self, _target: &TargetId) -> Result<(), DriverError> {
        // What is in a repository of the user's may be all that a finished backup has.
        if self.labels.repository.is_some() {
            return Ok(());
        }
        let call = self.call().await?;
        let http = call.http();
        if let Some(passage) = self.passage(&http, SAVING).await? {
            passage.clean_up().await;
        }
        Ok(())
    }

    async fn exists(&self, _target: &TargetId) -> Result<bool, DriverError> {
        let call = self.call().await?;
        let http = call.http();
        // A load that is refused must be so before anything is held: to undo it would be refused as well.
        if let Some(passage) = self.passage(&http, RESTORING).await? {
            passage.ensure_it_is_nobodys().await?;
        }
        let present = Holdings::present(&http, &self.labels.indices).await?;
        Ok(!present.is_empty())
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let indices = match &record.facts {
            Facts::Elasticsearch(facts) => facts.indices.len() + facts.data_streams.len(),
            _ => 0,
        };
        format!("delete and restore indices ({indices})")
    }

    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::SafetySnapshot
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let facts = facts_of(record)?;
        let call = self.call().await?;
        let http = call.http();
        let holdings = Holdings::of(facts);
        // What is registered there is what a rollback takes away again: nothing yet.
        if let Some(passage) = self.passage(&http, RESTORING).await? {
            passage.close().await?;
        }
        let wanted = &self.labels.indices;
        holdings.ensure_there_is_a_copy(&http, wanted).await?;
        tell_of_missing_templates(&http, &record.target, &holdings).await;
        let repository = match facts.repository.as_deref() {
            Some(name) => Repository { http: &http, name },
            None => self.bring_in(&http, record, source).await?,
        };
        let info = repository.whole(&facts.snapshot).await?;
        info.ensure_it_holds(&holdings)?;
        holdings.delete(&http).await?;
        let restored = repository.restore(&info, &holdings).await;
        if restored.is_err() {
            // Half of an index is worth nothing, and the old ones are in the safety snapshot.
            holdings.delete(&http).await?;
        }
        restored
    }

    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.load(record, source).await?;
        self.commit(&record.target).await
    }

    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let facts = facts_of(record)?;
        let call = self.call().await?;
        Holdings::of(facts)
            .ensure_they_are_there(&call.http())
            .await
    }

    /// The old indices were given up by the load; what is left is what the server read them from.
    async fn commit(&self, _target: &TargetId) -> Result<(), DriverError> {
        let call = self.call().await?;
        let http = call.http();
        if let Some(passage) = self.passage(&http, RESTORING).await? {
            passage.clean_up().await;
        }
        Ok(())
    }

    /// There was nothing before: what the snapshot has brought goes again.
    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        let call = self.call().await?;
        let http = call.http();
        let Some(passage) = self.passage(&http, RESTORING).await? else {
            return Ok(());
        };
        if passage.is_open().await? {
            passage.repository.holdings().await?.delete(&http).await?;
            passage.clean_up().await;
        }
        let tree = self.tree(&passage.location, Moment::Restore).await?;
        tree.rollback(target).await
    }
}

/// They are no part of a snapshot, and not needed to restore it.
async fn tell_of_missing_templates(http: &Http<'_>, target: &TargetId, holdings: &Holdings) {
    match holdings.streams_without_template(http).await {
        Ok(streams) => {
            for stream in streams {
                warn!(
                    target = %target,
                    "no index template matches the data stream {stream}: it is restored, but cannot roll over until its template is there"
                );
            }
        }
        Err(error) => warn!(
            target = %target,
            "could not check whether index templates match the data streams: {error}"
        ),
    }
}

/// What the server says of a snapshot that stays with it.
async fn store_description(
    info: &SnapshotInfo,
    sink: &dyn ArtifactSink,
) -> Result<Artifact, DriverError> {
    let text = serde_json::to_vec_pretty(info).expect("it came as JSON");
    let compression = sink.compression();
    let (body, digest) = compress(Box::pin(Cursor::new(text)), compression);
    let artifact = NewArtifact {
        role: Role::Dump,
        extension: "json",
        compression,
    };
    let mut artifact = sink.store(artifact, body).await?;
    artifact.plain = digest
        .get()
        .ok_or_else(|| DriverError::failed("the stream was stored before it had ended"))?;
    Ok(artifact)
}

fn facts_of(record: &TargetRecord) -> Result<&ElasticsearchFacts, DriverError> {
    match &record.facts {
        Facts::Elasticsearch(facts) => Ok(facts),
        _ => Err(DriverError::failed(format!(
            "{} is not recorded as indices",
            record.target
        ))),
    }
}

fn tree_of(facts: Facts) -> Option<TreeFacts> {
    match facts {
        Facts::Files(tree) => Some(tree),
        _ => None,
    }
}
