//! What the labels of a container may not say together, and which of them serve nothing.

use std::collections::BTreeMap;

use super::Parser;
use crate::labels::table::{self, CommandLabel, HookLabel, Label, TREE_OPTIONS, TreeLabel};
use crate::labels::{PostgresMode, Selection};
use crate::target::Moment;
use crate::text::{nearest_word, quoted};

impl Parser<'_> {
    pub(super) fn ensure_labels_agree(&mut self) {
        self.ensure_nothing_contradicts();
        self.ensure_a_password_has_one_place();
        self.ensure_options_belong_to_something();
        self.ensure_mode_serves_its_options();
        self.ensure_a_snapshot_has_one_place();
        self.ensure_paths_differ();
    }

    fn ensure_nothing_contradicts(&mut self) {
        if self.labels.enable == Some(true) && self.labels.skip.is_some() {
            self.problem(
                "cofferdam.skip",
                "conflicts with `cofferdam.enable: true`",
                Some("remove one of them".to_owned()),
            );
        }
        if self.labels.pause && self.labels.stop.contains(&Moment::Backup) {
            self.problem(
                "cofferdam.pause",
                "conflicts with a `cofferdam.stop` for `backup`",
                Some("a container is either stopped or paused: remove one of them".to_owned()),
            );
        }
    }

    fn ensure_a_password_has_one_place(&mut self) {
        for driver in ["postgres", "mysql", "couchdb", "elasticsearch"] {
            let [file, variable] =
                ["file", "variable"].map(|place| format!("cofferdam.{driver}.password-{place}"));
            if self.has(&file) && self.has(&variable) {
                let hint = "remove one of them".to_owned();
                self.problem(&variable, format!("conflicts with `{file}`"), Some(hint));
            }
        }
    }

    fn ensure_options_belong_to_something(&mut self) {
        for key in self.given.keys() {
            let Some((label, name)) = table::find(key) else {
                continue;
            };
            let name = name.unwrap_or_default();
            match label {
                _ if label.names_targets() => {}
                Label::Postgres(_) => self.ensure_database_is_saved(key, "cofferdam.postgres"),
                Label::Mysql(_) => self.ensure_database_is_saved(key, "cofferdam.mysql"),
                Label::Couchdb(_) => self.ensure_store_is_saved(key, "cofferdam.couchdb"),
                Label::Elasticsearch(_) => {
                    self.ensure_store_is_saved(key, "cofferdam.elasticsearch");
                }
                Label::Volume(option) => self.ensure_volume_is_taken(key, name, option),
                Label::Files(option) => self.ensure_files_have_a_path(key, name, option),
                Label::Command(_) => self.ensure_command_has_a_dump(key, name),
                Label::Keep | Label::Schedule
                    if !self.has_driver_label() && !self.is_switched() =>
                {
                    let hint = "add a label that names what to save, or remove this one";
                    self.problem(key, "has no target to apply to", Some(hint.to_owned()));
                }
                Label::HoldFor if !self.has("cofferdam.stop") && !self.has("cofferdam.pause") => {
                    let hint = "add `cofferdam.stop` or `cofferdam.pause`, or remove this label";
                    self.problem(key, "has no hold to apply to", Some(hint.to_owned()));
                }
                Label::Hook(_, HookLabel::User | HookLabel::Timeout | HookLabel::WhenStopped) => {
                    self.ensure_hook_has_a_command(key);
                }
                _ => {}
            }
        }
    }

    /// Options may stay where `enable` or `skip` switch a container on and off.
    fn is_switched(&self) -> bool {
        self.has("cofferdam.enable") || self.has("cofferdam.skip")
    }

    /// Whether something may be saved that no label names.
    fn may_be_detected(&self) -> bool {
        let is_named = match self.has("cofferdam.enable") {
            true => self.replaces_detection(),
            false => self.has_driver_label(),
        };
        self.is_switched() && !is_named
    }

    fn ensure_database_is_saved(&mut self, key: &str, driver: &str) {
        if !self.has(driver) && !self.may_be_detected() {
            let hint = format!("add `{driver}` with the databases' names, or with `*`");
            self.problem(key, "has no database to apply to", Some(hint));
        }
    }

    fn ensure_store_is_saved(&mut self, key: &str, driver: &str) {
        if !self.has(driver) && !self.may_be_detected() {
            let hint = format!("add `{driver}: \"*\"`, or remove this label");
            self.problem(key, "has no store to apply to", Some(hint));
        }
    }

    /// What saves the whole server knows neither single databases nor tables, and a data directory is no dump.
    fn ensure_mode_serves_its_options(&mut self) {
        let (mode, useless): (&str, &[&str]) = match self.postgres.mode {
            PostgresMode::Dump => return,
            PostgresMode::Dumpall => (
                "dumpall",
                &["exclude-tables", "exclude-table-data", "restore"],
            ),
            PostgresMode::Basebackup => (
                "basebackup",
                &[
                    "exclude-tables",
                    "exclude-table-data",
                    "restore",
                    "transfer",
                    "scratch",
                ],
            ),
        };
        if matches!(self.databases, Some(Selection::Names(_))) {
            let hint = "write `*`, or save single databases with `cofferdam.postgres.mode: dump`";
            self.problem(
                "cofferdam.postgres",
                format!(
                    "names databases, but `cofferdam.postgres.mode: {mode}` saves the whole server"
                ),
                Some(hint.to_owned()),
            );
        }
        for option in useless {
            let key = format!("cofferdam.postgres.{option}");
            if self.has(&key) {
                self.problem(
                    &key,
                    format!("cannot be combined with `cofferdam.postgres.mode: {mode}`"),
                    Some("remove one of them".to_owned()),
                );
            }
        }
    }

    fn ensure_a_snapshot_has_one_place(&mut self) {
        let key = "cofferdam.elasticsearch.location";
        if self.has(key) && self.has("cofferdam.elasticsearch.repository") {
            self.problem(
                key,
                "conflicts with `cofferdam.elasticsearch.repository`",
                Some("a snapshot goes to one or the other: remove one of them".to_owned()),
            );
        }
    }

    fn ensure_volume_is_taken(&mut self, key: &str, name: &str, option: TreeLabel) {
        let others = match &self.labels.volumes {
            Some(Selection::All) => return,
            Some(Selection::Names(names)) if names.iter().any(|taken| taken == name) => return,
            Some(Selection::Names(_)) if self.may_be_detected() => return,
            Some(Selection::Names(names)) => names.as_slice(),
            // The label itself is malformed, which is said already.
            None if self.has("cofferdam.volumes") => return,
            None if self.may_be_detected() => return,
            None => &[],
        };
        let near = nearest_word(name, others.iter().map(String::as_str));
        let hint = match near {
            Some(near) => format!(
                "did you mean `cofferdam.volumes.{}.{}`?",
                quoted(near),
                word_of(option)
            ),
            None => format!("add `{}` to `cofferdam.volumes`", quoted(name)),
        };
        let what = format!(
            "belongs to the volume `{}`, which no label saves",
            quoted(name)
        );
        self.problem(key, what, Some(hint));
    }

    fn ensure_files_have_a_path(&mut self, key: &str, name: &str, option: TreeLabel) {
        if self.has(&format!("cofferdam.files.{name}")) {
            return;
        }
        let declared = self.given.keys().filter_map(|key| match table::find(key) {
            Some((Label::FilesPath, name)) => name,
            _ => None,
        });
        let hint = match nearest_word(name, declared) {
            Some(near) => format!(
                "did you mean `cofferdam.files.{}.{}`?",
                quoted(near),
                word_of(option)
            ),
            None => format!("add `cofferdam.files.{}` with the path", quoted(name)),
        };
        self.problem(key, "has no path to apply to", Some(hint));
    }

    fn ensure_command_has_a_dump(&mut self, key: &str, name: &str) {
        if self.has(&format!("cofferdam.command.{name}.dump")) {
            return;
        }
        let option = key.rsplit_once('.').map_or(key, |(_, option)| option);
        let declared = self.given.keys().filter_map(|key| match table::find(key) {
            Some((Label::Command(CommandLabel::Dump), name)) => name,
            _ => None,
        });
        let hint = match nearest_word(name, declared) {
            Some(near) => format!(
                "did you mean `cofferdam.command.{}.{option}`?",
                quoted(near)
            ),
            None => format!(
                "add `cofferdam.command.{}.dump` with the command whose output is to be saved",
                quoted(name)
            ),
        };
        self.problem(key, "has no dump to apply to", Some(hint));
    }

    fn ensure_hook_has_a_command(&mut self, key: &str) {
        let command = key.rsplit_once('.').map_or(key, |(command, _)| command);
        if !self.has(command) {
            let hint = format!("add `{command}`, or remove this label");
            self.problem(key, "has no command to apply to", Some(hint));
        }
    }

    fn ensure_paths_differ(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let mut twice = Vec::new();
        for (name, draft) in &self.files {
            let Some(path) = &draft.path else { continue };
            if let Some(first) = seen.insert(path.clone(), name) {
                twice.push((format!("cofferdam.files.{name}"), first));
            }
        }
        for (key, first) in twice {
            let what = format!("names the same path as `cofferdam.files.{}`", quoted(first));
            self.problem(&key, what, Some("remove one of them".to_owned()));
        }
    }

    pub(super) fn has_driver_label(&self) -> bool {
        self.has_any(Label::names_targets)
    }

    /// Whether labels name more than trees: with `enable: true`, they then say all that is saved.
    pub(super) fn replaces_detection(&self) -> bool {
        self.has_any(|label| label.names_targets() && !label.names_trees())
    }

    fn has_any(&self, is_meant: impl Fn(Label) -> bool) -> bool {
        let mut keys = self.given.keys();
        keys.any(|key| table::find(key).is_some_and(|(label, _)| is_meant(label)))
    }
}

fn word_of(option: TreeLabel) -> &'static str {
    match option {
        TreeLabel::Exclude => TREE_OPTIONS[0],
        TreeLabel::Restore => TREE_OPTIONS[1],
    }
}
