//! How the new database takes the old one's place: what exists, and the step that follows from it.
//!
//! Nothing here talks to a server; see [`super::swap`] for the two ways, and for who takes the steps.
//!
//! | `x` | the new one | the old one | state | commit | rollback |
//! | --- | --- | --- | --- | --- | --- |
//! | yes | – | – | nothing begun, or all done | – | – |
//! | – | – | – | nothing begun, or never there | error | – |
//! | any | loading | any | the load broke off | error | drop loading |
//! | open | loaded | – | loaded and checked | close `x`, loaded → entering | drop loaded |
//! | closed by others | loaded | – | the same | `x` → dropping, loaded → `x` | drop loaded |
//! | any | entering | – | `x` is closed by us | `x` → dropping, entering → `x` | open `x`, entering → loaded |
//! | – | loaded | – | `x` was not there before | loaded → `x` | drop loaded |
//! | yes | – | dropping | swapped | drop dropping | `x` → loading, dropping → `x`, open it |
//! | yes | – | before | done, and the old one kept | – | – |
//! | – | – | dropping, before | somebody removed the new one | error | the old one → `x`, open it |
//! | – | loaded | any | somebody removed `x` in mid-swap | loaded → `x` | drop loaded |
//! | yes | yes | any | not ours | error | as without the old one |
//!
//! and where `x` is loaded under its own name:
//!
//! | `x` | the new one | the old one | state | commit | rollback |
//! | --- | --- | --- | --- | --- | --- |
//! | any | taking | – | `x` is closed by us | error | open `x`, taking → loading |
//! | being loaded | – | any | the load broke off | error | as when it is loaded |
//! | loaded | – | aside | loaded and checked | open `x` | `x` → loading, aside → `x` |
//! | loaded | – | – | `x` was not there before | open `x` | `x` → loading |
//! | open | – | aside | the old one can go | close aside, aside → dropping | `x` → loading, aside → `x` |
//! | – | – | aside | somebody removed the new one | error | aside → `x` |
//!
//! Where the old database is to be kept, the words are `loaded_keep`, `entering_keep`, `taking_keep` and `aside_keep`, and the
//! old one becomes `before` instead of `dropping`: the wish survives a crash too.

use super::names::{Load, Names, New, Old};
use super::queries::Database;
use crate::driver::OldDatabase;

/// What exists of [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub database: Option<Door>,
    pub new: Option<New>,
    pub old: Option<Old>,
}

/// Whom a database lets in that has the name that is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Closed,
    /// It is the new one, and lets in only those who load it.
    Ours(Load),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Closes the old one, and notes it on the new one, which gets this name.
    Close(New),
    /// The way back of [`Step::Close`].
    Reopen(New),
    /// Both names change at once.
    Swap(New, Old),
    /// The way back of [`Step::Swap`]; the new one has to be dropped after it.
    SwapBack(Old),
    /// There is no old one.
    Enter(New),
    /// The way back of [`Step::Enter`].
    Withdraw,
    /// There is no new one.
    Return(Old),
    /// The new one lets everybody in.
    Open,
    /// The old one can go: it is dropped, or stays for good.
    Retire(OldDatabase),
    DropNew(New),
    DropOld,
}

impl State {
    pub fn of(names: &Names, databases: &[Database]) -> Self {
        let find = |name: &str| databases.iter().find(|database| database.name == name);
        Self {
            database: find(&names.database).map(|database| Door::of(names, database)),
            new: New::all().find(|&new| find(&names.name_of(new)).is_some()),
            old: Old::all().find(|&old| find(&names.old(old)).is_some()),
        }
    }

    /// Whether there is a database of the name that is restored.
    pub fn is_present(&self) -> bool {
        self.database.is_some()
    }

