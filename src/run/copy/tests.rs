use std::fs;

use jiff::tz::TimeZone;

use super::*;
use crate::history::retention::Terms;
use crate::repository::local::LocalRepository;
use crate::repository::pin::Pin;
use crate::repository::samples::{artifact, body, id, manifest, path};
use crate::snapshot::verify::{Depth, Verifier};

struct Places {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
}

impl Places {
    async fn new() -> Self {
        let places = Self {
            from: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
        };
        places.from().prepare().await.unwrap();
        places.to().prepare().await.unwrap();
        places
    }

    fn from(&self) -> LocalRepository {
        LocalRepository::new(self.from.path())
    }

    fn to(&self) -> LocalRepository {
        LocalRepository::new(self.to.path())
    }

    /// A snapshot of two objects, the first of which `earlier` may have written.
    async fn save(&self, day: u8, earlier: Option<u8>) -> SnapshotRef {
        let from = self.from();
        let layer = path("candig", &id(earlier.unwrap_or(day)), "app.tar");
        if earlier.is_none() {
            from.put(&layer, body("files")).await.unwrap();
        }
        let dump = path("candig", &id(day), "db.dump");
        from.put(&dump, body("rows")).await.unwrap();
        let artifacts = vec![artifact(layer, "files"), artifact(dump, "rows")];
        let manifest = manifest("candig", &id(day), artifacts);
        from.commit(&manifest).await.unwrap();
        SnapshotRef::new("candig", id(day))
    }

    async fn copy(&self, snapshot: &SnapshotRef) -> Result<Copied, RepositoryError> {
        let (from, to) = (self.from(), self.to());
        copy(&from, &to, snapshot, Sealing::AsStored, &Progress::silent()).await
    }

    /// Everything of the snapshot's place, by name.
    fn content(root: &tempfile::TempDir, day: u8) -> Vec<(String, Vec<u8>)> {
        let directory = root.path().join("candig").join(id(day).as_str());
        let mut files: Vec<_> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}

#[tokio::test]
async fn a_copy_is_the_same_byte_for_byte() {
    let places = Places::new().await;
    let first = places.save(1, None).await;
    let second = places.save(2, Some(1)).await;
    assert_eq!(places.copy(&first).await.unwrap().objects, 2);
    assert_eq!(places.copy(&second).await.unwrap().objects, 1);
    for day in [1, 2] {
        let copied = Places::content(&places.to, day);
        assert_eq!(copied, Places::content(&places.from, day));
        assert!(!copied.is_empty());
    }
}

#[tokio::test]
async fn a_layer_of_an_earlier_snapshot_comes_along() {
    let places = Places::new().await;
    places.save(1, None).await;
    let second = places.save(2, Some(1)).await;
    assert_eq!(places.copy(&second).await.unwrap().bytes, 9);
    assert_eq!(places.to().list(None).await.unwrap(), [second]);
}

#[tokio::test]
async fn a_copy_goes_on_where_it_stopped() {
    let places = Places::new().await;
    let snapshot = places.save(1, None).await;
    let object = path("candig", &id(1), "app.tar");
    places.to().put(&object, body("files")).await.unwrap();
    assert_eq!(places.copy(&snapshot).await.unwrap().objects, 1);
    let again = places.copy(&snapshot).await;
    assert!(
        matches!(again, Err(RepositoryError::Exists(_))),
        "{again:?}"
    );
}

#[tokio::test]
async fn what_is_damaged_is_not_copied() {
    let places = Places::new().await;
    let snapshot = places.save(1, None).await;
    let object = places.from.path().join(format!("candig/{}/db.dump", id(1)));
    fs::write(object, "r0ws").unwrap();
    let error = places.copy(&snapshot).await.unwrap_err();
    assert!(error.to_string().contains("db.dump in"), "{error}");
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(places.to().list(None).await.unwrap(), []);
    let names: Vec<_> = Places::content(&places.to, 1)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["app.tar"]);
}

#[tokio::test]
async fn a_pin_travels_with_its_snapshot() {
    let places = Places::new().await;
    let mut all = Vec::new();
    for day in [1, 2, 3] {
        all.push(places.save(day, None).await);
    }
    let (from, to) = (places.from(), places.to());
    let pin = Pin::new(&"before-upgrade".parse().unwrap());
    pin::pin(&from, &all[0], &pin).await.unwrap();
    let terms = Terms {
        keep: Some("last=1".parse().unwrap()),
        time_zone: TimeZone::UTC,
        despite: Vec::new(),
    };
    let worth = worth_sending(&from, &to, &terms, "candig", all.clone()).await;
    assert_eq!(worth.unwrap(), [all[0].clone(), all[2].clone()]);
    let report = copy_all(&from, &to, &all, Sealing::AsStored, &Board::of_log()).await;
    assert!(report.is_complete(), "{report:?}");
    let pins = to.pins(None).await.unwrap();
    assert_eq!(pins, BTreeMap::from([(all[0].clone(), pin.clone())]));

    // One that was set later, or did not get there, is sent by itself; one that cannot be read is told.
    pin::pin(&from, &all[1], &pin).await.unwrap();
    pin::pin(&from, &all[2], &pin).await.unwrap();
    let torn = format!("candig/{}/pin.json", all[2].id);
    std::fs::write(places.from.path().join(torn), "{").unwrap();
    let report = copy_all(&from, &to, &all, Sealing::AsStored, &Board::of_log()).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    assert!(report.warnings[0].contains(&all[2].id.to_string()));
    let pins = to.pins(None).await.unwrap();
    assert!(pins.keys().eq([&all[0], &all[1]]), "{pins:?}");
}

