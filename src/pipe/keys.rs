//! Keys: whom stored data is encrypted to, and what opens it. With [`crate::pipe`], all that names the age library.
//!
//! A backup needs [`Recipients`], which hold public keys: who makes snapshots need not be able to read them. Reading needs
//! [`Identities`], which are secret and never leave this process. A passphrase is both at once.

mod parse;

use std::fmt;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use age::secrecy::SecretString;
use age::stream::StreamReader;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use tokio_util::compat::Compat;

pub use parse::BadKey;

use crate::manifest::{EncryptedTo, PublicKey};
use crate::secret::Secret;

/// What scrypt spends on each object, as a power of two: 128 MiB and about half a second.
const WORK: u8 = 17;
/// What the `age` command spends, 256 MiB. An object that asks for more is not ours, and would take as much to be read.
const MOST_WORK: u8 = 18;

/// Everything that a run knows of keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// What is stored is encrypted to them; in the clear when there are none.
    pub recipients: Option<Recipients>,
    pub identities: Identities,
}

/// Whom data is encrypted to: any one of several keys opens it, or a passphrase.
#[derive(Clone, Debug)]
pub struct Recipients(To);

#[derive(Clone, Debug)]
enum To {
    /// At least one, none twice.
    Keys(Vec<x25519::Recipient>),
    Passphrase(Arc<Passphrase>),
}

/// What opens data. Empty where nothing was given.
#[derive(Clone, Default)]
pub struct Identities {
    keys: Vec<x25519::Identity>,
    passphrase: Option<Arc<Passphrase>>,
}

#[derive(Debug)]
struct Passphrase {
    text: Secret,
    /// Objects take turns: each takes [`WORK`] of memory.
    turn: Mutex<()>,
}

/// Why something encrypted stays closed.
#[derive(Debug, thiserror::Error)]
pub enum DecryptionError {
    #[error(
        "it is encrypted, but no identity is given; name an identity file with --identity-file FILE (COFFERDAM_IDENTITY_FILE)"
    )]
    NoIdentity,
    #[error(
        "it is encrypted with a passphrase, but none is given; name a passphrase file with --passphrase-file FILE (COFFERDAM_PASSPHRASE_FILE)"
    )]
    NoPassphrase,
    /// How many were tried.
    #[error(
        "{} (or its header is damaged); name the file of the right one with --identity-file FILE",
        match .0 {
            1 => "the given identity does not open it".to_owned(),
            several => format!("none of the {several} given identities opens it"),
        }
    )]
    WrongIdentity(usize),
    #[error(
        "the given passphrase does not open it (or its header is damaged); name the file of the right one with \
         --passphrase-file FILE"
    )]
    WrongPassphrase,
    #[error("its header is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Read(std::io::Error),
}

impl DecryptionError {
    /// Whether other keys would open it.
    pub fn is_of_keys(&self) -> bool {
        match self {
            Self::NoIdentity
            | Self::NoPassphrase
            | Self::WrongIdentity(_)
            | Self::WrongPassphrase => true,
            Self::Damaged(_) | Self::Read(_) => false,
        }
    }
}

impl Recipients {
    /// Reads public keys, with commas or ends of lines between them; a line that begins with `#` is a comment.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        Ok(Self(To::Keys(parse::recipients(text)?)))
    }

    pub fn passphrase(text: Secret) -> Self {
        let turn = Mutex::new(());
        Self(To::Passphrase(Arc::new(Passphrase { text, turn })))
    }

    /// As a manifest tells it.
    pub fn told(&self) -> EncryptedTo {
        match &self.0 {
            To::Passphrase(_) => EncryptedTo::Passphrase,
            To::Keys(keys) => EncryptedTo::Recipients(keys.iter().map(public_key).collect()),
        }
    }

    /// The same, and `identities` as well. `None` when nothing that is given would open what is encrypted to them.
    fn and(&self, identities: &Identities) -> Option<Self> {
        match &self.0 {
            To::Passphrase(_) => Some(self.clone()),
            To::Keys(_) if identities.keys.is_empty() => None,
            To::Keys(keys) => {
                let mut all = keys.clone();
                all.extend(identities.public_keys().filter(|key| !keys.contains(key)));
                Some(Self(To::Keys(all)))
            }
        }
    }

    /// Takes its time for a passphrase: not for a task of the runtime.
    pub(crate) fn encryptor(&self) -> std::io::Result<Encryptor> {
        match &self.0 {
            To::Keys(keys) => Encryptor::with_recipients(keys.iter().map(|key| key as _)),
            To::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.secret());
                recipient.set_work_factor(WORK);
                let _turn = passphrase.turn();
                Encryptor::with_recipients(iter::once(&recipient as &dyn Recipient))
            }
        }
        .map_err(std::io::Error::other)
    }
}

