//! A restore of one project: all or nothing across its targets.
//!
//! hold → safety snapshot, where a load writes over the old data → load and check every target → **decide** → give up the
//! old → release. Until the decision is written down, a failure, a signal or a crash rolls every target back; from then on
//! the restore is finished, by this process or by the one that recovers it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use crate::driver::{DriverError, WayBack};
use crate::engine::EngineError;
use crate::hold::hooks::{HookError, HookOutcome, Hooks};
use crate::hold::journal::{RestoreChoices, RestoreStep, ServiceThen};
use crate::hold::{
    Ending, Journal, Lock, Mark, Operation, Owner, RestoreJournal, Seals, disturbance,
};
use crate::manifest::{Encryption, Failure, Manifest, Purpose, TargetRecord};
use crate::pipe;
use crate::pipe::keys::{NoWayBack, Protection, Recipients};
use crate::plan::restore::{PlannedRestore, RestorePlan};
use crate::repository::{RepositoryError, SnapshotRef};
use crate::run::capture::{Asked, BackupError, Capture};
use crate::run::drivers::Drivers;
use crate::run::lock::{LockError, lock};
use crate::run::progress::Activity;
use crate::run::session::{Interrupted, Session};
use crate::run::undo::{commit, reader, roll_back, undo_in_place};
use crate::snapshot::verify::{Depth, Verifier, VerifyError};
use crate::snapshot::{ArtifactSource, IndexesError, ensure_opens, read_indexes};
use crate::stack::survey::Survey;
use crate::target::{RunId, TargetId};
use crate::tree::{IndexKind, TreePath};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("the snapshot is not complete, and nothing was changed: {0}")]
    Verify(#[from] VerifyError),
    #[error("the safety snapshot failed, and nothing was changed: {0}")]
    Safety(#[source] BackupError),
    #[error(transparent)]
    NoWayBack(#[from] NoWayBack),
    #[error(transparent)]
    Indexes(#[from] IndexesError),
    #[error(
        "{target} of snapshot {snapshot} does not contain `{path}`; to see what it contains, run: cofferdam ls {snapshot} {target}"
    )]
    NoSuchPath {
        path: TreePath,
        target: TargetId,
        snapshot: RunId,
    },
    #[error("{target}: {source}")]
    Target {
        target: TargetId,
        source: Box<DriverError>,
    },
    #[error(
        "{}, and anything written since would be lost: find out what starts it, then restore again", disturbance(.0)
    )]
    Disturbed(Vec<String>),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What state things are in at the end.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    pub state: FinalState,
    /// Why the restore did not come to its end.
    pub cause: Option<String>,
    pub interrupted: bool,
    /// What was not restored because there is no good copy of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Failure>,
    /// Of the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Hooks that failed, containers that did not come back as they were.
    pub problems: Vec<String>,
    /// What came up, and somebody ought to read ([`crate::driver::Driver::take_notices`]).
    pub notices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalState {
    /// The new data is in place.
    Restored,
    /// The old data is in place, as it was.
    RolledBack,
    /// Neither all old nor all new: the journal stays, and `cofferdam recover` goes on from here.
    Unfinished,
}

/// Whether a safety snapshot is taken also where a load keeps the old data beside the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    WhereNeeded,
    Always,
}

/// One restore, ready to run.
pub struct Restore<'a> {
    pub session: &'a Session,
    pub survey: &'a Survey,
    pub plan: &'a RestorePlan,
    pub manifest: &'a Manifest,
    pub drivers: &'a Drivers,
    pub run: RunId,
    pub safety: Safety,
    pub choices: RestoreChoices,
}

/// Which way a restore ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The new data stays.
    Forward,
    /// The old data comes back.
    Back,
    /// The engine does not tell whether the decision has reached it.
    Unknown,
}

