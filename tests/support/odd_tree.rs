//! A tree with every oddity that a restore must bring back, and a description of any tree to compare by.

#![allow(dead_code, reason = "each test takes what it needs of this")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, utimensat,
};

/// Everything of one entry that a restore must bring back, as text.
pub type Description = BTreeMap<String, String>;

/// Describes every entry below `root` and the root itself, by path.
pub fn describe(root: &Path) -> Description {
    let mut described = Description::new();
    let mut links: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    describe_into(root, root, &mut described, &mut links);
    for group in links.values().filter(|group| group.len() > 1) {
        for name in group {
            let text = described.get_mut(name).unwrap();
            text.push_str(&format!(" links={group:?}"));
        }
    }
    described
}

fn describe_into(
    root: &Path,
    path: &Path,
    described: &mut Description,
    links: &mut BTreeMap<(u64, u64), Vec<String>>,
) {
    let name = show(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let mut text = format!(
        "mode={:o} owner={}:{} mtime={}.{:09}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    if kind.is_file() {
        text.push_str(&format!(" size={} {}", metadata.len(), content(path)));
    } else if kind.is_symlink() {
        let target = fs::read_link(path).unwrap();
        text.push_str(&format!(" target={}", show(target.as_os_str().as_bytes())));
    } else if kind.is_block_device() || kind.is_char_device() {
        text.push_str(&format!(" device={}", metadata.rdev()));
    }
    text.push_str(&attributes(path));
    described.insert(name.clone(), text);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            describe_into(root, &entry.unwrap().path(), described, links);
        }
    } else if metadata.nlink() > 1 {
        let group = links.entry((metadata.dev(), metadata.ino())).or_default();
        group.push(name);
        group.sort();
    }
}

/// The extents of data and a sum over them.
fn content(path: &Path) -> String {
    use sha2::{Digest, Sha256};

    let mut file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let mut text = String::new();
    let mut digest = Sha256::new();
    let mut position = 0;
    while position < size {
        let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(position)) else {
            break;
        };
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
        text.push_str(&format!("[{start}..{end}]"));
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut left = end - start;
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let part = left.min(buffer.len() as u64) as usize;
            file.read_exact(&mut buffer[..part]).unwrap();
            digest.update(&buffer[..part]);
            left -= part as u64;
        }
        position = end;
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{text} {digest}")
}

fn attributes(path: &Path) -> String {
    let mut list = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut names: Vec<&[u8]> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        text.push_str(&format!(" {}={}", show(name), show(&value[..length])));
    }
    text
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

