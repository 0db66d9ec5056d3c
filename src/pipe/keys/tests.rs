use insta::assert_snapshot;

use super::samples::{identities, key_pair, recipients};
use super::*;

fn told(text: &str) -> Vec<String> {
    match recipients(text).told() {
        EncryptedTo::Recipients(keys) => keys.iter().map(ToString::to_string).collect(),
        EncryptedTo::Passphrase => panic!("keys were given"),
    }
}

#[test]
fn recipients_stand_on_lines_or_between_commas() {
    let (_, one) = key_pair();
    let (_, two) = key_pair();
    let both = [one.clone(), two.clone()];
    for text in [
        format!("{one},{two}"),
        format!("  {one} ,\n\t{two},"),
        format!("# Alice, on call\n{one}\n\n  # Bob\n{two}\n"),
        format!("{one}\r\n{two}\r\n{one}"),
    ] {
        assert_eq!(told(&text), both, "{text}");
    }
}

#[test]
fn a_bad_recipient_is_told_by_its_place() {
    let (secret, public) = key_pair();
    let secret = secret.lines().last().unwrap();
    let bad = |text: &str| {
        let error = Recipients::parse(text).unwrap_err().to_string();
        for word in [text, secret, &secret.to_lowercase()] {
            assert!(!error.contains(word) || word.is_empty(), "{error}");
        }
        error
    };
    assert_snapshot!(bad(&format!("{public},{secret}")), @"has an identity, which is secret, as recipient 2; give its recipient, which `age-keygen -y FILE` prints: whoever only makes backups should not see an identity");
    assert_snapshot!(bad(&secret.to_lowercase()), @"has an identity, which is secret, as recipient 1; give its recipient, which `age-keygen -y FILE` prints: whoever only makes backups should not see an identity");
    assert_snapshot!(bad("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA alice@host"), @"has an SSH key as recipient 1, but SSH keys are not supported; `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
    assert_snapshot!(bad("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"), @"has an unsupported kind of recipient as recipient 1; use X25519 recipients: `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
    assert_snapshot!(bad(&format!("{public}\n{}b", &public[..61])), @"has a malformed recipient as recipient 2; a recipient is `age1` and 58 more letters and digits; `age-keygen -y FILE` prints it");
    assert_snapshot!(bad("correct horse battery staple"), @"has a malformed recipient as recipient 1; a recipient is `age1` and 58 more letters and digits; `age-keygen -y FILE` prints it");
    assert_snapshot!(bad(super::parse::SAMPLE), @"has the sample key of age's documentation as recipient 1, which you could not decrypt; `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
    assert_snapshot!(bad(" , \n# nobody"), @"names no recipient; `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
}

/// What is encrypted to the most that there may be must have a header that is read again.
#[test]
fn there_may_be_a_hundred_keys_of_each_kind() {
    let pairs: Vec<_> = (0..101).map(|_| key_pair()).collect();
    let to: Vec<_> = pairs.iter().map(|(_, to)| to.as_str()).collect();
    let keys: String = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_snapshot!(Recipients::parse(&to.join("\n")).unwrap_err(), @"has 101 recipients, but at most 100 can be used; remove those that are no longer used");
    assert_snapshot!(Identities::parse(&keys).unwrap_err(), @"has 101 identities, but at most 100 can be used; remove those that are no longer used");
    assert!(Recipients::parse(&to[..100].join("\n")).is_ok());
}

#[test]
fn a_bad_identity_file_is_told_by_its_line() {
    let (secret, public) = key_pair();
    let key = secret.lines().last().unwrap();
    let bad = |text: &str| {
        let error = Identities::parse(text).unwrap_err().to_string();
        assert!(!error.contains(&key[..30]), "{error}");
        error
    };
    assert_snapshot!(bad(&format!("{secret}{public}")), @"names a file with a recipient in line 4, which cannot decrypt anything; name the file that `age-keygen -o FILE` wrote: its identity begins with AGE-SECRET-KEY-1");
    assert_snapshot!(bad(&format!("{}0", key)), @"names a file that has something other than an identity in line 1; name the file that `age-keygen -o FILE` wrote: its identity begins with AGE-SECRET-KEY-1");
    assert_snapshot!(bad("age-encryption.org/v1\n-> scrypt"), @"names a file that is encrypted itself; decrypt it into memory: `age -d FILE > /dev/shm/key.txt`");
    assert_snapshot!(bad("-----BEGIN OPENSSH PRIVATE KEY-----\n"), @"names a file with an SSH or PEM key, which is not supported; `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
    assert_snapshot!(bad("AGE-PLUGIN-YUBIKEY-1QQ"), @"names a file with an unsupported kind of identity in line 1; use X25519 identities, which begin with AGE-SECRET-KEY-1: `age-keygen -o key.txt` makes one");
    assert_snapshot!(bad("AGE-SECRET-KEY-PQ-1QQ"), @"names a file with an unsupported kind of identity in line 1; use X25519 identities, which begin with AGE-SECRET-KEY-1: `age-keygen -o key.txt` makes one");
    assert_snapshot!(bad("# only a comment\n"), @"names a file without an identity; `age-keygen -o key.txt` makes an identity, and prints the recipient that belongs to it");
}

#[test]
fn keys_that_are_printed_show_nothing_secret() {
    let (secret, public) = key_pair();
    let keys = Keys {
        recipients: Some(Recipients::passphrase(Secret::new("hunter2"))),
        identities: identities(&secret),
    };
    let printed = format!("{keys:?} {:?}", recipients(&public));
    assert!(printed.contains(&public), "{printed}");
    assert!(!printed.contains("AGE-SECRET-KEY"), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

/// What was encrypted for the way back has to open again with what is given; what is secret now must not be in the clear then.
#[test]
fn a_way_back_is_readable_and_never_less_protected() {
    let (secret, own) = key_pair();
    let (_, other) = key_pair();
    let passphrase = Recipients::passphrase(Secret::new("hunter2"));
    let to = |keys: &Keys, restored| match keys.for_way_back(restored) {
        Ok(Some(recipients)) => Some(recipients.told()),
        Ok(None) => None,
        Err(error) => panic!("{error}"),
    };
    let keys_of = |texts: &[&String]| {
        let keys = texts.iter().map(|text| (*text).clone().try_into().unwrap());
        Some(EncryptedTo::Recipients(keys.collect()))
    };

    let nothing = Keys::default();
    assert_eq!(to(&nothing, Protection::Clear), None);
    let only_to = Keys {
        recipients: Some(recipients(&other)),
        ..Keys::default()
    };
    for restored in [Protection::Clear, Protection::Encrypted] {
        assert_eq!(only_to.for_way_back(restored).unwrap_err(), NoWayBack);
    }
    let both = Keys {
        identities: identities(&secret),
        ..only_to
    };
    assert_eq!(to(&both, Protection::Clear), keys_of(&[&other, &own]));
    let only_from = Keys {
        recipients: None,
        ..both.clone()
    };
    assert_eq!(to(&only_from, Protection::Clear), None);
    assert_eq!(to(&only_from, Protection::Encrypted), keys_of(&[&own]));
    let to_itself = Keys {
        recipients: Some(recipients(&own)),
        ..both
    };
    assert_eq!(to(&to_itself, Protection::Encrypted), keys_of(&[&own]));
    let by_passphrase = Keys {
        identities: Identities::default().with_passphrase_of(Some(&passphrase)),
        recipients: Some(passphrase),
    };
    let expected = Some(EncryptedTo::Passphrase);
    assert_eq!(to(&by_passphrase, Protection::Clear), expected);
}
