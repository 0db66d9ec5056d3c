use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::ToSpan as _;

use super::*;
use crate::manifest::{Failure, Manifest, Purpose, Skip};
use crate::repository::local::LocalRepository;
use crate::repository::samples::manifest as sample;
use crate::repository::samples::{artifact, body, id, path, record};
use crate::repository::status::StatusForm;
use crate::target::DriverKind;

/// The 20th of November, ten hours after that day's snapshot.
const NOW: &str = "2026-11-20T12:00:00Z";

struct Place {
    temporary: tempfile::TempDir,
    repository: Arc<LocalRepository>,
}

fn database() -> TargetId {
    TargetId::new("db", DriverKind::Postgres, "shop")
}

fn uploads() -> TargetId {
    TargetId::new("app", DriverKind::Volume, "uploads")
}

fn question() -> Question {
    Question {
        now: NOW.parse().unwrap(),
        goals: Goals::same(Duration::from_secs(26 * 60 * 60)),
        targets: Vec::new(),
        expected: BTreeSet::new(),
        retired: Vec::new(),
        horizon: None,
    }
}

fn failure(target: TargetId, reason: &str) -> Failure {
    Failure {
        target,
        reason: reason.to_owned(),
    }
}

fn patterns(text: &str) -> Vec<TargetPattern> {
    vec![text.parse().unwrap()]
}

impl Place {
    async fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let repository = LocalRepository::new(temporary.path());
        repository.prepare().await.unwrap();
        Self {
            temporary,
            repository: Arc::new(repository),
        }
    }

    /// A snapshot of the project `shop` that holds `targets`, once `change` has had its way with the manifest.
    async fn save_with(&self, day: u8, targets: &[TargetId], change: impl FnOnce(&mut Manifest)) {
        let mut manifest = sample("shop", &id(day), Vec::new());
        manifest.targets.clear();
        for target in targets {
            let object = path("shop", &id(day), &format!("{}.dump", target.file_stem()));
            self.repository.put(&object, body("rows")).await.unwrap();
            let artifacts = vec![artifact(object, "rows")];
            manifest.targets.push(record(target.clone(), artifacts));
        }
        change(&mut manifest);
        self.repository.commit(&manifest).await.unwrap();
    }

    async fn save(&self, day: u8, targets: &[TargetId]) {
        self.save_with(day, targets, |_| {}).await;
    }

    async fn ask_of(
        &self,
        projects: Option<&[&str]>,
        known: &[StatusPath],
        question: &Question,
    ) -> Result<FreshnessReport, FreshnessError> {
        let projects: Option<Vec<String>> =
            projects.map(|named| named.iter().map(|&name| name.to_owned()).collect());
        check(&*self.repository, projects.as_deref(), known, question).await
    }

    async fn ask(&self, question: &Question) -> FreshnessReport {
        self.ask_of(None, &[], question).await.unwrap()
    }

    fn file(&self, day: u8, target: &TargetId) -> std::path::PathBuf {
        let name = format!("shop/{}/{}.dump", id(day), target.file_stem());
        self.temporary.path().join(name)
    }
}

fn states(report: &FreshnessReport) -> Vec<(String, State)> {
    let targets = report.targets();
    targets
        .map(|judged| (judged.target.to_string(), judged.state.clone()))
        .collect()
}

fn only(report: &FreshnessReport) -> &TargetReport {
    let targets: Vec<_> = report.targets().collect();
    let [judged] = targets.as_slice() else {
        panic!("{targets:?}");
    };
    judged
}

#[tokio::test]
async fn the_newest_good_copy_counts() {
    let place = Place::new().await;
    for day in [18, 19, 20] {
        place.save(day, &[database(), uploads()]).await;
    }
    let report = place.ask(&question()).await;
    assert!(report.is_in_order(), "{report:?}");
    for judged in report.targets() {
        let copy = judged.last_good.as_ref().unwrap();
        assert_eq!(copy.snapshot, id(20));
        assert_eq!(copy.age_seconds, 10 * 60 * 60);
        assert_eq!(copy.stored_bytes, 4);
        assert_eq!(judged.passed_over, []);
    }
}

