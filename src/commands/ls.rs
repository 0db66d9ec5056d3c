//! `cofferdam ls`
use super::context::Context;
use super::error::CommandError;
use crate::cli::LsArgs;
use crate::exit::Outcome;
pub async fn run(_: &Context, _: LsArgs) -> Result<Outcome, CommandError> {
    todo!()
}
