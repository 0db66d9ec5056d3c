//! The script of users and grants: what the server says of accounts, as orders of a line each. Pure.
//!
//! Names come from outside: somebody may call a routine so that its grant looks like two. So the server's answers are taken
//! apart by their quotes, and what holds a line break is left out.

use serde::{Deserialize, Serialize};

/// Before the orders of an account, followed by [`Account`] as JSON.
const HEADER: &str = "-- account ";

/// An account, or a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    pub user: String,
    /// Empty for a role of MariaDB's.
    pub host: String,
}

impl Account {
    /// As orders name it.
    pub fn quoted(&self) -> String {
        let quote = super::sql::quote_literal;
        match self.host.as_str() {
            "" => quote(&self.user),
            host => format!("{}@{}", quote(&self.user), quote(host)),
        }
    }

    /// For people.
    pub fn told(&self) -> String {
        match self.host.as_str() {
            "" => self.user.clone(),
            host => format!("{}@{host}", self.user),
        }
    }

    pub fn can_be_written(&self) -> bool {
        !(self.user.contains(char::is_control) || self.host.contains(char::is_control))
    }
}

/// Orders that concern one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub account: Account,
    pub orders: Vec<String>,
}

/// The lines of an answer, but for line breaks within quotes.
pub fn statements(answer: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut is_escaped = false;
    for character in answer.chars() {
        match (quote, character) {
            (None, '\n') => {
                statements.push(String::new());
                continue;
            }
            (None, '`' | '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character && !is_escaped => quote = None,
            _ => {}
        }
        is_escaped = quote == Some('\'') && character == '\\' && !is_escaped;
        if let Some(last) = statements.last_mut() {
            last.push(character);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

/// The text of sections. Whoever reads it by hand knows what follows what.
pub fn written(sections: &[Section]) -> String {
    let mut script = String::new();
    for section in sections {
        let account = serde_json::to_string(&section.account).unwrap_or_default();
        script.push_str(&format!("\n{HEADER}{account}\n"));
        for order in &section.orders {
            script.push_str(order);
            script.push_str(";\n");
        }
    }
    script
}

/// The way back.
pub fn read(script: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for line in script.lines() {
        if let Some(account) = line.strip_prefix(HEADER) {
            sections.push(Section {
                account: serde_json::from_str(account)
                    .map_err(|error| format!("it contains a malformed account name: {error}"))?,
                orders: Vec::new(),
            });
        } else if let (Some(order), Some(section)) = (line.strip_suffix(';'), sections.last_mut())
            && !line.starts_with("--")
        {
            section.orders.push(order.to_owned());
        }
    }
    Ok(sections)
}

/// The two orders that grant something on a table that is not there yet. `None`: they would not help.
pub fn before_its_table(grant: &str, account: &Account) -> Option<[String; 2]> {
    let rest = grant.strip_prefix("GRANT ")?;
    let (privileges, object) = rest.split_once(" ON ")?;
    if privileges.contains('(') || object.starts_with(['P', 'F']) {
        return None;
    }
    let (object, _) = object.rsplit_once(" TO ")?;
    Some([
        format!("GRANT CREATE, {rest}"),
        format!("REVOKE CREATE ON {object} FROM {}", account.quoted()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(user: &str, host: &str) -> Account {
        Account {
            user: user.to_owned(),
            host: host.to_owned(),
        }
    }

    #[test]
    fn a_name_cannot_look_like_another_grant() {
        let answer = "GRANT USAGE ON *.* TO `app`@`%`\n\
            GRANT EXECUTE ON PROCEDURE `shop`.`p`` x\nGRANT ALL PRIVILEGES ON *.* TO app; -- ` TO `app`@`%`\n\
            CREATE USER `a` COMMENT 'it\\'s\n`'\n";
        let found = statements(answer);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].starts_with("GRANT EXECUTE") && found[1].contains('\n'));
        assert!(found[2].starts_with("CREATE USER"));
    }

    #[test]
    fn a_grant_on_a_table_needs_no_table() {
        let app = account("app", "%");
        assert_eq!(
            before_its_table("GRANT SELECT, INSERT ON `shop`.`t` TO `app`@`%`", &app).unwrap(),
            [
                "GRANT CREATE, SELECT, INSERT ON `shop`.`t` TO `app`@`%`",
                "REVOKE CREATE ON `shop`.`t` FROM 'app'@'%'"
            ]
        );
        for other in [
            "GRANT SELECT (`id`) ON `shop`.`t` TO `app`@`%`",
            "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `app`@`%`",
            "GRANT `reader` TO `app`@`%`",
        ] {
            assert_eq!(before_its_table(other, &app), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn sections_read_back(user in "[^\0-\x1f\x7f\u{80}-\u{9f}]{1,20}", host in "[a-z%.]{0,9}", order in "[A-Z `']{1,30}") {
            let sections = vec![
                Section { account: account(&user, &host), orders: vec![format!("GRANT {order}")] },
                Section { account: account("other", "%"), orders: Vec::new() },
            ];
            prop_assert_eq!(read(&written(&sections)).unwrap(), sections);
        }
    }
}
