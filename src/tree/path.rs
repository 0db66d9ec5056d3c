//! Names inside a tree: bytes, not text, and hostile until parsed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A path relative to a tree's root: components separated by `/`, none of them empty, `.` or `..`, no NUL.
/// The root itself has no component.
///
/// Its printed form is percent-encoded ([`TreePath::encode`]): valid UTF-8 stands as itself, all else as `%XX`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(Vec<u8>);

/// How deep a tree may be that is saved and restored. No program reaches as deep by a path, which has at most 4,096 bytes.
pub const MAX_DEPTH: usize = 4096;
/// As many bytes of a path are shown to people: its beginning and its end.
const MAX_SHOWN: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("`{0}` is an absolute path")]
    Absolute(String),
    #[error("`{0}` leaves its root")]
    Escapes(String),
    #[error("`{0}` holds a NUL or a malformed escape")]
    Malformed(String),
}

impl TreePath {
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path as an archive or a person writes it: `./a//b/` is `a/b`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPath> {
        let shown = || shorten(encode(bytes));
        if bytes.first() == Some(&b'/') {
            return Err(BadPath::Absolute(shown()));
        }
        if bytes.contains(&0) {
            return Err(BadPath::Malformed(shown()));
        }
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(BadPath::Escapes(shown())),
                name => push(&mut path, name),
            }
        }
        Ok(Self(path))
    }

    /// Undoes [`TreePath::encode`].
    pub fn decode(text: &str) -> Result<Self, BadPath> {
        let bytes = decode(text).ok_or_else(|| BadPath::Malformed(shorten(text.to_owned())))?;
        Self::parse(&bytes)
    }

    pub fn encode(&self) -> String {
        encode(&self.0)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// `name` is one component, as a directory lists it.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        push(&mut path, name);
        Self(path)
    }

    /// Goes down by one component, as [`TreePath::join`] does.
    pub fn push(&mut self, name: &[u8]) {
        push(&mut self.0, name);
    }

    /// Goes up by one component, and returns it; `None` at the root.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let (parent, name) = self.split_last()?;
        let (length, name) = (parent.0.len(), name.to_vec());
        self.0.truncate(length);
        Some(name)
    }

    pub fn depth(&self) -> usize {
        self.components().count()
    }

    pub fn join_path(&self, below: &TreePath) -> Self {
        if below.is_root() {
            self.clone()
        } else {
            self.join(&below.0)
        }
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// The directory that holds this entry, and its name there; `None` for the root.
    pub fn split_last(&self) -> Option<(TreePath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (Self(self.0[..at].to_vec()), &self.0[at + 1..]),
            None => (Self::root(), &self.0),
        })
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
    }

    /// Whether this is `directory` or lies below it.
    pub fn is_within(&self, directory: &TreePath) -> bool {
        directory.is_root()
            || self
                .0
                .strip_prefix(directory.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// What is left of the path below `directory`; `None` when it does not lie there.
    pub fn below(&self, directory: &TreePath) -> Option<TreePath> {
        if !self.is_within(directory) {
            return None;
        }
        let rest = &self.0[directory.0.len()..];
        Some(Self(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Bytes as text that loses nothing: valid UTF-8 stands as itself, but `%`, control characters and bytes that are not
/// UTF-8 are written as `%XX`.
pub fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write;

    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "%{byte:02X}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                escape(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// A long path, fit for a message.
fn shorten(text: String) -> String {
    if text.len() <= MAX_SHOWN {
        return text;
    }
    let head = text.floor_char_boundary(MAX_SHOWN / 2);
    let tail = text.ceil_char_boundary(text.len() - MAX_SHOWN / 2);
    format!("{}[…]{}", &text[..head], &text[tail..])
}

/// Undoes [`encode`]; `None` when a `%` is not followed by two hexadecimal digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    Some(bytes)
}

/// For people: a very long path is shortened in its middle.
impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            formatter.write_str(".")
        } else {
            formatter.write_str(&shorten(self.encode()))
        }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.encode(), formatter)
    }
}

impl TryFrom<String> for TreePath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::decode(&text)
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_parsed_as_archives_write_them() {
        for (text, expected) in [
            ("./", Some("")),
            (".", Some("")),
            ("./a/b/", Some("a/b")),
            ("a//b", Some("a/b")),
            ("a/./b", Some("a/b")),
            ("...", Some("...")),
            ("/a", None),
            ("a/../b", None),
            ("..", None),
            ("a\0b", None),
        ] {
            let parsed = TreePath::parse(text.as_bytes());
            assert_eq!(
                parsed.ok().map(|path| path.encode()).as_deref(),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn being_within_respects_component_borders() {
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&TreePath::root()));
        assert!(!path("ab").is_within(&path("a")));
        assert!(!path("a").is_within(&path("a/b")));
        assert_eq!(path("a/b/c").below(&path("a")), Some(path("b/c")));
        assert_eq!(path("a").below(&TreePath::root()), Some(path("a")));
    }

    #[test]
    fn a_very_long_path_is_not_shown_whole() {
        let path = TreePath::parse("ä/".repeat(30_000).as_bytes()).unwrap();
        assert_eq!(path.depth(), 30_000);
        assert!(path.to_string().len() < 500 && path.to_string().contains("[…]"));
        assert_eq!(TreePath::decode(&path.encode()), Ok(path));
        let error = TreePath::parse(&b"a/../".repeat(30_000)).unwrap_err();
        assert!(error.to_string().len() < 500);
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for text in ["%", "%4", "a%zz", "%+1", "%00", "%2E%2E/x"] {
            assert!(TreePath::decode(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_survives_its_text(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = encode(&name);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(decode(&text), Some(name.clone()));
            if let Ok(path) = TreePath::parse(&name) {
                prop_assert_eq!(TreePath::decode(&path.encode()), Ok(path.clone()));
                prop_assert!(path.components().all(|part| part != b".." && part != b"." && !part.is_empty()));
            }
        }
    }
}
