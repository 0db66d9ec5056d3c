//! What retention does to snapshots, for people.

use std::fmt::Write as _;

use super::View;
use super::layout::Table;
use crate::amounts::{counted, size};
use crate::history::retention::{Damaged, Doubt, Fate, Parting, Pruning, Reason};
use crate::hold::disturbance;
use crate::run::prune::PruneReport;
use crate::text::printable;

/// What would be done in each project, with what the repository would get back, in bytes.
pub fn planned<'a>(plans: impl Iterator<Item = (&'a Pruning, u64)>, view: &View) -> String {
    let texts: Vec<String> = plans
        .map(|(pruning, freed)| plan(pruning, freed, view))
        .collect();
    if texts.is_empty() {
        return "There are no snapshots.\n".to_owned();
    }
    texts.join("\n")
}

fn plan(pruning: &Pruning, freed: u64, view: &View) -> String {
    let mut text = format!("Project {}\n\n", printable(&pruning.project));
    if !pruning.verdicts.is_empty() {
        let headings = ["SNAPSHOT", "AGE", "ACTION", "WHY"];
        let mut table = Table::new(headings, view.width).whole(&[0, 1, 2]);
        for verdict in &pruning.verdicts {
            let (fate, why) = match &verdict.fate {
                Fate::Stays { reasons } => {
                    let reasons: Vec<String> = reasons.iter().map(reason).collect();
                    ("keep", reasons.join("; "))
                }
                Fate::Goes { reason } if pruning.doubts.is_empty() => ("remove", parting(reason)),
                Fate::Goes { reason } => ("would remove", parting(reason)),
            };
            table.row([
                verdict.snapshot.to_string(),
                view.age(verdict.started),
                fate.to_owned(),
                why,
            ]);
        }
        text.push_str(&table.render());
        text.push('\n');
    }
    if pruning.doubts.is_empty() {
        let going = pruning.going().count();
        let staying = pruning.verdicts.len() - going;
        let _ = writeln!(
            text,
            "{} would be removed, freeing about {}; {staying} would be kept.",
            counted(going as u64, "snapshot"),
            size(freed)
        );
    }
    doubts(&mut text, &pruning.doubts, view);
    text
}

/// What was done in each project.
pub fn done(reports: &[PruneReport], view: &View) -> String {
    if reports.is_empty() {
        return "There are no snapshots.\n".to_owned();
    }
    let mut text = String::new();
    for report in reports {
        let _ = writeln!(text, "Project {}", printable(&report.project));
        one(&mut text, report, view);
    }
    text
}

/// Two spaces to the right, as a part of what a run came to.
pub fn one(text: &mut String, report: &PruneReport, view: &View) {
    let _ = match report.removed.len() as u64 {
        0 if report.is_as_it_should_be() && report.refused.is_none() => {
            writeln!(text, "  prune: nothing to remove, {} kept", report.staying)
        }
        0 => writeln!(text, "  NOT pruned: every snapshot is kept"),
        removed => writeln!(
            text,
            "  prune: {} removed, {} freed, {} kept",
            counted(removed, "snapshot"),
            size(report.freed_bytes),
            report.staying
        ),
    };
    doubts(text, &report.doubts, view);
    if let Some(why) = &report.refused {
        let _ = writeln!(
            text,
            "  the repository does not allow removal ({}); run `cofferdam prune` from where it is allowed",
            printable(why)
        );
    }
    if report.interrupted {
        let _ = writeln!(text, "  interrupted; the next run continues from here");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  problem: {}", printable(problem));
    }
}

fn doubts(text: &mut String, doubts: &[Doubt], view: &View) {
    if doubts.is_empty() {
        return;
    }
    let _ = writeln!(text, "  nothing is pruned until this is resolved:");
    for doubt in doubts {
        let _ = writeln!(text, "    {}", printable(&self::doubt(doubt, view)));
    }
}

