//! `cofferdam health`

use anyhow::anyhow;

use super::context::Context;
use super::error::CommandError;
use crate::daemon;
use crate::exit::Outcome;

pub async fn run(context: &Context) -> Result<Outcome, CommandError> {
    let health = daemon::ask().await.map_err(|error| {
        CommandError::failed(anyhow!(
            "no daemon answers here: {error}; this asks the one that runs in the same container, as \
             `docker exec CONTAINER /cofferdam health`"
        ))
    })?;
    context.print(&health, || health.why.clone())?;
    Ok(if health.healthy {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}
