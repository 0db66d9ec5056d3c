//! Any other store, by commands of the user's own: one prints the data, one reads it, one looks whether it is good.
//!
//! The commands run in the store's own container, as [`clients`](super::clients) runs them. What is known of the store is
//! what they say: a dump counts when its command has printed something, ended with 0, and the last line is the one that a label
//! promises, a load when its command has ended
//! with 0 and every digest was right.
//!
//! A load writes over what is there, so the safety snapshot is its way back: the dump command's output, read by the load
//! command. Whether a load that fails leaves the old data, the new, or half of it is the command's own affair; afterwards the
//! old data is loaded again in any case. Arguments of commands stay out of manifests, plans and messages: people write
//! passwords into them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;

use super::clients::{Chatter, Clients, DumpOrder, Taken};
use super::{
    Captured, Driver, DriverError, FoundTarget, FoundTargets, WayBack, cannot_be_put_back,
};
use crate::agent::helper::Helpers;
use crate::agent::inside::{ClientEnvironment, Visitor};
use crate::engine::{Container, Engine, ExecSpec};
use crate::labels::CommandLabels;
use crate::manifest::{CommandFacts, Facts, Failure, Role, TargetRecord};
use crate::secret::secrets_of;
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, TargetId};

/// How much of what a check printed is repeated, in bytes.
const LAST_WORDS: usize = 2048;

/// What the labels do not say.
#[derive(Clone)]
pub struct CommandRun {
    pub helpers: Helpers,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
}

/// The stores of one container that commands save, for the length of one run.
pub struct CommandDriver {
    engine: Engine,
    container: Container,
    /// By the target's name.
    commands: BTreeMap<String, CommandLabels>,
    /// Why a target cannot be put back, by its name.
    refusals: BTreeMap<String, String>,
    run: CommandRun,
}

impl CommandDriver {
    /// Touches nothing. `restored`: names of targets that a restore wants to put back, labelled or not.
    pub fn new(
        engine: Engine,
        container: Container,
        commands: BTreeMap<String, CommandLabels>,
        restored: impl IntoIterator<Item = String>,
        run: CommandRun,
    ) -> Self {
        let refusal = |name: String| {
            let can_load = commands
                .get(&name)
                .is_some_and(|command| command.options.load.is_some());
            let why = || no_load(&container.name, &name).to_string();
            (!can_load).then(|| (name.clone(), why()))
        };
        let refusals = restored.into_iter().filter_map(refusal).collect();
        Self {
            engine,
            container,
            commands,
            refusals,
            run,
        }
    }

    fn command(&self, name: &str) -> Result<&CommandLabels, DriverError> {
        self.commands.get(name).ok_or_else(|| {
            DriverError::failed_with_hint(
                format!(
                    "container {} has no label {}.dump (any more)",
                    self.container.name,
                    label_of(name)
                ),
                "add it, with the command whose output is to be saved",
            )
        })
    }

    fn load_command(&self, name: &str) -> Result<&[String], DriverError> {
        let command = self.commands.get(name);
        command
            .and_then(|command| command.options.load.as_deref())
            .ok_or_else(|| no_load(&self.container.name, name))
    }

    fn clients(&self, name: &str, command: &CommandLabels) -> Clients {
        Clients {
            engine: self.engine.clone(),
            container: self.container.clone(),
            label: label_of(name),
            exec_user: command.options.exec_user.clone(),
            environment: ClientEnvironment {
                plain: Vec::new(),
                secret: secrets_of(&self.container.env),
            },
            remedy: Arc::new(|_| None),
            helpers: Some(self.run.helpers.clone()),
        }
    }

    fn visitor<'a>(&'a self, command: &'a CommandLabels) -> Visitor<'a> {
        Visitor {
            engine: &self.engine,
            container: &self.container,
            user: command.options.exec_user.as_deref(),
            scratch: command.options.scratch.as_deref(),
            run: &self.run.helpers.run,
            program: &self.run.program,
            removals: &self.run.helpers.removals,
        }
    }

