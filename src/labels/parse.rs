//! One container's labels: read one by one here, looked at together in `agreement`.

mod agreement;
mod command;
mod stores;

use std::collections::BTreeMap;
use std::time::Duration;

use self::command::CommandDraft;
use self::stores::StoreDraft;
use super::error::{LabelErrors, LabelProblem};
use super::nearest;
use super::table::{
    self, COMPOSE_SERVICE, HookLabel, Label, MysqlLabel, OwnLabel, PREFIX, PostgresLabel,
    TREE_OPTIONS, TreeLabel,
};
use super::values::{self, BadValue};
use super::{
    ContainerLabels, CouchdbLabels, ElasticsearchLabels, FilesLabels, HookPoint, HookSpec,
    MysqlLabels, MysqlRestore, OptIn, PostgresLabels, PostgresMode, PostgresRestore, Selection,
    TRIGGER_ON_EXIT, TransferChoice, TreeOptions, TreeRestore, WhenStopped,
};
use crate::target::Moment;
use crate::text::{nearest_word, quoted};

/// How long a hook may take when its label does not say.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10 * 60);

const MOMENTS: [(&str, Moment); 2] = [("backup", Moment::Backup), ("restore", Moment::Restore)];
const POSTGRES_RESTORES: [(&str, PostgresRestore); 3] = [
    ("swap", PostgresRestore::Swap),
    ("recreate", PostgresRestore::Recreate),
    ("clean", PostgresRestore::Clean),
];
const POSTGRES_MODES: [(&str, PostgresMode); 3] = [
    ("dump", PostgresMode::Dump),
    ("dumpall", PostgresMode::Dumpall),
    ("basebackup", PostgresMode::Basebackup),
];
const MYSQL_RESTORES: [(&str, MysqlRestore); 2] = [
    ("swap", MysqlRestore::Swap),
    ("recreate", MysqlRestore::Recreate),
];
const TREE_RESTORES: [(&str, TreeRestore); 3] = [
    ("replace", TreeRestore::Replace),
    ("overlay", TreeRestore::Overlay),
    ("keep-existing", TreeRestore::KeepExisting),
];
const TRANSFERS: [(&str, TransferChoice); 2] = [
    ("copy", TransferChoice::Copy),
    ("stream", TransferChoice::Stream),
];

/// Reads every label of `container` that begins with `cofferdam.`, and collects every problem they have.
pub fn parse(
    container: &str,
    labels: &BTreeMap<String, String>,
) -> Result<ContainerLabels, LabelErrors> {
    let mut parser = Parser {
        container,
        given: labels,
        problems: Vec::new(),
        labels: ContainerLabels::default(),
        databases: None,
        postgres: PostgresLabels::default(),
        mysql_databases: None,
        mysql: MysqlLabels::default(),
        couchdb: StoreDraft::default(),
        elasticsearch: StoreDraft::default(),
        files: BTreeMap::new(),
        commands: BTreeMap::new(),
        hooks: BTreeMap::new(),
    };
    for (key, value) in labels {
        if key.starts_with(PREFIX) || nearest::is_misspelt_prefix(key) {
            parser.label(key, value);
        }
    }
    parser.finish()
}

struct Parser<'a> {
    container: &'a str,
    given: &'a BTreeMap<String, String>,
    problems: Vec<LabelProblem>,
    labels: ContainerLabels,
    databases: Option<Selection>,
    postgres: PostgresLabels,
    mysql_databases: Option<Selection>,
    mysql: MysqlLabels,
    couchdb: StoreDraft<CouchdbLabels>,
    elasticsearch: StoreDraft<ElasticsearchLabels>,
    files: BTreeMap<&'a str, FilesDraft>,
    commands: BTreeMap<&'a str, CommandDraft>,
    hooks: BTreeMap<HookPoint, HookDraft>,
}

#[derive(Default)]
struct FilesDraft {
    path: Option<String>,
    options: TreeOptions,
}

#[derive(Default)]
struct HookDraft {
    argv: Option<Vec<String>>,
    user: Option<String>,
    timeout: Option<Duration>,
    when_stopped: WhenStopped,
}

impl FilesDraft {
    fn finish(self) -> Option<FilesLabels> {
        Some(FilesLabels {
            path: self.path?,
            options: self.options,
        })
    }
}

impl HookDraft {
    fn finish(self) -> Option<HookSpec> {
        Some(HookSpec {
            argv: self.argv?,
            user: self.user,
            timeout: self.timeout.unwrap_or(HOOK_TIMEOUT),
            when_stopped: self.when_stopped,
        })
    }
}

