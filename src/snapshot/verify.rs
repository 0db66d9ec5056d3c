//! Whether a snapshot is what its manifest says.
//!
//! Every problem is collected: one damaged object says nothing about the next. That something is damaged is a finding of
//! the report; an error is only what keeps from looking at all.

mod part;
mod problem;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use part::{Part, PartChoice};
pub use problem::{Fault, Problem};

use crate::manifest::{Artifact, Manifest, ObjectPath};
use crate::pipe::Progress;
use crate::pipe::keys::Identities;
use crate::repository::{ObjectLengths, Repository, RepositoryError, SnapshotRef};
use crate::target::TargetId;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Every object is there and has its length.
    Sizes,
    /// Every object is read: the digest as stored, and, unless it is encrypted and nothing given opens it, every frame and
    /// checksum of its compression, the digest of its content, and every line of an index.
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
    /// How many of those that were read were decrypted, and their content looked at.
    pub decrypted: usize,
    /// How many were read as they are stored and not decrypted: no key that might open them was given.
    pub closed: usize,
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
            decrypted: 0,
            closed: 0,
            problems: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn add(&mut self, target: &TargetId, artifact: &Artifact, judged: Judged) {
        if let Some(seen) = judged.seen {
            self.read_objects += 1;
            self.read_bytes += artifact.stored.bytes;
            match seen {
                Seen::Plain => {}
                Seen::Decrypted => self.decrypted += 1,
                Seen::Closed => self.closed += 1,
            }
        }
        self.problems.extend(judged.problem(target, artifact));
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

/// Looks at snapshots, one after the other. An object that several of them name is read once.
pub struct Verifier<'a> {
    repository: &'a dyn Repository,
    identities: &'a Identities,
    depth: Depth,
    progress: Progress,
    lengths: ObjectLengths,
    /// What was found in what was read, as which manifests have described it.
    read: BTreeMap<ObjectPath, Vec<(Artifact, Option<Fault>)>>,
}

/// What was looked at in an object that was read.
#[derive(Clone, Copy)]
enum Seen {
    Plain,
    Decrypted,
    /// Not its content: it is encrypted.
    Closed,
}

/// What was found of one object.
struct Judged {
    fault: Option<Fault>,
    /// `None` when it was not read, or for another snapshot before.
    seen: Option<Seen>,
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
    /// Where `identities` hold nothing of the kind that opens an encrypted object, it is looked at as it is stored.
    pub fn new(repository: &'a dyn Repository, identities: &'a Identities, depth: Depth) -> Self {
        Self {
            repository,
            identities,
            depth,
            progress: Progress::silent(),
            lengths: ObjectLengths::default(),
            read: BTreeMap::new(),
        }
    }

    /// From now on, `progress` counts stored bytes as they are read.
    pub fn show(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Looks at a whole snapshot.
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
                report.add(&record.target, artifact, judged);
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

    /// Looks at what some targets of a snapshot need, before they are restored.
    pub async fn targets(
        &mut self,
        manifest: &Manifest,
        targets: impl Iterator<Item = &TargetId>,
    ) -> Result<(), VerifyError> {
        let chosen: BTreeSet<_> = targets.collect();
        let mut problems = Vec::new();
        for record in &manifest.targets {
            if chosen.contains(&record.target) {
                for artifact in &record.artifacts {
                    let judged = self.artifact(artifact).await?;
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

    async fn artifact(&mut self, artifact: &Artifact) -> Result<Judged, RepositoryError> {
        let fault = judge_length(&mut self.lengths, self.repository, artifact).await?;
        if fault.is_some() || !self.depth.reads(&artifact.object) {
            return Ok(Judged { fault, seen: None });
        }
        let known = self.read.get(&artifact.object).into_iter().flatten();
        let mut known = known.filter(|(described, _)| described == artifact);
        if let Some((_, fault)) = known.next() {
            return Ok(Judged {
                fault: fault.clone(),
                seen: None,
            });
        }
        let (seen, outcome) = self.read(artifact).await;
        let fault = outcome.err();
        let known = self.read.entry(artifact.object.clone()).or_default();
        known.push((artifact.clone(), fault.clone()));
        Ok(Judged {
            fault,
            seen: Some(seen),
        })
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