#[tokio::test]
async fn a_target_is_stale_from_the_second_on_in_which_it_is_too_old() {
    let place = Place::new().await;
    place.save(19, &[database()]).await;
    let age = Duration::from_secs(34 * 60 * 60);
    for (max_age, expected) in [
        (age, State::Ok),
        (age - Duration::from_secs(1), State::Stale),
    ] {
        let report = place
            .ask(&Question {
                goals: Goals::same(max_age),
                ..question()
            })
            .await;
        assert_eq!(only(&report).state, expected);
    }
}

#[tokio::test]
async fn a_service_can_have_a_goal_of_its_own_or_none() {
    let place = Place::new().await;
    place.save(10, &[database(), uploads()]).await;
    let days = |days: u64| Some(Duration::from_secs(days * 24 * 60 * 60));
    for (own, others, expected) in [
        (days(11), days(1), [State::Stale, State::Ok]),
        (None, days(11), [State::Ok, State::Ok]),
        (days(1), None, [State::Ok, State::Stale]),
    ] {
        let goals = Goals::of_services(BTreeMap::from([("db".to_owned(), own)]), others);
        let report = place
            .ask(&Question {
                goals,
                ..question()
            })
            .await;
        let found: Vec<_> = report.targets().map(|it| it.state.clone()).collect();
        assert_eq!(found, expected);
        let limits: Vec<_> = report.targets().map(|it| it.max_age_seconds).collect();
        assert_eq!(
            limits,
            [others, own].map(|goal| goal.map(|it| it.as_secs()))
        );
    }
}

#[tokio::test]
async fn beyond_the_horizon_only_a_good_copy_is_looked_for() {
    let place = Place::new().await;
    place.save(5, &[database(), uploads()]).await;
    place.save(10, &[uploads()]).await;
    place.save(15, &[database()]).await;
    place.save(20, &[database()]).await;
    let reached = async |known: &[TargetId]| {
        let question = Question {
            horizon: Some("2026-11-18T00:00:00Z".parse().unwrap()),
            ..question()
        };
        let paths = known
            .iter()
            .map(|it| StatusPath::new("shop", it, StatusForm::Json));
        let paths: Vec<StatusPath> = paths.collect();
        let report = place.ask_of(None, &paths, &question).await.unwrap();
        let uploads = report.targets().find(|it| it.target == uploads());
        uploads
            .and_then(|it| it.last_good.clone())
            .map(|it| it.snapshot)
    };
    assert_eq!(reached(&[database()]).await, None);
    assert_eq!(reached(&[database(), uploads()]).await, Some(id(10)));
    // Nobody knows what there is.
    assert_eq!(reached(&[]).await, Some(id(10)));
}

#[tokio::test]
async fn failed_copies_do_not_count_and_their_reasons_are_told() {
    let place = Place::new().await;
    place.save(10, &[database(), uploads()]).await;
    for day in 16..=20 {
        place
            .save_with(day, &[uploads()], |manifest| {
                let reason = format!("no room on day {day}");
                manifest.failed.push(failure(database(), &reason));
            })
            .await;
    }
    let report = place.ask(&question()).await;
    assert_eq!(
        states(&report),
        [
            ("app/volume/uploads".to_owned(), State::Ok),
            ("db/postgres/shop".to_owned(), State::Stale),
        ]
    );
    let judged = report.targets().last().unwrap();
    assert_eq!(judged.last_good.as_ref().unwrap().snapshot, id(10));
    let told: Vec<_> = judged.passed_over.iter().map(|it| &it.snapshot).collect();
    assert_eq!(told, [&id(20), &id(19), &id(18)]);
    assert_eq!((judged.passed_over_more, judged.absent_from), (2, 0));
    let Why::Failed { reason } = &judged.passed_over[0].why else {
        panic!("{judged:?}");
    };
    assert_eq!(reason, "no room on day 20");
}

