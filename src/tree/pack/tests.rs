//! Trees that change while they are packed: the archive is whole all the same, and the change is told.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::tree::ahead::Opening;
use crate::tree::index::IndexKind;
use crate::tree::odd_tree::noise;
use crate::tree::unpack::{UnpackOptions, Unpacker};

const LARGE: usize = 3_000_000;

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        let space = tempfile::tempdir().unwrap();
        for name in ["tree", "back"] {
            fs::create_dir(space.path().join(name)).unwrap();
        }
        Self(space)
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn back(&self) -> PathBuf {
        self.0.path().join("back")
    }

    /// Packs, tells `seen` of every entry when its header was written and its content not yet, and unpacks.
    fn through(&self, excludes: &[&str], seen: impl Fn(&str)) -> (PackReport, Vec<String>) {
        let mut archive = Vec::new();
        let mut paths = Vec::new();
        let root = File::open(self.tree()).unwrap().into();
        let excludes = Excludes::new(excludes).unwrap();
        let report = pack(
            Source::Directory(root, Opening::Ahead),
            &excludes,
            &mut archive,
            &mut |entry| {
                seen(&entry.path.encode());
                paths.push(entry.path.encode());
                Ok(())
            },
        )
        .unwrap();
        let root = File::open(self.back()).unwrap().into();
        let mut unpacker = Unpacker::new(root, UnpackOptions::default());
        unpacker.layer(Cursor::new(archive)).unwrap();
        let unpacked = unpacker.finish().unwrap().report;
        assert_eq!(unpacked.entries, report.entries);
        assert_eq!(unpacked.content_bytes, report.content_bytes);
        (report, paths)
    }
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[test]
fn a_file_that_grows_is_cut_and_one_that_shrinks_is_filled() {
    let ground = Ground::new();
    let at = |name: &str| ground.tree().join(name);
    for name in ["grows", "shrinks", "stays", "touched"] {
        fs::write(at(name), noise(LARGE)).unwrap();
    }
    let (report, _) = ground.through(&[], |path| match path {
        "grows" => append(&at("grows"), b"more"),
        "shrinks" => File::options()
            .write(true)
            .open(at("shrinks"))
            .unwrap()
            .set_len(1000)
            .unwrap(),
        "touched" => append(&at("touched"), b""),
        _ => {}
    });
    let read = |name: &str| fs::read(ground.back().join(name)).unwrap();
    assert!(read("grows") == noise(LARGE));
    assert!(read("stays") == noise(LARGE));
    let mut filled = noise(1000);
    filled.resize(LARGE, 0);
    assert!(read("shrinks") == filled);
    assert_eq!(
        report.warnings,
        [
            "grows: it changed while it was read",
            "shrinks: it became shorter while it was read",
            "shrinks: it changed while it was read"
        ]
    );
}

#[test]
fn a_sparse_file_that_shrinks_keeps_what_is_left_in_its_place() {
    let ground = Ground::new();
    let path = ground.tree().join("sparse");
    let file = File::create(&path).unwrap();
    for at in [0u64, 1 << 20, 2 << 20] {
        rustix::io::pwrite(&file, &[1; 4096], at).unwrap();
    }
    file.set_len(3 << 20).unwrap();
    file.sync_all().unwrap();
    let (report, _) = ground.through(&[], |path| {
        if path == "sparse" {
            file.set_len((1 << 20) + 100).unwrap();
        }
    });
    let back = fs::read(ground.back().join("sparse")).unwrap();
    assert_eq!(back.len(), 3 << 20);
    assert!(back[..4096].iter().all(|byte| *byte == 1));
    assert!(back[1 << 20..][..100].iter().all(|byte| *byte == 1));
    assert!(back[(1 << 20) + 100..].iter().all(|byte| *byte == 0));
    assert!(!report.warnings.is_empty());
}

#[test]
fn what_vanishes_is_told_and_the_rest_is_saved() {
    let ground = Ground::new();
    // More than is read ahead.
    for number in 0..1000 {
        fs::write(ground.tree().join(format!("{number:04}")), "x").unwrap();
    }
    fs::create_dir(ground.tree().join("z")).unwrap();
    let (report, paths) = ground.through(&[], |path| {
        if path == "." || path.is_empty() {
            fs::remove_file(ground.tree().join("0999")).unwrap();
            fs::remove_dir(ground.tree().join("z")).unwrap();
        }
    });
    assert_eq!(paths.len(), 1000);
    assert_eq!(
        report.warnings,
        [
            "0999: it vanished before it was read",
            "z: it vanished before it was read"
        ]
    );
}

