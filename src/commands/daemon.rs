//! `cofferdam daemon`

use super::context::Context;
use super::error::CommandError;
use crate::daemon;
use crate::exit::Outcome;

pub async fn run(context: &Context) -> Result<Outcome, CommandError> {
    daemon::run(context).await
}
