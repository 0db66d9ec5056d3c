//! Caches and search indexes that go on answering from a database that a restore has replaced. Pure.

use super::audit::Finding;
use crate::labels::HookPoint;
use crate::stack::Service;
use crate::stack::caches::Remedy;
use crate::stack::survey::Survey;

/// Those of services that are not put back with the database, that no hook of their own tells about a restore, and that are
/// not emptied by a stop. A hook is taken at its word.
pub(super) fn not_told(
    survey: &Survey,
    is_put_back: impl Fn(&Service) -> bool,
    is_stopped: impl Fn(&Service) -> bool,
) -> Vec<Finding> {
    let services = survey.stack.services.iter();
    let untold = services.filter(|service| {
        !is_put_back(service) && !service.labels.hooks.contains_key(&HookPoint::AfterRestore)
    });
    untold
        .flat_map(|service| {
            let is_emptied = is_stopped(service);
            let caches = survey.caches_of(&service.name);
            caches
                .filter(move |cache| !(is_emptied && cache.remedy() == Remedy::Stop))
                .map(move |cache| Finding {
                    service: service.name.clone(),
                    what: format!(
                        "its {cache} may serve stale data after a restore: nothing flushes it"
                    ),
                    label: cache.label().to_owned(),
                    hint: Some(cache.hint().to_owned()),
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::tests_support::{service, survey};
    use crate::stack::caches::Cache;

    /// What is said of a service with these labels that runs this, a line each.
    fn said(labels: &[(&str, &str)], cache: Cache, is_put_back: bool, is_stopped: bool) -> String {
        let mut survey = survey(vec![(service("near", &[], labels), &[])]);
        let caches = BTreeSet::from([cache]);
        survey.caches.insert("near".to_owned(), caches);
        let findings = not_told(&survey, |_| is_put_back, |_| is_stopped);
        let lines = findings.iter().map(ToString::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_cache_that_nothing_flushes_is_told_with_its_label_also_when_it_is_left_out_on_purpose() {
        let skip = [("skip", "only a cache")];
        insta::assert_snapshot!(said(&skip, Cache::Redis, false, false), @"near: its Redis may serve stale data after a restore: nothing flushes it; to fix this, add the label `cofferdam.hook.after-restore: sh -c 'redis-cli FLUSHALL | grep -x OK'` (only if it is a cache: a queue would lose its jobs; docs/recipes.md#caches-and-search-indexes)");
        insta::assert_snapshot!(said(&skip, Cache::Memcached, false, false), @"near: its Memcached may serve stale data after a restore: nothing flushes it; to fix this, add the label `cofferdam.stop: restore` (it keeps nothing when it stops)");
        insta::assert_snapshot!(said(&skip, Cache::Meilisearch, false, false), @"near: its Meilisearch may serve stale data after a restore: nothing flushes it; to fix this, add the label `cofferdam.hook.after-restore: COMMAND` (a command that refills it, or `true` if a hook of another container does that; docs/recipes.md#caches-and-search-indexes)");
    }

    #[test]
    fn a_hook_a_restore_or_a_stop_that_empties_it_is_enough() {
        let hook = [("hook.after-restore", "true")];
        for cache in Cache::ALL {
            assert_eq!(said(&hook, cache, false, false), "", "{cache}");
            assert_eq!(said(&[], cache, true, false), "", "{cache}");
            let forgets = cache.remedy() == Remedy::Stop;
            let after_a_stop = said(&[], cache, false, true);
            assert_eq!(after_a_stop.is_empty(), forgets, "{cache}");
        }
        let other = [("hook.after-backup", "redis-cli FLUSHALL")];
        assert_ne!(said(&other, Cache::Redis, false, false), "");
    }
}
