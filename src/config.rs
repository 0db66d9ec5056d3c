//! Flags and environment, made into one validated [`Config`]. Pure: the environment comes in as a value, and reads the files
//! that hold keys and secrets.
//!
//! A flag goes before its variable; an empty variable counts as absent, since compose files like to leave some so. Every
//! problem is told at once, each with the flag or variable that it came from and with what to type.

mod encryption;
mod environment;
mod listen;
mod log;
mod mail;
mod notify;

pub use environment::Environment;
pub use listen::Listen;
pub use log::{LogFormat, LogSettings};

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::cli::Settings;
use crate::engine::Endpoint;
use crate::engine::connect::BadEndpoint;
use crate::history::selectors::{BadTargetPattern, TargetPattern};
use crate::keep::{BadKeepPolicy, KeepPolicy};
use crate::manifest::Compression;
use crate::notify::NotifySettings;
use crate::pipe::keys::Keys;
use crate::repository::credentials::Credentials;
use crate::repository::url::{BadUrl, RepositoryUrl};
use crate::run::places::{CreatePolicy, PlaceTerms};
use crate::schedule::{BadSchedule, Schedule};
use crate::stack::Scope;
use crate::text::nearest_word;

/// Everything that a command needs to know of its surroundings.
#[derive(Clone, Debug)]
pub struct Config {
    pub repository: RepositoryUrl,
    /// Whether one may be made there, and which one is right.
    pub place_terms: PlaceTerms,
    /// Of the servers that hold repositories.
    pub credentials: Credentials,
    /// Second places. None is the repository, and none is named twice.
    pub copy_to: Vec<RepositoryUrl>,
    /// Which snapshots stay there; `None`: all.
    pub copy_keep: Option<KeepPolicy>,
    pub scope: Scope,
    /// Where managers of the engine's swarm are; without any, only the engine itself may be one.
    pub swarm_managers: Vec<Endpoint>,
    pub compression: Compression,
    /// Which snapshots stay; `None`: all.
    pub keep: Option<KeepPolicy>,
    /// Whose data may become far smaller.
    pub may_shrink: Vec<TargetPattern>,
    /// Targets that are gone on purpose.
    pub retired: Vec<TargetPattern>,
    /// When the daemon saves what has no schedule of its own.
    pub schedule: Schedule,
    /// Up to how much later than its time a scheduled backup begins.
    pub jitter: Duration,
    /// Where the daemon shows how things are; `None`: nowhere.
    pub listen: Option<Listen>,
    pub keys: Keys,
    /// For the times that people are shown, and the days that retention counts.
    pub time_zone: TimeZone,
    pub log: LogSettings,
    pub output: Output,
    /// Who is told what becomes of backups, mail among it.
    pub notify: NotifySettings,
    /// Where status files go; `None`: into the repository.
    pub status_directory: Option<PathBuf>,
    /// What looks like a mistake and is none for sure: to be logged.
    pub warnings: Vec<String>,
}

/// Who reads what is printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Human,
    Json,
}

/// Every problem of the flags and variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    pub problems: Vec<ConfigProblem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The flag or variable: `--repository`, `COFFERDAM_REPOSITORY`.
    pub setting: &'static str,
    pub what: String,
    /// What to type instead.
    pub hint: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}; {}", self.setting, self.what, self.hint)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let line_end = if at == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

/// What is wrong with a value, before it is known whose value it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BadSetting {
    what: String,
    hint: String,
}

