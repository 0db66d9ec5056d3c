//! Single requests: sent again while that can help, and with what went wrong in words.

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;

use super::super::backoff::Backoff;
use super::super::directories::Kind;
use super::super::fault::{Errand, Fault};
use super::super::http::{CONNECT, client, uploading_client};
use super::address::Address;
use super::fault::is_about_certificates;
use super::listing::{Listing, QUESTION};
use crate::repository::RepositoryError;
use crate::repository::url::StoreUrl;
use crate::secret::Secret;
use crate::text::full_text;

/// What a listing may take: some 200,000 entries.
const LARGEST_LISTING: usize = 128 * 1024 * 1024;

pub(super) struct Client {
    http: reqwest::Client,
    uploads: reqwest::Client,
    pub(super) address: Address,
    user: Option<(String, Secret)>,
    location: String,
    /// How long a request is tried again.
    patience: Duration,
}

impl Client {
    pub(super) fn new(
        url: &StoreUrl,
        user: Option<(String, Secret)>,
        tls: ClientConfig,
        patience: Duration,
    ) -> Self {
        Self {
            http: client(tls.clone(), CONNECT),
            uploads: uploading_client(tls, CONNECT),
            address: Address::new(url),
            user,
            location: url.to_string(),
            patience,
        }
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// A request to `url`, which may be sent more than once.
    pub(super) fn request(&self, method: &'static str, url: &str) -> RequestBuilder {
        self.with_user(self.http.request(of(method), url))
    }

    /// A request whose body may take its time.
    pub(super) fn upload(&self, key: &str) -> RequestBuilder {
        self.with_user(self.uploads.request(Method::PUT, self.address.of(key)))
    }

    fn with_user(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.user {
            Some((name, password)) => request.basic_auth(name, Some(password.expose())),
            None => request,
        }
    }

    /// The server's answer, whatever it is, once the server is neither away nor busy.
    pub(super) async fn send(
        &self,
        errand: Errand<'_>,
        request: RequestBuilder,
    ) -> Result<Response, RepositoryError> {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let again = request.try_clone();
            let answer = again.expect("the body is no stream").send().await;
            let pause = match &answer {
                Ok(response) if is_busy(response.status()) => backoff.pause(wanted(response)),
                Err(error) if is_passing(error) => backoff.pause(None),
                _ => None,
            };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answer.map_err(|error| self.unanswered(errand, &error)),
            }
        }
    }

    /// The properties of `url`, and with `depth` 1 of what lies right below it. `None` when there is nothing.
    pub(super) async fn listing(
        &self,
        errand: Errand<'_>,
        url: &str,
        depth: &'static str,
    ) -> Result<Option<Listing>, RepositoryError> {
        let request = self
            .request("PROPFIND", url)
            .header("depth", depth)
            .header("content-type", "application/xml; charset=utf-8")
            .body(QUESTION);
        let mut response = self.send(errand, request).await?;
        match response.status() {
            StatusCode::MULTI_STATUS => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            _ => return Err(self.refused(errand, response).await),
        }
        let mut xml = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unanswered(errand, &error))?
        {
            xml.extend_from_slice(&chunk);
            if xml.len() > LARGEST_LISTING {
                let fault = Fault::new("the server's listing does not end");
                return Err(self.failed(errand, fault));
            }
        }
        let listing = Listing::parse(&xml).map_err(|why| {
            let fault = Fault::new(format!("the server's answer is not understood: {why}"));
            self.failed(errand, fault)
        })?;
        Ok(Some(listing))
    }

    /// What lies under a key: a file with its length, or a collection.
    pub(super) async fn look_at(&self, key: &str) -> Result<Option<Kind>, RepositoryError> {
        let errand = Errand {
            action: "check for",
            key,
        };
        let listing = self.listing(errand, &self.address.of(key), "0").await?;
        Ok(listing.map(|listing| listing.itself))
    }

    /// Tells whether there was none before.
    pub(super) async fn make_collection(
        &self,
        errand: Errand<'_>,
        url: &str,
    ) -> Result<bool, RepositoryError> {
        let response = self.send(errand, self.request("MKCOL", url)).await?;
        if response.status().is_success() {
            return Ok(true);
        }
        // mod_dav answers 403 where another one was just quicker, and 405 later.
        match self.listing(errand, url, "0").await? {
            Some(_) => Ok(false),
            None => Err(self.refused(errand, response).await),
        }
    }

    /// Tells whether there was something.
    pub(super) async fn delete(&self, key: &str) -> Result<bool, RepositoryError> {
        let errand = Errand {
            action: "delete",
            key,
        };
        let request = self.request("DELETE", &self.address.of(key));
        let response = self.send(errand, request).await?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(false),
            // Parts of a collection could not be deleted.
            StatusCode::MULTI_STATUS => Err(self.refused(errand, response).await),
            status if status.is_success() => Ok(true),
            _ => Err(self.refused(errand, response).await),
        }
    }

    /// Asks for an object's bytes as they are.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Response>, RepositoryError> {
        let errand = Errand {
            action: "read",
            key,
        };
        let request = self.request("GET", &self.address.of(key));
        let request = request.header(ACCEPT_ENCODING, "identity");
        let response = self.send(errand, request).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(self.refused(errand, response).await),
        }
    }

    pub(super) fn failed(&self, errand: Errand<'_>, fault: Fault) -> RepositoryError {
        fault.of(errand, &self.location)
    }

    pub(super) fn unanswered(&self, errand: Errand<'_>, error: &reqwest::Error) -> RepositoryError {
        self.failed(errand, Fault::unanswered(error))
    }

    pub(super) async fn refused(&self, errand: Errand<'_>, response: Response) -> RepositoryError {
        let fault = Fault::refused(response, self.user.is_some()).await;
        self.failed(errand, fault)
    }
}

fn of(method: &'static str) -> Method {
    Method::from_bytes(method.as_bytes()).expect("it is the name of a method")
}

fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn is_passing(error: &reqwest::Error) -> bool {
    let is_about_the_line = error.is_connect() || error.is_timeout() || error.is_request();
    is_about_the_line && !is_about_certificates(&full_text(error))
}

/// Seconds, or a time (RFC 9110, section 10.2.3).
fn wanted(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    SystemTime::from(time.timestamp())
        .duration_since(SystemTime::now())
        .ok()
}