    /// Many programs end with 0 although what they printed was cut.
    fn ensure_it_is_whole(
        &self,
        name: &str,
        command: &CommandLabels,
        taken: &Taken,
    ) -> Result<(), DriverError> {
        let bytes = taken.artifact.plain.bytes;
        self.ensure_something_was_printed(name, command, bytes)?;
        match &command.options.ends_with {
            Some(pattern) if bytes > 0 && !ends_with(&taken.tail, pattern) => {
                Err(DriverError::failed_with_hint(
                    format!(
                        "{} succeeded in container {}, but its dump was cut off: its last line does not match `{pattern}`",
                        program_of(&command.dump),
                        self.container.name
                    ),
                    format!(
                        "find out why the command stops early; if a complete dump ends differently, correct {}.ends-with",
                        label_of(name)
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    fn ensure_something_was_printed(
        &self,
        name: &str,
        command: &CommandLabels,
        bytes: u64,
    ) -> Result<(), DriverError> {
        if bytes > 0 || command.options.allow_empty {
            return Ok(());
        }
        Err(DriverError::failed_with_hint(
            format!(
                "{} succeeded in container {}, but printed nothing",
                program_of(&command.dump),
                self.container.name
            ),
            format!(
                "check that the command writes to standard output; if the store is empty and so is its dump, set {}.allow-empty: true",
                label_of(name)
            ),
        ))
    }
}

/// Whether the last line fits the pattern, blank ones left aside.
fn ends_with(tail: &[u8], pattern: &str) -> bool {
    let text = String::from_utf8_lossy(tail);
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    fits(last.trim(), pattern)
}

/// `*` stands for anything, and there is no other wildcard: dumps end in all kinds of brackets.
fn fits(line: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return line == pattern;
    };
    let (between, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = line
        .strip_prefix(start)
        .and_then(|line| line.strip_suffix(end));
    let Some(mut inner) = inner else {
        return false;
    };
    between.split('*').all(|piece| {
        let found = inner.split_once(piece);
        inner = found.map_or(inner, |(_, after)| after);
        found.is_some()
    })
}

fn label_of(name: &str) -> String {
    format!("cofferdam.command.{name}")
}

fn program_of(argv: &[String]) -> &str {
    argv.first().map_or("", String::as_str)
}

fn no_load(container: &str, name: &str) -> DriverError {
    DriverError::failed_with_hint(
        format!("container {container} has no label {}.load", label_of(name)),
        "add it, with a command that reads the dump; or write the dump out with cofferdam export, and load it by hand",
    )
}

#[async_trait]
impl Driver for CommandDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Command]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let container = &self.container;
        let mut found = FoundTargets::default();
        for (name, command) in &self.commands {
            let id = TargetId::new(container.service(), DriverKind::Command, name);
            if container.is_running() {
                let what = format!("output of {}", program_of(&command.dump));
                found.targets.push(FoundTarget { id, what });
            } else {
                found.missing.push(Failure {
                    target: id,
                    reason: format!(
                        "its command runs in container {}, which {}; {}",
                        container.name,
                        container.state.told(),
                        container.how_to_start()
                    ),
                });
            }
        }
        Ok(found)
    }

    fn refusal(&self, target: &TargetId) -> Option<&str> {
        self.refusals.get(&target.name).map(String::as_str)
    }

    async fn doubts(&self, target: &TargetId) -> Result<Vec<String>, DriverError> {
        let refused = self.load_command(&target.name).err();
        Ok(refused.map(cannot_be_put_back).into_iter().collect())
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let command = self.command(&target.name)?;
        let order = DumpOrder {
            argv: command.dump.clone(),
            role: Role::Dump,
            extension: "dump",
            transfer: command.options.transfer,
            idle_limit: command.options.timeout,
            chatter: Chatter::Progress,
            relay: None,
        };
        let clients = self.clients(&target.name, command);
        let taken = clients.dump(self.visitor(command), &order, sink).await?;
        self.ensure_it_is_whole(&target.name, command, &taken)?;
        let bytes = taken.artifact.plain.bytes;
        Ok(Captured {
            transfer: taken.transfer,
            facts: Facts::Command(CommandFacts {
                program: program_of(&command.dump).to_owned(),
                bytes,
            }),
            artifacts: vec![taken.artifact],
            warnings: taken.warnings,
        })
    }

    /// Only the dump could tell, so it is always asked.
    async fn exists(&self, _target: &TargetId) -> Result<bool, DriverError> {
        Ok(true)
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        match self.load_command(&record.target.name) {
            Ok(load) => format!("let {} read the dump", program_of(load)),
            Err(_) => format!("nothing loads {}", record.target.name),
        }
    }

    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::SafetySnapshot
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let name = &record.target.name;
        let load = self.load_command(name)?.to_vec();
        let command = self.command(name)?;
        let dump = record.artifact(Role::Dump).ok_or_else(|| {
            DriverError::failed(format!("the snapshot holds no dump of {}", record.target))
        })?;
        let transfer = command.options.transfer;
        self.clients(name, command)
            .load(self.visitor(command), transfer, load, source, dump)
            .await
    }

    /// A check that fails on the old data too says more about the check than about the data, which is what was there before:
    /// it is told, and ends the matter.
    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        // The command of a load that was interrupted must not go on beside this one.
        self.run.helpers.removals.done().await;
        self.load(record, source).await?;
        if let Err(error) = self.check(record).await {
            warn!(target = %record.target, "the old data was restored, but its check fails too: {error}");
        }
        Ok(())
    }

    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let name = &record.target.name;
        let command = self.command(name)?;
        let Some(check) = &command.options.check else {
            return Ok(());
        };
        let clients = self.clients(name, command);
        let spec = ExecSpec {
            limit: Some(command.options.timeout),
            ..clients.spec(check.clone(), clients.environment.clone())
        };
        let output = clients.exec(&spec).await?;
        if output.exit_code == 0 {
            return Ok(());
        }
        // Many checks give their reason on standard output.
        let words = match output.last_words() {
            words if words.is_empty() => clients.redactor().last_words(&output.stdout, LAST_WORDS),
            words => words,
        };
        let program = format!("{} ({}.check)", spec.program(), label_of(name));
        Err(clients.client_error(&program, output.exit_code, &words))
    }

    /// The old data was given up by the load.
    async fn commit(&self, _target: &TargetId) -> Result<(), DriverError> {
        Ok(())
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        Err(DriverError::failed_with_hint(
            format!("there is no safety snapshot to restore {target} from"),
            "check what the load command left behind, and restore a snapshot that you trust",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_a_whole_dump() {
        for (tail, pattern, expected) in [
            ("…\nline\n# end of dump\n\n", "# end of *", true),
            ("…\r\n# end of dump\r\n", "# end of dump", true),
            ("# end of dump\nline\n", "# end of *", false),
            ("# end of du", "# end of dump", false),
            ("{\"a\": 1}", "*}", true),
            ("rows: 7, [done]", "rows: *, [*]", true),
            ("rows: 7, done]", "rows: *, [*]", false),
            ("aba", "ab*ba", false),
            ("anything", "*", true),
            ("", "*x", false),
        ] {
            assert_eq!(ends_with(tail.as_bytes(), pattern), expected, "{tail}");
        }
    }
}
