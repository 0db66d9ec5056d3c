//! How far the restore of one database has come, told by what exists on the server, and what is due next. Pure.
//!
//! For a restore of `x`, all names but `x` carry the run's digits:
//!
//! - `x_loading_…`, the staged database: what a load fills
//! - `x_replaced_…` or `x_before_…`, the aside: takes the old tables, to be dropped at the end or to be kept
//! - `cofferdam_…`, the mark: a table of ours in both. In the staged database it holds the phase, the names of the loaded
//!   tables, and the text of what no order can move (views, triggers, routines, events)
//!
//! | staged | aside | state | commit | rollback |
//! | --- | --- | --- | --- | --- |
//! | – | – | nothing begun, or all done | – | – |
//! | no mark, or loading | – | the load broke off | error | drop staged |
//! | loaded | – | loaded and checked | make the aside | drop staged |
//! | loaded | yes | going in | see below | error |
//! | placed | yes | the tables are in place | make definitions, note it | error |
//! | defined | yes | all is in place | drop staged | error |
//! | no mark | yes | half dropped | drop staged | error |
//! | – | replaced | only the old is left | drop the aside | error |
//! | – | before | done, and the old one kept | – | – |
//!
//! While it is going in: the aside is marked; `x` is made where it is missing; triggers and events of the staged database go
//! (a table with triggers does not move); views, triggers, routines and events of `x` go; one order moves old tables out
//! and new ones in; and when none is left to move, the phase becomes placed. A server before MariaDB 10.6 may die in the
//! middle of that order. So a table in `x` is a new one only if the mark names it and the staged database does not hold it
//! any more; all others are old.
//!
//! The staged database is dropped before the aside, so that one without a mark is known for what it is.

use std::collections::BTreeSet;

use super::holdings::Holdings;
use crate::driver::OldDatabase;

/// What the mark of a load says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Loading,
    Loaded,
    Placed,
    Defined,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::Loading, Self::Loaded, Self::Placed, Self::Defined];

    pub fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Placed => "placed",
            Self::Defined => "defined",
        }
    }
}

/// What exists. [`Holdings`] are without marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub database: Option<Holdings>,
    /// The phase of a load that wrote over the database itself.
    pub in_place: Option<Phase>,
    pub staged: Option<Staged>,
    pub aside: Option<Aside>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    pub holdings: Holdings,
    pub mark: Option<Mark>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub phase: Phase,
    /// What is to become of the old database.
    pub old: OldDatabase,
    /// Every table that was loaded.
    pub tables: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    pub old: OldDatabase,
    pub is_marked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    MakeAside(OldDatabase),
    /// Notes in the aside what the old database keeps as text, when that is to be kept.
    MarkAside(OldDatabase),
    MakeDatabase,
    /// Triggers and events of the staged database, whose text is noted.
    ClearStaged,
    /// All that the old database keeps as text.
    ClearOld,
    Move {
        out: Vec<String>,
        into: Vec<String>,
    },
    Place,
    Define,
    DropStaged,
    DropAside,
    /// The load wrote over the database itself, and its mark goes.
    Unmark,
    /// The same database, which nobody decided for.
    DropDatabase,
}

/// The next step to put the new tables into their place; `None`: all done.
pub fn next_of_commit(state: &State) -> Result<Option<Step>, String> {
    const NEVER: &str = "its load was never completed";
    match (&state.staged, state.aside) {
        (None, Some(aside)) if aside.old == OldDatabase::Drop => Ok(Some(Step::DropAside)),
        (None, _) => match (&state.database, state.in_place) {
            (_, Some(Phase::Loading)) => Err(NEVER.to_owned()),
            (_, Some(_)) => Ok(Some(Step::Unmark)),
            (Some(_), None) => Ok(None),
            (None, None) => {
                Err("neither a loaded database nor the restored one is there".to_owned())
            }
        },
        (Some(Staged { mark: None, .. }), Some(_)) => Ok(Some(Step::DropStaged)),
        (Some(Staged { mark: None, .. }), None) => Err(NEVER.to_owned()),
        (
            Some(Staged {
                mark: Some(mark),
                holdings,
            }),
            aside,
        ) => match mark.phase {
            Phase::Loading => Err(NEVER.to_owned()),
            Phase::Loaded => Ok(Some(next_way_in(state, holdings, mark, aside))),
            Phase::Placed => ensure_all_placed(state, mark).map(|()| Some(Step::Define)),
            Phase::Defined => ensure_all_placed(state, mark).map(|()| Some(Step::DropStaged)),
        },
    }
}

