//! From an address to an SFTP session: the connection, the server's key, the user.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyBase64};
use russh::{Channel, ChannelMsg, Disconnect, MethodKind, Preferred};
use russh_sftp::client::error::Error;
use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::client::{Config, RawSftpSession, SftpSession};
use russh_sftp::extensions::HardlinkExtension;
use russh_sftp::protocol::{Packet, StatusCode};
use tokio::net::TcpStream;

use super::super::fault::Fault;
use super::fault::none_if_missing;
use super::host_key::HostKeys;
use crate::secret::Secret;

const CONNECT: Duration = Duration::from_secs(15);
/// From the first word to the session.
const GREETING: Duration = Duration::from_secs(45);

/// A peer that says nothing is asked whether it is there, and given up after some of these.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES: usize = 4;

/// For one request, with what is on its way before it.
const ANSWER: Duration = Duration::from_secs(120);

/// Each up to 255 KiB, for each object that is read.
const READS_IN_FLIGHT: usize = 8;
/// Each 32 KiB, for each object that is written. With four of them this is 8 MiB.
const WRITES_IN_FLIGHT: usize = 64;

const RENAME_OVER: &str = "posix-rename@openssh.com";

pub(super) struct Account {
    pub host_keys: Arc<HostKeys>,
    pub user: String,
    pub key: Option<Arc<PrivateKey>>,
    pub password: Option<Secret>,
}

/// A session that was up when last seen.
pub(super) struct Session {
    pub sftp: SftpSession,
    ssh: Handle<HostCheck>,
}

impl Session {
    pub(super) fn is_closed(&self) -> bool {
        self.ssh.is_closed()
    }

    /// Renames over what has the name. The protocol itself has no such thing: OpenSSH and many others have it as an
    /// extension, which goes over a channel of its own here. Elsewhere what has the name is removed first.
    pub(super) async fn rename_over(&self, from: String, to: String) -> SftpResult<()> {
        let channel = channel(&self.ssh).await;
        let channel = channel.map_err(|error| Error::IO(error.fault.why))?;
        let extended = RawSftpSession::new_with_config(channel.into_stream(), config());
        let version = extended.init().await?;
        if !version.extensions.contains_key(RENAME_OVER) {
            return self.remove_and_rename(from, to).await;
        }
        // Two paths, as that extension has.
        let paths = HardlinkExtension {
            oldpath: from,
            newpath: to,
        };
        match extended.extended(RENAME_OVER, paths.try_into()?).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(status.into()),
            _ => Err(Error::UnexpectedPacket),
        }
    }

    /// Asked for again when an answer got lost, it does not remove what it has renamed already.
    async fn remove_and_rename(&self, from: String, to: String) -> SftpResult<()> {
        let renamed = self.sftp.rename(from.as_str(), to.as_str()).await;
        let Err(error) = renamed else { return Ok(()) };
        if none_if_missing(self.sftp.metadata(from.as_str()).await)?.is_none() {
            return Err(error);
        }
        none_if_missing(self.sftp.remove_file(to.as_str()).await)?;
        self.sftp.rename(from, to).await
    }
}

#[derive(Debug)]
pub(super) struct LoginError {
    pub fault: Fault,
    /// Whether it may go by itself.
    pub is_passing: bool,
}

impl LoginError {
    fn passing(why: impl Into<String>) -> Self {
        Self {
            fault: Fault::hinting(
                why,
                "check the host and the port, and that this container can reach it",
            ),
            is_passing: true,
        }
    }
}

/// What refuses to be waited for.
impl From<Fault> for LoginError {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            is_passing: false,
        }
    }
}

impl From<russh::Error> for LoginError {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::NoCommonAlgo { .. } => Fault::hinting(
                format!("it and Cofferdam have no algorithm in common: {error}"),
                "give it an ed25519 or ECDSA host key; RSA is not supported",
            )
            .into(),
            error => Self::passing(error.to_string()),
        }
    }
}

struct HostCheck(Arc<HostKeys>);

impl client::Handler for HostCheck {
    type Error = LoginError;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, LoginError> {
        self.0.check(key)?;
        Ok(true)
    }
}

