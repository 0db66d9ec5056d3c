//! Which container this process runs in, if any.
//!
//! The engine mounts `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` into every container from a directory that is
//! named by the container's id; `/proc/self/mountinfo` shows it whatever the network, the host name or the cgroup version
//! is. What it shows is believed only when the engine knows a container of that id: with `DOCKER_HOST` set to another
//! machine, it does not.
//!
//! In the network of another container these files are the other's. Then the one of the two, or of the many, is meant whose
//! cgroup, root file system or mounts are ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;
use bollard::query_parameters::ListContainersOptions;

use super::connect::Endpoint;
use super::fault::About;
use super::{Container, Engine, EngineError};

impl Engine {
    /// The container that this process runs in, confirmed by the engine; `None` outside of one.
    pub async fn own_container(&self) -> Result<Option<Container>, EngineError> {
        let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else {
            return Ok(None);
        };
        let mounts = String::from_utf8_lossy(&mounts);
        let Some(id) = container_id(&mounts) else {
            return Ok(None);
        };
        let named = match self.inspect(&id).await {
            Ok(container) => container,
            Err(EngineError::NoSuchContainer(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut candidates = self.guests_of(&named).await?;
        candidates.push(named);
        candidates.retain(Container::is_running);
        match candidates.len() {
            0 | 1 => Ok(candidates.pop()),
            _ => self.own_of(candidates, &mounts).await.map(Some),
        }
    }

    /// The running containers in the network of another.
    async fn guests_of(&self, host: &Container) -> Result<Vec<Container>, EngineError> {
        let listed = self
            .client
            .list_containers(None::<ListContainersOptions>)
            .await
            .map_err(|error| self.fault(error, About::Engine, "list containers"))?;
        let mut guests = Vec::new();
        for container in listed {
            let mode = container.host_config.and_then(|config| config.network_mode);
            let named = mode.as_deref().and_then(|it| it.strip_prefix("container:"));
            let (Some(named), Some(id)) = (named, container.id) else {
                continue;
            };
            if self.id_of(named.to_owned()).await? != host.id {
                continue;
            }
            match self.inspect(&id).await {
                Ok(guest) => guests.push(guest),
                Err(EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(guests)
    }

    async fn own_of(
        &self,
        mut candidates: Vec<Container>,
        mountinfo: &str,
    ) -> Result<Container, EngineError> {
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if let Some(at) = candidates.iter().position(|it| cgroup.contains(&it.id)) {
            return Ok(candidates.swap_remove(at));
        }
        if let Some(layer) = upper_directory(mountinfo) {
            for (at, candidate) in candidates.iter().enumerate() {
                let raw = self.inspect_raw(&candidate.id).await?;
                let data = raw.graph_driver.map(|driver| driver.data);
                if data.is_some_and(|data| data.get("UpperDir").is_some_and(|it| it == layer)) {
                    return Ok(candidates.swap_remove(at));
                }
            }
        }
        if let Some(at) = by_mounts(&candidates, mountinfo) {
            return Ok(candidates.swap_remove(at));
        }
        let names: Vec<&str> = candidates.iter().map(|it| it.name.as_str()).collect();
        Err(EngineError::Api {
            action: "tell in which container cofferdam runs".to_owned(),
            status: None,
            message: format!(
                "it shares a network with other containers, and may be any of {}; give it its own network",
                names.join(", ")
            ),
        })
    }

    /// Where a directory of this process, which may not be there yet, is on the engine's host ([`Container::place_of`]), by each of
    /// the names that are known of it. `own`: the container that this process runs in. Outside of one, an engine on another machine
    /// knows none.
    pub fn places_of(&self, own: Option<&Container>, path: &Path) -> Vec<String> {
        let real = real_path(path).to_string_lossy().into_owned();
        match own {
            Some(own) => vec![own.place_of(&real)],
            None if self.endpoint.is_local() => vec![path.to_string_lossy().into_owned(), real],
            None => Vec::new(),
        }
    }

    /// The network in which a helper's loopback is ours, for [`super::HelperSpec::network`]; `None` when there is none:
    /// the engine is on another machine, or runs in a network of its own (rootless, Docker Desktop).
    pub async fn loopback_network(&self) -> Result<Option<String>, EngineError> {
        if let Some(own) = self.own_container().await? {
            // A network that is itself another container's cannot be joined.
            let network = own.network_of.unwrap_or(own.id);
            return Ok(Some(format!("container:{network}")));
        }
        if !matches!(self.endpoint, Endpoint::Unix(_)) {
            return Ok(None);
        }
        let info = self.info().await?;
        let rootless = has_security_option(&info, "rootless");
        let desktop = info
            .operating_system
            .is_some_and(|system| system.contains("Docker Desktop"));
        Ok((!rootless && !desktop).then(|| "host".to_owned()))
    }

    /// Whether it runs containers under user ids of their own (`userns-remap`). Where it does not say, helpers that need to
    /// know it cannot be started, and say so.
    pub async fn remaps_users(&self) -> bool {
        let asked = self.remaps_users.get_or_try_init(async || {
            let info = self.info().await?;
            Ok::<_, EngineError>(has_security_option(&info, "userns"))
        });
        asked.await.is_ok_and(|remaps| *remaps)
    }

    async fn info(&self) -> Result<SystemInfo, EngineError> {
        let info = self.client.info().await;
        info.map_err(|error| self.fault(error, About::Engine, "describe itself"))
    }
}

/// Whether the engine names it among its security options: `name=userns`, `name=seccomp,profile=default`.
fn has_security_option(info: &SystemInfo, name: &str) -> bool {
    let mut options = info.security_options.iter().flatten();
    options.any(|option| {
        let mut fields = option.split(',');
        fields.any(|field| field.strip_prefix("name=").unwrap_or(field) == name)
    })
}

/// With links followed, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        let below = path.strip_prefix(above).ok()?;
        // The part that does not exist.
        Some(real.components().chain(below.components()).collect())
    });
    real.unwrap_or_else(|| path.to_owned())
}

/// The id in the source of a mount that only the engine makes. The format is that of proc_pid_mountinfo(5): the fourth
/// field is the mounted directory or file within its own file system, the fifth where it is mounted.
fn container_id(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, point) = (fields.next()?, fields.next()?);
        let is_the_engines = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&point);
        is_the_engines.then(|| id_in(source)).flatten()
    })
}

