//! Restores that are stopped before every single change they make, and what the next process makes of it.

use std::fs::{self as std_fs, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::target::{DriverKind, RunId, TargetId};
use crate::tree::ahead::Opening;
use crate::tree::change::fault::{stopped_after, without_exchange};
use crate::tree::exclude::Excludes;
use crate::tree::odd_tree::{Description, assert_same, describe, differences, touch};
use crate::tree::pack::{Source, pack};
use crate::tree::staging::{StagingPlan, discard, staging_name, sweep};
use crate::tree::stays::Stays;
use crate::tree::unpack::{Selection, UnpackOptions, Unpacker};

/// One kind of restore, played on a small mount.
struct Scenario {
    place: &'static str,
    mode: TreeRestore,
    selection: &'static [&'static str],
    /// What there is when the restore begins, below the place: later than, and different from, what was saved.
    live: fn(&Path),
    single_file: bool,
    /// What stays.
    patterns: &'static [&'static str],
}

const WHOLE: Scenario = Scenario {
    place: "",
    mode: TreeRestore::Replace,
    selection: &[],
    live: changed,
    single_file: false,
    patterns: &[],
};

fn scenarios() -> Vec<(&'static str, Scenario)> {
    let at_place = Scenario {
        place: "data/app",
        ..WHOLE
    };
    vec![
        ("replace a mount", WHOLE),
        (
            "replace an empty mount",
            Scenario {
                live: |_| {},
                ..WHOLE
            },
        ),
        ("replace below a mount", at_place),
        (
            "replace what is gone",
            Scenario {
                place: "data/app",
                live: gone,
                ..WHOLE
            },
        ),
        (
            "replace what became a file",
            Scenario {
                place: "data/app",
                live: became_a_file,
                ..WHOLE
            },
        ),
        (
            "overlay a mount",
            Scenario {
                mode: TreeRestore::Overlay,
                ..WHOLE
            },
        ),
        (
            "overlay below a mount",
            Scenario {
                place: "data/app",
                mode: TreeRestore::Overlay,
                ..WHOLE
            },
        ),
        (
            "keep a mount's",
            Scenario {
                mode: TreeRestore::KeepExisting,
                ..WHOLE
            },
        ),
        (
            "keep below a mount",
            Scenario {
                place: "data/app",
                mode: TreeRestore::KeepExisting,
                ..WHOLE
            },
        ),
        (
            "select",
            Scenario {
                selection: &["both", "only-saved/deep", "turned"],
                ..WHOLE
            },
        ),
        (
            "select below",
            Scenario {
                place: "data/app",
                selection: &["both/file"],
                ..WHOLE
            },
        ),
        (
            "select, overlay",
            Scenario {
                mode: TreeRestore::Overlay,
                selection: &["both", "turned"],
                ..WHOLE
            },
        ),
        (
            "select, keep",
            Scenario {
                mode: TreeRestore::KeepExisting,
                selection: &["both"],
                ..WHOLE
            },
        ),
        (
            "replace a mount around what is left out",
            Scenario {
                live: with_caches,
                patterns: &["cache/"],
                ..WHOLE
            },
        ),
        (
            "replace below a mount around what is left out",
            Scenario {
                place: "data/app",
                live: with_caches,
                patterns: &["cache/"],
                ..WHOLE
            },
        ),
        (
            "select around what is left out",
            Scenario {
                selection: &["both", "turned-round"],
                live: with_caches,
                patterns: &["cache/", "/extra"],
                ..WHOLE
            },
        ),
        (
            "overlay around what is left out",
            Scenario {
                mode: TreeRestore::Overlay,
                live: with_caches,
                patterns: &["cache/"],
                ..WHOLE
            },
        ),
        (
            "a file",
            Scenario {
                place: "data/app/both/file",
                single_file: true,
                ..WHOLE
            },
        ),
        (
            "a file that is gone",
            Scenario {
                place: "data/app/only-saved/deep/file",
                single_file: true,
                ..WHOLE
            },
        ),
        (
            "a file, kept",
            Scenario {
                place: "data/app/both/file",
                single_file: true,
                mode: TreeRestore::KeepExisting,
                ..WHOLE
            },
        ),
    ]
}