#[test]
fn a_name_whose_file_was_left_out_or_lost_brings_the_content_itself() {
    let ground = Ground::new();
    fs::create_dir(ground.tree().join("cache")).unwrap();
    fs::write(ground.tree().join("cache/first"), "content").unwrap();
    for name in ["second", "third"] {
        fs::hard_link(ground.tree().join("cache/first"), ground.tree().join(name)).unwrap();
    }
    let (_, paths) = ground.through(&["cache/"], |_| {});
    assert_eq!(paths, ["", "second", "third"]);
    assert_eq!(
        fs::read_to_string(ground.back().join("third")).unwrap(),
        "content"
    );
}

#[test]
fn sockets_and_our_own_staging_are_left_out() {
    let ground = Ground::new();
    let _socket = std::os::unix::net::UnixListener::bind(ground.tree().join("socket")).unwrap();
    fs::create_dir_all(ground.tree().join(".cofferdam-9f2c61aa-01234567/new")).unwrap();
    fs::create_dir_all(ground.tree().join("below/.cofferdam-9f2c61aa-01234567")).unwrap();
    fs::create_dir(ground.tree().join(".cofferdam-of-a-user")).unwrap();
    let (report, paths) = ground.through(&[], |_| {});
    assert_eq!(
        paths,
        [
            "",
            ".cofferdam-of-a-user",
            "below",
            "below/.cofferdam-9f2c61aa-01234567"
        ]
    );
    assert_eq!(
        report.warnings,
        ["socket: sockets are not saved; their programs create them again"]
    );
}

#[test]
fn a_single_file_is_archived_under_the_name_it_is_given() {
    let ground = Ground::new();
    fs::write(ground.tree().join("file"), "content").unwrap();
    let source = |name: &[u8]| Source::Single {
        directory: File::open(ground.tree()).unwrap().into(),
        name: name.to_vec(),
        saved_as: b"portal_config.yml".to_vec(),
    };
    let mut archive = Vec::new();
    let mut index = Vec::new();
    let report = pack(
        source(b"file"),
        &Excludes::default(),
        &mut archive,
        &mut |entry| {
            index.push(entry.clone());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(
        (report.shape, report.entries, report.content_bytes),
        (TreeShape::File, 1, 7)
    );
    assert_eq!(index[0].path.encode(), "portal_config.yml");
    assert_eq!(index[0].kind, IndexKind::File);

    std::os::unix::fs::symlink("file", ground.tree().join("link")).unwrap();
    for name in [&b"link"[..], b"missing"] {
        let packed = pack(
            source(name),
            &Excludes::default(),
            std::io::sink(),
            &mut |_| Ok(()),
        );
        assert!(packed.is_err());
    }
}

#[test]
fn an_output_that_fails_ends_it_at_once() {
    let ground = Ground::new();
    for number in 0..200 {
        fs::write(ground.tree().join(number.to_string()), noise(100_000)).unwrap();
    }
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or_else(|| std::io::Error::other("full"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let root = File::open(ground.tree()).unwrap().into();
    let packed = pack(
        Source::Directory(root, Opening::Ahead),
        &Excludes::default(),
        Full(1_000_000),
        &mut |_| Ok(()),
    );
    assert!(matches!(packed, Err(TreeError::Stream(_))));
}

#[test]
fn layers_of_a_container_engine_are_told_once() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    for (made, is_told) in [("overlay2", true), ("whiteout", true), ("overlay", false)] {
        let ground = Ground::new();
        let at = |name: &str| ground.tree().join(name);
        for directory in ["a", "b"] {
            fs::create_dir_all(at(directory)).unwrap();
            let path = at(directory).join(made);
            if made == "whiteout" {
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
            } else {
                fs::create_dir(path).unwrap();
            }
        }
        let (report, _) = ground.through(&[], |_| ());
        let told = report.warnings.iter().filter(|it| it.contains("trusted"));
        assert_eq!(told.count(), usize::from(is_told), "{made}: {report:?}");
    }
}
