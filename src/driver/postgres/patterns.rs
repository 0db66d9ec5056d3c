//! Which of the labels' patterns match nothing. `pg_dump` does not say: a typo would save what was to be left out, or tables
//! would be missed that were never meant.
//!
//! Patterns are read as `pg_dump` and `psql` read them, regular expressions and all.
//!
//! Source: <https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS>

use serde::Deserialize;

use super::server::Server;
use super::sql::quote_literal;
use crate::driver::DriverError;
use crate::labels::PostgresLabels;

/// Leaves out tables whole.
const TABLES: &str = "cofferdam.postgres.exclude-tables";
/// Leaves out rows.
const ROWS: &str = "cofferdam.postgres.exclude-table-data";

/// What `pg_dump` takes for tables: relations with rows, views and sequences; without a schema, those that are visible.
const MATCHES: &str = "c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') \
    AND c.relname::text OPERATOR(pg_catalog.~) given.name \
    AND CASE WHEN given.schema IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) \
        ELSE n.nspname::text OPERATOR(pg_catalog.~) given.schema END";
/// What [`MATCHES`] looks at, beside what was given.
const TABLES_THERE: &str = "pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace";

/// A warning each.
pub(super) async fn idle(
    server: &Server,
    database: &str,
    labels: &PostgresLabels,
) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Idle {
        label: String,
        pattern: String,
    }
    let given = given(labels);
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let idle: Vec<Idle> = server.query(database, &query(&given)).await?;
    Ok(idle
        .into_iter()
        .map(|Idle { label, pattern }| {
            format!("`{pattern}` of {label} matches nothing in database {database}")
        })
        .collect())
}

fn query(given: &[String]) -> String {
    format!(
        "SELECT given.label, given.pattern FROM (VALUES {}) AS given (at, label, pattern, schema, name) \
         WHERE NOT EXISTS (SELECT 1 FROM {TABLES_THERE} WHERE {MATCHES}) ORDER BY given.at",
        given.join(", ")
    )
}

/// A query for what the labels leave out: its `oid`, and whether `whole`.
pub(super) fn left_out(labels: &PostgresLabels) -> String {
    let given = given(labels);
    if given.is_empty() {
        return "SELECT NULL::oid AS oid, false AS whole WHERE false".to_owned();
    }
    format!(
        "SELECT c.oid, pg_catalog.bool_or(given.label = {}) AS whole \
         FROM (VALUES {}) AS given (at, label, pattern, schema, name), {TABLES_THERE} WHERE {MATCHES} GROUP BY c.oid",
        quote_literal(TABLES),
        given.join(", ")
    )
}

/// The labels' patterns, a row each.
fn given(labels: &PostgresLabels) -> Vec<String> {
    let all = [
        (TABLES, &labels.exclude_tables),
        (ROWS, &labels.exclude_table_data),
    ];
    all.into_iter()
        .flat_map(|(label, patterns)| patterns.iter().map(move |pattern| (label, pattern)))
        .enumerate()
        .map(|(at, (label, pattern))| row(at, label, pattern))
        .collect()
}

fn row(at: usize, label: &str, pattern: &str) -> String {
    let mut parts = regular_expressions(pattern);
    let name = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    format!(
        "({at}, {}, {}, {}::text, {})",
        quote_literal(label),
        quote_literal(pattern),
        schema.map_or("NULL".to_owned(), |schema| quote_literal(&schema)),
        quote_literal(&name)
    )
}

/// A pattern's parts between its dots.
fn regular_expressions(pattern: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut is_quoted = false;
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        let next = chars.peek().copied();
        match char {
            '.' if !is_quoted => parts.push(std::mem::take(&mut part)),
            '"' if is_quoted && next == Some('"') => {
                part.push('"');
                chars.next();
            }
            '"' => is_quoted = !is_quoted,
            // Always: a dollar may stand in names without quotes.
            '$' => part.push_str("\\$"),
            '*' if !is_quoted => part.push_str(".*"),
            '?' if !is_quoted => part.push('.'),
            // Nobody means an empty set.
            '[' if !is_quoted && next == Some(']') => part.push_str("\\["),
            _ if !is_quoted => part.push(char.to_ascii_lowercase()),
            _ => {
                if "|*+?()[]{}.^\\".contains(char) {
                    part.push('\\');
                }
                part.push(char);
            }
        }
    }
    parts.push(part);
    parts.iter().map(|part| format!("^({part})$")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_psql_reads_them() {
        for (pattern, expected) in [
            ("tmp_*", &["^(tmp_.*)$"][..]),
            ("Audit.Log?", &["^(audit)$", "^(log.)$"]),
            (r#""Odd Schema".*"#, &["^(Odd Schema)$", "^(.*)$"]),
            (r#""a.b""*""#, &[r#"^(a\.b"\*)$"#]),
            ("part_[0-9]+", &["^(part_[0-9]+)$"]),
            ("a$b[]", &[r"^(a\$b\[])$"]),
            (
                "shop.public.goods",
                &["^(shop)$", "^(public)$", "^(goods)$"],
            ),
        ] {
            assert_eq!(regular_expressions(pattern), expected, "{pattern}");
        }
    }
}
