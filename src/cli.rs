//! The command line, as types. What the flags mean together with the environment is [`crate::config`]'s.
//!
//! Settings that hold from run to run can also be given as variables. What belongs to one command (`--yes`, `--dry-run`,
//! …) cannot: an environment must not answer, long after, a question that it was never asked.

mod arguments;

pub use arguments::{
    AgentArgs, BackupArgs, CheckArgs, CompletionsArgs, CopyArgs, DaemonArgs, ExportArgs,
    HealthArgs, ListArgs, LsArgs, PinArgs, PlanArgs, PruneArgs, RecoverArgs, RestoreArgs, ShowArgs,
    UnpinArgs, VerifyArgs,
};

use std::convert::Infallible;
use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand};

use crate::secret::Secret;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Back up and restore container stacks, driven by labels.
///
/// Cofferdam runs beside your stack and needs nothing but the Docker socket. Labels on your containers say what to
/// save: Cofferdam dumps databases inside their own containers, archives volumes and directories, and stops or pauses
/// containers that must not change their data meanwhile, then starts them again.
#[derive(Debug, Parser)]
#[command(
    name = "cofferdam",
    version,
    styles = STYLES,
    max_term_width = 100,
    after_long_help = TOP
)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Command,
}

const TOP: &str = "\
Examples:
  See what a backup would do, and what your labels miss:
      cofferdam plan
  Back up the project, then list its snapshots:
      cofferdam backup
      cofferdam list
  Restore everything from the newest snapshot:
      cofferdam restore latest
  Restore one database from a snapshot of that day:
      cofferdam restore 20261121 postgres-db/postgres/clinical
  Restore from outside the stack:
      docker run --rm -it -v /var/run/docker.sock:/var/run/docker.sock -v backups:/backups \\
          cofferdam restore latest --project candigv2

DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH work as they do for `docker`.

Exit codes:
    0  done
    1  failed; existing data is unchanged
    2  the command line, a variable or a label is wrong; nothing was started
    3  partly done: some targets failed, the others are safe
    4  a check found a problem: a damaged or stale snapshot
    5  another run holds the project, or it changed after planning
  130  interrupted; everything was put back in order";

