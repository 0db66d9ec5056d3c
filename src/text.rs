//! Text from outside (labels, names, manifests, other programs' words) on its way to people.

use std::error::Error;

/// `text` with every character that could drive a terminal, or that shows nothing, escaped. Line breaks are escaped too.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\'' | '"' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// The same for text of several lines, which stay lines.
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}

/// [`printable`], cut to what fits a line of a message.
pub fn quoted(text: &str) -> String {
    const MAX_QUOTED: usize = 80;
    let beginning: String = text.chars().take(MAX_QUOTED).collect();
    let mut shown = printable(&beginning);
    if beginning.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// An error with the causes that its own text does not repeat.
pub fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// For the end of "it did not take it": nothing where it was tried once, else ` in 3 attempts`.
pub fn in_attempts(attempts: u32) -> String {
    match attempts {
        1 => String::new(),
        _ => format!(" in {attempts} attempts"),
    }
}

/// The word of `accepted` that is most like `word`; `None` when nothing is near.
pub fn nearest_word<'a>(
    word: &str,
    accepted: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    accepted
        .into_iter()
        .map(|candidate| {
            let score = strsim::normalized_damerau_levenshtein(&word, &candidate.to_lowercase());
            (score, candidate)
        })
        .filter(|(score, _)| *score >= 0.5)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("right\u{202e}left"), "right\\u{202e}left");
        assert_eq!(printable("größe 'x' \"y\" \\"), "größe 'x' \"y\" \\");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\tb\r\n\u{1b}c"), "a\\tb\n\\u{1b}c");
    }

    #[test]
    fn a_quote_fits_a_line() {
        assert_eq!(quoted(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(quoted(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
