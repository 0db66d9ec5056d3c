//! What of one project is due when. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::history::freshness::Goals;
use crate::labels::OptIn;
use crate::schedule::Schedule;
use crate::stack::{Service, Stack};

/// Clocks of two machines differ by less; a run that lies further ahead was dated by a clock that has been set back.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A backup takes its time. A twelfth of the time between two of them is granted for it, and this at least.
const SHORTEST_GRACE: Duration = Duration::from_secs(15 * 60);

/// The schedules of a project's services, and when each was last saved.
#[derive(Clone, Debug)]
pub struct Timetable {
    project: String,
    zone: TimeZone,
    jitter: Duration,
    /// By the service's name.
    entries: BTreeMap<String, Entry>,
    /// The newest run that saved everything; what asked for one before that has got it.
    served_until: Option<Timestamp>,
}

/// A service that has something to save.
#[derive(Clone, Debug)]
pub struct Watched {
    pub schedule: Schedule,
    /// What was due before that is not made up for.
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
struct Entry {
    watched: Watched,
    /// The beginning of the last run that took the service along, however it ended.
    last: Option<Timestamp>,
}

/// Which services a run saves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    All,
    Named(BTreeSet<String>),
}

impl Services {
    pub fn contains(&self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(service),
        }
    }
}

/// The services of a stack that have something to save, by name. Their schedule is that of their label, or `default`; they are
/// watched since they are there, but not since before `beginning`.
pub fn watched(
    stack: &Stack,
    default: &Schedule,
    beginning: Timestamp,
) -> BTreeMap<String, Watched> {
    let is_saved =
        |service: &&Service| service.labels.opt_in != OptIn::No && service.labels.skip.is_none();
    let watched = |service: &Service| {
        let schedule = service.labels.schedule.as_ref().unwrap_or(default);
        let watched = Watched {
            schedule: schedule.clone(),
            since: service.container.created.max(beginning),
        };
        (service.name.clone(), watched)
    };
    stack
        .services
        .iter()
        .filter(is_saved)
        .map(watched)
        .collect()
}

impl Timetable {
    /// `jitter`: up to how much later than its time a run begins.
    pub fn new(project: impl Into<String>, zone: TimeZone, jitter: Duration) -> Self {
        Self {
            project: project.into(),
            zone,
            jitter,
            entries: BTreeMap::new(),
            served_until: None,
        }
    }

    /// Takes the services as they are now. What is known of their last runs stays.
    pub fn update(&mut self, services: BTreeMap<String, Watched>) {
        let known = std::mem::take(&mut self.entries);
        let last = |service: &str| known.get(service).and_then(|entry| entry.last);
        self.entries = services
            .into_iter()
            .map(|(service, watched)| {
                let last = last(&service);
                (service, Entry { watched, last })
            })
            .collect();
    }

    /// A run that began then has taken `services` along. Runs may be told in any order.
    pub fn ran(&mut self, services: &Services, began: Timestamp) {
        for (service, entry) in &mut self.entries {
            if services.contains(service) {
                entry.last = entry.last.max(Some(began));
            }
        }
        if *services == Services::All {
            self.know_nothing_before(began);
        }
    }

    /// Those of `services` that are known, by name.
    pub fn names(&self, services: &Services) -> BTreeSet<String> {
        let known = self.entries.keys().filter(|name| services.contains(name));
        known.cloned().collect()
    }

    /// Whether everything should be saved because of what happened then.
    pub fn is_unserved(&self, happened: Timestamp) -> bool {
        self.served_until.is_none_or(|until| until < happened)
    }

    /// What asked for a run before that is past.
    pub fn know_nothing_before(&mut self, time: Timestamp) {
        self.served_until = self.served_until.max(Some(time));
    }

    /// How old the last good backup of each service may be. `default`: the schedule of those that are gone.
    pub fn goals(&self, default: &Schedule, now: Timestamp) -> Goals {
        let goal = |schedule: &Schedule| self.goal(schedule, now);
        let services = self.entries.iter();
        let services = services.map(|(name, entry)| (name.clone(), goal(&entry.watched.schedule)));
        Goals::of_services(services.collect(), goal(default))
    }

    /// How old the last good backup may be of what goes by this schedule.
    pub fn goal(&self, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
        let gap = schedule.longest_gap(now, &self.zone)?;
        Some(gap + self.jitter + (gap / 12).max(SHORTEST_GRACE))
    }

