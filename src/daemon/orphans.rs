//! The duty of process 1.
//!
//! As process 1 of its container, the daemon becomes the parent of whatever loses its own there: of what `docker exec` began
//! and left. Somebody has to wait for them, or they stay as zombies. The daemon itself begins no process, so nobody else
//! waits here.

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// Waits for orphans until it is dropped; where we are not process 1, there are none.
pub async fn bury() {
    if std::process::id() != 1 {
        return std::future::pending().await;
    }
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            warn!(
                "cannot reap orphaned processes, which stay as zombies in this container: {error}"
            );
            return std::future::pending().await;
        }
    };
    loop {
        // One signal may stand for several processes.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        ended.recv().await;
    }
}
