use std::sync::Arc;

use super::*;
use crate::manifest::{Compression, Role};
use crate::pipe::codec;
use crate::repository::local::LocalRepository;
use crate::repository::samples::{artifact, body, digest, id, manifest, path};

struct Place {
    temporary: tempfile::TempDir,
    repository: Arc<LocalRepository>,
    identities: Identities,
}

impl Place {
    /// A snapshot of three objects: `plain.dump`, `rows.dump.zst`, `files.index.jsonl.zst`.
    async fn with_snapshot() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(temporary.path());
        repository.prepare().await.unwrap();
        let place = Self {
            temporary,
            repository: Arc::new(repository),
            identities: Identities::default(),
        };
        let index = "{\"path\":\".\",\"type\":\"directory\"}\n{\"path\":\"a\",\"type\":\"file\",\"more\":1}\n";
        let artifacts = vec![
            place
                .put("plain.dump", Role::Dump, Compression::None, "rows")
                .await,
            place
                .put(
                    "rows.dump.zst",
                    Role::Dump,
                    Compression::Zstd(3),
                    &"row\n".repeat(90_000),
                )
                .await,
            place
                .put(
                    "files.index.jsonl.zst",
                    Role::Index,
                    Compression::Zstd(3),
                    index,
                )
                .await,
        ];
        let manifest = manifest("candig", &id(1), artifacts);
        place.repository.commit(&manifest).await.unwrap();
        place
    }

    async fn put(
        &self,
        file: &str,
        role: Role,
        compression: Compression,
        content: &str,
    ) -> Artifact {
        let object = path("candig", &id(1), file);
        let mut stored = Vec::new();
        codec::compress(content.as_bytes(), &mut stored, compression).unwrap();
        self.repository.put(&object, body(&stored)).await.unwrap();
        Artifact {
            role,
            compression,
            stored: digest(&stored),
            ..artifact(object, content)
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.temporary
            .path()
            .join(format!("candig/{}/{name}", id(1)))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.file(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.file(name), bytes).unwrap();
    }

    /// Says something else in the manifest than what lies there.
    async fn record(&self, change: impl FnOnce(&mut Manifest)) {
        let snapshot = SnapshotRef::new("candig", id(1));
        let mut manifest = self.repository.manifest(&snapshot).await.unwrap();
        change(&mut manifest);
        std::fs::write(self.file("manifest.json"), manifest.to_bytes()).unwrap();
    }

    async fn verify(&self, depth: Depth) -> VerifyReport {
        let snapshot = SnapshotRef::new("candig", id(1));
        Verifier::new(&*self.repository, &self.identities, depth)
            .snapshot(&snapshot)
            .await
            .unwrap()
    }

    async fn told(&self, depth: Depth) -> String {
        let problems = self.verify(depth).await.problems;
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

#[tokio::test]
async fn a_whole_snapshot_has_no_problem() {
    let place = Place::with_snapshot().await;
    for depth in [Depth::Sizes, Depth::Read] {
        let report = place.verify(depth).await;
        assert!(report.is_whole(), "{:?}", report.problems);
        assert_eq!(report.objects, 3);
        assert_eq!(report.unknown, []);
    }
}

#[tokio::test]
async fn progress_counts_every_stored_byte() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let place = Place::with_snapshot().await;
    let counted = Arc::new(AtomicU64::new(0));
    let progress = {
        let counted = Arc::clone(&counted);
        Progress::new(move |bytes| {
            counted.fetch_add(bytes, Ordering::Relaxed);
        })
    };
    let snapshot = SnapshotRef::new("candig", id(1));
    let mut verifier = Verifier::new(&*place.repository, &place.identities, Depth::Read);
    verifier.show(progress);
    let report = verifier.snapshot(&snapshot).await.unwrap();
    assert_eq!(counted.load(Ordering::Relaxed), report.stored_bytes);
    assert_eq!(report.read_bytes, report.stored_bytes);
    assert_eq!(report.read_objects, 3);
}

#[tokio::test]
async fn an_object_that_two_snapshots_name_is_read_once_and_blamed_on_both() {
    let place = Place::with_snapshot().await;
    let first = SnapshotRef::new("candig", id(1));
    let second = SnapshotRef::new("candig", id(2));
    let mut later = place.repository.manifest(&first).await.unwrap();
    later.snapshot = id(2);
    place.repository.commit(&later).await.unwrap();
    place.change("rows.dump.zst", |bytes| bytes[20] ^= 1);
    let mut verifier = Verifier::new(&*place.repository, &place.identities, Depth::Read);
    let reports = [
        verifier.snapshot(&first).await.unwrap(),
        verifier.snapshot(&second).await.unwrap(),
    ];
    assert_eq!(reports[0].read_objects, 3);
    assert_eq!(reports[1].read_objects, 0);
    assert_eq!(reports[1].read_bytes, 0);
    for report in reports {
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    }
    // A manifest that describes the same object otherwise does not profit from that.
    let mut other = later.clone();
    other.snapshot = id(3);
    other.targets[0].artifacts.truncate(1);
    other.targets[0].artifacts[0].plain = digest("other rows");
    place.repository.commit(&other).await.unwrap();
    let third = SnapshotRef::new("candig", id(3));
    let report = verifier.snapshot(&third).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.read_objects, 1);
}

