//! What holds of every pruning, whatever the policies and the history.

use super::*;

const SERVICES: [&str; 3] = ["db", "app", "search"];
const POLICIES: [&str; 8] = [
    "last=1",
    "last=3",
    "hourly=5",
    "daily=3",
    "daily=2,weekly=2",
    "weekly=1,monthly=2,yearly=2",
    "within=3d",
    "last=2,daily=4,within=36h",
];
const TIME_ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"];

#[derive(Clone, Debug)]
struct History {
    snapshots: Vec<Snapshot>,
    keep: &'static str,
    time_zone: &'static str,
}

impl History {
    fn terms(&self) -> Terms {
        Terms {
            despite: vec![Despite::Failed, Despite::Shrunken],
            ..terms(self.keep, self.time_zone)
        }
    }

    fn judged(&self) -> Pruning {
        judged(&self.snapshots, &self.terms())
    }

    fn going(&self) -> BTreeSet<RunId> {
        self.judged().going().cloned().collect()
    }

    fn and(&self, snapshot: Snapshot) -> Self {
        let mut more = self.clone();
        more.snapshots.push(snapshot);
        more
    }

    fn after_pruning(&self) -> Self {
        let going = self.going();
        let mut left = self.clone();
        left.snapshots.retain(|one| !going.contains(&one.id));
        left
    }
}

/// A run that began so many minutes into the history. `standings` of the three services: 0 failed, 1 absent, others saved.
fn run(
    minutes: i64,
    number: usize,
    series: u8,
    standings: [u8; 3],
    keeps: [Option<&str>; 3],
) -> Snapshot {
    let begin: Timestamp = "2026-10-20T00:00:00Z".parse().unwrap();
    let started = begin + minutes.minutes();
    let mut snapshot = taken(&started.to_string());
    snapshot.id = format!("{}-{number:08x}", started.strftime("%Y%m%dT%H%M%SZ"))
        .parse()
        .unwrap();
    snapshot.saved.clear();
    snapshot.series = match series {
        0 => Series::Selection(vec!["db/*".to_owned()]),
        1 => Series::Selection(vec!["app/*".to_owned(), "db/*".to_owned()]),
        2 => Series::Safety,
        _ => Series::Whole,
    };
    for ((service, standing), keep) in SERVICES.into_iter().zip(standings).zip(keeps) {
        snapshot = match standing {
            0 => snapshot.failing(service),
            1 => snapshot,
            _ => match keep {
                Some(keep) => snapshot.saving(service).kept_by(service, keep),
                None => snapshot.saving(service),
            },
        };
    }
    // Without any target there is no snapshot.
    if snapshot.saved.is_empty() {
        snapshot = snapshot.saving("always");
    }
    snapshot
}

prop_compose! {
    fn histories()(
        keep in prop::sample::select(POLICIES.to_vec()),
        time_zone in prop::sample::select(TIME_ZONES.to_vec()),
        keeps in prop::array::uniform3(prop::option::weighted(0.3, prop::sample::select(POLICIES.to_vec()))),
        runs in prop::collection::vec(
            (0_i64..60 * 24 * 60, 0_u8..8, prop::array::uniform3(0_u8..6)),
            1..40,
        ),
    ) -> History {
        let runs = runs.into_iter().enumerate();
        let snapshots = runs
            .map(|(number, (minutes, series, standings))| run(minutes, number, series, standings, keeps))
            .collect();
        History { snapshots, keep, time_zone }
    }
}

/// The newest good copy of each target; those of restores count where there is no other.
fn last_copies(snapshots: &[Snapshot]) -> BTreeSet<RunId> {
    let targets: BTreeSet<&TargetId> = snapshots.iter().flat_map(|one| one.saved.keys()).collect();
    let newest = |target: &TargetId| {
        let copies = snapshots
            .iter()
            .filter(|one| one.saved.contains_key(target));
        copies.max_by_key(|one| (one.is_backup(), one.started, one.id.clone()))
    };
    let last = targets.into_iter().filter_map(newest);
    last.map(|one| one.id.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_last_good_copy_of_every_target_stays(history in histories()) {
        let going = history.going();
        prop_assert!(last_copies(&history.snapshots).is_disjoint(&going));
    }

    #[test]
    fn pruning_twice_is_pruning_once(history in histories()) {
        let left = history.after_pruning();
        prop_assert_eq!(left.going(), BTreeSet::new());
        prop_assert!(!left.snapshots.is_empty());
    }

    #[test]
    fn a_newer_run_brings_nothing_back(
        history in histories(),
        (series, standings) in (0_u8..8, prop::array::uniform3(0_u8..6)),
    ) {
        let newer = run(61 * 24 * 60, 99, series, standings, [None; 3]);
        // The label that a new run has brought may keep more: that is another question.
        prop_assume!(newer.saved.keys().all(|target| {
            let mut copies = history.snapshots.iter().filter_map(|one| one.saved.get(target));
            copies.all(|copy| copy.keep.is_none())
        }));
        let going = history.going();
        let later = history.and(newer).going();
        prop_assert!(going.is_subset(&later), "back: {:?}", going.difference(&later));
    }

    #[test]
    fn a_run_in_which_targets_failed_pushes_no_backup_out(history in histories()) {
        let failed = run(61 * 24 * 60, 99, 7, [0; 3], [None; 3]).without("always").saving("new");
        let more = history.and(failed).going();
        let before = history.going();
        let pushed = history.snapshots.iter().filter(|one| {
            one.is_backup() && more.contains(&one.id) && !before.contains(&one.id)
        });
        // A run of the whole that does not name what it never knew lets that age.
        let pushed: Vec<_> = pushed.filter(|one| !one.saved.contains_key(&target("always"))).collect();
        prop_assert!(pushed.is_empty(), "{pushed:?}");
    }

    #[test]
    fn what_stays_has_a_reason(history in histories()) {
        for verdict in history.judged().verdicts {
            if let Fate::Stays { reasons } = verdict.fate {
                prop_assert!(!reasons.is_empty());
            }
        }
    }

    #[test]
    fn the_order_in_which_snapshots_are_told_means_nothing(
        (history, shuffled) in histories().prop_flat_map(|history| {
            let shuffled = Just(history.snapshots.clone()).prop_shuffle();
            (Just(history), shuffled)
        }),
    ) {
        let other = History { snapshots: shuffled, ..history.clone() };
        prop_assert_eq!(history.judged(), other.judged());
    }

    #[test]
    fn a_rule_keeps_no_more_than_its_number(
        minutes in prop::collection::btree_set(0_i64..60 * 24 * 60, 1..60),
        rule in prop::sample::select(crate::keep::Rule::ALL.to_vec()),
        count in 1_u32..6,
        time_zone in prop::sample::select(TIME_ZONES.to_vec()),
    ) {
        let minutes = minutes.into_iter().enumerate();
        let snapshots: Vec<Snapshot> = minutes
            .map(|(number, minutes)| run(minutes, number, 7, [5; 3], [None; 3]))
            .collect();
        let kept = staying_in(time_zone, &snapshots, &format!("{rule}={count}")).len();
        prop_assert!(kept <= count as usize, "{kept}");
        // And none that it could keep goes: with room for all periods, each has its own.
        let all = staying_in(time_zone, &snapshots, &format!("{rule}=1000000")).len();
        prop_assert_eq!(kept, all.min(count as usize));
    }
}
