//! The layers of `src/lib.rs`: a module uses only modules of layers below its own, so that there is no circle either.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each module, counted from the outside: layers are what blank lines separate.
fn layers(map: &str) -> BTreeMap<&str, usize> {
    let mut layers = BTreeMap::new();
    for (layer, paragraph) in map.split("\n\n").enumerate() {
        for line in paragraph.lines() {
            let declared = line.trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(module) = declared.and_then(|rest| rest.strip_suffix(';')) {
                layers.insert(module, layer);
            }
        }
    }
    layers
}

/// Each path that names a module of the crate, with its line. Comments may speak of anything, and tests may use anything.
fn uses(source: &str) -> Vec<(usize, String)> {
    let mut uses = Vec::new();
    let code = source.split("#[cfg(test)]\nmod tests {").next();
    let code = code.unwrap_or_default();
    for (at, _) in code.match_indices("crate::") {
        let before = &code[..at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        if line.contains("//") {
            continue;
        }
        let number = before.matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            let is_part = |char: &char| char.is_alphanumeric() || *char == '_';
            text.trim_start().chars().take_while(is_part).collect()
        };
        match rest.strip_prefix('{') {
            None => uses.push((number, word(rest))),
            Some(group) => {
                let mut depth = 0;
                for item in group.split_inclusive(['{', '}', ',']) {
                    if depth == 0 {
                        uses.push((number, word(item)));
                    }
                    match item.chars().last() {
                        Some('{') => depth += 1,
                        Some('}') if depth == 0 => break,
                        Some('}') => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    uses
}

/// What is used outwards, or in the same layer.
fn outward(map: &str, sources: &[(PathBuf, String)]) -> Vec<String> {
    let layers = layers(map);
    let mut found = Vec::new();
    for (path, source) in sources {
        let module = path.iter().next().and_then(|first| first.to_str());
        let module = module.unwrap_or_default().trim_end_matches(".rs");
        let Some(layer) = layers.get(module) else {
            continue;
        };
        for (line, used) in uses(source) {
            let is_below = layers.get(used.as_str()).is_none_or(|it| it > layer);
            if !is_below && used != module {
                found.push(format!("{}:{line}: {module} uses {used}", path.display()));
            }
        }
    }
    found
}

fn sources(root: &Path, below: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(root, &path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let source = fs::read_to_string(&path).expect("a source");
            let path = path.strip_prefix(root).expect("below the root");
            found.push((path.to_owned(), source));
        }
    }
    found
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).expect("the map");
    let sources = sources(&root, &root);
    assert!(layers(&map).len() > 20 && sources.len() > 100);
    let declared = layers(&map);
    for (path, _) in &sources {
        let first = path.iter().next().and_then(|first| first.to_str());
        let module = first.unwrap_or_default().trim_end_matches(".rs");
        let is_root = module == "lib" || module == "main";
        assert!(
            is_root || declared.contains_key(module),
            "{module} has no layer"
        );
    }
    let found = outward(&map, &sources);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_outward_use_and_a_circle_are_found() {
    let map = "// Out.\npub mod outer;\n\n// In.\npub mod inner;\nmod twin;\n";
    let found = |path: &str, source: &str| outward(map, &[(path.into(), source.to_owned())]);
    let is_found = |path: &str, source: &str, expected: &str| {
        assert_eq!(found(path, source), [expected], "{source}");
    };
    assert!(found("outer.rs", "use crate::inner::A;\nuse crate::outer::B;").is_empty());
    is_found(
        "inner.rs",
        "\nuse crate::outer::A;",
        "inner.rs:2: inner uses outer",
    );
    let path = "fn a() { crate::outer::a() }";
    is_found("inner/deep.rs", path, "inner/deep.rs:1: inner uses outer");
    let group = "use crate::{inner::{A, outer}, twin::B};";
    is_found("inner.rs", group, "inner.rs:1: inner uses twin");
    is_found("twin.rs", "use crate::inner;", "twin.rs:1: twin uses inner");
    let nothing = "//! [`crate::outer`]\n#[cfg(test)]\nmod tests {\n use crate::outer::A;\n}";
    assert!(found("inner.rs", nothing).is_empty());
}