fn next_way_in(state: &State, staged: &Holdings, mark: &Mark, aside: Option<Aside>) -> Step {
    let Some(aside) = aside else {
        // What is not there need not be kept.
        let old = state
            .database
            .as_ref()
            .map_or(OldDatabase::Drop, |_| mark.old);
        return Step::MakeAside(old);
    };
    if !aside.is_marked {
        return Step::MarkAside(aside.old);
    }
    let Some(database) = &state.database else {
        return Step::MakeDatabase;
    };
    if !(staged.triggers.is_empty() && staged.events.is_empty()) {
        return Step::ClearStaged;
    }
    if database.has_definitions() {
        return Step::ClearOld;
    }
    let is_old = |name: &&str| !mark.tables.contains(*name) || staged.has_table(name);
    let out: Vec<String> = database
        .table_names()
        .filter(is_old)
        .map(str::to_owned)
        .collect();
    let into: Vec<String> = staged.table_names().map(str::to_owned).collect();
    if out.is_empty() && into.is_empty() {
        Step::Place
    } else {
        Step::Move { out, into }
    }
}

/// Before anything old is given up for good.
fn ensure_all_placed(state: &State, mark: &Mark) -> Result<(), String> {
    let missing: Vec<&str> = mark
        .tables
        .iter()
        .map(String::as_str)
        .filter(|name| {
            !state
                .database
                .as_ref()
                .is_some_and(|database| database.has_table(name))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these tables were put in place, and somebody has removed them since: {}",
        missing.join(", ")
    ))
}

