//! What is shown, kept in memory. The daemon and [`super::look`] write it, requests read it, and nobody waits for anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Notify;

use super::history::{Good, History};
use crate::commands::Context;
use crate::commands::backup::Backups;
use crate::daemon::timetable::Timetable;
use crate::exit::Outcome;
use crate::history::freshness::{FreshnessReport, ProjectReport, TargetReport, Why};
use crate::history::selectors::TargetPattern;
use crate::plan::backup::BackupPlan;
use crate::report::runlog::Runlog;
use crate::run::backup::BackupReport;
use crate::run::prune::PruneReport;
use crate::schedule::Schedule;
use crate::target::{RunId, TargetId};

/// Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Shown(Arc<Inner>);

struct Inner {
    time_zone: TimeZone,
    retired: Arc<[TargetPattern]>,
    log: Runlog,
    overview: Mutex<Arc<Overview>>,
    /// Projects that should be looked at anew.
    unseen: Mutex<BTreeSet<String>>,
    news: Notify,
}

#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// By name; `None` until labels were read.
    pub projects: Option<BTreeMap<String, Project>>,
}

#[derive(Clone, Debug, Default)]
pub struct Project {
    /// Why its labels cannot be read as they are.
    pub trouble: Option<String>,
    pub next: Option<Timestamp>,
    /// Of each service that asks for something to be saved.
    pub rhythms: BTreeMap<String, Rhythm>,
    /// Targets that are gone on purpose.
    pub retired: Arc<[TargetPattern]>,
    /// Since when a backup is running.
    pub running: Option<Timestamp>,
    /// The last run of this daemon that is not whole.
    pub trouble_of_run: Option<RunTrouble>,
    /// That the repository is not as it was before the last run.
    pub news: Vec<String>,
    /// What lies in the repository, as far as it is known.
    pub history: Option<Arc<History>>,
    /// Why that is not known, or not as it is now.
    pub history_trouble: Option<String>,
    /// What the last check found of each target.
    pub checked: BTreeMap<TargetId, Checked>,
    /// What the labels amount to, as far as it is known.
    pub plan: Option<Arc<BackupPlan>>,
    pub plan_trouble: Option<String>,
}

/// What the last check found of a target.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Copies that are not whole, each with the reason.
    pub damaged: BTreeMap<RunId, String>,
    /// The newest copy that is whole.
    pub good: Option<Good>,
}

impl From<&TargetReport> for Checked {
    fn from(report: &TargetReport) -> Self {
        let damaged = report
            .passed_over
            .iter()
            .filter_map(|copy| match &copy.why {
                Why::Damaged { problem } => Some((copy.snapshot.clone(), problem.to_string())),
                Why::Failed { .. } | Why::FromTheFuture => None,
            });
        let good = report.last_good.as_ref().map(|copy| Good {
            snapshot: copy.snapshot.clone(),
            time: copy.time,
            plain: None,
            stored: copy.stored_bytes,
        });
        Self {
            damaged: damaged.collect(),
            good,
        }
    }
}

/// How often a service is to be saved.
#[derive(Clone, Debug)]
pub struct Rhythm {
    pub schedule: Schedule,
    /// How old its copy may become; `None` when it is saved only when it is asked for.
    pub goal: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct RunTrouble {
    pub at: Timestamp,
    /// Whether there is a snapshot all the same.
    pub is_partial: bool,
    pub why: Vec<String>,
}

impl RunTrouble {
    pub fn without_snapshot(why: Vec<String>) -> Self {
        Self {
            at: Timestamp::now(),
            is_partial: false,
            why,
        }
    }

    /// `None` when everything is as it should be.
    pub fn of(backups: &Backups) -> Option<Self> {
        if backups.outcome() == Outcome::Done {
            return None;
        }
        let failures = backups.failures.iter();
        let failures = failures.map(|failure| failure.error.to_string());
        let problems = backups.reports.iter().flat_map(problems);
        Some(Self {
            is_partial: !backups.reports.is_empty(),
            why: failures.chain(problems).collect(),
            ..Self::without_snapshot(Vec::new())
        })
    }
}

/// Why a backup is not whole, but for the targets that failed: those stand in its manifest.
fn problems(report: &BackupReport) -> Vec<String> {
    let mut problems = report.problems.clone();
    let pruned = report.pruned.as_ref();
    if !pruned.is_none_or(PruneReport::is_as_it_should_be) {
        problems.push("not all old snapshots were pruned as planned".to_owned());
    }
    let lacking = report.copies.iter().filter(|copies| !copies.is_complete());
    problems.extend(lacking.map(|copies| format!("{} is missing some snapshots", copies.place)));
    problems
}

/// What the daemon knows of one project.
pub struct Outlook<'a> {
    pub project: &'a str,
    pub trouble: Option<&'a str>,
    pub timetable: &'a Timetable,
}

