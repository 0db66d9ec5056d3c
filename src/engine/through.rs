//! What Cofferdam speaks through: containers that carry its calls to the engine, such as a socket proxy.
//!
//! One is known by where `DOCKER_HOST` leads: to an address or a name in a network of our own container's, to a port that is
//! published on the host, or to a socket in a directory that another container has mounted too. A proxy behind a proxy is in
//! nobody's view, and so is what forwards the calls outside of containers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, PortMap};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Container, Endpoint, Engine, EngineError};

/// How many containers are inspected at the same time.
const INSPECTIONS: usize = 8;
/// Where the engine's own socket lies: whoever mounts one of these is no proxy for that.
const OF_THE_ENGINE: [&str; 4] = ["", "/run", "/var", "/var/run"];

/// How a running container can be reached.
#[derive(Clone, Debug, Default)]
struct Reach {
    id: String,
    networks: BTreeSet<String>,
    /// In its networks.
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// On the host: the address, if it is not all of them, and the port.
    published: BTreeSet<(Option<IpAddr>, u16)>,
    /// The container whose network it has.
    guest_of: Option<String>,
    in_network_of_host: bool,
    exposed: BTreeSet<u16>,
}

/// Where `DOCKER_HOST` leads.
#[derive(Clone, Debug)]
struct Dialled {
    host: String,
    port: u16,
    addresses: BTreeSet<IpAddr>,
}

impl Engine {
    /// Those of `containers` that carry our calls. `own` is the one that we run in.
    pub async fn speaks_through(
        &self,
        own: Option<&Container>,
        containers: &[Container],
    ) -> Result<Vec<Container>, EngineError> {
        let running = || {
            let others = containers.iter().filter(|it| it.is_alive());
            others.filter(|it| own.is_none_or(|own| own.id != it.id))
        };
        let found: Vec<&Container> = match &self.endpoint {
            Endpoint::Unix(path) => {
                let shared = running().filter(|it| shares_socket(path, own, it));
                shared.collect()
            }
            Endpoint::Tcp { address, .. } => {
                let Some(dialled) = Dialled::at(address).await else {
                    return Ok(Vec::new());
                };
                let ids = running().map(|it| it.id.clone()).collect();
                let others = self.reaches(ids).await?;
                let ids = own.map(|own| own.network_of.clone().unwrap_or(own.id.clone()));
                let own = self.reaches(ids.into_iter().collect()).await?;
                let ids = carriers(&dialled, own.first(), &others);
                running().filter(|it| ids.contains(&it.id)).collect()
            }
        };
        Ok(found.into_iter().cloned().collect())
    }

    /// One that is gone is left out.
    async fn reaches(&self, ids: Vec<String>) -> Result<Vec<Reach>, EngineError> {
        let found: Vec<Option<Reach>> = stream::iter(ids)
            .map(|id| async move {
                let mut reach = match self.inspect_raw(&id).await {
                    Ok(raw) => Reach::of(id, raw),
                    Err(EngineError::NoSuchContainer(_)) => return Ok(None),
                    Err(error) => return Err(error),
                };
                if let Some(host) = &mut reach.guest_of {
                    *host = self.id_of(std::mem::take(host)).await?;
                }
                Ok(Some(reach))
            })
            .buffered(INSPECTIONS)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

impl Dialled {
    async fn at(address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        // What has no address now is known by its name alone.
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses = found.into_iter().flatten().map(|found| found.ip());
        Some(Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            port,
            addresses: addresses.map(|address| address.to_canonical()).collect(),
        })
    }

    fn is_loopback(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_loopback)
    }
}

impl Reach {
    fn of(id: String, raw: ContainerInspectResponse) -> Self {
        let settings = raw.network_settings.unwrap_or_default();
        let mode = raw.host_config.and_then(|host| host.network_mode);
        let mode = mode.unwrap_or_default();
        let exposed = raw.config.and_then(|config| config.exposed_ports);
        let exposed = exposed.iter().flatten();
        let mut reach = Self {
            names: raw.name.iter().map(|name| plain(name)).collect(),
            published: published(settings.ports.unwrap_or_default()),
            guest_of: mode.strip_prefix("container:").map(str::to_owned),
            in_network_of_host: mode == "host",
            exposed: exposed.filter_map(|port| port_of(port)).collect(),
            id,
            ..Self::default()
        };
        for (name, endpoint) in settings.networks.unwrap_or_default() {
            let addresses = [endpoint.ip_address, endpoint.global_ipv6_address];
            let addresses = addresses.iter().flatten();
            reach
                .addresses
                .extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
            let names = [endpoint.aliases, endpoint.dns_names];
            let names = names.iter().flatten().flatten();
            reach.names.extend(names.map(|name| plain(name)));
            let id = endpoint.network_id.filter(|id| !id.is_empty());
            reach.networks.insert(id.unwrap_or(name));
        }
        reach
    }

