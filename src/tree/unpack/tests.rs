//! Archives that somebody made to do harm, and archives that are not whole.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use super::*;
use crate::manifest::TreeShape;
use crate::tree::header::{BLOCK, Header};
use crate::tree::inventory::Inventory;
use crate::tree::pax::Records;
use tempfile::TempDir;

/// An archive, block by block, with whatever names one likes.
#[derive(Default, Clone)]
struct Forge(Vec<u8>);

impl Forge {
    fn entry(self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        self.sized(kind, name, link, content, content.len() as u64)
    }

    fn sized(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8], size: u64) -> Self {
        let mut header = Header::new(kind);
        header.set_name(name);
        header.set_link(link);
        header.set_mode(0o755);
        header.set_owner(0, 0);
        header.set_size(size);
        header.set_modified(1);
        self.0.extend_from_slice(&header.finish());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn records(self, records: &[(&str, &str)]) -> Self {
        let mut bytes = Records::default();
        for (key, value) in records {
            bytes.push(key, value);
        }
        self.entry(b'x', b"x", b"", bytes.as_bytes())
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", content.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"")
    }

    fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 2 * BLOCK]);
        self.0
    }
}

fn forge() -> Forge {
    Forge::default()
}

struct Ground {
    space: TempDir,
}

impl Ground {
    /// A root to unpack into, and beside it something that must not be touched.
    fn new() -> Self {
        let space = tempfile::tempdir().unwrap();
        fs::create_dir(space.path().join("root")).unwrap();
        fs::create_dir(space.path().join("outside")).unwrap();
        fs::write(space.path().join("outside/victim"), "untouched").unwrap();
        Self { space }
    }

    fn root(&self) -> std::path::PathBuf {
        self.space.path().join("root")
    }

    fn unpack(&self, archive: &[u8], existing: Existing) -> Result<Unpacked, TreeError> {
        let options = UnpackOptions {
            existing,
            ..UnpackOptions::default()
        };
        let mut unpacker = Unpacker::new(File::open(self.root()).unwrap().into(), options);
        unpacker.layer(Cursor::new(archive))?;
        unpacker.finish()
    }

    fn is_untouched(&self) -> bool {
        let outside = self.space.path().join("outside");
        fs::read_dir(&outside).unwrap().count() == 1
            && fs::read_to_string(outside.join("victim")).unwrap() == "untouched"
            && fs::read_dir(self.space.path()).unwrap().count() == 2
    }
}

#[test]
fn no_archive_writes_outside_its_root() {
    let outside = "../outside";
    let absolute = "/tmp/cofferdam-must-not-be-made";
    for (name, archive) in [
        ("dots", forge().file("../outside/new", "x").end()),
        (
            "dots within",
            forge()
                .directory("a/")
                .file("a/../../outside/new", "x")
                .end(),
        ),
        ("absolute", forge().file(absolute, "x").end()),
        (
            "dots by pax",
            forge()
                .records(&[("path", "../outside/new")])
                .file("fine", "x")
                .end(),
        ),
        (
            "through a link",
            forge().symlink("l", outside).file("l/new", "x").end(),
        ),
        (
            "through a link, directory",
            forge()
                .symlink("l", outside)
                .directory("l/")
                .file("l/new", "x")
                .end(),
        ),
        (
            "through an inner link",
            forge()
                .directory("a/")
                .symlink("a/l", "../../outside")
                .file("a/l/new", "x")
                .end(),
        ),
        (
            "over a link",
            forge()
                .symlink("l", "../outside/victim")
                .file("l", "x")
                .end(),
        ),
        (
            "hard link outside",
            forge().hard_link("h", "../outside/victim").end(),
        ),
        (
            "hard link, absolute",
            forge().hard_link("h", "/etc/passwd").end(),
        ),
        (
            "hard link through a link",
            forge()
                .symlink("l", outside)
                .hard_link("h", "l/victim")
                .end(),
        ),
        (
            "hard link to a link, then over it",
            forge()
                .symlink("l", "../outside/victim")
                .hard_link("h", "l")
                .file("h", "x")
                .end(),
        ),
        (
            "directory by link and over it",
            forge().symlink("l", outside).hard_link("l/new", "l").end(),
        ),
        (
            "a FIFO outside",
            forge().entry(b'6', b"../outside/p", b"", b"").end(),
        ),
        (
            "a device outside",
            forge()
                .symlink("l", outside)
                .entry(b'3', b"l/d", b"", b"")
                .end(),
        ),
        (
            "GNU long name",
            forge()
                .entry(b'L', b"././@LongLink", b"", b"../outside/new\0")
                .file("fine", "x")
                .end(),
        ),
        (
            "GNU long link",
            forge()
                .entry(b'K', b"././@LongLink", b"", b"../outside/victim\0")
                .hard_link("h", "fine")
                .end(),
        ),
    ] {
        for existing in [Existing::Refuse, Existing::Replace, Existing::Keep] {
            let ground = Ground::new();
            let result = ground.unpack(&archive, existing);
            assert!(ground.is_untouched(), "{name} {existing:?}");
            assert!(!Path::new(absolute).exists());
            if existing == Existing::Refuse {
                assert!(
                    matches!(result, Err(TreeError::Hostile(_))),
                    "{name}: {:?}",
                    result.err()
                );
            }
        }
    }
}

