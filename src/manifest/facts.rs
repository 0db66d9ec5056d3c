//! What drivers know about their targets.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::target::DriverKind;

/// What a driver knows about the target at the moment of the dump, and needs to put it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum Facts {
    Postgres(PostgresFacts),
    Basebackup(BasebackupFacts),
    Mysql(MysqlFacts),
    Volume(TreeFacts),
    Files(TreeFacts),
    Command(CommandFacts),
    Sqlite(SqliteFacts),
    Couchdb(CouchdbFacts),
    Elasticsearch(ElasticsearchFacts),
}

impl Facts {
    /// Where files, a database in a file, or a data directory lay, as the container saw it.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Volume(tree) | Self::Files(tree) => Some(&tree.path),
            Self::Basebackup(facts) => Some(&facts.tree.path),
            Self::Couchdb(facts) => Some(&facts.tree.path),
            Self::Sqlite(facts) => Some(&facts.path),
            Self::Postgres(_) | Self::Mysql(_) | Self::Command(_) | Self::Elasticsearch(_) => None,
        }
    }

    /// Whose facts these are.
    pub fn driver(&self) -> DriverKind {
        match self {
            Self::Postgres(_) => DriverKind::Postgres,
            Self::Basebackup(_) => DriverKind::Basebackup,
            Self::Mysql(_) => DriverKind::Mysql,
            Self::Volume(_) => DriverKind::Volume,
            Self::Files(_) => DriverKind::Files,
            Self::Command(_) => DriverKind::Command,
            Self::Sqlite(_) => DriverKind::Sqlite,
            Self::Couchdb(_) => DriverKind::Couchdb,
            Self::Elasticsearch(_) => DriverKind::Elasticsearch,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// As the server prints it: `15.8 (Debian 15.8-0+deb12u1)`.
    pub server_version: String,
    /// Empty for what concerns the whole server.
    pub database: String,
    /// What a script of the whole server makes; empty for its roles and tablespaces alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// `pg_database_size`, in bytes.
    #[serde(default)]
    pub size: u64,
    /// The schemas in which the database's users look for names, as the server writes a `search_path`: those of its settings,
    /// then those of its extensions. Empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub search_path: String,
    /// What in the database depends on the database's name, so that it is loaded under no other: `extension pg_cron`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_to_name: Vec<String>,
    /// Entries that `pg_restore --list` counted in the dump.
    #[serde(default)]
    pub entries: u64,
    #[serde(default)]
    pub tables: Vec<TableFacts>,
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    #[serde(default)]
    pub exclude_table_data: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableFacts {
    pub schema: String,
    pub name: String,
    /// The server's estimate (`pg_class.reltuples`) at the time of the dump; absent when it has none.
    pub estimated_rows: Option<u64>,
    /// The server's estimate of its size (`pg_class.relpages`), in bytes; 0 when it has none.
    #[serde(default)]
    pub bytes: u64,
}

/// A server's data directory, as `pg_basebackup` copied it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BasebackupFacts {
    /// As the server prints it. A data directory serves only servers of the same major version.
    pub server_version: String,
    /// Whom the files belong to: the user that the server runs as.
    pub uid: u32,
    pub gid: u32,
    pub tree: TreeFacts,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MysqlFacts {
    /// As the server prints it: `10.11.6-MariaDB-0+deb12u1`, `9.1.0`.
    pub server_version: String,
    pub flavour: MysqlFlavour,
    pub database: String,
    /// The database's default character set.
    pub charset: String,
    /// The database's default collation.
    pub collation: String,
    /// The sum of what the server estimates for tables and indexes, in bytes.
    #[serde(default)]
    pub size: u64,
    /// The tables that were there from the beginning of the dump to its end, without those that are left out whole.
    #[serde(default)]
    pub tables: Vec<MysqlTableFacts>,
    /// What else was there from the beginning of the dump to its end; absent when it changed meanwhile.
    #[serde(default)]
    pub programs: Option<MysqlPrograms>,
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    #[serde(default)]
    pub exclude_table_data: Vec<String>,
}

/// Which of the two families a server belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MysqlFlavour {
    #[default]
    Mysql,
    Mariadb,
}

impl fmt::Display for MysqlFlavour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mysql => "MySQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlTableFacts {
    pub name: String,
    /// The server's estimate at the time of the dump; absent when it has none.
    pub estimated_rows: Option<u64>,
    /// The server's estimate for the table and its indexes, in bytes; 0 when it has none.
    #[serde(default)]
    pub bytes: u64,
    /// What `CHECKSUM TABLE` said before the dump and after it; absent where that was not the same, not cheap, or would mean
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u64>,
}

