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
/// Cofferdam runs beside your stack and needs nothing but the Docker socket. Labels on your containers say what is saved:
/// databases are dumped inside their own containers, volumes and directories are archived, and containers that must hold
/// still meanwhile are stopped or paused, and started again.
#[derive(Debug, Parser)]
#[command(
    name = "cofferdam",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
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
  See what your labels amount to, and what they miss:
      cofferdam plan
  Back the project up, then look at what there is:
      cofferdam backup
      cofferdam list
  Put everything back as it was in the newest snapshot:
      cofferdam restore latest
  Put one database back, out of a snapshot of that day:
      cofferdam restore 20261121 postgres-db/postgres/clinical
  Restore from outside the stack:
      docker run --rm -it -v /var/run/docker.sock:/var/run/docker.sock -v backups:/backups \\
          cofferdam restore latest --project candigv2

Variables of the engine: DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH mean what they mean to `docker`.

Exit codes:
    0  done
    1  failed: what was there before stands
    2  the command line, a variable or a label is wrong: nothing was begun
    3  partly done: some targets failed, the others are safe
    4  a check found something: a damaged or stale snapshot
    5  another run holds the project, or it changed after the plan
  130  interrupted, and everything put back in order";

/// What also the environment may say. All are as they were typed; [`crate::config`] reads them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Where snapshots live: a directory, as `/path`, or a URL of a server
    ///
    /// `s3://bucket/prefix?endpoint=https://…`, `az://container/prefix?account=…` and `gs://bucket/prefix` name object stores.
    /// `webdav+https://host/path` and `sftp://user@host/path?key-file=…&known-hosts=…` name other servers. Keys and passwords
    /// are taken from variables (`AWS_ACCESS_KEY_ID`, `WEBDAV_PASSWORD_FILE`, …) or from the file that `credentials-file=` names.
    ///
    /// [env: COFFERDAM_REPOSITORY] [default: /backups]
    #[arg(long, global = true, value_name = "URL")]
    pub repository: Option<String>,

    /// Never create a repository: fail if there is none
    ///
    /// Also for second places. By default, one is created where none was used before. [env: COFFERDAM_EXISTING=true]
    #[arg(long, global = true)]
    pub existing: bool,

    /// Use only the repository with this id, and never create one
    ///
    /// A backup that makes a repository prints its id, and the file cofferdam.json in it tells it too.
    /// [env: COFFERDAM_REPOSITORY_ID]
    #[arg(long, global = true, value_name = "ID")]
    pub repository_id: Option<String>,

    /// A project to work on; may be given several times
    ///
    /// [env: COFFERDAM_PROJECTS, separated by commas] [default: the compose project that cofferdam runs in]
    #[arg(long = "project", global = true, value_name = "NAME")]
    pub projects: Vec<String>,

    /// Work on every project of the engine
    ///
    /// [env: COFFERDAM_ALL_PROJECTS=true]
    #[arg(long, global = true, conflicts_with = "projects")]
    pub all_projects: bool,

    /// A manager of the engine's swarm, as `tcp://HOST:2376`, where the engine is none itself
    ///
    /// Services are scaled through it. May be given several times: whichever answers is asked. DOCKER_TLS_VERIFY and
    /// DOCKER_CERT_PATH go for it too. [env: COFFERDAM_SWARM_MANAGER, separated by commas]
    #[arg(long, global = true, value_name = "URL")]
    pub swarm_manager: Vec<String>,

    /// A second place that gets each new snapshot, as a URL or directory; may be given several times
    ///
    /// [env: COFFERDAM_COPY_TO, separated by commas]
    #[arg(long, global = true, value_name = "URL")]
    pub copy_to: Vec<String>,

    /// Which snapshots stay in the second places, as `within=24h,daily=30,monthly=12`
    ///
    /// [env: COFFERDAM_COPY_KEEP] [default: all stay]
    #[arg(long, global = true, value_name = "RULES")]
    pub copy_keep: Option<String>,

    /// How stored data is compressed: `zstd[:1-19]`, `gzip[:1-9]` or `none`
    ///
    /// [env: COFFERDAM_COMPRESSION] [default: zstd:3]
    #[arg(long, global = true, value_name = "HOW")]
    pub compression: Option<String>,

    /// Which snapshots stay, as `within=24h,daily=7,weekly=4`
    ///
    /// The rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within` (`within=48h`). What none of them
    /// keeps is removed after a backup, and by `prune`; what is pinned, and for a day what was made by hand, stays. The label `cofferdam.keep` gives the targets of a container rules of
    /// their own. [env: COFFERDAM_KEEP] [default: all stay]
    #[arg(long, global = true, value_name = "RULES")]
    pub keep: Option<String>,

    /// When the daemon backs up: cron, `@daily`, `every 6h`, or `off` for when it is asked to
    ///
    /// Cron patterns have five fields, or six with seconds first, and mean the clock of `--time-zone`. The label
    /// `cofferdam.schedule` gives the targets of a container a schedule of their own. [env: COFFERDAM_SCHEDULE]
    /// [default: @daily]
    #[arg(long, global = true, value_name = "WHEN")]
    pub schedule: Option<String>,

    /// Up to how much later than its time a scheduled backup begins, as `10m`
    ///
    /// How much it is depends on the project and the day, so that many hosts do not begin at the same moment.
    /// [env: COFFERDAM_JITTER] [default: 0s]
    #[arg(long, global = true, value_name = "TIME")]
    pub jitter: Option<String>,

    /// Where the daemon shows how things are, as `127.0.0.1:8080` or `:8080`
    ///
    /// A status page, metrics for Prometheus, a health check, and a way to ask for a backup. Beyond this host it wants the
    /// variable COFFERDAM_TOKEN or COFFERDAM_TOKEN_FILE. [env: COFFERDAM_LISTEN] [default: nowhere]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Encrypt to this age recipient, `age1…`; may be given several times
    ///
    /// The identity of any one of them opens it. [env: COFFERDAM_RECIPIENTS or COFFERDAM_RECIPIENTS_FILE, separated by commas
    /// or lines] [default: not encrypted]
    #[arg(long = "recipient", global = true, value_name = "KEY")]
    pub recipients: Vec<String>,

    /// Encrypt with, and read with, the passphrase in this file
    ///
    /// [env: COFFERDAM_PASSPHRASE or COFFERDAM_PASSPHRASE_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Read with the age identities in this file, as `age-keygen` writes it
    ///
    /// For restore, ls, export, verify --read and recover; a backup needs none. [env: COFFERDAM_IDENTITY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,

    /// Time zone of the times that are shown, as `Europe/Berlin`
    ///
    /// Also of the days and weeks that `--keep` counts. [env: TZ] [default: UTC]
    #[arg(long, global = true, value_name = "NAME")]
    pub time_zone: Option<String>,

    /// How much is logged: `error`, `warn`, `info`, `debug` or `trace`
    ///
    /// Also by module, as `info,cofferdam::engine=debug`. Logs go to standard error. [env: COFFERDAM_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,

    /// How it is logged: `text` or `json`
    ///
    /// [env: COFFERDAM_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Where to tell when a check finds something or a backup fails, as a URL; may be given several times
    ///
    /// `slack://…`, `discord://…`, `telegram://…`, `ntfy://…`, `gotify://…` and `generic://…` (a webhook) are written as
    /// shoutrrr has them; `hc+https://…` is asked for when a backup begins and ends, as healthchecks.io wants it. URLs hold
    /// secrets, which arguments show to everybody on the machine: better give a file. The page docs/notifications.md tells
    /// the rest, and of COFFERDAM_NOTIFY_TEMPLATE[_FILE] and COFFERDAM_NOTIFY_CA_FILE. [env: COFFERDAM_NOTIFY or
    /// COFFERDAM_NOTIFY_FILE, separated by commas or lines]
    #[arg(long, global = true, value_name = "URL", value_parser = secret)]
    pub notify: Vec<Secret>,

    /// What is told: some of `failure`, `recovery`, `stale` and `success`, with commas between them
    ///
    /// Also by mail. `hc+https://…` is always told all of it. [env: COFFERDAM_NOTIFY_ON] [default: failure,recovery,stale]
    #[arg(long, global = true, value_name = "KINDS")]
    pub notify_on: Option<String>,

    /// Whom to send mail when a check finds something or a backup fails
    ///
    /// May be given several times. [env: COFFERDAM_MAIL_TO, separated by commas]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub mail_to: Vec<String>,

    /// Whom the mail comes from
    ///
    /// [env: COFFERDAM_MAIL_FROM]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub mail_from: Option<String>,

    /// The mail server: `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`
    ///
    /// Without encryption it is `smtp://HOST[:25]` on this machine, and `smtp+plain://HOST[:25]` elsewhere. The variables
    /// COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE] log in, and COFFERDAM_SMTP_CA_FILE names the certificate of an
    /// authority of your own. [env: COFFERDAM_SMTP_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub smtp_url: Option<String>,

    /// Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`
    ///
    /// [env: COFFERDAM_STATUS_DIR] [default: `status` in the repository]
    #[arg(long, global = true, value_name = "DIR")]
    pub status_dir: Option<String>,

    /// Print one JSON document on standard output, and nothing else there
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
