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
    say what is saved: databases are dumped inside their own containers, volumes and directories are
    archived, and containers that must hold still meanwhile are stopped or paused, and started again.

    Usage: cofferdam [OPTIONS] <COMMAND>

    Commands:
      plan         Show what a backup would do, and what the labels miss
      backup       Back the project up
      list         List snapshots
      show         Show one snapshot: its targets, sizes, failures and warnings
      ls           List the files of a volume or directory in a snapshot
      restore      Put a snapshot back
      export       Write a snapshot's dumps and archives to a directory
      verify       Check that snapshots are whole
      copy         Copy snapshots to second places
      check        Check that every target has a recent good backup
      prune        Remove the snapshots that no rule of `--keep` keeps
      pin          Pin a snapshot: no rule removes it
      unpin        Remove a snapshot's pin: `--keep` applies to it again
      daemon       Back up by schedule, as a service of the stack
      health       Ask the daemon of this container whether it is well
      recover      Finish or undo what an interrupted run left behind
      completions  Print a shell's completion script

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Settings:
          --repository <URL>
              Where snapshots live: a directory, as `/path`, or a URL of a server

              `s3://bucket/prefix?endpoint=https://…`, `az://container/prefix?account=…` and
              `gs://bucket/prefix` name object stores. `webdav+https://host/path` and
              `sftp://user@host/path?key-file=…&known-hosts=…` name other servers. Keys and passwords
              are taken from variables (`AWS_ACCESS_KEY_ID`, `WEBDAV_PASSWORD_FILE`, …) or from the file
              that `credentials-file=` names.

              [env: COFFERDAM_REPOSITORY] [default: /backups]

          --existing
              Never create a repository: fail if there is none

              Also for second places. By default, one is created where none was used before. [env:
              COFFERDAM_EXISTING=true]

          --repository-id <ID>
              Use only the repository with this id, and never create one

              A backup that makes a repository prints its id, and the file cofferdam.json in it tells it
              too. [env: COFFERDAM_REPOSITORY_ID]

          --project <NAME>
              A project to work on; may be given several times

              [env: COFFERDAM_PROJECTS, separated by commas] [default: the compose project that
              cofferdam runs in]

          --all-projects
              Work on every project of the engine

              [env: COFFERDAM_ALL_PROJECTS=true]

          --swarm-manager <URL>
              A manager of the engine's swarm, as `tcp://HOST:2376`, where the engine is none itself

              Services are scaled through it. May be given several times: whichever answers is asked.
              DOCKER_TLS_VERIFY and DOCKER_CERT_PATH go for it too. [env: COFFERDAM_SWARM_MANAGER,
              separated by commas]

          --copy-to <URL>
              A second place that gets each new snapshot, as a URL or directory; may be given several
              times

              [env: COFFERDAM_COPY_TO, separated by commas]

          --copy-keep <RULES>
              Which snapshots stay in the second places, as `within=24h,daily=30,monthly=12`

              [env: COFFERDAM_COPY_KEEP] [default: all stay]

          --compression <HOW>
              How stored data is compressed: `zstd[:1-19]`, `gzip[:1-9]` or `none`

              [env: COFFERDAM_COMPRESSION] [default: zstd:3]

          --keep <RULES>
              Which snapshots stay, as `within=24h,daily=7,weekly=4`

              The rules are `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly` and `within`
              (`within=48h`). What none of them keeps is removed after a backup, and by `prune`; what is
              pinned, and for a day what was made by hand, stays. The label `cofferdam.keep` gives the
              targets of a container rules of their own. [env: COFFERDAM_KEEP] [default: all stay]

          --schedule <WHEN>
              When the daemon backs up: cron, `@daily`, `every 6h`, or `off` for when it is asked to

              Cron patterns have five fields, or six with seconds first, and mean the clock of
              `--time-zone`. The label `cofferdam.schedule` gives the targets of a container a schedule
              of their own. [env: COFFERDAM_SCHEDULE] [default: @daily]

          --jitter <TIME>
              Up to how much later than its time a scheduled backup begins, as `10m`

              How much it is depends on the project and the day, so that many hosts do not begin at the
              same moment. [env: COFFERDAM_JITTER] [default: 0s]

          --listen <ADDRESS>
              Where the daemon shows how things are, as `127.0.0.1:8080` or `:8080`

              A status page, metrics for Prometheus, a health check, and a way to ask for a backup.
              Beyond this host it wants the variable COFFERDAM_TOKEN or COFFERDAM_TOKEN_FILE. [env:
              COFFERDAM_LISTEN] [default: nowhere]

          --recipient <KEY>
              Encrypt to this age recipient, `age1…`; may be given several times

              The identity of any one of them opens it. [env: COFFERDAM_RECIPIENTS or
              COFFERDAM_RECIPIENTS_FILE, separated by commas or lines] [default: not encrypted]

          --passphrase-file <FILE>
              Encrypt with, and read with, the passphrase in this file

              [env: COFFERDAM_PASSPHRASE or COFFERDAM_PASSPHRASE_FILE]

          --identity-file <FILE>
              Read with the age identities in this file, as `age-keygen` writes it

              For restore, ls, export, verify --read and recover; a backup needs none. [env:
              COFFERDAM_IDENTITY_FILE]

          --time-zone <NAME>
              Time zone of the times that are shown, as `Europe/Berlin`

              Also of the days and weeks that `--keep` counts. [env: TZ] [default: UTC]

          --log <FILTER>
              How much is logged: `error`, `warn`, `info`, `debug` or `trace`

              Also by module, as `info,cofferdam::engine=debug`. Logs go to standard error. [env:
              COFFERDAM_LOG] [default: info]

          --log-format <FORMAT>
              How it is logged: `text` or `json`

              [env: COFFERDAM_LOG_FORMAT] [default: text]

          --notify <URL>
              Where to tell when a check finds something or a backup fails, as a URL; may be given
              several times

              `slack://…`, `discord://…`, `telegram://…`, `ntfy://…`, `gotify://…` and `generic://…` (a
              webhook) are written as shoutrrr has them; `hc+https://…` is asked for when a backup
              begins and ends, as healthchecks.io wants it. URLs hold secrets, which arguments show to
              everybody on the machine: better give a file. The page docs/notifications.md tells the
              rest, and of COFFERDAM_NOTIFY_TEMPLATE[_FILE] and COFFERDAM_NOTIFY_CA_FILE. [env:
              COFFERDAM_NOTIFY or COFFERDAM_NOTIFY_FILE, separated by commas or lines]

          --notify-on <KINDS>
              What is told: some of `failure`, `recovery`, `stale` and `success`, with commas between
              them

              Also by mail. `hc+https://…` is always told all of it. [env: COFFERDAM_NOTIFY_ON]
              [default: failure,recovery,stale]

          --mail-to <ADDRESS>
              Whom to send mail when a check finds something or a backup fails

              May be given several times. [env: COFFERDAM_MAIL_TO, separated by commas]

          --mail-from <ADDRESS>
              Whom the mail comes from

              [env: COFFERDAM_MAIL_FROM]

          --smtp-url <URL>
              The mail server: `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`

              Without encryption it is `smtp://HOST[:25]` on this machine, and `smtp+plain://HOST[:25]`
              elsewhere. The variables COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD[_FILE] log in,
              and COFFERDAM_SMTP_CA_FILE names the certificate of an authority of your own. [env:
              COFFERDAM_SMTP_URL]

          --status-dir <DIR>
              Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`

              [env: COFFERDAM_STATUS_DIR] [default: `status` in the repository]

          --json
              Print one JSON document on standard output, and nothing else there

              [env: COFFERDAM_JSON=true]

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
          docker run --rm -it -v /var/run/docker.sock:/var/run/docker.sock -v backups:/backups \
              cofferdam restore latest --project candigv2

    Variables of the engine: DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH mean
    what they mean to `docker`.

    Exit codes:
        0  done
        1  failed: what was there before stands
        2  the command line, a variable or a label is wrong: nothing was begun
        3  partly done: some targets failed, the others are safe
        4  a check found something: a damaged or stale snapshot
        5  another run holds the project, or it changed after the plan
      130  interrupted, and everything put back in order
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
      backup       Back the project up
      list         List snapshots
      show         Show one snapshot: its targets, sizes, failures and warnings
      ls           List the files of a volume or directory in a snapshot
      restore      Put a snapshot back
      export       Write a snapshot's dumps and archives to a directory
      verify       Check that snapshots are whole
      copy         Copy snapshots to second places
      check        Check that every target has a recent good backup
      prune        Remove the snapshots that no rule of `--keep` keeps
      pin          Pin a snapshot: no rule removes it
      unpin        Remove a snapshot's pin: `--keep` applies to it again
      daemon       Back up by schedule, as a service of the stack
      health       Ask the daemon of this container whether it is well
      recover      Finish or undo what an interrupted run left behind
      completions  Print a shell's completion script

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Settings:
          --repository <URL>        Where snapshots live: a directory, as `/path`, or a URL of a server
          --existing                Never create a repository: fail if there is none
          --repository-id <ID>      Use only the repository with this id, and never create one
          --project <NAME>          A project to work on; may be given several times
          --all-projects            Work on every project of the engine
          --swarm-manager <URL>     A manager of the engine's swarm, as `tcp://HOST:2376`, where the
                                    engine is none itself
          --copy-to <URL>           A second place that gets each new snapshot, as a URL or directory;
                                    may be given several times
          --copy-keep <RULES>       Which snapshots stay in the second places, as
                                    `within=24h,daily=30,monthly=12`
          --compression <HOW>       How stored data is compressed: `zstd[:1-19]`, `gzip[:1-9]` or `none`
          --keep <RULES>            Which snapshots stay, as `within=24h,daily=7,weekly=4`
          --schedule <WHEN>         When the daemon backs up: cron, `@daily`, `every 6h`, or `off` for
                                    when it is asked to
          --jitter <TIME>           Up to how much later than its time a scheduled backup begins, as
                                    `10m`
          --listen <ADDRESS>        Where the daemon shows how things are, as `127.0.0.1:8080` or
                                    `:8080`
          --recipient <KEY>         Encrypt to this age recipient, `age1…`; may be given several times
          --passphrase-file <FILE>  Encrypt with, and read with, the passphrase in this file
          --identity-file <FILE>    Read with the age identities in this file, as `age-keygen` writes it
          --time-zone <NAME>        Time zone of the times that are shown, as `Europe/Berlin`
          --log <FILTER>            How much is logged: `error`, `warn`, `info`, `debug` or `trace`
          --log-format <FORMAT>     How it is logged: `text` or `json`
          --notify <URL>            Where to tell when a check finds something or a backup fails, as a
                                    URL; may be given several times
          --notify-on <KINDS>       What is told: some of `failure`, `recovery`, `stale` and `success`,
                                    with commas between them
          --mail-to <ADDRESS>       Whom to send mail when a check finds something or a backup fails
          --mail-from <ADDRESS>     Whom the mail comes from
          --smtp-url <URL>          The mail server: `smtps://HOST[:465]` or
                                    `smtp+starttls://HOST[:587]`
          --status-dir <DIR>        Where checks write status files, as `DIR/PROJECT/TARGET.{json,txt}`
          --json                    Print one JSON document on standard output, and nothing else there
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
    are held, and the hooks. Named volumes and databases that no label saves are listed too, each with
    the label to add. Changes nothing.

    Usage: cofferdam plan [OPTIONS]

    Options:
          --no-audit
              Do not look for what labels leave unprotected, and for what could not be put back: it
              takes the engine some seconds to list the processes of hundreds of containers

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
    Back the project up

    Takes a snapshot: dumps databases, archives volumes and files, and writes a manifest last, which
    makes the snapshot exist. Containers labelled with `cofferdam.stop` or `cofferdam.pause` are held
    meanwhile and released whatever happens. When some targets fail, the others are kept, the snapshot
    says which ones failed, and the exit code is 3.

    What is made by this command stays for 24 hours at least, whatever the rules of `--keep` say.

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
              Targets whose data has become far smaller on purpose: their size in this snapshot is the
              measure from now on, and does not keep older ones from being pruned; may be given several
              times

              [env: COFFERDAM_MAY_SHRINK, separated by commas: of every backup, where it has such a
              target]

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

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
          cofferdam backup --dry-run
    ");
}

