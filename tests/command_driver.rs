//! Stores that commands of the user's own save and put back, by the real program. The store here is a file, its clients are
//! `cat` and a shell.

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{PASSWORD, TestStack, compose_volume, eventually, files_with};
use crate::support::{TestContainer, TestVolume, docker};
use serde_json::Value;

const DUMP: (&str, &str) = ("cofferdam.command.toy.dump", "cat /data/value");
const LOAD: (&str, &str) = ("cofferdam.command.toy.load", "sh -c 'cat >/data/value'");

/// A container with the store `/data/value`.
fn store(
    stack: &TestStack,
    labels: &[(&str, &str)],
    options: &[&str],
    value: &str,
) -> TestContainer {
    let container = stack.toolbox("toy", labels, &[&["--tmpfs", "/data"], options].concat());
    set(&container, value);
    container
}

fn set(container: &TestContainer, value: &str) {
    container.sh(&format!("printf %s '{value}' >/data/value"));
}

fn value(container: &TestContainer) -> String {
    container.sh("cat /data/value")
}

fn failures(manifest: &Value) -> Vec<(String, String)> {
    let failed = manifest["failed"].as_array().expect("failures");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    failed
        .iter()
        .map(|failure| (text(&failure["target"]), text(&failure["reason"])))
        .collect()
}

