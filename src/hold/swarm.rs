//! The lock that the nodes of a swarm share, and the services that a run holds through a manager.
//!
//! Each node has a journal of its own, and stacks of one name on several nodes are one stack: who holds its services takes
//! a name that is unique in the swarm besides, a *config* that carries the journal in its labels. Whoever finds one whose
//! owner is dead gives the services back that it lists. The data that a dead restore has begun to replace is for cofferdam
//! on its own node to finish or undo, so a claim of one is left to it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::journal::HeldService;
use super::{Held, Journal, Operation, Subject, journal_name};
use super::{HoldError, LABEL_HOLD, LABEL_RUN, Liveness, Lock, ReleaseProblem, Taken, Wait};
use crate::engine::container::STACK_NAMESPACE;
use crate::engine::swarm::{Claim, Manager, Released};
use crate::engine::{Engine, EngineError};
use crate::target::encode_component;

const LABEL_NODE: &str = "cofferdam.hold.node";
/// On claims whose owner is itself a task: the swarm knows what has become of it.
const LABEL_TASK: &str = "cofferdam.hold.task";
const SWARM_TASK_ID: &str = "com.docker.swarm.task.id";

/// Names of configs are no longer.
const LONGEST_NAME: usize = 64;

/// How often a name is asked for that was given up just now.
const ATTEMPTS: u32 = 10;

/// How long a manager may be away before a service that is to be released counts as stuck.
const AWAY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

/// Where a claim was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// The config.
    id: String,
    pub node: String,
    is_here: bool,
    owner_is_task: bool,
}

impl Elsewhere {
    fn of(claim: &Claim, own_node: &str) -> Self {
        let node = claim.labels.get(LABEL_NODE).cloned().unwrap_or_default();
        Self {
            id: claim.id.clone(),
            is_here: node == own_node,
            node,
            owner_is_task: claim.labels.contains_key(LABEL_TASK),
        }
    }
}

impl Lock {
    /// Takes the project's name in the swarm, when the journal lists services. A dead backup of another node is ended, and the
    /// name refused: what it held is not in the journal.
    pub async fn claim(&self) -> Result<(), HoldError> {
        if !self.journal.holds_services() {
            return Ok(());
        }
        let manager = self.engine.manager().await?;
        let node = self.node().await?;
        let mut labels = self.journal.to_labels();
        labels.insert(LABEL_NODE.to_owned(), node.clone());
        let own = self.engine.own_container().await?;
        let task = own.and_then(|own| own.labels.get(SWARM_TASK_ID).cloned());
        labels.extend(task.map(|task| (LABEL_TASK.to_owned(), task)));
        let name = claim_name(&self.journal.project);
        let mut attempts = 0..ATTEMPTS;
        loop {
            match manager.claim(&name, &labels).await {
                Ok(_) => return Ok(()),
                Err(EngineError::NameTaken(_)) if attempts.next().is_some() => {}
                Err(error) => return Err(error.into()),
            }
            let claims = manager.claims(LABEL_HOLD).await?;
            let Some(claim) = claims.into_iter().find(|claim| is_ours(claim, &name)) else {
                // Given up between the two calls.
                continue;
            };
            let other = self.of_claim(&claim, &node)?;
            if other.journal.run == self.journal.run {
                return Ok(());
            }
            match other.liveness().await? {
                Liveness::Dead if other.journal.operation == Operation::Backup => {
                    warn!(
                        run = %other.journal.run,
                        "releasing what a backup on another node left held"
                    );
                    other.give_back(&manager).await?;
                    let Journal { run, project, .. } = other.journal;
                    return Err(HoldError::Recovered { run, project });
                }
                liveness => return Err(other.taken(liveness)),
            }
        }
    }

