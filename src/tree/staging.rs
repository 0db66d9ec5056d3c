//! Where a restore puts the new tree before it takes the place of the old one.
//!
//! ```text
//! <the mount's root>/.cofferdam-<run>-<target>/
//!   state          what is restored, how, and how far it came; absent only at the very beginning and the very end
//!   reserve        room that is given back when the exchange begins, which must not fail on a full disk
//!   new/           the tree as it was saved
//!   dropped/       what was `new`, once it was given up: that takes no room either
//!   old/           what the exchange moved out of the way
//!   directories    what directories have to look like (overlay: their children are moved one by one)
//! ```
//!
//! It lies at the root of the mount, on the same file system as the tree, so that everything in it takes its place by
//! renames. Until the exchange is decided, which is one write of `state`, the live tree is untouched and
//! [`discard`] removes all of this. From then on [`super::exchange::exchange`] finishes, as often as it is
//! interrupted.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::change::{self, Spot};
use super::entry::{Metadata, Time};
use super::error::TreeError;
use super::fs::{self, Identity};
use super::path::TreePath;
use super::stays::Stays;
use super::unpack::Directories;
use crate::labels::TreeRestore;
use crate::manifest::TreeShape;
use crate::target::{RunId, TargetId};

const PREFIX: &str = ".cofferdam-";
const FORMAT: u32 = 1;
const STATE: &str = "state";
const DIRECTORIES: &str = "directories";
pub(super) const NEW: &[u8] = b"new";
pub(super) const OLD: &[u8] = b"old";
const DROPPED: &[u8] = b"dropped";
const RESERVE: &str = "reserve";
/// For a new state, and for what directories grow by when entries are moved into them.
const RESERVED: usize = 256 * 1024;
/// How long something in the shape of a staging directory, of which nothing is known, is left alone.
const STRANGER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a name at the root of a mount is one of our own staging directories: those are never packed.
pub fn is_staging_name(name: &[u8]) -> bool {
    let digits = |part: &[u8]| {
        part.len() == 8
            && part
                .iter()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
        rest.len() == 17 && rest[8] == b'-' && digits(&rest[..8]) && digits(&rest[9..])
    })
}

/// The name of a run's staging directory for one target, the same whoever asks.
pub fn staging_name(run: &RunId, target: &TargetId) -> String {
    let digest = Sha256::digest(target.to_string().as_bytes());
    let short: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{PREFIX}{}-{short}", run.short())
}

/// Where the new tree waits, relative to the mount's root.
pub fn new_tree_path(run: &RunId, target: &TargetId) -> String {
    format!("{}/new", staging_name(run, target))
}

/// What is restored, and how it takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingPlan {
    pub project: String,
    pub run: RunId,
    pub target: TargetId,
    /// Where the tree lies in the mount.
    pub place: TreePath,
    pub shape: TreeShape,
    #[serde(with = "restore_mode")]
    pub mode: TreeRestore,
    /// Paths in the tree that are restored; empty for all of it.
    pub selection: Vec<TreePath>,
    /// Below the mount's root: what belongs to the present entry, whatever of it there is, and goes with it.
    #[serde(default)]
    pub companions: Vec<TreePath>,
    #[serde(default)]
    pub stays: Stays,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Loading,
    Loaded,
    /// Given up before it was decided.
    Discarding,
    /// Decided: what is extra is moved out of the way.
    Clearing,
    /// Decided: the new takes its place.
    Placing,
    /// The new is in its place; the old is removed.
    Finishing,
}

impl Phase {
    pub fn is_decided(self) -> bool {
        matches!(self, Self::Clearing | Self::Placing | Self::Finishing)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    pub phase: Phase,
    #[serde(flatten)]
    pub plan: StagingPlan,
    /// The modification time of the mount's root before the staging directory was made in it.
    pub mount_modified: Time,
    /// Which files the new entries are that take their places by themselves: set when the exchange is decided.
    #[serde(default)]
    pub units: Vec<StagedUnit>,
}

/// An entry that takes its place as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedUnit {
    /// Below `new`; its root for the whole tree.
    pub staged: TreePath,
    /// Below the mount's root.
    pub live: TreePath,
    /// It is exchanged entry by entry, since it stays itself.
    pub around: bool,
    pub device: (u32, u32),
    pub inode: u64,
}

impl StagedUnit {
    pub fn is(&self, identity: &Identity) -> bool {
        (self.device, self.inode) == (identity.device, identity.inode)
    }
}

/// A staging directory.
pub struct Staging {
    pub(super) mount: OwnedFd,
    pub(super) name: Vec<u8>,
    pub(super) directory: OwnedFd,
    pub(super) state: State,
}

