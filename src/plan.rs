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
        "service {service} is to be {} while {target} needs it running; give the label cofferdam.{} to what uses the \
         database, not to the database",
        match action { Action::Stop => "stopped", Action::Pause => "paused" },
        match action { Action::Stop => "stop", Action::Pause => "pause" }
    )]
    DatabaseHeld {
        service: String,
        action: Action,
        target: TargetId,
    },
    #[error(
        "service {service} shares a namespace of {host}, which is to be stopped, and would be cut off while {target} needs it; give it a network of its own, or take the label `cofferdam.stop` off {host}"
    )]
    DatabaseCutOff {
        service: String,
        host: String,
        target: TargetId,
    },
    #[error(
        "{service} is paused and shares a namespace of {host}, which is to be stopped: once unpaused it would be cut off for good; unpause \
         it first (docker unpause {container}), then it is stopped with {host} and started after it"
    )]
    PausedCutOff {
        service: String,
        host: String,
        container: String,
    },
    #[error(
        "service {service} is to be stopped, and {cofferdam}, in which Cofferdam runs, shares a namespace of it: Cofferdam would cut itself off; give it a network of its own"
    )]
    CofferdamCutOff { service: String, cofferdam: String },
    #[error(
        "service {service} is to be {}, and Cofferdam speaks to the Docker Engine through its container {container}: it could \
         start nothing again; {}",
        match action { Action::Stop => "stopped", Action::Pause => "paused" },
        match host {
            Some(host) => format!(
                "it shares a namespace of {host}: give it a network of its own, or take the label off {host}"
            ),
            None => "take the label off it, or give Cofferdam a proxy of its own".to_owned(),
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
        "service {service} is to be stopped, and was started with --rm: the engine would remove its container, with its anonymous volumes, and nobody could start it again; start it without --rm"
    )]
    RemovedWhenStopped { service: String },
    #[error(
        "service {service} is to be stopped, and no other container that runs uses volume {volume}, which is in memory and holds \
         {target}: it would be empty afterwards; use `cofferdam.pause: backup` instead of `cofferdam.stop`, or keep a container running \
         that mounts it"
    )]
    VolumeInMemory {
        service: String,
        volume: String,
        target: TargetId,
    },
    #[error(
        "service {service} is to be stopped, and {target} lies in no named volume: a swarm removes the containers that it stops, with \
         their anonymous volumes; mount a named volume there, or take the stop off the service"
    )]
    GoesWithTask { service: String, target: TargetId },
    #[error(
        "the snapshot holds targets of service {service}, and project {project} has no such container; {hint}"
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
        "container {container} {state} while {target} is put back, and would go on writing into the old file; {mend}"
    )]
    InUse {
        target: TargetId,
        container: String,
        state: &'static str,
        mend: String,
    },
    #[error("{who} uses {target}, and would go on writing into the old file; {mend}")]
    WrittenTo {
        target: TargetId,
        who: String,
        mend: String,
    },
    #[error(
        "{target} holds data of the {store} server in container {container}, which runs: its files must not be replaced under \
         it; {mend}"
    )]
    StoreRuns {
        target: TargetId,
        store: Store,
        container: String,
        mend: String,
    },
    #[error(
        "service {service} is to be held, which only a manager of the swarm can do, and none can be asked: {why}"
    )]
    NoManager { service: String, why: String },
    #[error(
        "which services are to be stopped while a stack is restored only a manager of the swarm knows, and none can be \
         asked: {why}"
    )]
    DependentsUnknown { why: String },
    #[error(
        "service {service} cannot be paused: a swarm replaces tasks that do not answer, and others of it may run on \
         other nodes; give it the label `cofferdam.stop: backup` instead of `cofferdam.pause`"
    )]
    PausedInSwarm { service: String },
    #[error(
        "{target} is put back while its container is stopped, and a swarm removes a container that it stops; restore it \
         into a container that compose or `docker run` has made, with --to-project"
    )]
    StoppedInSwarm { target: TargetId },
    #[error(
        "{target} is put back on the node where its service has a task, and it has none on {node}; {hint}"
    )]
    OtherNode {
        target: TargetId,
        node: String,
        hint: String,
    },
    #[error(
        "{target} holds Cofferdam's own repository, or lies in it, and Cofferdam neither saves nor replaces that; {mend}; to restore the \
         rest, name the other targets"
    )]
    HoldsRepository { target: TargetId, mend: String },
    #[error(
        "{inner} lies in {outer}, and one restore cannot put back both; restore {outer} first, then {inner}"
    )]
    Nested { inner: TargetId, outer: TargetId },
    #[error("{target} cannot be put back: {reason}; to restore others without it, name them")]
    Refused { target: TargetId, reason: String },
}
