//! The sections of one project.

use maud::{Markup, html};

use super::plot::{Point, plot};
use super::{Card, anchor, badge, class, moment, reasons, sentence, word};
use crate::amounts::{between, counted, duration, size};
use crate::daemon::serve::history::{Content, Facts, History, Snapshot};
use crate::daemon::serve::standing::{Light, Standing, State};
use crate::manifest::Skip;
use crate::plan::audit::Finding;
use crate::report::View;
use crate::report::runlog::{Line, Run};
use crate::text::printable;

/// How many snapshots are listed; all of those that were read stand in the table under the plot.
const MOST_LISTED: usize = 20;

/// `with_reasons`: where they do not stand at the head of the page already.
pub fn project(card: &Card<'_>, with_reasons: bool, runs: Vec<Run>, view: &View) -> Markup {
    let id = anchor(card.name);
    let plan = card.project.plan.as_deref();
    let history = card.project.history.as_deref();
    html! {
        section.project id=(id) aria-labelledby={ (id) "-name" } {
            h2 id={ (id) "-name" } {
                "Project " (printable(card.name)) " " (badge(card.verdict.light, word(card.verdict.light)))
            }
            @if with_reasons { (reasons(&card.verdict)) }
            (warnings(&card.project.news))
            (targets(&id, &card.standings, view))
            @if let Some(plan) = plan {
                (unprotected(plan.findings.as_deref().unwrap_or_default()))
                (skipped(&plan.skipped))
                (warnings(&plan.warnings))
            }
            @if let Some(history) = history {
                (sizes(&id, history, view))
                (snapshots(history, view))
            }
            (drills())
            (log(&id, &runs, view))
        }
    }
}

fn targets(id: &str, standings: &[Standing<'_>], view: &View) -> Markup {
    html! {
        h3 { "Protected" }
        @if standings.is_empty() {
            p.quiet { "No targets yet." }
        } @else {
            (scroll(&format!("{id}-targets"), "Targets", html! {
                table {
                    thead { tr {
                        th scope="col" { "Target" }
                        th scope="col" { "State" }
                        th scope="col" { "Last good copy" }
                        th scope="col" { "Maximum age" }
                        th.number scope="col" { "Size" }
                        th.number scope="col" { "Stored" }
                    } }
                    tbody { @for standing in standings { (target(standing, view)) } }
                }
            }))
        }
    }
}

fn target(standing: &Standing<'_>, view: &View) -> Markup {
    let (light, state) = match standing.state {
        State::Fresh => (Some(Light::Good), "safe"),
        State::Never => (Some(Light::Attention), "no copy yet"),
        State::Failing => (Some(Light::Bad), "failing"),
        State::Damaged => (Some(Light::Bad), "damaged"),
        State::Late => (Some(Light::Bad), "too old"),
        State::Left => (Some(Light::Attention), "no longer labelled"),
        State::Retired => (None, "retired"),
    };
    html! {
        tr {
            th scope="row" {
                (standing.target)
                @if let Some(what) = standing.what { small { (printable(what)) } }
                @for why in standing.damage.iter().chain(&standing.failing) { small.why { (printable(why)) } }
            }
            td {
                @match light {
                    Some(light) => (badge(light, state)),
                    None => { span.badge { (state) } },
                }
            }
            td { @match &standing.good { Some(good) => (moment(good.time, view)), None => { "–" } } }
            td {
                @match standing.goal {
                    Some(goal) => (duration(goal)),
                    None if standing.is_asked_for() => { "no schedule" }
                    None => { "–" }
                }
            }
            td.number { @match standing.good.as_ref().and_then(|good| good.plain) { Some(bytes) => (size(bytes)), None => { "–" } } }
            td.number { @match &standing.good { Some(good) => (size(good.stored)), None => { "–" } } }
        }
    }
}

fn unprotected(findings: &[Finding]) -> Markup {
    html! {
        @if !findings.is_empty() {
            h3 { "Not protected" }
            ul.findings {
                @for finding in findings {
                    li {
                        strong { (printable(&finding.service)) } ": " (printable(&finding.what)) ". To fix this, add "
                        code { (printable(&finding.label)) }
                        @if let Some(hint) = &finding.hint { " (" (printable(hint)) ")" }
                    }
                }
            }
        }
    }
}

fn skipped(skipped: &[Skip]) -> Markup {
    html! {
        @if !skipped.is_empty() {
            h3 { "Left out on purpose" }
            ul {
                @for skip in skipped {
                    li { strong { (printable(&skip.service)) } ": " (printable(&skip.reason)) }
                }
            }
        }
    }
}

fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            h3 { "Warnings" }
            ul { @for warning in warnings { li { (sentence(warning)) } } }
        }
    }
}

fn sizes(id: &str, history: &History, view: &View) -> Markup {
    let backups: Vec<(&Snapshot, &Facts)> = history
        .backups()
        .filter(|(_, facts)| !facts.is_selection)
        .collect();
    let point = |(_, facts): &(&Snapshot, &Facts)| Point {
        time: facts.started,
        bytes: facts.stored,
    };
    let points: Vec<Point> = backups.iter().map(point).collect();
    html! {
        h3 { "Size over time" }
        @match points.as_slice() {
            [] | [_] => p.quiet { "The chart starts with the second snapshot of the whole project." },
            [first, .., last] => {
                @let most = points.iter().map(|point| point.bytes).max().unwrap_or_default();
                @let says = format!(
                    "From {} on {} to {} on {}, at most {}.",
                    size(first.bytes), view.time(first.time), size(last.bytes), view.time(last.time), size(most)
                );
                figure {
                    div.scale aria-hidden="true" { span { (size(most)) } span { "0" } }
                    (plot(id, &points, "Stored size of each snapshot", &says))
                    div.span aria-hidden="true" {
                        span { (date(first, view)) } span { (date(last, view)) }
                    }
                    figcaption { "Stored size of each snapshot. " (says) }
                }
                details {
                    summary { "As a table" }
                    (scroll(&format!("{id}-sizes"), "Sizes", html! {
                        table {
                            thead { tr {
                                th scope="col" { "Snapshot" }
                                th.number scope="col" { "Size" }
                                th.number scope="col" { "Stored" }
                                th.number scope="col" { "Took" }
                            } }
                            tbody {
                                @for (snapshot, facts) in backups.iter().rev() {
                                    tr {
                                        th scope="row" { (snapshot.id) }
                                        td.number { (size(facts.plain)) }
                                        td.number { (size(facts.stored)) }
                                        td.number { (duration(facts.took)) }
                                    }
                                }
                            }
                        }
                    }))
                }
            },
        }
    }
}

