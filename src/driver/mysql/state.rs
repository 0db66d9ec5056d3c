//! How far the restore of one database has come, told by what exists on the server, and what is due next. Pure.
//!
//! For a restore of `x`, all names but `x` carry the run's digits:
//!
//! - `x_loading_…`, the staged database: what a load beside the old database fills
//! - `x_replaced_…` or `x_before_…`, the aside: takes the old tables, to be dropped at the end or to be kept
//! - `cofferdam_…`, the mark: a table of ours in both. It holds the phase, the names of tables, and the text of what no order
//!   can move (views, triggers, routines, events)
//!
//! # Beside the old database
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
//!
//! # Under its own name
//!
//! There is no staged database. The old tables go into the aside first, whose mark holds all that is needed to bring the
//! old database back; nothing of it is dropped but what is kept there as text.
//!
//! | aside | state | load | commit | rollback |
//! | --- | --- | --- | --- | --- |
//! | no mark, empty | just made | note what there is: leaving | error | drop the aside |
//! | leaving | the old goes out | definitions go, tables move, note it: away | error | note it: returning |
//! | away | `x` is being loaded | – | error | drop `x`, note it: returning |
//! | arrived | loaded and checked | – | drop the aside, or note that it is kept | as away |
//! | returning | the old comes back | – | error | make `x`, move tables, make definitions, note it: returned |
//! | returned | it is back | – | error | drop the aside |
//!
//! A foreign key of another database follows a table that it refers to, and so comes to refer to the aside. Before that is
//! dropped, such a key is led back to the new table.

use std::collections::BTreeSet;

use super::holdings::Holdings;
use crate::driver::OldDatabase;

/// What a mark says of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Loading,
    Loaded,
    Placed,
    Defined,
    Leaving,
    Away,
    Arrived,
    Returning,
    Returned,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::Loading,
        Self::Loaded,
        Self::Placed,
        Self::Defined,
        Self::Leaving,
        Self::Away,
        Self::Arrived,
        Self::Returning,
        Self::Returned,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Placed => "placed",
            Self::Defined => "defined",
            Self::Leaving => "leaving",
            Self::Away => "away",
            Self::Arrived => "arrived",
            Self::Returning => "returning",
            Self::Returned => "returned",
        }
    }
}

/// What exists. [`Holdings`] are without marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub database: Option<Holdings>,
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
    /// Every table that was loaded; in an aside, every old one.
    pub tables: BTreeSet<String>,
    /// In an aside: every table that was loaded.
    pub new: BTreeSet<String>,
    /// In an aside: whether there was an old database.
    pub had_old: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub old: OldDatabase,
    pub mark: Option<Mark>,
    /// What it holds.
    pub tables: BTreeSet<String>,
    /// Those of them that foreign keys of other databases refer to.
    pub referred: BTreeSet<String>,
}

impl Aside {
    fn phase(&self) -> Option<Phase> {
        self.mark.as_ref().map(|mark| mark.phase)
    }
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
    DropAside(OldDatabase),
    /// Notes in the aside all that the old database is.
    MarkLeaving(OldDatabase),
    Note(Phase),
    /// Foreign keys of other databases to the new tables of these names.
    LeadBack(Vec<String>),
    /// New tables that were left in the aside when that broke off.
    LeadIn(Vec<String>),
    /// The database that a load under its own name has made.
    DropNew,
    /// The old database, empty.
    MakeOld,
    MoveBack(Vec<String>),
    DefineOld,
}

/// The next step to put the new tables into their place; `None`: all done.
pub fn next_of_commit(state: &State) -> Result<Option<Step>, String> {
    const NEVER_LOADED: &str = "its load was never completed";
    match (&state.staged, &state.aside) {
        (None, Some(aside)) => next_of_settled(state, aside).ok_or_else(|| NEVER_LOADED.to_owned()),
        (None, None) => match &state.database {
            Some(_) => Ok(None),
            None => Err("neither a loaded database nor the restored one is there".to_owned()),
        },
        (Some(Staged { mark: None, .. }), Some(_)) => Ok(Some(Step::DropStaged)),
        (Some(Staged { mark: None, .. }), None) => Err(NEVER_LOADED.to_owned()),
        (
            Some(Staged {
                mark: Some(mark),
                holdings,
            }),
            aside,
        ) => match mark.phase {
            Phase::Loaded => Ok(Some(next_way_in(state, holdings, mark, aside.as_ref()))),
            Phase::Placed => ensure_all_there(state, &mark.tables).map(|()| Some(Step::Define)),
            Phase::Defined => {
                ensure_all_there(state, &mark.tables).map(|()| Some(Step::DropStaged))
            }
            _ => Err(NEVER_LOADED.to_owned()),
        },
    }
}

