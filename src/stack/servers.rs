//! The database servers that an audit knows: what runs when one runs, where it keeps its data, and what saves it. Pure.
//!
//! A server is known by its processes, and where none are to be seen by the variables that its images set. Never by an
//! image's name: `postgrest/…` is no PostgreSQL, `registry/pgvector` is one.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Postgres,
    Mysql,
    Redis,
    Valkey,
    Mongodb,
    Couchdb,
    Elasticsearch,
    Opensearch,
    Openldap,
    Influxdb,
}

struct Profile {
    name: &'static str,
    /// Names of its processes. The kernel cuts names at 15 bytes; these are shorter.
    processes: &'static [&'static str],
    /// [`Store::argument`]
    argument: Option<&'static str>,
    /// What its images set, or have to be told.
    variables: &'static [&'static str],
    /// Where its images and packages keep its data.
    directories: &'static [&'static str],
    /// Options of its command line that say where else.
    data_options: &'static [&'static str],
    /// [`Store::is_copied_while_it_runs`]
    is_copied_while_it_runs: bool,
    label: &'static str,
    hint: Option<&'static str>,
}

const PLAIN: Profile = Profile {
    name: "",
    processes: &[],
    argument: None,
    variables: &[],
    directories: &[],
    data_options: &[],
    is_copied_while_it_runs: false,
    label: "",
    hint: None,
};

const RECIPE: Option<&str> = Some("see docs/recipes.md for the rest");
const RECIPE_OR_SKIP: Option<&str> = Some(
    "see docs/recipes.md for the rest; for a cache, use `cofferdam.skip: WHY` instead, and a hook that flushes it after a restore",
);

impl Store {
    pub const ALL: [Self; 10] = [
        Self::Postgres,
        Self::Mysql,
        Self::Redis,
        Self::Valkey,
        Self::Mongodb,
        Self::Couchdb,
        Self::Elasticsearch,
        Self::Opensearch,
        Self::Openldap,
        Self::Influxdb,
    ];

