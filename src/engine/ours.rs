//! How Cofferdam knows its own containers again.
//!
//! Labels are requests, not proof: anybody writes them into a compose file or bakes them into an image. What Cofferdam made
//! itself has a name of its own form, which no image gives and compose gives only together with its labels, and the image
//! that Cofferdam runs from.

use super::image::{AGENT_IMAGE_LABEL, AGENT_PATH};
use super::{Container, Engine, EngineError, container_name};
use crate::engine::container::{COMPOSE_HASH, COMPOSE_NUMBER, STACK_NAMESPACE};

/// On every helper; its value is the run.
pub const HELPER_LABEL: &str = "cofferdam.helper";
/// On the hold journal and the marks beside it; its value is the project.
pub const HOLD_LABEL: &str = "cofferdam.hold";

/// Names of helpers, of our own image, begin with this.
pub const HELPER_NAME: &str = "cofferdam-helper-";
/// Names of helpers that are made of a target's image: what is restored is tried out there.
pub const TRIAL_NAME: &str = "cofferdam-trial-";
/// Names of hold journals.
pub const HOLD_NAME: &str = "cofferdam-hold-";
/// Names of the marks of a run.
pub const MARK_NAMES: [&str; 3] = [
    "cofferdam-overwriting-",
    "cofferdam-decided-",
    "cofferdam-ended-",
];

/// What the engine says of a container that has never been started.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

impl Container {
    /// Compose, or a stack of a swarm, made it: Cofferdam did not. Images that compose builds hand its labels of the project
    /// and the service on to every container, ours too; these it gives to containers alone.
    pub fn is_of_compose(&self) -> bool {
        let mut labels = [COMPOSE_NUMBER, COMPOSE_HASH, STACK_NAMESPACE].iter();
        labels.any(|label| self.labels.contains_key(*label))
    }

    /// Whether its name has the form of those that Cofferdam gives.
    pub fn has_name_of_ours(&self) -> bool {
        let mut names = [HELPER_NAME, TRIAL_NAME, HOLD_NAME]
            .into_iter()
            .chain(MARK_NAMES);
        names.any(|name| self.name.starts_with(name))
    }

    /// Whether it bears labels that Cofferdam gives.
    fn is_labelled_as_ours(&self) -> bool {
        let mut labels = [HELPER_LABEL, HOLD_LABEL, AGENT_IMAGE_LABEL].iter();
        labels.any(|label| self.labels.contains_key(*label))
    }
}

impl Engine {
    /// Whether the container is of Cofferdam's image: the one that we run from, or one that says so itself.
    pub async fn is_of_our_image(&self, container: &Container) -> Result<bool, EngineError> {
        if container.agent_image == Some(true) {
            return Ok(true);
        }
        Ok(self.own_image().await? == Some(container.image_id.clone()))
    }

    /// For [`Container::agent_image`]: the image has our label and our entrypoint, and none of the labels that we give to
    /// containers. `None` where that is not asked for, or not told.
    pub(super) async fn look_at_image(&self, container: &Container) -> Option<bool> {
        if !container.is_labelled_as_ours() {
            return None;
        }
        let image = container_name(container.image_id.trim_start_matches("sha256:")).ok()?;
        let config = self.client.inspect_image(image).await.ok()?.config?;
        let labels = config.labels.unwrap_or_default();
        let is_ours = labels.contains_key(AGENT_IMAGE_LABEL)
            && config.entrypoint.is_some_and(|it| it == [AGENT_PATH])
            && ![HELPER_LABEL, HOLD_LABEL]
                .iter()
                .any(|label| labels.contains_key(*label));
        Some(is_ours)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::container::tests_support::container;

    #[test]
    fn only_names_of_our_form_are_ours() {
        for (name, expected) in [
            ("cofferdam-helper-20261121T020000Z-9f2c61aa-0badcafe", true),
            ("cofferdam-hold-shop", true),
            ("cofferdam-decided-20261121T020000Z-9f2c61aa", true),
            ("cofferdam-daemon", false),
            ("my-cofferdam-hold-shop", false),
        ] {
            assert_eq!(container(name).has_name_of_ours(), expected, "{name}");
        }
    }

    #[test]
    fn an_image_that_compose_built_makes_no_container_of_compose() {
        let labelled = |labels: &[&str]| {
            let mut container = container("cofferdam-hold-shop");
            let labels = labels.iter();
            let labels = labels.map(|key| (format!("com.docker.compose.{key}"), "shop".to_owned()));
            container.labels.extend(labels);
            container.is_of_compose()
        };
        let of_image = ["project", "service", "version"];
        assert!(!labelled(&of_image));
        for key in ["container-number", "config-hash"] {
            assert!(labelled(&[&of_image[..], &[key]].concat()), "{key}");
        }
    }
}
