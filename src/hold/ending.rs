//! The end of every run, whatever became of it: release, hooks, and the journal closed.
//!
//! Nothing here gives up half-way: each problem is kept for the report, and the next container gets its turn.

use std::collections::BTreeSet;

use tracing::error;

use super::{Held, Lock, ReleaseProblem, Seals, Wait};
use crate::driver::DriverError;
use crate::engine::container::COMPOSE_DEPENDS_ON;
use crate::hold::hooks::{HookError, HookOutcome, Hooks};
use crate::stack::Service;
use crate::target::TargetId;

#[derive(Debug, Default)]
pub struct Ending {
    pub problems: Vec<String>,
    /// Something could not be brought back, or not be undone: the journal stays for a later run.
    unfinished: bool,
    /// What can never be finished, since it is not there any more.
    lost: BTreeSet<TargetId>,
}

impl Ending {
    /// The services that somebody has started since they were held. That this is not known is a problem, and no more.
    pub async fn disturbed(&mut self, lock: &Lock, seals: &Seals) -> Vec<String> {
        match lock.broken(seals).await {
            Ok(broken) => broken,
            Err(error) => {
                self.problem(format!(
                    "could not check whether the held containers stayed held: {error}"
                ));
                Vec::new()
            }
        }
    }

    /// Releases everything that is held.
    pub async fn release(&mut self, lock: &Lock, wait: Wait) {
        lock.wait_for_answers().await;
        for held in &lock.journal().held {
            self.release_one(lock, held, wait).await;
        }
    }

    async fn release_one(&mut self, lock: &Lock, held: &Held, wait: Wait) {
        if let Err(ReleaseProblem {
            service,
            why,
            still_held,
        }) = lock.release(held, wait).await
        {
            self.unfinished |= still_held;
            self.problem(format!("{service}: {why}"));
        }
    }

    /// The `failed-…` hooks when the run failed, then every `after-…` hook, dependencies first.
    pub async fn hooks(&mut self, hooks: &Hooks<'_>, outcome: HookOutcome) {
        for service in hooks.services() {
            self.hook(hooks.failed(service, outcome).await);
        }
        for service in hooks.services() {
            self.hook(hooks.after(service, outcome).await);
        }
    }

    /// Releases in dependency order, and runs the `failed-…` and the `after-…` hook of each container before what depends on
    /// it starts: a schema is migrated before the workers come. When that fails after a restore, they do not come: what they
    /// would find is not what they expect.
    pub async fn release_with_hooks(
        &mut self,
        lock: &Lock,
        wait: Wait,
        hooks: &Hooks<'_>,
        outcome: HookOutcome,
    ) {
        lock.wait_for_answers().await;
        let mut waiting: Vec<&Held> = lock.journal().held.iter().collect();
        let mut unfit = Unfit::default();
        for service in hooks.services() {
            let is_own = |held: &&Held| held.subject.includes(&service.container);
            if let Some(at) = waiting.iter().position(is_own) {
                let held = waiting.remove(at);
                if unfit.keeps_back(service) {
                    continue;
                }
                self.release_one(lock, held, wait).await;
            }
            self.hook(hooks.failed(service, outcome).await);
            let is_ready = self.hook(hooks.after(service, outcome).await);
            // Nobody has waited for a container before its hook when the user wants to stop: that says nothing of its data.
            if !is_ready && outcome == HookOutcome::Done && wait == Wait::UntilReady {
                unfit.services.push(service.container.service());
            }
        }
        // Recreated under another id since the journal was written.
        for held in waiting {
            self.release_one(lock, held, wait).await;
        }
        if !unfit.kept_back.is_empty() {
            self.problem(unfit.explanation());
        }
    }

    /// Whether it ran well, or was not due.
    fn hook(&mut self, ran: Result<(), HookError>) -> bool {
        if let Err(error) = &ran {
            self.problem(error.to_string());
        }
        ran.is_ok()
    }

    /// Releases nothing: what would start now would find data that is neither all old nor all new.
    pub fn keep_held(&mut self, lock: &Lock) {
        let held = lock.journal().held.iter();
        let names: Vec<&str> = held.map(|held| held.service.as_str()).collect();
        if !names.is_empty() {
            self.problem(format!(
                "{}: not started, because its data is partly old and partly new",
                names.join(", ")
            ));
        }
    }

