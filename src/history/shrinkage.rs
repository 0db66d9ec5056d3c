//! Notices when a target has become far smaller than its last good copy: half of a database may be gone, and the dump of the
//! rest be a good one.
//!
//! A copy that shrank is no measure for the next one, or the second night would find nothing to ask: its manifest tells the
//! size from before, which stays the measure until there is as much again, or the user says that there will not be.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::StreamExt as _;

use crate::manifest::{Manifest, Purpose, Shrunken, TargetRecord};
use crate::repository::{self, Repository, RepositoryError};
use crate::target::{RunId, TargetId};

/// A copy of less than one part in this many of the last good one's size makes one ask what became of the rest.
const SUSPICIOUS_PART: u64 = 2;

/// Nobody asks after so few bytes: small stores come and go.
const NEGLIGIBLE_LOSS: u64 = 64 * 1024;

/// How large a target was when it was last as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    snapshot: RunId,
    bytes: u64,
}

impl Measure {
    /// `None` when the snapshot holds no copy of the target.
    fn of(manifest: &Manifest, target: &TargetId) -> Option<Self> {
        let record = manifest.target(target)?;
        let mut shrunken = manifest.shrunken.iter();
        Some(match shrunken.find(|one| one.target == *target) {
            Some(shrunken) => Self {
                snapshot: shrunken.before.clone(),
                bytes: shrunken.bytes_before,
            },
            None => Self {
                snapshot: manifest.snapshot.clone(),
                bytes: record.plain_bytes(),
            },
        })
    }
}

/// The measures of those of the targets that were ever saved, from the newest backup that holds each. Snapshots that cannot
/// be read are passed over.
pub async fn measures(
    repository: &dyn Repository,
    project: &str,
    targets: impl Iterator<Item = &TargetId>,
) -> Result<BTreeMap<TargetId, Measure>, RepositoryError> {
    let mut wanted: Vec<&TargetId> = targets.collect();
    let mut found = BTreeMap::new();
    let listed = repository.list(Some(project)).await?;
    let mut manifests = pin!(repository::manifests(repository, listed.into_iter().rev()));
    while !wanted.is_empty()
        && let Some((_, manifest)) = manifests.next().await
    {
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(RepositoryError::Manifest { .. } | RepositoryError::Missing(_)) => continue,
            Err(error) => return Err(error),
        };
        if manifest.purpose != Purpose::Backup {
            continue;
        }
        wanted.retain(|target| match Measure::of(&manifest, target) {
            Some(measure) => {
                found.insert((*target).clone(), measure);
                false
            }
            None => true,
        });
    }
    Ok(found)
}

/// Those of the records that are far smaller than their measure, and that the user has not said may be.
pub fn shrunken(
    records: &[TargetRecord],
    measures: &BTreeMap<TargetId, Measure>,
    may_shrink: &[TargetId],
) -> Vec<Shrunken> {
    let asked = records
        .iter()
        .filter(|record| !may_shrink.contains(&record.target));
    asked
        .filter_map(|record| {
            let measure = measures.get(&record.target)?;
            let bytes = record.plain_bytes();
            is_suspicious(measure.bytes, bytes).then(|| Shrunken {
                target: record.target.clone(),
                bytes,
                before: measure.snapshot.clone(),
                bytes_before: measure.bytes,
            })
        })
        .collect()
}

fn is_suspicious(before: u64, now: u64) -> bool {
    now < before / SUSPICIOUS_PART && before - now > NEGLIGIBLE_LOSS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Role;
    use crate::repository::local::LocalRepository;
    use crate::repository::samples::{artifact, body, id, manifest, path};

    #[test]
    fn less_than_half_is_suspicious_unless_it_is_little() {
        const MIB: u64 = 1 << 20;
        for (before, now, expected) in [
            (0, 0, false),
            (0, MIB, false),
            (MIB, MIB, false),
            (MIB, 2 * MIB, false),
            (MIB, MIB / 2, false),
            (MIB, MIB / 2 - 1, true),
            (MIB, 0, true),
            (60 * 1024, 0, false),
            (64 * 1024, 0, false),
            (64 * 1024 + 1, 0, true),
            (u64::MAX, 1, true),
        ] {
            assert_eq!(is_suspicious(before, now), expected, "{before} {now}");
        }
    }

    #[test]
    fn an_index_is_no_data() {
        let mut index = artifact(path("shop", &id(1), "app.index.jsonl"), "0123456789");
        index.role = Role::Index;
        let data = artifact(path("shop", &id(1), "app.tar"), "rows");
        let manifest = manifest("shop", &id(1), vec![data, index]);
        assert_eq!(manifest.targets[0].plain_bytes(), 4);
    }

    /// A snapshot of this many bytes; tells which day holds the measure, when it has shrunk.
    async fn night(
        repository: &LocalRepository,
        day: u8,
        bytes: usize,
        may_shrink: bool,
    ) -> Option<RunId> {
        let object = path("shop", &id(day), "db.dump");
        let content = "x".repeat(bytes);
        repository.put(&object, body(&content)).await.unwrap();
        let mut manifest = manifest("shop", &id(day), vec![artifact(object, &content)]);
        let target = manifest.targets[0].target.clone();
        let measures = measures(repository, "shop", [&target].into_iter())
            .await
            .unwrap();
        let may_shrink = if may_shrink { vec![target] } else { Vec::new() };
        manifest.shrunken = shrunken(&manifest.targets, &measures, &may_shrink);
        repository.commit(&manifest).await.unwrap();
        manifest.shrunken.pop().map(|one| {
            assert_eq!(one.bytes, bytes as u64);
            one.before
        })
    }

    #[tokio::test]
    async fn the_last_good_size_stays_the_measure() {
        const LARGE: usize = 200_000;
        let directory = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(directory.path());
        repository.prepare().await.unwrap();
        for (day, bytes, may_shrink, expected) in [
            (1, LARGE, false, None),
            (2, LARGE, false, None),
            (3, 1000, false, Some(2)),
            (4, 1000, false, Some(2)),
            (5, LARGE / 2, false, None),
            (6, 1000, false, Some(5)),
            (7, 1000, true, None),
            (8, 1000, false, None),
        ] {
            let before = night(&repository, day, bytes, may_shrink).await;
            assert_eq!(before, expected.map(id), "day {day}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_or_is_a_way_back_is_no_measure() {
        let directory = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(directory.path());
        repository.prepare().await.unwrap();
        night(&repository, 1, 200_000, false).await;
        let object = path("shop", &id(2), "db.dump");
        repository.put(&object, body("small")).await.unwrap();
        let mut way_back = manifest("shop", &id(2), vec![artifact(object, "small")]);
        way_back.purpose = Purpose::Safety { restore: id(2) };
        repository.commit(&way_back).await.unwrap();
        night(&repository, 3, 200_000, false).await;
        let torn = directory
            .path()
            .join(format!("shop/{}/manifest.json", id(3)));
        std::fs::write(torn, "{").unwrap();
        assert_eq!(night(&repository, 4, 1000, false).await, Some(id(1)));
    }
}