fn doubt(doubt: &Doubt, view: &View) -> String {
    match doubt {
        Doubt::NoSnapshots => {
            "the project has no snapshots here; check --repository and --project".to_owned()
        }
        Doubt::Unreadable(unreadable) => format!(
            "{} cannot be read, so its content is unknown ({}); if it is beyond repair, remove its manifest.json by hand",
            unreadable.snapshot, unreadable.why
        ),
        Doubt::Damaged(Damaged { snapshot, problem }) => format!(
            "the newest copy, in {snapshot}, is damaged: {problem}; back up again, and run `cofferdam verify` to see what is \
             left"
        ),
        Doubt::FromTheFuture {
            snapshot,
            started,
            now,
        } => format!(
            "{snapshot} is dated {}, but it is {} now: a clock is wrong, here or where it was taken",
            view.time(*started),
            view.time(*now)
        ),
        Doubt::Failed { target, snapshot } => format!(
            "{target} failed in {snapshot}, the newest snapshot; fix the cause and back up again, or run `cofferdam prune \
             --despite failed`"
        ),
        Doubt::Shrunken { snapshot, shrunken } => format!(
            "{target} is {} in {snapshot}, down from {} in {before}; if that is intended, run `cofferdam backup --may-shrink \
             {target}`, or just this once `cofferdam prune --despite shrunken`",
            size(shrunken.bytes),
            size(shrunken.bytes_before),
            target = shrunken.target,
            before = shrunken.before,
        ),
        Doubt::Disturbed { snapshot, services } => format!(
            "{} for {snapshot}, the newest snapshot; back up again, or run `cofferdam prune --despite disturbed`",
            disturbance(services)
        ),
    }
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Rule {
            rule,
            period,
            service,
        } => {
            let period = match period.as_str() {
                "" => String::new(),
                period => format!(" {period}"),
            };
            let service = service
                .as_ref()
                .map(|service| format!(" of {}", printable(service)));
            format!("{rule}{period}{}", service.unwrap_or_default())
        }
        Reason::NoPolicy => "no rule covers all of its targets".to_owned(),
        Reason::UnknownPolicy { service, keep } => format!(
            "{} has rules that this version does not know: {}",
            printable(service),
            printable(keep)
        ),
        Reason::LastCopy { target } => format!("last good copy of {target}"),
        Reason::ByHand => "made by hand less than 24 hours ago".to_owned(),
        Reason::Pinned { name } => format!("pinned as {}", printable(name)),
        Reason::Safety => "safety snapshot of a restore".to_owned(),
        Reason::InUse => "in use by a restore".to_owned(),
    }
}

