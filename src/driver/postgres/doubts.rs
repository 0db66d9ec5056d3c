//! Why a dump could not be loaded as things are, found while there is time to mend it.
//!
//! Only catalogs are read: to look into tables would be to wait for their locks, and to read them twice.

use serde::Deserialize;

use super::obstacles::Obstacles;
use super::patterns::left_out;
use super::queries::array;
use super::server::Server;
use crate::driver::{DriverError, cannot_be_put_back};
use crate::labels::PostgresLabels;

/// Of one database.
pub(super) async fn doubts(
    server: &Server,
    labels: &PostgresLabels,
    database: &str,
) -> Result<Vec<String>, DriverError> {
    let obstacles = Obstacles::of(server, database, database).await?;
    let refused = obstacles.doubt(database, labels.restore);
    let mut rows: Vec<Found> = server
        .query(database, &query(labels, server.facts.superuser))
        .await?;
    let found = rows
        .pop()
        .ok_or_else(|| DriverError::failed("the server returned nothing about the database"))?;
    let refused = refused.map(cannot_be_put_back).into_iter();
    Ok(refused
        .chain(found.doubts(database, &server.facts.user))
        .collect())
}

#[derive(Debug, Default, Deserialize)]
struct Found {
    keys: Vec<Key>,
    /// What else needs a table that is left out.
    dependents: Vec<Dependent>,
    /// Roles that own something here, and that the user may not act for.
    owners: Vec<String>,
    /// Extensions that the user may not create.
    extensions: Vec<String>,
    /// The only database that pg_cron can be created in, where it is here.
    cron: Option<String>,
    has_timescale: bool,
    invalid: Vec<String>,
}

/// A foreign key that refers to what is left out, of a table that is not.
#[derive(Debug, Deserialize)]
struct Key {
    name: String,
    of: String,
    refers_to: String,
    /// The table that it refers to is not saved at all.
    whole: bool,
}

#[derive(Debug, Deserialize)]
struct Dependent {
    what: String,
    needs: String,
}

/// A partition has no key of its own: its parent's stands for it. Only what the server has checked does it check again.
const KEYS: &str = "SELECT DISTINCT coalesce(parent.conname, k.conname)::text AS name, \
        coalesce(parent.conrelid, k.conrelid)::pg_catalog.regclass::text AS of, \
        k.confrelid::pg_catalog.regclass::text AS refers_to, target.whole \
    FROM pg_catalog.pg_constraint k \
        JOIN left_out target ON target.oid = k.confrelid \
        JOIN pg_catalog.pg_class here ON here.oid = k.conrelid \
        JOIN pg_catalog.pg_class there ON there.oid = k.confrelid \
        LEFT JOIN left_out own ON own.oid = k.conrelid \
        LEFT JOIN pg_catalog.pg_constraint parent ON parent.oid::text = pg_catalog.to_jsonb(k) ->> 'conparentid' \
    WHERE k.contype = 'f' AND NOT coalesce(own.whole, false) \
        AND (target.whole OR (k.convalidated AND here.relkind = 'r' AND there.relkind = 'r' AND own.oid IS NULL)) \
    ORDER BY 1, 2, 3";

const DEPENDENTS: &str = "SELECT CASE v.relkind WHEN 'm' THEN 'materialized view ' WHEN 'v' THEN 'view ' ELSE 'a rule of ' END \
            || v.oid::pg_catalog.regclass AS what, target.oid::pg_catalog.regclass::text AS needs \
        FROM left_out target JOIN pg_catalog.pg_depend d ON d.refobjid = target.oid \
            JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
            JOIN pg_catalog.pg_class v ON v.oid = r.ev_class \
            LEFT JOIN left_out own ON own.oid = v.oid \
        WHERE target.whole AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND v.oid <> target.oid AND NOT coalesce(own.whole, false) \
    UNION SELECT 'the default of ' || a.attrelid::pg_catalog.regclass || '.' || pg_catalog.quote_ident(a.attname), \
            target.oid::pg_catalog.regclass::text \
        FROM left_out target JOIN pg_catalog.pg_depend d ON d.refobjid = target.oid \
            JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum \
            LEFT JOIN left_out own ON own.oid = f.adrelid \
        WHERE target.whole AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND f.adrelid <> target.oid AND NOT coalesce(own.whole, false) \
    ORDER BY 1, 2";

/// What is an extension's comes with it.
const OWNERS: &str = "SELECT DISTINCT pg_catalog.pg_get_userbyid(relowner)::text AS name FROM pg_catalog.pg_class c \
    WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't' \
        AND NOT pg_catalog.pg_has_role(relowner, 'MEMBER') \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND objid = c.oid AND deptype = 'e') ORDER BY 1";

/// Before PostgreSQL 13 none was trusted.
const EXTENSIONS: &str = "SELECT DISTINCT extname::text AS name FROM pg_catalog.pg_extension e \
        JOIN pg_catalog.pg_available_extension_versions v ON v.name = extname AND v.version = extversion \
    WHERE e.oid >= 16384 AND v.superuser AND coalesce(pg_catalog.to_jsonb(v) ->> 'trusted', 'false') <> 'true' ORDER BY 1";

/// An index of a partitioned table is saved in any case, and shows what its partitions lack.
const INVALID: &str = "SELECT indexrelid::pg_catalog.regclass::text AS name FROM pg_catalog.pg_index \
        JOIN pg_catalog.pg_class c ON c.oid = indexrelid \
    WHERE NOT indisvalid AND c.oid >= 16384 AND c.relkind = 'i' ORDER BY 1";

