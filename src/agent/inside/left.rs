//! What the visits of a dead run have left in a container, found and removed from outside: the container may be stopped, or
//! another one than it was.
//!
//! The engine archives a directory in the order of its entries' names, each before what is in it, so the beginning of the
//! archive tells whether a directory of ours is there; the rest is not read. In a running container its own `rm` removes
//! it. Elsewhere an archive does that puts a file, and then an empty directory, in its place: nothing is left of its content,
//! and the next visit removes the empty directory.

use std::io::Cursor;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::info;

use super::owner::Owner;
use super::{SHORT, VisitError, directory_archive, place};
use crate::agent::job::{DIRECTORY_PREFIX, Failure};
use crate::engine::{Container, Engine, EngineError, ExecSpec};
use crate::pipe::ByteStream;
use crate::target::RunId;
use crate::tree::header::{BLOCK, Header};

/// How long the engine may be silent while it lists a directory.
const IDLE: Duration = Duration::from_secs(60);

/// More than the visits of any run at one moment.
const MAX_LEFT: usize = 100;

/// Removes them from the usual places, and from those that labels have named. An error says what is left, and where.
pub async fn sweep(
    engine: &Engine,
    container: &Container,
    scratch: &[&str],
    run: &RunId,
) -> Result<(), VisitError> {
    let usual = place::candidates(None);
    for candidate in usual.iter().chain(scratch) {
        // Where nothing can be put, nothing was.
        let Ok(place) = place::resolve(engine, container, candidate, None).await? else {
            continue;
        };
        for _ in 0..MAX_LEFT {
            let Some(left) = find(engine, container, &place, run).await? else {
                break;
            };
            remove(engine, container, &place, &left).await?;
            info!(
                container = container.name,
                place,
                name = left.name,
                "removed what a dead run left behind"
            );
        }
    }
    Ok(())
}

/// A directory that a visit has left.
#[derive(Clone, Debug)]
struct LeftDirectory {
    name: String,
    owner: Owner,
}

