//! What every implementation of [`Repository`] must do, as tests: see [`repository_contract!`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pin::{self, Pin};
use super::samples::{artifact, body, digest, id, manifest, path};
use super::status::{StatusFile, StatusForm, StatusPath};
use super::{Repository, RepositoryError, SnapshotRef};
use crate::manifest::{FORMAT, ManifestError, ObjectPath};
use crate::target::{DriverKind, TargetId};

/// An implementation, and hands that reach around it.
#[async_trait]
pub(crate) trait Fixture: Send + Sync {
    /// A handle on the same place each time, as another process would have it.
    fn repository(&self) -> Arc<dyn Repository>;

    /// Writes `bytes` at `path` below the root, whatever was there.
    async fn plant(&self, path: &str, bytes: &[u8]);

    /// What lies at `path` below the root.
    async fn content(&self, path: &str) -> Vec<u8>;

    /// Everything that lies below the root, hidden things too, without `cofferdam.json`. Sorted.
    async fn names(&self) -> Vec<String>;
}

/// Makes a test of each clause. `$fixture` is an expression that gives a new, unprepared place.
///
/// `only_one_of_two_equal_puts_wins` is named by those that can promise it: not every server can.
macro_rules! repository_contract {
    ($fixture:expr) => {
        $crate::repository::contract::repository_contract! { $fixture =>
            what_is_put_comes_back
            a_large_object_comes_back
            a_snapshot_exists_once_it_is_committed
            nothing_is_written_over
            a_failing_body_leaves_nothing
            a_cancelled_put_leaves_nothing
            puts_and_removals_may_run_together
            a_commit_looks_for_every_object
            objects_of_earlier_snapshots_count
            snapshots_are_listed_oldest_first
            hostile_project_names_stay_in_their_place
            a_manifest_that_cannot_be_read_is_listed_and_refused
            what_is_missing_is_said_to_be_missing
            foreign_things_are_passed_over
            an_empty_place_has_no_snapshots
            a_place_is_prepared_once
            an_empty_place_is_made_a_repository_only_when_that_is_wanted
            a_place_of_the_future_is_refused
            a_place_that_holds_other_things_is_refused
            a_removal_takes_the_manifest_and_what_it_is_told
            a_removal_reaches_into_no_other_place
            a_sweep_leaves_the_young_alone
            pins_are_replaced_and_taken_out
            a_pin_is_no_object_and_goes_with_its_snapshot
            status_files_are_replaced_and_removed
            status_files_are_no_snapshots
            status_files_need_a_repository
        }
    };
    ($fixture:expr => $($clause:ident)*) => {
        $(
            #[tokio::test]
            async fn $clause() {
                $crate::repository::contract::$clause(&$fixture).await;
            }
        )*
    };
}
pub(crate) use repository_contract;

async fn prepared(fixture: &dyn Fixture) -> Arc<dyn Repository> {
    let repository = fixture.repository();
    repository.prepare().await.unwrap();
    repository
}