#[tokio::test]
async fn the_parts_together_find_what_a_whole_reading_finds() {
    let place = Place::with_snapshot().await;
    for name in ["plain.dump", "rows.dump.zst", "files.index.jsonl.zst"] {
        place.change(name, |bytes| bytes[3] ^= 1);
    }
    let (mut problems, mut objects, mut bytes) = (0, 0, 0);
    for number in 1..=7 {
        let choice: PartChoice = format!("{number}/7").parse().unwrap();
        let part = choice.on(jiff::civil::date(2026, 11, 21));
        let report = place.verify(Depth::ReadPart(part)).await;
        problems += report.problems.len();
        objects += report.read_objects;
        bytes += report.read_bytes;
    }
    let whole = place.verify(Depth::Read).await;
    assert_eq!((problems, objects), (3, 3));
    assert_eq!(bytes, whole.stored_bytes);
    assert_eq!(whole.problems.len(), 3);
}

#[tokio::test]
async fn every_problem_is_told_and_not_only_the_first() {
    let place = Place::with_snapshot().await;
    std::fs::remove_file(place.file("plain.dump")).unwrap();
    place.change("rows.dump.zst", |bytes| bytes.truncate(9));
    place.change("files.index.jsonl.zst", |bytes| bytes[20] ^= 1);
    std::fs::write(place.file("stranger.dump"), "x").unwrap();
    insta::assert_snapshot!(place.told(Depth::Sizes).await, @r"
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/plain.dump): the object is missing
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/rows.dump.zst): the object has 9 bytes, but 49 were stored
");
    insta::assert_snapshot!(place.told(Depth::Read).await, @r"
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/plain.dump): the object is missing
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/rows.dump.zst): the object has 9 bytes, but 49 were stored
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/files.index.jsonl.zst): the object has changed since it was stored: its SHA-256 is 06b669177fdbbe2ae48502c40c9f749af8f0ae6985eebf0515b923ac5454a8d2, but 8a76b73ac481bdd711c751f33fb500fabdfc86b916d69e47ec673d37cc7eeaba was recorded
");
    let report = place.verify(Depth::Sizes).await;
    assert_eq!(report.unknown, [path("candig", &id(1), "stranger.dump")]);
}

#[tokio::test]
async fn a_flipped_bit_is_found_by_reading_wherever_it_is() {
    let place = Place::with_snapshot().await;
    let length = std::fs::metadata(place.file("rows.dump.zst"))
        .unwrap()
        .len();
    for at in 0..usize::try_from(length).unwrap() {
        place.change("rows.dump.zst", |bytes| bytes[at] ^= 4);
        assert!(place.verify(Depth::Sizes).await.is_whole());
        let report = place.verify(Depth::Read).await;
        assert!(
            matches!(
                report.problems.as_slice(),
                [Problem {
                    fault: Fault::StoredDigest { .. },
                    ..
                }]
            ),
            "at {at}: {:?}",
            report.problems
        );
        place.change("rows.dump.zst", |bytes| bytes[at] ^= 4);
    }
}