#[test]
fn links_of_the_live_tree_are_not_followed_either() {
    for archive in [
        forge().file("l/new", "x").end(),
        forge().directory("l/").file("l/new", "x").end(),
        forge().file("file", "x").end(),
        forge().hard_link("h", "l/victim").end(),
    ] {
        for existing in [Existing::Replace, Existing::Keep] {
            let ground = Ground::new();
            std::os::unix::fs::symlink("../outside", ground.root().join("l")).unwrap();
            std::os::unix::fs::symlink("../outside/victim", ground.root().join("file")).unwrap();
            let _ = ground.unpack(&archive, existing);
            assert!(ground.is_untouched());
        }
    }
}

#[test]
fn nothing_is_named_twice() {
    for archive in [
        forge().file("a", "1").file("a", "2").end(),
        forge().file("a", "1").symlink("./a", "b").end(),
        forge().directory("a/").file("a", "1").end(),
        forge().file("a", "1").directory("a/").end(),
        forge().file("a", "1").file("a/b", "2").end(),
    ] {
        let result = Ground::new().unpack(&archive, Existing::Refuse);
        assert!(
            matches!(result, Err(TreeError::Hostile(_))),
            "{:?}",
            result.err()
        );
    }
}

#[test]
fn every_cut_is_seen() {
    let whole = forge()
        .directory("d/")
        .records(&[("mtime", "1.5")])
        .file("d/file", &"content".repeat(200))
        .symlink("l", "d")
        .end();
    Ground::new().unpack(&whole, Existing::Refuse).unwrap();
    for length in (0..whole.len()).step_by(100) {
        let result = Ground::new().unpack(&whole[..length], Existing::Refuse);
        assert!(
            matches!(result, Err(TreeError::Damaged(_))),
            "{length}: {:?}",
            result.err()
        );
    }
    for (name, tail) in [("data", &b"x"[..]), ("a block", &[1; BLOCK])] {
        let result = Ground::new().unpack(&[&whole, tail].concat(), Existing::Refuse);
        assert!(matches!(result, Err(TreeError::Damaged(_))), "{name}");
    }
    // GNU tar fills its last record up.
    Ground::new()
        .unpack(&[&whole[..], &[0; 8192]].concat(), Existing::Refuse)
        .unwrap();
}

