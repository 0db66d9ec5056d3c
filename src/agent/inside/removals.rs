//! Work that goes on after its future was dropped.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Removals of visits whose futures were dropped. They go on by themselves; wait for them before the process ends.
#[derive(Clone, Debug, Default)]
pub struct Removals(TaskTracker);

impl Removals {
    /// Waits until everything that was dropped up to now has been removed, or could not be.
    pub async fn done(&self) {
        self.0.close();
        self.0.wait().await;
        self.0.reopen();
    }

    /// Runs `removal` by itself.
    pub(crate) fn spawn(&self, removal: impl Future<Output = ()> + Send + 'static) {
        match Handle::try_current() {
            Ok(runtime) => drop(self.0.spawn_on(removal, &runtime)),
            Err(_) => warn!("files of Cofferdam stay in a container until the next run"),
        }
    }
}
