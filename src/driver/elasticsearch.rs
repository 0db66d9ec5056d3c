//! Elasticsearch and OpenSearch, by their own snapshots.
//!
//! ```text
//! dump     register a repository ─▶ snapshot ─▶ wait ─▶ its directory as of any tree ─▶ delete snapshot, unregister
//! load     source ─▶ its directory as of any tree ─▶ register ─▶ delete present indices ─▶ restore ─▶ wait
//! ```
//!
//! The repository is a directory of ours below one that the server allows (`path.repo`): what is in it is not worth keeping
//! from one run to the next, and a restore may replace it. With `cofferdam.elasticsearch.repository`, snapshots stay in a
//! repository of the user's (S3, say), and the artifact only says what the server said of them.
//!
//! An index cannot be renamed, so a load writes over what is there: a safety snapshot is the way back. Indices that the
//! snapshot does not hold stay as they are, and so do those whose names begin with a dot, which are the server's own.
//!
//! Not verified against a real Elasticsearch or OpenSearch, but against a small server that follows their manuals.
//!
//! - `server`: what it is, what it holds, where it allows repositories
//! - `snapshots`: the snapshot interface
//!
//! Source: the reference of Elasticsearch 8, "Snapshot and restore APIs".

mod server;
mod snapshots;

use std::io::Cursor;

use async_trait::async_trait;
use tracing::warn;

use self::server::{Holdings, Server};
use self::snapshots::{Repository, SnapshotInfo};
use super::http::{Access, Account, Http, Login, LoginLabels};
use super::tree::{Moment, TreeDriver, TreeOrigin, TreeRun, TreeTarget};
use super::{
    ArtifactSink, ArtifactSource, Captured, Driver, DriverError, FoundTargets, NewArtifact, WayBack,
};
use crate::agent::helper::{Helpers, Neighbour};
use crate::agent::request::Scheme;
use crate::engine::Container;
use crate::labels::{ElasticsearchLabels, Selection, TreeOptions};
use crate::manifest::{
    Artifact, ElasticsearchFacts, Facts, Role, TargetRecord, Transfer, TreeFacts,
};
use crate::pipe::compress;
use crate::target::{DriverKind, TargetId};

/// The only target of a server.
pub const NAME: &str = "indices";

/// The repository of ours, and its directory.
const OWN: &str = "cofferdam";

/// One server, for the length of one run.
pub struct ElasticsearchDriver {
    helpers: Helpers,
    container: Container,
    service: String,
    labels: ElasticsearchLabels,
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
    ) -> Self {
        Self {
            helpers,
            container,
            service: service.to_owned(),
            labels,
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
            password_file: labels.password_file.as_deref(),
            label: "cofferdam.elasticsearch.password-file",
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
            remedy: "see that it runs, and set what differs: cofferdam.elasticsearch.port (9200), .tls: true where it speaks HTTPS, \
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

    async fn location(&self, http: &Http<'_>) -> Result<String, DriverError> {
        let base = match &self.labels.location {
            Some(location) => location.clone(),
            None => server::allowed_place(http).await?,
        };
        Ok(format!("{}/{OWN}", base.trim_end_matches('/')))
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
        let location = self.location(http).await?;
        let repository = Repository { http, name: OWN };
        repository.register(&location).await?;
        let dumped = async {
            // What a run that was killed has left.
            repository.delete_all().await?;
            let info = repository.create(&self.snapshot(), holdings).await?;
            let tree = self.tree(&location, Moment::Backup).await?;
            Ok((info, tree.dump(target, sink).await?))
        }
        .await;
        clean_up(&repository).await;
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
        let location = self.location(http).await?;
        let repository = Repository { http, name: OWN };
        // A server remembers what it has read of a repository that it knows.
        repository.unregister().await?;
        let tree = self.tree(&location, Moment::Restore).await?;
        tree.load(record, source).await?;
        tree.commit(&record.target).await?;
        repository.register(&location).await?;
        Ok(repository)
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
        let holdings = Holdings::find(&http, &self.labels.indices).await?;
        let theirs = self.labels.repository.as_deref();
        let (info, captured) = match theirs {
            Some(name) => {
                let repository = Repository { http: &http, name };
                self.dump_theirs(repository, &holdings, sink).await?
            }
            None => self.dump_ours(&http, target, &holdings, sink).await?,
        };
        let mut warnings = holdings.warnings;
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

    async fn exists(&self, _target: &TargetId) -> Result<bool, DriverError> {
        let call = self.call().await?;
        let holdings = Holdings::all(&call.http()).await?;
        Ok(!holdings.is_empty())
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
        let repository = match facts.repository.as_deref() {
            Some(name) => Repository { http: &http, name },
            None => self.bring_in(&http, record, source).await?,
        };
        let info = repository.whole(&facts.snapshot).await?;
        let holdings = Holdings::of(facts);
        info.ensure_it_holds(&holdings)?;
        holdings.delete(&http).await?;
        repository.restore(&info, &holdings).await
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
        clean_up(&Repository {
            http: &http,
            name: OWN,
        })
        .await;
        Ok(())
    }

    /// There was nothing before: what the snapshot has brought goes again.
    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        let call = self.call().await?;
        let http = call.http();
        let repository = Repository {
            http: &http,
            name: OWN,
        };
        if let Some(brought) = repository.holdings().await? {
            brought.delete(&http).await?;
            clean_up(&repository).await;
        }
        let location = self.location(&http).await?;
        let tree = self.tree(&location, Moment::Restore).await?;
        tree.rollback(target).await
    }
}

/// What stays is in nobody's way, and the next run begins with removing it.
async fn clean_up(repository: &Repository<'_>) {
    let cleaned = async {
        repository.delete_all().await?;
        repository.unregister().await
    };
    if let Err(error) = cleaned.await {
        warn!("the repository {OWN} of the server is left until the next run: {error}");
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
            "{} is recorded as something else than indices",
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
