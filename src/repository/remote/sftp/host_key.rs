//! Whether a server is the one that the user means: by the keys in a file as OpenSSH's `known_hosts`. Nothing is trusted
//! because it was there first.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyBase64};

use super::super::fault::Fault;

pub(super) struct HostKeys {
    pub file: Option<PathBuf>,
    pub host: String,
    pub port: u16,
}

impl HostKeys {
    pub(super) fn check(&self, shown: &PublicKey) -> Result<(), Fault> {
        let Some(file) = &self.file else {
            return Err(self.unknown(
                shown,
                "its host key is not known".to_owned(),
                "into a file, and name that file with `known-hosts=` in the URL",
            ));
        };
        let text = fs::read_to_string(file)
            .map_err(|error| Fault::new(format!("cannot read {}: {error}", file.display())))?;
        if is_revoked(&text, shown) {
            let why = format!(
                "it presents the key {}, which {} marks as revoked",
                fingerprint(shown),
                file.display()
            );
            return Err(Fault::hinting(
                why,
                "do not trust that server; ask its administrator",
            ));
        }
        let known = self.known_in(file)?;
        if known.contains(shown) {
            return Ok(());
        }
        if known.iter().any(|key| key.algorithm() == shown.algorithm()) {
            return Err(self.changed(shown, file));
        }
        Err(self.unknown(
            shown,
            format!("{} does not have this key for it", file.display()),
            &format!("into {}", file.display()),
        ))
    }

    /// In which order the server is asked for its keys: first for those that we could know it by. RSA is left out: there
    /// is no code for it here.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let known = match &self.file {
            Some(file) => self.known_in(file).unwrap_or_default(),
            None => Vec::new(),
        };
        let is_known =
            |algorithm: &Algorithm| known.iter().any(|key| key.algorithm() == *algorithm);
        let mut algorithms = russh::Preferred::DEFAULT.key.into_owned();
        algorithms.retain(|algorithm| !matches!(algorithm, Algorithm::Rsa { .. }));
        // Stable: otherwise the order stays as it is.
        algorithms.sort_by_key(|algorithm| !is_known(algorithm));
        algorithms
    }

    fn known_in(&self, file: &Path) -> Result<Vec<PublicKey>, Fault> {
        match known_host_keys_path(&self.host, self.port, file) {
            Ok(found) => Ok(found.into_iter().map(|(_, key)| key).collect()),
            Err(error) => Err(Fault::hinting(
                format!(
                    "{} has a line for it without a key: {error}",
                    file.display()
                ),
                "write it again, with `ssh-keyscan`",
            )),
        }
    }

    fn unknown(&self, shown: &PublicKey, why: String, where_to: &str) -> Fault {
        let line = self.line(shown);
        Fault::hinting(
            format!("{why}; it presents {}", fingerprint(shown)),
            format!(
                "compare that with what `ssh-keygen -l -f` prints for the key file in the server's /etc/ssh; if it is the same, put the line `{line}` {where_to}"
            ),
        )
    }

    fn changed(&self, shown: &PublicKey, file: &Path) -> Fault {
        let line = self.line(shown);
        Fault::hinting(
            format!(
                "it presents another key than the one in {}: {}",
                file.display(),
                fingerprint(shown)
            ),
            format!(
                "another machine may be posing as the server: ask its administrator; if the server was set up anew, its new line is `{line}`"
            ),
        )
    }

    fn line(&self, key: &PublicKey) -> String {
        let host: Cow<'_, str> = match self.port {
            22 => Cow::Borrowed(&self.host),
            port => Cow::Owned(format!("[{}]:{port}", self.host)),
        };
        format!("{host} {} {}", key.algorithm(), key.public_key_base64())
    }
}

fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

fn is_revoked(text: &str, key: &PublicKey) -> bool {
    let blob = key.public_key_base64();
    text.lines()
        .filter(|line| line.starts_with("@revoked"))
        .any(|line| line.split_whitespace().any(|word| word == blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    /// `OTHER`, for `example.com`.
    const HASHED: &str = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const ECDSA: &str = "host ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

    fn key(blob: &str) -> PublicKey {
        russh::keys::parse_public_key_base64(blob).unwrap()
    }

    /// What is said of a server that shows `ONE`, by a file with `text`.
    fn told(host: &str, port: u16, text: Option<&str>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("known_hosts");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let keys = HostKeys {
            file: text.map(|_| path.clone()),
            host: host.to_owned(),
            port,
        };
        match keys.check(&key(ONE)) {
            Ok(()) => "known".to_owned(),
            Err(fault) => format!("{}; {}", fault.why, fault.hint.unwrap_or_default())
                .replace(path.to_str().unwrap(), "FILE"),
        }
    }

    #[test]
    fn only_a_key_of_the_file_is_trusted() {
        let one = format!("# ours\n[host]:2222,10.0.0.1 ssh-ed25519 {ONE} comment\n");
        assert_eq!(told("host", 2222, Some(&one)), "known");
        assert_eq!(told("10.0.0.1", 22, Some(&one)), "known");
        let rotated = format!("host ssh-ed25519 {OTHER}\nhost ssh-ed25519 {ONE}\n");
        assert_eq!(told("host", 22, Some(&rotated)), "known");
    }

    #[test]
    fn whatever_else_is_refused_with_what_to_do() {
        insta::assert_snapshot!(told("host", 2222, None), @"its host key is not known; it presents ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE; compare that with what `ssh-keygen -l -f` prints for the key file in the server's /etc/ssh; if it is the same, put the line `[host]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ` into a file, and name that file with `known-hosts=` in the URL");
        insta::assert_snapshot!(told("host", 22, Some(&format!("other ssh-ed25519 {ONE}"))), @"FILE does not have this key for it; it presents ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE; compare that with what `ssh-keygen -l -f` prints for the key file in the server's /etc/ssh; if it is the same, put the line `host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ` into FILE");
        insta::assert_snapshot!(told("host", 22, Some(ECDSA)), @"FILE does not have this key for it; it presents ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE; compare that with what `ssh-keygen -l -f` prints for the key file in the server's /etc/ssh; if it is the same, put the line `host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ` into FILE");
        insta::assert_snapshot!(told("example.com", 22, Some(HASHED)), @"it presents another key than the one in FILE: ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE; another machine may be posing as the server: ask its administrator; if the server was set up anew, its new line is `example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ`");
        let revoked = format!("host ssh-ed25519 {ONE}\n@revoked * ssh-ed25519 {ONE}\n");
        insta::assert_snapshot!(told("host", 22, Some(&revoked)), @"it presents the key ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE, which FILE marks as revoked; do not trust that server; ask its administrator");
        insta::assert_snapshot!(told("host", 22, Some("host ssh-ed25519 AAAA")), @"FILE has a line for it without a key: SshKey: length invalid; write it again, with `ssh-keyscan`");
    }

    #[test]
    fn a_server_is_asked_for_the_kind_of_key_that_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), ECDSA).unwrap();
        let keys = |file| HostKeys {
            file,
            host: "host".to_owned(),
            port: 22,
        };
        let with_file = keys(Some(file.path().to_owned())).algorithms();
        assert_eq!(with_file[0].as_str(), "ecdsa-sha2-nistp256");
        assert_eq!(with_file.len(), 4);
        assert_eq!(keys(None).algorithms()[0].as_str(), "ssh-ed25519");
    }
}
