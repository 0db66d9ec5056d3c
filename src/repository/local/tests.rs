use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::repository::contract::{Fixture, repository_contract};
use crate::repository::samples::{artifact, body, id, manifest, path};

struct Local(tempfile::TempDir);

impl Local {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn place(&self, day: u8) -> PathBuf {
        self.path(&format!("candig/{}", id(day)))
    }

    /// Makes everything two days old.
    fn age(&self) {
        let then = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        for name in walk(self.0.path()) {
            fs::File::open(self.path(&name))
                .unwrap()
                .set_modified(then)
                .unwrap();
        }
    }

    async fn save(&self, day: u8) -> SnapshotRef {
        let repository = self.repository();
        repository.prepare().await.unwrap();
        let object = path("candig", &id(day), "db.dump");
        repository.put(&object, body("rows")).await.unwrap();
        let manifest = manifest("candig", &id(day), vec![artifact(object, "rows")]);
        repository.commit(&manifest).await.unwrap();
        SnapshotRef::new("candig", id(day))
    }
}

/// Directories end in a slash.
fn walk(root: &Path) -> Vec<String> {
    fn visit(root: &Path, directory: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() || !path.is_dir() {
                names.push(name);
            } else {
                names.push(format!("{name}/"));
                visit(root, &path, names);
            }
        }
    }
    let mut names = Vec::new();
    visit(root, root, &mut names);
    names.retain(|name| name != "cofferdam.json");
    names.sort();
    names
}

#[async_trait]
impl Fixture for Local {
    fn repository(&self) -> Arc<dyn Repository> {
        Arc::new(LocalRepository::new(self.0.path()))
    }

