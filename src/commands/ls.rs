//! `cofferdam ls`

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::context::Context;
use super::error::CommandError;
use crate::cli::LsArgs;
use crate::exit::Outcome;
use crate::history::select;
use crate::manifest::{Manifest, TargetRecord};
use crate::pipe::Progress;
use crate::report;
use crate::snapshot::read_indexes;
use crate::tree::{IndexEntry, IndexKind, TreePath};

pub async fn run(context: &Context, args: LsArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let manifest = context.manifest(&*repository, &args.snapshot).await?;
    let record = only_tree(&manifest, &args)?;
    let wanted = args.path.as_deref().unwrap_or_default();
    let wanted = TreePath::parse(wanted.as_bytes()).map_err(CommandError::usage)?;

    let source = context.reader(repository, Progress::silent());
    let mut shown = Listing::new(wanted);
    read_indexes(&source, record, |entry| shown.take(entry)).await?;
    let entries = shown.finish().ok_or_else(|| {
        CommandError::usage(anyhow!(
            "`{}` does not exist in {} of snapshot {}",
            args.path.as_deref().unwrap_or_default(),
            record.target,
            manifest.snapshot
        ))
    })?;
    context.print(&entries, || {
        report::files::render(&entries, &context.view())
    })?;
    Ok(Outcome::Done)
}

fn only_tree<'m>(manifest: &'m Manifest, args: &LsArgs) -> Result<&'m TargetRecord, CommandError> {
    let trees: Vec<&TargetRecord> = manifest
        .targets
        .iter()
        .filter(|record| record.layers().next().is_some())
        .collect();
    let pattern = std::slice::from_ref(&args.target);
    let chosen = match select::targets(trees.iter().map(|record| &record.target), pattern) {
        Err(unknown) => {
            let all = manifest.targets.iter().map(|record| &record.target);
            return Err(match select::targets(all, pattern).as_deref() {
                Ok([database, ..]) => CommandError::usage(anyhow!(
                    "{database} is a database, not a tree of files; get it with: cofferdam export {} DIR {database}",
                    args.snapshot
                )),
                _ => unknown.into(),
            });
        }
        chosen => chosen?,
    };
    match chosen.as_slice() {
        [one] => trees
            .iter()
            .find(|record| record.target == **one)
            .copied()
            .ok_or_else(|| CommandError::failed(anyhow!("{one} is not in the snapshot"))),
        several => Err(CommandError::usage(anyhow!(
            "`{}` matches {} targets that hold files; name one of them",
            args.target,
            several.len()
        ))),
    }
}

/// What one directory holds after all layers, or the one file that is asked for.
struct Listing {
    wanted: TreePath,
    itself: Option<IndexEntry>,
    children: BTreeMap<TreePath, IndexEntry>,
}

impl Listing {
    fn new(wanted: TreePath) -> Self {
        Self {
            wanted,
            itself: None,
            children: BTreeMap::new(),
        }
    }

    fn take(&mut self, entry: IndexEntry) {
        if entry.kind == IndexKind::Deleted {
            self.children.retain(|path, _| !path.is_within(&entry.path));
            if self.wanted.is_within(&entry.path) {
                self.itself = None;
            }
        } else if entry.path == self.wanted {
            self.itself = Some(entry);
        } else if entry
            .path
            .split_last()
            .is_some_and(|(parent, _)| parent == self.wanted)
        {
            self.children.insert(entry.path.clone(), entry);
        }
    }

    /// `None` when there is nothing of that path.
    fn finish(self) -> Option<Vec<IndexEntry>> {
        let itself = self.itself?;
        Some(match itself.kind {
            IndexKind::Directory => self.children.into_values().collect(),
            _ => vec![itself],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: IndexKind) -> IndexEntry {
        IndexEntry {
            path: TreePath::parse(path.as_bytes()).unwrap(),
            kind,
            size: 0,
            mode: String::new(),
            uid: 0,
            gid: 0,
            modified: None,
            target: None,
        }
    }

    fn listed(wanted: &str) -> Option<Vec<String>> {
        let mut listing = Listing::new(TreePath::parse(wanted.as_bytes()).unwrap());
        for (path, kind) in [
            (".", IndexKind::Directory),
            ("a", IndexKind::Directory),
            ("a/one", IndexKind::File),
            ("b", IndexKind::File),
            // A later layer.
            (".", IndexKind::Directory),
            ("a/one", IndexKind::Deleted),
            ("a/two", IndexKind::File),
        ] {
            listing.take(entry(path, kind));
        }
        let names =
            |entries: Vec<IndexEntry>| entries.iter().map(|entry| entry.path.encode()).collect();
        listing.finish().map(names)
    }

    #[test]
    fn a_listing_is_one_directory_after_all_layers() {
        assert_eq!(listed("."), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(listed("a"), Some(vec!["a/two".to_owned()]));
        assert_eq!(listed("b"), Some(vec!["b".to_owned()]));
        assert_eq!(listed("c"), None);
    }
}