/// What is due with the aside when the new database is whole; `None`: it is not.
fn next_of_settled(state: &State, aside: &Aside) -> Option<Option<Step>> {
    let is_there = |name: &str| {
        let database = state.database.as_ref();
        database.is_some_and(|database| database.has_table(name))
    };
    match (aside.phase(), aside.old) {
        (None | Some(Phase::Loaded), OldDatabase::Keep) => Some(None),
        (Some(Phase::Arrived), OldDatabase::Keep) => Some(Some(Step::Note(Phase::Loaded))),
        (None | Some(Phase::Loaded | Phase::Arrived), OldDatabase::Drop) => {
            let new = aside.mark.iter().flat_map(|mark| &mark.new);
            let left = new.filter(|name| !is_there(name) && aside.tables.contains(*name));
            let left: Vec<String> = left.cloned().collect();
            if !left.is_empty() {
                return Some(Some(Step::LeadIn(left)));
            }
            let led = aside.referred.iter().filter(|name| is_there(name));
            let led: Vec<String> = led.cloned().collect();
            Some(Some(if led.is_empty() {
                Step::DropAside(aside.old)
            } else {
                Step::LeadBack(led)
            }))
        }
        (Some(_), _) => None,
    }
}

fn next_way_in(state: &State, staged: &Holdings, mark: &Mark, aside: Option<&Aside>) -> Step {
    let Some(aside) = aside else {
        // What is not there need not be kept.
        let old = state
            .database
            .as_ref()
            .map_or(OldDatabase::Drop, |_| mark.old);
        return Step::MakeAside(old);
    };
    if aside.mark.is_none() {
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

/// Before anything else is given up for good.
fn ensure_all_there(state: &State, tables: &BTreeSet<String>) -> Result<(), String> {
    let missing = missing(tables, |name| {
        let database = state.database.as_ref();
        database.is_some_and(|database| database.has_table(name))
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these tables were restored, but have been removed since: {missing}"
    ))
}

fn ensure_all_aside(aside: &Aside, tables: &BTreeSet<String>) -> Result<(), String> {
    let missing = missing(tables, |name| aside.tables.contains(name));
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these tables were moved away, but have been removed since: {missing}"
    ))
}

fn missing(tables: &BTreeSet<String>, is_there: impl Fn(&str) -> bool) -> String {
    let names = tables.iter().map(String::as_str);
    let missing: Vec<&str> = names.filter(|name| !is_there(name)).collect();
    missing.join(", ")
}

/// The next step to move the old database away, before a load under its own name; `None`: it is away.
pub fn next_of_leaving(state: &State, old: OldDatabase) -> Result<Option<Step>, String> {
    const ELSEWHERE: &str = "another restore of this run has begun";
    if state.staged.is_some() {
        return Err(ELSEWHERE.to_owned());
    }
    let Some(aside) = &state.aside else {
        // What is not there need not be kept.
        let old = state.database.as_ref().map_or(OldDatabase::Drop, |_| old);
        return Ok(Some(Step::MakeAside(old)));
    };
    let Some(mark) = &aside.mark else {
        return Ok(Some(Step::MarkLeaving(aside.old)));
    };
    match mark.phase {
        Phase::Away => Ok(None),
        Phase::Leaving => match &state.database {
            Some(database) if database.has_definitions() => Ok(Some(Step::ClearOld)),
            Some(database) if !database.tables.is_empty() => Ok(Some(Step::Move {
                out: database.table_names().map(str::to_owned).collect(),
                into: Vec::new(),
            })),
            _ => ensure_all_aside(aside, &mark.tables).map(|()| Some(Step::Note(Phase::Away))),
        },
        _ => Err(ELSEWHERE.to_owned()),
    }
}

