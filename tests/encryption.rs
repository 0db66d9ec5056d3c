//! Snapshots that are encrypted to public keys: who makes them cannot read them, who has an identity can, with or without
//! cofferdam.

use std::path::{Path, PathBuf};

use crate::support::stack::{
    Postgres, Run, TOOLBOX, TestStack, compose_volume, eventually, files_with, is_running,
};
use crate::support::{TestContainer, TestVolume, docker};
use age::secrecy::ExposeSecret;

/// Stands in every database, file and name of a file here.
const MARKER: &str = "Strictly-Confidential-Marker";

/// A database and a volume that hold the marker, and what a client of both is held for.
struct Stack {
    stack: TestStack,
    postgres: Postgres,
    app: TestContainer,
    _volume: TestVolume,
}

impl Stack {
    fn start(restore: &str) -> Self {
        let stack = TestStack::new("encryption");
        let volume = compose_volume(&stack, "data");
        let mount = format!("{}:/data", volume.name);
        let labels = [
            ("cofferdam.postgres", "clinical"),
            ("cofferdam.postgres.restore", restore),
        ];
        let postgres = stack.postgres("db", &labels);
        let labels = [("cofferdam.volumes", "data"), ("cofferdam.stop", "restore")];
        let app = stack.toolbox("app", &labels, &["--volume", &mount]);
        let this = Self {
            stack,
            postgres,
            app,
            _volume: volume,
        };
        this.postgres
            .sql("clinical", "CREATE TABLE state (word text)");
        this.write(MARKER);
        this
    }

    fn write(&self, word: &str) {
        let rows = format!(
            "TRUNCATE state; INSERT INTO state SELECT '{word}' FROM generate_series(1, 3000)"
        );
        self.postgres.sql("clinical", &rows);
        self.app.sh(&format!(
            "rm -rf /data/* && mkdir /data/{word} && echo {word} > /data/{word}/word && head -c 300000 /dev/urandom > /data/{word}/noise"
        ));
    }

    /// Database and volume, in one word when they agree.
    fn state(&self) -> String {
        let database = self
            .postgres
            .sql("clinical", "SELECT DISTINCT word FROM state");
        let tree = self.app.sh("cat /data/*/word");
        if database == tree {
            database
        } else {
            format!("database {database}, tree {tree}")
        }
    }

    fn started(&self) -> String {
        self.app.inspect("{{.State.StartedAt}}")
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.stack.directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    fn snapshot(&self) -> String {
        let path = self.stack.newest_snapshot();
        let id = path.file_name().expect("an id").to_str().expect("UTF-8");
        id.to_owned()
    }

    /// An encrypted object of the newest snapshot.
    fn object(&self, ending: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.stack.newest_snapshot()).expect("a snapshot");
        entries
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.display().to_string().ends_with(ending))
            .unwrap_or_else(|| panic!("no object ends with {ending}"))
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, words: &str) -> Run {
        let (state, started) = (self.state(), self.started());
        let run = self.stack.cofferdam(arguments).expect_says(code, words);
        assert_eq!(self.state(), state);
        assert_eq!(self.started(), started, "the app was stopped");
        self.stack.ensure_nothing_is_left();
        run
    }
}

struct Key {
    identity: String,
    recipient: String,
}

impl Key {
    fn new() -> Self {
        let identity = age::x25519::Identity::generate();
        Self {
            recipient: identity.to_public().to_string(),
            identity: identity.to_string().expose_secret().to_owned(),
        }
    }
}