    async fn plant(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    async fn content(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    async fn names(&self) -> Vec<String> {
        walk(self.0.path())
    }
}

repository_contract!(Local::new());
repository_contract!(Local::new() => only_one_of_two_equal_puts_wins);

#[tokio::test]
async fn backups_are_readable_by_their_owner_alone() {
    let place = Local::new();
    place.save(1).await;
    for name in place.names().await {
        let mode = fs::metadata(place.path(&name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        let expected = if name.ends_with('/') { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{name}");
    }
}

#[tokio::test]
async fn a_place_is_made_where_there_is_none_but_not_by_reading() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("new/place");
    let repository = LocalRepository::new(&root);
    let error = repository.list(None).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(!root.exists());
    repository.prepare().await.unwrap();
    assert!(root.join("cofferdam.json").is_file());
}

#[tokio::test]
async fn the_root_of_a_fresh_file_system_is_a_good_place() {
    let place = Local::new();
    fs::create_dir(place.path("lost+found")).unwrap();
    place.save(1).await;
    assert_eq!(place.repository().list(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_root_itself_may_be_a_link() {
    let place = Local::new();
    let parent = tempfile::tempdir().unwrap();
    let link = parent.path().join("backups");
    symlink(place.0.path(), &link).unwrap();
    place.save(1).await;
    let repository = LocalRepository::new(link);
    assert_eq!(repository.list(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn links_and_strange_names_below_the_root_are_not_followed() {
    let place = Local::new();
    let snapshot = place.save(1).await;
    let elsewhere = Local::new();
    elsewhere.save(2).await;
    let secret = elsewhere.place(2).join("db.dump");
    symlink(elsewhere.path("candig"), place.path("linked")).unwrap();
    symlink(elsewhere.place(2), place.place(2)).unwrap();
    symlink(&secret, place.place(1).join("link.dump")).unwrap();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff.dump");
    fs::write(place.place(1).join(not_utf8), b"x").unwrap();
    fs::create_dir(place.path("candig").join(not_utf8)).unwrap();

    let repository = place.repository();
    assert_eq!(
        repository.list(None).await.unwrap(),
        std::slice::from_ref(&snapshot)
    );
    assert_eq!(repository.objects(&snapshot).await.unwrap().len(), 1);
    for object in [
        path("candig", &id(1), "link.dump"),
        path("candig", &id(2), "db.dump"),
        path("linked", &id(2), "db.dump"),
    ] {
        assert!(repository.open(&object).await.is_err(), "{object}");
        assert!(
            repository.put(&object, body("x")).await.is_err(),
            "{object}"
        );
    }
    let through = SnapshotRef::new("candig", id(2));
    let named = [path("candig", &id(2), "db.dump")];
    assert!(repository.remove(&through, &named).await.is_err());
    assert_eq!(fs::read(secret).unwrap(), b"rows");
}

#[tokio::test]
async fn an_object_that_shrinks_while_it_is_read_is_an_error() {
    use tokio::io::AsyncReadExt;

    let place = Local::new();
    let repository = place.repository();
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "app.tar");
    let content = vec![7; 4 * 1024 * 1024];
    repository.put(&object, body(&content)).await.unwrap();
    let mut stream = repository.open(&object).await.unwrap();
    let mut first = [0; 10];
    stream.read_exact(&mut first).await.unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(place.place(1).join("app.tar"))
        .unwrap()
        .set_len(2 * 1024 * 1024)
        .unwrap();
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("app.tar"), "{error}");
}

#[tokio::test]
async fn a_sweep_removes_old_leftovers_of_ours_and_nothing_else() {
    let place = Local::new();
    place.save(1).await;
    let repository = place.repository();
    let leftover = path("candig", &id(2), "db.dump");
    repository.put(&leftover, body("rows")).await.unwrap();
    let partial = ".cofferdam-0123456789abcdef.partial";
    for planted in [
        partial.to_owned(),
        format!("candig/{}/{partial}", id(1)),
        format!("candig/{}/{partial}", id(2)),
        format!("candig/{}/db.dump", id(3)),
        format!("candig/{}/foreign/file", id(3)),
        format!("other/{}/db.dump", id(4)),
        "candig/notes.txt".to_owned(),
    ] {
        place.plant(&planted, b"x").await;
    }
    place.age();
    let removed = repository.sweep("candig").await.unwrap();
    assert_eq!(removed.len(), 5, "{removed:#?}");
    assert_eq!(
        place.names().await,
        [
            "candig/".to_owned(),
            format!("candig/{}/", id(1)),
            format!("candig/{}/db.dump", id(1)),
            format!("candig/{}/manifest.json", id(1)),
            format!("candig/{}/", id(3)),
            format!("candig/{}/foreign/", id(3)),
            format!("candig/{}/foreign/file", id(3)),
            "candig/notes.txt".to_owned(),
            "other/".to_owned(),
            format!("other/{}/", id(4)),
            format!("other/{}/db.dump", id(4)),
        ]
    );
}

#[tokio::test]
async fn one_young_file_protects_its_whole_snapshot_from_a_sweep() {
    let place = Local::new();
    let repository = place.repository();
    repository.prepare().await.unwrap();
    let early = path("candig", &id(1), "early.dump");
    repository.put(&early, body("rows")).await.unwrap();
    place.age();
    let late = path("candig", &id(1), "late.dump");
    repository.put(&late, body("rows")).await.unwrap();
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_sweep_keeps_what_a_later_manifest_names() {
    let place = Local::new();
    let earlier = place.save(1).await;
    let repository = place.repository();
    let layer = path("candig", &id(1), "db.dump");
    let later = manifest("candig", &id(2), vec![artifact(layer.clone(), "rows")]);
    repository.commit(&later).await.unwrap();
    repository.remove(&earlier, &[]).await.unwrap();
    place.age();
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
    assert!(repository.open(&layer).await.is_ok());
}

#[tokio::test]
async fn a_sweep_removes_no_object_while_a_manifest_cannot_be_read() {
    let place = Local::new();
    place.save(1).await;
    let repository = place.repository();
    let leftover = path("candig", &id(2), "db.dump");
    repository.put(&leftover, body("rows")).await.unwrap();
    let unreadable = format!("candig/{}/manifest.json", id(1));
    place.plant(&unreadable, br#"{"format": 99}"#).await;
    place.age();
    assert_eq!(repository.sweep("candig").await.unwrap(), [""; 0]);
    assert!(repository.open(&leftover).await.is_ok());
}

/// A file system of 1 MiB, or read-only, for as long as this lives. Needs root and the right to mount.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "cofferdam-test"])
            .arg(place.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: this user may not mount a file system");
        }
        mounted.then_some(Self(place))
    }

    fn repository(&self) -> LocalRepository {
        LocalRepository::new(self.0.path())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_says_how_far_it_came_and_leaves_nothing() {
    let Some(mounted) = Mounted::new("size=1m") else {
        return;
    };
    let repository = mounted.repository();
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "db.dump");
    let error = repository
        .put(&object, body(vec![7; 4 * 1024 * 1024]))
        .await
        .unwrap_err()
        .to_string();
    let told = error.replace(&mounted.0.path().display().to_string(), "/backups");
    // How much fits depends on the kernel.
    let (before, after) = told.split_once(" KiB of it").unwrap_or((&told, ""));
    let before = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    insta::assert_snapshot!(format!("{before}[some] KiB of it{after}"), @"cannot write /backups/candig/20261101T020000Z-9f2c61aa/db.dump: No space left on device (os error 28); [some] KiB of it were written and have been removed again; make room there, or name another place");
    assert!(
        walk(mounted.0.path())
            .iter()
            .all(|name| name.ends_with('/'))
    );
    repository.put(&object, body("rows")).await.unwrap();
}

#[tokio::test]
async fn a_read_only_place_is_refused_before_anything_is_dumped() {
    let Some(mounted) = Mounted::new("size=1m,ro") else {
        return;
    };
    let error = mounted
        .repository()
        .prepare()
        .await
        .unwrap_err()
        .to_string();
    let told = error.replace(&mounted.0.path().display().to_string(), "/backups");
    insta::assert_snapshot!(told, @"cannot create /backups/cofferdam.json: Read-only file system (os error 30); it is mounted read-only; mount it writable");
}
