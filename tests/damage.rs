//! Repositories in which something is broken, and what every command makes of them: what is damaged is named, nothing good
//! is deleted, and nothing bad is restored.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, SystemTime};

use crate::support::planted::{Files, Planted, SAVED, files_below};
use crate::support::stack::{Run, TestStack};
use serde_json::{Value, json};

const LIST: &[&str] = &["list"];
const VERIFY: &[&str] = &["verify"];
const READ: &[&str] = &["verify", "--read"];
const CHECK: &[&str] = &["check", "--max-age", "26h", "--no-status"];
/// Of the three snapshots, the oldest goes.
const PRUNE: &[&str] = &["prune", "--keep", "last=2"];

/// The same damage in a directory and in a bucket.
fn everywhere(damage: impl Fn(&mut Files), meets: impl Fn(&Planted)) {
    meets(&Planted::in_directory(&damage));
    meets(&Planted::in_bucket(&damage));
}

fn newest_manifest() -> String {
    SAVED.path(SAVED.newest(), "manifest.json")
}

/// Changes the newest snapshot's manifest.
fn rewrite(files: &mut Files, change: impl FnOnce(&mut Value)) {
    let bytes = files.get_mut(&newest_manifest()).unwrap();
    let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut manifest);
    *bytes = manifest.to_string().into_bytes();
}

/// Every snapshot but the newest comes over, and is whole there.
fn copies_all_but_the_newest(planted: &Planted, words: &str) {
    let second = planted.second();
    let copy = planted.run(&["copy", "--copy-to", &second]);
    copy.expect_says(3, words);
    let listed = planted
        .run_at(&second, &["list", "--json"])
        .expect(0)
        .json();
    let there = listed.as_array().unwrap().iter();
    let there: Vec<&str> = there.map(|one| one["snapshot"].as_str().unwrap()).collect();
    assert_eq!(there, [&SAVED.ids[0], &SAVED.ids[1]]);
    planted.run_at(&second, READ).expect(0);
}

/// An object of the newest snapshot is not what the manifest says, as a look at the listing tells.
fn meets_an_object_that_does_not_fit(planted: &Planted, words: &str) {
    let newest = SAVED.newest();
    planted.meets(&[
        (LIST, 0, newest),
        (&["show", newest], 0, "db/postgres/clinical"),
        (VERIFY, 4, words),
        (READ, 4, words),
        (CHECK, 4, "db/postgres/clinical"),
        (&["verify", &SAVED.ids[1]], 0, "whole"),
        (PRUNE, 1, words),
    ]);
    planted.refuses_to_restore("latest", 1, words);
    planted.is_as_planted();
    copies_all_but_the_newest(planted, &SAVED.artifact("db"));
}

#[test]
fn an_artifact_that_was_cut() {
    let planted = Planted::in_directory(|files| {
        let artifact = files.get_mut(&SAVED.artifact("db")).unwrap();
        artifact.truncate(artifact.len() / 2);
    });
    meets_an_object_that_does_not_fit(&planted, "bytes, but");
}

#[test]
fn an_artifact_that_is_too_long() {
    let planted = Planted::in_directory(|files| {
        let artifact = files.get_mut(&SAVED.artifact("db")).unwrap();
        artifact.extend(b"more");
    });
    meets_an_object_that_does_not_fit(&planted, "bytes, but");
}

#[test]
fn an_artifact_that_is_missing() {
    everywhere(
        |files| drop(files.remove(&SAVED.artifact("db"))),
        |planted| meets_an_object_that_does_not_fit(planted, "is missing"),
    );
}

/// Only reading tells.
#[test]
fn a_bit_that_has_flipped() {
    let flip = |files: &mut Files| {
        for service in ["db", "app"] {
            let artifact = files.get_mut(&SAVED.artifact(service)).unwrap();
            let middle = artifact.len() / 2;
            artifact[middle] ^= 1;
        }
    };
    everywhere(flip, |planted| {
        let newest = SAVED.newest();
        let words = "has changed since it was stored";
        planted.meets(&[
            (LIST, 0, newest),
            (&["show", newest], 0, "db/postgres/clinical"),
            (VERIFY, 0, "whole"),
            (READ, 4, words),
            (CHECK, 0, "db/postgres/clinical"),
        ]);
        planted.refuses_to_restore("latest", 1, "SHA-256");
        planted.is_as_planted();
        copies_all_but_the_newest(planted, "is damaged: its SHA-256 is");
        planted.meets(&[(PRUNE, 0, "1 snapshot removed"), (READ, 4, words)]);
        planted.lacks_only(|path| path.contains(&SAVED.ids[0]));
        planted.restores_files(&SAVED.ids[1]);
    });
}