#[test]
fn what_is_not_understood_is_refused() {
    for (name, archive) in [
        ("unknown type", forge().entry(b'Z', b"a", b"", b"").end()),
        (
            "global header",
            forge().entry(b'g', b"a", b"", b"9 path=a\n").end(),
        ),
        (
            "directory with content",
            forge().entry(b'5', b"a/", b"", b"x").end(),
        ),
        (
            "link with content",
            forge().entry(b'2', b"a", b"b", b"x").end(),
        ),
        ("link without target", forge().symlink("a", "").end()),
        ("file named as a directory", forge().file("a/", "x").end()),
        (
            "malformed records",
            forge()
                .entry(b'x', b"x", b"", b"99 path=a\n")
                .file("a", "")
                .end(),
        ),
        (
            "records at the end",
            forge().records(&[("path", "a")]).end(),
        ),
        (
            "a huge extended header",
            forge().sized(b'x', b"x", b"", b"", 1 << 40).end(),
        ),
        (
            "a huge file",
            forge()
                .records(&[("size", "18446744073709551615")])
                .file("a", "")
                .end(),
        ),
        (
            "a bad number",
            forge().records(&[("uid", "-1")]).file("a", "").end(),
        ),
        (
            "an owner too large",
            forge()
                .records(&[("uid", "4294967296")])
                .file("a", "")
                .end(),
        ),
        (
            "an old sparse format",
            forge()
                .records(&[("GNU.sparse.map", "0,1")])
                .file("a", "x")
                .end(),
        ),
        (
            "a sparse file without map",
            forge()
                .records(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "a"),
                    ("GNU.sparse.realsize", "9"),
                ])
                .file("a", "")
                .end(),
        ),
        (
            "an ACL with names",
            forge()
                .records(&[("SCHILY.acl.access", "user:joe:r--")])
                .file("a", "")
                .end(),
        ),
        ("not an archive", vec![b'x'; 2048]),
        ("nothing", vec![]),
    ] {
        let result = Ground::new().unpack(&archive, Existing::Refuse);
        assert!(
            matches!(result, Err(TreeError::Damaged(_))),
            "{name}: {:?}",
            result.err()
        );
    }
}

#[test]
fn later_layers_change_what_earlier_ones_left() {
    let ground = Ground::new();
    let mut unpacker = Unpacker::new(
        File::open(ground.root()).unwrap().into(),
        UnpackOptions::default(),
    );
    let first = forge()
        .directory("./")
        .directory("d/")
        .file("d/a", "1")
        .file("d/b", "1")
        .directory("gone/")
        .directory("gone/deep/")
        .file("gone/deep/file", "1")
        .file("turns", "1")
        .end();
    let second = forge()
        .directory("d/")
        .file("d/b", "2")
        .file("d/c", "2")
        .directory("turns/")
        .file("turns/inside", "2")
        .end();
    unpacker.layer(Cursor::new(first)).unwrap();
    for path in ["gone", "d/a", "never/there"] {
        unpacker
            .delete(&TreePath::parse(path.as_bytes()).unwrap())
            .unwrap();
    }
    assert!(unpacker.delete(&TreePath::root()).is_err());
    unpacker.layer(Cursor::new(second)).unwrap();
    unpacker.finish().unwrap();
    let described = crate::tree::odd_tree::describe(&ground.root());
    let paths: Vec<&str> = described.keys().map(String::as_str).collect();
    assert_eq!(paths, ["", "d", "d/b", "d/c", "turns", "turns/inside"]);
    assert_eq!(fs::read_to_string(ground.root().join("d/b")).unwrap(), "2");
    assert!(
        described["d"].contains("mtime=1.000000000"),
        "{}",
        described["d"]
    );
}

