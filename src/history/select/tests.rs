use super::*;
use crate::manifest::{FORMAT, Failure, Manifest, TargetRecord};
use crate::repository::local::LocalRepository;
use crate::repository::samples::{artifact, body, id, manifest, path, record};
use crate::target::{DriverKind, RunId};

struct Place {
    temporary: tempfile::TempDir,
    repository: LocalRepository,
}

impl Place {
    async fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(temporary.path());
        repository.prepare().await.unwrap();
        Self {
            temporary,
            repository,
        }
    }

    async fn commit(&self, project: &str, day: u8, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = manifest(project, &id(day), Vec::new());
        manifest.targets.clear();
        change(&mut manifest);
        for artifact in manifest.targets.iter().flat_map(|it| &it.artifacts) {
            self.repository
                .put(&artifact.object, body("rows"))
                .await
                .unwrap();
        }
        self.repository.commit(&manifest).await.unwrap();
    }

    async fn backup(&self, project: &str, day: u8) {
        self.commit(project, day, |_| ()).await;
    }

    async fn safety(&self, project: &str, day: u8) {
        let purpose = Purpose::Safety { restore: id(1) };
        self.commit(project, day, |manifest| manifest.purpose = purpose)
            .await;
    }

    fn damage(&self, project: &str, day: u8) {
        let path = format!("{project}/{}/manifest.json", id(day));
        let future = format!("{{\"format\": {}}}", FORMAT + 1);
        std::fs::write(self.temporary.path().join(path), future).unwrap();
    }

    async fn find(&self, projects: Option<&[&str]>, wanted: &str) -> Result<SnapshotRef, String> {
        self.find_on(None, projects, wanted).await
    }

    async fn find_on(
        &self,
        node: Option<&str>,
        projects: Option<&[&str]>,
        wanted: &str,
    ) -> Result<SnapshotRef, String> {
        let projects: Option<Vec<_>> =
            projects.map(|projects| projects.iter().map(|&name| name.to_owned()).collect());
        let root = self.repository.location();
        snapshot(
            &self.repository,
            projects.as_deref(),
            &wanted.parse().unwrap(),
            async || node.map(str::to_owned),
        )
        .await
        .map_err(|error| error.to_string().replace(&root, "/backups"))
    }
}

fn found(project: &str, day: u8) -> Result<SnapshotRef, String> {
    Ok(SnapshotRef::new(project, id(day)))
}

#[tokio::test]
async fn a_snapshot_is_found_by_its_id_or_by_a_beginning() {
    let place = Place::new().await;
    place.backup("candig", 1).await;
    place.backup("candig", 2).await;
    place.backup("shop", 3).await;
    for (projects, wanted, expected) in [
        (Some(&["candig"][..]), "latest", found("candig", 2)),
        (Some(&["candig"]), id(1).as_str(), found("candig", 1)),
        (Some(&["candig", "shop"]), "20261103", found("shop", 3)),
        (None, "20261102T", found("candig", 2)),
    ] {
        assert_eq!(place.find(projects, wanted).await, expected, "{wanted}");
    }
}

