//! What people are told of a container in which nothing can be run, and what mends that.

use super::{Container, SWARM_SERVICE_NAME, State};

impl State {
    /// Completes "container db …".
    pub fn told(self) -> &'static str {
        match self {
            Self::Running => "runs",
            Self::Paused => "is paused",
            Self::Restarting => "keeps restarting",
            Self::Created | Self::Removing | Self::Exited | Self::Dead => "is not running",
        }
    }
}

impl Container {
    /// What to type so that it runs. The engine starts none that is paused, and to start one again that keeps ending is no help.
    pub fn how_to_start(&self) -> String {
        match (self.state, self.labels.get(SWARM_SERVICE_NAME)) {
            (State::Paused, _) => format!("unpause it first: docker unpause {}", self.name),
            (_, Some(service)) => format!("find out why: docker service ps {service}"),
            (State::Restarting, None) => format!("find out why: docker logs {}", self.name),
            (_, None) => format!("start it first: docker start {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;

    #[test]
    fn what_is_advised_is_what_the_engine_takes() {
        let told = |state, is_task: bool| {
            let mut container = container("db");
            container.state = state;
            if is_task {
                let name = (SWARM_SERVICE_NAME.to_owned(), "shop_db".to_owned());
                container.labels.extend([name]);
            }
            format!("{}; {}", state.told(), container.how_to_start())
        };
        assert_eq!(
            [
                told(State::Exited, false),
                told(State::Paused, false),
                told(State::Restarting, false),
                told(State::Created, true),
                told(State::Paused, true),
            ],
            [
                "is not running; start it first: docker start db",
                "is paused; unpause it first: docker unpause db",
                "keeps restarting; find out why: docker logs db",
                "is not running; find out why: docker service ps shop_db",
                "is paused; unpause it first: docker unpause db",
            ]
        );
    }
}
