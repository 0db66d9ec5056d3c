//! `show`: everything that a snapshot's manifest says, for somebody who needs it now.

use std::collections::BTreeMap;

use super::layout::Page;
use super::{View, shrinkage};
use crate::amounts::{between, count, counted, duration, size};
use crate::hold::disturbance;
use crate::manifest::{
    Artifact, BasebackupFacts, CommandFacts, Compression, CouchdbFacts, ElasticsearchFacts,
    EncryptedTo, Encryption, Facts, JournalMode, Manifest, MysqlFacts, PostgresFacts, Purpose,
    Role, SqliteFacts, TargetRecord, Transfer, TreeFacts, TreeShape,
};
use crate::repository::pin::Pin;
use crate::text::printable;

/// The whole snapshot. What went wrong stands before what went well; the commands that put it back stand last.
pub fn render_snapshot(manifest: &Manifest, pin: Option<&Pin>, view: &View) -> String {
    let mut page = Page::new(view.width);
    summary(&mut page, manifest, pin, view);
    for failure in &manifest.failed {
        page.heading(&format!("FAILED  {}", failure.target));
        page.field("Why", &printable(&failure.reason));
    }
    for record in &manifest.targets {
        page.heading(&record.target.to_string());
        target(&mut page, record);
    }
    if !manifest.skipped.is_empty() {
        page.heading("Left out on purpose");
        for skip in &manifest.skipped {
            let text = format!("{}: {}", printable(&skip.service), printable(&skip.reason));
            page.field("Skipped", &text);
        }
    }
    ways_back(&mut page, manifest);
    page.finish()
}

fn summary(page: &mut Page, manifest: &Manifest, pin: Option<&Pin>, view: &View) {
    let project = printable(&manifest.project);
    page.heading(&format!("Snapshot {} of {project}", manifest.snapshot));
    page.field("State", &state(manifest));
    if let Some(pin) = pin {
        page.field("Pinned", &printable(&pin.name));
    }
    if let Some(node) = &manifest.node {
        page.field("Node", &printable(node));
    }
    if let Purpose::Safety { restore } = &manifest.purpose {
        page.field("Purpose", &format!("safety snapshot of restore {restore}"));
    }
    if !manifest.selection.is_empty() {
        page.field("Only", &printable(&manifest.selection.join(", ")));
    }
    let by_hand = if manifest.by_hand { ", by hand" } else { "" };
    let taken = format!(
        "{}, {}, in {}{by_hand}",
        view.time(manifest.started),
        view.age(manifest.started),
        duration(between(manifest.started, manifest.finished))
    );
    page.field("Taken", &taken);
    let plain = manifest.objects().map(|artifact| artifact.plain.bytes);
    let stored = format!(
        "{} stored, {} before compression",
        size(manifest.stored_bytes()),
        size(plain.fold(0, u64::saturating_add))
    );
    page.field("Size", &stored);
    encrypted(page, manifest);
    let engine = &manifest.engine;
    let by = format!(
        "{} on Docker Engine {} (API {}, {}/{})",
        printable(&manifest.tool),
        printable(&engine.version),
        printable(&engine.api_version),
        printable(&engine.os),
        printable(&engine.architecture)
    );
    page.field("Made by", &by);
    for warning in &manifest.warnings {
        page.field("Warning", &printable(warning));
    }
    if !manifest.disturbed.is_empty() {
        let what = disturbance(&manifest.disturbed);
        let warning = format!("{what}: the saved data may not be from one moment");
        page.field("Warning", &warning);
    }
    for one in &manifest.shrunken {
        page.field("Warning", &shrinkage(one));
    }
}

/// To whom, and how much of it where that is not all.
fn encrypted(page: &mut Page, manifest: &Manifest) {
    let objects = manifest.objects().count();
    let mut counts: BTreeMap<&EncryptedTo, usize> = BTreeMap::new();
    for artifact in manifest.objects() {
        if let Encryption::Age(file) = &artifact.encryption {
            *counts.entry(&file.to).or_default() += 1;
        }
    }
    for (to, number) in counts {
        let mut text = format!("by age, {to}");
        if number < objects {
            text.push_str(&format!(" ({number} of {objects} objects)"));
        }
        page.field("Encrypted", &text);
    }
}

fn state(manifest: &Manifest) -> String {
    let saved = counted(manifest.targets.len() as u64, "target");
    match manifest.failed.len() {
        0 => format!("complete: {saved}"),
        failed => format!("partial: {saved} saved, {} failed", count(failed as u64)),
    }
}

