//! What a run is going to do, as values: computed first, shown by `--dry-run`, then executed as they are.

pub mod order;
