//! Inside a container: gives a client what [`super::dump`] has stored.
//!
//! ```text
//!   file, or what comes in ─▶ decompress ─▶ verify ─▶ client's stdin, or a plain file
//! ```
//!
//! A client may stop reading before the end, as `pg_restore` does when it has what it needs; its exit code says whether
//! that was right. The rest is verified all the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use super::client::Attendant;
use super::dump::{NewFile, io_failure};
use super::job::{Failure, Feed, LoadJob, Loaded, Place, Stored};
use crate::pipe::{Patch, Verified, codec};

#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
pub fn run(job: &LoadJob) -> Result<Loaded, Failure> {
    let stdout = match &job.stdout {
        Some(path) => Stdio::from(NewFile::create(Path::new(path))?.into_file()),
        None => Stdio::null(),
    };
    let stderr = match &job.feed {
        Feed::Beginning { input, keep } => {
            let (attendant, source) = begin(input, None)?;
            source.feed_beginning(&job.client, keep.as_deref(), &attendant, stdout)
        }
        Feed::Stdin { input } => {
            let (attendant, source) = begin(input, job.patch.as_ref())?;
            source.feed_all(&job.client, &attendant, stdout)
        }
        Feed::File { input, path } => {
            let (attendant, source) = begin(input, job.patch.as_ref())?;
            let loaded = source
                .unpack(path, &attendant)
                .and_then(|()| run_on_file(&job.client, path, &attendant, stdout));
            // Whether it can be removed is met again, and told, when the whole directory goes.
            let _ = fs::remove_file(path);
            loaded
        }
        Feed::Kept { path } => {
            if let Some(patch) = &job.patch {
                patch_file(patch, path)?;
            }
            run_on_file(&job.client, path, &Attendant::begin(None), stdout)
        }
    }?;
    Ok(Loaded { stderr })
}

fn begin<'a>(
    input: &'a Stored,
    patch: Option<&'a Patch>,
) -> Result<(Attendant, Source<'a>), Failure> {
    let (attendant, stored): (_, Box<dyn Read + Send>) = match &input.place {
        Place::File { path } => {
            let file =
                File::open(path).map_err(|error| io_failure(path, "open the dump", error))?;
            (Attendant::begin(None), Box::new(file))
        }
        Place::Incoming => {
            let (attendant, incoming) = Attendant::begin_with_input(input.stored_bytes);
            (attendant, Box::new(incoming))
        }
    };
    let source = Source {
        input,
        patch,
        stored,
    };
    Ok((attendant, source))
}

#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
fn patch_file(patch: &Patch, path: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.and_then(|file| patch.file(file))
        .map_err(|error| io_failure(path, "patch the dump", error))
}

fn run_on_file(
    client: &[String],
    path: &str,
    attendant: &Attendant,
    stdout: Stdio,
) -> Result<String, Failure> {
    let argv = [client, &[path.to_owned()]].concat();
    attendant.start(&argv, Stdio::null(), stdout)?.wait()
}

/// The stored stream, ready to be read.
struct Source<'a> {
    input: &'a Stored,
    patch: Option<&'a Patch>,
    stored: Box<dyn Read + Send>,
}

impl Source<'_> {
    /// The plain content, patched; its end is an error unless the digest of what was stored is right.
    fn verified_plain(self) -> Result<Box<dyn Read>, Failure> {
        let stored = BufReader::with_capacity(codec::CHUNK, self.stored);
        let plain = codec::decompressor(stored, self.input.compression).map_err(unreadable)?;
        let what = "the dump, decompressed,";
        let plain = Verified::new(plain, self.input.plain.clone(), what);
        let open_beginning =
            |path: &String| File::open(path).map_err(|error| io_failure(path, "open", error));
        let beginning = self.input.beginning.as_ref().map(open_beginning);
        let plain = Compared {
            plain,
            beginning: beginning.transpose()?.map(BufReader::new),
        };
        Ok(match self.patch {
            Some(patch) => Box::new(patch.reader(plain).map_err(unreadable)?),
            None => Box::new(plain),
        })
    }

    fn unpack(self, path: &str, attendant: &Attendant) -> Result<(), Failure> {
        let mut file = NewFile::create(Path::new(path))?;
        let mut plain = self.verified_plain()?;
        let mut buffer = vec![0; codec::CHUNK];
        loop {
            let read = read(&mut plain, &mut buffer);
            attendant.ensure_wanted()?;
            let length = read?;
            if length == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..length])
                .map_err(|error| io_failure(file.place(), "write", error))?;
        }
    }

    /// What the client does not read any more is not read at all, and nothing is verified.
    fn feed_beginning(
        self,
        client: &[String],
        keep: Option<&str>,
        attendant: &Attendant,
        stdout: Stdio,
    ) -> Result<String, Failure> {
        let stored = BufReader::with_capacity(codec::CHUNK, self.stored);
        let plain = codec::decompressor(stored, self.input.compression).map_err(unreadable)?;
        let kept = keep
            .map(|path| NewFile::create(Path::new(path)))
            .transpose()?;
        let mut client = attendant.start(client, Stdio::piped(), stdout)?;
        let stdin = client.stdin();
        let fed = pour(&mut Keeping { plain, kept }, stdin);
        if fed.is_err() {
            client.end();
        }
        let ended = client.wait();
        if attendant.has_ruled() {
            return ended;
        }
        fed.and(ended)
    }

    fn feed_all(
        self,
        client: &[String],
        attendant: &Attendant,
        stdout: Stdio,
    ) -> Result<String, Failure> {
        let mut plain = self.verified_plain()?;
        let mut client = attendant.start(client, Stdio::piped(), stdout)?;
        let stdin = client.stdin();
        match pour(&mut plain, stdin) {
            Ok(()) => {
                let stderr = client.wait()?;
                let mut buffer = vec![0; codec::CHUNK];
                while read(&mut plain, &mut buffer)? > 0 {
                    attendant.ensure_wanted()?;
                }
                Ok(stderr)
            }
            Err(failure) => {
                client.end();
                match client.wait() {
                    Err(verdict) if attendant.has_ruled() => Err(verdict),
                    _ => Err(failure),
                }
            }
        }
    }
}

