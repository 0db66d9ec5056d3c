use crate::driver::*;
use crate::engine::*;
use crate::target::*;
#[derive(Clone, Debug, Default)]
pub struct TreeOverrides {
    pub keep_old: bool,
    pub in_place: bool,
    pub paths: Vec<String>,
}
pub struct TreeDriver;
impl TreeDriver {
    pub fn new(
        _: Engine,
        _: String,
        _: &crate::discover::Service,
        _: RunId,
        _: TreeOverrides,
    ) -> Self {
        Self
    }
    pub fn targets(&self) -> Vec<crate::plan::backup::PlannedTarget> {
        Vec::new()
    }
}
#[async_trait]
impl Driver for TreeDriver {
    async fn dump(&self, _: &TargetId, _: &dyn ArtifactSink) -> Result<Captured, DriverError> {
        todo!()
    }
    fn describe_restore(&self, _: &TargetRecord) -> String {
        todo!()
    }
    fn way_back(&self, _: &TargetId) -> WayBack {
        todo!()
    }
    async fn load(&self, _: &TargetRecord, _: &dyn ArtifactSource) -> Result<(), DriverError> {
        todo!()
    }
    async fn check(&self, _: &TargetRecord) -> Result<(), DriverError> {
        todo!()
    }
    async fn commit(&self, _: &TargetId) -> Result<(), DriverError> {
        todo!()
    }
    async fn rollback(&self, _: &TargetId) -> Result<(), DriverError> {
        todo!()
    }
}
