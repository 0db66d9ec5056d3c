//! The service that is added to a stack and forgotten: it backs up when a backup is due, or asked for.
//!
//! [`timetable`] says what is due, [`history`] what was done before, [`watch`] listens to the engine, [`inbox`] holds what is
//! asked for, [`checks`] looks for backups that are missing, [`standing`] tells a recovery from a success, [`health`] answers
//! `cofferdam health`, [`orphans`] does the duty of process 1. Whoever is to know of something is told beside the work, by a
//! [`NotificationQueue`], and whoever wants to see how things are is shown it by [`serve`].
//!
//! One backup runs at a time. What was done is told by the repository's snapshots alone, so that nothing is lost with a daemon
//! that ends anywhere: the next one releases what was held, and makes up for what was missed.

mod checks;
mod health;
mod history;
mod inbox;
mod orphans;
mod project;
pub(crate) mod serve;
mod standing;
pub(crate) mod timetable;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::checks::Checks;
pub use self::health::Pulse;
use self::health::ask;

pub use self::inbox::{Inbox, Occasion};
use self::project::Project;
use self::timetable::Services;
use crate::amounts::size;
use crate::commands::backup::{Backups, Runs};
use crate::commands::prepare::Wanted;
use crate::commands::recover::{Authority, recover_all};
use crate::commands::tell::{self, NotificationQueue};
use crate::commands::{CommandError, Context};
use crate::daemon::serve::shown::RunTrouble;
use crate::daemon::serve::{Handler, Server, Shown, look};
use crate::engine::Engine;
use crate::exit::Outcome;
use crate::notify::Notice;
use crate::report::notice;
use crate::run::backup::BackupReport;
use crate::run::places::PlaceError;
use crate::run::session::Session;
use crate::stack::survey::swarm_view;
use crate::stack::{DiscoverError, Scope, by_project};

/// The clock is looked at once in this time at least: it may be set, and a host may sleep.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Containers that come together, as with `compose up`, are looked at together.
const SETTLING_TIME: Duration = Duration::from_secs(2);

/// A project that another run holds is tried again after this.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

/// What is to be done next.
struct Due {
    project: String,
    services: Services,
    occasion: Occasion,
}

/// What became of it.
enum Ended {
    Saved(Backups),
    /// Before anything was saved.
    Failed(CommandError),
    /// There was nothing to save.
    Idle,
    /// Another run holds the project.
    Busy(CommandError),
    Interrupted,
}

enum Next {
    Go,
    Stop,
}

struct Daemon<'a> {
    context: &'a Context,
    scope: Scope,
    started: Timestamp,
    inbox: Inbox,
    pulse: Pulse,
    shown: Shown,
    notifications: NotificationQueue,
    checks: Checks,
    projects: BTreeMap<String, Project>,
}

/// Runs until it is interrupted. What is wrong from the start on is an error; what goes wrong later is told, and it goes on.
pub async fn run(context: &Context) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let scope = scope(context, &engine).await?;
    let (notifications, delivery) = NotificationQueue::new(context);
    let mut daemon = Daemon {
        context,
        scope: scope.clone(),
        started: Timestamp::now(),
        inbox: Inbox::default(),
        pulse: Pulse::default(),
        shown: Shown::of(context),
        checks: Checks::new(),
        notifications,
        projects: BTreeMap::new(),
    };
    let server = daemon.server().await?;
    // Before labels are read: nothing that happens from now on is missed.
    let _aside = [
        tokio::spawn(watch::watch(engine.clone(), scope, daemon.inbox.clone())),
        tokio::spawn(health::answer(daemon.pulse.clone())),
        tokio::spawn(orphans::bury()),
    ]
    .map(AbortOnDropHandle::new);
    let _shows = server.map(|server| {
        let look = look(context.clone(), daemon.shown.clone());
        [tokio::spawn(server.run()), tokio::spawn(look)].map(AbortOnDropHandle::new)
    });
    tokio::select! {
        biased;
        () = context.interrupt.cancelled() => return Ok(Outcome::Done),
        begun = daemon.begin(&engine) => begun?,
    }
    let delivery = AbortOnDropHandle::new(tokio::spawn(delivery));
    let outcome = daemon.work().await;
    drop(daemon);
    // It is interrupted too: it says what nobody was told.
    let _ = delivery.await;
    Ok(outcome)
}

