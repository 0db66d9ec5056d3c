use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt;

use super::*;
use crate::manifest::{Role, StreamDigest};
use crate::pipe::keys::samples::{identities, key_pair, recipients};
use crate::repository::local::LocalRepository;
use crate::repository::samples::{body, digest, id, path};
use crate::target::DriverKind;

async fn place() -> (tempfile::TempDir, Arc<dyn Repository>) {
    let temporary = tempfile::tempdir().unwrap();
    let repository = LocalRepository::new(temporary.path());
    repository.prepare().await.unwrap();
    (temporary, Arc::new(repository))
}

fn writer(repository: &Arc<dyn Repository>) -> SnapshotWriter {
    SnapshotWriter::new(
        Arc::clone(repository),
        "candig",
        id(1),
        Compression::Zstd(3),
        None,
    )
}

fn volume(name: &str) -> TargetId {
    TargetId::new("app", DriverKind::Volume, name)
}

fn layer() -> NewArtifact {
    NewArtifact {
        role: Role::Layer,
        extension: "tar",
        compression: Compression::None,
    }
}

async fn names(repository: &dyn Repository) -> Vec<String> {
    let snapshot = SnapshotRef::new("candig", id(1));
    let objects = repository.objects(&snapshot).await.unwrap();
    objects
        .iter()
        .map(|object| object.path.file_name().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_stored_can_be_read_and_both_are_counted() {
    let (_temporary, repository) = place().await;
    let counted = Arc::new(AtomicU64::new(0));
    let progress = {
        let counted = Arc::clone(&counted);
        Progress::new(move |bytes| {
            counted.fetch_add(bytes, Ordering::Relaxed);
        })
    };
    let writer = writer(&repository);
    let sink = writer.target(&volume("storage"), progress.clone());
    assert_eq!(sink.compression(), Compression::Zstd(3));
    let stored = sink.store(layer(), body("files")).await.unwrap();
    assert_eq!(
        stored,
        Artifact {
            role: Role::Layer,
            object: path("candig", &id(1), "app.volume.storage.tar"),
            plain: digest("files"),
            stored: digest("files"),
            compression: Compression::None,
            encryption: Encryption::None,
        }
    );
    let mut text = String::new();
    let reader = SnapshotReader::new(repository, Identities::default(), progress);
    let mut stream = open_plain(&reader, &stored).await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "files");
    assert_eq!(counted.load(Ordering::Relaxed), 10);

    let mut stream = reader.open(&stored).await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(
        counted.load(Ordering::Relaxed),
        10,
        "what is read again is no progress"
    );
}

#[tokio::test]
async fn further_layers_and_names_that_look_alike_are_numbered() {
    let (_temporary, repository) = place().await;
    let writer = writer(&repository);
    for target in [
        volume("storage"),
        volume("storage"),
        TargetId::new("app.volume.storage", DriverKind::Volume, "x"),
        TargetId::new("app", DriverKind::Volume, "storage.volume.x"),
    ] {
        let sink = writer.target(&target, Progress::silent());
        sink.store(layer(), body("files")).await.unwrap();
    }
    assert_eq!(
        names(&*repository).await,
        [
            "app.volume.storage.2.tar",
            "app.volume.storage.tar",
            "app.volume.storage.volume.x.2.tar",
            "app.volume.storage.volume.x.tar",
        ]
    );
}

#[tokio::test]
async fn a_driver_that_failed_may_try_again_under_the_same_name() {
    let (_temporary, repository) = place().await;
    let writer = writer(&repository);
    let sink = writer.target(&volume("storage"), Progress::silent());
    let refused = verified(body("fi"), digest("files"), "the archive");
    match sink.store(layer(), refused).await {
        Err(StoreError::Body(error)) => assert!(error.to_string().starts_with("the archive")),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&*repository).await, [""; 0]);
    let stored = sink.store(layer(), body("files")).await.unwrap();
    assert_eq!(stored.object.file_name(), "app.volume.storage.tar");
}

