//! SQL as text: quoting what goes out, and splitting the scripts that PostgreSQL's own tools wrote.
//!
//! Names come from outside and may hold anything but NUL. Nothing here talks to a server.

/// A name as an identifier: always quoted, so that case, keywords and punctuation mean nothing.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a string constant that reads the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A script's bytes as text that can be taken apart: each byte is one character. Scripts are in any encoding, and names in them
/// in yet others; all that has a meaning in SQL is ASCII. [`bytes_of`] is the way back.
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Undoes [`text_of`].
pub fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| character as u32 as u8)
        .collect()
}

/// What [`text_of`] made of a name, for people.
pub fn shown(text: &str) -> String {
    String::from_utf8_lossy(&bytes_of(text)).into_owned()
}

/// A database's name as a connection string: the clients take a bare name that holds `=`, or that looks like a URI, for
/// a connection string of its own.
///
/// Source: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE>
pub fn connection_string(database: &str) -> String {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{quoted}'")
}

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// From its first token to its semicolon, without it.
    pub text: &'a str,
    pub tokens: Vec<Token>,
}

/// A token and where it lies in [`Statement::text`], in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A keyword, an unquoted identifier (folded to lower case, as the server does), or a number.
    Word(String),
    /// A quoted identifier without its quotes.
    Quoted(String),
    /// A string constant; its content is never looked at.
    Literal,
    Symbol(char),
}

impl Token {
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, TokenKind::Word(text) if text == word)
    }

    /// The name, when this token can be one.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Word(text) | TokenKind::Quoted(text) => Some(text),
            TokenKind::Literal | TokenKind::Symbol(_) => None,
        }
    }
}

impl Statement<'_> {
    /// Whether the statement begins with these keywords (lower case).
    pub fn begins_with(&self, words: &[&str]) -> bool {
        self.tokens.len() >= words.len()
            && self
                .tokens
                .iter()
                .zip(words)
                .all(|(token, word)| token.is_word(word))
    }

    /// Where the tokens hold this sequence of keywords for the first time: the index after it.
    pub fn after(&self, words: &[&str]) -> Option<usize> {
        self.tokens
            .windows(words.len())
            .position(|window| {
                window
                    .iter()
                    .zip(words)
                    .all(|(token, word)| token.is_word(word))
            })
            .map(|at| at + words.len())
    }

    pub fn name_at(&self, index: usize) -> Option<&str> {
        self.tokens.get(index)?.name()
    }
}

/// A script ends within a string, a quoted identifier or a comment: it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SQL script ends within {0}")]
pub struct Unterminated(&'static str);

/// Splits a script as psql does. Comments and psql's own commands (lines that begin with a backslash) are left out.
///
/// Strings are read as with `standard_conforming_strings = on`, which all scripts of pg_dump and pg_dumpall set.
pub fn statements(script: &str) -> Result<Vec<Statement<'_>>, Unterminated> {
    let mut statements = Vec::new();
    let mut scanner = Scanner {
        text: script,
        at: 0,
    };
    let mut start = None;
    let mut tokens: Vec<Token> = Vec::new();
    loop {
        scanner.skip_blanks_and_comments()?;
        let from = scanner.at;
        if start.is_none() && scanner.rest().starts_with('\\') {
            scanner.skip_line();
            continue;
        }
        let token = scanner.token()?;
        let ends = match &token {
            None | Some(TokenKind::Symbol(';')) => true,
            Some(_) => false,
        };
        if ends {
            if let Some(start) = start.take() {
                statements.push(Statement {
                    text: &script[start..from],
                    tokens: std::mem::take(&mut tokens),
                });
            }
            if token.is_none() {
                return Ok(statements);
            }
        } else if let Some(kind) = token {
            let start = *start.get_or_insert(from);
            tokens.push(Token {
                kind,
                start: from - start,
                end: scanner.at - start,
            });
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_line(&mut self) {
        self.at += self
            .rest()
            .find('\n')
            .map_or(self.rest().len(), |end| end + 1);
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), Unterminated> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
            self.at += blanks;
            if self.rest().starts_with("--") {
                self.skip_line();
            } else if self.rest().starts_with("/*") {
                self.skip_block_comment()?;
            } else if blanks == 0 {
                return Ok(());
            }
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) -> Result<(), Unterminated> {
        let mut depth = 0;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                let next = self
                    .rest()
                    .chars()
                    .next()
                    .ok_or(Unterminated("a comment"))?;
                self.at += next.len_utf8();
            }
        }
    }

    /// The next token; `None` at the end.
    fn token(&mut self) -> Result<Option<TokenKind>, Unterminated> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        if let Some(tag) = dollar_tag(rest) {
            let body = tag.len();
            let end = rest[body..]
                .find(tag)
                .ok_or(Unterminated("a dollar-quoted string"))?;
            self.at += body + end + tag.len();
            return Ok(Some(TokenKind::Literal));
        }
        Ok(Some(match first {
            '"' => {
                let length = quoted_length(rest, '"', Escapes::Doubled)
                    .ok_or(Unterminated("a quoted identifier"))?;
                let name = rest[1..length - 1].replace("\"\"", "\"");
                self.at += length;
                TokenKind::Quoted(name)
            }
            '\'' => {
                self.at +=
                    quoted_length(rest, '\'', Escapes::Doubled).ok_or(Unterminated("a string"))?;
                TokenKind::Literal
            }
            'e' | 'E' if rest[1..].starts_with('\'') => {
                self.at += 1 + quoted_length(&rest[1..], '\'', Escapes::Backslash)
                    .ok_or(Unterminated("a string"))?;
                TokenKind::Literal
            }
            _ if is_word(first) => {
                let length = rest.find(|next| !is_word(next)).unwrap_or(rest.len());
                let word = rest[..length].to_ascii_lowercase();
                self.at += length;
                TokenKind::Word(word)
            }
            symbol => {
                self.at += symbol.len_utf8();
                TokenKind::Symbol(symbol)
            }
        }))
    }
}