    fn shares_a_network_with(&self, other: &Self) -> bool {
        !self.networks.is_disjoint(&other.networks)
    }

    fn is_published_at(&self, dialled: &Dialled) -> bool {
        let fits = |(address, port): &(Option<IpAddr>, u16)| {
            *port == dialled.port
                && address.is_none_or(|address| dialled.addresses.contains(&address))
        };
        self.published.iter().any(fits)
    }
}

fn plain(name: &str) -> String {
    name.trim_start_matches('/').to_ascii_lowercase()
}

/// `2375/tcp`
fn port_of(text: &str) -> Option<u16> {
    text.split('/').next()?.parse().ok()
}

fn published(ports: PortMap) -> BTreeSet<(Option<IpAddr>, u16)> {
    let bindings = ports.into_values().flatten().flatten();
    let read = bindings.filter_map(|binding| {
        let address = binding.host_ip.and_then(|it| it.parse::<IpAddr>().ok());
        let port = binding.host_port?.parse().ok()?;
        Some((address.filter(|it| !it.is_unspecified()), port))
    });
    read.collect()
}

/// The ids of those that answer at the dialled place. `own`: whoever's network we have, outside of containers nobody's.
fn carriers(dialled: &Dialled, own: Option<&Reach>, others: &[Reach]) -> BTreeSet<String> {
    let those = |is_one: &dyn Fn(&&Reach) -> bool| -> BTreeSet<String> {
        let found = others.iter().filter(is_one);
        found.map(|it| it.id.clone()).collect()
    };
    let own_network = own.filter(|own| !own.in_network_of_host);
    if let Some(own) = own_network
        && dialled.is_loopback()
    {
        // All of them share its loopback; which of them listens is not known.
        return those(&|it| it.id == own.id || it.guest_of.as_ref() == Some(&own.id));
    }
    let direct = those(&|it| {
        let by_name = own_network.is_some_and(|own| it.shares_a_network_with(own))
            && it.names.contains(&dialled.host);
        by_name || !it.addresses.is_disjoint(&dialled.addresses)
    });
    if !direct.is_empty() {
        return direct;
    }
    let published = those(&|it| it.is_published_at(dialled));
    if !published.is_empty() {
        return published;
    }
    those(&|it| it.in_network_of_host && it.exposed.contains(&dialled.port))
}