/// Compares what is read with a file that has to be its beginning.
struct Compared<R> {
    plain: R,
    /// Gone once all of it has been seen.
    beginning: Option<BufReader<File>>,
}

impl<R: Read> Read for Compared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.plain.read(buffer)?;
        if let Some(beginning) = &mut self.beginning {
            let mut earlier = Vec::with_capacity(length);
            beginning.take(length as u64).read_to_end(&mut earlier)?;
            let is_over = earlier.len() < length;
            if !buffer[..length].starts_with(&earlier) || (length == 0 && has_more(beginning)?) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the dump is damaged: its beginning has changed",
                ));
            }
            if is_over {
                self.beginning = None;
            }
        }
        Ok(length)
    }
}

fn has_more(beginning: &mut impl BufRead) -> io::Result<bool> {
    Ok(!beginning.fill_buf()?.is_empty())
}

fn read(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match reader.read(buffer) {
            Ok(length) => return Ok(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
}

/// What the system did not say came from the content (a digest or a decoder), or from its way here.
fn unreadable(error: io::Error) -> Failure {
    let what = error.to_string();
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::Other { message: what },
        io::ErrorKind::StorageFull => Failure::NoRoom {
            place: "the agent's directory".to_owned(),
        },
        _ if error.raw_os_error().is_some() => io_failure("the dump", "read", error),
        _ if what.contains("is damaged") => Failure::Damaged { what },
        _ => Failure::Damaged {
            what: format!("the dump is damaged: {what}"),
        },
    }
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

/// Writes `plain` to the client until one of them ends, then closes the client's input.
///
/// The client sees the end only after the end of `plain` was read without an error.
fn pour(plain: &mut impl Read, stdin: io::Result<Option<impl Write>>) -> Result<(), Failure> {
    let failed = |error| io_failure("the client", "write to", error);
    let Some(mut stdin) = stdin.map_err(failed)? else {
        return Ok(());
    };
    let mut buffer = vec![0; codec::CHUNK];
    loop {
        let length = read(plain, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        match stdin.write_all(&buffer[..length]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::job::{ClientEnd, DumpJob, Form, Side};
    use crate::manifest::Compression;

    /// A stored file of `plain` in a directory of its own.
    fn stored(plain: &str) -> (tempfile::TempDir, Stored) {
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
            form: Form::Anything,
            relay: None,
        })
        .unwrap();
        let file = Stored {
            place: Place::File { path },
            compression,
            plain: dumped.plain,
            stored_bytes: dumped.stored.bytes,
            beginning: None,
        };
        (directory, file)
    }

    fn path_of(input: &Stored) -> &str {
        match &input.place {
            Place::File { path } => path,
            Place::Incoming => panic!("it comes in"),
        }
    }

    fn job(directory: &tempfile::TempDir, feed: Feed, script: &str) -> LoadJob {
        LoadJob {
            client: ["sh", "-c", script, "sh"].map(str::to_owned).to_vec(),
            feed,
            patch: None,
            stdout: Some(directory.path().join("out").display().to_string()),
        }
    }

    fn every_feed(directory: &tempfile::TempDir, input: &Stored) -> [Feed; 2] {
        let path = directory.path().join("unpacked").display().to_string();
        let input = input.clone();
        [
            Feed::Stdin {
                input: input.clone(),
            },
            Feed::File { input, path },
        ]
    }

    const READ: &str = "if [ $# = 1 ]; then cat \"$1\"; else cat; fi";

    #[test]
    fn the_client_gets_what_was_dumped() {
        let plain = "line of text\n".repeat(100_000);
        let (directory, input) = stored(&plain);
        for feed in every_feed(&directory, &input) {
            let job = job(&directory, feed.clone(), READ);
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
        let beginning = Feed::Beginning {
            input: input.clone(),
            keep: None,
        };
        for feed in [beginning, Feed::Stdin { input }] {
            let job = job(&directory, feed, "head -c 3");
            run(&job).unwrap();
            let out = job.stdout.unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), "xxx");
            fs::remove_file(out).unwrap();
        }
    }

    #[test]
    fn what_a_client_has_read_of_the_beginning_is_kept_for_the_next() {
        let plain = "x".repeat(5_000_000);
        let (directory, mut input) = stored(&plain);
        let path = directory.path().join("beginning").display().to_string();
        let keep = Some(path.clone());
        let beginning = Feed::Beginning {
            input: input.clone(),
            keep,
        };
        run(&job(&directory, beginning, "head -c 3")).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert!(kept.len() >= 3 && kept.len() < plain.len() && plain.starts_with(&kept));

        fs::remove_file(directory.path().join("out")).unwrap();
        input.beginning = Some(path.clone());
        for (content, is_good) in [
            (kept.clone(), true),
            (String::new(), true),
            (kept.replacen('x', "y", 1), false),
            (format!("{}y", &kept[1..]), false),
            (format!("{plain}x"), false),
        ] {
            fs::write(&path, content).unwrap();
            for feed in every_feed(&directory, &input) {
                let mut job = job(&directory, feed, READ);
                job.stdout = None;
                let outcome = run(&job);
                assert_eq!(outcome.is_ok(), is_good, "{outcome:?}");
            }
        }
        fs::write(&path, &kept).unwrap();
        let job = job(&directory, Feed::Kept { path }, READ);
        run(&job).unwrap();
        assert_eq!(fs::read_to_string(job.stdout.unwrap()).unwrap(), kept);
    }

    #[test]
    fn a_client_may_read_something_else_than_was_proven() {
        let plain = format!("set nothing; {}", "set nothing; ".repeat(100_000));
        let expected = plain.replacen("nothing", "all of ", 1);
        let (directory, mut input) = stored(&plain);
        let path = directory.path().join("beginning").display().to_string();
        fs::write(&path, &plain[..100]).unwrap();
        input.beginning = Some(path.clone());
        let patched = |feed: Feed| {
            let mut job = job(&directory, feed, READ);
            job.patch = Some(Patch::new(b"nothing".to_vec(), b"all of ".to_vec()));
            run(&job).map(|_| {
                let out = job.stdout.unwrap();
                let read = fs::read_to_string(&out).unwrap();
                fs::remove_file(out).unwrap();
                read
            })
        };
        for feed in every_feed(&directory, &input) {
            assert!(patched(feed).unwrap() == expected);
        }
        let kept = Feed::Kept { path };
        assert_eq!(patched(kept).unwrap(), expected[..100]);
    }

    #[test]
    fn a_client_that_dies_is_told_in_its_own_words() {
        let (directory, input) = stored(&"x".repeat(5_000_000));
        for feed in every_feed(&directory, &input) {
            let mut job = job(&directory, feed, "echo 'no such role' >&2; exit 7");
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
    fn a_child_that_keeps_the_input_open_and_does_not_read_it_fails_the_load() {
        let (directory, input) = stored(&"x".repeat(8_000_000));
        let feed = Feed::Stdin { input };
        // A shell gives what it puts into the background another input, unless it is told this one.
        let mut job = job(&directory, feed, "exec 3<&0; sleep 1000 <&3 & head -c 3");
        job.stdout = None;
        let begun = std::time::Instant::now();
        let failure = run(&job).unwrap_err();
        assert!(
            matches!(
                &failure,
                Failure::Held {
                    side: Side::Input,
                    ..
                }
            ),
            "{failure}"
        );
        assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    }

    #[test]
    fn damage_is_never_a_success() {
        let (directory, input) = stored(&"some text of a patient\n".repeat(100_000));
        let whole = fs::read(path_of(&input)).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut longer = whole.clone();
        longer.push(0);
        let cut = whole[..whole.len() - 1].to_vec();
        for content in [flipped, longer, cut, Vec::new()] {
            fs::write(path_of(&input), content).unwrap();
            for feed in every_feed(&directory, &input) {
                for script in [READ, "exit 0"] {
                    let mut job = job(&directory, feed.clone(), script);
                    job.stdout = None;
                    let outcome = run(&job);
                    assert!(
                        matches!(outcome, Err(Failure::Damaged { .. })),
                        "{feed:?} {script} {outcome:?}"
                    );
                }
            }
        }
        fs::write(path_of(&input), whole).unwrap();
        let mut lied = input.clone();
        lied.plain.sha256 = "0".repeat(64);
        for feed in every_feed(&directory, &lied) {
            let mut job = job(&directory, feed, READ);
            job.stdout = None;
            assert!(matches!(run(&job), Err(Failure::Damaged { .. })));
        }
    }
}
