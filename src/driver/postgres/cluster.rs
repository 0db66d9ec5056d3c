//! How the databases of a script take the places of those that a server has.
//!
//! A script of `pg_dumpall` makes databases under the names that they had, `postgres` and `template1` among them. So those of
//! the same names are renamed away first, all of them, and orders are given from a database of our own, the seat, which is
//! there as long as anything is left to do. Its comment says what was there before: so whoever finds it can finish or undo the
//! restore, though all other databases may be gone by name. Databases that the script does not hold stay as they are.
//!
//! | the seat | its comment | commit | rollback |
//! | --- | --- | --- | --- |
//! | – | – | nothing begun, or all done | the same |
//! | yes | – | error | drop the seat |
//! | yes | loading | error | old ones back, what the script made dropped, then the seat |
//! | yes | loaded | give up the old ones, then drop the seat | the same |
//!
//! While the script runs, whoever comes meets databases that are not whole: what uses them ought to be stopped.

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::names::seat;
use super::obstacles::Obstacles;
use super::server::{Server, Transaction};
use super::sql::{quote_ident, quote_literal};
use super::state::Door;
use super::swap::Swap;
use crate::driver::{DriverError, OldDatabase};
use crate::target::RunId;

/// What the seat's comment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Exchange {
    progress: Progress,
    databases: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Progress {
    Loading,
    Loaded,
}

/// A name that the script makes a database of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    name: String,
    was: Before,
}

/// What had the name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Before {
    Open,
    Closed,
    Absent,
}

/// The restore of a whole server.
pub(super) struct Cluster<'a> {
    server: &'a Server,
    run: &'a RunId,
    /// The server, with orders given from the seat.
    seated: Server,
}

impl<'a> Cluster<'a> {
    pub fn new(server: &'a Server, run: &'a RunId) -> Self {
        Self {
            server,
            run,
            seated: server.seated_in(&seat(run)),
        }
    }

    pub fn seated(&self) -> &Server {
        &self.seated
    }

    /// Renames away what the server has of these databases.
    pub async fn make_way(
        &self,
        databases: &[String],
        old: OldDatabase,
    ) -> Result<(), DriverError> {
        let present = self.server.databases(self.server.maintenance_db()).await?;
        for name in databases {
            let obstacles = Obstacles::of(self.server, self.server.maintenance_db(), name).await?;
            obstacles.ensure_none(name)?;
        }
        let place = |name: &String| Place {
            name: name.clone(),
            was: match present.iter().find(|found| found.name == *name) {
                Some(found) if found.allows_connections => Before::Open,
                Some(_) => Before::Closed,
                None => Before::Absent,
            },
        };
        let exchange = Exchange {
            progress: Progress::Loading,
            databases: databases.iter().map(place).collect(),
        };
        let create = format!(
            "CREATE DATABASE {} TEMPLATE template0",
            quote_ident(self.seated.maintenance_db())
        );
        let maintenance_db = self.server.maintenance_db();
        self.server.execute(maintenance_db, &[&create]).await?;
        self.write(&exchange).await?;
        for place in &exchange.databases {
            match place.was {
                Before::Absent => {}
                Before::Open => self.swap(place).set_aside(Door::Open, old).await?,
                Before::Closed => self.swap(place).set_aside(Door::Closed, old).await?,
            }
        }
        self.put_what_the_script_drops(databases).await
    }

    /// The script drops these two, and what it says before that fails where they are not there. They are closed: it can drop
    /// nothing that somebody is in.
    async fn put_what_the_script_drops(&self, databases: &[String]) -> Result<(), DriverError> {
        let dropped = ["template1", "postgres"].into_iter();
        let dropped = dropped.filter(|dropped| databases.iter().any(|name| name == dropped));
        let orders: Vec<String> = dropped
            .map(|name| {
                format!("CREATE DATABASE {name} TEMPLATE template0 ALLOW_CONNECTIONS false")
            })
            .collect();
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        self.seated
            .execute(self.seated.maintenance_db(), &orders)
            .await
    }

    /// Notes that the script has come to its end. The server has everything on disk when this returns.
    pub async fn mark_loaded(&self) -> Result<(), DriverError> {
        match self.read().await? {
            Found::Exchange(exchange) => {
                let progress = Progress::Loaded;
                self.write(&Exchange {
                    progress,
                    ..exchange
                })
                .await
            }
            Found::Seat | Found::Nothing => Err(self.unknown()),
        }
    }

