//! Cofferdam backs up and restores container stacks, driven by labels.
//!
//! # Data flow
//!
//! ```text
//! backup   survey ─▶ plan ─▶ hooks ─▶ hold ─▶ capture ─▶ release ─▶ manifest ─▶ prune ─▶ report
//! restore  manifest ─▶ plan ─▶ hold ─▶ load and verify all ─▶ check all ─▶ give up the old ─▶ release ─▶ hooks ─▶ report
//! ```
//!
//! A backup reads the labels of a project's containers ([`labels`], [`stack`]), plans as a value ([`plan`]), holds what must
//! not write meanwhile ([`hold`]), lets each target's driver ([`driver`]) stream into the repository ([`repository`]) through
//! digests, compression and encryption ([`pipe`]), and writes the manifest last ([`manifest`]). A restore goes the other way,
//! and gives up nothing old before everything new is loaded and checked ([`run`]).
//!
//! # Layers
//!
//! Below, from the outside in. A module uses only modules of layers below its own, which `tests/architecture.rs` holds. What
//! else a linter can hold stands in `clippy.toml`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

// The service that runs by itself, and what it shows.
pub mod daemon;

// What is typed.
pub mod commands;

// What people and programs read.
pub mod report;

// Flags, variables and files, resolved.
pub mod config;

// What is done to a project and its repositories.
pub mod run;

// What would be done.
mod plan;

// What stands still meanwhile, and comes back.
mod hold;

// What is there, and what is asked for.
pub mod cli;
mod stack;

// What can be saved, and what was.
pub mod driver;
mod history;

// What is handed to where it is needed.
pub mod agent;
pub mod snapshot;

// Where things are.
pub mod engine;
pub mod repository;
pub mod tree;

// What things are made of.
pub mod labels;
pub mod pipe;
mod sqlite;

// What things are called, and when they are due.
mod keep;
pub mod manifest;
pub mod notify;
mod schedule;

// The ground.
mod amounts;
pub mod exit;
pub mod secret;
pub mod target;
mod text;
mod trust;