/// A directory of the run in `place` that holds something, or that can be removed.
async fn find(
    engine: &Engine,
    container: &Container,
    place: &str,
    run: &RunId,
) -> Result<Option<LeftDirectory>, VisitError> {
    let archive = match engine.archive_get(&container.id, place, IDLE).await {
        Ok(archive) => archive,
        Err(EngineError::NoSuchContainer(_) | EngineError::NoSuchPath { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let wanted = if container.is_running() {
        Wanted::Any
    } else {
        Wanted::NotEmpty
    };
    first_of(archive, &format!("{DIRECTORY_PREFIX}{run}-"), wanted)
        .await
        .map_err(|source| {
            let receiver = format!("the list of {place} in container {}", container.name);
            EngineError::Source { receiver, source }.into()
        })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    NotEmpty,
}

/// The first directory at the archive's top whose name begins with `prefix`. Links are none, wherever they lead.
async fn first_of(
    mut archive: ByteStream,
    prefix: &str,
    wanted: Wanted,
) -> std::io::Result<Option<LeftDirectory>> {
    let mut found: Option<LeftDirectory> = None;
    while let Some(header) = next_header(&mut archive).await? {
        let name = header.name();
        let mut components = name.split(|byte| *byte == b'/').filter(|it| !it.is_empty());
        let (top, below) = (components.nth(1).unwrap_or_default(), components.next());
        // A header of its own may carry what does not fit into an entry's.
        let is_entry = !matches!(header.kind(), b'x' | b'g' | b'L' | b'K');
        let is_found = |found: &LeftDirectory| found.name.as_bytes() == top;
        if is_entry && found.as_ref().is_some_and(is_found) && below.is_some() {
            return Ok(found);
        }
        if is_entry && top.starts_with(prefix.as_bytes()) && header.kind() == b'5' {
            let left = LeftDirectory {
                name: String::from_utf8_lossy(top).into_owned(),
                owner: Owner {
                    uid: header.uid().map_err(std::io::Error::other)?,
                    gid: header.gid().map_err(std::io::Error::other)?,
                },
            };
            if wanted == Wanted::Any {
                return Ok(Some(left));
            }
            found = Some(left);
        } else if is_entry && top > prefix.as_bytes() && !top.starts_with(prefix.as_bytes()) {
            return Ok(None);
        }
        let size = header.size().map_err(std::io::Error::other)?;
        let padded = size.next_multiple_of(BLOCK as u64);
        let skipped = &mut (&mut archive).take(padded);
        if tokio::io::copy(skipped, &mut tokio::io::sink()).await? < padded {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(None)
}

async fn next_header(archive: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Header>> {
    let mut block = [0; BLOCK];
    archive.read_exact(&mut block).await?;
    Header::read(block).map_err(std::io::Error::other)
}

async fn remove(
    engine: &Engine,
    container: &Container,
    place: &str,
    left: &LeftDirectory,
) -> Result<(), VisitError> {
    let name = &left.name;
    let directory = format!("{}/{name}", place.trim_end_matches('/'));
    if container.is_running() {
        let Owner { uid, gid } = left.owner;
        // Root does not walk through a directory that its owner may change meanwhile. That owner may be no master of the
        // directory above.
        for (user, argv) in [
            (
                format!("{uid}:{gid}"),
                &["rm", "-rf", "--", &*directory][..],
            ),
            ("0".to_owned(), &["rmdir", "--", &*directory]),
        ] {
            let spec = ExecSpec {
                user: Some(user),
                limit: Some(SHORT),
                ..ExecSpec::new(argv.iter().copied())
            };
            let removed = engine.exec(&container.id, &spec).await;
            if removed.is_ok_and(|output| output.exit_code == 0) {
                return Ok(());
            }
        }
    }
    engine
        .archive_put(&container.id, place, emptying_archive(name))
        .await?;
    if container.is_running() {
        return Err(VisitError::Failed(Failure::Other {
            message: format!(
                "{directory} stays in container {}, empty, until the next run, because the container has no rm",
                container.name
            ),
        }));
    }
    Ok(())
}

/// A tar archive of a file, and of an empty directory in its place. The engine removes what is of another kind, whole.
fn emptying_archive(name: &str) -> ByteStream {
    let mut file = Header::new(b'0');
    file.set_name(name.as_bytes());
    file.set_mode(0o600);
    Box::pin(Cursor::new(file.finish()).chain(directory_archive(name, Owner::ROOT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "20261121T020000Z-9f2c61aa";

    fn archive(entries: &[(&str, u8, &str)]) -> ByteStream {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            let mut header = Header::new(*kind);
            header.set_name(name.as_bytes());
            header.set_size(content.len() as u64);
            bytes.extend(header.finish());
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        Box::pin(Cursor::new(bytes))
    }

    async fn found(entries: &[(&str, u8, &str)], wanted: Wanted) -> Option<LeftDirectory> {
        let prefix = format!(".cofferdam-{RUN}-");
        first_of(archive(entries), &prefix, wanted).await.unwrap()
    }

    #[tokio::test]
    async fn only_directories_of_the_run_are_found() {
        let ours = format!("tmp/.cofferdam-{RUN}-00000001");
        let other = "tmp/.cofferdam-20261120T020000Z-00000000-00000001/";
        let link = (&*ours, b'2', "");
        let file = (&*ours, b'0', "somebody's");
        let directory = format!("{ours}/");
        let dump = format!("{ours}/dump");
        for (entries, any, not_empty) in [
            (vec![("tmp/", b'5', "")], false, false),
            (vec![("tmp/", b'5', ""), (other, b'5', "")], false, false),
            (vec![("tmp/", b'5', ""), link, file], false, false),
            (
                vec![("tmp/.X11", b'5', ""), (&directory, b'5', "")],
                true,
                false,
            ),
            (
                vec![
                    ("tmp/.X11/lock", b'0', "of some length"),
                    (other, b'5', ""),
                    (&directory, b'5', ""),
                    (&dump, b'0', "plain text"),
                ],
                true,
                true,
            ),
            // It would not stand so late.
            (
                vec![("tmp/a", b'0', ""), (&directory, b'5', "")],
                false,
                false,
            ),
        ] {
            let is_found = found(&entries, Wanted::Any).await.is_some();
            assert_eq!(is_found, any, "{entries:?}");
            let is_found = found(&entries, Wanted::NotEmpty).await.is_some();
            assert_eq!(is_found, not_empty, "{entries:?}");
        }
    }

    #[tokio::test]
    async fn a_list_that_is_cut_is_no_list() {
        let whole = archive(&[("tmp/.X11", b'0', "something")]);
        let cut = Box::pin(whole.take(600));
        assert!(first_of(cut, ".cofferdam-", Wanted::Any).await.is_err());
    }
}
