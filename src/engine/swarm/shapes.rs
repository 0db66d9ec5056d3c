//! What is read of a manager's answers. Engines may say more, and say it in words that are not known yet.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{HeldBefore, Mode, SwarmService, Task, TaskState, spec};
use crate::engine::container::{STACK_NAMESPACE, SWARM_SERVICE_ID, SWARM_SERVICE_NAME};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct InfoShape {
    pub name: String,
    pub swarm: SwarmShape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SwarmShape {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    pub local_node_state: String,
    pub control_available: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeShape {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(default)]
    description: NodeDescription,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeDescription {
    hostname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeStatus {
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceShape {
    #[serde(rename = "ID")]
    pub id: String,
    pub version: Version,
    pub created_at: Option<Timestamp>,
    /// Kept whole.
    pub spec: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub index: u64,
}

/// The part of a spec that is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SpecShape {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    task_template: TemplateShape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TemplateShape {
    container_spec: ContainerShape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerShape {
    image: String,
    labels: Option<BTreeMap<String, String>>,
    mounts: Option<Vec<MountShape>>,
    /// Nanoseconds.
    stop_grace_period: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct MountShape {
    #[serde(rename = "Type")]
    pub kind: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskShape {
    #[serde(rename = "ServiceID", default)]
    service: String,
    #[serde(rename = "NodeID", default)]
    node: String,
    #[serde(default)]
    status: StatusShape,
    #[serde(default)]
    desired_state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StatusShape {
    state: String,
    err: String,
    container_status: Option<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    container_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigShape {
    #[serde(rename = "ID")]
    pub id: String,
    pub spec: ConfigSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigSpec {
    #[serde(default)]
    pub name: String,
    pub labels: Option<BTreeMap<String, String>>,
}

impl ServiceShape {
    pub fn read(self, tasks: &[Task]) -> Result<SwarmService, serde_json::Error> {
        let held = spec::held_before(&self.spec);
        let mode = mode(&self.spec, held.as_ref().map(|(_, before)| *before));
        let shape: SpecShape = serde_json::from_value(self.spec)?;
        let container = shape.task_template.container_spec;
        let own_labels = shape.labels.unwrap_or_default();
        let mut labels = container.labels.unwrap_or_default();
        labels.insert(SWARM_SERVICE_ID.to_owned(), self.id.clone());
        labels.insert(SWARM_SERVICE_NAME.to_owned(), shape.name.clone());
        if let Some(stack) = own_labels.get(STACK_NAMESPACE) {
            labels.insert(STACK_NAMESPACE.to_owned(), stack.clone());
        }
        let own = tasks.iter().filter(|task| task.service == self.id);
        let running_on = own
            .filter(|task| task.state == TaskState::Running && task.is_wanted)
            .map(|task| task.node.clone())
            .collect();
        Ok(SwarmService {
            id: self.id,
            name: shape.name,
            labels,
            own_labels,
            image: container.image,
            mounts: container
                .mounts
                .unwrap_or_default()
                .into_iter()
                .map(MountShape::read)
                .collect(),
            created: self.created_at.unwrap_or(Timestamp::UNIX_EPOCH),
            mode,
            held_by: held.map(|(run, _)| run),
            running_on,
        })
    }
}

/// The mode as it is when nobody holds the service.
fn mode(spec: &Value, held: Option<HeldBefore>) -> Mode {
    match held {
        Some(HeldBefore::Replicas(replicas)) => return Mode::Replicated(replicas),
        Some(HeldBefore::Global) => return Mode::Global,
        None => {}
    }
    let mode = &spec["Mode"];
    match (mode.get("Replicated"), mode.get("Global")) {
        (Some(replicated), _) => Mode::Replicated(replicated["Replicas"].as_u64().unwrap_or(1)),
        (None, Some(_)) => Mode::Global,
        (None, None) => Mode::Job,
    }
}

/// How long its containers are given to stop, in nanoseconds, when the spec says so.
pub(super) fn stop_grace_of(spec: &Value) -> Option<u64> {
    let shape: SpecShape = serde_json::from_value(spec.clone()).ok()?;
    shape.task_template.container_spec.stop_grace_period
}

impl TaskShape {
    /// `nodes`: by their ids.
    pub fn read(self, nodes: &HashMap<String, NodeShape>) -> Task {
        let node = nodes.get(&self.node);
        let is_down = node.is_some_and(|node| node.status.state == "down");
        let state = match self.status.state.as_str() {
            "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned" => {
                TaskState::Ended
            }
            _ if is_down => TaskState::Lost,
            "running" => TaskState::Running,
            _ => TaskState::Coming,
        };
        let container = self.status.container_status;
        Task {
            service: self.service,
            node: node.map_or_else(String::new, |node| node.description.hostname.clone()),
            state,
            is_wanted: self.desired_state == "running",
            container: container
                .map(|status| status.container_id)
                .filter(|id| !id.is_empty()),
            error: self.status.err,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_read_with_the_labels_that_its_containers_get() {
        let service: ServiceShape = serde_json::from_value(json!({
            "ID": "s1",
            "Version": {"Index": 7},
            "CreatedAt": "2026-11-21T02:00:00.123456789Z",
            "Spec": {
                "Name": "shop_web",
                "Labels": {
                    "com.docker.stack.namespace": "shop",
                    "cofferdam.hold.replicas": "2",
                    "cofferdam.hold.run": "dead",
                },
                "TaskTemplate": {"ContainerSpec": {
                    "Image": "web:1",
                    "Labels": {"cofferdam.stop": "backup"},
                    "Mounts": [{"Type": "volume", "Source": "shop_data", "Target": "/data"}],
                }},
                "Mode": {"Replicated": {"Replicas": 0}},
            },
        }))
        .unwrap();
        let tasks = tasks(json!([
            {"ServiceID": "s1", "NodeID": "n1", "DesiredState": "running", "Status": {"State": "running"}},
            {"ServiceID": "s1", "NodeID": "n1", "DesiredState": "shutdown", "Status": {"State": "running"}},
            {"ServiceID": "s1", "NodeID": "n1", "DesiredState": "running", "Status": {"State": "a new word"}},
            {"ServiceID": "s1", "NodeID": "n2", "DesiredState": "running", "Status": {"State": "running"}},
            {"ServiceID": "s2", "NodeID": "n1", "DesiredState": "running", "Status": {"State": "running"}},
        ]));
        let service = service.read(&tasks).unwrap();
        assert_eq!(service.mode, Mode::Replicated(2));
        assert_eq!(service.held_by.as_deref(), Some("dead"));
        assert_eq!(service.running_on, ["worker-1"]);
        let container = service.as_container();
        assert_eq!((container.project(), container.service()), ("shop", "web"));
        assert_eq!(container.labels["cofferdam.stop"], "backup");
        assert_eq!(container.mounts[0].volume.as_deref(), Some("shop_data"));
    }
    #[test]
    fn tasks_of_a_node_that_is_down_are_lost_unless_they_have_ended() {
        let states = ["running", "starting", "complete"].map(|state| {
            let on = |node: &str| json!({"NodeID": node, "Status": {"State": state}});
            let tasks = tasks(json!([on("n1"), on("n2"), on("a node that has left")]));
            [tasks[0].state, tasks[1].state, tasks[2].state]
        });
        let (running, coming) = (TaskState::Running, TaskState::Coming);
        assert_eq!(states[0], [running, TaskState::Lost, running]);
        assert_eq!(states[1], [coming, TaskState::Lost, coming]);
        assert_eq!(states[2], [TaskState::Ended; 3]);
    }

    /// `n1` is well, `n2` is down.
    fn tasks(answer: Value) -> Vec<Task> {
        let nodes = [("n1", "worker-1", "ready"), ("n2", "worker-2", "down")];
        let nodes: HashMap<String, NodeShape> = nodes
            .map(|(id, name, state)| {
                let node = json!({"ID": id, "Description": {"Hostname": name}, "Status": {"State": state}});
                (id.to_owned(), serde_json::from_value(node).unwrap())
            })
            .into();
        let tasks: Vec<TaskShape> = serde_json::from_value(answer).unwrap();
        tasks.into_iter().map(|task| task.read(&nodes)).collect()
    }
}
