//! Commands in real containers: what they print, how they end, and how they cannot.

use std::time::{Duration, Instant};

use crate::support::{TestContainer, docker, engine};
use cofferdam::engine::{EngineError, ExecOutput, ExecSpec};
use cofferdam::secret::Secret;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(60);

fn sh(line: &str) -> ExecSpec {
    ExecSpec::new(["sh", "-c", line])
}

async fn exec(container: &TestContainer, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
    engine().await.exec(&container.id, spec).await
}

/// Reads a streamed command to its end.
async fn read(container: &TestContainer, spec: &ExecSpec) -> Result<Vec<u8>, EngineError> {
    let mut stream = engine()
        .await
        .exec_stream(&container.id, spec, PATIENCE)
        .await?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error
            .into_inner()
            .unwrap()
            .downcast()
            .map(|error| *error)
            .unwrap()),
    }
}

#[tokio::test]
async fn a_commands_streams_and_exit_code_come_back() {
    let container = TestContainer::idle();
    let output = exec(&container, &sh("echo out; echo err >&2; exit 3"))
        .await
        .unwrap();
    assert_eq!((output.exit_code, output.truncated), (3, false));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.last_words(), "err");
}

#[tokio::test]
async fn environment_user_and_directory_reach_the_command() {
    let container = TestContainer::idle();
    let spec = ExecSpec {
        env: vec![("PLAIN".to_owned(), "a b=c".to_owned())],
        secret_env: vec![("PASSWORD".to_owned(), Secret::new("hunter2"))],
        user: Some("12:34".to_owned()),
        working_dir: Some("/etc".to_owned()),
        ..sh("id -u; id -g; pwd; echo \"$PLAIN\"; test \"$PASSWORD\" = hunter2 && echo known")
    };
    let output = exec(&container, &spec).await.unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "12\n34\n/etc\na b=c\nknown\n"
    );
}

