//! Who granted a membership in a role, on a server that asks for it.
//!
//! Since PostgreSQL 16 whoever grants a role needs ADMIN OPTION on it, but for the superuser that the server was made with.
//! `pg_dumpall` names the grantor of every membership, so a script names that superuser of the server that was saved, who may
//! be an ordinary role here, and earlier versions name anybody. What such a role cannot grant here, this server's own first
//! superuser grants.
//!
//! Source: <https://www.postgresql.org/docs/16/sql-grant.html#SQL-GRANT-DESCRIPTION-ROLES>

use std::collections::BTreeSet;

use super::sql::{Statement, quote_ident};

/// What decides who may grant.
#[derive(Clone, Debug, Default)]
pub(super) struct Grantors {
    policy: Policy,
    /// Roles, and who holds ADMIN OPTION on them.
    admins: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Policy {
    /// Everybody can be named.
    #[default]
    Anybody,
    /// Who has ADMIN OPTION, and this role.
    AdminsAnd(String),
    /// Only superusers name others.
    Nobody,
}

impl Grantors {
    /// `admins`: what the server has already.
    pub fn new(policy: Policy, admins: BTreeSet<(String, String)>) -> Self {
        Self { policy, admins }
    }

    /// The text of a membership's grant, by somebody who can give it here. Asked in the order of the script: what was granted
    /// before counts.
    pub fn attributed(&mut self, statement: &Statement<'_>) -> String {
        let text = statement.text.to_owned();
        let Some(grant) = Membership::of(statement) else {
            return text;
        };
        if grant.has_admin_option {
            let admin = (grant.role.to_owned(), grant.member.to_owned());
            self.admins.insert(admin);
        }
        let (Some(granted), Some(grantor)) = (grant.granted_by, grant.grantor) else {
            return text;
        };
        let without = statement.text[..statement.tokens[granted].start].trim_end();
        match &self.policy {
            Policy::Anybody => text,
            Policy::Nobody => without.to_owned(),
            Policy::AdminsAnd(first) => {
                let is_admin = self
                    .admins
                    .contains(&(grant.role.to_owned(), grantor.to_owned()));
                if is_admin || grantor == first {
                    text
                } else {
                    format!("{without} GRANTED BY {}", quote_ident(first))
                }
            }
        }
    }
}

/// `GRANT role TO member [WITH ADMIN OPTION, …] [GRANTED BY grantor]`
struct Membership<'a> {
    role: &'a str,
    member: &'a str,
    has_admin_option: bool,
    /// The index of the word.
    granted_by: Option<usize>,
    grantor: Option<&'a str>,
}

impl<'a> Membership<'a> {
    fn of(statement: &'a Statement<'_>) -> Option<Self> {
        let to = statement.after(&["to"])?;
        let is_membership =
            statement.begins_with(&["grant"]) && to == 3 && statement.after(&["on"]).is_none();
        if !is_membership {
            return None;
        }
        let by = statement.after(&["granted", "by"]);
        Some(Self {
            role: statement.name_at(1)?,
            member: statement.name_at(to)?,
            has_admin_option: statement.after(&["admin", "option"]).is_some()
                || statement.after(&["admin", "true"]).is_some(),
            granted_by: by.map(|by| by - 2),
            grantor: by.and_then(|by| statement.name_at(by)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::statements;
    use super::*;

    fn attributed(policy: Policy, script: &str) -> String {
        let admins = BTreeSet::from([("known".to_owned(), "keeper".to_owned())]);
        let mut grantors = Grantors::new(policy, admins);
        let statements = statements(script).unwrap();
        let texts = statements
            .iter()
            .map(|statement| grantors.attributed(statement));
        texts.collect::<Vec<_>>().join(";\n")
    }

    const SCRIPT: &str = r#"
GRANT grp TO ada WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;
GRANT grp TO bob WITH INHERIT TRUE GRANTED BY ada;
GRANT grp TO eve WITH INHERIT TRUE GRANTED BY bob;
GRANT known TO eve GRANTED BY keeper;
GRANT other TO eve GRANTED BY "the boss";
GRANT other TO eve;
GRANT SET ON PARAMETER work_mem TO eve;
"#;

    #[test]
    fn who_cannot_grant_here_is_replaced_by_who_can() {
        let policy = Policy::AdminsAnd("the boss".to_owned());
        insta::assert_snapshot!(attributed(policy, SCRIPT), @r#"
        GRANT grp TO ada WITH ADMIN OPTION, INHERIT FALSE GRANTED BY "the boss";
        GRANT grp TO bob WITH INHERIT TRUE GRANTED BY ada;
        GRANT grp TO eve WITH INHERIT TRUE GRANTED BY "the boss";
        GRANT known TO eve GRANTED BY keeper;
        GRANT other TO eve GRANTED BY "the boss";
        GRANT other TO eve;
        GRANT SET ON PARAMETER work_mem TO eve
        "#);
    }

    #[test]
    fn who_is_no_superuser_grants_in_no_other_name() {
        insta::assert_snapshot!(attributed(Policy::Nobody, SCRIPT), @r#"
        GRANT grp TO ada WITH ADMIN OPTION, INHERIT FALSE;
        GRANT grp TO bob WITH INHERIT TRUE;
        GRANT grp TO eve WITH INHERIT TRUE;
        GRANT known TO eve;
        GRANT other TO eve;
        GRANT other TO eve;
        GRANT SET ON PARAMETER work_mem TO eve
        "#);
    }

    #[test]
    fn before_16_everybody_stays() {
        let text = attributed(Policy::Anybody, SCRIPT);
        assert_eq!(text.trim(), SCRIPT.trim().trim_end_matches(';'));
    }
}
