//! Labels are requests, not proof: what only says that it is Cofferdam's is neither believed nor removed.

use std::process::Command;

use serde_json::json;

use crate::support::stack::{Run, TestStack, is_running};
use crate::support::{
    TestContainer, TestImage, agent_image, busybox_image, docker, program, unique,
};

const RUN: &str = "20261121T020000Z-9f2c61aa";

/// A project of which a dead run is said to hold a container that somebody has stopped.
struct Scene {
    stack: TestStack,
    off: TestContainer,
    name: String,
    labels: Vec<String>,
}

impl Scene {
    fn new(what: &str) -> Self {
        let stack = TestStack::new(what);
        let off = stack.toolbox("off", &[("cofferdam.files.word", "/srv/word")], &[]);
        off.sh("echo saved >/srv/word");
        docker(["stop", "--time", "0", &off.id]);
        let project = &stack.project;
        let held = json!([{"container": off.id, "service": "off", "action": "stop"}]);
        let owner = json!({
            "container": {"id": "f".repeat(64), "started_at": "x"},
            "host": "x", "boot": "x", "pid": 1, "started": 1,
        });
        let journal = json!({
            "version": 2, "tool": "cofferdam", "run": RUN, "project": project,
            "operation": "backup", "owner": owner, "held": held, "services": [],
        });
        let labels = vec![
            format!("--label=cofferdam.hold={project}"),
            format!("--label=cofferdam.hold.run={RUN}"),
            format!("--label=cofferdam.hold.journal={journal}"),
        ];
        Self {
            name: format!("cofferdam-hold-{project}"),
            stack,
            off,
            labels,
        }
    }

    /// A container with the labels of its journal, never started.
    fn journal(&self, name: &str, options: &[&str], image: &str) -> TestContainer {
        let labels = self.labels.iter().map(String::as_str);
        let options: Vec<&str> = labels.chain(options.iter().copied()).collect();
        TestContainer::named(name, &options, &[image, "true"])
    }

    #[track_caller]
    fn ensure_nothing_was_done(&self, stranger: &TestContainer, state: &str) {
        assert!(!is_running(&self.off), "it was started");
        assert_eq!(stranger.inspect("{{.State.Status}}"), state);
    }
}

#[test]
fn a_journal_by_its_labels_alone_is_none() {
    let scene = Scene::new("forged");
    let (stack, image) = (&scene.stack, agent_image());
    let stranger = scene.journal(&unique("stranger"), &["--volume=/anonymous"], &image);
    stack
        .cofferdam(&["recover"])
        .expect_says(0, "has the labels of a hold journal but is not one");
    scene.ensure_nothing_was_done(&stranger, "created");
    // It keeps nobody from anything.
    stack.cofferdam(&["backup", "--keep", "last=1"]).expect(0);
    scene.ensure_nothing_was_done(&stranger, "created");
    let volume = "{{range .Mounts}}{{.Name}}{{end}}";
    docker(["volume", "inspect", &stranger.inspect(volume)]);
    drop(stranger);

    // What has the name is never passed over.
    let composed = ["--label=com.docker.compose.container-number=1"];
    let stranger = scene.journal(&scene.name, &composed, &image);
    for arguments in [&["recover"][..], &["prune", "--keep", "last=1"]] {
        stack.cofferdam(arguments).expect_says(1, "compose made it");
        scene.ensure_nothing_was_done(&stranger, "created");
    }
    // Neither is it by whoever recovers another project.
    let mut elsewhere = Command::new(program());
    let elsewhere = elsewhere.args(["recover", "--project", "elsewhere"]);
    let run: Run = elsewhere.output().expect("cofferdam").into();
    assert!(!run.stdout.contains("Nothing to recover"), "{}", run.stdout);
    run.expect_says(0, &scene.name);
    drop(stranger);

    // What is in its image is no more than a label.
    let model = scene.journal(
        &unique("model"),
        &["--label=cofferdam.agent-image=1"],
        busybox_image(),
    );
    let baked = TestImage::of(&model);
    drop(model);
    for image in [busybox_image(), &baked.name] {
        let doubtful = scene.journal(&scene.name, &[], image);
        for arguments in [&["recover"][..], &["backup"]] {
            stack
                .cofferdam(arguments)
                .expect_says(1, "is not Cofferdam's");
            scene.ensure_nothing_was_done(&doubtful, "created");
        }
    }

    // With all that Cofferdam itself gives it, it is believed: also when compose built the image, and when somebody has started
    // all containers.
    let built = [
        "--label=com.docker.compose.project=elsewhere",
        "--label=com.docker.compose.service=cofferdam",
    ];
    let genuine = scene.journal(&scene.name, &built, &image);
    docker(["start", &genuine.id]);
    docker(["wait", &genuine.id]);
    stack.cofferdam(&["recover"]).expect(0);
    assert!(is_running(&scene.off));
    stack.ensure_nothing_is_left();
}

#[test]
fn what_cannot_be_read_blocks_the_prunes_of_its_own_project_alone() {
    let scene = Scene::new("unread");
    let (stack, image) = (&scene.stack, agent_image());
    for _ in 0..2 {
        stack.cofferdam(&["backup"]).expect(0);
    }
    stack.as_by_schedule();
    let other = unique("other");
    let journal = |project: &str, image: &str, text: &str| {
        let labels = [
            format!("--label=cofferdam.hold={project}"),
            format!("--label=cofferdam.hold.journal={text}"),
        ];
        let name = format!("cofferdam-hold-{project}");
        TestContainer::named(&name, &[&labels[0], &labels[1]], &[image, "true"])
    };
    let prune = ["prune", "--keep", "last=1"];
    let newer = r#"{"version": 99, "tool": "cofferdam 9.0.0"}"#;
    for (image, text) in [
        (image.as_str(), newer),
        (image.as_str(), "no journal"),
        (busybox_image(), newer),
    ] {
        let _blocking = journal(&stack.project, image, text);
        stack
            .cofferdam(&prune)
            .expect_says(1, &format!("cofferdam-hold-{}", stack.project));
        assert_eq!(stack.manifests().len(), 2);
    }

    // A restore of another project may read snapshots of this one.
    let reader = json!({"version": 99, "tool": "x", "restore": {"project": stack.project}});
    let reading = journal(&other, &image, &reader.to_string());
    stack.cofferdam(&prune).expect_says(1, "cannot be read");
    assert_eq!(stack.manifests().len(), 2);
    drop(reading);

    let _others = journal(&other, &image, newer);
    stack
        .cofferdam(&prune)
        .expect_says(0, "cofferdam 9.0.0 wrote it");
    assert_eq!(stack.manifests().len(), 1);
}
