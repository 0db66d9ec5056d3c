//! A disk that is not mounted looks like an empty directory. It must not become a new repository without a word, nor one that was
//! used before with a word alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::TestContainer;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::serving::Serving;
use crate::support::stack::{Run, TestStack, eventually};

const NEW: &str = "made a new repository at";
const MISSING: &str = "the repository is missing at";
const SWAPPED: &str = "is it the right disk or volume?";
const FORGETFUL: &str = "set COFFERDAM_REPOSITORY_ID";

fn stack_with_files(what: &str) -> (TestStack, TestContainer) {
    let stack = TestStack::new(what);
    let files = [("cofferdam.files.conf", "/etc/debian_version")];
    let app = stack.toolbox("app", &files, &[]);
    (stack, app)
}

/// Takes what is mounted at `place` away, and leaves the directory.
fn unmount(place: &Path) -> PathBuf {
    let away = place.with_extension("away");
    fs::rename(place, &away).unwrap();
    fs::create_dir(place).unwrap();
    away
}

fn mount(away: &Path, place: &Path) {
    fs::remove_dir(place).expect("nothing was written there");
    fs::rename(away, place).unwrap();
}

#[track_caller]
fn expect_quiet(run: Run) {
    let run = run.expect(0);
    let said = run.stdout.clone() + &run.stderr;
    for words in [NEW, MISSING, SWAPPED, FORGETFUL] {
        assert!(!said.contains(words), "{run:?}");
    }
}

#[test]
fn a_repository_is_made_where_none_was_and_told() {
    let (stack, _app) = stack_with_files("places");
    let place = stack.repository();
    let existing = stack.cofferdam(&["backup", "--existing"]);
    existing.expect_says(1, "there is no repository at");
    assert!(!place.exists());
    let run = stack.cofferdam(&["backup"]).expect(0);
    assert!(
        run.stdout.contains(NEW) && run.stderr.contains(NEW),
        "{run:?}"
    );
    expect_quiet(stack.cofferdam(&["backup"]));

    let away = unmount(&place);
    stack.cofferdam(&["backup"]).expect_says(1, MISSING);
    // Whoever shares the place misses it too.
    let (other, _its_app) = stack_with_files("sharer");
    let shared = other.command_at(&place, &["backup"]).output();
    Run::from(shared.unwrap()).expect_says(1, MISSING);
    stack.cofferdam(&["check"]).expect(4);
    mount(&away, &place);
    let report = stack.cofferdam(&["backup", "--json"]).expect(0).json();
    assert_eq!(report[0]["repository"]["is_new"], false);
    let id = report[0]["repository"]["id"].as_str().unwrap().to_owned();
    assert_eq!(stack.manifests().len(), 3);

    let away = unmount(&place);
    stack
        .cofferdam(&["backup", "--new-repository"])
        .expect_says(0, NEW);
    expect_quiet(stack.cofferdam(&["backup", "--existing"]));
    stack
        .cofferdam(&["backup", "--repository-id", &id])
        .expect_says(1, &id);
    // Disks that take turns are told apart, and no more.
    fs::remove_dir_all(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    stack.cofferdam(&["backup"]).expect_says(0, SWAPPED);
    expect_quiet(stack.cofferdam(&["backup", "--repository-id", &id]));
}

#[test]
fn a_second_place_is_not_made_anew_either() {
    let (stack, _app) = stack_with_files("second");
    let place = stack.directory.path().join("copies");
    let url = place.display().to_string();
    let backup = ["backup", "--copy-to", &url];
    stack.cofferdam(&backup).expect_says(0, NEW);
    expect_quiet(stack.cofferdam(&backup));
    let away = unmount(&place);
    stack.cofferdam(&backup).expect_says(3, MISSING);
    let copy = ["copy", "--copy-to", &url];
    stack.cofferdam(&copy).expect_says(3, MISSING);
    mount(&away, &place);
    expect_quiet(stack.cofferdam(&backup));
    let away = unmount(&place);
    let anew: Vec<&str> = copy.iter().copied().chain(["--new-repository"]).collect();
    stack.cofferdam(&anew).expect_says(0, NEW);
    fs::remove_dir_all(away).unwrap();
}

#[test]
fn an_engine_that_remembers_nothing_keeps_no_backup_from_being_made() {
    let (stack, _app) = stack_with_files("forgetful");
    let proxy = FaultProxy::start();
    for (method, path) in [("GET", "/volumes"), ("POST", "/volumes/create")] {
        proxy.on(method, path, Fault::Refuse);
    }
    let backup = |arguments: &[&str]| -> Run {
        let mut command = stack.command(&[&["backup"], arguments].concat());
        command.env("DOCKER_HOST", proxy.docker_host());
        command.output().unwrap().into()
    };
    let report = backup(&["--json"]).expect_says(0, FORGETFUL).json();
    let id = report[0]["repository"]["id"].as_str().unwrap();
    expect_quiet(backup(&["--repository-id", id]));
    unmount(&stack.repository());
    backup(&["--repository-id", id]).expect_says(1, "there is no repository at");
    backup(&[]).expect_says(0, NEW);
}

#[test]
fn the_daemon_says_what_is_missing_and_goes_on_when_it_is_there() {
    let (stack, _app) = stack_with_files("late");
    let place = stack.repository();
    stack.cofferdam(&["backup"]).expect(0);
    let away = unmount(&place);
    let daemon = Serving::start(&stack);
    eventually("the page tells", || {
        daemon.ask("GET /").body.contains(MISSING)
    });
    assert!(daemon.log().contains(MISSING));
    mount(&away, &place);
    let url = format!("POST /backup?project={}", stack.project);
    eventually("it is asked", || daemon.ask(&url).status == 202);
    eventually("it backs up", || stack.manifests().len() == 2);
    eventually("the page is content", || {
        !daemon.ask("GET /").body.contains(MISSING)
    });
}
