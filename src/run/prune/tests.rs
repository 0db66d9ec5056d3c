use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;

use super::*;
use crate::manifest::{Artifact, StreamDigest};
use crate::pipe::ByteStream;
use crate::pipe::keys::Identities;
use crate::repository::local::LocalRepository;
use crate::repository::pin::Pin;
use crate::repository::samples::{artifact, body, manifest, path};
use crate::repository::status::{StatusFile, StatusPath};
use crate::repository::{Prepared, StoredObject};
use crate::snapshot::verify::{Depth, Verifier};

const PROJECT: &str = "shop";

struct Place {
    directory: tempfile::TempDir,
    repository: LocalRepository,
}

fn id(days_ago: i64) -> RunId {
    static NOW: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
    let then = *NOW - (days_ago * 24).hours() - 10.minutes();
    let id = format!("{}-9f2c61aa", then.strftime("%Y%m%dT%H%M%SZ"));
    id.parse().unwrap()
}

fn snapshot(days_ago: i64) -> SnapshotRef {
    SnapshotRef::new(PROJECT, id(days_ago))
}

impl Place {
    /// With snapshots of so many days ago.
    async fn with(days_ago: &[i64]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(directory.path());
        repository.prepare().await.unwrap();
        let place = Self {
            directory,
            repository,
        };
        for days_ago in days_ago {
            let object = place.put(*days_ago, "db.dump").await;
            place.commit(*days_ago, vec![object]).await;
        }
        place
    }

    async fn put(&self, days_ago: i64, file: &str) -> Artifact {
        let object = path(PROJECT, &id(days_ago), file);
        self.repository.put(&object, body("rows")).await.unwrap();
        artifact(object, "rows")
    }

    async fn commit(&self, days_ago: i64, artifacts: Vec<Artifact>) {
        let manifest = manifest(PROJECT, &id(days_ago), artifacts);
        self.repository.commit(&manifest).await.unwrap();
    }

    async fn listed(&self) -> Vec<RunId> {
        let listed = self.repository.list(Some(PROJECT)).await.unwrap();
        listed.into_iter().map(|one| one.id).collect()
    }

    fn exists(&self, days_ago: i64, file: &str) -> bool {
        let place = self.directory.path().join(PROJECT);
        place.join(id(days_ago).as_str()).join(file).exists()
    }

    async fn stock(&self) -> Stock {
        Stock::take(&self.repository, PROJECT).await.unwrap()
    }

    async fn prune(&self, keep: &str) -> PruneReport {
        prune_with(&self.repository, &self.stock().await, keep, &[]).await
    }
}

fn terms(keep: &str) -> Terms {
    Terms {
        keep: Some(keep.parse().unwrap()),
        time_zone: TimeZone::UTC,
        despite: Vec::new(),
    }
}

/// `in_use` is what restores are found to be reading when the manifests are gone.
async fn prune_with(
    repository: &dyn Repository,
    stock: &Stock,
    keep: &str,
    in_use: &[SnapshotRef],
) -> PruneReport {
    let prune = Prune {
        repository,
        stock,
        interrupt: &CancellationToken::new(),
    };
    let pruning = stock.judge(&BTreeSet::new(), &terms(keep));
    let in_use = in_use.iter().cloned().collect();
    prune.execute(&pruning, async { Ok(in_use) }).await
}

#[tokio::test]
async fn what_goes_is_removed_whole_and_nothing_else() {
    let place = Place::with(&[5, 4, 3]).await;
    let foreign = place.directory.path().join(PROJECT).join(id(5).as_str());
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    let report = place.prune("last=1").await;
    assert!(report.is_as_it_should_be(), "{report:?}");
    assert_eq!(report.removed, [id(5), id(4)]);
    assert_eq!((report.staying, report.freed_bytes), (1, 8));
    assert_eq!(place.listed().await, [id(3)]);
    assert!(place.exists(5, "notes.txt"), "what is not ours stays");
    assert!(!place.exists(5, "db.dump"));
    assert!(
        !place.exists(4, ""),
        "the place is gone with what was in it"
    );
    assert!(place.exists(3, "db.dump"));

    let again = place.prune("last=1").await;
    assert_eq!(again.removed, []);
    assert!(again.is_as_it_should_be(), "{again:?}");
}