/// The newest manifest cannot be read: nobody knows what it names.
fn meets_an_unreadable_manifest(planted: &Planted, words: &str) {
    let newest = SAVED.newest();
    planted.meets(&[
        (LIST, 0, words),
        (LIST, 0, &SAVED.ids[0]),
        (&["show", newest], 1, words),
        (&["ls", newest, "app/*"], 1, words),
        (VERIFY, 4, words),
        (&["verify", &SAVED.ids[0]], 0, "whole"),
        (CHECK, 4, words),
        (PRUNE, 1, words),
        (PRUNE, 1, "remove its manifest.json by hand"),
    ]);
    planted.refuses_to_restore(newest, 1, words);
    planted.refuses_to_restore("latest", 1, words);
    planted.is_as_planted();
    copies_all_but_the_newest(planted, words);
}

#[test]
fn a_manifest_from_the_future() {
    let future = |files: &mut Files| {
        let future = json!({"format": 99, "targets": {"of": "another shape"}});
        files.insert(newest_manifest(), future.to_string().into_bytes());
    };
    everywhere(future, |planted| {
        meets_an_unreadable_manifest(planted, "use a newer cofferdam");
    });
}

#[test]
fn a_manifest_that_was_cut() {
    let planted = Planted::in_directory(|files| {
        let manifest = files.get_mut(&newest_manifest()).unwrap();
        manifest.truncate(manifest.len() / 2);
    });
    meets_an_unreadable_manifest(&planted, "the manifest is incomplete or malformed");
}

#[test]
fn a_manifest_that_is_empty() {
    let planted = Planted::in_directory(|files| {
        files.insert(newest_manifest(), Vec::new());
    });
    meets_an_unreadable_manifest(&planted, "the manifest is incomplete or malformed");
}

#[test]
fn a_manifest_that_names_objects_elsewhere() {
    for object in ["../../etc/passwd", "/etc/passwd", "a/../../../etc/passwd"] {
        let planted = Planted::in_directory(|files| {
            rewrite(files, |manifest| {
                manifest["targets"][0]["artifacts"][0]["object"] = json!(object);
            });
        });
        planted.meets(&[(LIST, 0, "is not a path of the form")]);
        meets_an_unreadable_manifest(&planted, object);
    }
}

#[test]
fn a_manifest_of_another_project_or_snapshot() {
    for (field, value) in [
        ("project", "somebody-else"),
        ("snapshot", SAVED.ids[0].as_str()),
    ] {
        let planted = Planted::in_directory(|files| {
            rewrite(files, |manifest| manifest[field] = json!(value));
        });
        meets_an_unreadable_manifest(&planted, "but is stored in the place of");
    }
}

