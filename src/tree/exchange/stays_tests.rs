//! What no snapshot holds, in trees that are replaced.

use std::fs as std_fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::target::{DriverKind, TargetId};
use crate::tree::fit::{ensure_fits, ensure_replaceable};
use crate::tree::odd_tree::touch;
use crate::tree::staging::staging_name;
use crate::tree::stays::Stays;
use crate::tree::unpack::Directories;

struct Scene {
    mount: TempDir,
    plan: StagingPlan,
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

impl Scene {
    fn new(place: &str, stays: Stays) -> Self {
        let mount = tempfile::tempdir().unwrap();
        std_fs::create_dir_all(mount.path().join(place)).unwrap();
        let plan = StagingPlan {
            project: "candig".to_owned(),
            run: "20261121T020000Z-9f2c61aa".parse().unwrap(),
            target: TargetId::new("app", DriverKind::Volume, "storage"),
            place: path(place),
            shape: TreeShape::Directory,
            mode: TreeRestore::Replace,
            selection: Vec::new(),
            companions: Vec::new(),
            stays,
        };
        Self { mount, plan }
    }

    fn live(&self, name: &str) -> PathBuf {
        let place = std::str::from_utf8(self.plan.place.as_bytes()).unwrap();
        self.mount.path().join(place).join(name)
    }

    fn mount(&self) -> OwnedFd {
        std_fs::File::open(self.mount.path()).unwrap().into()
    }

    fn name(&self) -> String {
        staging_name(&self.plan.run, &self.plan.target)
    }

    /// `saved` fills the new tree.
    fn load(&self, saved: impl Fn(&Path)) -> Result<()> {
        ensure_replaceable(&self.mount(), &self.plan)?;
        let mut staging = Staging::begin(self.mount(), self.plan.clone())?;
        saved(&self.mount.path().join(self.name()).join("new"));
        ensure_fits(&staging)?;
        staging.loaded(&Directories::new())
    }

    fn exchange(&self) -> Vec<String> {
        let (outcome, warnings) = exchange(&self.mount(), self.name().as_bytes()).unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert!(!self.mount.path().join(self.name()).exists());
        warnings
    }

    fn listed(&self) -> Vec<String> {
        let mut all: Vec<String> = walk(&self.live(""));
        all.sort();
        all
    }
}

fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in std_fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            found.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
            if entry.file_type().unwrap().is_dir() {
                ahead.push(path);
            }
        }
    }
    found
}

fn write(root: &Path, names: &[&str]) {
    for name in names {
        let file = root.join(name);
        std_fs::create_dir_all(file.parent().unwrap()).unwrap();
        std_fs::write(file, *name).unwrap();
    }
}

fn left_out(patterns: &[&str]) -> Stays {
    Stays {
        patterns: patterns.iter().map(|&text| text.to_owned()).collect(),
        ..Stays::default()
    }
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

#[test]
fn directories_above_what_stays_keep_their_time_when_they_are_not_in_the_snapshot() {
    for place in ["", "data"] {
        let scene = Scene::new(place, left_out(&["*.log"]));
        write(&scene.live(""), &["gone/a.log", "gone/extra", "kept/b"]);
        touch(&scene.live("gone"), 1_200_000_000, 9);
        scene.load(|new| write(new, &["kept/b", "kept/c"])).unwrap();
        assert_eq!(scene.exchange(), Vec::<String>::new());
        assert_eq!(
            scene.listed(),
            ["gone", "gone/a.log", "kept", "kept/b", "kept/c"]
        );
        assert_eq!(
            scene.live("gone").metadata().unwrap().mtime(),
            1_200_000_000
        );
    }
}

#[test]
fn what_the_snapshot_has_of_something_left_out_today_comes_back_only_where_nothing_is() {
    let scene = Scene::new("", left_out(&["/media/", "/one", "/link"]));
    write(&scene.live(""), &["media/film", "one"]);
    std::os::unix::fs::symlink("media", scene.live("link")).unwrap();
    std_fs::write(scene.live("one"), "now").unwrap();
    std_fs::write(scene.live("media/film"), "now").unwrap();
    let saved = |new: &Path| write(new, &["media/film", "media/older", "one", "two", "link/x"]);
    scene.load(saved).unwrap();
    let warnings = scene.exchange();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("link: a pattern leaves it out"));
    assert!(warnings[1].starts_with("one: a pattern leaves it out"));
    assert_eq!(
        scene.listed(),
        ["link", "media", "media/film", "media/older", "one", "two"]
    );
    for name in ["one", "media/film"] {
        assert_eq!(std_fs::read_to_string(scene.live(name)).unwrap(), "now");
    }
}

#[test]
fn what_would_have_to_go_for_a_file_is_found_before_the_decision() {
    for (mode, selection) in [
        (TreeRestore::Replace, vec![]),
        (TreeRestore::Replace, vec![path("a")]),
        (TreeRestore::Overlay, vec![]),
    ] {
        let mut scene = Scene::new("", left_out(&["*.log"]));
        scene.plan.mode = mode;
        scene.plan.selection = selection;
        write(&scene.live(""), &["a/b/c.log"]);
        let error = scene.load(|new| write(new, &["a"])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a is not a directory in the snapshot"),
            "{error}"
        );
        super::super::staging::discard(&scene.mount(), scene.name().as_bytes()).unwrap();
        assert_eq!(scene.listed(), ["a", "a/b", "a/b/c.log"]);
    }
}

