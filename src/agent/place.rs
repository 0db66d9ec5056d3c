//! Inside a container: the directory that the agent was put into, and those that dead runs left beside it.

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use super::dump::io_failure;
use super::job::{ArriveJob, Arrived, DIRECTORY_PREFIX, Failure, LeaveJob, Left};
use super::processes;

/// What a process of ours is given to end by itself.
const GRACE: Duration = Duration::from_secs(8);

pub fn arrive(job: &ArriveJob) -> Result<Arrived, Failure> {
    let directory = own_directory()?;
    let place = directory.display().to_string();
    let space = rustix::fs::statvfs(&directory)
        .map_err(|error| io_failure(&place, "check the free space", error.into()))?;
    Ok(Arrived {
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        cores: available_parallelism().map_or(1, NonZero::get),
        swept: sweep(&directory, &job.run),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
pub fn leave(_job: &LeaveJob) -> Result<Left, Failure> {
    let directory = own_directory()?;
    processes::end(|| processes::of_directory(&directory), GRACE);
    fs::remove_dir_all(&directory).map_err(|error| {
        io_failure(&directory.display().to_string(), "remove everything", error)
    })?;
    Ok(Left {})
}

/// The directory that this binary was put into; an error when it is not one of ours.
pub fn own_directory() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::Other {
        message: format!("cannot find the agent's own file: {error}"),
    })?;
    match program.parent() {
        Some(directory) if is_ours(directory) => Ok(directory.to_owned()),
        _ => Err(Failure::Other {
            message: format!("{} is not in a directory of its own", program.display()),
        }),
    }
}

fn is_ours(directory: &Path) -> bool {
    directory
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(DIRECTORY_PREFIX))
}

/// Removes what other runs left beside `own`, unless a process still runs from there. The lock on the project keeps two
/// runs from being at work in one container, so another run's directory is a dead one's.
#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
fn sweep(own: &Path, run: &str) -> Vec<String> {
    let Some(entries) = own.parent().and_then(|parent| fs::read_dir(parent).ok()) else {
        return Vec::new();
    };
    let ours = format!("{DIRECTORY_PREFIX}{run}");
    let mut swept: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let path = entry.path();
            let name = entry.file_name().into_string().ok()?;
            let is_dead = is_ours(&path) && !name.starts_with(&ours);
            let is_left = is_dead && processes::of_directory(&path).is_empty();
            // One that another user left cannot be removed; it is theirs to remove.
            (is_left && fs::remove_dir_all(&path).is_ok()).then_some(name)
        })
        .collect();
    swept.sort();
    swept
}

/// Called by an agent whose cofferdam is gone: nobody else will remove what was put in.
#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
pub fn remove_after_abandonment() -> io::Result<()> {
    let directory = own_directory().map_err(io::Error::other)?;
    fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn only_directories_of_other_runs_are_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let run = "20261121T020000Z-9f2c61aa";
        let own = scratch.path().join(format!(".cofferdam-{run}-0001"));
        let sibling = scratch.path().join(format!(".cofferdam-{run}-0002"));
        let dead = scratch
            .path()
            .join(".cofferdam-20251121T020000Z-00000000-0001");
        let foreign = scratch.path().join("cofferdam");
        for directory in [&own, &sibling, &dead, &foreign] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("dump"), "x").unwrap();
        }
        fs::write(scratch.path().join(".cofferdam-file"), "x").unwrap();
        std::os::unix::fs::symlink(&foreign, scratch.path().join(".cofferdam-link")).unwrap();
        assert_eq!(
            sweep(&own, run),
            [".cofferdam-20251121T020000Z-00000000-0001"]
        );
        assert!(own.exists() && sibling.exists() && foreign.exists() && !dead.exists());
        assert!(scratch.path().join(".cofferdam-file").exists());
        assert!(
            scratch
                .path()
                .join(".cofferdam-link")
                .symlink_metadata()
                .is_ok()
        );
    }

    #[test]
    fn a_directory_with_a_live_process_is_left_alone_and_can_be_ended() {
        let scratch = tempfile::tempdir().unwrap();
        let live = scratch
            .path()
            .join(".cofferdam-20251121T020000Z-00000000-0001");
        fs::create_dir(&live).unwrap();
        let program = live.join("cofferdam");
        fs::copy("/bin/sleep", &program).unwrap();
        // Another test may have forked while the program was being written, and have it open still.
        let mut child = loop {
            match std::process::Command::new(&program).arg("1000").spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    thread::yield_now();
                }
                spawned => break spawned.unwrap(),
            }
        };
        let own = scratch.path().join(".cofferdam-x");
        assert_eq!(sweep(&own, "y"), Vec::<String>::new());
        assert_eq!(processes::of_directory(&live).len(), 1);
        let reaper = thread::spawn(move || child.wait());
        processes::end(|| processes::of_directory(&live), GRACE);
        assert!(!reaper.join().unwrap().unwrap().success());
        assert_eq!(sweep(&own, "y").len(), 1);
    }

    #[test]
    fn a_binary_that_is_at_home_removes_nothing() {
        assert!(matches!(leave(&LeaveJob {}), Err(Failure::Other { .. })));
        assert!(remove_after_abandonment().is_err());
    }
}
