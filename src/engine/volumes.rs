//! Volumes that hold nothing: their labels are a record that the engine keeps, which `docker system prune` leaves alone.

use std::collections::{BTreeMap, HashMap};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::fault::About;
use super::{Engine, EngineError, Volume};

impl From<bollard::models::Volume> for Volume {
    fn from(found: bollard::models::Volume) -> Self {
        Self {
            is_in_memory: matches!(
                found.options.get("type").map(String::as_str),
                Some("tmpfs" | "ramfs")
            ),
            bound: bound(&found.options),
            created: found.created_at.and_then(|time| time.parse().ok()),
            mountpoint: found.mountpoint,
            name: found.name,
            labels: found.labels.into_iter().collect(),
        }
    }
}

/// The directory of the host that a volume stands for. Options are read as `mount` does it: several, separated by commas.
fn bound(options: &HashMap<String, String>) -> Option<String> {
    let mut flags = options.get("o")?.split(',').map(str::trim);
    let device = options.get("device")?;
    let is_bound = flags.any(|flag| ["bind", "rbind"].contains(&flag)) && device.starts_with('/');
    is_bound.then(|| device.clone())
}

impl Engine {
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
