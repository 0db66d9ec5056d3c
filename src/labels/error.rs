//! What is wrong with a container's labels, in words that say how to mend it.

use std::fmt;

/// Every problem that the labels of one container, or of several, have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelErrors {
    /// In the order of containers, then of labels.
    pub problems: Vec<LabelProblem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelProblem {
    /// The container's name.
    pub container: String,
    /// The label's key.
    pub label: String,
    pub what: String,
    /// What mends it: a phrase that stands after a semicolon.
    pub hint: Option<String>,
}

impl fmt::Display for LabelProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (container, label) = (quoted(&self.container), quoted(&self.label));
        write!(
            formatter,
            "container {container}: label `{label}` {}",
            self.what
        )?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LabelErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let line_end = if at == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LabelErrors {}

/// Text from outside, made harmless for a terminal and short enough for a line.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::new();
    for char in text.chars().take(LONGEST) {
        match char {
            '\'' | '"' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(quoted("größe"), "größe");
        assert_eq!(quoted(&"x".repeat(81)).chars().count(), 81);
    }
}
