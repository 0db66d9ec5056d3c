//! Reads what the settings name, and sends.

use std::path::Path;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::trouble::{Trouble, words};
use super::{Letter, MailError, MailSettings, Password, Patience, Refusal, Security};
use crate::secret::Secret;
use crate::trust;

/// Sends to those whom the settings name.
#[derive(Clone)]
pub struct Mailer {
    settings: MailSettings,
    password: Option<Secret>,
    tls: Option<TlsParameters>,
    patience: Patience,
}

impl Mailer {
    /// Reads the files that the settings name. Connects to nobody yet.
    pub fn open(settings: &MailSettings) -> Result<Self, MailError> {
        let password = settings.login.as_ref().map(|login| match &login.password {
            Password::Given(secret) => Ok(secret.clone()),
            Password::File(path) => read("COFFERDAM_SMTP_PASSWORD_FILE", path)
                .map(|text| Secret::from_file_content(&text)),
        });
        let tls = match settings.server.security {
            Security::Plain => None,
            Security::Tls | Security::StartTls => Some(tls(settings)?),
        };
        Ok(Self {
            settings: settings.clone(),
            password: password.transpose()?,
            tls,
            patience: Patience::default(),
        })
    }

    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Returns when the server has taken the letter for everybody. [`MailError::Refused`] when it has taken it for some.
    pub async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        let message = letter.compose(&self.settings)?.formatted();
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let sent = tokio::time::timeout(self.patience.limit, self.attempt(&message)).await;
            let trouble = match sent.unwrap_or(Err(Trouble::TimedOut)) {
                Ok(refused) if refused.is_empty() => return Ok(()),
                Ok(refused) => {
                    return Err(MailError::Refused {
                        server: self.server(),
                        refused,
                    });
                }
                Err(trouble) => trouble,
            };
            if attempt >= self.patience.attempts || !trouble.may_pass() {
                return Err(MailError::Failed {
                    server: self.server(),
                    attempts: attempt,
                    why: self.redacted(&trouble.why()),
                    hint: trouble.hint(),
                });
            }
            tracing::debug!("mail: {}; trying again", self.redacted(&trouble.why()));
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }

    /// Tells for whom the server does not take it, when there are others.
    async fn attempt(&self, message: &[u8]) -> Result<Vec<Refusal>, Trouble> {
        let mut connection = self.connect().await?;
        let from = self.settings.from.email.clone();
        connection
            .command(Mail::new(Some(from), Vec::new()))
            .await?;
        let mut refused = Vec::new();
        for to in &self.settings.to {
            refused.extend(self.offer(&mut connection, &to.email).await?);
        }
        if refused.len() == self.settings.to.len() {
            connection.abort().await;
            return Err(Trouble::NobodyIsTaken(refused));
        }
        connection.command(Data).await?;
        connection.message(message).await?;
        // It is taken, however the server says good-bye.
        let _ = connection.quit().await;
        Ok(refused)
    }

    async fn offer(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &Address,
    ) -> Result<Option<Refusal>, Trouble> {
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => Ok(None),
            Err(error) if error.status().is_some() => Ok(Some(Refusal {
                recipient: to.to_string(),
                why: self.redacted(&words(&error)),
                is_final: error.is_permanent(),
            })),
            Err(error) => Err(error.into()),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, smtp::Error> {
        let server = &self.settings.server;
        let own_name = ClientId::default();
        let (wrapped, upgraded) = match server.security {
            Security::Tls => (self.tls.clone(), None),
            Security::StartTls => (None, self.tls.clone()),
            Security::Plain => (None, None),
        };
        let address = (server.host.as_str(), server.port);
        let limit: Option<Duration> = Some(self.patience.limit);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, limit, &own_name, wrapped, None).await?;
        if let Some(tls) = upgraded {
            connection.starttls(tls, &own_name).await?;
        }
        if let (Some(login), Some(password)) = (&self.settings.login, &self.password) {
            let credentials = Credentials::new(login.user.clone(), password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    fn server(&self) -> String {
        let server = &self.settings.server;
        format!("{}:{}", server.host, server.port)
    }

    fn redacted(&self, text: &str) -> String {
        match &self.password {
            Some(password) => password.redact(text),
            None => text.to_owned(),
        }
    }
}

fn read(variable: &'static str, path: &Path) -> Result<String, MailError> {
    std::fs::read_to_string(path).map_err(|error| MailError::File {
        variable,
        path: path.to_owned(),
        error,
    })
}

fn tls(settings: &MailSettings) -> Result<TlsParameters, MailError> {
    let unusable = |error: smtp::Error| MailError::Tls(words(&error));
    let mut parameters = TlsParameters::builder(settings.server.host.clone())
        .certificate_store(CertificateStore::None);
    for authority in trust::authorities(settings.ca_file.as_deref())? {
        let certificate = Certificate::from_der(authority.to_vec()).map_err(unusable)?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build().map_err(unusable)
}
