//! The variables that Cofferdam was started with, as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::BadSetting;
use crate::repository::credentials::Credentials;
use crate::text::nearest_word;

const PREFIX: &str = "COFFERDAM_";

/// Of a file that holds keys or a secret, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Every variable of ours: the settings' and those that Cofferdam gives to its own agents.
const KNOWN: [&str; 40] = [
    "COFFERDAM_REPOSITORY",
    "COFFERDAM_REPOSITORY_ID",
    "COFFERDAM_EXISTING",
    "COFFERDAM_COPY_TO",
    "COFFERDAM_COPY_KEEP",
    "COFFERDAM_PROJECTS",
    "COFFERDAM_ALL_PROJECTS",
    "COFFERDAM_SWARM_MANAGER",
    "COFFERDAM_COMPRESSION",
    "COFFERDAM_KEEP",
    "COFFERDAM_MAY_SHRINK",
    "COFFERDAM_RETIRED",
    "COFFERDAM_SCHEDULE",
    "COFFERDAM_JITTER",
    "COFFERDAM_LISTEN",
    "COFFERDAM_TOKEN",
    "COFFERDAM_TOKEN_FILE",
    "COFFERDAM_RECIPIENTS",
    "COFFERDAM_RECIPIENTS_FILE",
    "COFFERDAM_PASSPHRASE",
    "COFFERDAM_PASSPHRASE_FILE",
    "COFFERDAM_IDENTITY_FILE",
    "COFFERDAM_LOG",
    "COFFERDAM_LOG_FORMAT",
    "COFFERDAM_JSON",
    "COFFERDAM_MAIL_TO",
    "COFFERDAM_MAIL_FROM",
    "COFFERDAM_SMTP_URL",
    "COFFERDAM_SMTP_USER",
    "COFFERDAM_SMTP_PASSWORD",
    "COFFERDAM_SMTP_PASSWORD_FILE",
    "COFFERDAM_SMTP_CA_FILE",
    "COFFERDAM_NOTIFY",
    "COFFERDAM_NOTIFY_FILE",
    "COFFERDAM_NOTIFY_ON",
    "COFFERDAM_NOTIFY_TEMPLATE",
    "COFFERDAM_NOTIFY_TEMPLATE_FILE",
    "COFFERDAM_NOTIFY_CA_FILE",
    "COFFERDAM_STATUS_DIR",
    crate::agent::JOB,
];

#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// `variables` as [`std::env::vars_os`] gives them; names that are not UTF-8 are none of ours.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        Self { variables }
    }

    /// `Ok(None)` when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, BadSetting> {
        match self.variables.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some("") => Ok(None),
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(BadSetting::new("is not UTF-8", "write it in UTF-8")),
            },
        }
    }

    /// The content of a file that holds keys or a secret.
    pub(super) fn file(&self, path: &Path) -> Result<String, BadSetting> {
        let bad = |why: &str| {
            BadSetting::new(
                format!("names {}, {why}", path.display().to_string().escape_debug()),
                "set it to a text file that cofferdam can read, by its path in cofferdam's own container",
            )
        };
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
        match read {
            Err(error) => Err(bad(&format!("which cannot be read: {error}"))),
            Ok(_) if bytes.len() as u64 > LONGEST_FILE => {
                Err(bad("which is too long to hold keys"))
            }
            Ok(_) => String::from_utf8(bytes).map_err(|_| bad("which is not a text file")),
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        let variables = self.variables.iter();
        Credentials::among(
            variables.filter_map(|(name, value)| Some((name.as_str(), value.to_str()?))),
        )
    }

    /// A variable that looks like one of ours and is not may be a typo; but others, such as the links between containers,
    /// make variables after a service's name, so this is no error.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.variables
            .keys()
            .filter(|name| name.starts_with(PREFIX) && !KNOWN.contains(&name.as_str()))
            .map(|name| {
                let meant = nearest_word(&name[PREFIX.len()..], KNOWN.map(|it| &it[PREFIX.len()..]));
                match meant {
                    Some(near) => format!(
                        "the variable {} is unknown and has no effect; did you mean {PREFIX}{near}?",
                        name.escape_debug()
                    ),
                    None => format!(
                        "the variable {} is unknown and has no effect",
                        name.escape_debug()
                    ),
                }
            })
            .collect()
    }
}
