//! How far a run has come: a bar for each target on a terminal, lines in the log elsewhere.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::{error, info};

use crate::amounts::{duration, size};
use crate::pipe::Progress;
use crate::text::printable;

/// How often a target that takes long is mentioned in the log.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often bars are drawn when no byte moves, so that a reader sees that the run lives.
const TICK: Duration = Duration::from_millis(200);

/// Where all targets of a run are shown. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    /// `None`: no terminal, progress goes to the log.
    bars: Option<MultiProgress>,
}

/// What is done with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Saving,
    Loading,
    /// The new data changes places with the old.
    Replacing,
    Reading,
    Exporting,
    Copying,
}

impl Activity {
    fn going_on(self) -> &'static str {
        match self {
            Self::Saving => "saving",
            Self::Loading => "loading",
            Self::Replacing => "replacing",
            Self::Reading => "reading",
            Self::Exporting => "exporting",
            Self::Copying => "copying",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Saving => "saved",
            Self::Loading => "loaded",
            Self::Replacing => "replaced",
            Self::Reading => "read",
            Self::Exporting => "exported",
            Self::Copying => "copied",
        }
    }

    fn moves_bytes(self) -> bool {
        self != Self::Replacing
    }
}

impl Board {
    /// Bars when standard error is a terminal, the log otherwise.
    pub fn of_stderr() -> Self {
        let bars = io::stderr().is_terminal().then(|| {
            let board = MultiProgress::new();
            board.set_draw_target(ProgressDrawTarget::stderr());
            board
        });
        Self { bars }
    }

    /// The log only.
    pub fn of_log() -> Self {
        Self { bars: None }
    }

    /// Begins to show a target, or a snapshot. `expected`: how many bytes will pass, where that is known.
    pub fn begin(&self, activity: Activity, what: impl Display, expected: Option<u64>) -> Track {
        let name = what.to_string();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(match expected {
                Some(bytes) => ProgressBar::new(bytes),
                None => ProgressBar::no_length(),
            });
            bar.set_style(style(expected));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            info!(target_id = %name, expected, "{}", activity.going_on());
        }
        let now = Instant::now();
        Track {
            state: Arc::new(TrackState {
                activity,
                name,
                expected,
                bar,
                begun: now,
                bytes: AtomicU64::new(0),
                told: Mutex::new(now),
            }),
            board: self.clone(),
        }
    }

    /// Runs `print` while no bar is on the screen: for questions, and for what other parts print.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

const MEASURED: &str =
    "{prefix:<40!} {bar:24} {binary_bytes:>11}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const UNMEASURED: &str =
    "{prefix:<40!} {spinner:24} {binary_bytes:>11} {binary_bytes_per_sec} {elapsed}";

fn style(expected: Option<u64>) -> ProgressStyle {
    let template = expected.map_or(UNMEASURED, |_| MEASURED);
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One target on the [`Board`]. Dropped without [`Track::done`] or [`Track::failed`], it disappears without a word: the run
/// was interrupted, and says so itself.
pub struct Track {
    state: Arc<TrackState>,
    board: Board,
}

struct TrackState {
    activity: Activity,
    name: String,
    expected: Option<u64>,
    bar: Option<ProgressBar>,
    begun: Instant,
    bytes: AtomicU64,
    told: Mutex<Instant>,
}

impl Track {
    /// To be told of the bytes as they pass.
    pub fn counter(&self) -> Progress {
        let state = Arc::clone(&self.state);
        Progress::new(move |bytes| state.advance(bytes))
    }

    pub fn done(self) {
        let state = &self.state;
        let bytes = state.bytes.load(Ordering::Relaxed);
        let took = state.begun.elapsed();
        let verb = state.activity.done();
        let bytes = state.activity.moves_bytes().then_some(bytes);
        match &state.bar {
            Some(bar) => {
                bar.finish_and_clear();
                self.print(&done_line(verb, &state.name, bytes, took));
            }
            None => {
                let seconds = took.as_millis() as f64 / 1000.0;
                info!(target_id = %state.name, bytes, seconds, "{verb}");
            }
        }
    }

    pub fn failed(self, why: &str) {
        let state = &self.state;
        let why = printable(why);
        match &state.bar {
            Some(bar) => {
                bar.finish_and_clear();
                self.print(&format!("FAILED {}  {why}", state.name));
            }
            None => error!(target_id = %state.name, why, "failed"),
        }
    }

    fn print(&self, line: &str) {
        self.board.suspend(|| eprintln!("{line}"));
    }
}

impl TrackState {
    fn advance(&self, bytes: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None => self.mention(bytes),
        }
    }

    fn mention(&self, bytes: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < HEARTBEAT {
            return;
        }
        *told = Instant::now();
        let (name, expected) = (&self.name, self.expected);
        info!(target_id = %name, bytes, expected, "still {}", self.activity.going_on());
    }
}

impl Drop for TrackState {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `loaded db/postgres/clinical  1.2 GiB in 14.2 s (86.5 MiB/s)`
fn done_line(verb: &str, name: &str, bytes: Option<u64>, took: Duration) -> String {
    let time = duration(took);
    match bytes {
        Some(bytes) => {
            let (bytes, rate) = (size(bytes), rate(bytes, took));
            format!("{verb} {name}  {bytes} in {time} ({rate})")
        }
        None => format!("{verb} {name}  in {time}"),
    }
}

/// `85.3 MiB/s`; nothing is measured in less than a millisecond.
fn rate(bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    format!("{}/s", size((bytes as f64 / seconds) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{DriverKind, TargetId};

    fn target() -> TargetId {
        TargetId::new("db", DriverKind::Postgres, "clinical")
    }

    #[test]
    fn what_passes_is_counted_on_the_bar() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let board = Board { bars: Some(bars) };
        let track = board.begin(Activity::Saving, target(), Some(100));
        let counter = track.counter();
        counter.advance(30);
        counter.clone().advance(12);
        let bar = track.state.bar.clone().expect("there is a bar");
        assert_eq!((bar.position(), bar.length()), (42, Some(100)));
        assert!(!bar.is_finished());
        drop(counter);
        drop(track);
        assert!(bar.is_finished());
    }

    #[test]
    fn templates_are_well_formed() {
        for template in [MEASURED, UNMEASURED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_done_line_tells_of_bytes_where_some_passed() {
        let took = Duration::from_secs(2);
        assert_eq!(
            done_line("loaded", "app/volume/x", Some(10 << 20), took),
            "loaded app/volume/x  10.0 MiB in 2.0 s (5.0 MiB/s)"
        );
        assert_eq!(
            done_line("replaced", "app/volume/x", None, took),
            "replaced app/volume/x  in 2.0 s"
        );
    }

    #[test]
    fn rates_of_short_runs_are_finite() {
        assert_eq!(rate(1024, Duration::ZERO), "1000 KiB/s");
        assert_eq!(rate(10 << 20, Duration::from_secs(2)), "5.0 MiB/s");
    }
}
