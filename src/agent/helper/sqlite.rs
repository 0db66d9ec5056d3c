//! Helpers for SQLite databases on mounts.

use super::{HelperError, HelperView, Helpers, LayerInput, early, parse_report, unexpected};
use crate::agent::sqlite::{SqlitePackTask, SqlitePacked, SqliteUnpackTask, SqliteUnpacked};
use crate::agent::task::Task;
use crate::agent::wire::Kind;
use crate::pipe::{ByteStream, inlet};

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
}
