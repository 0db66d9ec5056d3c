//! The pages of the documentation: links lead somewhere, and nobody copies a key that is somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Longer cells cannot be read in a terminal, nor on a narrow page.
const LONGEST_CELL: usize = 300;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages_below(directory: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages_below(&path, pages);
        } else if path.extension().is_some_and(|it| it == "md") {
            pages.push(path);
        }
    }
}

/// Every page, with the lines that are no code.
fn pages() -> BTreeMap<PathBuf, Vec<String>> {
    let mut paths = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("SECURITY.md"),
    ];
    for directory in ["docs", "compose-examples"] {
        pages_below(&root().join(directory), &mut paths);
    }
    let read = |path: PathBuf| {
        let mut is_code = false;
        let page = fs::read_to_string(&path).expect("a page");
        let prose = page.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        let prose = prose.map(str::to_owned).collect();
        (path, prose)
    };
    paths.into_iter().map(read).collect()
}

/// As the pages are shown on the web.
fn anchors(lines: &[String]) -> BTreeSet<String> {
    let headings = lines.iter().filter(|line| line.starts_with('#'));
    let mut seen = BTreeMap::new();
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter_map(|char| match char {
                ' ' => Some('-'),
                '-' | '_' => Some(char),
                char => char.is_alphanumeric().then_some(char),
            });
            let anchor: String = kept.collect();
            let count = seen.entry(anchor.clone()).or_insert(0);
            *count += 1;
            match *count {
                1 => anchor,
                count => format!("{anchor}-{}", count - 1),
            }
        })
        .collect()
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Without `..`, so that it can be looked up.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() > 20);
    let anchors: BTreeMap<&PathBuf, BTreeSet<String>> = pages
        .iter()
        .map(|(path, lines)| (path, anchors(lines)))
        .collect();
    let mut dead = Vec::new();
    for (path, lines) in &pages {
        for link in lines.iter().flat_map(|line| links(line)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => plain(&path.parent().expect("a directory").join(file)),
            };
            let is_heading = |known: &BTreeSet<String>| known.contains(anchor);
            let leads = match anchor {
                "" => target.exists(),
                _ => anchors.get(&target).is_some_and(is_heading),
            };
            if !leads {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn cells_are_short() {
    for (path, lines) in pages() {
        for line in lines.iter().filter(|line| line.starts_with('|')) {
            for cell in line.replace("\\|", " ").split('|') {
                let length = cell.trim().chars().count();
                assert!(length <= LONGEST_CELL, "{}: {cell}", path.display());
            }
        }
    }
}

/// An example that is copied would encrypt to a stranger.
#[test]
fn no_example_has_a_real_key() {
    let mut pages = pages().into_keys().collect::<Vec<_>>();
    pages.push(root().join("src/cli/arguments.rs"));
    for path in pages {
        let page = fs::read_to_string(&path).expect("a page");
        for (at, _) in page.match_indices("age1") {
            let key = page[at + 4..].chars();
            let key = key.take_while(char::is_ascii_alphanumeric);
            assert!(key.count() < 20, "{}", path.display());
        }
    }
}
