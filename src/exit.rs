//! How a run ended, as the shell sees it. `main` alone turns this into an exit.

use std::process::ExitCode;

/// What a finished command amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was asked for is done.
    Done,
    /// Nothing of it is done; what was there before stands.
    Failed,
    /// The command line, a variable or a label is wrong; nothing was begun.
    Usage,
    /// Some targets failed, the others are safe.
    Partial,
    /// A check found something: a stale or damaged snapshot.
    Found,
    /// Another run holds the project.
    Busy,
    /// A signal ended the run, and everything was put back in order.
    Interrupted,
}

impl Outcome {
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Found => 4,
            Self::Busy => 5,
            // As a shell reports a program that SIGINT ended.
            Self::Interrupted => 130,
        }
    }

    /// What two parts of one command amount to, such as the backups of two projects: the interruption of either ends both,
    /// and where only one came to its end, the whole is partly done.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Interrupted, _) | (_, Self::Interrupted) => Self::Interrupted,
            (Self::Done, Self::Found) | (Self::Found, Self::Done) => Self::Found,
            (one, other) if one == other => one,
            _ => Self::Partial,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_amount_to_a_whole() {
        use Outcome::{Busy, Done, Failed, Found, Interrupted, Partial};
        for (one, other, whole) in [
            (Done, Done, Done),
            (Failed, Failed, Failed),
            (Done, Failed, Partial),
            (Busy, Done, Partial),
            (Partial, Done, Partial),
            (Found, Done, Found),
            (Found, Failed, Partial),
            (Done, Interrupted, Interrupted),
        ] {
            assert_eq!(one.and(other), whole, "{one:?} {other:?}");
            assert_eq!(other.and(one), whole, "{other:?} {one:?}");
        }
    }

    #[test]
    fn scripts_may_rely_on_the_codes() {
        for (outcome, code) in [
            (Outcome::Done, 0),
            (Outcome::Failed, 1),
            (Outcome::Usage, 2),
            (Outcome::Partial, 3),
            (Outcome::Found, 4),
            (Outcome::Busy, 5),
            (Outcome::Interrupted, 130),
        ] {
            assert_eq!(outcome.code(), code, "{outcome:?}");
        }
    }
}
