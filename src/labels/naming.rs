//! Names for trees that are known by their path only.

use super::table::TREE_OPTIONS;

/// A name that `cofferdam.files.<name>` may have, made of the last part of the path, with a number where that is taken.
pub fn files_name(path: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let name = name_of(path);
    let numbers = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbers);
    names.find(|name| !is_taken(name)).unwrap_or(name)
}

/// No option's name, and none with dots, at whose end an option's may stand.
fn name_of(path: &str) -> String {
    const MAX_NAME_LENGTH: usize = 48;
    let last = path.trim_end_matches('/').rsplit('/').next();
    let plain = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => char,
        _ => '-',
    };
    let name: String = last.unwrap_or_default().chars().map(plain).collect();
    let name: String = name
        .trim_matches(['-', '_'])
        .chars()
        .take(MAX_NAME_LENGTH)
        .collect();
    match name.as_str() {
        "" => "files".to_owned(),
        name if TREE_OPTIONS.contains(&name) => format!("{name}-files"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths_are_plain() {
        for (path, name) in [
            ("/srv/uploads", "uploads"),
            ("/srv/uploads/", "uploads"),
            ("/etc/app.conf", "app-conf"),
            ("/home/.config", "config"),
            ("/srv/größe: 2", "gr--e--2"),
            ("/srv/restore", "restore-files"),
            ("/srv/___", "files"),
        ] {
            assert_eq!(name_of(path), name, "{path}");
        }
        assert_eq!(name_of(&format!("/{}", "x".repeat(80))).len(), 48);
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let taken = ["data", "data-2"];
        let name = |path| files_name(path, |name| taken.contains(&name));
        assert_eq!(name("/a/data"), "data-3");
        assert_eq!(name("/a/uploads"), "uploads");
    }
}
