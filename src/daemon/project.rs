//! What the daemon knows of one project.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::history;
use super::inbox::Occasion;
use super::standing::Standing;
use super::timetable::{Services, Timetable, watched};
use crate::commands::{CommandError, Context};
use crate::config::Config;
use crate::daemon::serve::shown::Outlook;
use crate::labels::LabelErrors;
use crate::notify::{Kind, Notice};
use crate::report::View;
use crate::schedule::Schedule;
use crate::stack::Stack;

pub(super) struct Project {
    name: String,
    /// Of the swarm that it runs in.
    node: Option<String>,
    pub(super) timetable: Timetable,
    pub(super) standing: Standing,
    /// Why its labels cannot be read as they are now: until that is mended, those hold that were there before.
    pub(super) trouble: Option<String>,
    /// The newest end, with 0, of a container whose end asks for a backup.
    last_exit: Option<(Timestamp, String)>,
    /// Whether the snapshots in the repository have been looked at.
    knows_history: bool,
    /// Another run holds it until then at least.
    waits_until: Option<Instant>,
    /// What was told of the next run.
    told: Option<Timestamp>,
}

impl Project {
    pub(super) fn new(name: &str, settings: &Config) -> Self {
        Self {
            name: name.to_owned(),
            node: None,
            timetable: Timetable::new(name, settings.time_zone.clone(), settings.jitter),
            standing: Standing::default(),
            trouble: None,
            last_exit: None,
            knows_history: false,
            waits_until: None,
            told: None,
        }
    }

    /// Takes its labels as they are now.
    pub(super) fn read(
        &mut self,
        stack: Result<Stack, LabelErrors>,
        default: &Schedule,
        beginning: Timestamp,
    ) {
        let stack = match stack {
            Ok(stack) => stack,
            Err(errors) => {
                let trouble = errors.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    error!(project = self.name, "{trouble}");
                }
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        self.node = stack.node().map(str::to_owned);
        self.timetable.update(watched(&stack, default, beginning));
        self.standing
            .forget_all_but(&self.timetable.names(&Services::All));
        if self.timetable.has_news() {
            self.knows_history = false;
        }
        let ends = stack.services.iter().filter_map(|service| {
            let exit = service.container.exit?;
            let asks = service.labels.triggers_on_exit && exit.code == 0;
            asks.then(|| (exit.at, service.container.name.clone()))
        });
        self.last_exit = ends.max();
    }

    /// What is to be saved now, by its schedule or since a container has ended of which nobody told us.
    pub(super) async fn due(
        &mut self,
        context: &Context,
        now: Timestamp,
    ) -> Option<(Services, Occasion)> {
        if !self.knows_history {
            self.look_back(context).await;
        }
        if let Some((at, container)) = &self.last_exit
            && self.timetable.is_unserved(*at)
        {
            let container = container.clone();
            return Some((Services::All, Occasion::Exit { container }));
        }
        self.timetable.due(now)?;
        // Somebody else may have made the backup since.
        self.look_back(context).await;
        Some((self.timetable.due(now)?, Occasion::Schedule))
    }

    async fn look_back(&mut self, context: &Context) {
        let looked = async {
            let repository = context.repository()?;
            let (name, node) = (&self.name, self.node.as_deref());
            history::read(&*repository, name, node, &mut self.timetable)
                .await
                .map_err(CommandError::failed)
        };
        match looked.await {
            Ok(troubled) => {
                self.knows_history = true;
                let troubled = self.timetable.names(&Services::Named(troubled));
                self.standing.worsens(troubled);
            }
            Err(error) => warn!(project = self.name, "cannot read earlier backups: {error}"),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn wait(&mut self, until: Instant, busy: &CommandError) {
        if self.waits_until.is_none() {
            warn!(
                project = self.name,
                "waiting for another run to end: {busy}"
            );
        }
        self.waits_until = Some(until);
    }

    /// No other run keeps it waiting.
    pub(super) fn goes_on(&mut self) {
        self.waits_until = None;
    }

    /// It has been tried before, and another run held it.
    pub(super) fn was_busy(&self) -> bool {
        self.waits_until.is_some()
    }

    /// Takes what became of a backup of these services. Whether it is a recovery.
    pub(super) fn judge(&mut self, backup: &Notice, services: &Services) -> bool {
        if backup.kind == Kind::Success {
            return self.standing.betters(services);
        }
        self.standing.worsens(self.timetable.names(services));
        false
    }

    /// What its last runs have not saved, for people.
    pub(super) fn unsaved(&self) -> Option<String> {
        let services: Vec<&str> = self
            .standing
            .in_trouble()
            .iter()
            .map(String::as_str)
            .collect();
        (!services.is_empty()).then(|| {
            format!(
                "{}: not saved, or only in part: {}",
                self.name,
                services.join(", ")
            )
        })
    }

    /// How long nothing of it is due; `None` when nothing ever is.
    pub(super) fn rests_for(&self, now: Timestamp) -> Option<Duration> {
        let due = self.timetable.next().map(|next| {
            let rest = next.duration_since(now);
            Duration::try_from(rest).unwrap_or(Duration::ZERO)
        });
        let waits = self
            .waits_until
            .map(|until| until.saturating_duration_since(Instant::now()));
        match (due, waits) {
            (Some(due), Some(waits)) => Some(due.max(waits)),
            (due, waits) => due.or(waits),
        }
    }

    pub(super) fn outlook(&self) -> Outlook<'_> {
        Outlook {
            project: &self.name,
            trouble: self.trouble.as_deref(),
            timetable: &self.timetable,
        }
    }

    pub(super) fn tell_next(&mut self, view: &View) {
        let next = self.timetable.next();
        if self.told != next
            && let Some(next) = next
        {
            info!(
                project = self.name,
                "the next backup is due at {}",
                view.time(next)
            );
        }
        self.told = next;
    }
}
