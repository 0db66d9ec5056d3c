//! Engines in containers: nodes of a swarm, and engines that are reached over TCP with TLS.
//!
//! All tests of the process share one swarm, since it takes half a minute to make: whoever uses it has it alone. It goes
//! when the process does, however that ends.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::stack::{POSTGRES, Run, eventually};
use super::{TEST_LABEL, busybox_image, docker, docker_succeeds, program, unique};

const ENGINE: &str = "cofferdam-test/engine:26";
/// As the nodes call it.
pub const COFFERDAM: &str = "cofferdam:under-test";
/// Where every node sees the shared repository.
const BACKUPS: &str = "/srv/backups";

/// What an engine needs. `--privileged` may be refused where the machine itself lacks a capability.
const CAPABILITIES: [&str; 8] = [
    "SYS_ADMIN",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_PTRACE",
    "SYS_CHROOT",
    "MKNOD",
    "DAC_READ_SEARCH",
    "SETFCAP",
];

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An engine of its own.
pub struct Node {
    pub name: &'static str,
    /// Of the container that it runs in.
    id: String,
    pub address: String,
}

/// A manager and a worker, with the images of the tests and one place for snapshots.
pub struct Swarm {
    pub manager: Node,
    pub worker: Node,
    /// `ca.pem`, `cert.pem` and `key.pem` for whoever calls an engine.
    pub certificates: TempDir,
}

/// The worker hears nothing of the manager, nor the manager of it, until this is dropped.
pub struct CutOff<'a>(&'a Swarm);

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.0.filter_at_worker("--delete");
    }
}

/// The swarm, for one test at a time.
pub fn swarm() -> MutexGuard<'static, Swarm> {
    static SWARM: LazyLock<Mutex<Swarm>> = LazyLock::new(|| Mutex::new(Swarm::start()));
    SWARM.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// `docker` with these arguments, on the node's own engine; what it printed.
    #[track_caller]
    pub fn docker<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let first = ["exec", &self.id, "docker"].map(str::to_owned);
        docker(first.into_iter().chain(arguments))
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let first = ["exec", &self.id, "docker"];
        let output = Command::new("docker")
            .args(first)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        output.expect("docker").into()
    }

    /// The id of the one running container of a swarm's service on this node, if there is one.
    pub fn task(&self, service: &str) -> Option<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let found = self.docker(["ps", "--quiet", "--no-trunc", "--filter", &filter]);
        found.lines().next().map(str::to_owned)
    }

    /// The ids of the hold journals and marks of a project in this node's engine.
    pub fn journals(&self, project: &str) -> String {
        let filter = format!("label=cofferdam.hold={project}");
        self.docker(["ps", "--all", "--quiet", "--filter", &filter])
    }

    /// Cofferdam in the sidecar of this node.
    pub fn cofferdam(&self, stack: &str, arguments: &[&str]) -> Run {
        self.cofferdam_with(stack, &[], arguments)
    }

    pub fn cofferdam_with(&self, stack: &str, variables: &[&str], arguments: &[&str]) -> Run {
        let sidecar = self
            .task(&format!("{stack}_cofferdam"))
            .expect("a sidecar on the node");
        let mut all = vec!["exec"];
        for variable in variables {
            all.extend(["--env", variable]);
        }
        all.extend([sidecar.as_str(), "/cofferdam"]);
        all.extend(arguments);
        self.run(&all)
    }

    fn start(name: &'static str, volume: &str) -> Self {
        let container = unique(name);
        let backups = format!("{volume}:{BACKUPS}");
        let mut arguments = vec!["run", "--detach", "--name", &container, "--hostname", name];
        arguments.extend(["--label", TEST_LABEL, "--entrypoint", "sleep"]);
        for capability in CAPABILITIES {
            arguments.extend(["--cap-add", capability]);
        }
        for option in [
            "seccomp=unconfined",
            "apparmor=unconfined",
            "systempaths=unconfined",
        ] {
            arguments.extend(["--security-opt", option]);
        }
        arguments.extend(["--volume", "/sys/fs/cgroup:/sys/fs/cgroup"]);
        arguments.extend(["--volume", &backups, ENGINE, "infinity"]);
        let id = docker(arguments);
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = docker(["inspect", "--format", address, &id]);
        Self { name, id, address }
    }

    /// An engine with these arguments, reached by [`Self::docker`] alone. It goes when the process does.
    pub fn alone(name: &'static str, arguments: &[&str], images: &[&str]) -> Self {
        let volume = unique("backups");
        docker(["volume", "create", "--label", TEST_LABEL, &volume]);
        let node = Self::start(name, &volume);
        remove_at_exit(&[&node.id], &volume);
        let begin = ["exec", "--detach", &node.id, "entrypoint.sh"];
        docker(begin.iter().chain(arguments));
        eventually("an engine in a container", || node.run(&["info"]).code == 0);
        node.load(images);
        docker([
            "cp",
            program(),
            &format!("{}:/usr/local/bin/cofferdam", node.id),
        ]);
        node
    }

    /// A program beside the engine, as on its host.
    pub fn on_its_host(&self, command: &[&str]) -> Run {
        let mut all = Command::new("docker");
        all.args(["exec", &self.id]).args(command);
        all.output().expect("docker").into()
    }

    /// Starts the engine, for whom `authority` signed.
    fn serve(&self, authority: &Authority) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        write_certificates(directory.path(), authority, &self.address);
        docker(["exec", &self.id, "mkdir", "/certificates"]);
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            let from = directory.path().join(file).display().to_string();
            docker(["cp", &from, &format!("{}:/certificates/{file}", self.id)]);
        }
        self.begin();
    }

    /// Ends the engine and starts it again, as an upgrade does. Its containers end with it.
    pub fn restart_engine(&self) {
        docker(["exec", &self.id, "pkill", "-TERM", "-x", "dockerd"]);
        let runs = ["exec", &self.id, "pgrep", "-x", "dockerd"];
        eventually("the engine has ended", || !docker_succeeds(runs));
        self.begin();
        eventually("the engine is back", || self.run(&["info"]).code == 0);
    }

    fn begin(&self) {
        docker([
            "exec",
            "--detach",
            &self.id,
            "entrypoint.sh",
            "--host=tcp://0.0.0.0:2376",
            "--tlsverify",
            "--tlscacert=/certificates/ca.pem",
            "--tlscert=/certificates/cert.pem",
            "--tlskey=/certificates/key.pem",
        ]);
    }

    fn load(&self, images: &[&str]) {
        let save = format!(
            "docker save {} | docker exec --interactive {} docker load",
            images.join(" "),
            self.id
        );
        shell(&save);
    }

    /// The program under test, as the only file of an image.
    fn load_cofferdam(&self) {
        let program = Path::new(program());
        let directory = program.parent().expect("a directory").display();
        let import = format!(
            "tar --directory {directory} --create cofferdam | docker exec --interactive {} docker import \
             --change 'ENTRYPOINT [\"/cofferdam\"]' --change 'CMD [\"daemon\"]' --change 'LABEL cofferdam.agent-image=1' \
             - {COFFERDAM}",
            self.id
        );
        shell(&import);
    }
}