    /// Since when at least one of its services is watched.
    pub fn since(&self) -> Option<Timestamp> {
        self.entries.values().map(|entry| entry.watched.since).min()
    }

    pub fn knows_all(&self) -> bool {
        !self.has_news() && self.served_until.is_some()
    }

    /// Services of which no run is known.
    pub fn has_news(&self) -> bool {
        self.entries.values().any(|entry| entry.last.is_none())
    }

    pub fn schedules(&self) -> impl Iterator<Item = (&str, &Schedule)> {
        let entries = self.entries.iter();
        entries.map(|(service, entry)| (service.as_str(), &entry.watched.schedule))
    }

    /// When something is due next; it may have been due for long.
    pub fn next(&self) -> Option<Timestamp> {
        let dues = self.entries.values().filter_map(|entry| self.due_at(entry));
        dues.min()
    }

    /// The services whose time has come. One run saves them together.
    pub fn due(&mut self, now: Timestamp) -> Option<Services> {
        self.settle_clock(now);
        let is_due = |entry: &Entry| self.due_at(entry).is_some_and(|due| due <= now);
        let due = self.entries.iter().filter(|(_, entry)| is_due(entry));
        let names: BTreeSet<String> = due.map(|(service, _)| service.clone()).collect();
        match names.len() {
            0 => None,
            all if all == self.entries.len() => Some(Services::All),
            _ => Some(Services::Named(names)),
        }
    }

    /// A clock that was set back must not keep anything from being due until it has caught up with itself.
    fn settle_clock(&mut self, now: Timestamp) {
        let settle = |time: &mut Timestamp| {
            if time.duration_since(now) > CLOCK_TOLERANCE {
                *time = now;
            }
        };
        for entry in self.entries.values_mut() {
            settle(&mut entry.watched.since);
            entry.last.iter_mut().for_each(settle);
        }
        self.served_until.iter_mut().for_each(settle);
    }

    fn due_at(&self, entry: &Entry) -> Option<Timestamp> {
        let Watched { schedule, since } = &entry.watched;
        match entry.last {
            None if schedule.begins_at_once() => Some(*since),
            last => {
                let time = schedule.next(last.unwrap_or(*since), &self.zone)?;
                Some(time.checked_add(self.delay(time)).unwrap_or(time))
            }
        }
    }