#[tokio::test]
async fn a_failure_of_a_service_is_one_of_each_of_its_targets() {
    let everything = TargetId::new("db", DriverKind::Postgres, "*");
    let place = Place::new().await;
    place
        .save_with(10, &[uploads()], |manifest| {
            manifest.failed.push(failure(everything.clone(), "refused"));
        })
        .await;
    // Nobody knows yet what the service holds.
    let report = place.ask(&question()).await;
    let judged = report.targets().last().unwrap();
    assert_eq!(
        (&judged.target, &judged.state),
        (&everything, &State::Missing)
    );

    place.save(15, &[database(), uploads()]).await;
    place
        .save_with(20, &[uploads()], |manifest| {
            manifest.failed.push(failure(everything.clone(), "refused"));
        })
        .await;
    let remembered = [StatusPath::new("shop", &everything, StatusForm::Json)];
    let report = place.ask_of(None, &remembered, &question()).await.unwrap();
    assert_eq!(report.targets().count(), 2);
    let judged = report.targets().last().unwrap();
    assert_eq!(
        (&judged.target, &judged.state),
        (&database(), &State::Stale)
    );
    // The one of the 10th is older than the good copy.
    assert_eq!(judged.passed_over.len(), 1);
    assert_eq!(judged.passed_over[0].snapshot, id(20));
    assert_eq!(judged.absent_from, 0);
}

#[tokio::test]
async fn a_copy_whose_objects_are_gone_or_cut_is_damaged_and_the_one_before_counts() {
    for damage in ["gone", "cut"] {
        let place = Place::new().await;
        for day in [19, 20] {
            place.save(day, &[database(), uploads()]).await;
        }
        let file = place.file(20, &database());
        match damage {
            "gone" => std::fs::remove_file(file).unwrap(),
            _ => std::fs::write(file, "ro").unwrap(),
        }
        let report = place.ask(&question()).await;
        let judged = report.targets().last().unwrap();
        assert_eq!(judged.state, State::Damaged, "{damage}");
        assert_eq!(judged.last_good.as_ref().unwrap().snapshot, id(19));
        assert!(matches!(judged.passed_over[0].why, Why::Damaged { .. }));
        assert_eq!(report.targets().next().unwrap().state, State::Ok);
        assert!(!report.is_in_order());
    }
}

/// Who goes by the last copy that was made must learn that it is damaged.
#[tokio::test]
async fn a_damaged_copy_is_told_behind_any_number_of_failures() {
    let place = Place::new().await;
    for day in [10, 11, 12] {
        place.save(day, &[database(), uploads()]).await;
    }
    for day in [11, 12] {
        std::fs::remove_file(place.file(day, &database())).unwrap();
    }
    let everything = TargetId::new("db", DriverKind::Postgres, "*");
    for (day, failed) in (13..=20).zip([database(), everything].into_iter().cycle()) {
        place
            .save_with(day, &[uploads()], |manifest| {
                manifest.failed.push(failure(failed, "refused"));
            })
            .await;
    }
    let report = place.ask(&question()).await;
    let judged = report.targets().last().unwrap();
    assert_eq!(judged.state, State::Damaged);
    assert_eq!(judged.last_good.as_ref().unwrap().snapshot, id(10));
    let told: Vec<_> = judged.passed_over.iter().map(|it| &it.snapshot).collect();
    assert_eq!(told, [&id(20), &id(19), &id(12)]);
    assert!(matches!(judged.passed_over[2].why, Why::Damaged { .. }));
}

#[tokio::test]
async fn objects_of_earlier_snapshots_are_looked_for_where_they_lie() {
    let place = Place::new().await;
    place.save(10, &[database()]).await;
    let layer = artifact(path("shop", &id(10), "db.postgres.shop.dump"), "rows");
    place
        .save_with(20, &[], |manifest| {
            manifest.targets.push(record(database(), vec![layer]));
        })
        .await;
    assert_eq!(only(&place.ask(&question()).await).state, State::Ok);
    std::fs::remove_file(place.file(10, &database())).unwrap();
    let report = place.ask(&question()).await;
    let judged = only(&report);
    assert_eq!((&judged.state, &judged.last_good), (&State::Damaged, &None));
    assert_eq!(judged.passed_over.len(), 2);
}

