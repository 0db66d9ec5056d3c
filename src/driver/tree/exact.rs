//! What `replace` takes away where a tree is written over: what is there and was not saved. Pure.
//!
//! Paths begin with the name that the tree has in the directory around it, as in the archive API's archives; so a tree
//! that is a single file is nothing special.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::tree::inventory::Nature;
use crate::tree::{Excludes, TreePath};

pub type Entries = BTreeMap<TreePath, Nature>;

/// What lies below the tree's path and is not a part of it.
#[derive(Clone, Default)]
pub struct Foreign {
    /// The tree's own name.
    pub name: TreePath,
    /// Where something else is mounted.
    pub mounts: Vec<TreePath>,
    /// What is left out of the target: it was not saved, and no safety snapshot holds it either.
    pub excludes: Vec<Excludes>,
}

impl Foreign {
    pub fn is_mounted(&self, path: &TreePath) -> bool {
        self.mounts.iter().any(|mount| path.is_within(mount))
    }

    /// Whether a mount would be in the way of anything but a directory.
    pub fn holds_mount(&self, path: &TreePath) -> bool {
        self.mounts.iter().any(|mount| mount.is_within(path))
    }

    pub fn leaves_nothing_out(&self) -> bool {
        self.excludes.iter().all(Excludes::is_empty)
    }

    /// Whether a pattern leaves it out: no snapshot holds what is there.
    pub fn is_left_out(&self, path: &TreePath, nature: Nature) -> bool {
        let is_left_out = |below: TreePath| {
            let is_directory = nature == Nature::Directory;
            !below.is_root()
                && self
                    .excludes
                    .iter()
                    .any(|excludes| excludes.covers(&below, is_directory))
        };
        path.below(&self.name).is_some_and(is_left_out)
    }

    fn contains(&self, path: &TreePath, nature: Nature) -> bool {
        self.is_mounted(path) || self.is_left_out(path, nature)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unwanted {
    /// What has to go before the saved entries come, each directory after what it holds.
    pub paths: Vec<TreePath>,
    /// Directories that stay because of what they hold, although something else was saved under their name.
    pub in_the_way: BTreeSet<TreePath>,
}

impl Unwanted {
    /// `is_chosen`: whether a path is restored at all.
    pub fn of(
        present: &Entries,
        saved: &Entries,
        foreign: &Foreign,
        is_chosen: impl Fn(&TreePath) -> bool,
    ) -> Self {
        let mut unwanted = Self::default();
        // Directories of which an entry stays.
        let mut holding = BTreeSet::new();
        // Backwards, what a directory holds comes before it.
        for (path, nature) in present.iter().rev() {
            let is_wanted = saved.get(path) == Some(nature);
            let stays =
                !is_chosen(path) || foreign.contains(path, *nature) || holding.contains(path);
            if !is_wanted && !stays {
                unwanted.paths.push(path.clone());
                continue;
            }
            if stays && *nature == Nature::Directory && saved.get(path) == Some(&Nature::Other) {
                unwanted.in_the_way.insert(path.clone());
            }
            holding.extend(path.split_last().map(|(parent, _)| parent));
        }
        unwanted
    }

    /// Those of the paths that stay when nobody removes them: what is written over goes all the same.
    pub fn extras<'a>(&'a self, saved: &'a Entries) -> impl Iterator<Item = &'a TreePath> {
        self.paths
            .iter()
            .rev()
            .filter(|path| !saved.contains_key(*path) && !is_written_over(path, saved))
    }
}

fn is_written_over(path: &TreePath, saved: &Entries) -> bool {
    let mut above = path.split_last().map(|(parent, _)| parent);
    while let Some(directory) = above {
        if saved.get(&directory) == Some(&Nature::Other) {
            return true;
        }
        above = directory.split_last().map(|(parent, _)| parent);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    /// Directories end in a slash.
    fn entries(names: &[&str]) -> Entries {
        names
            .iter()
            .map(|name| match name.strip_suffix('/') {
                Some(name) => (path(name), Nature::Directory),
                None => (path(name), Nature::Other),
            })
            .collect()
    }

    fn foreign(mounts: &[&str], excludes: &[&str]) -> Foreign {
        Foreign {
            name: path("app"),
            mounts: mounts.iter().map(|mount| path(mount)).collect(),
            excludes: vec![Excludes::new(excludes).unwrap()],
        }
    }

    fn shown<'a>(paths: impl IntoIterator<Item = &'a TreePath>) -> Vec<String> {
        paths.into_iter().map(TreePath::encode).collect()
    }

    #[test]
    fn what_was_not_saved_goes_and_what_it_holds_goes_first() {
        let present = entries(&[
            "app/",
            "app/a/",
            "app/a/b/",
            "app/a/b/c",
            "app/a-b",
            "app/kept",
        ]);
        let saved = entries(&["app/", "app/kept", "app/new"]);
        let unwanted = Unwanted::of(&present, &saved, &Foreign::default(), |_| true);
        assert_eq!(
            shown(&unwanted.paths),
            ["app/a/b/c", "app/a/b", "app/a", "app/a-b"]
                .map(str::to_owned)
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
        );
        for (at, path) in unwanted.paths.iter().enumerate() {
            let later = &unwanted.paths[at + 1..];
            assert!(!later.iter().any(|later| later.is_within(path)), "{path}");
        }
    }

    #[test]
    fn a_directory_that_holds_something_of_others_stays() {
        let present = entries(&[
            "app/",
            "app/old/",
            "app/old/x",
            "app/old/data/",
            "app/old/data/y",
            "app/logs/",
            "app/logs/1",
            "app/log",
        ]);
        let saved = entries(&["app/"]);
        let foreign = foreign(&["app/old/data"], &["/logs"]);
        let unwanted = Unwanted::of(&present, &saved, &foreign, |_| true);
        assert_eq!(shown(&unwanted.paths), ["app/old/x", "app/log"]);
        assert!(unwanted.in_the_way.is_empty());
    }

    #[test]
    fn what_changed_its_nature_makes_room() {
        let present = entries(&[
            "app/", "app/d/", "app/d/x", "app/f", "app/m/", "app/m/v/", "app/more",
        ]);
        let saved = entries(&["app/", "app/d", "app/f/", "app/f/y", "app/m"]);
        let unwanted = Unwanted::of(&present, &saved, &foreign(&["app/m/v"], &[]), |_| true);
        assert_eq!(
            shown(&unwanted.paths),
            ["app/more", "app/f", "app/d/x", "app/d"]
        );
        assert_eq!(shown(&unwanted.in_the_way), ["app/m"]);
        assert_eq!(shown(unwanted.extras(&saved)), ["app/more"]);
    }

    #[test]
    fn a_tree_that_was_a_file_replaces_the_directory_of_its_name() {
        let present = entries(&["app/", "app/x"]);
        let unwanted = Unwanted::of(&present, &entries(&["app"]), &foreign(&[], &[]), |_| true);
        assert_eq!(shown(&unwanted.paths), ["app/x", "app"]);
    }

    #[test]
    fn only_what_is_chosen_goes() {
        let present = entries(&["app/", "app/a/", "app/a/x", "app/b/", "app/b/x"]);
        let saved = entries(&["app/", "app/a/", "app/b/"]);
        let chosen = path("app/a");
        let unwanted = Unwanted::of(&present, &saved, &Foreign::default(), |path| {
            path.is_within(&chosen)
        });
        assert_eq!(shown(&unwanted.paths), ["app/a/x"]);
    }
}
