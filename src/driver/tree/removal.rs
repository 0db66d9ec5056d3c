//! An agent in a container removes what the archive API cannot.

use std::fmt;

use tracing::warn;

use super::TreeDriver;
use super::site::Site;
use crate::agent::inside::{Hands, Visit, VisitError, Visitor};
use crate::agent::job::Removed;
use crate::driver::DriverError;
use crate::target::TargetId;
use crate::tree::TreePath;

/// Why nothing can be removed.
pub(super) enum Powerless {
    /// The tree is not in the container's own layer, and ought to be a helper's.
    NoHelper(String),
    NotRunning,
    NoAgent(String),
}

impl fmt::Display for Powerless {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHelper(why) => write!(
                formatter,
                "no helper container can be used ({why}); allow cofferdam to create containers"
            ),
            Self::NotRunning => formatter.write_str(
                "the container is stopped meanwhile; restore while it runs, without `restore` in its `cofferdam.stop`",
            ),
            Self::NoAgent(why) => write!(
                formatter,
                "cofferdam's agent cannot run in the container ({why}); give it a writable /tmp where programs can run"
            ),
        }
    }
}

impl TreeDriver {
    /// Removes entries below `directory`, each directory after what it holds. What the system did not let go is told.
    pub(super) async fn remove(
        &self,
        target: &TargetId,
        site: &Site,
        directory: &str,
        paths: &[TreePath],
    ) -> Result<Result<(), Powerless>, DriverError> {
        if let Site::Mount(_) = site {
            let why = self.no_helpers.clone().unwrap_or_default();
            return Ok(Err(Powerless::NoHelper(why)));
        }
        // It may have been stopped since it was discovered.
        let container = self.engine.inspect(&self.container.id).await?;
        if !container.is_running() {
            return Ok(Err(Powerless::NotRunning));
        }
        let begun = Visit::begin(Visitor {
            engine: &self.engine,
            container: &container,
            user: Some("0"),
            scratch: None,
            run: &self.helpers.run,
            program: &self.run.program,
            removals: &self.helpers.removals,
        });
        let visit = match begun.await {
            Ok(visit) => visit,
            // A proxy may refuse execs, and let archives through.
            Err(error) => return Ok(Err(Powerless::NoAgent(error.to_string()))),
        };
        let removed = match visit.hands() {
            Hands::Clients { why } => Ok(Err(Powerless::NoAgent(why.clone()))),
            Hands::Agent(_) => self
                .remove_in(&visit, directory, paths)
                .await
                .map(|removed| {
                    tell(target, &removed);
                    Ok(())
                }),
        };
        if let Err(left) = visit.end().await {
            warn!("{left}");
        }
        removed
    }

    async fn remove_in(
        &self,
        visit: &Visit,
        directory: &str,
        paths: &[TreePath],
    ) -> Result<Removed, DriverError> {
        let within = TreePath::parse(directory.trim_start_matches('/').as_bytes())
            .map_err(|error| DriverError::failed(error.to_string()))?;
        let full: Vec<TreePath> = paths.iter().map(|path| within.join_path(path)).collect();
        let removed = visit.remove_entries(&within, full.iter()).await;
        removed.map_err(|error| match error {
            VisitError::Engine(error) => error.into(),
            other => {
                DriverError::failed(format!("what was not saved could not be removed: {other}"))
            }
        })
    }
}

fn tell(target: &TargetId, removed: &Removed) {
    if removed.kept > 0 {
        warn!(
            target = %target,
            "extras that were not saved stay ({} in all), because they could not be removed: {}",
            removed.kept,
            removed.why.join("; ")
        );
    }
}
