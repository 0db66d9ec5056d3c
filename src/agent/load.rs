//! Inside a container: gives a client what [`super::dump`] has stored.
//!
//! ```text
//!   file ─▶ verify stored ─▶ decompress ─▶ verify plain ─▶ client's stdin, or a plain file
//! ```
//!
//! A client may stop reading before the end, as `pg_restore` does when it has what it needs; its exit code says whether
//! that was right. The rest is verified all the same.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use super::client::Attendant;
use super::dump::{NewFile, io_failure};
use super::job::{Failure, Feed, LoadJob, Loaded, StoredFile};
use crate::pipe::{Verified, codec};

pub fn run(job: &LoadJob) -> Result<Loaded, Failure> {
    let attendant = Attendant::begin(None);
    let stdout = match &job.stdout {
        Some(path) => Stdio::from(NewFile::create(Path::new(path))?.into_file()),
        None => Stdio::null(),
    };
    // Before a plain file is given to the client, both digests have been verified anyway.
    if job.verify_first && !matches!(job.feed, Feed::File { .. }) {
        verify_stored(&job.input, &attendant)?;
    }
    let stderr = match &job.feed {
        Feed::Beginning { keep } => feed_beginning(job, keep.as_deref(), &attendant, stdout),
        Feed::Kept { path } => run_on_file(job, path, &attendant, stdout),
        Feed::Stdin => feed_all(job, &attendant, stdout),
        Feed::File { path } => {
            let loaded = unpack(&job.input, path, &attendant)
                .and_then(|()| run_on_file(job, path, &attendant, stdout));
            // Whether it can be removed is met again, and told, when the whole directory goes.
            let _ = fs::remove_file(path);
            loaded
        }
    }?;
    Ok(Loaded { stderr })
}

fn open(input: &StoredFile) -> Result<File, Failure> {
    File::open(&input.path).map_err(|error| io_failure(&input.path, "open the dump", error))
}

/// The plain content; its end is an error unless both digests are right.
fn verified_plain(input: &StoredFile) -> Result<impl Read + use<>, Failure> {
    let stored = Verified::new(open(input)?, input.stored.clone(), "the dump");
    let stored = BufReader::with_capacity(codec::CHUNK, stored);
    let plain =
        codec::decompressor(stored, input.compression).map_err(|error| unreadable(input, error))?;
    Ok(Verified::new(
        plain,
        input.plain.clone(),
        "the dump, decompressed,",
    ))
}

fn verify_stored(input: &StoredFile, attendant: &Attendant) -> Result<(), Failure> {
    let mut stored = Verified::new(open(input)?, input.stored.clone(), "the dump");
    let mut buffer = vec![0; codec::CHUNK];
    while read(&mut stored, &mut buffer, input)? > 0 {
        attendant.ensure_wanted()?;
    }
    Ok(())
}

fn read(reader: &mut impl Read, buffer: &mut [u8], input: &StoredFile) -> Result<usize, Failure> {
    loop {
        match reader.read(buffer) {
            Ok(length) => return Ok(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(input, error)),
        }
    }
}

/// What the system did not say came from the content: a digest or a decoder.
fn unreadable(input: &StoredFile, error: io::Error) -> Failure {
    if error.raw_os_error().is_some() {
        return io_failure(&input.path, "read the dump", error);
    }
    let what = error.to_string();
    Failure::Damaged {
        what: if what.contains("is damaged") {
            what
        } else {
            format!("the dump is damaged: {what}")
        },
    }
}

fn unpack(input: &StoredFile, path: &str, attendant: &Attendant) -> Result<(), Failure> {
    let mut plain = verified_plain(input)?;
    let mut file = NewFile::create(Path::new(path))?;
    let mut buffer = vec![0; codec::CHUNK];
    loop {
        attendant.ensure_wanted()?;
        let length = read(&mut plain, &mut buffer, input)?;
        if length == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..length])
            .map_err(|error| io_failure(file.place(), "write", error))?;
    }
}

