//! What a restore of one project is going to do.
//!
//! - `writers`: who goes on writing to what is replaced

mod writers;

use std::collections::BTreeSet;

use serde::Serialize;

use self::writers::writers_that_run_on;
use super::apart::Placed;
use super::backup::{PlannedHook, planned_hooks};
use super::caches;
use super::hold::{PlannedHold, plan_holds};
use super::memory;
use super::{PlanError, apart};
use crate::driver::WayBack;
use crate::engine::container::{SWARM_SERVICE_NAME, is_within, overlap};
use crate::engine::swarm::Mode;
use crate::engine::{Container, Mount, State};
use crate::history::select::Older;
use crate::hold::Operation;
use crate::manifest::{Facts, Failure, Manifest, TargetRecord};
use crate::stack::survey::{StoreAtWork, Survey};
use crate::stack::{Service, Stack, is_left_out};
use crate::target::{Moment, RunId, StateNeeded, TargetId};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestorePlan {
    pub project: String,
    pub snapshot: RunId,
    /// In the order in which they load: what stays beside the old data first, what writes over it last.
    pub targets: Vec<PlannedRestore>,
    pub holds: Vec<PlannedHold>,
    pub hooks: Vec<PlannedHook>,
    /// What is not restored because no snapshot that may be read for it has a good copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Failure>,
    /// What an administrator ought to know before saying yes.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedRestore {
    pub id: TargetId,
    /// Its id in the snapshot.
    pub saved_as: TargetId,
    /// The snapshot that it comes from, where it is another one than the plan's.
    #[serde(flatten)]
    pub older: Option<Older>,
    pub container: String,
    /// [`crate::driver::Driver::describe_restore`]
    pub what: String,
    pub way_back: WayBack,
    /// Of the plain data, in bytes.
    pub bytes: u64,
    /// [`crate::driver::Driver::closed_path`]
    #[serde(skip)]
    pub closed_path: Option<String>,
    /// [`crate::driver::Driver::changed_path`]
    #[serde(skip)]
    pub changed_path: Option<String>,
}

impl PlannedRestore {
    fn placed(&self) -> Option<Placed<'_>> {
        let path = self.changed_path.as_deref();
        Some((&self.id, path.or(self.closed_path.as_deref())?))
    }
}

/// The service in the stack that a record's target belongs to, in a state in which it can be restored.
pub fn service_of<'a>(stack: &'a Stack, record: &TargetRecord) -> Result<&'a Service, PlanError> {
    let name = &record.target.service;
    let mut services = stack.services.iter();
    let service = services
        .find(|service| service.name == *name)
        .ok_or_else(|| {
            on_another_node(stack, &record.target).unwrap_or_else(|| PlanError::NoSuchService {
                service: name.clone(),
                project: stack.project.clone(),
                hint: format!(
                    "bring the stack up first, or restore only other targets (this one is {})",
                    record.target
                ),
            })
        })?;
    let needed = record.target.driver.state_needed(Moment::Restore);
    if needed == StateNeeded::Running && !service.container.is_running() {
        return Err(PlanError::NotRunning {
            target: record.target.clone(),
            container: service.container.name.clone(),
            state: service.container.state.told(),
            mend: service.container.how_to_start(),
        });
    }
    Ok(service)
}

/// Where a target of a swarm can be put back, when that is not here.
fn on_another_node(stack: &Stack, target: &TargetId) -> Option<PlanError> {
    let swarm = stack.swarm.as_ref()?;
    // A task is called after its slot or its node.
    let (name, node) = match target.service.split_once('@') {
        Some((name, node)) => (name, Some(node)),
        None => (target.service.as_str(), None),
    };
    let full_name = format!("{}_{name}", stack.project);
    let hint = match &swarm.services {
        Ok(services) => {
            let service = services.iter().find(|service| service.name == name)?;
            let mut nodes: Vec<&str> = service.nodes.iter().map(String::as_str).collect();
            // That of a global service belongs to its node.
            nodes.retain(|known| service.mode != Mode::Global || Some(*known) == node);
            match nodes.as_slice() {
                [] => format!(
                    "it has none on any node; start one first: docker service scale {full_name}=1"
                ),
                nodes => format!(
                    "run the same command in Cofferdam on node {}",
                    nodes.join(" or on node ")
                ),
            }
        }
        Err(_) => format!(
            "run the same command in Cofferdam on a node that has one: docker service ps {full_name}"
        ),
    };
    Some(PlanError::OtherNode {
        target: target.clone(),
        node: swarm.node.clone(),
        hint,
    })
}