impl BadSetting {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl From<BadUrl> for BadSetting {
    fn from(BadUrl { what, hint }: BadUrl) -> Self {
        Self { what, hint }
    }
}

impl Config {
    /// `working_directory` is absolute: relative repository paths begin there.
    pub fn resolve(
        settings: &Settings,
        environment: &Environment,
        working_directory: &Path,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader {
            environment,
            problems: Vec::new(),
        };

        let given = Given::new("--repository", &settings.repository, "COFFERDAM_REPOSITORY");
        let repository = reader.read(given, RepositoryUrl::default(), |text| {
            Ok(RepositoryUrl::parse(text, working_directory)?)
        });
        let place_terms = reader.place_terms(settings);
        let copies = (!settings.copy_to.is_empty()).then(|| settings.copy_to.join(","));
        let given = Given::new("--copy-to", &copies, "COFFERDAM_COPY_TO");
        let copy_to = reader.read(given, Vec::new(), |text| {
            places_of(text, &repository, working_directory)
        });
        let scope = reader.scope(settings);
        let managers = &settings.swarm_manager;
        let managers = (!managers.is_empty()).then(|| managers.join(","));
        let given = Given::new("--swarm-manager", &managers, "COFFERDAM_SWARM_MANAGER");
        let swarm_managers = reader.read(given, Vec::new(), |text| managers_of(text, environment));
        let given = Given::new(
            "--compression",
            &settings.compression,
            "COFFERDAM_COMPRESSION",
        );
        let compression = reader.read(given, Compression::DEFAULT, compression_of);
        let given = Given::new("--copy-keep", &settings.copy_keep, "COFFERDAM_COPY_KEEP");
        let copy_keep = reader.read(given, None, keep_of);
        let given = Given::new("--keep", &settings.keep, "COFFERDAM_KEEP");
        let keep = reader.read(given, None, keep_of);
        let may_shrink = reader.patterns("COFFERDAM_MAY_SHRINK");
        let retired = reader.patterns("COFFERDAM_RETIRED");
        let given = Given::new("--schedule", &settings.schedule, "COFFERDAM_SCHEDULE");
        let schedule = reader.read(given, Schedule::daily(), schedule_of);
        let given = Given::new("--jitter", &settings.jitter, "COFFERDAM_JITTER");
        let jitter = reader.read(given, Duration::ZERO, jitter_of);
        let listen = listen::listen_of(&mut reader, settings);
        let keys = reader.keys(settings);
        let given = Given::new("--time-zone", &settings.time_zone, "TZ");
        let time_zone = reader.read(given, TimeZone::UTC, time_zone_of);
        let given = Given::new("--log", &settings.log, "COFFERDAM_LOG");
        let filter = reader.read(given, log::default_filter(), log::filter_of);
        let given = Given::new("--log-format", &settings.log_format, "COFFERDAM_LOG_FORMAT");
        let format = reader.read(given, LogFormat::Text, log::format_of);
        let json = settings.json || reader.switch("COFFERDAM_JSON");
        let notify = notify::notify_of(&mut reader, settings);
        let given = Given::new("--status-dir", &settings.status_dir, "COFFERDAM_STATUS_DIR");
        let status_directory = reader.read(given, None, |text| {
            status_directory_of(text, working_directory)
        });

        if !reader.problems.is_empty() {
            return Err(ConfigErrors {
                problems: reader.problems,
            });
        }
        Ok(Self {
            repository,
            place_terms,
            credentials: environment.credentials(),
            copy_to,
            copy_keep,
            scope,
            swarm_managers,
            compression,
            warnings: warnings(environment, keep.as_ref()),
            keep,
            may_shrink,
            retired,
            schedule,
            jitter,
            listen,
            keys,
            time_zone,
            log: LogSettings { filter, format },
            output: if json { Output::Json } else { Output::Human },
            notify,
            status_directory,
        })
    }
}

/// A flag, and the variable that stands in for it.
struct Given<'a> {
    flag: &'static str,
    value: Option<&'a str>,
    variable: &'static str,
}

impl<'a> Given<'a> {
    fn new(flag: &'static str, value: &'a Option<String>, variable: &'static str) -> Self {
        Self {
            flag,
            value: value.as_deref(),
            variable,
        }
    }

    /// Which of the two it is that counts.
    fn setting(&self) -> &'static str {
        match self.value {
            Some(_) => self.flag,
            None => self.variable,
        }
    }
}

