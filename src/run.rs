//! What a command does to a project and its repositories: one function each, and what they share.
//!
//! - `backup`, `restore`: execute a plan; `capture` is what both save with, `undo` how what was loaded is taken back
//! - `recover`: finishes what a dead run began; `lock`: takes a project for a run
//! - `copy`, `prune`: snapshots into other places, and away
//! - `session`: what every run needs; `drivers`: those of a project's targets
//! - `places`: which repository is meant, and whether it may be made
//! - `progress`: bars on a terminal, log lines elsewhere

pub(crate) mod backup;
pub(crate) mod capture;
pub(crate) mod copy;
pub(crate) mod drivers;
pub(crate) mod lock;
pub(crate) mod places;
pub mod progress;
pub(crate) mod prune;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod session;
mod undo;