impl RestorePlan {
    /// `missing`: what was asked for, and failed when it was saved.
    pub fn new(
        survey: &Survey,
        manifest: &Manifest,
        mut targets: Vec<PlannedRestore>,
        missing: Vec<Failure>,
    ) -> Result<Self, PlanError> {
        let stack = &survey.stack;
        // Roles come before the databases that they own, and volumes before the databases that lie on them: the exchange of
        // a whole volume would take one away again.
        targets.sort_by_key(|target| {
            let database = manifest.target(&target.id).is_some_and(is_database);
            (
                target.way_back == WayBack::SafetySnapshot,
                database,
                target.id.clone(),
            )
        });
        let placed = targets.iter().filter_map(PlannedRestore::placed);
        let placed: Vec<Placed<'_>> = placed.collect();
        for target in &targets {
            if let Some(reason) = memory::obstacle(survey, &target.id, &placed) {
                let target = target.id.clone();
                return Err(PlanError::Refused { target, reason });
            }
        }
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
        let holds = plan_holds(survey, Operation::Restore, &ids)?;
        memory::ensure_kept(survey, &placed, &holds)?;
        for target in &targets {
            ensure_closed(survey, target, &holds, Reach::Near)?;
        }
        let mut warnings = warnings_of_snapshot(manifest, &targets, &missing);
        warnings.extend(left_out_on_purpose(manifest, &targets));
        warnings.extend(databases_that_go_with_a_tree(manifest, &targets));
        warnings.extend(writers_that_run_on(survey, manifest, &targets, &holds));
        warnings.extend(caches_that_run_on(survey, manifest, &targets, &holds));
        Ok(Self {
            project: stack.project.clone(),
            snapshot: manifest.snapshot.clone(),
            targets,
            holds,
            hooks: planned_hooks(stack, Operation::Restore),
            missing,
            warnings,
        })
    }

    /// `places`: where the targets lie whose files are replaced ([`Container::place_of`]). No server may run on them meanwhile
    /// that a restore knows: it would go on with what it has in memory and in open files, or write it over the new data. What
    /// labels leave out of a target stays as it is.
    pub fn ensure_stores_rest(
        &self,
        survey: &Survey,
        places: &[(TargetId, String)],
        at_work: &[StoreAtWork],
    ) -> Result<(), PlanError> {
        let mut running = at_work
            .iter()
            .filter(|found| !is_held(&found.container, &self.holds));
        let in_the_way = running.find_map(|found| {
            let own = found.directories.iter();
            let own: Vec<String> = own.map(|path| found.container.place_of(path)).collect();
            let is_replaced = |(target, place): &&(TargetId, String)| {
                let patterns = apart::left_out_of(survey, target);
                own.iter()
                    .any(|own| overlap(own, place) && !is_left_out(patterns, place, own))
            };
            let target = places.iter().find(is_replaced);
            target.map(|(target, _)| (target, found))
        });
        let Some((
            target,
            StoreAtWork {
                container, store, ..
            },
        )) = in_the_way
        else {
            return Ok(());
        };
        let stop = how_to_stop(container);
        let mut services = survey.stack.services.iter();
        let is_of_stack = services.any(|service| service.container.id == container.id);
        Err(PlanError::StoreRuns {
            target: target.clone(),
            store: *store,
            container: container.name.clone(),
            mend: if is_of_stack {
                format!(
                    "give it the label cofferdam.stop: restore, or stop it first: {stop}; to save the server itself, `{}`",
                    store.label()
                )
            } else {
                format!("stop it first: {stop}")
            },
        })
    }

    /// Those that the restore reads.
    pub fn snapshots(&self) -> BTreeSet<&RunId> {
        self.targets
            .iter()
            .map(|target| match &target.older {
                Some(older) => &older.snapshot,
                None => &self.snapshot,
            })
            .collect()
    }

    pub fn in_place(&self) -> impl Iterator<Item = &PlannedRestore> {
        self.targets
            .iter()
            .filter(|target| target.way_back == WayBack::SafetySnapshot)
    }
}

