//! Where in a container temporary files can go.

use crate::engine::archive::{PathKind, PathStat};
use crate::engine::{Container, Engine, EngineError};

const USUAL: [&str; 2] = ["/tmp", "/var/tmp"];

/// Directories to try, in this order: what the label says, or the usual ones.
pub fn candidates(scratch: Option<&str>) -> Vec<&str> {
    match scratch {
        Some(scratch) => vec![scratch],
        None => USUAL.to_vec(),
    }
}

/// Why the archive API cannot put files there, as far as the container's mounts tell.
pub fn refusal(container: &Container, path: &str) -> Option<&'static str> {
    if container.is_on_tmpfs(path) {
        return Some("is on a tmpfs, which the engine's archive API cannot see");
    }
    match container.mount_of(path) {
        Some(mount) if !mount.writable => Some("is mounted read-only"),
        None if container.read_only_root => Some("is in a read-only root file system"),
        _ => None,
    }
}

/// The directory that `path` names in the container, or why it cannot be used.
pub async fn resolve(
    engine: &Engine,
    container: &Container,
    path: &str,
) -> Result<Result<String, String>, EngineError> {
    if let Some(why) = refusal(container, path) {
        return Ok(Err(format!("{path} {why}")));
    }
    Ok(match engine.stat(&container.id, path).await? {
        None => Err(format!("{path} does not exist")),
        Some(PathStat {
            kind: PathKind::Directory,
            ..
        }) => Ok(path.to_owned()),
        // The engine gives the end of a chain of links, as seen from the container's root.
        Some(PathStat {
            kind: PathKind::Symlink,
            link_target,
            ..
        }) => match refusal(container, &link_target) {
            Some(why) => Err(format!("{path} leads to {link_target}, which {why}")),
            None => Ok(link_target),
        },
        Some(_) => Err(format!("{path} is not a directory")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support;
    use crate::engine::container::tests_support::mount;
    use crate::engine::{Mount, MountKind};
    #[test]
    fn places_that_cannot_hold_a_file_are_refused() {
        let mut usual = tests_support::container("db");
        usual.mounts = vec![
            mount(MountKind::Volume, "/scratch"),
            Mount {
                writable: false,
                ..mount(MountKind::Bind, "/scratch/ro")
            },
            mount(MountKind::Tmpfs, "/mem"),
        ];
        usual.tmpfs = vec!["/run".to_owned()];
        let mut read_only = usual.clone();
        read_only.tmpfs = vec!["/tmp".to_owned()];
        read_only.read_only_root = true;
        for (path, on_usual, on_read_only) in [
            (
                "/tmp",
                None,
                Some("is on a tmpfs, which the engine's archive API cannot see"),
            ),
            ("/var/tmp", None, Some("is in a read-only root file system")),
            ("/scratch", None, None),
            ("/scratch/deep", None, None),
            (
                "/scratch/ro",
                Some("is mounted read-only"),
                Some("is mounted read-only"),
            ),
            (
                "/mem/x",
                Some("is on a tmpfs, which the engine's archive API cannot see"),
                Some("is on a tmpfs, which the engine's archive API cannot see"),
            ),
        ] {
            assert_eq!(refusal(&usual, path), on_usual, "{path}");
            assert_eq!(refusal(&read_only, path), on_read_only, "{path}");
        }
    }

    #[test]
    fn a_label_leaves_no_other_place() {
        assert_eq!(candidates(None), ["/tmp", "/var/tmp"]);
        assert_eq!(candidates(Some("/scratch")), ["/scratch"]);
    }
}
