//! Trees of real containers, saved and put back by the driver.

// Every test target compiles this anew and uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cofferdam::agent::helper::{HELPER_PROJECT_LABEL, Helpers, Probed};
use cofferdam::agent::inside::Removals;
use cofferdam::driver::tree::{Moment, TreeDriver, TreeOrigin, TreeRun, TreeTarget};
use cofferdam::driver::{Captured, Driver};
use cofferdam::engine::Engine;
use cofferdam::labels::{TreeOptions, TreeRestore};
use cofferdam::manifest::{Compression, ContainerRecord, Facts, StreamDigest, TargetRecord};
use cofferdam::target::{DriverKind, RunId, TargetId};
use jiff::Timestamp;

use super::artifacts::Artifacts;
use super::{TestContainer, TestVolume, docker, engine, program, unique};

/// One project's runs on a real engine.
pub struct Stage {
    pub engine: Engine,
    pub image: String,
    pub project: String,
    pub artifacts: Artifacts,
}

impl Stage {
    pub async fn new() -> Self {
        let engine = engine().await;
        let binary = Path::new(program());
        Self {
            image: engine.agent_image_of(binary).await.unwrap(),
            engine,
            project: unique("project"),
            artifacts: Artifacts::new(),
        }
    }

    pub fn helpers(&self, run: &RunId) -> Helpers {
        Helpers {
            engine: self.engine.clone(),
            image: self.image.clone(),
            run: run.clone(),
            project: self.project.clone(),
            removals: Removals::default(),
            probed: Probed::default(),
        }
    }

    pub async fn driver(
        &self,
        container: &TestContainer,
        target: &TreeTarget,
        run: TreeRun,
    ) -> TreeDriver {
        let id = RunId::generate(Timestamp::now());
        self.driver_of(&id, container, target, run).await
    }

    pub async fn driver_of(
        &self,
        id: &RunId,
        container: &TestContainer,
        target: &TreeTarget,
        run: TreeRun,
    ) -> TreeDriver {
        let container = self.engine.inspect(&container.id).await.unwrap();
        let run = TreeRun {
            program: PathBuf::from(program()),
            ..run
        };
        let targets = vec![target.clone()];
        TreeDriver::prepare(self.helpers(id), container, targets, Vec::new(), run)
            .await
            .unwrap()
    }

    pub async fn dump(&self, container: &TestContainer, target: &TreeTarget) -> Captured {
        let driver = self.driver(container, target, TreeRun::default()).await;
        driver.dump(&target.id, &self.artifacts).await.unwrap()
    }

    pub async fn dump_error(&self, container: &TestContainer, target: &TreeTarget) -> String {
        let driver = self.driver(container, target, TreeRun::default()).await;
        let failed = driver.dump(&target.id, &self.artifacts).await;
        failed.unwrap_err().to_string()
    }

    /// Restores and gives up the old data.
    pub async fn restore(
        &self,
        container: &TestContainer,
        target: &TreeTarget,
        captured: &Captured,
        run: TreeRun,
    ) {
        let driver = self.driver(container, target, restore(run)).await;
        let record = record(target, captured);
        driver.load(&record, &self.artifacts).await.unwrap();
        driver.check(&record).await.unwrap();
        driver.commit(&target.id).await.unwrap();
    }

    /// What a load says that fails.
    pub async fn load_error(
        &self,
        container: &TestContainer,
        target: &TreeTarget,
        captured: &Captured,
    ) -> String {
        let run = restore(TreeRun::default());
        let driver = self.driver(container, target, run).await;
        let record = record(target, captured);
        let failed = driver.load(&record, &self.artifacts).await;
        failed.unwrap_err().to_string()
    }

    /// Puts another archive into the place of the layer, with digests that fit.
    pub fn forge(&self, captured: &mut Captured, archive: &[u8]) {
        let digest = StreamDigest {
            bytes: archive.len() as u64,
            sha256: sha256(archive),
        };
        let layer = &mut captured.artifacts[0];
        std::fs::write(self.artifacts.path_of(layer), archive).unwrap();
        (layer.plain, layer.stored) = (digest.clone(), digest);
        layer.compression = Compression::None;
    }

    /// Helpers that are still there after a while: those that were dropped are removed beside what goes on.
    pub fn helpers_left(&self) -> String {
        let filter = format!("label={HELPER_PROJECT_LABEL}={}", self.project);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let left = docker(["ps", "-aq", "--filter", &filter]);
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

pub fn restore(run: TreeRun) -> TreeRun {
    TreeRun {
        moment: Moment::Restore,
        ..run
    }
}

pub fn record(target: &TreeTarget, captured: &Captured) -> TargetRecord {
    TargetRecord {
        target: target.id.clone(),
        container: ContainerRecord::default(),
        transfer: captured.transfer,
        facts: captured.facts.clone(),
        artifacts: captured.artifacts.clone(),
        warnings: captured.warnings.clone(),
    }
}

pub fn volume_target(volume: &TestVolume, destination: &str) -> TreeTarget {
    TreeTarget {
        id: TargetId::new("app", DriverKind::Volume, "data"),
        origin: TreeOrigin::Volume {
            volume: volume.name.clone(),
            destination: destination.to_owned(),
        },
        options: TreeOptions::default(),
    }
}

pub fn files_target(path: &str) -> TreeTarget {
    TreeTarget {
        id: TargetId::new("app", DriverKind::Files, "files"),
        origin: TreeOrigin::Path(path.to_owned()),
        options: TreeOptions::default(),
    }
}

pub fn with_mode(target: TreeTarget, mode: TreeRestore) -> TreeTarget {
    TreeTarget {
        options: TreeOptions {
            restore: mode,
            ..target.options
        },
        ..target
    }
}

pub fn mountpoint(volume: &TestVolume) -> PathBuf {
    let format = "{{.Mountpoint}}";
    PathBuf::from(docker([
        "volume",
        "inspect",
        "--format",
        format,
        &volume.name,
    ]))
}

pub fn with_volume(volume: &TestVolume, destination: &str) -> TestContainer {
    let mount = format!("{}:{destination}", volume.name);
    TestContainer::idle_with(&["-v", &mount])
}

pub fn facts(captured: &Captured) -> cofferdam::manifest::TreeFacts {
    match &captured.facts {
        Facts::Volume(facts) | Facts::Files(facts) => facts.clone(),
        other => panic!("not a tree: {other:?}"),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};

    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