fn target(page: &mut Page, record: &TargetRecord) {
    match &record.facts {
        Facts::Postgres(facts) => postgres(page, facts),
        Facts::Basebackup(facts) => basebackup(page, facts),
        Facts::Mysql(facts) => mysql(page, facts),
        Facts::Volume(facts) | Facts::Files(facts) => tree(page, facts),
        Facts::Command(facts) => command(page, facts),
        Facts::Sqlite(facts) => sqlite(page, facts),
        Facts::Couchdb(facts) => couchdb(page, facts),
        Facts::Elasticsearch(facts) => elasticsearch(page, facts),
    }
    let container = &record.container;
    let from = format!(
        "container {} of image {} ({})",
        printable(&container.name),
        printable(&container.image),
        way(record.transfer)
    );
    page.field("From", &from);
    if let Some(keep) = &container.keep {
        page.field("Kept by", &printable(keep));
    }
    for artifact in &record.artifacts {
        page.field(name_of(artifact.role), &stored(artifact));
        page.field("", artifact.object.as_str());
        page.field(
            "",
            &format!("sha256 {}", printable(&artifact.stored.sha256)),
        );
    }
    for warning in &record.warnings {
        page.field("Warning", &printable(warning));
    }
}

fn postgres(page: &mut Page, facts: &PostgresFacts) {
    let server = format!("PostgreSQL {}", printable(&facts.server_version));
    if facts.database.is_empty() {
        let what = match facts.databases.len() as u64 {
            0 => format!("roles and tablespaces of {server}"),
            databases => format!("the whole of {server}: {}", counted(databases, "database")),
        };
        page.field("What", &what);
        return;
    }
    let what = format!("database `{}` of {server}", printable(&facts.database));
    page.field("What", &what);

    let rows = facts.tables.iter().filter_map(|table| table.estimated_rows);
    let tables = facts.tables.len() as u64;
    let content = format!(
        "{}, about {}; {} on the server",
        counted(tables, "table"),
        counted(rows.fold(0, u64::saturating_add), "row"),
        size(facts.size)
    );
    page.field("Content", &content);
    left_out(page, &facts.exclude_tables, "tables");
    left_out(page, &facts.exclude_table_data, "rows of");
}

fn basebackup(page: &mut Page, facts: &BasebackupFacts) {
    let server = format!(
        "the server: PostgreSQL {}",
        printable(&facts.server_version)
    );
    page.field("Data of", &server);
    tree(page, &facts.tree);
}

fn couchdb(page: &mut Page, facts: &CouchdbFacts) {
    let node = format!(
        "node {} of CouchDB {}",
        printable(&facts.node),
        printable(&facts.server_version)
    );
    page.field("Data of", &node);
    let documents = facts.databases.iter().map(|database| database.documents);
    let databases = format!(
        "{}, {}",
        counted(facts.databases.len() as u64, "database"),
        counted(documents.fold(0, u64::saturating_add), "document")
    );
    page.field("Databases", &databases);
    tree(page, &facts.tree);
}

fn elasticsearch(page: &mut Page, facts: &ElasticsearchFacts) {
    let place = match &facts.repository {
        Some(repository) => format!(" in the server's repository {}", printable(repository)),
        None => String::new(),
    };
    let what = format!(
        "snapshot {} of {} {}{place}",
        printable(&facts.snapshot),
        facts.flavour,
        printable(&facts.server_version)
    );
    page.field("What", &what);
    page.field("Indices", &listed(&facts.indices));
    if !facts.data_streams.is_empty() {
        page.field("Data streams", &listed(&facts.data_streams));
    }
    if let Some(facts) = &facts.tree {
        let content = format!(
            "{}, {} in files",
            counted(facts.entries, "entry"),
            size(facts.content_bytes)
        );
        page.field("Content", &content);
    }
}

fn mysql(page: &mut Page, facts: &MysqlFacts) {
    let server = format!("{} {}", facts.flavour, printable(&facts.server_version));
    if facts.database.is_empty() {
        page.field("What", &format!("users and grants of {server}"));
        return;
    }
    let what = format!("database `{}` of {server}", printable(&facts.database));
    page.field("What", &what);

    let rows = facts.tables.iter().filter_map(|table| table.estimated_rows);
    let mut content = format!(
        "{}, about {}; {} on the server",
        counted(facts.tables.len() as u64, "table"),
        counted(rows.fold(0, u64::saturating_add), "row"),
        size(facts.size)
    );
    if let Some(programs) = &facts.programs {
        for (number, word) in [
            (programs.views, "view"),
            (programs.triggers, "trigger"),
            (programs.routines, "routine"),
            (programs.events, "event"),
        ] {
            if number > 0 {
                content.push_str(&format!("; {}", counted(number, word)));
            }
        }
    }
    page.field("Content", &content);
    left_out(page, &facts.exclude_tables, "tables");
    left_out(page, &facts.exclude_table_data, "rows of");
}

