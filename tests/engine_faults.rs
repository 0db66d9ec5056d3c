//! An engine behind something that cuts, hangs, refuses and leaves out. Nothing of it may ever look like success.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::{Duration, Instant};

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::{TestContainer, busybox_image, docker, engine};
use cofferdam::engine::{Endpoint, Engine, EngineError, ExecSpec, HelperSpec, NewFile};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(60);

fn sh(line: &str) -> ExecSpec {
    ExecSpec::new(["sh", "-c", line])
}

/// The bytes of a streamed command, and how it ended.
async fn read(
    engine: &Engine,
    container: &str,
    spec: &ExecSpec,
) -> (usize, Result<(), EngineError>) {
    let mut stream = match engine.exec_stream(container, spec, PATIENCE).await {
        Ok(stream) => stream,
        Err(error) => return (0, Err(error)),
    };
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await;
    let ended = ended.map(drop).map_err(|error| error.downcast().unwrap());
    (bytes.len(), ended)
}

#[tokio::test]
async fn without_faults_the_proxy_changes_nothing() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    let engine = proxy.engine().await;
    let before_agreement = proxy.versions();
    let (length, ended) = read(&engine, &container.id, &sh("head -c 3000000 /dev/zero")).await;
    assert_eq!((length, ended.is_ok()), (3_000_000, true));
    let input = Box::pin(Cursor::new(vec![b'x'; 500_000]));
    let output = engine
        .exec_with_input(&container.id, &sh("wc -c"), input)
        .await
        .unwrap();
    assert_eq!(output.stdout.trim_ascii(), b"500000");
    let (size, mut content) = engine
        .file_get(&container.id, "/bin/busybox", PATIENCE)
        .await
        .unwrap();
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, size);
    assert!(
        proxy
            .seen()
            .contains(&format!("POST /containers/{}/exec", container.id))
    );
    // Asking for the version is the one request that can name none.
    let version = format!("v{}", engine.facts().await.unwrap().api_version);
    assert_eq!(before_agreement, BTreeSet::from([String::new()]));
    assert_eq!(proxy.versions(), BTreeSet::from([String::new(), version]));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_never_a_success() {
    let container = TestContainer::idle();
    // The command goes on after the cut: at a frame's border, and within a header and a content.
    let line = "i=0; while [ $i -lt 100 ]; do printf 12345678; sleep 0.1; i=$((i+1)); done";
    for bytes in [0, 16, 20, 29] {
        let proxy = FaultProxy::start();
        proxy.on("POST", "/exec/*/start", Fault::Cut(bytes));
        let engine = proxy.engine().await;
        let begun = Instant::now();
        let (_, ended) = read(&engine, &container.id, &sh(line)).await;
        assert!(
            matches!(ended, Err(EngineError::Cut { .. })),
            "{bytes}: {ended:?}"
        );
        let error = engine.exec(&container.id, &sh(line)).await.unwrap_err();
        assert!(
            matches!(error, EngineError::Cut { .. }),
            "{bytes}: {error:?}"
        );
        // The process is seen to be alive: no need to wait for its exit code.
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn a_frame_that_is_cut_is_never_a_success_even_when_the_command_ended_well() {
    let container = TestContainer::idle();
    let whole = 8 + 1000;
    for bytes in [1, 7, 8, 500, whole - 1] {
        let proxy = FaultProxy::start();
        proxy.on("POST", "/exec/*/start", Fault::Cut(bytes));
        let engine = proxy.engine().await;
        let line = "head -c 1000 /dev/zero | tr '\\0' '\\377'";
        let (_, ended) = read(&engine, &container.id, &sh(line)).await;
        assert!(
            matches!(ended, Err(EngineError::Cut { .. })),
            "{bytes}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_end_is_never_a_success() {
    let container = TestContainer::idle();
    let changes: [fn(&mut Value); 4] = [
        |exec| exec["ExitCode"] = Value::Null,
        |exec| drop(exec.as_object_mut().unwrap().remove("ExitCode")),
        |exec| drop(exec.as_object_mut().unwrap().remove("Running")),
        // What podman and some engines say while they do not know yet.
        |exec| {
            exec["Running"] = json!(true);
            exec["Pid"] = json!(0);
        },
    ];
    let endings = changes.map(|change| {
        let id = container.id.clone();
        async move {
            let proxy = FaultProxy::start();
            proxy.on("GET", "/exec/*/json", Fault::rewrite(change));
            let engine = proxy.engine().await;
            read(&engine, &id, &sh("echo whole")).await.1
        }
    });
    for ended in futures_util::future::join_all(endings).await {
        assert!(matches!(ended, Err(EngineError::Cut { .. })), "{ended:?}");
    }
}

#[tokio::test]
async fn an_engine_that_notices_the_end_late_is_waited_for() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    let still_running = Fault::rewrite(|exec| exec["Running"] = json!(true));
    for _ in 0..8 {
        proxy.once("GET", "/exec/*/json", still_running.clone());
    }
    let engine = proxy.engine().await;
    let output = engine
        .exec(&container.id, &sh("echo slow; exit 6"))
        .await
        .unwrap();
    assert_eq!(
        (output.exit_code, output.stdout.as_slice()),
        (6, &b"slow\n"[..])
    );
}

#[tokio::test]
async fn an_engine_that_forgets_the_command_is_a_failure() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    proxy.on("GET", "/exec/*/json", Fault::Refuse);
    let engine = proxy.engine().await;
    let error = engine.exec(&container.id, &sh("true")).await.unwrap_err();
    assert!(matches!(error, EngineError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_hangs_is_given_up() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    proxy.on("POST", "/exec/*/start", Fault::HangAfter(16));
    let engine = proxy.engine().await;
    let limit = Duration::from_millis(500);
    let mut stream = engine
        .exec_stream(&container.id, &sh("echo 1234567; echo more"), limit)
        .await
        .unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = EngineError::in_io(&error).unwrap();
    assert!(matches!(error, EngineError::Silent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_command_without_a_limit_is_not_waited_for_after_its_end() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    proxy.on("POST", "/exec/*/start", Fault::HangAfter(16));
    let engine = proxy.engine().await;
    let spec = sh("echo 1234567; echo more");
    let running = engine.exec(&container.id, &spec);
    let error = tokio::time::timeout(PATIENCE, running).await.unwrap();
    let error = error.unwrap_err();
    assert!(matches!(error, EngineError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_cut_is_an_error_of_its_stream() {
    let container = TestContainer::idle();
    container.sh("head -c 2000000 /dev/zero > /tmp/f");
    let faults = [
        Fault::Cut(1000),
        Fault::Cut(1_500_000),
        // These end the answer as if it were whole: within the content, at its end, within the end marker.
        Fault::EndEarly(1_000_000),
        Fault::EndEarly(512 + 2_000_000),
        Fault::EndEarly(512 + 2_000_384 + 512),
    ];
    for (case, fault) in faults.into_iter().enumerate() {
        let proxy = FaultProxy::start();
        proxy.on("GET", "/containers/*/archive", fault);
        let engine = proxy.engine().await;
        let (size, mut content) = engine
            .file_get(&container.id, "/tmp/f", PATIENCE)
            .await
            .unwrap();
        assert_eq!(size, 2_000_000);
        let error = content.read_to_end(&mut Vec::new()).await.unwrap_err();
        let error = EngineError::in_io(&error).unwrap();
        assert!(
            matches!(error, EngineError::DamagedArchive { .. }),
            "{case}: {error:?}"
        );
    }
    for fault in [Fault::Cut(100), Fault::EndEarly(0), Fault::EndEarly(511)] {
        let proxy = FaultProxy::start();
        proxy.on("GET", "/containers/*/archive", fault);
        let engine = proxy.engine().await;
        let error = engine
            .file_get(&container.id, "/tmp/f", PATIENCE)
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, EngineError::DamagedArchive { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_hangs_is_given_up() {
    let container = TestContainer::idle();
    container.sh("head -c 2000000 /dev/zero > /tmp/f");
    let proxy = FaultProxy::start();
    proxy.on("GET", "/containers/*/archive", Fault::HangAfter(500_000));
    let engine = proxy.engine().await;
    let limit = Duration::from_millis(500);
    let (_, mut content) = engine
        .file_get(&container.id, "/tmp/f", limit)
        .await
        .unwrap();
    let error = content.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = EngineError::in_io(&error).unwrap();
    assert!(matches!(error, EngineError::Silent { .. }), "{error:?}");
}

#[tokio::test]
async fn what_a_proxy_forbids_is_said_with_what_was_to_be_done() {
    let container = TestContainer::idle();
    let proxy = FaultProxy::start();
    proxy.on("POST", "/containers/create", Fault::Refuse);
    proxy.on("POST", "/images/create", Fault::Refuse);
    proxy.on("PUT", "/containers/*/archive", Fault::Refuse);
    proxy.on("POST", "/containers/*/exec", Fault::Refuse);
    proxy.on("POST", "/containers/*/stop", Fault::Refuse);
    let engine = proxy.engine().await;
    let helper = HelperSpec {
        image: busybox_image().to_owned(),
        argv: vec!["true".to_owned()],
        network: "none".to_owned(),
        ..HelperSpec::default()
    };
    let file = NewFile {
        name: "f",
        bytes: 20_000_000,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    let content = Box::pin(tokio::io::repeat(0).take(file.bytes));
    let binary = std::env::current_exe().unwrap();
    let errors = [
        engine.create_helper(&helper).await.unwrap_err(),
        engine.agent_image_of(&binary).await.unwrap_err(),
        engine
            .file_put(&container.id, "/tmp", file, content)
            .await
            .unwrap_err(),
        engine.exec(&container.id, &sh("true")).await.unwrap_err(),
        engine.stop(&container.id, None).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, EngineError::Forbidden { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("Request forbidden by administrative rules"),
            "{error}"
        );
    }
    assert_eq!(container.inspect("{{.State.Running}}"), "true");
}

#[tokio::test]
async fn an_exit_is_believed_only_from_the_containers_state() {
    let proxy = FaultProxy::start();
    // The wait ends at once, and well, while the container still runs.
    proxy.once("POST", "/containers/*/wait", Fault::EndEarly(0));
    proxy.once("POST", "/containers/*/wait", Fault::Cut(0));
    let engine = proxy.engine().await;
    let container = TestContainer::running(&[], &[busybox_image(), "sh", "-c", "sleep 2; exit 8"]);
    assert_eq!(engine.wait_exit(&container.id).await.unwrap(), 8);
}

#[tokio::test]
async fn a_container_that_vanishes_between_list_and_inspect_is_left_out() {
    let (stays, goes) = (TestContainer::idle(), TestContainer::idle());
    let proxy = FaultProxy::start();
    let path = format!("/containers/{}/json", goes.id);
    proxy.on("GET", &path, Fault::Delay(Duration::from_secs(3)));
    let engine = proxy.engine().await;
    let label = [crate::support::TEST_LABEL.to_owned()];
    let listing = engine.containers(&label);
    let removal = async {
        while !proxy.seen().contains(&format!("GET {path}")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        docker(["rm", "--force", &goes.id]);
    };
    let (found, ()) = tokio::join!(listing, removal);
    let ids: Vec<String> = found
        .unwrap()
        .into_iter()
        .map(|container| container.id)
        .collect();
    assert!(ids.contains(&stays.id) && !ids.contains(&goes.id));
}

#[tokio::test]
async fn an_engine_that_cannot_be_reached_says_what_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let connect = async |endpoint| Engine::connect(endpoint).await.err().unwrap().to_string();

    let missing = connect(Endpoint::Unix(path("missing.sock"))).await;
    assert!(missing.contains("mount the engine's socket"), "{missing}");

    drop(std::os::unix::net::UnixListener::bind(path("stale.sock")).unwrap());
    let stale = connect(Endpoint::Unix(path("stale.sock"))).await;
    assert!(stale.contains("nothing listens"), "{stale}");

    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let tcp = |tls| Endpoint::Tcp {
        address: format!("127.0.0.1:{port}"),
        tls,
    };
    let refused = connect(tcp(None)).await;
    assert!(
        refused.contains("check DOCKER_HOST, and that the engine"),
        "{refused}"
    );

    let no_certificates = connect(tcp(Some(cofferdam::engine::connect::TlsFiles {
        ca: path("ca.pem"),
        certificate: path("cert.pem"),
        key: path("key.pem"),
    })))
    .await;
    assert!(
        no_certificates.contains("DOCKER_CERT_PATH"),
        "{no_certificates}"
    );

    let proxy = FaultProxy::start();
    proxy.on("GET", "/version", Fault::Hang);
    let hanging = tokio::time::timeout(PATIENCE, connect(proxy.endpoint()))
        .await
        .unwrap();
    assert!(hanging.contains("does not answer"), "{hanging}");
    assert!(
        engine()
            .await
            .facts()
            .await
            .unwrap()
            .api_version
            .starts_with("1.")
    );
}
