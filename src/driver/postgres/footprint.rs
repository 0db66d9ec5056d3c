//! Whether a load into the present database has changed it.
//!
//! `pg_restore --clean` drops what it restores and creates it anew: a load that was committed leaves other rows in the catalogs.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::server::Server;
use super::sql::quote_literal;
use crate::driver::DriverError;

/// How long the sessions of clients that have failed are waited for.
const SESSION_LIMIT: Duration = Duration::from_secs(10);
const SESSION_PAUSE: Duration = Duration::from_millis(200);

/// What dumps can hold is in one of these. Large objects come back under their old OIDs, but in rows of another transaction.
const CATALOGS: [&str; 17] = [
    "cast",
    "class",
    "collation",
    "constraint",
    "event_trigger",
    "extension",
    "foreign_server",
    "largeobject_metadata",
    "namespace",
    "operator",
    "policy",
    "proc",
    "publication",
    "rewrite",
    "trigger",
    "ts_config",
    "type",
];

/// The objects of a database, at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint(String);

impl Footprint {
    pub async fn of(server: &Server, database: &str) -> Result<Self, DriverError> {
        #[derive(Deserialize)]
        struct Answer {
            digest: String,
        }
        // A sum, since there may be millions of large objects.
        let rows = CATALOGS.map(|catalog| {
            format!(
                "SELECT '{catalog} ' || oid || ' ' || xmin AS entry FROM pg_catalog.pg_{catalog}"
            )
        });
        let query = format!(
            "SELECT pg_catalog.count(*) || ' ' || \
                pg_catalog.sum(('x' || pg_catalog.substr(pg_catalog.md5(entry), 1, 15))::bit(60)::bigint) AS digest \
             FROM ({}) AS found",
            rows.join(" UNION ALL ")
        );
        let mut answers: Vec<Answer> = server.query(database, &query).await?;
        let answer = answers.pop().map(|answer| Self(answer.digest));
        answer.ok_or_else(|| DriverError::failed("the server did not answer"))
    }

    /// Whether everything is as it was, and stays so: no client of this run is left that may yet commit.
    pub async fn is_still_there(
        &self,
        server: &Server,
        database: &str,
    ) -> Result<bool, DriverError> {
        let deadline = Instant::now() + SESSION_LIMIT;
        while has_clients(server, database).await? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(SESSION_PAUSE).await;
        }
        Ok(Self::of(server, database).await? == *self)
    }
}

async fn has_clients(server: &Server, database: &str) -> Result<bool, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        found: bool,
    }
    let query = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pg_catalog.strpos(application_name, {}) = 1) AS found",
        quote_literal(&server.application_of_steps())
    );
    let answers: Vec<Answer> = server.query(database, &query).await?;
    Ok(answers.iter().any(|answer| answer.found))
}
