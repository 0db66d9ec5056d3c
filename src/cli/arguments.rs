//! What each command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::history::retention::Despite;
use crate::history::selectors::{SnapshotSelector, TargetMap, TargetPattern};
use crate::repository::pin::PinName;
use crate::snapshot::verify::PartChoice;
use crate::target::TargetId;

/// Show what a backup would do, and what the labels miss
///
/// Reads the labels of the project's containers and prints the targets, the order in which containers are held, and the
/// hooks. Named volumes and databases that no label saves are listed too, each with the label to add. Changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam plan
  cofferdam plan --all-projects
  cofferdam plan --project candigv2 --json | jq '.targets[].id'")]
pub struct PlanArgs {
    /// Do not look for what labels leave unprotected, and for what could not be put back: it takes the engine some seconds to
    /// list the processes of hundreds of containers
    #[arg(long)]
    pub no_audit: bool,
}

/// Back the project up
///
/// Takes a snapshot: dumps databases, archives volumes and files, and writes a manifest last, which makes the snapshot
/// exist. Containers labelled with `cofferdam.stop` or `cofferdam.pause` are held meanwhile and released whatever happens.
/// When some targets fail, the others are kept, the snapshot says which ones failed, and the exit code is 3.
///
/// What is made by this command stays for 24 hours at least, whatever the rules of `--keep` say.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything that labels ask for:
      cofferdam backup
  Only the databases of one service, or only volumes:
      cofferdam backup 'postgres-db/*'
      cofferdam backup '*/volume/*'
  Encrypted, so that only the holder of an identity can read it:
      cofferdam backup --recipient age1…
  Before an upgrade, to be kept until it is unpinned:
      cofferdam backup --pin before-upgrade
  After the disk with the repository was lost, into an empty one:
      cofferdam backup --new-repository
  See what would be done:
      cofferdam backup --dry-run")]
pub struct BackupArgs {
    /// Targets to save, by id (`service/driver/name`) or by a pattern over ids [default: all]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,

    /// Print the plan and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,

    /// Pin the snapshot under this name: no rule removes it until `cofferdam unpin`
    #[arg(long, value_name = "NAME")]
    pub pin: Option<PinName>,

    /// Create a new repository although the one used before is missing; a backup never does this on its own
    #[arg(long)]
    pub new_repository: bool,

    /// Targets whose data has become far smaller on purpose: their size in this snapshot is the measure from now on, and does
    /// not keep older ones from being pruned; may be given several times
    ///
    /// [env: COFFERDAM_MAY_SHRINK, separated by commas: of every backup, where it has such a target]
    #[arg(long, value_name = "TARGET")]
    pub may_shrink: Vec<TargetPattern>,
}

/// List snapshots
///
/// Newest last. Shows the project's own snapshots; those of all projects with `--all-projects`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam list
  cofferdam list --all-projects
  cofferdam list --json | jq -r '.[-1].snapshot'")]
pub struct ListArgs {}

/// Show one snapshot: its targets, sizes, failures and warnings
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam show latest
  cofferdam show 20261121T02")]
pub struct ShowArgs {
    /// An id, a beginning of one that fits no other, or `latest`
    pub snapshot: SnapshotSelector,
}

/// Pin a snapshot: no rule removes it
///
/// The pin is a small file beside the manifest. A snapshot has one; another name takes its place. It goes with the snapshot
/// to second places when that is copied; later, pin it there too, with `--repository`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam pin latest before-upgrade
  cofferdam pin 20261121T02 'audit 2026'")]
pub struct PinArgs {
    /// An id, a beginning of one that fits no other, or `latest`
    pub snapshot: SnapshotSelector,

    /// What it is to be called in lists
    pub name: PinName,
}

/// Remove a snapshot's pin: `--keep` applies to it again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam unpin 20261121T02")]
pub struct UnpinArgs {
    /// An id, a beginning of one that fits no other, or `latest`
    pub snapshot: SnapshotSelector,
}

