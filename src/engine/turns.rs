//! Taking turns at a container.
//!
//! While the engine copies out of a container or into it, it keeps that container locked: to inspect it, to run something
//! in it, to stop it or to copy a second time waits until the copy ends (moby `daemon/archive.go`; an exec that runs goes
//! on, and listing is free). A copy may take hours, and a call that waits for one is no call that hangs. So our own calls
//! take turns before they are made, and their limits count from there. A copy that another program makes is in nobody's
//! view; for that the limit is generous.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::Engine;

/// How long a call about one container may take that only asks or orders.
pub(super) const CALL: Duration = Duration::from_secs(10 * 60);
/// After this much waiting for a turn, the log says so.
const NOTICE: Duration = Duration::from_secs(60);

/// A lock for each container that was ever named here; there are not many.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Arc<RwLock<()>>>>>);

/// Held as long as a copy lasts.
pub(super) type CopyTurn = OwnedRwLockWriteGuard<()>;

impl Turns {
    fn of(&self, container: &str) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(container.to_owned()).or_default().clone()
    }

    /// Waits until nothing of ours is going on at `container`.
    pub(super) async fn copy(&self, container: &str) -> CopyTurn {
        noticed(container, self.of(container).write_owned()).await
    }
}

impl Engine {
    /// Makes a call about one container when no copy of ours keeps it locked.
    pub(super) async fn call<T>(
        &self,
        container: &str,
        limit: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let _turn = noticed(container, self.turns.of(container).read_owned()).await;
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or(Err(Error::RequestTimeoutError))
    }
}

async fn noticed<T>(container: &str, turn: impl Future<Output = T>) -> T {
    let mut turn = std::pin::pin!(turn);
    match tokio::time::timeout(NOTICE, &mut turn).await {
        Ok(turn) => turn,
        Err(_) => {
            tracing::info!(
                container,
                "waiting for a copy out of or into this container to end"
            );
            turn.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_has_its_container_for_itself() {
        let turns = Turns::default();
        let copy = turns.copy("db").await;
        assert!(turns.of("db").try_read().is_err());
        assert!(turns.of("other").try_read().is_ok());
        drop(copy);
        let call = turns.of("db").read_owned().await;
        assert!(turns.of("db").try_read().is_ok());
        assert!(turns.of("db").try_write().is_err());
        drop(call);
    }
}
