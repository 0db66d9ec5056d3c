//! Real servers for the tests of this module's implementations, each in a container.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A container that lives as long as this process, however that ends.
pub(crate) struct Server {
    name: String,
}

impl Server {
    /// `image` is one that `scripts/test-images.sh` makes.
    pub(crate) fn start(image: &str) -> Self {
        let name = format!("cofferdam-test-server-{:08x}", rand::random::<u32>());
        let image = format!("cofferdam-test/{image}");
        let label = "cofferdam.test=1";
        docker(&["run", "--detach", "--name", &name, "--label", label, &image]);
        // It waits for the other end of its input to go, and that is this process.
        let watcher = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM; read -r _; exec docker rm --force --volumes \"$0\"",
                &name,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        std::mem::forget(watcher);
        Self { name }
    }

    pub(crate) fn address(&self) -> String {
        let template = "{{.NetworkSettings.IPAddress}}";
        docker(&["inspect", "--format", template, &self.name])
    }

    pub(crate) fn wait_for(&self, port: u16) {
        let address = format!("{}:{port}", self.address()).parse().unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.expect("the docker program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
