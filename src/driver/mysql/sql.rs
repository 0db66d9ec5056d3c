//! SQL as text: quoting what goes out. Names come from outside and may hold anything but NUL.

/// A name as an identifier.
pub fn quote_ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table of a database.
pub fn quote_table(database: &str, table: &str) -> String {
    format!("{}.{}", quote_ident(database), quote_ident(table))
}

/// A text as a string constant, for sessions of ours: their `sql_mode` is empty, so that a backslash escapes.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `'a', 'b'`
pub fn literals(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote_literal(text)).collect();
    quoted.join(", ")
}

/// Bytes as a constant, whatever they are.
pub fn hex_literal(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "''".to_owned();
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("0x{digits}")
}

/// The way back from what `HEX()` prints.
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Whether a character set's or a collation's name can be one: these are never quoted.
pub fn is_plain_word(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a name matches a pattern in which `*` stands for any characters and `?` for one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last `*` stands, and what of the name it has not yet taken.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&character) if character == '?' || character == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((before, taken)) => {
                    star = Some((before, taken + 1));
                    at = before + 1;
                    in_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_table("a`b", "c.d"), "`a``b`.`c.d`");
        assert_eq!(quote_literal(r"it's a \ text"), r"'it''s a \\ text'");
        assert_eq!(hex_literal(b"\x00\xff"), "0x00FF");
        assert_eq!(hex_literal(b""), "''");
        for (name, plain) in [
            ("utf8mb4_0900_ai_ci", true),
            ("", false),
            ("utf8; DROP", false),
        ] {
            assert_eq!(is_plain_word(name), plain, "{name}");
        }
    }

    #[test]
    fn patterns_take_what_they_say() {
        for (pattern, name, expected) in [
            ("jobs", "jobs", true),
            ("jobs", "failed_jobs", false),
            ("*jobs", "failed_jobs", true),
            ("*", "", true),
            ("tmp_*", "tmp_", true),
            ("t?p", "tüp", true),
            ("t?p", "tp", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXcXb", false),
            ("[a]", "a", false),
            ("[a]", "[a]", true),
            ("Jobs", "jobs", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn hex_reads_back(bytes: Vec<u8>) {
            let literal = hex_literal(&bytes);
            let digits = literal.strip_prefix("0x").unwrap_or("");
            prop_assert_eq!(from_hex(digits), Some(bytes));
        }

        #[test]
        fn what_is_not_hex_is_refused_and_never_a_panic(text in ".{0,9}") {
            if let Some(bytes) = from_hex(&text) {
                prop_assert_eq!(bytes.len() * 2, text.len());
            }
        }

        #[test]
        fn a_quoted_name_has_no_way_out(name in "[^\0]{1,40}") {
            let quoted = quote_ident(&name);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(inner.replace("``", "").contains('`'), false);
        }
    }
}