impl Identities {
    /// Reads a file as `age-keygen` writes it: an identity a line, and comments.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        Ok(Self {
            keys: parse::identities(text)?,
            passphrase: None,
        })
    }

    /// The same, and the passphrase that `recipients` are, if they are one.
    pub fn with_passphrase_of(mut self, recipients: Option<&Recipients>) -> Self {
        if let Some(Recipients(To::Passphrase(passphrase))) = recipients {
            self.passphrase = Some(Arc::clone(passphrase));
        }
        self
    }

    /// Whether anything of the kind that opens it is given, be it the right one or not.
    pub fn may_open(&self, to: &EncryptedTo) -> bool {
        match to {
            EncryptedTo::Recipients(_) => !self.keys.is_empty(),
            EncryptedTo::Passphrase => self.passphrase.is_some(),
        }
    }

    fn public_keys(&self) -> impl Iterator<Item = x25519::Recipient> {
        self.keys.iter().map(x25519::Identity::to_public)
    }

    /// Themselves as recipients.
    fn recipients(&self) -> Option<Recipients> {
        let keys: Vec<_> = self.public_keys().collect();
        match &self.passphrase {
            _ if !keys.is_empty() => Some(Recipients(To::Keys(keys))),
            Some(passphrase) => Some(Recipients(To::Passphrase(Arc::clone(passphrase)))),
            None => None,
        }
    }

    /// Takes its time for a passphrase: not for a task of the runtime.
    pub(crate) fn open<R>(
        &self,
        file: Decryptor<Compat<R>>,
    ) -> Result<StreamReader<Compat<R>>, DecryptionError>
    where
        Compat<R>: futures_util::AsyncRead + Unpin,
    {
        if !file.is_scrypt() {
            if self.keys.is_empty() {
                return Err(DecryptionError::NoIdentity);
            }
            let keys = self.keys.iter().map(|key| key as &dyn Identity);
            return file
                .decrypt_async(keys)
                .map_err(|error| told(error, DecryptionError::WrongIdentity(self.keys.len())));
        }
        let passphrase = self
            .passphrase
            .as_ref()
            .ok_or(DecryptionError::NoPassphrase)?;
        let mut identity = scrypt::Identity::new(passphrase.secret());
        identity.set_max_work_factor(MOST_WORK);
        let _turn = passphrase.turn();
        file.decrypt_async(iter::once(&identity as &dyn Identity))
            .map_err(|error| told(error, DecryptionError::WrongPassphrase))
    }
}

/// Why [`Keys::for_way_back`] has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the safety snapshot would be encrypted to recipients only, and could not be read when the restore has to be undone; give \
     an identity with --identity-file FILE (COFFERDAM_IDENTITY_FILE), to which it is then encrypted as well"
)]
pub struct NoWayBack;

impl Keys {
    /// What a restore's own safety snapshot is encrypted to. It must be readable for the way back, and is no less protected
    /// than what is restored: public keys that stand in a manifest are not asked, since anybody may have written them there.
    pub fn for_way_back(&self, restored: Protection) -> Result<Option<Recipients>, NoWayBack> {
        match (&self.recipients, restored) {
            (Some(recipients), _) => recipients.and(&self.identities).map(Some).ok_or(NoWayBack),
            (None, Protection::Encrypted) => Ok(self.identities.recipients()),
            (None, Protection::Clear) => Ok(None),
        }
    }
}

/// How what is being restored was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    Clear,
    /// At least in part.
    Encrypted,
}

impl Passphrase {
    fn secret(&self) -> SecretString {
        SecretString::from(self.text.expose().to_owned())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identities")
            .field("keys", &self.keys.len())
            .field("passphrase", &self.passphrase.is_some())
            .finish()
    }
}

fn public_key(key: &x25519::Recipient) -> PublicKey {
    key.to_string()
        .try_into()
        .expect("the library prints recipients as they are written")
}

fn told(error: DecryptError, wrong_key: DecryptionError) -> DecryptionError {
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::KeyDecryptionFailed
        | DecryptError::DecryptionFailed => wrong_key,
        DecryptError::Io(error) => DecryptionError::Read(error),
        // The library's own words reckon with the difference to this machine, which a hostile header makes overflow.
        DecryptError::ExcessiveWork { required, .. } => DecryptionError::Damaged(format!(
            "it asks for 2^{required} of scrypt's work, but at most 2^{MOST_WORK} is allowed"
        )),
        other => DecryptionError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use age::secrecy::ExposeSecret;

    use super::*;

    /// An identity as `age-keygen` writes it, and the recipient that belongs to it.
    pub(crate) fn key_pair() -> (String, String) {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let text = identity.to_string().expose_secret().to_owned();
        (
            format!("# created: today\n# public key: {recipient}\n{text}\n"),
            recipient,
        )
    }

    pub(crate) fn identities(text: &str) -> Identities {
        Identities::parse(text).unwrap()
    }

    pub(crate) fn recipients(text: &str) -> Recipients {
        Recipients::parse(text).unwrap()
    }
}

#[cfg(test)]
mod tests;
