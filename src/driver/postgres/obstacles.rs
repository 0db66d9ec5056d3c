//! What keeps a database from being exchanged for another one, looked for before anything is loaded or closed; and what an
//! administrator ought to know of before it goes.

use serde::Deserialize;

use super::queries::array;
use super::server::Server;
use super::sql::{quote_ident, quote_literal};
use crate::driver::{DriverError, OldDatabase};
use crate::labels::PostgresRestore;

/// What the server says of a database that is to be exchanged, whether it is there or not.
#[derive(Debug, Deserialize)]
pub(super) struct Obstacles {
    /// The server only follows another one.
    is_standby: bool,
    /// Whether our user may make and rename databases at all.
    may_create: bool,
    /// Whether this one belongs to our user.
    is_owned: bool,
    /// Its `DROP DATABASE` was interrupted: the server lets nobody do anything with it but drop it.
    is_invalid: bool,
    /// Ids of prepared transactions.
    prepared: Vec<String>,
    /// Names of logical replication slots.
    slots: Vec<String>,
    subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Subscription {
    pub name: String,
    is_enabled: bool,
    /// On the publisher.
    slot: Option<String>,
}

impl Subscription {
    /// The orders, to be given within its database, that remove it and leave its publisher alone.
    pub fn detach(&self) -> [String; 3] {
        let name = quote_ident(&self.name);
        [
            format!("ALTER SUBSCRIPTION {name} DISABLE"),
            format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
            format!("DROP SUBSCRIPTION {name}"),
        ]
    }
}

const SUBSCRIPTIONS: &str = "SELECT subname::text AS name, subenabled AS is_enabled, subslotname::text AS slot \
    FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid";

/// The first major version that has subscriptions, and the catalog of them.
const FIRST_TO_SUBSCRIBE: u32 = 10;

/// Those of one database.
pub(super) async fn subscriptions(
    server: &Server,
    seat: &str,
    database: &str,
) -> Result<Vec<Subscription>, DriverError> {
    if server.facts.major() < FIRST_TO_SUBSCRIBE {
        return Ok(Vec::new());
    }
    let query = format!(
        "{SUBSCRIPTIONS} WHERE datname = {} ORDER BY 1",
        quote_literal(database)
    );
    server.query(seat, &query).await
}

/// Logical replication slots of one database, which are dropped with it.
pub(super) async fn slots(
    server: &Server,
    seat: &str,
    database: &str,
) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Slot {
        name: String,
    }
    let query = format!(
        "SELECT slot_name::text AS name FROM pg_catalog.pg_replication_slots \
         WHERE slot_type = 'logical' AND database = {} ORDER BY 1",
        quote_literal(database)
    );
    let slots: Vec<Slot> = server.query(seat, &query).await?;
    Ok(slots.into_iter().map(|slot| slot.name).collect())
}

/// For a row of [`Obstacles`]. A server is not asked of what its version does not know.
fn query(database: &str, major: u32) -> String {
    let name = quote_literal(database);
    let texts = |column: &str, rows: &str| {
        format!(
            "(SELECT coalesce(pg_catalog.json_agg({column} ORDER BY {column}), '[]') FROM {rows})"
        )
    };
    let prepared = format!("pg_catalog.pg_prepared_xacts WHERE database = {name}");
    let slots = format!(
        "pg_catalog.pg_replication_slots WHERE database = {name} AND slot_type = 'logical'"
    );
    let subscriptions = match major < FIRST_TO_SUBSCRIBE {
        true => "'[]'::json".to_owned(),
        false => array(&format!(
            "{SUBSCRIPTIONS} WHERE datname = {name} ORDER BY 1"
        )),
    };
    format!(
        "SELECT pg_catalog.pg_is_in_recovery() AS is_standby, \
         (SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user) AS may_create, \
         coalesce(pg_catalog.pg_has_role(datdba, 'USAGE'), true) AS is_owned, \
         coalesce(datconnlimit = -2, false) AS is_invalid, \
         {} AS prepared, {} AS slots, {subscriptions} AS subscriptions \
         FROM (SELECT {name}::text AS name) AS wanted LEFT JOIN pg_catalog.pg_database ON datname = wanted.name",
        texts("gid", &prepared),
        texts("slot_name", &slots),
    )
}