#[test]
fn d3_who_makes_backups_cannot_read_them_and_the_holder_of_an_identity_can() {
    let stack = Stack::start("swap");
    let (alice, bob) = (Key::new(), Key::new());
    let to = [
        "--recipient",
        &alice.recipient,
        "--recipient",
        &bob.recipient,
    ];
    // What is not compressed would show.
    let backup = [&["backup", "--compression", "none"], &to[..]].concat();
    stack.stack.cofferdam(&backup).expect(0);

    assert_eq!(
        files_with(&stack.stack.repository(), MARKER),
        Vec::<PathBuf>::new(),
        "something lies in the clear"
    );
    let manifest = stack.stack.manifest();
    let artifacts: Vec<_> = manifest["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .flat_map(|target| target["artifacts"].as_array().expect("artifacts"))
        .collect();
    assert_eq!(artifacts.len(), 4);
    for artifact in artifacts {
        let object = artifact["object"].as_str().expect("a path");
        assert!(object.ends_with(".age"), "{object}");
        assert_eq!(
            artifact["encryption"]["age"]["to"]["recipients"],
            serde_json::json!([alice.recipient, bob.recipient])
        );
    }
    let shown = stack.stack.cofferdam(&["show", "latest"]).expect(0).stdout;
    assert!(shown.contains(&bob.recipient), "{shown}");

    // With nothing but what the backup had.
    stack.write("new");
    let out = stack.stack.directory.path().join("out");
    let out_named = out.display().to_string();
    for command in [
        &["ls", "latest", "app/volume/data"][..],
        &["export", "latest", &out_named],
        &["restore", "latest", "--yes"],
        &["restore", "latest", "--dry-run"],
    ] {
        stack.refused(&[command, &to].concat(), 2, "--identity-file");
    }
    assert!(!out.exists(), "an empty directory was made");
    let whole = stack.stack.cofferdam(&["verify", "--read"]);
    whole.expect_says(0, "4 encrypted objects checked only as stored");

    let identity = stack.file("bob.txt", &bob.identity);
    let with_identity = ["--identity-file", &identity];
    let ls = [&["ls", "latest", "app/volume/data"], &with_identity[..]].concat();
    stack.stack.cofferdam(&ls).expect_says(0, MARKER);
    let verify = [&["verify", "--read"], &with_identity[..]].concat();
    let whole = stack.stack.cofferdam(&verify);
    whole.expect_says(0, "4 encrypted objects decrypted");
    let export = [
        &["export", "latest", &out_named, "app/*"],
        &with_identity[..],
    ]
    .concat();
    stack.stack.cofferdam(&export).expect(0);
    assert!(
        out.join("app.volume.data.tar").exists(),
        "names of plain files"
    );
    let restore = ["restore", "latest", "--yes", "--log", "trace"];
    let run = stack
        .stack
        .cofferdam(&[&restore, &with_identity[..]].concat())
        .expect(0);
    assert!(!run.stderr.contains("AGE-SECRET-KEY-1"), "{}", run.stderr);
    assert_eq!(stack.state(), MARKER);
    stack.stack.ensure_nothing_is_left();

    // One file, by the index.
    stack.app.sh(&format!("rm /data/{MARKER}/word"));
    let path = format!("{MARKER}/word");
    let one = ["restore", "latest", "app/*", "--path", &path, "--yes"];
    stack
        .stack
        .cofferdam(&[&one, &with_identity[..]].concat())
        .expect(0);
    assert_eq!(stack.state(), MARKER);
}

#[test]
fn wrong_keys_and_damage_are_found_out_before_anything_is_stopped() {
    let stack = Stack::start("swap");
    let (key, other) = (Key::new(), Key::new());
    let backup = ["backup", "--recipient", &key.recipient];
    stack.stack.cofferdam(&backup).expect(0);
    let right = stack.file("key.txt", &key.identity);
    let wrong = stack.file("other.txt", &other.identity);
    let words = stack.file("passphrase", "correct horse battery staple");
    let refused = |flag: &str, file: &str, code: i32, words: &str| {
        let run = stack.refused(&["restore", "latest", "--yes", flag, file], code, words);
        for secret in [&key.identity, &other.identity, "correct horse"] {
            assert!(!run.stderr.contains(secret), "{}", run.stderr);
        }
    };
    refused("--identity-file", &wrong, 2, "does not open it");
    refused("--passphrase-file", &words, 2, "no identity is given");
    refused("--identity-file", "/nowhere", 2, "cannot be read");

    for ending in ["tar.zst.age", "clinical.dump.zst.age"] {
        let object = stack.object(ending);
        let whole = std::fs::read(&object).expect("an object");
        std::fs::write(&object, &whole[..100]).expect("an object");
        refused("--identity-file", &right, 1, "it ends after 100 bytes");
        std::fs::write(&object, &whole[..whole.len() - 1]).expect("an object");
        refused("--identity-file", &right, 1, "nothing was changed");
        let mut flipped = whole.clone();
        let middle = whole.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&object, flipped).expect("an object");
        for with in [&["--identity-file", right.as_str()][..], &[]] {
            let verify = [&["verify", "--read"], with].concat();
            let run = stack.stack.cofferdam(&verify);
            run.expect_says(4, "has changed since it was stored");
        }
        // Not to be seen before it is read, and found out before anything old is given up.
        let state = stack.state();
        stack
            .stack
            .cofferdam(&["restore", "latest", "--yes", "--identity-file", &right])
            .expect_says(1, "all of the old data is in place");
        assert_eq!(stack.state(), state);
        stack.stack.ensure_nothing_is_left();
        std::fs::write(&object, whole).expect("an object");
    }
}

