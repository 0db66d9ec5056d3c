//! Small snapshots for tests.

use std::io::Cursor;

use crate::manifest::{
    Artifact, BasebackupFacts, CommandFacts, Compression, ContainerRecord, CouchdbFacts,
    ElasticsearchFacts, Encryption, EngineFacts, FORMAT, Facts, FileOwner, Manifest, MysqlFacts,
    ObjectPath, PostgresFacts, Purpose, Role, SqliteContent, SqliteFacts, StreamDigest,
    TargetRecord, Transfer, TreeFacts, TreeShape,
};
use crate::pipe::{ByteStream, Digester};
use crate::target::{DriverKind, RunId, TargetId};

/// The `day`th of November 2026, at two o'clock.
pub(crate) fn id(day: u8) -> RunId {
    format!("202611{day:02}T020000Z-9f2c61aa").parse().unwrap()
}

pub(crate) fn path(project: &str, id: &RunId, file: &str) -> ObjectPath {
    ObjectPath::new(project, id, file).unwrap()
}

pub(crate) fn body(bytes: impl AsRef<[u8]>) -> ByteStream {
    Box::pin(Cursor::new(bytes.as_ref().to_vec()))
}

pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> StreamDigest {
    let mut digester = Digester::default();
    digester.update(bytes.as_ref());
    digester.finish()
}

/// An artifact that is not compressed.
pub(crate) fn artifact(object: ObjectPath, content: &str) -> Artifact {
    Artifact {
        role: Role::Dump,
        object,
        plain: digest(content),
        stored: digest(content),
        compression: Compression::None,
        encryption: Encryption::None,
    }
}

pub(crate) fn record(target: TargetId, artifacts: Vec<Artifact>) -> TargetRecord {
    let tree = || TreeFacts {
        path: "/data".to_owned(),
        volume: None,
        shape: TreeShape::Directory,
        entries: 1,
        content_bytes: 1,
        exclude: Vec::new(),
    };
    let sqlite = || SqliteFacts {
        path: "/data/app.db".to_owned(),
        volume: None,
        owner: FileOwner::default(),
        held_up_milliseconds: 0,
        content: SqliteContent::default(),
    };
    TargetRecord {
        facts: match target.driver {
            DriverKind::Postgres => Facts::Postgres(PostgresFacts::default()),
            DriverKind::Basebackup => Facts::Basebackup(BasebackupFacts {
                server_version: String::new(),
                uid: 0,
                gid: 0,
                tree: tree(),
            }),
            DriverKind::Mysql => Facts::Mysql(MysqlFacts::default()),
            DriverKind::Volume => Facts::Volume(tree()),
            DriverKind::Files => Facts::Files(tree()),
            DriverKind::Command => Facts::Command(CommandFacts::default()),
            DriverKind::Sqlite => Facts::Sqlite(sqlite()),
            DriverKind::Couchdb => Facts::Couchdb(CouchdbFacts {
                server_version: String::new(),
                node: String::new(),
                databases: Vec::new(),
                tree: tree(),
            }),
            DriverKind::Elasticsearch => Facts::Elasticsearch(ElasticsearchFacts::default()),
        },
        target,
        container: ContainerRecord::default(),
        transfer: Transfer::Copy,
        artifacts,
        warnings: Vec::new(),
    }
}

/// A snapshot of one database, `db/postgres/clinical`.
pub(crate) fn manifest(project: &str, id: &RunId, artifacts: Vec<Artifact>) -> Manifest {
    let target = TargetId::new("db", DriverKind::Postgres, "clinical");
    Manifest {
        format: FORMAT,
        tool: "cofferdam test".to_owned(),
        snapshot: id.clone(),
        project: project.to_owned(),
        node: None,
        purpose: Purpose::Backup,
        by_hand: false,
        selection: Vec::new(),
        started: id.time().unwrap(),
        finished: id.time().unwrap(),
        engine: EngineFacts::default(),
        targets: vec![record(target, artifacts)],
        failed: Vec::new(),
        skipped: Vec::new(),
        shrunken: Vec::new(),
        disturbed: Vec::new(),
        warnings: Vec::new(),
    }
}
