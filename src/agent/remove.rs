//! Inside a container: removes what a restored tree does not have.
//!
//! The paths come in a file, and are names from outside: each is looked up from the container's root, one component after
//! the other, through no link and onto no other mount. An interruption leaves some of them removed; they were to go.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use rustix::fs::CWD;

use super::client::Attendant;
use super::dump::io_failure;
use super::job::{Failure, RemoveJob, Removed};
use crate::tree::remove::{Removal, Removed as Entry};
use crate::tree::{TreePath, fs};

/// How many reasons a report holds.
const MOST_REASONS: usize = 5;
/// Longer than any path that the kernel takes (4096 bytes) or an archive names.
const MOST_PATH: u64 = 64 * 1024;

pub fn run(job: &RemoveJob) -> Result<Removed, Failure> {
    let attendant = Attendant::begin(None);
    // All of the list is looked at before anything goes.
    let mut listed = 0;
    for_each(job, |_| {
        listed += 1;
        Ok(())
    })?;
    if listed != job.paths {
        return Err(Failure::Damaged {
            what: format!("{} paths were to be removed, and {listed} came", job.paths),
        });
    }
    let root =
        fs::open_directory(CWD, b"/").map_err(|errno| io_failure("/", "open", errno.into()))?;
    let mut removal = Removal::below(root);
    let mut report = Removed::default();
    for_each(job, |path| {
        attendant.ensure_wanted()?;
        match removal.entry(path) {
            Ok(Entry::Nothing) => {}
            Ok(Entry::Directory | Entry::Other) => report.removed += 1,
            Err(error) => {
                report.kept += 1;
                if report.why.len() < MOST_REASONS {
                    report.why.push(error.to_string());
                }
            }
        }
        Ok(())
    })?;
    Ok(report)
}

fn for_each(
    job: &RemoveJob,
    mut act: impl FnMut(&TreePath) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error| io_failure(&job.list, "read the list", error);
    let damaged = |what: String| Failure::Damaged {
        what: format!("the list of paths is damaged: {what}"),
    };
    let mut list = BufReader::new(File::open(&job.list).map_err(failed)?);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut list).take(MOST_PATH).read_until(0, &mut bytes);
        if read.map_err(failed)? == 0 {
            return Ok(());
        }
        if bytes.pop() != Some(0) {
            return Err(damaged("it is cut".to_owned()));
        }
        let path = TreePath::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        if path == job.within || !path.is_within(&job.within) {
            return Err(damaged(format!("{path} is not below {}", job.within)));
        }
        act(&path)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job for `paths` below a directory of the test's own, relative to the root.
    fn job(scratch: &std::path::Path, list: &[u8], paths: u64) -> RemoveJob {
        let file = scratch.join("list");
        std::fs::write(&file, list).unwrap();
        RemoveJob {
            within: below_root(&scratch.join("tree")),
            list: file.to_str().unwrap().to_owned(),
            paths,
        }
    }

    fn below_root(path: &std::path::Path) -> TreePath {
        let path = path.canonicalize().unwrap();
        TreePath::parse(&path.to_str().unwrap().as_bytes()[1..]).unwrap()
    }

    #[test]
    fn exactly_the_listed_paths_go() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        for name in ["a/b/gone", "a/stays", "-rf\n*"] {
            std::fs::write(tree.join(name), "x").unwrap();
        }
        let root = below_root(&tree);
        let mut list = Vec::new();
        for name in [&b"a/b/gone"[..], b"a/b", b"a", b"-rf\n*", b"never/was"] {
            list.extend_from_slice(root.join(name).as_bytes());
            list.push(0);
        }
        let report = run(&job(scratch.path(), &list, 5)).unwrap();
        assert_eq!((report.removed, report.kept), (3, 1));
        assert!(report.why[0].contains("not empty"), "{report:?}");
        assert!(tree.join("a/stays").exists());
        assert!(!tree.join("a/b").exists() && !tree.join("-rf\n*").exists());
    }

    #[test]
    fn a_list_that_is_not_whole_or_leaves_the_tree_removes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("file"), "x").unwrap();
        let file = below_root(&tree).join(b"file");
        let file = file.as_bytes();
        let outside = below_root(scratch.path()).join(b"list");
        let escaping = [file, b"/../../list\0"].concat();
        for (list, paths, words) in [
            (
                [file, b"\0"].concat(),
                2,
                "2 paths were to be removed, and 1 came",
            ),
            (file.to_vec(), 1, "it is cut"),
            (
                [file, b"\0", outside.as_bytes(), b"\0"].concat(),
                2,
                "is not below",
            ),
            (
                [file, b"\0", escaping.as_slice()].concat(),
                2,
                "leaves its root",
            ),
            (
                [file, b"\0", below_root(&tree).as_bytes(), b"\0"].concat(),
                2,
                "is not below",
            ),
        ] {
            let error = run(&job(scratch.path(), &list, paths)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(tree.join("file").exists(), "{words}");
        }
    }
}