impl<'a> Parser<'a> {
    fn label(&mut self, key: &'a str, value: &'a str) {
        let Some((label, name)) = table::find(key) else {
            return self.own_or_unknown(key);
        };
        let name = name.unwrap_or_default();
        let read = match label {
            Label::Enable => values::boolean(value).map(|on| self.labels.enable = Some(on)),
            Label::Project => ensure_name(value),
            Label::Service => self
                .ensure_no_compose_service()
                .and_then(|()| ensure_name(value)),
            Label::Skip => values::text(value, "the reason, such as `cache only`")
                .map(|reason| self.labels.skip = Some(reason)),
            Label::Postgres(option) => self.postgres(option, value),
            Label::Mysql(option) => self.mysql(option, value),
            Label::Couchdb(option) => self.couchdb.set(option, value),
            Label::Elasticsearch(option) => self.elasticsearch.set(option, value),
            Label::Volumes => values::selection(value, "names of volumes, or `*`")
                .map(|volumes| self.labels.volumes = Some(volumes)),
            Label::Volume(option) => {
                let options = self.labels.volume_options.entry(name.to_owned());
                tree_option(options.or_default(), option, value)
            }
            Label::VolumesSkip => values::list(value, "names of volumes")
                .map(|volumes| self.labels.skipped_volumes = volumes),
            Label::Binds => values::selected_paths(value, "paths of bind mounts, or `*`")
                .map(|binds| self.labels.binds = Some(binds)),
            Label::BindsSkip => values::paths(value, "paths of bind mounts, such as `/data/cache`")
                .map(|binds| self.labels.skipped_binds = binds),
            Label::Sqlite => {
                values::paths(value, "paths of database files, such as `/data/app.db`")
                    .map(|databases| self.labels.sqlite = databases)
            }
            Label::FilesPath => ensure_files_name(name).and_then(|()| {
                self.files.entry(name).or_default().path = Some(values::path(value)?);
                Ok(())
            }),
            Label::Files(option) => tree_option(
                &mut self.files.entry(name).or_default().options,
                option,
                value,
            ),
            Label::Command(option) => ensure_name(name)
                .and_then(|()| self.commands.entry(name).or_default().set(option, value)),
            Label::Keep => values::keep(value).map(|policy| self.labels.keep = Some(policy)),
            Label::Schedule => {
                values::schedule(value).map(|schedule| self.labels.schedule = Some(schedule))
            }
            Label::Trigger => values::word(value, &[(TRIGGER_ON_EXIT, true)])
                .map(|on_exit| self.labels.triggers_on_exit = on_exit),
            Label::Stop => self.stop(value),
            Label::Pause => self.pause(value),
            Label::HoldFor => values::list(value, "names of services")
                .map(|services| self.labels.hold_for = Some(services)),
            Label::ReadyTimeout => {
                values::duration(value).map(|timeout| self.labels.ready_timeout = Some(timeout))
            }
            Label::Hook(point, field) => self.hook(point, field, value),
        };
        if let Err(BadValue { what, hint }) = read {
            self.problem(key, what, hint);
        }
    }

    /// What depends on the container knows it by compose's name.
    fn ensure_no_compose_service(&self) -> Result<(), BadValue> {
        match self.given.get(COMPOSE_SERVICE) {
            None => Ok(()),
            Some(service) => Err(BadValue::new(
                "is for containers that compose did not start",
                format!(
                    "remove it; this container belongs to compose's `{}`",
                    quoted(service)
                ),
            )),
        }
    }

    fn postgres(&mut self, option: PostgresLabel, value: &str) -> Result<(), BadValue> {
        let postgres = &mut self.postgres;
        match option {
            PostgresLabel::Databases => {
                self.databases = Some(values::selection(value, "names of databases, or `*`")?);
            }
            PostgresLabel::User => postgres.user = Some(values::text(value, "a role's name")?),
            PostgresLabel::PasswordFile => postgres.password_file = Some(values::path(value)?),
            PostgresLabel::PasswordVariable => {
                postgres.password_variable = Some(values::variable(value)?);
            }
            PostgresLabel::Port => postgres.port = Some(values::port(value)?),
            PostgresLabel::MaintenanceDb => {
                postgres.maintenance_db = values::text(value, "a database's name")?;
            }
            PostgresLabel::Mode => postgres.mode = values::word(value, &POSTGRES_MODES)?,
            PostgresLabel::ExcludeTables => {
                postgres.exclude_tables = values::list(value, "patterns of tables")?;
            }
            PostgresLabel::ExcludeTableData => {
                postgres.exclude_table_data = values::list(value, "patterns of tables")?;
            }
            PostgresLabel::Restore => postgres.restore = values::word(value, &POSTGRES_RESTORES)?,
            PostgresLabel::Transfer => postgres.transfer = values::word(value, &TRANSFERS)?,
            PostgresLabel::Scratch => postgres.scratch = Some(values::path(value)?),
            PostgresLabel::ExecUser => {
                postgres.exec_user = Some(values::text(value, "a system user of the container")?);
            }
        }
        Ok(())
    }