/// `cofferdam health`: asks the daemon that runs in the same container.
pub async fn health(context: &Context) -> Result<Outcome, CommandError> {
    let health = ask().await.map_err(|error| {
        CommandError::failed(anyhow::anyhow!(
            "no daemon answers here: {error}; run this in the same container as the daemon, as `docker exec CONTAINER \
             /cofferdam health`"
        ))
    })?;
    context.print(&health, || health.why.clone())?;
    Ok(if health.healthy {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}

/// Our own project by its name.
async fn scope(context: &Context, engine: &Engine) -> Result<Scope, CommandError> {
    match (&context.config.scope, context.projects().await) {
        (Scope::Own, Some(names)) => Ok(Scope::Projects(names)),
        (Scope::Own, None) => {
            let known = engine.containers(&[]).await;
            let known = known.map_err(CommandError::failed)?;
            let projects = by_project(known, None, &Scope::All, None).into_iter();
            let names = projects.filter_map(|(project, stack)| {
                let is_empty = stack.is_ok_and(|stack| stack.services.is_empty());
                (!is_empty).then_some(project)
            });
            Err(CommandError::usage(DiscoverError::NoProject(
                names.collect(),
            )))
        }
        (scope, _) => Ok(scope.clone()),
    }
}

impl Daemon<'_> {
    /// Where somebody is to look, or ask.
    async fn server(&self) -> Result<Option<Server>, CommandError> {
        let Some(listen) = &self.context.config.listen else {
            return Ok(None);
        };
        let handler = Handler {
            token: listen.token.clone(),
            shown: self.shown.clone(),
            inbox: self.inbox.clone(),
            pulse: self.pulse.clone(),
        };
        let server = Server::bind(listen.address, handler).await;
        server.map(Some).map_err(CommandError::usage)
    }

    /// What an administrator should hear of now, and not at night.
    async fn begin(&mut self, engine: &Engine) -> Result<(), CommandError> {
        let session = self.context.session(engine).await?;
        tell::ensure_usable(self.context)?;
        self.read_labels(engine).await?;
        let troubles: Vec<String> = self
            .projects
            .values()
            .filter_map(|project| project.trouble.clone())
            .collect();
        if !troubles.is_empty() && troubles.len() == self.projects.len() {
            return Err(CommandError::usage(anyhow::anyhow!(troubles.join("\n"))));
        }
        self.prepare_repository(&session).await;
        self.recover(&session).await;
        Ok(())
    }

    /// A server may come up later than we do, and a disk may be mounted later: each backup tries again.
    async fn prepare_repository(&mut self, session: &Session) {
        let names: Vec<String> = self.projects.keys().cloned().collect();
        let error = match session.prepare_repository(&names).await {
            Ok(used) => {
                let news = used.news();
                if used.is_remarkable() {
                    self.tell(notice::repository(names.clone(), &used, Timestamp::now()));
                }
                names
                    .iter()
                    .for_each(|name| self.shown.heard(name, news.clone()));
                return;
            }
            Err(error) => error,
        };
        let why = error.to_string();
        let is_for_a_person = !matches!(error, PlaceError::Repository(_) | PlaceError::Engine(_));
        self.context.tell(&CommandError::failed(error));
        if is_for_a_person {
            let notice = notice::no_repository(names, &why, Timestamp::now());
            for (name, project) in &mut self.projects {
                project.judge(&notice, &Services::All);
                let trouble = RunTrouble::without_snapshot(vec![why.clone()]);
                self.shown.came_to(name, Some(trouble));
            }
            self.tell(notice);
        }
    }

    /// Finishes what a run that died has begun.
    async fn recover(&self, session: &Session) {
        let in_scope = |project: &str| self.projects.contains_key(project);
        match recover_all(session, in_scope, &Authority::default()).await {
            // A run that is alive ends by itself.
            Ok(recovered) => recovered
                .failed
                .iter()
                .filter(|error| !matches!(error, CommandError::Busy(_)))
                .for_each(|error| self.context.tell(error)),
            Err(error) => self.context.tell(&error),
        }
    }

    async fn check(&mut self) {
        let context = self.context;
        // To undo a dead restore may take hours, and nobody should end us for that.
        self.pulse.begins_work();
        let recovered = async {
            let session = context.session(&context.engine().await?).await?;
            self.recover(&session).await;
            Ok(())
        };
        if let Err(error) = context.unless_interrupted(recovered).await {
            context.tell(&error);
        }
        for notice in self.checks.run(context, &self.projects, &self.shown).await {
            self.tell(notice);
        }
    }

    /// Tells it, and beside good news what is in trouble still.
    fn tell(&self, notice: Notice) {
        let unsaved = self.projects.values().filter_map(Project::unsaved);
        let troubles: Vec<String> = unsaved.chain(self.checks.troubles()).collect();
        self.notifications
            .take(notice::overshadowed(notice, &troubles));
    }

    async fn work(&mut self) -> Outcome {
        loop {
            self.pulse.turns_round();
            if self.context.interrupt.is_cancelled() {
                return Outcome::Done;
            }
            if self.inbox.take_labels_changed() {
                self.look_again().await;
            }
            if self.checks.are_late() {
                self.check().await;
            }
            self.show();
            match self.next().await {
                Some(due) => {
                    let project = due.project.clone();
                    self.shown.begins(&project);
                    let next = self.back_up(due).await;
                    self.shown.ended(&project);
                    if let Next::Stop = next {
                        return Outcome::Interrupted;
                    }
                }
                None if self.checks.are_due() => self.check().await,
                None => self.rest().await,
            }
        }
    }

    async fn look_again(&mut self) {
        let looked = async {
            let engine = self.context.engine().await?;
            self.read_labels(&engine).await
        };
        let trouble = looked.await.err().map(|error| error.to_string());
        if let Some(trouble) = &trouble {
            warn!("labels cannot be read: {trouble}");
            self.inbox.labels_changed();
        }
        self.pulse.engine(trouble);
    }

    async fn read_labels(&mut self, engine: &Engine) -> Result<(), CommandError> {
        let own = engine.own_container().await;
        let own = own.map_err(CommandError::failed)?;
        let containers = engine.containers(&[]).await;
        let containers = containers.map_err(CommandError::failed)?;
        let swarm = swarm_view(engine, &containers).await;
        let swarm = swarm.map_err(CommandError::failed)?;
        let mut stacks = by_project(containers, own.as_ref(), &self.scope, swarm.as_ref());
        if let Scope::All = self.scope {
            self.projects.retain(|name, _| stacks.contains_key(name));
        }
        let settings = &self.context.config;
        // A container that starts again is still the same one.
        let beginning = own.map_or(self.started, |own| own.created);
        for (name, stack) in std::mem::take(&mut stacks) {
            let project = self
                .projects
                .entry(name.clone())
                .or_insert_with(|| Project::new(&name, settings));
            project.read(stack, &settings.schedule, beginning);
        }
        self.show();
        self.shown.labels_read(self.projects.keys());
        Ok(())
    }

    fn show(&self) {
        self.shown
            .outlooks(self.projects.values().map(Project::outlook));
    }

    /// What is asked for goes before what is due.
    async fn next(&mut self) -> Option<Due> {
        for (name, project) in &mut self.projects {
            if project.is_waiting() {
                continue;
            }
            if let Some(occasion) = self.inbox.take_backup(name) {
                return Some(Due {
                    project: name.clone(),
                    services: Services::All,
                    occasion,
                });
            }
        }
        for (name, project) in &mut self.projects {
            if project.is_waiting() {
                continue;
            }
            if let Some((services, occasion)) = project.due(self.context, Timestamp::now()).await {
                return Some(Due {
                    project: name.clone(),
                    services,
                    occasion,
                });
            }
        }
        None
    }

    /// Until something is due, or happens.
    async fn rest(&mut self) {
        let now = Timestamp::now();
        let nexts = self.projects.values_mut().filter_map(|project| {
            project.tell_next(&self.context.view());
            project.rests_for(now)
        });
        let rest = nexts.min().unwrap_or(LONGEST_REST);
        let rest = rest.min(LONGEST_REST).min(self.checks.rest_for());
        tokio::select! {
            biased;
            () = self.context.interrupt.cancelled() => {}
            () = self.inbox.news() => tokio::time::sleep(SETTLING_TIME).await,
            () = tokio::time::sleep(rest) => {}
        }
    }

    async fn back_up(&mut self, due: Due) -> Next {
        info!(project = due.project, "backing up: {}", due.occasion);
        self.pulse.begins_work();
        let began = Timestamp::now();
        let context = self.context.of_project(&due.project);
        let ended = save(&context, &due, |projects| {
            // Each attempt would be a beginning.
            let was_busy = self
                .projects
                .get(&due.project)
                .is_some_and(Project::was_busy);
            if !was_busy {
                self.notifications.started(projects);
            }
        });
        let ended = ended.await;
        let Some(project) = self.projects.get_mut(&due.project) else {
            return Next::Go;
        };
        let notice = match ended {
            Ended::Interrupted => return Next::Stop,
            Ended::Busy(error) => {
                project.wait(Instant::now() + BUSY_PAUSE, &error);
                self.shown.put_off(&due.project);
                if due.occasion != Occasion::Schedule {
                    self.inbox.ask(&due.project, due.occasion);
                }
                return Next::Go;
            }
            Ended::Idle => None,
            Ended::Saved(backups) => {
                log(&backups);
                backups.tell_failures(&context);
                let trouble = RunTrouble::of(&backups);
                self.shown.came_to(&due.project, trouble);
                let news = backups.reports.iter().flat_map(BackupReport::news);
                self.shown.heard(&due.project, news.collect());
                Some(backups.notice(&context))
            }
            Ended::Failed(error) => {
                context.tell(&error);
                let trouble = RunTrouble::without_snapshot(vec![error.to_string()]);
                self.shown.came_to(&due.project, Some(trouble));
                Some(tell::no_backup(&context, &error))
            }
        };
        project.goes_on();
        project.timetable.ran(&due.services, began);
        if let Some(backup) = notice {
            let notice = match project.judge(&backup, &due.services) {
                true => notice::recovered(backup),
                false => backup,
            };
            self.tell(notice);
        }
        self.checks.expect_news(&due.project);
        Next::Go
    }
}

/// Backs up one project. `begins` is told of it once there is something to be saved.
async fn save(context: &Context, due: &Due, begins: impl FnOnce(Vec<String>)) -> Ended {
    let services = match &due.services {
        Services::All => None,
        Services::Named(names) => Some(names),
    };
    let saved = async {
        let wanted = Wanted {
            services,
            by_hand: due.occasion.is_by_hand(),
            ..Wanted::default()
        };
        let runs = Runs::prepare(context, wanted).await?;
        if !runs.ask_for_something() {
            return Ok(None);
        }
        begins(runs.projects());
        runs.back_up().await.map(Some)
    };
    match saved.await {
        Ok(None) => {
            info!("nothing is labelled for backup (any more)");
            Ended::Idle
        }
        Ok(Some(mut backups)) => match backups.take_busy() {
            Some(busy) => Ended::Busy(busy),
            None => Ended::Saved(backups),
        },
        Err(CommandError::Interrupted) => Ended::Interrupted,
        Err(error) => Ended::Failed(error),
    }
}

fn log(backups: &Backups) {
    for report in &backups.reports {
        let manifest = &report.manifest;
        let (project, snapshot) = (&manifest.project, &manifest.snapshot);
        let (targets, stored) = (manifest.targets.len(), size(manifest.stored_bytes()));
        if report.is_complete() {
            info!(project, %snapshot, targets, stored, "backed up");
        } else {
            warn!(project, %snapshot, targets, stored, "backed up in part");
        }
        for problem in &report.problems {
            warn!(project, "{problem}");
        }
    }
}
