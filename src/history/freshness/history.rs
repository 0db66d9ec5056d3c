//! What the snapshots of one project, taken newest first, say of each target.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Finding, GoodCopy, PassedOver, Question, State, TargetReport, Why};
use crate::manifest::{Manifest, Purpose, Skip, TargetRecord};
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::snapshot::verify::{Problem, judge_length};
use crate::target::{DriverKind, TargetId};

/// How many copies that do not count are told of one target.
const MOST_TOLD: usize = 3;

/// A backup that could not even find out what a service holds records its failure under this name.
const EVERYTHING: &str = "*";

pub(super) struct Histories<'a> {
    question: &'a Question,
    targets: BTreeMap<TargetId, History>,
    /// Some targets are known from earlier checks.
    remembers: bool,
    lengths: ObjectLengths,
    /// How many backups were taken so far, of each node of a swarm; `None` where there is none.
    taken: BTreeMap<Option<String>, usize>,
    /// By the newest backup of each node whose time has come.
    skipped: BTreeMap<Option<String>, Vec<Skip>>,
    /// Failures of whole services.
    services: BTreeMap<(String, DriverKind), Passed>,
}

#[derive(Default)]
struct History {
    last_good: Option<GoodCopy>,
    /// How many backups are newer than the first one that names the target; `None` when none does.
    unnamed: Option<usize>,
    /// The newest backup holds the good copy.
    is_newest: bool,
    passed: Passed,
    /// The newest copy that is damaged.
    damaged: Option<PassedOver>,
}

#[derive(Clone, Default)]
struct Passed {
    /// The newest ones, newest first.
    told: Vec<PassedOver>,
    number: usize,
    /// How many backups are newer than the first of them.
    newer: usize,
}

impl Passed {
    fn push(&mut self, manifest: &Manifest, newer: usize, why: Why) {
        if self.number == 0 {
            self.newer = newer;
        }
        self.number += 1;
        if self.told.len() < MOST_TOLD {
            self.told.push(PassedOver {
                snapshot: manifest.snapshot.clone(),
                time: manifest.started,
                why,
            });
        }
    }
}