#[tokio::test]
async fn what_was_bad_before_it_was_stored_is_told_apart() {
    let place = Place::with_snapshot().await;
    for name in ["rows.dump.zst", "files.index.jsonl.zst"] {
        place.change(name, |bytes| bytes.truncate(bytes.len() - 4));
    }
    let cut = |name| digest(std::fs::read(place.file(name)).unwrap());
    let (rows, files) = (cut("rows.dump.zst"), cut("files.index.jsonl.zst"));
    place
        .record(|manifest| {
            let [plain, dump, index] = manifest.targets[0].artifacts.as_mut_slice() else {
                panic!("three artifacts")
            };
            plain.plain = digest("other rows");
            dump.stored = rows;
            index.stored = files;
        })
        .await;
    insta::assert_snapshot!(place.told(Depth::Read).await, @r"
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/plain.dump): the object is unchanged since it was stored, but its content is not: it has 4 bytes with SHA-256 bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e, but 10 bytes with SHA-256 5771276d3e6d2f35561fcf130ed17b54ea4a612abe6548baebf63c84752a451d was recorded
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/rows.dump.zst): the object is unchanged since it was stored, but its content cannot be read: zstd stream did not finish
    db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/files.index.jsonl.zst): the object is unchanged since it was stored, but its content cannot be read: zstd stream did not finish
");
}

