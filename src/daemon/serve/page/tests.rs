use super::*;
use crate::daemon::serve::samples::{self, HOSTILE};
use crate::report::runlog::Runlog;

fn hostile() -> String {
    let log = Runlog::default();
    log.begins(HOSTILE);
    log.note(tracing::Level::ERROR, HOSTILE);
    log.ends();
    page(&samples::shown(log), Some(HOSTILE), samples::now())
}

#[test]
fn names_from_outside_stay_text() {
    let page = hostile();
    assert!(page.contains("&lt;script&gt;"));
    for harmful in ["<script", "\u{1b}", " style=", " onload=", "javascript:"] {
        assert!(!page.contains(harmful), "{harmful:?}");
    }
}

/// Each opening tag of the page, in order.
fn tags(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .filter(|part| !part.starts_with(['/', '!']))
        .filter_map(|part| part.split('>').next())
        .collect()
}

#[test]
fn headings_form_an_outline_and_ids_are_unique() {
    let page = hostile();
    let tags = tags(&page);
    let levels = tags.iter().filter_map(|tag| {
        let level = tag.strip_prefix('h')?.chars().next()?;
        level.to_digit(10)
    });
    let levels: Vec<u32> = levels.collect();
    assert_eq!(levels[0], 1);
    assert!(
        levels.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{levels:?}"
    );
    let ids = tags.iter().filter_map(|tag| {
        let (_, rest) = tag.split_once(" id=\"")?;
        rest.split('"').next()
    });
    let mut ids: Vec<&str> = ids.collect();
    let number = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), number);
    let bare = tags
        .iter()
        .filter(|tag| tag.starts_with("th") && !tag.starts_with("thead"));
    for heading in bare {
        assert!(heading.contains("scope="), "{heading}");
    }
}

#[test]
fn ten_seconds_are_enough() {
    let shown = samples::shown(Runlog::default());
    let overview = shown.overview();
    let says = |name: Option<&str>, ailing: Option<&str>| {
        let mut overview = Overview::clone(&overview);
        let projects = overview.projects.as_mut().unwrap();
        projects.retain(|known, _| name.is_none_or(|name| known == name));
        let standings = |project| standings(project, samples::now());
        let cards: Vec<Card<'_>> = of_interest(&overview)
            .map(|(name, project)| Card {
                name,
                project,
                standings: standings(project),
                verdict: verdict(project, &standings(project)),
            })
            .collect();
        headline(&overview, &cards, worst(&cards, ailing))
    };
    assert_eq!(says(Some("candig"), None), "Everything is backed up");
    assert_eq!(
        says(Some("candig"), Some("no engine")),
        "Backups need attention"
    );
    assert_eq!(says(None, None), "Backups need attention");
    assert_eq!(says(Some("idle"), None), "Nothing is labelled for backup");
    let new = Shown::new(jiff::tz::TimeZone::UTC, Vec::new(), Runlog::default());
    assert!(page(&new, None, samples::now()).contains("Labels have not been read yet"));
}
