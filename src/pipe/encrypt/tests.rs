use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::pipe::keys::samples::{identities, key_pair, recipients};
use crate::pipe::keys::{Keys, Protection};
use crate::secret::Secret;

/// Of the content of an age file that is authenticated at a time, in bytes.
const PIECE: usize = 64 * 1024;

fn stream(bytes: impl Into<Vec<u8>>) -> ByteStream {
    Box::pin(io::Cursor::new(bytes.into()))
}

async fn read(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn encrypted(content: &[u8], recipients: &Recipients) -> Vec<u8> {
    read(encrypt(stream(content), recipients)).await.unwrap()
}

async fn refusal(stored: impl Into<Vec<u8>>, identities: &Identities) -> DecryptionError {
    match decrypt(stream(stored), identities, "x").await {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

/// The rest of the way, with what comes out on it.
async fn failure(stored: impl Into<Vec<u8>>, identities: &Identities) -> (Vec<u8>, String) {
    let mut plain = decrypt(stream(stored), identities, "x").await.unwrap();
    let mut bytes = Vec::new();
    let error = plain.read_to_end(&mut bytes).await.unwrap_err();
    assert!(plain.read_to_end(&mut bytes).await.is_err(), "an end");
    (bytes, error.to_string())
}

#[tokio::test]
async fn any_of_several_identities_opens_it_and_no_other() {
    let (one, to_one) = key_pair();
    let (two, to_two) = key_pair();
    let (other, _) = key_pair();
    let stored = encrypted(b"rows", &recipients(&format!("{to_one},{to_two}"))).await;
    for key in [&one, &two, &format!("{other}{two}")] {
        let plain = decrypt(stream(stored.clone()), &identities(key), "x").await;
        assert_eq!(read(plain.unwrap()).await.unwrap(), b"rows");
    }
    let error = refusal(stored.clone(), &identities(&other)).await;
    assert_snapshot!(error, @"the given identity does not open it (or its header is damaged); name the file of the right one with --identity-file FILE");
    let more = format!("{other}{}", key_pair().0);
    let error = refusal(stored.clone(), &identities(&more)).await;
    assert!(error.is_of_keys());
    assert_snapshot!(error, @"none of the 2 given identities opens it (or its header is damaged); name the file of the right one with --identity-file FILE");
    let error = refusal(stored, &Identities::default()).await;
    assert_snapshot!(error, @"it is encrypted, but no identity is given; name an identity file with --identity-file FILE (COFFERDAM_IDENTITY_FILE)");
}

#[tokio::test]
async fn a_passphrase_opens_what_it_has_closed() {
    let passphrase = |text: &str| Recipients::passphrase(Secret::new(text));
    let opens = |text: &str| Identities::default().with_passphrase_of(Some(&passphrase(text)));
    let stored = encrypted(b"rows", &passphrase("correct horse")).await;
    let plain = decrypt(stream(stored.clone()), &opens("correct horse"), "x").await;
    assert_eq!(read(plain.unwrap()).await.unwrap(), b"rows");
    let error = refusal(stored.clone(), &opens("hunter2")).await;
    assert!(error.is_of_keys());
    assert_snapshot!(error, @"the given passphrase does not open it (or its header is damaged); name the file of the right one with --passphrase-file FILE");
    let error = refusal(stored, &identities(&key_pair().0)).await;
    assert_snapshot!(error, @"it is encrypted with a passphrase, but none is given; name a passphrase file with --passphrase-file FILE (COFFERDAM_PASSPHRASE_FILE)");
}

#[tokio::test]
async fn a_passphrase_must_not_cost_more_than_memory_has() {
    let passphrase = Recipients::passphrase(Secret::new("x"));
    let opens = Identities::default().with_passphrase_of(Some(&passphrase));
    let stored = encrypted(b"rows", &passphrase).await;
    let at = stored.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let end = stored
        .iter()
        .skip(at)
        .position(|byte| *byte == b'\n')
        .unwrap()
        + at;
    let line = std::str::from_utf8(&stored[at..end]).unwrap();
    let greedy = line
        .strip_suffix(" 17")
        .expect("the work factor")
        .to_owned()
        + " 63";
    let stored = [&stored[..at], greedy.as_bytes(), &stored[end..]].concat();
    let error = refusal(stored, &opens).await;
    assert_snapshot!(error, @"its header is damaged: it asks for 2^63 of scrypt's work, but at most 2^18 is allowed");
}

#[tokio::test]
async fn a_damaged_header_is_told_and_takes_no_memory() {
    let (key, to) = key_pair();
    let stored = encrypted(b"rows", &recipients(&to)).await;
    let told = async |stored: Vec<u8>| {
        let error = refusal(stored, &identities(&key)).await;
        assert!(!error.is_of_keys());
        error.to_string()
    };
    assert_snapshot!(told(Vec::new()).await, @"its header is damaged: the object ends after 0 bytes");
    assert_snapshot!(told(b"PGDMP\n".to_vec()).await, @"its header is damaged: it is not that of an age file");
    assert_snapshot!(told(stored[..100].to_vec()).await, @"its header is damaged: the object ends after 100 bytes");
    assert_snapshot!(told([&stored[..22], &[b'a'; 1 << 20][..]].concat()).await, @"its header is damaged: it is longer than 65536 bytes");
    let mac = stored.windows(4).position(|at| at == b"--- ").unwrap() + 4;
    let mut changed = stored.clone();
    changed[mac] = if changed[mac] == b'A' { b'B' } else { b'A' };
    assert_snapshot!(told(changed).await, @"its header is damaged: Header MAC is invalid");
    assert_snapshot!(told(stored[..mac + 44].to_vec()).await, @"its header is damaged: the object ends within it");
}

#[tokio::test]
async fn what_was_cut_or_changed_has_no_good_end() {
    let (key, to) = key_pair();
    let keys = identities(&key);
    let content = vec![7; 3 * PIECE];
    let stored = encrypted(&content, &recipients(&to)).await;
    for length in [
        stored.len() - 1,
        stored.len() - (PIECE + 16),
        stored.len() - 2 * (PIECE + 16) - 1,
    ] {
        let (bytes, error) = failure(&stored[..length], &keys).await;
        assert!(content.starts_with(&bytes), "{length}");
        assert!(bytes.len() < content.len(), "{length}");
        assert!(error.starts_with("x cannot be decrypted"), "{error}");
    }
    let first_line = stored.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let cut = decrypt(stream(&stored[..first_line]), &keys, "x").await;
    assert!(matches!(cut, Err(DecryptionError::Damaged(_))));
    let mut flipped = stored.clone();
    let at = stored.len() - PIECE;
    flipped[at] ^= 1;
    let (bytes, error) = failure(flipped, &keys).await;
    assert_eq!(bytes, content[..2 * PIECE], "a changed piece came out");
    assert_snapshot!(error, @"x cannot be decrypted: decryption error");
    let longer = [&stored[..], b"x"].concat();
    let (_, error) = failure(longer, &keys).await;
    assert_snapshot!(error, @"x cannot be decrypted: last chunk has been processed");
}

/// The producer's own words, in both directions.
#[tokio::test]
async fn a_stream_that_fails_before_makes_it_fail() {
    let (key, to) = key_pair();
    let broken = |bytes: Vec<u8>| -> ByteStream {
        let error = io::Error::new(io::ErrorKind::ConnectionReset, "x went away");
        let error = futures_util::stream::iter([Err::<bytes::Bytes, _>(error)]);
        Box::pin(stream(bytes).chain(tokio_util::io::StreamReader::new(error)))
    };
    let plain = broken(vec![1; 200_000]);
    let error = read(encrypt(plain, &recipients(&to))).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(error.to_string(), "x went away");

    let mut stored = encrypted(&vec![1; 200_000], &recipients(&to)).await;
    stored.truncate(150_000);
    let plain = decrypt(broken(stored), &identities(&key), "x").await;
    let error = read(plain.unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "x went away");
}

/// A safety snapshot may have the most recipients and the most identities that there can be.
#[tokio::test]
async fn a_header_for_many_is_read_again() {
    let pairs: Vec<_> = (0..200).map(|_| key_pair()).collect();
    let recipients = |pairs: &[(String, String)]| {
        let to: Vec<_> = pairs.iter().map(|(_, to)| to.as_str()).collect();
        recipients(&to.join(","))
    };
    let own: String = pairs[100..].iter().map(|(key, _)| key.as_str()).collect();
    let keys = Keys {
        recipients: Some(recipients(&pairs[..100])),
        identities: identities(&own),
    };
    let both = keys.for_way_back(Protection::Clear).unwrap().unwrap();
    let stored = encrypted(b"rows", &both).await;
    for (key, _) in [&pairs[0], &pairs[199]] {
        let plain = decrypt(stream(stored.clone()), &identities(key), "x").await;
        assert_eq!(read(plain.unwrap()).await.unwrap(), b"rows");
    }
}

#[tokio::test]
async fn new_recipients_can_be_given_to_what_old_ones_read() {
    let (old, to_old) = key_pair();
    let (new, to_new) = key_pair();
    let stored = encrypted(b"rows", &recipients(&to_old)).await;
    let again = reencrypt(stream(stored), &identities(&old), &recipients(&to_new), "x").await;
    let stored = read(again.unwrap()).await.unwrap();
    let plain = decrypt(stream(stored.clone()), &identities(&new), "x").await;
    assert_eq!(read(plain.unwrap()).await.unwrap(), b"rows");
    assert!(refusal(stored, &identities(&old)).await.is_of_keys());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn everything_comes_back(
        content in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..2000),
            (0..4_usize, -2..3_isize).prop_map(|(pieces, more)| {
                vec![42; (pieces * PIECE).saturating_add_signed(more)]
            }),
        ],
        count in 1..4_usize,
    ) {
        let pairs: Vec<_> = (0..count).map(|_| key_pair()).collect();
        let to: Vec<_> = pairs.iter().map(|(_, to)| to.as_str()).collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stored = encrypted(&content, &recipients(&to.join(","))).await;
            let key = identities(&pairs[count - 1].0);
            let plain = decrypt(stream(stored), &key, "x").await.unwrap();
            assert!(read(plain).await.unwrap() == content);
        });
    }
}