#[tokio::test]
async fn a_target_that_newer_snapshots_do_not_name_is_stale_until_it_is_retired() {
    let place = Place::new().await;
    place.save(10, &[database(), uploads()]).await;
    for day in [18, 19, 20] {
        place.save(day, &[database()]).await;
    }
    let report = place.ask(&question()).await;
    let judged = report.targets().next().unwrap();
    assert_eq!((&judged.target, &judged.state), (&uploads(), &State::Stale));
    assert_eq!((judged.passed_over.len(), judged.absent_from), (0, 3));

    let retired = Question {
        retired: patterns("app/*"),
        ..question()
    };
    let report = place.ask(&retired).await;
    assert_eq!(only(&report).target, database());
    assert!(report.is_in_order());
    let expected = Question {
        expected: [uploads()].into(),
        ..retired
    };
    assert!(!place.ask(&expected).await.is_in_order());
}

#[tokio::test]
async fn a_label_that_skips_the_service_explains_an_old_copy() {
    let skip = |manifest: &mut Manifest| {
        manifest.skipped.push(Skip {
            service: "app".to_owned(),
            reason: "moved to S3".to_owned(),
        });
    };
    let place = Place::new().await;
    place.save(10, &[database(), uploads()]).await;
    place.save_with(20, &[database()], skip).await;
    let report = place.ask(&question()).await;
    let judged = report.targets().next().unwrap();
    let reason = "moved to S3".to_owned();
    assert_eq!(judged.state, State::Skipped { reason });
    assert!(report.is_in_order());
    // One that was skipped once, and is not any more, is judged again.
    let place = Place::new().await;
    place.save(10, &[uploads()]).await;
    place.save_with(18, &[database()], skip).await;
    place.save(20, &[database()]).await;
    let report = place.ask(&question()).await;
    assert_eq!(report.targets().next().unwrap().state, State::Stale);
}

#[tokio::test]
async fn what_never_had_a_backup_is_missing_when_it_is_expected_or_remembered() {
    let place = Place::new().await;
    place.save(20, &[uploads()]).await;
    let expected = Question {
        expected: [database()].into(),
        ..question()
    };
    let remembered = [
        StatusPath::new("shop", &database(), StatusForm::Json),
        StatusPath::new("shop", &database(), StatusForm::Text),
    ];
    for report in [
        place.ask(&expected).await,
        place.ask_of(None, &remembered, &question()).await.unwrap(),
        place
            .ask_of(Some(&["shop"]), &remembered, &question())
            .await
            .unwrap(),
    ] {
        let judged = report.targets().last().unwrap();
        assert_eq!(
            (&judged.target, &judged.state),
            (&database(), &State::Missing)
        );
        assert_eq!(report.targets().count(), 2);
    }
    let error = place.ask_of(Some(&["shop", "other"]), &[], &expected).await;
    assert!(matches!(
        error,
        Err(FreshnessError::ExpectedWhere { projects: 2 })
    ));
}

#[tokio::test]
async fn only_the_targets_that_are_named_are_judged() {
    let place = Place::new().await;
    place.save(10, &[uploads()]).await;
    place.save(20, &[database()]).await;
    let named = |pattern| Question {
        targets: patterns(pattern),
        ..question()
    };
    let report = place.ask(&named("db/*")).await;
    assert_eq!(only(&report).target, database());
    assert!(report.is_in_order());
    let report = place.ask(&named("db/mysql/*")).await;
    let pattern = "db/mysql/*".to_owned();
    assert_eq!(report.findings, [Finding::NoTarget { pattern }]);
}

#[tokio::test]
async fn where_there_is_nothing_that_is_found() {
    let place = Place::new().await;
    let report = place.ask(&question()).await;
    assert_eq!(report.findings, [Finding::NothingInRepository]);
    place.save(20, &[database()]).await;
    let report = place
        .ask_of(Some(&["other"]), &[], &question())
        .await
        .unwrap();
    let nothing = Finding::NothingOfProject {
        project: "other".to_owned(),
        others: vec!["shop".to_owned()],
    };
    assert_eq!(report.findings, [nothing]);
    assert!(!report.is_in_order());
    let gone = LocalRepository::new(place.temporary.path().join("gone"));
    let error = check(&gone, None, &[], &question()).await;
    assert!(matches!(error, Err(FreshnessError::Repository(_))));
}