    /// The next step to load the new database, which is there and empty, under the old one's name; `None`: it has the name.
    pub fn next_of_taking(self, wish: OldDatabase) -> Result<Option<Step>, &'static str> {
        match (self.database, self.new, self.old) {
            (Some(Door::Open), Some(New::Loading), None) => {
                Ok(Some(Step::Close(New::Taking(wish))))
            }
            (Some(Door::Closed), Some(New::Loading), None) => {
                Ok(Some(Step::Swap(New::Loading, Old::Aside(wish))))
            }
            (Some(_), Some(new @ New::Taking(wish)), None) => {
                Ok(Some(Step::Swap(new, Old::Aside(wish))))
            }
            (None, Some(New::Loading), None) => Ok(Some(Step::Enter(New::Loading))),
            (Some(Door::Ours(Load::Begun)), None, None | Some(Old::Aside(_))) => Ok(None),
            _ => Err("something else changes its names"),
        }
    }

    /// The next step to put the new database into its place; `None`: all done.
    pub fn next_of_commit(self) -> Result<Option<Step>, &'static str> {
        match (self.database, self.new, self.old) {
            (_, Some(New::Loading | New::Taking(_)), _)
            | (Some(Door::Ours(Load::Begun)), None, _) => Err("its load was never completed"),
            (Some(_), Some(_), Some(_)) => Err("there is another old database already"),
            (Some(Door::Open), Some(New::Loaded(old)), None) => {
                Ok(Some(Step::Close(New::Entering(old))))
            }
            (Some(_), Some(new @ (New::Loaded(old) | New::Entering(old))), None) => {
                Ok(Some(Step::Swap(new, Old::Replaced(old))))
            }
            (None, Some(new), _) => Ok(Some(Step::Enter(new))),
            (None, None, _) => Err("neither a loaded database nor the restored one is there"),
            (Some(Door::Ours(Load::Done)), None, _) => Ok(Some(Step::Open)),
            (Some(_), None, Some(Old::Aside(wish))) => Ok(Some(Step::Retire(wish))),
            (Some(_), None, Some(Old::Replaced(OldDatabase::Drop))) => Ok(Some(Step::DropOld)),
            (Some(_), None, Some(Old::Replaced(OldDatabase::Keep)) | None) => Ok(None),
        }
    }

    /// The next step back to the old database; `None`: all done. Never drops the only database under its name.
    pub fn next_of_rollback(self) -> Option<Step> {
        match (self.database, self.new, self.old) {
            (Some(_), Some(new @ (New::Entering(_) | New::Taking(_))), _) => {
                Some(Step::Reopen(new))
            }
            (_, Some(new), _) => Some(Step::DropNew(new)),
            (Some(_), None, Some(old @ (Old::Aside(_) | Old::Replaced(OldDatabase::Drop)))) => {
                Some(Step::SwapBack(old))
            }
            (Some(Door::Ours(_)), None, _) => Some(Step::Withdraw),
            (Some(_), None, Some(Old::Replaced(OldDatabase::Keep)) | None) => None,
            (None, None, old) => old.map(Step::Return),
        }
    }
}

impl Door {
    fn of(names: &Names, database: &Database) -> Self {
        let has_mark = |load: &Load| {
            let marks = database.preload.as_deref().map(|list| list.split(", "));
            marks.and_then(|mut list| list.next()) == Some(names.mark(*load).as_str())
        };
        match Load::ALL.into_iter().find(has_mark) {
            Some(load) => Self::Ours(load),
            None if database.allows_connections => Self::Open,
            None => Self::Closed,
        }
    }
}

