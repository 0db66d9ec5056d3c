//! What was logged during the last runs, kept in memory for the status page.
//!
//! It is bounded, and gone with the process: the log itself is the engine's to keep.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How many runs of one project are kept, and how many of all.
const MOST_RUNS: (usize, usize) = (5, 60);

/// Of one run: so many of its first and of its last lines.
const MOST_LINES: (usize, usize) = (50, 150);

/// Of one line, in characters.
const MAX_LINE_LENGTH: usize = 1000;

/// Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Runlog(Arc<Mutex<Runs>>);

#[derive(Default)]
struct Runs {
    running: Option<Run>,
    /// Oldest first.
    ended: VecDeque<Run>,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub project: String,
    pub began: Timestamp,
    /// `None` while it runs.
    pub ended: Option<Timestamp>,
    pub first: Vec<Line>,
    /// Lines between those, which are not kept.
    pub dropped: usize,
    pub last: VecDeque<Line>,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub at: Timestamp,
    pub level: Level,
    pub text: String,
}

impl Runlog {
    /// From now on, what is logged belongs to a run of this project.
    pub fn begins(&self, project: &str) {
        self.runs().running = Some(Run {
            project: project.to_owned(),
            began: Timestamp::now(),
            ended: None,
            first: Vec::new(),
            dropped: 0,
            last: VecDeque::new(),
        });
    }

    /// The run that is under way is none.
    pub fn forgets(&self) {
        self.runs().running = None;
    }

    /// Whether there was one under way.
    pub fn ends(&self) -> bool {
        let mut runs = self.runs();
        let Some(mut run) = runs.running.take() else {
            return false;
        };
        run.ended = Some(Timestamp::now());
        let of_project = |it: &&Run| it.project == run.project;
        let number = runs.ended.iter().filter(of_project).count();
        if number >= MOST_RUNS.0 {
            let oldest = runs.ended.iter().position(|it| it.project == run.project);
            oldest.map(|at| runs.ended.remove(at));
        }
        if runs.ended.len() >= MOST_RUNS.1 {
            runs.ended.pop_front();
        }
        runs.ended.push_back(run);
        true
    }

    pub fn note(&self, level: Level, text: &str) {
        let mut runs = self.runs();
        let Some(run) = &mut runs.running else {
            return;
        };
        let line = Line {
            at: Timestamp::now(),
            level,
            text: text.chars().take(MAX_LINE_LENGTH).collect(),
        };
        if run.first.len() < MOST_LINES.0 {
            run.first.push(line);
            return;
        }
        if run.last.len() >= MOST_LINES.1 {
            run.last.pop_front();
            run.dropped += 1;
        }
        run.last.push_back(line);
    }

    /// By project, newest first.
    pub fn runs_by_project(&self) -> BTreeMap<String, Vec<Run>> {
        let runs = self.runs();
        let mut by_project: BTreeMap<String, Vec<Run>> = BTreeMap::new();
        for run in runs.running.iter().chain(runs.ended.iter().rev()) {
            by_project
                .entry(run.project.clone())
                .or_default()
                .push(run.clone());
        }
        by_project
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Runlog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let text = format!("{}{}", words.message, words.fields);
        self.note(*event.metadata().level(), &text);
    }
}

/// An event's message, and its fields after it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // Whose run it is, everybody knows.
            "project" => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn events_belong_to_the_run_that_is_under_way() {
        let log = Runlog::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before");
            log.begins("shop");
            let error = std::io::Error::other("why");
            tracing::warn!(
                project = "shop",
                targets = 2,
                stored = "1.0 KiB",
                "backed up: {error}"
            );
            log.ends();
            tracing::info!("after");
        });
        let runs = &log.runs_by_project()["shop"];
        let lines: Vec<_> = runs[0]
            .first
            .iter()
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(lines, ["backed up: why targets=2 stored=1.0 KiB"]);
        assert_eq!(runs[0].first[0].level, Level::WARN);
    }

    #[test]
    fn a_run_that_says_much_keeps_its_beginning_and_its_end() {
        let log = Runlog::default();
        log.begins("shop");
        for number in 0..1000 {
            log.note(Level::INFO, &number.to_string());
        }
        let run = &log.runs_by_project()["shop"][0];
        assert_eq!(run.ended, None);
        assert_eq!(
            (run.first.len(), run.dropped, run.last.len()),
            (50, 800, 150)
        );
        assert_eq!(run.first[49].text, "49");
        assert_eq!((&*run.last[0].text, &*run.last[149].text), ("850", "999"));
    }

    #[test]
    fn a_run_that_was_put_off_is_forgotten() {
        let log = Runlog::default();
        log.begins("shop");
        log.forgets();
        assert!(!log.ends());
        assert!(log.runs_by_project().is_empty());
    }

    #[test]
    fn old_runs_of_a_project_make_room_for_its_own() {
        let log = Runlog::default();
        for (project, times) in [("rare", 1), ("busy", 20)] {
            for number in 0..times {
                log.begins(project);
                log.note(Level::INFO, &number.to_string());
                log.ends();
            }
        }
        let runs = log.runs_by_project();
        assert_eq!((runs["rare"].len(), runs["busy"].len()), (1, 5));
        assert_eq!(runs["busy"][0].first[0].text, "19");
    }
}
