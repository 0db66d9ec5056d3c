use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::*;

const ALL: [Compression; 3] = [
    Compression::None,
    Compression::Gzip(6),
    Compression::Zstd(3),
];

/// SHA-256 of the three bytes `abc` (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn stream(bytes: impl Into<Vec<u8>>) -> ByteStream {
    Box::pin(Cursor::new(bytes.into()))
}

/// `bytes`, and then an error in the place of an end.
fn broken(bytes: impl Into<Vec<u8>>) -> ByteStream {
    let error = io::Error::new(io::ErrorKind::ConnectionReset, "the engine went away");
    let tail = tokio_util::io::StreamReader::new(futures_util::stream::iter([Err::<
        bytes::Bytes,
        _,
    >(error)]));
    Box::pin(stream(bytes).chain(tail))
}

async fn read(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> StreamDigest {
    let mut digester = Digester::default();
    digester.update(bytes);
    digester.finish()
}

/// Text that compresses, of a length that ends in the middle of a chunk.
fn rows(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 64);
    let mut row = 0_u64;
    while text.len() < bytes {
        row += 1;
        let _ = writeln!(
            text,
            "{row}\tpatient {}\t{:x}",
            row % 977,
            row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        );
    }
    text.truncate(bytes);
    text
}

fn squeezed(plain: &[u8], compression: Compression) -> Vec<u8> {
    let mut stored = Vec::new();
    codec::compress(plain, &mut stored, compression).unwrap();
    stored
}

fn unsqueezed(stored: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    codec::decompressor(stored, compression)?.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn a_digest_is_that_of_the_standard() {
    assert_eq!(
        digest(b"abc"),
        StreamDigest {
            bytes: 3,
            sha256: ABC.to_owned()
        }
    );
}

#[tokio::test]
async fn a_digest_is_told_only_at_the_end() {
    let (mut digesting, handle) = Digesting::new(stream("abc"));
    let mut buffer = [0; 3];
    digesting.read_exact(&mut buffer).await.unwrap();
    assert_eq!(handle.get(), None);
    assert_eq!(digesting.read(&mut []).await.unwrap(), 0);
    assert_eq!(handle.get(), None, "no room is not the end");
    assert_eq!(digesting.read(&mut buffer).await.unwrap(), 0);
    assert_eq!(handle.get().unwrap().sha256, ABC);
}

#[tokio::test]
async fn what_was_compressed_comes_back() {
    for compression in ALL {
        for plain in [
            rows(0),
            rows(1),
            rows(codec::CHUNK),
            rows(3 * 1024 * 1024 + 17),
        ] {
            let (compressed, handle) = compress(stream(plain.clone()), compression);
            let stored = read(compressed).await.unwrap();
            assert_eq!(handle.get(), Some(digest(&plain)), "{compression}");
            if compression != Compression::None && plain.len() > 1000 {
                assert!(stored.len() < plain.len() * 2 / 3, "{compression}");
            }
            let back = read(decompress(stream(stored), compression)).await.unwrap();
            assert!(back == plain, "{compression}, {} bytes", plain.len());
        }
    }
}

#[tokio::test]
async fn either_side_reads_what_the_other_has_written() {
    let plain = rows(5 * 1024 * 1024);
    for compression in ALL {
        let mut stored = Vec::new();
        let told = codec::compress(plain.as_slice(), &mut stored, compression).unwrap();
        assert_eq!(told.plain, digest(&plain));
        assert_eq!(told.stored, digest(&stored));
        assert!(read_by_both(&stored, compression).await.unwrap() == plain);

        let (compressed, _) = compress(stream(plain.clone()), compression);
        let streamed = read(compressed).await.unwrap();
        assert!(read_by_both(&streamed, compression).await.unwrap() == plain);
        assert!(streamed.len().abs_diff(stored.len()) < stored.len() / 100);
    }
}

/// Both sides read the same: what one of them takes or refuses, so does the other.
async fn read_by_both(stored: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    let synchronous = unsqueezed(stored, compression);
    let mut stream = decompress(stream(stored), compression);
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => assert_eq!(Some(&bytes), synchronous.as_ref().ok()),
        Err(_) => {
            assert!(synchronous.is_err(), "only the stream is refused");
            let again = stream.read(&mut [0; 8]).await;
            assert!(again.is_err(), "the error stays: {again:?}");
        }
    }
    synchronous
}