#[tokio::test]
async fn a_bad_line_of_an_index_is_told() {
    for (index, expected) in [
        ("{\"path\":\"a\",\"type\":\"file\"}\nno json\n", 2),
        (
            "{\"path\":\"a\",\"type\":\"file\"}\n{\"type\":\"file\"}\n",
            2,
        ),
        ("{\"path\":\"a\",\"type\":\"file\"}", 1),
        ("\n", 1),
        (&"x".repeat(200_000), 1),
    ] {
        let place = Place::with_snapshot().await;
        let artifact = place
            .put("bad.index.jsonl", Role::Index, Compression::None, index)
            .await;
        place
            .record(|manifest| manifest.targets[0].artifacts = vec![artifact])
            .await;
        let problems = place.verify(Depth::Read).await.problems;
        match problems.as_slice() {
            [
                Problem {
                    fault: Fault::Index { line, .. },
                    ..
                },
            ] => assert_eq!(*line, expected, "{problems:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_a_finding() {
    let place = Place::with_snapshot().await;
    place.change("manifest.json", |bytes| bytes.truncate(100));
    let told = place.told(Depth::Sizes).await;
    assert!(
        told.starts_with("the manifest is incomplete or malformed"),
        "{told}"
    );
    std::fs::write(place.file("manifest.json"), "{\"format\": 7}").unwrap();
    insta::assert_snapshot!(place.told(Depth::Read).await, @"the manifest has format 7, but this version reads formats up to 1; use a newer cofferdam");
    let missing = SnapshotRef::new("candig", id(2));
    let outcome = Verifier::new(&*place.repository, &place.identities, Depth::Sizes)
        .snapshot(&missing)
        .await;
    assert!(matches!(outcome, Err(RepositoryError::Missing(_))));
}

#[tokio::test]
async fn only_the_chosen_targets_are_looked_at() {
    let place = Place::with_snapshot().await;
    std::fs::remove_file(place.file("plain.dump")).unwrap();
    let snapshot = SnapshotRef::new("candig", id(1));
    let manifest = place.repository.manifest(&snapshot).await.unwrap();
    let none = [].into_iter();
    let verifier = |depth| Verifier::new(&*place.repository, &place.identities, depth);
    verifier(Depth::Read)
        .targets(&manifest, none)
        .await
        .unwrap();
    let all = manifest.targets.iter().map(|record| &record.target);
    let error = verifier(Depth::Sizes)
        .targets(&manifest, all)
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/plain.dump): the object is missing");
}

#[tokio::test]
async fn programs_are_told_the_same() {
    let place = Place::with_snapshot().await;
    std::fs::remove_file(place.file("plain.dump")).unwrap();
    let report = place.verify(Depth::Sizes).await;
    insta::assert_json_snapshot!(report.problems, @r#"
    [
      {
        "target": "db/postgres/clinical",
        "object": "candig/20261101T020000Z-9f2c61aa/plain.dump",
        "fault": "missing"
      }
    ]
"#);
}

/// An encrypted snapshot beside what opens it, and what does not.
mod encrypted {
    use super::*;
    use crate::manifest::{AgeFile, Encryption};
    use crate::pipe;
    use crate::pipe::keys::samples::{identities, key_pair, recipients};

    const FILE: &str = "rows.dump.zst.age";

    async fn place() -> (Place, String) {
        let (key, to) = key_pair();
        let recipients = recipients(&to);
        let temporary = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(temporary.path());
        repository.prepare().await.unwrap();
        let zstd = Compression::Zstd(3);
        let mut compressed = Vec::new();
        codec::compress(&b"rows"[..], &mut compressed, zstd).unwrap();
        let object = path("candig", &id(1), FILE);
        let stored = pipe::encrypt(body(&compressed), &recipients);
        let stored = repository.put(&object, stored).await.unwrap();
        let artifact = Artifact {
            compression: zstd,
            stored,
            encryption: Encryption::Age(AgeFile {
                to: recipients.told(),
                compressed_bytes: compressed.len() as u64,
            }),
            ..artifact(object, "rows")
        };
        let manifest = manifest("candig", &id(1), vec![artifact]);
        repository.commit(&manifest).await.unwrap();
        let place = Place {
            temporary,
            repository: Arc::new(repository),
            identities: Identities::default(),
        };
        (place, key)
    }

    #[tokio::test]
    async fn without_a_key_the_stored_bytes_are_checked_and_with_one_the_content() {
        let (mut place, key) = place().await;
        let report = place.verify(Depth::Read).await;
        assert!(report.is_whole(), "{:?}", report.problems);
        assert_eq!((report.decrypted, report.closed), (0, 1));
        place.identities = identities(&key);
        let report = place.verify(Depth::Read).await;
        assert!(report.is_whole(), "{:?}", report.problems);
        assert_eq!((report.decrypted, report.closed), (1, 0));
        let report = place.verify(Depth::Sizes).await;
        assert_eq!((report.decrypted, report.closed), (0, 0));
    }

    #[tokio::test]
    async fn damage_is_found_with_and_without_a_key() {
        let (mut place, key) = place().await;
        let length = std::fs::metadata(place.file(FILE)).unwrap().len() as usize;
        for at in [30, length - 1] {
            place.identities = Identities::default();
            place.change(FILE, |bytes| bytes[at] ^= 1);
            for _ in 0..2 {
                let problems = place.verify(Depth::Read).await.problems;
                let faults: Vec<_> = problems.iter().map(|problem| &problem.fault).collect();
                assert!(
                    matches!(faults[..], [Fault::StoredDigest { .. }]),
                    "{problems:?}"
                );
                place.identities = identities(&key);
            }
            place.change(FILE, |bytes| bytes[at] ^= 1);
        }
    }

    #[tokio::test]
    async fn a_key_that_does_not_fit_is_a_finding() {
        let (mut place, _) = place().await;
        place.identities = identities(&key_pair().0);
        insta::assert_snapshot!(place.told(Depth::Read).await, @"db/postgres/clinical (candig/20261101T020000Z-9f2c61aa/rows.dump.zst.age): the object is unchanged since it was stored, but cannot be opened: the given identity does not open it (or its header is damaged); name the file of the right one with --identity-file FILE");
    }
}