/// A superuser may do everything, and see every setting.
fn query(labels: &PostgresLabels, is_superuser: bool) -> String {
    let names = |rows: &str| {
        format!(
            "(SELECT coalesce(pg_catalog.json_agg(name ORDER BY name), '[]') FROM ({rows}) AS found)"
        )
    };
    let of_others = |rows: &str| {
        if is_superuser {
            "'[]'::json".to_owned()
        } else {
            names(rows)
        }
    };
    let cron = if is_superuser {
        "pg_catalog.current_setting('cron.database_name', true)"
    } else {
        "NULL::text"
    };
    format!(
        "WITH left_out AS ({}) SELECT {} AS keys, {} AS dependents, {} AS owners, {} AS extensions, \
         (SELECT {cron} FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') AS cron, \
         EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'timescaledb') AS has_timescale, {} AS invalid",
        left_out(labels),
        array(KEYS),
        array(DEPENDENTS),
        of_others(OWNERS),
        of_others(EXTENSIONS),
        names(INVALID)
    )
}

impl Found {
    fn doubts(self, database: &str, user: &str) -> Vec<String> {
        let mut doubts: Vec<String> = self.keys.iter().map(Key::doubt).collect();
        doubts.extend(self.dependents.iter().map(|Dependent { what, needs }| {
            format!(
                "{what} needs {needs}, which cofferdam.postgres.exclude-tables leaves out, so a restore of database {database} \
                 fails: leave out both, or remove {needs} from the label"
            )
        }));
        if !self.owners.is_empty() {
            let owners = self.owners.join(", ");
            doubts.push(format!(
                "cofferdam.postgres.user (now {user}) is not a member of roles that own tables of database {database}, so it \
                 cannot restore them: grant it these roles, or make it a superuser: {owners}"
            ));
        }
        if !self.extensions.is_empty() {
            let extensions = self.extensions.join(", ");
            doubts.push(format!(
                "cofferdam.postgres.user (now {user}) may not create these extensions of database {database}, so it cannot \
                 restore it: make it a superuser: {extensions}"
            ));
        }
        if let Some(only) = self
            .cron
            .filter(|only| only != database && !only.is_empty())
        {
            doubts.push(format!(
                "extension pg_cron of database {database} can now be created in database {only} only, so a restore of {database} \
                 fails: set cron.database_name of the server to {database}, or drop the extension"
            ));
        }
        if self.has_timescale {
            doubts.push(format!(
                "database {database} uses TimescaleDB: its dump cannot be restored without timescaledb_pre_restore(), which \
                 Cofferdam does not call; save the server with cofferdam.postgres.mode: basebackup"
            ));
        }
        if !self.invalid.is_empty() {
            let indexes = self.invalid.join(", ");
            doubts.push(format!(
                "these indexes of database {database} are not valid (or are being built right now), so dumps and restores do \
                 not include them: REINDEX or drop {indexes}"
            ));
        }
        doubts
    }
}

impl Key {
    fn doubt(&self) -> String {
        let Self {
            name,
            of,
            refers_to,
            whole,
        } = self;
        if *whole {
            return format!(
                "foreign key {name} of table {of} refers to {refers_to}, which cofferdam.postgres.exclude-tables leaves out, so a \
                 restore fails: leave out {of} too, remove {refers_to} from the label, or drop the foreign key"
            );
        }
        format!(
            "foreign key {name} of table {of} refers to rows of {refers_to}, which cofferdam.postgres.exclude-table-data leaves \
             out, so a restore fails if any row of {of} does: add {of} to the label, remove {refers_to} from it, or drop the \
             foreign key"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubt_says_what_to_do() {
        let key = |whole| Key {
            name: "users_last_session_fkey".to_owned(),
            of: "users".to_owned(),
            refers_to: "sessions".to_owned(),
            whole,
        };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let found = Found {
            keys: vec![key(false), key(true)],
            dependents: vec![Dependent {
                what: "view lately".to_owned(),
                needs: "sessions".to_owned(),
            }],
            owners: names(&["ada", "\"B\""]),
            extensions: names(&["postgis"]),
            cron: Some("jobs".to_owned()),
            has_timescale: true,
            invalid: names(&["by_name"]),
        };
        insta::assert_snapshot!(found.doubts("app", "clerk").join("\n"), @r#"
        foreign key users_last_session_fkey of table users refers to rows of sessions, which cofferdam.postgres.exclude-table-data leaves out, so a restore fails if any row of users does: add users to the label, remove sessions from it, or drop the foreign key
        foreign key users_last_session_fkey of table users refers to sessions, which cofferdam.postgres.exclude-tables leaves out, so a restore fails: leave out users too, remove sessions from the label, or drop the foreign key
        view lately needs sessions, which cofferdam.postgres.exclude-tables leaves out, so a restore of database app fails: leave out both, or remove sessions from the label
        cofferdam.postgres.user (now clerk) is not a member of roles that own tables of database app, so it cannot restore them: grant it these roles, or make it a superuser: ada, "B"
        cofferdam.postgres.user (now clerk) may not create these extensions of database app, so it cannot restore it: make it a superuser: postgis
        extension pg_cron of database app can now be created in database jobs only, so a restore of app fails: set cron.database_name of the server to app, or drop the extension
        database app uses TimescaleDB: its dump cannot be restored without timescaledb_pre_restore(), which Cofferdam does not call; save the server with cofferdam.postgres.mode: basebackup
        these indexes of database app are not valid (or are being built right now), so dumps and restores do not include them: REINDEX or drop by_name
        "#);
        let cron = |only: &str| Found {
            cron: Some(only.to_owned()),
            ..Found::default()
        };
        for only in ["app", ""] {
            assert_eq!(cron(only).doubts("app", "clerk"), Vec::<String>::new());
        }
    }
}
