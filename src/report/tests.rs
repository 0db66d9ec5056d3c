use insta::assert_snapshot;

use super::*;
use crate::manifest::{
    AgeFile, Artifact, CommandFacts, Compression, ContainerRecord, EncryptedTo, Encryption,
    EngineFacts, FORMAT, Facts, Failure, FileOwner, JournalMode, Manifest, ObjectPath,
    PostgresFacts, PublicKey, Purpose, Role, Skip, SqliteContent, SqliteFacts, SqliteTable,
    StreamDigest, TableFacts, TargetRecord, Transfer, TreeFacts, TreeShape,
};
use crate::plan::audit::Finding;
use crate::plan::backup::{BackupPlan, PlannedTarget};
use crate::repository::SnapshotRef;
use crate::run::backup::BackupReport;
use crate::run::places::UsedPlace;
use crate::target::{DriverKind, RunId, TargetId};

const ID: &str = "20261121T020000Z-9f2c61aa";

fn view(width: Option<u16>) -> View {
    View {
        width,
        now: "2026-11-21T07:30:00Z".parse().unwrap(),
        time_zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn run_id() -> RunId {
    ID.parse().unwrap()
}

fn artifact(role: Role, file: &str, plain: u64, stored: u64, compression: Compression) -> Artifact {
    let digest = |bytes, digit: &str| StreamDigest {
        bytes,
        sha256: digit.repeat(64),
    };
    Artifact {
        role,
        object: ObjectPath::new("candigv2", &run_id(), file).unwrap(),
        plain: digest(plain, "a"),
        stored: digest(stored, "b"),
        compression,
        encryption: Encryption::None,
    }
}

fn record(
    target: TargetId,
    transfer: Transfer,
    facts: Facts,
    artifacts: Vec<Artifact>,
) -> TargetRecord {
    TargetRecord {
        container: ContainerRecord {
            id: "c".repeat(64),
            name: format!("candigv2_{}_1", target.service),
            image: format!("{}:15", target.service),
            image_digest: String::new(),
            keep: None,
        },
        target,
        transfer,
        facts,
        artifacts,
        warnings: Vec::new(),
    }
}

fn database() -> TargetRecord {
    let table = |name: &str, estimated_rows| TableFacts {
        schema: "public".to_owned(),
        name: name.to_owned(),
        estimated_rows,
        bytes: 0,
    };
    let facts = PostgresFacts {
        server_version: "15.8 (Debian 15.8-0+deb12u1)".to_owned(),
        database: "clinical".to_owned(),
        databases: Vec::new(),
        search_path: String::new(),
        size: 1_200_000_000,
        entries: 120,
        bound_to_name: Vec::new(),
        tables: vec![
            table("patient", Some(118_000)),
            table("sample", Some(2_345)),
            table("new", None),
        ],
        exclude_tables: vec!["tmp_*".to_owned()],
        exclude_table_data: vec!["audit".to_owned(), "jobs".to_owned()],
    };
    let dump = artifact(
        Role::Dump,
        "postgres-db.postgres.clinical.dump.zst",
        1_073_741_824,
        352_321_536,
        Compression::Zstd(3),
    );
    record(
        TargetId::new("postgres-db", DriverKind::Postgres, "clinical"),
        Transfer::Copy,
        Facts::Postgres(facts),
        vec![dump],
    )
}

fn globals() -> TargetRecord {
    let facts = PostgresFacts {
        server_version: "15.8".to_owned(),
        ..PostgresFacts::default()
    };
    let script = artifact(
        Role::Globals,
        "postgres-db.postgres.@globals.sql",
        900,
        900,
        Compression::None,
    );
    record(
        TargetId::new("postgres-db", DriverKind::Postgres, "@globals"),
        Transfer::Stream,
        Facts::Postgres(facts),
        vec![script],
    )
}

fn volume() -> TargetRecord {
    let facts = TreeFacts {
        path: "/vault".to_owned(),
        volume: Some("candigv2_vault-data".to_owned()),
        shape: TreeShape::Directory,
        entries: 1_204,
        content_bytes: 3_565_158,
        exclude: vec!["/cache".to_owned(), "*.tmp".to_owned()],
    };
    let file = |ending: &str| format!("vault.volume.vault-data.{ending}.zst");
    let archive = artifact(
        Role::Layer,
        &file("tar"),
        4_000_000,
        1_500_000,
        Compression::Zstd(3),
    );
    let index = artifact(
        Role::Index,
        &file("index.jsonl"),
        90_000,
        9_000,
        Compression::Zstd(3),
    );
    let mut record = record(
        TargetId::new("vault", DriverKind::Volume, "vault-data"),
        Transfer::Helper,
        Facts::Volume(facts),
        vec![archive, index],
    );
    record.warnings.push("core/raft.db changed while it was read; stop the container during backups (`cofferdam.stop: backup`)".to_owned());
    record
}

#[test]
fn what_a_command_printed_is_shown_with_its_program() {
    let mut manifest = complete();
    manifest.targets = vec![command()];
    let shown = render_snapshot(&manifest, None, &view(None));
    assert!(
        shown.contains("What       2.0 MiB from `slapcat`\n"),
        "{shown}"
    );
}

fn command() -> TargetRecord {
    let facts = CommandFacts {
        program: "slapcat".to_owned(),
        bytes: 2_097_152,
    };
    let dump = artifact(
        Role::Dump,
        "ldap.command.entries.dump.zst",
        2_097_152,
        262_144,
        Compression::Zstd(3),
    );
    record(
        TargetId::new("ldap", DriverKind::Command, "entries"),
        Transfer::Copy,
        Facts::Command(facts),
        vec![dump],
    )
}

fn sqlite() -> TargetRecord {
    let table = |name: &str, rows| SqliteTable {
        name: name.to_owned(),
        rows: Some(rows),
    };
    let facts = SqliteFacts {
        path: "/app/data/db.sqlite3".to_owned(),
        volume: Some("igny8_data".to_owned()),
        owner: FileOwner {
            uid: 1000,
            gid: 1000,
            mode: 0o640,
        },
        held_up_milliseconds: 14,
        content: SqliteContent {
            library_version: "3.50.2".to_owned(),
            page_size: 4096,
            journal_mode: JournalMode::Rollback,
            encoding: "UTF-8".to_owned(),
            user_version: 7,
            tables: vec![table("auth_user", 12), table("igny8_keywords", 40_321)],
        },
    };
    let dump = artifact(
        Role::Dump,
        "backend.sqlite.db.sqlite3.sqlite3.zst",
        9_437_184,
        2_097_152,
        Compression::Zstd(3),
    );
    record(
        TargetId::new("backend", DriverKind::Sqlite, "db.sqlite3"),
        Transfer::Helper,
        Facts::Sqlite(facts),
        vec![dump],
    )
}

#[test]
fn a_sqlite_database_shows_what_it_holds_and_who_waited() {
    let mut manifest = complete();
    manifest.targets = vec![sqlite()];
    let mut in_wal = sqlite();
    if let Facts::Sqlite(facts) = &mut in_wal.facts {
        facts.content.journal_mode = JournalMode::Wal;
    }
    manifest.targets.push(in_wal);
    let shown = render_snapshot(&manifest, None, &view(None));
    let of_databases: Vec<&str> = shown
        .lines()
        .filter(|line| {
            ["What", "Content", "File", "Copied"]
                .iter()
                .any(|name| line.trim().starts_with(name))
        })
        .collect();
    assert_snapshot!(of_databases.join("\n"), @r"
      What       SQLite database /app/data/db.sqlite3 on volume igny8_data
      Content    2 tables, 40,333 rows; user version 7, checked with SQLite 3.50.2
      File       owned by 1000:1000, mode 0640
      Copied     writers were blocked for 14 ms (rollback journal)
      What       SQLite database /app/data/db.sqlite3 on volume igny8_data
      Content    2 tables, 40,333 rows; user version 7, checked with SQLite 3.50.2
      File       owned by 1000:1000, mode 0640
      Copied     without blocking writers (write-ahead log)
    ");
}

fn complete() -> Manifest {
    Manifest {
        format: FORMAT,
        tool: "cofferdam 0.1.0".to_owned(),
        snapshot: run_id(),
        project: "candigv2".to_owned(),
        node: None,
        purpose: Purpose::Backup,
        by_hand: false,
        selection: Vec::new(),
        started: "2026-11-21T02:00:00Z".parse().unwrap(),
        finished: "2026-11-21T02:01:23.4Z".parse().unwrap(),
        engine: EngineFacts {
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        },
        targets: vec![database(), globals(), volume()],
        failed: Vec::new(),
        skipped: Vec::new(),
        shrunken: Vec::new(),
        disturbed: Vec::new(),
        warnings: Vec::new(),
    }
}

fn partial() -> Manifest {
    let mut manifest = complete();
    manifest.targets.remove(0);
    manifest.purpose = Purpose::Safety {
        restore: "20261121T015955Z-00c0ffee".parse().unwrap(),
    };
    manifest.failed.push(Failure {
        target: TargetId::new("postgres-db", DriverKind::Postgres, "genomic"),
        reason: "pg_dump failed with exit code 1: error: connection to server failed: FATAL:  database \"genomic\" does not exist".to_owned(),
    });
    manifest.skipped.push(Skip {
        service: "redis".to_owned(),
        reason: "broker only; queues are rebuilt".to_owned(),
    });
    manifest
        .warnings
        .push("the hold took longer than 5 minutes".to_owned());
    manifest
}

fn list(snapshots: &[Listed<'_>], width: Option<u16>) -> String {
    render_snapshots(snapshots, &view(width))
}

#[test]
fn a_list_has_a_line_for_each_snapshot() {
    let (complete, partial) = (complete(), partial());
    let broken = SnapshotRef {
        project: "other".to_owned(),
        id: "20261120T020000Z-00000001".parse().unwrap(),
    };
    let snapshots = [
        Listed::Unreadable {
            snapshot: &broken,
            why: "the manifest is not whole: EOF while parsing a string at line 7 column 3",
        },
        Listed::Readable(&partial, None),
        Listed::Readable(&complete, None),
    ];
    assert_snapshot!(list(&snapshots, None), @r"
    SNAPSHOT                   AGE          PROJECT   TARGETS                STORED        TOOK  STATE
    20261120T020000Z-00000001  1 day ago    other                                                unreadable
    20261121T020000Z-9f2c61aa  5 hours ago  candigv2  1 postgres, 1 volume  1.4 MiB  1 min 23 s  partial: 1 failed, safety
    20261121T020000Z-9f2c61aa  5 hours ago  candigv2  2 postgres, 1 volume  337 MiB  1 min 23 s  complete

    20261120T020000Z-00000001 cannot be read: the manifest is not whole: EOF while parsing a string at line 7 column 3
    ");
    assert_snapshot!(list(&snapshots, Some(100)), @r"
    SNAPSHOT                   AGE          PROJECT   TARGETS         STORED        TOOK  STATE
    20261120T020000Z-00000001  1 day ago    other                                         unreadable
    20261121T020000Z-9f2c61aa  5 hours ago  candigv2  1 postgres, 1  1.4 MiB  1 min 23 s  partial: 1
                                                      volume                              failed,
                                                                                          safety
    20261121T020000Z-9f2c61aa  5 hours ago  candigv2  2 postgres, 1  337 MiB  1 min 23 s  complete
                                                      volume

    20261120T020000Z-00000001 cannot be read: the manifest is not whole: EOF while parsing a string at line 7 column 3
    ");
}

#[test]
fn a_selection_is_told_from_a_backup_of_everything() {
    let mut manifest = complete();
    manifest.selection = vec!["postgres-db/*".to_owned(), "vault/\u{1b}*".to_owned()];
    manifest.targets[0].container.keep = Some("daily=2,weekly=3".to_owned());
    let line = list(&[Listed::Readable(&manifest, None)], None);
    assert!(line.trim_end().ends_with("complete, selection"), "{line}");
    let page = render_snapshot(&manifest, None, &view(None));
    let field = |name: &str| {
        let mut lines = page.lines();
        lines.find_map(|line| line.trim_start().strip_prefix(name))
    };
    assert_eq!(
        field("Only").map(str::trim),
        Some("postgres-db/*, vault/\\u{1b}*")
    );
    assert_eq!(field("Kept by").map(str::trim), Some("daily=2,weekly=3"));
}

#[test]
fn a_target_that_has_shrunk_is_told_also_where_nothing_is_pruned() {
    let mut manifest = complete();
    manifest.shrunken.push(Shrunken {
        target: TargetId::new("postgres-db", DriverKind::Postgres, "clinical"),
        bytes: 40 << 20,
        before: "20261120T020000Z-00000001".parse().unwrap(),
        bytes_before: 1 << 30,
    });
    let said =
        "postgres-db/postgres/clinical is 40.0 MiB, down from 1.0 GiB in 20261120T020000Z-00000001";
    assert!(render_snapshot(&manifest, None, &view(None)).contains(said));
    let report = BackupReport {
        copies: Vec::new(),
        repository: UsedPlace {
            place: "/backups".to_owned(),
            id: "5ae1".to_owned(),
            is_new: true,
            is_another: true,
            warnings: vec!["the other\u{1b} disk".to_owned()],
        },
        manifest,
        problems: Vec::new(),
        pruned: None,
    };
    assert!(report.is_complete());
    let text = outcome::backups(&[report], &view(None));
    assert!(text.contains(&format!("  warning: {said}\n")), "{text}");
    let made = "  warning: made a new repository at /backups, with the id 5ae1: it holds no earlier snapshots\n";
    assert!(text.contains(made), "{text}");
    assert!(
        text.contains("  warning: the other\\u{1b} disk\n"),
        "{text}"
    );
}

#[test]
fn a_snapshot_tells_who_was_started_while_it_was_taken() {
    let mut manifest = complete();
    manifest.disturbed = vec!["web\u{1b}".to_owned()];
    let one = "web\\u{1b} was started from outside while it was held: the saved data may not be from one moment";
    let text = render_snapshot(&manifest, None, &view(None));
    assert!(text.contains(one), "{text}");
    manifest.disturbed.push("worker".to_owned());
    let text = render_snapshot(&manifest, None, &view(None));
    assert!(
        text.contains("and worker were started from outside while they were held"),
        "{text}"
    );
}

#[test]
fn an_empty_list_says_how_to_begin() {
    assert_snapshot!(list(&[], None), @r"There are no snapshots yet. `cofferdam backup` takes one.");
}

#[test]
fn a_snapshot_shows_everything() {
    assert_snapshot!(render_snapshot(&complete(), None, &view(None)), @r"
    Snapshot 20261121T020000Z-9f2c61aa of candigv2
      State      complete: 3 targets
      Taken      2026-11-21 03:00:00 CET, 5 hours ago, in 1 min 23 s
      Size       337 MiB stored, 1.0 GiB before compression
      Made by    cofferdam 0.1.0 on Docker Engine 20.10.24 (API 1.41, linux/amd64)

    postgres-db/postgres/clinical
      What       database `clinical` of PostgreSQL 15.8 (Debian 15.8-0+deb12u1)
      Content    3 tables, about 120,345 rows; 1.1 GiB on the server
      Left out   tables tmp_*
      Left out   rows of audit, jobs
      From       container candigv2_postgres-db_1 of image postgres-db:15 (dumped to a file in it)
      Dump       336 MiB (352,321,536 bytes), zstd:3 of 1.0 GiB
                 candigv2/20261121T020000Z-9f2c61aa/postgres-db.postgres.clinical.dump.zst
                 sha256 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb

    postgres-db/postgres/@globals
      What       roles and tablespaces of PostgreSQL 15.8
      From       container candigv2_postgres-db_1 of image postgres-db:15 (streamed out of it)
      Script     900 B (900 bytes)
                 candigv2/20261121T020000Z-9f2c61aa/postgres-db.postgres.@globals.sql
                 sha256 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb

    vault/volume/vault-data
      What       volume candigv2_vault-data at /vault
      Content    1,204 entries, 3.4 MiB in files
      Left out   /cache, *.tmp
      From       container candigv2_vault_1 of image vault:15 (read by a helper)
      Archive    1.4 MiB (1,500,000 bytes), zstd:3 of 3.8 MiB
                 candigv2/20261121T020000Z-9f2c61aa/vault.volume.vault-data.tar.zst
                 sha256 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      Index      8.8 KiB (9,000 bytes), zstd:3 of 87.9 KiB
                 candigv2/20261121T020000Z-9f2c61aa/vault.volume.vault-data.index.jsonl.zst
                 sha256 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      Warning    core/raft.db changed while it was read; stop the container during backups (`cofferdam.stop: backup`)

    Commands
      Restore    cofferdam restore 20261121T020000Z-9f2c61aa --project candigv2
      Check      cofferdam verify 20261121T020000Z-9f2c61aa --project candigv2 --read
      Export     cofferdam export 20261121T020000Z-9f2c61aa DIR --project candigv2
    ");
}

#[test]
fn a_partial_snapshot_shows_its_failures_first_and_fits_the_terminal() {
    assert_snapshot!(render_snapshot(&partial(), None, &view(Some(80))), @r#"
    Snapshot 20261121T020000Z-9f2c61aa of candigv2
      State      partial: 2 targets saved, 1 failed
      Purpose    safety snapshot of restore 20261121T015955Z-00c0ffee
      Taken      2026-11-21 03:00:00 CET, 5 hours ago, in 1 min 23 s
      Size       1.4 MiB stored, 3.9 MiB before compression
      Made by    cofferdam 0.1.0 on Docker Engine 20.10.24 (API 1.41, linux/amd64)
      Warning    the hold took longer than 5 minutes

    FAILED  postgres-db/postgres/genomic
      Why        pg_dump failed with exit code 1: error: connection to server
                 failed: FATAL:  database "genomic" does not exist

    postgres-db/postgres/@globals
      What       roles and tablespaces of PostgreSQL 15.8
      From       container candigv2_postgres-db_1 of image postgres-db:15 (streamed
                 out of it)
      Script     900 B (900 bytes)
                 candigv2/20261121T020000Z-9f2c61aa/postgres-db.postgres.@globals.sql
                 sha256
                 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb

    vault/volume/vault-data
      What       volume candigv2_vault-data at /vault
      Content    1,204 entries, 3.4 MiB in files
      Left out   /cache, *.tmp
      From       container candigv2_vault_1 of image vault:15 (read by a helper)
      Archive    1.4 MiB (1,500,000 bytes), zstd:3 of 3.8 MiB
                 candigv2/20261121T020000Z-9f2c61aa/vault.volume.vault-data.tar.zst
                 sha256
                 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      Index      8.8 KiB (9,000 bytes), zstd:3 of 87.9 KiB
                 candigv2/20261121T020000Z-9f2c61aa/vault.volume.vault-data.index.jsonl.zst
                 sha256
                 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      Warning    core/raft.db changed while it was read; stop the container during
                 backups (`cofferdam.stop: backup`)

    Left out on purpose
      Skipped    redis: broker only; queues are rebuilt

    Commands
      Restore    cofferdam restore 20261121T020000Z-9f2c61aa --project candigv2
      Check      cofferdam verify 20261121T020000Z-9f2c61aa --project candigv2
                 --read
      Export     cofferdam export 20261121T020000Z-9f2c61aa DIR --project candigv2
    "#);
}

#[test]
fn a_snapshot_tells_to_whom_it_is_encrypted() {
    let key = |text: &str| PublicKey::try_from(text.to_owned()).unwrap();
    let mut manifest = complete();
    let mut encrypt = |number: usize, to| {
        let mut artifacts = manifest.targets.iter_mut().flat_map(|it| &mut it.artifacts);
        artifacts.nth(number).unwrap().encryption = Encryption::Age(AgeFile {
            to,
            compressed_bytes: 1,
        });
    };
    let both = vec![key("age1alice"), key("age1bob")];
    encrypt(0, EncryptedTo::Recipients(both.clone()));
    encrypt(1, EncryptedTo::Recipients(both));
    encrypt(2, EncryptedTo::Passphrase);
    let shown = render_snapshot(&manifest, None, &view(None));
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("by age"))
        .collect();
    assert_snapshot!(lines.join("\n"), @r"
    Encrypted  by age, to age1alice, age1bob (2 of 4 objects)
    Encrypted  by age, with a passphrase (1 of 4 objects)
    ");
}

#[test]
fn a_hostile_manifest_cannot_drive_the_terminal() {
    let mut manifest = partial();
    manifest.targets.push(sqlite());
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J".to_owned();
    manifest.project.clone_from(&hostile);
    manifest.tool.clone_from(&hostile);
    manifest.engine.version.clone_from(&hostile);
    manifest.failed[0].reason.clone_from(&hostile);
    manifest.failed[0].target.name.clone_from(&hostile);
    manifest.skipped[0].service.clone_from(&hostile);
    manifest.warnings[0].clone_from(&hostile);
    for record in &mut manifest.targets {
        record.target.name.clone_from(&hostile);
        record.container.name.clone_from(&hostile);
        record.container.image.clone_from(&hostile);
        record.warnings.push(hostile.clone());
        match &mut record.facts {
            Facts::Postgres(facts) => facts.server_version.clone_from(&hostile),
            Facts::Basebackup(facts) => facts.server_version.clone_from(&hostile),
            Facts::Command(facts) => facts.program.clone_from(&hostile),
            Facts::Couchdb(facts) => facts.node.clone_from(&hostile),
            Facts::Elasticsearch(facts) => facts.indices = vec![hostile.clone()],
            Facts::Mysql(facts) => {
                facts.server_version.clone_from(&hostile);
                facts.database.clone_from(&hostile);
                facts.exclude_tables = vec![hostile.clone()];
            }
            Facts::Volume(facts) | Facts::Files(facts) => {
                facts.path.clone_from(&hostile);
                facts.volume = Some(hostile.clone());
                facts.exclude = vec![hostile.clone()];
            }
            Facts::Sqlite(facts) => {
                facts.path.clone_from(&hostile);
                facts.volume = Some(hostile.clone());
                facts.content.library_version.clone_from(&hostile);
            }
        }
    }
    let shown = render_snapshot(&manifest, None, &view(None))
        + &list(&[Listed::Readable(&manifest, None)], None);
    let control = shown
        .chars()
        .find(|char| char.is_control() && *char != '\n');
    assert_eq!(control, None, "{shown:?}");
}

#[test]
fn a_plan_says_what_is_saved_and_what_is_not_and_how_to_mend_it() {
    let finding = |service: &str, what: &str, label: &str, hint: Option<&str>| Finding {
        service: service.to_owned(),
        what: what.to_owned(),
        label: label.to_owned(),
        hint: hint.map(str::to_owned),
    };
    let plan = BackupPlan {
        project: "shop".to_owned(),
        selection: Vec::new(),
        by_hand: false,
        pin: None,
        may_shrink: Vec::new(),
        targets: vec![PlannedTarget {
            id: TargetId::new("db", DriverKind::Postgres, "shop"),
            container: "shop-db-1".to_owned(),
            what: "database shop".to_owned(),
        }],
        unreachable: Vec::new(),
        holds: Vec::new(),
        hooks: Vec::new(),
        skipped: Vec::new(),
        findings: Some(vec![
            finding(
                "broker",
                "nothing saves its Redis server",
                "cofferdam.command.rdb.dump: redis-cli --rdb -",
                Some("see docs/recipes.md for the rest"),
            ),
            finding(
                "app",
                "nothing saves volume shop_uploads at /srv",
                "cofferdam.volumes: uploads",
                None,
            ),
        ]),
        warnings: Vec::new(),
    };
    assert_snapshot!(plan::backups(std::slice::from_ref(&plan), &view(None)), @r"
    Project shop

    Saved
                 db/postgres/shop: database shop

    Not protected
                 broker: nothing saves its Redis server; to fix this, add the label `cofferdam.command.rdb.dump: redis-cli --rdb -` (see docs/recipes.md for the rest)
                 app: nothing saves volume shop_uploads at /srv; to fix this, add the label `cofferdam.volumes: uploads`
    ");
    let for_programs = serde_json::to_value(&plan.findings).unwrap();
    assert_eq!(for_programs[0]["hint"], "see docs/recipes.md for the rest");
    assert_eq!(for_programs[1].get("hint"), None);

    let unaudited = BackupPlan {
        findings: None,
        ..plan
    };
    assert_snapshot!(plan::backups(&[unaudited], &view(None)), @r"
    Project shop

    Saved
                 db/postgres/shop: database shop

    Not protected
                 not checked (--no-audit)
    ");
}
