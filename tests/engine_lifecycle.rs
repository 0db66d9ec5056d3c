//! Containers of a real engine: found, stopped, started, waited for, made and removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{
    RemoveContainer, TEST_LABEL, TestContainer, TestVolume, busybox_image, docker, engine, unique,
};
use cofferdam::engine::image::AGENT_PATH;
use cofferdam::engine::{
    Container, EngineError, Health, HelperMount, HelperSource, HelperSpec, MountKind, Processes,
    State,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

async fn state(container: &TestContainer) -> State {
    engine().await.inspect(&container.id).await.unwrap().state
}

#[tokio::test]
async fn a_container_is_described_as_it_is() {
    let volume = TestVolume::create(&[]);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let container = TestContainer::idle_with(&[
        "--volume",
        &format!("{}:/data", volume.name),
        "--volume",
        &format!("{directory}:/host:ro"),
        "--mount",
        "type=tmpfs,target=/long",
        "--tmpfs",
        "/short",
        "--env",
        "KEY=a=b",
        "--user",
        "12",
        "--read-only",
        "--label",
        "com.docker.compose.project=p",
        "--label",
        "com.docker.compose.service=s",
    ]);
    let found = engine().await.inspect(&container.name).await.unwrap();
    assert_eq!((&found.id, &found.name), (&container.id, &container.name));
    assert_eq!(found.image, busybox_image());
    assert_eq!(found.image_id, container.inspect("{{.Image}}"));
    assert_eq!(
        found.started_at,
        container
            .inspect("{{json .State.StartedAt}}")
            .trim_matches('"')
    );
    assert_eq!((found.state, found.health), (State::Running, Health::None));
    assert_eq!((found.project(), found.service()), ("p", "s"));
    assert_eq!(
        (found.env["KEY"].as_str(), found.user.as_str()),
        ("a=b", "12")
    );
    assert!(found.read_only_root && found.network_of.is_none());
    assert_eq!(found.tmpfs, ["/long", "/short"]);
    assert!(found.is_on_tmpfs("/long/x") && found.is_on_tmpfs("/short"));
    let data = found.mount_of("/data/x").unwrap();
    assert_eq!(
        (data.kind, data.volume.as_deref(), data.writable),
        (MountKind::Volume, Some(volume.name.as_str()), true)
    );
    let host = found.mount_of("/host").unwrap();
    assert_eq!(
        (
            host.kind,
            host.source.as_str(),
            host.volume.as_deref(),
            host.writable
        ),
        (MountKind::Bind, directory, None, false)
    );
    let age = jiff::Timestamp::now().duration_since(found.created);
    assert!(age.as_secs() < 600, "{age:?}");
}

#[tokio::test]
async fn shared_namespaces_are_known_by_the_others_id() {
    let first = TestContainer::idle();
    for written in [&first.name, &first.id[..12]] {
        let shared = format!("container:{written}");
        let second = TestContainer::idle_with(&["--network", &shared, "--pid", &shared]);
        let found = engine().await.inspect(&second.id).await.unwrap();
        assert_eq!(found.network_of.as_ref(), Some(&first.id), "{written}");
        assert_eq!(found.namespaces_of, vec![first.id.clone(); 2], "{written}");
    }
}

#[tokio::test]
async fn containers_are_found_by_label() {
    let (key, value) = (unique("key"), unique("value"));
    let label = format!("cofferdam-test.{key}={value}");
    let stopped = TestContainer::create(&["--label", &label], &[busybox_image(), "true"]);
    let running = TestContainer::idle_with(&["--label", &label]);
    let engine = engine().await;
    let ids = async |labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut ids: Vec<String> = engine
            .containers(&labels)
            .await
            .unwrap()
            .into_iter()
            .map(|container: Container| container.id)
            .collect();
        ids.sort();
        ids
    };
    let mut both = vec![stopped.id.clone(), running.id.clone()];
    both.sort();
    assert_eq!(ids(&[&label]).await, both);
    assert_eq!(
        ids(&[&format!("cofferdam-test.{key}"), TEST_LABEL]).await,
        both
    );
    assert!(
        ids(&[&format!("cofferdam-test.{key}=other")])
            .await
            .is_empty()
    );
    assert!(ids(&[&label, "cofferdam-test.nothing"]).await.is_empty());
}

