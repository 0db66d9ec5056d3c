//! Volumes that hold nothing: their labels are a record that the engine keeps, which `docker system prune` leaves alone. And
//! volumes that are a directory of the host.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::fault::About;
use super::{Container, Engine, EngineError, Mount, Volume};

/// How many volumes are looked at at the same time.
const LOOKS: usize = 8;

impl From<bollard::models::Volume> for Volume {
    fn from(found: bollard::models::Volume) -> Self {
        Self {
            is_in_memory: matches!(
                found.options.get("type").map(String::as_str),
                Some("tmpfs" | "ramfs")
            ),
            bound: bound(&found.options),
            created: found.created_at.and_then(|time| time.parse().ok()),
            name: found.name,
            labels: found.labels.into_iter().collect(),
        }
    }
}

/// The directory of the host that a volume is. Options are read as `mount` does it: several, separated by commas.
fn bound(options: &HashMap<String, String>) -> Option<String> {
    let mut flags = options.get("o")?.split(',').map(str::trim);
    let device = options.get("device")?;
    let is_bound = flags.any(|flag| ["bind", "rbind"].contains(&flag)) && device.starts_with('/');
    is_bound.then(|| device.clone())
}

/// Those whose volume may be a directory of the host. A name was given to all of these; and other drivers than the engine's own,
/// which may be long in answering, keep volumes elsewhere.
fn may_be_bound(mount: &&mut Mount) -> bool {
    let name = mount.volume.as_deref().filter(|_| !mount.is_anonymous());
    name.is_some_and(|name| mount.source.ends_with(&format!("/{name}/_data")))
}

/// `bound`: directories of the host, by the names of the volumes that they are.
fn see_through<'a>(
    mounts: impl IntoIterator<Item = &'a mut Mount>,
    bound: &BTreeMap<String, String>,
) {
    for mount in mounts {
        let directory = mount.volume.as_ref().and_then(|name| bound.get(name));
        if let Some(directory) = directory {
            mount.source.clone_from(directory);
        }
    }
}

impl Engine {
    /// Gives mounts of volumes that are a directory of the host (`o: bind`) that directory as their source, as bind mounts of it
    /// have it. What lies there has one place then, however a container came by it ([`Container::place_of`]).
    pub async fn see_through_volumes<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a mut Container>,
    ) -> Result<(), EngineError> {
        let mounts = containers.into_iter().flat_map(|it| &mut it.mounts);
        let mounts: Vec<&mut Mount> = mounts.filter(may_be_bound).collect();
        let names: BTreeSet<String> = mounts.iter().filter_map(|it| it.volume.clone()).collect();
        let looks = stream::iter(names).map(|name| async move {
            match self.volume(&name).await {
                Ok(volume) => Ok(volume.and_then(|volume| Some((name, volume.bound?)))),
                // Whoever saves a volume has to be allowed to look at it, and hears of it there.
                Err(EngineError::Forbidden { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found: Vec<Option<(String, String)>> = looks.buffered(LOOKS).try_collect().await?;
        see_through(mounts, &found.into_iter().flatten().collect());
        Ok(())
    }

    /// Every volume that has this label, whatever its value.
    pub async fn volumes(&self, label: &str) -> Result<Vec<Volume>, EngineError> {
        let options = ListVolumesOptions {
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![label.to_owned()],
            )])),
        };
        let listed = self.client.list_volumes(Some(options)).await;
        let listed = listed.map_err(|error| self.fault(error, About::Engine, "list volumes"))?;
        let volumes = listed.volumes.unwrap_or_default();
        Ok(volumes.into_iter().map(Volume::from).collect())
    }

    /// One that has the name stays as it is.
    pub async fn create_volume(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels.into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        let created = self.client.create_volume(request).await;
        created
            .map(drop)
            .map_err(|error| self.fault(error, About::Engine, format!("create volume {name}")))
    }

    /// A missing one is no error.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let removed = self.client.remove_volume(name, None::<RemoveVolumeOptions>);
        let removed = removed.await.map_err(|error| {
            self.fault(error, About::Volume(name), format!("remove volume {name}"))
        });
        match removed {
            Err(EngineError::NoSuchVolume(_)) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MountKind;
    use crate::engine::container::tests_support::{container, mount};

    fn mounted(volume: &str, source: &str, subpath: Option<&str>) -> Mount {
        Mount {
            volume: Some(volume.to_owned()),
            source: source.to_owned(),
            subpath: subpath.map(str::to_owned),
            ..mount(MountKind::Volume, "/data")
        }
    }

    #[test]
    fn a_volume_that_is_a_directory_of_the_host_lies_there() {
        let mut mounts = [
            mounted("data", "/v/data/_data", None),
            mounted("data", "/v/data/_data", Some("sub")),
            mounted("other", "/v/other/_data", None),
        ];
        let bound = BTreeMap::from([("data".to_owned(), "/srv/x/".to_owned())]);
        see_through(&mut mounts, &bound);
        let roots: Vec<String> = mounts.iter().map(Mount::root).collect();
        assert_eq!(roots, ["/srv/x", "/srv/x/sub", "/v/other/_data"]);

        let mut app = container("app");
        app.mounts = mounts[..1].to_vec();
        assert_eq!(app.place_of("/data/a"), "/srv/x/a");
        assert!(app.can_write_to("/srv/x/a") && app.reaches("/srv"));
        assert!(!app.reaches("/v/data/_data"));
    }

    #[test]
    fn only_volumes_of_the_engine_itself_with_a_name_are_asked_about() {
        let anonymous = "0123456789abcdef".repeat(4);
        let of_anonymous = format!("/v/{anonymous}/_data");
        for (volume, source, expected) in [
            ("data", "/var/lib/docker/volumes/data/_data", true),
            ("data", "/mnt/of-a-plugin/data", false),
            ("data", "", false),
            (anonymous.as_str(), of_anonymous.as_str(), false),
        ] {
            let mut mount = mounted(volume, source, None);
            assert_eq!(may_be_bound(&&mut mount), expected, "{source}");
        }
        assert!(!may_be_bound(&&mut mount(MountKind::Bind, "/data")));
    }

    #[test]
    fn the_options_of_a_volume_tell_its_directory() {
        for (options, device, expected) in [
            ("bind", "/srv/x", true),
            ("rw, rbind", "/srv/x", true),
            ("addr=10.0.0.1,rw", ":/export", false),
            ("rw", "/dev/sdb1", false),
            ("bind", "srv", false),
        ] {
            let options = [("o", options), ("device", device)];
            let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let found = bound(&HashMap::from(options));
            assert_eq!(found, expected.then(|| device.to_owned()), "{device}");
        }
    }
}
