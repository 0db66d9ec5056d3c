use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use crate::cli::Settings;
use crate::config::{Config, Environment};
use crate::manifest::EncryptedTo;
use crate::pipe::keys::Keys;
use crate::pipe::keys::samples::key_pair;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn resolved(&self, settings: &Settings, variables: &[(&str, &str)]) -> Result<Keys, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::resolve(settings, &Environment::new(variables), Path::new("/"))
            .map(|config| config.keys)
            // Where the files lie is another place each time.
            .map_err(|errors| {
                errors
                    .to_string()
                    .replace(&self.0.path().display().to_string(), "…")
            })
    }
}

fn to(keys: &Keys) -> Option<String> {
    let recipients = keys.recipients.as_ref()?;
    Some(recipients.told().to_string())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn without_keys_nothing_is_encrypted() {
    let keys = Files::new().resolved(&Settings::default(), &[]).unwrap();
    assert!(keys.recipients.is_none());
    assert!(!keys.identities.may_open(&EncryptedTo::Passphrase));
    assert!(
        !keys
            .identities
            .may_open(&EncryptedTo::Recipients(Vec::new()))
    );
}

#[test]
fn recipients_come_from_flags_a_variable_or_a_file() {
    let files = Files::new();
    let [(_, one), (_, two), (_, three)] = [key_pair(), key_pair(), key_pair()];
    let file = files.write("recipients", format!("# both\n{one}\n{two}\n"));
    let both = format!("{one}, {two}");
    let none = Settings::default();
    for variable in [
        ("COFFERDAM_RECIPIENTS", both.as_str()),
        ("COFFERDAM_RECIPIENTS_FILE", text(&file)),
    ] {
        let keys = files.resolved(&none, &[variable]).unwrap();
        assert_eq!(to(&keys), Some(format!("to {both}")));
    }
    let settings = Settings {
        recipients: vec![three.clone()],
        ..Settings::default()
    };
    let variables = [("COFFERDAM_RECIPIENTS", both.as_str())];
    let keys = files.resolved(&settings, &variables).unwrap();
    assert_eq!(to(&keys), Some(format!("to {three}")));
}

#[test]
fn a_passphrase_writes_and_reads() {
    let files = Files::new();
    let file = files.write("passphrase", "correct horse\n");
    let settings = Settings {
        passphrase_file: Some(file.clone()),
        ..Settings::default()
    };
    let none = Settings::default();
    for keys in [
        files.resolved(&settings, &[("COFFERDAM_PASSPHRASE", "another")]),
        files.resolved(&none, &[("COFFERDAM_PASSPHRASE", "correct horse")]),
        files.resolved(&none, &[("COFFERDAM_PASSPHRASE_FILE", text(&file))]),
    ] {
        let keys = keys.unwrap();
        assert_eq!(to(&keys).as_deref(), Some("with a passphrase"));
        assert!(keys.identities.may_open(&EncryptedTo::Passphrase));
    }
}

#[test]
fn identities_only_read() {
    let files = Files::new();
    let file = files.write("key.txt", key_pair().0);
    let settings = Settings {
        identity_file: Some(file.clone()),
        ..Settings::default()
    };
    for keys in [
        files.resolved(&settings, &[("COFFERDAM_IDENTITY_FILE", "/nowhere")]),
        files.resolved(
            &Settings::default(),
            &[("COFFERDAM_IDENTITY_FILE", text(&file))],
        ),
    ] {
        let keys = keys.unwrap();
        assert!(keys.recipients.is_none());
        assert!(
            keys.identities
                .may_open(&EncryptedTo::Recipients(Vec::new()))
        );
        assert!(!keys.identities.may_open(&EncryptedTo::Passphrase));
    }
}

#[test]
fn problems_name_the_setting_and_never_the_secret() {
    let files = Files::new();
    let (secret, public) = key_pair();
    let none = Settings::default();
    let bad = |variables: &[(&str, &str)]| {
        let problems = files.resolved(&none, variables).unwrap_err();
        assert!(!problems.contains("AGE-SECRET-KEY-1Q"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
        problems
    };
    let key = secret.lines().last().unwrap();
    assert_snapshot!(bad(&[("COFFERDAM_RECIPIENTS", key), ("COFFERDAM_PASSPHRASE_FILE", "/nowhere")]), @r"
    COFFERDAM_RECIPIENTS has an identity, which is secret, as recipient 1; give its recipient, which `age-keygen -y FILE` prints: whoever only makes backups should not see an identity
    COFFERDAM_PASSPHRASE_FILE names /nowhere, which cannot be read: No such file or directory (os error 2); set it to a text file that cofferdam can read, by its path in cofferdam's own container
    ");
    assert_snapshot!(bad(&[("COFFERDAM_RECIPIENTS", &public), ("COFFERDAM_PASSPHRASE", "hunter2")]), @"COFFERDAM_PASSPHRASE is set together with COFFERDAM_RECIPIENTS, but data cannot be encrypted to both; remove one of them");
    let passphrase = files.write("passphrase", "hunter2");
    assert_snapshot!(bad(&[("COFFERDAM_PASSPHRASE_FILE", text(&passphrase)), ("COFFERDAM_PASSPHRASE", "hunter2")]), @"COFFERDAM_PASSPHRASE_FILE is set together with COFFERDAM_PASSPHRASE; remove one of them");
    let empty = files.write("empty", "\n");
    assert_snapshot!(bad(&[("COFFERDAM_PASSPHRASE_FILE", text(&empty))]), @"COFFERDAM_PASSPHRASE_FILE has an empty passphrase; choose one; `openssl rand -base64 32` generates a strong one");
    assert_snapshot!(bad(&[("COFFERDAM_IDENTITY_FILE", text(&passphrase))]), @"COFFERDAM_IDENTITY_FILE names a file that has something other than an identity in line 1; name the file that `age-keygen -o FILE` wrote: its identity begins with AGE-SECRET-KEY-1");
    let binary = files.write("binary", [0xff, 0]);
    assert_snapshot!(bad(&[("COFFERDAM_IDENTITY_FILE", text(&binary))]), @"COFFERDAM_IDENTITY_FILE names …/binary, which is not a text file; set it to a text file that cofferdam can read, by its path in cofferdam's own container");
    assert_snapshot!(bad(&[("COFFERDAM_IDENTITY_FILE", "/dev/zero")]), @"COFFERDAM_IDENTITY_FILE names /dev/zero, which is too long to hold keys; set it to a text file that cofferdam can read, by its path in cofferdam's own container");
}
