use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::manifest::{Compression, Role};
use crate::pipe::keys::Identities;
use crate::pipe::{Progress, codec};
use crate::repository::local::LocalRepository;
use crate::repository::samples::{artifact, body, digest, id, manifest, path, record};
use crate::repository::{Repository, SnapshotRef};
use crate::snapshot::SnapshotReader;
use crate::target::DriverKind;

struct Place {
    temporary: tempfile::TempDir,
    repository: Arc<LocalRepository>,
}

fn database() -> TargetId {
    TargetId::new("db", DriverKind::Postgres, "clinical")
}

fn volume() -> TargetId {
    TargetId::new("app", DriverKind::Volume, "storage")
}

impl Place {
    async fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(temporary.path().join("backups"));
        repository.prepare().await.unwrap();
        Self {
            temporary,
            repository: Arc::new(repository),
        }
    }

    async fn put(
        &self,
        day: u8,
        file: &str,
        role: Role,
        compression: Compression,
        content: &str,
    ) -> Artifact {
        let object = path("candig", &id(day), file);
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

    /// A database, and a volume of two layers, the first of them the day before's.
    async fn snapshot(&self) -> Manifest {
        let zstd = Compression::Zstd(3);
        let dump = self
            .put(2, "db.postgres.clinical.dump.zst", Role::Dump, zstd, "rows")
            .await;
        let mut layers = Vec::new();
        for (day, files) in [(1, "old files"), (2, "new files")] {
            for (ending, role) in [("tar", Role::Layer), ("index.jsonl", Role::Index)] {
                let name = format!("app.volume.storage.{ending}.gz");
                let content = format!("{files} in {ending}");
                layers.push(
                    self.put(day, &name, role, Compression::Gzip(6), &content)
                        .await,
                );
            }
        }
        let mut manifest = manifest("candig", &id(2), vec![dump]);
        manifest.targets.push(record(volume(), layers));
        self.repository.commit(&manifest).await.unwrap();
        self.repository
            .manifest(&SnapshotRef::new("candig", id(2)))
            .await
            .unwrap()
    }

    fn out(&self) -> PathBuf {
        self.temporary.path().join("rescued/here")
    }

    async fn export(
        &self,
        manifest: &Manifest,
        targets: &[&TargetId],
    ) -> Result<Vec<ExportedFile>, ExportError> {
        let reader = SnapshotReader::new(
            self.repository.clone(),
            Identities::default(),
            Progress::silent(),
        );
        export(&reader, manifest, targets, &self.out()).await
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.out())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn artifacts_become_files_of_the_usual_tools() {
    let place = Place::new().await;
    let manifest = place.snapshot().await;
    let exported = place
        .export(&manifest, &[&database(), &volume()])
        .await
        .unwrap();
    let first = format!("{}.app.volume.storage", id(1));
    assert_eq!(
        place.names(),
        [
            format!("{first}.index.jsonl"),
            format!("{first}.tar"),
            "app.volume.storage.index.jsonl".to_owned(),
            "app.volume.storage.tar".to_owned(),
            "db.postgres.clinical.dump".to_owned(),
        ]
    );
    assert_eq!(exported.len(), 5);
    for file in &exported {
        let metadata = fs::metadata(&file.path).unwrap();
        assert_eq!(metadata.len(), file.bytes);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let read = |name: &str| fs::read_to_string(place.out().join(name)).unwrap();
    assert_eq!(read("db.postgres.clinical.dump"), "rows");
    assert_eq!(read("app.volume.storage.tar"), "new files in tar");
    assert_eq!(read(&format!("{first}.tar")), "old files in tar");
}

#[tokio::test]
async fn only_what_was_asked_for_is_exported_and_twice_into_one_directory() {
    let place = Place::new().await;
    let manifest = place.snapshot().await;
    place.export(&manifest, &[&database()]).await.unwrap();
    assert_eq!(place.names(), ["db.postgres.clinical.dump"]);
    place.export(&manifest, &[&volume()]).await.unwrap();
    assert_eq!(place.names().len(), 5);
}

#[tokio::test]
async fn nothing_is_written_over() {
    let place = Place::new().await;
    let manifest = place.snapshot().await;
    fs::create_dir_all(place.out()).unwrap();
    let taken = place.out().join("app.volume.storage.tar");
    fs::write(&taken, "precious").unwrap();
    let error = place
        .export(&manifest, &[&database(), &volume()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ExportError::Exists(path) if *path == taken),
        "{error:?}"
    );
    assert_eq!(place.names(), ["app.volume.storage.tar"]);
    assert_eq!(fs::read_to_string(taken).unwrap(), "precious");
}

#[tokio::test]
async fn a_damaged_object_leaves_no_file_at_all() {
    let place = Place::new().await;
    let manifest = place.snapshot().await;
    let last = manifest.objects().last().unwrap();
    let stored = place
        .temporary
        .path()
        .join("backups")
        .join(last.object.as_str());
    let mut bytes = fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stored, bytes).unwrap();
    let error = place
        .export(&manifest, &[&database(), &volume()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ExportError::Read { target, .. } if *target == volume()),
        "{error:?}"
    );
    assert_eq!(place.names(), [""; 0]);

    fs::remove_file(stored).unwrap();
    let error = place
        .export(&manifest, &[&database(), &volume()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ExportError::Repository(RepositoryError::Missing(_))),
        "{error:?}"
    );
    assert_eq!(place.names(), [""; 0]);
}
