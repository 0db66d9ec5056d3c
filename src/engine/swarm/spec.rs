//! A service's spec, as the manager gave it, with the two changes that a hold makes. Pure.
//!
//! The spec stays the document that it is: what a newer engine knows and this program does not goes back as it came. A
//! hold scales to zero and writes down, in the same update, what was there before: replicas in a label, a global service
//! by a constraint that no node meets.

use serde_json::{Value, json};

use super::{HeldBefore, Released};

/// How many replicas there were, or [`GLOBAL`].
const REPLICAS: &str = "cofferdam.hold.replicas";
/// The run that holds the service.
const RUN: &str = "cofferdam.hold.run";
const GLOBAL: &str = "global";
/// No node has such an id.
const NOWHERE: &str = "node.id==held-by-cofferdam";

/// What became of the wish to hold a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// The spec is to be sent.
    Changed,
    /// It is held by this run already, or has been scaled to zero by somebody else.
    Needless,
}

/// What a hold has written into the labels of a service.
pub(super) fn held_before(spec: &Value) -> Option<(String, HeldBefore)> {
    let label = |key: &str| spec["Labels"][key].as_str();
    let before = match label(REPLICAS)? {
        GLOBAL => HeldBefore::Global,
        replicas => HeldBefore::Replicas(replicas.parse().ok()?),
    };
    Some((label(RUN).unwrap_or_default().to_owned(), before))
}

/// Scales to zero. Where a dead run has left its hold, its word of what was before stands.
pub(super) fn hold(spec: &mut Value, run: &str) -> Result<Holding, String> {
    if let Some((holder, _)) = held_before(spec) {
        if holder == run {
            return Ok(Holding::Needless);
        }
        spec["Labels"][RUN] = json!(run);
        if replicas(spec).is_some() {
            set_replicas(spec, 0);
        } else {
            constrain(spec);
        }
        return Ok(Holding::Changed);
    }
    let before = match (replicas(spec), is_global(spec)) {
        (Some(0), _) => return Ok(Holding::Needless),
        (Some(replicas), _) => {
            set_replicas(spec, 0);
            replicas.to_string()
        }
        (None, true) => {
            constrain(spec);
            GLOBAL.to_owned()
        }
        (None, false) => return Err("it is neither replicated nor global".to_owned()),
    };
    if !spec["Labels"].is_object() {
        spec["Labels"] = json!({});
    }
    spec["Labels"][REPLICAS] = json!(before);
    spec["Labels"][RUN] = json!(run);
    Ok(Holding::Changed)
}

/// Puts back what was before.
pub(super) fn release(spec: &mut Value, run: &str) -> Released {
    let before = match held_before(spec) {
        Some((holder, before)) if holder == run => before,
        _ => return Released::NotHeld,
    };
    if let Some(labels) = spec["Labels"].as_object_mut() {
        labels.remove(REPLICAS);
        labels.remove(RUN);
    }
    let as_held = match (before, replicas(spec)) {
        (HeldBefore::Replicas(before), Some(0)) => {
            set_replicas(spec, before);
            true
        }
        (HeldBefore::Replicas(_), _) => false,
        (HeldBefore::Global, _) => let_loose(spec),
    };
    if as_held {
        Released::AsBefore
    } else {
        Released::ChangedMeanwhile
    }
}

/// Whether it is at zero, and neither released nor held by another run since `run` has held it.
pub(super) fn is_at_rest(spec: &Value, run: &str) -> bool {
    let is_at_zero = match replicas(spec) {
        Some(replicas) => replicas == 0,
        None => let_loose(&mut spec.clone()),
    };
    is_at_zero && held_before(spec).is_none_or(|(holder, _)| holder == run)
}

fn replicas(spec: &Value) -> Option<u64> {
    let replicated = spec["Mode"].get("Replicated")?;
    // An engine leaves the number out when it is the default.
    Some(replicated["Replicas"].as_u64().unwrap_or(1))
}

fn set_replicas(spec: &mut Value, replicas: u64) {
    spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
}

fn is_global(spec: &Value) -> bool {
    spec["Mode"].get("Global").is_some()
}

fn constrain(spec: &mut Value) {
    let_loose(spec);
    let placement = &mut spec["TaskTemplate"]["Placement"];
    match placement["Constraints"].as_array_mut() {
        Some(constraints) => constraints.push(json!(NOWHERE)),
        None => placement["Constraints"] = json!([NOWHERE]),
    }
}