/// Whether the socket at `path` may be one that this container has made in a directory of ours.
fn shares_socket(path: &str, own: Option<&Container>, other: &Container) -> bool {
    let place = match own {
        Some(own) => match own.mount_of(path) {
            // The socket itself is mounted: what has made it is not seen.
            Some(mount) if mount.destination != path => own.place_of(path),
            _ => return false,
        },
        None => path.to_owned(),
    };
    let mut writable = other.mounts.iter().filter(|mount| mount.writable);
    writable.any(|mount| {
        let at = format!("{}/", mount.destination.trim_end_matches('/'));
        let root = other.place_of(&at);
        let root = root.trim_end_matches('/');
        !OF_THE_ENGINE.contains(&root) && place.starts_with(&format!("{root}/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MountKind;
    use crate::engine::container::tests_support::{container, mount};

    fn reach(id: &str, network: &str, address: &str, names: &[&str]) -> Reach {
        Reach {
            id: id.to_owned(),
            networks: [network.to_owned()].into(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: address.parse().into_iter().collect(),
            ..Reach::default()
        }
    }

    fn dialled(host: &str, port: u16, address: &str) -> Dialled {
        Dialled {
            host: host.to_owned(),
            port,
            addresses: address.parse().into_iter().collect(),
        }
    }

    fn found(dialled: &Dialled, own: Option<&Reach>, others: &[Reach]) -> Vec<String> {
        carriers(dialled, own, others).into_iter().collect()
    }

    #[test]
    fn a_proxy_is_known_by_its_name_its_alias_and_its_address() {
        let own = reach("own", "n1", "172.20.0.2", &["cofferdam"]);
        let proxy = reach(
            "proxy",
            "n1",
            "172.20.0.3",
            &["shop-proxy-1", "socket-proxy"],
        );
        let elsewhere = reach("elsewhere", "n2", "172.21.0.3", &["socket-proxy"]);
        let others = [proxy, elsewhere];
        for place in [
            dialled("socket-proxy", 2375, ""),
            dialled("shop-proxy-1", 2375, ""),
            dialled("172.20.0.3", 2375, "172.20.0.3"),
            // An alias that only the resolver knows.
            dialled("link", 2375, "172.20.0.3"),
        ] {
            assert_eq!(found(&place, Some(&own), &others), ["proxy"], "{place:?}");
        }
        let nobody = dialled("engine.example.org", 2375, "203.0.113.7");
        assert!(found(&nobody, Some(&own), &others).is_empty());
        // From the host, containers have no names.
        assert!(found(&dialled("socket-proxy", 2375, ""), None, &others).is_empty());
    }

    #[test]
    fn a_proxy_is_known_by_its_published_port() {
        let mut everywhere = reach("everywhere", "n1", "172.20.0.3", &[]);
        everywhere.published = [(None, 2375)].into();
        let mut local = reach("local", "n1", "172.20.0.4", &[]);
        local.published = [("127.0.0.1".parse().ok(), 2376)].into();
        let mut hosts = reach("hosts", "host", "", &[]);
        hosts.in_network_of_host = true;
        hosts.exposed = [2377].into();
        let others = [everywhere, local, hosts];
        let own = reach("own", "n2", "172.21.0.2", &[]);
        for (place, from, expected) in [
            (
                dialled("localhost", 2375, "127.0.0.1"),
                None,
                &["everywhere"][..],
            ),
            (
                dialled("gateway", 2375, "172.21.0.1"),
                Some(&own),
                &["everywhere"][..],
            ),
            (dialled("localhost", 2376, "127.0.0.1"), None, &["local"]),
            (dialled("gateway", 2376, "172.21.0.1"), Some(&own), &[]),
            (dialled("localhost", 2377, "127.0.0.1"), None, &["hosts"]),
            // Our own loopback address is not that of the host.
            (dialled("localhost", 2375, "127.0.0.1"), Some(&own), &[]),
        ] {
            assert_eq!(found(&place, from, &others), expected, "{place:?}");
        }
    }

    #[test]
    fn a_proxy_in_our_own_network_is_reached_over_its_loopback() {
        let host = reach("host", "n1", "172.20.0.2", &["shop-vpn-1"]);
        let guest = |id: &str, of: &str| Reach {
            guest_of: Some(of.to_owned()),
            ..reach(id, "", "", &[])
        };
        let others = [
            host.clone(),
            guest("guest", "host"),
            guest("another's", "other"),
        ];
        let place = dialled("localhost", 2375, "127.0.0.1");
        let expected = ["guest", "host"];
        assert_eq!(found(&place, Some(&host), &others), expected);
    }

    #[test]
    fn a_proxy_is_known_by_the_directory_of_its_socket() {
        let with = |name: &str, source: &str, destination: &str| {
            let mut container = container(name);
            let mut mount = mount(MountKind::Bind, destination);
            mount.source = source.to_owned();
            container.mounts.push(mount);
            container
        };
        let own = with("own", "/volumes/sockets", "/proxy");
        let proxy = with("proxy", "/volumes/sockets", "/run/proxy");
        let other = with("other", "/volumes/other", "/proxy");
        let path = "/proxy/docker.sock";
        assert!(shares_socket(path, Some(&own), &proxy));
        assert!(!shares_socket(path, Some(&own), &other));
        assert!(shares_socket("/volumes/sockets/docker.sock", None, &proxy));

        // Whoever uses the engine's own socket too carries nothing.
        let engine = "/var/run/docker.sock";
        let own = with("own", engine, engine);
        assert!(!shares_socket(
            engine,
            Some(&own),
            &with("portainer", engine, engine)
        ));
        let monitor = with("monitor", "/var/run", "/var/run");
        assert!(!shares_socket(engine, Some(&own), &monitor));
        assert!(!shares_socket(engine, None, &monitor));
        assert!(!shares_socket(engine, None, &with("root", "/", "/host")));
    }
}
