//! File trees: archives of them, their index, and how they are put back. Pure Linux, synchronous, no Docker.
//!
//! - Out: [`walk`] → [`ahead`] → [`pack`] → [`writer`]: a pax archive that GNU tar reads, and an [`index`].
//! - In: [`reader`] → [`unpack`]: strict about the archive, and about where its entries may go.
//! - Restores are [`staging`]: unpacked beside the old tree on the same file system, then [`exchange`]d for it by
//!   renames. Until the exchange begins, everything can be undone; once it has begun, it can be finished by anyone.
//!
//! Every name is looked up in an open directory and no symbolic link is followed, so nothing here reads or writes
//! outside the tree it was given, whatever the names in an archive or the links in a tree are.

pub(crate) mod acl;
pub mod ahead;
pub(crate) mod attributes;
pub(crate) mod change;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod exchange;
pub(crate) mod exclude;
pub(crate) mod fit;
pub(crate) mod fs;
mod ground;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod inventory;
pub(crate) mod live;
pub(crate) mod network;
pub mod pack;
pub(crate) mod path;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod remove;
pub(crate) mod rewrite;
pub(crate) mod room;
pub(crate) mod sparse;
pub(crate) mod staging;
pub(crate) mod stays;
mod trail;
pub mod unpack;
pub(crate) mod walk;
pub(crate) mod writer;

pub use error::TreeError;
pub use exclude::Excludes;
pub use index::{IndexEntry, IndexError, IndexKind, IndexReader};
pub use path::TreePath;

#[cfg(test)]
#[path = "../tests/support/odd_tree.rs"]
mod odd_tree;