fn date(point: &Point, view: &View) -> String {
    let zoned = point.time.to_zoned(view.time_zone.clone());
    zoned.strftime("%Y-%m-%d").to_string()
}

fn snapshots(history: &History, view: &View) -> Markup {
    let listed = history.snapshots.iter().rev().take(MOST_LISTED);
    let others = history.total.saturating_sub(MOST_LISTED);
    html! {
        h3 { "Snapshots" }
        @if history.total == 0 { p.quiet { "No snapshots yet." } }
        @for snapshot in listed { (self::snapshot(snapshot, view)) }
        @if others > 0 {
            p.quiet { (counted(others as u64, "older snapshot")) ": " code { "cofferdam list" } " lists them all." }
        }
    }
}

fn snapshot(snapshot: &Snapshot, view: &View) -> Markup {
    let facts = match &snapshot.content {
        Content::Unreadable(why) => {
            return html! {
                details.snapshot {
                    summary { span.id { (snapshot.id) } (badge(Light::Bad, "unreadable")) }
                    p { (sentence(why)) }
                }
            };
        }
        Content::Read(facts) => facts,
    };
    html! {
        details.snapshot {
            summary {
                span.id { (snapshot.id) }
                span { (view.age(facts.started)) }
                span { (size(facts.stored)) }
                (state_of(facts))
            }
            p.quiet {
                "Started " (view.time(facts.started)) ", took " (duration(facts.took)) ", "
                (size(facts.plain)) " before compression"
                @if facts.is_encrypted { ", encrypted" }
                @if facts.is_selection { ", part of the project only" }
                @if facts.is_safety { ", safety snapshot of a restore" }
                @if facts.is_ahead { ", dated in the future, so it does not count" }
                "."
            }
            @if !facts.failed.is_empty() {
                ul { @for failure in &facts.failed {
                    li { strong { (failure.target) } ": " (printable(&failure.reason)) }
                } }
            }
            ul.artifacts {
                @for saved in &facts.targets {
                    li {
                        strong { (saved.target) } " " span.quiet { (size(saved.plain)) }
                        ul { @for stored in &saved.artifacts {
                            li { code { (printable(&stored.path)) } " " span.quiet { (size(stored.bytes)) } }
                        } }
                    }
                }
            }
        }
    }
}

fn state_of(facts: &Facts) -> Markup {
    match facts.failed.len() {
        _ if facts.is_safety => html! { span.badge { "safety" } },
        0 => badge(Light::Good, "complete"),
        failed => badge(Light::Bad, &format!("{failed} failed")),
    }
}

/// Where the results of drills are going to stand.
fn drills() -> Markup {
    html! {
        h3 { "Restore drills" }
        p.quiet {
            "None: this version does not run restore drills by itself. From time to time, restore into a copy of the stack: "
            code { "cofferdam restore latest --to-project NAME" } "."
        }
    }
}

fn log(id: &str, runs: &[Run], view: &View) -> Markup {
    html! {
        h3 { "Log of the last runs" }
        @if runs.is_empty() {
            p.quiet { "No runs since this daemon started. For earlier runs, see the container's log." }
        }
        @for (at, run) in runs.iter().enumerate() {
            details.run {
                summary {
                    span { (view.time(run.began)) }
                    @match run.ended {
                        Some(ended) => span { (duration(between(run.began, ended))) },
                        None => span { "running" },
                    }
                    @if let Some(light) = worst(run) { (badge(light, if light == Light::Bad { "errors" } else { "warnings" })) }
                }
                (scroll(&format!("{id}-log-{at}"), "Log", html! {
                    ol.log {
                        @for line in &run.first { (self::line(line, view)) }
                        @if run.dropped > 0 { li.quiet { "… " (counted(run.dropped as u64, "line")) " omitted …" } }
                        @for line in &run.last { (self::line(line, view)) }
                    }
                }))
            }
        }
    }
}

fn worst(run: &Run) -> Option<Light> {
    let lines = run.first.iter().chain(&run.last);
    lines.filter_map(light_of).max()
}

fn light_of(line: &Line) -> Option<Light> {
    match line.level {
        tracing::Level::ERROR => Some(Light::Bad),
        tracing::Level::WARN => Some(Light::Attention),
        _ => None,
    }
}

fn line(line: &Line, view: &View) -> Markup {
    let clock = line.at.to_zoned(view.time_zone.clone());
    html! {
        li class=[light_of(line).map(class)] {
            time datetime=(line.at) { (clock.strftime("%H:%M:%S")) }
            " " span.level { (line.level) } " " (printable(&line.text))
        }
    }
}

/// What is wider than the page scrolls in a box of its own, also by keyboard.
fn scroll(id: &str, label: &str, content: Markup) -> Markup {
    html! {
        div.scroll id=(id) role="region" aria-label=(label) tabindex="0" { (content) }
    }
}
