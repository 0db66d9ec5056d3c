use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn place() -> (tempfile::TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path()).unwrap();
    (temporary, directory)
}

fn names(directory: &Directory) -> Vec<String> {
    let entries = directory.entries().unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name.into_string().unwrap())
        .collect()
}

fn sealed(directory: &Directory, name: &str, content: &[u8]) -> Sealed {
    let mut partial = directory.begin(name).unwrap();
    partial.append(content).unwrap();
    partial.seal().unwrap()
}

#[test]
fn a_file_appears_whole_and_stays_only_when_it_is_kept() {
    let (_temporary, directory) = place();
    let mut partial = directory.begin("dump").unwrap();
    partial.append(b"rows").unwrap();
    let hidden = names(&directory);
    assert_eq!(hidden.len(), 1);
    assert!(is_partial_name(&hidden[0]), "{hidden:?}");
    let sealed = partial.seal().unwrap();
    assert_eq!(names(&directory), hidden);
    let published = sealed.publish().unwrap();
    assert_eq!(names(&directory), ["dump"]);
    published.keep();
    let (mut file, length) = directory.file("dump").unwrap().unwrap();
    assert_eq!(length, 4);
    assert_eq!(io::read_to_string(&mut file).unwrap(), "rows");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_dropped_on_the_way_leaves_nothing() {
    let (_temporary, directory) = place();
    drop(directory.begin("dump").unwrap());
    assert!(names(&directory).is_empty());
    drop(sealed(&directory, "dump", b"rows"));
    assert!(names(&directory).is_empty());
    drop(sealed(&directory, "dump", b"rows").publish().unwrap());
    assert!(names(&directory).is_empty());
}

#[test]
fn a_file_is_replaced_whole() {
    let (temporary, directory) = place();
    sealed(&directory, "state", b"old").replace().unwrap();
    drop(sealed(&directory, "state", b"half"));
    let read = || std::fs::read_to_string(temporary.path().join("state")).unwrap();
    assert_eq!(read(), "old");
    sealed(&directory, "state", b"new").replace().unwrap();
    assert_eq!(read(), "new");
    assert_eq!(names(&directory), ["state"]);
}

#[test]
fn what_is_for_everyone_can_be_read_by_everyone() {
    let (temporary, directory) = place();
    let directory = directory.for_readers(Readers::Everyone);
    let child = directory.child_or_create("shop").unwrap();
    sealed(&child, "state", b"ok").replace().unwrap();
    for (name, expected) in [("shop", 0o755), ("shop/state", 0o644)] {
        let metadata = std::fs::metadata(temporary.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{name}");
    }
}

#[test]
fn a_taken_name_is_never_written_over() {
    let (temporary, directory) = place();
    sealed(&directory, "dump", b"old").publish().unwrap().keep();
    let error = sealed(&directory, "dump", b"new").publish().unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(
        directory.claim_and_rename("whatever", "dump"),
        Err(Errno::EXIST)
    );
    assert_eq!(names(&directory), ["dump"]);
    assert_eq!(
        std::fs::read(temporary.path().join("dump")).unwrap(),
        b"old"
    );
}

#[test]
fn a_file_system_without_the_flag_is_served_too() {
    let (temporary, directory) = place();
    std::fs::write(temporary.path().join("hidden"), b"rows").unwrap();
    directory.claim_and_rename("hidden", "dump").unwrap();
    assert_eq!(names(&directory), ["dump"]);
    assert_eq!(
        std::fs::read(temporary.path().join("dump")).unwrap(),
        b"rows"
    );
    assert_eq!(
        directory.claim_and_rename("hidden", "other"),
        Err(Errno::NOENT)
    );
    assert_eq!(names(&directory), ["dump"], "the claim is given back");
}

#[test]
fn links_below_the_root_are_not_followed() {
    let (temporary, directory) = place();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("file"), b"secret").unwrap();
    symlink(elsewhere.path(), temporary.path().join("directory")).unwrap();
    symlink(elsewhere.path().join("file"), temporary.path().join("file")).unwrap();
    assert!(directory.child("directory").is_err());
    assert!(directory.child_or_create("directory").is_err());
    let error = directory.file("file").unwrap_err().to_string();
    assert!(error.contains("does not follow symbolic links"), "{error}");
    assert!(
        directory
            .entries()
            .unwrap()
            .iter()
            .all(|entry| entry.kind == Kind::Other)
    );
    assert!(Directory::open(&temporary.path().join("directory")).is_ok());
}

#[test]
fn a_pipe_in_a_files_place_does_not_hang() {
    let (temporary, directory) = place();
    let path = temporary.path().join("pipe");
    rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    let error = directory.file("pipe").unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn directories_are_made_with_those_above_them() {
    let (temporary, _) = place();
    let path = temporary.path().join("a/b/c");
    let made = Directory::open_or_create(&path).unwrap();
    assert_eq!(made.path(), path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    std::fs::write(temporary.path().join("file"), b"").unwrap();
    assert!(Directory::open_or_create(&temporary.path().join("file/x")).is_err());
}

#[test]
fn a_refusal_says_who_was_refused_and_what_mends_it() {
    let refused = FileError::new("create", PathBuf::from("/backups/x"), Errno::ACCESS);
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        refused.to_string(),
        format!(
            "cannot create /backups/x: Permission denied (os error 13); \
             Cofferdam runs as uid {uid}; give that user access, or run it as another user"
        )
    );
}

#[test]
fn only_our_hidden_names_are_known_as_such() {
    for (name, ours) in [
        (".cofferdam-0123456789abcdef.partial", true),
        (".cofferdam-0123456789ABCDEF.partial", false),
        (".cofferdam-0123.partial", false),
        (".cofferdam-.partial", false),
        ("cofferdam-0123456789abcdef.partial", false),
        (".nfs000000000001", false),
    ] {
        assert_eq!(is_partial_name(name), ours, "{name}");
    }
}

#[test]
fn what_is_mounted_is_not_a_containers_own() {
    let is_own = |path: &str| {
        Directory::open(Path::new(path))
            .unwrap()
            .is_in_container_layer()
    };
    let in_container =
        Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
    assert!(!is_own("/proc"));
    assert_eq!(is_own("/"), in_container);
}