#[test]
fn a_repository_whose_identity_cannot_be_read() {
    let cases: [(&[u8], &str); 3] = [
        (br#"{"format": 99}"#, "use a newer cofferdam"),
        (
            br#"{"format": 1, "#,
            "cofferdam.json is incomplete or malformed",
        ),
        (b"", "cofferdam.json is incomplete or malformed"),
    ];
    for (identity, words) in cases {
        let planted = Planted::in_directory(|files| {
            files.insert("cofferdam.json".to_owned(), identity.to_vec());
        });
        refuses_everything(&planted, words);
    }
}

#[test]
fn a_repository_whose_identity_is_missing() {
    let planted = Planted::in_directory(|files| drop(files.remove("cofferdam.json")));
    refuses_everything(
        &planted,
        "it has no cofferdam.json but contains other files",
    );
    // As documented: it can be written again by hand.
    fs::write(
        planted.root().join("cofferdam.json"),
        r#"{"format": 1, "repository": "0"}"#,
    )
    .unwrap();
    planted.meets(&[(READ, 0, "whole")]);
}

fn refuses_everything(planted: &Planted, words: &str) {
    let second = planted.second();
    planted.meets(&[
        (LIST, 1, words),
        (&["show", "latest"], 1, words),
        (VERIFY, 1, words),
        (CHECK, 1, words),
        (PRUNE, 1, words),
        (&["copy", "--copy-to", &second], 1, words),
    ]);
    planted.refuses_to_restore("latest", 1, words);
    let backup = SAVED.stack.command_at(planted.url(), &["backup"]).output();
    Run::from(backup.unwrap()).expect_says(1, words);
    planted.is_as_planted();
}

const ODD: [&str; 5] = [
    "notes.txt",
    "lost and found/;rm -rf $HOME/`reboot`",
    "other-project/not-a-snapshot/manifest.json",
    "%2e%2e/20260101T000000Z-00000000/manifest.json",
    "status/elsewhere/thing",
];

/// What others keep beside the snapshots, and in their places.
fn add_foreign_files(files: &mut Files) {
    for path in ODD {
        files.insert(path.to_owned(), b"{}".to_vec());
    }
    for id in &SAVED.ids {
        files.insert(SAVED.path(id, "README from the admin"), b"keep".to_vec());
        files.insert(SAVED.path(id, "old/manifest.json"), b"keep".to_vec());
    }
    files.insert(SAVED.path("latest", "manifest.json"), b"{}".to_vec());
}

fn meets_foreign_files(planted: &Planted) {
    let second = planted.second();
    planted.meets(&[
        (READ, 0, "whole"),
        (CHECK, 0, "db/postgres/clinical"),
        (&["show", "latest"], 0, SAVED.newest()),
        (&["copy", "--copy-to", &second], 0, &SAVED.ids[0]),
    ]);
    let listed = planted.run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    planted.is_as_planted();
    planted.meets(&[(PRUNE, 0, "1 snapshot removed")]);
    let oldest = SAVED.path(&SAVED.ids[0], "");
    planted.lacks_only(|path| {
        path.starts_with(&oldest) && !path.ends_with("admin") && !path.contains("/old/")
    });
    planted.restores_files("latest");
    planted.run_at(&second, READ).expect(0);
    for path in files_below(Path::new(&second)).keys() {
        assert!(
            path == "cofferdam.json" || SAVED.files.contains_key(path),
            "{path} came over"
        );
    }
}

#[test]
fn foreign_files_are_left_alone() {
    everywhere(add_foreign_files, meets_foreign_files);
}

#[test]
fn links_pipes_and_names_that_are_not_text_are_left_alone() {
    let planted = Planted::in_directory(add_foreign_files);
    let root = planted.root();
    let elsewhere = tempfile::tempdir().unwrap();
    let project = root.join(&SAVED.stack.project);
    fs::rename(project.join(&SAVED.ids[1]), elsewhere.path().join("taken")).unwrap();
    symlink(elsewhere.path().join("taken"), project.join(&SAVED.ids[1])).unwrap();
    symlink("/etc", root.join("linked-project")).unwrap();
    symlink("/etc/passwd", project.join(SAVED.newest()).join("passwd")).unwrap();
    fs::create_dir(root.join(OsStr::from_bytes(b"\xff\xfe"))).unwrap();
    fs::write(project.join(OsStr::from_bytes(b"bell\x07\xff")), "x").unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(root.join("pipe"))
        .status();
    assert!(made.unwrap().success());

    let run = planted.run(READ).expect(0);
    assert!(!run.stdout.contains('\x07') && !run.stderr.contains('\x07'));
    let listed = planted.run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "a link is no snapshot");
    let outside = files_below(elsewhere.path());
    planted.meets(&[(&["prune", "--keep", "last=1"], 0, "1 snapshot removed")]);
    assert!(
        files_below(elsewhere.path()) == outside,
        "a link was followed"
    );
    assert!(root.join("pipe").exists() && root.join("linked-project").is_symlink());
}

