//! `cofferdam plan`

use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use super::prepare::Wanted;
use crate::exit::Outcome;
use crate::report;
use crate::target::RunId;

pub async fn run(context: &Context) -> Result<Outcome, CommandError> {
    let engine = context.engine().await?;
    let surveys = context.surveys(&engine).await?;
    let session = context.session(&engine).await?;
    let mut plans = Vec::new();
    for survey in &surveys {
        let run = RunId::generate(Timestamp::now());
        let prepared = context
            .prepare_backup(&session, survey, Wanted::default(), &run)
            .await?;
        plans.push(prepared.plan);
    }
    context.print(&plans, || report::plan::backups(&plans, &context.view()))?;
    let reachable = plans.iter().all(|plan| plan.unreachable.is_empty());
    Ok(if reachable {
        Outcome::Done
    } else {
        Outcome::Partial
    })
}
