//! The values of labels: lists, words out of a set, paths, patterns, durations, commands.
//!
//! Each reader takes the value's text and says in its error what the value is, what is accepted, and what comes nearest.

use std::time::Duration;

use globset::GlobBuilder;

use super::Selection;
use super::shell::ensure_no_shell_is_needed;
use crate::keep::{BadKeepPolicy, KeepPolicy};
use crate::schedule::{BadSchedule, Schedule};
use crate::text::{nearest_word, quoted};

/// Why a value is refused; it completes the sentence "label `…`".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    pub what: String,
    pub hint: Option<String>,
}

impl BadValue {
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: Some(hint.into()),
        }
    }
}

/// One word of a set: `("swap", PostgresRestore::Swap)`.
pub fn word<T: Copy>(text: &str, accepted: &[(&str, T)]) -> Result<T, BadValue> {
    let text = text.trim();
    if let Some((_, value)) = accepted.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = accepted.iter().map(|(name, _)| *name).collect();
    let accepts = format!("accepted: {}", listed(&names));
    let hint = match nearest_word(text, names) {
        Some(near) => format!("did you mean `{near}`? ({accepts})"),
        None => accepts,
    };
    Err(BadValue::new(format!("is `{}`", quoted(text)), hint))
}

pub fn boolean(text: &str) -> Result<bool, BadValue> {
    word(text, &[("true", true), ("false", false)])
}

/// Text that means something, without the white space around it.
pub fn text(text: &str, example: &str) -> Result<String, BadValue> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(BadValue::new("is empty", format!("write {example}")));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(BadValue::new(
            "contains a control character",
            format!("write {example}"),
        ));
    }
    Ok(trimmed.to_owned())
}

/// A comma-separated list. No item is empty, none stands twice.
pub fn list(value: &str, example: &str) -> Result<Vec<String>, BadValue> {
    let mut items: Vec<String> = Vec::new();
    for item in text(value, example)?.split(',').map(str::trim) {
        if item.is_empty() {
            return Err(BadValue::new("has an empty item", "remove the extra comma"));
        }
        if items.iter().any(|known| known == item) {
            return Err(BadValue::new(
                format!("names `{}` twice", quoted(item)),
                "remove one of them",
            ));
        }
        items.push(item.to_owned());
    }
    Ok(items)
}

/// A list, or `*` for all.
pub fn selection(value: &str, example: &str) -> Result<Selection, BadValue> {
    let items = list(value, example)?;
    match items.iter().position(|item| item == "*") {
        None => Ok(Selection::Names(items)),
        Some(_) if items.len() == 1 => Ok(Selection::All),
        Some(_) => Err(BadValue::new(
            "has `*` next to other items",
            "write `*` alone: it means all of them",
        )),
    }
}

/// The name of an environment variable. What else is written there may be what the variable should hold: it is not shown.
pub fn variable(value: &str) -> Result<String, BadValue> {
    let name = text(value, "the name of one of the container's variables")?;
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(is_word) {
        return Err(BadValue::new(
            "is not a variable name",
            "write the name of the container's variable that holds the password, such as `DB_PASSWORD`",
        ));
    }
    Ok(name)
}

