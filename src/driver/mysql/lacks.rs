//! What a restore does, and this driver's user may not.
//!
//! Its own privileges tell. Where they do not tell all, since there is a role or the server knows the user by another account,
//! everything counts as allowed: the restore will show.

use serde::Deserialize;

use super::names::Names;
use super::server::Server;
use super::sight::{has_role, of_user};
use super::sql::quote_literal;
use crate::driver::{DriverError, OldDatabase};

/// What a restore does, and the user may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// To make and drop the databases of a restore.
    pub databases: bool,
    /// To change settings of the whole server.
    pub settings: bool,
    /// To make what belongs to other users.
    pub definers: bool,
    pub users: bool,
    /// To see and move triggers everywhere; of one database it may.
    pub triggers: bool,
}

#[derive(Debug, Deserialize)]
struct Privilege {
    name: String,
    /// A database; `None`: everything.
    on: Option<String>,
}

pub async fn lacks(server: &Server, names: &Names) -> Result<Lacks, DriverError> {
    let made = [
        names.staged(),
        names.aside(OldDatabase::Drop),
        names.aside(OldDatabase::Keep),
    ];
    let of_user = of_user();
    let mut query = format!(
        "SELECT JSON_OBJECT('name', PRIVILEGE_TYPE) FROM information_schema.USER_PRIVILEGES WHERE {of_user}"
    );
    for name in &made {
        let name = quote_literal(name);
        query.push_str(&format!(
            "; SELECT JSON_OBJECT('name', PRIVILEGE_TYPE, 'on', {name}) FROM information_schema.SCHEMA_PRIVILEGES \
             WHERE {of_user} AND {name} LIKE TABLE_SCHEMA"
        ));
    }
    let granted: Vec<Privilege> = server.query(&query).await?;
    let lacks = Lacks::of(&granted, &made);
    if lacks != Lacks::default() && has_role(server).await {
        return Ok(Lacks::default());
    }
    Ok(lacks)
}

impl Lacks {
    fn of(granted: &[Privilege], made: &[String]) -> Self {
        let on_everything = |names: &[&str]| {
            let mut all = granted.iter().filter(|one| one.on.is_none());
            all.any(|one| names.contains(&&*one.name))
        };
        // Every account that the server knows has at least USAGE.
        if !granted.iter().any(|one| one.on.is_none()) {
            return Self::default();
        }
        let may_on = |privilege: &str, database: &String| {
            let mut all = granted.iter();
            all.any(|one| one.name == privilege && one.on.as_ref().is_none_or(|on| on == database))
        };
        Self {
            databases: !made
                .iter()
                .all(|name| may_on("CREATE", name) && may_on("DROP", name)),
            settings: !on_everything(&["SUPER", "SYSTEM_VARIABLES_ADMIN"]),
            definers: !on_everything(&["SUPER", "SET_USER_ID", "SET_ANY_DEFINER", "SET USER"]),
            users: !on_everything(&["CREATE USER"]),
            triggers: !on_everything(&["TRIGGER"]),
        }
    }

    pub fn doubt(self, database: &str) -> Option<String> {
        self.databases.then(|| {
            format!(
                "cofferdam.mysql.user may not create and drop other databases, as a restore of {database} does: set it to \
                 root, or grant it ALL ON *.*"
            )
        })
    }

    pub fn doubt_of_users(self) -> Option<String> {
        (self.users || self.databases).then(|| {
            "cofferdam.mysql.user may not create users, or the database in which a restore notes them, so it cannot restore \
             missing users: set it to root, or grant it ALL ON *.* WITH GRANT OPTION"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_lacks_is_known_by_its_privileges() {
        let made = ["shop_loading_1", "shop_before_1"].map(str::to_owned);
        let nothing = Lacks::default();
        let all = Lacks {
            databases: true,
            settings: true,
            definers: true,
            users: true,
            triggers: true,
        };
        let (loading, before) = (Some("shop_loading_1"), Some("shop_before_1"));
        for (granted, expected) in [
            (&[("USAGE", None)][..], all),
            // An account that the catalog has under another name.
            (&[("CREATE", loading)], nothing),
            (&[], nothing),
            (
                &[("USAGE", None), ("CREATE", loading), ("DROP", loading)],
                all,
            ),
            (
                &[
                    ("USAGE", None),
                    ("CREATE", loading),
                    ("DROP", loading),
                    ("CREATE", before),
                    ("DROP", before),
                ],
                Lacks {
                    databases: false,
                    ..all
                },
            ),
            (&[("CREATE", None), ("DROP", before)], all),
            (
                &[
                    ("CREATE", None),
                    ("DROP", None),
                    ("SYSTEM_VARIABLES_ADMIN", None),
                    ("SET_ANY_DEFINER", None),
                    ("CREATE USER", None),
                    ("TRIGGER", None),
                ],
                nothing,
            ),
            (
                &[("CREATE", None), ("DROP", None), ("SUPER", None)],
                Lacks {
                    users: true,
                    triggers: true,
                    ..nothing
                },
            ),
        ] {
            let granted: Vec<Privilege> = granted
                .iter()
                .map(|&(name, on): &(&str, Option<&str>)| Privilege {
                    name: name.to_owned(),
                    on: on.map(str::to_owned),
                })
                .collect();
            assert_eq!(Lacks::of(&granted, &made), expected, "{granted:?}");
        }
    }
}