    /// Gives up the old databases. Idempotent. What is left to do by hand.
    pub async fn commit(&self) -> Result<Vec<String>, DriverError> {
        let exchange = match self.read().await? {
            Found::Nothing => return Ok(Vec::new()),
            Found::Exchange(exchange) if exchange.progress == Progress::Loaded => exchange,
            Found::Exchange(_) | Found::Seat => {
                return Err(DriverError::failed(
                    "the restored databases cannot be put in place: their load was never completed",
                ));
            }
        };
        let mut left = Vec::new();
        for place in &exchange.databases {
            left.extend(self.swap(place).commit().await?);
        }
        self.leave().await?;
        Ok(left)
    }

    /// Puts the old databases back into their places. Idempotent.
    pub async fn roll_back(&self) -> Result<(), DriverError> {
        let databases = match self.read().await? {
            Found::Nothing => return Ok(()),
            Found::Seat => Vec::new(),
            Found::Exchange(exchange) => exchange.databases,
        };
        for place in &databases {
            let swap = self.swap(place);
            match place.was {
                Before::Absent => swap.remove().await?,
                Before::Closed => swap.roll_back().await.map(drop)?,
                Before::Open => {
                    let back = swap.roll_back().await?;
                    // It was closed, and has not been renamed.
                    if back.database == Some(Door::Closed) {
                        swap.open().await?;
                    }
                }
            }
        }
        self.leave().await
    }

    fn swap(&self, place: &Place) -> Swap<'_> {
        Swap::new(&self.seated, &place.name, self.run)
    }

    /// A database that lets us in, whatever has lost its name. What a client that was given up still does is ended: it might
    /// make the seat only now.
    async fn somewhere(&self) -> Result<String, DriverError> {
        let usual = self.server.maintenance_db();
        let mut first = None;
        for name in [usual, self.seated.maintenance_db(), "template1", "postgres"] {
            let listed = self.server.execute_and_list(name, &[]).await;
            match listed.map(|listed| listed.map_err(|refusal| self.server.error_of(refusal))) {
                Ok(Ok(_)) => return Ok(name.to_owned()),
                Ok(Err(error)) | Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| self.unknown()))
    }

    async fn read(&self) -> Result<Found, DriverError> {
        #[derive(Deserialize)]
        struct Answer {
            comment: Option<String>,
        }
        let seat = self.seated.maintenance_db();
        let query = format!(
            "SELECT pg_catalog.shobj_description(oid, 'pg_database') AS comment FROM pg_catalog.pg_database WHERE datname = {}",
            quote_literal(seat)
        );
        let within = self.somewhere().await?;
        let mut answers: Vec<Answer> = self.server.query(&within, &query).await?;
        match answers.pop() {
            None => Ok(Found::Nothing),
            Some(Answer { comment: None }) => Ok(Found::Seat),
            Some(Answer {
                comment: Some(text),
            }) => serde_json::from_str(&text)
                .map(Found::Exchange)
                .map_err(|error| {
                    debug!("{text}: {error}");
                    self.unknown()
                }),
        }
    }

    /// By standard input: a server may have many databases.
    async fn write(&self, exchange: &Exchange) -> Result<(), DriverError> {
        let text = serde_json::to_string(exchange).expect("it has only string keys");
        let name = self.seated.maintenance_db();
        let order = format!(
            "COMMENT ON DATABASE {} IS {};",
            quote_ident(name),
            quote_literal(&text)
        );
        self.seated
            .run_script(name, order.into_bytes(), Transaction::Each)
            .await
    }

    /// Drops the seat, from any other database.
    async fn leave(&self) -> Result<(), DriverError> {
        let seat = self.seated.maintenance_db();
        let databases = self.seated.databases(seat).await?;
        let is_there = |name: &str| {
            let mut open = databases.iter().filter(|found| found.allows_connections);
            open.any(|found| found.name == name)
        };
        let usual = [self.server.maintenance_db(), "postgres", "template1"];
        let elsewhere = usual
            .into_iter()
            .chain(databases.iter().map(|found| found.name.as_str()))
            .find(|name| *name != seat && is_there(name))
            .ok_or_else(|| DriverError::failed("the server has no other database to connect to"))?;
        let server = self.server.seated_in(elsewhere);
        Swap::new(&server, seat, self.run).drop_database().await
    }

    fn unknown(&self) -> DriverError {
        let seat = self.seated.maintenance_db();
        DriverError::failed_with_hint(
            format!(
                "the comment of database {seat} does not say what was there before the restore"
            ),
            format!(
                "rename the databases that end in _{} back by hand, then: DROP DATABASE {}",
                self.run.short(),
                quote_ident(seat)
            ),
        )
    }
}

enum Found {
    Nothing,
    /// Nothing has been moved yet.
    Seat,
    Exchange(Exchange),
}