fn parting(parting: &Parting) -> String {
    match parting {
        Parting::Policies { policies } => {
            format!("not kept by {}", printable(&policies.join(", or ")))
        }
        Parting::OldSafety => "old safety snapshot of a restore".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::history::retention::{Unreadable, Verdict};
    use crate::manifest::Shrunken;
    use crate::snapshot::verify::{Fault, Problem};
    use crate::target::{DriverKind, RunId, TargetId};

    fn view() -> View {
        View {
            width: None,
            now: "2026-11-21T07:30:00Z".parse().unwrap(),
            time_zone: TimeZone::get("Europe/Berlin").unwrap(),
        }
    }

    fn id(day: u8) -> RunId {
        format!("202611{day:02}T020000Z-9f2c61aa").parse().unwrap()
    }

    fn target() -> TargetId {
        TargetId::new("db", DriverKind::Postgres, "shop")
    }

    fn verdict(day: u8, fate: Fate) -> Verdict {
        Verdict {
            snapshot: id(day),
            started: id(day).time().unwrap(),
            fate,
        }
    }

    fn rule(rule: &'static str, period: &str, service: Option<&str>) -> Reason {
        Reason::Rule {
            rule,
            period: period.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    fn pruning(doubts: Vec<Doubt>) -> Pruning {
        let stays = |reasons: Vec<Reason>| Fate::Stays { reasons };
        let policies = vec!["daily=1".to_owned(), "weekly=2 of app".to_owned()];
        let last_copy = Reason::LastCopy { target: target() };
        Pruning {
            project: "shop".to_owned(),
            doubts,
            verdicts: vec![
                verdict(
                    1,
                    Fate::Goes {
                        reason: Parting::OldSafety,
                    },
                ),
                verdict(2, stays(vec![last_copy])),
                verdict(15, stays(vec![rule("weekly", "2026-W46", Some("app"))])),
                verdict(
                    20,
                    Fate::Goes {
                        reason: Parting::Policies { policies },
                    },
                ),
                verdict(
                    21,
                    stays(vec![
                        rule("daily", "2026-11-21", None),
                        rule("last", "", None),
                        Reason::ByHand,
                        Reason::Pinned {
                            name: "upgrade\u{1b}".to_owned(),
                        },
                        Reason::InUse,
                    ]),
                ),
            ],
        }
    }

    fn doubts() -> Vec<Doubt> {
        vec![
            Doubt::NoSnapshots,
            Doubt::Unreadable(Unreadable {
                snapshot: id(3),
                why: "the manifest is not whole: EOF\u{1b}[2J".to_owned(),
            }),
            Doubt::FromTheFuture {
                snapshot: id(22),
                started: id(22).time().unwrap(),
                now: view().now,
            },
            Doubt::Failed {
                target: target(),
                snapshot: id(21),
            },
            Doubt::Shrunken {
                snapshot: id(21),
                shrunken: Shrunken {
                    target: target(),
                    bytes: 40 << 20,
                    before: id(20),
                    bytes_before: 1 << 30,
                },
            },
            Doubt::Disturbed {
                snapshot: id(21),
                services: vec!["web".to_owned()],
            },
            Doubt::Damaged(Damaged {
                snapshot: id(21),
                problem: Problem {
                    target: Some(target()),
                    object: None,
                    fault: Fault::Missing,
                },
            }),
        ]
    }

    #[test]
    fn a_plan_tells_of_each_snapshot_why_it_stays_or_goes() {
        let plan = pruning(Vec::new());
        assert_snapshot!(planned([(&plan, 3 << 30)].into_iter(), &view()), @r"
        Project shop

        SNAPSHOT                   AGE          ACTION  WHY
        20261101T020000Z-9f2c61aa  20 days ago  remove  old safety snapshot of a restore
        20261102T020000Z-9f2c61aa  19 days ago  keep    last good copy of db/postgres/shop
        20261115T020000Z-9f2c61aa  6 days ago   keep    weekly 2026-W46 of app
        20261120T020000Z-9f2c61aa  1 day ago    remove  not kept by daily=1, or weekly=2 of app
        20261121T020000Z-9f2c61aa  5 hours ago  keep    daily 2026-11-21; last; made by hand less than 24 hours ago; pinned as upgrade\u{1b}; in use by a restore

        2 snapshots would be removed, freeing about 3.0 GiB; 3 would be kept.
        ");
        assert_snapshot!(planned([].into_iter(), &view()), @"There are no snapshots.");
    }

    #[test]
    fn doubts_say_what_to_look_into_and_what_to_type() {
        let plan = pruning(doubts());
        assert_snapshot!(planned([(&plan, 0)].into_iter(), &view()), @r"
        Project shop

        SNAPSHOT                   AGE          ACTION        WHY
        20261101T020000Z-9f2c61aa  20 days ago  would remove  old safety snapshot of a restore
        20261102T020000Z-9f2c61aa  19 days ago  keep          last good copy of db/postgres/shop
        20261115T020000Z-9f2c61aa  6 days ago   keep          weekly 2026-W46 of app
        20261120T020000Z-9f2c61aa  1 day ago    would remove  not kept by daily=1, or weekly=2 of app
        20261121T020000Z-9f2c61aa  5 hours ago  keep          daily 2026-11-21; last; made by hand less than 24 hours ago; pinned as upgrade\u{1b}; in use by a restore

          nothing is pruned until this is resolved:
            the project has no snapshots here; check --repository and --project
            20261103T020000Z-9f2c61aa cannot be read, so its content is unknown (the manifest is not whole: EOF\u{1b}[2J); if it is beyond repair, remove its manifest.json by hand
            20261122T020000Z-9f2c61aa is dated 2026-11-22 03:00:00 CET, but it is 2026-11-21 08:30:00 CET now: a clock is wrong, here or where it was taken
            db/postgres/shop failed in 20261121T020000Z-9f2c61aa, the newest snapshot; fix the cause and back up again, or run `cofferdam prune --despite failed`
            db/postgres/shop is 40.0 MiB in 20261121T020000Z-9f2c61aa, down from 1.0 GiB in 20261120T020000Z-9f2c61aa; if that is intended, run `cofferdam backup --may-shrink db/postgres/shop`, or just this once `cofferdam prune --despite shrunken`
            web was started from outside while it was held for 20261121T020000Z-9f2c61aa, the newest snapshot; back up again, or run `cofferdam prune --despite disturbed`
            the newest copy, in 20261121T020000Z-9f2c61aa, is damaged: the object is missing; back up again, and run `cofferdam verify` to see what is left
        ");
    }

    #[test]
    fn what_was_done_is_told() {
        let done = PruneReport {
            project: "shop".to_owned(),
            removed: vec![id(1), id(20)],
            staying: 3,
            freed_bytes: 3 << 30,
            ..PruneReport::default()
        };
        let nothing = PruneReport {
            removed: Vec::new(),
            ..done.clone()
        };
        let doubtful = PruneReport {
            doubts: doubts()[3..4].to_vec(),
            ..nothing.clone()
        };
        let refused = PruneReport {
            refused: Some("cannot remove /backups/shop: Permission denied".to_owned()),
            ..nothing.clone()
        };
        let broken = PruneReport {
            problems: vec!["cannot remove /backups/shop: Input/output error".to_owned()],
            interrupted: true,
            ..done.clone()
        };
        let reports = [done, nothing, doubtful, refused, broken];
        assert_snapshot!(super::done(&reports, &view()), @r"
        Project shop
          prune: 2 snapshots removed, 3.0 GiB freed, 3 kept
        Project shop
          prune: nothing to remove, 3 kept
        Project shop
          NOT pruned: every snapshot is kept
          nothing is pruned until this is resolved:
            db/postgres/shop failed in 20261121T020000Z-9f2c61aa, the newest snapshot; fix the cause and back up again, or run `cofferdam prune --despite failed`
        Project shop
          NOT pruned: every snapshot is kept
          the repository does not allow removal (cannot remove /backups/shop: Permission denied); run `cofferdam prune` from where it is allowed
        Project shop
          prune: 2 snapshots removed, 3.0 GiB freed, 3 kept
          interrupted; the next run continues from here
          problem: cannot remove /backups/shop: Input/output error
        ");
    }

    #[test]
    fn programs_get_the_same() {
        let plan = pruning(doubts()[4..].to_vec());
        let document = serde_json::to_value(&plan).unwrap();
        assert_eq!(document["verdicts"][0]["fate"], "goes");
        assert_eq!(document["verdicts"][0]["reason"]["why"], "old-safety");
        assert_eq!(document["verdicts"][2]["fate"], "stays");
        assert_eq!(document["verdicts"][2]["reasons"][0]["period"], "2026-W46");
        assert_eq!(document["verdicts"][2]["reasons"][0]["service"], "app");
        assert_eq!(document["doubts"][0]["doubt"], "shrunken");
        assert_eq!(document["doubts"][0]["target"], "db/postgres/shop");
    }
}
