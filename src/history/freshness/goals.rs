//! How old the last good backup of a target may be.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::target::TargetId;

/// `None` stands for as old as it likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goals {
    /// By the target's service.
    services: BTreeMap<String, Option<Duration>>,
    others: Option<Duration>,
}

impl Goals {
    pub fn same(max_age: Duration) -> Self {
        Self::of_services(BTreeMap::new(), Some(max_age))
    }

    /// `others`: of services that are not named.
    pub fn of_services(
        services: BTreeMap<String, Option<Duration>>,
        others: Option<Duration>,
    ) -> Self {
        Self { services, others }
    }

    pub fn of(&self, target: &TargetId) -> Option<Duration> {
        self.of_service(&target.service)
    }

    pub fn of_service(&self, service: &str) -> Option<Duration> {
        self.services.get(service).copied().unwrap_or(self.others)
    }

    pub fn longest(&self) -> Option<Duration> {
        let all = self.services.values().chain([&self.others]);
        all.copied().flatten().max()
    }
}