#[test]
fn a_mounted_file_stays_the_same_file() {
    use std::os::unix::fs::MetadataExt;

    let ground = Ground::new();
    let path = ground.root().join("file");
    fs::write(&path, "much longer than what is restored").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let write = || File::options().write(true).open(&path).unwrap().into();
    let report = overwrite(write(), Cursor::new(forge().file("./file", "short").end())).unwrap();
    assert_eq!((report.entries, report.content_bytes), (1, 5));
    assert_eq!(fs::read_to_string(&path).unwrap(), "short");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    for archive in [
        forge().end(),
        forge().directory("d/").end(),
        forge().file("a", "1").file("b", "2").end(),
    ] {
        assert!(overwrite(write(), Cursor::new(archive)).is_err());
    }
}

/// Whoever unpacks an archive for us follows links and writes what he finds twice twice.
#[test]
fn an_archive_for_others_is_checked_as_if_it_were_unpacked_here() {
    let root = || forge().directory("./").file("word", "old");
    for (name, archive) in [
        (
            "sound",
            root().directory("d/").hard_link("d/h", "word").end(),
        ),
        (
            "through a link",
            root().symlink("s", "/outside").file("s/x", "x").end(),
        ),
        ("its root is a file", forge().file(".", "x").end()),
        ("twice", root().file("word", "x").end()),
        ("twice, as a link", root().symlink("word", "/outside").end()),
        (
            "a directory twice",
            root().directory("d/").directory("d/").end(),
        ),
        ("without its directory", root().file("d/x", "x").end()),
        (
            "its directory later",
            root().file("d/x", "x").directory("d/").end(),
        ),
        (
            "a hard link through a link",
            root().symlink("s", "/etc").hard_link("h", "s/passwd").end(),
        ),
        (
            "a hard link to a directory",
            root().directory("d/").hard_link("h", "d").end(),
        ),
        ("dots", root().file("../x", "x").end()),
        ("absolute", root().file("/x", "x").end()),
        ("nothing", forge().end()),
    ] {
        let taken = Inventory::take(&archive[..], TreeShape::Directory, &Selection::default());
        match taken {
            Ok(inventory) => {
                assert_eq!(name, "sound");
                assert_eq!((inventory.entries.len(), inventory.content_bytes), (4, 3));
            }
            Err(error) => {
                assert!(matches!(error, TreeError::Hostile(_)), "{name}: {error}");
                assert_ne!(name, "sound");
            }
        }
    }
    for archive in [
        forge().file("a", "1").file("b", "1").end(),
        forge().directory("a/").end(),
        forge().symlink("a", "/etc/passwd").end(),
        forge().end(),
    ] {
        let taken = Inventory::take(&archive[..], TreeShape::File, &Selection::default());
        assert!(matches!(taken, Err(TreeError::Hostile(_))), "{taken:?}");
    }
}

#[test]
fn the_size_of_a_file_with_holes_is_what_it_takes_where_they_are_filled() {
    let petabytes = "4503599627370496";
    let map = format!("1\n0\n{BLOCK}\n");
    let content = [map.as_bytes(), &vec![0; BLOCK - map.len()], &[7; BLOCK]].concat();
    let archive = forge()
        .directory("./")
        .records(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "big"),
            ("GNU.sparse.realsize", petabytes),
        ])
        .entry(b'0', b"big", b"", &content)
        .end();
    let taken = Inventory::take(&archive[..], TreeShape::Directory, &Selection::default());
    assert_eq!(taken.unwrap().chosen_bytes.to_string(), petabytes);
    let error = crate::tree::room::ensure_enough(1 << 52, 1 << 40, "make room").unwrap_err();
    assert!(
        error.to_string().starts_with("there is not enough room"),
        "{error}"
    );
}

#[test]
fn nothing_lies_deeper_than_can_be_put_back() {
    let name = format!("{}x", "a/".repeat(30_000));
    let archive = forge().records(&[("path", &name)]).file("x", "evil").end();
    let ground = Ground::new();
    let error = ground.unpack(&archive, Existing::Refuse).err().unwrap();
    assert!(error.to_string().contains("levels deep"), "{error}");
    assert!(error.to_string().len() < 600);
    assert_eq!(fs::read_dir(ground.root()).unwrap().count(), 0);
}

