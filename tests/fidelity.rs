//! A tree with every oddity goes through an archive and comes back the same: through our own code, and through GNU tar.
//!
//! These tests make device nodes and foreign owners, so they need root, as the helper that does this work has.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::support::odd_tree::{assert_same, build, describe};
use cofferdam::tree::ahead::Opening;
use cofferdam::tree::pack::{PackReport, Source, pack};
use cofferdam::tree::unpack::{UnpackOptions, UnpackReport, Unpacker};
use cofferdam::tree::{Excludes, IndexEntry, TreeError};
use tempfile::TempDir;

fn odd_tree() -> TempDir {
    assert!(
        rustix::process::geteuid().is_root(),
        "run these tests as root"
    );
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tree")).unwrap();
    build(&directory.path().join("tree"));
    directory
}

fn pack_to(root: &Path, archive: &Path) -> (PackReport, Vec<IndexEntry>) {
    let mut index = Vec::new();
    let output = std::io::BufWriter::new(File::create(archive).unwrap());
    let root = File::open(root).unwrap().into();
    let report = pack(
        Source::Directory(root, Opening::Ahead),
        &Excludes::default(),
        output,
        &mut |entry| {
            index.push(entry.clone());
            Ok(())
        },
    );
    (report.unwrap(), index)
}

fn unpack_from(archive: &Path, into: &Path) -> Result<UnpackReport, TreeError> {
    fs::create_dir(into).unwrap();
    let root = File::open(into).unwrap().into();
    let mut unpacker = Unpacker::new(root, UnpackOptions::default());
    unpacker.layer(std::io::BufReader::new(File::open(archive).unwrap()))?;
    Ok(unpacker.finish()?.report)
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {words}");
    words
}

#[test]
fn a_tree_comes_back_the_same() {
    let space = odd_tree();
    let (tree, archive, back) = (
        space.path().join("tree"),
        space.path().join("a.tar"),
        space.path().join("back"),
    );
    let before = describe(&tree);
    let (packed, index) = pack_to(&tree, &archive);
    assert_eq!(packed.warnings, Vec::<String>::new());
    assert_same(&before, &describe(&tree));

    let unpacked = unpack_from(&archive, &back).unwrap();
    assert_same(&before, &describe(&back));
    assert_eq!(unpacked.warnings, Vec::<String>::new());
    assert_eq!(packed.entries, before.len() as u64);
    assert_eq!(unpacked.entries, packed.entries);
    assert_eq!(unpacked.content_bytes, packed.content_bytes);

    assert_eq!(index.len(), before.len());
    // 12 GiB of content, nearly all of it holes.
    assert!(packed.content_bytes > 12 << 30);
    assert!(fs::metadata(&archive).unwrap().len() < 32 << 20);
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let space = odd_tree();
    let tree = space.path().join("tree");
    let read = |name: &str| {
        let archive = space.path().join(name);
        pack_to(&tree, &archive);
        fs::read(archive).unwrap()
    };
    assert!(read("1.tar") == read("2.tar"));
}

#[test]
fn gnu_tar_restores_what_we_pack() {
    let space = odd_tree();
    let (tree, archive, back) = (
        space.path().join("tree"),
        space.path().join("a.tar"),
        space.path().join("back"),
    );
    pack_to(&tree, &archive);
    fs::create_dir(&back).unwrap();
    let words = run(Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
            "-xpf",
        ])
        .arg(&archive)
        .arg("-C")
        .arg(&back));
    // It wonders about our times, and takes the names as they are, but does not know the word for that.
    let expected = [
        "time stamp",
        "Ignoring unknown extended header keyword 'hdrcharset'",
    ];
    let words: Vec<&str> = words
        .lines()
        .filter(|line| !expected.iter().any(|known| line.contains(known)))
        .collect();
    assert_eq!(words, Vec::<&str>::new());
    assert_same(&describe(&tree), &describe(&back));
}

#[test]
fn we_restore_what_gnu_tar_packs() {
    let space = odd_tree();
    let tree = space.path().join("tree");
    for format in ["gnu", "posix"] {
        let archive = space.path().join(format);
        let back = space.path().join(format!("{format}-back"));
        let extended: &[&str] = match format {
            "posix" => &["--xattrs", "--xattrs-include=*", "--acls"],
            _ => &[],
        };
        run(Command::new("tar")
            .args(["--sparse", "--numeric-owner", "--format", format])
            .args(extended)
            .arg("-cf")
            .arg(&archive)
            .args(["-C", tree.to_str().unwrap(), "."]));
        unpack_from(&archive, &back).unwrap();
        let mut expected = describe(&tree);
        let mut found = describe(&back);
        for description in [&mut expected, &mut found] {
            for name in ["fifo", "fifo-second-name"] {
                // GNU tar does not save that two FIFOs are one.
                let text = description.get_mut(name).unwrap();
                text.truncate(text.find(" links=").unwrap_or(text.len()));
            }
        }
        if format == "gnu" {
            // This format knows no attributes and no nanoseconds.
            for description in [&mut expected, &mut found] {
                for text in description.values_mut() {
                    *text = without_pax(text);
                }
            }
        }
        assert_same(&expected, &found);
    }
}

fn without_pax(text: &str) -> String {
    text.split(' ')
        .filter(|word| {
            !word.starts_with("user.")
                && !word.starts_with("system.")
                && !word.starts_with("security.")
        })
        .map(|word| match word.strip_prefix("mtime=") {
            Some(time) => time.split('.').next().unwrap_or_default().to_owned(),
            None => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}
