//! What servers with directories have in common, in contrast to object stores: they are walked, and a file that is being
//! written lies in them under a hidden name.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Item;
use super::fault::{Errand, Fault};
use super::storage::Children;
use crate::repository::RepositoryError;
use crate::repository::directory::{is_partial_name, partial_name};
use crate::target::RunId;

/// What is under the name that a hidden file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// Nothing: else it does not get the name.
    New,
    /// Whatever it is, the file takes its place.
    Over,
}

/// How many directories are asked for at a time.
const AT_A_TIME: usize = 8;

/// A directory's own listing. Its names are those of the server: see [`Entry::is_plain`].
#[async_trait]
pub(super) trait Directories: Sync {
    /// What lies right below `prefix`, which is empty or ends in `/`. `None` where there is no such directory.
    async fn entries(&self, prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError>;

    /// For messages.
    fn place(&self) -> String;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub kind: Kind,
    /// By the server's clock.
    pub modified: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { bytes: u64 },
    Directory,
}

impl Entry {
    /// Whether the name leads to something in the directory, and not out of it.
    fn is_plain(&self) -> bool {
        !matches!(self.name.as_str(), "" | "." | "..") && !self.name.contains('/')
    }
}

/// An entry, and where it lies. The path of a directory ends in `/`.
pub(super) struct Found {
    path: String,
    entry: Entry,
}

/// What `key` lies in: empty, or with a slash at its end.
pub(super) fn directory_of(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

/// A hidden key that no other file has, beside `key`.
pub(super) fn partial_key(key: &str) -> String {
    format!("{}{}", directory_of(key), partial_name())
}

/// How often everything is listed when something vanishes meanwhile.
const WALKS: usize = 3;

/// Everything below `prefix`.
///
/// A directory that was listed and then is not there was removed, or its server answers in passing as if it were: what is
/// thought to be missing may be deleted elsewhere, so this is asked again, and in the end an error.
pub(super) async fn walk(
    server: &dyn Directories,
    prefix: &str,
) -> Result<Vec<Found>, RepositoryError> {
    let mut vanished = String::new();
    for _ in 0..WALKS {
        match walk_once(server, prefix).await? {
            Walked::All(found) => return Ok(found),
            Walked::Vanished(directory) => vanished = directory,
        }
    }
    let errand = Errand {
        action: "list",
        key: &vanished,
    };
    Err(Fault::new("it disappeared while it was listed").of(errand, &server.place()))
}

enum Walked {
    All(Vec<Found>),
    Vanished(String),
}

async fn walk_once(server: &dyn Directories, prefix: &str) -> Result<Walked, RepositoryError> {
    let mut found = Vec::new();
    let mut level = vec![prefix.to_owned()];
    while !level.is_empty() {
        let listings: Vec<(String, Option<Vec<Found>>)> = stream::iter(level)
            .map(|directory| found_in(server, directory))
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        let first_new = found.len();
        for (directory, listing) in listings {
            match listing {
                Some(listing) => found.extend(listing),
                None if directory == prefix || is_partial_name(last_segment(&directory)) => {}
                None => return Ok(Walked::Vanished(directory)),
            }
        }
        level = found[first_new..]
            .iter()
            .filter(|new| new.entry.kind == Kind::Directory)
            .map(|new| new.path.clone())
            .collect();
    }
    Ok(Walked::All(found))
}

fn last_segment(directory: &str) -> &str {
    let path = directory.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

async fn found_in(
    server: &dyn Directories,
    directory: String,
) -> Result<(String, Option<Vec<Found>>), RepositoryError> {
    let Some(entries) = server.entries(&directory).await? else {
        return Ok((directory, None));
    };
    let found = entries
        .into_iter()
        .filter(Entry::is_plain)
        .map(|entry| Found {
            path: match entry.kind {
                Kind::File { .. } => format!("{directory}{}", entry.name),
                Kind::Directory => format!("{directory}{}/", entry.name),
            },
            entry,
        });
    let found = found.collect();
    Ok((directory, Some(found)))
}

/// The files among what was found, also those under hidden names: they tell that a run is at work there.
pub(super) fn items(found: Vec<Found>) -> Vec<Item> {
    found
        .into_iter()
        .filter_map(|Found { path, entry }| match entry.kind {
            Kind::File { bytes } => Some(Item {
                key: path,
                bytes,
                modified: entry.modified,
            }),
            Kind::Directory => None,
        })
        .collect()
}

pub(super) async fn children(
    server: &dyn Directories,
    prefix: &str,
) -> Result<Children, RepositoryError> {
    let mut children = Children::default();
    for entry in server.entries(prefix).await?.unwrap_or_default() {
        if !entry.is_plain() || is_partial_name(&entry.name) {
            continue;
        }
        match entry.kind {
            Kind::Directory => children.directories.push(entry.name),
            Kind::File { .. } => children.files.push(entry.name),
        }
    }
    Ok(children)
}

/// What killed runs left behind: files under hidden names, and the places of snapshots in which nothing lies. Only what was
/// last changed more than `age` ago.
pub(super) struct Unfinished {
    pub files: Vec<String>,
    pub directories: Vec<String>,
}

impl Unfinished {
    pub(super) fn among(found: &[Found], age: Duration) -> Self {
        let now = SystemTime::now();
        // A time in the future is not old: the clocks may differ.
        let is_old = |found: &&Found| {
            let passed = now.duration_since(found.entry.modified);
            passed.is_ok_and(|passed| passed > age)
        };
        let mut unfinished = Self {
            files: Vec::new(),
            directories: Vec::new(),
        };
        for old in found.iter().filter(is_old) {
            let path = old.path.clone();
            match old.entry.kind {
                Kind::File { .. } if is_partial_name(&old.entry.name) => {
                    unfinished.files.push(path);
                }
                Kind::Directory if is_ours(&path) && is_empty(&path, found) => {
                    unfinished.directories.push(path);
                }
                _ => {}
            }
        }
        unfinished
    }
}

/// The place of a snapshot, or what stands in the way of others for a moment.
fn is_ours(directory: &str) -> bool {
    let name = last_segment(directory);
    is_partial_name(name) || name.parse::<RunId>().is_ok()
}

fn is_empty(directory: &str, found: &[Found]) -> bool {
    let below = |other: &Found| other.path != directory && other.path.starts_with(directory);
    !found.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = ".cofferdam-00112233aabbccdd.partial";
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Answers from a list of files; a path that ends in `/` is an empty directory.
    struct Fixed(Vec<String>);

    #[async_trait]
    impl Directories for Fixed {
        async fn entries(&self, prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError> {
            let below = self.0.iter().filter_map(|path| path.strip_prefix(prefix));
            let mut entries: Vec<_> = below
                .filter(|rest| !rest.is_empty())
                .map(|rest| {
                    let (name, kind) = match rest.split_once('/') {
                        Some((name, _)) => (name, Kind::Directory),
                        None => (rest, Kind::File { bytes: 4 }),
                    };
                    Entry {
                        name: name.to_owned(),
                        kind,
                        modified: SystemTime::now() - 2 * DAY,
                    }
                })
                .collect();
            entries.dedup_by(|a, b| a.name == b.name);
            Ok(Some(entries))
        }

        fn place(&self) -> String {
            "here".to_owned()
        }
    }

    fn server(paths: &[&str]) -> Fixed {
        Fixed(paths.iter().map(|path| (*path).to_owned()).collect())
    }

    #[tokio::test]
    async fn hidden_files_are_signs_of_life_and_no_children() {
        let hidden = format!("a/1/{HIDDEN}");
        let server = server(&["a/1/x", &hidden, "a/2/", "b/c/d/y", HIDDEN]);
        let found = walk(&server, "").await.unwrap();
        let mut keys: Vec<_> = items(found).into_iter().map(|item| item.key).collect();
        keys.sort();
        assert_eq!(keys, [HIDDEN, &hidden, "a/1/x", "b/c/d/y"]);
        let below = items(walk(&server, "b/c/").await.unwrap());
        assert_eq!(below.len(), 1);
        let children = children(&server, "").await.unwrap();
        assert_eq!(children.directories, ["a", "b"]);
        assert_eq!(children.files, [""; 0]);
    }

    #[tokio::test]
    async fn only_what_is_old_and_hidden_or_empty_is_unfinished() {
        let hidden = format!("a/1/{HIDDEN}");
        let place = "a/20261101T020000Z-9f2c61aa/";
        let server = server(&["a/1/x", &hidden, "a/2/", place]);
        let found = walk(&server, "a/").await.unwrap();
        let unfinished = Unfinished::among(&found, DAY);
        assert_eq!(unfinished.files, [hidden]);
        assert_eq!(unfinished.directories, [place]);
        let unfinished = Unfinished::among(&found, 3 * DAY);
        assert!(unfinished.files.is_empty() && unfinished.directories.is_empty());
    }

    #[tokio::test]
    async fn names_that_lead_elsewhere_are_passed_over() {
        struct Hostile;
        #[async_trait]
        impl Directories for Hostile {
            async fn entries(&self, _prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError> {
                let names = ["", ".", "..", "../x", "a/b"];
                let entry = |name: &str| Entry {
                    name: name.to_owned(),
                    kind: Kind::Directory,
                    modified: SystemTime::UNIX_EPOCH,
                };
                Ok(Some(names.map(entry).into()))
            }

            fn place(&self) -> String {
                "here".to_owned()
            }
        }
        assert!(walk(&Hostile, "").await.unwrap().is_empty());
        assert_eq!(children(&Hostile, "").await.unwrap(), Children::default());
    }

    /// Says that a directory is not there, this many times, though it lists it.
    struct Forgetful(Fixed, std::sync::atomic::AtomicUsize);

    #[async_trait]
    impl Directories for Forgetful {
        async fn entries(&self, prefix: &str) -> Result<Option<Vec<Entry>>, RepositoryError> {
            use std::sync::atomic::Ordering::Relaxed;
            let forgets = || {
                self.1
                    .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            };
            match prefix == "a/1/" && forgets().is_ok() {
                true => Ok(None),
                false => self.0.entries(prefix).await,
            }
        }

        fn place(&self) -> String {
            self.0.place()
        }
    }

    #[tokio::test]
    async fn what_vanishes_while_it_is_listed_is_not_taken_for_empty() {
        for (times, is_found) in [(1, true), (WALKS - 1, true), (WALKS, false)] {
            let server = Forgetful(server(&["a/1/x"]), times.into());
            let found = walk(&server, "a/").await;
            assert_eq!(
                found.is_ok_and(|found| found.len() == 2),
                is_found,
                "{times}"
            );
        }
    }
}