fn tree(page: &mut Page, facts: &TreeFacts) {
    let path = printable(&facts.path);
    let what = match (&facts.volume, facts.shape) {
        (Some(volume), _) => format!("volume {} at {path}", printable(volume)),
        (None, TreeShape::Directory) => format!("directory {path}"),
        (None, TreeShape::File) => format!("file {path}"),
    };
    page.field("What", &what);
    let content = format!(
        "{}, {} in files",
        counted(facts.entries, "entry"),
        size(facts.content_bytes)
    );
    page.field("Content", &content);
    left_out(page, &facts.exclude, "");
}

fn command(page: &mut Page, facts: &CommandFacts) {
    let what = format!("{} from `{}`", size(facts.bytes), printable(&facts.program));
    page.field("What", &what);
}

fn sqlite(page: &mut Page, facts: &SqliteFacts) {
    let path = printable(&facts.path);
    let what = match &facts.volume {
        Some(volume) => format!("SQLite database {path} on volume {}", printable(volume)),
        None => format!("SQLite database {path}"),
    };
    page.field("What", &what);
    let content = &facts.content;
    let rows = content.tables.iter().filter_map(|table| table.rows);
    let counted = format!(
        "{}, {}; user version {}, checked with SQLite {}",
        counted(content.tables.len() as u64, "table"),
        counted(rows.fold(0, u64::saturating_add), "row"),
        content.user_version,
        printable(&content.library_version)
    );
    page.field("Content", &counted);
    let owner = facts.owner;
    let file = format!(
        "owned by {}:{}, mode {:04o}",
        owner.uid, owner.gid, owner.mode
    );
    page.field("File", &file);
    let held_up = match content.journal_mode {
        JournalMode::Wal => "without blocking writers (write-ahead log)".to_owned(),
        JournalMode::Rollback => format!(
            "writers were blocked for {} ms (rollback journal)",
            count(facts.held_up_milliseconds)
        ),
    };
    page.field("Copied", &held_up);
}

/// The first few of many names.
fn listed(names: &[String]) -> String {
    const MAX_SHOWN: usize = 10;
    let mut text = printable(&names[..names.len().min(MAX_SHOWN)].join(", "));
    if names.len() > MAX_SHOWN {
        text.push_str(&format!(
            " and {} more",
            count((names.len() - MAX_SHOWN) as u64)
        ));
    }
    text
}

fn left_out(page: &mut Page, patterns: &[String], what: &str) {
    if !patterns.is_empty() {
        let text = format!("{what} {}", printable(&patterns.join(", ")));
        page.field("Left out", text.trim_start());
    }
}

/// `336 MiB, zstd:3 of 1.0 GiB`
fn stored(artifact: &Artifact) -> String {
    let stored = size(artifact.stored.bytes);
    match artifact.compression {
        Compression::None => format!("{stored} ({} bytes)", count(artifact.stored.bytes)),
        how => format!(
            "{stored} ({} bytes), {how} of {}",
            count(artifact.stored.bytes),
            size(artifact.plain.bytes)
        ),
    }
}

fn name_of(role: Role) -> &'static str {
    match role {
        Role::Dump => "Dump",
        Role::Globals => "Script",
        Role::Layer => "Archive",
        Role::Index => "Index",
    }
}

fn way(transfer: Transfer) -> &'static str {
    match transfer {
        Transfer::Copy => "dumped to a file in it",
        Transfer::Stream => "streamed out of it",
        Transfer::Helper => "read by a helper",
        Transfer::Archive => "through the archive API",
    }
}

fn ways_back(page: &mut Page, manifest: &Manifest) {
    page.heading("Commands");
    let snapshot = &manifest.snapshot;
    // In a shell, a name of a project that compose allows needs no quotes; any other gets them.
    let project = shlex::try_quote(&manifest.project).map(|it| printable(&it));
    let scope = project.map_or_else(|_| String::new(), |project| format!(" --project {project}"));
    page.field("Restore", &format!("cofferdam restore {snapshot}{scope}"));
    page.field(
        "Check",
        &format!("cofferdam verify {snapshot}{scope} --read"),
    );
    page.field("Export", &format!("cofferdam export {snapshot} DIR{scope}"));
}