/// Beyond what a path can say, and with fewer files open than there are levels.
#[test]
fn a_deep_tree_is_saved_put_back_and_removed() {
    use crate::tree::ahead::Opening;
    use crate::tree::pack::{Source, pack};

    let depth = 2500;
    let ground = Ground::new();
    let root = || -> OwnedFd { File::open(ground.root()).unwrap().into() };
    let mut directory = root();
    for _ in 0..depth {
        mkdirat(&directory, "d", Mode::RWXU).unwrap();
        directory = fs_open(&directory, b"d");
    }
    openat(
        &directory,
        "file",
        OFlags::CREATE | OFlags::WRONLY,
        Mode::RUSR,
    )
    .unwrap();
    let mut archive = Vec::new();
    let source = Source::Directory(root(), Opening::Ahead);
    let packed = pack(
        source,
        &crate::tree::Excludes::default(),
        &mut archive,
        &mut |_| Ok(()),
    );
    assert_eq!(packed.unwrap().entries, depth + 2);
    remove(root(), b"d", &TreePath::root().join(b"d")).unwrap();
    assert_eq!(fs::read_dir(ground.root()).unwrap().count(), 0);
    let unpacked = ground.unpack(&archive, Existing::Refuse).unwrap();
    assert_eq!(unpacked.report.entries, depth + 2);
    let mut again = Vec::new();
    let source = Source::Directory(root(), Opening::Ahead);
    pack(
        source,
        &crate::tree::Excludes::default(),
        &mut again,
        &mut |_| Ok(()),
    )
    .unwrap();
    assert!(again == archive);
    remove(root(), b"d", &TreePath::root().join(b"d")).unwrap();
}

fn fs_open(directory: &OwnedFd, name: &[u8]) -> OwnedFd {
    super::fs::open_directory(directory, name).unwrap()
}

#[test]
fn a_restore_in_place_goes_around_what_is_left_out() {
    use crate::tree::stays::Stays;

    let ground = Ground::new();
    let root = ground.root();
    let put = |name: &str, content: &str| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), content).unwrap();
    };
    put("media/film", "now");
    put("extra/a.log", "now");
    put("extra/b", "now");
    put("doc", "now");
    let stays = Stays {
        patterns: vec!["/media/".to_owned(), "*.log".to_owned()],
        ..Stays::default()
    };
    let restore = |archive: &[u8], touched: &[&str]| {
        let open = || -> OwnedFd { File::open(&root).unwrap().into() };
        let touched: Vec<TreePath> = touched
            .iter()
            .map(|path| TreePath::parse(path.as_bytes()).unwrap())
            .collect();
        let standing = Standing::look(Some(open()), &stays, &touched)?;
        standing.clear(&open())?;
        let options = UnpackOptions {
            selection: Selection {
                paths: touched,
                ..Selection::default()
            },
            ..UnpackOptions::default()
        };
        let mut unpacker = Unpacker::over(open(), options, standing);
        unpacker.layer(archive)?;
        unpacker.finish()
    };
    let archive = forge()
        .directory("./")
        .file("doc", "saved")
        .directory("media/")
        .file("media/film", "saved")
        .file("media/older", "saved")
        .end();
    let report = restore(&archive, &[]).unwrap().report;
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    let text = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        [text("doc"), text("media/film"), text("media/older")],
        ["saved", "now", "saved"]
    );
    assert_eq!(text("extra/a.log"), "now");
    assert!(!root.join("extra/b").exists());

    // Of what was not chosen, nothing is touched.
    put("other", "now");
    put("doc", "now");
    restore(&archive, &["doc"]).unwrap();
    assert_eq!([text("doc"), text("other")], ["saved", "now"]);

    let error = restore(&forge().directory("./").file("extra", "x").end(), &[])
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("extra is not a directory in the snapshot"),
        "{error}"
    );
    assert_eq!(text("extra/a.log"), "now");
}