impl Restore<'_> {
    /// Executes the plan. An error means that nothing was touched.
    pub async fn execute(&self) -> Result<RestoreReport, RestoreError> {
        let safety = self.safety_targets().await?;
        let recipients = if safety.is_empty() {
            None
        } else {
            self.session.keys.for_way_back(self.protection())?
        };
        self.verify_beforehand(&safety).await?;
        let safety_run = (!safety.is_empty()).then(|| RunId::generate(Timestamp::now()));
        let journal = self.journal(safety_run.clone()).await?;
        let lock = lock(self.session, journal, self.survey).await?;
        let mut hooks = Hooks::new(
            self.session.helpers(&self.run, &self.plan.project),
            Operation::Restore,
            &self.survey.stack.services,
        );
        let mut begun: Vec<&PlannedRestore> = Vec::new();
        let loaded = self
            .session
            .unless_interrupted(async {
                self.ensure_not_pruned().await?;
                hooks.before().await?;
                let seals = lock.hold().await?;
                if let Some(run) = &safety_run {
                    self.take_safety_snapshot(run, &safety, recipients).await?;
                }
                self.load_all(&lock, &mut begun).await?;
                ensure_undisturbed(&lock, &seals).await?;
                Ok(seals)
            })
            .await
            .unwrap_or_else(|interrupted| Err(RestoreError::from(interrupted)));
        let (way, loaded) = decide(&lock, loaded).await;

        let mut ending = Ending::default();
        match way {
            Way::Forward => self.commit_all(&mut ending).await,
            Way::Back => {
                let safety = safety_run.as_ref();
                self.roll_back(&begun, safety, &mut ending).await;
            }
            Way::Unknown => ending.leave_unfinished(
                "could not ask the engine whether the new data was accepted".to_owned(),
            ),
        }
        if let Ok(seals) = &loaded {
            for service in ending.disturbed(&lock, seals).await {
                ending.problem(format!(
                    "{service} was started from outside while its data was restored: restart it"
                ));
            }
        }
        let state = match way {
            _ if ending.is_unfinished() => FinalState::Unfinished,
            Way::Forward => FinalState::Restored,
            Way::Back | Way::Unknown => FinalState::RolledBack,
        };
        self.release(&lock, state, &hooks, &mut ending).await;
        ending.close(lock).await;

        let killed = loaded.iter().flat_map(Seals::warnings);
        let notices = killed.chain(self.drivers.take_notices()).collect();
        let cause = loaded.err().filter(|_| state != FinalState::Restored);
        Ok(RestoreReport {
            state,
            interrupted: matches!(cause, Some(RestoreError::Interrupted(_))),
            cause: cause.map(|error| error.to_string()),
            missing: self.plan.missing.clone(),
            warnings: self.plan.warnings.clone(),
            problems: ending.problems,
            notices,
        })
    }

    async fn release(
        &self,
        lock: &Lock,
        state: FinalState,
        hooks: &Hooks<'_>,
        ending: &mut Ending,
    ) {
        let outcome = match state {
            FinalState::Unfinished => return ending.keep_held(lock),
            FinalState::Restored => HookOutcome::Done,
            FinalState::RolledBack => HookOutcome::Failed,
        };
        ending
            .release_with_hooks(lock, self.session.patience(), hooks, outcome)
            .await;
    }

    /// Whether the keys that are given open everything that the restore is going to read. Only headers are read.
    pub async fn ensure_opens(&self) -> Result<(), RestoreError> {
        let source = reader(self.session, pipe::Progress::silent());
        Ok(ensure_opens(&source, self.records()).await?)
    }

    /// Whether the snapshot holds each path that is asked for. To find that out while it is unpacked would be after the stop.
    pub async fn ensure_paths_are_there(&self) -> Result<(), RestoreError> {
        let source = reader(self.session, pipe::Progress::silent());
        for (record, target) in self.records().zip(&self.plan.targets) {
            let mut missing: BTreeSet<&TreePath> = self.choices.paths.iter().collect();
            if missing.is_empty() {
                return Ok(());
            }
            read_indexes(&source, record, |entry| match entry.kind {
                IndexKind::Deleted => {
                    let paths = self.choices.paths.iter();
                    missing.extend(paths.filter(|path| path.is_within(&entry.path)));
                }
                _ => drop(missing.remove(&entry.path)),
            })
            .await?;
            if let Some(path) = missing.first() {
                return Err(RestoreError::NoSuchPath {
                    path: (*path).clone(),
                    target: target.saved_as.clone(),
                    snapshot: self.plan.snapshot.clone(),
                });
            }
        }
        Ok(())
    }

    /// What is restored, as it was saved.
    fn records(&self) -> impl Iterator<Item = &TargetRecord> {
        let targets = self.plan.targets.iter();
        targets.filter_map(|target| self.manifest.target(&target.id))
    }

    fn protection(&self) -> Protection {
        let mut artifacts = self.records().flat_map(|record| &record.artifacts);
        if artifacts.any(|artifact| artifact.encryption != Encryption::None) {
            Protection::Encrypted
        } else {
            Protection::Clear
        }
    }

    /// Loads that write over old data have no second chance: every byte they need is read first. Others are verified while
    /// they load.
    async fn verify_beforehand(&self, saved: &[&TargetId]) -> Result<(), RestoreError> {
        let Session {
            repository, keys, ..
        } = self.session;
        let verifier = |depth| Verifier::new(&**repository, &keys.identities, depth);
        let all = self.plan.targets.iter().map(|target| &target.id);
        verifier(Depth::Sizes).targets(self.manifest, all).await?;
        let in_place = self.plan.in_place().map(|target| &target.id);
        let in_place = in_place.filter(|target| saved.contains(target));
        verifier(Depth::Read)
            .targets(self.manifest, in_place)
            .await?;
        Ok(())
    }

    /// From the journal on, nobody prunes the snapshot; it may have gone before.
    async fn ensure_not_pruned(&self) -> Result<(), RestoreError> {
        for run in self.plan.snapshots() {
            let snapshot = SnapshotRef::new(&self.manifest.project, run.clone());
            self.session.repository.manifest(&snapshot).await?;
        }
        Ok(())
    }

    /// What a safety snapshot saves. What is not there now has nothing to be saved: going back removes it again.
    ///
    /// All targets are asked for, so that one that cannot be reached ends the restore while nothing is held: to undo what was
    /// never done, its server would be needed again.
    async fn safety_targets(&self) -> Result<Vec<&TargetId>, RestoreError> {
        let mut targets = Vec::new();
        for target in &self.plan.targets {
            let wanted =
                self.safety == Safety::Always || target.way_back == WayBack::SafetySnapshot;
            if self.exists(&target.id).await? && wanted {
                targets.push(&target.id);
            }
        }
        // As a backup captures them.
        targets.sort_by_key(|target| (target.driver.is_tree(), *target));
        Ok(targets)
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, RestoreError> {
        let asked = async { self.drivers.of(target)?.exists(target).await };
        asked.await.map_err(|source| RestoreError::Target {
            target: target.clone(),
            source: Box::new(source),
        })
    }

    async fn journal(&self, safety: Option<RunId>) -> Result<Journal, EngineError> {
        let mut journal = Journal::new(
            self.run.clone(),
            self.plan.project.clone(),
            Operation::Restore,
            Owner::current(&self.session.engine).await?,
            self.plan.holds.iter().map(|hold| hold.to_held()).collect(),
        );
        let services = self.survey.stack.services.iter();
        journal.services = services
            .map(|service| ServiceThen::of(&service.container))
            .collect();
        journal.restore = Some(RestoreJournal {
            project: self.manifest.project.clone(),
            snapshot: self.plan.snapshot.clone(),
            repository: self.session.repository.location(),
            targets: self.plan.targets.iter().map(|it| self.step(it)).collect(),
            safety,
            choices: self.choices.clone(),
        });
        Ok(journal)
    }

    fn step(&self, target: &PlannedRestore) -> RestoreStep {
        let record = self.manifest.target(&target.id);
        let path = record.and_then(|record| record.facts.path());
        RestoreStep {
            target: target.id.clone(),
            saved_as: target.saved_as.clone(),
            snapshot: target.older.as_ref().map(|it| it.snapshot.clone()),
            way_back: target.way_back,
            path: path.map(str::to_owned),
        }
    }

    /// Taken while the dependents are held, so that going back loses nothing of what they wrote.
    async fn take_safety_snapshot(
        &self,
        run: &RunId,
        targets: &[&TargetId],
        recipients: Option<Recipients>,
    ) -> Result<(), RestoreError> {
        info!(snapshot = %run, "taking a safety snapshot");
        // The snapshot that is restored was read there.
        self.session.repository.prepare_existing().await?;
        let started = Timestamp::now();
        let mut capture = Capture::new(self.session, self.survey, self.drivers, run, recipients);
        capture.all(targets.iter().copied()).await;
        if !capture.failed.is_empty() {
            let failed = std::mem::take(&mut capture.failed);
            capture.discard().await;
            return Err(RestoreError::Safety(BackupError::NothingSaved(failed)));
        }
        let asked = Asked {
            purpose: Purpose::Safety {
                restore: self.run.clone(),
            },
            by_hand: false,
            selection: Vec::new(),
            skipped: Vec::new(),
            shrunken: Vec::new(),
            disturbed: Vec::new(),
            warnings: Vec::new(),
        };
        capture
            .finish(self.session, asked, started)
            .await
            .map_err(RestoreError::Safety)?;
        Ok(())
    }

    async fn load_all<'p>(
        &'p self,
        lock: &Lock,
        begun: &mut Vec<&'p PlannedRestore>,
    ) -> Result<(), RestoreError> {
        for target in &self.plan.targets {
            let Some(record) = self.manifest.target(&target.id) else {
                continue;
            };
            if target.way_back == WayBack::SafetySnapshot {
                lock.mark(Mark::Overwriting).await?;
            }
            begun.push(target);
            self.load(record)
                .await
                .map_err(|source| RestoreError::Target {
                    target: target.id.clone(),
                    source: Box::new(source),
                })?;
        }
        Ok(())
    }

    async fn load(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let bytes = record
            .artifacts
            .iter()
            .map(|artifact| artifact.stored.bytes)
            .sum();
        let track = self
            .session
            .board
            .begin(Activity::Loading, &record.target, Some(bytes));
        let source = reader(self.session, track.counter());
        let loaded = load_and_check(self.drivers, record, &source).await;
        match &loaded {
            Ok(()) => track.done(),
            Err(error) => track.failed(&error.to_string()),
        }
        loaded
    }

    async fn commit_all(&self, ending: &mut Ending) {
        for target in &self.plan.targets {
            let board = &self.session.board;
            let track = board.begin(Activity::Replacing, &target.id, None);
            match commit(self.drivers, &target.id).await {
                Ok(()) => track.done(),
                Err(error) => {
                    track.failed(&error.to_string());
                    ending.not_committed(&target.id, &error);
                }
            }
        }
    }

    async fn roll_back(
        &self,
        begun: &[&PlannedRestore],
        safety: Option<&RunId>,
        ending: &mut Ending,
    ) {
        for target in begun.iter().rev() {
            let undone = match target.way_back {
                WayBack::Staged => roll_back(self.drivers, &target.id).await,
                WayBack::SafetySnapshot => {
                    let project = &self.plan.project;
                    undo_in_place(self.session, self.drivers, project, safety, &target.id).await
                }
            };
            if let Err(error) = undone {
                ending.leave_unfinished(format!(
                    "{}: the old data could not be restored: {error}",
                    target.id
                ));
            }
        }
    }
}

