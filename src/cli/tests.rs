use crate::history::selectors::SnapshotSelector;
use clap::{CommandFactory, Parser};
use insta::assert_snapshot;

use super::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

/// Without white space at the ends of lines.
fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// The long help of a command, without the settings that all commands have in common.
fn help(command: &str) -> String {
    let mut root = Cli::command().term_width(100);
    root.build();
    let text = root
        .find_subcommand_mut(command)
        .expect("the command exists")
        .render_long_help()
        .to_string();
    let (before, settings) = text.split_once("Settings:").expect("settings are shown");
    let (_, after) = settings
        .split_once("Examples:")
        .expect("examples are shown");
    trimmed(&format!("{before}Settings: …\n\nExamples:{after}"))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn settings_may_stand_before_and_after_the_command() {
    for line in [
        "cofferdam --repository /b --project a --project b --json plan",
        "cofferdam plan --repository /b --project a --project b --json",
    ] {
        let settings = parsed(line).unwrap().settings;
        assert_eq!(settings.repository.as_deref(), Some("/b"));
        assert_eq!(settings.projects, ["a", "b"]);
        assert!(settings.json);
    }
}

#[test]
fn a_restore_names_snapshot_targets_and_paths() {
    let cli =
        parsed("cofferdam restore latest db/postgres/a */volume/* --path x --path y -y").unwrap();
    let Command::Restore(args) = cli.command else {
        panic!("{:?}", cli.command);
    };
    assert_eq!(args.snapshot, SnapshotSelector::Latest);
    assert_eq!(args.targets.len(), 2);
    assert_eq!(args.paths, ["x", "y"]);
    assert!(args.yes && !args.dry_run && !args.keep_old);
}

#[test]
fn an_agent_takes_a_command_after_the_dashes() {
    let cli = parsed("cofferdam agent dump -- pg_dump --format=custom -- x").unwrap();
    let Command::Agent(args) = cli.command else {
        panic!("{:?}", cli.command);
    };
    assert_eq!(args.kind, "dump");
    assert_eq!(args.argv, ["pg_dump", "--format=custom", "--", "x"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "cofferdam",
        "cofferdam restore",
        "cofferdam restore newest",
        "cofferdam restore latest db/[",
        "cofferdam restore latest --keep-old --in-place",
        "cofferdam show",
        "cofferdam verify --read-part 8/7",
        "cofferdam verify --read-part tomorrow/7",
        "cofferdam verify --read --read-part 1/7",
        "cofferdam check --max-age 0s",
        "cofferdam check --max-age 26",
        "cofferdam check --expect db/postgres/*/x",
        "cofferdam check --target db/[",
        "cofferdam plan --project a --all-projects",
        "cofferdam completions klingon",
        "cofferdam prune --despite all",
        "cofferdam pin latest",
        "cofferdam backup --pin=",
    ] {
        let error = parsed(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn help_of_cofferdam() {
    let mut root = Cli::command().term_width(100);
    assert_snapshot!(trimmed(&root.render_long_help().to_string()), @r"
    Back up and restore container stacks, driven by labels.

    Cofferdam runs beside your stack and needs nothing but the Docker socket. Labels on your containers
    say what to save: Cofferdam dumps databases inside their own containers, archives volumes and
    directories, and stops or pauses containers that must not change their data meanwhile, then starts
    them again.

    Usage: cofferdam [OPTIONS] <COMMAND>

    Commands:
      plan         Show what a backup would do, and what the labels miss
      backup       Back up the project
      list         List snapshots
      show         Show one snapshot: its targets, sizes, failures and warnings
      ls           List the files of a volume or directory in a snapshot
      restore      Restore a snapshot
      export       Write a snapshot's dumps and archives to a directory
      verify       Check that snapshots are whole
      copy         Copy snapshots to second places
      check        Check that every target has a recent good backup
      prune        Remove the snapshots that no rule of `--keep` keeps
      pin          Pin a snapshot: no rule removes it
      unpin        Remove a snapshot's pin: `--keep` applies to it again
      daemon       Back up on schedule, as a service of the stack
      health       Ask the daemon in this container whether it is healthy
      recover      Finish or undo what an interrupted run left behind
      completions  Print a shell's completion script
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Settings:
          --repository <URL>
              Where to store snapshots: a directory, as `/path`, or the URL of a server

              Object stores: `s3://bucket/prefix?endpoint=https://…`, `az://container/prefix?account=…`
              and `gs://bucket/prefix`. Other servers: `webdav+https://host/path` and
              `sftp://user@host/path?key-file=…&known-hosts=…`. Keys and passwords come from variables
              (`AWS_ACCESS_KEY_ID`, `WEBDAV_PASSWORD_FILE`, …) or from the file given as
              `credentials-file=`.

              [env: COFFERDAM_REPOSITORY] [default: /backups]

          --existing
              Never create a repository; fail if there is none

              Applies to second places too. By default, a repository is created where none was used
              before. [env: COFFERDAM_EXISTING=true]

          --repository-id <ID>
              Use only the repository with this id, and never create one

              A backup that creates a repository prints its id; it is also in the repository's
              cofferdam.json. [env: COFFERDAM_REPOSITORY_ID]

          --project <NAME>
              A project to work on; may be given several times

              [env: COFFERDAM_PROJECTS, separated by commas] [default: the compose project that
              cofferdam runs in]

          --all-projects
              Work on every project on the engine

              [env: COFFERDAM_ALL_PROJECTS=true]

          --swarm-manager <URL>
              A manager of the engine's swarm, as `tcp://HOST:2376`, if the engine itself is not one

              Cofferdam scales services through it. May be given several times: any one that answers is
              used. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH apply to it too. [env:
              COFFERDAM_SWARM_MANAGER, separated by commas]

          --copy-to <URL>
              A second place to copy each new snapshot to, as a URL or directory; may be given several
              times

              [env: COFFERDAM_COPY_TO, separated by commas]

          --copy-keep <RULES>
              Which snapshots to keep in the second places, as `within=24h,daily=30,monthly=12`

              [env: COFFERDAM_COPY_KEEP] [default: keep all]

          --compression <HOW>
              How to compress stored data: `zstd[:1-19]`, `gzip[:1-9]` or `none`

              [env: COFFERDAM_COMPRESSION] [default: zstd:3]

          --keep <RULES>
              Which snapshots to keep, as `within=24h,daily=7,weekly=4`

              The rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within`
              (`within=48h`). Each backup, and `prune`, removes the snapshots that no rule keeps, except
              those that are pinned, and for a day those made by hand. The label `cofferdam.keep` sets
              separate rules for a container's targets. [env: COFFERDAM_KEEP] [default: keep all]

          --schedule <WHEN>
              When the daemon backs up: cron, `@daily`, `every 6h`, or `off` to back up only on request

              Cron patterns have five fields, or six with seconds first, and follow `--time-zone`. The
              label `cofferdam.schedule` sets a separate schedule for a container's targets. [env:
              COFFERDAM_SCHEDULE] [default: @daily]

          --jitter <TIME>
              Longest delay before a scheduled backup begins, as `10m`

              The delay depends on the project and the day, so that many hosts do not start at the same
              moment. [env: COFFERDAM_JITTER] [default: 0s]

          --listen <ADDRESS>
              Where the daemon serves its status page and metrics, as `127.0.0.1:8080` or `:8080`

              It also serves a health check, and takes requests for backups. To listen beyond this host,
              set COFFERDAM_TOKEN or COFFERDAM_TOKEN_FILE. [env: COFFERDAM_LISTEN] [default: off]

          --recipient <KEY>
              Encrypt backups to this age recipient, `age1…`; may be given several times

              Any one recipient's identity can decrypt them. [env: COFFERDAM_RECIPIENTS or
              COFFERDAM_RECIPIENTS_FILE, separated by commas or lines] [default: not encrypted]

          --passphrase-file <FILE>
              Encrypt and decrypt with the passphrase in this file

              [env: COFFERDAM_PASSPHRASE or COFFERDAM_PASSPHRASE_FILE]

          --identity-file <FILE>
              Decrypt with the age identities in this file, as `age-keygen` writes it

              For restore, ls, export, verify --read and recover; a backup needs none. [env:
              COFFERDAM_IDENTITY_FILE]

          --time-zone <NAME>
              Time zone for displayed times, as `Europe/Berlin`

              Also for the days and weeks that `--keep` counts. [env: TZ] [default: UTC]

          --log <FILTER>
              Log level: `error`, `warn`, `info`, `debug` or `trace`

              Can be set for single modules, as `info,cofferdam::engine=debug`. Logs go to standard
              error. [env: COFFERDAM_LOG] [default: info]

          --log-format <FORMAT>
              Log format: `text` or `json`

              [env: COFFERDAM_LOG_FORMAT] [default: text]

          --notify <URL>
              URL to notify when a check finds a problem or a backup fails; may be given several times

              `slack://…`, `discord://…`, `telegram://…`, `ntfy://…`, `gotify://…` and `generic://…` (a
              webhook) are written as in shoutrrr; `hc+https://…` is pinged when a backup begins and
              ends, as healthchecks.io expects. URLs hold secrets, and everybody on the machine can see
              arguments: prefer a file. For the details, and for COFFERDAM_NOTIFY_TEMPLATE[_FILE] and
              COFFERDAM_NOTIFY_CA_FILE, see docs/notifications.md. [env: COFFERDAM_NOTIFY or
              COFFERDAM_NOTIFY_FILE, separated by commas or lines]

          --notify-on <KINDS>
              When to notify: any of `failure`, `recovery`, `stale` and `success`, separated by commas

              Applies to mail too. `hc+https://…` is always notified. [env: COFFERDAM_NOTIFY_ON]
              [default: failure,recovery,stale]

          --mail-to <ADDRESS>
              Recipient of mail when a check finds a problem or a backup fails

              May be given several times. [env: COFFERDAM_MAIL_TO, separated by commas]

          --mail-from <ADDRESS>
              Sender of mail

              [env: COFFERDAM_MAIL_FROM]

          --smtp-url <URL>
              Mail server: `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`

              Without encryption, use `smtp://HOST[:25]` on this machine, or `smtp+plain://HOST[:25]`
              elsewhere. To log in, set COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE]. If the
              server's certificate comes from your own authority, set COFFERDAM_SMTP_CA_FILE to that
              authority's certificate. [env: COFFERDAM_SMTP_URL]

          --status-dir <DIR>
              Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`

              [env: COFFERDAM_STATUS_DIR] [default: `status` in the repository]

          --json
              Print one JSON document on standard output, and nothing else

              [env: COFFERDAM_JSON=true]

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
          docker run --rm -it -v /var/run/docker.sock:/var/run/docker.sock -v backups:/backups \
              cofferdam restore latest --project candigv2

    DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH work as they do for `docker`.

    Exit codes:
        0  done
        1  failed; existing data is unchanged
        2  the command line, a variable or a label is wrong; nothing was started
        3  partly done: some targets failed, the others are safe
        4  a check found a problem: a damaged or stale snapshot
        5  another run holds the project, or it changed after planning
      130  interrupted; everything was put back in order
    ");
}

#[test]
fn short_help_fits_a_screen() {
    let mut root = Cli::command().term_width(100);
    assert_snapshot!(root.render_help(), @r"
    Back up and restore container stacks, driven by labels

    Usage: cofferdam [OPTIONS] <COMMAND>

    Commands:
      plan         Show what a backup would do, and what the labels miss
      backup       Back up the project
      list         List snapshots
      show         Show one snapshot: its targets, sizes, failures and warnings
      ls           List the files of a volume or directory in a snapshot
      restore      Restore a snapshot
      export       Write a snapshot's dumps and archives to a directory
      verify       Check that snapshots are whole
      copy         Copy snapshots to second places
      check        Check that every target has a recent good backup
      prune        Remove the snapshots that no rule of `--keep` keeps
      pin          Pin a snapshot: no rule removes it
      unpin        Remove a snapshot's pin: `--keep` applies to it again
      daemon       Back up on schedule, as a service of the stack
      health       Ask the daemon in this container whether it is healthy
      recover      Finish or undo what an interrupted run left behind
      completions  Print a shell's completion script
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Settings:
          --repository <URL>        Where to store snapshots: a directory, as `/path`, or the URL of a
                                    server
          --existing                Never create a repository; fail if there is none
          --repository-id <ID>      Use only the repository with this id, and never create one
          --project <NAME>          A project to work on; may be given several times
          --all-projects            Work on every project on the engine
          --swarm-manager <URL>     A manager of the engine's swarm, as `tcp://HOST:2376`, if the engine
                                    itself is not one
          --copy-to <URL>           A second place to copy each new snapshot to, as a URL or directory;
                                    may be given several times
          --copy-keep <RULES>       Which snapshots to keep in the second places, as
                                    `within=24h,daily=30,monthly=12`
          --compression <HOW>       How to compress stored data: `zstd[:1-19]`, `gzip[:1-9]` or `none`
          --keep <RULES>            Which snapshots to keep, as `within=24h,daily=7,weekly=4`
          --schedule <WHEN>         When the daemon backs up: cron, `@daily`, `every 6h`, or `off` to
                                    back up only on request
          --jitter <TIME>           Longest delay before a scheduled backup begins, as `10m`
          --listen <ADDRESS>        Where the daemon serves its status page and metrics, as
                                    `127.0.0.1:8080` or `:8080`
          --recipient <KEY>         Encrypt backups to this age recipient, `age1…`; may be given several
                                    times
          --passphrase-file <FILE>  Encrypt and decrypt with the passphrase in this file
          --identity-file <FILE>    Decrypt with the age identities in this file, as `age-keygen` writes
                                    it
          --time-zone <NAME>        Time zone for displayed times, as `Europe/Berlin`
          --log <FILTER>            Log level: `error`, `warn`, `info`, `debug` or `trace`
          --log-format <FORMAT>     Log format: `text` or `json`
          --notify <URL>            URL to notify when a check finds a problem or a backup fails; may be
                                    given several times
          --notify-on <KINDS>       When to notify: any of `failure`, `recovery`, `stale` and `success`,
                                    separated by commas
          --mail-to <ADDRESS>       Recipient of mail when a check finds a problem or a backup fails
          --mail-from <ADDRESS>     Sender of mail
          --smtp-url <URL>          Mail server: `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`
          --status-dir <DIR>        Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`
          --json                    Print one JSON document on standard output, and nothing else
    ");
}

#[test]
fn every_setting_that_is_shown_can_be_a_variable() {
    let root = Cli::command();
    for argument in root.get_arguments().filter(|it| it.is_global_set()) {
        let help = argument.get_long_help().expect("settings have help");
        assert!(help.to_string().contains("[env: "), "{}", argument.get_id());
    }
}

#[test]
fn help_of_plan() {
    assert_snapshot!(help("plan"), @r"
    Show what a backup would do, and what the labels miss

    Reads the labels of the project's containers and prints the targets, the order in which containers
    are held, and the hooks. Also lists named volumes and databases that no label saves, each with the
    label to add. Changes nothing.

    Usage: cofferdam plan [OPTIONS]

    Options:
          --no-audit
              Skip the search for data that is unprotected or could not be restored, which takes some
              seconds when the engine runs hundreds of containers

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam plan
      cofferdam plan --all-projects
      cofferdam plan --project candigv2 --json | jq '.targets[].id'
    ");
}

#[test]
fn help_of_backup() {
    assert_snapshot!(help("backup"), @r"
    Back up the project

    Takes a snapshot: dumps databases, archives volumes and files, and writes a manifest last, which
    makes the snapshot exist. Containers labelled with `cofferdam.stop` or `cofferdam.pause` are held
    meanwhile and released whatever happens. If some targets fail, the others are kept, the snapshot
    records which ones failed, and the exit code is 3.

    A snapshot made with this command is kept for at least 24 hours, whatever the rules of `--keep` say.

    Usage: cofferdam backup [OPTIONS] [TARGET]...

    Arguments:
      [TARGET]...
              Targets to save, by id (`service/driver/name`) or by a pattern over ids [default: all]

    Options:
      -n, --dry-run
              Print the plan and do nothing

          --pin <NAME>
              Pin the snapshot under this name: no rule removes it until `cofferdam unpin`

          --new-repository
              Create a new repository although the one used before is missing; a backup never does this
              on its own

          --may-shrink <TARGET>
              Targets that have become far smaller on purpose: accept their new size, and do not let it
              stop pruning; may be given several times

              [env: COFFERDAM_MAY_SHRINK, separated by commas: for every backup that has such a target]

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

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
          cofferdam backup --dry-run
    ");
}

#[test]
fn help_of_prune() {
    assert_snapshot!(help("prune"), @r"
    Remove the snapshots that no rule of `--keep` keeps

    A backup also does this when rules are set. Whatever the rules say, the last good copy of every
    target stays, and so do pinned snapshots, and for 24 hours those made by hand; failed backups do not
    count. In case of doubt (a snapshot that cannot be read or is dated in the future, a target that
    failed or has become far smaller), nothing of the project is removed, and the doubt is reported.

    Needs only the repository. If an engine can be reached, snapshots that a restore is reading stay
    too.

    Usage: cofferdam prune [OPTIONS]

    Options:
      -n, --dry-run
              Show what would be removed, and why the rest stays, and do nothing

          --despite <DOUBT>
              Prune despite this doubt; may be given several times

              Possible values:
              - failed:    A target failed in the newest snapshot: older copies of it stay all the same
              - shrunken:  A target has become far smaller than its last good copy
              - disturbed: Somebody has started a service while it was held for the newest snapshot

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      Show what would be removed, and why the rest stays:
          cofferdam prune --keep within=24h,daily=7,weekly=4 --dry-run
      On a machine that can reach only the repository:
          cofferdam prune --repository /mnt/backups --project shop --keep within=24h,daily=7,weekly=4
      Just this once, because a table was emptied on purpose:
          cofferdam prune --despite shrunken
    ");
}

#[test]
fn help_of_list() {
    assert_snapshot!(help("list"), @r"
    List snapshots

    Newest last. Lists the snapshots of this project; with `--all-projects`, of all projects.

    Usage: cofferdam list [OPTIONS]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam list
      cofferdam list --all-projects
      cofferdam list --json | jq -r '.[-1].snapshot'
    ");
}

#[test]
fn help_of_show() {
    assert_snapshot!(help("show"), @r"
    Show one snapshot: its targets, sizes, failures and warnings

    Usage: cofferdam show [OPTIONS] <SNAPSHOT>

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam show latest
      cofferdam show 20261121T02
    ");
}

#[test]
fn help_of_pin() {
    assert_snapshot!(help("pin"), @r"
    Pin a snapshot: no rule removes it

    The pin is a small file beside the manifest. A snapshot has one pin; a new name replaces the old
    one. Copying a snapshot to second places copies its pin; if you pin it later, pin it there too, with
    `--repository`.

    Usage: cofferdam pin [OPTIONS] <SNAPSHOT> <NAME>

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`

      <NAME>
              Name to show in lists

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam pin latest before-upgrade
      cofferdam pin 20261121T02 'audit 2026'
    ");
}

#[test]
fn help_of_unpin() {
    assert_snapshot!(help("unpin"), @r"
    Remove a snapshot's pin: `--keep` applies to it again

    Usage: cofferdam unpin [OPTIONS] <SNAPSHOT>

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam unpin 20261121T02
    ");
}

#[test]
fn help_of_ls() {
    assert_snapshot!(help("ls"), @r"
    List the files of a volume or directory in a snapshot

    Usage: cofferdam ls [OPTIONS] <SNAPSHOT> <TARGET> [PATH]

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`

      <TARGET>
              Target that holds files, by id

      [PATH]
              Path in the target, relative to its root [default: all of it]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam ls latest vault/volume/vault-data
      cofferdam ls latest vault/volume/vault-data core/cluster
    ");
}

#[test]
fn help_of_restore() {
    assert_snapshot!(help("restore"), @r"
    Restore a snapshot

    All or nothing: old data is removed only after every target has loaded and passed its check. After a
    failure, a signal or a crash before that, all old data is in place. Containers labelled with
    `cofferdam.stop: restore` are stopped first, and started again in dependency order.

    With `latest`, a target that failed in the newest snapshot comes from its newest good copy; the plan
    and the report say so. Exit code 3 means that some target has no good copy, and the others were
    restored. With an id, only that snapshot is used.

    Asks before it begins; without a terminal, give `--yes`.

    Usage: cofferdam restore [OPTIONS] <SNAPSHOT> [TARGET]...

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`: each target from the newest snapshot that
              should contain it

      [TARGET]...
              Targets to restore, by id (`service/driver/name`) or by a pattern over ids [default: all
              in the snapshot]

    Options:
      -n, --dry-run
              Print the plan and do nothing

      -y, --yes
              Do not ask

          --path <PATH>
              Restore only this path of a volume or directory, relative to its root, and everything
              below it; other files there are left alone; may be given several times

          --keep-old
              Keep the old databases beside the new ones, renamed and closed to connections

          --accept-loss
              Restore even if not everything that was saved comes back: a CouchDB database with fewer
              documents, a table with other rows. Prints what is lost

          --safety-snapshot
              Take a snapshot of every target first, even of those that can be rolled back without one

          --in-place
              Write files over the existing ones, if there is no room for both; takes a snapshot first,
              to roll back to

          --to-project <PROJECT>
              Restore into this project instead, a running stack under another name, such as a copy for
              staging. The snapshot is still one of `--project`

          --map <OLD=NEW>
              What has another name in the project you restore into: a service, as `db=database`, or one
              target, as `app/volume/shop_uploads=app/volume/staging_uploads`; may be given several
              times

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

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
      A copy for staging, into the running project candig-staging, whose database service is called
      `db`:
          cofferdam restore latest --project candig --to-project candig-staging --map postgres-db=db
    ");
}

#[test]
fn help_of_export() {
    assert_snapshot!(help("export"), @r"
    Write a snapshot's dumps and archives to a directory

    The files can be used without cofferdam: databases in the formats of `pg_restore` and `psql`,
    volumes and files as tar archives. They are uncompressed, and every digest is checked. All or
    nothing; existing files are never overwritten.

    Usage: cofferdam export [OPTIONS] <SNAPSHOT> <DIR> [TARGET]...

    Arguments:
      <SNAPSHOT>
              A snapshot id, a unique prefix, or `latest`

      <DIR>
              Where to write; created if missing

      [TARGET]...
              Targets to export, by id (`service/driver/name`) or by a pattern over ids [default: all in
              the snapshot]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam export latest ./rescued
      cofferdam export 20261121T02 ./rescued 'postgres-db/*'
    ");
}

#[test]
fn help_of_verify() {
    assert_snapshot!(help("verify"), @r"
    Check that snapshots are whole

    Checks that every object is present and has the right length; `--read` reads everything and checks
    every digest. Encrypted objects are checked as stored; with `--identity-file` they are also
    decrypted, and their content is checked. Exits with 4 when something is missing or damaged.

    Usage: cofferdam verify [OPTIONS] [SNAPSHOT]...

    Arguments:
      [SNAPSHOT]...
              Snapshots to check: ids, unique prefixes, or `latest` [default: all]

    Options:
          --read
              Read every object and check its digest

          --read-part <PART>
              Read one part of the objects, as `2/7`; all parts together cover every object once.
              `today/7` reads a different part each day, so that a daily run reads everything in a week

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam verify
      cofferdam verify latest --read
      cofferdam verify --read-part today/7
      cofferdam verify latest --read --identity-file key.txt
      cofferdam verify --all-projects --json
    ");
}

#[test]
fn help_of_check() {
    assert_snapshot!(help("check"), @r"
    Check that every target has a recent good backup

    Reads only the repository; without an engine and without `--project`, it checks all projects there.
    It checks each target that a snapshot names, as saved or as failed, that an earlier check knew, or
    that `--expect` names. It exits with 4, and notifies `--notify` and `--mail-to`, when a target has
    no recent enough good backup, when objects of the newest one are missing, or when a snapshot cannot
    be read or is dated in the future.

    A target that newer snapshots no longer name is still checked, since that may be a mistake. If it is
    gone on purpose, say so with `--retired`, or with a `cofferdam.skip` label on its service.

    Usage: cofferdam check [OPTIONS]

    Options:
          --max-age <AGE>
              Maximum age of a target's last good backup, as `90m`, `26h` or `8d`

              [default: 26h]

          --target <TARGET>
              Targets to check, by id (`service/driver/name`) or by a pattern over ids; may be given
              several times [default: all]

          --expect <TARGET>
              Target that must have a backup, by id, even if the repository does not know it; may be
              given several times

          --retired <TARGET>
              Target that is gone on purpose, by id or pattern: it is not checked, and its status files
              are removed; may be given several times

              [env: COFFERDAM_RETIRED, separated by commas]

          --no-status
              Write no status files

          --notify-test
              Only send a test notification, to all of `--notify` and `--mail-to`

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      For cron, an hour after the nightly backup:
          cofferdam check --project shop --max-age 26h
      Databases only, backed up every hour:
          cofferdam check --max-age 90m --target '*/postgres/*'
      A target that must exist, and targets that are gone on purpose:
          cofferdam check --project shop --expect db/postgres/shop --retired 'oldapp/*'
      Test notifications:
          cofferdam check --notify-test --mail-to ops@example.org
    ");
}

#[test]
fn help_of_daemon() {
    assert_snapshot!(help("daemon"), @r#"
    Back up on schedule, as a service of the stack

    Runs until stopped. Saves each target on the schedule in its container's label `cofferdam.schedule`,
    or else on `--schedule`. Reads the labels again whenever containers come or go. Makes up for a
    backup missed while the host was down, once, at the start. When a container labelled
    `cofferdam.trigger: exit` exits with 0, backs up its project at once. Two backups never run at the
    same time; one that has to wait for another run follows it.

    When stopped in the middle of a backup, releases the containers it holds, discards the unfinished
    snapshot, and makes up for it at the next start.

    Usage: cofferdam daemon [OPTIONS]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      As a service in a compose file, for its own project:
          cofferdam:
            image: cofferdam
            command: daemon
            restart: unless-stopped
            environment:
              COFFERDAM_SCHEDULE: "30 2 * * *"
              COFFERDAM_KEEP: within=24h,daily=7,weekly=4
              TZ: Europe/Berlin
            volumes:
              - /var/run/docker.sock:/var/run/docker.sock
              - backups:/backups
      On a host, for all projects:
          cofferdam daemon --all-projects --schedule 'every 6h' --repository /srv/backups
      A backup now, outside the schedule:
          docker compose exec cofferdam cofferdam backup
    "#);
}

#[test]
fn help_of_health() {
    assert_snapshot!(help("health"), @r#"
    Ask the daemon in this container whether it is healthy

    Exits with 0 if the daemon runs and the engine answers it. Meant for a container's health check. To
    check that backups are recent, use `cofferdam check`.

    Usage: cofferdam health [OPTIONS]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      In a compose file:
          healthcheck:
            test: ["CMD", "/cofferdam", "health"]
    "#);
}

#[test]
fn help_of_recover() {
    assert_snapshot!(help("recover"), @r"
    Finish or undo what an interrupted run left behind

    Starts the containers it had stopped, puts back data it had half replaced, and removes its helpers.
    Every backup and restore does this before it begins; a run that is still alive is left alone. While
    restored data is neither all old nor all new, no container is started on it.

    Usage: cofferdam recover [OPTIONS]

    Options:
          --force
              Take over even if the other run seems to be alive. Use this only when you know that it is
              not, for example because its machine is gone

          --give-up
              Leave data that can be neither put back nor finished as it is, and start what was stopped.
              Restore another snapshot next

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam recover
      cofferdam recover --project candigv2 --force
      cofferdam recover --project candigv2 --give-up
    ");
}

#[test]
fn help_of_completions() {
    assert_snapshot!(help("completions"), @r"
    Print a shell's completion script

    Usage: cofferdam completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>
              [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      cofferdam completions bash > /etc/bash_completion.d/cofferdam
      cofferdam completions zsh > ~/.zfunc/_cofferdam
      cofferdam completions fish > ~/.config/fish/completions/cofferdam.fish
    ");
}
