//! What in a database depends on the database's own name.
//!
//! Some of it cannot be loaded under another name: an extension that the server lets into one database only. Some loads well,
//! and wrong: a generated column, an index or a materialized view that is made from `current_database()` would hold the other
//! name for good. So it is found out when the database is saved. A CHECK that fails under another name shows by itself.

use serde::Deserialize;

use super::server::Server;
use crate::driver::DriverError;

/// Extensions that refuse to be created but in one database, which a setting of the server names.
const EXTENSIONS: [&str; 1] = ["pg_cron"];

/// For people: `extension pg_cron`, `materialized view report`.
pub(super) async fn bound_to_name(
    server: &Server,
    database: &str,
) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        what: String,
    }
    let answers: Vec<Answer> = server.query(database, &query()).await?;
    Ok(answers.into_iter().map(|answer| answer.what).collect())
}

/// Expressions are looked into as the server stores them: to print them, it would wait for locks.
fn query() -> String {
    // `CURRENT_CATALOG` is the 13th of the functions that SQL names without parentheses, in every version that has them.
    let uses = |expression: &str| {
        format!(
            "(pg_catalog.strpos({expression}, ':funcid ' || 'pg_catalog.current_database()'::pg_catalog.regprocedure::oid || ' ') > 0 \
             OR pg_catalog.strpos({expression}, '{{SQLVALUEFUNCTION :op 13 ') > 0)"
        )
    };
    let has_view = "EXISTS (SELECT FROM pg_catalog.pg_class WHERE relkind = 'm' AND oid >= 16384)";
    let extensions: Vec<String> = EXTENSIONS.iter().map(|name| format!("'{name}'")).collect();
    [
        format!(
            "SELECT 'extension ' || extname AS what FROM pg_catalog.pg_extension WHERE extname IN ({})",
            extensions.join(", ")
        ),
        format!(
            "SELECT 'generated column ' || a.attname FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a \
             ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE pg_catalog.to_jsonb(a) ->> 'attgenerated' <> '' AND {}",
            uses("adbin::text")
        ),
        format!(
            "SELECT 'constraint ' || conname FROM pg_catalog.pg_constraint WHERE conbin IS NOT NULL AND {}",
            uses("conbin::text")
        ),
        format!(
            "SELECT 'index ' || indexrelid::pg_catalog.regclass FROM pg_catalog.pg_index \
             WHERE indexrelid >= 16384 AND (indexprs IS NOT NULL OR indpred IS NOT NULL) AND {}",
            uses("pg_catalog.concat(indexprs::text, indpred::text)")
        ),
        // A materialized view may take it from a view.
        format!(
            "SELECT CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || relname FROM pg_catalog.pg_rewrite r \
             JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
             WHERE c.oid >= 16384 AND relkind IN ('m', 'v') AND {has_view} AND {}",
            uses("ev_action::text")
        ),
        // What is stored by way of a function: in an index or a generated column it says that it is immutable.
        format!(
            "SELECT 'function ' || proname FROM pg_catalog.pg_proc p WHERE oid >= 16384 \
             AND (provolatile = 'i' OR {has_view}) \
             AND (prosrc ~* '\\mcurrent_(database|catalog)\\M' OR {}) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
                 AND objid = p.oid AND deptype = 'e')",
            uses("coalesce(pg_catalog.to_jsonb(p) ->> 'prosqlbody', '')")
        ),
    ]
    .join(" UNION ")
        + " ORDER BY 1"
}
