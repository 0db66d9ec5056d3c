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
/// Reads the labels of the project's containers and prints the targets, the order in which containers are held, and
/// the hooks. Also lists named volumes and databases that no label saves, each with the label to add. Changes
/// nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam plan
  cofferdam plan --all-projects
  cofferdam plan --project candigv2 --json | jq '.targets[].id'")]
pub struct PlanArgs {
    /// Skip the search for data that is unprotected or could not be restored, which takes some seconds when the
    /// engine runs hundreds of containers
    #[arg(long)]
    pub no_audit: bool,
}

/// Back up the project
///
/// Takes a snapshot: dumps databases, archives volumes and files, and writes a manifest last, which makes the
/// snapshot exist. Containers labelled with `cofferdam.stop` or `cofferdam.pause` are held meanwhile and released
/// whatever happens. If some targets fail, the others are kept, the snapshot records which ones failed, and the exit
/// code is 3.
///
/// A snapshot made with this command is kept for at least 24 hours, whatever the rules of `--keep` say.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything that is labelled:
      cofferdam backup
  Only the databases of one service, or only volumes:
      cofferdam backup 'postgres-db/*'
      cofferdam backup '*/volume/*'
  Encrypted, so that only the owner of the identity can read it:
      cofferdam backup --recipient age1…
  Before an upgrade, and kept until you unpin it:
      cofferdam backup --pin before-upgrade
  Into a new, empty repository, after losing the old one:
      cofferdam backup --new-repository
  Show what a backup would do:
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

    /// Targets that have become far smaller on purpose: accept their new size, and do not let it stop pruning; may be
    /// given several times
    ///
    /// [env: COFFERDAM_MAY_SHRINK, separated by commas: for every backup that has such a target]
    #[arg(long, value_name = "TARGET")]
    pub may_shrink: Vec<TargetPattern>,
}

/// List snapshots
///
/// Newest last. Lists the snapshots of this project; with `--all-projects`, of all projects.
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
    /// A snapshot id, a unique prefix, or `latest`
    pub snapshot: SnapshotSelector,
}

/// Pin a snapshot: no rule removes it
///
/// The pin is a small file beside the manifest. A snapshot has one pin; a new name replaces the old one. Copying a
/// snapshot to second places copies its pin; if you pin it later, pin it there too, with `--repository`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam pin latest before-upgrade
  cofferdam pin 20261121T02 'audit 2026'")]
pub struct PinArgs {
    /// A snapshot id, a unique prefix, or `latest`
    pub snapshot: SnapshotSelector,

    /// Name to show in lists
    pub name: PinName,
}

/// Remove a snapshot's pin: `--keep` applies to it again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam unpin 20261121T02")]
pub struct UnpinArgs {
    /// A snapshot id, a unique prefix, or `latest`
    pub snapshot: SnapshotSelector,
}

/// List the files of a volume or directory in a snapshot
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam ls latest vault/volume/vault-data
  cofferdam ls latest vault/volume/vault-data core/cluster")]
pub struct LsArgs {
    /// A snapshot id, a unique prefix, or `latest`
    pub snapshot: SnapshotSelector,

    /// Target that holds files, by id
    pub target: TargetPattern,

    /// Path in the target, relative to its root [default: all of it]
    pub path: Option<String>,
}

/// Restore a snapshot
///
/// All or nothing: old data is removed only after every target has loaded and passed its check. After a failure, a
/// signal or a crash before that, all old data is in place. Containers labelled with `cofferdam.stop: restore` are
/// stopped first, and started again in dependency order.
///
/// With `latest`, a target that failed in the newest snapshot comes from its newest good copy; the plan and the
/// report say so. Exit code 3 means that some target has no good copy, and the others were restored. With an id, only
/// that snapshot is used.
///
/// Asks before it begins; without a terminal, give `--yes`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything, from the newest snapshot:
      cofferdam restore latest
  Show what a restore would do:
      cofferdam restore latest --dry-run
  One database, without asking:
      cofferdam restore latest postgres-db/postgres/clinical --yes
  From an encrypted snapshot:
      cofferdam restore latest --identity-file key.txt
  One file and one directory from a volume:
      cofferdam restore latest vault/volume/vault-data --path config.hcl --path core/cluster
  A copy for staging, into the running project candig-staging, whose database service is called `db`:
      cofferdam restore latest --project candig --to-project candig-staging --map postgres-db=db")]
pub struct RestoreArgs {
    /// A snapshot id, a unique prefix, or `latest`: each target from the newest snapshot that should contain it
    pub snapshot: SnapshotSelector,

    /// Targets to restore, by id (`service/driver/name`) or by a pattern over ids [default: all in the snapshot]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,

    /// Print the plan and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,