/// Neither a directory nor a link is a manifest.
#[test]
fn a_manifest_that_is_no_file() {
    let manifest = |planted: &Planted| planted.root().join(newest_manifest());
    let directory = Planted::in_directory(|files| drop(files.remove(&newest_manifest())));
    fs::create_dir(manifest(&directory)).unwrap();
    let link = Planted::in_directory(|files| drop(files.remove(&newest_manifest())));
    symlink("/etc/passwd", manifest(&link)).unwrap();
    for planted in [directory, link] {
        let newest = SAVED.newest();
        planted.meets(&[
            (LIST, 0, &SAVED.ids[0]),
            (&["show", newest], 1, newest),
            (PRUNE, 1, newest),
        ]);
        planted.refuses_to_restore(newest, 1, newest);
        planted.is_as_planted();
    }
}

/// A run that was killed leaves objects without a manifest.
#[test]
fn a_snapshot_without_a_manifest_is_none_and_goes_when_it_is_a_day_old() {
    let planted = Planted::in_directory(|files| drop(files.remove(&newest_manifest())));
    let newest = SAVED.newest();
    planted.meets(&[
        (READ, 0, "whole"),
        (&["show", newest], 2, newest),
        (CHECK, 4, "db/postgres/clinical"),
        (&["prune", "--keep", "last=3"], 0, "nothing to remove"),
    ]);
    let listed = planted.run(LIST).expect(0);
    assert!(!listed.stdout.contains(newest), "{}", listed.stdout);
    planted.refuses_to_restore(newest, 2, newest);
    planted.is_as_planted();

    let place = planted.root().join(SAVED.path(newest, ""));
    let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    for entry in fs::read_dir(&place).unwrap() {
        let file = fs::File::options().write(true).open(entry.unwrap().path());
        file.unwrap().set_modified(old).unwrap();
    }
    fs::File::open(&place).unwrap().set_modified(old).unwrap();
    planted.meets(&[(&["prune", "--keep", "last=3"], 0, "nothing to remove")]);
    planted.lacks_only(|path| path.contains(newest));
}

fn ended(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

fn start(stack: &TestStack, repository: &Path, arguments: &[&str]) -> Child {
    stack.command_at(repository, arguments).spawn().unwrap()
}

fn files_stack(what: &str) -> (TestStack, crate::support::TestContainer) {
    let stack = TestStack::new(what);
    let app = stack.toolbox("app", &[("cofferdam.files.data", "/data")], &[]);
    app.sh("mkdir /data && head -c 1000000 /dev/urandom > /data/file");
    (stack, app)
}

/// Both find no repository, and make one.
#[test]
fn two_projects_back_up_into_one_new_repository_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("repository");
    let stacks = [files_stack("one"), files_stack("two")];
    let backups = stacks
        .each_ref()
        .map(|(stack, _)| start(stack, &repository, &["backup"]));
    for backup in backups {
        ended(backup).expect(0);
    }
    for (stack, _) in &stacks {
        let verify = start(stack, &repository, &["verify", "--read"]);
        ended(verify).expect_says(0, "whole");
    }
}

#[test]
fn two_prunes_at_once_remove_what_one_would() {
    for _ in 0..3 {
        let planted = Planted::in_directory(|_| {});
        let prunes = [(), ()].map(|()| start(&SAVED.stack, planted.root(), PRUNE));
        for prune in prunes {
            ended(prune).expect(0);
        }
        planted.lacks_only(|path| path.contains(&SAVED.ids[0]));
        planted.meets(&[(READ, 0, "whole")]);
    }
}

#[test]
fn a_prune_beside_a_backup_takes_nothing_of_it() {
    let (stack, _app) = files_stack("beside");
    stack.cofferdam(&["backup"]).expect(0);
    for _ in 0..3 {
        let backup = stack.start(&["backup"]);
        let mut prunes = 0;
        let mut backup = Some(backup);
        while let Some(mut running) = backup.take() {
            stack.cofferdam(&["prune", "--keep", "last=1"]).expect(0);
            prunes += 1;
            match running.try_wait().unwrap() {
                None => backup = Some(running),
                Some(_) => drop(ended(running).expect(0)),
            }
        }
        assert!(prunes > 0);
        stack
            .cofferdam(&["verify", "--read"])
            .expect_says(0, "whole");
    }
    let listed = stack.cofferdam(&["list", "--json"]).expect(0).json();
    assert!(!listed.as_array().unwrap().is_empty());
}
