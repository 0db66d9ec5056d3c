//! Cofferdam against what people do by hand, side by side in one run: `make bench`.
//!
//! Each case alternates between the two, so that whatever else the machine does meets both. What counts is the ratio of the
//! medians. The data is made once a run: text rows that do not repeat, many small files and some large random ones.
//!
//! `database`, `volume` and `memory` are here; the cases of other stores, and of the sidecar, have files of their own.
//!
//! Environment: `COFFERDAM_BINARY` (the release binary), `BENCH_ROUNDS` (default 3), `BENCH_CASES` (names, comma-separated).

mod encryption;
mod mysql;
mod s3;
mod sidecar;
mod sqlite;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "it is that of the tests")]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PROJECT: &str = "cofferdam-bench";
const POSTGRES_IMAGE: &str = "cofferdam-test/postgres:15";
const TOOLBOX_IMAGE: &str = "cofferdam-test/toolbox:1";
const DATABASE: &str = "cofferdam-bench-postgres";
const APP: &str = "cofferdam-bench-app";
const VOLUME: &str = "cofferdam-bench-data";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo test --benches` runs this too: a measurement is no test.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [s3::PUT, url, file, copies] => copies
            .parse()
            .map_err(Failure::from)
            .and_then(|copies| s3::put(url, Path::new(file), copies).map(|()| true)),
        _ => Bench::new().and_then(|bench| bench.run()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    cofferdam: PathBuf,
    work: PathBuf,
    rounds: usize,
    cases: Option<Vec<String>>,
}

/// Whether there is anything when it is restored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Lost,
    Present,
}

struct Row {
    case: &'static str,
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
    limit: f64,
}

impl Row {
    fn new(case: &'static str, limit: f64) -> Self {
        Self {
            case,
            ours: Vec::new(),
            theirs: Vec::new(),
            limit,
        }
    }

    fn ratio(&self) -> f64 {
        median(&self.ours).as_secs_f64() / median(&self.theirs).as_secs_f64()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        tidy_up();
        let _ = fs::remove_dir_all(&self.work);
    }
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let cofferdam = std::env::var_os("COFFERDAM_BINARY")
            .map_or_else(|| PathBuf::from("dist/cofferdam"), PathBuf::from)
            .canonicalize()
            .map_err(|error| format!("no release binary (run `make build` first): {error}"))?;
        tidy_up();
        let work = std::env::current_dir()?.join("target/bench");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work)?;
        Ok(Self {
            cofferdam,
            work,
            rounds: std::env::var("BENCH_ROUNDS")
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(3),
            cases: std::env::var("BENCH_CASES")
                .ok()
                .map(|text| text.split(',').map(str::to_owned).collect()),
        })
    }

    fn run(&self) -> Result<bool, Failure> {
        let mut rows = Vec::new();
        if self.wants("database") {
            self.start_database()?;
            rows.push(self.database_backup()?);
            rows.push(self.database_restore(Before::Lost)?);
            rows.push(self.database_restore(Before::Present)?);
            docker(&["rm", "--force", "--volumes", DATABASE])?;
        }
        if self.wants("volume") {
            self.fixed_cost()?;
            self.start_app(3)?;
            rows.push(self.volume_backup()?);
            rows.push(self.volume_restore(Before::Lost)?);
            rows.push(self.volume_restore(Before::Present)?);
        }
        if self.wants("mysql") {
            self.start_mysql()?;
            rows.push(self.mysql_backup()?);
            rows.push(self.mysql_restore()?);
            docker(&["rm", "--force", "--volumes", mysql::CONTAINER])?;
        }
        if self.wants("sqlite") {
            self.sqlite_writers()?;
        }
        let mut good = print_rows(&rows);
        if self.wants("encryption") {
            good &= self.encryption()?;
        }
        if self.wants("s3") {
            good &= self.s3()?;
        }
        if self.wants("s3-list") {
            self.s3_list()?;
        }
        if self.wants("sidecar") {
            good &= self.sidecar()?;
        }
        if self.wants("memory") {
            good &= self.memory()?;
        }
        Ok(good)
    }

    fn wants(&self, case: &str) -> bool {
        self.cases
            .as_ref()
            .is_none_or(|cases| cases.iter().any(|wanted| wanted == case))
    }

    /// A database of 3.5 GB: clinical-looking rows of words that do not all repeat.
    fn start_database(&self) -> Result<(), Failure> {
        say("making a database of 3.5 GB");
        docker(&[
            "run",
            "--detach",
            "--name",
            DATABASE,
            "--label",
            "cofferdam.test=1",
            "--label",
            &format!("cofferdam.project={PROJECT}"),
            "--label",
            "cofferdam.postgres=clinical",
            "--label",
            "cofferdam.postgres.restore=recreate",
            "--shm-size",
            "256m",
            "--env",
            "POSTGRES_USER=admin",
            "--env",
            "POSTGRES_DB=clinical",
            "--env",
            "POSTGRES_PASSWORD=bench",
            POSTGRES_IMAGE,
        ])?;
        retry("the database does not start", || {
            docker(&[
                "exec",
                DATABASE,
                "pg_isready",
                "-h",
                "127.0.0.1",
                "-U",
                "admin",
                "-d",
                "clinical",
            ])
        })?;
        docker_with_input(
            &[
                "exec",
                "--interactive",
                DATABASE,
                "psql",
                "-q",
                "-U",
                "admin",
                "-d",
                "clinical",
                "-v",
                "ON_ERROR_STOP=1",
            ],
            SEED,
        )?;
        Ok(())
    }

    fn database_backup(&self) -> Result<Row, Failure> {
        let mut row = Row::new("database backup", 0.45);
        for round in 0..self.rounds {
            say(&format!("database backup, round {}", round + 1));
            let dump = self.work.join("clinical.dump");
            self.clear(&dump)?;
            row.theirs.push(timed(|| {
                shell(&format!(
                    "docker exec {DATABASE} pg_dump -U admin -Fc clinical > '{}' && sync '{0}'",
                    dump.display()
                ))
            })?);
            self.clear(&self.snapshots())?;
            row.ours.push(timed(|| {
                self.cofferdam(&["backup", "*/postgres/clinical"])
            })?);
        }
        Ok(row)
    }

    /// Where there is a database, `recreate` takes a safety snapshot before it drops it. By hand, the way back is a dump.
    fn database_restore(&self, before: Before) -> Result<Row, Failure> {
        let case = match before {
            Before::Lost => "database restore",
            Before::Present => "… over a present one",
        };
        let mut row = Row::new(case, 1.15);
        docker(&[
            "cp",
            &self.work.join("clinical.dump").display().to_string(),
            &format!("{DATABASE}:/var/tmp/clinical.dump"),
        ])?;
        for round in 0..self.rounds {
            say(&format!("{}, round {}", row.case, round + 1));
            if before == Before::Lost {
                order("DROP DATABASE clinical")?;
            }
            row.theirs.push(timed(|| {
                if before == Before::Present {
                    let way_back = self.work.join("before.dump");
                    shell(&format!(
                        "docker exec {DATABASE} pg_dump -U admin -Fc clinical > '{}'",
                        way_back.display()
                    ))?;
                    order("DROP DATABASE clinical")?;
                }
                order("CREATE DATABASE clinical")?;
                docker(&[
                    "exec",
                    DATABASE,
                    "pg_restore",
                    "-U",
                    "admin",
                    "-d",
                    "clinical",
                    "-j2",
                    "/var/tmp/clinical.dump",
                ])
            })?);
            if before == Before::Lost {
                order("DROP DATABASE clinical")?;
            }
            row.ours.push(timed(|| {
                self.cofferdam(&["restore", "latest", "*/postgres/clinical", "--yes"])
            })?);
        }
        Ok(row)
    }

    /// A volume of `gigabytes` GB: for each, 4,200 small files of words and 8 large random ones.
    fn start_app(&self, gigabytes: u64) -> Result<(), Failure> {
        say(&format!("making a volume of {gigabytes} GB"));
        let _ = docker(&["rm", "--force", "--volumes", APP]);
        let _ = docker(&["volume", "rm", "--force", VOLUME]);
        docker(&["volume", "create", "--label", "cofferdam.test=1", VOLUME])?;
        docker(&[
            "run",
            "--detach",
            "--name",
            APP,
            "--label",
            "cofferdam.test=1",
            "--label",
            &format!("cofferdam.project={PROJECT}"),
            "--label",
            "cofferdam.volumes=*",
            "--volume",
            &format!("{VOLUME}:/data"),
            TOOLBOX_IMAGE,
            "sleep",
            "infinity",
        ])?;
        docker_with_input(
            &[
                "exec",
                "--interactive",
                APP,
                "python3",
                "-",
                &gigabytes.to_string(),
            ],
            TREE,
        )?;
        Ok(())
    }

    /// Where cofferdam keeps what it saved.
    fn snapshots(&self) -> PathBuf {
        self.work.join("repository").join(PROJECT)
    }

    /// Takes away what an earlier round has made, and waits for the disk: a file that is written over is cheaper than a
    /// new one, and neither side is to wait for what the other has left to be done.
    fn clear(&self, made: &Path) -> Result<(), Failure> {
        shell(&format!("rm -rf '{}' && sync", made.display())).map(drop)
    }

    fn volume_path(&self) -> Result<String, Failure> {
        docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", VOLUME])
    }

    fn volume_backup(&self) -> Result<Row, Failure> {
        let mut row = Row::new("volume backup", 1.15);
        let source = self.volume_path()?;
        let archive = self.work.join("data.tar.zst");
        for round in 0..self.rounds {
            say(&format!("volume backup, round {}", round + 1));
            self.clear(&archive)?;
            row.theirs.push(timed(|| {
                shell(&format!(
                    "tar -C '{source}' -cf - . | zstd -q -3 -T0 > '{}' && sync '{0}'",
                    archive.display()
                ))
            })?);
            self.clear(&self.snapshots())?;
            row.ours
                .push(timed(|| self.cofferdam(&["backup", "*/volume/*"]))?);
        }
        Ok(row)
    }

    /// Where there are files, they have to go: a restore leaves exactly what was saved.
    fn volume_restore(&self, before: Before) -> Result<Row, Failure> {
        let case = match before {
            Before::Lost => "volume restore",
            Before::Present => "… over a present one",
        };
        let mut row = Row::new(case, 1.25);
        let archive = self.work.join("data.tar.zst");
        let target = self.work.join("restored");
        fs::create_dir_all(&target)?;
        for round in 0..self.rounds {
            say(&format!("{}, round {}", row.case, round + 1));
            if before == Before::Lost {
                self.clear(&target)?;
                fs::create_dir_all(&target)?;
            }
            forget(&archive)?;
            row.theirs.push(timed(|| {
                shell(&format!(
                    "rm -rf '{1}'/* && zstd -q -d < '{0}' | tar -C '{1}' -xf - && sync -f '{1}'",
                    archive.display(),
                    target.display()
                ))
            })?);
            if before == Before::Lost {
                docker(&["exec", APP, "find", "/data", "-mindepth", "1", "-delete"])?;
                shell("sync")?;
            }
            forget(&self.snapshots())?;
            row.ours.push(timed(|| {
                self.cofferdam(&["restore", "latest", "*/volume/*", "--yes"])
            })?);
        }
        self.clear(&target)?;
        Ok(row)
    }

    /// What containers of helpers cost, whatever is in a volume.
    fn fixed_cost(&self) -> Result<(), Failure> {
        self.start_app(0)?;
        let mut backups = Vec::new();
        let mut restores = Vec::new();
        for _ in 0..self.rounds {
            backups.push(timed(|| self.cofferdam(&["backup", "*/volume/*"]))?);
            restores.push(timed(|| {
                self.cofferdam(&["restore", "latest", "*/volume/*", "--yes"])
            })?);
        }
        println!(
            "an empty volume    backup {:.2}s, restore {:.2}s",
            median(&backups).as_secs_f64(),
            median(&restores).as_secs_f64()
        );
        Ok(())
    }

    /// Peak resident memory of a backup and a restore must not grow with the data.
    fn memory(&self) -> Result<bool, Failure> {
        let mut peaks = Vec::new();
        for gigabytes in [1, 4] {
            self.start_app(gigabytes)?;
            say(&format!("memory at {gigabytes} GB"));
            let backup = self.peak(&["backup", "*/volume/*"])?;
            let restore = self.peak(&["restore", "latest", "*/volume/*", "--yes"])?;
            peaks.push(backup.max(restore));
        }
        let [small, large] = peaks[..] else {
            unreachable!("two sizes were measured")
        };
        let growth = large as f64 / small as f64;
        println!(
            "peak memory        {:>6.1} MiB at 1 GB, {:>6.1} MiB at 4 GB: {growth:.2} (at most 1.10, and 64 MiB)",
            small as f64 / 1024.0,
            large as f64 / 1024.0
        );
        Ok(growth <= 1.1 && large <= 64 * 1024)
    }

    /// Peak resident memory in KiB, as GNU time reports it.
    fn peak(&self, arguments: &[&str]) -> Result<u64, Failure> {
        let report = self.work.join("time");
        let mut command = Command::new("/usr/bin/time");
        command
            .args(["--format", "%M", "--output"])
            .arg(&report)
            .arg(&self.cofferdam);
        self.complete(command, arguments)?;
        Ok(fs::read_to_string(report)?.trim().parse()?)
    }

    fn cofferdam(&self, arguments: &[&str]) -> Result<String, Failure> {
        self.complete(Command::new(&self.cofferdam), arguments)
    }

    fn complete(&self, mut command: Command, arguments: &[&str]) -> Result<String, Failure> {
        command
            .args(arguments)
            .args(["--project", PROJECT, "--repository"])
            .arg(self.work.join("repository"));
        output(command)
    }
}

/// Takes files out of the page cache: what is restored was stored long ago.
fn forget(stored: &Path) -> Result<(), Failure> {
    let drop_pages = "dd if={} iflag=nocache count=0 status=none";
    shell(&format!(
        "sync && find '{}' -type f -exec {drop_pages} ';'",
        stored.display()
    ))
    .map(drop)
}

fn print_rows(rows: &[Row]) -> bool {
    if rows.is_empty() {
        return true;
    }
    println!(
        "\n{:<20} {:>9} {:>9} {:>6} {:>8}",
        "case", "cofferdam", "by hand", "ratio", "at most"
    );
    for row in rows {
        let verdict = if row.ratio() <= row.limit {
            ""
        } else {
            "  over"
        };
        println!(
            "{:<20} {:>8.2}s {:>8.2}s {:>6.2} {:>8.2}{verdict}",
            row.case,
            median(&row.ours).as_secs_f64(),
            median(&row.theirs).as_secs_f64(),
            row.ratio(),
            row.limit
        );
    }
    rows.iter().all(|row| row.ratio() <= row.limit)
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn say(text: &str) {
    eprintln!("· {text}");
}

fn retry<T>(what: &str, attempt: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..120 {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Err(what.into())
}

fn tidy_up() {
    let containers = [DATABASE, APP, mysql::CONTAINER, sqlite::CONTAINER];
    let _ = docker(&[&["rm", "--force", "--volumes"], &containers[..]].concat());
    let _ = docker(&["volume", "rm", "--force", VOLUME, sqlite::VOLUME]);
    sidecar::tidy_up();
}

/// Has the server do something.
fn order(statement: &str) -> Result<String, Failure> {
    docker(&[
        "exec",
        DATABASE,
        "psql",
        "-q",
        "-U",
        "admin",
        "-d",
        "template1",
        "-c",
        statement,
    ])
}

fn shell(script: &str) -> Result<String, Failure> {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-ec", script]);
    output(command)
}

fn docker(arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("docker");
    command.args(arguments);
    output(command)
}

fn docker_with_input(arguments: &[&str], input: &str) -> Result<(), Failure> {
    let mut child = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or("no standard input")?
        .write_all(input.as_bytes())?;
    if child.wait()?.success() {
        Ok(())
    } else {
        Err(format!("docker {} failed", arguments.join(" ")).into())
    }
}

fn output(mut command: Command) -> Result<String, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let mut message = format!("{command:?} failed ({})", output.status);
    write!(message, ": {}", String::from_utf8_lossy(&output.stderr))?;
    Err(message.into())
}

const SEED: &str = r#"
CREATE TABLE patients (id bigserial PRIMARY KEY, name text, born date, notes text);
CREATE TABLE observations (id bigserial PRIMARY KEY, patient bigint, taken timestamptz, code text, value numeric, comment text);
CREATE TEMP TABLE words AS SELECT row_number() OVER () - 1 AS n, substr(md5(g::text), 1, 3 + g % 7) AS word FROM generate_series(1, 4000) g;
CREATE FUNCTION pg_temp.sentence(seed bigint, length int) RETURNS text LANGUAGE sql AS
  $$ SELECT string_agg(word, ' ') FROM (SELECT word FROM generate_series(1, length) i JOIN words ON n = abs(hashint8(seed * 31 + i)) % 4000) s $$;
CREATE INDEX ON words (n);
CREATE TEMP TABLE sentences AS SELECT g AS n, pg_temp.sentence(g, 12) AS text FROM generate_series(0, 19999) g;
CREATE INDEX ON sentences (n);
ANALYZE words; ANALYZE sentences;
INSERT INTO patients (name, born, notes)
  SELECT 'Patient ' || g, date '1930-01-01' + (g * 37 % 30000), a.text || ' ' || b.text
  FROM generate_series(1, 600000) g
  JOIN sentences a ON a.n = abs(hashint8(g)) % 20000 JOIN sentences b ON b.n = abs(hashint8(g + 7)) % 20000;
INSERT INTO observations (patient, taken, code, value, comment)
  SELECT g % 600000 + 1, timestamptz '2020-01-01' + make_interval(secs => g * 7), 'LOINC-' || abs(hashint8(g)) % 90000,
         round((random() * 1000)::numeric, 3), a.text || ' ' || b.text
  FROM generate_series(1, 12900000) g
  JOIN sentences a ON a.n = abs(hashint8(g * 3)) % 20000 JOIN sentences b ON b.n = abs(hashint8(g * 5)) % 20000;
CREATE INDEX ON observations (patient);
"#;

const TREE: &str = r#"
import os, random, sys
random.seed(7)
words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 10))) for _ in range(6000)]
for gigabyte in range(int(sys.argv[1])):
    base = f"/data/{gigabyte:02}"
    for n in range(4200):
        folder = f"{base}/{n // 100:03}"
        os.makedirs(folder, exist_ok=True)
        size = int(random.lognormvariate(10.6, 1.3))
        text = " ".join(random.choices(words, k=size // 6 + 1))
        with open(f"{folder}/{n:05}.txt", "w") as f:
            f.write(text)
    for n in range(8):
        with open(f"{base}/large-{n}.bin", "wb") as f:
            for _ in range(80):
                f.write(os.urandom(1 << 20))
os.sync()
"#;