#[tokio::test]
async fn stopping_and_starting_twice_is_no_error() {
    let container = TestContainer::idle();
    let engine = engine().await;
    for _ in 0..2 {
        engine
            .stop(&container.id, Some(Duration::ZERO))
            .await
            .unwrap();
        assert_eq!(state(&container).await, State::Exited);
    }
    for _ in 0..2 {
        engine.start(&container.id).await.unwrap();
        assert_eq!(state(&container).await, State::Running);
    }
    for _ in 0..2 {
        engine.pause(&container.id).await.unwrap();
        assert_eq!(state(&container).await, State::Paused);
    }
    for _ in 0..2 {
        engine.unpause(&container.id).await.unwrap();
        assert_eq!(state(&container).await, State::Running);
    }
    engine
        .stop(&container.id, Some(Duration::ZERO))
        .await
        .unwrap();
    assert!(engine.pause(&container.id).await.is_err());
    engine.unpause(&container.id).await.unwrap();
}

#[tokio::test]
async fn the_grace_is_what_was_asked_for() {
    let stubborn = &[
        busybox_image(),
        "sh",
        "-c",
        "trap '' TERM; while true; do sleep 0.1; done",
    ];
    let container = TestContainer::running(&["--stop-timeout", "1"], stubborn);
    let engine = engine().await;
    let begun = Instant::now();
    engine
        .stop(&container.id, Some(Duration::from_secs(3)))
        .await
        .unwrap();
    let three = begun.elapsed();
    engine.start(&container.id).await.unwrap();
    let begun = Instant::now();
    engine.stop(&container.id, None).await.unwrap();
    let own = begun.elapsed();
    assert!(
        three >= Duration::from_secs(3) && own < three,
        "{three:?}, {own:?}"
    );
}

#[tokio::test]
async fn a_container_that_is_gone_says_so() {
    let engine = engine().await;
    let gone = "0".repeat(64);
    for error in [
        engine.stop(&gone, None).await.unwrap_err(),
        engine.start(&gone).await.unwrap_err(),
        engine.pause(&gone).await.unwrap_err(),
        engine.unpause(&gone).await.unwrap_err(),
        engine.wait_ready(&gone, LIMIT).await.unwrap_err(),
        engine.wait_exit(&gone).await.unwrap_err(),
        engine.process_names(&gone).await.unwrap_err(),
        engine.inspect("../version").await.unwrap_err(),
    ] {
        assert!(
            matches!(error, EngineError::NoSuchContainer(_)),
            "{error:?}"
        );
    }
    engine.remove(&gone).await.unwrap();
}

#[tokio::test]
async fn health_is_waited_for() {
    let check = "test -e /tmp/healthy || { echo first; echo not yet; exit 1; }";
    let options = [
        "--health-cmd",
        check,
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
    ];
    let container = TestContainer::idle_with(&options);
    let engine = engine().await;
    let error = engine
        .wait_ready(&container.id, Duration::from_secs(6))
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("says unhealthy: not yet"),
        "{error}"
    );
    container.sh("touch /tmp/healthy");
    engine.wait_ready(&container.id, LIMIT).await.unwrap();
    assert_eq!(
        engine.inspect(&container.id).await.unwrap().health,
        Health::Healthy
    );
}

#[tokio::test]
async fn without_a_health_check_running_is_enough_and_dying_is_not() {
    let engine = engine().await;
    engine
        .wait_ready(&TestContainer::idle().id, LIMIT)
        .await
        .unwrap();

    let sh = |line| TestContainer::running(&[], &[busybox_image(), "sh", "-c", line]);
    engine.wait_ready(&sh("exit 0").id, LIMIT).await.unwrap();
    let error = engine
        .wait_ready(&sh("sleep 0.3; exit 3").id, LIMIT)
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("it ended with exit code 3"),
        "{error}"
    );

    let restarting = ["sh", "-c", "sleep 0.2; exit 4"];
    let restarting = [&[busybox_image()], restarting.as_slice()].concat();
    let container = TestContainer::running(&["--restart", "always"], &restarting);
    let error = engine
        .wait_ready(&container.id, Duration::from_secs(4))
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::NotReady { .. }), "{error:?}");
}

