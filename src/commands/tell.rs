//! Tells those who want to know what has become of a run: a command by a [`RunNotifier`], the daemon by a [`NotificationQueue`], which keeps
//! nothing waiting.
//!
//! That somebody cannot be told is said here, and changes nothing about what the run came to.

mod queue;

use jiff::Timestamp;
use tracing::warn;

pub use queue::NotificationQueue;

use super::context::Context;
use super::error::CommandError;
use crate::notify::{Notice, Notifier};
use crate::report;
use crate::text::printable;

pub struct RunNotifier<'a> {
    context: &'a Context,
    notifier: Notifier,
    /// Everybody can be told, as far as that is known beforehand.
    pub is_whole: bool,
}

impl<'a> RunNotifier<'a> {
    /// Says at once who cannot be told, and not only on the day on which it is needed.
    pub fn open(context: &'a Context) -> Self {
        let (notifier, unusable) = Notifier::open(&context.config.notify);
        let is_whole = unusable.is_empty();
        for error in unusable {
            context.tell(&CommandError::failed(error));
        }
        Self {
            context,
            notifier,
            is_whole,
        }
    }

    /// Whether it has reached everybody. Whoever interrupts the run is not kept waiting.
    pub async fn send(&self, notice: &Notice) -> bool {
        let sent = tokio::select! {
            biased;
            () = self.context.interrupt.cancelled() => {
                warn!("interrupted; this notification is not sent: {}", printable(&notice.title));
                return false;
            }
            faults = self.notifier.send_all(notice) => faults,
        };
        let is_everywhere = sent.is_empty();
        for error in sent {
            self.context.tell(&CommandError::failed(error));
        }
        is_everywhere
    }

    /// A run begins. That it does not arrive is no matter.
    pub async fn started(&self, projects: &[String]) {
        tokio::select! {
            biased;
            () = self.context.interrupt.cancelled() => {}
            faults = self.notifier.started(projects) => for error in faults {
                warn!("{error}");
            }
        }
    }
}

/// That a backup has ended before there was anything to report.
pub fn no_backup(context: &Context, error: &CommandError) -> Notice {
    report::notice::backup_failed(&context.config.scope, &error.to_string(), Timestamp::now())
}

/// Whether everybody can be told, as far as that is known beforehand.
pub fn ensure_usable(context: &Context) -> Result<(), CommandError> {
    let (_, unusable) = Notifier::open(&context.config.notify);
    match unusable.into_iter().next() {
        None => Ok(()),
        Some(error) => Err(CommandError::usage(error)),
    }
}