impl Obstacles {
    pub async fn of(server: &Server, seat: &str, database: &str) -> Result<Self, DriverError> {
        let query = query(database, server.facts.major());
        let mut rows: Vec<Self> = server.query(seat, &query).await?;
        rows.pop()
            .ok_or_else(|| DriverError::failed("the server returned nothing about the database"))
    }

    /// Whether the database can be renamed and dropped, and another one made.
    pub fn ensure_none(&self, database: &str) -> Result<(), DriverError> {
        self.ensure_it_may_be_exchanged(database)?;
        self.ensure_none_prepared(database)
    }

    /// What stands in the way of a restore, and does not pass by itself.
    pub fn doubt(&self, database: &str, restore: PostgresRestore) -> Option<DriverError> {
        let looked = match restore {
            PostgresRestore::Clean => self.ensure_none_subscribed(database),
            PostgresRestore::Swap | PostgresRestore::Recreate => {
                self.ensure_it_may_be_exchanged(database)
            }
        };
        looked.err()
    }

    fn ensure_it_may_be_exchanged(&self, database: &str) -> Result<(), DriverError> {
        if self.is_standby {
            return Err(DriverError::failed_with_hint(
                "the server is a standby, so nothing can be restored into it",
                "restore into its primary",
            ));
        }
        if self.is_invalid {
            return Err(DriverError::failed_with_hint(
                format!(
                    "database {database} was left behind by an interrupted DROP DATABASE and cannot be renamed"
                ),
                format!(
                    "DROP DATABASE {}; then restore again",
                    quote_ident(database)
                ),
            ));
        }
        if !(self.may_create && self.is_owned) {
            return Err(DriverError::failed_with_hint(
                format!(
                    "the user of cofferdam.postgres.user must own database {database} and have the attribute CREATEDB to \
                     swap it"
                ),
                "set cofferdam.postgres.user to such a role or to a superuser; or set cofferdam.postgres.restore: clean",
            ));
        }
        Ok(())
    }

    fn ensure_none_prepared(&self, database: &str) -> Result<(), DriverError> {
        if self.prepared.is_empty() {
            return Ok(());
        }
        let orders: Vec<String> = self
            .prepared
            .iter()
            .map(|gid| quote_literal(gid))
            .map(|gid| format!("COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"))
            .collect();
        Err(DriverError::failed_with_hint(
            format!(
                "prepared transactions are open in database {database} ({}): as long as they are, it can be neither renamed \
                 nor dropped",
                self.prepared.join(", ")
            ),
            format!(
                "let the transaction manager finish them, or run, connected to {database}: {}",
                orders.join("; ")
            ),
        ))
    }

    /// The same for a load into the database that is there.
    fn ensure_none_for_clean(&self, database: &str) -> Result<(), DriverError> {
        self.ensure_none_prepared(database)?;
        self.ensure_none_subscribed(database)
    }

    fn ensure_none_subscribed(&self, database: &str) -> Result<(), DriverError> {
        match self.subscriptions.iter().find(|one| one.slot.is_some()) {
            None => Ok(()),
            Some(one) => Err(DriverError::failed_with_hint(
                format!(
                    "subscription {} of database {database} has a slot at its publisher, and cannot be dropped in the \
                     transaction of a restore by clean",
                    one.name
                ),
                format!(
                    "set cofferdam.postgres.restore: swap; or run, connected to {database}: {}",
                    one.detach().join("; ")
                ),
            )),
        }
    }