    const fn profile(self) -> Profile {
        match self {
            Self::Postgres => Profile {
                name: "PostgreSQL",
                processes: &["postgres", "postmaster"],
                variables: &["PGDATA"],
                directories: &["/var/lib/postgresql/data", "/bitnami/postgresql/data"],
                data_options: &["-D"],
                label: r#"cofferdam.postgres: "*""#,
                ..PLAIN
            },
            Self::Mysql => Profile {
                name: "MySQL or MariaDB",
                processes: &["mysqld", "mariadbd"],
                variables: &[
                    "MYSQL_VERSION",
                    "MYSQL_ROOT_PASSWORD",
                    "MARIADB_VERSION",
                    "MARIADB_ROOT_PASSWORD",
                ],
                directories: &[
                    "/var/lib/mysql",
                    "/bitnami/mysql/data",
                    "/bitnami/mariadb/data",
                ],
                data_options: &["--datadir"],
                label: r#"cofferdam.mysql: "*""#,
                ..PLAIN
            },
            Self::Redis => Profile {
                name: "Redis",
                processes: &["redis-server"],
                variables: &["REDIS_VERSION"],
                directories: &["/data", "/var/lib/redis", "/bitnami/redis/data"],
                data_options: &["--dir"],
                is_copied_while_it_runs: true,
                label: "cofferdam.command.rdb.dump: redis-cli --rdb -",
                hint: RECIPE_OR_SKIP,
                ..PLAIN
            },
            Self::Valkey => Profile {
                name: "Valkey",
                processes: &["valkey-server"],
                variables: &["VALKEY_VERSION"],
                directories: &["/data", "/var/lib/valkey", "/bitnami/valkey/data"],
                data_options: &["--dir"],
                is_copied_while_it_runs: true,
                label: "cofferdam.command.rdb.dump: valkey-cli --rdb -",
                hint: RECIPE_OR_SKIP,
                ..PLAIN
            },
            Self::Mongodb => Profile {
                name: "MongoDB",
                processes: &["mongod"],
                variables: &["MONGO_VERSION"],
                directories: &[
                    "/data/db",
                    "/data/configdb",
                    "/var/lib/mongodb",
                    "/bitnami/mongodb/data",
                ],
                data_options: &["--dbpath"],
                label: "cofferdam.command.archive.dump: mongodump --config=/run/secrets/mongo-tools --archive",
                hint: RECIPE,
                ..PLAIN
            },
            Self::Couchdb => Profile {
                name: "CouchDB",
                processes: &["beam.smp"],
                argument: Some("/couchdb "),
                variables: &["COUCHDB_VERSION", "COUCHDB_USER"],
                directories: &[
                    "/opt/couchdb/data",
                    "/var/lib/couchdb",
                    "/bitnami/couchdb/data",
                ],
                is_copied_while_it_runs: true,
                label: r#"cofferdam.couchdb: "*""#,
                ..PLAIN
            },
            Self::Elasticsearch => Profile {
                name: "Elasticsearch",
                processes: &["java"],
                argument: Some("org.elasticsearch.bootstrap.Elasticsearch"),
                variables: &["ELASTIC_CONTAINER"],
                directories: &[
                    "/usr/share/elasticsearch/data",
                    "/var/lib/elasticsearch",
                    "/bitnami/elasticsearch/data",
                ],
                data_options: &["-Epath.data"],
                label: r#"cofferdam.elasticsearch: "*""#,
                ..PLAIN
            },
            Self::Opensearch => Profile {
                name: "OpenSearch",
                processes: &["java"],
                argument: Some("org.opensearch.bootstrap.OpenSearch"),
                variables: &["OPENSEARCH_HOME"],
                directories: &[
                    "/usr/share/opensearch/data",
                    "/var/lib/opensearch",
                    "/bitnami/opensearch/data",
                ],
                data_options: &["-Epath.data"],
                label: r#"cofferdam.elasticsearch: "*""#,
                ..PLAIN
            },
            Self::Openldap => Profile {
                name: "OpenLDAP",
                processes: &["slapd"],
                variables: &["LDAP_DOMAIN", "LDAP_ROOT"],
                directories: &[
                    "/var/lib/ldap",
                    "/etc/ldap/slapd.d",
                    "/etc/openldap/slapd.d",
                    "/bitnami/openldap",
                ],
                label: "cofferdam.command.entries.dump: slapcat",
                hint: RECIPE,
                ..PLAIN
            },
            Self::Influxdb => Profile {
                name: "InfluxDB",
                processes: &["influxd", "influxdb3"],
                variables: &["INFLUXDB_VERSION", "DOCKER_INFLUXDB_INIT_MODE"],
                directories: &[
                    "/var/lib/influxdb2",
                    "/var/lib/influxdb",
                    "/var/lib/influxdb3",
                    "/bitnami/influxdb",
                ],
                data_options: &["--engine-path", "--data-dir"],
                label: r#"cofferdam.volumes: "*""#,
                hint: Some(
                    "with `cofferdam.stop: backup,restore`; see docs/recipes.md for a way that does not stop it",
                ),
                ..PLAIN
            },
        }
    }

    /// Whether a process of this name is its server; where there is an [`Store::argument`], whether it may be.
    pub fn is_run_by(self, process: &str) -> bool {
        self.profile().processes.contains(&process)
    }

