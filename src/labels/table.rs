//! Every label there is, in one place: the parser, its "did you mean" and the check of `docs/labels.md` read this table.

use super::{HookPoint, TRIGGER};

/// Compose's label of a service's name.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";

pub const PREFIX: &str = "cofferdam.";

/// Stands in a pattern for a name that the user chooses; it may contain dots.
pub const NAME: &str = "<name>";

pub struct Entry {
    /// The label's key; [`NAME`] stands for the user's own part.
    pub pattern: &'static str,
    pub label: Label,
    /// One line, for people.
    pub summary: &'static str,
}

/// What a label's key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Enable,
    Project,
    Service,
    Skip,
    Postgres(PostgresLabel),
    Mysql(MysqlLabel),
    Couchdb(CouchdbLabel),
    Elasticsearch(ElasticsearchLabel),
    Volumes,
    /// Volumes that are left out on purpose.
    VolumesSkip,
    /// An option of one named volume.
    Volume(TreeLabel),
    Binds,
    /// Bind mounts that are left out on purpose.
    BindsSkip,
    Sqlite,
    FilesPath,
    /// An option of one `cofferdam.files.<name>`.
    Files(TreeLabel),
    /// One of `cofferdam.command.<name>.…`.
    Command(CommandLabel),
    Keep,
    Schedule,
    Trigger,
    Stop,
    Pause,
    HoldFor,
    ReadyTimeout,
    Hook(HookPoint, HookLabel),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresLabel {
    Databases,
    User,
    PasswordFile,
    PasswordVariable,
    Port,
    MaintenanceDb,
    Mode,
    ExcludeTables,
    ExcludeTableData,
    Restore,
    Transfer,
    Scratch,
    ExecUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlLabel {
    Databases,
    User,
    PasswordFile,
    PasswordVariable,
    Port,
    ExcludeTables,
    ExcludeTableData,
    Restore,
    Transfer,
    Scratch,
    ExecUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CouchdbLabel {
    Databases,
    User,
    PasswordFile,
    PasswordVariable,
    Port,
    DataDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElasticsearchLabel {
    Indices,
    User,
    PasswordFile,
    PasswordVariable,
    Port,
    Tls,
    Location,
    Repository,
    DataDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeLabel {
    Exclude,
    Restore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLabel {
    Dump,
    Load,
    Check,
    AllowEmpty,
    EndsWith,
    DataDirectory,
    Timeout,
    Transfer,
    Scratch,
    ExecUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookLabel {
    Command,
    User,
    Timeout,
    WhenStopped,
}

impl Label {
    /// Whether it names what is saved, and so opts its container in.
    pub fn names_targets(self) -> bool {
        matches!(
            self,
            Self::Postgres(PostgresLabel::Databases)
                | Self::Mysql(MysqlLabel::Databases)
                | Self::Couchdb(CouchdbLabel::Databases)
                | Self::Elasticsearch(ElasticsearchLabel::Indices)
                | Self::Sqlite
                | Self::Volumes
                | Self::Binds
                | Self::FilesPath
                | Self::Command(CommandLabel::Dump)
        )
    }

    /// Those of them that name trees. Beside `enable: true` they add to what is detected.
    pub fn names_trees(self) -> bool {
        matches!(self, Self::Volumes | Self::Binds | Self::FilesPath)
    }
}

const fn entry(pattern: &'static str, label: Label, summary: &'static str) -> Entry {
    Entry {
        pattern,
        label,
        summary,
    }
}

const HOOK_USER: &str = "user that the hook runs as";
const HOOK_TIMEOUT: &str = "how long the hook may take";
const HOOK_WHEN_STOPPED: &str =
    "what happens to the hook when its container is not running: `fail` or `skip`";

pub const TABLE: &[Entry] = &[
    entry(
        "cofferdam.enable",
        Label::Enable,
        "`true`: back this container up; `false`: ignore it",
    ),
    entry(
        "cofferdam.project",
        Label::Project,
        "project of a container that compose did not start",
    ),
    entry(
        "cofferdam.service",
        Label::Service,
        "service of a container that compose did not start",
    ),
    entry(
        "cofferdam.skip",
        Label::Skip,
        "why this container is left out on purpose",
    ),
    entry(
        "cofferdam.postgres",
        Label::Postgres(PostgresLabel::Databases),
        "databases to save, or `*`",
    ),
    entry(
        "cofferdam.postgres.user",
        Label::Postgres(PostgresLabel::User),
        "role to connect as",
    ),
    entry(
        "cofferdam.postgres.password-file",
        Label::Postgres(PostgresLabel::PasswordFile),
        "file in the container that holds the password",
    ),
    entry(
        "cofferdam.postgres.password-variable",
        Label::Postgres(PostgresLabel::PasswordVariable),
        "variable of the container that holds the password",
    ),
    entry(
        "cofferdam.postgres.port",
        Label::Postgres(PostgresLabel::Port),
        "port of the server inside the container",
    ),
    entry(
        "cofferdam.postgres.maintenance-db",
        Label::Postgres(PostgresLabel::MaintenanceDb),
        "database to connect to while others are replaced",
    ),
    entry(
        "cofferdam.postgres.mode",
        Label::Postgres(PostgresLabel::Mode),
        "how the server is saved: `dump`, `dumpall` or `basebackup`",
    ),
    entry(
        "cofferdam.postgres.exclude-tables",
        Label::Postgres(PostgresLabel::ExcludeTables),
        "patterns of tables to leave out entirely",
    ),
    entry(
        "cofferdam.postgres.exclude-table-data",
        Label::Postgres(PostgresLabel::ExcludeTableData),
        "patterns of tables to save without their rows",
    ),
    entry(
        "cofferdam.postgres.restore",
        Label::Postgres(PostgresLabel::Restore),
        "how a database is restored: `swap`, `recreate` or `clean`",
    ),
    entry(
        "cofferdam.postgres.transfer",
        Label::Postgres(PostgresLabel::Transfer),
        "how a dump leaves the container: `copy` or `stream`",
    ),
    entry(
        "cofferdam.postgres.scratch",
        Label::Postgres(PostgresLabel::Scratch),
        "directory in the container for temporary dump files",
    ),
    entry(
        "cofferdam.postgres.exec-user",
        Label::Postgres(PostgresLabel::ExecUser),
        "system user that the database's client runs as",
    ),
    entry(
        "cofferdam.mysql",
        Label::Mysql(MysqlLabel::Databases),
        "databases to save, or `*`",
    ),
    entry(
        "cofferdam.mysql.user",
        Label::Mysql(MysqlLabel::User),
        "user to connect as",
    ),
    entry(
        "cofferdam.mysql.password-file",
        Label::Mysql(MysqlLabel::PasswordFile),
        "file in the container that holds the password",
    ),
    entry(
        "cofferdam.mysql.password-variable",
        Label::Mysql(MysqlLabel::PasswordVariable),
        "variable of the container that holds the password",
    ),
    entry(
        "cofferdam.mysql.port",
        Label::Mysql(MysqlLabel::Port),
        "port of the server inside the container",
    ),
    entry(
        "cofferdam.mysql.exclude-tables",
        Label::Mysql(MysqlLabel::ExcludeTables),
        "patterns of tables to leave out entirely",
    ),
    entry(
        "cofferdam.mysql.exclude-table-data",
        Label::Mysql(MysqlLabel::ExcludeTableData),
        "patterns of tables to save without their rows",
    ),
    entry(
        "cofferdam.mysql.restore",
        Label::Mysql(MysqlLabel::Restore),
        "how a database is restored: `swap` or `recreate`",
    ),
    entry(
        "cofferdam.mysql.transfer",
        Label::Mysql(MysqlLabel::Transfer),
        "how a dump leaves the container: `copy` or `stream`",
    ),
    entry(
        "cofferdam.mysql.scratch",
        Label::Mysql(MysqlLabel::Scratch),
        "directory in the container for temporary dump files",
    ),
    entry(
        "cofferdam.mysql.exec-user",
        Label::Mysql(MysqlLabel::ExecUser),
        "system user that the database's client runs as",
    ),
    entry(
        "cofferdam.couchdb",
        Label::Couchdb(CouchdbLabel::Databases),
        "`*`: save this node",
    ),
    entry(
        "cofferdam.couchdb.user",
        Label::Couchdb(CouchdbLabel::User),
        "administrator to connect as",
    ),
    entry(
        "cofferdam.couchdb.password-file",
        Label::Couchdb(CouchdbLabel::PasswordFile),
        "file in the container that holds the password",
    ),
    entry(
        "cofferdam.couchdb.password-variable",
        Label::Couchdb(CouchdbLabel::PasswordVariable),
        "variable of the container that holds the password",
    ),
    entry(
        "cofferdam.couchdb.port",
        Label::Couchdb(CouchdbLabel::Port),
        "port of the server inside the container",
    ),
    entry(
        "cofferdam.couchdb.data-directory",
        Label::Couchdb(CouchdbLabel::DataDirectory),
        "where the node keeps its data in the container",
    ),
    entry(
        "cofferdam.elasticsearch",
        Label::Elasticsearch(ElasticsearchLabel::Indices),
        "indices and data streams to save, or `*`",
    ),
    entry(
        "cofferdam.elasticsearch.user",
        Label::Elasticsearch(ElasticsearchLabel::User),
        "user to connect as",
    ),
    entry(
        "cofferdam.elasticsearch.password-file",
        Label::Elasticsearch(ElasticsearchLabel::PasswordFile),
        "file in the container that holds the password",
    ),
    entry(
        "cofferdam.elasticsearch.password-variable",
        Label::Elasticsearch(ElasticsearchLabel::PasswordVariable),
        "variable of the container that holds the password",
    ),
    entry(
        "cofferdam.elasticsearch.port",
        Label::Elasticsearch(ElasticsearchLabel::Port),
        "port of the server inside the container",
    ),
    entry(
        "cofferdam.elasticsearch.tls",
        Label::Elasticsearch(ElasticsearchLabel::Tls),
        "`true`: the server speaks HTTPS",
    ),
    entry(
        "cofferdam.elasticsearch.location",
        Label::Elasticsearch(ElasticsearchLabel::Location),
        "directory in the container for temporary snapshot files",
    ),
    entry(
        "cofferdam.elasticsearch.repository",
        Label::Elasticsearch(ElasticsearchLabel::Repository),
        "repository of the server that keeps the snapshots",
    ),
    entry(
        "cofferdam.elasticsearch.data-directory",
        Label::Elasticsearch(ElasticsearchLabel::DataDirectory),
        "where the server keeps its data in the container",
    ),
    entry(
        "cofferdam.sqlite",
        Label::Sqlite,
        "SQLite database files to save, as the container sees them",
    ),
    entry(
        "cofferdam.volumes",
        Label::Volumes,
        "named volumes to save, or `*`",
    ),
    entry(
        "cofferdam.volumes.<name>.exclude",
        Label::Volume(TreeLabel::Exclude),
        "patterns to leave out of this volume",
    ),
    entry(
        "cofferdam.volumes.<name>.restore",
        Label::Volume(TreeLabel::Restore),
        "how this volume is restored: `replace`, `overlay` or `keep-existing`",
    ),
    entry(
        "cofferdam.volumes.skip",
        Label::VolumesSkip,
        "volumes left out on purpose",
    ),
    entry(
        "cofferdam.binds",
        Label::Binds,
        "bind mounts to save, as paths in the container, or `*`",
    ),
    entry(
        "cofferdam.binds.skip",
        Label::BindsSkip,
        "bind mounts left out on purpose",
    ),
    entry(
        "cofferdam.files.<name>",
        Label::FilesPath,
        "a file or directory to save, as the container sees it",
    ),
    entry(
        "cofferdam.files.<name>.exclude",
        Label::Files(TreeLabel::Exclude),
        "patterns to leave out of this directory",
    ),
    entry(
        "cofferdam.files.<name>.restore",
        Label::Files(TreeLabel::Restore),
        "how it is restored: `replace`, `overlay` or `keep-existing`",
    ),
    entry(
        "cofferdam.command.<name>.dump",
        Label::Command(CommandLabel::Dump),
        "command whose standard output is saved",
    ),
    entry(
        "cofferdam.command.<name>.load",
        Label::Command(CommandLabel::Load),
        "command that loads the dump from standard input",
    ),
    entry(
        "cofferdam.command.<name>.check",
        Label::Command(CommandLabel::Check),
        "command that fails when the loaded data is not good",
    ),
    entry(
        "cofferdam.command.<name>.allow-empty",
        Label::Command(CommandLabel::AllowEmpty),
        "`true`: the dump may be empty, when the store is",
    ),
    entry(
        "cofferdam.command.<name>.ends-with",
        Label::Command(CommandLabel::EndsWith),
        "last line of a complete dump; `*` matches anything",
    ),
    entry(
        "cofferdam.command.<name>.data-directory",
        Label::Command(CommandLabel::DataDirectory),
        "where the store keeps its data in the container",
    ),
    entry(
        "cofferdam.command.<name>.timeout",
        Label::Command(CommandLabel::Timeout),
        "how long the dump may stay silent, and how long the check may take",
    ),
    entry(
        "cofferdam.command.<name>.transfer",
        Label::Command(CommandLabel::Transfer),
        "how a dump leaves the container: `copy` or `stream`",
    ),
    entry(
        "cofferdam.command.<name>.scratch",
        Label::Command(CommandLabel::Scratch),
        "directory in the container for temporary dump files",
    ),
    entry(
        "cofferdam.command.<name>.exec-user",
        Label::Command(CommandLabel::ExecUser),
        "system user that the commands run as",
    ),
    entry(
        "cofferdam.keep",
        Label::Keep,
        "which snapshots of this container's targets to keep",
    ),
    entry(
        "cofferdam.schedule",
        Label::Schedule,
        "when the daemon saves this container's targets",
    ),
    entry(
        TRIGGER,
        Label::Trigger,
        "`exit`: back up the project when this container exits with 0",
    ),
    entry(
        "cofferdam.stop",
        Label::Stop,
        "stop this container during `backup`, `restore` or both",
    ),
    entry(
        "cofferdam.pause",
        Label::Pause,
        "pause this container during `backup`",
    ),
    entry(
        "cofferdam.hold-for",
        Label::HoldFor,
        "services whose targets this hold is for",
    ),
    entry(
        "cofferdam.ready-timeout",
        Label::ReadyTimeout,
        "how long to wait for this container to be healthy after it was stopped or paused",
    ),
    entry(
        "cofferdam.hook.before-backup",
        Label::Hook(HookPoint::BeforeBackup, HookLabel::Command),
        "command to run in this container before its project is saved",
    ),
    entry(
        "cofferdam.hook.before-backup.user",
        Label::Hook(HookPoint::BeforeBackup, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.before-backup.timeout",
        Label::Hook(HookPoint::BeforeBackup, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.before-backup.when-stopped",
        Label::Hook(HookPoint::BeforeBackup, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
    entry(
        "cofferdam.hook.after-backup",
        Label::Hook(HookPoint::AfterBackup, HookLabel::Command),
        "command to run after a backup, whether it worked or failed",
    ),
    entry(
        "cofferdam.hook.after-backup.user",
        Label::Hook(HookPoint::AfterBackup, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.after-backup.timeout",
        Label::Hook(HookPoint::AfterBackup, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.after-backup.when-stopped",
        Label::Hook(HookPoint::AfterBackup, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
    entry(
        "cofferdam.hook.failed-backup",
        Label::Hook(HookPoint::FailedBackup, HookLabel::Command),
        "command to run after a failed backup, before `after-backup`",
    ),
    entry(
        "cofferdam.hook.failed-backup.user",
        Label::Hook(HookPoint::FailedBackup, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.failed-backup.timeout",
        Label::Hook(HookPoint::FailedBackup, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.failed-backup.when-stopped",
        Label::Hook(HookPoint::FailedBackup, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
    entry(
        "cofferdam.hook.before-restore",
        Label::Hook(HookPoint::BeforeRestore, HookLabel::Command),
        "command to run in this container before its project is restored",
    ),
    entry(
        "cofferdam.hook.before-restore.user",
        Label::Hook(HookPoint::BeforeRestore, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.before-restore.timeout",
        Label::Hook(HookPoint::BeforeRestore, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.before-restore.when-stopped",
        Label::Hook(HookPoint::BeforeRestore, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
    entry(
        "cofferdam.hook.after-restore",
        Label::Hook(HookPoint::AfterRestore, HookLabel::Command),
        "command to run after a restore, whether it worked or failed, before dependents start",
    ),
    entry(
        "cofferdam.hook.after-restore.user",
        Label::Hook(HookPoint::AfterRestore, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.after-restore.timeout",
        Label::Hook(HookPoint::AfterRestore, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.after-restore.when-stopped",
        Label::Hook(HookPoint::AfterRestore, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
    entry(
        "cofferdam.hook.failed-restore",
        Label::Hook(HookPoint::FailedRestore, HookLabel::Command),
        "command to run after a failed restore, before `after-restore`",
    ),
    entry(
        "cofferdam.hook.failed-restore.user",
        Label::Hook(HookPoint::FailedRestore, HookLabel::User),
        HOOK_USER,
    ),
    entry(
        "cofferdam.hook.failed-restore.timeout",
        Label::Hook(HookPoint::FailedRestore, HookLabel::Timeout),
        HOOK_TIMEOUT,
    ),
    entry(
        "cofferdam.hook.failed-restore.when-stopped",
        Label::Hook(HookPoint::FailedRestore, HookLabel::WhenStopped),
        HOOK_WHEN_STOPPED,
    ),
];

/// The words that end a label of a tree's option: a user's own name must not look like one.
pub const TREE_OPTIONS: [&str; 2] = ["exclude", "restore"];

/// Labels that Cofferdam puts on its helpers, its hold journal, its image, and on what its tests make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLabel {
    /// `cofferdam.helper`, `cofferdam.hold` and `cofferdam.hold.…`: only containers of ours carry them.
    Container,
    /// `cofferdam.agent-image`: whatever is made from our image inherits it.
    Image,
    /// `cofferdam.test` and `cofferdam.test.…`: harmless on any container.
    Test,
}

pub fn find_own(key: &str) -> Option<OwnLabel> {
    let rest = key.strip_prefix(PREFIX)?;
    let head = rest.split('.').next().unwrap_or_default();
    match head {
        "helper" | "hold" => Some(OwnLabel::Container),
        "agent-image" => Some(OwnLabel::Image),
        "test" => Some(OwnLabel::Test),
        _ => None,
    }
}

/// The label of a key, with the user's own name in it if it has one.
pub fn find(key: &str) -> Option<(Label, Option<&str>)> {
    if let Some(exact) = TABLE.iter().find(|entry| entry.pattern == key) {
        return Some((exact.label, None));
    }
    // The longest pattern wins, so that `cofferdam.files.a.exclude` is an option of `a` and not a tree named `a.exclude`.
    TABLE
        .iter()
        .filter_map(|entry| {
            let (before, after) = entry.pattern.split_once(NAME)?;
            let name = key.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty()).then_some((entry, name))
        })
        .max_by_key(|(entry, _)| entry.pattern.len())
        .map(|(entry, name)| (entry.label, Some(name)))
}

/// What labels begin with, for a message: `` `cofferdam.enable`, `cofferdam.files.…`, … ``
pub fn families() -> String {
    let mut families: Vec<String> = Vec::new();
    for entry in TABLE {
        let end = entry.pattern[PREFIX.len()..].find('.');
        let family = end.map_or(entry.pattern, |end| &entry.pattern[..PREFIX.len() + end]);
        let is_whole = TABLE.iter().any(|other| other.pattern == family);
        let shown = format!("`{family}{}`", if is_whole { "" } else { ".…" });
        if !families.contains(&shown) {
            families.push(shown);
        }
    }
    families.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_documented() {
        let page = include_str!("../../docs/labels.md");
        for entry in TABLE {
            assert!(
                page.contains(&format!("`{}`", entry.pattern)),
                "docs/labels.md does not mention `{}`: {}",
                entry.pattern,
                entry.summary
            );
        }
    }

    #[test]
    fn every_pattern_is_found_and_none_stands_twice() {
        for (at, entry) in TABLE.iter().enumerate() {
            assert!(entry.pattern.starts_with(PREFIX), "{}", entry.pattern);
            let key = entry.pattern.replace(NAME, "my.data");
            assert_eq!(
                find(&key).map(|(label, _)| label),
                Some(entry.label),
                "{key}"
            );
            assert!(
                TABLE[..at]
                    .iter()
                    .all(|other| other.pattern != entry.pattern && other.label != entry.label),
                "{}",
                entry.pattern
            );
        }
    }

    #[test]
    fn names_with_dots_are_split_at_the_last_known_word() {
        let volume = Label::Volume(TreeLabel::Exclude);
        for (key, expected) in [
            (
                "cofferdam.volumes.my.data.exclude",
                Some((volume, Some("my.data"))),
            ),
            (
                "cofferdam.volumes.exclude.exclude",
                Some((volume, Some("exclude"))),
            ),
            ("cofferdam.volumes..exclude", None),
            ("cofferdam.volumes.exclude", None),
            ("cofferdam.volumes.data", None),
            ("cofferdam.files.a.b", Some((Label::FilesPath, Some("a.b")))),
            (
                "cofferdam.files.a.b.restore",
                Some((Label::Files(TreeLabel::Restore), Some("a.b"))),
            ),
            ("cofferdam.files", None),
            ("cofferdam.files.", None),
            ("cofferdam.", None),
        ] {
            assert_eq!(find(key), expected, "{key}");
        }
    }

    #[test]
    fn own_labels_are_told_from_misspelt_ones() {
        for (key, own) in [
            ("cofferdam.helper", Some(OwnLabel::Container)),
            ("cofferdam.hold", Some(OwnLabel::Container)),
            ("cofferdam.hold.owner", Some(OwnLabel::Container)),
            ("cofferdam.agent-image", Some(OwnLabel::Image)),
            ("cofferdam.test", Some(OwnLabel::Test)),
            ("cofferdam.test.name", Some(OwnLabel::Test)),
            ("cofferdam.hold-for", None),
            ("cofferdam.holdfor", None),
            ("cofferdam.tests", None),
            ("helper", None),
        ] {
            assert_eq!(find_own(key), own, "{key}");
        }
    }
}