#[test]
fn a_passphrase_closes_and_opens() {
    let stack = Stack::start("swap");
    let words = stack.file("passphrase", "correct horse battery staple\n");
    let wrong = stack.file("wrong", "hunter2\n");
    let run = |arguments: &[&str], file: &str| -> Run {
        let mut command = stack.stack.command(arguments);
        command.env("COFFERDAM_PASSPHRASE_FILE", file);
        command.output().expect("cofferdam").into()
    };
    run(&["backup"], &words).expect(0);
    let repository = stack.stack.repository();
    for word in [MARKER, "correct horse"] {
        assert_eq!(files_with(&repository, word), Vec::<PathBuf>::new());
    }
    stack.write("new");
    let identity = stack.file("key.txt", &Key::new().identity);
    let restore = ["restore", "latest", "--yes"];
    let with_identity = [&restore[..], &["--identity-file", &identity]].concat();
    stack.refused(&with_identity, 2, "--passphrase-file");
    let with_wrong = [&restore[..], &["--passphrase-file", &wrong]].concat();
    let said = stack.refused(&with_wrong, 2, "the given passphrase does not open it");
    assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
    run(&restore, &words).expect(0);
    assert_eq!(stack.state(), MARKER);
}

/// Old snapshots in the clear, then of one key, then of another: each opens with what it was closed for.
#[test]
fn keys_are_rotated_and_old_snapshots_stay_readable() {
    let stack = Stack::start("swap");
    let (old, new) = (Key::new(), Key::new());
    let mut snapshots = Vec::new();
    for (word, key) in [
        ("plain", None),
        ("first", Some(&old)),
        ("second", Some(&new)),
    ] {
        stack.write(word);
        let mut backup = vec!["backup"];
        if let Some(key) = key {
            backup.extend(["--recipient", &key.recipient]);
        }
        stack.stack.cofferdam(&backup).expect(0);
        snapshots.push((word, stack.snapshot()));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let both = format!("# retired\n{}\n# in use\n{}\n", old.identity, new.identity);
    let both = stack.file("both.txt", &both);
    for (word, snapshot) in &snapshots {
        let restore = ["restore", snapshot, "--yes", "--identity-file", &both];
        stack.stack.cofferdam(&restore).expect(0);
        assert_eq!(&stack.state(), word);
    }
    let verify = ["verify", "--read", "--identity-file", &both];
    stack.stack.cofferdam(&verify).expect(0);
    // The new key alone does not open what the old one closed, and it is said.
    let alone = stack.file("new.txt", &new.identity);
    let verify = ["verify", "--read", "--identity-file", &alone];
    let run = stack.stack.cofferdam(&verify);
    run.expect_says(4, "unchanged since it was stored, but cannot be opened");
}

/// A load that writes over the old data has only the safety snapshot as its way back.
#[test]
fn a_safety_snapshot_is_encrypted_and_can_be_read_for_the_way_back() {
    let stack = Stack::start("clean");
    let (owner, reader) = (Key::new(), Key::new());
    // In the clear: it restores without any key.
    stack.stack.cofferdam(&["backup"]).expect(0);
    let plain = stack.snapshot();
    let word = "Later-Confidential-Word";
    stack.write(word);
    let restore = [
        "restore",
        &plain,
        "db/*",
        "--yes",
        "--recipient",
        &owner.recipient,
    ];
    stack.refused(
        &restore,
        2,
        "could not be read when the restore has to be undone",
    );

    let identity = stack.file("reader.txt", &reader.identity);
    let with_identity = ["--identity-file", identity.as_str()];
    stack
        .stack
        .cofferdam(&[&restore, &with_identity[..]].concat())
        .expect(0);
    let safety = stack.stack.manifest();
    assert!(safety["purpose"]["safety"].is_object(), "{safety}");
    assert_eq!(
        safety["targets"][0]["artifacts"][0]["encryption"]["age"]["to"]["recipients"],
        serde_json::json!([owner.recipient, reader.recipient])
    );
    assert_eq!(
        files_with(&stack.stack.repository(), word),
        Vec::<PathBuf>::new()
    );
    let back = ["restore", &stack.snapshot(), "--yes"];
    stack
        .stack
        .cofferdam(&[&back, &with_identity[..]].concat())
        .expect(0);
    let rows = "SELECT DISTINCT word FROM state";
    assert_eq!(stack.postgres.sql("clinical", rows), word);
}

/// The journal stays for somebody who has the identity.
#[test]
fn a_killed_restore_is_undone_only_by_who_can_read_its_safety_snapshot() {
    let stack = Stack::start("clean");
    let key = Key::new();
    let identity = stack.file("key.txt", &key.identity);
    let with_identity = ["--identity-file", identity.as_str()];
    let backup = ["backup", "--recipient", &key.recipient];
    stack.stack.cofferdam(&backup).expect(0);
    stack.write("later");
    let restore = ["restore", "latest", "db/*", "--yes"];
    for call in (4..).step_by(2) {
        stack.write("later");
        let proxy = crate::support::proxy::FaultProxy::start();
        proxy.hang_after_changes(call);
        let arguments = [&restore[..], &with_identity[..]].concat();
        let mut command = stack.stack.command(&arguments);
        command.env("DOCKER_HOST", proxy.docker_host());
        let mut child = command.spawn().expect("cofferdam");
        eventually("the restore hangs", || proxy.is_hanging());
        child.kill().expect("kill");
        child.wait().expect("wait");
        let recover = stack.stack.cofferdam(&["recover"]);
        // Too early: there was nothing to be loaded back.
        if recover.code != 0 {
            recover.expect_says(1, "--identity-file");
            break;
        }
    }

    assert!(!is_running(&stack.app), "started on mixed data");
    let again = stack.stack.cofferdam(&["backup"]);
    again.expect_says(1, "--identity-file");
    stack
        .stack
        .cofferdam(&[&["recover"], &with_identity[..]].concat())
        .expect(0);
    assert!(is_running(&stack.app));
    assert_eq!(stack.state(), "later");
    stack.stack.ensure_nothing_is_left();
}

#[test]
fn a_snapshot_is_opened_by_hand_with_age_and_the_usual_tools() {
    let stack = Stack::start("swap");
    let key = Key::new();
    for compression in ["zstd", "gzip", "none"] {
        let backup = ["backup", "--compression", compression];
        let to = ["--recipient", &key.recipient];
        stack
            .stack
            .cofferdam(&[&backup[..], &to[..]].concat())
            .expect(0);
        let shared = format!("{}:/shared", stack.stack.directory.path().display());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/restore-by-hand.sh");
        stack.file("key.txt", &format!("{}\n", key.identity));
        docker([
            "run",
            "--rm",
            "--label",
            crate::support::TEST_LABEL,
            "--network",
            "none",
            "--volume",
            &shared,
            "--volume",
            &format!("{script}:/restore-by-hand.sh:ro"),
            "--env",
            "IDENTITY_FILE=/shared/key.txt",
            TOOLBOX,
            "bash",
            "/restore-by-hand.sh",
            "unpack",
            "/shared/repository",
            &stack.stack.project,
            "latest",
            &format!("/shared/{compression}"),
        ]);
        let out = stack.stack.directory.path().join(compression);
        let word = out.join(format!("app.volume.data/{MARKER}/word"));
        assert_eq!(
            std::fs::read_to_string(word).expect("a file").trim(),
            MARKER
        );
        stack.postgres.sql("template1", "DROP DATABASE clinical");
        load(script, &out, &stack);
        assert_eq!(stack.state(), MARKER);
    }
}

fn load(script: &str, out: &Path, stack: &Stack) {
    let output = std::process::Command::new(script)
        .arg("load-postgres")
        .arg(out)
        .args(["db", &stack.postgres.container.name, "admin"])
        .output()
        .expect("the script");
    Run::from(output).expect(0);
}

/// Neither arguments nor environments of what cofferdam starts in the engine tell a key.
#[test]
fn no_container_and_no_process_in_one_gets_a_key() {
    let stack = Stack::start("swap");
    let key = Key::new();
    let identity = stack.file("key.txt", &key.identity);
    let (tell, listening) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || {
        let mut seen = String::new();
        while listening.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let helpers = docker([
                "ps",
                "--all",
                "--quiet",
                "--filter",
                "label=cofferdam.helper",
            ]);
            let journals = docker(["ps", "--all", "--quiet", "--filter", "label=cofferdam.hold"]);
            for id in helpers.lines().chain(journals.lines()) {
                let output = std::process::Command::new("docker")
                    .args(["inspect", id])
                    .output()
                    .expect("docker");
                seen.push_str(&String::from_utf8_lossy(&output.stdout));
            }
        }
        seen
    });
    for arguments in [&["backup"][..], &["restore", "latest", "--yes"]] {
        let mut command = stack.stack.command(arguments);
        command
            .env("COFFERDAM_RECIPIENTS", &key.recipient)
            .env("COFFERDAM_IDENTITY_FILE", &identity);
        Run::from(command.output().expect("cofferdam")).expect(0);
    }
    tell.send(()).expect("the watcher");
    let seen = watcher.join().expect("the watcher");
    assert!(seen.contains("cofferdam.helper"), "no helper was seen");
    for secret in [key.identity.as_str(), &identity, "COFFERDAM_IDENTITY_FILE"] {
        assert!(!seen.contains(secret), "{secret} is told");
    }
}

