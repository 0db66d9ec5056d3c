//! The way from a root down to a directory, however deep: of all directories on it, only the deepest few are kept open.
//! One that was closed is opened again by its names, through no symbolic link.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::fs::{self, Status, open_directory};
use super::path::TreePath;

/// How many directories one way keeps open. A process may have as few as 256 files open at once.
const WINDOW: usize = 24;

pub struct Trail {
    root: Arc<OwnedFd>,
    steps: Vec<Step>,
}

struct Step {
    name: Vec<u8>,
    open: Option<Arc<OwnedFd>>,
}

impl Trail {
    pub fn new(root: Arc<OwnedFd>) -> Self {
        Self {
            root,
            steps: Vec::new(),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().map(|step| step.name.as_slice())
    }

    pub fn push(&mut self, name: &[u8], directory: OwnedFd) {
        self.steps.push(Step {
            name: name.to_vec(),
            open: Some(Arc::new(directory)),
        });
        if let Some(far) = self.steps.len().checked_sub(WINDOW + 1) {
            self.steps[far].open = None;
        }
    }

    pub fn pop(&mut self) {
        self.steps.pop();
    }

    /// Goes back up until `depth` steps are left.
    pub fn truncate(&mut self, depth: usize) {
        self.steps.truncate(depth);
    }

    /// The directory at the end of the way.
    pub fn last(&mut self) -> fs::Result<Arc<OwnedFd>> {
        let known = self.steps.iter().rposition(|step| step.open.is_some());
        let opened = known.and_then(|at| self.steps[at].open.as_ref());
        let mut directory = Arc::clone(opened.unwrap_or(&self.root));
        let length = self.steps.len();
        for at in known.map_or(0, |at| at + 1)..length {
            directory = Arc::new(open_directory(&directory, &self.steps[at].name)?);
            if length - at <= WINDOW {
                self.steps[at].open = Some(Arc::clone(&directory));
            }
        }
        Ok(directory)
    }
}

/// Visits what is below a directory, depth first, names sorted by their bytes. The caller decides which directories it
/// enters. Without recursion, since a tree may be deeper than a stack.
pub struct Descent {
    trail: Trail,
    levels: Vec<Level>,
    path: TreePath,
}

struct Level {
    status: Status,
    names: std::vec::IntoIter<Vec<u8>>,
}

pub enum Turn {
    /// A name in the directory that is visited now.
    Name(Vec<u8>),
    /// All of the directory of that name was visited; the one that holds it is visited again.
    Left(Vec<u8>),
}

impl Descent {
    pub fn new(root: Arc<OwnedFd>) -> fs::Result<Self> {
        let level = Level::of(&root)?;
        Ok(Self {
            trail: Trail::new(root),
            levels: vec![level],
            path: TreePath::root(),
        })
    }

    /// `opened` is the directory `name` of the one that is visited now.
    pub fn enter(&mut self, name: &[u8], opened: OwnedFd) -> fs::Result<()> {
        self.levels.push(Level::of(&opened)?);
        self.trail.push(name, opened);
        self.path.push(name);
        Ok(())
    }

    /// `None` when all of the root was visited.
    pub fn turn(&mut self) -> Option<Turn> {
        if let Some(name) = self.levels.last_mut()?.names.next() {
            return Some(Turn::Name(name));
        }
        self.levels.pop();
        self.trail.pop();
        self.path.pop().map(Turn::Left)
    }

    /// The directory that is visited now.
    pub fn directory(&mut self) -> fs::Result<Arc<OwnedFd>> {
        self.trail.last()
    }

    /// Its path, relative to the root.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// As it was when it was entered; `None` once all was visited.
    pub fn status(&self) -> Option<&Status> {
        self.levels.last().map(|level| &level.status)
    }

    /// The statuses of the root and of every directory below it on the way, as they were when they were entered.
    pub fn statuses(&self) -> impl DoubleEndedIterator<Item = &Status> {
        self.levels.iter().map(|level| &level.status)
    }
}

impl Level {
    fn of(directory: &OwnedFd) -> fs::Result<Self> {
        Ok(Self {
            status: fs::status_of(directory)?,
            names: fs::names(directory)?.into_iter(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_way_keeps_few_directories_open_and_finds_them_again() {
        let scratch = tempfile::tempdir().unwrap();
        let root: OwnedFd = std::fs::File::open(scratch.path()).unwrap().into();
        let mut trail = Trail::new(Arc::new(root));
        let mut inodes = Vec::new();
        for _ in 0..5 * WINDOW {
            let last = trail.last().unwrap();
            rustix::fs::mkdirat(&last, "d", rustix::fs::Mode::RWXU).unwrap();
            trail.push(b"d", open_directory(&last, b"d").unwrap());
            inodes.push(fs::status_of(trail.last().unwrap()).unwrap().identity);
        }
        while let Some(expected) = inodes.pop() {
            let last = fs::status_of(trail.last().unwrap()).unwrap();
            assert_eq!(last.identity, expected);
            let open = trail.steps.iter().filter(|step| step.open.is_some());
            assert!(open.count() <= WINDOW);
            trail.pop();
        }
    }
}
