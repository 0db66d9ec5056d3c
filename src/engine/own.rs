//! Which container this process runs in, if any.
//!
//! The engine mounts `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` into every container from a directory that is
//! named by the container's id; `/proc/self/mountinfo` shows it whatever the network, the host name or the cgroup version
//! is. What it shows is believed only when the engine knows a container of that id: with `DOCKER_HOST` set to another
//! machine, it does not.

use super::connect::Endpoint;
use super::fault::About;
use super::{Container, Engine, EngineError};

impl Engine {
    /// The container that this process runs in, confirmed by the engine; `None` outside of one.
    pub async fn own_container(&self) -> Result<Option<Container>, EngineError> {
        let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else {
            return Ok(None);
        };
        let Some(id) = container_id(&String::from_utf8_lossy(&mounts)) else {
            return Ok(None);
        };
        match self.inspect(&id).await {
            Ok(container) if container.is_running() => Ok(Some(container)),
            Ok(_) | Err(EngineError::NoSuchContainer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The network in which a helper's loopback is ours, for [`super::HelperSpec::network`]; `None` when there is none:
    /// the engine is on another machine, or runs in a network of its own (rootless, Docker Desktop).
    pub async fn loopback_network(&self) -> Result<Option<String>, EngineError> {
        if let Some(own) = self.own_container().await? {
            return Ok(Some(format!("container:{}", own.id)));
        }
        if !matches!(self.endpoint, Endpoint::Unix(_)) {
            return Ok(None);
        }
        let info = self
            .client
            .info()
            .await
            .map_err(|error| self.fault(error, About::Engine, "describe itself"))?;
        let rootless = info
            .security_options
            .iter()
            .flatten()
            .any(|option| option.contains("rootless"));
        let desktop = info
            .operating_system
            .is_some_and(|system| system.contains("Docker Desktop"));
        Ok((!rootless && !desktop).then(|| "host".to_owned()))
    }
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

    const ID: &str = "3f4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071829";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

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
