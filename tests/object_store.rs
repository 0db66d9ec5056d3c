//! Snapshots in a real S3 bucket, and what becomes of them when the way there or the server fails.

use std::io::Cursor;

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::s3::{Garage, KEYS, repository_at, url_at, with_keys};
use crate::support::stack::{Run, TestStack, compose_volume};
use cofferdam::manifest::ObjectPath;
use cofferdam::repository::{Repository, RepositoryError, SnapshotRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1024 * 1024;

fn object(file: &str) -> ObjectPath {
    let id = "20261101T020000Z-9f2c61aa".parse().unwrap();
    ObjectPath::new("candig", &id, file).unwrap()
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

async fn put(repository: &dyn Repository, file: &str, bytes: Vec<u8>) -> Result<(), String> {
    let object = object(file);
    let stored = repository.put(&object, Box::pin(Cursor::new(bytes))).await;
    stored.map(drop).map_err(|error| error.to_string())
}

async fn get(repository: &dyn Repository, file: &str) -> Result<Vec<u8>, String> {
    let object = object(file);
    let opened = repository.open(&object).await;
    let mut stream = opened.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    read.map(|_| bytes).map_err(|error| error.to_string())
}

async fn objects(repository: &dyn Repository) -> usize {
    let place = SnapshotRef::of(&object("x")).unwrap();
    repository.objects(&place).await.unwrap().len()
}

/// C1: a database and a volume go to a bucket and come back from it.
#[test]
fn c1_a_stack_is_saved_to_a_bucket_and_restored_from_it() {
    let garage = Garage::start();
    let stack = TestStack::new("s3");
    let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
    postgres.seed("clinical", 2000);
    let before = postgres.fingerprint("clinical");
    let volume = compose_volume(&stack, "files");
    let mount = format!("{}:/data", volume.name);
    let app = stack.toolbox(
        "app",
        &[("cofferdam.volumes", "files")],
        &["--volume", &mount],
    );
    app.sh("head -c 30000000 /dev/urandom > /data/big; sha256sum /data/big > /data/sum");

    let url = garage.url("hospital");
    let run = |arguments: &[&str]| -> Run {
        let mut command = stack.command_at(&url, arguments);
        with_keys(&mut command).output().unwrap().into()
    };
    run(&["backup"]).expect(0);
    postgres.sql("clinical", "DROP TABLE patients");
    app.sh("rm /data/big");
    run(&["verify", "--read"]).expect(0);
    run(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(postgres.fingerprint("clinical"), before);
    app.sh("cd /data && sha256sum -c sum");
    let listed = run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    stack.ensure_nothing_is_left();
}

/// C2: names carry the time, and nothing is ever written over.
#[test]
fn c2_every_backup_has_a_name_of_its_own() {
    let garage = Garage::start();
    let stack = TestStack::new("s3names");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.etc", "/etc/debian_version")],
        &[],
    );
    let url = garage.url("");
    for _ in 0..2 {
        let mut command = stack.command_at(&url, &["backup"]);
        Run::from(with_keys(&mut command).output().unwrap()).expect(0);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let repository = garage.repository("");
    let snapshots = runtime
        .block_on(repository.list(Some(&stack.project)))
        .unwrap();
    assert_eq!(snapshots.len(), 2);
    for snapshot in &snapshots {
        let objects = runtime.block_on(repository.objects(snapshot)).unwrap();
        assert!(!objects.is_empty());
        let id = snapshot.id.as_str();
        assert!(
            objects
                .iter()
                .all(|object| object.path.as_str().contains(id))
        );
    }
}

/// Whoever holds only the right to add cannot take anything away, and backups need no more.
#[test]
fn a_bucket_that_can_only_be_added_to_takes_backups() {
    let garage = Garage::start();
    let proxy = FaultProxy::before(&garage.address());
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    proxy.on("DELETE", "/**", Fault::Answer("403 Forbidden", denied));
    let stack = TestStack::new("addonly");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.etc", "/etc/debian_version")],
        &[],
    );
    let url = url_at(&proxy.address().to_string(), "only");
    let run = |arguments: &[&str]| -> Run {
        let mut command = stack.command_at(&url, arguments);
        with_keys(&mut command).output().unwrap().into()
    };
    stack.cofferdam(&["backup"]).expect(0);
    stack.as_by_schedule();
    let mut copy = stack.command(&["copy", "--copy-to", &url]);
    Run::from(with_keys(&mut copy).output().unwrap()).expect(0);
    run(&["backup", "--keep", "last=1"]).expect_says(0, "does not allow removal");
    let listed = run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    run(&["prune", "--keep", "last=1"]).expect_says(1, "AccessDenied");
    run(&["verify", "--read"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_cut_connections_are_waited_out() {
    let garage = Garage::start();
    let proxy = FaultProxy::before(&garage.address());
    let repository = repository_at(&url_at(&proxy.address().to_string(), "a"));
    repository.prepare().await.unwrap();
    let slow =
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    for _ in 0..2 {
        proxy.once("PUT", "/**", Fault::Answer("503 Slow Down", slow));
    }
    proxy.once("PUT", "/**", Fault::CutRequest(MIB as u64));
    let bytes = content(20 * MIB);
    put(&*repository, "big", bytes.clone()).await.unwrap();
    proxy.once("GET", "/**/big", Fault::Answer("503 Slow Down", slow));
    assert!(get(&*repository, "big").await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_goes_on() {
    let garage = Garage::start();
    let proxy = FaultProxy::before(&garage.address());
    let repository = repository_at(&url_at(&proxy.address().to_string(), "a"));
    repository.prepare().await.unwrap();
    let bytes = content(9 * MIB);
    put(&*repository, "big", bytes.clone()).await.unwrap();
    proxy.once("GET", "/**/big", Fault::Cut(3 * MIB as u64));
    proxy.once("GET", "/**/big", Fault::Cut(MIB as u64));
    assert!(get(&*repository, "big").await.unwrap() == bytes);
}

/// The server goes away in the middle of an upload: the upload fails in the end, and nothing shows.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_server_that_dies_leaves_nothing() {
    let garage = Garage::start();
    let repository = garage.repository("a");
    repository.prepare().await.unwrap();
    let (mut writer, reader) = tokio::io::duplex(MIB);
    let uploading = {
        let repository = repository.clone();
        tokio::spawn(async move { repository.put(&object("big"), Box::pin(reader)).await })
    };
    writer.write_all(&content(20 * MIB)).await.unwrap();
    garage.container.sh("kill -STOP 1 || true");
    crate::support::docker(["kill", &garage.container.id]);
    writer.write_all(&content(MIB)).await.ok();
    uploading.abort();
    assert!(uploading.await.unwrap_err().is_cancelled());
    crate::support::docker(["start", &garage.container.id]);
    garage.wait_until_ready();
    let again = garage.repository("a");
    assert_eq!(objects(&*again).await, 0);
    put(&*again, "big", content(MIB)).await.unwrap();
    assert_eq!(objects(&*again).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_place_is_told_with_what_mends_it() {
    let garage = Garage::start();
    let address = garage.address();
    let told = async |url: &str, keys: [(&str, &str); 2]| {
        let url = cofferdam::repository::url::RepositoryUrl::parse(url, "/".as_ref()).unwrap();
        let keys = cofferdam::repository::credentials::Credentials::among(keys);
        let repository = match cofferdam::repository::open(&url, &keys) {
            Ok(repository) => repository,
            Err(error) => return error.to_string(),
        };
        repository.prepare().await.unwrap_err().to_string()
    };
    let expect = |told: String, words: &[&str]| {
        for word in words {
            assert!(told.contains(word), "{word} is not in: {told}");
        }
        assert!(!told.contains(KEYS[1].1), "{told}");
    };
    let good = url_at(&address, "a");
    let elsewhere = good.replace("s3://backups/", "s3://holiday/");
    expect(
        told(&elsewhere, KEYS).await,
        &["s3://holiday/a", "NoSuchBucket", "create it first"],
    );
    let wrong = [KEYS[0], ("AWS_SECRET_ACCESS_KEY", "wrong")];
    expect(told(&good, wrong).await, &["AWS_SECRET_ACCESS_KEY"]);
    let unknown = [("AWS_ACCESS_KEY_ID", "GK0000"), KEYS[1]];
    expect(
        told(&good, unknown).await,
        &["cannot read cofferdam.json in s3://backups/a"],
    );
    let region = good.replace("region=garage", "region=eu-1");
    expect(told(&region, KEYS).await, &["region="]);
    expect(
        told(&good, [("HOME", "/"), ("PATH", "/")]).await,
        &["AWS_ACCESS_KEY_ID"],
    );
    let bare = good.replace("http://", "https://");
    expect(told(&bare, KEYS).await, &["cannot read cofferdam.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told() {
    let garage = Garage::start();
    let proxy = FaultProxy::before(&garage.address());
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>";
    proxy.on("GET", "/**", Fault::Answer("403 Forbidden", skewed));
    let repository = repository_at(&url_at(&proxy.address().to_string(), "a"));
    let error = repository.list(None).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Remote { .. }), "{error:?}");
    assert!(
        error.to_string().contains("correct this machine's clock"),
        "{error}"
    );
}

/// More than one request may carry, and more parts than one page of a listing holds.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "sends more than 5 GiB"]
async fn objects_over_five_gibibytes_and_a_thousand_parts_come_back() {
    const LENGTH: u64 = 5 * 1024 * 1024 * 1024 + 300 * 1024 * 1024;
    let garage = Garage::start();
    let repository = repository_at(&format!("{}&part-size=5MiB", garage.url("a")));
    repository.prepare().await.unwrap();
    let object = object("big");
    let body = tokio::io::repeat(7).take(LENGTH);
    let told = repository.put(&object, Box::pin(body)).await.unwrap();
    assert_eq!(told.bytes, LENGTH);
    let (read, digest) = cofferdam::pipe::Digesting::new(repository.open(&object).await.unwrap());
    let mut read = read;
    tokio::io::copy(&mut read, &mut tokio::io::sink())
        .await
        .unwrap();
    assert_eq!(digest.get(), Some(told));
}