    /// Restore only this path of a volume or directory, relative to its root, and everything below it; other files
    /// there are left alone; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<String>,

    /// Keep the old databases beside the new ones, renamed and closed to connections
    #[arg(long)]
    pub keep_old: bool,

    /// Restore even if not everything that was saved comes back: a CouchDB database with fewer documents, a table
    /// with other rows. Prints what is lost
    #[arg(long)]
    pub accept_loss: bool,

    /// Take a snapshot of every target first, even of those that can be rolled back without one
    #[arg(long)]
    pub safety_snapshot: bool,

    /// Write files over the existing ones, if there is no room for both; takes a snapshot first, to roll back to
    #[arg(long, conflicts_with = "keep_old")]
    pub in_place: bool,

    /// Restore into this project instead, a running stack under another name, such as a copy for staging. The
    /// snapshot is still one of `--project`
    #[arg(long, value_name = "PROJECT")]
    pub to_project: Option<String>,

    /// What has another name in the project you restore into: a service, as `db=database`, or one target, as
    /// `app/volume/shop_uploads=app/volume/staging_uploads`; may be given several times
    #[arg(long = "map", value_name = "OLD=NEW")]
    pub maps: Vec<TargetMap>,
}

/// Write a snapshot's dumps and archives to a directory
///
/// The files can be used without cofferdam: databases in the formats of `pg_restore` and `psql`, volumes and files as
/// tar archives. They are uncompressed, and every digest is checked. All or nothing; existing files are never
/// overwritten.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam export latest ./rescued
  cofferdam export 20261121T02 ./rescued 'postgres-db/*'")]
pub struct ExportArgs {
    /// A snapshot id, a unique prefix, or `latest`
    pub snapshot: SnapshotSelector,

    /// Where to write; created if missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Targets to export, by id (`service/driver/name`) or by a pattern over ids [default: all in the snapshot]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,
}

/// Check that snapshots are whole
///
/// Checks that every object is present and has the right length; `--read` reads everything and checks every digest.
/// Encrypted objects are checked as stored; with `--identity-file` they are also decrypted, and their content is
/// checked. Exits with 4 when something is missing or damaged.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam verify
  cofferdam verify latest --read
  cofferdam verify --read-part today/7
  cofferdam verify latest --read --identity-file key.txt
  cofferdam verify --all-projects --json")]
pub struct VerifyArgs {
    /// Snapshots to check: ids, unique prefixes, or `latest` [default: all]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotSelector>,

    /// Read every object and check its digest
    #[arg(long)]
    pub read: bool,

    /// Read one part of the objects, as `2/7`; all parts together cover every object once. `today/7` reads a
    /// different part each day, so that a daily run reads everything in a week
    #[arg(long, value_name = "PART", conflicts_with = "read")]
    pub read_part: Option<PartChoice>,
}

/// Check that every target has a recent good backup
///
/// Reads only the repository; without an engine and without `--project`, it checks all projects there. It checks each
/// target that a snapshot names, as saved or as failed, that an earlier check knew, or that `--expect` names. It
/// exits with 4, and notifies `--notify` and `--mail-to`, when a target has no recent enough good backup, when
/// objects of the newest one are missing, or when a snapshot cannot be read or is dated in the future.
///
/// A target that newer snapshots no longer name is still checked, since that may be a mistake. If it is gone on
/// purpose, say so with `--retired`, or with a `cofferdam.skip` label on its service.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  For cron, an hour after the nightly backup:
      cofferdam check --project shop --max-age 26h
  Databases only, backed up every hour:
      cofferdam check --max-age 90m --target '*/postgres/*'
  A target that must exist, and targets that are gone on purpose:
      cofferdam check --project shop --expect db/postgres/shop --retired 'oldapp/*'
  Test notifications:
      cofferdam check --notify-test --mail-to ops@example.org")]
pub struct CheckArgs {
    /// Maximum age of a target's last good backup, as `90m`, `26h` or `8d`
    #[arg(long, value_name = "AGE", default_value = "26h", value_parser = max_age)]
    pub max_age: Duration,

    /// Targets to check, by id (`service/driver/name`) or by a pattern over ids; may be given several times [default: all]
    #[arg(long = "target", value_name = "TARGET")]
    pub targets: Vec<TargetPattern>,

    /// Target that must have a backup, by id, even if the repository does not know it; may be given several times
    #[arg(long = "expect", value_name = "TARGET")]
    pub expected: Vec<TargetId>,

    /// Target that is gone on purpose, by id or pattern: it is not checked, and its status files are removed; may be
    /// given several times
    ///
    /// [env: COFFERDAM_RETIRED, separated by commas]
    #[arg(long, value_name = "TARGET")]
    pub retired: Vec<TargetPattern>,

