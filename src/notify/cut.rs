//! As much of a text as a service takes.

/// Stands at the end of what was cut.
const NOTE: &str = "\n… (cut here)";

/// `text` if it fits, else its beginning and a note. `width` is what a character takes of `room`, as the service counts; the
/// note takes its part too.
pub(super) fn cut(text: &str, room: usize, width: impl Fn(char) -> usize) -> String {
    let all: usize = text.chars().map(&width).sum();
    if all <= room {
        return text.to_owned();
    }
    let note: usize = NOTE.chars().map(&width).sum();
    let mut left = room.saturating_sub(note);
    let fitting = text.chars().take_while(|char| {
        let rest = left.checked_sub(width(*char));
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    let mut beginning: String = fitting.collect();
    beginning.push_str(NOTE);
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_with_a_note() {
        let bytes = char::len_utf8;
        let note = NOTE.len();
        for (text, room, expected) in [
            ("", 0, String::new()),
            ("abc", 3, "abc".to_owned()),
            ("größe", 7, "größe".to_owned()),
            (
                &"x".repeat(100),
                99,
                format!("{}{NOTE}", "x".repeat(99 - note)),
            ),
            // Whole characters, even where one would leave a byte unused.
            (
                &"ü".repeat(100),
                99,
                format!("{}{NOTE}", "ü".repeat((99 - note) / 2)),
            ),
        ] {
            let shown = cut(text, room, bytes);
            assert_eq!(shown, expected, "{text}");
            assert!(shown.len() <= room, "{shown}");
        }
    }

    #[test]
    fn characters_count_as_the_service_counts_them() {
        let escaped = |char| if char == '<' { 4 } else { 1 };
        let shown = cut(&"<".repeat(50), 100, escaped);
        let width: usize = shown.chars().map(escaped).sum();
        assert!(width <= 100 && width > 96, "{width}");
        let wide = cut(&"😀".repeat(60), 100, char::len_utf16);
        assert!(wide.encode_utf16().count() <= 100, "{wide}");
    }
}
