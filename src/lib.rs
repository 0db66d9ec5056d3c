//! Cofferdam backs up and restores container stacks, driven by labels.

pub mod agent;
pub mod cli;
pub mod config;
pub mod discover;
pub mod driver;
pub mod engine;
pub mod exit;
pub mod export;
pub mod hold;
pub mod labels;
pub mod manifest;
pub mod pipe;
pub mod plan;
pub mod report;
pub mod repository;
pub mod secret;
pub mod select;
pub mod target;
pub mod text;
pub mod tree;
pub mod verify;
