//! What `psql` says of an error, in whatever language: the SQLSTATE.
//!
//! With `VERBOSITY=verbose` the first line of a server's message reads `ERROR:  42P01: relation "x" does not exist`, with a
//! `FEHLER` or the like in its place. What a server says before a session begins (FATAL) has no SQLSTATE in it.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

/// A name or a text has no equivalent in the client's encoding, or is not valid in its own.
pub const NO_EQUIVALENT: [&str; 2] = ["22P05", "22021"];

/// Something else uses what was to be renamed or dropped.
pub const OBJECT_IN_USE: &str = "55006";

/// The SQLSTATE of the error in these words: the last one, since a client stops at its first error, but for those of notices
/// and warnings.
pub fn of(words: &str) -> Option<&str> {
    const NO_ERRORS: [&str; 3] = ["00", "01", "02"];
    let states = words.lines().filter_map(|line| split(line));
    let mut errors = states
        .map(|(_, state, _)| state)
        .filter(|state| !NO_ERRORS.contains(&&state[..2]));
    errors.next_back()
}

/// The words as `psql` prints them otherwise, and `pg_restore` always.
pub fn without_states(words: &str) -> String {
    let lines = words.lines().map(|line| match split(line) {
        Some((before, _, after)) => format!("{before}:  {after}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What comes before a SQLSTATE, it, and what comes after.
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = line.split_once(":  ")?;
    let (state, after) = rest.split_once(": ")?;
    let is_state = state.len() == 5
        && state
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    is_state.then_some((before, state, after))
}

/// The words without the lines that only tell where in the server's own source the error was found.
pub fn without_locations(words: &[u8]) -> Vec<u8> {
    words
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !is_location(line))
        .collect::<Vec<_>>()
        .concat()
}

/// `LOCATION:  parserOpenTable, parse_relation.c:1392`
fn is_location(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let parts = line.trim_end().split_once(":  ");
    let place = parts.and_then(|(_, place)| place.split_once(", "));
    let Some((function, place)) = place else {
        return false;
    };
    let Some((file, number)) = place.split_once(".c:") else {
        return false;
    };
    let is_word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    is_word(function) && is_word(file) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_in_any_language() {
        for (words, state) in [
            (
                "ERROR:  55006: database \"x\" is being accessed by other users\nDETAIL:  There is 1 other session",
                Some("55006"),
            ),
            (
                "psql:<stdin>:7: FEHLER:  42P01: Relation »x« existiert nicht",
                Some("42P01"),
            ),
            (
                "NOTICE:  hello: world\nERROR:  22012: division by zero",
                Some("22012"),
            ),
            (
                "WARNING:  01000: subscription was created\nERROR:  42883: function f() does not exist\nWARNING:  01000: x",
                Some("42883"),
            ),
            ("WARNING:  01000: subscription was created", None),
            ("psql: error: FATAL:  role \"x\" does not exist", None),
            ("ERROR:  table: x", None),
            ("", None),
        ] {
            assert_eq!(of(words), state, "{words}");
        }
    }

    #[test]
    fn without_the_state_the_words_are_the_usual_ones() {
        assert_eq!(
            without_states(
                "psql:<stdin>:7: ERROR:  42704: role \"app\" does not exist\nHINT:  none"
            ),
            "psql:<stdin>:7: ERROR:  role \"app\" does not exist\nHINT:  none"
        );
    }

    #[test]
    fn places_in_the_server_are_left_out() {
        let words = "FEHLER:  42P01: Relation »x« existiert nicht\nZEILE 1: TABLE x\nORT:  parserOpenTable, parse_relation.c:1392\nDETAIL:  a b, c.d:1\n";
        assert_eq!(
            String::from_utf8(without_locations(words.as_bytes())).unwrap(),
            "FEHLER:  42P01: Relation »x« existiert nicht\nZEILE 1: TABLE x\nDETAIL:  a b, c.d:1\n"
        );
        assert_eq!(without_locations(b"no: line"), b"no: line");
    }
}
