//! From a URL and credentials to a store.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tokio::sync::Semaphore;

use super::s3::{self, Unfinished};
use super::{CloudStorage, PART_SIZE, PARTS_IN_FLIGHT};
use crate::repository::OpenError;
use crate::repository::credentials::Credentials;
use crate::repository::remote::http::{CONNECT, Connector};
use crate::repository::url::{Scheme, ServerSideEncryption, StoreUrl};

/// With pauses of up to fifteen seconds between them these take about half a minute: a server may be started anew
/// meanwhile, and whoever has named the wrong one is told soon enough.
const RETRIES: usize = 10;

/// How long one request is tried again. Its credentials must live as long.
const RETRYING: Duration = Duration::from_secs(240);

/// `credentials` are resolved.
pub(crate) fn open(url: &StoreUrl, credentials: &Credentials) -> Result<CloudStorage, OpenError> {
    let opening = Opening { url, credentials };
    match url.scheme {
        Scheme::S3 => opening.s3(),
        Scheme::Azure => opening.azure(),
        Scheme::Google => opening.google(),
        Scheme::WebDav { .. } | Scheme::Sftp => Err(opening.wrong("it is not an object store")),
    }
}

struct Opening<'a> {
    url: &'a StoreUrl,
    credentials: &'a Credentials,
}

impl Opening<'_> {
    fn s3(&self) -> Result<CloudStorage, OpenError> {
        let options = &self.url.options;
        let given = |names: &[&str]| names.iter().find_map(|name| self.credentials.get(name));
        let region = options.region.as_deref();
        let region = region.or_else(|| given(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.unwrap_or("us-east-1");
        let endpoint = options.endpoint.as_deref();
        let endpoint = endpoint.or_else(|| given(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        if endpoint.is_some() && given(&["AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"]).is_none() {
            return Err(self.wrong(
                "there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the variables of the same names with _FILE",
            ));
        }
        let bucket = s3::bucket_url(&self.url.authority, endpoint, region, options.path_style)
            .ok_or_else(|| self.wrong("its endpoint is not a URL"))?;

        let encryption: &[(&str, &str)] = match &options.server_side_encryption {
            None => &[],
            Some(ServerSideEncryption::Aes256) => &[("aws_server_side_encryption", "AES256")],
            Some(ServerSideEncryption::Kms { key: None }) => {
                &[("aws_server_side_encryption", "aws:kms")]
            }
            Some(ServerSideEncryption::Kms { key: Some(key) }) => &[
                ("aws_server_side_encryption", "aws:kms"),
                ("aws_sse_kms_key_id", key),
            ],
        };
        let settings = self
            .credentials
            .of("AWS_")
            .chain(encryption.iter().copied());
        let mut builder = AmazonS3Builder::new();
        for (name, value) in settings {
            if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        let connector = Connector::new(options.ca_file.as_deref())?;
        let client = connector.client();
        let store = builder
            .with_bucket_name(&self.url.authority)
            .with_region(region)
            // The bucket's own URL, whatever the style.
            .with_virtual_hosted_style_request(true)
            .with_config(AmazonS3ConfigKey::S3Endpoint, &bucket)
            .with_allow_http(bucket.starts_with("http://"))
            // Buckets with object lock want a checksum, and the others profit.
            .with_checksum_algorithm(Checksum::SHA256)
            // Each deletion gets an answer of its own, and not all servers know the other kind.
            .with_disable_bulk_delete(true)
            .with_retry(retry())
            .with_client_options(client_options(&bucket))
            .with_http_connector(connector)
            .build()
            .map_err(|error| self.wrong(error))?;
        let store = Arc::new(store);
        let unfinished = Unfinished::new(Arc::clone(&store), client, bucket, region.to_owned());
        Ok(self.storage(store, Some(unfinished)))
    }

    fn azure(&self) -> Result<CloudStorage, OpenError> {
        let options = &self.url.options;
        let mut builder = MicrosoftAzureBuilder::new();
        for (name, value) in self.credentials.of("AZURE_") {
            if let Ok(key) = AzureConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(account) = &options.account {
            builder = builder.with_account(account);
        }
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let store = builder
            .with_container_name(&self.url.authority)
            .with_retry(retry())
            .with_client_options(client_options(options.endpoint.as_deref().unwrap_or("")))
            .with_http_connector(Connector::new(options.ca_file.as_deref())?)
            .build()
            .map_err(|error| self.wrong(error))?;
        Ok(self.storage(Arc::new(store), None))
    }

    fn google(&self) -> Result<CloudStorage, OpenError> {
        let options = &self.url.options;
        let mut builder = GoogleCloudStorageBuilder::new();
        for (name, value) in self.credentials.of("GOOGLE_") {
            if let Ok(key) = GoogleConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
        }
        let store = builder
            .with_bucket_name(&self.url.authority)
            .with_retry(retry())
            .with_client_options(client_options(options.endpoint.as_deref().unwrap_or("")))
            .with_http_connector(Connector::new(options.ca_file.as_deref())?)
            .build()
            .map_err(|error| self.wrong(error))?;
        Ok(self.storage(Arc::new(store), None))
    }

    fn storage(&self, store: Arc<dyn ObjectStore>, unfinished: Option<Unfinished>) -> CloudStorage {
        CloudStorage {
            store,
            url: self.url.clone(),
            part_size: self.url.options.part_size.unwrap_or(PART_SIZE),
            in_flight: Arc::new(Semaphore::new(PARTS_IN_FLIGHT)),
            conditional_writes: AtomicBool::new(true),
            unfinished,
        }
    }

    fn wrong(&self, why: impl ToString) -> OpenError {
        OpenError::Settings {
            place: self.url.to_string(),
            why: why.to_string(),
        }
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(15),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRYING,
    }
}

fn client_options(endpoint: &str) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(CONNECT)
        .with_allow_http(endpoint.starts_with("http://"))
}