/// Where the engine keeps what is written to the root of this container; overlay(5) tells it.
fn upper_directory(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (fields, of_file_system) = line.split_once(" - ")?;
        let point = fields.split(' ').nth(4)?;
        let options = of_file_system.split(' ').nth(2)?;
        let mut options = options.split(',');
        let upper = options.find_map(|option| option.strip_prefix("upperdir="));
        upper.filter(|_| point == "/")
    })
}

/// The only container with the most mounts of those all of whose mounts are here.
fn by_mounts(candidates: &[Container], mountinfo: &str) -> Option<usize> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let points: BTreeSet<&str> = points.collect();
    let fits = |container: &Container| {
        let mut mounts = container.mounts.iter();
        mounts.all(|mount| points.contains(mount.destination.trim_end_matches('/')))
    };
    let count = |at: usize| candidates[at].mounts.len();
    let fitting = || (0..candidates.len()).filter(|at| fits(&candidates[*at]));
    let most = fitting().max_by_key(|at| count(*at))?;
    let is_only = fitting().all(|at| at == most || count(at) < count(most));
    is_only.then_some(most)
}

fn id_in(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    parts
        .windows(2)
        .find(|pair| pair[0].ends_with("containers") && is_id(pair[1]))
        .map(|pair| pair[1].to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MountKind;
    use crate::engine::container::tests_support::{container, mount};

    const ID: &str = "3f4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071829";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[test]
    fn a_path_is_followed_as_far_as_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("disk")).unwrap();
        std::os::unix::fs::symlink("disk", root.join("link")).unwrap();
        for (path, real) in [
            ("link", "disk"),
            ("link/backups/shop", "disk/backups/shop"),
            ("none", "none"),
        ] {
            assert_eq!(real_path(&root.join(path)), root.join(real), "{path}");
        }
    }

    #[test]
    fn the_engines_own_mounts_give_the_id_away() {
        let lines = [
            // bridge network, overlay2 on ext4
            format!(
                "921 919 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw"
            ),
            // --network host: hosts and resolv.conf are mounted all the same
            format!(
                "922 919 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw"
            ),
            // a data root on a file system of its own
            format!("923 919 254:1 /containers/{ID}/hosts /etc/hosts rw - xfs /dev/vdb rw"),
            // podman, root
            format!(
                "924 919 0:24 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw"
            ),
            // podman, rootless, with optional fields
            format!(
                "925 919 0:50 /user/1000/containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw shared:1 - tmpfs x rw"
            ),
        ];
        for line in lines {
            let text = format!("917 800 0:63 / / rw,relatime - overlay overlay rw\n{line}\n");
            assert_eq!(container_id(&text).as_deref(), Some(ID), "{line}");
        }
    }

    #[test]
    fn in_a_shared_network_the_root_or_the_mounts_tell() {
        let own = "917 800 0:63 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/o/1/diff,workdir=/o/1/work";
        let other =
            "918 917 0:64 / /merged rw - overlay overlay rw,lowerdir=/l/C,upperdir=/o/2/diff";
        let text = format!("{other}\n{own}\n");
        assert_eq!(upper_directory(&text), Some("/o/1/diff"));
        assert_eq!(
            upper_directory("917 800 0:63 / / rw - fuse.fuse-overlayfs x rw"),
            None
        );

        let with = |name: &str, mounts: &[&str]| {
            let mut container = container(name);
            container.mounts = mounts
                .iter()
                .map(|it| mount(MountKind::Volume, it))
                .collect();
            container
        };
        let here = "1 1 8:1 /a /backups rw - ext4 x rw\n2 1 8:1 /s /var/run/docker.sock rw - tmpfs x rw\n3 1 8:1 /h /etc/hosts rw - ext4 x rw";
        let vpn = with("vpn", &[]);
        let own = with("own", &["/backups", "/var/run/docker.sock"]);
        let app = with("app", &["/backups", "/data", "/var/run/docker.sock"]);
        let twin = with("twin", &["/backups", "/var/run/docker.sock"]);
        let all = [vpn.clone(), app, own.clone()];
        assert_eq!(by_mounts(&all, here), Some(2));
        assert_eq!(by_mounts(&[own, vpn.clone(), twin], here), None);
        assert_eq!(by_mounts(&[vpn], here), Some(0));
    }

    #[test]
    fn security_options_are_read_by_their_names() {
        let has = |options: &[&str], name| {
            let options = options.iter().map(|&it| it.to_owned()).collect();
            let info = SystemInfo {
                security_options: Some(options),
                ..SystemInfo::default()
            };
            has_security_option(&info, name)
        };
        let remapped = ["name=seccomp,profile=builtin", "name=userns"];
        assert!(has(&remapped, "userns") && !has(&remapped, "rootless"));
        let rootless = [
            "name=seccomp,profile=builtin",
            "name=rootless",
            "name=cgroupns",
        ];
        assert!(has(&rootless, "rootless") && !has(&rootless, "userns"));
        // Before API 1.25, and podman.
        assert!(has(&["seccomp", "userns"], "userns"));
        assert!(!has(&[], "userns"));
    }

    #[test]
    fn what_others_may_mount_does_not() {
        let lines = [
            // a machine
            "25 30 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw".to_owned(),
            // the engine's directory mounted into a monitoring container
            format!(
                "930 919 254:1 /var/lib/docker/containers/{OTHER} /logs ro - ext4 /dev/vda1 rw"
            ),
            // a hosts file of the user's
            "931 919 254:1 /srv/hosts /etc/hosts ro - ext4 /dev/vda1 rw".to_owned(),
            // kubernetes
            "932 919 254:1 /var/lib/kubelet/pods/5a/etc-hosts /etc/hosts rw - ext4 /dev/vda1 rw"
                .to_owned(),
            "a line that is cut".to_owned(),
            String::new(),
        ];
        for line in lines {
            assert_eq!(container_id(&line), None, "{line}");
        }
    }
}