fn saved(root: &Path) {
    for directory in ["both/below", "only-saved/deep", "turned-round"] {
        std_fs::create_dir_all(root.join(directory)).unwrap();
    }
    for name in [
        "both/file",
        "both/below/file",
        "only-saved/deep/file",
        "turned",
        "a",
    ] {
        std_fs::write(root.join(name), format!("saved {name}")).unwrap();
        touch(&root.join(name), 1_000_000_000, 5);
    }
    std_fs::hard_link(root.join("a"), root.join("both/a-too")).unwrap();
    symlink("both", root.join("link")).unwrap();
    let mode = std_fs::Permissions::from_mode(0o2711);
    std_fs::set_permissions(root.join("both"), mode).unwrap();
    for name in ["both/below", "both", "only-saved/deep", "only-saved", ""] {
        touch(&root.join(name), 1_100_000_000, 7);
    }
}

fn changed(root: &Path) {
    for directory in ["both/below", "extra/deep", "turned/into/a/directory"] {
        std_fs::create_dir_all(root.join(directory)).unwrap();
    }
    for name in [
        "both/file",
        "both/below/extra",
        "extra/deep/file",
        "turned-round",
        "b",
    ] {
        std_fs::write(root.join(name), format!("changed {name}")).unwrap();
    }
    std_fs::hard_link(root.join("b"), root.join("extra/b-too")).unwrap();
    symlink("elsewhere", root.join("link")).unwrap();
    for name in ["both/below", "both", "extra", ""] {
        touch(&root.join(name), 1_200_000_000, 9);
    }
}

/// The directories above what is left out are in the snapshot, or are not.
fn with_caches(root: &Path) {
    changed(root);
    for directory in [
        "cache",
        "both/below/cache/deep",
        "extra/deep/cache",
        "both/new/cache",
    ] {
        std_fs::create_dir_all(root.join(directory)).unwrap();
        std_fs::write(root.join(directory).join("file"), directory).unwrap();
    }
}

fn gone(root: &Path) {
    std_fs::remove_dir_all(root.parent().unwrap()).unwrap();
}

fn became_a_file(root: &Path) {
    std_fs::remove_dir(root).unwrap();
    std_fs::write(root, "a file").unwrap();
}

