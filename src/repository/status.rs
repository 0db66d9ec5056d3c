//! Status files: what the last check has found of each target, for whoever looks without cofferdam.

use std::fmt;

use crate::target::{DriverKind, RunId, TargetId, decode_component, encode_component};

use super::stem::shortened;

/// The directory of all status files, at the repository's root.
pub const STATUS: &str = "status";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusForm {
    /// For programs.
    Json,
    /// For people.
    Text,
}

impl StatusForm {
    pub const ALL: [Self; 2] = [Self::Json, Self::Text];

    fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "txt",
        }
    }
}

/// Where a status file lies: `status/<project>/<service>.<driver>.<name>.json`, or `….txt`.
///
/// Dots of the service are encoded, so that two targets never share a file. A project may be called `status` as well: its
/// snapshots are told apart by their ids, so no project's directory in here looks like one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusPath {
    /// As it stands in the path.
    directory: String,
    file: String,
}

impl StatusPath {
    pub fn new(project: &str, target: &TargetId, form: StatusForm) -> Self {
        let service = encode_component(&target.service).replace('.', "%2E");
        let name = encode_component(&target.name);
        let stem = shortened(format!("{service}.{}.{name}", target.driver));
        Self {
            directory: directory_of(project),
            file: format!("{stem}.{}", form.extension()),
        }
    }

    /// From a listing; `None` when cofferdam could not have written that.
    pub fn found(directory: &str, file: &str) -> Option<Self> {
        let path = Self {
            directory: directory.to_owned(),
            file: file.to_owned(),
        };
        let (target, form) = (path.target()?, path.form()?);
        (path == Self::new(&path.project(), &target, form)).then_some(path)
    }

    pub fn project(&self) -> String {
        decode_component(&self.directory)
    }

    /// `None` when its name was too long for that of a file.
    pub fn target(&self) -> Option<TargetId> {
        let (stem, _) = self.file.rsplit_once('.')?;
        let (service, rest) = stem.split_once('.')?;
        let (driver, name) = rest.split_once('.')?;
        let driver = DriverKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == driver)?;
        let (service, name) = (decode_component(service), decode_component(name));
        let named = !service.is_empty() && !name.is_empty() && !stem.contains('~');
        named.then(|| TargetId::new(service, driver, name))
    }

    fn form(&self) -> Option<StatusForm> {
        let (_, extension) = self.file.rsplit_once('.')?;
        StatusForm::ALL
            .into_iter()
            .find(|form| form.extension() == extension)
    }

    /// The directory of the project, in that of all status files.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    pub fn file_name(&self) -> &str {
        &self.file
    }
}

/// Relative to the repository's root.
impl fmt::Display for StatusPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STATUS}/{}/{}", self.directory, self.file)
    }
}

/// A status file, and what is to stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFile {
    pub path: StatusPath,
    pub bytes: Vec<u8>,
}

fn directory_of(project: &str) -> String {
    let encoded = encode_component(project);
    match encoded.parse::<RunId>() {
        Ok(_) => format!("%{:02X}{}", encoded.as_bytes()[0], &encoded[1..]),
        Err(_) => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(project: &str, service: &str, name: &str) -> StatusPath {
        let target = TargetId::new(service, DriverKind::Postgres, name);
        StatusPath::new(project, &target, StatusForm::Json)
    }

    #[test]
    fn a_status_file_is_called_after_its_target() {
        for (project, service, name, expected) in [
            ("shop", "db", "shop", "status/shop/db.postgres.shop.json"),
            (
                "shop",
                "db",
                "@globals",
                "status/shop/db.postgres.@globals.json",
            ),
            (
                "shop",
                "db.eu",
                "a.b",
                "status/shop/db%2Eeu.postgres.a.b.json",
            ),
            (
                "status",
                "db",
                "a/b",
                "status/status/db.postgres.a%2Fb.json",
            ),
            (
                "..",
                "../x",
                "*",
                "status/%2E./%2E%2E%2Fx.postgres.%2A.json",
            ),
            (
                "20261121T020000Z-9f2c61aa",
                "db",
                "a",
                "status/%320261121T020000Z-9f2c61aa/db.postgres.a.json",
            ),
        ] {
            assert_eq!(path(project, service, name).to_string(), expected);
        }
    }

    #[test]
    fn what_others_have_put_there_is_not_ours() {
        for (directory, file) in [
            ("shop", "README.txt"),
            ("shop", "db.postgres.json"),
            ("shop", "db.oracle.shop.json"),
            ("shop", "db.postgres.shop.yaml"),
            ("shop", "db..eu.postgres.shop.json"),
            ("shop", ".postgres.shop.json"),
            ("my shop", "db.postgres.shop.json"),
            ("20261121T020000Z-9f2c61aa", "db.postgres.shop.json"),
        ] {
            assert_eq!(
                StatusPath::found(directory, file),
                None,
                "{directory}/{file}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_path_tells_its_target(project in ".{1,30}", service in ".{1,30}", name in ".{1,30}") {
            let target = TargetId::new(service, DriverKind::Volume, name);
            for form in StatusForm::ALL {
                let path = StatusPath::new(&project, &target, form);
                let found = StatusPath::found(path.directory(), path.file_name());
                prop_assert!(path.file_name().len() <= 255);
                if let Some(found) = found {
                    prop_assert_eq!(found.project(), project.clone());
                    prop_assert_eq!(found.target(), Some(target.clone()));
                } else {
                    prop_assert!(path.file_name().contains('~'));
                }
            }
        }
    }
}