/// How many of what is kept as text there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlPrograms {
    pub views: u64,
    pub triggers: u64,
    pub routines: u64,
    /// But for those that the server drops by itself when their time is over.
    pub events: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Where the tree was seen inside the container.
    pub path: String,
    /// The engine's name of the volume, when the tree is on a named one.
    #[serde(default)]
    pub volume: Option<String>,
    pub shape: TreeShape,
    pub entries: u64,
    /// Sum of the sizes of the files, in bytes.
    pub content_bytes: u64,
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// What a command of the user's own has printed. Its arguments are not recorded: they are whatever somebody has written into
/// a label, and a manifest is not encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFacts {
    /// The first word of the command.
    pub program: String,
    /// What it has printed, in bytes.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeShape {
    Directory,
    /// One entry that is not a directory; the archive holds it under its own name.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteFacts {
    /// Where the database file was seen inside the container.
    pub path: String,
    /// The engine's name of the volume, when the file is on a named one.
    #[serde(default)]
    pub volume: Option<String>,
    #[serde(flatten)]
    pub owner: FileOwner,
    /// How long programs that wanted to write had to wait, in milliseconds; 0 where nobody had to.
    #[serde(default)]
    pub held_up_milliseconds: u64,
    #[serde(flatten)]
    pub content: SqliteContent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOwner {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What SQLite itself says of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteContent {
    /// Of the library that checked the copy: `3.50.2`.
    pub library_version: String,
    /// In bytes.
    pub page_size: u64,
    pub journal_mode: JournalMode,
    /// `UTF-8`
    pub encoding: String,
    /// The program's own number for its schema.
    #[serde(default)]
    pub user_version: i64,
    #[serde(default)]
    pub tables: Vec<SqliteTable>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalMode {
    /// Any of those in which a change is undone by a `-journal`: `delete`, `truncate`, `persist`.
    #[default]
    Rollback,
    Wal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteTable {
    pub name: String,
    /// Counted, not estimated; absent where counting needs what only the database's own program has.
    pub rows: Option<u64>,
}

/// A node's data directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CouchdbFacts {
    /// `3.4.2`
    pub server_version: String,
    /// The node that the shard maps name: `couchdb@127.0.0.1`.
    pub node: String,
    /// Those that were there from the beginning of the copy to its end.
    #[serde(default)]
    pub databases: Vec<CouchdbDatabase>,
    pub tree: TreeFacts,
}

impl CouchdbFacts {
    pub fn has(&self, database: &str) -> bool {
        self.databases.iter().any(|it| it.name == database)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouchdbDatabase {
    pub name: String,
    /// When the copy began.
    pub documents: u64,
    /// Of documents that were deleted, CouchDB keeps a mark.
    #[serde(default)]
    pub deleted: u64,
}

/// A snapshot of the server's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ElasticsearchFacts {
    /// `8.15.0`
    pub server_version: String,
    pub flavour: SearchFlavour,
    /// Its name in the server's repository.
    pub snapshot: String,
    /// The server's repository that holds the snapshot (S3, say); absent where the snapshot is in this target's artifacts.
    #[serde(default)]
    pub repository: Option<String>,
    pub indices: Vec<String>,
    #[serde(default)]
    pub data_streams: Vec<String>,
    /// The server's repository as a directory; absent where the server keeps it elsewhere.
    #[serde(default)]
    pub tree: Option<TreeFacts>,
}

/// Which of the two families a server belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchFlavour {
    #[default]
    Elasticsearch,
    Opensearch,
}

impl fmt::Display for SearchFlavour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Elasticsearch => "Elasticsearch",
            Self::Opensearch => "OpenSearch",
        })
    }
}
