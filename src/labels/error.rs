//! What is wrong with a container's labels, in words that say how to mend it.

use std::fmt;

use crate::text::quoted;

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