#[tokio::test]
async fn an_object_lives_as_long_as_any_manifest_names_it() {
    let place = Place::with(&[5]).await;
    let layer = artifact(path(PROJECT, &id(5), "db.dump"), "rows");
    let own = place.put(4, "more.dump").await;
    place.commit(4, vec![layer, own]).await;
    let report = place.prune("last=1").await;
    assert_eq!((report.removed, report.freed_bytes), (vec![id(5)], 0));
    assert!(!place.exists(5, "manifest.json"));
    assert!(place.exists(5, "db.dump"), "the newer snapshot names it");

    let object = place.put(3, "db.dump").await;
    place.commit(3, vec![object]).await;
    let report = place.prune("last=1").await;
    assert_eq!((report.removed, report.freed_bytes), (vec![id(4)], 8));
    assert!(!place.exists(5, "") && !place.exists(4, ""));
}

#[tokio::test]
async fn objects_of_a_young_snapshot_are_left_to_a_later_sweep() {
    let place = Place::with(&[1, 0]).await;
    let object = place.put(-1, "db.dump").await;
    // Minutes old, whatever its id says.
    let mut manifest = manifest(PROJECT, &id(-1), vec![object]);
    manifest.started = Timestamp::now();
    manifest.finished = Timestamp::now();
    place.repository.commit(&manifest).await.unwrap();
    let report = place.prune("last=1").await;
    assert_eq!(report.removed, [id(1), id(0)]);
    assert!(!place.exists(1, "db.dump"));
    assert!(place.exists(0, "db.dump") && !place.exists(0, "manifest.json"));
}

#[tokio::test]
async fn objects_that_a_restore_has_just_begun_to_read_are_left_to_it() {
    let place = Place::with(&[6, 5, 4, 3]).await;
    let layer = artifact(path(PROJECT, &id(6), "db.dump"), "rows");
    let own = place.put(7, "more.dump").await;
    place.commit(7, vec![layer, own]).await;
    let stock = place.stock().await;
    let report = prune_with(&place.repository, &stock, "last=1", &[snapshot(7)]).await;
    assert!(report.is_as_it_should_be(), "{report:?}");
    assert_eq!(place.listed().await, [id(3)]);
    assert!(place.exists(7, "more.dump") && place.exists(6, "db.dump"));
    assert!(!place.exists(5, "") && !place.exists(4, ""));
}

#[tokio::test]
async fn no_object_goes_when_restores_cannot_be_asked_after() {
    let place = Place::with(&[5, 4, 3]).await;
    let stock = place.stock().await;
    let prune = Prune {
        repository: &place.repository,
        stock: &stock,
        interrupt: &CancellationToken::new(),
    };
    let pruning = stock.judge(&BTreeSet::new(), &terms("last=1"));
    let unreadable = HoldError::Unreadable {
        name: "cofferdam-hold-shop".to_owned(),
        why: "it is newer".to_owned(),
        projects: BTreeSet::new(),
    };
    let report = prune.execute(&pruning, async { Err(unreadable) }).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(place.exists(5, "db.dump") && place.exists(4, "db.dump"));
}

#[tokio::test]
async fn two_prunes_at_once_are_one() {
    let place = Place::with(&[6, 5, 4, 3]).await;
    let (one, other) = (place.stock().await, place.stock().await);
    let repository = &place.repository;
    let reports = tokio::join!(
        prune_with(repository, &one, "last=1", &[]),
        prune_with(repository, &other, "last=1", &[])
    );
    for report in [reports.0, reports.1] {
        assert!(report.is_as_it_should_be(), "{report:?}");
    }
    assert_eq!(place.listed().await, [id(3)]);
    assert!(!place.exists(6, "") && !place.exists(5, "") && !place.exists(4, ""));
    assert!(place.exists(3, "db.dump"));

    // One that has only just read the list comes too late for everything.
    let late = prune_with(repository, &one, "last=1", &[]).await;
    assert!(late.is_as_it_should_be(), "{late:?}");
}

