//! The SELECT with which the dump clients read a table's rows. Pure.
//!
//! It is `SELECT /*!40001 SQL_NO_CACHE */ * FROM `table` …`, or with names of columns in place of the star.

use crate::agent::job::{SelectedColumn, Selects};

const BEGINNING: &[u8] = b"SELECT /*!40001 SQL_NO_CACHE */ ";
const FROM: &[u8] = b" FROM ";
/// What may stand before the statement: the command's number, and with newer clients the counts of attributes, of which
/// there are none. See <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html>.
const PREFIXES: [&[u8]; 2] = [b"\x03", b"\x03\x00\x01"];

#[derive(Debug, PartialEq, Eq)]
pub struct Replaced {
    pub table: String,
    pub payload: Vec<u8>,
}

/// The same command with other expressions for some columns; `None` when it is none of those, or not as it is known here.
pub fn replaced(payload: &[u8], selects: &Selects) -> Option<Replaced> {
    let (prefix, statement) = PREFIXES.iter().find_map(|prefix| {
        let statement = payload.strip_prefix(*prefix)?;
        let rest = statement.strip_prefix(BEGINNING)?;
        Some((*prefix, rest))
    })?;
    let (names, rest) = match statement.strip_prefix(b"*") {
        Some(rest) => (None, rest),
        None => names(statement).map(|(names, rest)| (Some(names), rest))?,
    };
    let (table, _) = name(rest.strip_prefix(FROM)?)?;
    let columns = selects.get(&table)?;
    let list = match names {
        None => star(columns),
        Some(names) => named(&names, columns)?,
    };
    Some(Replaced {
        payload: [prefix, BEGINNING, list.join(", ").as_bytes(), rest].concat(),
        table,
    })
}

/// What a star stands for.
fn star(columns: &[SelectedColumn]) -> Vec<String> {
    let seen = columns.iter().filter(|column| !column.is_hidden);
    seen.map(written).collect()
}

/// A name that is not known may be one of these columns by now.
fn named(names: &[String], columns: &[SelectedColumn]) -> Option<Vec<String>> {
    let of = |name: &String| columns.iter().find(|column| column.name == *name);
    names.iter().map(|name| of(name).map(written)).collect()
}

fn written(column: &SelectedColumn) -> String {
    let name = format!("`{}`", column.name.replace('`', "``"));
    match &column.expression {
        None => name,
        Some(expression) => format!("{expression} AS {name}"),
    }
}

/// `` `a`, `b` `` and what follows.
fn names(mut text: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let mut names = Vec::new();
    loop {
        let (found, rest) = name(text)?;
        names.push(found);
        match rest.strip_prefix(b",") {
            None => return Some((names, rest)),
            Some(rest) => text = rest.trim_ascii_start(),
        }
    }
}

/// `` `a``b` `` and what follows.
fn name(text: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = text.strip_prefix(b"`")?;
    let mut bytes = Vec::new();
    loop {
        let end = rest.iter().position(|&byte| byte == b'`')?;
        bytes.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"`") {
            None => break,
            Some(after) => {
                bytes.push(b'`');
                rest = after;
            }
        }
    }
    Some((String::from_utf8(bytes).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(name: &str, expression: Option<&str>, is_hidden: bool) -> SelectedColumn {
        SelectedColumn {
            name: name.to_owned(),
            expression: expression.map(str::to_owned),
            is_hidden,
        }
    }

    fn selects() -> Selects {
        Selects::from([(
            "t`, x FROM `".to_owned(),
            vec![
                column("id", None, false),
                column("a`b, c", Some("CONCAT(v)"), false),
                column("hidden", Some("CONCAT(h)"), true),
            ],
        )])
    }

    fn statement(text: &str) -> Option<String> {
        let payload = [b"\x03", BEGINNING, text.as_bytes()].concat();
        let replaced = replaced(&payload, &selects())?;
        let text = replaced.payload.strip_prefix(b"\x03")?;
        let text = text.strip_prefix(BEGINNING)?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    const TABLE: &str = "`t``, x FROM ```";

    #[test]
    fn columns_are_replaced_where_they_stand() {
        for (list, expected) in [
            ("*", "`id`, CONCAT(v) AS `a``b, c`"),
            (
                "`hidden`,`a``b, c`",
                "CONCAT(h) AS `hidden`, CONCAT(v) AS `a``b, c`",
            ),
            ("`id`", "`id`"),
        ] {
            assert_eq!(
                statement(&format!("{list} FROM {TABLE} FOR SYSTEM_TIME ALL")).unwrap(),
                format!("{expected} FROM {TABLE} FOR SYSTEM_TIME ALL")
            );
        }
    }

    #[test]
    fn what_is_not_known_goes_through() {
        for text in [
            "* FROM `other`",
            "`new column` FROM `t``, x FROM ```",
            "`id` FROM",
            "`id",
            "COUNT(*) FROM `t``, x FROM ```",
            "",
        ] {
            assert_eq!(statement(text), None, "{text}");
        }
    }

    #[test]
    fn a_statement_with_counts_of_attributes_keeps_them() {
        let head = [b"\x03\x00\x01", BEGINNING].concat();
        let payload = [&head, b"* FROM ".as_slice(), TABLE.as_bytes()].concat();
        let replaced = replaced(&payload, &selects()).unwrap();
        assert_eq!(replaced.table, "t`, x FROM `");
        assert!(replaced.payload.starts_with(&head));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(text: Vec<u8>) {
            let payload = [b"\x03".as_slice(), BEGINNING, &text].concat();
            replaced(&payload, &selects());
        }

        #[test]
        fn a_name_reads_back(text in "[^\0]{1,20}") {
            let quoted = format!("`{}` rest", text.replace('`', "``"));
            let (read, rest) = name(quoted.as_bytes()).unwrap();
            prop_assert_eq!((read, rest), (text, b" rest".as_slice()));
        }
    }
}