/// The agent in the container decompresses it; to it, nothing is encrypted.
#[test]
fn what_a_command_prints_is_encrypted_and_loaded_back_by_the_agent() {
    let stack = TestStack::new("encryption");
    let labels = [
        ("cofferdam.command.word.dump", "cat /srv/word"),
        ("cofferdam.command.word.load", "sh -c 'cat >/srv/word'"),
    ];
    let app = stack.toolbox("app", &labels, &[]);
    app.sh(&format!("echo {MARKER} > /srv/word"));
    let key = Key::new();
    let identity = stack.directory.path().join("key.txt");
    std::fs::write(&identity, &key.identity).expect("a file");
    let backup = ["backup", "--recipient", &key.recipient];
    stack.cofferdam(&backup).expect(0);
    assert_eq!(stack.manifest()["targets"][0]["transfer"], "copy");
    app.sh("echo later > /srv/word");
    let identity = identity.display().to_string();
    let restore = ["restore", "latest", "--yes", "--identity-file", &identity];
    stack.cofferdam(&restore).expect(0);
    assert_eq!(app.sh("cat /srv/word"), MARKER);
    // No recipients were given: the safety snapshot is still no less protected than what was restored.
    let artifact = &stack.manifest()["targets"][0]["artifacts"][0];
    let to = &artifact["encryption"]["age"]["to"]["recipients"];
    assert_eq!(*to, serde_json::json!([key.recipient]));
    assert_eq!(app.sh("ls -A /tmp"), "");
}
