//! Inside a container: runs a client and keeps its standard output as one compressed file.
//!
//! ```text
//!   client ─stdout─▶ digest ─▶ compress (all cores) ─▶ digest ─▶ file
//! ```
//!
//! The file counts only with a report that says [`Report::Done`](super::job::Report): it is written where a dead run's
//! left-overs are swept, so nothing is synced. When anything fails the file is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::client::Attendant;
use super::job::{DumpJob, Dumped, Failure, Form, RelayJob, Relayed};
use super::relay::Relay;
use crate::pipe::archive::Watched;
use crate::pipe::{Tail, codec};

#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
pub fn run(job: &DumpJob) -> Result<Dumped, Failure> {
    let attendant = Attendant::begin(Some(Duration::from_secs(job.idle_limit_seconds)));
    let output = NewFile::create(Path::new(&job.output))?;
    let dumped = dump(job, &attendant, output);
    if dumped.is_err() {
        // A failure to remove it is met again, and told, when the whole directory goes.
        let _ = fs::remove_file(&job.output);
    }
    dumped
}

fn dump(job: &DumpJob, attendant: &Attendant, output: NewFile) -> Result<Dumped, Failure> {
    let relay = job.relay.as_ref().map(|relay| begin(relay, job));
    let argv = match (&relay, &job.relay) {
        (Some(Ok(_)), Some(relay)) => &relay.client,
        _ => &job.client,
    };
    let mut client = attendant.start(argv, Stdio::null(), Stdio::piped())?;
    let place = output.place.clone();
    let (plain, tail) = Tail::new(client.stdout());
    let (plain, archive) = Watched::new(plain);
    let compressed = codec::compress(plain, output, job.compression);
    if compressed.is_err() {
        client.end();
    }
    match (compressed, client.wait()) {
        (Ok(compressed), Ok(stderr)) => {
            if job.form == Form::PostgresArchive {
                archive.finish().map_err(|flaw| Failure::Damaged {
                    what: format!("the dump is not complete: {flaw}"),
                })?;
            }
            Ok(Dumped {
                plain: compressed.plain,
                stored: compressed.stored,
                tail: tail.get(),
                stderr,
                relayed: relay.map(|relay| match relay {
                    Ok(relay) => Relayed::Through {
                        left_alone: relay.left_alone(),
                    },
                    Err(error) => Relayed::NotAtAll {
                        why: error.to_string(),
                    },
                }),
            })
        }
        (Ok(_), Err(failure)) => Err(failure),
        (Err(_), Err(verdict)) if attendant.has_ruled() => Err(verdict),
        // The client was ended because of the first failure.
        (Err(error), _) => Err(io_failure(&place, "write", error)),
    }
}

fn begin(relay: &RelayJob, job: &DumpJob) -> io::Result<Relay> {
    let directory = Path::new(&job.output).parent();
    Relay::begin(relay, directory.unwrap_or(Path::new("/")))
}

/// A new file that leaves some room beside it: the database may live on the same disk, and must not be stopped by its
/// own backup.
pub(super) struct NewFile {
    file: File,
    place: String,
    /// Written since the free space was last looked at.
    unchecked: u64,
}

/// How much is written between two looks at the free space, in bytes.
const LOOK_EVERY: u64 = 1024 * 1024;
const MOST_RESERVED: u64 = 1024 * 1024 * 1024;

/// What has to stay free of `total` bytes: a twentieth, but no more than 1 GiB.
fn reserve(total: u64) -> u64 {
    (total / 20).min(MOST_RESERVED)
}

