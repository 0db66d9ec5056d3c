//! `agent sqlite-pack` and `agent sqlite-unpack`: a database on a mount.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{
    FoundDatabase, SqlitePackTask, SqlitePacked, SqliteUnpackTask, SqliteUnpacked, warnings,
};
use crate::agent::flow::Outflow;
use crate::agent::job::Failure;
use crate::agent::pack::open_mount;
use crate::agent::task::{MOUNT, Streamed};
use crate::agent::unpack::receive_layer;
use crate::agent::wire::Line;
use crate::manifest::{Compression, FileOwner};
use crate::sqlite::{self, SqliteError};
use crate::tree::attributes::Place;
use crate::tree::entry::{Metadata, Time};
use crate::tree::staging::{Staging, StagingPlan, discard, staging_name, sweep};
use crate::tree::unpack::Directories;
use crate::tree::{TreeError, TreePath, fit, fs, room};

const COPY: &str = "copy";

pub fn pack(task: &SqlitePackTask, line: &mut Line) -> Result<SqlitePacked, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    sweep(&mount, &task.plan.project, &task.plan.run)?;
    let own = mount.try_clone()?;
    let packed = Staging::begin(own, task.plan.clone())
        .map_err(no_copy)
        .and_then(|_| pack_copy(task, line));
    let removed = discard(&mount, name_of(&task.plan).as_bytes());
    let mut packed = packed?;
    let left = removed.unwrap_or_else(|error| vec![error.to_string()]);
    packed.found.warnings.extend(
        left.iter()
            .map(|left| format!("the copy stays beside the database until the next run: {left}")),
    );
    Ok(packed)
}

/// Staging is for restores, and its words on a full disk are.
fn no_copy(error: TreeError) -> Failure {
    match error.errno() {
        Some(Errno::NOSPC | Errno::DQUOT) => Failure::Other {
            message: "there is no room for a copy of it: its disk is full".to_owned(),
        },
        _ => error.into(),
    }
}

fn pack_copy(task: &SqlitePackTask, line: &mut Line) -> Result<SqlitePacked, Failure> {
    let database = Path::new(MOUNT).join(as_path(&task.plan.place));
    let copy = staged_path(&task.plan, Path::new(COPY));
    let patience = Duration::from_secs(task.patience_seconds);
    let copied = sqlite::copy(&database, &copy, patience)?;
    let look = sqlite::look(&copy)?;
    Ok(SqlitePacked {
        found: FoundDatabase::new(copied, look),
        dump: send(&copy, task.compression, line)?,
    })
}

fn send(copy: &Path, compression: Compression, line: &Line) -> Result<Streamed, Failure> {
    let mut copy = File::open(copy)?;
    std::thread::scope(|scope| {
        let mut outflow = Outflow::start(scope, line.sender(), compression);
        match io::copy(&mut copy, &mut outflow) {
            Ok(_) => Ok(outflow.finish()?),
            Err(_) => Err(outflow.failure().into()),
        }
    })
}

pub fn unpack(task: &SqliteUnpackTask, line: &mut Line) -> Result<SqliteUnpacked, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    sweep(&mount, &task.plan.project, &task.plan.run)?;
    fit::ensure_replaceable(&mount, &task.plan)?;
    room::ensure(&mount, task.layer.plain.bytes, 0, room::MAKE_ROOM)?;
    let looks = looks(&mount, &task.plan.place, task.saved_owner)?;
    let mut staging = Staging::begin(mount, task.plan.clone())?;
    let new = staging.new_tree()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&new, task.name.as_bytes(), flags, Mode::RUSR | Mode::WUSR)
        .map_err(TreeError::file("make", &task.name))?;
    let mut file = File::from(file);
    receive_layer(&task.layer, line, |input| {
        io::copy(input, &mut file)?;
        Ok(())
    })?;
    let staged = staged_path(&task.plan, &as_path(&task.name));
    let look = sqlite::look(&staged)?;
    sqlite::ensure_same_tables(&task.saved, &look.content)?;
    Place::Open(file.as_fd())
        .apply(&looks)
        .map_err(TreeError::file("restore the attributes of", &task.name))?;
    file.sync_all()?;
    staging.loaded(&Directories::new())?;
    Ok(SqliteUnpacked {
        warnings: warnings(&look),
    })
}

/// Owner, permissions and attributes of the database that is there: whatever program uses it can open it. Those that were
/// saved where none is there.
fn looks(mount: &OwnedFd, place: &TreePath, saved: FileOwner) -> Result<Metadata, Failure> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let modified = Time {
        seconds: now.as_secs().try_into().unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    };
    let as_saved = Metadata {
        uid: saved.uid,
        gid: saved.gid,
        mode: saved.mode,
        modified,
        ..Metadata::default()
    };
    let Some((parent, name)) = place.split_last() else {
        return Err(SqliteError::NotAFile.into());
    };
    let directory = match fs::open_below(mount, &parent) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(as_saved),
        other => other?,
    };
    let failed = || TreeError::file("inspect", place);
    match fs::status_if_present(&directory, name).map_err(failed())? {
        Some(present) if present.file_type == FileType::RegularFile => {
            let present_file = Place::Named(directory.as_fd(), name);
            let attributes = present_file.attributes(&mut |_| ()).map_err(failed())?;
            Ok(Metadata {
                modified,
                ..present.metadata(attributes)
            })
        }
        Some(_) => Err(SqliteError::NotAFile.into()),
        None => Ok(as_saved),
    }
}

/// SQLite opens files by their paths. Nothing else is in a helper that a link could lead to, and links are not followed.
fn staged_path(plan: &StagingPlan, name: &Path) -> PathBuf {
    Path::new(MOUNT).join(name_of(plan)).join("new").join(name)
}

fn name_of(plan: &StagingPlan) -> String {
    staging_name(&plan.run, &plan.target)
}

fn as_path(path: &TreePath) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path.as_bytes()))
}