#[tokio::test]
async fn what_a_new_snapshot_names_stays() {
    let place = Place::with(&[5, 4]).await;
    let stock = place.stock().await;
    let layer = artifact(path(PROJECT, &id(5), "db.dump"), "rows");
    place.commit(0, vec![layer]).await;
    let report = prune_with(&place.repository, &stock, "last=1", &[]).await;
    assert_eq!((report.removed, report.freed_bytes), (vec![id(5)], 0));
    assert!(place.exists(5, "db.dump"));
    let newest = snapshot(0);
    let whole = Verifier::new(&place.repository, &Identities::default(), Depth::Read)
        .snapshot(&newest)
        .await;
    assert!(whole.unwrap().is_whole());
}

#[tokio::test]
async fn a_manifest_that_lies_costs_no_other_snapshot() {
    let place = Place::with(&[5, 4]).await;
    // It claims what lies in the place of a snapshot that does not name it.
    let stray = place.put(4, "stray.dump").await;
    let own = place.put(6, "db.dump").await;
    place.commit(6, vec![own, stray]).await;
    let report = place.prune("last=2").await;
    assert_eq!(report.removed, [id(6)]);
    assert_eq!(place.listed().await, [id(5), id(4)]);
    assert!(place.exists(4, "stray.dump"));
}

#[tokio::test]
async fn a_doubt_keeps_everything() {
    let place = Place::with(&[5, 4, 3]).await;
    let torn = place.directory.path().join(PROJECT).join(id(4).as_str());
    std::fs::write(torn.join("manifest.json"), "{\"format\": 1, ").unwrap();
    let report = place.prune("last=1").await;
    assert!(
        matches!(&report.doubts[..], [Doubt::Unreadable(_)]),
        "{report:?}"
    );
    assert!(!report.is_as_it_should_be());
    assert_eq!(place.listed().await.len(), 3);
    assert!(place.exists(5, "db.dump"));
}

#[tokio::test]
async fn an_interrupted_prune_begins_nothing_more() {
    let place = Place::with(&[5, 4, 3]).await;
    let stock = place.stock().await;
    let interrupt = CancellationToken::new();
    let prune = Prune {
        repository: &place.repository,
        stock: &stock,
        interrupt: &interrupt,
    };
    let pruning = stock.judge(&BTreeSet::new(), &terms("last=1"));
    // While the journals are read, all manifests are gone, and no object is.
    let interrupting = async {
        interrupt.cancel();
        Ok(BTreeSet::new())
    };
    let report = prune.execute(&pruning, interrupting).await;
    assert!(report.interrupted);
    assert_eq!(place.listed().await, [id(3)]);
    assert!(place.exists(5, "db.dump") && place.exists(4, "db.dump"));

    let place = Place::with(&[5, 4, 3]).await;
    let prune = Prune {
        repository: &place.repository,
        ..prune
    };
    let report = prune.execute(&pruning, async { Ok(BTreeSet::new()) }).await;
    assert!(report.interrupted);
    assert_eq!(report.removed, []);
    assert_eq!(place.listed().await.len(), 3);
}

/// Lets so many removals through, and then none.
struct Failing<'a> {
    inner: &'a LocalRepository,
    left: AtomicUsize,
    kind: std::io::ErrorKind,
}