impl NewFile {
    #[expect(
        clippy::disallowed_methods,
        reason = "writes in directories of its own in other containers"
    )]
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let place = path.parent().unwrap_or(path).display().to_string();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| io_failure(&place, "create a file", error))?;
        Ok(Self {
            file,
            place,
            unchecked: LOOK_EVERY,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// For a client that writes to it by itself.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    fn ensure_room(&self) -> io::Result<()> {
        let space = rustix::fs::fstatvfs(&self.file)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let total = space.f_blocks.saturating_mul(space.f_frsize);
        if free < reserve(total) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= LOOK_EVERY {
            self.ensure_room()?;
            self.unchecked = 0;
        }
        let length = self.file.write(bytes)?;
        self.unchecked += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error of reading or writing files in `place`.
pub(super) fn io_failure(place: &str, action: &str, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::NoRoom {
                place: place.to_owned(),
            }
        }
        _ => Failure::Other {
            message: format!("cannot {action} in {place}: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::job::{CUT, ClientEnd, Side};
    use crate::manifest::Compression;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    fn job(directory: &Path, script: &str) -> DumpJob {
        DumpJob {
            client: ["sh", "-c", script].map(str::to_owned).to_vec(),
            output: directory.join("dump").display().to_string(),
            compression: Compression::Zstd(3),
            idle_limit_seconds: 60,
            form: Form::Anything,
            relay: None,
        }
    }

    #[test]
    fn a_good_client_leaves_one_private_file_with_known_digests() {
        let directory = tempfile::tempdir().unwrap();
        let job = job(directory.path(), "echo careful >&2; printf 'hello world'");
        let dumped = run(&job).unwrap();
        assert_eq!(dumped.stderr, "careful");
        assert_eq!(dumped.plain.bytes, 11);
        assert_eq!(dumped.tail, b"hello world");
        assert_eq!(
            dumped.plain.sha256,
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        );
        let file = fs::metadata(&job.output).unwrap();
        assert_eq!(file.len(), dumped.stored.bytes);
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let mut plain = String::new();
        let stored = io::BufReader::new(File::open(&job.output).unwrap());
        codec::decompressor(stored, job.compression)
            .unwrap()
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, "hello world");
    }

    #[test]
    fn a_client_that_fails_half_way_leaves_no_file_and_its_words() {
        for (script, end) in [
            (
                "printf half; echo 'it broke' >&2; exit 3",
                ClientEnd::Code(3),
            ),
            (
                "printf half; echo 'it broke' >&2; kill -9 $$",
                ClientEnd::Signal(9),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let job = job(directory.path(), script);
            assert_eq!(
                run(&job),
                Err(Failure::Client {
                    program: "sh".to_owned(),
                    end,
                    stderr: "it broke".to_owned(),
                })
            );
            assert!(!Path::new(&job.output).exists());
        }
    }

    #[test]
    fn only_the_end_of_the_words_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo END >&2; exit 1";
        let Err(Failure::Client { stderr, .. }) = run(&job(directory.path(), script)) else {
            panic!("the client fails");
        };
        let words = stderr.strip_prefix(CUT).expect("it is marked as cut");
        assert!(
            words.len() <= 8 * 1024 && words.ends_with("xEND"),
            "{}",
            words.len()
        );
    }

    #[test]
    fn a_missing_client_and_a_taken_name_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mut missing = job(directory.path(), "");
        missing.client = vec!["no-such-client".to_owned()];
        assert!(
            matches!(run(&missing), Err(Failure::NoClient { program, .. }) if program == "no-such-client")
        );
        fs::write(&missing.output, "mine").unwrap();
        assert!(matches!(run(&missing), Err(Failure::Other { .. })));
        assert_eq!(fs::read_to_string(&missing.output).unwrap(), "mine");
    }

    #[test]
    fn a_silent_client_is_ended_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let mut job = job(directory.path(), "echo stuck >&2; sleep 1000 | sleep 1000");
        job.idle_limit_seconds = 1;
        assert_eq!(
            run(&job),
            Err(Failure::Silent {
                program: "sh".to_owned(),
                seconds: 1,
                stderr: "stuck".to_owned(),
            })
        );
        assert!(!Path::new(&job.output).exists());
    }

    #[test]
    fn a_child_that_keeps_the_output_open_fails_the_dump_and_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("left");
        // In a session of its own, so that no signal to the group reaches it.
        let script = format!(
            "echo data; setsid sh -c 'echo $$ >{0}; exec sleep 1000' & while ! [ -s {0} ]; do :; done; echo done >&2",
            left.display()
        );
        let job = job(directory.path(), &script);
        assert_eq!(
            run(&job),
            Err(Failure::Held {
                program: "sh".to_owned(),
                side: Side::Output,
                stderr: "done".to_owned(),
            })
        );
        assert!(!Path::new(&job.output).exists());
        let pid = fs::read_to_string(left).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        assert!(state.is_err() || state.unwrap().contains(") Z"));
    }

    #[test]
    fn a_child_that_prints_on_fails_the_dump_too() {
        let directory = tempfile::tempdir().unwrap();
        let script = "(while :; do echo x; sleep 0.1; done) & echo done >&2";
        let begun = std::time::Instant::now();
        assert_eq!(
            run(&job(directory.path(), script)),
            Err(Failure::Held {
                program: "sh".to_owned(),
                side: Side::Output,
                stderr: "done".to_owned(),
            })
        );
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn a_child_that_keeps_only_the_messages_open_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo data; sleep 20 >/dev/null & echo careful >&2";
        let dumped = run(&job(directory.path(), script)).unwrap();
        assert_eq!(
            (dumped.tail.as_slice(), &*dumped.stderr),
            (&b"data\n"[..], "careful")
        );
    }

    #[test]
    fn what_filters_the_output_may_end_a_moment_after_the_client() {
        let directory = tempfile::tempdir().unwrap();
        // As with a process substitution: what filters the output ends a moment later.
        let script = "{ sleep 1; echo late; } & echo early";
        let dumped = run(&job(directory.path(), script)).unwrap();
        assert_eq!(dumped.tail, b"early\nlate\n");
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = io::Error::from(rustix::io::Errno::NOSPC);
        assert_eq!(
            io_failure("/tmp", "write", full),
            Failure::NoRoom {
                place: "/tmp".to_owned()
            }
        );
        assert_eq!(reserve(16 * 1024 * 1024), 838_860);
        assert_eq!(reserve(u64::MAX), MOST_RESERVED);
    }
}