impl Staging {
    /// Makes an empty staging directory at the root of `mount`. What an earlier attempt of the same run left is removed.
    pub fn begin(mount: OwnedFd, plan: StagingPlan) -> Result<Self, TreeError> {
        let name = staging_name(&plan.run, &plan.target).into_bytes();
        discard(&mount, &name)?;
        let root = TreePath::root();
        let modified = fs::status_of(&mount)
            .map_err(TreeError::file("inspect", &root))?
            .modified;
        let shown = root.join(&name);
        change::make_directory(Spot::new(&mount, &name, &shown), Mode::RWXU)?;
        // Until something is decided, nothing shows that this directory came and went.
        change::set_modified(&mount, modified, &root)?;
        let directory =
            fs::open_directory(&mount, &name).map_err(TreeError::file("open", &shown))?;
        let staging = Self {
            mount,
            name,
            directory,
            state: State {
                format: FORMAT,
                phase: Phase::Loading,
                plan,
                mount_modified: modified,
                units: Vec::new(),
            },
        };
        // A default ACL of the mount's root must not be inherited. Whoever knows the name may go through it to the new tree,
        // which has its own mode when it is whole.
        let passage = Metadata {
            mode: 0o711,
            modified,
            ..Metadata::default()
        };
        change::apply(&staging.directory, &passage, &shown)?;
        staging.write_state()?;
        for name in [OLD, NEW] {
            change::make_directory(staging.spot(name, &shown), Mode::RWXU)?;
        }
        change::reserve(&staging.directory, RESERVE, RESERVED)?;
        Ok(staging)
    }

    /// The staging directory of that name; `None` when there is none, or one in which nothing was begun.
    pub fn find(mount: OwnedFd, name: &[u8]) -> Result<Option<Self>, TreeError> {
        let shown = TreePath::root().join(name);
        let directory = match fs::open_directory(&mount, name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(TreeError::file("open", &shown)(errno)),
        };
        let Some(content) = read_file(&directory, STATE)? else {
            return Ok(None);
        };
        let mut state: State =
            serde_json::from_slice(&content).map_err(|error| unreadable(&error))?;
        if state.format > FORMAT {
            return Err(unreadable(&"it was written by a newer cofferdam"));
        }
        if !state.phase.is_decided() && !is_present(&directory, NEW)? {
            state.phase = Phase::Discarding;
        }
        Ok(Some(Self {
            mount,
            name: name.to_vec(),
            directory,
            state,
        }))
    }

    pub fn plan(&self) -> &StagingPlan {
        &self.state.plan
    }

    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// The directory that the tree is unpacked into.
    pub fn new_tree(&self) -> Result<OwnedFd, TreeError> {
        fs::open_directory(&self.directory, NEW).map_err(TreeError::file("open", "new"))
    }

    /// Declares the new tree complete. `directories`: as the unpacking returned them.
    pub fn loaded(&mut self, directories: &Directories) -> Result<(), TreeError> {
        let content = serde_json::to_vec(directories).map_err(|error| unreadable(&error))?;
        change::write_file(&self.directory, DIRECTORIES, &content)?;
        self.enter(Phase::Loaded)
    }

    pub(super) fn directories(&self) -> Result<Directories, TreeError> {
        let content = read_file(&self.directory, DIRECTORIES)?.unwrap_or_else(|| b"{}".to_vec());
        serde_json::from_slice(&content).map_err(|error| unreadable(&error))
    }

    /// On a full disk, in the room that was reserved for it.
    pub(super) fn enter(&mut self, phase: Phase) -> Result<(), TreeError> {
        self.state.phase = phase;
        match self.write_state() {
            Err(error) if error.errno() == Some(Errno::NOSPC) => {
                self.give_back_reserve()?;
                self.write_state()?;
            }
            other => other?,
        }
        if phase.is_decided() {
            self.give_back_reserve()?;
        }
        Ok(())
    }

    fn give_back_reserve(&self) -> Result<(), TreeError> {
        let shown = TreePath::root().join(&self.name);
        change::remove(self.spot(RESERVE.as_bytes(), &shown))
    }

    fn write_state(&self) -> Result<(), TreeError> {
        let content = serde_json::to_vec(&self.state).map_err(|error| unreadable(&error))?;
        change::write_file(&self.directory, STATE, &content)
    }

    pub(super) fn spot<'a>(&'a self, name: &'a [u8], shown: &'a TreePath) -> Spot<'a> {
        Spot::new(&self.directory, name, shown)
    }

    /// Removes the staging directory with all that is in it, the state last, and gives the mount's root back the time
    /// it ought to have. A kill between the last two steps leaves that root with the time of the kill.
    ///
    /// Nothing that anybody needs is in it any more: what cannot be removed is told, and tried again by [`sweep`].
    pub(super) fn remove(self, mount_modified: Time) -> Result<Vec<String>, TreeError> {
        let shown = TreePath::root().join(&self.name);
        let removed = self.remove_content(&shown);
        let left = match removed {
            Err(error @ TreeError::File { .. }) => vec![format!(
                "{shown} could not be removed, and the next restore tries again: {error}"
            )],
            other => {
                other?;
                Vec::new()
            }
        };
        change::set_modified(&self.mount, mount_modified, &TreePath::root())?;
        change::sync(&self.mount)?;
        Ok(left)
    }

    fn remove_content(&self, shown: &TreePath) -> Result<(), TreeError> {
        for name in [NEW, DROPPED, OLD] {
            change::remove(self.spot(name, shown))?;
        }
        remove_files(&self.directory, shown)?;
        change::remove_empty(Spot::new(&self.mount, &self.name, shown))
    }
}