    /// What cannot be finished is left as it is, and nobody tries again.
    pub fn give_up(&mut self) {
        self.unfinished = false;
    }

    /// Whether something is left that only a later run can finish.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Frees the project, unless a later run has something to finish: then the journal stays, and says so.
    pub async fn close(&mut self, lock: Lock) {
        if self.unfinished {
            let project = lock.journal().project.clone();
            if let Err(error) = lock.mark_ended(&self.lost).await {
                self.problem(format!(
                    "could not record that the run has ended: {error}; while {} is alive, cofferdam recover needs --force",
                    lock.journal().owner
                ));
            }
            self.problem(format!(
                "the run of project {project} is not finished; fix the cause, then run: cofferdam recover --project {project}"
            ));
            return;
        }
        if let Err(error) = lock.close().await {
            self.problem(format!("the hold journal could not be removed: {error}"));
        }
    }

    /// Writes down what only a later run can finish.
    pub fn leave_unfinished(&mut self, why: String) {
        self.unfinished = true;
        self.problem(why);
    }

    /// What was decided on could not be put in place.
    pub fn not_committed(&mut self, target: &TargetId, error: &DriverError) {
        if let DriverError::LoadedIsGone = error {
            self.lost.insert(target.clone());
        }
        self.leave_unfinished(format!(
            "{target}: the old data could not be replaced: {error}"
        ));
    }

    pub fn problem(&mut self, text: String) {
        error!("{text}");
        self.problems.push(text);
    }
}

/// Services whose `after-…` hook failed, and what depends on them.
#[derive(Default)]
struct Unfit<'a> {
    services: Vec<&'a str>,
    kept_back: Vec<&'a Service>,
}

impl<'a> Unfit<'a> {
    /// Whether a service depends on one of them; then it is one of them too. One that does not say what it depends on, as
    /// before compose v2, depends on all that started before it.
    fn keeps_back(&mut self, service: &'a Service) -> bool {
        let container = &service.container;
        let depends = match container.labels.contains_key(COMPOSE_DEPENDS_ON) {
            true => container
                .depends_on()
                .iter()
                .any(|dependency| self.services.contains(&dependency.service.as_str())),
            false => !self.services.is_empty(),
        };
        if depends {
            self.services.push(container.service());
            self.kept_back.push(service);
        }
        depends
    }

    fn explanation(&self) -> String {
        let names = |of: fn(&Service) -> &str, between: &str| {
            let names: Vec<&str> = self.kept_back.iter().map(|service| of(service)).collect();
            names.join(between)
        };
        format!(
            "not started, because their dependencies are not ready: {}; once that is fixed, run: docker start {}",
            names(|service| &service.name, ", "),
            names(|service| &service.container.name, " ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;
    use crate::labels::ContainerLabels;

    fn service(name: &str, depends_on: Option<&str>) -> Service {
        let mut container = container(name);
        if let Some(depends_on) = depends_on {
            container
                .labels
                .insert(COMPOSE_DEPENDS_ON.to_owned(), depends_on.to_owned());
        }
        Service {
            name: name.to_owned(),
            container,
            labels: ContainerLabels::default(),
        }
    }

    #[test]
    fn what_depends_on_a_failed_hook_is_kept_back_and_nothing_else() {
        let sites = service("sites", Some(""));
        let worker = service("worker", Some("backend:service_healthy:true"));
        let beat = service("beat", Some("worker:service_started:true"));
        let old = service("old", None);
        let mut unfit = Unfit::default();
        for each in [&sites, &worker, &beat, &old] {
            assert!(!unfit.keeps_back(each), "{}", each.name);
        }
        unfit.services.push("backend");
        assert!(!unfit.keeps_back(&sites));
        for each in [&worker, &beat, &old] {
            assert!(unfit.keeps_back(each), "{}", each.name);
        }
        assert!(
            unfit
                .explanation()
                .ends_with("docker start worker beat old"),
            "{}",
            unfit.explanation()
        );
    }
}
