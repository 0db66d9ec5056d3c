//! What a service has mounted becomes a volume or a path that is saved, or the databases that live there.

use std::collections::BTreeSet;

use super::RemarkKind;
use super::draft::{Asked, Draft};
use crate::discover::{self, Service};
use crate::engine::container::is_within;
use crate::engine::{Mount, MountKind};
use crate::labels::files_name;
use crate::store::Store;

/// A place in a container.
pub(super) struct Seen<'a> {
    pub service: &'a Service,
    pub mount: &'a Mount,
    /// The mount's own, or one below it.
    pub path: String,
}

impl<'a> Draft<'a> {
    /// Saves a mount of a service as a whole. `by` is the other tool's label or variable that asks for it.
    pub fn take(&mut self, service: &'a Service, mount: &'a Mount, by: &str) {
        if let Some(store) = self.store_at(service, &mount.destination) {
            if self.takes_databases(service, store, by) {
                return;
            }
            self.warn_of_files(service, store, by);
        }
        match mount.kind {
            MountKind::Volume if !mount.is_anonymous() => {
                let name = self.volume_name(service, mount);
                self.asked(service).volumes.insert(name);
            }
            MountKind::Bind if mount.source.ends_with(".sock") => {}
            MountKind::Volume | MountKind::Bind => self.take_path(service, &mount.destination),
            MountKind::Tmpfs | MountKind::Other => {
                let text = format!("what is mounted at {} does not last", mount.destination);
                self.remark(RemarkKind::Lost, &service.name, by, text);
            }
        }
    }

    pub fn take_path(&mut self, service: &'a Service, path: &str) {
        self.asked(service).add_path(path);
    }

    /// Whether a server's databases are dumped; its files are not archived then.
    pub fn takes_databases(&mut self, service: &'a Service, store: Store, by: &str) -> bool {
        if !matches!(store, Store::Postgres | Store::Mysql) {
            return false;
        }
        if !self.asked(service).databases.insert(store) {
            return true;
        }
        let text = format!(
            "the databases of its {store} server are dumped, each for itself; files that a server writes to are no backup"
        );
        self.remark(RemarkKind::Differs, &service.name, by, text);
        if store == Store::Mysql {
            let text = "users and their grants are no part of a dump (docs/labels.md says how they come back)";
            self.remark(RemarkKind::ToDo, &service.name, by, text);
        }
        true
    }

    fn warn_of_files(&mut self, service: &Service, store: Store, by: &str) {
        if store.is_copied_while_it_runs() {
            return;
        }
        let hint = store.hint().map(|hint| format!(" ({hint})"));
        let text = format!(
            "the files of its {store} server are only good when it is stopped meanwhile; better save it with `{}`{}",
            store.label(),
            hint.unwrap_or_default()
        );
        self.remark(RemarkKind::ToDo, &service.name, by, text);
    }

    fn store_at(&self, service: &Service, place: &str) -> Option<Store> {
        let env = &service.container.env;
        self.survey.stores_of(&service.name).find(|store| {
            let mut directories = store.directories(env);
            directories.any(|directory| is_within(directory, place) || is_within(place, directory))
        })
    }

    /// As `cofferdam.volumes` takes it.
    pub fn volume_name(&self, service: &Service, mount: &Mount) -> String {
        let volume = mount.volume.as_deref().unwrap_or_default();
        let mounted = discover::mounted(service, &self.survey.stack.project, &self.survey.declared);
        let named = mounted.into_iter().find(|it| it.volume == volume);
        named.map_or_else(|| volume.to_owned(), |it| it.name)
    }

    /// Where services see what another container has at `wanted`, or what lies at `below` in there, which is empty or begins
    /// with a slash. Where none sees it as a whole, those that see a part.
    pub fn seen(&self, wanted: &Mount, below: &str) -> Vec<Seen<'a>> {
        let host = format!("{}{below}", wanted.source.trim_end_matches('/'));
        let path_of = |mount: &Mount| match (&wanted.volume, &mount.volume) {
            (Some(wanted), Some(volume)) if wanted == volume => Some(below.to_owned()),
            (None, _) if is_within(&host, &mount.source) && !mount.source.is_empty() => {
                Some(host[mount.source.trim_end_matches('/').len()..].to_owned())
            }
            _ => None,
        };
        let whole = self.mounts().filter_map(|(service, mount)| {
            let below = path_of(mount)?;
            let path = format!("{}{below}", mount.destination);
            Some(Seen {
                service,
                mount,
                path,
            })
        });
        // The first of the best.
        let whole = whole.min_by_key(|seen| self.unfitness(seen));
        if whole.is_some() || wanted.volume.is_some() {
            return whole.into_iter().collect();
        }
        let mut sources = BTreeSet::new();
        let mut parts: Vec<Seen<'a>> = self
            .mounts()
            .filter(|(_, mount)| is_within(&mount.source, &host))
            .map(|(service, mount)| Seen {
                service,
                mount,
                path: mount.destination.clone(),
            })
            .collect();
        parts.sort_by_key(|seen| self.unfitness(seen));
        parts.retain(|seen| sources.insert(&seen.mount.source));
        parts
    }

    fn mounts(&self) -> impl Iterator<Item = (&'a Service, &'a Mount)> {
        let services = self.services.iter();
        services.flat_map(|&service| {
            let mounts = service.container.mounts.iter();
            mounts.map(move |mount| (service, mount))
        })
    }

    /// A server knows its own data best, and whoever writes to it knows it better than a reader.
    fn unfitness(&self, seen: &Seen<'_>) -> (bool, bool) {
        let store = self.store_at(seen.service, &seen.path);
        (store.is_none(), !seen.mount.writable)
    }
}

impl Asked {
    pub fn saves_something(&self) -> bool {
        !(self.volumes.is_empty() && self.files.is_empty() && self.databases.is_empty())
    }

    /// Each pattern once.
    pub fn leave_out(&mut self, patterns: &[String]) {
        for pattern in patterns {
            if !self.exclude.contains(pattern) {
                self.exclude.push(pattern.clone());
            }
        }
    }

    /// Under a name made of the last part of the path.
    fn add_path(&mut self, path: &str) {
        if self.files.values().any(|known| known == path) {
            return;
        }
        let name = files_name(path, |name| self.files.contains_key(name));
        self.files.insert(name, path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_name_are_told_apart() {
        let mut asked = Asked::default();
        for path in ["/a/data", "/b/data", "/a/data", "/c/data"] {
            asked.add_path(path);
        }
        let names: Vec<&str> = asked.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["data", "data-2", "data-3"]);
    }
}