/// Beyond ASCII there are only letters.
fn is_blank(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\x0b'
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// `$$` or `$tag$` at the beginning of `text`.
fn dollar_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find('$')?;
    let tag = &inner[..end];
    let is_tag = tag.chars().all(|next| is_word(next) && next != '$')
        && !tag.starts_with(|first: char| first.is_ascii_digit());
    is_tag.then(|| &text[..end + 2])
}

#[derive(Clone, Copy)]
enum Escapes {
    Doubled,
    Backslash,
}

/// The length of a quoted run with both of its quotes; `text` begins with the first.
fn quoted_length(text: &str, quote: char, escapes: Escapes) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if matches!(escapes, Escapes::Backslash) && character == '\\' {
            characters.next()?;
        } else if character == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => {
                    characters.next();
                }
                _ => return Some(at + 1),
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_texts_are_quoted() {
        for (name, ident, literal, connection) in [
            (
                "clinical",
                r#""clinical""#,
                "'clinical'",
                "dbname='clinical'",
            ),
            (
                r#"we"ird 'n"#,
                r#""we""ird 'n""#,
                r#"'we"ird ''n'"#,
                r#"dbname='we"ird \'n'"#,
            ),
            (
                "dbname=x",
                r#""dbname=x""#,
                "'dbname=x'",
                "dbname='dbname=x'",
            ),
            (r"a\b", r#""a\b""#, r"E'a\\b'", r"dbname='a\\b'"),
            ("-x", r#""-x""#, "'-x'", "dbname='-x'"),
            (
                "two\nlines",
                "\"two\nlines\"",
                "'two\nlines'",
                "dbname='two\nlines'",
            ),
        ] {
            assert_eq!(quote_ident(name), ident);
            assert_eq!(quote_literal(name), literal);
            assert_eq!(connection_string(name), connection);
        }
    }

    fn texts(script: &str) -> Vec<&str> {
        let statements = statements(script).expect("a whole script");
        statements.iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn a_script_is_split_as_psql_splits_it() {
        for (script, expected) in [
            ("", vec![]),
            (";;", vec![]),
            ("SELECT 1; SELECT 2", vec!["SELECT 1", "SELECT 2"]),
            ("-- a; b\nSELECT 1;", vec!["SELECT 1"]),
            ("/* a; /* nested; */ b; */ SELECT 1;", vec!["SELECT 1"]),
            (
                "COMMENT ON ROLE x IS 'a;b -- c';",
                vec!["COMMENT ON ROLE x IS 'a;b -- c'"],
            ),
            ("SELECT 'it''s; so';X;", vec!["SELECT 'it''s; so'", "X"]),
            (r"SELECT 'a\'; X;", vec![r"SELECT 'a\'", "X"]),
            (r"SELECT E'a\';b'; X;", vec![r"SELECT E'a\';b'", "X"]),
            (r#"DROP ROLE "a;""b";"#, vec![r#"DROP ROLE "a;""b""#]),
            ("DO $x$ a; $$ b; $x$; X;", vec!["DO $x$ a; $$ b; $x$", "X"]),
            ("SELECT $1; X;", vec!["SELECT $1", "X"]),
            (
                "\\restrict abc;d\nSET a = 1;\n\\unrestrict abc\n",
                vec!["SET a = 1"],
            ),
            ("GRANT a\n  TO b\n;", vec!["GRANT a\n  TO b\n"]),
        ] {
            assert_eq!(texts(script), expected, "{script}");
        }
    }

    #[test]
    fn a_script_that_was_cut_is_refused() {
        for script in ["SELECT 'a", "SELECT \"a", "/* a", "DO $$ a", r"SELECT E'\"] {
            assert!(statements(script).is_err(), "{script}");
        }
    }

    #[test]
    fn tokens_know_names_and_places() {
        let script = r#"ALTER ROLE "Dr ""No""" IN DATABASE x SET y TO 'z'"#;
        let statement = &statements(script).expect("a whole script")[0];
        assert!(statement.begins_with(&["alter", "role"]));
        assert_eq!(statement.name_at(2), Some("Dr \"No\""));
        let at = statement.after(&["in", "database"]).expect("it is there");
        assert_eq!(statement.name_at(at), Some("x"));
        let token = &statement.tokens[at];
        assert_eq!(&statement.text[token.start..token.end], "x");
    }

    proptest! {
        #[test]
        fn a_quoted_name_reads_back(name in "[^\0]{1,40}", text in "[^\0]{0,40}") {
            let script = format!("{} {};", quote_ident(&name), quote_literal(&text));
            let statements = statements(&script).expect("a whole script");
            prop_assert_eq!(statements.len(), 1);
            prop_assert_eq!(statements[0].name_at(0), Some(name.as_str()));
            prop_assert_eq!(&statements[0].tokens[1].kind, &TokenKind::Literal);
        }
    }
}