    fn mysql(&mut self, option: MysqlLabel, value: &str) -> Result<(), BadValue> {
        let mysql = &mut self.mysql;
        match option {
            MysqlLabel::Databases => {
                self.mysql_databases =
                    Some(values::selection(value, "names of databases, or `*`")?);
            }
            MysqlLabel::User => mysql.user = Some(values::text(value, "a user's name")?),
            MysqlLabel::PasswordFile => mysql.password_file = Some(values::path(value)?),
            MysqlLabel::PasswordVariable => {
                mysql.password_variable = Some(values::variable(value)?);
            }
            MysqlLabel::Port => mysql.port = Some(values::port(value)?),
            MysqlLabel::ExcludeTables => {
                mysql.exclude_tables =
                    values::list(value, "patterns of tables, such as `jobs, tmp_*`")?;
            }
            MysqlLabel::ExcludeTableData => {
                mysql.exclude_table_data =
                    values::list(value, "patterns of tables, such as `jobs, tmp_*`")?;
            }
            MysqlLabel::Restore => mysql.restore = values::word(value, &MYSQL_RESTORES)?,
            MysqlLabel::Transfer => mysql.transfer = values::word(value, &TRANSFERS)?,
            MysqlLabel::Scratch => mysql.scratch = Some(values::path(value)?),
            MysqlLabel::ExecUser => {
                mysql.exec_user = Some(values::text(value, "a system user of the container")?);
            }
        }
        Ok(())
    }

    fn stop(&mut self, value: &str) -> Result<(), BadValue> {
        for item in values::list(value, "`backup`, `restore` or `backup,restore`")? {
            self.labels.stop.insert(values::word(&item, &MOMENTS)?);
        }
        Ok(())
    }

    fn pause(&mut self, value: &str) -> Result<(), BadValue> {
        if value.trim() == "restore" {
            return Err(BadValue::new(
                "is `restore`, but a paused container still has the replaced files open",
                "use `cofferdam.stop: restore`",
            ));
        }
        values::word(value, &[("backup", ())])?;
        self.labels.pause = true;
        Ok(())
    }