#[tokio::test]
async fn secrets_do_not_come_back_in_messages() {
    let container = TestContainer::idle();
    let secret = |line: &str| ExecSpec {
        secret_env: vec![("PASSWORD".to_owned(), Secret::new("hunter2"))],
        ..sh(line)
    };
    let output = exec(&container, &secret("echo refused $PASSWORD >&2"))
        .await
        .unwrap();
    assert_eq!(output.last_words(), "refused [redacted]");

    let error = read(&container, &secret("echo refused $PASSWORD >&2; exit 1"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("exit code 1: refused [redacted]"),
        "{error}"
    );

    let missing = ExecSpec {
        argv: vec!["hunter2-tool".to_owned()],
        ..secret("")
    };
    let EngineError::CannotRun { message, .. } = exec(&container, &missing).await.unwrap_err()
    else {
        panic!("it ran");
    };
    assert!(
        message.contains("\"[redacted]-tool\": executable file not found"),
        "{message}"
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_told_from_what_fails() {
    let container = TestContainer::idle();
    let directory = ExecSpec {
        working_dir: Some("/missing".to_owned()),
        ..sh("true")
    };
    let user = ExecSpec {
        user: Some("nobody-like-that".to_owned()),
        ..sh("true")
    };
    for spec in [
        ExecSpec::new(["pg_dump"]),
        ExecSpec::new(["/etc"]),
        directory,
        user,
    ] {
        let error = exec(&container, &spec).await.unwrap_err();
        assert!(
            matches!(error, EngineError::CannotRun { .. }),
            "{spec:?}: {error:?}"
        );
        let error = read(&container, &spec).await.unwrap_err();
        assert!(
            matches!(error, EngineError::CannotRun { .. }),
            "{spec:?}: {error:?}"
        );
    }
    for code in [126, 127] {
        let output = exec(&container, &sh(&format!("exit {code}")))
            .await
            .unwrap();
        assert_eq!(output.exit_code, code);
        let error = read(&container, &sh(&format!("echo no >&2; exit {code}")))
            .await
            .unwrap_err();
        let EngineError::Exited {
            code: found,
            message,
            ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((found, message.as_str()), (code, "no"));
    }
}

#[tokio::test]
async fn a_stream_carries_every_byte_of_standard_output() {
    let container = TestContainer::idle();
    let line = "echo noise >&2; head -c 20000000 /dev/zero | tr '\\0' 'x'; printf end";
    let bytes = read(&container, &sh(line)).await.unwrap();
    assert_eq!(bytes.len(), 20_000_003);
    assert!(bytes.ends_with(b"xend"));
    assert_eq!(read(&container, &sh("true")).await.unwrap(), b"");
}

#[tokio::test]
async fn a_stream_of_a_failing_command_never_ends_well() {
    let container = TestContainer::idle();
    let line =
        "echo half; i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 5";
    let error = read(&container, &sh(line)).await.unwrap_err();
    let EngineError::Exited { code, message, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, 5);
    assert!(
        message.ends_with("line 1999") && message.len() <= 8192,
        "{}",
        message.len()
    );
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_more_than_its_buffers() {
    let container = TestContainer::idle();
    let engine = engine().await;
    // A quiet spell of the reader must not count as silence of the command.
    let limit = Duration::from_millis(500);
    let spec = sh("head -c 30000000 /dev/zero; touch /tmp/written");
    let mut stream = engine
        .exec_stream(&container.id, &spec, limit)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(container.sh("ls /tmp"), "", "somebody buffered 30 MB");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), 30_000_000);
}

#[tokio::test]
async fn limits_end_the_waiting() {
    let container = TestContainer::idle();
    let limit = Duration::from_millis(300);
    let limited = ExecSpec {
        limit: Some(limit),
        ..sh("while true; do echo x; sleep 0.05; done")
    };
    let started = Instant::now();
    let error = exec(&container, &limited).await.unwrap_err();
    assert!(matches!(error, EngineError::TimedOut { .. }), "{error:?}");
    let error = read(&container, &limited).await.unwrap_err();
    assert!(matches!(error, EngineError::TimedOut { .. }), "{error:?}");

    let engine = engine().await;
    let mut stream = engine
        .exec_stream(&container.id, &sh("echo x; sleep 60"), limit)
        .await
        .unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = EngineError::in_io(&error).unwrap();
    assert!(matches!(error, EngineError::Silent { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn input_is_read_to_its_end() {
    let container = TestContainer::idle();
    let content = vec![b'z'; 3_000_000];
    let output = engine()
        .await
        .exec_with_input(
            &container.id,
            &sh("wc -c; echo done >&2"),
            Box::pin(std::io::Cursor::new(content)),
        )
        .await
        .unwrap();
    assert_eq!(
        (output.exit_code, output.stdout.trim_ascii()),
        (0, &b"3000000"[..])
    );
    assert_eq!(output.last_words(), "done");
}

#[tokio::test]
async fn a_command_may_end_before_its_input_does() {
    let container = TestContainer::idle();
    let endless = Box::pin(tokio::io::repeat(b'y'));
    let output = engine()
        .await
        .exec_with_input(
            &container.id,
            &sh("head -c 1; echo full >&2; exit 4"),
            endless,
        )
        .await
        .unwrap();
    assert_eq!((output.exit_code, output.stdout.as_slice()), (4, &b"y"[..]));
    assert_eq!(output.last_words(), "full");
}

#[tokio::test]
async fn input_that_fails_is_named_as_the_cause() {
    let container = TestContainer::idle();
    let error = EngineError::NoSuchVolume("the typed cause".to_owned());
    let broken = b"half".chain(Broken(Some(error)));
    let error = engine()
        .await
        .exec_with_input(&container.id, &sh("cat"), Box::pin(broken))
        .await
        .unwrap_err();
    let EngineError::Source { source, receiver } = error else {
        panic!("{error:?}");
    };
    assert!(receiver.starts_with("sh in container "), "{receiver}");
    assert!(matches!(
        EngineError::in_io(&source),
        Some(EngineError::NoSuchVolume(_))
    ));
}

/// A reader that fails.
struct Broken(Option<EngineError>);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(self.0.take().expect("read once").into()))
    }
}

#[tokio::test]
async fn a_container_that_is_killed_fails_the_stream() {
    let container = TestContainer::idle();
    let engine = engine().await;
    let spec = sh("while true; do echo x; sleep 0.02; done");
    let mut stream = engine
        .exec_stream(&container.id, &spec, PATIENCE)
        .await
        .unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    docker(["kill", &container.id]);
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = EngineError::in_io(&error).unwrap();
    let is_failure = matches!(
        error,
        EngineError::Exited { code: 137, .. } | EngineError::Cut { .. }
    );
    assert!(is_failure, "{error:?}");
}

#[tokio::test]
async fn a_container_that_is_removed_fails_the_stream() {
    let container = TestContainer::idle();
    let engine = engine().await;
    let spec = sh("while true; do echo x; sleep 0.02; done");
    let mut stream = engine
        .exec_stream(&container.id, &spec, PATIENCE)
        .await
        .unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    docker(["rm", "--force", &container.id]);
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = EngineError::in_io(&error).unwrap();
    let is_failure = matches!(
        error,
        EngineError::Exited { code: 137, .. } | EngineError::Cut { .. }
    );
    assert!(is_failure, "{error:?}");
}

#[tokio::test]
async fn containers_that_do_not_run_say_so() {
    let container = TestContainer::idle();
    docker(["pause", &container.id]);
    let error = exec(&container, &sh("true")).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::NotRunning { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("paused"), "{error}");
    docker(["unpause", &container.id]);
    docker(["stop", "--time", "0", &container.id]);
    let error = exec(&container, &sh("true")).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::NotRunning { .. }),
        "{error:?}"
    );
    docker(["rm", &container.id]);
    let error = exec(&container, &sh("true")).await.unwrap_err();
    assert!(
        matches!(error, EngineError::NoSuchContainer(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn commands_run_side_by_side() {
    let container = TestContainer::idle();
    let (slow, quick) = (
        sh("echo slow; sleep 1; echo slow"),
        sh("echo quick; exit 2"),
    );
    let (slow, quick) = tokio::join!(exec(&container, &slow), exec(&container, &quick));
    assert_eq!(slow.unwrap().stdout, b"slow\nslow\n");
    let quick = quick.unwrap();
    assert_eq!(
        (quick.exit_code, quick.stdout.as_slice()),
        (2, &b"quick\n"[..])
    );
}

#[tokio::test]
async fn a_process_that_is_left_behind_does_not_keep_a_command_open() {
    let container = TestContainer::idle();
    let spec = sh("sleep 3000 & echo left one behind");
    let running = exec(&container, &spec);
    let output = tokio::time::timeout(PATIENCE, running).await.unwrap();
    assert_eq!(output.unwrap().stdout, b"left one behind\n");
}
