//! What events and requests ask of the daemon, until it gets to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::text::quoted;

/// Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Inbox {
    wishes: Arc<Mutex<Wishes>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Wishes {
    /// Containers came or went, and with them labels.
    labels_changed: bool,
    /// Projects to be saved whole, and who asks. However often somebody asks, one run will do that begins later.
    backups: BTreeMap<String, Occasion>,
}

/// Why a backup is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    Schedule,
    /// A container that has done its work.
    Exit {
        container: String,
    },
    /// Somebody who has the token.
    Request,
}

impl Occasion {
    /// Somebody wants this one, as one by the command `backup`.
    pub fn is_by_hand(&self) -> bool {
        match self {
            Self::Request => true,
            Self::Schedule | Self::Exit { .. } => false,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => formatter.write_str("due on schedule"),
            Self::Request => formatter.write_str("requested"),
            Self::Exit { container } => {
                write!(formatter, "container {} exited with 0", quoted(container))
            }
        }
    }
}

impl Inbox {
    pub fn labels_changed(&self) {
        self.wishes().labels_changed = true;
        self.news.notify_one();
    }

    pub fn ask(&self, project: &str, occasion: Occasion) {
        let mut wishes = self.wishes();
        let wish = wishes.backups.entry(project.to_owned());
        // Two wishes are one, which somebody has uttered if they have uttered either.
        wish.and_modify(|known| {
            if occasion.is_by_hand() {
                *known = occasion.clone();
            }
        })
        .or_insert(occasion);
        drop(wishes);
        self.news.notify_one();
    }

    pub fn take_labels_changed(&self) -> bool {
        std::mem::take(&mut self.wishes().labels_changed)
    }

    /// Why a project is to be saved; who asks after this gets a run of its own.
    pub fn take_backup(&self, project: &str) -> Option<Occasion> {
        self.wishes().backups.remove(project)
    }

    /// Ends when something was put in since it ended last.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wants_is_by_hand_whatever_else_wants_it() {
        let exit = || Occasion::Exit {
            container: "ingest".to_owned(),
        };
        for wishes in [[exit(), Occasion::Request], [Occasion::Request, exit()]] {
            let inbox = Inbox::default();
            for wish in wishes {
                inbox.ask("shop", wish);
            }
            let taken = inbox.take_backup("shop").unwrap();
            assert!(taken.is_by_hand(), "{taken:?}");
        }
        assert!(!exit().is_by_hand());
        assert!(!Occasion::Schedule.is_by_hand());
    }
}
