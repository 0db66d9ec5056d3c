//! What a project's snapshots say of its targets. Pure, but for the reading of manifests.
//!
//! - `freshness`: whether each target has a recent good copy
//! - `retention`: which snapshots stay
//! - `shrinkage`: what has become far smaller than it was
//! - `select`: which snapshot, and which targets, a command means; `selectors`: how that is written

pub(crate) mod freshness;
pub(crate) mod retention;
pub(crate) mod select;
pub(crate) mod selectors;
pub(crate) mod shrinkage;
