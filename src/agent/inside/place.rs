//! Where in a container temporary files can go.

use std::fmt;
use std::io;

use tokio::io::AsyncReadExt;

use super::SHORT;
use super::owner::Owner;
use crate::engine::{Container, Engine, EngineError};
use crate::pipe::ByteStream;
use crate::tree::entry::{Entry, Kind, Metadata};
use crate::tree::header::{BLOCK, Header};
use crate::tree::reader::ArchiveReader;

const USUAL: [&str; 2] = ["/tmp", "/var/tmp"];
/// As the kernel has it.
const MOST_LINKS: usize = 40;
/// Of a header before the first entry: more than any path, and a bound for what a hostile container may send.
const MOST_EXTENDED: u64 = 64 * 1024;

/// Directories to try, in this order: what the label says, or the usual ones.
pub fn candidates(scratch: Option<&str>) -> Vec<&str> {
    match scratch {
        Some(scratch) => vec![scratch],
        None => USUAL.to_vec(),
    }
}

/// Why the archive API cannot put files there, as far as the container's mounts tell.
pub fn refusal(container: &Container, path: &str) -> Option<&'static str> {
    if container.is_on_tmpfs(path) {
        return Some("is on a tmpfs, which the engine's archive API cannot see");
    }
    match container.mount_of(path) {
        Some(mount) if !mount.writable => Some("is mounted read-only"),
        None if container.read_only_root => Some("is in a read-only root file system"),
        _ => None,
    }
}

/// Why a directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing can be put there.
    Impossible(String),
    /// Somebody else could put a program of his own in the place of ours.
    Unsafe(Unsafe),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(why) => formatter.write_str(why),
            Self::Unsafe(why) => why.fmt(formatter),
        }
    }
}

/// A directory, or a link on the way to one, that others may change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} {why}")]
pub struct Unsafe {
    pub path: String,
    pub why: String,
    /// What to type in the container.
    pub remedy: String,
}

/// The directory that `path` names in the container, without links on the way there, or why it cannot be used. `user` is
/// who programs there will be run by: nobody but root and that user may be able to move, on the whole way, what leads
/// there. Without one, that is not looked at.
///
/// Every entry on the way is looked at by the beginning of its archive, which tells its owner; the engine's other answers
/// do not. The root directory is not looked at: whoever may change it may change every program of the container. On an engine
/// that remaps users (`userns-remap`) archives tell ids of its host, and the owner of the root directory is root's.
pub async fn resolve(
    engine: &Engine,
    container: &Container,
    path: &str,
    user: Option<Owner>,
) -> Result<Result<String, Refusal>, EngineError> {
    let impossible = |why: String| Ok(Err(Refusal::Impossible(why)));
    if let Some(why) = refusal(container, path) {
        return impossible(format!("{path} {why}"));
    }
    let root = match user {
        Some(_) if engine.remaps_users().await => match look(engine, container, "/").await? {
            Some(root) => root.metadata,
            None => return impossible("/ does not exist".to_owned()),
        },
        _ => Metadata::default(),
    };
    let mut place = Place::default();
    let mut ahead = Ahead::of(path);
    while let Some(component) = ahead.next() {
        let Some(entry_path) = place.child(&component) else {
            continue;
        };
        let Some(mut entry) = look(engine, container, &entry_path).await? else {
            return impossible(format!("{entry_path} does not exist"));
        };
        count_from(&root, &mut entry.metadata);
        if let Some(why) = user.and_then(|user| danger(&entry_path, &entry, user)) {
            return Ok(Err(Refusal::Unsafe(why)));
        }
        match entry.kind {
            Kind::Directory => place.enter(component),
            Kind::Symlink { target } => {
                let target = String::from_utf8_lossy(&target).into_owned();
                if target.starts_with('/') {
                    place = Place::default();
                }
                if !ahead.follow(&target) {
                    return impossible(format!("{path} leads through too many links"));
                }
            }
            _ => return impossible(format!("{entry_path} is not a directory")),
        }
    }
    let place = place.path();
    match refusal(container, &place) {
        Some(why) => impossible(format!("{path} leads to {place}, which {why}")),
        None => Ok(Ok(place)),
    }
}

/// Where the way has led: components, none of them a link.
#[derive(Default)]
struct Place(Vec<String>);

impl Place {
    fn path(&self) -> String {
        format!("/{}", self.0.join("/"))
    }

    /// `None` for a component that names nothing of its own, which is followed at once.
    fn child(&mut self, component: &str) -> Option<String> {
        match component {
            "" | "." => None,
            ".." => {
                self.0.pop();
                None
            }
            name => Some(format!("{}/{name}", self.path().trim_end_matches('/'))),
        }
    }

    fn enter(&mut self, component: String) {
        self.0.push(component);
    }
}

/// What is still to be followed.
struct Ahead {
    /// The next one last.
    components: Vec<String>,
    links: usize,
}

impl Ahead {
    fn of(path: &str) -> Self {
        let mut ahead = Self {
            components: Vec::new(),
            links: 0,
        };
        ahead.push(path);
        ahead
    }