/// The state is the last to go.
fn remove_files(directory: &OwnedFd, shown: &TreePath) -> Result<(), TreeError> {
    for name in [
        RESERVE,
        "directories.next",
        DIRECTORIES,
        "state.next",
        STATE,
    ] {
        change::remove(Spot::new(directory, name.as_bytes(), shown))?;
    }
    Ok(())
}

/// Removes what was staged, and leaves the live tree as it was. Fails when the exchange was decided; does nothing when
/// there is nothing. Takes no room: what is given up loses its name first. Warnings tell of what could not be removed.
pub fn discard(mount: &OwnedFd, name: &[u8]) -> Result<Vec<String>, TreeError> {
    let own = mount.try_clone().map_err(TreeError::Stream)?;
    match Staging::find(own, name)? {
        None => remove_bare(mount, name).map(|()| Vec::new()),
        Some(staging) if staging.phase().is_decided() => Err(TreeError::Staging {
            what: "the restored data is already replacing the old".to_owned(),
            hint: "run `cofferdam recover` to finish that",
        }),
        Some(staging) => {
            let shown = TreePath::root().join(name);
            if is_present(&staging.directory, NEW)? {
                // Of an attempt to remove it that came to nothing.
                change::remove(staging.spot(DROPPED, &shown))?;
                change::rename(staging.spot(NEW, &shown), staging.spot(DROPPED, &shown))?;
                change::sync(&staging.directory)?;
            }
            let modified = staging.state.mount_modified;
            staging.remove(modified)
        }
    }
}

/// A staging directory without a state holds nothing: its maker was stopped before its first step or after its last.
fn remove_bare(mount: &OwnedFd, name: &[u8]) -> Result<(), TreeError> {
    let shown = TreePath::root().join(name);
    let directory = match fs::open_directory(mount, name) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(TreeError::file("open", &shown)(errno)),
    };
    let root = TreePath::root();
    let modified = fs::status_of(mount)
        .map_err(TreeError::file("inspect", &root))?
        .modified;
    remove_files(&directory, &shown)?;
    change::remove_empty(Spot::new(mount, name, &shown))?;
    change::set_modified(mount, modified, &root)
}

/// Deals with what earlier runs of the same project left at the root of `mount`: what was decided is finished, all else
/// removed. Only one run of a project goes on at a time, so these runs are over. Other projects' are left alone.
pub fn sweep(mount: &OwnedFd, project: &str, run: &RunId) -> Result<(), TreeError> {
    let names = fs::names(mount).map_err(TreeError::file("list", TreePath::root()))?;
    for name in names.iter().filter(|name| is_staging_name(name)) {
        let own = mount.try_clone().map_err(TreeError::Stream)?;
        match Staging::find(own, name)? {
            None if is_old(mount, name)? => remove_bare(mount, name)?,
            None => {}
            Some(staging) => {
                let plan = staging.plan();
                if plan.project != project || plan.run == *run {
                    continue;
                }
                if staging.phase().is_decided() {
                    super::exchange::exchange(mount, name)?;
                } else {
                    discard(mount, name)?;
                }
            }
        }
    }
    Ok(())
}

fn is_present(directory: &OwnedFd, name: &[u8]) -> Result<bool, TreeError> {
    let status = fs::status_if_present(directory, name);
    Ok(status
        .map_err(TreeError::file("inspect", "the staging directory"))?
        .is_some())
}

fn is_old(mount: &OwnedFd, name: &[u8]) -> Result<bool, TreeError> {
    let status = fs::status_if_present(mount, name).map_err(TreeError::file("inspect", "mount"))?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(status.is_some_and(|status| {
        let changed = Duration::from_secs(status.changed.seconds.try_into().unwrap_or(0));
        now.saturating_sub(changed) > STRANGER
    }))
}

fn unreadable(why: &dyn std::fmt::Display) -> TreeError {
    TreeError::Staging {
        what: format!("the state of the restore cannot be read: {why}"),
        hint: "look into the staging directory: `new` has the restored data, `old` what was there before",
    }
}

fn read_file(directory: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, TreeError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(TreeError::file("open", name)(errno)),
    };
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut content).map_err(|source| {
        TreeError::File {
            action: "read",
            path: name.to_owned(),
            source,
        }
    })?;
    Ok(Some(content))
}

/// The words of the label.
mod restore_mode {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::labels::TreeRestore;

    const WORDS: [(TreeRestore, &str); 3] = [
        (TreeRestore::Replace, "replace"),
        (TreeRestore::Overlay, "overlay"),
        (TreeRestore::KeepExisting, "keep-existing"),
    ];

    pub fn serialize<S: Serializer>(mode: &TreeRestore, serializer: S) -> Result<S::Ok, S::Error> {
        let word = WORDS.iter().find(|(known, _)| known == mode);
        serializer.serialize_str(word.map_or("replace", |(_, word)| word))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<TreeRestore, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = WORDS.iter().find(|(_, word)| *word == text);
        mode.map(|(mode, _)| *mode)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a restore mode")))
    }
}