async fn read(repository: &dyn Repository, object: &ObjectPath) -> String {
    let mut text = String::new();
    let mut stream = repository.open(object).await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// A snapshot of one object with the content `rows`.
async fn save(repository: &dyn Repository, project: &str, day: u8) -> SnapshotRef {
    let object = path(project, &id(day), "db.dump");
    repository.put(&object, body("rows")).await.unwrap();
    let manifest = manifest(project, &id(day), vec![artifact(object, "rows")]);
    repository.commit(&manifest).await.unwrap();
    SnapshotRef::new(project, id(day))
}

pub(crate) async fn what_is_put_comes_back(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    for (file, content) in [("db.dump", "rows"), ("empty.dump", "")] {
        let object = path("candig", &id(1), file);
        let told = repository.put(&object, body(content)).await.unwrap();
        assert_eq!(told, digest(content));
        assert_eq!(read(&*repository, &object).await, content);
    }
    let objects = repository
        .objects(&SnapshotRef::new("candig", id(1)))
        .await
        .unwrap();
    let listed: Vec<_> = objects
        .iter()
        .map(|object| (object.path.file_name(), object.bytes))
        .collect();
    assert_eq!(listed, [("db.dump", 4), ("empty.dump", 0)]);
}

pub(crate) async fn a_large_object_comes_back(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let content: Vec<u8> = (0..9_000_011_u32).map(|n| (n % 251) as u8).collect();
    let object = path("candig", &id(1), "app.tar");
    let told = repository.put(&object, body(&content)).await.unwrap();
    assert_eq!(told, digest(&content));
    let mut back = Vec::new();
    let mut stream = repository.open(&object).await.unwrap();
    stream.read_to_end(&mut back).await.unwrap();
    assert!(back == content);
}

pub(crate) async fn a_snapshot_exists_once_it_is_committed(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let object = path("candig", &id(1), "db.dump");
    repository.put(&object, body("rows")).await.unwrap();
    assert_eq!(repository.list(None).await.unwrap(), []);
    let manifest = manifest("candig", &id(1), vec![artifact(object, "rows")]);
    repository.commit(&manifest).await.unwrap();
    let snapshot = SnapshotRef::new("candig", id(1));
    for scope in [None, Some("candig")] {
        let listed = fixture.repository().list(scope).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&snapshot));
    }
    assert_eq!(repository.list(Some("other")).await.unwrap(), []);
    assert_eq!(repository.manifest(&snapshot).await.unwrap(), manifest);
}

pub(crate) async fn nothing_is_written_over(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    let object = path("candig", &id(1), "db.dump");
    let again = repository.put(&object, body("other")).await;
    assert!(
        matches!(again, Err(RepositoryError::Exists(_))),
        "{again:?}"
    );
    assert_eq!(read(&*repository, &object).await, "rows");
    let mut manifest = repository.manifest(&snapshot).await.unwrap();
    manifest.warnings.push("another".to_owned());
    let again = repository.commit(&manifest).await;
    assert!(
        matches!(again, Err(RepositoryError::Exists(_))),
        "{again:?}"
    );
    let kept = repository.manifest(&snapshot).await.unwrap();
    assert!(kept.warnings.is_empty());
}

pub(crate) async fn a_failing_body_leaves_nothing(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let tail =
        tokio_util::io::StreamReader::new(futures_util::stream::iter([Err::<bytes::Bytes, _>(
            io::Error::other("pg_dump died"),
        )]));
    let broken = Box::pin(body(vec![7; 300_000]).chain(tail));
    let outcome = repository
        .put(&path("candig", &id(1), "db.dump"), broken)
        .await;
    match outcome {
        Err(RepositoryError::Body(error)) => assert_eq!(error.to_string(), "pg_dump died"),
        other => panic!("{other:?}"),
    }
    assert_eq!(files(fixture).await, Vec::<String>::new());
}