#[async_trait]
impl Repository for Failing<'_> {
    async fn prepare(&self) -> Result<Prepared, RepositoryError> {
        self.inner.prepare().await
    }

    async fn prepare_existing(&self) -> Result<Prepared, RepositoryError> {
        self.inner.prepare_existing().await
    }

    async fn put(
        &self,
        path: &ObjectPath,
        body: ByteStream,
    ) -> Result<StreamDigest, RepositoryError> {
        self.inner.put(path, body).await
    }

    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        self.inner.commit(manifest).await
    }

    async fn open(&self, path: &ObjectPath) -> Result<ByteStream, RepositoryError> {
        self.inner.open(path).await
    }

    async fn list(&self, project: Option<&str>) -> Result<Vec<SnapshotRef>, RepositoryError> {
        self.inner.list(project).await
    }

    async fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest, RepositoryError> {
        self.inner.manifest(snapshot).await
    }

    async fn objects(&self, snapshot: &SnapshotRef) -> Result<Vec<StoredObject>, RepositoryError> {
        self.inner.objects(snapshot).await
    }

    async fn remove(
        &self,
        snapshot: &SnapshotRef,
        objects: &[ObjectPath],
    ) -> Result<(), RepositoryError> {
        let take = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, take).is_err() {
            return Err(RepositoryError::Io {
                action: "remove",
                place: snapshot.to_string(),
                source: self.kind.into(),
                hint: None,
            });
        }
        self.inner.remove(snapshot, objects).await
    }

    async fn sweep(&self, project: &str) -> Result<Vec<String>, RepositoryError> {
        self.inner.sweep(project).await
    }

    async fn put_pin(&self, snapshot: &SnapshotRef, pin: &Pin) -> Result<(), RepositoryError> {
        self.inner.put_pin(snapshot, pin).await
    }

    async fn pins(
        &self,
        project: Option<&str>,
    ) -> Result<BTreeMap<SnapshotRef, Pin>, RepositoryError> {
        self.inner.pins(project).await
    }

    async fn remove_pin(&self, snapshot: &SnapshotRef) -> Result<(), RepositoryError> {
        self.inner.remove_pin(snapshot).await
    }

    async fn put_statuses(&self, files: Vec<StatusFile>) -> Result<(), RepositoryError> {
        self.inner.put_statuses(files).await
    }

    async fn statuses(&self) -> Result<Vec<StatusPath>, RepositoryError> {
        self.inner.statuses().await
    }

    async fn remove_status(&self, path: &StatusPath) -> Result<(), RepositoryError> {
        self.inner.remove_status(path).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[tokio::test]
async fn a_prune_that_dies_anywhere_leaves_whole_snapshots_and_the_next_one_goes_on() {
    for removals in 0..6 {
        let place = Place::with(&[6, 5, 4, 3]).await;
        // The older two share an object.
        let shared = artifact(path(PROJECT, &id(6), "db.dump"), "rows");
        let own = place.put(7, "more.dump").await;
        place.commit(7, vec![shared, own]).await;
        let failing = Failing {
            inner: &place.repository,
            left: AtomicUsize::new(removals),
            kind: std::io::ErrorKind::TimedOut,
        };
        let report = prune_with(&failing, &place.stock().await, "last=1", &[]).await;
        assert_eq!(
            report.problems.is_empty(),
            removals > 5,
            "{removals}: {report:?}"
        );
        for listed in place.listed().await {
            let snapshot = SnapshotRef::new(PROJECT, listed);
            let identities = Identities::default();
            let mut verifier = Verifier::new(&place.repository, &identities, Depth::Sizes);
            let report = verifier.snapshot(&snapshot).await.unwrap();
            assert!(report.is_whole(), "{removals}: {:?}", report.problems);
        }
        place.prune("last=1").await;
        assert_eq!(place.listed().await, [id(3)], "{removals}");
    }
}

#[tokio::test]
async fn a_place_that_lets_nothing_be_removed_says_so_and_is_as_it_should_be() {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    for kind in [PermissionDenied, ReadOnlyFilesystem] {
        let place = Place::with(&[5, 4, 3]).await;
        let append_only = Failing {
            inner: &place.repository,
            left: AtomicUsize::new(0),
            kind,
        };
        let report = prune_with(&append_only, &place.stock().await, "last=1", &[]).await;
        assert!(report.refused.is_some(), "{report:?}");
        assert!(report.is_as_it_should_be());
        assert_eq!(report.removed, []);
        assert_eq!(place.listed().await.len(), 3);
    }
}

#[tokio::test]
async fn what_would_be_freed_is_known_before() {
    let place = Place::with(&[5, 3]).await;
    let layer = artifact(path(PROJECT, &id(5), "db.dump"), "rows");
    let own = place.put(4, "more.dump").await;
    place.commit(4, vec![layer, own]).await;
    let stock = place.stock().await;
    let freed = |keep: &str| stock.freed_by(&stock.judge(&BTreeSet::new(), &terms(keep)));
    assert_eq!(freed("last=3"), 0);
    assert_eq!(freed("last=2"), 0, "the layer is still named");
    assert_eq!(freed("last=1"), 8);
}