/// The next step back to the old database; `None`: all done.
pub fn next_of_rollback(state: &State) -> Result<Option<Step>, String> {
    const ONLY_FORWARD: &str =
        "its new tables are already being moved into place, and that can only be finished";
    let aside = match (&state.staged, &state.aside) {
        (Some(_), None) => return Ok(Some(Step::DropStaged)),
        (Some(_), Some(_)) => return Err(ONLY_FORWARD.to_owned()),
        (None, None) => return Ok(None),
        (None, Some(aside)) => aside,
    };
    let Some(mark) = &aside.mark else {
        // It was made a moment ago, or is being dropped.
        return if aside.tables.is_empty() {
            Ok(Some(Step::DropAside(aside.old)))
        } else {
            Err(ONLY_FORWARD.to_owned())
        };
    };
    match (mark.phase, aside.old) {
        (Phase::Leaving, _) => Ok(Some(Step::Note(Phase::Returning))),
        (Phase::Away | Phase::Arrived, _) => {
            ensure_all_aside(aside, &mark.tables)?;
            Ok(Some(match state.database {
                Some(_) => Step::DropNew,
                None => Step::Note(Phase::Returning),
            }))
        }
        (Phase::Returning, _) => next_way_back(state, aside, mark).map(Some),
        (Phase::Returned, _) => Ok(Some(Step::DropAside(aside.old))),
        // A restore that was finished, whose old database is kept.
        (_, OldDatabase::Keep) => Ok(None),
        (_, OldDatabase::Drop) => Err(ONLY_FORWARD.to_owned()),
    }
}