impl Swarm {
    fn start() -> Self {
        assert!(
            docker_succeeds(["image", "inspect", ENGINE]),
            "there is no image {ENGINE}: run scripts/test-images.sh engine"
        );
        let volume = unique("backups");
        docker(["volume", "create", "--label", TEST_LABEL, &volume]);
        let manager = Node::start("manager-1", &volume);
        let worker = Node::start("worker-1", &volume);
        remove_at_exit(&[&manager.id, &worker.id], &volume);
        let authority = authority();
        for node in [&manager, &worker] {
            node.serve(&authority);
        }
        for node in [&manager, &worker] {
            eventually("an engine in a container", || node.run(&["info"]).code == 0);
            node.load_cofferdam();
        }
        manager.load(&[busybox_image()]);
        worker.load(&[busybox_image(), POSTGRES]);
        manager.docker(["swarm", "init", "--advertise-addr", &manager.address]);
        let token = manager.docker(["swarm", "join-token", "--quiet", "worker"]);
        let at = format!("{}:2377", manager.address);
        worker.docker(["swarm", "join", "--token", &token, &at]);
        eventually("both nodes", || {
            manager.docker(["node", "ls", "--format", "{{.Status}}"]) == "Ready\nReady"
        });
        manager.docker(["node", "update", "--label-add", "shop-db=true", worker.name]);
        let certificates = tempfile::tempdir().expect("a temporary directory");
        write_certificates(certificates.path(), &authority, "127.0.0.1");
        let swarm = Self {
            manager,
            worker,
            certificates,
        };
        for (secret, file) in [
            ("manager_ca", "ca.pem"),
            ("manager_cert", "cert.pem"),
            ("manager_key", "key.pem"),
        ] {
            let content = std::fs::read(swarm.certificates.path().join(file)).expect(file);
            swarm.secret(secret, &content);
        }
        swarm.secret("db_password", super::stack::PASSWORD.as_bytes());
        swarm
    }