/// Compares and names every difference, which two long maps do not.
pub fn differences(expected: &Description, found: &Description) -> Vec<String> {
    let mut all = Vec::new();
    for (path, text) in expected {
        match found.get(path) {
            None => all.push(format!("{path} is missing")),
            Some(other) if other != text => {
                all.push(format!("{path}\n  expected {text}\n  found    {other}"));
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        all.push(format!("{path} is extra"));
    }
    all
}

#[track_caller]
pub fn assert_same(expected: &Description, found: &Description) {
    let differences = differences(expected, found);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Builds the tree below `root`, which exists and is empty. Needs to be root.
pub fn build(root: &Path) {
    let at = |name: &str| root.join(name);

    fs::write(at("plain"), b"hello\n").unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::create_dir(at("empty-directory")).unwrap();
    fs::create_dir_all(at("deep/er/and/deeper")).unwrap();
    fs::write(at("deep/er/and/deeper/file"), vec![7; 100_000]).unwrap();
    fs::write(at("block-sized"), vec![1; 512]).unwrap();
    fs::write(at("several-pieces"), noise(3_000_001)).unwrap();

    names(root);
    links(root);
    owners_and_modes(root);
    special_files(root);
    sparse_files(root);
    attributes_and_acls(root);
    times(root);
}

fn names(root: &Path) {
    let raw = |bytes: &[u8]| root.join(OsStr::from_bytes(bytes));
    fs::write(raw(b"latin-\xe9\xff"), b"1").unwrap();
    fs::write(raw(b"line\nfeed \t\x01 and 'quotes\" \\ *?[x]"), b"2").unwrap();
    fs::write(raw(b"-dash"), b"3").unwrap();
    fs::write(raw("smörgåsbord-日本".as_bytes()), b"4").unwrap();
    fs::write(raw(&[b'n'; 255]), b"5").unwrap();
    fs::write(raw(&[b"\xfe".as_slice(), &[b'm'; 200]].concat()), b"6").unwrap();
    // Just up to, and just past, the 100 bytes of a header with `./` before it.
    for length in [97, 98, 99, 100, 101] {
        fs::write(raw(&vec![b'0' + (length % 10) as u8; length]), b"7").unwrap();
    }
    let mut path = root.join("long");
    for _ in 0..9 {
        path.push("d".repeat(120));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("bottom"), b"8").unwrap();
}

fn links(root: &Path) {
    let at = |name: &str| root.join(name);
    symlink("plain", at("link-relative")).unwrap();
    symlink("/etc/passwd", at("link-absolute")).unwrap();
    symlink("../../../outside", at("link-outside")).unwrap();
    symlink("nowhere", at("link-dangling")).unwrap();
    symlink("t".repeat(300), at("link-long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), at("link-raw")).unwrap();
    symlink(
        OsStr::from_bytes(&[b"\xff".as_slice(), &[b'r'; 150]].concat()),
        at("link-raw-long"),
    )
    .unwrap();
    symlink("empty-directory", at("link-directory")).unwrap();
    fs::create_dir(at("linked")).unwrap();
    fs::write(at("linked/b"), b"three names").unwrap();
    fs::hard_link(at("linked/b"), at("linked/a")).unwrap();
    fs::hard_link(at("linked/b"), at("z-third-name")).unwrap();
    fs::hard_link(at("linked/b"), at("linked").join("l".repeat(150))).unwrap();
    fs::hard_link(at("link-relative"), at("link-relative-twice")).unwrap();
}

fn owners_and_modes(root: &Path) {
    for (name, mode, uid, gid) in [
        ("set-uid", 0o4755, 1000, 1001),
        ("set-gid", 0o2755, 1000, 1001),
        ("nobody-may", 0o000, 65_534, 65_534),
        ("large-ids", 0o640, 2_097_151, 2_097_152),
        ("largest-ids", 0o600, 4_294_967_294, 4_294_967_294),
    ] {
        let path = root.join(name);
        fs::write(&path, name).unwrap();
        own(&path, uid, gid);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [
        ("sticky", 0o1777),
        ("set-gid-directory", 0o2770),
        ("closed", 0o000),
    ] {
        let path = root.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"").unwrap();
        own(&path, 33, 33);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::lchown(root.join("link-relative"), Some(12), Some(13)).unwrap();
    own(root, 999, 998);
    fs::set_permissions(root, Permissions::from_mode(0o2750)).unwrap();
}

fn own(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
}

fn special_files(root: &Path) {
    let node = |name: &str, kind, device| {
        let path = root.join(name);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), device).unwrap();
        own(&path, 5, 6);
        path
    };
    let fifo = node("fifo", FileType::Fifo, 0);
    fs::set_permissions(&fifo, Permissions::from_mode(0o4622)).unwrap();
    fs::hard_link(&fifo, root.join("fifo-second-name")).unwrap();
    set(&fifo, b"system.posix_acl_access", &acl(7));
    node("null", FileType::CharacterDevice, makedev(1, 3));
    node("block", FileType::BlockDevice, makedev(259, 1_048_575));
}

fn sparse_files(root: &Path) {
    let file = |name: &str| File::create(root.join(name)).unwrap();
    let put = |file: &mut File, at: u64, bytes: &[u8]| {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    };
    file("all-hole").set_len(3 << 30).unwrap();
    let mut hole_first = file("hole-first");
    put(&mut hole_first, 1 << 20, &noise(70_000));
    let mut past_8_gib = file("past-8-gib");
    put(&mut past_8_gib, 0, &noise(5000));
    put(&mut past_8_gib, 9 << 30, b"far out");
    past_8_gib.set_len((9 << 30) + 12_345).unwrap();
    let mut many = file("many-holes");
    for at in 0..300u64 {
        put(&mut many, at * 12_288, &[at as u8; 100]);
    }
    let long = raw_path(&[b"sparse-\xff".as_slice(), &[b's'; 130]].concat());
    let mut long = File::create(root.join(long)).unwrap();
    put(&mut long, 1 << 22, b"x");
    // The map is read while the file system still delays its allocation.
    rustix::fs::syncfs(&long).unwrap();
}

fn raw_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

fn attributes_and_acls(root: &Path) {
    let at = |name: &str| {
        let path = root.join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let path = at("attributes");
    set(&path, b"user.text", b"value");
    set(&path, b"user.binary", &[0, 10, 61, 255, 37]);
    set(&path, b"user.empty", b"");
    set(&path, b"user.odd=na%me", b"x");
    set(&path, b"user.large", &noise(3000));
    set(&path, b"user.raw\xff\n", b"y");

    let path = at("capable");
    // CAP_NET_RAW, permitted and effective, as `setcap cap_net_raw+ep` writes it.
    let mut capability = vec![1, 0, 0, 2, 0, 0x20];
    capability.resize(20, 0);
    set(&path, b"security.capability", &capability);

    let path = at("with-acl");
    set(&path, b"system.posix_acl_access", &acl(6));
    let directory = root.join("default-acl");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("before"), b"made before the default ACL").unwrap();
    set(&directory, b"system.posix_acl_access", &acl(5));
    set(&directory, b"system.posix_acl_default", &acl(7));
    set(&directory, b"user.directory", b"has one too");
    fs::write(directory.join("after"), b"inherits").unwrap();
}

/// `user::rwx,user:12345:<bits>,group::r-x,group:54321:r--,mask::rwx,other::---`
fn acl(bits: u16) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1u16, 7, u32::MAX),
        (2, bits, 12_345),
        (4, 5, u32::MAX),
        (8, 4, 54_321),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

fn set(path: &Path, name: &[u8], value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn times(root: &Path) {
    for (name, seconds, nanoseconds) in [
        ("plain", 1_700_000_000, 123_456_789),
        ("empty", 0, 1),
        ("block-sized", -1, 500_000_000),
        ("several-pieces", -86_400, 0),
        ("link-relative", 1_000_000_000, 999_999_999),
        ("fifo", 1_500_000_000, 5),
        ("empty-directory", 1_400_000_000, 10),
        ("linked/a", 1_300_000_000, 20),
        ("default-acl", 1_200_000_000, 30),
        ("past-8-gib", 4_000_000_000, 0),
        ("", 1_100_000_000, 987_654_321),
    ] {
        touch(&root.join(name), seconds, nanoseconds);
    }
}

pub fn touch(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Bytes that do not compress, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