    /// The claims of runs that have no journal in this engine, each by itself: one that cannot be read hides no other.
    pub(super) async fn claims(
        engine: &Engine,
        image: &str,
        in_scope: impl Fn(&str) -> bool,
        known: &[Self],
    ) -> Result<Vec<Result<Self, HoldError>>, EngineError> {
        let Some(node) = engine.node().await? else {
            return Ok(Vec::new());
        };
        let claims = engine.manager().await?.claims(LABEL_HOLD).await?;
        let found = claims
            .iter()
            .filter(|claim| {
                let project = claim.labels.get(LABEL_HOLD);
                project.is_some_and(|project| {
                    in_scope(project) && is_ours(claim, &claim_name(project))
                })
            })
            .filter(|claim| {
                let run = claim.labels.get(LABEL_RUN);
                !known
                    .iter()
                    .any(|lock| run.is_some_and(|run| *run == lock.journal.run.to_string()))
            })
            .map(|claim| Self::of_parts(engine, image, claim, &node.name));
        Ok(found.collect())
    }

    fn of_claim(&self, claim: &Claim, own_node: &str) -> Result<Self, HoldError> {
        Self::of_parts(&self.engine, &self.image, claim, own_node)
    }

    fn of_parts(
        engine: &Engine,
        image: &str,
        claim: &Claim,
        own_node: &str,
    ) -> Result<Self, HoldError> {
        Ok(Self {
            engine: engine.clone(),
            image: image.to_owned(),
            container: None,
            elsewhere: Some(Elsewhere::of(claim, own_node)),
            in_flight: Mutex::default(),
            journal: Journal::of_object(&claim.name, &claim.labels)?,
        })
    }

    async fn node(&self) -> Result<String, EngineError> {
        let node = self.engine.node().await?;
        Ok(node.map(|node| node.name).unwrap_or_default())
    }

    /// The node whose run this is, when it has no journal in this engine.
    pub fn elsewhere(&self) -> Option<&str> {
        self.elsewhere
            .as_ref()
            .map(|elsewhere| elsewhere.node.as_str())
    }

    pub(super) async fn liveness_elsewhere(
        &self,
        elsewhere: &Elsewhere,
    ) -> Result<Liveness, EngineError> {
        if elsewhere.is_here {
            // Somebody has removed its journal.
            return self.journal.owner.liveness(&self.engine, &self.image).await;
        }
        let Some(container) = self.journal.owner.container_id() else {
            return Ok(Liveness::Unknown);
        };
        if !elsewhere.owner_is_task {
            return Ok(Liveness::Unknown);
        }
        let task = self.engine.manager().await?.task_of(container).await?;
        // The swarm forgets tasks that are long over.
        let is_over = task.is_none_or(|task| task.is_over());
        Ok(if is_over {
            Liveness::Dead
        } else {
            Liveness::Alive
        })
    }

    /// Releases the services, and gives the claim up. Nobody waits for their tasks.
    async fn give_back(&self, manager: &Manager) -> Result<(), EngineError> {
        for held in &self.journal.held {
            if let Subject::SwarmService(service) = &held.subject {
                manager
                    .release(&service.id, self.journal.run.as_str())
                    .await?;
            }
        }
        self.give_up_claim().await
    }

    /// Frees the project for the other nodes.
    pub(super) async fn give_up_claim(&self) -> Result<(), EngineError> {
        if let Some(elsewhere) = &self.elsewhere {
            return self.engine.manager().await?.give_up(&elsewhere.id).await;
        }
        if !self.journal.holds_services() {
            return Ok(());
        }
        let manager = self.engine.manager().await?;
        let of_run = format!("{LABEL_RUN}={}", self.journal.run);
        let name = claim_name(&self.journal.project);
        let mut claims = manager.claims(&of_run).await?;
        claims.retain(|claim| is_ours(claim, &name));
        for claim in claims {
            manager.give_up(&claim.id).await?;
        }
        Ok(())
    }

