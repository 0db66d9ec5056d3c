//! What S3 has and other object stores do not: uploads that were begun and never finished, which show in no listing and
//! are paid for until somebody aborts them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request};
use http_body_util::BodyExt;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpRequestBody, HttpService};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// Where the bucket is, as a URL. `None` when the endpoint is none.
pub(super) fn bucket_url(
    bucket: &str,
    endpoint: Option<&str>,
    region: &str,
    path_style: Option<bool>,
) -> Option<String> {
    let default = format!("https://s3.{region}.amazonaws.com");
    let endpoint = endpoint.unwrap_or(&default).trim_end_matches('/');
    match path_style {
        Some(false) => {
            let (scheme, host) = endpoint.split_once("://")?;
            Some(format!("{scheme}://{bucket}.{host}"))
        }
        Some(true) | None => Some(format!("{endpoint}/{bucket}")),
    }
}

/// Finds unfinished uploads, and aborts them.
pub(super) struct Unfinished {
    store: Arc<AmazonS3>,
    client: reqwest::Client,
    bucket: String,
    region: String,
}

/// What a server answers to ListMultipartUploads.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    upload: Vec<Begun>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    key: String,
    upload_id: String,
    initiated: jiff::Timestamp,
}

impl Unfinished {
    pub(super) fn new(
        store: Arc<AmazonS3>,
        client: reqwest::Client,
        bucket: String,
        region: String,
    ) -> Self {
        Self {
            store,
            client,
            bucket,
            region,
        }
    }

    /// Aborts what was begun below `prefix` more than `age` ago. A server or a user without this right is no error: the
    /// bucket's own rules for such uploads then do it, if it has some.
    pub(super) async fn sweep(&self, prefix: &Path, age: Duration) -> Vec<String> {
        let mut aborted = Vec::new();
        if let Err(why) = self.abort_older(prefix, age, &mut aborted).await {
            tracing::debug!("cannot look for unfinished uploads: {why}");
        }
        aborted
    }

    async fn abort_older(
        &self,
        prefix: &Path,
        age: Duration,
        aborted: &mut Vec<String>,
    ) -> Result<(), String> {
        let now = SystemTime::now();
        let mut page = Page::default();
        loop {
            page = self.page(prefix, &page).await?;
            for begun in &page.upload {
                let old = now.duration_since(begun.initiated.into());
                if !old.is_ok_and(|old| old > age) {
                    continue;
                }
                let path = Path::parse(&begun.key).map_err(|error| error.to_string())?;
                self.store
                    .abort_multipart(&path, &begun.upload_id)
                    .await
                    .map_err(|error| error.to_string())?;
                aborted.push(begun.key.clone());
            }
            if !page.is_truncated || page.next_key_marker.is_empty() {
                return Ok(());
            }
        }
    }

    #[cfg(test)]
    pub(super) async fn count(&self, prefix: &Path) -> usize {
        self.page(prefix, &Page::default())
            .await
            .unwrap()
            .upload
            .len()
    }

    async fn page(&self, prefix: &Path, after: &Page) -> Result<Page, String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut url = format!(
            "{}?prefix={}%2F&uploads=",
            self.bucket,
            encode(prefix.as_ref())
        );
        if !after.next_key_marker.is_empty() {
            url = format!(
                "{}?key-marker={}&prefix={}%2F&upload-id-marker={}&uploads=",
                self.bucket,
                encode(&after.next_key_marker),
                encode(prefix.as_ref()),
                encode(&after.next_upload_id_marker),
            );
        }
        let credentials = self.store.credentials().get_credential().await;
        let credentials = credentials.map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(url)
            .body(HttpRequestBody::empty())
            .map_err(|error| error.to_string())?;
        AwsAuthorizer::new(&credentials, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| error.to_string())?;
        let response = self.client.call(request).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        quick_xml::de::from_reader(&body[..]).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        let url = |endpoint, style| bucket_url("b", endpoint, "eu-1", style).unwrap();
        assert_eq!(url(None, None), "https://s3.eu-1.amazonaws.com/b");
        assert_eq!(url(None, Some(false)), "https://b.s3.eu-1.amazonaws.com");
        assert_eq!(url(Some("http://s3:9000/"), None), "http://s3:9000/b");
        assert_eq!(url(Some("http://s3:9000"), Some(false)), "http://b.s3:9000");
    }

    #[test]
    fn a_page_of_unfinished_uploads_is_read() {
        let page: Page = quick_xml::de::from_str(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><UploadIdMarker/><NextKeyMarker>k</NextKeyMarker>
              <NextUploadIdMarker>u2</NextUploadIdMarker><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
              <Upload><Key>a/x</Key><UploadId>u1</UploadId><Initiated>2026-11-10T20:48:33.000Z</Initiated></Upload>
              <Upload><Key>k</Key><UploadId>u2</UploadId><Initiated>2026-11-10T20:48:33.000Z</Initiated></Upload>
            </ListMultipartUploadsResult>"#,
        )
        .unwrap();
        assert!(page.is_truncated);
        let keys: Vec<_> = page.upload.iter().map(|begun| begun.key.as_str()).collect();
        assert_eq!(keys, ["a/x", "k"]);
    }
}