fn run_on_file(
    job: &LoadJob,
    path: &str,
    attendant: &Attendant,
    stdout: Stdio,
) -> Result<String, Failure> {
    let mut argv = job.client.clone();
    argv.push(path.to_owned());
    attendant.start(&argv, Stdio::null(), stdout)?.wait()
}

/// What the client does not read any more is not read at all, and nothing is verified.
fn feed_beginning(
    job: &LoadJob,
    keep: Option<&str>,
    attendant: &Attendant,
    stdout: Stdio,
) -> Result<String, Failure> {
    let stored = BufReader::with_capacity(codec::CHUNK, open(&job.input)?);
    let plain = codec::decompressor(stored, job.input.compression)
        .map_err(|error| unreadable(&job.input, error))?;
    let kept = keep
        .map(|path| NewFile::create(Path::new(path)))
        .transpose()?;
    let mut plain = Keeping { plain, kept };
    let mut client = attendant.start(&job.client, Stdio::piped(), stdout)?;
    let fed = pour(&mut plain, client.stdin(), &job.input);
    if fed.is_err() {
        client.end();
    }
    let ended = client.wait();
    fed.and(ended)
}

/// Writes what is read to a file, too.
struct Keeping<R> {
    plain: R,
    kept: Option<NewFile>,
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.plain.read(buffer)?;
        if let Some(file) = &mut self.kept {
            file.write_all(&buffer[..length])?;
        }
        Ok(length)
    }
}

fn feed_all(job: &LoadJob, attendant: &Attendant, stdout: Stdio) -> Result<String, Failure> {
    let mut plain = verified_plain(&job.input)?;
    let mut client = attendant.start(&job.client, Stdio::piped(), stdout)?;
    match pour(&mut plain, client.stdin(), &job.input) {
        Ok(_) => {
            let stderr = client.wait()?;
            let mut buffer = vec![0; codec::CHUNK];
            while read(&mut plain, &mut buffer, &job.input)? > 0 {
                attendant.ensure_wanted()?;
            }
            Ok(stderr)
        }
        Err(failure) => {
            client.end();
            match client.wait() {
                Err(Failure::Abandoned) => Err(Failure::Abandoned),
                _ => Err(failure),
            }
        }
    }
}

