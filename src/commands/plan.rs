//! `cofferdam plan`

use super::backup::Runs;
use super::context::Context;
use super::error::CommandError;
use super::prepare::Wanted;
use crate::cli::PlanArgs;
use crate::exit::Outcome;

pub async fn run(context: &Context, args: PlanArgs) -> Result<Outcome, CommandError> {
    let mut runs = Runs::plan(context, Wanted::default()).await?;
    if !args.no_audit {
        runs.audit(context).await;
    }
    runs.show(context)
}