#[test]
fn help_of_prune() {
    assert_snapshot!(help("prune"), @r"
    Remove the snapshots that no rule of `--keep` keeps

    A backup does this by itself when there are rules. The last good copy of every target stays,
    whatever they say, so does what is pinned, and for 24 hours what somebody has made by hand; what
    failed counts for nothing. When there is a doubt (a snapshot that cannot be read, one of the future,
    a target that failed or has become far smaller), nothing of the project is removed, and the doubt is
    told.

    Needs the repository only. Where an engine can be reached, what a restore is reading stays too.

    Usage: cofferdam prune [OPTIONS]

    Options:
      -n, --dry-run
              Show what would go, and why the rest stays, and do nothing

          --despite <DOUBT>
              Prune although there is this doubt; may be given several times

              Possible values:
              - failed:    A target failed in the newest snapshot: older copies of it stay all the same
              - shrunken:  A target has become far smaller than its last good copy
              - disturbed: Somebody has started a service while it was held for the newest snapshot

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      What would go, and why the rest stays:
          cofferdam prune --keep within=24h,daily=7,weekly=4 --dry-run
      From a machine that reaches only the repository:
          cofferdam prune --repository /mnt/backups --project shop --keep within=24h,daily=7,weekly=4
      A table was emptied on purpose, and this once it may be taken for good:
          cofferdam prune --despite shrunken
    ");
}

#[test]
fn help_of_list() {
    assert_snapshot!(help("list"), @r"
    List snapshots

    Newest last. Shows the project's own snapshots; those of all projects with `--all-projects`.

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
              An id, a beginning of one that fits no other, or `latest`

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

    The pin is a small file beside the manifest. A snapshot has one; another name takes its place. It
    goes with the snapshot to second places when that is copied; later, pin it there too, with
    `--repository`.

    Usage: cofferdam pin [OPTIONS] <SNAPSHOT> <NAME>

    Arguments:
      <SNAPSHOT>
              An id, a beginning of one that fits no other, or `latest`

      <NAME>
              What it is to be called in lists

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
              An id, a beginning of one that fits no other, or `latest`

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
              An id, a beginning of one that fits no other, or `latest`

      <TARGET>
              A target that holds files, by its id

      [PATH]
              A path in the target, relative to its root [default: all of it]

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
    Put a snapshot back

    All or nothing: what is old is given up only after every target has loaded and passed its check. A
    failure, a signal or a crash before that ends with all of the old data in place. Containers labelled
    with `cofferdam.stop: restore` are stopped first and started again in the order of their
    dependencies.

    With `latest`, a target that failed in the newest snapshot comes from its newest good copy, which
    the plan and the report tell. Exit code 3 means that a target has no good copy, and that the others
    are restored. With an id, only that snapshot is read.

    Asks before it begins; without a terminal, `--yes` must be given.

    Usage: cofferdam restore [OPTIONS] <SNAPSHOT> [TARGET]...

    Arguments:
      <SNAPSHOT>
              An id, a beginning of one that fits no other, or `latest`: each target from the newest
              snapshot that was meant to hold it

      [TARGET]...
              Targets to put back, by id (`service/driver/name`) or by a pattern over ids [default: all
              of the snapshot]

    Options:
      -n, --dry-run
              Print the plan and do nothing

      -y, --yes
              Do not ask

          --path <PATH>
              Put back only this path of a volume or directory, relative to its root, with all below it;
              may be given several times. What else is there stays

          --keep-old
              Keep the old databases beside the new ones, under other names and closed to connections

          --accept-loss
              Put back what there is, also where it is not all that was saved: a CouchDB database with
              fewer documents, a table with other rows. What is lost is printed

          --safety-snapshot
              Take a snapshot of every target first, also of those that have another way back

          --in-place
              Write trees over what is there, where there is no room for both; a snapshot taken first is
              the way back

          --to-project <PROJECT>
              Put the data into this project instead, a stack that is up under another name: a copy for
              staging, for instance. The snapshot is then that of `--project`

          --map <OLD=NEW>
              What is called otherwise where the data goes: a service, as `db=database`, or one target,
              as `app/volume/shop_uploads=app/volume/staging_uploads`; may be given several times

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

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
      A copy for staging: into a stack that is up as project candig-staging, whose database service is
      called `db` there:
          cofferdam restore latest --project candig --to-project candig-staging --map postgres-db=db
    ");
}

#[test]
fn help_of_export() {
    assert_snapshot!(help("export"), @r"
    Write a snapshot's dumps and archives to a directory

    What is written needs no cofferdam to be used: databases as `pg_restore` and `psql` read them,
    volumes and files as tar archives, nothing compressed, every digest checked. All or nothing, and
    nothing is written over.

    Usage: cofferdam export [OPTIONS] <SNAPSHOT> <DIR> [TARGET]...

    Arguments:
      <SNAPSHOT>
              An id, a beginning of one that fits no other, or `latest`

      <DIR>
              Where to write; created when it is not there

      [TARGET]...
              Targets to export, by id (`service/driver/name`) or by a pattern over ids [default: all of
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

    Looks whether every object is there and has the right length; `--read` reads everything and checks
    every digest. What is encrypted is read as it is stored, and with `--identity-file` decrypted, so
    that its content is checked too. Exits with 4 when something is missing or damaged.

    Usage: cofferdam verify [OPTIONS] [SNAPSHOT]...

    Arguments:
      [SNAPSHOT]...
              Snapshots to check: ids, beginnings of ids, or `latest` [default: all]

    Options:
          --read
              Read every object and check its digest

          --read-part <PART>
              Read one part of the objects, as `2/7`; all parts together hold every object once.
              `today/7` takes another part each day, so that a daily run reads everything in a week

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

    Reads the repository alone; without an engine and `--project`, all projects in it are meant. A
    target is checked when a snapshot names it, as saved or as failed, when an earlier check knew it, or
    when `--expect` names it. Exits with 4 when one has no good backup that is young enough, when
    objects of the newest one are missing, or when a snapshot cannot be read or lies in the future;
    tells those whom `--notify` and `--mail-to` name.

    A target stays in question when newer snapshots do not name it any more, for that may be a mistake:
    `--retired` says that it is gone on purpose, and so does a `cofferdam.skip` label of its service.

    Usage: cofferdam check [OPTIONS]

    Options:
          --max-age <AGE>
              How old the last good backup of a target may be, as `90m`, `26h` or `8d`

              [default: 26h]

          --target <TARGET>
              Targets to check, by id (`service/driver/name`) or by a pattern over ids; may be given
              several times [default: all]

          --expect <TARGET>
              A target that must have a backup, even if the repository has never heard of it, by its id;
              may be given several times

          --retired <TARGET>
              A target that is gone on purpose, by id or pattern: it is not checked, and its status
              files are removed; may be given several times

              [env: COFFERDAM_RETIRED, separated by commas]

          --no-status
              Write no status files

          --notify-test
              Only send a notification that says that they arrive, to everybody whom `--notify` and
              `--mail-to` name

      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      For cron, an hour after the nightly backup:
          cofferdam check --project shop --max-age 26h
      Databases every hour, whatever else there is:
          cofferdam check --max-age 90m --target '*/postgres/*'
      A target that must be there, and one that was given up:
          cofferdam check --project shop --expect db/postgres/shop --retired 'oldapp/*'
      Whether notifications arrive:
          cofferdam check --notify-test --mail-to ops@example.org
    ");
}

#[test]
fn help_of_daemon() {
    assert_snapshot!(help("daemon"), @r#"
    Back up by schedule, as a service of the stack

    Runs until it is stopped. Each target is saved when its schedule says so: that of the label
    `cofferdam.schedule` of its container, or `--schedule`. Labels are read again whenever containers
    come or go. A backup that was missed while the host was down is made once, at the start. When a
    container labelled `cofferdam.trigger: exit` has exited with 0, its project is saved at once. Two
    backups never run at the same time; one that another run keeps waiting is made after it.

    Stopped in the middle of a backup, it releases what it holds, drops what it has not finished, and
    makes it up at the next start.

    Usage: cofferdam daemon [OPTIONS]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Settings: …

    Examples:
      As a service in a compose file, for the project that it is part of:
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
      On a host, for all of its projects:
          cofferdam daemon --all-projects --schedule 'every 6h' --repository /srv/backups
      A backup now, beside the schedule:
          docker compose exec cofferdam cofferdam backup
    "#);
}

#[test]
fn help_of_health() {
    assert_snapshot!(help("health"), @r#"
    Ask the daemon of this container whether it is well

    Exits with 0 when it is: it runs, and the engine answers it. Made for a container's health check.
    Whether backups are recent is for `cofferdam check` to say.

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

    Starts what it had stopped, puts back what it had half replaced, removes its helpers. Every backup
    and restore does this by itself before it begins; a run that is still alive is left alone. As long
    as restored data is neither all old nor all new, nothing is started on it.

    Usage: cofferdam recover [OPTIONS]

    Options:
          --force
              Take over although the other run seems to be alive: when you know that it is not, as when
              its machine is gone

          --give-up
              Leave data as it is that can be neither put back nor finished, and start what was stopped.
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
