//! Cofferdam backs up and restores container stacks, driven by labels.
//!
//! # Data flow
//!
//! ```text
//! backup   survey ─▶ plan ─▶ hooks ─▶ hold ─▶ capture ─▶ release ─▶ manifest ─▶ prune ─▶ report
//! restore  manifest ─▶ plan ─▶ hold ─▶ load and verify all ─▶ check all ─▶ give up the old ─▶ release ─▶ hooks ─▶ report
//! ```
//!
//! A backup reads the labels of a project's containers ([`labels`], [`stack`]), plans as a value
//! ([`plan`]), holds what must not write meanwhile ([`hold`]), lets each target's driver ([`driver`]) stream into the
//! repository ([`repository`]) through digests, compression and encryption ([`pipe`]), and writes the manifest last ([`manifest`]).
//! A restore goes the other way, and gives up nothing old before everything new is loaded and checked ([`restore`],
//! [`recover`]).
//!
//! # Layers, from the outside in
//!
//! 1. [`cli`], [`config`], [`commands`], [`report`]: the command line, and what people and programs read; [`daemon`], which
//!    runs commands by itself, and [`serve`], which shows what came of them
//! 2. [`backup`], [`restore`], [`recover`], [`retention`] and [`prune`], [`shrinkage`], [`freshness`], [`snapshot`],
//!    [`copy`] with [`session`], [`places`], [`targets`], [`select`]
//! 3. [`plan`], [`hold`], [`driver`], [`repository`], [`notify`]
//! 4. [`agent`] (what runs elsewhere), [`engine`] (all that names bollard), [`tree`], [`pipe`]
//! 5. [`manifest`], [`labels`], [`keep`], [`schedule`], [`target`], [`secret`], [`trust`], [`text`], [`exit`]
//!
//! A module imports from its own layer or inwards. What a linter can hold of that stands in `clippy.toml`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod agent;
pub mod amounts;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod engine;
pub mod exit;
pub mod history;
pub mod hold;
pub mod keep;
pub mod labels;
pub mod manifest;
pub mod notify;
pub mod pipe;
pub mod plan;
pub mod report;
pub mod repository;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod snapshot;
pub mod sqlite;
pub mod stack;
pub mod target;
pub mod text;
pub mod tree;
pub mod trust;