struct Play<'a> {
    scenario: &'a Scenario,
    space: TempDir,
    plan: StagingPlan,
    /// What a rollback must bring back.
    before: Description,
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        // Thousands of restores, each of which waits for the disk: in memory, where there is such a place.
        let space = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let (mount, source) = (space.path().join("mount"), space.path().join("source"));
        std_fs::create_dir(&source).unwrap();
        saved(&source);
        let tree_place = match scenario.single_file {
            true => "data/app",
            false => scenario.place,
        };
        let live = mount.join(tree_place);
        std_fs::create_dir_all(&live).unwrap();
        (scenario.live)(&live);
        if !tree_place.is_empty() {
            std_fs::write(mount.join("beside"), "not a part of it").unwrap();
        }
        touch(&mount, 1_300_000_000, 11);
        let plan = StagingPlan {
            project: "candig".to_owned(),
            run: "20261121T020000Z-9f2c61aa".parse().unwrap(),
            target: TargetId::new("app", DriverKind::Volume, "storage"),
            place: TreePath::parse(scenario.place.as_bytes()).unwrap(),
            shape: match scenario.single_file {
                true => TreeShape::File,
                false => TreeShape::Directory,
            },
            mode: scenario.mode,
            selection: paths(scenario.selection),
            companions: Vec::new(),
            stays: Stays {
                patterns: scenario
                    .patterns
                    .iter()
                    .map(|&text| text.to_owned())
                    .collect(),
                ..Stays::default()
            },
        };
        Self {
            before: describe(&mount),
            scenario,
            space,
            plan,
        }
    }

    fn mount_path(&self) -> PathBuf {
        self.space.path().join("mount")
    }

    fn mount(&self) -> OwnedFd {
        File::open(self.mount_path()).unwrap().into()
    }

    fn name(&self) -> Vec<u8> {
        staging_name(&self.plan.run, &self.plan.target).into_bytes()
    }

    fn archive(&self) -> Vec<u8> {
        let source = self.space.path().join("source");
        let source = match self.scenario.single_file {
            true => {
                let file = source.join(self.scenario.place.strip_prefix("data/app/").unwrap());
                Source::Single {
                    directory: File::open(file.parent().unwrap()).unwrap().into(),
                    name: b"file".to_vec(),
                    saved_as: b"named-as-it-was-then".to_vec(),
                }
            }
            false => Source::Directory(File::open(source).unwrap().into(), Opening::Ahead),
        };
        let mut archive = Vec::new();
        pack(source, &Excludes::default(), &mut archive, &mut |_| Ok(())).unwrap();
        archive
    }

    fn load(&self) -> Result<()> {
        let mut staging = Staging::begin(self.mount(), self.plan.clone())?;
        let options = UnpackOptions {
            selection: Selection {
                paths: self.plan.selection.clone(),
                // `both/a-too` is another name of `a`.
                aliases: [("a", "both/a-too")]
                    .map(|(from, to)| (paths(&[from]).remove(0), paths(&[to]).remove(0)))
                    .into_iter()
                    .filter(|(_, to)| {
                        !self.plan.selection.is_empty()
                            && Selection {
                                paths: self.plan.selection.clone(),
                                ..Selection::default()
                            }
                            .contains(to)
                    })
                    .collect(),
            },
            ..UnpackOptions::default()
        };
        let mut unpacker = Unpacker::new(staging.new_tree()?, options);
        unpacker.layer(self.archive().as_slice())?;
        staging.loaded(&unpacker.finish()?.directories)
    }

    fn exchange(&self) -> Result<Outcome> {
        exchange(&self.mount(), &self.name()).map(|(outcome, warnings)| {
            assert_eq!(warnings, Vec::<String>::new());
            outcome
        })
    }

    fn discard(&self) -> Result<()> {
        discard(&self.mount(), &self.name()).map(|left| assert_eq!(left, Vec::<String>::new()))
    }

    /// What the mount has to look like after the restore, from what was saved and what is live, by rules of its own.
    fn expected(&self) -> Description {
        let saved = describe(&self.space.path().join("source"));
        let below = |path: &str| {
            if path.is_empty() {
                self.scenario.place.to_owned()
            } else if self.scenario.place.is_empty() {
                path.to_owned()
            } else {
                format!("{}/{path}", self.scenario.place)
            }
        };
        let chosen = |path: &str| {
            let selection = self.scenario.selection;
            selection.is_empty() || selection.iter().any(|wanted| is_within(path, wanted))
        };
        let mut expected = self.before.clone();
        let excludes = Excludes::new(self.scenario.patterns).unwrap();
        let place = paths(&[self.scenario.place]).remove(0);
        let left_out: Vec<String> = self
            .before
            .iter()
            .filter(|(path, text)| {
                let path = paths(&[path]).remove(0).below(&place);
                path.is_some_and(|path| excludes.covers(&path, text.starts_with("mode=4")))
            })
            .map(|(path, _)| path.clone())
            .collect();
        // Itself, and all directories above it.
        let stays = |known: &str| left_out.iter().any(|path| is_within(path, known));
        // Directories on the way that are gone are made again.
        let mut above = self.plan.place.clone();
        while let Some((parent, _)) = above.split_last() {
            let made = "mode=40755 owner=0:0 mtime=now".to_owned();
            expected.entry(parent.encode()).or_insert(made);
            above = parent;
        }
        if self.scenario.single_file {
            let name = self.scenario.place.strip_prefix("data/app/").unwrap();
            if self.scenario.mode != TreeRestore::KeepExisting
                || !expected.contains_key(self.scenario.place)
            {
                expected.insert(self.scenario.place.to_owned(), saved[name].clone());
            }
            return expected;
        }
        for (path, text) in &saved {
            let live_path = below(path);
            let selection = self.scenario.selection;
            if selection.iter().any(|wanted| is_within(wanted, path)) {
                expected
                    .entry(live_path.clone())
                    .or_insert_with(|| text.clone());
            }
            if !chosen(path) {
                continue;
            }
            match self.scenario.mode {
                TreeRestore::Replace => {
                    let is_unit =
                        path.is_empty() || self.scenario.selection.contains(&path.as_str());
                    if is_unit {
                        expected.retain(|known, _| {
                            !is_within(known, &live_path)
                                || known.contains(".cofferdam")
                                || stays(known)
                        });
                    }
                    expected.insert(live_path, text.clone());
                }
                TreeRestore::Overlay => {
                    let is_directory = |text: &str| text.starts_with("mode=4");
                    if !is_directory(text)
                        || expected
                            .get(&live_path)
                            .is_some_and(|present| !is_directory(present))
                    {
                        expected.retain(|known, _| !is_within(known, &live_path));
                    }
                    expected.insert(live_path, text.clone());
                }
                TreeRestore::KeepExisting => {
                    let blocked = expected.iter().any(|(known, text)| {
                        is_within(&live_path, known) && !text.starts_with("mode=4")
                    });
                    if !blocked {
                        expected.entry(live_path).or_insert_with(|| text.clone());
                    }
                }
            }
        }
        expected
    }
}

