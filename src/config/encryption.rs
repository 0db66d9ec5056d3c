//! Keys, from flags, variables and files.

use super::{BadSetting, Reader};
use crate::cli::Settings;
use crate::pipe::keys::{BadKey, Identities, Keys, Recipients};
use crate::secret::Secret;

impl From<BadKey> for BadSetting {
    fn from(bad: BadKey) -> Self {
        Self::new(bad.what, bad.hint)
    }
}

impl Reader<'_> {
    pub(super) fn keys(&mut self, settings: &Settings) -> Keys {
        let to_keys = self.recipients(settings);
        let to_passphrase = self.passphrase(settings);
        if let (Some((setting, _)), Some((other, _))) = (&to_passphrase, &to_keys) {
            self.problem(
                setting,
                format!("is set together with {other}, but data cannot be encrypted to both"),
                "remove one of them".to_owned(),
            );
        }
        let recipients = to_keys.or(to_passphrase).map(|(_, recipients)| recipients);
        let identities = self.identities(settings);
        Keys {
            identities: identities.with_passphrase_of(recipients.as_ref()),
            recipients,
        }
    }

    fn recipients(&mut self, settings: &Settings) -> Option<(&'static str, Recipients)> {
        let (setting, text) = if settings.recipients.is_empty() {
            self.variable_or_file("COFFERDAM_RECIPIENTS", "COFFERDAM_RECIPIENTS_FILE")?
        } else {
            ("--recipient", settings.recipients.join("\n"))
        };
        let parsed = Recipients::parse(&text).map_err(BadSetting::from);
        Some((setting, self.good(setting, parsed)?))
    }

    fn passphrase(&mut self, settings: &Settings) -> Option<(&'static str, Recipients)> {
        let (setting, text) = match &settings.passphrase_file {
            Some(path) => ("--passphrase-file", self.file("--passphrase-file", path)?),
            None => self.variable_or_file("COFFERDAM_PASSPHRASE", "COFFERDAM_PASSPHRASE_FILE")?,
        };
        let passphrase = Secret::from_file_content(&text);
        if passphrase.expose().is_empty() {
            self.problem(
                setting,
                "has an empty passphrase".to_owned(),
                "choose one; `openssl rand -base64 32` generates a strong one".to_owned(),
            );
            return None;
        }
        Some((setting, Recipients::passphrase(passphrase)))
    }

    fn identities(&mut self, settings: &Settings) -> Identities {
        const FLAG: &str = "--identity-file";
        const VARIABLE: &str = "COFFERDAM_IDENTITY_FILE";
        let text = match &settings.identity_file {
            Some(path) => self.file(FLAG, path).map(|text| (FLAG, text)),
            None => self
                .variable(VARIABLE)
                .and_then(|path| self.file(VARIABLE, path.as_ref()))
                .map(|text| (VARIABLE, text)),
        };
        let parsed = text.and_then(|(setting, text)| {
            let parsed = Identities::parse(&text).map_err(BadSetting::from);
            self.good(setting, parsed)
        });
        parsed.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