pub(crate) async fn a_cancelled_put_leaves_nothing(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let (mut writer, reader) = tokio::io::duplex(1024);
    let putting = tokio::spawn(async move {
        let object = path("candig", &id(1), "db.dump");
        repository.put(&object, Box::pin(reader)).await
    });
    writer.write_all(&[7; 300_000]).await.unwrap();
    putting.abort();
    assert!(putting.await.unwrap_err().is_cancelled());
    let gone = async {
        while !files(fixture).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("something stays");
}

/// [`Fixture::names`] without directories, which an implementation may leave empty until the next sweep.
async fn files(fixture: &dyn Fixture) -> Vec<String> {
    let mut names = fixture.names().await;
    names.retain(|name| !name.ends_with('/'));
    names
}

pub(crate) async fn puts_and_removals_may_run_together(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = SnapshotRef::new("candig", id(1));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..24 {
        let repository = fixture.repository();
        let snapshot = snapshot.clone();
        tasks.spawn(async move {
            let object = path("candig", &id(1), &format!("{number}.dump"));
            let content = number.to_string();
            repository.put(&object, body(&content)).await.unwrap();
            assert_eq!(read(&*repository, &object).await, content);
            if number % 2 == 0 {
                repository.remove(&snapshot, &[object]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 12);
}

pub(crate) async fn only_one_of_two_equal_puts_wins(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let object = path("candig", &id(1), "db.dump");
    let other = fixture.repository();
    let (first, second) = tokio::join!(
        repository.put(&object, body("first")),
        other.put(&object, body("second")),
    );
    let content = match (&first, &second) {
        (Ok(_), Err(RepositoryError::Exists(_))) => "first",
        (Err(RepositoryError::Exists(_)), Ok(_)) => "second",
        both => panic!("{both:?}"),
    };
    assert_eq!(read(&*repository, &object).await, content);
}

pub(crate) async fn a_commit_looks_for_every_object(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let stored = path("candig", &id(1), "db.dump");
    repository.put(&stored, body("rows")).await.unwrap();
    let absent = path("candig", &id(1), "absent.dump");
    let missing = manifest(
        "candig",
        &id(1),
        vec![artifact(stored.clone(), "rows"), artifact(absent, "x")],
    );
    let outcome = repository.commit(&missing).await;
    assert!(
        matches!(&outcome, Err(RepositoryError::Missing(object)) if object.ends_with("absent.dump")),
        "{outcome:?}"
    );
    let longer = manifest("candig", &id(1), vec![artifact(stored, "rows and more")]);
    let outcome = repository.commit(&longer).await;
    assert!(
        matches!(outcome, Err(RepositoryError::Damaged { .. })),
        "{outcome:?}"
    );
    assert_eq!(repository.list(None).await.unwrap(), []);
}

pub(crate) async fn objects_of_earlier_snapshots_count(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let earlier = save(&*repository, "candig", 1).await;
    let layer = path("candig", &id(1), "db.dump");
    let unchanged = manifest("candig", &id(2), vec![artifact(layer.clone(), "rows")]);
    repository.commit(&unchanged).await.unwrap();
    repository.remove(&earlier, &[]).await.unwrap();
    assert_eq!(
        repository.list(None).await.unwrap(),
        [SnapshotRef::new("candig", id(2))]
    );
    assert_eq!(read(&*repository, &layer).await, "rows");
}

pub(crate) async fn snapshots_are_listed_oldest_first(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    for (project, day) in [("b", 3), ("a", 4), ("b", 1), ("a", 2)] {
        save(&*repository, project, day).await;
    }
    let listed = repository.list(None).await.unwrap();
    let days: Vec<_> = listed
        .iter()
        .map(|snapshot| (snapshot.project.as_str(), snapshot.id.clone()))
        .collect();
    assert_eq!(
        days,
        [("b", id(1)), ("a", id(2)), ("b", id(3)), ("a", id(4))]
    );
    assert_eq!(repository.list(Some("a")).await.unwrap().len(), 2);
}

pub(crate) async fn hostile_project_names_stay_in_their_place(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    for project in ["..", "../..", "a/b", ".hidden", "a b%2F", "ä*"] {
        let snapshot = save(&*repository, project, 1).await;
        assert_eq!(
            repository.manifest(&snapshot).await.unwrap().project,
            project
        );
        assert_eq!(repository.list(Some(project)).await.unwrap(), [snapshot]);
    }
    assert_eq!(repository.list(None).await.unwrap().len(), 6);
    for name in fixture.names().await {
        let depth = name.trim_end_matches('/').split('/').count();
        assert!(depth <= 3, "{name}");
    }
}

pub(crate) async fn a_manifest_that_cannot_be_read_is_listed_and_refused(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let whole = manifest("candig", &id(1), Vec::new()).to_bytes();
    let text = String::from_utf8(whole.clone()).unwrap();
    let future = text.replace(
        &format!("\"format\": {FORMAT}"),
        &format!("\"format\": {}, \"secret\": \"new\"", FORMAT + 1),
    );
    let judge = async |bytes: &[u8]| {
        let snapshot = SnapshotRef::new("candig", id(2));
        fixture
            .plant(&format!("candig/{}/manifest.json", id(2)), bytes)
            .await;
        assert_eq!(
            repository.list(None).await.unwrap(),
            std::slice::from_ref(&snapshot)
        );
        match repository.manifest(&snapshot).await {
            Err(RepositoryError::Manifest { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(
        judge(future.as_bytes()).await,
        ManifestError::TooNew { .. }
    ));
    assert!(matches!(
        judge(&whole[..whole.len() / 2]).await,
        ManifestError::Malformed(_)
    ));
    assert!(matches!(judge(b"").await, ManifestError::Malformed(_)));
    assert!(matches!(
        judge(&whole).await,
        ManifestError::Misplaced { .. }
    ));
}

pub(crate) async fn what_is_missing_is_said_to_be_missing(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = SnapshotRef::new("candig", id(1));
    let object = path("candig", &id(1), "db.dump");
    assert!(matches!(
        repository.open(&object).await.err(),
        Some(RepositoryError::Missing(_))
    ));
    assert!(matches!(
        repository.manifest(&snapshot).await,
        Err(RepositoryError::Missing(_))
    ));
    assert_eq!(repository.objects(&snapshot).await.unwrap(), []);
    save(&*repository, "candig", 1).await;
    assert!(matches!(
        repository
            .open(&path("candig", &id(1), "no.dump"))
            .await
            .err(),
        Some(RepositoryError::Missing(_))
    ));
}

pub(crate) async fn foreign_things_are_passed_over(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    for foreign in [
        "README",
        "candig/notes.txt",
        "candig/latest/manifest.json",
        "candig/20261101T020000Z-9F2C61AA/manifest.json",
        "other project/20261101T020000Z-9f2c61aa/manifest.json",
        "%41/20261101T020000Z-9f2c61aa/manifest.json",
    ] {
        fixture.plant(foreign, b"{}").await;
    }
    fixture
        .plant(&format!("candig/{}/.hidden", id(1)), b"x")
        .await;
    assert_eq!(
        repository.list(None).await.unwrap(),
        std::slice::from_ref(&snapshot)
    );
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 1);
    repository.manifest(&snapshot).await.unwrap();
}

pub(crate) async fn an_empty_place_has_no_snapshots(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    assert_eq!(repository.list(None).await.unwrap(), []);
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
    let snapshot = SnapshotRef::new("candig", id(1));
    repository.remove(&snapshot, &[]).await.unwrap();
    let refused = repository
        .put(&path("candig", &id(1), "db.dump"), body("rows"))
        .await;
    assert!(
        matches!(refused, Err(RepositoryError::Format { .. })),
        "{refused:?}"
    );
}

pub(crate) async fn a_place_is_prepared_once(fixture: &dyn Fixture) {
    let (one, other) = (fixture.repository(), fixture.repository());
    let (first, second) = tokio::join!(one.prepare(), other.prepare());
    first.unwrap();
    second.unwrap();
    save(&*one, "candig", 1).await;
    other.prepare().await.unwrap();
    assert_eq!(other.list(None).await.unwrap().len(), 1);
}

pub(crate) async fn an_empty_place_is_made_a_repository_only_when_that_is_wanted(
    fixture: &dyn Fixture,
) {
    let none = fixture.repository().prepare_existing().await;
    assert!(
        matches!(none, Err(RepositoryError::NoRepository { .. })),
        "{none:?}"
    );
    assert_eq!(fixture.names().await, Vec::<String>::new());
    let made = fixture.repository().prepare().await.unwrap();
    assert!(made.is_new);
    assert_eq!(made.id.len(), 32);
    let found = fixture.repository().prepare().await.unwrap();
    assert_eq!(found.id, made.id);
    assert!(!found.is_new);
    let existing = fixture.repository().prepare_existing().await.unwrap();
    assert_eq!(existing, found);
}

pub(crate) async fn a_place_of_the_future_is_refused(fixture: &dyn Fixture) {
    prepared(fixture).await;
    fixture.plant("cofferdam.json", br#"{"format": 2}"#).await;
    let repository = fixture.repository();
    let refused = |outcome: Result<(), RepositoryError>| {
        let error = outcome.unwrap_err();
        assert!(
            error.to_string().contains("use a newer cofferdam"),
            "{error}"
        );
    };
    refused(repository.prepare().await.map(drop));
    refused(repository.prepare_existing().await.map(drop));
    refused(repository.list(None).await.map(drop));
    let object = path("candig", &id(1), "db.dump");
    refused(repository.put(&object, body("rows")).await.map(drop));
    refused(repository.open(&object).await.map(drop));
    assert_eq!(files(fixture).await, Vec::<String>::new());
}

pub(crate) async fn a_place_that_holds_other_things_is_refused(fixture: &dyn Fixture) {
    fixture.plant("holiday/photo.jpg", b"sea").await;
    let repository = fixture.repository();
    let error = repository.prepare().await.unwrap_err();
    assert!(matches!(error, RepositoryError::Format { .. }), "{error:?}");
    assert!(error.to_string().contains("`holiday`"), "{error}");
    assert!(repository.list(None).await.is_err());
    assert_eq!(files(fixture).await, ["holiday/photo.jpg"]);
}

pub(crate) async fn a_removal_takes_the_manifest_and_what_it_is_told(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    let kept = save(&*repository, "candig", 2).await;
    let object = path("candig", &id(1), "db.dump");
    repository.remove(&snapshot, &[]).await.unwrap();
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 1);
    for _ in 0..2 {
        repository
            .remove(&snapshot, std::slice::from_ref(&object))
            .await
            .unwrap();
    }
    assert_eq!(repository.list(None).await.unwrap(), [kept]);
    let left = files(fixture).await;
    assert_eq!(left.len(), 2, "{left:?}");
}

pub(crate) async fn a_removal_reaches_into_no_other_place(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    save(&*repository, "candig", 2).await;
    let foreign = path("candig", &id(2), "db.dump");
    assert!(
        repository
            .remove(&snapshot, std::slice::from_ref(&foreign))
            .await
            .is_err()
    );
    assert_eq!(repository.list(None).await.unwrap().len(), 2);
    assert_eq!(read(&*repository, &foreign).await, "rows");
}

pub(crate) async fn a_sweep_leaves_the_young_alone(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    save(&*repository, "candig", 1).await;
    let running = path("candig", &id(2), "db.dump");
    repository.put(&running, body("rows")).await.unwrap();
    let before = fixture.names().await;
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
    assert_eq!(fixture.names().await, before);
}

fn pin_called(name: &str) -> Pin {
    Pin::new(&name.parse().unwrap())
}

pub(crate) async fn pins_are_replaced_and_taken_out(fixture: &dyn Fixture) {
    assert!(fixture.repository().pins(None).await.unwrap().is_empty());
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    let other = save(&*repository, "a/b", 2).await;
    save(&*repository, "candig", 3).await;
    for name in ["a rather long name", "short"] {
        let pin = pin_called(name);
        pin::pin(&*repository, &snapshot, &pin).await.unwrap();
        let pins = fixture.repository().pins(Some("candig")).await.unwrap();
        assert_eq!(pins, BTreeMap::from([(snapshot.clone(), pin)]));
    }
    pin::pin(&*repository, &other, &pin_called("b"))
        .await
        .unwrap();
    let pins = repository.pins(None).await.unwrap();
    assert!(pins.keys().eq([&other, &snapshot]));
    for _ in 0..2 {
        repository.remove_pin(&snapshot).await.unwrap();
    }
    assert!(repository.pins(None).await.unwrap().keys().eq([&other]));
    let absent = SnapshotRef::new("candig", id(9));
    let refused = pin::pin(&*repository, &absent, &pin_called("x")).await;
    assert!(
        matches!(refused, Err(RepositoryError::Missing(_))),
        "{refused:?}"
    );
    // What was written by others, or only half, pins too.
    let torn = format!("candig/{}/pin.json", id(3));
    for content in [&b"{\"name\": "[..], &b" ".repeat(70_000)[..]] {
        fixture.plant(&torn, content).await;
        let pins = repository.pins(Some("candig")).await.unwrap();
        assert_eq!(pins.len(), 1, "{pins:?}");
        assert!(pins.values().all(|pin| pin.unreadable.is_some()));
    }
}

pub(crate) async fn a_pin_is_no_object_and_goes_with_its_snapshot(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let snapshot = save(&*repository, "candig", 1).await;
    let pin = pin_called("before-upgrade");
    pin::pin(&*repository, &snapshot, &pin).await.unwrap();
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 1);
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
    assert_eq!(repository.pins(None).await.unwrap().len(), 1);
    let object = path("candig", &id(1), "db.dump");
    repository.remove(&snapshot, &[object]).await.unwrap();
    assert!(repository.pins(None).await.unwrap().is_empty());
    assert_eq!(files(fixture).await, Vec::<String>::new());
}

fn status(project: &str, form: StatusForm) -> StatusPath {
    let target = TargetId::new("db", DriverKind::Postgres, "a b/c");
    StatusPath::new(project, &target, form)
}

async fn put_status(
    repository: &dyn Repository,
    path: &StatusPath,
    content: &str,
) -> Result<(), RepositoryError> {
    let file = StatusFile {
        path: path.clone(),
        bytes: content.as_bytes().to_vec(),
    };
    repository.put_statuses(vec![file]).await
}

pub(crate) async fn status_files_are_replaced_and_removed(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    assert_eq!(repository.statuses().await.unwrap(), []);
    let (json, text) = (
        status("candig", StatusForm::Json),
        status("candig", StatusForm::Text),
    );
    for content in ["a longer state", "ok", ""] {
        put_status(&*repository, &json, content).await.unwrap();
        let lying = fixture
            .content("status/candig/db.postgres.a%20b%2Fc.json")
            .await;
        assert_eq!(lying, content.as_bytes());
    }
    let files = [(&json, ""), (&text, "ok")].map(|(path, content)| StatusFile {
        path: path.clone(),
        bytes: content.as_bytes().to_vec(),
    });
    repository.put_statuses(files.into()).await.unwrap();
    for foreign in ["status/README.json", "status/candig/notes.txt"] {
        fixture.plant(foreign, b"x").await;
    }
    let mut listed = repository.statuses().await.unwrap();
    listed.sort();
    assert_eq!(listed, [json.clone(), text.clone()]);
    for _ in 0..2 {
        repository.remove_status(&json).await.unwrap();
    }
    assert_eq!(repository.statuses().await.unwrap(), [text]);
}

pub(crate) async fn status_files_are_no_snapshots(fixture: &dyn Fixture) {
    let repository = prepared(fixture).await;
    let projects = ["candig", "status", id(1).as_str(), "..", "a/b"].map(str::to_owned);
    for project in &projects {
        let path = status(project, StatusForm::Json);
        put_status(&*repository, &path, "ok").await.unwrap();
    }
    assert_eq!(repository.list(None).await.unwrap(), []);
    // A project may have that name too, and then each keeps to its own.
    let snapshot = save(&*repository, "status", 1).await;
    assert_eq!(
        repository.list(None).await.unwrap(),
        std::slice::from_ref(&snapshot)
    );
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 1);
    assert_eq!(repository.sweep("status").await.unwrap(), [""; 0]);
    let object = path("status", &id(1), "db.dump");
    repository.remove(&snapshot, &[object]).await.unwrap();
    let statuses = repository.statuses().await.unwrap();
    let mut found: Vec<_> = statuses.iter().map(StatusPath::project).collect();
    found.sort();
    let mut expected = projects.to_vec();
    expected.sort();
    assert_eq!(found, expected);
}

pub(crate) async fn status_files_need_a_repository(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let path = status("candig", StatusForm::Json);
    assert_eq!(repository.statuses().await.unwrap(), []);
    repository.remove_status(&path).await.unwrap();
    let refused = put_status(&*repository, &path, "ok").await;
    assert!(
        matches!(refused, Err(RepositoryError::Format { .. })),
        "{refused:?}"
    );
    assert_eq!(files(fixture).await, Vec::<String>::new());
}
