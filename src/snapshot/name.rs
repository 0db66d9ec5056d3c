//! What an object's file is called: the target, what it is, how it is compressed, and whether it is encrypted.

use crate::manifest::Role;
use crate::repository::stem::shortened;
use crate::snapshot::NewArtifact;
use crate::target::{TargetId, encode_component};

/// Names for an artifact, best first: `db.postgres.shop.dump.zst`, then `db.postgres.shop.2.dump.zst`, and so on for the
/// further layers of a tree (and for targets whose names differ only in where the dots are). `encryption` ends them.
pub(super) fn candidates(
    target: &TargetId,
    artifact: &NewArtifact,
    encryption: &str,
) -> impl Iterator<Item = String> + use<> {
    let stem = shortened(stem(target, artifact.role));
    let compression = artifact.compression.extension();
    let ending = format!("{}{compression}{encryption}", artifact.extension);
    (1_u64..).map(move |number| match number {
        1 => format!("{stem}.{ending}"),
        _ => format!("{stem}.{number}.{ending}"),
    })
}

fn stem(target: &TargetId, role: Role) -> String {
    match role {
        Role::Globals => format!(
            "{}.{}.globals",
            encode_component(&target.service),
            target.driver
        ),
        Role::Dump | Role::Layer | Role::Index => target.file_stem(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Compression, ObjectPath};
    use crate::repository::samples::id;
    use crate::target::DriverKind;
    use proptest::prelude::*;

    fn first(target: &TargetId, role: Role, extension: &'static str) -> String {
        let artifact = NewArtifact {
            role,
            extension,
            compression: Compression::DEFAULT,
        };
        candidates(target, &artifact, "").next().unwrap()
    }

    #[test]
    fn names_tell_what_is_in_them() {
        let database = TargetId::new("postgres-db", DriverKind::Postgres, "clinical");
        let volume = TargetId::new("app", DriverKind::Volume, "storage");
        for (name, expected) in [
            (
                first(&database, Role::Dump, "dump"),
                "postgres-db.postgres.clinical.dump.zst",
            ),
            (
                first(&database, Role::Globals, "sql"),
                "postgres-db.postgres.globals.sql.zst",
            ),
            (
                first(&volume, Role::Layer, "tar"),
                "app.volume.storage.tar.zst",
            ),
            (
                first(&volume, Role::Index, "index.jsonl"),
                "app.volume.storage.index.jsonl.zst",
            ),
        ] {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = |end: &str| {
            let target = TargetId::new("db", DriverKind::Postgres, "ä".repeat(60) + end);
            first(&target, Role::Dump, "dump")
        };
        assert_ne!(long("1"), long("2"));
        let name = long("1");
        assert!(name.starts_with("db.postgres.%C3%A4%C3%A4"), "{name}");
        assert!(name.ends_with("%C3~95ff1ba7d823b5a2.dump.zst"), "{name}");
    }

    proptest! {
        #[test]
        fn every_name_fits_a_path(service in ".{1,80}", name in ".{1,300}") {
            let target = TargetId::new(service, DriverKind::Volume, name);
            let name = first(&target, Role::Index, "index.jsonl");
            prop_assert!(name.len() <= 255);
            prop_assert!(ObjectPath::new("candig", &id(1), &name).is_ok());
        }
    }
}