/// The decision is not interrupted: the engine may carry out a request that was given up.
async fn decide(
    lock: &Lock,
    loaded: Result<Seals, RestoreError>,
) -> (Way, Result<Seals, RestoreError>) {
    let Ok(seals) = loaded else {
        return (Way::Back, loaded);
    };
    let Err(error) = lock.mark(Mark::Decided).await else {
        return (Way::Forward, Ok(seals));
    };
    match lock.is_marked(Mark::Decided).await {
        Ok(true) => (Way::Forward, Ok(seals)),
        Ok(false) => (Way::Back, Err(error.into())),
        Err(_) => (Way::Unknown, Err(error.into())),
    }
}

/// What somebody has started has perhaps written into the data that is about to go.
async fn ensure_undisturbed(lock: &Lock, seals: &Seals) -> Result<(), RestoreError> {
    let broken = lock.broken(seals).await?;
    if broken.is_empty() {
        Ok(())
    } else {
        Err(RestoreError::Disturbed(broken))
    }
}

async fn load_and_check(
    drivers: &Drivers,
    record: &TargetRecord,
    source: &dyn ArtifactSource,
) -> Result<(), DriverError> {
    let driver = drivers.of(&record.target)?;
    driver.load(record, source).await?;
    driver.check(record).await
}