#[tokio::test]
async fn what_failed_targets_have_stored_can_be_taken_away() {
    let (_temporary, repository) = place().await;
    let writer = writer(&repository);
    for name in ["good", "bad"] {
        for _ in 0..2 {
            let sink = writer.target(&volume(name), Progress::silent());
            sink.store(layer(), body("files")).await.unwrap();
        }
    }
    writer.discard(&volume("bad")).await;
    assert_eq!(
        names(&*repository).await,
        ["app.volume.good.2.tar", "app.volume.good.tar"]
    );
    writer.discard_all().await;
    assert_eq!(names(&*repository).await, [""; 0]);
}

#[tokio::test]
async fn what_was_damaged_in_the_repository_has_no_good_end() {
    let (temporary, repository) = place().await;
    let writer = writer(&repository);
    let sink = writer.target(&volume("storage"), Progress::silent());
    let stored = sink.store(layer(), body("files")).await.unwrap();
    std::fs::write(temporary.path().join(stored.object.as_str()), "fil3s").unwrap();
    let reader = SnapshotReader::new(repository, Identities::default(), Progress::silent());
    let mut text = String::new();
    let mut stream = reader.open(&stored).await.unwrap();
    let error = stream.read_to_string(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);

    let other_plain = Artifact {
        stored: digest("fil3s"),
        plain: StreamDigest {
            bytes: 5,
            ..digest("files")
        },
        ..stored
    };
    let mut stream = open_plain(&reader, &other_plain).await.unwrap();
    let error = stream.read_to_string(&mut text).await.unwrap_err();
    assert!(error.to_string().starts_with("the content of"), "{error}");
}

#[tokio::test]
async fn what_is_encrypted_is_named_so_and_needs_its_key() {
    let (_temporary, repository) = place().await;
    let (key, to) = key_pair();
    let recipients = Some(recipients(&to));
    let writer = SnapshotWriter::new(
        Arc::clone(&repository),
        "candig",
        id(1),
        Compression::Zstd(3),
        recipients,
    );
    let sink = writer.target(&volume("storage"), Progress::silent());
    let artifact = sink.store(layer(), body("files")).await.unwrap();
    assert_eq!(artifact.object.file_name(), "app.volume.storage.tar.age");
    assert_eq!(artifact.plain, digest("files"));
    assert_ne!(artifact.stored, artifact.plain);
    assert_eq!(artifact.compressed_bytes(), 5);

    let mut text = String::new();
    let reader =
        |identities| SnapshotReader::new(Arc::clone(&repository), identities, Progress::silent());
    let opened = reader(identities(&key));
    let mut stream = open_plain(&opened, &artifact).await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "files");

    let record = crate::repository::samples::record(volume("storage"), vec![artifact]);
    assert!(ensure_opens(&opened, [&record]).await.is_ok());
    let error = ensure_opens(&reader(Identities::default()), [&record])
        .await
        .unwrap_err()
        .to_string();
    insta::assert_snapshot!(error.replace(&to, "age1…"), @"candig/20261101T020000Z-9f2c61aa/app.volume.storage.tar.age cannot be opened: it is encrypted, but no identity is given; name an identity file with --identity-file FILE (COFFERDAM_IDENTITY_FILE) (according to its manifest, it was encrypted to age1…)");
}

/// The producer's own words, as without encryption.
#[tokio::test]
async fn a_producer_that_fails_leaves_nothing_encrypted_either() {
    let (_temporary, repository) = place().await;
    let recipients = Some(recipients(&key_pair().1));
    let writer = SnapshotWriter::new(
        Arc::clone(&repository),
        "candig",
        id(1),
        Compression::Zstd(3),
        recipients,
    );
    let sink = writer.target(&volume("storage"), Progress::silent());
    let refused = verified(body("fi"), digest("files"), "the archive");
    match sink.store(layer(), refused).await {
        Err(StoreError::Body(error)) => assert!(error.to_string().starts_with("the archive")),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&*repository).await, [""; 0]);
}
