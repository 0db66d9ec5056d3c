//! Tells beside what else is done. A chat that is down takes its time for each notice; a backup must not wait for that.

use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::warn;

use super::RunNotifier;
use crate::commands::Context;
use crate::notify::Notice;
use crate::text::printable;

/// When somebody is so slow that more than these wait, what is new is not told any more.
const MOST_WAITING: usize = 100;

/// Cheap to clone: all clones are one. What is given to it is told in its order.
#[derive(Clone)]
pub struct NotificationQueue(Sender<Message>);

enum Message {
    /// Backups of these projects begin.
    Started(Vec<String>),
    Notice(Box<Notice>),
}

impl NotificationQueue {
    /// The other part delivers, and has to be run. It ends when everything is told and no clone of the queue is left; when
    /// the run is interrupted, it says what nobody was told.
    pub fn new(context: &Context) -> (Self, impl Future<Output = ()> + use<>) {
        let (bag, waiting) = mpsc::channel(MOST_WAITING);
        (Self(bag), deliver(context.clone(), waiting))
    }

    /// Backups of these projects begin.
    pub fn started(&self, projects: Vec<String>) {
        // Nobody misses a beginning where even ends have no room.
        let _ = self.0.try_send(Message::Started(projects));
    }

    pub fn take(&self, notice: Notice) {
        let title = printable(&notice.title);
        if self.0.try_send(Message::Notice(Box::new(notice))).is_err() {
            warn!(
                "{MOST_WAITING} notifications are waiting already, so this one is not sent: {title}"
            );
        }
    }
}

async fn deliver(context: Context, mut waiting: Receiver<Message>) {
    while let Some(message) = waiting.recv().await {
        let notifier = RunNotifier::open(&context);
        match message {
            Message::Started(projects) => notifier.started(&projects).await,
            Message::Notice(notice) => {
                notifier.send(&notice).await;
            }
        }
    }
}
