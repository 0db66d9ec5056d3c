//! SQLite: how long a program that writes has to wait while its database is saved.

use std::io::Read as _;
use std::process::{Command, Stdio};

use crate::{Bench, Failure, PROJECT, docker, docker_with_input, say};

pub const CONTAINER: &str = "cofferdam-bench-sqlite";
pub const VOLUME: &str = "cofferdam-bench-sqlite";
const IMAGE: &str = "cofferdam-test/toolbox:1";

/// What a program that does nothing but write has waited for one transaction at most, in milliseconds.
struct Waits {
    alone: u64,
    while_saved: u64,
}

impl Bench {
    /// Prints both for each way in which SQLite keeps a journal. It is no contest: there is no limit.
    pub fn sqlite_writers(&self) -> Result<(), Failure> {
        let project = format!("cofferdam.project={PROJECT}");
        let labels = [
            "cofferdam.test=1",
            &project,
            "cofferdam.sqlite=/data/bench.db",
        ];
        let labels = labels.map(|label| ["--label", label]).concat();
        let run = ["run", "--detach", "--name", CONTAINER];
        let mount = format!("{VOLUME}:/data");
        let rest = ["--volume", &mount, IMAGE];
        docker(&["volume", "create", "--label", "cofferdam.test=1", VOLUME])?;
        docker(&[&run[..], &labels, &rest].concat())?;
        for journal in ["delete", "wal"] {
            say(&format!(
                "making a SQLite database, journal_mode = {journal}"
            ));
            let python = ["exec", "--interactive", CONTAINER, "python3", "-", journal];
            docker_with_input(&python, SEED)?;
            let size = docker(&[
                "exec",
                CONTAINER,
                "stat",
                "--format",
                "%s",
                "/data/bench.db",
            ])?;
            let mut rounds = Vec::new();
            for round in 0..self.rounds {
                say(&format!("writers of it, round {}", round + 1));
                rounds.push(self.waits()?);
            }
            let median = |of: fn(&Waits) -> u64| {
                let mut all: Vec<u64> = rounds.iter().map(of).collect();
                all.sort_unstable();
                all[all.len() / 2]
            };
            println!(
                "sqlite, {journal:<10} {:.0} MB: a writer waits {} ms at most while it is saved, {} ms else",
                size.parse::<f64>()? / 1e6,
                median(|waits| waits.while_saved),
                median(|waits| waits.alone),
            );
        }
        docker(&["rm", "--force", CONTAINER]).map(drop)
    }

    fn waits(&self) -> Result<Waits, Failure> {
        let pause = || {
            std::thread::sleep(std::time::Duration::from_secs(2));
            Ok(())
        };
        Ok(Waits {
            alone: longest_wait_during(pause)?,
            while_saved: longest_wait_during(|| {
                self.cofferdam(&["backup", "*/sqlite/*"]).map(drop)
            })?,
        })
    }
}

fn longest_wait_during(work: impl FnOnce() -> Result<(), Failure>) -> Result<u64, Failure> {
    let mut writer = Command::new("docker")
        .args(["exec", "--interactive", CONTAINER, "python3", "-c", WRITER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = writer.stdout.take().ok_or("no standard output")?;
    let mut begun = [0; 6];
    said.read_exact(&mut begun)?;
    let worked = work();
    // The end of its input is the writer's.
    drop(writer.stdin.take());
    let mut longest = String::new();
    said.read_to_string(&mut longest)?;
    writer.wait()?;
    worked?;
    Ok(longest.trim().parse()?)
}

const SEED: &str = r#"
import os, sqlite3, sys
if os.path.exists("/data/bench.db"):
    os.remove("/data/bench.db")
db = sqlite3.connect("/data/bench.db")
db.execute(f"PRAGMA journal_mode = {sys.argv[1]}")
db.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY, text)")
db.executemany("INSERT INTO notes (text) VALUES (?)", ((os.urandom(500).hex(),) for _ in range(400_000)))
db.commit()
"#;

const WRITER: &str = r#"
import select, sqlite3, sys, time
db = sqlite3.connect("/data/bench.db", timeout=600, isolation_level=None)
longest = 0
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    start = time.monotonic()
    db.execute("INSERT INTO notes (text) VALUES ('one more')")
    longest = max(longest, time.monotonic() - start)
print(round(longest * 1000))
"#;