pub fn is_database(record: &TargetRecord) -> bool {
    match &record.facts {
        Facts::Postgres(facts) => !facts.database.is_empty(),
        Facts::Mysql(facts) => !facts.database.is_empty(),
        Facts::Basebackup(_)
        | Facts::Command(_)
        | Facts::Sqlite(_)
        | Facts::Couchdb(_)
        | Facts::Elasticsearch(_) => true,
        Facts::Volume(_) | Facts::Files(_) => false,
    }
}

/// How a container that can write to a file comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It has the file itself, or mounts what its own container mounts, or a part of that: it is there for what lies in it.
    Near,
    /// It mounts a tree around that, as what manages an engine or its stacks does. Whether it has the file open is for the file
    /// to say ([`crate::driver::Driver::writers`]).
    Around,
}

impl Reach {
    /// `path`: of the file, in its own container.
    fn of(container: &Container, own: &Container, path: &str) -> Option<Self> {
        let place = own.place_of(path);
        if container.id == own.id {
            return Some(Self::Near);
        }
        if !container.can_write_to(&place) {
            return None;
        }
        let base = own.mount_of(path)?;
        let is_near = |mount: &Mount| {
            let root = mount.root();
            let is_same = mount.volume.is_some() && mount.volume == base.volume;
            mount.writable
                && is_within(&place, &root)
                && (is_same || is_within(&root, &base.root()))
        };
        Some(match container.mounts.iter().any(is_near) {
            true => Self::Near,
            false => Self::Around,
        })
    }
}

/// A file that changes its place must not be open: by its own service, and by whoever can write where it lies.
fn ensure_closed(
    survey: &Survey,
    target: &PlannedRestore,
    holds: &[PlannedHold],
    reach: Reach,
) -> Result<(), PlanError> {
    let mut services = survey.stack.services.iter();
    let own = services.find(|service| service.name == target.id.service);
    let (Some(path), Some(own)) = (&target.closed_path, own) else {
        return Ok(());
    };
    let uses = |container: &Container| Reach::of(container, &own.container, path) == Some(reach);
    let is_own = |container: &&Container| container.id == own.container.id;
    let (first, others): (Vec<_>, Vec<_>) = survey.containers.iter().partition(is_own);
    let mut alive = first.into_iter().chain(others).filter(|it| it.is_alive());
    match alive.find(|container| uses(container) && !is_held(container, holds)) {
        Some(container) => Err(PlanError::InUse {
            target: target.id.clone(),
            container: container.name.clone(),
            state: container.state.told(),
            mend: how_to_hold(&survey.stack, container),
        }),
        None => Ok(()),
    }
}

fn is_held(container: &Container, holds: &[PlannedHold]) -> bool {
    let mut subjects = holds.iter().map(|hold| &hold.subject);
    subjects.any(|subject| subject.includes(container))
}

/// What is to be done so that a container does not run during a restore.
fn how_to_hold(stack: &Stack, container: &Container) -> String {
    let stop = how_to_stop(container);
    let mut services = stack.services.iter();
    let is_of_stack = services.any(|service| service.container.id == container.id);
    if is_of_stack && container.is_up() {
        format!("give it the label cofferdam.stop: restore, or stop it first: {stop}")
    } else {
        format!("stop it first: {stop}")
    }
}

fn how_to_stop(container: &Container) -> String {
    match container.labels.get(SWARM_SERVICE_NAME) {
        Some(service) => format!("docker service scale {service}=0"),
        None if container.state == State::Paused => {
            format!("docker unpause {0} && docker stop {0}", container.name)
        }
        None => format!("docker stop {}", container.name),
    }
}

/// A tree that is put back takes with it what else lies in it, and a database file is more than a file.
fn databases_that_go_with_a_tree(manifest: &Manifest, targets: &[PlannedRestore]) -> Vec<String> {
    let is_chosen = |record: &TargetRecord| targets.iter().any(|target| target.id == record.target);
    let mut warnings = Vec::new();
    for tree in manifest.targets.iter().filter(|record| is_chosen(record)) {
        let (Facts::Volume(place) | Facts::Files(place)) = &tree.facts else {
            continue;
        };
        for database in manifest.targets.iter().filter(|record| !is_chosen(record)) {
            let Facts::Sqlite(file) = &database.facts else {
                continue;
            };
            let is_same_volume = place.volume.is_some() && place.volume == file.volume;
            let is_below = tree.target.service == database.target.service
                && is_within(&file.path, &place.path);
            if is_same_volume || is_below {
                warnings.push(format!(
                    "{} may be inside {}, and is not restored with it; name it too",
                    database.target, tree.target
                ));
            }
        }
    }
    warnings
}