    /// The same for all services of a project, and whoever asks: a daemon that starts again keeps to it.
    fn delay(&self, time: Timestamp) -> SignedDuration {
        let milliseconds = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if milliseconds == 0 {
            return SignedDuration::ZERO;
        }
        let mut hasher = DefaultHasher::new();
        (&self.project, time.as_second()).hash(&mut hasher);
        let delay = hasher.finish() % milliseconds;
        SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}Z").parse().unwrap()
    }

    fn timetable(schedules: &[(&str, &str)], seen: &str) -> Timetable {
        let mut timetable = Timetable::new("shop", TimeZone::UTC, Duration::ZERO);
        timetable.update(read(schedules, seen));
        timetable
    }

    fn next_of(timetable: &Timetable, service: &str) -> Option<Timestamp> {
        timetable.due_at(&timetable.entries[service])
    }

    fn read(schedules: &[(&str, &str)], since: &str) -> BTreeMap<String, Watched> {
        let read = |(service, text): &(&str, &str)| {
            let (schedule, since) = (text.parse().unwrap(), at(since));
            ((*service).to_owned(), Watched { schedule, since })
        };
        schedules.iter().map(read).collect()
    }

    fn named(names: &[&str]) -> Option<Services> {
        let names = names.iter().map(|name| (*name).to_owned());
        Some(Services::Named(names.collect()))
    }

    #[test]
    fn what_is_due_together_is_saved_together() {
        let mut timetable = timetable(&[("db", "@daily"), ("logs", "@weekly")], "20T10:00:00");
        assert_eq!(timetable.due(at("20T23:59:59")), None);
        assert_eq!(timetable.next(), Some(at("21T00:00:00")));
        assert_eq!(timetable.due(at("21T00:00:00")), named(&["db"]));
        timetable.ran(&named(&["db"]).unwrap(), at("21T00:00:01"));
        assert_eq!(timetable.due(at("21T00:05:00")), None);
        // A Sunday.
        assert_eq!(next_of(&timetable, "logs"), Some(at("22T00:00:00")));
        assert_eq!(timetable.due(at("22T00:00:00")), Some(Services::All));
    }

    #[test]
    fn a_run_that_was_missed_is_caught_up_once() {
        let mut timetable = timetable(&[("db", "30 2 * * *")], "20T10:00:00");
        timetable.ran(&Services::All, at("15T02:30:00"));
        assert_eq!(timetable.due(at("20T10:00:00")), Some(Services::All));
        timetable.ran(&Services::All, at("20T10:00:00"));
        assert_eq!(timetable.due(at("20T10:00:01")), None);
        assert_eq!(timetable.next(), Some(at("21T02:30:00")));
    }

    #[test]
    fn an_interval_begins_at_once_and_counts_from_the_last_run_whoever_began_it() {
        let mut timetable = timetable(&[("db", "every 6h")], "20T10:00:00");
        assert_eq!(timetable.due(at("20T10:00:00")), Some(Services::All));
        timetable.ran(&Services::All, at("20T10:00:00"));
        timetable.ran(&Services::All, at("20T12:00:00"));
        timetable.ran(&Services::All, at("20T11:00:00"));
        assert_eq!(timetable.next(), Some(at("20T18:00:00")));
    }

    #[test]
    fn a_goal_leaves_a_backup_its_time() {
        let schedules = [("db", "@daily"), ("log", "every 10m"), ("tape", "off")];
        let timetable = timetable(&schedules, "20T10:00:00");
        let goals = timetable.goals(&"@weekly".parse().unwrap(), at("20T10:00:00"));
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(goals.of_service("db"), hours(26));
        assert_eq!(goals.of_service("log"), Some(Duration::from_secs(25 * 60)));
        assert_eq!(goals.of_service("tape"), None);
        assert_eq!(goals.of_service("gone"), hours(7 * 26));
    }

    #[test]
    fn what_has_no_schedule_of_its_own_is_never_due_with_the_others() {
        let mut timetable = timetable(&[("db", "@daily"), ("archive", "off")], "20T10:00:00");
        assert_eq!(timetable.due(at("21T10:00:00")), named(&["db"]));
        assert_eq!(next_of(&timetable, "archive"), None);
        let mut idle = super::tests::timetable(&[("archive", "off")], "20T10:00:00");
        assert_eq!((idle.next(), idle.due(at("25T10:00:00"))), (None, None));
    }

    #[test]
    fn labels_that_change_leave_what_is_known_of_the_last_run() {
        let mut timetable = timetable(&[("db", "@daily")], "20T10:00:00");
        timetable.ran(&Services::All, at("20T10:00:00"));
        assert!(!timetable.has_news());
        timetable.update(read(
            &[("db", "every 2h"), ("web", "@daily")],
            "20T11:00:00",
        ));
        assert!(timetable.has_news());
        assert_eq!(next_of(&timetable, "db"), Some(at("20T12:00:00")));
        assert_eq!(next_of(&timetable, "web"), Some(at("21T00:00:00")));
        timetable.update(read(&[("web", "@daily")], "20T11:30:00"));
        assert_eq!(timetable.entries.len(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        for schedule in ["@daily", "every 6h"] {
            let mut timetable = timetable(&[("db", schedule)], "20T10:00:00");
            timetable.ran(&Services::All, at("29T00:00:00"));
            assert_eq!(timetable.due(at("20T11:00:00")), None);
            assert_eq!(
                timetable.due(at("21T00:00:00")),
                Some(Services::All),
                "{schedule}"
            );
        }
    }

    #[test]
    fn jitter_is_the_same_each_time_it_is_asked_for_and_differs_between_projects() {
        let jitter = Duration::from_secs(3600);
        let next = |project: &str| {
            let mut timetable = Timetable::new(project, TimeZone::UTC, jitter);
            timetable.update(read(&[("db", "@daily")], "20T10:00:00"));
            timetable.next().unwrap()
        };
        let dues: BTreeSet<Timestamp> = ["a", "b", "c", "d"].map(next).into();
        assert!(dues.len() > 1);
        for due in dues {
            assert!(
                (at("21T00:00:00")..at("21T01:00:00")).contains(&due),
                "{due}"
            );
        }
        assert_eq!(next("a"), next("a"));
    }
}
