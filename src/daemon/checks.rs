//! Once an hour: whether each project has recent good backups, by the goals that its schedules set.
//!
//! What is wrong is told when it is found, and once a day while it lasts; that it is mended is told as well. What has been told is
//! known to this daemon only: the next one tells it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::project::Project;
use crate::commands::check::{Checked, look};
use crate::commands::{CommandError, Context};
use crate::daemon::serve::Shown;
use crate::history::freshness::{FreshnessReport, Goals, Question};
use crate::notify::{Kind, Notice};
use crate::report::{View, notice};
use crate::stack::Scope;

const CHECK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Backups go first for no longer than this.
const CHECK_LATENESS: Duration = Duration::from_secs(10 * 60);

/// What lasts is told again after this.
const REMINDER_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// A repository may be away for a moment: that a check failed is told when it has failed this often in a row.
const FAILURES_UNTIL_TOLD: u32 = 2;

pub(super) struct Checks {
    due: Instant,
    projects: BTreeMap<String, Known>,
}

/// What is known of one project.
#[derive(Default)]
struct Known {
    told: BTreeSet<String>,
    told_at: Option<Instant>,
    failures: u32,
}

/// What is to be told of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Wrong,
    Mended,
}

impl Known {
    /// `wrong`: what is not in order now.
    fn take(&mut self, wrong: BTreeSet<String>, now: Instant) -> Option<News> {
        if wrong.is_empty() {
            self.told_at = None;
            let told = std::mem::take(&mut self.told);
            return (!told.is_empty()).then_some(News::Mended);
        }
        let is_new = !wrong.is_subset(&self.told);
        let lasts = self
            .told_at
            .is_none_or(|told| now - told >= REMINDER_INTERVAL);
        self.told = wrong;
        (is_new || lasts).then(|| {
            self.told_at = Some(now);
            News::Wrong
        })
    }
}

impl Checks {
    /// The first one is due when everything else is done.
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now(),
            projects: BTreeMap::new(),
        }
    }

    pub(super) fn are_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Whether they have been due for so long that backups wait for them.
    pub(super) fn are_late(&self) -> bool {
        self.due.elapsed() >= CHECK_LATENESS
    }

    pub(super) fn rest_for(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// What was wrong may be mended now.
    pub(super) fn expect_news(&mut self, project: &str) {
        if self
            .projects
            .get(project)
            .is_some_and(|known| !known.told.is_empty())
        {
            self.due = Instant::now();
        }
    }

    /// The projects that were not in order when they were last looked at, for people.
    pub(super) fn troubles(&self) -> impl Iterator<Item = String> {
        let projects = self.projects.iter();
        let troubled = projects.filter(|(_, known)| !known.told.is_empty());
        troubled.map(|(name, _)| format!("{name}: no recent good backup of some targets"))
    }

    /// What is to be told. When it is interrupted, what it has found until then.
    pub(super) async fn run(
        &mut self,
        context: &Context,
        projects: &BTreeMap<String, Project>,
        shown: &Shown,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.projects.retain(|name, _| projects.contains_key(name));
        for (name, project) in projects {
            let context = context.of_project(name);
            let known = self.projects.entry(name.clone()).or_default();
            let checked = async { Ok(known.check(&context, project, shown).await) };
            match context.unless_interrupted(checked).await {
                Ok(notice) => notices.extend(notice),
                Err(_) => return notices,
            }
        }
        self.due = Instant::now() + CHECK_INTERVAL;
        notices
    }
}

impl Known {
    async fn check(
        &mut self,
        context: &Context,
        project: &Project,
        shown: &Shown,
    ) -> Option<Notice> {
        let now = Timestamp::now();
        let goals = project.timetable.goals(&context.config.schedule, now);
        let question = question(now, goals.clone(), context);
        match look(context, &question, true).await {
            Ok(Checked {
                mut report,
                trouble,
            }) => {
                self.failures = 0;
                shown.checked(&report);
                if is_too_early(project, &goals, now) {
                    report.findings.retain(|finding| !finding.is_nothing());
                }
                let trouble: Vec<String> = trouble.iter().map(CommandError::to_string).collect();
                self.found(&report, &trouble, &context.view())
            }
            Err(error) => self.failed(&context.config.scope, &error, Timestamp::now()),
        }
    }

    fn found(
        &mut self,
        report: &FreshnessReport,
        trouble: &[String],
        view: &View,
    ) -> Option<Notice> {
        let notice = match self.take(wrong(report, trouble), Instant::now())? {
            News::Wrong => notice::check(report, trouble, view),
            News::Mended => notice::mended(report, view),
        };
        match notice.kind {
            Kind::Recovery => info!("{}", notice.title),
            _ => warn!("{}\n{}", notice.title, notice.body),
        }
        Some(notice)
    }

    fn failed(&mut self, scope: &Scope, error: &CommandError, now: Timestamp) -> Option<Notice> {
        self.failures += 1;
        warn!("could not check for recent backups: {error}");
        if self.failures < FAILURES_UNTIL_TOLD {
            return None;
        }
        let why = error.to_string();
        self.take(BTreeSet::from([why.clone()]), Instant::now())?;
        Some(notice::check_failed(scope, &why, now))
    }
}

fn question(now: Timestamp, goals: Goals, context: &Context) -> Question {
    let reach = goals.longest().unwrap_or(REMINDER_INTERVAL) * 2;
    let reach = SignedDuration::try_from(reach).unwrap_or(SignedDuration::MAX);
    Question {
        now,
        goals,
        targets: Vec::new(),
        expected: BTreeSet::new(),
        retired: context.config.retired.clone(),
        horizon: now.checked_sub(reach).ok(),
    }
}

/// Whether the first backup of the project need not have been made yet.
fn is_too_early(project: &Project, goals: &Goals, now: Timestamp) -> bool {
    let (Some(since), Some(goal)) = (project.timetable.since(), goals.longest()) else {
        return true;
    };
    now.duration_since(since).unsigned_abs() <= goal
}

/// What is not in order, each by words that stay the same while it lasts.
fn wrong(report: &FreshnessReport, trouble: &[String]) -> BTreeSet<String> {
    let targets = report.targets().filter(|judged| !judged.is_in_order());
    let targets = targets.map(|judged| format!("{} {:?}", judged.target, judged.state));
    let findings = report.findings.iter().map(|finding| format!("{finding:?}"));
    targets
        .chain(findings)
        .chain(trouble.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_once_a_day_and_when_it_is_mended() {
        let wrong = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let start = Instant::now();
        let hour = Duration::from_secs(60 * 60);
        let mut known = Known::default();
        for (hours, found, expected) in [
            (0, &[] as &[&str], None),
            (1, &["db is stale"], Some(News::Wrong)),
            (2, &["db is stale"], None),
            (3, &["db is stale", "app is missing"], Some(News::Wrong)),
            (4, &["app is missing"], None),
            (26, &["app is missing"], None),
            (27, &["app is missing"], Some(News::Wrong)),
            (28, &["app is missing"], None),
            (29, &[], Some(News::Mended)),
            (30, &[], None),
            (31, &["app is missing"], Some(News::Wrong)),
        ] {
            let news = known.take(wrong(found), start + hours * hour);
            assert_eq!(news, expected, "after {hours} hours");
        }
    }
}
