//! Whether a snapshot is what its manifest says.
//!
//! Every problem is collected: one damaged object says nothing about the next. That something is damaged is a finding of
//! the report; an error is only what keeps from looking at all.

mod part;
mod problem;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use part::{BadPart, Part, PartChoice};
pub use problem::{Fault, Problem};

use crate::manifest::{Artifact, Manifest, ObjectPath};
use crate::pipe::Progress;
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::target::TargetId;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Every object is there and has its length.
    Sizes,
    /// Every object is read: the digest as stored, every frame and checksum of its compression, the digest of its
    /// content, and every line of an index.
    Read,
    /// The objects of one part are read, and the others looked at as with [`Depth::Sizes`].
    ReadPart(Part),
}

impl Depth {
    fn reads(self, object: &ObjectPath) -> bool {
        match self {
            Self::Sizes => false,
            Self::Read => true,
            Self::ReadPart(part) => part.holds(object),
        }
    }
}

/// What was found in one snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    pub snapshot: SnapshotRef,
    pub depth: Depth,
    /// How many objects the manifest names.
    pub objects: usize,
    /// What they take in the repository, in bytes, by the manifest's word.
    pub stored_bytes: u64,
    /// How many of them were read. What was read for another snapshot already does not count again.
    pub read_objects: usize,
    /// As stored, in bytes.
    pub read_bytes: u64,
    pub problems: Vec<Problem>,
    /// Objects in the snapshot's place that its manifest does not name. They do no harm.
    pub unknown: Vec<ObjectPath>,
}

impl VerifyReport {
    fn new(snapshot: &SnapshotRef, depth: Depth) -> Self {
        Self {
            snapshot: snapshot.clone(),
            depth,
            objects: 0,
            stored_bytes: 0,
            read_objects: 0,
            read_bytes: 0,
            problems: Vec::new(),
            unknown: Vec::new(),
        }
    }

    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("{}", listed(.0))]
    Damaged(Vec<Problem>),
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Looks at what some targets of a snapshot need, before they are restored.
pub async fn verify_targets<'a>(
    repository: &dyn Repository,
    manifest: &Manifest,
    targets: impl Iterator<Item = &'a TargetId>,
    depth: Depth,
) -> Result<(), VerifyError> {
    let chosen: BTreeSet<_> = targets.collect();
    let mut verifier = Verifier::new(repository, depth, Progress::silent());
    let mut problems = Vec::new();
    for record in &manifest.targets {
        if chosen.contains(&record.target) {
            for artifact in &record.artifacts {
                let judged = verifier.artifact(artifact).await?;
                problems.extend(judged.problem(&record.target, artifact));
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(VerifyError::Damaged(problems))
    }
}

/// Looks at whole snapshots, one after the other. An object that several of them name is read once.
pub struct Verifier<'a> {
    repository: &'a dyn Repository,
    depth: Depth,
    progress: Progress,
    lengths: ObjectLengths,
    /// What was read, as which manifests have described it.
    read: BTreeMap<ObjectPath, Vec<(Artifact, Option<Fault>)>>,
}

/// What was found of one object.
struct Judged {
    fault: Option<Fault>,
    /// Just now, and not for another snapshot.
    was_read: bool,
}

impl Judged {
    fn problem(self, target: &TargetId, artifact: &Artifact) -> Option<Problem> {
        self.fault.map(|fault| Problem {
            target: Some(target.clone()),
            object: Some(artifact.object.clone()),
            fault,
        })
    }
}

impl<'a> Verifier<'a> {
    /// `progress` is told of stored bytes as they are read.
    pub fn new(repository: &'a dyn Repository, depth: Depth, progress: Progress) -> Self {
        Self {
            repository,
            depth,
            progress,
            lengths: ObjectLengths::default(),
            read: BTreeMap::new(),
        }
    }

    pub async fn snapshot(
        &mut self,
        snapshot: &SnapshotRef,
    ) -> Result<VerifyReport, RepositoryError> {
        let mut report = VerifyReport::new(snapshot, self.depth);
        let manifest = match self.repository.manifest(snapshot).await {
            Ok(manifest) => manifest,
            Err(RepositoryError::Manifest { source, .. }) => {
                report.problems.push(Problem::of_manifest(&source));
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        report.objects = manifest.objects().count();
        report.stored_bytes = manifest.stored_bytes();
        for record in &manifest.targets {
            for artifact in &record.artifacts {
                let judged = self.artifact(artifact).await?;
                if judged.was_read {
                    report.read_objects += 1;
                    report.read_bytes += artifact.stored.bytes;
                }
                report
                    .problems
                    .extend(judged.problem(&record.target, artifact));
            }
        }

        let named: BTreeSet<_> = manifest
            .objects()
            .map(|artifact| &artifact.object)
            .collect();
        let lying = self.repository.objects(snapshot).await?;
        report.unknown = lying
            .into_iter()
            .map(|object| object.path)
            .filter(|object| !named.contains(object))
            .collect();
        Ok(report)
    }

    async fn artifact(&mut self, artifact: &Artifact) -> Result<Judged, RepositoryError> {
        let mut judged = Judged {
            fault: judge_length(&mut self.lengths, self.repository, artifact).await?,
            was_read: false,
        };
        if judged.fault.is_none() && self.depth.reads(&artifact.object) {
            let known = self.read.entry(artifact.object.clone()).or_default();
            if let Some((_, fault)) = known.iter().find(|(described, _)| described == artifact) {
                judged.fault.clone_from(fault);
            } else {
                judged.fault = read::judge(self.repository, artifact, &self.progress).await;
                judged.was_read = true;
                known.push((artifact.clone(), judged.fault.clone()));
            }
        }
        Ok(judged)
    }
}

/// Whether an object is there, with its length.
pub async fn judge_length(
    lengths: &mut ObjectLengths,
    repository: &dyn Repository,
    artifact: &Artifact,
) -> Result<Option<Fault>, RepositoryError> {
    let expected = artifact.stored.bytes;
    Ok(match lengths.of(repository, &artifact.object).await? {
        None => Some(Fault::Missing),
        Some(found) if found != expected => Some(Fault::Length { expected, found }),
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests;
