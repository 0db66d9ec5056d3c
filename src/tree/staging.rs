//! Where a restore puts the new tree before it takes the place of the old one.

/// What stands before the run in the name of a staging directory.
const PREFIX: &[u8] = b".cofferdam-";

/// Whether a name at the root of a mount is one of our own staging directories: those are never packed.
pub fn is_staging_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| !rest.is_empty())
}