/// An absolute path in the container's terms, without `.`, `..` and doubled slashes, and without a slash at its end.
pub fn path(value: &str) -> Result<String, BadValue> {
    let shown = text(value, "an absolute path, as the container sees it")?;
    let refuse = |what: &str, hint: &str| {
        Err(BadValue::new(
            format!("is `{}`, {what}", quoted(&shown)),
            hint,
        ))
    };
    let Some(inner) = shown.strip_prefix('/') else {
        return refuse(
            "which is not absolute",
            "write the whole path as the container sees it, beginning with `/`",
        );
    };
    if inner.split('/').any(|part| part == ".." || part == ".") {
        return refuse("which contains `.` or `..`", "write the path without them");
    }
    let parts: Vec<&str> = inner.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return refuse(
            "the whole file system of the container",
            "name a directory or file in it",
        );
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A list of absolute paths, none of which stands twice, however it is written.
pub fn paths(value: &str, example: &str) -> Result<Vec<String>, BadValue> {
    let mut paths: Vec<String> = Vec::new();
    for item in list(value, example)? {
        let path = path(&item)?;
        if paths.contains(&path) {
            return Err(BadValue::new(
                format!("names `{}` twice", quoted(&path)),
                "remove one of them",
            ));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Absolute paths, or `*` for all.
pub fn selected_paths(value: &str, example: &str) -> Result<Selection, BadValue> {
    match selection(value, example)? {
        Selection::All => Ok(Selection::All),
        Selection::Names(_) => paths(value, example).map(Selection::Names),
    }
}

/// Patterns that leave parts of a tree out, as written. What they match is the tree's to say; here they are only read so
/// that a malformed one is told before anything begins.
pub fn exclusions(value: &str) -> Result<Vec<String>, BadValue> {
    let patterns = list(value, "patterns, such as `/cache, *.log`")?;
    for pattern in &patterns {
        ensure_exclusion(pattern)?;
    }
    Ok(patterns)
}

fn ensure_exclusion(pattern: &str) -> Result<(), BadValue> {
    let refuse = |what: &str, hint: &str| {
        Err(BadValue::new(
            format!("has the pattern `{}`, {what}", quoted(pattern)),
            hint,
        ))
    };
    if pattern.starts_with('!') {
        return refuse(
            "which would include something again",
            "patterns can only leave things out; write narrower ones instead",
        );
    }
    if pattern.trim_start_matches('.').trim_matches('/').is_empty() {
        return refuse(
            "which is the root itself",
            "remove the label that saves it instead",
        );
    }
    if pattern.split('/').any(|part| part == "..") {
        return refuse(
            "which contains `..`",
            "patterns are relative to the root that is saved",
        );
    }
    match GlobBuilder::new(pattern).literal_separator(true).build() {
        Ok(_) => Ok(()),
        Err(error) => refuse(
            &format!("which is malformed: {}", error.kind()),
            "a comma separates patterns, also inside `{}`; put `\\` before `*`, `?`, `[`, `]`, `{` or `}` to match the \
             character itself",
        ),
    }
}

pub fn port(value: &str) -> Result<u16, BadValue> {
    match value.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(BadValue::new(
            format!("is `{}`", quoted(value.trim())),
            "write a port from 1 to 65535",
        )),
    }
}

/// A duration such as `90s` or `1h 30m`, longer than nothing.
pub fn duration(value: &str) -> Result<Duration, BadValue> {
    let shown = text(value, "a number and a unit, such as `90s` or `10m`")?;
    let refuse = |hint: &str| Err(BadValue::new(format!("is `{}`", quoted(&shown)), hint));
    if shown.contains('M') {
        return refuse("`M` means months; write `m` for minutes, such as `10m`");
    }
    match humantime::parse_duration(&shown) {
        Ok(duration) if duration.is_zero() => refuse("write a time above zero, such as `10m`"),
        Ok(duration) => Ok(duration),
        Err(_) => refuse("write a number and a unit, such as `90s` or `10m`"),
    }
}

/// Rules of retention, as `daily=7,weekly=4`.
pub fn keep(value: &str) -> Result<KeepPolicy, BadValue> {
    value
        .parse()
        .map_err(|BadKeepPolicy { what, hint }| BadValue::new(what, hint))
}

/// As `@daily`, `every 6h` or `30 2 * * *`.
pub fn schedule(value: &str) -> Result<Schedule, BadValue> {
    value
        .parse()
        .map_err(|BadSchedule { what, hint }| BadValue::new(what, hint))
}

/// A command, split into words as a POSIX shell would split them. Its text never appears in an error: it may hold a secret.
pub fn command(value: &str) -> Result<Vec<String>, BadValue> {
    let Some(argv) = shlex::split(value) else {
        return Err(BadValue::new(
            "has a quote that is not closed, or a `\\` at its end",
            "quote words as in a shell",
        ));
    };
    match argv.first().map(String::as_str) {
        None => {
            return Err(BadValue::new(
                "is empty",
                "write a command, such as `vault auth disable approle/`",
            ));
        }
        Some("") => {
            return Err(BadValue::new(
                "names an empty program",
                "write the program first, such as `vault auth disable approle/`",
            ));
        }
        Some(_) => {}
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(BadValue::new("contains a NUL character", "remove it"));
    }
    if has_several_lines(value) {
        return Err(BadValue::new(
            "has several lines, but is not run by a shell: they would all become arguments of the first word",
            "wrap them in `sh -c '…'`, or put the command on one line",
        ));
    }
    ensure_no_shell_is_needed(value)?;
    Ok(argv)
}

/// Whether a line ends outside of quotes.
fn has_several_lines(command: &str) -> bool {
    let command = command.trim();
    let mut ends = command.match_indices(['\n', '\r']);
    ends.any(|(at, _)| shlex::split(command[..at].trim_end_matches('\\')).is_some())
}

/// `` `a`, `b` or `c` ``
pub fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn lists_are_trimmed_and_strict() {
        for (value, expected) in [
            ("a", Some(vec!["a"])),
            (" a , b ,c\t", Some(vec!["a", "b", "c"])),
            ("two words", Some(vec!["two words"])),
            ("", None),
            ("  ", None),
            ("a,", None),
            (",a", None),
            ("a,,b", None),
            ("a, a", None),
            ("a\nb", None),
        ] {
            let expected = expected.map(|items| names(&items));
            assert_eq!(list(value, "names").ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(selection(" * ", "names"), Ok(Selection::All));
        assert_eq!(
            selection("a,b", "names"),
            Ok(Selection::Names(names(&["a", "b"])))
        );
        for value in ["*,a", "a,*", "*,*", ""] {
            assert!(selection(value, "names").is_err(), "{value}");
        }
    }

    #[test]
    fn booleans_are_strict() {
        for (value, expected) in [
            ("true", Some(true)),
            (" false ", Some(false)),
            ("True", None),
            ("yes", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(boolean(value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        for (value, expected) in [
            ("/etc/app.conf", Some("/etc/app.conf")),
            (" /data/ ", Some("/data")),
            ("//data///x", Some("/data/x")),
            ("/a b/..c/.d", Some("/a b/..c/.d")),
            ("data", None),
            ("./data", None),
            ("/data/../etc", None),
            ("/data/.", None),
            ("/", None),
            ("//", None),
            ("", None),
            ("/da\nta", None),
            ("/da\0ta", None),
        ] {
            assert_eq!(path(value).ok().as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn paths_are_a_list_in_which_none_stands_twice() {
        assert_eq!(
            paths("/a.db, /b//c.db", "paths"),
            Ok(names(&["/a.db", "/b/c.db"]))
        );
        for value in ["/a.db, a.db", "/a/b, /a//b", "/a,", ""] {
            assert!(paths(value, "paths").is_err(), "{value}");
        }
    }

    #[test]
    fn exclusions_are_kept_as_written_when_they_can_be_read() {
        for (value, expected) in [
            ("cache", Some(vec!["cache"])),
            (
                "/cache, ./tmp, logs/",
                Some(vec!["/cache", "./tmp", "logs/"]),
            ),
            ("**/*.log", Some(vec!["**/*.log"])),
            (".hidden", Some(vec![".hidden"])),
            ("..data", Some(vec!["..data"])),
            ("a[0-9]", Some(vec!["a[0-9]"])),
            ("a[", None),
            ("{a,b}", None),
            ("/", None),
            ("./", None),
            (".", None),
            ("../etc", None),
            ("a/../b", None),
            ("!keep", None),
            ("", None),
        ] {
            let expected = expected.map(|items| names(&items));
            assert_eq!(exclusions(value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn durations_have_units_and_no_months() {
        for (value, expected) in [
            ("10m", Some(600)),
            (" 90s ", Some(90)),
            ("1h 30m", Some(5400)),
            ("10M", None),
            ("10", None),
            ("0s", None),
            ("-5m", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(duration(value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn commands_are_split_and_never_given_to_a_shell() {
        for (value, expected) in [
            (
                "vault auth disable approle/",
                Some(vec!["vault", "auth", "disable", "approle/"]),
            ),
            ("sh -c 'a && b | c'", Some(vec!["sh", "-c", "a && b | c"])),
            ("cut -d '|' f", Some(vec!["cut", "-d", "|", "f"])),
            ("echo ''", Some(vec!["echo", ""])),
            ("", None),
            ("   ", None),
            ("'' x", None),
            ("echo 'x", None),
            ("a && b", None),
            ("a >b", None),
            ("a\0b", None),
            ("sync\nfsfreeze -f /data", None),
            ("sync 'a\nb'\nfsfreeze", None),
            ("sync\r\nfsfreeze", None),
            ("  sync\n", Some(vec!["sync"])),
            ("sync \\\n  -f", None),
            (
                "sh -c 'sync\nfsfreeze'",
                Some(vec!["sh", "-c", "sync\nfsfreeze"]),
            ),
        ] {
            let expected = expected.map(|items| names(&items));
            assert_eq!(command(value).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_refused_command_is_not_repeated() {
        for value in [
            "login hunter2 && x",
            "login 'hunter2",
            "login $hunter2",
            "login hunter2;",
        ] {
            let refused = command(value).unwrap_err();
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }
}
