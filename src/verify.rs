//! Whether a snapshot is what its manifest says.
//!
//! Every problem is collected: one damaged object says nothing about the next. That something is damaged is a finding of
//! the report; an error is only what keeps from looking at all.

mod problem;
mod read;

use std::collections::BTreeSet;

use serde::Serialize;

pub use problem::{Fault, Problem};

use crate::encryption::Identities;
use crate::manifest::{Artifact, Manifest, ObjectPath};
use crate::pipe::Progress;
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::target::TargetId;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Every object is there and has its length.
    Sizes,
    /// Every object is read: the digest as stored, and, unless it is encrypted and nothing given opens it, every frame and
    /// checksum of its compression, the digest of its content, and every line of an index.
    Read,
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
    /// How many objects were decrypted, and their content looked at. None unless they were to be read.
    pub decrypted: usize,
    /// How many objects were read as they are stored and not decrypted: no key that might open them was given.
    pub closed: usize,
    pub problems: Vec<Problem>,
    /// Objects in the snapshot's place that its manifest does not name. They do no harm.
    pub unknown: Vec<ObjectPath>,
}

impl VerifyReport {
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

/// Looks at snapshots.
pub struct Verifier<'a> {
    repository: &'a dyn Repository,
    identities: &'a Identities,
    progress: Progress,
}

impl<'a> Verifier<'a> {
    /// Where `identities` hold nothing of the kind that opens an encrypted object, it is looked at as it is stored.
    pub fn new(repository: &'a dyn Repository, identities: &'a Identities) -> Self {
        Self {
            repository,
            identities,
            progress: Progress::silent(),
        }
    }

    /// `progress` is told of stored bytes as they are read.
    pub fn telling(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// Looks at a whole snapshot.
    pub async fn snapshot(
        &self,
        snapshot: &SnapshotRef,
        depth: Depth,
    ) -> Result<VerifyReport, RepositoryError> {
        let mut report = VerifyReport {
            snapshot: snapshot.clone(),
            depth,
            objects: 0,
            stored_bytes: 0,
            decrypted: 0,
            closed: 0,
            problems: Vec::new(),
            unknown: Vec::new(),
        };
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
        let all = manifest.targets.iter().map(|record| &record.target);
        let found = self.look(&manifest, &all.collect(), depth).await?;
        report.decrypted = found.decrypted;
        report.closed = found.closed;
        report.problems = found.problems;

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

    /// Looks at what some targets of a snapshot need, before they are restored.
    pub async fn targets(
        &self,
        manifest: &Manifest,
        targets: impl Iterator<Item = &TargetId>,
        depth: Depth,
    ) -> Result<(), VerifyError> {
        let found = self.look(manifest, &targets.collect(), depth).await?;
        if found.problems.is_empty() {
            Ok(())
        } else {
            Err(VerifyError::Damaged(found.problems))
        }
    }

    async fn look(
        &self,
        manifest: &Manifest,
        chosen: &BTreeSet<&TargetId>,
        depth: Depth,
    ) -> Result<Found, RepositoryError> {
        let mut lengths = ObjectLengths::default();
        let mut found = Found::default();
        for record in &manifest.targets {
            if !chosen.contains(&record.target) {
                continue;
            }
            for artifact in &record.artifacts {
                let mut fault = judge_length(&mut lengths, self.repository, artifact).await?;
                if fault.is_none() && depth == Depth::Read {
                    match self.read(artifact).await {
                        Ok(Content::Plain) => {}
                        Ok(Content::Decrypted) => found.decrypted += 1,
                        Ok(Content::Closed) => found.closed += 1,
                        Err(unsound) => fault = Some(unsound),
                    }
                }
                found.problems.extend(fault.map(|fault| Problem {
                    target: Some(record.target.clone()),
                    object: Some(artifact.object.clone()),
                    fault,
                }));
            }
        }
        Ok(found)
    }
}

#[derive(Default)]
struct Found {
    decrypted: usize,
    closed: usize,
    problems: Vec<Problem>,
}

/// What was seen of a sound object's content.
enum Content {
    Plain,
    Decrypted,
    /// Nothing: it is encrypted.
    Closed,
}

async fn judge_length(
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