#[tokio::test]
async fn what_is_ambiguous_or_unknown_is_answered_with_what_there_is() {
    let place = Place::new().await;
    place.backup("candig", 1).await;
    place.backup("candig", 2).await;
    place.backup("shop", 11).await;
    let refusal = async |projects: Option<&[&str]>, wanted: &str| {
        place.find(projects, wanted).await.unwrap_err()
    };
    insta::assert_snapshot!(refusal(Some(&["candig"]), "2026110").await, @r"
    `2026110` matches 2 snapshots; write more of the id, or name the project:
      candig/20261102T020000Z-9f2c61aa
      candig/20261101T020000Z-9f2c61aa
");
    insta::assert_snapshot!(refusal(None, "20261112").await, @r"
    no snapshot's id begins with `20261112`; the nearest are:
      shop/20261111T020000Z-9f2c61aa
      candig/20261102T020000Z-9f2c61aa
      candig/20261101T020000Z-9f2c61aa
");
    insta::assert_snapshot!(refusal(None, "latest").await, @r"
    `latest` matches several projects; name one with --project, or one of these by its id:
      shop/20261111T020000Z-9f2c61aa
      candig/20261102T020000Z-9f2c61aa
");
    insta::assert_snapshot!(refusal(Some(&["clinic"]), "latest").await, @"there is no snapshot of clinic in /backups; it has some of candig, shop");
}

#[tokio::test]
async fn a_long_list_of_candidates_is_cut() {
    let place = Place::new().await;
    for day in 1..=15 {
        place.backup("candig", day).await;
    }
    let refusal = place.find(None, "2026").await.unwrap_err();
    assert!(
        refusal.starts_with("`2026` matches 15 snapshots"),
        "{refusal}"
    );
    assert_eq!(refusal.lines().count(), 11);
    assert!(refusal.contains(id(15).as_str()));
}

#[tokio::test]
async fn latest_is_never_a_safety_snapshot() {
    let place = Place::new().await;
    place.backup("candig", 1).await;
    place.safety("candig", 2).await;
    place.safety("shop", 3).await;
    assert_eq!(
        place.find(Some(&["candig"]), "latest").await,
        found("candig", 1)
    );
    let by_id: RunId = id(2);
    assert_eq!(place.find(None, by_id.as_str()).await, found("candig", 2));
    let refusal = place.find(Some(&["shop"]), "latest").await.unwrap_err();
    insta::assert_snapshot!(refusal, @r"
    all snapshots of shop are safety snapshots, taken by restores; name one by its id:
      shop/20261103T020000Z-9f2c61aa
");
}

#[tokio::test]
async fn latest_does_not_fall_back_to_something_older() {
    let place = Place::new().await;
    place.backup("candig", 1).await;
    place.backup("candig", 2).await;
    place.damage("candig", 2);
    let refusal = place.find(Some(&["candig"]), "latest").await.unwrap_err();
    insta::assert_snapshot!(refusal, @r"
    the newest snapshot cannot be read: snapshot candig/20261102T020000Z-9f2c61aa: the manifest has format 2, but this version reads formats up to 1; use a newer cofferdam; to use an older one, name it by its id:
      candig/20261101T020000Z-9f2c61aa
");
    assert_eq!(
        place.find(None, "20261101").await,
        found("candig", 1),
        "an older one can still be named"
    );
}

#[tokio::test]
async fn an_empty_repository_has_no_latest() {
    let place = Place::new().await;
    let refusal = place.find(None, "latest").await.unwrap_err();
    assert_eq!(refusal, "there is no snapshot of any project in /backups");
}

#[test]
fn targets_are_chosen_by_patterns_in_their_own_order() {
    let available = [
        TargetId::new("db", DriverKind::Postgres, "clinical"),
        TargetId::new("db", DriverKind::Postgres, "genomic"),
        TargetId::new("app", DriverKind::Volume, "storage"),
    ];
    let choose = |patterns: &[&str]| {
        let patterns: Vec<TargetPattern> = patterns
            .iter()
            .map(|pattern| pattern.parse().unwrap())
            .collect();
        targets(&available, &patterns)
            .map(|chosen| {
                chosen
                    .into_iter()
                    .map(|id| id.name.as_str())
                    .collect::<Vec<_>>()
            })
            .map_err(|error| error.to_string())
    };
    assert_eq!(choose(&[]).unwrap(), ["clinical", "genomic", "storage"]);
    assert_eq!(
        choose(&["app/*", "db/postgres/clinical", "db/*"]).unwrap(),
        ["clinical", "genomic", "storage"]
    );
    assert_eq!(choose(&["*/genomic"]).unwrap(), ["genomic"]);
    insta::assert_snapshot!(choose(&["db/*", "db/postgres/clincal"]).unwrap_err(), @r"
    no target matches `db/postgres/clincal`; the targets are:
      db/postgres/clinical
      db/postgres/genomic
      app/volume/storage
");
}

fn saves(manifest: &mut Manifest, services: &[&str], whole: bool) {
    let object = |service: &str| path(&manifest.project, &manifest.snapshot, service);
    let saved = services.iter().map(|service| {
        let target = TargetId::new(*service, DriverKind::Volume, "data");
        record(target, vec![artifact(object(service), "rows")])
    });
    manifest.targets = saved.collect();
    if !whole {
        manifest.selection = services.iter().map(|it| format!("{it}/*")).collect();
    }
}

/// From which snapshot each service comes, and whether that is the whole project.
async fn completed_from(place: &Place, day: u8) -> (Vec<(String, RunId)>, bool) {
    let newest = SnapshotRef::new("shop", id(day));
    let newest = place.repository.manifest(&newest).await.unwrap();
    let Completed { manifest, older } = completed(&place.repository, newest).await.unwrap();
    let from = |record: &TargetRecord| {
        let older = older.get(&record.target).map(|it| &it.snapshot);
        let run = older.unwrap_or(&manifest.snapshot);
        // The record is that of the snapshot that is named.
        assert!(
            record.artifacts[0]
                .object
                .to_string()
                .contains(run.as_str())
        );
        (record.target.service.clone(), run.clone())
    };
    let targets = manifest.targets.iter().map(from).collect();
    (targets, manifest.selection.is_empty())
}

#[tokio::test]
async fn a_part_is_completed_by_the_newest_of_the_rest() {
    let place = Place::new().await;
    for (day, services, whole) in [
        (10, &["db", "web", "gone-before"] as &[&str], true),
        (11, &["db", "web", "logs"], true),
        (12, &["logs"], false),
        (13, &["db", "web"], false),
        (14, &["db"], false),
    ] {
        place
            .commit("shop", day, |manifest| saves(manifest, services, whole))
            .await;
    }
    place.safety("shop", 13 + 2).await;
    let from = |pairs: &[(&str, u8)]| -> Vec<(String, RunId)> {
        let pairs = pairs.iter();
        pairs
            .map(|(service, day)| ((*service).to_owned(), id(*day)))
            .collect()
    };
    let (found, whole) = completed_from(&place, 14).await;
    assert_eq!(found, from(&[("db", 14), ("web", 13), ("logs", 12)]));
    assert!(whole);
    let (found, _) = completed_from(&place, 12).await;
    assert_eq!(found, from(&[("logs", 12), ("db", 11), ("web", 11)]));
    let (found, _) = completed_from(&place, 11).await;
    assert_eq!(found, from(&[("db", 11), ("web", 11), ("logs", 11)]));
}

#[tokio::test]
async fn what_is_gone_from_a_service_does_not_come_back() {
    let place = Place::new().await;
    place
        .commit("shop", 10, |manifest| {
            saves(manifest, &["db", "web"], true);
            let object = path("shop", &id(10), "dropped");
            let dropped = TargetId::new("db", DriverKind::Volume, "dropped");
            let artifacts = vec![artifact(object, "rows")];
            manifest.targets.push(record(dropped, artifacts));
        })
        .await;
    place
        .commit("shop", 11, |manifest| saves(manifest, &["db"], false))
        .await;
    let (found, whole) = completed_from(&place, 11).await;
    assert_eq!(
        found,
        [("db".to_owned(), id(11)), ("web".to_owned(), id(10))]
    );
    assert!(whole);
}

fn fails(manifest: &mut Manifest, service: &str, name: &str) {
    let target = TargetId::new(service, DriverKind::Volume, name);
    let reason = format!("no {name} on day {}", &manifest.snapshot.as_str()[6..8]);
    manifest.failed.push(Failure { target, reason });
}

async fn completed_on(place: &Place, day: u8) -> Completed {
    let newest = SnapshotRef::new("shop", id(day));
    let newest = place.repository.manifest(&newest).await.unwrap();
    completed(&place.repository, newest).await.unwrap()
}

fn missing(completed: &Completed) -> Vec<String> {
    let failed = completed.manifest.failed.iter();
    failed
        .map(|failure| format!("{}: {}", failure.target, failure.reason))
        .collect()
}

#[tokio::test]
async fn what_failed_comes_from_its_newest_good_copy() {
    let place = Place::new().await;
    place
        .commit("shop", 10, |it| saves(it, &["db", "web", "dropped"], true))
        .await;
    place
        .commit("shop", 11, |it| saves(it, &["db", "web"], true))
        .await;
    place.safety("shop", 12).await;
    for day in [13, 14] {
        place
            .commit("shop", day, |manifest| {
                saves(manifest, &["web"], true);
                fails(manifest, "db", "data");
                fails(manifest, "never", "data");
            })
            .await;
    }
    let (found, whole) = completed_from(&place, 14).await;
    let web = ("web".to_owned(), id(14));
    assert_eq!(found, [web.clone(), ("db".to_owned(), id(11))]);
    assert!(whole);
    let completed = completed_on(&place, 14).await;
    assert_eq!(
        missing(&completed),
        ["never/volume/data: no data on day 14"]
    );
    let failures: Vec<_> = completed.older.values().map(|it| &it.failure).collect();
    assert_eq!(failures, [&Some("no data on day 14".to_owned())]);

    // What cannot be read hides what is older, and nothing else.
    place.damage("shop", 13);
    let completed = completed_on(&place, 14).await;
    assert_eq!(completed.older.len(), 0);
    let told = missing(&completed);
    assert!(
        told[0].starts_with("db/volume/data: no data on day 14 (copies older than"),
        "{told:?}"
    );
    let (found, _) = completed_from(&place, 11).await;
    assert_eq!(
        found,
        [("db".to_owned(), id(11)), ("web".to_owned(), id(11))]
    );
}

#[tokio::test]
async fn a_server_that_was_not_reached_comes_back_as_it_last_was() {
    let place = Place::new().await;
    let holds = |manifest: &mut Manifest, names: &[&str]| {
        let run = manifest.snapshot.clone();
        for name in names {
            let target = TargetId::new("db", DriverKind::Volume, *name);
            let object = path("shop", &run, name);
            manifest
                .targets
                .push(record(target, vec![artifact(object, "rows")]));
        }
    };
    place
        .commit("shop", 10, |it| holds(it, &["a", "b", "dropped"]))
        .await;
    place
        .commit("shop", 11, |manifest| {
            holds(manifest, &["a"]);
            fails(manifest, "db", "b");
        })
        .await;
    place
        .commit("shop", 12, |manifest| {
            saves(manifest, &["web"], true);
            fails(manifest, "db", "*");
        })
        .await;
    let completed = completed_on(&place, 12).await;
    let older: Vec<_> = completed
        .older
        .iter()
        .map(|(target, older)| (target.name.as_str(), older.snapshot.clone()))
        .collect();
    assert_eq!(older, [("a", id(11)), ("b", id(10))]);
    assert_eq!(missing(&completed), [""; 0]);
}

#[tokio::test]
async fn what_failed_in_a_part_comes_from_an_older_one_too() {
    let place = Place::new().await;
    place
        .commit("shop", 10, |it| saves(it, &["db", "web"], true))
        .await;
    place
        .commit("shop", 11, |manifest| {
            saves(manifest, &["web"], false);
            manifest.selection.push("db/*".to_owned());
            fails(manifest, "db", "*");
        })
        .await;
    place
        .commit("shop", 12, |it| saves(it, &["logs"], false))
        .await;
    let (found, whole) = completed_from(&place, 12).await;
    let expected = [("logs", 12), ("web", 11), ("db", 10)];
    assert_eq!(
        found,
        expected.map(|(name, day)| (name.to_owned(), id(day)))
    );
    assert!(whole);

    place.damage("shop", 11);
    let newest = SnapshotRef::new("shop", id(12));
    let newest = place.repository.manifest(&newest).await.unwrap();
    let refused = completed(&place.repository, newest).await.err().unwrap();
    assert!(
        refused.to_string().contains("name it by its id"),
        "{refused}"
    );
}

#[test]
fn what_has_no_good_copy_is_missed_where_it_was_asked_for() {
    let available = [
        TargetId::new("db", DriverKind::Postgres, "clinical"),
        TargetId::new("app", DriverKind::Volume, "storage"),
    ];
    let failed = [
        ("db", DriverKind::Postgres, "genomic"),
        ("search", DriverKind::Elasticsearch, "*"),
    ]
    .map(|(service, driver, name)| Failure {
        target: TargetId::new(service, driver, name),
        reason: "it was down".to_owned(),
    });
    let choose = |patterns: &[&str]| {
        let patterns: Vec<TargetPattern> = patterns
            .iter()
            .map(|pattern| pattern.parse().unwrap())
            .collect();
        restored(&available, &failed, &patterns)
            .map(|chosen| {
                let missing = chosen.missing.iter().map(|it| it.target.service.clone());
                (chosen.targets.len(), missing.collect::<Vec<_>>())
            })
            .map_err(|error| error.to_string())
    };
    let both = vec!["db".to_owned(), "search".to_owned()];
    assert_eq!(choose(&[]), Ok((2, both)));
    assert_eq!(choose(&["app/*"]), Ok((1, Vec::new())));
    assert_eq!(choose(&["db/*"]), Ok((1, vec!["db".to_owned()])));
    assert_eq!(
        choose(&["app/*", "search/elasticsearch/indices"]),
        Ok((1, vec!["search".to_owned()]))
    );
    assert_eq!(
        choose(&["db/postgres/genomic"]).unwrap_err(),
        "there is no good copy of db/postgres/genomic: it was down"
    );
    assert!(
        choose(&["db/postgres/other"])
            .unwrap_err()
            .starts_with("no target matches")
    );
}

#[tokio::test]
async fn latest_is_that_of_the_node() {
    let place = Place::new().await;
    place.backup("shop", 10).await;
    for (day, node) in [(11, "a"), (12, "b"), (13, "a"), (14, "b")] {
        let of_node = |manifest: &mut Manifest| manifest.node = Some(node.to_owned());
        place.commit("shop", day, of_node).await;
    }
    let latest_on = async |node| place.find_on(node, Some(&["shop"]), "latest").await;
    assert_eq!(latest_on(Some("a")).await, found("shop", 13));
    assert_eq!(latest_on(Some("b")).await, found("shop", 14));
    insta::assert_snapshot!(latest_on(Some("c")).await.unwrap_err(), @r"
    no snapshot of shop was taken on this node, c; name one of another node by its id:
      shop/20261114T020000Z-9f2c61aa (node b)
      shop/20261113T020000Z-9f2c61aa (node a)
    ");
    insta::assert_snapshot!(latest_on(None).await.unwrap_err(), @r"
    `latest` matches several nodes of a swarm; name one of these by its id:
      shop/20261114T020000Z-9f2c61aa (node b)
      shop/20261113T020000Z-9f2c61aa (node a)
    ");
    // Nor does another node's complete it.
    for (day, node, service, whole) in [(15, "b", "db", true), (16, "a", "logs", false)] {
        place
            .commit("shop", day, |manifest| {
                saves(manifest, &[service], whole);
                manifest.node = Some(node.to_owned());
            })
            .await;
    }
    let (targets, _) = completed_from(&place, 16).await;
    assert_eq!(targets, [("logs".to_owned(), id(16))]);
    // By its id, any node's can be named.
    let id = id(11).to_string();
    assert_eq!(place.find_on(Some("b"), None, &id).await, found("shop", 11));
}