#[test]
fn what_cannot_be_reached_or_was_chosen_although_left_out_is_refused_at_once() {
    let mut scene = Scene::new("", left_out(&["/media/"]));
    write(&scene.live(""), &["file", "media/film"]);
    for (chosen, words) in [
        ("file/below", "file is not a directory now"),
        ("media/film", "media/film is left out by a pattern"),
    ] {
        scene.plan.selection = vec![path(chosen)];
        let error = scene.load(|_| unreachable!()).unwrap_err();
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(scene.listed(), ["file", "media", "media/film"]);
    }
    // What is gone comes back.
    std_fs::remove_file(scene.live("media/film")).unwrap();
    scene.load(|new| write(new, &["media/film"])).unwrap();
    assert_eq!(scene.exchange(), Vec::<String>::new());
    assert_eq!(scene.listed(), ["file", "media", "media/film"]);
}

#[test]
fn sockets_stay_until_something_takes_their_place() {
    let scene = Scene::new("data", Stays::default());
    write(&scene.live(""), &["run/extra", "x/y", "z/y"]);
    for name in ["run/socket", "taken", "z/socket"] {
        drop(UnixListener::bind(scene.live(name)).unwrap());
    }
    scene
        .load(|new| write(new, &["taken", "run/file", "z"]))
        .unwrap();
    assert_eq!(scene.exchange(), Vec::<String>::new());
    assert_eq!(
        scene.listed(),
        ["run", "run/file", "run/socket", "taken", "z"]
    );
    let socket = scene.live("run/socket").symlink_metadata().unwrap();
    assert!(socket.file_type().is_socket());
    assert!(scene.live("z").is_file() && scene.live("taken").is_file());
}

#[test]
fn what_is_mounted_somewhere_stays_the_same_directory() {
    let stays = Stays {
        mounts: vec![path("a/sub"), path("only-now/sub")],
        anchors: vec![path(""), path("part")],
        ..Stays::default()
    };
    let scene = Scene::new("data", stays);
    write(
        &scene.live(""),
        &["a/extra", "part/extra", "part/b", "only-now/x"],
    );
    for name in ["a/sub", "only-now/sub"] {
        std_fs::create_dir(scene.live(name)).unwrap();
    }
    let same = ["", "a", "a/sub", "part", "only-now/sub"];
    let before = same.map(|name| inode(&scene.live(name)));
    scene
        .load(|new| {
            write(new, &["a/b", "part/b", "part/c"]);
            std_fs::create_dir(new.join("a/sub")).unwrap();
        })
        .unwrap();
    assert_eq!(scene.exchange(), Vec::<String>::new());
    assert_eq!(
        scene.listed(),
        [
            "a",
            "a/b",
            "a/sub",
            "only-now",
            "only-now/sub",
            "part",
            "part/b",
            "part/c"
        ]
    );
    assert_eq!(same.map(|name| inode(&scene.live(name))), before);
}

#[test]
fn an_old_tree_that_cannot_be_removed_whole_is_told_and_tried_again() {
    let scene = Scene::new("", Stays::default());
    write(&scene.live(""), &["old/file"]);
    scene.load(|new| write(new, &["new"])).unwrap();
    let file = scene.live("old/file");
    if !is_lockable(&file) {
        return;
    }
    // Since the restore has looked at it, somebody has locked it.
    lock(&file, true);
    let (outcome, warnings) = exchange(&scene.mount(), scene.name().as_bytes()).unwrap();
    let aside = walk(&scene.live(""))
        .into_iter()
        .find(|path| path.ends_with("-old/file"))
        .unwrap();
    lock(&scene.live(&aside), false);
    assert_eq!(outcome, Outcome::Done);
    assert!(warnings[0].contains("could not be removed"), "{warnings:?}");
    assert!(scene.live("new").exists());
    let later = "20261122T020000Z-00000001".parse().unwrap();
    super::super::staging::sweep(&scene.mount(), "candig", &later).unwrap();
    assert_eq!(scene.listed(), ["new"]);
}

#[test]
fn what_is_locked_is_found_before_anything_is_touched() {
    let scene = Scene::new("data", left_out(&["/kept"]));
    write(&scene.live(""), &["etc/resolv.conf", "kept/locked"]);
    let (locked, kept) = (scene.live("etc/resolv.conf"), scene.live("kept/locked"));
    if !is_lockable(&locked) {
        return;
    }
    lock(&locked, true);
    lock(&kept, true);
    let refused = scene.load(|_| unreachable!());
    lock(&locked, false);
    let loaded = scene.load(|new| write(new, &["etc/resolv.conf"]));
    let warnings = loaded.map(|()| scene.exchange());
    lock(&kept, false);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("etc/resolv.conf") && error.contains("chattr -i"),
        "{error}"
    );
    assert_eq!(warnings.unwrap(), Vec::<String>::new());
    assert!(kept.exists());
}

/// Whether the file system has the flag, and this process may set it.
fn is_lockable(file: &Path) -> bool {
    let set = chattr("+i", file);
    let shows = set && {
        let parent = std_fs::File::open(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().as_encoded_bytes();
        fs::status(parent, name).unwrap().locked
    };
    chattr("-i", file);
    shows
}

fn lock(file: &Path, locked: bool) {
    assert!(chattr(if locked { "+i" } else { "-i" }, file));
}

fn chattr(flag: &str, file: &Path) -> bool {
    let done = std::process::Command::new("chattr")
        .arg(flag)
        .arg(file)
        .output();
    done.is_ok_and(|done| done.status.success())
}