struct Reader<'a> {
    environment: &'a Environment,
    problems: Vec<ConfigProblem>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        given: Given<'_>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, BadSetting>,
    ) -> T {
        let setting = given.setting();
        let parsed = match given.value {
            Some(value) => parse(value),
            None => match self.variable(given.variable) {
                Some(value) => parse(&value),
                None => return default,
            },
        };
        self.good(setting, parsed).unwrap_or(default)
    }

    /// Takes note of the problem where there is one.
    fn good<T>(&mut self, setting: &'static str, parsed: Result<T, BadSetting>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(BadSetting { what, hint }) => {
                self.problem(setting, what, hint);
                None
            }
        }
    }

    fn place_terms(&mut self, settings: &Settings) -> PlaceTerms {
        let is_existing = settings.existing || self.switch("COFFERDAM_EXISTING");
        let id = &settings.repository_id;
        let given = Given::new("--repository-id", id, "COFFERDAM_REPOSITORY_ID");
        PlaceTerms {
            create: match is_existing {
                true => CreatePolicy::Nowhere,
                false => CreatePolicy::WhereUnused,
            },
            id: self.read(given, None, repository_id_of),
        }
    }

    fn scope(&mut self, settings: &Settings) -> Scope {
        if settings.all_projects {
            return Scope::All;
        }
        let flags = (!settings.projects.is_empty()).then(|| settings.projects.join(","));
        let given = Given::new("--project", &flags, "COFFERDAM_PROJECTS");
        let listed = self.read(given, Scope::Own, projects_of);
        if flags.is_some() {
            return listed;
        }
        match (self.switch("COFFERDAM_ALL_PROJECTS"), &listed) {
            (false, _) => listed,
            (true, Scope::Own) => Scope::All,
            (true, _) => {
                self.problem(
                    "COFFERDAM_ALL_PROJECTS",
                    "is `true`, but COFFERDAM_PROJECTS is set too".to_owned(),
                    "remove one of them".to_owned(),
                );
                listed
            }
        }
    }

    fn patterns(&mut self, variable: &'static str) -> Vec<TargetPattern> {
        let given = Given::new(variable, &None, variable);
        self.read(given, Vec::new(), patterns_of)
    }

    fn switch(&mut self, variable: &'static str) -> bool {
        let given = Given::new(variable, &None, variable);
        self.read(given, false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(BadSetting::new(
                format!("is `{text}`"),
                "write `true` or `false`",
            )),
        })
    }

    fn variable(&mut self, name: &'static str) -> Option<String> {
        let value = self.environment.get(name);
        self.good(name, value)?
    }

    fn file(&mut self, setting: &'static str, path: &Path) -> Option<String> {
        let content = self.environment.file(path);
        self.good(setting, content)
    }

    /// A variable, or the content of the file that another one names; and which of them it was.
    fn variable_or_file(
        &mut self,
        name: &'static str,
        file: &'static str,
    ) -> Option<(&'static str, String)> {
        match (self.variable(name), self.variable(file)) {
            (Some(_), Some(_)) => {
                self.problem(
                    file,
                    format!("is set together with {name}"),
                    "remove one of them".to_owned(),
                );
                None
            }
            (Some(value), None) => Some((name, value)),
            (None, Some(path)) => Some((file, self.file(file, path.as_ref())?)),
            (None, None) => None,
        }
    }

    fn problem(&mut self, setting: &'static str, what: String, hint: String) {
        self.problems.push(ConfigProblem {
            setting,
            what,
            hint,
        });
    }
}

fn repository_id_of(text: &str) -> Result<Option<String>, BadSetting> {
    match text.trim() {
        "" => Err(BadSetting::new(
            "is empty",
            "set it to the `repository` in the repository's cofferdam.json",
        )),
        id => Ok(Some(id.to_owned())),
    }
}