/// List the files of a volume or directory in a snapshot
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam ls latest vault/volume/vault-data
  cofferdam ls latest vault/volume/vault-data core/cluster")]
pub struct LsArgs {
    /// An id, a beginning of one that fits no other, or `latest`
    pub snapshot: SnapshotSelector,

    /// A target that holds files, by its id
    pub target: TargetPattern,

    /// A path in the target, relative to its root [default: all of it]
    pub path: Option<String>,
}

/// Put a snapshot back
///
/// All or nothing: what is old is given up only after every target has loaded and passed its check. A failure, a signal or a
/// crash before that ends with all of the old data in place. Containers labelled with `cofferdam.stop: restore` are stopped
/// first and started again in the order of their dependencies.
///
/// With `latest`, a target that failed in the newest snapshot comes from its newest good copy, which the plan and the report
/// tell. Exit code 3 means that a target has no good copy, and that the others are restored. With an id, only that snapshot is
/// read.
///
/// Asks before it begins; without a terminal, `--yes` must be given.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything, as it was in the newest snapshot:
      cofferdam restore latest
  What would be done:
      cofferdam restore latest --dry-run
  One database, without a question:
      cofferdam restore latest postgres-db/postgres/clinical --yes
  From an encrypted snapshot:
      cofferdam restore latest --identity-file key.txt
  One file and one directory out of a volume:
      cofferdam restore latest vault/volume/vault-data --path config.hcl --path core/cluster
  A copy for staging: into a stack that is up as project candig-staging, whose database service is called `db` there:
      cofferdam restore latest --project candig --to-project candig-staging --map postgres-db=db")]
pub struct RestoreArgs {
    /// An id, a beginning of one that fits no other, or `latest`: each target from the newest snapshot that was meant to hold it
    pub snapshot: SnapshotSelector,

    /// Targets to put back, by id (`service/driver/name`) or by a pattern over ids [default: all of the snapshot]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,

    /// Print the plan and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,

    /// Put back only this path of a volume or directory, relative to its root, with all below it; may be given several
    /// times. What else is there stays
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<String>,

    /// Keep the old databases beside the new ones, under other names and closed to connections
    #[arg(long)]
    pub keep_old: bool,

    /// Put back what there is, also where it is not all that was saved: a CouchDB database with fewer documents, a table with
    /// other rows. What is lost is printed
    #[arg(long)]
    pub accept_loss: bool,

    /// Take a snapshot of every target first, also of those that have another way back
    #[arg(long)]
    pub safety_snapshot: bool,

    /// Write trees over what is there, where there is no room for both; a snapshot taken first is the way back
    #[arg(long, conflicts_with = "keep_old")]
    pub in_place: bool,

    /// Put the data into this project instead, a stack that is up under another name: a copy for staging, for instance. The
    /// snapshot is then that of `--project`
    #[arg(long, value_name = "PROJECT")]
    pub to_project: Option<String>,

    /// What is called otherwise where the data goes: a service, as `db=database`, or one target, as
    /// `app/volume/shop_uploads=app/volume/staging_uploads`; may be given several times
    #[arg(long = "map", value_name = "OLD=NEW")]
    pub maps: Vec<TargetMap>,
}

/// Write a snapshot's dumps and archives to a directory
///
/// What is written needs no cofferdam to be used: databases as `pg_restore` and `psql` read them, volumes and files as tar
/// archives, nothing compressed, every digest checked. All or nothing, and nothing is written over.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam export latest ./rescued
  cofferdam export 20261121T02 ./rescued 'postgres-db/*'")]
pub struct ExportArgs {
    /// An id, a beginning of one that fits no other, or `latest`
    pub snapshot: SnapshotSelector,

    /// Where to write; created when it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Targets to export, by id (`service/driver/name`) or by a pattern over ids [default: all of the snapshot]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,
}

/// Check that snapshots are whole
///
/// Looks whether every object is there and has the right length; `--read` reads everything and checks every digest. What is
/// encrypted is read as it is stored, and with `--identity-file` decrypted, so that its content is checked too. Exits with 4
/// when something is missing or damaged.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam verify
  cofferdam verify latest --read
  cofferdam verify --read-part today/7
  cofferdam verify latest --read --identity-file key.txt
  cofferdam verify --all-projects --json")]
