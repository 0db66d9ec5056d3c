//! Whether it would be a recovery if a project were in order now.

use std::collections::BTreeSet;

use super::timetable::Services;

/// The services that the last attempt did not save, or not wholly. Of what was before the daemon began, snapshots tell; where
/// there was none, nobody is told that it is over. What checks find they know themselves, and tell when it is mended.
#[derive(Debug, Default)]
pub(super) struct Standing(BTreeSet<String>);

impl Standing {
    pub fn worsens(&mut self, services: impl IntoIterator<Item = String>) {
        self.0.extend(services);
    }

    /// There are no others than `services` any more: nothing will be heard of what is gone.
    pub fn forget_all_but(&mut self, services: &BTreeSet<String>) {
        self.0.retain(|service| services.contains(service));
    }

    pub fn in_trouble(&self) -> &BTreeSet<String> {
        &self.0
    }

    /// These are in order. Whether that is a recovery: something was in trouble, and nothing is any more.
    pub fn betters(&mut self, services: &Services) -> bool {
        let had_trouble = !self.0.is_empty();
        self.0.retain(|service| !services.contains(service));
        had_trouble && self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Services {
        Services::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn in_trouble(names: &[&str]) -> Standing {
        let mut standing = Standing::default();
        standing.worsens(names.iter().map(|name| (*name).to_owned()));
        standing
    }

    #[test]
    fn only_the_first_success_after_trouble_is_a_recovery() {
        assert!(!Standing::default().betters(&Services::All));
        let mut standing = in_trouble(&["db", "web"]);
        assert!(standing.betters(&Services::All));
        assert!(!standing.betters(&Services::All));
    }

    #[test]
    fn the_success_of_one_service_does_not_mend_another() {
        let mut standing = in_trouble(&["db", "web"]);
        assert!(!standing.betters(&named(&["web", "logs"])));
        assert!(standing.betters(&named(&["db"])));
    }

    #[test]
    fn the_trouble_of_a_service_ends_with_it() {
        let mut standing = in_trouble(&["db", "web"]);
        standing.forget_all_but(&BTreeSet::from(["web".to_owned(), "logs".to_owned()]));
        assert_eq!(standing.in_trouble(), &BTreeSet::from(["web".to_owned()]));
    }
}
