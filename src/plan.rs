//! What a run is going to do, as values: computed first, shown by `--dry-run`, then executed as they are.

pub(crate) mod apart;
pub(crate) mod audit;
pub(crate) mod backup;
mod caches;
pub(crate) mod enabled;
pub(crate) mod hold;
mod memory;
pub(crate) mod restore;
#[cfg(test)]
pub(crate) mod tests_support;

use crate::hold::Action;
use crate::stack::servers::Store;
use crate::target::TargetId;

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(
        "service {service} would be {} while {target} needs it running; put the label cofferdam.{} on what uses the \
         database, not on the database",
        match action { Action::Stop => "stopped", Action::Pause => "paused" },
        match action { Action::Stop => "stop", Action::Pause => "pause" }
    )]
    DatabaseHeld {
        service: String,
        action: Action,
        target: TargetId,
    },
    #[error(
        "service {service} shares a namespace with {host}, which would be stopped, cutting it off while {target} needs it; give it its own network, or remove the label `cofferdam.stop` from {host}"
    )]
    DatabaseCutOff {
        service: String,
        host: String,
        target: TargetId,
    },
    #[error(
        "{service} is paused and shares a namespace with {host}, which would be stopped: once unpaused, it would be cut off \
         for good; unpause it first (docker unpause {container}), so that it is stopped with {host} and started after it"
    )]
    PausedCutOff {
        service: String,
        host: String,
        container: String,
    },
    #[error(
        "service {service} would be stopped, but {cofferdam}, in which Cofferdam runs, shares a namespace with it: Cofferdam would cut itself off; give it its own network"
    )]
    CofferdamCutOff { service: String, cofferdam: String },
    #[error(
        "service {service} would be {}, but Cofferdam reaches the Docker Engine through its container {container} and could \
         not start anything again; {}",
        match action { Action::Stop => "stopped", Action::Pause => "paused" },
        match host {
            Some(host) => format!(
                "it shares a namespace with {host}: give it its own network, or remove the label from {host}"
            ),
            None => "remove the label, or give Cofferdam its own proxy".to_owned(),
        }
    )]
    SpokenThrough {
        service: String,
        container: String,
        action: Action,
        /// What is to be stopped besides, and takes it along.
        host: Option<String>,
    },
    #[error(
        "service {service} would be stopped, but was started with --rm: the engine would remove its container, with its anonymous volumes, and it could not be started again; start it without --rm"
    )]
    RemovedWhenStopped { service: String },
    #[error(
        "service {service} would be stopped, but no other running container uses volume {volume}, which is in memory and \
         holds {target}: the volume would be empty afterwards; use `cofferdam.pause: backup` instead of `cofferdam.stop`, or \
         keep another container that mounts it running"
    )]
    VolumeInMemory {
        service: String,
        volume: String,
        target: TargetId,
    },
    #[error(
        "service {service} would be stopped, but {target} is not in a named volume: a swarm removes the containers that it \
         stops, with their anonymous volumes; mount a named volume there, or remove `cofferdam.stop` from the service"
    )]
    GoesWithTask { service: String, target: TargetId },
    #[error(
        "the snapshot holds targets of service {service}, but project {project} has no such container; {hint}"
    )]
    NoSuchService {
        service: String,
        project: String,
        hint: String,
    },
    #[error("{target} is restored through its container {container}, which {state}; {mend}")]
    NotRunning {
        target: TargetId,
        container: String,
        state: &'static str,
        mend: String,
    },
    #[error(
        "container {container} {state} while {target} is restored, and would keep writing to the old file; {mend}"
    )]
    InUse {
        target: TargetId,
        container: String,
        state: &'static str,
        mend: String,
    },
    #[error("{who} uses {target} and would keep writing to the old file; {mend}")]
    WrittenTo {
        target: TargetId,
        who: String,
        mend: String,
    },
    #[error(
        "{target} holds data of the {store} server in container {container}, which is running: its files must not be \
         replaced while it runs; {mend}"
    )]
    StoreRuns {
        target: TargetId,
        store: Store,
        container: String,
        mend: String,
    },
    #[error(
        "service {service} has to be held, which only a swarm manager can do, and no manager can be reached: {why}"
    )]
    NoManager { service: String, why: String },
    #[error(
        "only a swarm manager knows which services to stop during a restore, and no manager can be reached: {why}"
    )]
    DependentsUnknown { why: String },
    #[error(
        "service {service} cannot be paused: a swarm replaces tasks that do not answer, and the service may have tasks on \
         other nodes; label it `cofferdam.stop: backup` instead of `cofferdam.pause`"
    )]
    PausedInSwarm { service: String },
    #[error(
        "{target} is restored while its container is stopped, and a swarm removes the containers that it stops; use \
         --to-project to restore it into a container made by compose or `docker run`"
    )]
    StoppedInSwarm { target: TargetId },
    #[error(
        "{target} can only be restored on a node where its service has a task, and it has none on {node}; {hint}"
    )]
    OtherNode {
        target: TargetId,
        node: String,
        hint: String,
    },
    #[error(
        "{target} contains Cofferdam's own repository or is inside it, and Cofferdam neither saves nor replaces its own \
         repository; {mend}; to restore the rest, name the other targets"
    )]
    HoldsRepository { target: TargetId, mend: String },
    #[error(
        "{inner} is inside {outer}, and one restore cannot do both; restore {outer} first, then {inner}"
    )]
    Nested { inner: TargetId, outer: TargetId },
    #[error(
        "{target} cannot be restored: {reason}; to restore other targets without it, name them"
    )]
    Refused { target: TargetId, reason: String },
}
