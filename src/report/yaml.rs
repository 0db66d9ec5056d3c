//! Text as YAML that Compose reads. Only what needs no quotes in any version of YAML goes without.

/// Words that older versions of YAML read as something else than text.
const WORDS: [&str; 10] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "none",
];

/// A scalar, which is this text.
pub fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// The same for a value in which Compose puts variables in the place of `$NAME`.
pub fn value(text: &str) -> String {
    scalar(&text.replace('$', "$$"))
}

fn is_plain(text: &str) -> bool {
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-,=".contains(&byte);
    begins_well && !is_word && text.bytes().all(plain)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\'' => quoted.push(char),
            // What would not be seen, or would drive a terminal.
            _ if char.escape_debug().len() > 1 => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(char)));
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use saphyr::{LoadableYamlNode, Yaml};

    use super::*;

    #[test]
    fn quotes_stand_where_they_are_needed() {
        for (text, expected) in [
            ("uploads", "uploads"),
            ("backup,restore", "backup,restore"),
            ("/srv/up-loads", "/srv/up-loads"),
            ("cofferdam.volumes", "cofferdam.volumes"),
            ("daily=7,weekly=4", "daily=7,weekly=4"),
            ("*", "\"*\""),
            ("true", "\"true\""),
            ("No", "\"No\""),
            ("12", "\"12\""),
            ("", "\"\""),
            ("-", "\"-\""),
            ("a b", "\"a b\""),
            ("a: b # c", "\"a: b # c\""),
            ("say \"it's\" \\", "\"say \\\"it's\\\" \\\\\""),
            (
                "a\nb\u{1b}[2J\u{202e}",
                "\"a\\nb\\U0000001B[2J\\U0000202E\"",
            ),
            ("größe", "\"größe\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
        assert_eq!(value("$HOME"), "\"$$HOME\"");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(key in any::<String>(), text in any::<String>()) {
            let line = format!("{}: {}", scalar(&key), scalar(&text));
            let documents = Yaml::load_from_str(&line).unwrap();
            let map = documents[0].as_mapping().unwrap();
            let (read_key, read) = map.iter().next().unwrap();
            prop_assert_eq!(read_key.as_str(), Some(key.as_str()));
            prop_assert_eq!(read.as_str(), Some(text.as_str()));
        }
    }
}