#[tokio::test]
async fn an_exit_code_is_waited_for() {
    let engine = engine().await;
    for code in [0, 7] {
        let line = format!("sleep 0.5; exit {code}");
        let container = TestContainer::running(&[], &[busybox_image(), "sh", "-c", &line]);
        assert_eq!(engine.wait_exit(&container.id).await.unwrap(), code);
    }
    // The engine itself says of this one that it has ended with 0.
    let never = TestContainer::create(&[], &[busybox_image(), "true"]);
    assert!(engine.wait_exit(&never.id).await.is_err());
}

#[tokio::test]
async fn processes_are_known_by_their_names() {
    let container = TestContainer::running(&[], &[busybox_image(), "sh", "-c", "sleep 3600; true"]);
    let engine = engine().await;
    let mut names = Vec::new();
    // The shell needs a moment to start the other.
    for _ in 0..100 {
        names = engine.process_names(&container.id).await.unwrap();
        names.sort();
        if names.len() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(names, ["sh", "sleep"]);
}

fn helper(argv: &[&str]) -> HelperSpec {
    HelperSpec {
        name: Some(unique("helper")),
        image: busybox_image().to_owned(),
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        labels: BTreeMap::from([("cofferdam.test".to_owned(), "1".to_owned())]),
        network: "none".to_owned(),
        ..HelperSpec::default()
    }
}

#[tokio::test]
async fn a_helper_can_do_no_more_than_it_must() {
    let volume = TestVolume::create(&[]);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let spec = HelperSpec {
        env: vec![("JOB".to_owned(), "{\"a\": 1}".to_owned())],
        mounts: vec![
            HelperMount {
                source: HelperSource::Volume(volume.name.clone()),
                // The image has files here; they must not get into the volume.
                destination: "/bin".to_owned(),
                read_only: false,
            },
            HelperMount {
                source: HelperSource::Path(directory.to_owned()),
                destination: "/host".to_owned(),
                read_only: true,
            },
        ],
        capabilities: vec!["DAC_READ_SEARCH", "CHOWN"],
        processes: Processes::OfHost,
        ..helper(&["/cofferdam", "agent"])
    };
    let engine = engine().await;
    let id = engine.create_helper(&spec).await.unwrap();
    let _guard = RemoveContainer(id.clone());
    let inspected: Vec<Value> = serde_json::from_str(&docker(["inspect", &id])).unwrap();
    let (config, host) = (&inspected[0]["Config"], &inspected[0]["HostConfig"]);
    assert_eq!(inspected[0]["State"]["Status"], "created");
    assert_eq!(config["Entrypoint"], json!(["/cofferdam", "agent"]));
    assert_eq!(config["User"], "0:0");
    assert!(
        config["Env"]
            .as_array()
            .unwrap()
            .contains(&json!("JOB={\"a\": 1}"))
    );
    assert_eq!(config["Labels"]["cofferdam.test"], "1");
    assert!(!config["Labels"].to_string().contains("com.docker.compose"));
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(
        host["SecurityOpt"],
        json!(["no-new-privileges", "label=disable"])
    );
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert_eq!(host["CapAdd"], json!(["DAC_READ_SEARCH", "CHOWN"]));
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(
        (&host["AutoRemove"], &host["Privileged"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        (&host["NetworkMode"], &host["PidMode"]),
        (&json!("none"), &json!("host"))
    );
    assert_eq!(host["Mounts"][0]["VolumeOptions"]["NoCopy"], true);
    assert_eq!(host["Mounts"][1]["ReadOnly"], true);
    assert_eq!(host["Mounts"][1]["BindOptions"]["Propagation"], "rprivate");

    let again = engine.create_helper(&spec).await.unwrap_err();
    assert!(
        matches!(&again, EngineError::NameTaken(name) if Some(name) == spec.name.as_ref()),
        "{again:?}"
    );

    engine.remove(&id).await.unwrap();
    engine.remove(&id).await.unwrap();
    let mounted = format!("{}:/data", volume.name);
    let looker = TestContainer::idle_with(&["--volume", &mounted]);
    assert_eq!(
        looker.sh("ls /data"),
        "",
        "the image's files were copied into the volume"
    );
}

#[tokio::test]
async fn a_running_helper_has_only_its_capabilities() {
    let directory = tempfile::tempdir().unwrap();
    let spec = HelperSpec {
        mounts: vec![HelperMount {
            source: HelperSource::Path(directory.path().to_str().unwrap().to_owned()),
            destination: "/out".to_owned(),
            read_only: false,
        }],
        capabilities: vec!["CHOWN"],
        ..helper(&[
            "sh",
            "-c",
            "grep -E 'CapEff|NoNewPrivs' /proc/self/status > /out/status; ! touch /x && exit 9",
        ])
    };
    let engine = engine().await;
    let id = engine.create_helper(&spec).await.unwrap();
    let _guard = RemoveContainer(id.clone());
    engine.start(&id).await.unwrap();
    assert_eq!(engine.wait_exit(&id).await.unwrap(), 9);
    let status = std::fs::read_to_string(directory.path().join("status")).unwrap();
    let values: Vec<&str> = status.split_whitespace().collect();
    assert_eq!(values, ["CapEff:", "0000000000000001", "NoNewPrivs:", "1"]);
}

#[tokio::test]
async fn a_missing_volume_is_not_made_anew() {
    let name = unique("missing");
    let spec = HelperSpec {
        mounts: vec![HelperMount {
            source: HelperSource::Volume(name.clone()),
            destination: "/data".to_owned(),
            read_only: true,
        }],
        ..helper(&["true"])
    };
    let engine = engine().await;
    let error = engine.create_helper(&spec).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::NoSuchVolume(missing) if *missing == name),
        "{error:?}"
    );
    assert!(!crate::support::docker_succeeds([
        "volume", "inspect", &name
    ]));
    assert!(engine.volume(&name).await.unwrap().is_none());

    let volume = TestVolume::create(&["--label", "com.docker.compose.volume=storage"]);
    let labels = engine
        .volume(&volume.name)
        .await
        .unwrap()
        .expect("a volume")
        .labels;
    assert_eq!(labels["com.docker.compose.volume"], "storage");
}

#[tokio::test]
async fn the_agents_image_is_made_of_the_binary_once() {
    let engine = engine().await;
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("binary");
    let container = TestContainer::idle();
    docker([
        "cp",
        &format!("{}:/bin/busybox", container.id),
        binary.to_str().unwrap(),
    ]);
    let mut content = std::fs::read(&binary).unwrap();
    content.extend_from_slice(unique("image").as_bytes());
    std::fs::write(&binary, content).unwrap();

    let image = engine.agent_image_of(&binary).await.unwrap();
    let _guard = RemoveImage(image.clone());
    assert!(
        image.starts_with("cofferdam-agent:") && image.len() == 28,
        "{image}"
    );
    let created = docker([
        "image",
        "inspect",
        "--format",
        "{{.Id}} {{.Created}}",
        &image,
    ]);
    assert_eq!(engine.agent_image_of(&binary).await.unwrap(), image);
    assert_eq!(
        docker([
            "image",
            "inspect",
            "--format",
            "{{.Id}} {{.Created}}",
            &image
        ]),
        created
    );

    let spec = HelperSpec {
        image,
        ..helper(&[AGENT_PATH])
    };
    let id = engine.create_helper(&spec).await.unwrap();
    let _guard = RemoveContainer(id.clone());
    engine.start(&id).await.unwrap();
    assert_eq!(
        engine.wait_exit(&id).await.unwrap(),
        127,
        "applet not found"
    );
    assert_eq!(
        docker([
            "inspect",
            "--format",
            "{{index .Config.Labels \"cofferdam.agent-image\"}}",
            &id
        ]),
        "1"
    );
    let missing = engine
        .agent_image_of(Path::new("/nonexistent"))
        .await
        .unwrap_err();
    assert!(matches!(missing, EngineError::Source { .. }), "{missing:?}");
}

struct RemoveImage(String);

impl Drop for RemoveImage {
    fn drop(&mut self) {
        crate::support::docker_succeeds(["image", "rm", "--force", &self.0]);
    }
}