pub struct VerifyArgs {
    /// Snapshots to check: ids, beginnings of ids, or `latest` [default: all]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotSelector>,

    /// Read every object and check its digest
    #[arg(long)]
    pub read: bool,

    /// Read one part of the objects, as `2/7`; all parts together hold every object once. `today/7` takes another part each
    /// day, so that a daily run reads everything in a week
    #[arg(long, value_name = "PART", conflicts_with = "read")]
    pub read_part: Option<PartChoice>,
}

/// Check that every target has a recent good backup
///
/// Reads the repository alone; without an engine and `--project`, all projects in it are meant. A target is checked when
/// a snapshot names it, as saved or as failed, when an earlier check knew it, or when `--expect` names it. Exits with 4
/// when one has no good backup that is young enough, when objects of the newest one are missing, or when a snapshot
/// cannot be read or lies in the future; tells those whom `--notify` and `--mail-to` name.
///
/// A target stays in question when newer snapshots do not name it any more, for that may be a mistake: `--retired` says
/// that it is gone on purpose, and so does a `cofferdam.skip` label of its service.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  For cron, an hour after the nightly backup:
      cofferdam check --project shop --max-age 26h
  Databases every hour, whatever else there is:
      cofferdam check --max-age 90m --target '*/postgres/*'
  A target that must be there, and one that was given up:
      cofferdam check --project shop --expect db/postgres/shop --retired 'oldapp/*'
  Whether notifications arrive:
      cofferdam check --notify-test --mail-to ops@example.org")]
pub struct CheckArgs {
    /// How old the last good backup of a target may be, as `90m`, `26h` or `8d`
    #[arg(long, value_name = "AGE", default_value = "26h", value_parser = max_age)]
    pub max_age: Duration,

    /// Targets to check, by id (`service/driver/name`) or by a pattern over ids; may be given several times [default: all]
    #[arg(long = "target", value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,

    /// A target that must have a backup, even if the repository has never heard of it, by its id; may be given several times
    #[arg(long = "expect", value_name = "TARGET")]
    pub expected: Vec<TargetId>,

    /// A target that is gone on purpose, by id or pattern: it is not checked, and its status files are removed; may be given
    /// several times
    ///
    /// [env: COFFERDAM_RETIRED, separated by commas]
    #[arg(long, value_name = "TARGET")]
    pub retired: Vec<TargetPattern>,

    /// Write no status files
    #[arg(long)]
    pub no_status: bool,

    /// Only send a notification that says that they arrive, to everybody whom `--notify` and `--mail-to` name
    #[arg(long)]
    pub notify_test: bool,
}

fn max_age(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(age) if age >= Duration::from_secs(1) => Ok(age),
        _ => Err("an age is written as `90m`, `26h` or `8d`".to_owned()),
    }
}

/// Copy snapshots to second places
///
/// Sends what a place lacks, oldest first, to every place that `--copy-to` names. Each byte is checked against the digest in
/// the manifest on its way. Run again after an interruption, it goes on where it stopped. Exits with 3 when some snapshots or
/// places failed.
///
/// A backup does this by itself for what a place lacks of the project, but for what `--copy-keep` would remove there again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything that the second place lacks:
      cofferdam copy --copy-to s3://offsite/hospital
  One snapshot to a disk that was just plugged in:
      cofferdam copy latest --copy-to /mnt/disk/backups
  Everything, encrypted to a new key, after the old one was lost sight of:
      cofferdam copy --reencrypt --identity-file old-key.txt --recipient age1… --copy-to /mnt/disk/new")]
pub struct CopyArgs {
    /// Snapshots to copy: ids, beginnings of ids, or `latest` [default: all]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotSelector>,

    /// Create a new repository although the one used before is missing
    #[arg(long)]
    pub new_repository: bool,

