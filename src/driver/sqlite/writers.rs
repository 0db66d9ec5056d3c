//! Who could write to a database: asked of the file, since no list of containers knows all programs.

use tracing::warn;

use super::mount::helper_error;
use super::{DatabasePlace, SqliteDriver};
use crate::agent::helper::Access;
use crate::agent::sqlite::writers::{WritersTask, WritingProcess};
use crate::driver::tree::site::MountSite;
use crate::driver::{DriverError, Writer, Writers};
use crate::engine::EngineError;
use crate::target::TargetId;
use crate::text::printable;

/// When it is asked once more whether anybody could write.
#[derive(Clone, Copy)]
pub(super) enum Before {
    /// The old data is still to be had.
    Decision,
    Exchange,
}

impl SqliteDriver {
    /// What is in a container's own layer no other container reaches.
    pub(super) async fn writers_of(&self, target: &TargetId) -> Result<Writers, DriverError> {
        match self.place(target)? {
            DatabasePlace::Mount(mount) => self.writers_on(mount).await,
            DatabasePlace::Layer(_) => Ok(Writers::default()),
        }
    }

    async fn writers_on(&self, mount: &MountSite) -> Result<Writers, DriverError> {
        let task = WritersTask {
            place: mount.place.clone(),
        };
        let asked = self.helpers.writers(mount.view(Access::Read), &task);
        let found = asked.await.map_err(|error| helper_error(mount, error))?;
        let mut writers = Writers {
            found: Vec::new(),
            unseen: found.unseen,
            is_locked: found.is_locked,
        };
        for process in found.processes {
            writers.found.push(self.named(process).await?);
        }
        Ok(writers)
    }

    async fn named(&self, process: WritingProcess) -> Result<Writer, DriverError> {
        let WritingProcess {
            pid,
            command,
            containers,
        } = process;
        let mut place = match containers.first() {
            Some(id) => format!("container {}", id.get(..12).unwrap_or(id)),
            None => "the host".to_owned(),
        };
        for id in &containers {
            match self.engine.inspect(id).await {
                Ok(container) => {
                    place = format!("container {}", container.name);
                    break;
                }
                // One of another engine.
                Err(EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Writer {
            who: format!("process {pid} ({}) of {place}", printable(&command)),
            containers,
        })
    }

    /// Whatever writes now is not held.
    pub(super) async fn ensure_nobody_writes(
        &self,
        mount: &MountSite,
        before: Before,
    ) -> Result<(), DriverError> {
        let writers = self.writers_on(mount).await?;
        let who = match (writers.found.first(), writers.unseen) {
            (Some(writer), _) => writer.who.clone(),
            (None, Some(why)) if writers.is_locked => {
                format!("a program that Cofferdam cannot see ({why})")
            }
            (None, unseen) => {
                if let Some(why) = unseen {
                    warn!(
                        "{}: could not check whether other programs have it open: {why}",
                        mount.path
                    );
                }
                return Ok(());
            }
        };
        let mend = match before {
            Before::Decision => "stop it, then restore again",
            Before::Exchange => "stop it, then run cofferdam recover",
        };
        Err(DriverError::failed_with_hint(
            format!(
                "{who} uses {} and would keep writing to the old file",
                mount.path
            ),
            mend,
        ))
    }
}