    fn hook(&mut self, point: HookPoint, field: HookLabel, value: &str) -> Result<(), BadValue> {
        let hook = self.hooks.entry(point).or_default();
        match field {
            HookLabel::Command => hook.argv = Some(values::command(value)?),
            HookLabel::User => {
                hook.user = Some(values::text(value, "a system user of the container")?);
            }
            HookLabel::Timeout => hook.timeout = Some(values::duration(value)?),
            HookLabel::WhenStopped => {
                let accepted = [("fail", WhenStopped::Fail), ("skip", WhenStopped::Skip)];
                hook.when_stopped = values::word(value, &accepted)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ContainerLabels, LabelErrors> {
        self.ensure_labels_agree();
        let names_a_target = self.has_driver_label();
        let replaces_detection = self.replaces_detection();
        if !self.problems.is_empty() {
            self.problems.sort_by(|a, b| a.label.cmp(&b.label));
            return Err(LabelErrors {
                problems: self.problems,
            });
        }

        let mut labels = self.labels;
        labels.files = self
            .files
            .into_iter()
            .filter_map(|(name, draft)| Some((name.to_owned(), draft.finish()?)))
            .collect();
        labels.commands = self
            .commands
            .into_iter()
            .filter_map(|(name, draft)| Some((name.to_owned(), draft.finish()?)))
            .collect();
        labels.hooks = self
            .hooks
            .into_iter()
            .filter_map(|(point, draft)| Some((point, draft.finish()?)))
            .collect();
        labels.opt_in = match labels.enable {
            Some(false) => OptIn::No,
            Some(true) if !replaces_detection => OptIn::Detection,
            _ if names_a_target => OptIn::Labels,
            _ => OptIn::No,
        };
        labels.couchdb = self.couchdb.finish(labels.opt_in);
        labels.elasticsearch = self.elasticsearch.finish(labels.opt_in);
        let options_for_detection =
            labels.opt_in == OptIn::Detection && self.postgres != PostgresLabels::default();
        if self.databases.is_some() || options_for_detection {
            labels.postgres = Some(PostgresLabels {
                databases: self.databases.unwrap_or(Selection::All),
                ..self.postgres
            });
        }
        let options_for_detection =
            labels.opt_in == OptIn::Detection && self.mysql != MysqlLabels::default();
        if self.mysql_databases.is_some() || options_for_detection {
            labels.mysql = Some(MysqlLabels {
                databases: self.mysql_databases.unwrap_or(Selection::All),
                ..self.mysql
            });
        }
        Ok(labels)
    }

    fn has(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Labels of our image are no problem, but another container that has one of our containers' was labelled by mistake.
    fn own_or_unknown(&mut self, key: &str) {
        match table::find_own(key) {
            Some(OwnLabel::Image | OwnLabel::Test) => {}
            Some(OwnLabel::Container) => {
                let hint = "remove it; `cofferdam.stop`, `cofferdam.pause` and `cofferdam.hold-for` set how containers are \
                 held";
                self.problem(
                    key,
                    "is reserved for Cofferdam's own containers",
                    Some(hint.to_owned()),
                );
            }
            None => self.unknown(key),
        }
    }

    fn unknown(&mut self, key: &str) {
        let hint = match key.split('.').collect::<Vec<_>>().as_slice() {
            ["cofferdam", "volumes", name]
                if !name.is_empty() && nearest_word(name, ["skip"]).is_none() =>
            {
                format!(
                    "to save the volume, name it in the value: `cofferdam.volumes: {}`",
                    quoted(name)
                )
            }
            ["cofferdam", "command", name]
                if !name.is_empty() && !["dump", "load", "check"].contains(name) =>
            {
                format!(
                    "say what the command is for: `cofferdam.command.{0}.dump`, `cofferdam.command.{0}.load` or \
                     `cofferdam.command.{0}.check`",
                    quoted(name)
                )
            }
            _ => match nearest::nearest(key) {
                Some((near, summary)) => {
                    format!("did you mean `{}` ({summary})?", quoted(&near))
                }
                None => format!("the labels are {}", table::families()),
            },
        };
        self.problem(key, "is unknown", Some(hint));
    }

    fn problem(&mut self, key: &str, what: impl Into<String>, hint: Option<String>) {
        self.problems.push(LabelProblem {
            container: self.container.to_owned(),
            label: key.to_owned(),
            what: what.into(),
            hint,
        });
    }
}

fn tree_option(options: &mut TreeOptions, option: TreeLabel, value: &str) -> Result<(), BadValue> {
    match option {
        TreeLabel::Exclude => options.exclude = values::exclusions(value)?,
        TreeLabel::Restore => options.restore = values::word(value, &TREE_RESTORES)?,
    }
    Ok(())
}

/// A name that reads the same in a path, a target id and a shell.
fn ensure_name(value: &str) -> Result<(), BadValue> {
    const MAX_NAME_LENGTH: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let name = value.as_bytes();
    if name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.len() <= MAX_NAME_LENGTH
        && name.iter().all(|byte| plain(*byte))
    {
        return Ok(());
    }
    Err(BadValue::new(
        format!("has the invalid name `{}`", quoted(value)),
        "use up to 64 letters, digits, `_`, `.` and `-`, beginning with a letter or a digit",
    ))
}

/// A tree must not be named as an option is, or as a misspelt one: `cofferdam.files.conf.exlude: /cache` would else be
/// a tree of its own, without a word.
fn ensure_files_name(name: &str) -> Result<(), BadValue> {
    ensure_name(name)?;
    let (before, last) = name.rsplit_once('.').unwrap_or(("<name>", name));
    let like_an_option = TREE_OPTIONS.into_iter().find(|option| {
        *option == last || (name != last && strsim::osa_distance(option, last) <= 2)
    });
    match like_an_option {
        None => Ok(()),
        Some(option) => Err(BadValue::new(
            format!("has a name that ends like the option `{option}`"),
            format!(
                "did you mean `cofferdam.files.{before}.{option}`? (otherwise choose another name)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