fn paths(texts: &[&str]) -> Vec<TreePath> {
    texts
        .iter()
        .map(|text| TreePath::parse(text.as_bytes()).unwrap())
        .collect()
}

fn is_within(path: &str, directory: &str) -> bool {
    let directory = TreePath::parse(directory.as_bytes()).unwrap();
    TreePath::parse(path.as_bytes())
        .unwrap()
        .is_within(&directory)
}

/// Without what no rule of ours speaks of: the times of directories into which something was put, or which had to be
/// made, and link groups that a selection or a merge cuts.
fn comparable(description: &Description, play: &Play<'_>) -> Description {
    let is_exact = play.scenario.mode == TreeRestore::Replace
        && play.scenario.patterns.is_empty()
        && play.scenario.selection.is_empty()
        && !play.scenario.single_file;
    let place = play.scenario.place;
    description
        .iter()
        .map(|(path, text)| {
            let is_above = !place.is_empty() && is_within(place, path) && path != place;
            // Link groups name paths from the mount's root; what was saved has them from the tree's.
            let text = text.replace(&format!("\"{place}/"), "\"");
            let mut words: Vec<&str> = text.split(' ').collect();
            if let Some(at) = words.iter().position(|word| word.starts_with("links="))
                && !is_exact
            {
                words.truncate(at);
            }
            let is_directory = text.starts_with("mode=4");
            if is_directory && (is_above || !is_exact) {
                words.retain(|word| !word.starts_with("mtime="));
            }
            (path.clone(), words.join(" "))
        })
        .collect()
}

#[track_caller]
fn assert_restored(play: &Play<'_>) {
    let found = describe(&play.mount_path());
    assert!(!found.keys().any(|path| path.starts_with(".cofferdam")));
    assert_same(
        &comparable(&play.expected(), play),
        &comparable(&found, play),
    );
}

/// A kill between the last change in the mount's root and the setting of its time leaves it with the wrong one.
fn differences_to_new(play: &Play<'_>) -> Vec<String> {
    let mut found = comparable(&describe(&play.mount_path()), play);
    let mut expected = comparable(&play.expected(), play);
    forget_time_of_root(&mut found);
    forget_time_of_root(&mut expected);
    differences(&expected, &found)
}

fn differences_to_old(play: &Play<'_>) -> Vec<String> {
    let mut found = describe(&play.mount_path());
    let mut before = play.before.clone();
    forget_time_of_root(&mut found);
    forget_time_of_root(&mut before);
    differences(&before, &found)
}

#[track_caller]
fn assert_restored_after_a_kill(play: &Play<'_>) {
    assert_eq!(differences_to_new(play), Vec::<String>::new());
}

#[track_caller]
fn assert_untouched_after_a_kill(play: &Play<'_>) {
    assert_eq!(differences_to_old(play), Vec::<String>::new());
}

fn forget_time_of_root(description: &mut Description) {
    let root = description.get_mut("").unwrap();
    let words = root.split(' ').filter(|word| !word.starts_with("mtime="));
    *root = words.collect::<Vec<_>>().join(" ");
}

#[track_caller]
fn assert_untouched(play: &Play<'_>) {
    assert_same(&play.before, &describe(&play.mount_path()));
}

#[test]
fn each_way_of_restoring_gives_what_it_says() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        let play = Play::new(&scenario);
        play.load().unwrap();
        let mut staged = describe(&play.mount_path());
        staged.retain(|path, _| !path.starts_with(".cofferdam"));
        assert_same(&play.before, &staged);
        assert_eq!(play.exchange().unwrap(), Outcome::Done);
        assert_restored(&play);
        assert_eq!(play.exchange().unwrap(), Outcome::Nothing);
        assert_restored(&play);
    }
}

#[test]
fn a_discarded_restore_leaves_no_trace() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        let play = Play::new(&scenario);
        play.load().unwrap();
        play.discard().unwrap();
        assert_untouched(&play);
        play.discard().unwrap();
        assert_eq!(play.exchange().unwrap(), Outcome::Nothing);
        assert_untouched(&play);
    }
}

/// Stops `act` before its first change, its second, and so on until it comes through.
fn at_every_step(mut act: impl FnMut(u32) -> Result<bool>) {
    for step in 0.. {
        assert!(step < 500, "it never ends");
        if act(step).unwrap() {
            assert!(step > 3, "there was nothing to stop");
            return;
        }
    }
}