pub(super) async fn log_in(account: &Account) -> Result<Session, LoginError> {
    let HostKeys { host, port, .. } = &*account.host_keys;
    let connecting = TcpStream::connect((host.as_str(), *port));
    let stream = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(LoginError::passing(error.to_string())),
        Err(_) => return Err(LoginError::passing("no answer")),
    };
    // Small requests must not wait for more.
    stream
        .set_nodelay(true)
        .map_err(|error| LoginError::passing(error.to_string()))?;
    match tokio::time::timeout(GREETING, greet(account, stream)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LoginError::passing(
            "it accepts connections, but does not respond",
        )),
    }
}

async fn greet(account: &Account, stream: TcpStream) -> Result<Session, LoginError> {
    let ssh_config = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        preferred: Preferred {
            key: account.host_keys.algorithms().into(),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    };
    let check = HostCheck(Arc::clone(&account.host_keys));
    let mut ssh = client::connect_stream(Arc::new(ssh_config), stream, check).await?;
    if !authenticate(account, &mut ssh).await? {
        let _ = ssh.disconnect(Disconnect::ByApplication, "", "").await;
        return Err(refused(account).into());
    }
    let stream = channel(&ssh).await?.into_stream();
    match SftpSession::new_with_config(stream, config()).await {
        Ok(sftp) => Ok(Session { sftp, ssh }),
        Err(error) => Err(LoginError::passing(error.to_string())),
    }
}

async fn authenticate(
    account: &Account,
    ssh: &mut Handle<HostCheck>,
) -> Result<bool, russh::Error> {
    let user = account.user.as_str();
    if let Some(key) = &account.key {
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
        match ssh.authenticate_publickey(user, key).await? {
            AuthResult::Success => return Ok(true),
            AuthResult::Failure { .. } => {}
        }
    }
    let Some(password) = &account.password else {
        return Ok(false);
    };
    match ssh.authenticate_password(user, password.expose()).await? {
        AuthResult::Success => Ok(true),
        AuthResult::Failure {
            remaining_methods, ..
        } => {
            let asks = remaining_methods.contains(&MethodKind::KeyboardInteractive);
            Ok(asks && answer(ssh, user, password).await?)
        }
    }
}

/// Some servers know passwords only as the answer to a question.
async fn answer(
    ssh: &mut Handle<HostCheck>,
    user: &str,
    password: &Secret,
) -> Result<bool, russh::Error> {
    let mut said = ssh
        .authenticate_keyboard_interactive_start(user, None)
        .await?;
    let mut was_told = false;
    loop {
        let prompts = match said {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // Once is enough: asked again, the server did not like it.
        if was_told && !prompts.is_empty() {
            return Ok(false);
        }
        was_told |= !prompts.is_empty();
        let answers = prompts.iter().map(|_| password.expose().to_owned());
        said = ssh
            .authenticate_keyboard_interactive_respond(answers.collect())
            .await?;
    }
}

fn refused(account: &Account) -> Fault {
    let why = format!("it refuses to log in the user `{}`", account.user);
    let hint = match (&account.key, &account.password) {
        (Some(key), _) => format!(
            "add the line `{} {}` to that user's authorized_keys there",
            key.algorithm(),
            key.public_key_base64()
        ),
        (None, _) => "check the user in the URL and SFTP_PASSWORD".to_owned(),
    };
    Fault::hinting(why, hint)
}

/// One on which the server speaks SFTP.
async fn channel(ssh: &Handle<HostCheck>) -> Result<Channel<client::Msg>, LoginError> {
    let none = || {
        Fault::hinting(
            "it does not offer SFTP to that user",
            "enable it there (`Subsystem sftp internal-sftp` in sshd_config)",
        )
    };
    let mut channel = match ssh.channel_open_session().await {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(_)) => return Err(none().into()),
        Err(error) => return Err(error.into()),
    };
    channel.request_subsystem(true, "sftp").await?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(channel),
            Some(ChannelMsg::Failure | ChannelMsg::Close | ChannelMsg::Eof) => {
                return Err(none().into());
            }
            Some(_) => {}
            None => return Err(LoginError::passing("it closed the connection")),
        }
    }
}

fn config() -> Config {
    Config {
        max_concurrent_reads: READS_IN_FLIGHT,
        max_concurrent_writes: WRITES_IN_FLIGHT,
        request_timeout_secs: ANSWER.as_secs(),
        ..Config::default()
    }
}