fn next_way_back(state: &State, aside: &Aside, mark: &Mark) -> Result<Step, String> {
    if !mark.had_old {
        return Ok(Step::DropAside(aside.old));
    }
    if state.database.is_none() {
        return Ok(Step::MakeOld);
    }
    if !aside.tables.is_empty() {
        return Ok(Step::MoveBack(aside.tables.iter().cloned().collect()));
    }
    ensure_all_there(state, &mark.tables).map(|()| Step::DefineOld)
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
            mark: Some(Mark {
                phase,
                old,
                tables,
                new: BTreeSet::new(),
                had_old: false,
            }),
        })
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Of a restore beside the old database.
    fn aside(old: OldDatabase, is_marked: bool) -> Option<Aside> {
        let mark = Mark {
            phase: Phase::Loaded,
            old,
            tables: BTreeSet::new(),
            new: BTreeSet::new(),
            had_old: false,
        };
        Some(Aside {
            old,
            mark: is_marked.then_some(mark),
            tables: names(&["old"]),
            referred: BTreeSet::new(),
        })
    }

    /// Of a restore under the database's own name, whose tables `a` and `old` go away.
    fn own(old: OldDatabase, phase: Phase, tables: &[&str]) -> Option<Aside> {
        Some(Aside {
            old,
            mark: Some(Mark {
                phase,
                old,
                tables: names(&["a", "old"]),
                new: names(&["a", "b"]),
                had_old: true,
            }),
            tables: names(tables),
            referred: BTreeSet::new(),
        })
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
                Ok(Some(Step::DropAside(Drop))),
                Err(()),
            ),
            (
                Some(both()),
                None,
                aside(Drop, false),
                Ok(Some(Step::DropAside(Drop))),
                Err(()),
            ),
            (Some(both()), None, aside(Keep, true), Ok(None), Ok(None)),
        ] {
            let state = State {
                database,
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

    /// Every row of the second table above.
    #[test]
    fn under_its_own_name_the_old_database_goes_away_and_comes_back() {
        use OldDatabase::{Drop, Keep};
        type Due = Result<Option<Step>, ()>;
        let there = Some(holding(&["a", "old"]));
        let empty = Some(holding(&[]));
        let new = Some(holding(&["a", "b"]));
        let both = ["a", "old"];
        let note = |phase| Ok(Some(Step::Note(phase)));
        let made = Aside {
            mark: None,
            tables: BTreeSet::new(),
            ..own(Drop, Phase::Leaving, &[]).unwrap()
        };
        let back = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Ok(Some(Step::MoveBack(names)))
        };
        let rows: [(_, _, Due, Due, Due); 14] = [
            (
                there.clone(),
                None,
                Ok(Some(Step::MakeAside(Drop))),
                Ok(None),
                Ok(None),
            ),
            (
                there.clone(),
                Some(made),
                Ok(Some(Step::MarkLeaving(Drop))),
                Ok(Some(Step::DropAside(Drop))),
                Ok(Some(Step::DropAside(Drop))),
            ),
            (
                Some(with_trigger(&both)),
                own(Drop, Phase::Leaving, &[]),
                Ok(Some(Step::ClearOld)),
                Err(()),
                note(Phase::Returning),
            ),
            (
                there.clone(),
                own(Drop, Phase::Leaving, &[]),
                Ok(Some(moving(&both, &[]))),
                Err(()),
                note(Phase::Returning),
            ),
            (
                empty.clone(),
                own(Drop, Phase::Leaving, &both),
                note(Phase::Away),
                Err(()),
                note(Phase::Returning),
            ),
            // Somebody has dropped what was moved.
            (
                empty.clone(),
                own(Drop, Phase::Leaving, &["a"]),
                Err(()),
                Err(()),
                note(Phase::Returning),
            ),
            (
                new.clone(),
                own(Drop, Phase::Away, &["a"]),
                Ok(None),
                Err(()),
                Err(()),
            ),
            (
                new.clone(),
                own(Drop, Phase::Away, &both),
                Ok(None),
                Err(()),
                Ok(Some(Step::DropNew)),
            ),
            (
                None,
                own(Keep, Phase::Away, &both),
                Ok(None),
                Err(()),
                note(Phase::Returning),
            ),
            (
                new.clone(),
                own(Drop, Phase::Arrived, &both),
                Err(()),
                Ok(Some(Step::DropAside(Drop))),
                Ok(Some(Step::DropNew)),
            ),
            (
                new.clone(),
                own(Keep, Phase::Arrived, &both),
                Err(()),
                note(Phase::Loaded),
                Ok(Some(Step::DropNew)),
            ),
            (
                None,
                own(Drop, Phase::Returning, &both),
                Err(()),
                Err(()),
                Ok(Some(Step::MakeOld)),
            ),
            (
                empty.clone(),
                own(Drop, Phase::Returning, &both),
                Err(()),
                Err(()),
                back(&both),
            ),
            (
                there.clone(),
                own(Drop, Phase::Returned, &[]),
                Err(()),
                Err(()),
                Ok(Some(Step::DropAside(Drop))),
            ),
        ];
        for (database, aside, leaving, commit, rollback) in rows {
            let state = State {
                database,
                staged: None,
                aside,
            };
            assert_eq!(
                next_of_leaving(&state, Drop).map_err(drop),
                leaving,
                "leaving of {state:?}"
            );
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
    fn what_comes_back_is_all_there_before_its_way_is_given_up() {
        let state = |database: Holdings, aside| State {
            database: Some(database),
            staged: None,
            aside,
        };
        let returning = |tables: &[&str]| own(OldDatabase::Drop, Phase::Returning, tables);
        let whole = state(holding(&["a", "old"]), returning(&[]));
        assert_eq!(next_of_rollback(&whole), Ok(Some(Step::DefineOld)));
        // The server died in the middle of an order.
        let half = state(holding(&["a"]), returning(&["old"]));
        assert_eq!(
            next_of_rollback(&half),
            Ok(Some(Step::MoveBack(vec!["old".to_owned()])))
        );
        let lost = state(holding(&["a"]), returning(&[]));
        assert!(next_of_rollback(&lost).unwrap_err().contains("old"));
        // There was none.
        let mut none = returning(&[]).unwrap();
        none.mark.as_mut().unwrap().had_old = false;
        let none = state(holding(&[]), Some(none));
        assert_eq!(
            next_of_rollback(&none),
            Ok(Some(Step::DropAside(OldDatabase::Drop)))
        );
    }

    #[test]
    fn keys_of_others_are_led_back_to_tables_that_are_there() {
        let mut aside = own(OldDatabase::Drop, Phase::Arrived, &["a", "old"]).unwrap();
        aside.referred = names(&["a", "old"]);
        let state = State {
            database: Some(holding(&["a", "b"])),
            staged: None,
            aside: Some(aside),
        };
        assert_eq!(
            next_of_commit(&state),
            Ok(Some(Step::LeadBack(vec!["a".to_owned()])))
        );
        // The server died with the new table in the old one's place.
        let cut = State {
            database: Some(holding(&["b"])),
            ..state
        };
        assert_eq!(
            next_of_commit(&cut),
            Ok(Some(Step::LeadIn(vec!["a".to_owned()])))
        );
    }
}
