//! `cofferdam show`

use super::context::Context;
use super::error::CommandError;
use crate::cli::ShowArgs;
use crate::exit::Outcome;
use crate::report::render_snapshot;

pub async fn run(context: &Context, args: ShowArgs) -> Result<Outcome, CommandError> {
    let manifest = context
        .manifest(&*context.repository()?, &args.snapshot)
        .await?;
    context.print(&manifest, || render_snapshot(&manifest, &context.view()))?;
    Ok(Outcome::Done)
}
