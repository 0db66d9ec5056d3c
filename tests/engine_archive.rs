//! "docker cp" of a real engine: what goes in comes out, and what cannot be is said.

use std::io;
use std::time::Duration;

use crate::support::{TestContainer, TestVolume, busybox_image, docker, engine};
use cofferdam::engine::{Engine, EngineError, ExecSpec, NewFile, PathKind};
use cofferdam::pipe::ByteStream;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(60);

fn bytes(content: &[u8]) -> ByteStream {
    Box::pin(io::Cursor::new(content.to_vec()))
}

fn file(name: &str, bytes: usize) -> NewFile<'_> {
    NewFile {
        name,
        bytes: bytes as u64,
        mode: 0o640,
        uid: 70,
        gid: 999,
    }
}

/// Bytes that do not repeat in a way that hides a mistake.
fn content_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

async fn get(engine: &Engine, container: &str, path: &str) -> Result<Vec<u8>, EngineError> {
    let (size, mut content) = engine.file_get(container, path, PATIENCE).await?;
    let mut read = Vec::new();
    content.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len() as u64, size);
    Ok(read)
}

#[tokio::test]
async fn files_of_odd_sizes_survive_the_round_trip() {
    let container = TestContainer::idle();
    let engine = engine().await;
    for size in [0, 1, 511, 512, 513, 1024, 5 * 1024 * 1024 + 1] {
        let content = content_of(size);
        engine
            .file_put(&container.id, "/tmp", file("dump", size), bytes(&content))
            .await
            .unwrap();
        assert_eq!(
            container.sh("stat -c '%s %a %u %g' /tmp/dump"),
            format!("{size} 640 70 999")
        );
        assert_eq!(
            get(&engine, &container.id, "/tmp/dump").await.unwrap(),
            content
        );
    }
}

#[tokio::test]
async fn paths_with_odd_names_are_reached() {
    let container = TestContainer::idle();
    container.sh("mkdir '/tmp/a b+%41&c'; printf x > '/tmp/a b+%41&c/ü#?'");
    let engine = engine().await;
    let path = "/tmp/a b+%41&c/ü#?";
    assert_eq!(get(&engine, &container.id, path).await.unwrap(), b"x");
    assert_eq!(
        engine
            .stat(&container.id, path)
            .await
            .unwrap()
            .unwrap()
            .name,
        "ü#?"
    );
    let long = "n".repeat(200);
    container.sh(&format!("printf long > /tmp/{long}"));
    assert_eq!(
        get(&engine, &container.id, &format!("/tmp/{long}"))
            .await
            .unwrap(),
        b"long"
    );
}

#[tokio::test]
async fn stopped_and_paused_containers_give_and_take_files() {
    let container = TestContainer::create(&[], &[busybox_image(), "true"]);
    let engine = engine().await;
    engine
        .file_put(&container.id, "/tmp", file("early", 3), bytes(b"abc"))
        .await
        .unwrap();
    assert_eq!(
        get(&engine, &container.id, "/tmp/early").await.unwrap(),
        b"abc"
    );

    let paused = TestContainer::idle();
    docker(["pause", &paused.id]);
    engine
        .file_put(&paused.id, "/tmp", file("frozen", 3), bytes(b"abc"))
        .await
        .unwrap();
    assert_eq!(
        get(&engine, &paused.id, "/tmp/frozen").await.unwrap(),
        b"abc"
    );
}

#[tokio::test]
async fn what_a_path_is_can_be_asked() {
    let container = TestContainer::idle();
    container.sh("cd /tmp; printf 12345 > f; chmod 4755 f; ln -s /nowhere l; mkfifo p; mkdir d");
    let engine = engine().await;
    let kind = async |path: &str| {
        let stat = engine.stat(&container.id, path).await.unwrap();
        stat.map(|stat| stat.kind)
    };
    assert_eq!(kind("/tmp/f").await, Some(PathKind::File));
    assert_eq!(kind("/tmp/d").await, Some(PathKind::Directory));
    assert_eq!(kind("/tmp/l").await, Some(PathKind::Symlink));
    assert_eq!(kind("/tmp/p").await, Some(PathKind::Other));
    assert_eq!(kind("/tmp/missing").await, None);
    assert_eq!(kind("/tmp/f/below").await, None);
    let stat = engine.stat(&container.id, "/tmp/l").await.unwrap().unwrap();
    assert_eq!(
        (stat.name.as_str(), stat.link_target.as_str()),
        ("l", "/nowhere")
    );
    assert_eq!(
        engine
            .stat(&container.id, "/tmp/f")
            .await
            .unwrap()
            .unwrap()
            .size,
        5
    );
}

