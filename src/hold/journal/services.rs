//! Services as they were labelled when a run began.
//!
//! Whoever recovers the run must do what the run would have done, although somebody has changed a label since, or has
//! recreated the container. How data is restored comes from here; how its store is reached (a login, a port, a command)
//! comes from the present container, whose old login may be gone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::Container;
use crate::labels::PREFIX;

/// Labels that say to what a container belongs, and how it is held: the journal says that itself.
const NOT_OF_DATA: [&str; 9] = [
    "project",
    "service",
    "stop",
    "pause",
    "hold-for",
    "ready-timeout",
    "schedule",
    "keep",
    "trigger",
];

/// Labels with commands. People write passwords into them, so no journal repeats them.
const COMMANDS: [&str; 2] = ["command", "hook"];

/// Stores that are logged in to.
const STORES: [&str; 4] = ["postgres", "mysql", "couchdb", "elasticsearch"];

/// The ends of labels that say how such a store is reached.
const ACCESS: [&str; 9] = [
    "user",
    "password-file",
    "password-variable",
    "port",
    "tls",
    "maintenance-db",
    "exec-user",
    "transfer",
    "scratch",
];

const SCRATCH: &str = "scratch";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceThen {
    /// The container's id.
    pub container: String,
    /// [`Container::service`]
    pub service: String,
    /// What labels of ours said of its data, without commands.
    pub labels: BTreeMap<String, String>,
}

impl ServiceThen {
    pub fn of(container: &Container) -> Self {
        let labels = container.labels.iter();
        let labels = labels.filter(|(key, _)| is_recorded(key));
        Self {
            container: container.id.clone(),
            service: container.service().to_owned(),
            labels: labels
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }
    }

    /// The directories for temporary files that labels named.
    pub fn scratch(&self) -> impl Iterator<Item = &str> {
        let labels = self.labels.iter();
        let scratch = labels.filter(|(key, _)| Label::of(key).is_some_and(|it| it.end == SCRATCH));
        scratch.map(|(_, value)| value.as_str())
    }

    fn relabel(&self, present: &mut BTreeMap<String, String>) {
        let labelled_then = stores(&self.labels);
        let labelled_now = stores(present);
        let is_kept = |key: &str| match Label::of(key) {
            None => true,
            Some(label) if label.is_access() => labelled_then.contains(label.driver),
            Some(label) => label.is_command() || label.is_not_of_data(),
        };
        present.retain(|key, _| is_kept(key));
        for (key, value) in &self.labels {
            let is_outdated = Label::of(key).is_some_and(|label| {
                label.is_command() || label.is_access() && labelled_now.contains(label.driver)
            });
            if !is_outdated {
                let label = present.entry(key.clone());
                label.or_insert_with(|| value.clone());
            }
        }
    }
}

/// Gives the containers of a project the labels that they had.
pub fn relabel(services: &[ServiceThen], project: &str, containers: &mut [Container]) {
    let containers = containers.iter_mut();
    for container in containers.filter(|container| container.project() == project) {
        let same = services.iter().find(|then| then.container == container.id);
        let successor = || {
            let mut services = services.iter();
            services.find(|then| then.service == container.service())
        };
        if let Some(then) = same.or_else(successor) {
            then.relabel(&mut container.labels);
        }
    }
}

fn is_recorded(key: &str) -> bool {
    Label::of(key).is_some_and(|label| {
        let is_harmless = !label.is_command() || label.end == SCRATCH;
        is_harmless && !label.is_not_of_data()
    })
}

/// The stores that labels speak of.
fn stores(labels: &BTreeMap<String, String>) -> BTreeSet<String> {
    let labels = labels.keys().filter_map(|key| Label::of(key));
    labels.map(|label| label.driver.to_owned()).collect()
}

/// The key of a label of ours: `cofferdam.<driver>…<end>`.
struct Label<'a> {
    driver: &'a str,
    end: &'a str,
}

impl<'a> Label<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let rest = key.strip_prefix(PREFIX)?;
        Some(Self {
            driver: rest.split('.').next()?,
            end: rest.rsplit('.').next()?,
        })
    }

    fn is_access(&self) -> bool {
        STORES.contains(&self.driver) && ACCESS.contains(&self.end)
    }

    fn is_command(&self) -> bool {
        COMMANDS.contains(&self.driver)
    }

    fn is_not_of_data(&self) -> bool {
        NOT_OF_DATA.contains(&self.driver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;

    fn labelled(labels: &[(&str, &str)]) -> Container {
        let mut container = container("db");
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| (format!("cofferdam.{key}"), (*value).to_owned()));
        container.labels.extend(labels);
        container
    }

    #[test]
    fn data_is_restored_as_it_was_labelled_and_reached_as_it_is() {
        let then = ServiceThen::of(&labelled(&[
            ("postgres", "shop"),
            ("postgres.restore", "clean"),
            ("postgres.port", "5433"),
            ("mysql", "*"),
            ("mysql.user", "old"),
            ("volumes", "data"),
            ("volumes.data.restore", "overlay"),
            ("files.port", "/etc/port"),
            ("stop", "restore"),
            ("command.word.dump", "dump --password=secret"),
            ("command.word.scratch", "/scratch"),
            ("hook.after-restore", "migrate --password=secret"),
        ]));
        assert!(!format!("{then:?}").contains("secret"));
        assert_eq!(then.scratch().collect::<Vec<_>>(), ["/scratch"]);

        let mut now = labelled(&[
            ("project", "shop"),
            ("enable", "false"),
            ("postgres", "other"),
            ("postgres.restore", "recreate"),
            ("postgres.user", "new"),
            ("couchdb.user", "nobody"),
            ("files.port", "/elsewhere"),
            ("stop", "backup"),
            ("command.word.dump", "now"),
        ]);
        now.id = "recreated".to_owned();
        let mut containers = [now];
        relabel(
            std::slice::from_ref(&then),
            "another project",
            &mut containers,
        );
        assert!(containers[0].labels.contains_key("cofferdam.enable"));
        relabel(&[then], "shop", &mut containers);
        let expected = labelled(&[
            ("project", "shop"),
            ("postgres", "shop"),
            ("postgres.restore", "clean"),
            ("postgres.user", "new"),
            ("mysql", "*"),
            ("mysql.user", "old"),
            ("volumes", "data"),
            ("volumes.data.restore", "overlay"),
            ("files.port", "/etc/port"),
            ("stop", "backup"),
            ("command.word.dump", "now"),
        ]);
        assert_eq!(containers[0].labels, expected.labels);
    }
}
