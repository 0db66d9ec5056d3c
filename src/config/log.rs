//! What is logged, and how.
//!
//! Only Cofferdam's own modules can be turned up: at `debug`, libraries print the bodies of requests, and in the body of an
//! exec stands the environment of a database's client, with its password.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::BadSetting;
use crate::text::nearest_word;

const OWN: &str = env!("CARGO_CRATE_NAME");
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

#[derive(Clone, Debug)]
pub struct LogSettings {
    pub filter: Targets,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn default_filter() -> Targets {
    with_level(Targets::new(), LevelFilter::INFO)
}

/// Reads `debug`, or `info,cofferdam::engine=trace`.
pub(super) fn filter_of(text: &str) -> Result<Targets, BadSetting> {
    let mut filter = default_filter();
    for part in text.split(',').map(str::trim) {
        filter = match part.split_once('=') {
            None => with_level(filter, level_of(part)?),
            Some((module, level)) => {
                let (module, level) = (module.trim(), level_of(level.trim())?);
                ensure_own_module(module)?;
                filter.with_target(module, level)
            }
        };
    }
    Ok(filter)
}

pub(super) fn format_of(text: &str) -> Result<LogFormat, BadSetting> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(BadSetting::new(
            format!("is `{}`", text.escape_debug()),
            "use `text` or `json`",
        )),
    }
}

fn with_level(filter: Targets, level: LevelFilter) -> Targets {
    filter
        .with_default(level.min(LevelFilter::WARN))
        .with_target(OWN, level)
}

fn level_of(text: &str) -> Result<LevelFilter, BadSetting> {
    let found = LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, level)) = found {
        return Ok(*level);
    }
    let meant = nearest_word(text, LEVELS.map(|(name, _)| name));
    let meant = meant.map(|near| format!("did you mean `{near}`? otherwise "));
    Err(BadSetting::new(
        format!("has the unknown level `{}`", text.escape_debug()),
        format!(
            "{}use `off`, `error`, `warn`, `info`, `debug` or `trace`, also as `{OWN}::engine=debug`",
            meant.unwrap_or_default()
        ),
    ))
}

fn ensure_own_module(module: &str) -> Result<(), BadSetting> {
    match module.strip_prefix(OWN) {
        Some(rest) if rest.is_empty() || rest.starts_with("::") => Ok(()),
        _ => Err(BadSetting::new(
            format!("names the module `{}`", module.escape_debug()),
            format!(
                "use `{OWN}` or a module below it, as `{OWN}::engine=debug`: other modules would log secrets"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_are_for_our_own_modules() {
        for (text, module, level, expected) in [
            ("info", "cofferdam::engine", Level::INFO, true),
            ("info", "cofferdam::engine", Level::DEBUG, false),
            ("trace", "cofferdam", Level::TRACE, true),
            ("trace", "bollard::docker", Level::DEBUG, false),
            ("trace", "hyper", Level::WARN, true),
            ("error", "hyper", Level::WARN, false),
            ("off", "cofferdam", Level::ERROR, false),
            ("DEBUG", "cofferdam", Level::DEBUG, true),
            (
                "warn,cofferdam::engine=trace",
                "cofferdam::engine::exec",
                Level::TRACE,
                true,
            ),
            (
                "warn,cofferdam::engine=trace",
                "cofferdam::hold",
                Level::INFO,
                false,
            ),
            (
                "cofferdam::hold=debug",
                "cofferdam::plan",
                Level::INFO,
                true,
            ),
        ] {
            let filter = filter_of(text).unwrap();
            assert_eq!(
                filter.would_enable(module, &level),
                expected,
                "{text} {module} {level}"
            );
        }
    }

    #[test]
    fn libraries_cannot_be_turned_up() {
        for text in [
            "bollard=trace",
            "hyper=debug",
            "cofferdamage=info",
            "=info",
            "cofferdam=loud",
            "loud",
            "",
            "info,,debug",
        ] {
            assert!(filter_of(text).is_err(), "{text}");
        }
    }
}
