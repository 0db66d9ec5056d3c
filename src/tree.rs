//! File trees: archives of them, their index, and how they are put back. Pure Linux, synchronous, no Docker.
//!
//! - Out: [`walk`] → [`ahead`] → [`pack`] → [`writer`]: a pax archive that GNU tar reads, and an [`index`].
//! - In: [`reader`] → [`unpack`]: strict about the archive, and about where its entries may go.
//! - Restores are [`staging`]: unpacked beside the old tree on the same file system, then [`exchange`]d for it by
//!   renames. Until the exchange begins, everything can be undone; once it has begun, it can be finished by anyone.
//!
//! Every name is looked up in an open directory and no symbolic link is followed, so nothing here reads or writes
//! outside the tree it was given, whatever the names in an archive or the links in a tree are.

#![allow(
    clippy::disallowed_methods,
    reason = "changes the trees that it restores"
)]

pub mod acl;
pub mod ahead;
pub mod attributes;
pub mod change;
pub mod entry;
pub mod error;
pub mod exchange;
pub mod exclude;
pub mod fit;
pub mod fs;
mod ground;
pub mod header;
pub mod index;
pub mod inventory;
pub mod live;
pub mod network;
pub mod pack;
pub mod path;
pub mod pax;
pub mod reader;
pub mod remove;
pub mod rewrite;
pub mod room;
pub mod sparse;
pub mod staging;
pub mod stays;
mod trail;
pub mod unpack;
pub mod walk;
pub mod writer;

pub use error::TreeError;
pub use exclude::Excludes;
pub use index::{IndexEntry, IndexError, IndexKind, IndexReader};
pub use path::TreePath;

#[cfg(test)]
#[path = "../tests/support/odd_tree.rs"]
mod odd_tree;