    /// Encrypt the copies to the recipients that are given now; what is encrypted here is opened with `--identity-file`
    #[arg(long)]
    pub reencrypt: bool,
}

/// Remove the snapshots that no rule of `--keep` keeps
///
/// A backup does this by itself when there are rules. The last good copy of every target stays, whatever they say, so does what
/// is pinned, and for 24 hours what somebody has made by hand; what failed counts for nothing. When there is a doubt (a snapshot that cannot be read, one of the future, a target that failed
/// or has become far smaller), nothing of the project is removed, and the doubt is told.
///
/// Needs the repository only. Where an engine can be reached, what a restore is reading stays too.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  What would go, and why the rest stays:
      cofferdam prune --keep within=24h,daily=7,weekly=4 --dry-run
  From a machine that reaches only the repository:
      cofferdam prune --repository /mnt/backups --project shop --keep within=24h,daily=7,weekly=4
  A table was emptied on purpose, and this once it may be taken for good:
      cofferdam prune --despite shrunken")]
pub struct PruneArgs {
    /// Show what would go, and why the rest stays, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,

    /// Prune although there is this doubt; may be given several times
    #[arg(long, value_name = "DOUBT")]
    pub despite: Vec<Despite>,
}

/// Back up by schedule, as a service of the stack
///
/// Runs until it is stopped. Each target is saved when its schedule says so: that of the label `cofferdam.schedule` of its
/// container, or `--schedule`. Labels are read again whenever containers come or go. A backup that was missed while the host
/// was down is made once, at the start. When a container labelled `cofferdam.trigger: exit` has exited with 0, its project is
/// saved at once. Two backups never run at the same time; one that another run keeps waiting is made after it.
///
/// Stopped in the middle of a backup, it releases what it holds, drops what it has not finished, and makes it up at the next
/// start.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  As a service in a compose file, for the project that it is part of:
      cofferdam:
        image: cofferdam
        command: daemon
        restart: unless-stopped
        environment:
          COFFERDAM_SCHEDULE: \"30 2 * * *\"
          COFFERDAM_KEEP: within=24h,daily=7,weekly=4
          TZ: Europe/Berlin
        volumes:
          - /var/run/docker.sock:/var/run/docker.sock
          - backups:/backups
  On a host, for all of its projects:
      cofferdam daemon --all-projects --schedule 'every 6h' --repository /srv/backups
  A backup now, beside the schedule:
      docker compose exec cofferdam cofferdam backup")]
pub struct DaemonArgs {}

/// Ask the daemon of this container whether it is well
///
/// Exits with 0 when it is: it runs, and the engine answers it. Made for a container's health check. Whether backups are
/// recent is for `cofferdam check` to say.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  In a compose file:
      healthcheck:
        test: [\"CMD\", \"/cofferdam\", \"health\"]")]
pub struct HealthArgs {}

/// Finish or undo what an interrupted run left behind
///
/// Starts what it had stopped, puts back what it had half replaced, removes its helpers. Every backup and restore does this
/// by itself before it begins; a run that is still alive is left alone. As long as restored data is neither all old nor all
/// new, nothing is started on it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam recover
  cofferdam recover --project candigv2 --force
  cofferdam recover --project candigv2 --give-up")]
pub struct RecoverArgs {
    /// Take over although the other run seems to be alive: when you know that it is not, as when its machine is gone
    #[arg(long)]
    pub force: bool,

    /// Leave data as it is that can be neither put back nor finished, and start what was stopped. Restore another snapshot
    /// next
    #[arg(long)]
    pub give_up: bool,
}

/// Print a shell's completion script
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam completions bash > /etc/bash_completion.d/cofferdam
  cofferdam completions zsh > ~/.zfunc/_cofferdam
  cofferdam completions fish > ~/.config/fish/completions/cofferdam.fish")]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

/// Work as an agent, in a helper container or inside a target's own: not for people.
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct AgentArgs {
    pub kind: String,

    /// The program that the agent runs, after `--`.
    #[arg(last = true)]
    pub argv: Vec<String>,
}