    fn push(&mut self, path: &str) {
        let components = path.split('/').rev().map(str::to_owned);
        self.components.extend(components);
    }

    fn next(&mut self) -> Option<String> {
        self.components.pop()
    }

    /// `false` after too many of them.
    fn follow(&mut self, target: &str) -> bool {
        self.push(target);
        self.links += 1;
        self.links <= MOST_LINKS
    }
}

/// Gives an entry the ids that it has where those of `root` are 0. What the container does not know is nobody's there.
fn count_from(root: &Metadata, entry: &mut Metadata) {
    const NOBODY: u32 = u32::MAX;
    entry.uid = entry.uid.checked_sub(root.uid).unwrap_or(NOBODY);
    entry.gid = entry.gid.checked_sub(root.gid).unwrap_or(NOBODY);
}

/// Who may move what is in a directory, or lead a link elsewhere, beside root and the user.
fn danger(path: &str, entry: &Entry, user: Owner) -> Option<Unsafe> {
    const STICKY: u32 = 0o1000;
    let Metadata { mode, uid, gid, .. } = entry.metadata;
    let dangerous = |why: String, remedy: String| {
        let quoted = shlex::try_quote(path).unwrap_or_default();
        Some(Unsafe {
            path: path.to_owned(),
            why,
            remedy: format!("{remedy} {quoted}"),
        })
    };
    if uid != 0 && u64::from(uid) != user.uid {
        let why =
            format!("belongs to user {uid}, who could replace the programs that are run there");
        let option = if entry.kind.is_directory() { "" } else { "-h " };
        return dangerous(why, format!("chown {option}{}", user.uid));
    }
    if !entry.kind.is_directory() || mode & STICKY != 0 {
        return None;
    }
    // A user's own group is taken for a private one; that of root is not, since users without a name are put into it.
    let is_own_group = user.uid != 0 && u64::from(gid) == user.gid;
    let (who, class) = match mode {
        _ if mode & 0o002 != 0 => ("everybody".to_owned(), "o"),
        _ if mode & 0o020 != 0 && !is_own_group => (format!("group {gid}"), "g"),
        _ => return None,
    };
    let why = format!("is writable by {who}, who could replace the programs that are run there");
    dangerous(why, format!("chmod {class}-w"))
}