#[tokio::test]
async fn what_was_pruned_there_stays_away() {
    let places = Places::new().await;
    let mut all = Vec::new();
    for day in [1, 2, 3] {
        all.push(places.save(day, None).await);
    }
    places.copy(&all[1]).await.unwrap();
    let (from, to) = (places.from(), places.to());
    let terms = |keep: Option<&str>| Terms {
        keep: keep.map(|rules| rules.parse().unwrap()),
        time_zone: TimeZone::UTC,
        despite: Vec::new(),
    };
    let worth = async |keep| {
        let lacking = vec![all[0].clone(), all[2].clone()];
        let worth = worth_sending(&from, &to, &terms(keep), "candig", lacking).await;
        worth.unwrap()
    };
    assert_eq!(worth(Some("last=2")).await, [all[2].clone()]);
    assert_eq!(worth(None).await, [all[0].clone(), all[2].clone()]);
    let report = copy_all(&from, &to, &all, Sealing::AsStored, &Board::of_log()).await;
    assert!(report.is_complete(), "{report:?}");
    let copies = report.snapshots.iter().map(|copy| &copy.snapshot);
    assert!(copies.eq([&all[0], &all[2]]));
}

/// What an interrupted copy of another kind has left has the right name, and may have the right length.
#[tokio::test]
async fn a_left_over_counts_only_when_every_byte_is_right() {
    let places = Places::new().await;
    let snapshot = places.save(1, None).await;
    for (file, content) in [("app.tar", "FILES"), ("db.dump", "rows")] {
        let object = path("candig", &id(1), file);
        places.to().put(&object, body(content)).await.unwrap();
    }
    assert_eq!(places.copy(&snapshot).await.unwrap().objects, 1);
    assert_eq!(
        Places::content(&places.to, 1),
        Places::content(&places.from, 1)
    );
}

#[tokio::test]
async fn one_that_fails_does_not_keep_the_others_away() {
    let places = Places::new().await;
    let all = [places.save(1, None).await, places.save(2, None).await];
    let object = places.from.path().join(format!("candig/{}/db.dump", id(1)));
    fs::remove_file(object).unwrap();
    let (from, to) = (places.from(), places.to());
    let report = copy_all(&from, &to, &all, Sealing::AsStored, &Board::of_log()).await;
    assert!(!report.is_complete());
    assert_eq!(to.list(None).await.unwrap(), all[1..]);
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_told() {
    let places = Places::new().await;
    let snapshot = places.save(1, None).await;
    fs::remove_file(places.to.path().join("cofferdam.json")).unwrap();
    fs::write(places.to.path().join("photo.jpg"), "sea").unwrap();
    let (from, to) = (places.from(), places.to());
    let report = copy_all(&from, &to, &[snapshot], Sealing::AsStored, &Board::of_log()).await;
    let problem = report.problem.unwrap();
    assert!(problem.contains("`photo.jpg`"), "{problem}");
}

fn key_pair() -> (Identities, Recipients) {
    let identity = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    (
        Identities::parse(&secret).unwrap(),
        Recipients::parse(&identity.to_public().to_string()).unwrap(),
    )
}

#[tokio::test]
async fn a_copy_may_be_encrypted_anew() {
    let places = Places::new().await;
    let first = places.save(1, None).await;
    let second = places.save(2, Some(1)).await;
    let (none, (old, to_old), (new, to_new)) = (Identities::default(), key_pair(), key_pair());
    let third = tempfile::tempdir().unwrap();
    let third = LocalRepository::new(third.path());
    third.prepare().await.unwrap();
    let (from, to, silent) = (places.from(), places.to(), Progress::silent());
    for snapshot in [&first, &second] {
        let sealing = Sealing::Anew {
            identities: &none,
            recipients: &to_old,
        };
        copy(&from, &to, snapshot, sealing, &silent).await.unwrap();
        let sealing = Sealing::Anew {
            identities: &new,
            recipients: &to_new,
        };
        let refused = copy(&to, &third, snapshot, sealing, &silent).await;
        assert!(
            matches!(refused, Err(RepositoryError::Body(_))),
            "{refused:?}"
        );
        let sealing = Sealing::Anew {
            identities: &old,
            recipients: &to_new,
        };
        copy(&to, &third, snapshot, sealing, &silent).await.unwrap();
        for (place, keys) in [(&to, &old), (&third, &new)] {
            let mut verifier = Verifier::new(place, keys, Depth::Read);
            let report = verifier.snapshot(snapshot).await.unwrap();
            assert!(report.is_whole(), "{:?}", report.problems);
            assert!(report.decrypted > 0 && report.closed == 0);
        }
    }
    // Nothing is written over, so what is there is told unless it is as it is to be.
    let again = async |recipients| {
        let sealing = Sealing::Anew {
            identities: &old,
            recipients,
        };
        let snapshots = [first.clone(), second.clone()];
        copy_all(&to, &third, &snapshots, sealing, &Board::of_log()).await
    };
    assert!(again(&to_new).await.is_complete());
    assert!(!again(&to_old).await.is_complete());
}