    /// What an administrator ought to know before the database is restored, or why it cannot be.
    pub fn foresee(
        &self,
        database: &str,
        restore: PostgresRestore,
        old: OldDatabase,
    ) -> Result<Vec<String>, DriverError> {
        if restore == PostgresRestore::Clean {
            return self.ensure_none_for_clean(database).map(|()| Vec::new());
        }
        self.ensure_none(database)?;
        let slots = self.slots.iter().map(|slot| match old {
            OldDatabase::Drop => format!(
                "logical replication slot {slot} of database {database} is dropped with the old database: create it again, \
                 and let its consumer start over"
            ),
            OldDatabase::Keep => format!(
                "logical replication slot {slot} stays with the old database of {database} that is kept, and holds back WAL \
                 until it is dropped; the restored database has none: create one, and let its consumer start over"
            ),
        });
        let subscriptions = self.subscriptions.iter().map(|one| {
            let name = &one.name;
            let next = if one.is_enabled {
                format!("; it is enabled now: check its publisher's position before you run ALTER SUBSCRIPTION {} ENABLE", quote_ident(name))
            } else {
                String::new()
            };
            let stays = match old {
                OldDatabase::Drop => "the server does not drop a database that has one, so the old database stays, closed to connections, \
                     until you detach it",
                OldDatabase::Keep => "it stays in the old database too",
            };
            format!("subscription {name} of database {database} is restored disabled{next}; {stays}")
        });
        Ok(slots.chain(subscriptions).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Obstacles {
        Obstacles {
            is_standby: false,
            may_create: true,
            is_owned: true,
            is_invalid: false,
            prepared: Vec::new(),
            slots: Vec::new(),
            subscriptions: Vec::new(),
        }
    }

    fn subscription(slot: Option<&str>) -> Subscription {
        Subscription {
            name: "orders".to_owned(),
            is_enabled: true,
            slot: slot.map(str::to_owned),
        }
    }

    #[test]
    fn a_server_without_subscriptions_is_not_asked_for_them() {
        assert!(!query("shop", 9).contains("pg_subscription"));
        assert!(query("shop", 10).contains("pg_subscription"));
    }

    #[test]
    fn what_cannot_be_exchanged_is_refused_with_its_remedy() {
        for (obstacles, words) in [
            (
                Obstacles {
                    is_standby: true,
                    ..none()
                },
                "its primary",
            ),
            (
                Obstacles {
                    is_invalid: true,
                    ..none()
                },
                "DROP DATABASE \"shop\"",
            ),
            (
                Obstacles {
                    may_create: false,
                    ..none()
                },
                "CREATEDB",
            ),
            (
                Obstacles {
                    is_owned: false,
                    ..none()
                },
                "must own database shop",
            ),
            (
                Obstacles {
                    prepared: vec!["it's".to_owned()],
                    ..none()
                },
                "COMMIT PREPARED 'it''s' or ROLLBACK PREPARED 'it''s'",
            ),
        ] {
            for restore in [PostgresRestore::Swap, PostgresRestore::Recreate] {
                let refused = obstacles.foresee("shop", restore, OldDatabase::Drop);
                let error = refused.unwrap_err().to_string();
                assert!(error.contains(words), "{error}");
            }
        }
        assert!(none().ensure_none("shop").is_ok());
    }

    #[test]
    fn a_load_into_what_is_there_is_refused_only_what_it_cannot_do() {
        let clean = |obstacles: Obstacles| {
            obstacles
                .foresee("shop", PostgresRestore::Clean, OldDatabase::Drop)
                .map_err(|error| error.to_string())
        };
        let not_owned = Obstacles {
            is_owned: false,
            may_create: false,
            ..none()
        };
        assert_eq!(clean(not_owned), Ok(Vec::new()));
        let prepared = Obstacles {
            prepared: vec!["x".to_owned()],
            ..none()
        };
        assert!(
            clean(prepared)
                .unwrap_err()
                .contains("ROLLBACK PREPARED 'x'")
        );
        let bound = |slot| Obstacles {
            subscriptions: vec![subscription(slot)],
            ..none()
        };
        assert_eq!(clean(bound(None)), Ok(Vec::new()));
        assert!(
            clean(bound(Some("s")))
                .unwrap_err()
                .contains("SET (slot_name = NONE)")
        );
    }

    #[test]
    fn what_goes_with_the_old_database_is_told_by_name() {
        let obstacles = Obstacles {
            slots: vec!["debezium".to_owned()],
            subscriptions: vec![subscription(None)],
            ..none()
        };
        let told = |old| {
            obstacles
                .foresee("shop", PostgresRestore::Swap, old)
                .unwrap()
        };
        insta::assert_snapshot!(told(OldDatabase::Drop).join("\n"), @r#"
        logical replication slot debezium of database shop is dropped with the old database: create it again, and let its consumer start over
        subscription orders of database shop is restored disabled; it is enabled now: check its publisher's position before you run ALTER SUBSCRIPTION "orders" ENABLE; the server does not drop a database that has one, so the old database stays, closed to connections, until you detach it
        "#);
        insta::assert_snapshot!(told(OldDatabase::Keep).join("\n"), @r#"
        logical replication slot debezium stays with the old database of shop that is kept, and holds back WAL until it is dropped; the restored database has none: create one, and let its consumer start over
        subscription orders of database shop is restored disabled; it is enabled now: check its publisher's position before you run ALTER SUBSCRIPTION "orders" ENABLE; it stays in the old database too
        "#);
    }
}