/// What the archive of `path` says of it; `None` when there is nothing. A link at its end is not followed.
async fn look(
    engine: &Engine,
    container: &Container,
    path: &str,
) -> Result<Option<Entry>, EngineError> {
    let archive = match engine.archive_get(&container.id, path, SHORT).await {
        Ok(archive) => archive,
        Err(EngineError::NoSuchPath { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let entry = first_entry(archive).await;
    entry.map(Some).map_err(|error| match error.downcast() {
        Ok(error) => error,
        Err(error) => EngineError::DamagedArchive {
            container: container.name.clone(),
            path: path.to_owned(),
            message: error.to_string(),
        },
    })
}

/// The first entry of an archive, of which no more is read.
async fn first_entry(mut archive: ByteStream) -> io::Result<Entry> {
    let mut beginning = Vec::new();
    loop {
        let mut block = [0; BLOCK];
        archive.read_exact(&mut block).await?;
        beginning.extend_from_slice(&block);
        let header = Header::read(block).map_err(io::Error::other)?;
        // A header of its own may carry what does not fit into an entry's.
        let Some(extended) = header.filter(|it| matches!(it.kind(), b'x' | b'L' | b'K')) else {
            break;
        };
        let size = extended.size().map_err(io::Error::other)?;
        if size > MOST_EXTENDED {
            return Err(io::Error::other("its first header is too long"));
        }
        let padded = size.next_multiple_of(BLOCK as u64);
        let mut content = (&mut archive).take(padded);
        if content.read_to_end(&mut beginning).await? as u64 != padded {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let entry = ArchiveReader::new(&beginning[..]).next_entry();
    entry
        .map_err(io::Error::other)?
        .ok_or_else(|| io::Error::other("it is empty"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::tests_support;
    use crate::engine::container::tests_support::mount;
    use crate::engine::{Mount, MountKind};
    use crate::tree::TreePath;

    #[test]
    fn places_that_cannot_hold_a_file_are_refused() {
        let mut usual = tests_support::container("db");
        usual.mounts = vec![
            mount(MountKind::Volume, "/scratch"),
            Mount {
                writable: false,
                ..mount(MountKind::Bind, "/scratch/ro")
            },
            mount(MountKind::Tmpfs, "/mem"),
        ];
        usual.tmpfs = vec!["/run".to_owned()];
        let mut read_only = usual.clone();
        read_only.tmpfs = vec!["/tmp".to_owned()];
        read_only.read_only_root = true;
        for (path, on_usual, on_read_only) in [
            (
                "/tmp",
                None,
                Some("is on a tmpfs, which the engine's archive API cannot see"),
            ),
            ("/var/tmp", None, Some("is in a read-only root file system")),
            ("/scratch", None, None),
            ("/scratch/deep", None, None),
            (
                "/scratch/ro",
                Some("is mounted read-only"),
                Some("is mounted read-only"),
            ),
            (
                "/mem/x",
                Some("is on a tmpfs, which the engine's archive API cannot see"),
                Some("is on a tmpfs, which the engine's archive API cannot see"),
            ),
        ] {
            assert_eq!(refusal(&usual, path), on_usual, "{path}");
            assert_eq!(refusal(&read_only, path), on_read_only, "{path}");
        }
    }

    fn directory(uid: u32, gid: u32, mode: u32) -> Entry {
        Entry {
            path: TreePath::parse(b"d").unwrap(),
            kind: Kind::Directory,
            metadata: Metadata {
                mode,
                uid,
                gid,
                ..Metadata::default()
            },
        }
    }

    #[test]
    fn only_root_and_the_user_may_be_able_to_exchange_the_agent() {
        let root = Owner::ROOT;
        let app = Owner { uid: 999, gid: 998 };
        for (entry, user, remedy) in [
            (directory(0, 0, 0o755), root, None),
            (directory(0, 0, 0o1777), root, None),
            (directory(0, 0, 0o1777), app, None),
            (directory(999, 998, 0o700), app, None),
            (directory(999, 998, 0o775), app, None),
            (directory(999, 998, 0o700), root, Some("chown 0 /d")),
            // Who owns a directory may move what is in it, sticky or not.
            (directory(999, 998, 0o1777), root, Some("chown 0 /d")),
            (directory(5, 998, 0o755), app, Some("chown 999 /d")),
            (directory(0, 0, 0o777), root, Some("chmod o-w /d")),
            (directory(0, 0, 0o775), root, Some("chmod g-w /d")),
            (directory(0, 50, 0o2775), app, Some("chmod g-w /d")),
            (directory(999, 998, 0o777), app, Some("chmod o-w /d")),
        ] {
            let found = danger("/d", &entry, user).map(|danger| danger.remedy);
            assert_eq!(found.as_deref(), remedy, "{entry:?} {user:?}");
        }
        let mut link = directory(999, 998, 0o777);
        link.kind = Kind::Symlink {
            target: b"/tmp".to_vec(),
        };
        assert_eq!(danger("/l", &link, app), None);
        let danger = danger("/l", &link, root).unwrap();
        assert_eq!(danger.remedy, "chown -h 0 /l");
        assert!(danger.to_string().contains("belongs to user 999"));
    }

    #[test]
    fn ids_of_the_host_count_from_the_root_of_the_container() {
        let root = directory(100_000, 100_000, 0o755).metadata;
        let app = Owner { uid: 999, gid: 998 };
        for (mut entry, user, is_safe) in [
            (directory(100_000, 100_000, 0o1777), Owner::ROOT, true),
            (directory(100_999, 100_998, 0o775), app, true),
            (directory(100_999, 100_998, 0o775), Owner::ROOT, false),
            // Users of the host, whom no process in the container is.
            (directory(999, 998, 0o700), app, false),
            (directory(0, 0, 0o755), Owner::ROOT, false),
        ] {
            count_from(&root, &mut entry.metadata);
            assert_eq!(danger("/d", &entry, user).is_none(), is_safe, "{entry:?}");
        }
        let mut same = directory(999, 998, 0o700);
        count_from(&Metadata::default(), &mut same.metadata);
        assert_eq!((same.metadata.uid, same.metadata.gid), (999, 998));
    }

    #[test]
    fn a_way_is_followed_component_by_component() {
        let mut place = Place::default();
        let mut ahead = Ahead::of("/srv/./x/../link/deep");
        let mut seen = Vec::new();
        while let Some(component) = ahead.next() {
            let Some(child) = place.child(&component) else {
                continue;
            };
            seen.push(child);
            if component == "link" {
                assert!(ahead.follow("../data//"));
            } else {
                place.enter(component);
            }
        }
        assert_eq!(place.path(), "/data/deep");
        assert_eq!(seen, ["/srv", "/srv/x", "/srv/link", "/data", "/data/deep"]);
    }

    #[tokio::test]
    async fn no_more_than_the_first_entry_is_read() {
        let mut long = Header::new(b'x');
        let mut records = crate::tree::pax::Records::default();
        records.push("uid", "4294967294");
        long.set_name(b"PaxHeaders/d");
        long.set_size(records.as_bytes().len() as u64);
        let mut bytes = long.finish().to_vec();
        bytes.extend(records.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut header = Header::new(b'5');
        header.set_name(b"d/");
        header.set_mode(0o1700);
        bytes.extend(header.finish());
        let cut = bytes[..bytes.len() - 1].to_vec();
        let entry = first_entry(Box::pin(io::Cursor::new(bytes))).await.unwrap();
        assert_eq!(
            (entry.metadata.uid, entry.metadata.mode),
            (4_294_967_294, 0o1700)
        );
        assert!(first_entry(Box::pin(io::Cursor::new(cut))).await.is_err());
    }

    #[test]
    fn a_label_leaves_no_other_place() {
        assert_eq!(candidates(None), ["/tmp", "/var/tmp"]);
        assert_eq!(candidates(Some("/scratch")), ["/scratch"]);
    }
}