/// What the snapshot lacks, and what is doubtful of what it holds.
fn warnings_of_snapshot(
    manifest: &Manifest,
    targets: &[PlannedRestore],
    missing: &[Failure],
) -> Vec<String> {
    let newest = &manifest.snapshot;
    let missing = missing.iter().map(|failure| {
        format!(
            "{} is not restored: there is no good copy of it, since its backup failed: {}",
            failure.target, failure.reason
        )
    });
    let older = targets.iter().filter_map(|target| {
        let Older { snapshot, failure } = target.older.as_ref()?;
        let taken = snapshot.time().map(|time| format!(" of {time}"));
        let copy = format!(
            "the copy{} in snapshot {snapshot}",
            taken.unwrap_or_default()
        );
        Some(match failure {
            Some(reason) => format!(
                "{} failed in {newest} ({reason}); restoring {copy}, the newest good one",
                target.saved_as
            ),
            None => format!("{} is not in {newest}; restoring {copy}", target.saved_as),
        })
    });
    let saved_as = |id: &TargetId| targets.iter().any(|target| target.saved_as == *id);
    let shrunken = manifest.shrunken.iter().filter(|one| saved_as(&one.target));
    let shrunken = shrunken.map(|one| {
        format!(
            "the copy of {} is far smaller than the previous one, in snapshot {}: check that nothing is missing",
            one.target, one.before
        )
    });
    let disturbed = (!manifest.disturbed.is_empty()).then(|| {
        format!(
            "{newest} may be inconsistent: {} ran while it was taken, and should have been stopped",
            manifest.disturbed.join(", ")
        )
    });
    let partial = (!manifest.selection.is_empty()).then(|| {
        format!(
            "the snapshot covers only {}: the rest of the project stays as it is",
            manifest.selection.join(", ")
        )
    });
    missing
        .chain(older)
        .chain(shrunken)
        .chain(disturbed)
        .chain(partial)
        .collect()
}

/// Tables and rows that labels kept out of the snapshot.
fn left_out_on_purpose(manifest: &Manifest, targets: &[PlannedRestore]) -> Vec<String> {
    let told = targets.iter().filter_map(|target| {
        let (tables, rows) = match &manifest.target(&target.id)?.facts {
            Facts::Postgres(facts) => (&facts.exclude_tables, &facts.exclude_table_data),
            Facts::Mysql(facts) => (&facts.exclude_tables, &facts.exclude_table_data),
            _ => return None,
        };
        // A load over the old data leaves tables alone that it does not know, and there is no old database to keep.
        let is_over = target.way_back == WayBack::SafetySnapshot;
        let tables = tables.iter().filter(|_| !is_over);
        let patterns: Vec<&str> = tables.chain(rows).map(String::as_str).collect();
        let advice = if is_over {
            ""
        } else {
            "; --keep-old keeps the old database"
        };
        (!patterns.is_empty()).then(|| {
            format!(
                "{}: the snapshot does not hold the data matching {}, and the restore removes it{advice}",
                target.id,
                patterns.join(", ")
            )
        })
    });
    told.collect()
}

/// Caches and search indexes of the project. They matter when a database is another one afterwards.
fn caches_that_run_on(
    survey: &Survey,
    manifest: &Manifest,
    targets: &[PlannedRestore],
    holds: &[PlannedHold],
) -> Vec<String> {
    let mut records = targets.iter().filter_map(|it| manifest.target(&it.id));
    if !records.any(is_database) {
        return Vec::new();
    }
    let is_put_back = |service: &Service| targets.iter().any(|it| it.id.service == service.name);
    let is_stopped = |service: &Service| is_held(&service.container, holds);
    let found = caches::not_told(survey, is_put_back, is_stopped);
    found.iter().map(ToString::to_string).collect()
}
