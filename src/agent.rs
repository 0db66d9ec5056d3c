//! What runs elsewhere: in a helper container beside a volume, or inside a target's own container.
//!
//! The agent is this same binary. Its kind is its argument (`cofferdam agent dump`), its job a JSON document in the
//! environment variable [`JOB`], its report one JSON document: on standard output when it runs inside a target, as the
//! last frame of the connection when it runs in a helper. A report that is absent or does not parse is a failure.
//!
//! Inside a target: `errand` (dispatch), `job` (what is asked and answered), `place` (the agent's directory), `dump` and
//! `load` (work with the database's own client, `client`). On cofferdam's side: `inside`.

mod client;
mod dump;
pub mod errand;
pub mod inside;
pub mod job;
mod load;
mod place;

/// The environment variable that holds the job. It never holds a secret of the user's.
pub const JOB: &str = "COFFERDAM_AGENT_JOB";

pub mod alive;
