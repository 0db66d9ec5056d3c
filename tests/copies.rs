//! Second places: each new snapshot goes there, and neither place spoils the other.

use std::fs;
use std::path::Path;

use crate::support::s3::{Garage, with_keys};
use crate::support::stack::{Run, TestStack, as_by_schedule, compose_volume};
use crate::support::{TestContainer, TestVolume};

struct Files {
    stack: TestStack,
    app: TestContainer,
    _volume: TestVolume,
    second: tempfile::TempDir,
}

impl Files {
    /// A container with a volume of files.
    fn new(what: &str) -> Self {
        let stack = TestStack::new(what);
        let volume = compose_volume(&stack, "files");
        let mount = format!("{}:/data", volume.name);
        let labels = [("cofferdam.volumes", "files")];
        let app = stack.toolbox("app", &labels, &["--volume", &mount]);
        app.sh("head -c 3000000 /dev/urandom > /data/big; sha256sum /data/big > /data/sum");
        Self {
            stack,
            app,
            _volume: volume,
            second: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, arguments: &[&str], copy_to: &str) -> Run {
        let mut command = self.stack.command(arguments);
        command.env("COFFERDAM_COPY_TO", copy_to);
        with_keys(&mut command).output().unwrap().into()
    }

    fn run_at(&self, repository: &str, arguments: &[&str]) -> Run {
        let mut command = self.stack.command_at(repository, arguments);
        with_keys(&mut command).output().unwrap().into()
    }

    fn second(&self) -> String {
        self.second.path().join("copies").display().to_string()
    }

    /// The ids of the snapshots in a place, oldest first.
    fn listed(&self, repository: &str) -> Vec<String> {
        let listed = self
            .run_at(repository, &["list", "--json"])
            .expect(0)
            .json();
        let listed = listed.as_array().unwrap().clone();
        let ids = listed
            .iter()
            .map(|it| it["snapshot"].as_str().unwrap().to_owned());
        ids.collect()
    }

    fn own(&self) -> String {
        self.stack.repository().display().to_string()
    }
}

/// D4: a copy in another place, from which everything comes back when the first place is gone.
#[test]
fn d4_a_bucket_gets_each_new_snapshot_and_the_stack_comes_back_from_it() {
    let garage = Garage::start();
    let files = Files::new("copies");
    let bucket = garage.url("offsite");
    files
        .run(&["backup"], &bucket)
        .expect_says(0, "Copies to s3://backups/offsite");
    files.app.sh("echo later > /data/note");
    files.run(&["backup"], &bucket).expect(0);
    assert_eq!(files.listed(&bucket), files.listed(&files.own()));
    fs::remove_dir_all(files.stack.repository()).unwrap();
    files.app.sh("rm /data/*");
    files
        .run_at(&bucket, &["verify", "--read"])
        .expect_says(0, "reading target_id=");
    files
        .run_at(&bucket, &["restore", "latest", "--yes"])
        .expect(0);
    files
        .app
        .sh("cd /data && sha256sum -c sum && test \"$(cat note)\" = later");
}

/// D4: one place that fails does not spoil the other, and is told.
#[test]
fn a_place_that_cannot_be_reached_does_not_spoil_the_backup() {
    let files = Files::new("unreached");
    let dead = "s3://backups/x?endpoint=http://127.0.0.1:9&region=garage";
    let unreadable = format!("{dead}&credentials-file=/run/nowhere/keys");
    let both = format!("/proc/nowhere,{unreadable},{}", files.second());
    let run = files
        .run(&["backup"], &both)
        .expect_says(3, "Copies to /proc/nowhere: FAILED");
    assert!(
        run.stdout
            .contains(&format!("Copies to {}:", files.second())),
        "{}",
        run.stdout
    );
    let told = "cannot read /run/nowhere/keys";
    assert!(run.stdout.contains(told), "{}", run.stdout);
    assert_eq!(files.listed(&files.own()).len(), 1);
    assert_eq!(files.listed(&files.second()), files.listed(&files.own()));
    // The next run sends what is missing, once there is a place.
    let third = files.second.path().join("third").display().to_string();
    files.run(&["backup"], &third).expect(0);
    assert_eq!(files.listed(&third), files.listed(&files.own()));
    let wrong = files.run(&["copy"], &format!("{dead}&oops=1"));
    wrong.expect_says(2, "oops");
}

#[test]
fn a_second_place_has_a_retention_of_its_own() {
    let files = Files::new("kept");
    let second = files.second();
    let back_up = |copy_keep: &str| {
        let arguments = ["backup", "--keep", "last=1", "--copy-keep", copy_keep];
        let mut command = files.stack.command(&arguments);
        command.args(["--copy-to", &second]);
        // Of those made by hand, all would stay.
        for place in [&files.own(), &second] {
            as_by_schedule(Path::new(place), &files.stack.project);
        }
        Run::from(command.output().unwrap()).expect(0)
    };
    for _ in 0..3 {
        back_up("last=2");
    }
    let (own, copies) = (files.listed(&files.own()), files.listed(&second));
    assert_eq!(own.len(), 1);
    assert_eq!(copies.len(), 2);
    assert_eq!(copies.last(), own.last());
    // What is pinned in the first place stays in both, whatever its pin holds.
    let snapshot = Path::new(&files.own()).join(&files.stack.project);
    std::fs::write(snapshot.join(&own[0]).join("pin.json"), "{").unwrap();
    let told = back_up("last=1").stdout;
    assert!(
        told.contains("cannot be read, so its copy has none"),
        "{told}"
    );
    let (own, copies) = (files.listed(&files.own()), files.listed(&second));
    assert_eq!(own.len(), 2);
    assert_eq!(copies, own);
}

#[test]
fn by_hand_a_place_gets_all_that_it_lacks_and_nothing_twice() {
    let files = Files::new("byhand");
    for _ in 0..2 {
        files.run(&["backup"], "").expect(0);
    }
    let second = files.second();
    files
        .run(&["copy", "latest"], &second)
        .expect_says(0, "sent");
    assert_eq!(files.listed(&second).len(), 1);
    files.run(&["copy"], &second).expect(0);
    assert_eq!(files.listed(&second), files.listed(&files.own()));
    files
        .run(&["copy"], &second)
        .expect_says(0, "already complete");
    files.run(&["copy"], "").expect_says(2, "--copy-to");
    files
        .run(&["copy"], &files.own())
        .expect_says(2, "is the repository itself");
}

#[test]
fn what_is_damaged_here_is_not_sent_on() {
    let files = Files::new("rotten");
    files.run(&["backup"], "").expect(0);
    let newest = files.stack.newest_snapshot();
    let layer = fs::read_dir(&newest)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".tar."))
        .unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    files
        .run(&["copy"], &files.second())
        .expect_says(3, "is damaged");
    assert_eq!(files.listed(&files.second()), Vec::<String>::new());
}