impl New {
    /// What it is called while the old one is still open.
    pub(super) fn before_closing(self) -> Self {
        match self {
            Self::Loading | Self::Taking(_) => Self::Loading,
            Self::Loaded(old) | Self::Entering(old) => Self::Loaded(old),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OldDatabase::{Drop, Keep};

    const OPEN: Option<Door> = Some(Door::Open);
    const CLOSED: Option<Door> = Some(Door::Closed);
    const BEGUN: Option<Door> = Some(Door::Ours(Load::Begun));
    const DONE: Option<Door> = Some(Door::Ours(Load::Done));

    type Row = (
        (Option<Door>, Option<New>, Option<Old>),
        Result<Option<Step>, ()>,
        Option<Step>,
    );

    fn assert_steps(rows: &[Row]) {
        for &((database, new, old), commit, rollback) in rows {
            let state = State { database, new, old };
            let found = state.next_of_commit().map_err(drop);
            assert_eq!(found, commit, "commit {state:?}");
            assert_eq!(state.next_of_rollback(), rollback, "rollback {state:?}");
        }
    }

    /// Every row of the first table above.
    #[test]
    fn the_next_step_follows_from_what_exists() {
        let (loading, entering) = (Some(New::Loading), Some(New::Entering(Keep)));
        let loaded = Some(New::Loaded(Drop));
        let (dropping, before) = (Some(Old::Replaced(Drop)), Some(Old::Replaced(Keep)));
        let drop_loaded = Some(Step::DropNew(New::Loaded(Drop)));
        let drop_loading = Some(Step::DropNew(New::Loading));
        let enter = Ok(Some(Step::Enter(New::Loaded(Drop))));
        let swap = |new, old| Ok(Some(Step::Swap(new, Old::Replaced(old))));
        let reopen = Some(Step::Reopen(New::Entering(Keep)));
        let close = Ok(Some(Step::Close(New::Entering(Drop))));
        let back = Some(Step::SwapBack(Old::Replaced(Drop)));
        assert_steps(&[
            ((OPEN, None, None), Ok(None), None),
            ((CLOSED, None, None), Ok(None), None),
            ((None, None, None), Err(()), None),
            ((OPEN, loading, None), Err(()), drop_loading),
            ((None, loading, None), Err(()), drop_loading),
            ((None, loading, dropping), Err(()), drop_loading),
            ((OPEN, loaded, None), close, drop_loaded),
            (
                (CLOSED, loaded, None),
                swap(New::Loaded(Drop), Drop),
                drop_loaded,
            ),
            (
                (CLOSED, entering, None),
                swap(New::Entering(Keep), Keep),
                reopen,
            ),
            (
                (OPEN, entering, None),
                swap(New::Entering(Keep), Keep),
                reopen,
            ),
            ((None, loaded, None), enter, drop_loaded),
            ((OPEN, None, dropping), Ok(Some(Step::DropOld)), back),
            ((OPEN, None, before), Ok(None), None),
            (
                (None, None, dropping),
                Err(()),
                Some(Step::Return(Old::Replaced(Drop))),
            ),
            (
                (None, None, before),
                Err(()),
                Some(Step::Return(Old::Replaced(Keep))),
            ),
            ((None, loaded, dropping), enter, drop_loaded),
            ((OPEN, loaded, before), Err(()), drop_loaded),
        ]);
    }

    /// Every row of the second one.
    #[test]
    fn a_load_under_its_own_name_is_told_from_what_exists() {
        for wish in [Drop, Keep] {
            let (taking, aside) = (New::Taking(wish), Some(Old::Aside(wish)));
            let reopen = Some(Step::Reopen(taking));
            let back = Some(Step::SwapBack(Old::Aside(wish)));
            assert_steps(&[
                ((OPEN, Some(taking), None), Err(()), reopen),
                ((CLOSED, Some(taking), None), Err(()), reopen),
                ((BEGUN, None, None), Err(()), Some(Step::Withdraw)),
                ((BEGUN, None, aside), Err(()), back),
                (
                    (DONE, None, None),
                    Ok(Some(Step::Open)),
                    Some(Step::Withdraw),
                ),
                ((DONE, None, aside), Ok(Some(Step::Open)), back),
                ((OPEN, None, aside), Ok(Some(Step::Retire(wish))), back),
                (
                    (None, None, aside),
                    Err(()),
                    Some(Step::Return(Old::Aside(wish))),
                ),
                (
                    (None, Some(New::Loading), aside),
                    Err(()),
                    Some(Step::DropNew(New::Loading)),
                ),
            ]);
            let taken = |database, new, old| State { database, new, old }.next_of_taking(wish);
            let loading = Some(New::Loading);
            let swap = |new| Ok(Some(Step::Swap(new, Old::Aside(wish))));
            assert_eq!(taken(OPEN, loading, None), Ok(Some(Step::Close(taking))));
            assert_eq!(taken(CLOSED, loading, None), swap(New::Loading));
            assert_eq!(taken(CLOSED, Some(taking), None), swap(taking));
            assert_eq!(
                taken(None, loading, None),
                Ok(Some(Step::Enter(New::Loading)))
            );
            assert_eq!(taken(BEGUN, None, aside), Ok(None));
            assert_eq!(taken(BEGUN, None, None), Ok(None));
            assert!(taken(OPEN, None, None).is_err() && taken(DONE, None, aside).is_err());
        }
    }

    #[test]
    fn only_the_mark_of_this_run_is_ours() {
        let names = Names::of("x", &"20261121T020000Z-9f2c61aa".parse().unwrap());
        let door = |preload: Option<&str>, allows_connections| {
            let database = Database {
                name: "x".to_owned(),
                allows_connections,
                may_connect: allows_connections,
                is_template: false,
                is_invalid: false,
                preload: preload.map(str::to_owned),
            };
            Some(Door::of(&names, &database))
        };
        assert_eq!(door(None, true), OPEN);
        assert_eq!(door(Some("auto_explain"), false), CLOSED);
        let of_another = "cofferdam_00000000_is_loading_this_database";
        assert_eq!(door(Some(of_another), true), OPEN);
        assert_eq!(
            door(Some("cofferdam_9f2c61aa_is_loading_this_database"), true),
            BEGUN
        );
        let with_more = "cofferdam_9f2c61aa_has_loaded_this_database, auto_explain, \"b c\"";
        assert_eq!(door(Some(with_more), false), DONE);
    }
}
