//! The status page: for an administrator who looks at it for ten seconds. Pure.
//!
//! It needs no script. Whatever comes from labels, containers, manifests or the log is made harmless before it is shown, and
//! escaped by [`maud`].

mod plot;
mod sections;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::shown::{Overview, Project, Shown};
use super::standing::{Light, Standing, Verdict, of_interest, standings, verdict};
use crate::amounts::size;
use crate::report::View;
use crate::text::printable;

pub const STYLE: &str = include_str!("page/style.css");
pub const ICON: &str = include_str!("page/icon.svg");

/// A project, and how it stands.
struct Card<'a> {
    name: &'a str,
    project: &'a Project,
    standings: Vec<Standing<'a>>,
    verdict: Verdict,
}

/// `ailing`: why the daemon is not well, if it is not.
pub fn page(shown: &Shown, ailing: Option<&str>, now: Timestamp) -> String {
    let overview = shown.overview();
    let view = View {
        width: None,
        now,
        time_zone: shown.time_zone().clone(),
    };
    let cards: Vec<Card<'_>> = of_interest(&overview)
        .map(|(name, project)| {
            let standings = standings(project, now);
            Card {
                name,
                project,
                verdict: verdict(project, &standings),
                standings,
            }
        })
        .collect();
    let mut logs = shown.log().runs_by_project();
    let body = html! {
        (summary(&overview, &cards, ailing, &view))
        @for card in &cards {
            (sections::project(card, cards.len() > 1, logs.remove(card.name).unwrap_or_default(), &view))
        }
    };
    let light = worst(&cards, ailing);
    document(light, &body, &view).into_string()
}

fn worst(cards: &[Card<'_>], ailing: Option<&str>) -> Light {
    let of_daemon = ailing.map_or(Light::Good, |_| Light::Bad);
    let of_projects = cards.iter().map(|card| card.verdict.light).max();
    // Nothing is backed up where nothing asks for it.
    of_projects.unwrap_or(Light::Attention).max(of_daemon)
}

fn document(light: Light, body: &Markup, view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (word(light)) " · Cofferdam" }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="icon.svg" type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    p.name { (PreEscaped(ICON)) "Cofferdam" }
                    p.asof {
                        "As of " time datetime=(view.now) { (view.time(view.now)) }
                        " · " a href="./" { "Refresh" }
                    }
                }
                main #main tabindex="-1" { (body) }
                footer {
                    p {
                        "Cofferdam " (env!("CARGO_PKG_VERSION")) ". This page is read-only and runs no scripts. To check that \
                            stored data is whole, run " code { "cofferdam verify" } "."
                    }
                }
            }
        }
    }
}

fn summary(overview: &Overview, cards: &[Card<'_>], ailing: Option<&str>, view: &View) -> Markup {
    let light = worst(cards, ailing);
    html! {
        section.verdict.(class(light)) aria-labelledby="verdict" {
            (mark(light))
            div {
                h1 #verdict { (headline(overview, cards, light)) }
                @if let Some(why) = ailing {
                    p { "The daemon is unhealthy: " (printable(why)) "." }
                }
                @if let [card] = cards {
                    (reasons(&card.verdict))
                } @else {
                    (several(cards))
                }
                (facts(cards, view))
            }
        }
    }
}

fn headline(overview: &Overview, cards: &[Card<'_>], light: Light) -> &'static str {
    let asks = cards.iter().any(|card| card.project.asks_for_something());
    let saved = cards.iter().flat_map(|card| &card.standings);
    let saved = saved.clone().any(|standing| standing.good.is_some());
    match light {
        _ if overview.projects.is_none() => "Labels have not been read yet",
        Light::Bad => "Backups need attention",
        _ if !asks => "Nothing is labelled for backup",
        Light::Attention if !saved => "Nothing is backed up yet",
        Light::Attention => "Backed up, but worth a look",
        Light::Good => "Everything is backed up",
    }
}

fn reasons(verdict: &Verdict) -> Markup {
    html! {
        @if !verdict.reasons.is_empty() {
            ul.reasons {
                @for reason in &verdict.reasons { li { (sentence(reason)) } }
            }
        }
    }
}

/// The projects, each with how it stands.
fn several(cards: &[Card<'_>]) -> Markup {
    html! {
        @if !cards.is_empty() {
            nav aria-label="Projects" {
                ul.projects {
                    @for card in cards {
                        li {
                            a href={ "#" (anchor(card.name)) } { (printable(card.name)) }
                            " " (badge(card.verdict.light, word(card.verdict.light)))
                        }
                    }
                }
            }
        }
    }
}

fn facts(cards: &[Card<'_>], view: &View) -> Markup {
    let projects = || cards.iter().map(|card| card.project);
    let histories = || projects().filter_map(|project| project.history.as_deref());
    let last = histories()
        .filter_map(|history| history.newest())
        .max_by_key(|(_, facts)| facts.started);
    let next = projects().filter_map(|project| project.next).min();
    let running = projects().filter_map(|project| project.running).min();
    let stored: u64 = histories().map(|history| history.stored()).sum();
    let snapshots: usize = histories().map(|history| history.total).sum();
    html! {
        dl.facts {
            div {
                dt { "Last backup" }
                dd {
                    @match last {
                        Some((_, facts)) => { (moment(facts.started, view)) }
                        None => { "none yet" }
                    }
                }
            }
            div {
                dt { "Next backup" }
                dd {
                    @match (running, next) {
                        (Some(since), _) => { "running, started " (moment(since, view)) }
                        (None, Some(next)) if next <= view.now => { "due now" }
                        (None, Some(next)) => { (moment(next, view)) }
                        (None, None) => { "on request" }
                    }
                }
            }
            div {
                dt { "In the repository" }
                dd { (size(stored)) small { (snapshots) @if snapshots == 1 { " snapshot" } @else { " snapshots" } } }
            }
        }
    }
}

/// `3 hours ago`, and when that was.
fn moment(time: Timestamp, view: &View) -> Markup {
    html! { (view.age(time)) small { time datetime=(time) { (view.time(time)) } } }
}

fn class(light: Light) -> &'static str {
    match light {
        Light::Good => "good",
        Light::Attention => "attention",
        Light::Bad => "bad",
    }
}

fn word(light: Light) -> &'static str {
    match light {
        Light::Good => "All well",
        Light::Attention => "Worth a look",
        Light::Bad => "Needs attention",
    }
}

/// Colour is never all that tells.
fn badge(light: Light, text: &str) -> Markup {
    html! { span.badge.(class(light)) { (text) } }
}

/// A shape for each light, for those who see no difference in colour.
fn mark(light: Light) -> Markup {
    let path = match light {
        Light::Good => "M14 25l7 7 14-16",
        Light::Attention => "M24 13v14M24 34v1",
        Light::Bad => "M16 16l16 16M32 16L16 32",
    };
    html! {
        svg.mark viewBox="0 0 48 48" width="48" height="48" aria-hidden="true" focusable="false" {
            circle cx="24" cy="24" r="22" {}
            path d=(path) {}
        }
    }
}

fn sentence(text: &str) -> String {
    let text = printable(text);
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}

/// Letters and digits stay, so that different names stay different.
fn anchor(project: &str) -> String {
    let mut anchor = String::from("project-");
    for byte in project.bytes() {
        if byte.is_ascii_alphanumeric() {
            anchor.push(char::from(byte));
        } else {
            anchor.push_str(&format!("-{byte:02x}"));
        }
    }
    anchor
}

#[cfg(test)]
mod tests;
