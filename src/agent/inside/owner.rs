//! Who an exec runs as, in numbers: what is put into a container has to belong to that user.

use tokio::io::AsyncReadExt;

use super::{SHORT, VisitError, Visitor};
use crate::engine::EngineError;

/// A user and its primary group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u64,
    pub gid: u64,
}

impl Owner {
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Resolves `user`, `uid`, `user:group` … as the engine does. `None`: the container knows no such user or group.
    ///
    /// `passwd` and `group`: the container's files of these names, empty where there are none.
    pub fn resolve(specification: &str, passwd: &str, group: &str) -> Option<Self> {
        let (user, wanted_group) = match specification.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (specification, None),
        };
        if user.is_empty() && wanted_group.is_none() {
            return Some(Self::ROOT);
        }
        let number = user.parse().ok();
        let entry = passwd
            .lines()
            .filter_map(UserEntry::parse)
            .find(|entry| entry.name == user || Some(entry.owner.uid) == number);
        let owner = match (entry, number) {
            (Some(entry), _) => entry.owner,
            // The engine gives a number that the container does not know the group of root.
            (None, Some(uid)) => Self { uid, gid: 0 },
            (None, None) if user.is_empty() => Self::ROOT,
            (None, None) => return None,
        };
        let gid = match wanted_group {
            None | Some("") => owner.gid,
            Some(name) => group_id(name, group)?,
        };
        Some(Self { gid, ..owner })
    }

    /// Whether numbers alone tell everything, so that the container's files need not be read.
    pub fn in_numbers(specification: &str) -> Option<Self> {
        if specification.is_empty() || specification == "root" || specification == "0" {
            return Some(Self::ROOT);
        }
        let (uid, gid) = specification.split_once(':')?;
        Some(Self {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    }
}

struct UserEntry<'a> {
    name: &'a str,
    owner: Owner,
}

impl<'a> UserEntry<'a> {
    /// `name:password:uid:gid:…`, see passwd(5).
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut numbers = fields.skip(1).map(str::parse);
        let uid = numbers.next()?.ok()?;
        let gid = numbers.next()?.ok()?;
        Some(Self {
            name,
            owner: Owner { uid, gid },
        })
    }
}

/// `name:password:gid:…`, see group(5).
fn group_id(name: &str, group: &str) -> Option<u64> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    named.or_else(|| name.parse().ok())
}

/// The user that execs of a visitor run as.
pub(super) async fn owner_of(visitor: &Visitor<'_>) -> Result<Owner, VisitError> {
    let user = visitor.user.unwrap_or(&visitor.container.user);
    if let Some(owner) = Owner::in_numbers(user) {
        return Ok(owner);
    }
    let passwd = read_text(visitor, "/etc/passwd").await?;
    let group = read_text(visitor, "/etc/group").await?;
    Owner::resolve(user, &passwd, &group).ok_or_else(|| VisitError::NoUser {
        container: visitor.container.name.clone(),
        user: user.to_owned(),
    })
}

/// Far more than any list of users; a bound for what a hostile container may send.
const MOST_TEXT: u64 = 4 * 1024 * 1024;

/// A small text file of the container; empty when there is none.
async fn read_text(visitor: &Visitor<'_>, path: &str) -> Result<String, VisitError> {
    let container = &visitor.container.id;
    let content = match visitor.engine.file_get(container, path, SHORT).await {
        Ok((_, content)) => content,
        Err(EngineError::NoSuchPath { .. } | EngineError::WrongKind { .. }) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    content
        .take(MOST_TEXT)
        .read_to_end(&mut bytes)
        .await
        .map_err(|source| EngineError::Source {
            receiver: path.to_owned(),
            source,
        })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_resolved_as_the_engine_resolves_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998::/var/lib/postgresql:/bin/sh\nbroken\n";
        let group = "root:x:0:\nssl-cert:x:101:postgres\n";
        for (specification, expected) in [
            ("", Some((0, 0))),
            ("root", Some((0, 0))),
            ("postgres", Some((999, 998))),
            ("999", Some((999, 998))),
            ("70", Some((70, 0))),
            ("70:70", Some((70, 70))),
            ("postgres:ssl-cert", Some((999, 101))),
            ("postgres:", Some((999, 998))),
            (":ssl-cert", Some((0, 101))),
            ("nobody", None),
            ("postgres:nogroup", None),
        ] {
            let owner = Owner::resolve(specification, passwd, group);
            assert_eq!(
                owner.map(|owner| (owner.uid, owner.gid)),
                expected,
                "{specification}"
            );
        }
    }

    #[test]
    fn numbers_need_no_files() {
        for (specification, expected) in [
            ("", Some((0, 0))),
            ("0", Some((0, 0))),
            ("999:998", Some((999, 998))),
            // Its group stands in the container's files.
            ("999", None),
            ("postgres", None),
        ] {
            let owner = Owner::in_numbers(specification);
            assert_eq!(
                owner.map(|owner| (owner.uid, owner.gid)),
                expected,
                "{specification}"
            );
        }
    }
}
