//! Database servers that nothing saves.
//!
//! What saves one is its driver; commands or a hook with files of the same service, which are taken at their word; or its
//! own files, if they keep still meanwhile.

use super::Finding;
use crate::engine::container::is_within;
use crate::engine::{Mount, MountKind};
use crate::labels::HookPoint;
use crate::stack::servers::Store;
use crate::stack::survey::Survey;
use crate::stack::{self, Service};

pub(super) fn unsaved(survey: &Survey) -> Vec<Finding> {
    let services = survey.stack.services.iter();
    services
        .flat_map(|service| {
            unsaved_of(survey, service).map(|(store, what)| finding(service, store, what))
        })
        .collect()
}

/// What mends it is what saves the store.
fn finding(service: &Service, store: Store, what: String) -> Finding {
    Finding {
        service: service.name.clone(),
        what,
        label: store.label().to_owned(),
        hint: store.hint().map(str::to_owned),
    }
}

/// Of what is mounted beside a server that may keep its data anywhere.
pub(super) fn suspect(service: &Service, store: Store, mount: &str) -> Finding {
    let what = format!("nothing saves {mount}, where its {store} server may keep its data");
    finding(service, store, what)
}

/// The stores of a service whose files are saved, and that nothing is wrong with, each at its own word.
pub(super) fn saved_as_files(survey: &Survey, service: &Service) -> impl Iterator<Item = Store> {
    let unsaved: Vec<Store> = unsaved_of(survey, service)
        .map(|(store, _)| store)
        .collect();
    let stores = survey.stores_of(&service.name);
    stores.filter(move |store| !unsaved.contains(store) && has_saved_files(survey, service, *store))
}

/// An unsaved store of the service whose usual places are on no mount. Images ask for anonymous volumes there, whatever the
/// server is told.
pub(super) fn at_no_usual_place(survey: &Survey, service: &Service) -> Option<Store> {
    let mounts = service.container.mounts.iter();
    let mounts = mounts.filter(|mount| !mount.is_anonymous());
    let mut stores = unsaved_of(survey, service).map(|(store, _)| store);
    stores.find(|store| {
        !mounts
            .clone()
            .any(|mount| is_at(*store, service, &mount.destination))
    })
}

fn is_at(store: Store, service: &Service, place: &str) -> bool {
    let mut directories = store.directories(&service.container.env);
    directories.any(|directory| is_within(directory, place))
}

/// The unsaved stores of a service, each with what is wrong.
fn unsaved_of(survey: &Survey, service: &Service) -> impl Iterator<Item = (Store, String)> {
    let stores = survey.stores_of(&service.name);
    stores.filter_map(|store| {
        if is_dumped(survey, service, store) {
            None
        } else if !has_saved_files(survey, service, store) {
            Some((store, format!("nothing saves its {store} server")))
        } else if store.is_copied_while_it_runs() || service.keeps_still() {
            None
        } else {
            let what = format!("the files of its {store} server are saved while it writes to them");
            Some((store, what))
        }
    })
}

fn is_dumped(survey: &Survey, service: &Service, store: Store) -> bool {
    let labels = &service.labels;
    let mut databases = survey.databases_of(&service.name);
    let takes_trees = !labels.files.is_empty()
        || survey.volumes.contains_key(&service.name)
        || survey.paths.contains_key(&service.name);
    let has_driver = match store {
        Store::Couchdb => labels.couchdb.is_some(),
        Store::Elasticsearch | Store::Opensearch => labels.elasticsearch.is_some(),
        _ => databases.any(|found| found.server.store() == store),
    };
    has_driver
        || !labels.commands.is_empty()
        || (takes_trees && labels.hooks.contains_key(&HookPoint::BeforeBackup))
}

fn has_saved_files(survey: &Survey, service: &Service, store: Store) -> bool {
    let container = &service.container;
    let holds = |path: &str, exclude: &[String]| {
        let place = container.place_of(path);
        let mut directories = store.directories(&container.env);
        directories.any(|directory| {
            is_within(directory, path)
                && !stack::is_left_out(exclude, &place, &container.place_of(directory))
        })
    };
    let wanted = |volume: &str| {
        let mut wanted = survey.volumes.values().flatten();
        wanted.find(|wanted| wanted.volume.volume == volume)
    };
    let mounted = stack::mounted(service, &survey.stack.project, &survey.declared);
    let on_volume = mounted.iter().any(|volume| {
        let wanted = wanted(&volume.volume);
        wanted.is_some_and(|wanted| holds(&volume.destination, &wanted.options.exclude))
    });
    // A path in the directory saves only a part of it.
    let files = || service.labels.files.values();
    let by_path = files().any(|files| holds(&files.path, &files.options.exclude));
    let is_unnamed = |mount: &&Mount| {
        let is_labelled = files().any(|files| files.path == mount.destination);
        !is_labelled && (mount.kind == MountKind::Bind || mount.is_anonymous())
    };
    let mut unnamed = container.mounts.iter().filter(is_unnamed);
    let on_path = unnamed
        .any(|mount| is_at(store, service, &mount.destination) && survey.is_saved(&mount.root()));
    on_volume || by_path || on_path
}
