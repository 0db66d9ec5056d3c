//! How each target and each project stands at a moment. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::history::{EVERYTHING, Good};
use super::shown::{Overview, Project, RunTrouble};
use crate::amounts::{between, counted};
use crate::hold::disturbance;
use crate::manifest::Shrunken;
use crate::report::shrinkage;
use crate::target::TargetId;

#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub target: &'a TargetId,
    /// For people: `database clinical`; known while labels ask for it.
    pub what: Option<&'a str>,
    pub good: Option<Good>,
    /// How old the good copy may become; `None` when it is made only when it is asked for.
    pub goal: Option<Duration>,
    /// Why the newest attempt failed, or the next one would.
    pub failing: Option<&'a str>,
    /// Why the newest copy is not whole, as the last check found.
    pub damage: Option<&'a str>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is a good copy, and it is young enough.
    Fresh,
    /// Labels ask for it, and there has been no backup yet.
    Never,
    Failing,
    /// Its newest copy is not whole: an older one counts, if there is one.
    Damaged,
    /// The good copy is older than it may be.
    Late,
    /// There is a copy, and no label asks for a newer one: a label that was lost looks like a target that was removed.
    Left,
    /// The same, on purpose.
    Retired,
}

impl Standing<'_> {
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.good.as_ref().map(|good| between(good.time, now))
    }

    pub fn is_asked_for(&self) -> bool {
        !matches!(self.state, State::Left | State::Retired)
    }
}

/// How urgent it is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Light {
    Good,
    Attention,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub light: Light,
    /// What it is about, the most urgent first.
    pub reasons: Vec<String>,
}

/// The targets of a project: those that labels ask for, then those that only the repository knows, by their ids.
pub fn standings<'a>(project: &'a Project, now: Timestamp) -> Vec<Standing<'a>> {
    let history = project.history.as_deref();
    let plan = project.plan.as_deref();
    let planned = plan.iter().flat_map(|plan| &plan.targets);
    let unreachable = plan.iter().flat_map(|plan| &plan.unreachable);
    let stored = history.iter().flat_map(|history| &history.targets);
    let stored = stored.map(|(target, _)| target);
    let all: BTreeSet<&TargetId> = planned
        .clone()
        .map(|planned| &planned.id)
        .chain(unreachable.clone().map(|failure| &failure.target))
        .chain(stored.filter(|target| target.name != EVERYTHING))
        .collect();
    let stand = |target: &'a TargetId| {
        let what = planned.clone().find(|planned| planned.id == *target);
        let what = what.map(|planned| &*planned.what);
        let hindered = unreachable
            .clone()
            .find(|failure| failure.target == *target);
        let hindered = hindered.map(|failure| &*failure.reason);
        let newest = history.and_then(|it| it.targets.get(target)?.good.as_ref());
        // A copy that was made since the check is not among them.
        let checked = project.checked.get(target);
        let damage = newest.and_then(|newest| checked?.damaged.get(&newest.snapshot));
        let good = match damage {
            Some(_) => checked.and_then(|checked| checked.good.clone()),
            None => newest.cloned(),
        };
        let failed = history.and_then(|it| it.failing(target));
        let failing = hindered.or(failed.map(|failed| &*failed.reason));
        let goal = project.rhythms.get(&target.service).and_then(|it| it.goal);
        // Until the plan is known, what was saved is still asked for as long as its service asks for anything.
        let is_asked_for = match plan {
            Some(_) => what.is_some() || hindered.is_some(),
            None => project.rhythms.contains_key(&target.service),
        };
        let is_late = |good: &Good| goal.is_some_and(|goal| between(good.time, now) > goal);
        let state = match (is_asked_for, failing, &good) {
            (false, _, _) if is_retired(project, target) => State::Retired,
            (false, _, _) => State::Left,
            _ if damage.is_some() => State::Damaged,
            (true, _, Some(good)) if is_late(good) => State::Late,
            (true, Some(_), _) => State::Failing,
            (true, None, None) => State::Never,
            (true, None, Some(_)) => State::Fresh,
        };
        Standing {
            target,
            what,
            good,
            goal,
            failing,
            damage: damage.map(String::as_str),
            state,
        }
    };
    let mut standings: Vec<Standing<'_>> = all.into_iter().map(stand).collect();
    standings.sort_by_key(|standing| !standing.is_asked_for());
    standings
}