fn places_of(
    text: &str,
    repository: &RepositoryUrl,
    working_directory: &Path,
) -> Result<Vec<RepositoryUrl>, BadSetting> {
    let mut places: Vec<RepositoryUrl> = Vec::new();
    for text in text.split([',', '\n']).map(str::trim) {
        let place = RepositoryUrl::parse(text, working_directory)?;
        if place == *repository {
            return Err(BadSetting::new(
                "is the repository itself",
                "give another place, preferably on another machine",
            ));
        }
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

fn projects_of(text: &str) -> Result<Scope, BadSetting> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(BadSetting::new(
                format!("is `{}`, which lacks a project name", text.escape_debug()),
                "write project names separated by commas; `docker compose ls` lists them",
            ));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(Scope::Projects(names))
}

/// The certificates are those that `docker` would use.
fn managers_of(text: &str, environment: &Environment) -> Result<Vec<Endpoint>, BadSetting> {
    let variable = |name: &str| environment.get(name).ok().flatten();
    let endpoint = |text: &str| {
        Endpoint::parse(text, variable).map_err(|BadEndpoint { text, reason }| {
            BadSetting::new(format!("contains `{}`", text.escape_debug()), reason)
        })
    };
    text.split(',').map(str::trim).map(endpoint).collect()
}

fn status_directory_of(
    text: &str,
    working_directory: &Path,
) -> Result<Option<PathBuf>, BadSetting> {
    if text.is_empty() || text.contains("://") {
        let what = format!("is `{}`", text.escape_debug());
        return Err(BadSetting::new(what, "give the path of a directory"));
    }
    Ok(Some(working_directory.join(text)))
}

fn patterns_of(text: &str) -> Result<Vec<TargetPattern>, BadSetting> {
    let parsed = |text: &str| {
        text.parse().map_err(|bad: BadTargetPattern| {
            let what = format!("contains `{}`", text.escape_debug());
            BadSetting::new(what, bad.to_string())
        })
    };
    text.split(',').map(str::trim).map(parsed).collect()
}

fn compression_of(text: &str) -> Result<Compression, BadSetting> {
    text.parse().map_err(|_| {
        let name = text.split(':').next().unwrap_or_default();
        let meant = nearest_word(name, ["zstd", "gzip", "none"]);
        let meant = meant.map(|near| format!(" (did you mean `{near}`?)"));
        BadSetting::new(
            format!("is `{}`", text.escape_debug()),
            format!(
                "use `zstd[:1-19]`, `gzip[:1-9]` or `none`{}",
                meant.unwrap_or_default()
            ),
        )
    })
}

fn keep_of(text: &str) -> Result<Option<KeepPolicy>, BadSetting> {
    let policy = text.parse();
    policy
        .map(Some)
        .map_err(|BadKeepPolicy { what, hint }| BadSetting::new(what, hint))
}

fn schedule_of(text: &str) -> Result<Schedule, BadSetting> {
    text.parse()
        .map_err(|BadSchedule { what, hint }| BadSetting::new(what, hint))
}

/// Longer than a day, it would hide a backup that is missing.
fn jitter_of(text: &str) -> Result<Duration, BadSetting> {
    const MAX_JITTER: Duration = Duration::from_secs(24 * 60 * 60);
    match humantime::parse_duration(text) {
        Ok(jitter) if jitter <= MAX_JITTER => Ok(jitter),
        _ => Err(BadSetting::new(
            format!("is `{}`", text.escape_debug()),
            "give a time of up to a day, as `10m`",
        )),
    }
}

fn warnings(environment: &Environment, keep: Option<&KeepPolicy>) -> Vec<String> {
    let mut warnings = environment.warnings();
    warnings.extend(
        keep.and_then(KeepPolicy::idle_rule)
            .map(|idle| format!("--keep: {idle}")),
    );
    warnings
}

/// A name of the time zone database, or a POSIX rule such as `CET-1CEST,M3.5.0,M10.5.0/3`; a `:` before it, as some
/// systems write it, means nothing.
fn time_zone_of(text: &str) -> Result<TimeZone, BadSetting> {
    let name = text.strip_prefix(':').unwrap_or(text);
    TimeZone::get(name)
        .or_else(|_| TimeZone::posix(name))
        .map_err(|_| {
            BadSetting::new(
                format!("is `{}`, which is not a time zone", text.escape_debug()),
                "give a name such as `UTC` or `Europe/Berlin`",
            )
        })
}

#[cfg(test)]
mod tests;
