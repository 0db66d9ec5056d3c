//! What running containers have mounted in a tree, and which parts of it they have mounted elsewhere.
//!
//! Who moves or removes the directory that something is mounted on takes the mount away from the container; who moves a
//! directory that is mounted elsewhere leaves the container with the old one. A helper sees neither, so it is told.

use super::DriverError;
use super::site::{MADE_BY_THE_ENGINE, MountSite, resolve};
use crate::engine::container::{State, is_within};
use crate::engine::{Container, Engine, Mount};
use crate::tree::TreePath;

/// Relative to the tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Where something is mounted.
    pub mounts: Vec<TreePath>,
    /// What is itself mounted somewhere.
    pub anchors: Vec<TreePath>,
}

/// A container's mount, by where it really is.
struct Place<'a> {
    destination: String,
    /// `None` for what the engine has made.
    mount: Option<&'a Mount>,
}

/// Only containers that run have mounts; one that starts later finds whatever is there.
pub(super) async fn seen(
    engine: &Engine,
    own: &Container,
    site: &MountSite,
) -> Result<Seen, DriverError> {
    let Some(tree) = tree_on_the_host(site) else {
        return Ok(Seen::default());
    };
    let mut seen = Seen::default();
    let mut containers = engine.containers(&[]).await?;
    engine.see_through_volumes(&mut containers).await?;
    for container in containers {
        if !has_mounts(&container) {
            continue;
        }
        let mut places = places(&container);
        if container.id == own.id {
            for place in &mut places {
                place.destination = resolve(engine, own, &place.destination).await?.0;
            }
        }
        look(&tree, &places, &mut seen);
    }
    Ok(seen)
}

fn has_mounts(container: &Container) -> bool {
    matches!(
        container.state,
        State::Running | State::Paused | State::Restarting
    )
}

fn places(container: &Container) -> Vec<Place<'_>> {
    let mounts = container.mounts.iter().map(|mount| Place {
        destination: mount.destination.clone(),
        mount: Some(mount),
    });
    let made = MADE_BY_THE_ENGINE.iter().map(|(path, _)| *path);
    let others = container.tmpfs.iter().map(String::as_str).chain(made);
    let others = others.map(|path| Place {
        destination: path.to_owned(),
        mount: None,
    });
    mounts.chain(others).collect()
}

fn look(tree: &str, places: &[Place<'_>], seen: &mut Seen) {
    for place in places {
        let own_source = place.mount.and_then(Mount::on_the_host);
        seen.anchors
            .extend(own_source.and_then(|source| below(&source, tree)));
        let around = places
            .iter()
            .filter(|outer| {
                outer.destination != place.destination
                    && is_within(&place.destination, &outer.destination)
            })
            .max_by_key(|outer| outer.destination.len());
        let point = around.and_then(|outer| {
            let source = outer.mount?.on_the_host()?;
            let rest = &place.destination[outer.destination.trim_end_matches('/').len()..];
            below(&format!("{source}{rest}"), tree)
        });
        seen.mounts.extend(point.filter(|point| !point.is_root()));
    }
}

fn tree_on_the_host(site: &MountSite) -> Option<String> {
    let root = site.host.as_deref()?;
    // A name that is not text is in no container's list of mounts.
    let place = std::str::from_utf8(site.place.as_bytes()).ok()?;
    Some(format!("{root}/{place}").trim_end_matches('/').to_owned())
}

fn below(path: &str, tree: &str) -> Option<TreePath> {
    let rest = is_within(path, tree).then(|| &path[tree.len()..])?;
    TreePath::parse(rest.trim_start_matches('/').as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MountKind;
    use crate::engine::container::tests_support::container;

    fn mount(source: &str, subpath: Option<&str>, destination: &str) -> Mount {
        Mount {
            kind: MountKind::Volume,
            volume: None,
            source: source.to_owned(),
            subpath: subpath.map(str::to_owned),
            destination: destination.to_owned(),
            writable: true,
        }
    }

    fn seen_in(tree: &str, mounts: Vec<Mount>, tmpfs: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut container = container("app");
        container.mounts = mounts;
        container.tmpfs = tmpfs.iter().map(|&path| path.to_owned()).collect();
        let mut seen = Seen::default();
        look(tree, &places(&container), &mut seen);
        let shown = |paths: Vec<TreePath>| paths.iter().map(TreePath::encode).collect();
        (shown(seen.mounts), shown(seen.anchors))
    }

    #[test]
    fn mounts_in_a_tree_are_found_however_they_are_nested() {
        let mounts = || {
            vec![
                mount("/v/outer", None, "/data"),
                mount("/v/inner", None, "/data/a/sub"),
                mount("/v/innermost", None, "/data/a/sub/deep"),
            ]
        };
        let (points, anchors) = seen_in("/v/outer", mounts(), &["/data/cache"]);
        assert_eq!(points, ["a/sub", "cache"]);
        assert_eq!(anchors, [""]);
        assert_eq!(seen_in("/v/outer/a", mounts(), &[]).0, ["sub"]);
        assert_eq!(seen_in("/v/inner", mounts(), &[]).0, ["deep"]);
        assert_eq!(seen_in("/v/out", mounts(), &[]).0, Vec::<String>::new());
    }

    #[test]
    fn what_is_mounted_elsewhere_too_stays_where_it_is() {
        let mounts = vec![
            mount("/v/shared", Some("a/b"), "/srv"),
            mount("/v/shared/c", None, "/c"),
            mount("/v/other", None, "/srv/other"),
        ];
        let (points, anchors) = seen_in("/v/shared", mounts, &[]);
        assert_eq!(points, ["a/b/other"]);
        assert_eq!(anchors, ["a/b", "c"]);
    }

    #[test]
    fn what_the_engine_mounts_over_a_volume_counts() {
        let (points, _) = seen_in("/v/etc", vec![mount("/v/etc", None, "/etc")], &[]);
        assert_eq!(points, ["hostname", "hosts", "resolv.conf"]);
    }
}