/// The next step back to the old database; `None`: all done.
pub fn next_of_rollback(state: &State) -> Result<Option<Step>, &'static str> {
    match (&state.staged, state.aside) {
        (Some(_), None) => Ok(Some(Step::DropStaged)),
        (Some(_), Some(_))
        | (
            None,
            Some(Aside {
                old: OldDatabase::Drop,
                ..
            }),
        ) => Err("its new tables are being put in place, which is only ever finished"),
        (None, _) => Ok(state.in_place.map(|_| Step::DropDatabase)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::holdings::{Table, Trigger};
    use super::*;

    fn table(name: &str) -> Table {
        Table {
            name: name.to_owned(),
            engine: None,
            has_history: false,
            estimated_rows: None,
            bytes: 0,
        }
    }

    fn holding(tables: &[&str]) -> Holdings {
        Holdings {
            tables: tables.iter().map(|name| table(name)).collect(),
            ..Holdings::default()
        }
    }

    fn with_trigger(tables: &[&str]) -> Holdings {
        Holdings {
            triggers: vec![Trigger {
                name: "t".to_owned(),
                table: tables[0].to_owned(),
            }],
            ..holding(tables)
        }
    }

    fn staged(phase: Phase, old: OldDatabase, holdings: Holdings) -> Option<Staged> {
        let tables = ["a", "b"].map(str::to_owned).into();
        Some(Staged {
            holdings,
            mark: Some(Mark { phase, old, tables }),
        })
    }

    fn aside(old: OldDatabase, is_marked: bool) -> Option<Aside> {
        Some(Aside { old, is_marked })
    }

    fn moving(out: &[&str], into: &[&str]) -> Step {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Step::Move {
            out: owned(out),
            into: owned(into),
        }
    }

    /// Every row of the table above, and every step of the way in.
    #[test]
    fn the_next_step_follows_from_what_exists() {
        use OldDatabase::{Drop, Keep};
        let there = Some(holding(&["a", "old"]));
        let unmarked = Some(Staged {
            holdings: holding(&[]),
            mark: None,
        });
        let both = || holding(&["a", "b"]);
        let loaded = |holdings| staged(Phase::Loaded, Keep, holdings);
        for (database, staged, aside, commit, rollback) in [
            (there.clone(), None, None, Ok(None), Ok(None)),
            (None, None, None, Err(()), Ok(None)),
            (
                there.clone(),
                unmarked.clone(),
                None,
                Err(()),
                Ok(Some(Step::DropStaged)),
            ),
            (
                there.clone(),
                staged(Phase::Loading, Drop, both()),
                None,
                Err(()),
                Ok(Some(Step::DropStaged)),
            ),
            (
                there.clone(),
                loaded(both()),
                None,
                Ok(Some(Step::MakeAside(Keep))),
                Ok(Some(Step::DropStaged)),
            ),
            (
                None,
                loaded(both()),
                None,
                Ok(Some(Step::MakeAside(Drop))),
                Ok(Some(Step::DropStaged)),
            ),
            (
                there.clone(),
                loaded(both()),
                aside(Keep, false),
                Ok(Some(Step::MarkAside(Keep))),
                Err(()),
            ),
            (
                None,
                loaded(both()),
                aside(Drop, true),
                Ok(Some(Step::MakeDatabase)),
                Err(()),
            ),
            (
                there.clone(),
                loaded(with_trigger(&["a", "b"])),
                aside(Keep, true),
                Ok(Some(Step::ClearStaged)),
                Err(()),
            ),
            (
                Some(with_trigger(&["a", "old"])),
                loaded(both()),
                aside(Keep, true),
                Ok(Some(Step::ClearOld)),
                Err(()),
            ),
            (
                there.clone(),
                loaded(both()),
                aside(Keep, true),
                Ok(Some(moving(&["a", "old"], &["a", "b"]))),
                Err(()),
            ),
            // The server died in the middle: `a` is out, and then in.
            (
                Some(holding(&["old"])),
                loaded(both()),
                aside(Keep, true),
                Ok(Some(moving(&["old"], &["a", "b"]))),
                Err(()),
            ),
            (
                Some(holding(&["a"])),
                loaded(holding(&["b"])),
                aside(Keep, true),
                Ok(Some(moving(&[], &["b"]))),
                Err(()),
            ),
            (
                Some(both()),
                loaded(holding(&[])),
                aside(Keep, true),
                Ok(Some(Step::Place)),
                Err(()),
            ),
            (
                Some(both()),
                staged(Phase::Placed, Keep, holding(&[])),
                aside(Keep, true),
                Ok(Some(Step::Define)),
                Err(()),
            ),
            (
                Some(both()),
                staged(Phase::Defined, Keep, holding(&[])),
                aside(Keep, true),
                Ok(Some(Step::DropStaged)),
                Err(()),
            ),
            (
                Some(holding(&["a"])),
                staged(Phase::Defined, Keep, holding(&[])),
                aside(Keep, true),
                Err(()),
                Err(()),
            ),
            (
                Some(both()),
                unmarked.clone(),
                aside(Drop, true),
                Ok(Some(Step::DropStaged)),
                Err(()),
            ),
            (
                Some(both()),
                None,
                aside(Drop, true),
                Ok(Some(Step::DropAside)),
                Err(()),
            ),
            (
                Some(both()),
                None,
                aside(Drop, false),
                Ok(Some(Step::DropAside)),
                Err(()),
            ),
            (Some(both()), None, aside(Keep, true), Ok(None), Ok(None)),
        ] {
            let state = State {
                database,
                in_place: None,
                staged,
                aside,
            };
            assert_eq!(
                next_of_commit(&state).map_err(drop),
                commit,
                "commit of {state:?}"
            );
            assert_eq!(
                next_of_rollback(&state).map_err(drop),
                rollback,
                "rollback of {state:?}"
            );
        }
    }

    #[test]
    fn a_load_in_place_is_kept_or_dropped() {
        for (phase, commit) in [
            (Phase::Loading, Err(())),
            (Phase::Loaded, Ok(Some(Step::Unmark))),
        ] {
            let state = State {
                database: Some(holding(&["a"])),
                in_place: Some(phase),
                ..State::default()
            };
            assert_eq!(next_of_commit(&state).map_err(drop), commit);
            assert_eq!(next_of_rollback(&state), Ok(Some(Step::DropDatabase)));
        }
    }
}
