//! From what the user named to what there is: snapshots and targets.
//!
//! `latest` means the newest snapshot that a backup made; in a swarm, one that was made on this node, since those of other
//! nodes hold what is there. What it was not meant to hold, and what failed when it was taken, a restore
//! [completes](completed) from older ones. Safety snapshots, which a restore takes of what it is about to
//! write over, have to be named by their id: otherwise a second `restore latest` after a mistaken first would bring the
//! mistake back. When the newest snapshot cannot be read, that is an error and no reason to take an older one: nobody
//! should get last week's data without having asked for it.

mod complete;

use std::fmt;

pub use complete::{Completed, Older, completed};

use crate::history::selectors::{SnapshotSelector, TargetMap, TargetPattern};
use crate::manifest::{Failure, Purpose};
use crate::repository::{Repository, RepositoryError, SnapshotRef};
use crate::target::TargetId;

/// How many snapshots an error lists.
const MOST_LISTED: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("there is no snapshot of {scope} in {repository}{}", others(.other_projects))]
    NoSnapshot {
        scope: String,
        repository: String,
        other_projects: Vec<String>,
    },
    #[error("no snapshot's id begins with `{wanted}`; the nearest are:{}", lines(.nearest))]
    Unknown {
        wanted: String,
        nearest: Vec<SnapshotRef>,
    },
    #[error("`{wanted}` matches {count} snapshots; write more of the id, or name the project:{}", lines(.candidates))]
    Ambiguous {
        wanted: String,
        count: usize,
        candidates: Vec<SnapshotRef>,
    },
    #[error("`latest` matches several projects; name one with --project, or one of these by its id:{}", lines(.newest))]
    SeveralProjects { newest: Vec<SnapshotRef> },
    #[error("no snapshot of {project} was taken on this node, {node}; name one of another node by its id:{}", lines(.newest))]
    NoneOfNode {
        project: String,
        node: String,
        newest: Vec<OfNode>,
    },
    #[error("`latest` matches several nodes of a swarm; name one of these by its id:{}", lines(.newest))]
    SeveralNodes { newest: Vec<OfNode> },
    #[error("the newest snapshot cannot be read: {source}; to use an older one, name it by its id:{}", lines(.older))]
    LatestUnreadable {
        source: Box<RepositoryError>,
        older: Vec<SnapshotRef>,
    },
    #[error("all snapshots of {project} are safety snapshots, taken by restores; name one by its id:{}", lines(.safety))]
    OnlySafety {
        project: String,
        safety: Vec<SnapshotRef>,
    },
    #[error("no target matches `{pattern}`; the targets are:{}", lines(.available))]
    NoTarget {
        pattern: String,
        available: Vec<TargetId>,
    },
    #[error("there is no good copy of {}: {}", .0.target, .0.reason)]
    NoCopy(Failure),
    #[error(
        "two targets would both be restored as {0}; restore one of them, or --map it to another"
    )]
    SameName(TargetId),
}

impl SelectError {
    /// There is no snapshot of these projects (`None`: of any) among `all` of the repository.
    pub fn none_of(
        repository: &dyn Repository,
        projects: Option<&[String]>,
        all: Vec<SnapshotRef>,
    ) -> Self {
        let mut other_projects: Vec<_> = all.into_iter().map(|snapshot| snapshot.project).collect();
        other_projects.sort();
        other_projects.dedup();
        Self::NoSnapshot {
            scope: projects.map_or("any project".to_owned(), |projects| projects.join(", ")),
            repository: repository.location(),
            other_projects,
        }
    }
}

/// The newest snapshot of a node.
#[derive(Debug)]
pub struct OfNode {
    node: String,
    snapshot: SnapshotRef,
}

impl fmt::Display for OfNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (node {})", self.snapshot, self.node)
    }
}

fn lines<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(|item| format!("\n  {}", item.to_string()))
        .collect()
}

fn others(projects: &[String]) -> String {
    if projects.is_empty() {
        return String::new();
    }
    format!("; it has some of {}", projects.join(", "))
}