/// Whether the constraint of a hold was there.
fn let_loose(spec: &mut Value) -> bool {
    // Where there was none, the spec must not get an empty list: that would be another spec, and new tasks.
    let Some(template) = spec["TaskTemplate"].as_object_mut() else {
        return false;
    };
    let Some(placement) = template.get_mut("Placement").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(constraints) = placement
        .get_mut("Constraints")
        .and_then(Value::as_array_mut)
    else {
        return false;
    };
    let all = constraints.len();
    constraints.retain(|constraint| constraint != NOWHERE);
    let was_there = constraints.len() < all;
    if was_there && constraints.is_empty() {
        placement.remove("Constraints");
    }
    was_there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicated(replicas: u64) -> Value {
        json!({
            "Name": "shop_web",
            "Labels": {"com.docker.stack.namespace": "shop"},
            "TaskTemplate": {"ContainerSpec": {"Image": "web"}, "ForceUpdate": 3, "OfALaterEngine": [1.5]},
            "Mode": {"Replicated": {"Replicas": replicas}},
        })
    }

    fn global(placement: Value) -> Value {
        json!({"TaskTemplate": {"Placement": placement}, "Mode": {"Global": {}}})
    }

    #[test]
    fn a_hold_changes_two_places_and_a_release_changes_them_back() {
        let before = replicated(2);
        let mut spec = before.clone();
        assert_eq!(hold(&mut spec, "run-1"), Ok(Holding::Changed));
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 0);
        assert_eq!(spec["TaskTemplate"], before["TaskTemplate"]);
        assert_eq!(
            held_before(&spec),
            Some(("run-1".to_owned(), HeldBefore::Replicas(2)))
        );
        assert_eq!(hold(&mut spec, "run-1"), Ok(Holding::Needless));
        assert_eq!(release(&mut spec, "run-2"), Released::NotHeld);
        assert_eq!(release(&mut spec, "run-1"), Released::AsBefore);
        assert_eq!(spec, before);
        assert_eq!(release(&mut spec, "run-1"), Released::NotHeld);
    }

    #[test]
    fn what_was_at_zero_is_left_alone() {
        let mut spec = replicated(0);
        assert_eq!(hold(&mut spec, "run-1"), Ok(Holding::Needless));
        assert_eq!(spec, replicated(0));
        assert!(is_at_rest(&spec, "run-1"));
    }

    #[test]
    fn whoever_touches_a_held_service_is_seen() {
        for before in [replicated(2), global(json!({}))] {
            let mut held = before.clone();
            hold(&mut held, "run-1").unwrap();
            assert!(is_at_rest(&held, "run-1"));
            // Deployed anew, or released by another node that took the run for dead, and perhaps held again.
            assert!(!is_at_rest(&before, "run-1"));
            let mut of_another = before.clone();
            hold(&mut of_another, "run-2").unwrap();
            assert!(!is_at_rest(&of_another, "run-1"));
        }
        let mut scaled = replicated(2);
        hold(&mut scaled, "run-1").unwrap();
        set_replicas(&mut scaled, 5);
        assert!(!is_at_rest(&scaled, "run-1"));
    }

    #[test]
    fn the_hold_of_a_dead_run_is_taken_over_with_what_it_knew() {
        let mut spec = replicated(3);
        hold(&mut spec, "dead").unwrap();
        assert_eq!(hold(&mut spec, "run-2"), Ok(Holding::Changed));
        assert_eq!(release(&mut spec, "dead"), Released::NotHeld);
        release(&mut spec, "run-2");
        assert_eq!(spec, replicated(3));
    }

    #[test]
    fn who_scales_a_held_service_is_heard() {
        let mut spec = replicated(2);
        hold(&mut spec, "run-1").unwrap();
        set_replicas(&mut spec, 5);
        assert_eq!(release(&mut spec, "run-1"), Released::ChangedMeanwhile);
        assert_eq!(spec, replicated(5));
    }

    #[test]
    fn a_global_service_gets_a_constraint_that_no_node_meets() {
        for placement in [
            json!({}),
            json!({"Constraints": ["node.role==worker"], "Platforms": [{"OS": "linux"}]}),
        ] {
            let mut spec = global(placement.clone());
            assert_eq!(hold(&mut spec, "run-1"), Ok(Holding::Changed));
            let constraints = &spec["TaskTemplate"]["Placement"]["Constraints"];
            assert_eq!(constraints.as_array().unwrap().last().unwrap(), NOWHERE);
            assert_eq!(release(&mut spec, "run-1"), Released::AsBefore);
            assert_eq!(spec["TaskTemplate"]["Placement"], placement);
        }
    }

    #[test]
    fn a_job_cannot_be_held() {
        let mut spec = json!({"Mode": {"ReplicatedJob": {}}});
        assert!(hold(&mut spec, "run-1").is_err());
    }
}
