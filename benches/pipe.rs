//! How fast the stages of `pipe` are, and what they cost in memory: `cargo bench --bench pipe [-- MEBIBYTES]`.
//!
//! Not a test: it prints and judges nothing. Half of the data is text that compresses about threefold, half is noise.

use std::fs::File;
use std::io::{self, Read};
use std::time::Instant;

use cofferdam::manifest::{Compression, ObjectPath};
use cofferdam::pipe::{self, ByteStream, Digesting, codec};
use cofferdam::repository::Repository;
use cofferdam::repository::local::LocalRepository;
use cofferdam::target::RunId;

const MEBIBYTE: usize = 1024 * 1024;

/// Repeats a block of 32 MiB, which is longer than any window, up to `left` bytes.
struct Data<'a> {
    block: &'a [u8],
    at: usize,
    left: u64,
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer
            .len()
            .min(self.block.len() - self.at)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at = (self.at + length) % self.block.len();
        self.left -= length as u64;
        Ok(length)
    }
}

fn block() -> &'static [u8] {
    let mut block = Vec::with_capacity(32 * MEBIBYTE);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    while block.len() < 32 * MEBIBYTE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if block.len() % (2 * MEBIBYTE) < MEBIBYTE {
            let row = format!(
                "{}\tPatient/{}\tobservation {}\t{:.3}\n",
                state >> 44,
                state % 99_991,
                state % 413,
                (state % 100_000) as f64 / 7.0
            );
            block.extend_from_slice(row.as_bytes());
        } else {
            block.extend_from_slice(&state.to_le_bytes());
        }
    }
    block.truncate(32 * MEBIBYTE);
    block.leak()
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Lets the next measure begin with what is in use now.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn report(what: &str, bytes: u64, out: u64, started: Instant, before: u64) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what:<34} {:>7.0} MB/s   ratio {:.3}   peak memory +{:>5.1} MiB",
        bytes as f64 / seconds / 1e6,
        out as f64 / bytes as f64,
        peak_memory().saturating_sub(before) as f64 / 1024.0,
    );
    forget_peak();
}

fn as_stream(data: Data<'static>) -> ByteStream {
    pipe::produce(move |sink| sink.copy_from(&mut { data }))
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mebibytes = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse::<u64>().ok())
        .unwrap_or(1024);
    let bytes = mebibytes * MEBIBYTE as u64;
    let block = block();
    let data = || Data {
        block,
        at: 0,
        left: bytes,
    };
    forget_peak();
    let before = peak_memory();

    let started = Instant::now();
    let (mut digesting, handle) = Digesting::new(data());
    let mut buffer = vec![0; codec::CHUNK];
    while Read::read(&mut digesting, &mut buffer)? > 0 {}
    drop(buffer);
    report(
        "SHA-256",
        bytes,
        handle.get().map_or(0, |digest| digest.bytes),
        started,
        before,
    );

    for compression in [
        Compression::None,
        Compression::Zstd(1),
        Compression::Zstd(3),
        Compression::Zstd(6),
    ] {
        let started = Instant::now();
        let told = codec::compress(data(), io::sink(), compression)?;
        let what = format!("compress {compression}, synchronous");
        report(&what, bytes, told.stored.bytes, started, before);

        let started = Instant::now();
        let (mut compressed, _) = pipe::compress(as_stream(data()), compression);
        let out = tokio::io::copy(&mut compressed, &mut tokio::io::sink()).await?;
        drop(compressed);
        let what = format!("compress {compression}, streaming");
        report(&what, bytes, out, started, before);
    }

    let mut stored = Vec::new();
    codec::compress(data(), &mut stored, Compression::Zstd(3))?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &stored)?;
    let stored_bytes = stored.len() as u64;
    drop(stored);
    forget_peak();
    let before = peak_memory();
    let started = Instant::now();
    let mut source = File::open(file.path())?;
    let stored = pipe::produce(move |sink| sink.copy_from(&mut source));
    let mut plain = pipe::decompress(stored, Compression::Zstd(3));
    let out = tokio::io::copy(&mut plain, &mut tokio::io::sink()).await?;
    report(
        "decompress zstd:3, streaming",
        out,
        stored_bytes,
        started,
        before,
    );

    let place = tempfile::tempdir_in(".")?;
    let repository = LocalRepository::new(place.path());
    let snapshot = RunId::generate(jiff::Timestamp::now());
    let object = ObjectPath::new("bench", &snapshot, "bench.tar").map_err(io::Error::other)?;
    repository.prepare().await.map_err(io::Error::other)?;
    let started = Instant::now();
    let put = repository.put(&object, as_stream(data())).await;
    let out = put.map_err(io::Error::other)?.bytes;
    report(
        "put into a directory, with fsync",
        bytes,
        out,
        started,
        before,
    );
    let started = Instant::now();
    let mut stored = repository.open(&object).await.map_err(io::Error::other)?;
    let out = tokio::io::copy(&mut stored, &mut tokio::io::sink()).await?;
    report("open and read back", bytes, out, started, before);
    Ok(())
}
