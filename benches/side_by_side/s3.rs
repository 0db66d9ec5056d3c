//! A real S3 server: uploads against `rclone`, and what a list of very many snapshots costs.
//!
//! Every upload meets a server that was just started: it stores a block that it has seen before only once.
//!
//! Environment: `BENCH_S3_MB` (of the artifact, default 1000), `BENCH_S3_SNAPSHOTS` (default 10000).

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cofferdam::manifest::{Manifest, ObjectPath};
use cofferdam::repository::Repository;
use cofferdam::target::RunId;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::proxy::FaultProxy;
use crate::support::s3::{Garage, KEYS, repository_at, url_at, with_keys};
use crate::{Bench, Failure, PROJECT, Row, median, output, print_rows, say, shell, timed};

/// The argument that makes this program upload, and do nothing else.
pub const PUT: &str = "put";

/// Of the time of `rclone`.
const LIMIT: f64 = 1.0;
const AT_A_TIME: usize = 4;
/// In KiB, with [`AT_A_TIME`] uploads in flight.
const MOST_MEMORY: u64 = 128 * 1024;
/// Manifests that are planted at the same time.
const PLANTERS: usize = 32;

/// Uploads a file, as this many artifacts at the same time.
pub fn put(url: &str, file: &Path, copies: usize) -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        let repository = repository_at(url);
        repository.prepare().await?;
        let id = RunId::generate(Timestamp::now());
        let uploads = (0..copies).map(async |copy| -> Result<(), Failure> {
            let object = ObjectPath::new(PROJECT, &id, &format!("artifact-{copy}"))?;
            let body = tokio::fs::File::open(file).await?;
            repository.put(&object, Box::pin(body)).await?;
            Ok(())
        });
        future::try_join_all(uploads).await?;
        Ok(())
    })
}

impl Bench {
    pub fn s3(&self) -> Result<bool, Failure> {
        let file = self.work.join("artifact");
        let megabytes = number("BENCH_S3_MB", 1000)?;
        say(&format!("making an artifact of {megabytes} MB"));
        let path = file.display();
        shell(&format!(
            "head --bytes {megabytes}MB /dev/urandom > '{path}' && sync '{path}'"
        ))?;

        let mut streamed = Row::new("upload to S3, rcat", LIMIT);
        let mut copied = Row::new("… and copyto", LIMIT);
        for round in 0..self.rounds {
            say(&format!("upload, round {}", round + 1));
            let ours = upload(|garage| own_put(garage, &file, 1))?;
            streamed.ours.push(ours);
            copied.ours.push(ours);
            streamed.theirs.push(upload(|garage| {
                let mut command = rclone(garage, &["rcat", "bench:backups/artifact"]);
                command.stdin(File::open(&file)?);
                Ok(command)
            })?);
            copied.theirs.push(upload(|garage| {
                let file = file.display().to_string();
                Ok(rclone(garage, &["copyto", &file, "bench:backups/artifact"]))
            })?);
        }
        let good = print_rows(&[streamed, copied]);
        let peak = self.peak_of_uploads(&file)?;
        println!(
            "{AT_A_TIME} uploads at once   peak memory {:.1} MiB (at most {} MiB)",
            peak as f64 / 1024.0,
            MOST_MEMORY / 1024
        );
        Ok(good && peak <= MOST_MEMORY)
    }

    /// In KiB, as GNU time reports it.
    fn peak_of_uploads(&self, file: &Path) -> Result<u64, Failure> {
        say(&format!("{AT_A_TIME} uploads at once"));
        let report = self.work.join("time");
        upload(|garage| {
            let put = own_put(garage, file, AT_A_TIME)?;
            let mut command = Command::new("/usr/bin/time");
            command.args(["--format", "%M", "--output"]).arg(&report);
            command.arg(put.get_program()).args(put.get_args());
            Ok(command)
        })?;
        Ok(fs::read_to_string(report)?.trim().parse()?)
    }

    /// Prints what it costs. It is no contest: there is no limit.
    pub fn s3_list(&self) -> Result<(), Failure> {
        let count = number("BENCH_S3_SNAPSHOTS", 10_000)?;
        self.start_app(0)?;
        let garage = Garage::start();
        let url = garage.url("many");
        self.cofferdam_at(&url, &["backup", "*/volume/*"])?;
        say(&format!("making {count} snapshots"));
        Runtime::new()?.block_on(plant(&*repository_at(&url), count))?;

        let mut times = Vec::new();
        for round in 0..self.rounds {
            say(&format!("a list of them, round {}", round + 1));
            times.push(timed(|| {
                let listed = self.cofferdam_at(&url, &["list", "--json"])?;
                let listed: Vec<Value> = serde_json::from_str(&listed)?;
                match listed.len() == count {
                    true => Ok(()),
                    false => Err(format!("{} are listed", listed.len()).into()),
                }
            })?);
        }
        let proxy = FaultProxy::before(&garage.address());
        let counted = url_at(&proxy.address().to_string(), "many");
        self.cofferdam_at(&counted, &["list"])?;
        println!(
            "list on S3         {count} snapshots: {:.2}s, {} requests",
            median(&times).as_secs_f64(),
            proxy.seen().len()
        );
        Ok(())
    }

    fn cofferdam_at(&self, url: &str, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.cofferdam);
        command.args(arguments);
        command.args(["--project", PROJECT, "--repository", url]);
        with_keys(&mut command);
        output(command)
    }
}

/// Brings the repository, which holds one snapshot, to `count` of them. They name the same objects.
async fn plant(repository: &dyn Repository, count: usize) -> Result<(), Failure> {
    let listed = repository.list(None).await?;
    let first = repository
        .manifest(listed.first().ok_or("no snapshot")?)
        .await?;
    let manifests = (1..count).map(|minutes| {
        let started = first.started + i64::try_from(minutes).unwrap_or(i64::MAX).minutes();
        Manifest {
            snapshot: RunId::generate(started),
            started,
            finished: started,
            ..first.clone()
        }
    });
    stream::iter(manifests)
        .map(async |manifest| repository.commit(&manifest).await)
        .buffer_unordered(PLANTERS)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// How long a program takes with a server that was just started.
fn upload(program: impl FnOnce(&Garage) -> Result<Command, Failure>) -> Result<Duration, Failure> {
    let garage = Garage::start();
    let command = program(&garage)?;
    timed(|| output(command))
}

fn own_put(garage: &Garage, file: &Path, copies: usize) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let copies = copies.to_string();
    command
        .args([PUT, &garage.url("bench")])
        .arg(file)
        .arg(copies);
    Ok(command)
}

fn rclone(garage: &Garage, arguments: &[&str]) -> Command {
    let [(_, key), (_, secret)] = KEYS;
    let mut command = Command::new("rclone");
    command
        .args(["--config", "/dev/null"])
        .args(arguments)
        .envs([
            ("RCLONE_CONFIG_BENCH_TYPE", "s3"),
            ("RCLONE_CONFIG_BENCH_PROVIDER", "Other"),
            ("RCLONE_CONFIG_BENCH_REGION", "garage"),
            ("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", key),
            ("RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY", secret),
        ]);
    let endpoint = format!("http://{}", garage.address());
    // With this one, which is for other programs, it does not even start.
    command.env_remove("AWS_CA_BUNDLE");
    command.env("RCLONE_CONFIG_BENCH_ENDPOINT", endpoint);
    command
}

fn number(variable: &str, default: usize) -> Result<usize, Failure> {
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}
