//! Patterns for what is left out of a tree.
//!
//! - A pattern without a slash (or with one only at its end) matches at any depth: `*.log`, `nova-exports/`.
//! - A pattern with a slash inside or before it counts from the tree's root: `/cache`, `app/*.tmp`, `**/tmp/*.sock`.
//! - A slash at the end matches directories only. What matches is left out with all that lies below it.
//! - `*` and `?` never match a slash, `**` does; `[a-z]` and `{a,b}` work; `\` takes a character for itself.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::error::TreeError;
use super::path::TreePath;

#[derive(Clone, Debug, Default)]
pub struct Excludes {
    any: GlobSet,
    directories: GlobSet,
}

impl Excludes {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, TreeError> {
        let mut any = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let bad = |why: String| TreeError::Pattern {
                pattern: pattern.to_owned(),
                why,
            };
            let (body, only_directories) = match pattern.strip_suffix('/') {
                Some(body) => (body, true),
                None => (pattern, false),
            };
            let anchored = body.contains('/');
            let body = body.strip_prefix("./").unwrap_or(body);
            let body = body.strip_prefix('/').unwrap_or(body);
            if body.is_empty() {
                return Err(bad("it would leave out everything".to_owned()));
            }
            if body.split('/').any(|part| part == "..") {
                return Err(bad("it leaves the tree".to_owned()));
            }
            let glob = if anchored {
                body.to_owned()
            } else {
                format!("**/{body}")
            };
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| bad(error.kind().to_string()))?;
            let _ = match only_directories {
                true => directories.add(glob),
                false => any.add(glob),
            };
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| TreeError::Pattern {
                pattern: error.glob().unwrap_or_default().to_owned(),
                why: error.kind().to_string(),
            })
        };
        Ok(Self {
            any: build(any)?,
            directories: build(directories)?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.directories.is_empty()
    }

    /// Whether an entry is left out by itself. The caller leaves out what lies below it.
    pub fn matches(&self, path: &TreePath, is_directory: bool) -> bool {
        let path = OsStr::from_bytes(path.as_bytes());
        self.any.is_match(path) || (is_directory && self.directories.is_match(path))
    }

    /// Whether an entry is left out by itself or by a directory above it, for streams where nobody walks.
    pub fn covers(&self, path: &TreePath, is_directory: bool) -> bool {
        let bytes = path.as_bytes();
        let above = bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| OsStr::from_bytes(&bytes[..at]));
        self.matches(path, is_directory)
            || above.into_iter().any(|directory| {
                self.any.is_match(directory) || self.directories.is_match(directory)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, path, is_directory, expected) in [
            ("*.log", "a.log", false, true),
            ("*.log", "deep/down/a.log", false, true),
            ("*.log", "a.log/below", false, true),
            ("nova-exports/", "nova-exports", true, true),
            ("nova-exports/", "app/nova-exports", true, true),
            ("nova-exports/", "nova-exports", false, false),
            ("nova-exports/", "nova-exports/x/y", false, true),
            ("/nova-exports/", "app/nova-exports", true, false),
            ("/cache", "cache", false, true),
            ("/cache", "a/cache", false, false),
            ("app/*.tmp", "app/a.tmp", false, true),
            ("app/*.tmp", "app/b/a.tmp", false, false),
            ("app/*.tmp", "x/app/a.tmp", false, false),
            ("app/**/*.tmp", "app/b/c/a.tmp", false, true),
            ("./app/cache/", "app/cache", true, true),
            ("{a,b}.txt", "b.txt", false, true),
            ("[ab]", "b", false, true),
            ("\\*", "x", false, false),
            ("\\*", "*", false, true),
        ] {
            let excludes = Excludes::new(&[pattern]).unwrap();
            let path = TreePath::parse(path.as_bytes()).unwrap();
            assert_eq!(
                excludes.covers(&path, is_directory),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn names_that_are_not_text_are_matched_too() {
        let excludes = Excludes::new(&["*.log"]).unwrap();
        let path = TreePath::parse(b"dir/\xff\xfe.log").unwrap();
        assert!(excludes.matches(&path, false));
    }

    #[test]
    fn bad_patterns_are_explained() {
        let error = |pattern: &str| Excludes::new(&[pattern]).unwrap_err().to_string();
        insta::assert_snapshot!(error("a["), @"pattern `a[` is not valid: unclosed character class; missing ']'");
        insta::assert_snapshot!(error("/"), @"pattern `/` is not valid: it would leave out everything");
        insta::assert_snapshot!(error("../x"), @"pattern `../x` is not valid: it leaves the tree");
    }
}