#[tokio::test]
async fn missing_paths_and_missing_containers_are_told_apart() {
    let container = TestContainer::idle();
    let engine = engine().await;
    let id = container.id.clone();
    let get = async |path: &str| engine.file_get(&id, path, PATIENCE).await.err().unwrap();
    let put = async |path: &str| {
        let put = engine.file_put(&id, path, file("f", 1), bytes(b"x"));
        put.await.unwrap_err()
    };
    for error in [
        get("/missing").await,
        put("/missing").await,
        put("/etc/missing/below").await,
    ] {
        assert!(matches!(error, EngineError::NoSuchPath { .. }), "{error:?}");
    }
    container.sh("printf x > /tmp/f");
    for error in [get("/tmp").await, put("/tmp/f").await] {
        assert!(matches!(error, EngineError::WrongKind { .. }), "{error:?}");
    }
    drop(container);
    let gone = engine.stat(&id, "/tmp").await.unwrap_err();
    for error in [gone, get("/tmp").await, put("/tmp").await] {
        assert!(
            matches!(error, EngineError::NoSuchContainer(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_tree_comes_out_whole_and_goes_in_again() {
    let (from, to) = (TestContainer::idle(), TestContainer::idle());
    from.sh("mkdir -p /tmp/tree/sub; echo a > /tmp/tree/a; ln -s a /tmp/tree/sub/l; chown -R 5:6 /tmp/tree");
    let engine = engine().await;
    let archive = engine
        .archive_get(&from.id, "/tmp/tree", PATIENCE)
        .await
        .unwrap();
    engine.archive_put(&to.id, "/tmp", archive).await.unwrap();
    let listing = "cd /tmp; find tree | sort | xargs stat -c '%n %u %g %F'";
    assert_eq!(to.sh(listing), from.sh(listing));
}

#[tokio::test]
async fn content_of_another_length_fails_the_upload() {
    let container = TestContainer::idle();
    let engine = engine().await;
    for announced in [3, 2_000_000] {
        let content = bytes(&content_of(1_000_000));
        let put = engine.file_put(&container.id, "/tmp", file("f", announced), content);
        let error = put.await.unwrap_err();
        assert!(matches!(error, EngineError::Source { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_named_as_the_cause() {
    let (from, to) = (TestContainer::idle(), TestContainer::idle());
    let engine = engine().await;
    let (_, short) = engine
        .file_get(&from.id, "/etc/passwd", PATIENCE)
        .await
        .unwrap();
    let put = engine.file_put(&to.id, "/tmp", file("f", 9_999_999), short);
    let EngineError::Source { source, receiver } = put.await.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(source.kind(), io::ErrorKind::InvalidData);
    assert!(receiver.starts_with("/tmp in container"), "{receiver}");
}

#[tokio::test]
async fn a_full_disk_is_called_one() {
    let volume = TestVolume::of_size("1m");
    let mount = format!("{}:/small", volume.name);
    let container = TestContainer::idle_with(&["--volume", &mount]);
    let engine = engine().await;
    // Small enough to be sent before the engine notices, and big enough to be refused while it is sent.
    for size in [1_100_000, 50_000_000] {
        let content = Box::pin(tokio::io::repeat(b'x').take(size));
        let put = engine.file_put(&container.id, "/small", file("f", size as usize), content);
        let error = put.await.unwrap_err();
        assert!(
            matches!(error, EngineError::NoSpace { .. }),
            "{size}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_read_only_root_is_called_one() {
    let container = TestContainer::idle_with(&["--read-only"]);
    let put = engine()
        .await
        .file_put(&container.id, "/tmp", file("f", 1), bytes(b"x"))
        .await;
    let error = put.unwrap_err();
    assert!(matches!(error, EngineError::ReadOnly { .. }), "{error:?}");
}

#[tokio::test]
async fn a_container_answers_after_a_copy_and_not_never() {
    let container = TestContainer::idle();
    container.sh("head -c 20000000 /dev/zero > /tmp/f");
    let engine = engine().await;
    let (size, mut content) = engine
        .file_get(&container.id, "/tmp/f", PATIENCE)
        .await
        .unwrap();
    // The engine keeps the container locked until the copy has been read.
    let spec = ExecSpec::new(["true"]);
    let mut asked = Box::pin(async {
        let (inspected, ran, second) = tokio::join!(
            engine.inspect(&container.id),
            engine.exec(&container.id, &spec),
            get(&engine, &container.id, "/tmp/f"),
        );
        (inspected.unwrap(), ran.unwrap(), second.unwrap())
    });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut asked).await;
    assert!(early.is_err(), "the lock that all this is about is gone");
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, size);
    let (inspected, ran, second) = tokio::time::timeout(PATIENCE, asked).await.unwrap();
    assert!(inspected.is_running() && ran.exit_code == 0 && second == bytes);
}