    pub(super) async fn hold_service(
        &self,
        held: &Held,
        service: &HeldService,
    ) -> Result<(), EngineError> {
        info!(service = held.service, "scaling to zero");
        let manager = self.engine.manager().await?;
        let lost = manager.hold(&service.id, self.journal.run.as_str()).await?;
        let nodes: BTreeSet<&str> = lost.iter().map(|task| task.node.as_str()).collect();
        for node in nodes {
            warn!(
                service = held.service,
                node, "the node is down: its task may still be running"
            );
        }
        Ok(())
    }

    pub(super) async fn release_service(
        &self,
        held: &Held,
        service: &HeldService,
        wait: Wait,
    ) -> Result<(), ReleaseProblem> {
        let problem = |error: EngineError, still_held| ReleaseProblem {
            service: held.service.clone(),
            why: error.to_string(),
            still_held,
        };
        let (manager, released) = self
            .released(service)
            .await
            .map_err(|error| problem(error, true))?;
        match released {
            Released::AsBefore => info!(service = held.service, "scaled back"),
            Released::ChangedMeanwhile => warn!(
                service = held.service,
                "it was scaled from outside while it was held; keeping that scale"
            ),
            Released::NotHeld => return Ok(()),
        }
        match (wait, held.ready_within) {
            (Wait::UntilReady, Some(limit)) => manager
                .wait_until_running(&service.id, service.tasks, limit)
                .await
                .map_err(|error| problem(error, false)),
            (Wait::UntilReady, None) | (Wait::No, _) => Ok(()),
        }
    }

    async fn released(&self, service: &HeldService) -> Result<(Manager, Released), EngineError> {
        patiently(async || {
            let manager = self.engine.manager().await?;
            let run = self.journal.run.as_str();
            let released = manager.release(&service.id, run).await?;
            Ok((manager, released))
        })
        .await
    }

    pub(super) async fn is_at_rest(&self, service: &HeldService) -> Result<bool, EngineError> {
        patiently(async || {
            let manager = self.engine.manager().await?;
            let run = self.journal.run.as_str();
            manager.is_at_rest(&service.id, run).await
        })
        .await
    }

    /// The refusal that another run's lock means to this one.
    pub fn taken(&self, liveness: Liveness) -> HoldError {
        HoldError::Taken(Box::new(Taken {
            project: self.journal.project.clone(),
            run: self.journal.run.clone(),
            operation: self.journal.operation,
            owner: self.journal.owner.clone(),
            node: self.elsewhere().map(str::to_owned),
            liveness,
        }))
    }
}

/// A manager that is away for a moment, as when it restarts, must not leave a service at zero.
async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(_) if begun.elapsed() < AWAY => tokio::time::sleep(AGAIN).await,
            other => return other,
        }
    }
}

/// A config has no image that could tell. One that a stack file declares bears the label of its stack.
fn is_ours(claim: &Claim, name: &str) -> bool {
    claim.name == name && !claim.labels.contains_key(STACK_NAMESPACE)
}

/// As short as the swarm wants it, and different for each project.
fn claim_name(project: &str) -> String {
    let name = journal_name(project);
    let is_plain = name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if name.len() <= LONGEST_NAME && is_plain {
        return name;
    }
    let digest = short_digest(project);
    let kept: String = name.chars().take(LONGEST_NAME - digest.len() - 1).collect();
    format!("{kept}.{digest}")
}

fn short_digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(encode_component(text));
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_a_name_that_the_swarm_takes() {
        assert_eq!(claim_name("shop"), "cofferdam-hold-shop");
        for project in ["ends-with-", &"long".repeat(40), &"long".repeat(41)] {
            let name = claim_name(project);
            assert!(name.len() <= LONGEST_NAME, "{name}");
            assert!(name.ends_with(|last: char| last.is_ascii_hexdigit()));
        }
        assert_ne!(
            claim_name(&"long".repeat(40)),
            claim_name(&"long".repeat(41))
        );
    }
}
