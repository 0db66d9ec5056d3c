//! Privileges on single routines. The server takes them away when a routine is dropped, also when it is made again.

use serde::Deserialize;
use tracing::debug;

use super::holdings::{Holdings, RoutineKind};
use super::server::Server;
use super::sql::{quote_literal, quote_table};

#[derive(Deserialize)]
struct Granted {
    user: String,
    /// Empty for a role of MariaDB's.
    host: String,
    routine: String,
    kind: RoutineKind,
    /// `Execute,Alter Routine,Grant`
    privileges: String,
}

/// Orders that grant again what users may do with routines of `database`, for those that are in `holdings`. Who may not look
/// into the server's own tables cannot grant either.
pub async fn grants_on_routines(server: &Server, database: &str, holdings: &Holdings) -> Vec<u8> {
    if holdings.routines.is_empty() {
        return Vec::new();
    }
    let query = format!(
        "SELECT JSON_OBJECT('user', CONVERT(User USING utf8mb4), 'host', CONVERT(Host USING utf8mb4), \
            'routine', CONVERT(Routine_name USING utf8mb4), 'kind', CONVERT(Routine_type USING utf8mb4), \
            'privileges', CONVERT(Proc_priv USING utf8mb4)) \
         FROM mysql.procs_priv WHERE Db = {}",
        quote_literal(database)
    );
    let granted: Vec<Granted> = match server.query(&query).await {
        Ok(granted) => granted,
        Err(error) => {
            debug!("could not read the privileges on routines: {error}");
            return Vec::new();
        }
    };
    let is_there = |granted: &&Granted| {
        holdings.routines.iter().any(|routine| {
            routine.kind == granted.kind
                && routine.name.to_lowercase() == granted.routine.to_lowercase()
        })
    };
    let orders = granted.iter().filter(is_there);
    orders
        .filter_map(|granted| granted.order(database))
        .collect::<String>()
        .into_bytes()
}

impl Granted {
    fn order(&self, database: &str) -> Option<String> {
        let named: Vec<&str> = self.privileges.split(',').collect();
        let privileges: Vec<&str> = [("Execute", "EXECUTE"), ("Alter Routine", "ALTER ROUTINE")]
            .iter()
            .filter(|(shown, _)| named.contains(shown))
            .map(|(_, privilege)| *privilege)
            .collect();
        if privileges.is_empty() {
            return None;
        }
        let host = match self.host.as_str() {
            "" => String::new(),
            host => format!("@{}", quote_literal(host)),
        };
        Some(format!(
            "GRANT {} ON {} {} TO {}{host}{};\n",
            privileges.join(", "),
            self.kind.sql(),
            quote_table(database, &self.routine),
            quote_literal(&self.user),
            if named.contains(&"Grant") {
                " WITH GRANT OPTION"
            } else {
                ""
            }
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_become_orders() {
        let granted = |privileges: &str, host: &str| Granted {
            user: "it's".to_owned(),
            host: host.to_owned(),
            routine: "a`b".to_owned(),
            kind: RoutineKind::Function,
            privileges: privileges.to_owned(),
        };
        assert_eq!(
            granted("Execute,Alter Routine,Grant", "%")
                .order("shop")
                .unwrap(),
            "GRANT EXECUTE, ALTER ROUTINE ON FUNCTION `shop`.`a``b` TO 'it''s'@'%' WITH GRANT OPTION;\n"
        );
        assert_eq!(
            granted("Execute", "").order("shop").unwrap(),
            "GRANT EXECUTE ON FUNCTION `shop`.`a``b` TO 'it''s';\n"
        );
        assert_eq!(granted("", "%").order("shop"), None);
    }
}
