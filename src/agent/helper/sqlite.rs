//! Helpers for SQLite databases on mounts.

use std::time::Duration;

use super::{HelperError, HelperView, Helpers, LayerInput, early, parse_report, unexpected};
use crate::agent::sqlite::writers::{FoundWriters, WritersTask};
use crate::agent::sqlite::{SqlitePackTask, SqlitePacked, SqliteUnpackTask, SqliteUnpacked};
use crate::agent::task::Task;
use crate::agent::wire::Kind;
use crate::engine::Processes;
use crate::pipe::{ByteStream, inlet};

/// How long a look through the host's processes may take; a file system that hangs would hold it up for ever.
const LOOK: Duration = Duration::from_secs(60);

/// A database that is being sent. `dump` must be read at the same time as `done` is polled.
pub struct SqlitePacking<F> {
    pub dump: ByteStream,
    /// What the helper reported, once it has ended well.
    pub done: F,
}

impl Helpers {
    pub async fn sqlite_pack(
        &self,
        view: HelperView,
        task: &SqlitePackTask,
    ) -> Result<
        SqlitePacking<impl Future<Output = Result<SqlitePacked, HelperError>> + Send + use<>>,
        HelperError,
    > {
        let mut session = self.start(Task::SqlitePack, Some(view), task).await?;
        let (mut sender, dump) = inlet("the helper container");
        let done = async move {
            loop {
                match session.receive().await? {
                    (Kind::Data, payload) => sender.send(payload).await,
                    (Kind::Report, payload) => {
                        let packed: SqlitePacked = parse_report(&payload)?;
                        sender.end(packed.dump.stored_bytes).await;
                        session.end().await?;
                        return Ok(packed);
                    }
                    _ => return Err(unexpected()),
                }
            }
        };
        Ok(SqlitePacking { dump, done })
    }

    pub async fn sqlite_unpack(
        &self,
        view: HelperView,
        task: &SqliteUnpackTask,
        dump: LayerInput<'_>,
    ) -> Result<SqliteUnpacked, HelperError> {
        let mut session = self.start(Task::SqliteUnpack, Some(view), task).await?;
        if let Some(report) = session.send_layer(dump).await? {
            return Err(early(&report));
        }
        session.report().await
    }

    /// Who can write to a database. Where a helper may not look into the host's processes, SQLite's locks are asked, and
    /// what is found says why.
    pub async fn writers(
        &self,
        view: HelperView,
        task: &WritersTask,
    ) -> Result<FoundWriters, HelperError> {
        let looked = self.writers_among(Processes::OfHostWithFiles, view.clone(), task);
        match looked.await {
            Ok(found) => Ok(found),
            Err(error) => {
                let found = self.writers_among(Processes::Own, view, task).await?;
                Ok(FoundWriters {
                    unseen: Some(error.to_string()),
                    ..found
                })
            }
        }
    }

    async fn writers_among(
        &self,
        processes: Processes,
        view: HelperView,
        task: &WritersTask,
    ) -> Result<FoundWriters, HelperError> {
        let looked = async {
            let session = self
                .start_among(processes, Task::Writers, Some(view), task)
                .await?;
            session.report().await
        };
        tokio::time::timeout(LOOK, looked)
            .await
            .unwrap_or_else(|_| {
                Err(HelperError::NoReport(format!(
                    "it did not end within {LOOK:?}"
                )))
            })
    }
}
