//! What was loaded beside the old data has to be there when it takes its place.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::DriverError;
use crate::target::TargetId;

/// What this process has loaded beside the old data. One that recovers another's run has loaded nothing: where it finds nothing
/// that waits, all has been done before.
#[derive(Debug, Default)]
pub struct Loaded(Mutex<BTreeSet<TargetId>>);

impl Loaded {
    pub fn note(&self, target: &TargetId) {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(target.clone());
    }

    /// After a commit. The first one of what was loaded must have found it.
    pub fn ensure_was_found(&self, target: &TargetId, was_found: bool) -> Result<(), DriverError> {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = loaded.remove(target);
        if is_first && !was_found {
            return Err(DriverError::LoadedIsGone);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_commit_of_what_was_loaded_must_find_it() {
        let target: TargetId = "app/sqlite/a.db".parse().unwrap();
        let other: TargetId = "app/sqlite/b.db".parse().unwrap();
        let loaded = Loaded::default();
        assert!(loaded.ensure_was_found(&target, false).is_ok());
        loaded.note(&target);
        assert!(loaded.ensure_was_found(&other, false).is_ok());
        assert!(loaded.ensure_was_found(&target, false).is_err());
        loaded.note(&target);
        assert!(loaded.ensure_was_found(&target, true).is_ok());
        assert!(loaded.ensure_was_found(&target, false).is_ok());
    }
}