fn is_retired(project: &Project, target: &TargetId) -> bool {
    let skipped = project.plan.iter().flat_map(|plan| &plan.skipped);
    let is_skipped = skipped.clone().any(|skip| skip.service == target.service);
    is_skipped
        || project
            .retired
            .iter()
            .any(|pattern| pattern.matches(target))
}

pub fn verdict(project: &Project, standings: &[Standing<'_>]) -> Verdict {
    let mut bad = Vec::new();
    let mut attention = Vec::new();
    if let Some(trouble) = &project.trouble {
        let lines = trouble.lines();
        bad.extend(lines.map(|line| format!("its labels cannot be read: {line}")));
    }
    if let Some(trouble) = &project.history_trouble {
        bad.push(format!("the repository cannot be read: {trouble}"));
    }
    if let Some(run) = latest_trouble(project) {
        if run.is_partial {
            let why = run.why.iter();
            attention.extend(why.map(|why| format!("in the last run: {why}")));
        } else {
            let why = run.why.join("; ");
            bad.push(format!("the last backup failed: {why}"));
        }
    }
    let in_state = |state| standings.iter().filter(|it| it.state == state).count() as u64;
    let have = |number| if number == 1 { "has" } else { "have" };
    let are = |number| if number == 1 { "is" } else { "are" };
    match in_state(State::Late) {
        0 => {}
        late => bad.push(format!(
            "{} {} no recent copy",
            counted(late, "target"),
            have(late)
        )),
    }
    match in_state(State::Damaged) {
        0 => {}
        damaged => bad.push(format!(
            "the newest copy of {} is damaged",
            counted(damaged, "target")
        )),
    }
    match in_state(State::Failing) {
        0 => {}
        failing => bad.push(format!("{} cannot be saved", counted(failing, "target"))),
    }
    let shrunken = shrunken(project).iter().map(shrinkage);
    attention.extend(shrunken.map(|what| format!("far smaller than before: {what}")));
    let newest = project.history.as_ref().and_then(|it| it.newest());
    if let Some((_, facts)) = newest
        && !facts.disturbed.is_empty()
    {
        let what = disturbance(&facts.disturbed);
        attention.push(format!("in the last backup {what}"));
    }
    match in_state(State::Never) {
        0 => {}
        never => attention.push(format!(
            "{} {} no copy yet",
            counted(never, "target"),
            have(never)
        )),
    }
    let findings = project.plan.iter().flat_map(|plan| &plan.findings);
    match findings.flatten().count() as u64 {
        0 => {}
        gaps => attention.push(format!(
            "{} {} not protected",
            counted(gaps, "item"),
            are(gaps)
        )),
    }
    match in_state(State::Left) {
        0 => {}
        left => attention.push(format!(
            "{} saved before {} no longer labelled; if that is on purpose, set COFFERDAM_RETIRED",
            counted(left, "target"),
            if left == 1 { "was" } else { "were" },
        )),
    }
    if let Some(trouble) = &project.plan_trouble {
        attention.push(format!("the backup cannot be planned: {trouble}"));
    }
    let history = project.history.as_deref();
    let unreadable = history.map_or(0, |history| {
        let snapshots = history.snapshots.iter();
        snapshots
            .filter(|snapshot| snapshot.facts().is_none())
            .count()
    });
    if unreadable > 0 {
        let snapshots = counted(unreadable as u64, "snapshot");
        attention.push(format!("{snapshots} cannot be read"));
    }
    if history.is_none() && project.history_trouble.is_none() {
        attention.push("the repository has not been read yet".to_owned());
    }
    let light = match (bad.is_empty(), attention.is_empty()) {
        (false, _) => Light::Bad,
        (true, false) => Light::Attention,
        (true, true) => Light::Good,
    };
    bad.extend(attention);
    Verdict {
        light,
        reasons: bad,
    }
}

/// What has become far smaller in the newest backup.
pub fn shrunken(project: &Project) -> &[Shrunken] {
    let newest = project.history.as_ref().and_then(|it| it.newest());
    newest.map_or(&[], |(_, facts)| &facts.shrunken)
}

/// What went wrong in the last run, unless somebody else has made a backup since.
pub fn latest_trouble(project: &Project) -> Option<&RunTrouble> {
    let newest = project
        .history
        .as_ref()
        .and_then(|history| history.newest());
    let newest = newest.map(|(_, facts)| facts.started);
    let trouble = project.trouble_of_run.as_ref();
    trouble.filter(|trouble| newest.is_none_or(|newest| newest <= trouble.at))
}

/// The projects in which somebody wants something saved. Of others there is nothing to say, unless there are only those.
pub fn of_interest(overview: &Overview) -> impl Iterator<Item = (&String, &Project)> {
    let projects = || overview.projects.iter().flatten();
    let is_of_interest = |project: &Project| {
        let history = project.history.as_ref();
        project.asks_for_something()
            || project.trouble.is_some()
            || history.is_some_and(|history| history.total > 0)
    };
    let none = !projects().any(|(_, project)| is_of_interest(project));
    projects().filter(move |(_, project)| none || is_of_interest(project))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::serve::samples::{self, HOSTILE, project};
    use crate::daemon::serve::shown::Checked;
    use crate::target::RunId;
    use jiff::SignedDuration;
    use std::sync::Arc;

    fn states(project: &Project, now: Timestamp) -> Vec<(String, State)> {
        let standings = standings(project, now);
        let state = |standing: &Standing<'_>| (standing.target.service.clone(), standing.state);
        standings.iter().map(state).collect()
    }

    fn judged(project: &Project, now: Timestamp) -> Verdict {
        verdict(project, &standings(project, now))
    }

    #[test]
    fn a_damaged_copy_is_never_safe_and_an_older_good_one_counts() {
        let (overview, now) = samples::overview();
        let mut candig = project(&overview, "candig").clone();
        let newest = |candig: &Project| {
            let history = candig.history.as_ref().unwrap();
            history.targets[&samples::clinical()].good.clone().unwrap()
        };
        let newest = newest(&candig);
        let mut older = newest.clone();
        older.time = now - SignedDuration::from_hours(40);
        for good in [None, Some(older)] {
            let checked = Checked {
                damaged: [(newest.snapshot.clone(), "an object is missing".to_owned())].into(),
                good: good.clone(),
            };
            candig.checked = [(samples::clinical(), checked)].into();
            let standings = standings(&candig, now);
            let db = standings.iter().find(|it| it.target.service == "db");
            let db = db.unwrap();
            assert_eq!(db.state, State::Damaged);
            assert_eq!(db.damage, Some("an object is missing"));
            assert_eq!(
                db.good.as_ref().map(|it| it.time),
                good.map(|good| good.time)
            );
            let verdict = verdict(&candig, &standings);
            assert_eq!(verdict.light, Light::Bad);
            assert_eq!(verdict.reasons, ["the newest copy of 1 target is damaged"]);
        }
        // One that was made since the check is not known to be damaged.
        let other = RunId::generate(now);
        let checked = Checked {
            damaged: [(other, String::new())].into(),
            good: None,
        };
        candig.checked = [(samples::clinical(), checked)].into();
        assert_eq!(judged(&candig, now).light, Light::Good);
    }

    #[test]
    fn a_project_in_order_is_well_until_its_copies_are_too_old() {
        let (overview, now) = samples::overview();
        let candig = project(&overview, "candig");
        let both = |state| [("app".to_owned(), state), ("db".to_owned(), state)];
        assert_eq!(states(candig, now), both(State::Fresh));
        assert_eq!(judged(candig, now).light, Light::Good);
        // A daily one may be 26 hours old; it is from two o'clock.
        let later = now + SignedDuration::from_hours(25);
        assert_eq!(states(candig, later), both(State::Late));
        let verdict = judged(candig, later);
        assert_eq!(verdict.reasons, ["2 targets have no recent copy"]);
        assert_eq!(verdict.light, Light::Bad);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_worst_first() {
        let (overview, now) = samples::overview();
        let shop = project(&overview, HOSTILE);
        let state = |service: &str, state| (service.to_owned(), state);
        assert_eq!(
            states(shop, now),
            [
                state("app", State::Fresh),
                state("archive", State::Never),
                state("db", State::Late),
            ]
        );
        let verdict = judged(shop, now);
        assert_eq!(verdict.light, Light::Bad);
        let (first, second) = HOSTILE.split_once('\n').unwrap();
        assert_eq!(
            verdict.reasons,
            [
                format!("its labels cannot be read: {first}"),
                format!("its labels cannot be read: {second}"),
                format!("the last backup failed: {HOSTILE}"),
                "1 target has no recent copy".to_owned(),
                "1 target has no copy yet".to_owned(),
                "1 item is not protected".to_owned(),
                "1 snapshot cannot be read".to_owned(),
            ]
        );
    }

    #[test]
    fn what_no_label_asks_for_any_more_is_told_unless_it_is_retired() {
        let (overview, now) = samples::overview();
        let mut candig = project(&overview, "candig").clone();
        let mut plan = candig.plan.as_deref().unwrap().clone();
        plan.targets
            .retain(|target| target.id == samples::clinical());
        candig.plan = Some(plan.into());
        let app = |state| [("db".to_owned(), State::Fresh), ("app".to_owned(), state)];
        assert_eq!(states(&candig, now), app(State::Left));
        let verdict = judged(&candig, now);
        assert_eq!(verdict.light, Light::Attention);
        assert!(
            verdict.reasons[0].contains("COFFERDAM_RETIRED"),
            "{verdict:?}"
        );
        candig.retired = Arc::new(["app/*".parse().unwrap()]);
        assert_eq!(states(&candig, now), app(State::Retired));
        assert_eq!(judged(&candig, now).light, Light::Good);
    }

    #[test]
    fn what_has_become_far_smaller_is_told() {
        let (overview, now) = samples::overview();
        let mut candig = project(&overview, "candig").clone();
        let shrinks = |project: &str, day: i8| {
            let mut manifest = samples::whole(project, day)?;
            manifest.shrunken.push(Shrunken {
                target: samples::clinical(),
                bytes: 10,
                before: manifest.snapshot.clone(),
                bytes_before: 1_000_000,
            });
            Ok(manifest)
        };
        candig.history = Some(Arc::new(samples::history("candig", shrinks)));
        let verdict = judged(&candig, now);
        assert_eq!(verdict.light, Light::Attention);
        assert!(
            verdict.reasons[0].contains("10 B, down from 977 KiB"),
            "{verdict:?}"
        );
    }

    #[test]
    fn who_was_started_during_the_last_backup_is_told() {
        let (overview, now) = samples::overview();
        let mut candig = project(&overview, "candig").clone();
        let disturbed = |project: &str, day: i8| {
            let mut manifest = samples::whole(project, day)?;
            manifest.disturbed = vec!["katsu".to_owned()];
            Ok(manifest)
        };
        candig.history = Some(Arc::new(samples::history("candig", disturbed)));
        let verdict = judged(&candig, now);
        assert_eq!(verdict.light, Light::Attention);
        assert_eq!(
            verdict.reasons[0],
            "in the last backup katsu was started from outside while it was held"
        );
    }

    #[test]
    fn a_backup_that_somebody_else_made_since_mends_the_last_run() {
        let (overview, now) = samples::overview();
        let mut candig = project(&overview, "candig").clone();
        let failed = |at| RunTrouble {
            at,
            ..RunTrouble::without_snapshot(vec!["why".to_owned()])
        };
        for (hours, light) in [(1, Light::Bad), (10, Light::Good)] {
            let at = now - SignedDuration::from_hours(hours);
            candig.trouble_of_run = Some(failed(at));
            assert_eq!(judged(&candig, now).light, light, "{hours}");
        }
    }

    #[test]
    fn projects_without_labels_are_shown_only_where_there_are_no_others() {
        let (overview, _) = samples::overview();
        let names = |overview: &Overview| -> Vec<String> {
            of_interest(overview)
                .map(|(name, _)| name.clone())
                .collect()
        };
        assert_eq!(names(&overview), [HOSTILE, "candig"]);
        let mut idle = Overview::clone(&overview);
        idle.projects
            .as_mut()
            .unwrap()
            .retain(|name, _| name == "idle");
        assert_eq!(names(&idle), ["idle"]);
    }
}
