//! Why a command ended early, and how the shell is told.

use crate::exit::Outcome;
use crate::history::select::SelectError;
use crate::hold::HoldError;
use crate::repository::RepositoryError;
use crate::run::capture::BackupError;
use crate::run::lock::LockError;
use crate::run::restore::RestoreError;
use crate::run::session::Interrupted;
use crate::snapshot::IndexesError;
use crate::snapshot::export::ExportError;
use crate::stack::survey::SurveyError;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line, a variable or a label is wrong; nothing was begun.
    #[error("{}", with_causes(.0))]
    Usage(anyhow::Error),
    #[error("{}", with_causes(.0))]
    Failed(anyhow::Error),
    /// Another run holds the project, or has held it until now.
    #[error("{0}")]
    Busy(HoldError),
    #[error("interrupted; everything is as it was before")]
    Interrupted,
}

/// Many errors repeat their cause in their own words: then it is not told again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl CommandError {
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Usage(_) => Outcome::Usage,
            Self::Failed(_) => Outcome::Failed,
            Self::Busy(_) => Outcome::Busy,
            Self::Interrupted => Outcome::Interrupted,
        }
    }
}

impl From<Interrupted> for CommandError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// The wrong key, or none, is a matter of the command line.
impl From<RepositoryError> for CommandError {
    fn from(error: RepositoryError) -> Self {
        match &error {
            RepositoryError::Closed { source, .. } if source.is_of_keys() => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}

impl From<IndexesError> for CommandError {
    fn from(error: IndexesError) -> Self {
        match error {
            IndexesError::Repository(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<ExportError> for CommandError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Repository(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<SurveyError> for CommandError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Engine(_) => Self::failed(error),
            SurveyError::Discover(_) | SurveyError::Labels(_) => Self::usage(error),
        }
    }
}

impl From<SelectError> for CommandError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Repository(_)
            | SelectError::LatestUnreadable { .. }
            | SelectError::NoCopy(_) => Self::failed(error),
            SelectError::NoSnapshot { .. }
            | SelectError::Unknown { .. }
            | SelectError::Ambiguous { .. }
            | SelectError::SeveralProjects { .. }
            | SelectError::OnlySafety { .. }
            | SelectError::NoneOfNode { .. }
            | SelectError::SeveralNodes { .. }
            | SelectError::NoTarget { .. }
            | SelectError::SameName(_) => Self::usage(error),
        }
    }
}

impl From<LockError> for CommandError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Hold(
                busy @ (HoldError::Taken(_)
                | HoldError::Recovered { .. }
                | HoldError::Changed { .. }),
            ) => Self::Busy(busy),
            other => Self::failed(other),
        }
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Lock(error) => error.into(),
            BackupError::Interrupted(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Lock(error) => error.into(),
            RestoreError::Interrupted(error) => error.into(),
            RestoreError::Repository(error) => error.into(),
            RestoreError::Indexes(error) => error.into(),
            error @ (RestoreError::NoWayBack(_) | RestoreError::NoSuchPath { .. }) => {
                Self::usage(error)
            }
            other => Self::failed(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let twice = std::io::Error::other("no room");
        let named = anyhow::Error::new(twice).context("cannot write x: no room");
        assert_eq!(
            CommandError::failed(named).to_string(),
            "cannot write x: no room"
        );
        let cause = std::io::Error::other("no room");
        let unnamed = anyhow::Error::new(cause).context("cannot write x");
        assert_eq!(
            CommandError::failed(unnamed).to_string(),
            "cannot write x: no room"
        );
    }
}