impl Project {
    pub fn asks_for_something(&self) -> bool {
        !self.rhythms.is_empty()
    }
}

impl Shown {
    pub fn of(context: &Context) -> Self {
        let settings = &context.config;
        let (zone, retired) = (settings.time_zone.clone(), settings.retired.clone());
        Self::new(zone, retired, context.runlog.clone())
    }

    pub fn new(time_zone: TimeZone, retired: Vec<TargetPattern>, log: Runlog) -> Self {
        Self(Arc::new(Inner {
            time_zone,
            retired: retired.into(),
            log,
            overview: Mutex::default(),
            unseen: Mutex::default(),
            news: Notify::new(),
        }))
    }

    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&lock(&self.0.overview))
    }

    pub fn log(&self) -> &Runlog {
        &self.0.log
    }

    pub fn time_zone(&self) -> &TimeZone {
        &self.0.time_zone
    }

    /// These are the projects, and what is known of them; others are gone.
    pub fn outlooks<'a>(&self, outlooks: impl Iterator<Item = Outlook<'a>>) {
        let now = Timestamp::now();
        let mut overview = lock(&self.0.overview);
        let overview = Arc::make_mut(&mut overview);
        let mut known = overview.projects.take().unwrap_or_default();
        let renewed = outlooks.map(|outlook| {
            let mut project = known.remove(outlook.project).unwrap_or_default();
            project.trouble = outlook.trouble.map(str::to_owned);
            project.retired = Arc::clone(&self.0.retired);
            project.next = outlook.timetable.next();
            let mut rhythms = std::mem::take(&mut project.rhythms);
            let renewed = outlook.timetable.schedules().map(|(service, schedule)| {
                let known = rhythms.remove(service);
                let known = known.filter(|known| known.schedule == *schedule);
                let rhythm = known.unwrap_or_else(|| Rhythm {
                    schedule: schedule.clone(),
                    goal: outlook.timetable.goal(schedule, now),
                });
                (service.to_owned(), rhythm)
            });
            project.rhythms = renewed.collect();
            (outlook.project.to_owned(), project)
        });
        overview.projects = Some(renewed.collect());
    }

    /// Labels were read: what they amount to may be something else than before.
    pub fn labels_read<'a>(&self, projects: impl Iterator<Item = &'a String>) {
        lock(&self.0.unseen).extend(projects.cloned());
        self.0.news.notify_one();
    }

    pub fn begins(&self, project: &str) {
        self.0.log.begins(project);
        self.update(project, |shown| shown.running = Some(Timestamp::now()));
    }

    /// What went wrong in the run that is under way; nothing, when it is whole.
    pub fn came_to(&self, project: &str, trouble: Option<RunTrouble>) {
        self.update(project, |shown| shown.trouble_of_run = trouble);
    }

    /// What there is to say of the repository, in place of what was said before.
    pub fn heard(&self, project: &str, news: Vec<String>) {
        self.update(project, |shown| shown.news = news);
    }

    /// What a check has found, in place of what an earlier one found.
    pub fn checked(&self, report: &FreshnessReport) {
        for ProjectReport { project, targets } in &report.projects {
            let checked = targets
                .iter()
                .map(|it| (it.target.clone(), Checked::from(it)));
            self.update(project, |shown| shown.checked = checked.collect());
        }
    }

    /// The run that is under way cannot begin yet, and is forgotten.
    pub fn put_off(&self, project: &str) {
        self.0.log.forgets();
        self.update(project, |shown| shown.running = None);
    }

    pub fn ended(&self, project: &str) {
        if self.0.log.ends() {
            self.update(project, |shown| shown.running = None);
            self.labels_read(std::iter::once(&project.to_owned()));
        }
    }

    /// Changes what is known of a project, unless it is gone.
    pub fn update(&self, project: &str, change: impl FnOnce(&mut Project)) {
        let mut overview = lock(&self.0.overview);
        let projects = Arc::make_mut(&mut overview).projects.as_mut();
        if let Some(shown) = projects.and_then(|projects| projects.get_mut(project)) {
            change(shown);
        }
    }

    /// Projects that should be looked at anew, as soon as there are some.
    pub async fn unseen(&self) -> BTreeSet<String> {
        loop {
            let unseen = std::mem::take(&mut *lock(&self.0.unseen));
            if !unseen.is_empty() {
                return unseen;
            }
            self.0.news.notified().await;
        }
    }
}

/// Nobody panics while holding it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
