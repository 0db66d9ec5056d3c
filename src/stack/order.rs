//! In which order the containers of a project stop and start.
//!
//! What another container depends on starts before it and stops after it. Dependencies come from the label that compose
//! v2 leaves (`com.docker.compose.depends_on`) and from shared namespaces. Where neither says anything, the order
//! in which the containers were created stands, since compose creates them in dependency order.

use std::collections::BTreeSet;

use crate::engine::Container;

/// The containers in the order in which they start; reversed, it is the order in which they stop.
///
/// A cycle of dependencies is broken at the container that was created first.
pub fn start_order<'a>(containers: impl IntoIterator<Item = &'a Container>) -> Vec<&'a Container> {
    let mut waiting: Vec<&Container> = containers.into_iter().collect();
    waiting.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));

    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let next = waiting
            .iter()
            .position(|candidate| is_ready(candidate, &waiting))
            .unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

/// Whether nothing that `candidate` depends on is still waiting.
fn is_ready(candidate: &Container, waiting: &[&Container]) -> bool {
    let services: BTreeSet<String> = candidate
        .depends_on()
        .into_iter()
        .map(|dependency| dependency.service)
        .collect();
    !waiting.iter().any(|other| {
        other.id != candidate.id
            && (candidate.lives_in(other)
                || (services.contains(other.service()) && other.project() == candidate.project()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;
    use crate::engine::container::{COMPOSE_DEPENDS_ON, COMPOSE_PROJECT};
    use crate::labels::COMPOSE_SERVICE;

    fn service(name: &str, created: i64, depends_on: &str) -> Container {
        let mut container = container(name);
        container.created = jiff::Timestamp::from_second(created).unwrap();
        for (key, value) in [
            (COMPOSE_PROJECT, "p"),
            (COMPOSE_SERVICE, name),
            (COMPOSE_DEPENDS_ON, depends_on),
        ] {
            container.labels.insert(key.to_owned(), value.to_owned());
        }
        container
    }

    fn names(ordered: &[&Container]) -> Vec<String> {
        ordered
            .iter()
            .map(|container| container.name.clone())
            .collect()
    }

    #[test]
    fn dependencies_start_first_even_when_created_later() {
        let all = [
            service("worker", 1, "backend:service_healthy:false"),
            service(
                "backend",
                2,
                "db:service_healthy:false,cache:service_started:false",
            ),
            service("cache", 4, ""),
            service("db", 3, ""),
        ];
        assert_eq!(
            names(&start_order(&all)),
            ["db", "cache", "backend", "worker"]
        );
    }

    #[test]
    fn without_dependencies_the_order_of_creation_stands() {
        let all = [
            service("c", 3, ""),
            service("a", 2, ""),
            service("b", 1, ""),
        ];
        assert_eq!(names(&start_order(&all)), ["b", "a", "c"]);
    }

    #[test]
    fn a_shared_network_starts_after_its_owner() {
        let owner = service("vpn", 2, "");
        let mut guest = service("client", 1, "");
        guest.namespaces_of = vec![owner.id.clone()];
        assert_eq!(names(&start_order([&guest, &owner])), ["vpn", "client"]);
    }

    #[test]
    fn a_cycle_still_gives_every_container_once() {
        let all = [
            service("a", 1, "b"),
            service("b", 2, "a"),
            service("c", 3, "b"),
        ];
        assert_eq!(names(&start_order(&all)), ["a", "b", "c"]);
    }
}