/// Finds one snapshot among those of `projects`, or of all when `None`. `own_node` is asked for the node of the swarm that
/// we are on, when that matters.
pub async fn snapshot(
    repository: &dyn Repository,
    projects: Option<&[String]>,
    wanted: &SnapshotSelector,
    own_node: impl AsyncFnOnce() -> Option<String>,
) -> Result<SnapshotRef, SelectError> {
    let all = repository.list(None).await?;
    let in_scope = |snapshot: &&SnapshotRef| {
        projects.is_none_or(|projects| projects.contains(&snapshot.project))
    };
    let candidates: Vec<&SnapshotRef> = all.iter().filter(in_scope).collect();
    if candidates.is_empty() {
        return Err(SelectError::none_of(repository, projects, all));
    }
    match wanted {
        SnapshotSelector::Latest => latest(repository, &candidates, own_node).await,
        SnapshotSelector::Prefix(prefix) => by_prefix(&candidates, prefix),
    }
}

fn by_prefix(candidates: &[&SnapshotRef], prefix: &str) -> Result<SnapshotRef, SelectError> {
    let fitting: Vec<_> = candidates
        .iter()
        .filter(|snapshot| snapshot.id.as_str().starts_with(prefix))
        .collect();
    match fitting.as_slice() {
        [one] => Ok((**one).clone()),
        [] => Err(SelectError::Unknown {
            wanted: prefix.to_owned(),
            nearest: nearest(candidates, prefix),
        }),
        several => Err(SelectError::Ambiguous {
            wanted: prefix.to_owned(),
            count: several.len(),
            candidates: newest_first(several.iter().map(|snapshot| **snapshot)),
        }),
    }
}

/// Those that share the most with what was typed, the newest first among equals.
fn nearest(candidates: &[&SnapshotRef], wanted: &str) -> Vec<SnapshotRef> {
    let shared = |snapshot: &SnapshotRef| {
        let both = snapshot.id.as_str().bytes().zip(wanted.bytes());
        both.take_while(|(a, b)| a == b).count()
    };
    let mut ranked: Vec<_> = candidates
        .iter()
        .rev()
        .map(|snapshot| (*snapshot).clone())
        .collect();
    ranked.sort_by_key(|snapshot| std::cmp::Reverse(shared(snapshot)));
    ranked.truncate(5);
    ranked
}

fn newest_first<'a>(
    snapshots: impl DoubleEndedIterator<Item = &'a SnapshotRef>,
) -> Vec<SnapshotRef> {
    snapshots.rev().take(MOST_LISTED).cloned().collect()
}

async fn latest(
    repository: &dyn Repository,
    candidates: &[&SnapshotRef],
    own_node: impl AsyncFnOnce() -> Option<String>,
) -> Result<SnapshotRef, SelectError> {
    let project = candidates
        .first()
        .map_or("", |first| first.project.as_str());
    if candidates
        .iter()
        .any(|snapshot| snapshot.project != project)
    {
        return Err(SelectError::SeveralProjects {
            newest: newest_of_each_project(candidates),
        });
    }
    let mut own_node = Some(own_node);
    let mut here: Option<String> = None;
    let mut newest: Vec<OfNode> = Vec::new();
    for (at, snapshot) in candidates.iter().enumerate().rev() {
        let node = match repository.manifest(snapshot).await {
            Ok(manifest) if manifest.purpose == Purpose::Backup => manifest.node,
            Ok(_) => continue,
            Err(source) => {
                let older = newest_first(candidates[..at].iter().copied());
                return Err(SelectError::LatestUnreadable {
                    source: Box::new(source),
                    older,
                });
            }
        };
        let Some(node) = node else {
            // From before the swarm, when others are newer.
            if newest.is_empty() {
                return Ok((*snapshot).clone());
            }
            continue;
        };
        if let Some(own_node) = own_node.take() {
            here = own_node().await;
        }
        if here.as_ref() == Some(&node) {
            return Ok((*snapshot).clone());
        }
        if !newest.iter().any(|known| known.node == node) {
            let snapshot = (*snapshot).clone();
            newest.push(OfNode { node, snapshot });
        }
    }
    let project = project.to_owned();
    match (here, newest.as_slice()) {
        (_, []) => Err(SelectError::OnlySafety {
            project,
            safety: newest_first(candidates.iter().copied()),
        }),
        (Some(node), _) => Err(SelectError::NoneOfNode {
            project,
            node,
            newest,
        }),
        (None, [only]) => Ok(only.snapshot.clone()),
        (None, _) => Err(SelectError::SeveralNodes { newest }),
    }
}

