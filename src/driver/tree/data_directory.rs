//! The data directory of a server: a tree that is only ever put back beside the present one, so that a server can be tried
//! out on it first.

use crate::agent::helper::Helpers;
use crate::driver::tree::{LeftOut, TreeDriver, TreeOrigin, TreeRun, TreeTarget};
use crate::driver::{Driver, DriverError, WayBack};
use crate::engine::Container;
use crate::labels::TreeOptions;
use crate::target::TargetId;

pub struct DataDirectory {
    pub tree: TreeDriver,
    /// Why it cannot be put back, when that is known.
    pub refusal: Option<String>,
}

impl DataDirectory {
    /// `path`: as the container sees it. `exclude`: patterns of what is not worth saving.
    pub async fn prepare(
        helpers: Helpers,
        container: Container,
        id: TargetId,
        path: &str,
        exclude: &[&str],
        run: TreeRun,
    ) -> Result<Self, DriverError> {
        let target = TreeTarget {
            id: id.clone(),
            origin: TreeOrigin::Path(path.to_owned()),
            options: TreeOptions {
                exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
                ..TreeOptions::default()
            },
        };
        let run = TreeRun {
            left_out: LeftOut::Goes,
            ..run
        };
        let mut tree =
            TreeDriver::prepare(helpers, container, vec![target], Vec::new(), run).await?;
        let refusal = match (tree.refusal(&id), tree.way_back(&id)) {
            (Some(why), _) => Some(why.to_owned()),
            (None, WayBack::Staged) => None,
            (None, WayBack::SafetySnapshot) => Some(format!(
                "{path} has to be on a volume or a bind mount, and cofferdam has to be allowed to create containers"
            )),
        };
        // What a dead run has staged is there also where it could not be staged now.
        tree.run.ways.insert(id, WayBack::Staged);
        Ok(Self { tree, refusal })
    }
}
