//! What people read. Everything here but the log is pure: values in, text out.
//!
//! Tables and pages go to standard output, logs to standard error. Whatever comes from a manifest is made
//! harmless before it is shown: a repository may have been written by somebody else.
//!
//! - `layout`: tables and wrapped fields
//! - `list`, `show`: snapshots
//! - `freshness`, `status`: what a check has found, on the terminal and in files
//! - `notice`: what has happened, for those who are told of it
//! - `prune`: what retention does
//! - `logging`: the log itself; `runlog`: the end of it that is kept in memory

pub(crate) mod files;
pub(crate) mod freshness;
pub(crate) mod layout;
mod list;
pub mod logging;
pub(crate) mod notice;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod prune;
pub mod runlog;
mod show;
pub(crate) mod status;

pub use list::{Listed, render_snapshots};
pub use show::render_snapshot;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::amounts;
use crate::manifest::Shrunken;

/// From where, and on what, somebody looks.
#[derive(Clone, Debug)]
pub struct View {
    /// Columns of the terminal; `None`: not a terminal, and nothing is wrapped.
    pub width: Option<u16>,
    pub now: Timestamp,
    pub time_zone: TimeZone,
}

/// That a target has become far smaller.
pub fn shrinkage(shrunken: &Shrunken) -> String {
    format!(
        "{} is {}, down from {} in {}",
        shrunken.target,
        amounts::size(shrunken.bytes),
        amounts::size(shrunken.bytes_before),
        shrunken.before
    )
}

impl View {
    /// Of somebody who reads standard output now.
    pub fn of_stdout(time_zone: TimeZone) -> Self {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        Self {
            width: size.map(|(width, _)| width.0),
            now: Timestamp::now(),
            time_zone,
        }
    }

    /// `2026-11-21 03:00:00 CET`
    pub fn time(&self, timestamp: Timestamp) -> String {
        let zoned = timestamp.to_zoned(self.time_zone.clone());
        zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// `5 hours ago`
    pub fn age(&self, timestamp: Timestamp) -> String {
        amounts::age(timestamp, self.now)
    }
}

#[cfg(test)]
mod tests;