/// What also the environment may say. All are as they were typed; [`crate::config`] reads them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Where to store snapshots: a directory, as `/path`, or the URL of a server
    ///
    /// Object stores: `s3://bucket/prefix?endpoint=https://…`, `az://container/prefix?account=…` and
    /// `gs://bucket/prefix`. Other servers: `webdav+https://host/path` and
    /// `sftp://user@host/path?key-file=…&known-hosts=…`. Keys and passwords come from variables (`AWS_ACCESS_KEY_ID`,
    /// `WEBDAV_PASSWORD_FILE`, …) or from the file given as `credentials-file=`.
    ///
    /// [env: COFFERDAM_REPOSITORY] [default: /backups]
    #[arg(long, global = true, value_name = "URL")]
    pub repository: Option<String>,

    /// Never create a repository; fail if there is none
    ///
    /// Applies to second places too. By default, a repository is created where none was used before. [env:
    /// COFFERDAM_EXISTING=true]
    #[arg(long, global = true)]
    pub existing: bool,

    /// Use only the repository with this id, and never create one
    ///
    /// A backup that creates a repository prints its id; it is also in the repository's cofferdam.json. [env:
    /// COFFERDAM_REPOSITORY_ID]
    #[arg(long, global = true, value_name = "ID")]
    pub repository_id: Option<String>,

    /// A project to work on; may be given several times
    ///
    /// [env: COFFERDAM_PROJECTS, separated by commas] [default: the compose project that cofferdam runs in]
    #[arg(long = "project", global = true, value_name = "NAME")]
    pub projects: Vec<String>,

    /// Work on every project on the engine
    ///
    /// [env: COFFERDAM_ALL_PROJECTS=true]
    #[arg(long, global = true, conflicts_with = "projects")]
    pub all_projects: bool,

    /// A manager of the engine's swarm, as `tcp://HOST:2376`, if the engine itself is not one
    ///
    /// Cofferdam scales services through it. May be given several times: any one that answers is used.
    /// DOCKER_TLS_VERIFY and DOCKER_CERT_PATH apply to it too. [env: COFFERDAM_SWARM_MANAGER, separated by commas]
    #[arg(long, global = true, value_name = "URL")]
    pub swarm_manager: Vec<String>,

    /// A second place to copy each new snapshot to, as a URL or directory; may be given several times
    ///
    /// [env: COFFERDAM_COPY_TO, separated by commas]
    #[arg(long, global = true, value_name = "URL")]
    pub copy_to: Vec<String>,

    /// Which snapshots to keep in the second places, as `within=24h,daily=30,monthly=12`
    ///
    /// [env: COFFERDAM_COPY_KEEP] [default: keep all]
    #[arg(long, global = true, value_name = "RULES")]
    pub copy_keep: Option<String>,

    /// How to compress stored data: `zstd[:1-19]`, `gzip[:1-9]` or `none`
    ///
    /// [env: COFFERDAM_COMPRESSION] [default: zstd:3]
    #[arg(long, global = true, value_name = "HOW")]
    pub compression: Option<String>,

    /// Which snapshots to keep, as `within=24h,daily=7,weekly=4`
    ///
    /// The rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within` (`within=48h`). Each
    /// backup, and `prune`, removes the snapshots that no rule keeps, except those that are pinned, and for a day
    /// those made by hand. The label `cofferdam.keep` sets separate rules for a container's targets. [env:
    /// COFFERDAM_KEEP] [default: keep all]
    #[arg(long, global = true, value_name = "RULES")]
    pub keep: Option<String>,

    /// When the daemon backs up: cron, `@daily`, `every 6h`, or `off` to back up only on request
    ///
    /// Cron patterns have five fields, or six with seconds first, and follow `--time-zone`. The label
    /// `cofferdam.schedule` sets a separate schedule for a container's targets. [env: COFFERDAM_SCHEDULE] [default:
    /// @daily]
    #[arg(long, global = true, value_name = "WHEN")]
    pub schedule: Option<String>,

    /// Longest delay before a scheduled backup begins, as `10m`
    ///
    /// The delay depends on the project and the day, so that many hosts do not start at the same moment. [env:
    /// COFFERDAM_JITTER] [default: 0s]
    #[arg(long, global = true, value_name = "TIME")]
    pub jitter: Option<String>,

    /// Where the daemon serves its status page and metrics, as `127.0.0.1:8080` or `:8080`
    ///
    /// It also serves a health check, and takes requests for backups. To listen beyond this host, set COFFERDAM_TOKEN
    /// or COFFERDAM_TOKEN_FILE. [env: COFFERDAM_LISTEN] [default: off]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Encrypt backups to this age recipient, `age1…`; may be given several times
    ///
    /// Any one recipient's identity can decrypt them. [env: COFFERDAM_RECIPIENTS or COFFERDAM_RECIPIENTS_FILE, separated
    /// by commas or lines] [default: not encrypted]
    #[arg(long = "recipient", global = true, value_name = "KEY")]
    pub recipients: Vec<String>,

    /// Encrypt and decrypt with the passphrase in this file
    ///
    /// [env: COFFERDAM_PASSPHRASE or COFFERDAM_PASSPHRASE_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Decrypt with the age identities in this file, as `age-keygen` writes it
    ///
    /// For restore, ls, export, verify --read and recover; a backup needs none. [env: COFFERDAM_IDENTITY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,

    /// Time zone for displayed times, as `Europe/Berlin`
    ///
    /// Also for the days and weeks that `--keep` counts. [env: TZ] [default: UTC]
    #[arg(long, global = true, value_name = "NAME")]
    pub time_zone: Option<String>,

    /// Log level: `error`, `warn`, `info`, `debug` or `trace`
    ///
    /// Can be set for single modules, as `info,cofferdam::engine=debug`. Logs go to standard error. [env:
    /// COFFERDAM_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,

    /// Log format: `text` or `json`
    ///
    /// [env: COFFERDAM_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// URL to notify when a check finds a problem or a backup fails; may be given several times
    ///
    /// `slack://…`, `discord://…`, `telegram://…`, `ntfy://…`, `gotify://…` and `generic://…` (a webhook) are written
    /// as in shoutrrr; `hc+https://…` is pinged when a backup begins and ends, as healthchecks.io expects. URLs hold
    /// secrets, and everybody on the machine can see arguments: prefer a file. For the details, and for
    /// COFFERDAM_NOTIFY_TEMPLATE[_FILE] and COFFERDAM_NOTIFY_CA_FILE, see docs/notifications.md. [env:
    /// COFFERDAM_NOTIFY or COFFERDAM_NOTIFY_FILE, separated by commas or lines]
    #[arg(long, global = true, value_name = "URL", value_parser = secret)]
    pub notify: Vec<Secret>,

    /// When to notify: any of `failure`, `recovery`, `stale` and `success`, separated by commas
    ///
    /// Applies to mail too. `hc+https://…` is always notified. [env: COFFERDAM_NOTIFY_ON] [default:
    /// failure,recovery,stale]
    #[arg(long, global = true, value_name = "KINDS")]
    pub notify_on: Option<String>,

    /// Recipient of mail when a check finds a problem or a backup fails
    ///
    /// May be given several times. [env: COFFERDAM_MAIL_TO, separated by commas]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub mail_to: Vec<String>,

    /// Sender of mail
    ///
    /// [env: COFFERDAM_MAIL_FROM]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub mail_from: Option<String>,

    /// Mail server: `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`
    ///
    /// Without encryption, use `smtp://HOST[:25]` on this machine, or `smtp+plain://HOST[:25]` elsewhere. To log in,
    /// set COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE]. If the server's certificate comes from your own
    /// authority, set COFFERDAM_SMTP_CA_FILE to that authority's certificate. [env: COFFERDAM_SMTP_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub smtp_url: Option<String>,

    /// Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`
    ///
    /// [env: COFFERDAM_STATUS_DIR] [default: `status` in the repository]
    #[arg(long, global = true, value_name = "DIR")]
    pub status_dir: Option<String>,

    /// Print one JSON document on standard output, and nothing else
    ///
    /// [env: COFFERDAM_JSON=true]
    #[arg(long, global = true)]
    pub json: bool,
}

/// Never fails: a failure would be told with the value.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Plan(PlanArgs),
    Backup(BackupArgs),
    List(ListArgs),
    Show(ShowArgs),
    Ls(LsArgs),
    Restore(RestoreArgs),
    Export(ExportArgs),
    Verify(VerifyArgs),
    Copy(CopyArgs),
    Check(CheckArgs),
    Prune(PruneArgs),
    Pin(PinArgs),
    Unpin(UnpinArgs),
    Daemon(DaemonArgs),
    Health(HealthArgs),
    Recover(RecoverArgs),
    Completions(CompletionsArgs),
    Agent(AgentArgs),
}

#[cfg(test)]
mod tests;
