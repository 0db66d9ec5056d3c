//! Containers of every kind are stopped and come back: those in another's network, those that the engine would remove, those that
//! are not well, and those that somebody removes meanwhile.

use std::time::{Duration, Instant};

use crate::support::stack::{Run, TOOLBOX, TestStack, eventually, is_running, terminate};
use crate::support::{
    TEST_LABEL, TestContainer, TestVolume, busybox_image, docker, docker_succeeds, program, unique,
};

const STOP: (&str, &str) = ("cofferdam.stop", "backup,restore");
const FILES: (&str, &str) = ("cofferdam.files.word", "/srv/word");

/// A container with a file that is saved, and one that is stopped meanwhile.
fn saved(stack: &TestStack) -> TestContainer {
    let db = stack.toolbox("db", &[FILES], &[]);
    db.sh("echo saved >/srv/word");
    db
}

fn started_at(container: &TestContainer) -> String {
    container.inspect("{{.State.StartedAt}}")
}

#[test]
fn what_shares_the_network_of_a_stopped_container_is_not_cut_off() {
    let stack = TestStack::new("sharer");
    let _db = saved(&stack);
    let vpn = stack.toolbox("vpn", &[STOP], &[]);
    let network = format!("container:{}", vpn.name);
    let serve = ["python3", "-m", "http.server", "8000"];
    let web = stack.service(
        "web",
        &[],
        &["--init", "--network", &network],
        &[&[TOOLBOX][..], &serve].concat(),
    );
    let asked = "python3 -c 'import urllib.request as http; http.urlopen(\"http://127.0.0.1:8000/\", timeout=3)'";
    let answers = || docker_succeeds(["exec", &vpn.id, "sh", "-c", asked]);
    eventually("it answers", answers);
    stack
        .cofferdam(&["plan"])
        .expect_says(0, "web: stopped for db/files/word");
    for arguments in [&["backup"][..], &["restore", "latest", "--yes"]] {
        let before = started_at(&web);
        stack.cofferdam(arguments).expect(0);
        assert_ne!(started_at(&web), before);
        eventually("it answers again", answers);
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn what_the_engine_would_remove_is_never_stopped() {
    let stack = TestStack::new("rm");
    let db = saved(&stack);
    stack.cofferdam(&["backup"]).expect(0);
    let app = stack.toolbox("app", &[STOP], &["--rm", "--volume", "/anonymous"]);
    app.sh("echo precious >/anonymous/word");
    for arguments in [&["plan"][..], &["backup"], &["restore", "latest", "--yes"]] {
        stack
            .cofferdam(arguments)
            .expect_says(2, "service app would be stopped, but was started with --rm");
    }
    assert_eq!(app.sh("cat /anonymous/word"), "precious");
    assert_eq!(db.sh("cat /srv/word"), "saved");
    stack.ensure_nothing_is_left();
}

/// With the last container that uses it, what is in such a volume goes.
#[test]
fn a_volume_in_memory_is_not_emptied_by_a_stop() {
    let stack = TestStack::new("memory");
    let memory = ["type=tmpfs", "device=tmpfs"].map(|option| ["--opt", option]);
    let volume = TestVolume::create(&memory.concat());
    let mount = format!("{}:/data", volume.name);
    let saved = ("cofferdam.volumes", volume.name.as_str());
    let app = stack.toolbox("app", &[saved, STOP], &["--volume", &mount]);
    app.sh("echo saved >/data/word");
    for arguments in [&["plan"][..], &["backup"]] {
        stack
            .cofferdam(arguments)
            .expect_says(2, "which is in memory and holds app/volume/");
    }
    // Another one keeps it.
    let keeper = stack.toolbox("keeper", &[], &["--volume", &mount]);
    stack.cofferdam(&["backup"]).expect(0);
    app.sh("echo changed >/data/word");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(app.sh("cat /data/word"), "saved");

    drop(keeper);
    let restore = ["restore", "latest", "--yes"];
    stack
        .cofferdam(&restore)
        .expect_says(2, "which is in memory");
    assert_eq!(app.sh("cat /data/word"), "saved");
    docker(["stop", &app.id]);
    let words = "no container that uses it is running";
    stack.cofferdam(&restore).expect_says(2, words);
    stack.cofferdam(&["backup"]).expect_says(1, words);
    stack.ensure_nothing_is_left();
}

#[test]
fn one_that_somebody_removes_meanwhile_is_told_and_blocks_nothing() {
    let stack = TestStack::new("removed");
    let slow = "sh -c 'while [ -e /tmp/slow ]; do touch /tmp/dumping; sleep 0.1; done; echo done'";
    let db = stack.toolbox("db", &[("cofferdam.command.word.dump", slow)], &[]);
    let [first, second] = ["1", "2"].map(|number| {
        let number = format!("com.docker.compose.container-number={number}");
        stack.service("web", &[STOP], &["--label", &number], &[TOOLBOX])
    });
    let vpn = stack.toolbox("vpn", &[STOP], &[]);
    let network = format!("container:{}", vpn.id);
    let guest = stack.toolbox("guest", &[STOP], &["--network", &network]);
    db.sh("touch /tmp/slow");
    let child = stack.start(&["backup"]);
    let has_begun = ["exec", &db.id, "test", "-e", "/tmp/dumping"];
    eventually("the dump has begun", || docker_succeeds(has_begun));
    docker(["rm", &second.id, &vpn.id]);
    db.sh("rm /tmp/slow");
    let run = Run::from(child.wait_with_output().expect("its output"));
    let run = run.expect_says(
        3,
        "web@2: its container was removed from outside while it was held",
    );
    // What shared its network knows it by its id: nobody but who made it can help, and no later run is kept waiting.
    let run = run.expect_says(3, "docker compose up -d --force-recreate guest");
    assert!(is_running(&first) && !is_running(&guest));
    // Another container of the same service does not pass for it.
    assert!(!run.stderr.contains("started from outside"), "{run:?}");
    stack.ensure_nothing_is_left();
    stack.cofferdam(&["backup"]).expect(0);
}

#[test]
fn a_backup_waits_for_nobody_who_was_not_well_before() {
    let stack = TestStack::new("unhealthy");
    let _db = saved(&stack);
    let health = [
        "--health-cmd",
        "false",
        "--health-interval",
        "1s",
        "--health-retries",
        "1",
    ];
    let app = stack.toolbox("app", &[STOP], &health);
    eventually("it is unhealthy", || {
        app.inspect("{{.State.Health.Status}}") == "unhealthy"
    });
    let begun = Instant::now();
    stack.cofferdam(&["backup"]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(is_running(&app));
    drop(app);

    // Data that is put back may heal it: it is waited for, as long as its label says.
    let impatient = [STOP, ("cofferdam.ready-timeout", "3s")];
    let app = stack.toolbox("app", &impatient, &health);
    let begun = Instant::now();
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(3, "within 3s");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(is_running(&app));
    stack.ensure_nothing_is_left();
}

#[test]
fn one_that_is_killed_when_it_is_stopped_is_told() {
    let stack = TestStack::new("deaf");
    let _db = saved(&stack);
    let deaf = ["bash", "-c", "trap '' TERM; while :; do sleep 0.2; done"];
    let _app = stack.service(
        "app",
        &[STOP],
        &["--stop-timeout", "1"],
        &[&[TOOLBOX][..], &deaf].concat(),
    );
    let words = "app did not stop in time and was killed";
    stack.cofferdam(&["backup"]).expect_says(0, words);
    stack.cofferdam(&["show", "latest"]).expect_says(0, words);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(0, words);
}

/// The engine goes on stopping it, although nobody waits for the answer any more.
#[test]
fn one_that_was_about_to_stop_when_the_run_ended_is_started_again() {
    let stack = TestStack::new("stopping");
    let _db = saved(&stack);
    let slow = [
        "bash",
        "-c",
        "trap 'touch /tmp/told; sleep 4; exit 0' TERM; while :; do sleep 0.1; done",
    ];
    let app = stack.service("app", &[STOP], &[], &[&[TOOLBOX][..], &slow].concat());
    for end in ["TERM", "KILL"] {
        app.sh("rm -f /tmp/told");
        let mut child = stack.start(&["backup"]);
        eventually("it is told to stop", || {
            docker_succeeds(["exec", &app.id, "test", "-e", "/tmp/told"])
        });
        match end {
            "TERM" => terminate(&child),
            _ => child.kill().expect("kill"),
        }
        child.wait().expect("its end");
        if end == "KILL" {
            stack.cofferdam(&["recover"]).expect(0);
        }
        std::thread::sleep(Duration::from_secs(6));
        assert!(is_running(&app), "after SIG{end}");
        stack.ensure_nothing_is_left();
    }
}

/// Passes what comes to its port on to the engine, as a socket proxy does.
const PROXY: &str = "
import socket, socketserver, threading
def carry(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
class Call(socketserver.BaseRequestHandler):
    def handle(self):
        engine = socket.socket(socket.AF_UNIX)
        engine.connect('/engine.sock')
        threading.Thread(target=carry, args=(self.request, engine), daemon=True).start()
        carry(engine, self.request)
socketserver.ThreadingTCPServer(('', 2375), Call).serve_forever()
";

struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        docker_succeeds(["network", "rm", &self.0]);
    }
}

#[test]
fn what_cofferdam_speaks_through_is_never_held() {
    let stack = TestStack::new("proxied");
    let _db = saved(&stack);
    let network = Network(unique("proxied"));
    docker(["network", "create", "--label", TEST_LABEL, &network.0]);
    let options = [
        "--init",
        "--network",
        &network.0,
        "--network-alias",
        "socket-proxy",
        "--publish",
        "127.0.0.1::2375",
        "--volume",
        "/var/run/docker.sock:/engine.sock",
    ];
    let serve = [TOOLBOX, "python3", "-c", PROXY];
    let proxy = stack.service("proxy", &[STOP], &options, &serve);
    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = format!("{}:2375", proxy.inspect(address));
    let port = docker(["port", &proxy.id, "2375/tcp"]);
    let words = format!(
        "Cofferdam reaches the Docker Engine through its container {}",
        proxy.name
    );
    let listens = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 2375))'";
    proxy.wait_until(listens);
    for place in [&address, &port] {
        let mut plan = stack.command(&["plan"]);
        plan.env("DOCKER_HOST", format!("tcp://{place}"));
        let plan: Run = plan.output().expect("cofferdam").into();
        plan.expect_says(2, &words);
    }

    let mount = format!("{}:/cofferdam:ro", program());
    for (name, of) in [
        ("socket-proxy", network.0.clone()),
        (proxy.name.as_str(), network.0.clone()),
        ("localhost", format!("container:{}", proxy.id)),
    ] {
        let host = format!("DOCKER_HOST=tcp://{name}:2375");
        let options = ["--network", &of, "--env", &host, "--volume", &mount];
        let plan = [
            busybox_image(),
            "/cofferdam",
            "plan",
            "--project",
            &stack.project,
        ];
        let plan = TestContainer::create(&options, &plan);
        docker_succeeds(["start", "--attach", &plan.id]);
        let said = std::process::Command::new("docker")
            .args(["logs", &plan.id])
            .output();
        let said = Run::from(said.expect("docker"));
        assert_eq!(plan.inspect("{{.State.ExitCode}}"), "2", "{name}: {said:?}");
        let is_told = said.stderr.contains("through its container")
            || said.stderr.contains("Cofferdam would cut itself off");
        assert!(is_told, "{name}: {said:?}");
    }
    // By the engine's own socket it is one like any other.
    stack
        .cofferdam(&["plan"])
        .expect_says(0, "proxy: stopped for db/files/word");
}