#[test]
fn every_byte_comes_back_whatever_way_it_takes() {
    for transfer in ["copy", "stream"] {
        let stack = TestStack::new("command");
        let labels = [
            DUMP,
            LOAD,
            (
                "cofferdam.command.toy.check",
                "sh -c 'tail -c 4 /data/value | grep -q good'",
            ),
            ("cofferdam.command.toy.transfer", transfer),
        ];
        let toy = store(&stack, &labels, &[], "");
        toy.sh(
            "{ head -c 50000000 /dev/urandom; printf '\\000\\377\\r\\n\\n%%good'; } >/data/value",
        );
        let digest = toy.sh("sha256sum </data/value");
        let clean = toy.sh("find /tmp /var/tmp | sort");

        stack.cofferdam(&["backup"]).expect(0);
        let manifest = stack.manifest();
        let record = &manifest["targets"][0];
        assert_eq!(record["target"], "toy/command/toy");
        assert_eq!(record["transfer"], transfer);
        assert_eq!(
            record["facts"],
            serde_json::json!({"driver": "command", "program": "cat", "bytes": 50_000_010})
        );
        assert_eq!(
            record["artifacts"][0]["plain"]["sha256"],
            digest.split(' ').next().expect("a digest")
        );
        assert_eq!(record["warnings"], serde_json::json!([]));
        stack
            .cofferdam(&["show", "latest"])
            .expect_says(0, "47.7 MiB from `cat`");

        set(&toy, "lost, and not good");
        stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
        assert_eq!(toy.sh("sha256sum </data/value"), digest, "{transfer}");
        assert_eq!(toy.sh("find /tmp /var/tmp | sort"), clean, "{transfer}");
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_dump_that_is_not_whole_fails_alone_and_says_why() {
    let stack = TestStack::new("command-bad");
    let labels = [
        ("cofferdam.command.good.dump", "cat /data/value"),
        (
            "cofferdam.command.half.dump",
            "sh -c 'head -c 2 /data/value; echo the disk burns >&2; exit 3'",
        ),
        (
            "cofferdam.command.streamed.dump",
            "sh -c 'head -c 2 /data/value; echo the disk burns >&2; exit 3'",
        ),
        ("cofferdam.command.streamed.transfer", "stream"),
        ("cofferdam.command.cut.dump", "echo one line"),
        ("cofferdam.command.cut.ends-with", "-- end of dump"),
        ("cofferdam.command.good.ends-with", "prec*"),
        ("cofferdam.command.empty.dump", "true"),
        ("cofferdam.command.allowed.dump", "true"),
        ("cofferdam.command.allowed.allow-empty", "true"),
        ("cofferdam.command.missing.dump", "no-such-client --all"),
        ("cofferdam.command.silent.dump", "sleep 100"),
        ("cofferdam.command.silent.timeout", "1s"),
    ];
    let _toy = store(&stack, &labels, &[], "precious");
    stack.cofferdam(&["backup"]).expect(3);

    let manifest = stack.manifest();
    let saved: Vec<&Value> = manifest["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .map(|record| &record["target"])
        .collect();
    assert_eq!(saved, ["toy/command/allowed", "toy/command/good"]);
    let failed = failures(&manifest);
    let expected = [
        ("cut", "its last line does not match `-- end of dump`"),
        (
            "empty",
            "printed nothing; check that the command writes to standard output",
        ),
        ("half", "sh failed with exit code 3: the disk burns"),
        ("missing", "no-such-client cannot be run in it"),
        ("silent", "sleep printed nothing for 1 s"),
        ("streamed", "sh failed with exit code 3: the disk burns"),
    ];
    for ((target, reason), (name, words)) in failed.iter().zip(expected) {
        assert_eq!(*target, format!("toy/command/{name}"));
        assert!(reason.contains(words), "{target}: {reason}");
    }
    assert_eq!(failed.len(), expected.len(), "{failed:?}");
    let objects = std::fs::read_dir(stack.newest_snapshot()).expect("a snapshot");
    assert_eq!(objects.count(), 3, "something of a failed dump is left");
}

/// A store whose saved value is `poison`, and whose present one is `present`.
fn poisoned(stack: &TestStack, labels: &[(&str, &str)]) -> TestContainer {
    let toy = store(stack, labels, &[], "poison");
    stack.cofferdam(&["backup"]).expect(0);
    set(&toy, "present");
    toy
}

#[test]
fn a_load_or_a_check_that_fails_brings_the_old_data_back() {
    let refuse = "sh -c 'cat >/data/value; if grep -q poison /data/value; then echo indigestible >&2; exit 7; fi'";
    let quit = "sh -c 'head -c 2 >/data/value; exit 7'";
    let look = "sh -c 'if grep -q poison /data/value; then echo spoilt; exit 1; fi'";
    for (name, load, check, state, words) in [
        (
            "load",
            refuse,
            "true",
            "present",
            "sh failed with exit code 7: indigestible",
        ),
        (
            "check",
            LOAD.1,
            look,
            "present",
            "cofferdam.command.toy.check) failed with exit code 1: spoilt",
        ),
        // It says nothing of the data, and must not keep what was there from coming back.
        (
            "no such check",
            LOAD.1,
            "no-such-check",
            "present",
            "no-such-check cannot be run",
        ),
        // Neither the new nor the old can be loaded: that is told, and tried again by `recover`.
        ("load always", quit, "true", "pr", "cofferdam recover"),
    ] {
        let stack = TestStack::new("command-back");
        let labels = [
            DUMP,
            ("cofferdam.command.toy.load", load),
            ("cofferdam.command.toy.check", check),
        ];
        let toy = poisoned(&stack, &labels);
        stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect_says(1, words);
        assert_eq!(value(&toy), state, "{name}");
        if state == "present" {
            stack.ensure_nothing_is_left();
        }
    }
}

#[test]
fn a_killed_restore_is_undone_by_recover() {
    let stack = TestStack::new("command-killed");
    let load = "sh -c 'cat >/data/value; while grep -q poison /data/value; do sleep 0.1; done'";
    let toy = poisoned(&stack, &[DUMP, ("cofferdam.command.toy.load", load)]);
    let mut restore = stack.start(&["restore", "latest", "--yes"]);
    eventually("the load has written over the old data", || {
        value(&toy) == "poison"
    });
    restore.kill().expect("it runs");
    restore.wait().expect("it ends");
    stack.cofferdam(&["recover"]).expect(0);
    assert_eq!(value(&toy), "present");
    stack.ensure_nothing_is_left();
}

#[test]
fn what_has_no_load_is_refused_before_anything_is_touched() {
    let stack = TestStack::new("command-export");
    let toy = store(&stack, &[DUMP], &[], "saved only");
    // It is told while there is time, and where somebody looks later.
    let told = "a restore would currently be refused: container";
    for arguments in [
        &["plan"][..],
        &["backup", "--dry-run"],
        &["backup"],
        &["show", "latest"],
    ] {
        stack.cofferdam(arguments).expect_says(0, told);
    }
    let warnings = &stack.manifest()["targets"][0]["warnings"];
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    set(&toy, "present");
    for more in [&["--yes"][..], &["--dry-run"]] {
        let arguments = [&["restore", "latest"], more].concat();
        stack
            .cofferdam(&arguments)
            .expect_says(2, "has no label cofferdam.command.toy.load");
    }
    assert_eq!(value(&toy), "present");

    let place = stack.directory.path().join("rescued");
    stack
        .cofferdam(&["export", "latest", place.to_str().expect("UTF-8")])
        .expect(0);
    let exported = std::fs::read(place.join("toy.command.toy.dump")).expect("the plain dump");
    assert_eq!(exported, b"saved only");
}

#[test]
fn an_empty_store_is_loaded_when_its_empty_dump_is_allowed() {
    for (allowed, code, after) in [("false", 1, ""), ("true", 0, "precious")] {
        let stack = TestStack::new("command-empty");
        let labels = [DUMP, LOAD, ("cofferdam.command.toy.allow-empty", allowed)];
        let toy = store(&stack, &labels, &[], "precious");
        stack.cofferdam(&["backup"]).expect(0);
        set(&toy, "");
        let run = stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect(code);
        assert_eq!(value(&toy), after, "{run:?}");
    }
}

#[test]
fn no_secret_leaves_the_container_but_in_the_dump() {
    let stack = TestStack::new("command-secret");
    let labels = [
        (
            "cofferdam.command.toy.dump",
            "sh -c 'echo with $STORE_PASSWORD >&2; cat /data/value; : written-into-the-label'",
        ),
        LOAD,
        (
            "cofferdam.command.bad.dump",
            "sh -c 'echo no such password: $STORE_PASSWORD >&2; exit 1'",
        ),
        (
            "cofferdam.command.toy.check",
            "sh -c 'echo $STORE_PASSWORD; exit 1'",
        ),
    ];
    let password = format!("STORE_PASSWORD={PASSWORD}");
    let _toy = store(&stack, &labels, &["--env", &password], "data");
    let mut said = String::new();
    for (arguments, code) in [
        (&["plan"][..], 0),
        (&["plan", "--json"], 0),
        (&["backup"], 3),
        (&["show", "latest"], 0),
        (&["restore", "latest", "--yes"], 1),
    ] {
        let traced = [arguments, &["--log", "trace"]].concat();
        let run = stack.cofferdam(&traced).expect(code);
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
    }
    assert!(said.contains("no such password: [redacted]"), "{said}");
    for secret in [PASSWORD, "written-into-the-label"] {
        assert!(!said.contains(secret), "{secret} was printed");
        let files = files_with(&stack.repository(), secret);
        assert_eq!(files, Vec::<std::path::PathBuf>::new(), "{secret}");
    }
}

#[test]
fn the_volume_of_a_saved_store_is_not_called_unsaved() {
    let stack = TestStack::new("command-audit");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/srv/data", volume.name);
    for (directory, findings) in [("/srv/data", 0), ("/srv/data/db", 0), ("/srv/other", 1)] {
        let labels = [DUMP, ("cofferdam.command.toy.data-directory", directory)];
        let _toy = stack.toolbox("toy", &labels, &["--volume", &mount]);
        let plan = stack.cofferdam(&["plan"]).expect(0).stdout;
        let found = plan.matches("nothing saves volume").count();
        assert_eq!(found, findings, "{directory}:\n{plan}");
    }
}

#[test]
fn a_container_that_is_stopped_cannot_be_asked() {
    let stack = TestStack::new("command-stopped");
    let toy = store(&stack, &[DUMP, LOAD], &[], "precious");
    stack.cofferdam(&["backup"]).expect(0);
    docker(["kill", &toy.id]);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(2, "start it first");
    for (command, code) in [("plan", 3), ("backup", 1)] {
        stack
            .cofferdam(&[command])
            .expect_says(code, "which is not running; start it first");
    }
}

/// How many processes run of the program that commands hang in.
fn hanging(container: &TestContainer) -> String {
    container.sh("grep -lsx hangs /proc/[0-9]*/comm | wc -l")
}

#[test]
fn a_child_that_keeps_the_dump_open_fails_it_and_is_ended() {
    let stack = TestStack::new("command-child");
    let dump = "sh -c 'cat /data/value; setsid hangs 1000 & exit 0'";
    let toy = store(&stack, &[("cofferdam.command.toy.dump", dump)], &[], "half");
    toy.sh("cp /bin/sleep /usr/local/bin/hangs");
    let words = "a child that it had started kept its output open";
    stack.cofferdam(&["backup"]).expect_says(1, words);
    assert_eq!(hanging(&toy), "0");
    stack.ensure_nothing_is_left();
}

#[test]
fn commands_whose_time_is_over_do_not_go_on() {
    let stack = TestStack::new("command-hangs");
    let labels = [
        DUMP,
        LOAD,
        ("cofferdam.command.toy.check", "hangs 1000"),
        ("cofferdam.command.toy.timeout", "2s"),
        ("cofferdam.command.bad.dump", "hangs 1000"),
        ("cofferdam.command.bad.transfer", "stream"),
        ("cofferdam.command.bad.timeout", "2s"),
    ];
    let toy = store(&stack, &labels, &[], "precious");
    toy.sh("cp /bin/sleep /usr/local/bin/hangs");
    stack.cofferdam(&["backup"]).expect_says(3, "silent for 2s");
    assert_eq!(hanging(&toy), "0");
    let restore = ["restore", "latest", "--yes", "toy/command/toy"];
    stack
        .cofferdam(&restore)
        .expect_says(1, "did not end within 2s");
    assert_eq!(hanging(&toy), "0");
    assert_eq!(value(&toy), "precious");
    stack.ensure_nothing_is_left();
}

/// Whoever may move the agent's directory could put a program of his own there, which root would run.
#[test]
fn a_scratch_directory_of_somebody_else_is_refused() {
    let stack = TestStack::new("command-scratch");
    let volume = TestVolume::create(&[]);
    let mount = format!("{}:/scratch", volume.name);
    let start = |scratch: &str, user: &str| {
        let labels = [
            ("cofferdam.command.toy.dump", "cat /data/value"),
            ("cofferdam.command.toy.scratch", scratch),
            ("cofferdam.command.toy.exec-user", user),
        ];
        let toy = store(&stack, &labels, &["--volume", &mount], "precious");
        toy.sh("mkdir -p /scratch/deep; ln -s ../scratch/deep /srv/link");
        toy
    };
    for (scratch, user, prepare, refusal) in [
        ("/scratch", "0", "true", None),
        (
            "/scratch",
            "0",
            "chown 999 /scratch",
            Some("chown 0 /scratch"),
        ),
        // Who owns the directory above may exchange the one below.
        ("/srv/link", "0", "true", Some("chown 0 /scratch")),
        ("/scratch", "999:999", "true", None),
        (
            "/scratch",
            "0",
            "chown 0 /scratch; chmod 777 /scratch",
            Some("chmod o-w /scratch"),
        ),
        ("/srv/link", "0", "chmod 1777 /scratch", None),
        (
            "/srv/link",
            "0",
            "chown -h 999 /srv/link",
            Some("chown -h 0 /srv/link"),
        ),
    ] {
        let toy = start(scratch, user);
        toy.sh(prepare);
        let run = stack.cofferdam(&["backup"]);
        match refusal {
            None => {
                run.expect(0);
                assert_eq!(stack.manifest()["targets"][0]["transfer"], "copy");
            }
            Some(remedy) => {
                let remedy = format!("docker exec --user 0 {} {remedy}", toy.name);
                run.expect_says(1, &remedy);
            }
        }
        assert_eq!(
            toy.sh("ls -A /scratch /scratch/deep | grep cofferdam || true"),
            ""
        );
    }
}

#[test]
fn an_unsafe_usual_directory_is_passed_over() {
    let stack = TestStack::new("command-tmp");
    let labels = [
        ("cofferdam.command.toy.dump", "ls -A /var/tmp"),
        ("cofferdam.command.toy.ends-with", ".cofferdam-*"),
    ];
    let toy = store(&stack, &labels, &[], "");
    toy.sh("chmod 777 /tmp");
    stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(stack.manifest()["targets"][0]["transfer"], "copy");
}

/// As some engines do with the output of what ends soon.
#[test]
fn a_report_that_is_lost_is_asked_for_again_or_told() {
    let stack = TestStack::new("command-lost");
    let _toy = store(&stack, &[DUMP], &[], "precious");
    let backup = |proxy: &FaultProxy| {
        let mut command = stack.command(&["backup"]);
        command.env("DOCKER_HOST", proxy.docker_host());
        crate::support::stack::Run::from(command.output().expect("cofferdam"))
    };
    let start = "/exec/*/start";
    let arrival = FaultProxy::start();
    arrival.once("POST", start, Fault::EndEarly(0));
    backup(&arrival).expect(0);
    assert_eq!(stack.manifest()["targets"][0]["transfer"], "copy");

    let dump = FaultProxy::start();
    dump.once("POST", start, Fault::Delay(std::time::Duration::ZERO));
    dump.once("POST", start, Fault::EndEarly(0));
    backup(&dump).expect_says(1, "passed on none of its report");
    stack.ensure_nothing_is_left();
}