fn newest_of_each_project(candidates: &[&SnapshotRef]) -> Vec<SnapshotRef> {
    let mut newest: Vec<SnapshotRef> = Vec::new();
    for snapshot in candidates.iter().rev() {
        if !newest.iter().any(|one| one.project == snapshot.project) {
            newest.push((*snapshot).clone());
        }
    }
    newest
}

/// The targets that fit any of the patterns, in their own order; all when there is no pattern. A pattern that fits
/// nothing is an error: what was named would otherwise be left out in silence.
pub fn targets<'a>(
    available: impl IntoIterator<Item = &'a TargetId>,
    patterns: &[TargetPattern],
) -> Result<Vec<&'a TargetId>, SelectError> {
    Ok(restored(available, &[], patterns)?.targets)
}

/// What is asked to be restored.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// In their own order.
    pub targets: Vec<&'a TargetId>,
    /// What has failed, and no snapshot that counts has a good copy of.
    pub missing: Vec<&'a Failure>,
}

/// The same of what can be restored, and of what has `failed`. That nothing of what was asked for is there is an error, too.
pub fn restored<'a>(
    available: impl IntoIterator<Item = &'a TargetId>,
    failed: &'a [Failure],
    patterns: &[TargetPattern],
) -> Result<Chosen<'a>, SelectError> {
    let available: Vec<_> = available.into_iter().collect();
    for pattern in patterns {
        let is_there = available.iter().any(|target| pattern.matches(target));
        if !is_there && !failed.iter().any(|failure| is_about(pattern, failure)) {
            return Err(SelectError::NoTarget {
                pattern: pattern.to_string(),
                available: available.into_iter().cloned().collect(),
            });
        }
    }
    let is_asked_for =
        |fits: &dyn Fn(&TargetPattern) -> bool| patterns.is_empty() || patterns.iter().any(fits);
    let targets = available.into_iter();
    let missing = failed.iter();
    let chosen = Chosen {
        targets: targets
            .filter(|target| is_asked_for(&|pattern| pattern.matches(target)))
            .collect(),
        missing: missing
            .filter(|failure| is_asked_for(&|pattern| is_about(pattern, failure)))
            .collect(),
    };
    match chosen.missing.first() {
        Some(failure) if chosen.targets.is_empty() => Err(SelectError::NoCopy((*failure).clone())),
        _ => Ok(chosen),
    }
}

/// Whether a pattern asks for what has failed, of which a whole server may be named by its driver only.
fn is_about(pattern: &TargetPattern, failure: &Failure) -> bool {
    let named: Option<TargetId> = pattern.to_string().parse().ok();
    pattern.matches(&failure.target) || named.is_some_and(|named| failure.is_about(&named))
}

/// What targets of a snapshot are called where they are restored. A map that fits none of them, nor what is missing, is an
/// error, and so is one that gives two targets one name.
pub fn renamed(chosen: &Chosen<'_>, maps: &[TargetMap]) -> Result<Vec<TargetId>, SelectError> {
    let Chosen { targets, missing } = chosen;
    let missing: Vec<&TargetId> = missing.iter().map(|failure| &failure.target).collect();
    for map in maps {
        let mut known = targets.iter().chain(&missing);
        if !known.any(|target| map.apply(target).is_some()) {
            return Err(SelectError::NoTarget {
                pattern: map.to_string(),
                available: targets.iter().map(|target| (*target).clone()).collect(),
            });
        }
    }
    let mut names = Vec::new();
    for target in targets {
        let name = maps.iter().find_map(|map| map.apply(target));
        let name = name.unwrap_or_else(|| (*target).clone());
        if names.contains(&name) {
            return Err(SelectError::SameName(name));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
