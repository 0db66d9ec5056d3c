//! The end of every run, whatever became of it: release, hooks, and the journal closed.
//!
//! Nothing here gives up half-way: each problem is kept for the report, and the next container gets its turn.

use tracing::error;

use super::{Held, Lock, ReleaseProblem, Wait};
use crate::hooks::{HookError, HookOutcome, Hooks};

#[derive(Debug, Default)]
pub struct Ending {
    pub problems: Vec<String>,
    /// Something could not be brought back, or not be undone: the journal stays for a later run.
    unfinished: bool,
}

impl Ending {
    /// Releases everything that is held.
    pub async fn release(&mut self, lock: &Lock, wait: Wait) {
        for held in &lock.journal().held {
            self.release_one(lock, held, wait).await;
        }
    }

    async fn release_one(&mut self, lock: &Lock, held: &Held, wait: Wait) {
        if let Err(ReleaseProblem {
            service,
            error,
            still_held,
        }) = lock.release(held, wait).await
        {
            self.unfinished |= still_held;
            self.problem(format!("{service}: {error}"));
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
    /// it starts: a schema is migrated before the workers come.
    pub async fn release_with_hooks(
        &mut self,
        lock: &Lock,
        wait: Wait,
        hooks: &Hooks<'_>,
        outcome: HookOutcome,
    ) {
        let mut waiting: Vec<&Held> = lock.journal().held.iter().collect();
        for service in hooks.services() {
            if let Some(at) = waiting
                .iter()
                .position(|held| held.container == service.container.id)
            {
                self.release_one(lock, waiting.remove(at), wait).await;
            }
            self.hook(hooks.failed(service, outcome).await);
            self.hook(hooks.after(service, outcome).await);
        }
        // Recreated under another id since the journal was written.
        for held in waiting {
            self.release_one(lock, held, wait).await;
        }
    }

    fn hook(&mut self, ran: Result<(), HookError>) {
        if let Err(error) = ran {
            self.problem(error.to_string());
        }
    }

    /// Frees the project, unless a later run has something to finish: then the journal stays, and says so.
    pub async fn close(&mut self, lock: Lock) {
        if self.unfinished {
            let project = lock.journal().project.clone();
            self.problem(format!(
                "the hold of project {project} is not wholly released; when the cause is mended, run: cofferdam recover \
                 --project {project}"
            ));
            return;
        }
        if let Err(error) = lock.close().await {
            self.problem(format!("the hold journal could not be removed: {error}"));
        }
    }

    /// Something is left that only a later run can finish.
    pub fn leave_unfinished(&mut self, why: String) {
        self.unfinished = true;
        self.problem(why);
    }

    pub fn problem(&mut self, text: String) {
        error!("{text}");
        self.problems.push(text);
    }
}