    /// Cuts the network between the nodes, and waits until the manager takes the worker for dead.
    pub fn cut_off_worker(&self) -> CutOff<'_> {
        self.filter_at_worker("--insert");
        let cut_off = CutOff(self);
        eventually("the worker is down", || self.state_of_worker() == "down");
        cut_off
    }

    pub fn state_of_worker(&self) -> String {
        let state = ["node", "inspect", "--format", "{{.Status.State}}"];
        self.manager.docker(state.iter().chain(&[self.worker.name]))
    }

    /// For packets of the engine itself, and of its containers.
    fn filter_at_worker(&self, action: &str) {
        for chain in ["OUTPUT", "FORWARD"] {
            let rule = ["--destination", &self.manager.address, "--jump", "DROP"];
            let filter = ["exec", &self.worker.id, "iptables", action, chain];
            docker(filter.iter().chain(&rule));
        }
    }

    fn secret(&self, name: &str, content: &[u8]) {
        let mut create = Command::new("docker")
            .args(["exec", "--interactive", &self.manager.id])
            .args(["docker", "secret", "create", name, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker");
        let mut input = create.stdin.take().expect("its input");
        input.write_all(content).expect("the secret");
        drop(input);
        assert!(create.wait().expect("docker").success());
    }

    /// Where a manager is reached over TLS.
    pub fn manager_url(&self) -> String {
        format!("https://{}:2376", self.manager.address)
    }

    /// Deploys the documented stack, with more of a compose file laid over it.
    pub fn deploy(&self, stack: &str, over: &str, variables: &[(&str, &str)]) {
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("compose-examples/swarm/stack.yml");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let over_file = directory.path().join("over.yml");
        std::fs::write(&over_file, over).expect("a file");
        for (from, to) in [(example, "/stack.yml"), (over_file, "/over.yml")] {
            let to = format!("{}:{to}", self.manager.id);
            docker(["cp", &from.display().to_string(), &to]);
        }
        let mut arguments = vec!["exec".to_owned()];
        let images = [
            ("POSTGRES_IMAGE", POSTGRES),
            ("WEB_IMAGE", busybox_image()),
            ("COFFERDAM_IMAGE", COFFERDAM),
            ("SWARM_MANAGER", &self.manager_url()),
        ];
        for (name, value) in images.iter().chain(variables) {
            arguments.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        arguments.push(self.manager.id.clone());
        let deploy = "docker stack deploy --resolve-image never -c /stack.yml -c /over.yml";
        arguments.extend(deploy.split(' ').map(str::to_owned));
        docker(arguments.into_iter().chain([stack.to_owned()]));
    }

    /// `running/wanted`, as `docker service ls` tells.
    pub fn replicas(&self, service: &str) -> String {
        let filter = format!("name={service}");
        self.manager.docker([
            "service",
            "ls",
            "--filter",
            &filter,
            "--format",
            "{{.Replicas}}",
        ])
    }

    /// The labels of a service as they are, and as they were before its last update.
    pub fn service_labels(&self, service: &str) -> (Value, Value) {
        let inspected = self.manager.docker(["service", "inspect", service]);
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        let labels = |spec: &str| inspected[0][spec]["Labels"].clone();
        (labels("Spec"), labels("PreviousSpec"))
    }

    /// The manifests in the shared repository, oldest first.
    pub fn manifests(&self, stack: &str) -> Vec<Value> {
        let line = format!("cat {BACKUPS}/{stack}/*/manifest.json 2>/dev/null || true");
        let text = docker(["exec", &self.manager.id, "sh", "-c", &line]);
        let manifests = serde_json::Deserializer::from_str(&text).into_iter();
        manifests
            .map(|manifest| manifest.expect("a manifest"))
            .collect()
    }

    /// The newest backup of a node.
    pub fn newest(&self, stack: &str, node: &Node) -> Option<Value> {
        let mut manifests = self.manifests(stack);
        manifests
            .retain(|manifest| manifest["node"] == node.name && manifest["purpose"] == "backup");
        manifests.pop()
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn write_certificates(directory: &Path, authority: &Authority, address: &str) {
    let key = KeyPair::generate().expect("a key");
    let names = vec![address.to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).expect("parameters");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let files = [
        ("ca.pem", authority.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ];
    for (file, content) in files {
        std::fs::write(directory.join(file), content).expect(file);
    }
}

fn shell(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    Run::from(output).expect(0);
}

/// A child waits for the other end of its input to go.
fn remove_at_exit(containers: &[&str], volume: &str) {
    let line = format!(
        "trap '' INT TERM; read -r _; docker rm --force --volumes {}; docker volume rm --force {volume}",
        containers.join(" ")
    );
    let watcher = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    std::mem::forget(watcher);
}
