//! A container of a target's own image that sees one mount and idles: a place to try out what was restored there, with the
//! target's own programs.

use super::{HelperContainer, HelperError, HelperView, Helpers};
use crate::agent::task::MOUNT;
use crate::engine::ours::TRIAL_NAME;
use crate::engine::{EngineError, ExecOutput, ExecSpec, HelperMount, HelperSpec};

/// Removes its container when it is dropped, with all that runs in it.
pub struct StandIn(HelperContainer);

impl Helpers {
    /// Starts one without a network.
    pub async fn stand_in(&self, image: &str, view: HelperView) -> Result<StandIn, HelperError> {
        let spec = HelperSpec {
            name: Some(self.name(TRIAL_NAME)),
            image: image.to_owned(),
            argv: ["sleep", "infinity"].map(str::to_owned).to_vec(),
            labels: self.labels(),
            mounts: vec![HelperMount {
                source: view.source,
                destination: MOUNT.to_owned(),
                read_only: false,
            }],
            network: "none".to_owned(),
            ..HelperSpec::default()
        };
        let container = self.guard(self.engine.create_helper(&spec).await?);
        self.engine.start(&container.id).await?;
        Ok(StandIn(container))
    }
}

impl StandIn {
    /// How it sees what lies at `path` of the mount.
    pub fn path_of(&self, path: &str) -> String {
        format!("{MOUNT}/{path}")
    }

    pub async fn exec(&self, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        self.0.engine.exec(&self.0.id, spec).await
    }
}
