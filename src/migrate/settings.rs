//! The other tool's variables become the sidecar's. Each is taken once; what is left in the end has no equivalent.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::instance::{Instance, plain};
use super::place::{OWN, Place};
use super::{BACKUPS, Declaration, OWN_VOLUME, RemarkKind, SOCKET, SidecarMount};
use crate::engine::container::is_within;
use crate::engine::{Mount, MountKind};
use crate::keep::KeepPolicy;

pub(super) struct Settings<'d, 'a> {
    pub draft: &'d mut Draft<'a>,
    pub instance: &'a Instance<'a>,
    /// Those that nobody has taken yet.
    left: BTreeMap<&'a str, &'a str>,
    places: Vec<Target>,
}

/// A place that snapshots go to.
struct Target {
    /// The other tool's word for it.
    kind: &'static str,
    /// Whether old snapshots are removed there.
    is_pruned: bool,
    url: String,
}

impl<'d, 'a> Settings<'d, 'a> {
    pub fn new(draft: &'d mut Draft<'a>, instance: &'a Instance<'a>) -> Self {
        let variables = instance.container.env.iter();
        let left = variables
            .map(|(name, value)| (name.as_str(), plain(value)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            draft,
            instance,
            left,
            places: Vec::new(),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<&'a str> {
        self.left.remove(name)
    }

    /// Whether a switch is on.
    pub fn take_switch(&mut self, name: &str) -> bool {
        let value = self.take(name);
        value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.draft.sidecar.set(variable, value);
    }

    /// Something that is left to people.
    pub fn task(&mut self, name: &str, text: impl Into<String>) {
        self.remark(RemarkKind::ToDo, name, text);
    }

    pub fn differs(&mut self, name: &str, text: impl Into<String>) {
        self.remark(RemarkKind::Differs, name, text);
    }

    pub fn lost(&mut self, name: &str, text: impl Into<String>) {
        self.remark(RemarkKind::Lost, name, text);
    }

    fn remark(&mut self, kind: RemarkKind, name: &str, text: impl Into<String>) {
        let service = self.instance.service();
        self.draft.remark(kind, service, name, text);
    }

    /// Lets the sidecar read a secret from a file: the one that the other tool reads, else one to be written. Whether there is
    /// such a secret.
    pub fn move_secret(&mut self, variable: &str, theirs: &str) -> bool {
        let (value, file) = (self.take(theirs), self.take(&format!("{theirs}_FILE")));
        match (value, file) {
            (None, None) => false,
            (_, Some(path)) => {
                self.set(&format!("{variable}_FILE"), path);
                self.carry(path, &format!("{theirs}_FILE"));
                true
            }
            (Some(_), None) => {
                let file = self.new_secret(variable);
                self.task(theirs, format!("put its value into the file {file}"));
                true
            }
        }
    }

    /// A secret that the sidecar reads from a file which is to be written; the file's name beside the compose file.
    pub fn new_secret(&mut self, variable: &str) -> String {
        let name = variable.to_lowercase();
        self.set(&format!("{variable}_FILE"), format!("/run/secrets/{name}"));
        self.new_secret_file(&name)
    }

    pub fn new_secret_file(&mut self, name: &str) -> String {
        self.draft.sidecar.secrets.insert(name.to_owned());
        format!("./secrets/{name}")
    }

    /// Mounts a file, which the other tool's container has, at the same place in the sidecar.
    pub fn carry(&mut self, path: &str, name: &str) {
        match self.instance.container.mount_of(path) {
            Some(mount) => {
                let (source, target) = (self.source_of(mount), mount.destination.clone());
                self.draft.sidecar.mounts.insert(SidecarMount {
                    target,
                    source,
                    read_only: true,
                });
            }
            None => self.task(name, format!("let the sidecar have the file {path} too")),
        }
    }

    /// The host's path, or the volume's name, declared where the project does not do so.
    fn source_of(&mut self, mount: &Mount) -> String {
        let Some(volume) = mount
            .volume
            .clone()
            .filter(|_| mount.kind == MountKind::Volume)
        else {
            return mount.source.clone();
        };
        let declared = self.draft.survey.declared.get(&volume).cloned();
        match declared.filter(|_| self.instance.elsewhere.is_none()) {
            Some(name) => name,
            None => {
                let volumes = &mut self.draft.sidecar.new_volumes;
                volumes.insert(volume.clone(), Declaration::External);
                volume
            }
        }
    }

    /// The engine's socket, or address.
    pub fn engine(&mut self) {
        let address = self.take("DOCKER_HOST");
        let tls = self.take("DOCKER_TLS_VERIFY");
        let certificates = self.take("DOCKER_CERT_PATH");
        let address = address.filter(|address| !address.starts_with("unix:"));
        if let Some(address) = address {
            self.set("DOCKER_HOST", address);
            let text = "the sidecar has to reach the engine there too: see that it is in the same networks, and what \
                        docs/security.md says of socket proxies";
            self.task("DOCKER_HOST", text);
            if let Some(tls) = tls {
                self.set("DOCKER_TLS_VERIFY", tls);
            }
            if let Some(path) = certificates {
                self.set("DOCKER_CERT_PATH", path);
                self.carry(path, "DOCKER_CERT_PATH");
            }
            return;
        }
        let mut mounts = self.instance.container.mounts.iter();
        let mounted = mounts.find(|mount| mount.destination.ends_with("docker.sock"));
        let source = mounted.map_or(SOCKET, |mount| mount.source.as_str());
        self.draft.sidecar.mount(source, SOCKET);
    }

    pub fn time_zone(&mut self) {
        if let Some(zone) = self.take("TZ") {
            self.set("TZ", zone);
        }
    }

    pub fn schedule(&mut self, name: &str, default: &str) {
        let theirs = self.take(name).unwrap_or(default);
        let fields: Vec<&str> = theirs.split_whitespace().collect();
        let schedule = match fields.as_slice() {
            // Offen's way of saying never.
            [.., "31", "2", "?"] => "off".to_owned(),
            _ => {
                let fields = fields
                    .iter()
                    .map(|field| if *field == "?" { "*" } else { field });
                fields.collect::<Vec<_>>().join(" ")
            }
        };
        self.set("COFFERDAM_SCHEDULE", schedule);
        let text = "the service below is not started by `up`, so that you can look first: take `profiles` out of it, and it \
                    backs up by this schedule";
        self.task(name, text);
    }

    /// A directory of the other tool's container. `None` where nothing is mounted there.
    pub fn directory(&mut self, path: &str) -> Option<String> {
        let mounts = self.instance.container.mounts.iter();
        let mount = mounts
            .filter(|mount| matches!(mount.kind, MountKind::Volume | MountKind::Bind))
            .filter(|mount| is_within(path, &mount.destination))
            .max_by_key(|mount| mount.destination.len())?;
        let below = path[mount.destination.trim_end_matches('/').len()..].trim_end_matches('/');
        let source = self.source_of(mount);
        self.draft.sidecar.mount(&source, BACKUPS);
        Some(format!("{BACKUPS}{below}/{OWN}"))
    }

    /// `name` is the variable that the place comes from.
    pub fn add_place(&mut self, kind: &'static str, is_pruned: bool, place: &Place, name: &str) {
        match place.url() {
            Ok(url) => self.add_url(kind, is_pruned, url),
            Err(bad) => {
                let text = format!("the place that it makes {}; {}", bad.what, bad.hint);
                self.task(name, text);
            }
        }
    }

    pub fn add_url(&mut self, kind: &'static str, is_pruned: bool, url: String) {
        self.places.push(Target {
            kind,
            is_pruned,
            url,
        });
    }

    /// The first place is the repository, the others get copies.
    pub fn finish_places(&mut self, keep: Option<(String, &str)>) {
        let places = std::mem::take(&mut self.places);
        let mut urls = places.iter().map(|place| place.url.clone());
        match urls.next() {
            Some(url) => self.set("COFFERDAM_REPOSITORY", url),
            None => {
                self.draft.sidecar.use_own_volume();
                let text = format!(
                    "none of its places has an equivalent: snapshots go to the volume {OWN_VOLUME}; docs/stores.md tells which \
                     other places there are"
                );
                self.task("", text);
            }
        }
        let copies: Vec<String> = urls.collect();
        if !copies.is_empty() {
            self.set("COFFERDAM_COPY_TO", copies.join(","));
        }
        if let Some((rules, name)) = keep {
            self.keep(&places, rules, name);
        }
    }

    /// The same rules everywhere but where nothing was to be pruned.
    fn keep(&mut self, places: &[Target], rules: String, name: &str) {
        if let Err(bad) = rules.parse::<KeepPolicy>() {
            return self.task(name, format!("as COFFERDAM_KEEP it {bad}"));
        }
        let (first, others) = places.split_at(places.len().min(1));
        if first.iter().all(|place| place.is_pruned) {
            self.set("COFFERDAM_KEEP", rules.clone());
        }
        let (pruned, spared): (Vec<&Target>, Vec<&Target>) =
            others.iter().partition(|place| place.is_pruned);
        match (pruned.as_slice(), spared.as_slice()) {
            ([], _) => {}
            (_, []) => self.set("COFFERDAM_COPY_KEEP", rules),
            (_, spared) => {
                let kinds: Vec<&str> = spared.iter().map(|place| place.kind).collect();
                let text = format!(
                    "COFFERDAM_COPY_KEEP is for all copies, and {} was not to be pruned: set it where you want it",
                    kinds.join(", ")
                );
                self.task(name, text);
            }
        }
    }

    /// `port` tells how the connection is encrypted.
    pub fn mail(&mut self, letters: Letters<'a>) {
        let Letters {
            to,
            from,
            host,
            port,
            user,
            password,
        } = letters;
        let scheme = if port == "465" {
            "smtps"
        } else {
            "smtp+starttls"
        };
        self.set("COFFERDAM_MAIL_TO", to);
        self.set("COFFERDAM_MAIL_FROM", from);
        self.set("COFFERDAM_SMTP_URL", format!("{scheme}://{host}:{port}"));
        let has_password = self.move_secret("COFFERDAM_SMTP_PASSWORD", password);
        match user {
            Some(user) if has_password => self.set("COFFERDAM_SMTP_USER", user),
            Some(_) => self.task(
                password,
                "the mail server's user has no password: set both, or neither",
            ),
            None => {}
        }
        let text = "mail goes out when a backup fails or is missing: `cofferdam check --notify-test` sends one to see";
        self.differs("", text);
    }

    /// What nobody took, of the variables that are the other tool's. `reason` says why a variable has no equivalent.
    pub fn finish(
        self,
        is_theirs: impl Fn(&str) -> bool,
        reason: impl Fn(&str) -> Option<&'static str>,
    ) {
        for name in self.left.into_keys().filter(|name| is_theirs(name)) {
            let text = match reason(name) {
                Some(reason) => reason,
                None if name.ends_with("_FILE") => {
                    "its value stands in a file, which is not read here: take it over by hand"
                }
                None => "it has no equivalent",
            };
            let service = self.instance.service();
            self.draft.remark(RemarkKind::Lost, service, name, text);
        }
    }
}

/// Whom to write to, and by which server.
pub(super) struct Letters<'a> {
    pub to: &'a str,
    pub from: &'a str,
    pub host: &'a str,
    pub port: &'a str,
    pub user: Option<&'a str>,
    /// The other tool's variable.
    pub password: &'static str,
}
