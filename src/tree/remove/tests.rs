use std::fs as std_fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::CWD;

use super::*;

fn removal(root: &Path) -> Removal {
    Removal::below(fs::open_directory(CWD, root.to_str().unwrap().as_bytes()).unwrap())
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

#[test]
fn links_are_removed_and_never_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
    std_fs::create_dir(&root).unwrap();
    std_fs::create_dir(&outside).unwrap();
    std_fs::write(outside.join("file"), "x").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let mut removal = removal(&root);
    // It was a directory when the list was made.
    assert_eq!(removal.entry(&path("link/file")).unwrap(), Removed::Nothing);
    assert_eq!(removal.entry(&path("link")).unwrap(), Removed::Other);
    assert!(outside.join("file").exists());
    assert!(root.join("link").symlink_metadata().is_err());
}

#[test]
fn a_directory_goes_only_when_it_is_empty() {
    let scratch = tempfile::tempdir().unwrap();
    std_fs::create_dir_all(scratch.path().join("a/b")).unwrap();
    std_fs::write(scratch.path().join("a/b/file"), "x").unwrap();
    let mut removal = removal(scratch.path());
    assert!(removal.entry(&path("a/b")).is_err());
    assert_eq!(removal.entry(&path("a/b/file")).unwrap(), Removed::Other);
    assert_eq!(removal.entry(&path("a/b")).unwrap(), Removed::Directory);
    assert_eq!(removal.entry(&path("a/b/file")).unwrap(), Removed::Nothing);
    assert_eq!(removal.entry(&path("a/b")).unwrap(), Removed::Nothing);
    assert!(removal.entry(&TreePath::root()).is_err());
    assert!(scratch.path().join("a").exists());
}

#[test]
fn another_mount_is_not_entered() {
    let root = removal(Path::new("/"));
    let mut removal = root;
    let error = removal.entry(&path("proc/no-such-entry")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::BUSY), "{error}");
}