    /// What stands in the server's command line, where other programs have processes of that name too.
    pub fn argument(self) -> Option<&'static str> {
        self.profile().argument
    }

    /// Whether a container's environment speaks of it. A client's may do so as well.
    pub fn is_named_by(self, env: &BTreeMap<String, String>) -> bool {
        let variables = self.profile().variables;
        variables.iter().any(|variable| env.contains_key(*variable))
    }

    /// Where it may keep its data in a container with this environment.
    pub fn directories(self, env: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
        let told = match self {
            Self::Postgres => env.get("PGDATA").map(String::as_str),
            _ => None,
        };
        let usual = self.profile().directories;
        told.into_iter().chain(usual.iter().copied())
    }

    /// Where it keeps its data, when this is its command line and says so. Empty for another program's.
    pub fn told_directory(self, line: &str) -> Option<&str> {
        let mut words = line.split_whitespace();
        let program = words.next()?.rsplit('/').next()?;
        if !self.is_run_by(program) {
            return None;
        }
        let options = self.profile().data_options;
        while let Some(word) = words.next() {
            let (option, joined) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            if options.contains(&option) {
                let directory = joined.or_else(|| words.next())?;
                return directory.starts_with('/').then_some(directory);
            }
        }
        None
    }

    /// Whether a driver of cofferdam's saves it.
    pub fn has_driver(self) -> bool {
        matches!(
            self,
            Self::Postgres | Self::Mysql | Self::Couchdb | Self::Elasticsearch | Self::Opensearch
        )
    }

    /// Whether a copy of its files is good that was made while it wrote to them.
    pub fn is_copied_while_it_runs(self) -> bool {
        self.profile().is_copied_while_it_runs
    }

    /// What saves it, as it stands in a compose file.
    pub fn label(self) -> &'static str {
        self.profile().label
    }

    /// What is to be known beside the label.
    pub fn hint(self) -> Option<&'static str> {
        self.profile().hint
    }
}

impl fmt::Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.profile().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support::container;
    use crate::labels;

    #[test]
    fn only_the_server_itself_counts() {
        let run_by = |process: &str| -> Vec<Store> {
            let stores = Store::ALL.into_iter();
            stores.filter(|store| store.is_run_by(process)).collect()
        };
        for (process, expected) in [
            ("postgres", &[Store::Postgres][..]),
            ("postmaster", &[Store::Postgres]),
            ("mysqld", &[Store::Mysql]),
            ("mariadbd", &[Store::Mysql]),
            ("redis-server", &[Store::Redis]),
            ("mongod", &[Store::Mongodb]),
            ("beam.smp", &[Store::Couchdb]),
            ("influxd", &[Store::Influxdb]),
            ("java", &[Store::Elasticsearch, Store::Opensearch]),
        ] {
            assert_eq!(run_by(process), expected, "{process}");
        }
        for process in [
            "postgrest",
            "postgres_export",
            "pgbouncer",
            "mysqld_safe",
            "mysqld_exporter",
            "mysqlrouter",
            "mysql",
            "redis-cli",
            "redis-sentinel",
            "mongos",
            "slapcat",
        ] {
            assert_eq!(run_by(process), [], "{process}");
        }
    }

    #[test]
    fn a_command_line_tells_where_the_data_is() {
        for (store, line, expected) in [
            (
                Store::Postgres,
                "/usr/lib/postgresql/15/bin/postgres -D /srv/pg -c x=y",
                Some("/srv/pg"),
            ),
            (Store::Postgres, "postgres: checkpointer", None),
            (
                Store::Mysql,
                "mysqld --user=mysql --datadir=/srv/db",
                Some("/srv/db"),
            ),
            (Store::Mysql, "mysqladmin --datadir=/srv/db ping", None),
            (
                Store::Mongodb,
                "mongod --bind_ip_all --dbpath /x",
                Some("/x"),
            ),
            (Store::Mongodb, "mongod --dbpath", None),
            (Store::Redis, "redis-server --dir relative", None),
            (Store::Redis, "", None),
        ] {
            assert_eq!(store.told_directory(line), expected, "{line}");
        }
    }

    #[test]
    fn names_of_processes_are_whole() {
        for store in Store::ALL {
            for process in store.profile().processes {
                assert!(process.len() < 16, "{process}");
            }
        }
    }

    #[test]
    fn every_label_that_is_advised_is_one() {
        for store in Store::ALL {
            let (key, value) = store.label().split_once(": ").expect("a key and a value");
            let mut container = container("app");
            let value = value.trim_matches('"').to_owned();
            container.labels.insert(key.to_owned(), value);
            assert!(
                labels::parse(&container.name, &container.labels).is_ok(),
                "{store}: {key}"
            );
        }
    }
}