    /// Write no status files
    #[arg(long)]
    pub no_status: bool,

    /// Only send a test notification, to all of `--notify` and `--mail-to`
    #[arg(long)]
    pub notify_test: bool,
}

fn max_age(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(age) if age >= Duration::from_secs(1) => Ok(age),
        _ => Err("write an age as `90m`, `26h` or `8d`".to_owned()),
    }
}

/// Copy snapshots to second places
///
/// Sends the snapshots that a place lacks, oldest first, to every `--copy-to`. Checks each byte against the digest in
/// the manifest on its way. After an interruption, run it again: it continues where it stopped. Exits with 3 when
/// some snapshots or places failed.
///
/// A backup also copies whatever a place lacks of the project, except what `--copy-keep` would remove again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Everything that is missing in the second place:
      cofferdam copy --copy-to s3://offsite/hospital
  One snapshot to a disk that was just plugged in:
      cofferdam copy latest --copy-to /mnt/disk/backups
  Everything, encrypted to a new key, because the old one may have leaked:
      cofferdam copy --reencrypt --identity-file old-key.txt --recipient age1… --copy-to /mnt/disk/new")]
pub struct CopyArgs {
    /// Snapshots to copy: ids, unique prefixes, or `latest` [default: all]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotSelector>,

    /// Create a new repository although the one used before is missing
    #[arg(long)]
    pub new_repository: bool,

    /// Encrypt the copies to the recipients given now; `--identity-file` decrypts the originals
    #[arg(long)]
    pub reencrypt: bool,
}

/// Remove the snapshots that no rule of `--keep` keeps
///
/// A backup also does this when rules are set. Whatever the rules say, the last good copy of every target stays, and
/// so do pinned snapshots, and for 24 hours those made by hand; failed backups do not count. In case of doubt (a
/// snapshot that cannot be read or is dated in the future, a target that failed or has become far smaller), nothing
/// of the project is removed, and the doubt is reported.
///
/// Needs only the repository. If an engine can be reached, snapshots that a restore is reading stay too.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  Show what would be removed, and why the rest stays:
      cofferdam prune --keep within=24h,daily=7,weekly=4 --dry-run
  On a machine that can reach only the repository:
      cofferdam prune --repository /mnt/backups --project shop --keep within=24h,daily=7,weekly=4
  Just this once, because a table was emptied on purpose:
      cofferdam prune --despite shrunken")]
pub struct PruneArgs {
    /// Show what would be removed, and why the rest stays, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,

    /// Prune despite this doubt; may be given several times
    #[arg(long, value_name = "DOUBT")]
    pub despite: Vec<Despite>,
}

/// Back up on schedule, as a service of the stack
///
/// Runs until stopped. Saves each target on the schedule in its container's label `cofferdam.schedule`, or else on
/// `--schedule`. Reads the labels again whenever containers come or go. Makes up for a backup missed while the host
/// was down, once, at the start. When a container labelled `cofferdam.trigger: exit` exits with 0, backs up its
/// project at once. Two backups never run at the same time; one that has to wait for another run follows it.
///
/// When stopped in the middle of a backup, releases the containers it holds, discards the unfinished snapshot, and
/// makes up for it at the next start.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  As a service in a compose file, for its own project:
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
  On a host, for all projects:
      cofferdam daemon --all-projects --schedule 'every 6h' --repository /srv/backups
  A backup now, outside the schedule:
      docker compose exec cofferdam cofferdam backup")]
pub struct DaemonArgs {}

/// Ask the daemon in this container whether it is healthy
///
/// Exits with 0 if the daemon runs and the engine answers it. Meant for a container's health check. To check that
/// backups are recent, use `cofferdam check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  In a compose file:
      healthcheck:
        test: [\"CMD\", \"/cofferdam\", \"health\"]")]
pub struct HealthArgs {}

/// Finish or undo what an interrupted run left behind
///
/// Starts the containers it had stopped, puts back data it had half replaced, and removes its helpers. Every backup
/// and restore does this before it begins; a run that is still alive is left alone. While restored data is neither
/// all old nor all new, no container is started on it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cofferdam recover
  cofferdam recover --project candigv2 --force
  cofferdam recover --project candigv2 --give-up")]
pub struct RecoverArgs {
    /// Take over even if the other run seems to be alive. Use this only when you know that it is not, for example
    /// because its machine is gone
    #[arg(long)]
    pub force: bool,

    /// Leave data that can be neither put back nor finished as it is, and start what was stopped. Restore another
    /// snapshot next
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

/// Work as an agent, in a helper container or inside a target's own; not meant for people
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct AgentArgs {
    pub kind: String,

    /// The program that the agent runs, after `--`.
    #[arg(last = true)]
    pub argv: Vec<String>,
}