impl<'a> Histories<'a> {
    pub fn new(question: &'a Question) -> Self {
        let expected = question.expected.iter().cloned();
        Self {
            question,
            targets: expected
                .map(|target| (target, History::default()))
                .collect(),
            remembers: false,
            lengths: ObjectLengths::default(),
            taken: BTreeMap::new(),
            skipped: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }

    pub fn remember(&mut self, targets: impl Iterator<Item = TargetId>) {
        for target in targets.filter(|target| target.name != EVERYTHING) {
            self.remembers = true;
            if self.question.asks_for(&target) {
                self.targets.entry(target).or_default();
            }
        }
    }

    /// How many backups of the same node are newer than the snapshot at hand.
    fn newer(&self, manifest: &Manifest) -> usize {
        self.taken.get(&manifest.node).copied().unwrap_or(0)
    }

    /// Of a target that the snapshot at hand names. `None` when nobody asks for it, or its last good copy is found already.
    fn history(&mut self, manifest: &Manifest, target: &TargetId) -> Option<&mut History> {
        if !self.question.asks_for(target) {
            return None;
        }
        let newer = self.newer(manifest);
        let history = self.targets.entry(target.clone()).or_default();
        history.unnamed.get_or_insert(newer);
        history.last_good.is_none().then_some(history)
    }

    /// Takes the next older snapshot.
    pub async fn take(
        &mut self,
        repository: &dyn Repository,
        manifest: &Manifest,
    ) -> Result<Option<Finding>, RepositoryError> {
        if manifest.purpose != Purpose::Backup {
            return Ok(None);
        }
        let newer = self.newer(manifest);
        if self.question.is_in_the_future(manifest.started) {
            for record in &manifest.targets {
                if let Some(history) = self.history(manifest, &record.target) {
                    history.passed.push(manifest, newer, Why::FromTheFuture);
                }
            }
            self.count(manifest);
            return Ok(Some(Finding::FromTheFuture {
                snapshot: SnapshotRef::new(&manifest.project, manifest.snapshot.clone()),
                time: manifest.started,
            }));
        }
        self.skipped
            .entry(manifest.node.clone())
            .or_insert_with(|| manifest.skipped.clone());
        for record in &manifest.targets {
            if self.history(manifest, &record.target).is_some() {
                self.judge_copy(repository, manifest, record).await?;
            }
        }
        for failure in &manifest.failed {
            let reason = failure.reason.clone();
            let (target, why) = (&failure.target, Why::Failed { reason });
            if target.name == EVERYTHING {
                let service = (target.service.clone(), target.driver);
                self.services
                    .entry(service)
                    .or_default()
                    .push(manifest, newer, why);
            } else if let Some(history) = self.history(manifest, target) {
                history.passed.push(manifest, newer, why);
            }
        }
        self.count(manifest);
        Ok(None)
    }

    fn count(&mut self, manifest: &Manifest) {
        *self.taken.entry(manifest.node.clone()).or_default() += 1;
    }

    async fn judge_copy(
        &mut self,
        repository: &dyn Repository,
        manifest: &Manifest,
        record: &TargetRecord,
    ) -> Result<(), RepositoryError> {
        let mut problem = None;
        for artifact in &record.artifacts {
            let fault = judge_length(&mut self.lengths, repository, artifact).await?;
            problem = fault.map(|fault| Problem {
                target: Some(record.target.clone()),
                object: Some(artifact.object.clone()),
                fault,
            });
            if problem.is_some() {
                break;
            }
        }
        let (newer, now) = (self.newer(manifest), self.question.now);
        let Some(history) = self.history(manifest, &record.target) else {
            return Ok(());
        };
        if let Some(problem) = problem {
            let why = Why::Damaged { problem };
            history.damaged.get_or_insert_with(|| PassedOver {
                snapshot: manifest.snapshot.clone(),
                time: manifest.started,
                why: why.clone(),
            });
            history.passed.push(manifest, newer, why);
            return Ok(());
        }
        let age = now.duration_since(manifest.started);
        let artifacts = record.artifacts.iter();
        history.is_newest = newer == 0;
        history.last_good = Some(GoodCopy {
            snapshot: manifest.snapshot.clone(),
            time: manifest.started,
            age_seconds: u64::try_from(age.as_secs()).unwrap_or(0),
            stored_bytes: artifacts.map(|artifact| artifact.stored.bytes).sum(),
        });
        Ok(())
    }

    /// Whether snapshots from before `time` would add nothing.
    pub fn are_told(&self, time: Timestamp) -> bool {
        let has_good = |history: &History| history.last_good.is_some();
        self.remembers
            && self.question.horizon.is_some_and(|horizon| time < horizon)
            && self.targets.values().all(has_good)
    }

    pub fn judge(mut self) -> Vec<TargetReport> {
        self.settle_failures_of_services();
        let targets = std::mem::take(&mut self.targets);
        targets
            .into_iter()
            .map(|(target, history)| self.report(target, history))
            .collect()
    }

    /// A failure of a whole service is one of each of its targets; when none is known, the service stands for them.
    fn settle_failures_of_services(&mut self) {
        for ((service, driver), failures) in std::mem::take(&mut self.services) {
            let everything = TargetId::new(&service, driver, EVERYTHING);
            let same = |target: &TargetId| target.service == service && target.driver == driver;
            let mut own = self
                .targets
                .iter_mut()
                .filter(|(target, _)| same(target) && **target != everything)
                .peekable();
            if own.peek().is_some() {
                own.for_each(|(_, history)| history.add_failures(&failures));
                self.targets.remove(&everything);
            } else if self.question.asks_for(&everything) {
                let history = self.targets.entry(everything).or_default();
                history.add_failures(&failures);
            }
        }
    }

    fn report(&self, target: TargetId, mut history: History) -> TargetReport {
        history.tell_damage();
        TargetReport {
            state: self.state(&target, &history),
            max_age_seconds: self.question.goals.of(&target).map(|goal| goal.as_secs()),
            target,
            passed_over_more: history.passed.number - history.passed.told.len(),
            absent_from: history.unnamed.unwrap_or(self.taken.values().sum()),
            passed_over: history.passed.told,
            last_good: history.last_good,
        }
    }

    fn state(&self, target: &TargetId, history: &History) -> State {
        let mut skipped = self.skipped.values().flatten();
        if let Some(skip) = skipped.find(|skip| skip.service == target.service)
            && !history.is_newest
            && !self.question.expected.contains(target)
        {
            return State::Skipped {
                reason: skip.reason.clone(),
            };
        }
        match &history.last_good {
            _ if history.damaged.is_some() => State::Damaged,
            None => State::Missing,
            Some(copy) => match self.question.goals.of(target) {
                Some(goal) if copy.age_seconds > goal.as_secs() => State::Stale,
                _ => State::Ok,
            },
        }
    }
}

impl History {
    /// The newest damaged copy is told behind any number of newer failures: it looks like the last good one to whoever reads
    /// manifests alone.
    fn tell_damage(&mut self) {
        let told = &mut self.passed.told;
        if let Some(damaged) = &self.damaged
            && !told.contains(damaged)
        {
            told.truncate(MOST_TOLD - 1);
            told.push(damaged.clone());
        }
    }

    fn add_failures(&mut self, failures: &Passed) {
        let good = self.last_good.as_ref().map(|copy| &copy.snapshot);
        let newer = |passed: &&PassedOver| good.is_none_or(|good| passed.snapshot > *good);
        let known = self.passed.told.len();
        self.passed
            .told
            .extend(failures.told.iter().filter(newer).cloned());
        let added = self.passed.told.len() - known;
        if added > 0 {
            let newer = self.unnamed.unwrap_or(failures.newer);
            self.unnamed = Some(newer.min(failures.newer));
        }
        self.passed.number += added;
        let told = &mut self.passed.told;
        told.sort_by(|a, b| b.snapshot.cmp(&a.snapshot));
        told.truncate(MOST_TOLD);
    }
}
