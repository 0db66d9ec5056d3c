//! The contract, on a real S3 server.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use object_store::memory::InMemory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::repository::contract::{Fixture, repository_contract};
use crate::repository::credentials::Credentials;
use crate::repository::remote::RemoteRepository;
use crate::repository::remote::test_server::TestServer;
use crate::repository::samples::{body, digest};
use crate::repository::url::RepositoryUrl;
use crate::repository::{Repository, identity};

/// One server for all tests; each has a prefix of its own.
fn garage() -> &'static str {
    static SERVER: OnceLock<(TestServer, String)> = OnceLock::new();
    let (_, endpoint) = SERVER.get_or_init(|| {
        let server =
            TestServer::start(&["--publish", "127.0.0.1::3900", "cofferdam-test/garage:2"]);
        let port = server.port(3900, b"GET / HTTP/1.0\r\n\r\n");
        (server, format!("http://127.0.0.1:{port}"))
    });
    endpoint
}

/// Of `docker/test-images/garage`.
fn credentials() -> Credentials {
    Credentials::among([
        ("AWS_ACCESS_KEY_ID", "GK0123456789abcdef01234567"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
    ])
}

struct Garage {
    url: StoreUrl,
}

impl Garage {
    fn new() -> Self {
        let text = format!(
            "s3://backups/t{:08x}/at home?endpoint={}&region=garage&part-size=5MiB",
            rand::random::<u32>(),
            garage()
        );
        match RepositoryUrl::parse(&text, std::path::Path::new("/")).unwrap() {
            RepositoryUrl::Store(url) => Self { url: *url },
            other => panic!("{other}"),
        }
    }

    fn storage(&self) -> CloudStorage {
        open(&self.url, &credentials()).unwrap()
    }
}

#[async_trait]
impl Fixture for Garage {
    fn repository(&self) -> Arc<dyn Repository> {
        Arc::new(RemoteRepository::new(Arc::new(self.storage())))
    }

    async fn plant(&self, path: &str, bytes: &[u8]) {
        let storage = self.storage();
        let payload = bytes.to_vec().into();
        storage
            .store
            .put(&storage.path(path).unwrap(), payload)
            .await
            .unwrap();
    }

    async fn content(&self, path: &str) -> Vec<u8> {
        let (_, mut stream) = self.storage().open(path).await.unwrap().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    async fn names(&self) -> Vec<String> {
        let items = self.storage().list("").await.unwrap();
        let mut names: Vec<String> = items.into_iter().map(|item| item.key).collect();
        names.retain(|name| name != identity::FILE);
        names.sort();
        names
    }
}

repository_contract!(Garage::new());

#[tokio::test]
async fn what_a_cancelled_upload_has_sent_is_taken_back() {
    let garage = Garage::new();
    let storage = garage.storage();
    let (mut writer, reader) = tokio::io::duplex(1024 * 1024);
    let uploading = tokio::spawn(async move { storage.create("a/big", Box::pin(reader)).await });
    writer.write_all(&[7; 12 * 1024 * 1024]).await.unwrap();
    let begun = || async {
        let storage = garage.storage();
        let unfinished = storage.unfinished.as_ref().unwrap();
        unfinished.count(&storage.path("").unwrap()).await
    };
    eventually(async || begun().await == 1).await;
    uploading.abort();
    eventually(async || begun().await == 0).await;
}

#[tokio::test]
async fn what_a_killed_upload_has_sent_is_swept() {
    let garage = Garage::new();
    let storage = garage.storage();
    let path = storage.path("candig/x").unwrap();
    let mut upload = storage.store.put_multipart(&path).await.unwrap();
    upload
        .put_part(vec![7; 5 * 1024 * 1024].into())
        .await
        .unwrap();
    std::mem::forget(upload);
    let unfinished = storage.unfinished.as_ref().unwrap();
    let sweep = async |below: &str, age| {
        let prefix = storage.path(below).unwrap();
        unfinished.sweep(&prefix, age).await
    };
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(sweep("candig/", Duration::from_secs(3600)).await, [""; 0]);
    assert_eq!(sweep("other/", Duration::ZERO).await, [""; 0]);
    // It may still be on its way, however little the others are spared.
    let young = storage.sweep_unfinished("candig/", Duration::ZERO).await;
    assert_eq!(young.unwrap(), [""; 0]);
    assert_eq!(sweep("candig/", Duration::ZERO).await, [path.to_string()]);
    assert_eq!(sweep("candig/", Duration::ZERO).await, [""; 0]);
}

/// Between the larger parts of one upload there is no room for others, and still all of them come to their end.
#[tokio::test]
async fn uploads_with_larger_parts_wait_for_each_other() {
    let storage = in_memory(16);
    let long = 5_000 * 16 + 40 * 128;
    let uploads = (0..4).map(|number| {
        let storage = &storage;
        async move {
            storage
                .create(&format!("a/{number}"), body(vec![7; long]))
                .await
        }
    });
    let all = futures_util::future::join_all(uploads);
    let all = tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .unwrap();
    assert!(all.into_iter().all(|outcome| outcome.is_ok()));
}

/// Neither server is at hand here, and the S3 one cannot hold this much.
fn in_memory(part_size: usize) -> CloudStorage {
    CloudStorage {
        store: Arc::new(InMemory::new()),
        part_size,
        ..Garage::new().storage()
    }
}

#[tokio::test]
async fn objects_of_more_than_a_thousand_parts_are_stored() {
    let storage = in_memory(1024);
    let content: Vec<u8> = (0..7_000_000_u32).map(|n| (n % 251) as u8).collect();
    let told = storage.create("a/big", body(&content)).await.unwrap();
    assert_eq!(told, digest(&content));
    let (length, _) = storage.open("a/big").await.unwrap().unwrap();
    assert_eq!(length, 7_000_000);
}

#[tokio::test]
async fn a_stream_that_fits_into_no_upload_is_told() {
    let storage = in_memory(16);
    let longest = 5_000 * 16 + 5_000 * 128;
    storage
        .create("a/fits", body(vec![7; longest]))
        .await
        .unwrap();
    let error = storage
        .create("a/big", body(vec![7; longest + 1]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("part-size=64MiB"), "{error}");
    assert!(storage.open("a/big").await.unwrap().is_none());
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to pass");
}
