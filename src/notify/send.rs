//! Tells everybody at once, each within its limits.

use std::time::Duration;

use futures_util::future::{join, join_all};
use http::header::RETRY_AFTER;

use super::NotifySettings;
use super::channel::Channel;
use super::fault::{NotifyError, Trouble, words};
use super::notice::{Kinds, Notice};
use super::request::Request;
use super::service::Service;
use crate::notify::mail::{Mailer, Patience};
use crate::text::{printable, quoted};
use crate::trust;

/// Of one attempt, in the time that a chat takes; a mail server has more.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that wants to be left alone for longer is not asked again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Of an answer, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Tells what there is to tell to those whom the settings name.
#[derive(Clone)]
pub struct Notifier {
    channels: Vec<Channel>,
    /// None where there are no channels.
    client: Option<reqwest::Client>,
    mailer: Option<Mailer>,
    on: Kinds,
    patience: Patience,
}

impl Notifier {
    /// Reads the files that the settings name, and connects to nobody yet. Whoever can be told is told, also where others
    /// cannot, for the reasons that are returned.
    pub fn open(settings: &NotifySettings) -> (Self, Vec<NotifyError>) {
        let mut unusable = Vec::new();
        let mailer = settings.mail.as_ref().and_then(|mail| {
            let opened = Mailer::open(mail).map_err(NotifyError::from);
            opened.map_err(|error| unusable.push(error)).ok()
        });
        let client = (!settings.channels.is_empty())
            .then(|| trust::client_config(settings.ca_file.as_deref()))
            .and_then(|tls| tls.map_err(|error| unusable.push(error.into())).ok())
            .map(client);
        let notifier = Self {
            channels: settings.channels.clone(),
            client,
            mailer,
            on: settings.on.clone(),
            patience: Patience {
                limit: ATTEMPT_TIMEOUT,
                ..Patience::default()
            },
        };
        (notifier, unusable)
    }

    pub fn with_patience(self, patience: Patience) -> Self {
        let mailer = self.mailer.map(|mailer| mailer.with_patience(patience));
        Self {
            mailer,
            patience,
            ..self
        }
    }

    /// Tells it to everybody who wants to know, at once. Returns why it did not reach some of them; the others have it.
    pub async fn send_all(&self, notice: &Notice) -> Vec<NotifyError> {
        let wanting = self
            .channels
            .iter()
            .filter(|channel| channel.wants(notice, &self.on));
        let requests = wanting.flat_map(|channel| {
            let requests = channel.requests(notice).into_iter();
            requests.map(move |request| (channel, request))
        });
        let mailer = self.mailer.as_ref().filter(|_| notice.is_for(&self.on));
        let letter = notice.letter();
        let mailed = async {
            match mailer {
                Some(mailer) => mailer.send(&letter).await.map_err(NotifyError::from),
                None => Ok(()),
            }
        };
        let (mut faults, mailed) = join(self.post_all(requests, self.patience), mailed).await;
        faults.extend(mailed.err());
        faults
    }

    /// Tells those who watch for signs of life that a run begins. Tries once: only how long the run takes is not known to
    /// them when it does not arrive, and nobody waits long for it.
    pub async fn started(&self, projects: &[String]) -> Vec<NotifyError> {
        let names: Vec<String> = projects.iter().map(|name| printable(name)).collect();
        let text = format!("backup begins: {}", names.join(", "));
        let requests = self
            .channels
            .iter()
            .filter_map(|channel| match &channel.service {
                Service::Ping(ping) => Some((channel, ping.start(&text))),
                _ => None,
            });
        let once = Patience {
            attempts: 1,
            ..self.patience
        };
        self.post_all(requests, once).await
    }

    async fn post_all<'a>(
        &self,
        requests: impl Iterator<Item = (&'a Channel, Request)>,
        patience: Patience,
    ) -> Vec<NotifyError> {
        let Some(client) = &self.client else {
            return Vec::new();
        };
        let posted = requests.map(|(channel, request)| async move {
            post(client, channel, &request, patience).await
        });
        join_all(posted)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }
}

/// Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. Redirections are not followed: nobody knows whom they
/// would hand the secrets to.
fn client(tls: rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("the settings of the client are valid")
}

/// Returns when the server has taken it.
async fn post(
    client: &reqwest::Client,
    channel: &Channel,
    request: &Request,
    patience: Patience,
) -> Result<(), NotifyError> {
    let mut pause = patience.pause;
    let mut attempt = 1;
    loop {
        let answered = tokio::time::timeout(patience.limit, ask(client, channel, request)).await;
        let Err(trouble) = answered.unwrap_or(Err(Trouble::TimedOut)) else {
            return Ok(());
        };
        let why = trouble.why();
        if attempt >= patience.attempts || !trouble.may_pass() {
            return Err(NotifyError::Failed {
                channel: channel.to_string(),
                attempts: attempt,
                why,
                hint: trouble.hint(),
            });
        }
        tracing::debug!("{channel}: {why}; trying again");
        tokio::time::sleep(pause.max(trouble.wait().unwrap_or_default())).await;
        pause = pause.saturating_mul(2);
        attempt += 1;
    }
}

async fn ask(
    client: &reqwest::Client,
    channel: &Channel,
    request: &Request,
) -> Result<(), Trouble> {
    let mut builder = client
        .request(request.method.clone(), request.url.expose())
        .body(request.body.clone());
    for (name, value) in &request.headers {
        builder = builder.header(name, value.expose());
    }
    let mut response = builder.send().await?;
    let status = response.status();
    let wait = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| seconds(value.to_str().ok()?));
    let mut body = Vec::new();
    while body.len() < LONGEST_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    let body = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(Trouble::Refused {
            status,
            words: words(&request.redact(&body)),
            wait,
        });
    }
    match channel.service.refusal(&body) {
        None => Ok(()),
        Some((why, may_pass)) => Err(Trouble::Declined {
            why: quoted(&request.redact(&why)),
            may_pass,
        }),
    }
}

/// `Retry-After`, where it has seconds: Discord's have fractions.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
