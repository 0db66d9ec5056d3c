//! The daemon that waits, and the plan of a large stack. Limits are absolute: there is nothing to compare them with.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Bench, Failure, PROJECT, docker, median, say};

const IMAGE: &str = "cofferdam-test/busybox:1";
const CONTAINERS: usize = 300;
/// Of them, so many have something to save.
const STORES: usize = 10;

const LONGEST_PLAN: Duration = Duration::from_millis(500);
/// Of the time that the engine takes for listing the processes of each container, one question each.
const MOST_AUDIT: f64 = 1.3;
/// Most of it is the program itself, as far as the kernel maps it.
const MOST_RESIDENT_KIB: u64 = 15 * 1024;
/// In which the daemon may do nothing.
const IDLE: Duration = Duration::from_secs(60);
const MOST_TICKS: u64 = 5;

fn names() -> Vec<String> {
    let numbers = 0..CONTAINERS;
    numbers
        .map(|number| format!("cofferdam-bench-many-{number}"))
        .collect()
}

pub fn tidy_up() {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Many at once is what engines have been seen to hang in for good.
    for names in names.chunks(4) {
        let _ = docker(&[&["rm", "--force", "--volumes"], names].concat());
    }
    let _ = docker(&[&["volume", "rm", "--force"], &names[..STORES]].concat());
}

impl Bench {
    /// Prints what it finds; whether all of it is within the limits.
    pub fn sidecar(&self) -> Result<bool, Failure> {
        say(&format!("starting {CONTAINERS} containers"));
        start_containers()?;
        let plan = self.plan()?;
        let idle = self.idle()?;
        say("removing them");
        tidy_up();
        Ok(plan && idle)
    }

    fn plan(&self) -> Result<bool, Failure> {
        let plan = self.timed("plan", || self.cofferdam(&["plan", "--no-audit"]))?;
        println!(
            "sidecar, plan of {CONTAINERS} containers: {:.2} s; at most {:.2} s",
            plan.as_secs_f64(),
            LONGEST_PLAN.as_secs_f64()
        );
        let questions = self.work.join("processes");
        fs::write(&questions, questions_for_processes())?;
        let engine = self.timed("the processes of all", || list_processes(&questions))?;
        let audited = self.timed("audited plan", || self.cofferdam(&["plan"]))?;
        let ratio = audited.as_secs_f64() / engine.as_secs_f64();
        println!(
            "sidecar, with the audit: {:.2} s; the engine lists all processes in {:.2} s: {ratio:.2}, at most {MOST_AUDIT}",
            audited.as_secs_f64(),
            engine.as_secs_f64(),
        );
        Ok(plan <= LONGEST_PLAN && ratio <= MOST_AUDIT)
    }

    fn timed<T>(
        &self,
        what: &str,
        work: impl Fn() -> Result<T, Failure>,
    ) -> Result<Duration, Failure> {
        let mut taken = Vec::new();
        for round in 0..self.rounds.max(5) {
            say(&format!("{what}, round {}", round + 1));
            let start = Instant::now();
            work()?;
            taken.push(start.elapsed());
        }
        Ok(median(&taken))
    }

    fn idle(&self) -> Result<bool, Failure> {
        say("an idle daemon");
        let mut command = Command::new(&self.cofferdam);
        command
            .args(["daemon", "--schedule", "@yearly", "--project", PROJECT])
            .arg("--repository")
            .arg(self.work.join("idle"))
            // As in its image.
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let daemon = Daemon(command.spawn()?);
        // Its first look at everything.
        std::thread::sleep(Duration::from_secs(15));
        let before = daemon.ticks()?;
        std::thread::sleep(IDLE);
        let ticks = daemon.ticks()? - before;
        let resident = daemon.status("VmRSS:")?;
        let own = daemon.status("RssAnon:")?;
        let seconds = IDLE.as_secs();
        println!(
            "sidecar, idle: {:.1} MiB resident (at most {} MiB), {:.1} MiB of it its own, {ticks} ticks of 10 ms in {seconds} s (at most {MOST_TICKS})",
            resident as f64 / 1024.0,
            MOST_RESIDENT_KIB / 1024,
            own as f64 / 1024.0,
        );
        Ok(resident <= MOST_RESIDENT_KIB && ticks <= MOST_TICKS)
    }
}

/// For `curl --config`.
fn questions_for_processes() -> String {
    let questions = names().into_iter().map(|name| {
        format!("url = \"http://engine/containers/{name}/top?ps_args=-eo%20pid,stat,comm\"\noutput = /dev/null\n")
    });
    questions.collect()
}

/// As fast as the engine can do it, without us.
fn list_processes(questions: &Path) -> Result<(), Failure> {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--fail",
        "--unix-socket",
        "/var/run/docker.sock",
    ])
    .args(["--parallel", "--parallel-max", "8", "--config"])
    .arg(questions)
    // Its progress, which `--silent` does not silence here.
    .stderr(Stdio::null());
    if !curl.status()?.success() {
        return Err("curl failed".into());
    }
    Ok(())
}

/// Four at a time.
fn start_containers() -> Result<(), Failure> {
    for (part, names) in names().chunks(4).enumerate() {
        let started = names.iter().enumerate().map(|(at, name)| {
            let mut command = Command::new("docker");
            command
                .args(["run", "--detach", "--network", "none", "--name", name])
                .args(["--label", "cofferdam.test=1"])
                .args(["--label", &format!("cofferdam.project={PROJECT}")]);
            if part * 4 + at < STORES {
                command
                    .args(["--label", "cofferdam.volumes=*", "--volume"])
                    .arg(format!("{name}:/data"));
            }
            command
                .args([IMAGE, "sleep", "86400"])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            command.spawn()
        });
        for child in started.collect::<Vec<_>>() {
            if !child?.wait()?.success() {
                return Err("a container did not start".into());
            }
        }
    }
    Ok(())
}

struct Daemon(Child);

impl Daemon {
    /// A value of proc_pid_status(5), in KiB.
    fn status(&self, field: &str) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("no such field")?.parse()?)
    }

    /// The time that it has used, for itself and in the kernel: utime and stime of proc_pid_stat(5).
    fn ticks(&self) -> Result<u64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