#[tokio::test]
async fn snapshots_that_cannot_be_read_are_told_and_do_not_count() {
    let place = Place::new().await;
    for day in [18, 19, 20] {
        place.save(day, &[database()]).await;
    }
    let manifest = |day| {
        let name = format!("shop/{}/manifest.json", id(day));
        place.temporary.path().join(name)
    };
    std::fs::write(manifest(20), "{\"format\": 7}").unwrap();
    std::fs::write(manifest(18), "{").unwrap();
    let report = place.ask(&question()).await;
    let unreadable: Vec<_> = report
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::Unreadable { snapshot, why } => (snapshot.id.clone(), why.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(unreadable.len(), 2);
    assert_eq!(unreadable[0].0, id(20));
    assert!(unreadable[0].1.contains("use a newer cofferdam"));
    assert_eq!(unreadable[1].0, id(18));
    let copy = only(&report).last_good.as_ref().unwrap();
    assert_eq!(copy.snapshot, id(19));
    assert_eq!(only(&report).state, State::Stale);
}

#[tokio::test]
async fn a_snapshot_from_the_future_keeps_nothing_fresh() {
    let place = Place::new().await;
    place.save(19, &[database()]).await;
    place.save(25, &[database()]).await;
    let report = place.ask(&question()).await;
    assert!(matches!(
        report.findings[..],
        [Finding::FromTheFuture { .. }]
    ));
    let judged = only(&report);
    assert_eq!(judged.state, State::Stale);
    assert_eq!(judged.passed_over[0].why, Why::FromTheFuture);
    // Clocks differ a little.
    let place = Place::new().await;
    let ahead = question().now + 4.minutes();
    let started = |manifest: &mut Manifest| manifest.started = ahead;
    place.save_with(20, &[database()], started).await;
    let report = place.ask(&question()).await;
    assert!(report.is_in_order(), "{report:?}");
    assert_eq!(only(&report).last_good.as_ref().unwrap().age_seconds, 0);
}

#[tokio::test]
async fn safety_snapshots_of_restores_do_not_count() {
    let place = Place::new().await;
    place.save(10, &[database()]).await;
    place
        .save_with(20, &[database(), uploads()], |manifest| {
            manifest.purpose = Purpose::Safety { restore: id(20) };
        })
        .await;
    let report = place.ask(&question()).await;
    let judged = only(&report);
    assert_eq!(judged.state, State::Stale);
    assert_eq!(judged.absent_from, 0);
}

#[tokio::test]
async fn programs_are_told_the_same() {
    let place = Place::new().await;
    place.save(10, &[database()]).await;
    place
        .save_with(20, &[uploads()], |manifest| {
            manifest.failed.push(failure(database(), "pg_dump said no"));
        })
        .await;
    let report = place.ask(&question()).await;
    insta::assert_json_snapshot!(report.targets().last().unwrap(), @r#"
    {
      "target": "db/postgres/shop",
      "state": "stale",
      "max_age_seconds": 93600,
      "last_good": {
        "snapshot": "20261110T020000Z-9f2c61aa",
        "time": "2026-11-10T02:00:00Z",
        "age_seconds": 900000,
        "stored_bytes": 4
      },
      "passed_over": [
        {
          "snapshot": "20261120T020000Z-9f2c61aa",
          "time": "2026-11-20T02:00:00Z",
          "why": "failed",
          "reason": "pg_dump said no"
        }
      ],
      "passed_over_more": 0,
      "absent_from": 0
    }
    "#);
}

#[tokio::test]
async fn how_long_a_target_has_not_been_named_is_told() {
    let place = Place::new().await;
    place.save(10, &[database()]).await;
    place
        .save_with(15, &[uploads()], |manifest| {
            manifest.failed.push(failure(database(), "no"));
        })
        .await;
    place.save(19, &[uploads()]).await;
    place.save(20, &[uploads()]).await;
    let expected = Question {
        expected: [TargetId::new("db", DriverKind::Mysql, "cms")].into(),
        ..question()
    };
    let report = place.ask(&expected).await;
    assert_eq!(report.targets().count(), 3);
    for judged in report.targets() {
        let expected = match judged.target.name.as_str() {
            "uploads" => 0,
            "shop" => 2,
            _ => 4,
        };
        assert_eq!(judged.absent_from, expected, "{}", judged.target);
    }
}
