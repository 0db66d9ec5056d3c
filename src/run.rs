//! What a command does to a project and its repositories: one function each, and what they share.
//!
//! - `backup`, `restore`: execute a plan; `capture` is what both save with, `undo` how what was loaded is taken back
//! - `recover`: finishes what a dead run began; `lock`: takes a project for a run
//! - `copy`, `prune`: snapshots into other places, and away
//! - `session`: what every run needs; `drivers`: those of a project's targets
//! - `places`: which repository is meant, and whether it may be made
//! - `progress`: bars on a terminal, log lines elsewhere

pub mod backup;
pub mod capture;
pub mod copy;
pub mod drivers;
pub mod lock;
pub mod places;
pub mod progress;
pub mod prune;
pub mod recover;
pub mod restore;
pub mod session;
mod undo;