fn came_through<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(TreeError::Stopped) => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn a_load_stopped_anywhere_is_discarded_without_a_trace() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        at_every_step(|step| {
            let play = Play::new(&scenario);
            let done = came_through(stopped_after(step, || play.load()))?;
            if !done {
                match play.exchange() {
                    Err(TreeError::Staging { .. }) | Ok(Outcome::Nothing) => {}
                    // All was written but the last word on it, that this has reached the disk.
                    Ok(Outcome::Done) => {
                        assert_restored_after_a_kill(&play);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            play.discard()?;
            assert_untouched_after_a_kill(&play);
            Ok(done)
        });
    }
}

#[test]
fn a_discard_stopped_anywhere_is_finished_by_the_next() {
    let scenario = WHOLE;
    at_every_step(|step| {
        let play = Play::new(&scenario);
        play.load()?;
        let done = came_through(stopped_after(step, || play.discard()))?;
        play.discard()?;
        assert_untouched_after_a_kill(&play);
        Ok(done)
    });
}

#[test]
fn an_exchange_stopped_anywhere_is_finished_by_the_next_or_discarded() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        at_every_step(|step| {
            let play = Play::new(&scenario);
            play.load()?;
            let done = came_through(stopped_after(step, || play.exchange()))?;
            play.exchange()?;
            assert_restored_after_a_kill(&play);

            let play = Play::new(&scenario);
            play.load()?;
            let _ = stopped_after(step, || play.exchange());
            match play.discard() {
                Ok(()) if done => assert_restored(&play),
                // Before the decision; or when only the time of the mount's root was still to be set.
                Ok(()) => {
                    let from_old = differences_to_old(&play);
                    let from_new = differences_to_new(&play);
                    assert!(
                        from_old.is_empty() || from_new.is_empty(),
                        "neither old nor new:\n{from_old:#?}\n{from_new:#?}"
                    );
                }
                Err(TreeError::Staging { .. }) => {
                    play.exchange()?;
                    assert_restored_after_a_kill(&play);
                }
                Err(error) => return Err(error),
            }
            Ok(done)
        });
    }
}

#[test]
fn an_exchange_may_be_stopped_twice() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        // Every other first step is enough: where the second ones begin moves along.
        at_every_step(|turn| {
            let mut all_done = false;
            for second in (turn % 13..200).step_by(13) {
                let play = Play::new(&scenario);
                play.load()?;
                all_done = came_through(stopped_after(turn * 2, || play.exchange()))?;
                let done = came_through(stopped_after(second, || play.exchange()))?;
                play.exchange()?;
                assert_restored_after_a_kill(&play);
                if done {
                    break;
                }
            }
            Ok(all_done)
        });
    }
}

#[test]
fn a_file_system_without_exchange_gets_there_by_two_renames() {
    for (name, scenario) in scenarios() {
        println!("{name}");
        without_exchange(|| {
            at_every_step(|step| {
                let play = Play::new(&scenario);
                play.load()?;
                let done = came_through(stopped_after(step, || play.exchange()))?;
                play.exchange()?;
                assert_restored_after_a_kill(&play);
                Ok(done)
            });
        });
    }
}

#[test]
fn leftovers_of_earlier_runs_are_dealt_with() {
    let other_run: RunId = "20261122T020000Z-00000001".parse().unwrap();
    let play = Play::new(&WHOLE);
    play.load().unwrap();
    sweep(&play.mount(), "another-project", &other_run).unwrap();
    sweep(&play.mount(), "candig", &play.plan.run).unwrap();
    assert!(
        play.mount_path()
            .join(String::from_utf8(play.name()).unwrap())
            .exists()
    );
    sweep(&play.mount(), "candig", &other_run).unwrap();
    assert_untouched(&play);

    // A decided one is finished.
    let play = Play::new(&WHOLE);
    play.load().unwrap();
    assert!(stopped_after(6, || play.exchange()).is_err());
    sweep(&play.mount(), "candig", &other_run).unwrap();
    assert_restored_after_a_kill(&play);
}

#[test]
fn what_an_application_writes_after_the_decision_does_not_stop_it() {
    let play = Play::new(&WHOLE);
    play.load().unwrap();
    at_every_step(|step| {
        let play = Play::new(&WHOLE);
        play.load()?;
        let done = came_through(stopped_after(step, || play.exchange()))?;
        std_fs::write(play.mount_path().join("both-new"), "by an application").unwrap();
        play.exchange()?;
        Ok(done)
    });
}