#[tokio::test]
async fn frames_after_one_another_are_one_stream() {
    for compression in [Compression::Gzip(1), Compression::Zstd(1)] {
        let both = [
            squeezed(b"first ", compression),
            squeezed(b"second", compression),
        ]
        .concat();
        assert_eq!(
            read_by_both(&both, compression).await.unwrap(),
            b"first second"
        );
    }
}

#[tokio::test]
async fn a_cut_is_an_error_wherever_it_falls() {
    let plain = rows(5000);
    for compression in [Compression::Gzip(6), Compression::Zstd(3)] {
        let stored = squeezed(&plain, compression);
        for length in 0..stored.len() {
            assert!(
                read_by_both(&stored[..length], compression).await.is_err(),
                "{compression} cut to {length} of {}",
                stored.len()
            );
        }
    }
}

#[tokio::test]
async fn anything_after_the_last_frame_is_an_error() {
    for compression in [Compression::Gzip(6), Compression::Zstd(3)] {
        let stored = squeezed(b"some rows", compression);
        for garbage in [&b"\0"[..], b"\n", b"ab", b"abc", b"garbage that is longer"] {
            let followed = [stored.as_slice(), garbage].concat();
            assert!(
                read_by_both(&followed, compression).await.is_err(),
                "{compression} followed by {garbage:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_never_gives_other_data() {
    let plain = rows(3000);
    for compression in [Compression::Gzip(6), Compression::Zstd(3)] {
        let stored = squeezed(&plain, compression);
        // Gzip's header has fields that bear on nothing: time, system.
        for at in 10..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 0x10;
            let back = read_by_both(&flipped, compression).await;
            assert!(
                !back.is_ok_and(|back| back != plain),
                "{compression} at {at}"
            );
        }
    }
}

#[tokio::test]
async fn a_window_that_is_not_ours_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&rows(4096)).unwrap();
    let stored = encoder.finish().unwrap();
    assert!(unsqueezed(&stored, Compression::Zstd(1)).is_err());
}

#[tokio::test]
async fn the_error_of_a_producer_is_the_error_of_every_stage_after_it() {
    for compression in ALL {
        let (compressed, handle) = compress(broken(rows(300_000)), compression);
        let error = read(compressed).await.unwrap_err();
        assert_eq!(error.to_string(), "the engine went away", "{compression}");
        assert_eq!(handle.get(), None, "{compression}");

        let stored = squeezed(&rows(300_000), compression);
        let error = read(decompress(broken(stored), compression))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the engine went away", "{compression}");
    }
}

#[tokio::test]
async fn the_end_of_the_input_counts_even_when_the_work_needs_no_more() {
    let stream = transform(broken("abc"), |source, sink| {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        sink.write_all(&byte)
    });
    assert_eq!(
        read(stream).await.unwrap_err().to_string(),
        "the engine went away"
    );
}

/// A stream that fails once and then, asked again, claims to be at its end.
struct FailsOnce(bool);

impl AsyncRead for FailsOnce {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::other("the engine went away")))
    }
}

#[tokio::test]
async fn an_error_that_the_work_overlooks_is_no_good_end() {
    let stream = transform(Box::pin(FailsOnce(false)), |source, sink| {
        let _ = source.read(&mut [0]);
        sink.write_all(b"whatever")
    });
    assert!(read(stream).await.is_err());
}

#[tokio::test]
async fn a_thread_that_panics_is_no_good_end() {
    let mut stream = produce(|sink| {
        sink.write_all(b"half")?;
        sink.flush()?;
        panic!("on purpose");
    });
    let mut bytes = Vec::new();
    assert!(stream.read_to_end(&mut bytes).await.is_err());
    assert!(
        stream.read_to_end(&mut bytes).await.is_err(),
        "it stays one"
    );
    assert_eq!(bytes, b"half");
}

