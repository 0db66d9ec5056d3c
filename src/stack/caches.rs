//! Servers that answer from copies of what a database holds, and go on doing so when a restore has replaced the database
//! behind them: caches and search indexes. What runs when one runs, and what makes it forget. Pure.
//!
//! One is known by its processes, as a [`crate::stack::servers::Store`] is. Whether a Redis is a cache or a queue, nobody can see.

use std::fmt;

use crate::stack::servers::Store;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    Redis,
    Valkey,
    Keydb,
    Dragonfly,
    Memcached,
    Varnish,
    Meilisearch,
    Typesense,
    Elasticsearch,
    Opensearch,
}

/// What has to be done once the database is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A command in its own container: it may keep its data on a disk, and a stop does not empty it.
    Flush,
    /// It keeps everything in memory.
    Stop,
    /// The application fills it anew.
    Rebuild,
}

impl Cache {
    pub const ALL: [Self; 10] = [
        Self::Redis,
        Self::Valkey,
        Self::Keydb,
        Self::Dragonfly,
        Self::Memcached,
        Self::Varnish,
        Self::Meilisearch,
        Self::Typesense,
        Self::Elasticsearch,
        Self::Opensearch,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Keydb => "KeyDB",
            Self::Dragonfly => "Dragonfly",
            Self::Memcached => "Memcached",
            Self::Varnish => "Varnish",
            Self::Meilisearch => "Meilisearch",
            Self::Typesense => "Typesense",
            Self::Elasticsearch => "Elasticsearch",
            Self::Opensearch => "OpenSearch",
        }
    }

    /// Whether a process of this name is its server; where there is an [`Cache::argument`], whether it may be.
    pub fn is_run_by(self, process: &str) -> bool {
        process
            == match self {
                Self::Redis => "redis-server",
                Self::Valkey => "valkey-server",
                Self::Keydb => "keydb-server",
                Self::Dragonfly => "dragonfly",
                Self::Memcached => "memcached",
                Self::Varnish => "varnishd",
                Self::Meilisearch => "meilisearch",
                // The kernel cuts names at 15 bytes.
                Self::Typesense => "typesense-serve",
                Self::Elasticsearch | Self::Opensearch => "java",
            }
    }

    /// What stands in the server's command line, where other programs have processes of that name too.
    pub fn argument(self) -> Option<&'static str> {
        match self {
            Self::Elasticsearch => Store::Elasticsearch.argument(),
            Self::Opensearch => Store::Opensearch.argument(),
            _ => None,
        }
    }

    pub fn remedy(self) -> Remedy {
        match self {
            Self::Redis | Self::Valkey | Self::Keydb | Self::Dragonfly => Remedy::Flush,
            Self::Memcached | Self::Varnish => Remedy::Stop,
            Self::Meilisearch | Self::Typesense | Self::Elasticsearch | Self::Opensearch => {
                Remedy::Rebuild
            }
        }
    }

    /// What keeps its answers in step with the database, as it stands in a compose file. Clients end with 0 when the server refuses,
    /// but for `-e`, which there is since Redis 7.
    pub fn label(self) -> &'static str {
        match self {
            Self::Redis | Self::Dragonfly => {
                "cofferdam.hook.after-restore: sh -c 'redis-cli FLUSHALL | grep -x OK'"
            }
            Self::Valkey => "cofferdam.hook.after-restore: valkey-cli -e FLUSHALL",
            Self::Keydb => "cofferdam.hook.after-restore: sh -c 'keydb-cli FLUSHALL | grep -x OK'",
            Self::Memcached | Self::Varnish => "cofferdam.stop: restore",
            Self::Meilisearch | Self::Typesense | Self::Elasticsearch | Self::Opensearch => {
                "cofferdam.hook.after-restore: COMMAND"
            }
        }
    }

    /// What is to be known beside the label.
    pub fn hint(self) -> &'static str {
        match self.remedy() {
            Remedy::Flush => {
                "only if it is a cache: a queue would lose its jobs; docs/recipes.md#caches-and-search-indexes"
            }
            Remedy::Stop => "it keeps nothing when it stops",
            Remedy::Rebuild => {
                "a command that refills it, or `true` if a hook of another container does that; \
                 docs/recipes.md#caches-and-search-indexes"
            }
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;
    use crate::labels;

    #[test]
    fn only_the_server_itself_counts() {
        let run_by = |process: &str| -> Vec<Cache> {
            let caches = Cache::ALL.into_iter();
            caches.filter(|cache| cache.is_run_by(process)).collect()
        };
        assert_eq!(run_by("redis-server"), [Cache::Redis]);
        assert_eq!(run_by("memcached"), [Cache::Memcached]);
        let name = "typesense-server";
        assert_eq!(run_by(&name[..15]), [Cache::Typesense]);
        assert_eq!(run_by("java"), [Cache::Elasticsearch, Cache::Opensearch]);
        for process in [
            "redis-cli",
            "redis-sentinel",
            "memcached_export",
            "varnishlog",
        ] {
            assert_eq!(run_by(process), [], "{process}");
        }
    }

    #[test]
    fn every_label_that_is_advised_is_one() {
        for cache in Cache::ALL {
            let (key, value) = cache.label().split_once(": ").expect("a key and a value");
            let mut container = container("cache");
            container.labels.insert(key.to_owned(), value.to_owned());
            assert!(
                labels::parse(&container.name, &container.labels).is_ok(),
                "{cache}: {key}"
            );
        }
    }
}