/// Writes `plain` to the client until one of them ends, then closes the client's input.
///
/// The client sees the end only after the end of `plain` was read without an error.
fn pour(
    plain: &mut impl Read,
    stdin: Option<impl Write>,
    input: &StoredFile,
) -> Result<(), Failure> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    let mut buffer = vec![0; codec::CHUNK];
    loop {
        let length = read(plain, &mut buffer, input)?;
        if length == 0 {
            return Ok(());
        }
        match stdin.write_all(&buffer[..length]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(io_failure(&input.path, "feed the client", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::job::{ClientEnd, DumpJob};
    use crate::manifest::Compression;

    /// A stored file of `plain` in a directory of its own.
    fn stored(plain: &str) -> (tempfile::TempDir, StoredFile) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("plain"), plain).unwrap();
        let path = directory.path().join("dump").display().to_string();
        let compression = Compression::Zstd(3);
        let dumped = super::super::dump::run(&DumpJob {
            client: vec![
                "cat".to_owned(),
                directory.path().join("plain").display().to_string(),
            ],
            output: path.clone(),
            compression,
            idle_limit_seconds: 60,
        })
        .unwrap();
        let file = StoredFile {
            path,
            compression,
            plain: dumped.plain,
            stored: dumped.stored,
        };
        (directory, file)
    }

    fn job(directory: &tempfile::TempDir, input: &StoredFile, feed: Feed, script: &str) -> LoadJob {
        LoadJob {
            verify_first: false,
            client: ["sh", "-c", script, "sh"].map(str::to_owned).to_vec(),
            input: input.clone(),
            feed,
            stdout: Some(directory.path().join("out").display().to_string()),
        }
    }

    fn every_feed(directory: &tempfile::TempDir) -> [Feed; 2] {
        let path = directory.path().join("unpacked").display().to_string();
        [Feed::Stdin, Feed::File { path }]
    }

    const READ: &str = "if [ $# = 1 ]; then cat \"$1\"; else cat; fi";

    #[test]
    fn the_client_gets_what_was_dumped() {
        let plain = "line of text\n".repeat(100_000);
        let (directory, input) = stored(&plain);
        for feed in every_feed(&directory) {
            let job = job(&directory, &input, feed.clone(), READ);
            run(&job).unwrap();
            let out = job.stdout.unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), plain, "{feed:?}");
            fs::remove_file(out).unwrap();
            assert!(!directory.path().join("unpacked").exists());
        }
    }

    #[test]
    fn a_client_that_stops_reading_may_still_succeed() {
        let (directory, input) = stored(&"x".repeat(5_000_000));
        for feed in [Feed::Beginning { keep: None }, Feed::Stdin] {
            let job = job(&directory, &input, feed, "head -c 3");
            run(&job).unwrap();
            let out = job.stdout.unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), "xxx");
            fs::remove_file(out).unwrap();
        }
    }

    #[test]
    fn what_a_client_has_read_of_the_beginning_is_kept_for_the_next() {
        let plain = "x".repeat(5_000_000);
        let (directory, input) = stored(&plain);
        let path = directory.path().join("beginning").display().to_string();
        let keep = Some(path.clone());
        run(&job(
            &directory,
            &input,
            Feed::Beginning { keep },
            "head -c 3",
        ))
        .unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert!(kept.len() >= 3 && kept.len() < plain.len() && plain.starts_with(&kept));

        fs::remove_file(directory.path().join("out")).unwrap();
        let job = job(&directory, &input, Feed::Kept { path }, READ);
        run(&job).unwrap();
        assert_eq!(fs::read_to_string(job.stdout.unwrap()).unwrap(), kept);
    }

    #[test]
    fn a_client_that_dies_is_told_in_its_own_words() {
        let (directory, input) = stored(&"x".repeat(5_000_000));
        for feed in every_feed(&directory) {
            let mut job = job(&directory, &input, feed, "echo 'no such role' >&2; exit 7");
            job.stdout = None;
            assert_eq!(
                run(&job),
                Err(Failure::Client {
                    program: "sh".to_owned(),
                    end: ClientEnd::Code(7),
                    stderr: "no such role".to_owned(),
                })
            );
        }
    }

    #[test]
    fn damage_is_never_a_success() {
        let (directory, input) = stored(&"some text of a patient\n".repeat(100_000));
        let whole = fs::read(&input.path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut longer = whole.clone();
        longer.push(0);
        let cut = whole[..whole.len() - 1].to_vec();
        for content in [flipped, longer, cut, Vec::new()] {
            fs::write(&input.path, content).unwrap();
            for feed in every_feed(&directory) {
                for script in [READ, "exit 0"] {
                    let mut job = job(&directory, &input, feed.clone(), script);
                    job.stdout = None;
                    let outcome = run(&job);
                    assert!(
                        matches!(outcome, Err(Failure::Damaged { .. })),
                        "{feed:?} {script} {outcome:?}"
                    );
                }
            }
        }
        fs::write(&input.path, whole).unwrap();
        let mut lied = input.clone();
        lied.plain.sha256 = "0".repeat(64);
        for feed in every_feed(&directory) {
            let mut job = job(&directory, &lied, feed, READ);
            job.stdout = None;
            assert!(matches!(run(&job), Err(Failure::Damaged { .. })));
        }
    }

    #[test]
    fn a_dump_that_is_verified_first_starts_no_client_when_it_is_damaged() {
        let (directory, input) = stored("precious");
        let mut content = fs::read(&input.path).unwrap();
        content[5] ^= 1;
        fs::write(&input.path, content).unwrap();
        let path = directory.path().join("unpacked").display().to_string();
        for feed in [
            Feed::Beginning { keep: None },
            Feed::Stdin,
            Feed::File { path },
        ] {
            let trace = directory.path().join("started");
            let script = format!("touch {}", trace.display());
            let mut job = job(&directory, &input, feed, &script);
            job.verify_first = true;
            assert!(matches!(run(&job), Err(Failure::Damaged { .. })));
            assert!(!trace.exists());
            fs::remove_file(job.stdout.unwrap()).unwrap();
        }
    }
}