#[tokio::test]
async fn a_dropped_stream_lets_go_of_its_input() {
    let (mut writer, reader) = tokio::io::duplex(16);
    let (compressed, _) = compress(Box::pin(reader), Compression::Zstd(1));
    writer.write_all(b"rows").await.unwrap();
    drop(compressed);
    let refused = async { while writer.write_all(&[0; 64]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), refused)
        .await
        .expect("the input is still being read");
}

#[tokio::test]
async fn a_dropped_consumer_tells_its_thread() {
    let (told, hears) = std::sync::mpsc::channel();
    let (_writer, reader) = tokio::io::duplex(16);
    let consuming = consume(Box::pin(reader), move |source| {
        let outcome = source.copy_to(&mut io::sink());
        let _ = told.send(outcome.is_err());
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(50), consuming)
            .await
            .is_err(),
        "it waits for its input"
    );
    let ended_badly =
        tokio::task::spawn_blocking(move || hears.recv_timeout(Duration::from_secs(20)));
    assert_eq!(ended_badly.await.unwrap(), Ok(true));
}

#[tokio::test]
async fn a_verified_stream_ends_only_when_it_is_the_expected_one() {
    let expected = digest(b"abc");
    for (bytes, end) in [
        ("abc", Ok(())),
        (
            "",
            Err("x is damaged: it ends after 0 bytes, but 3 were recorded".to_owned()),
        ),
        (
            "ab",
            Err("x is damaged: it ends after 2 bytes, but 3 were recorded".to_owned()),
        ),
        (
            "abcd",
            Err("x is damaged: it is longer than the 3 bytes that were recorded".to_owned()),
        ),
        (
            "abd",
            Err(format!(
                "x is damaged: its SHA-256 is {}, but {ABC} was recorded",
                digest(b"abd").sha256
            )),
        ),
    ] {
        let mut asynchronous = verified(stream(bytes), expected.clone(), "x");
        let mut synchronous = Verified::new(bytes.as_bytes(), expected.clone(), "x");
        for _ in 0..2 {
            let mut buffer = Vec::new();
            let outcome = asynchronous.read_to_end(&mut buffer).await;
            assert_eq!(outcome.map(drop).map_err(|error| error.to_string()), end);
            let outcome = Read::read_to_end(&mut synchronous, &mut buffer);
            assert_eq!(outcome.map(drop).map_err(|error| error.to_string()), end);
        }
    }
}

#[tokio::test]
async fn too_many_bytes_are_refused_before_they_are_handed_on() {
    let (_endless, reader) = {
        let (mut writer, reader) = tokio::io::duplex(16);
        writer.write_all(b"abcd").await.unwrap();
        (writer, reader)
    };
    let mut stream = verified(Box::pin(reader), digest(b"abc"), "x");
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn progress_is_told_of_every_byte() {
    let seen = Arc::new(AtomicU64::new(0));
    let progress = {
        let seen = Arc::clone(&seen);
        Progress::new(move |bytes| {
            seen.fetch_add(bytes, Ordering::Relaxed);
        })
    };
    let counted = Counting::new(stream(rows(100_000)), progress.clone());
    read(Box::pin(counted)).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 100_000);
    Counting::new(io::sink(), progress)
        .write_all(b"12345")
        .unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 100_005);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_bytes_survive_in_any_pieces(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..20),
        level in 1_u8..=19,
    ) {
        let plain = pieces.concat();
        for compression in [Compression::None, Compression::Gzip(level.min(9)), Compression::Zstd(level)] {
            let mut compressor = codec::Compressor::new(Vec::new(), compression).unwrap();
            for piece in &pieces {
                compressor.write_all(piece).unwrap();
            }
            let stored = compressor.finish().unwrap();
            prop_assert_eq!(&unsqueezed(&stored, compression).unwrap(), &plain);
        }
    }
}
